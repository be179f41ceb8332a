//! How likely each class is to be drawn: sums in a tree, so that a change of one class and a draw cost the
//! logarithm of their number, and nothing drifts.

/// Of the classes with an open endpoint, and of all.
type Pair = [f64; 2];

/// Which sum counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Among {
    Open = 0,
    All = 1,
}

/// A node's children are at twice its place and the one behind; the root is at 1.
#[derive(Debug, Default)]
pub(super) struct Shares {
    sums: Vec<Pair>,
}

impl Shares {
    fn leaves(&self) -> usize {
        self.sums.len() / 2
    }

    pub(super) fn total(&self, among: Among) -> f64 {
        self.sums.get(1).map_or(0.0, |sums| sums[among as usize])
    }

    pub(super) fn set(&mut self, class: usize, open: f64, all: f64) {
        if class >= self.leaves() {
            self.grow(class + 1);
        }
        let mut place = self.leaves() + class;
        self.sums[place] = [open, all];
        while place > 1 {
            place /= 2;
            self.add_up(place);
        }
    }

    /// The class in whose share a point of the total falls.
    pub(super) fn find(&self, among: Among, mut point: f64) -> Option<usize> {
        let (leaves, among) = (self.leaves(), among as usize);
        let mut place = 1;
        while place < leaves {
            let left = self.sums.get(2 * place)?[among];
            place *= 2;
            // Rounding may leave the last sliver uncovered.
            if point >= left && self.sums[place + 1][among] > 0.0 {
                point -= left;
                place += 1;
            }
        }
        place.checked_sub(leaves).filter(|_| leaves > 0)
    }

    fn grow(&mut self, classes: usize) {
        let (old, leaves) = (self.leaves(), classes.next_power_of_two());
        let mut sums = vec![[0.0; 2]; 2 * leaves];
        sums[leaves..leaves + old].copy_from_slice(&self.sums[old..]);
        self.sums = sums;
        (1..leaves).rev().for_each(|place| self.add_up(place));
    }

    fn add_up(&mut self, place: usize) {
        let ([left_open, left], [right_open, right]) = (self.sums[2 * place], self.sums[2 * place + 1]);
        self.sums[place] = [left_open + right_open, left + right];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_falls_into_the_share_that_covers_it() {
        let mut shares = Shares::default();
        assert_eq!((shares.total(Among::All), shares.find(Among::All, 0.0)), (0.0, None));
        for (class, share) in [3.0, 0.0, 1.0, 2.0, 4.0].into_iter().enumerate() {
            shares.set(class, if class == 4 { 0.0 } else { share }, share);
        }
        assert_eq!((shares.total(Among::Open), shares.total(Among::All)), (6.0, 10.0));
        let cases = [(0.0, 0), (2.9, 0), (3.0, 2), (3.9, 2), (4.0, 3), (5.9, 3), (6.0, 3)];
        for (point, class) in cases {
            assert_eq!(shares.find(Among::Open, point), Some(class), "{point}");
        }
        assert_eq!(shares.find(Among::All, 6.0), Some(4));
        shares.set(0, 0.0, 0.0);
        assert_eq!((shares.total(Among::Open), shares.find(Among::Open, 0.0)), (3.0, Some(2)));
    }
}
