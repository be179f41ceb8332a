//! Which branch of a weighted split a request takes.

use crate::random::Random;

/// What a draw may look at. A nested split draws once per level.
#[derive(Debug, Clone, Copy)]
pub struct Branch<'a> {
    /// The logical name that is being routed.
    pub service: &'a str,
    /// 0 for the outermost split of the name's tree.
    pub level: usize,
    /// A number that is the same for requests that belong together, if the caller has one.
    pub affinity: Option<u64>,
}

/// Gives the point in `[0, 1)` that decides. Today points are independent ([`Independent`]), as in the
/// original; a sticky or an evenly spread draw needs only another implementation.
pub trait Draw {
    fn point(&mut self, branch: &Branch<'_>) -> f64;

    /// The index of the branch taken; `None` if there is none.
    fn choose(&mut self, branch: &Branch<'_>, weights: &[f64]) -> Option<usize> {
        // One branch needs no dice, which is the usual case.
        if weights.len() == 1 {
            return Some(0);
        }
        draw(weights, self.point(branch))
    }
}

/// Each request and each retry draws anew: counts are binomial.
#[derive(Debug)]
pub struct Independent<R>(pub R);

impl<R: Random> Draw for Independent<R> {
    fn point(&mut self, _: &Branch<'_>) -> f64 {
        self.0.unit()
    }
}

/// The branch that contains `point` of `[0, 1)` when the line is divided by weights. All-zero weights
/// divide it evenly; a branch of weight 0 among others is never drawn. Negative weights and NaN count as 0.
pub fn draw(weights: &[f64], point: f64) -> Option<usize> {
    let usable = |weight: &f64| if *weight > 0.0 { *weight } else { 0.0 };
    let total = weights.iter().map(usable).sum::<f64>();
    if total <= 0.0 {
        let index = (point * weights.len() as f64) as usize;
        return weights.len().checked_sub(1).map(|last| index.min(last));
    }
    let target = point * total;
    let mut passed = 0.0;
    for (index, weight) in weights.iter().map(usable).enumerate() {
        passed += weight;
        if target < passed {
            return Some(index);
        }
    }
    // Rounding may leave the last sliver uncovered.
    weights.iter().rposition(|weight| usable(weight) > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How often each branch is drawn by points that are spread evenly: exact, without dice.
    fn counts(weights: &[f64], points: usize) -> Vec<usize> {
        let mut counts = vec![0; weights.len()];
        for point in 0..points {
            counts[draw(weights, (point as f64 + 0.5) / points as f64).expect("branches")] += 1;
        }
        counts
    }

    #[test]
    fn branches_get_their_share() {
        let cases: [(&[f64], &[usize]); 5] = [
            (&[1.0, 9.0], &[100, 900]),
            (&[1.0, 1.0, 2.0], &[250, 250, 500]),
            (&[0.0, 0.0], &[500, 500]),
            (&[0.0, 3.0, 0.0], &[0, 1000, 0]),
            (&[0.1, 0.9], &[100, 900]),
        ];
        for (weights, expected) in cases {
            assert_eq!(counts(weights, 1000), expected, "{weights:?}");
        }
        assert_eq!(draw(&[], 0.5), None);
    }

    struct Fixed(f64);

    impl Draw for Fixed {
        fn point(&mut self, branch: &Branch<'_>) -> f64 {
            branch.affinity.map_or(self.0, |number| number as f64 / 100.0)
        }
    }

    #[test]
    fn another_draw_can_keep_requests_together() {
        let branch = |affinity| Branch { service: "/svc/world", level: 0, affinity };
        assert_eq!(Fixed(0.05).choose(&branch(None), &[1.0, 9.0]), Some(0));
        assert_eq!(Fixed(0.05).choose(&branch(Some(50)), &[1.0, 9.0]), Some(1));
        assert_eq!(Fixed(0.99).choose(&branch(None), &[1.0]), Some(0));
    }

    proptest! {
        #[test]
        fn a_draw_never_takes_a_branch_without_weight(
            weights in prop::collection::vec(prop_oneof![Just(0.0), 0.0f64..100.0], 1..8), bits: u64,
        ) {
            let mut draw = Independent(|| bits);
            let index = draw.choose(&Branch { service: "", level: 0, affinity: None }, &weights).expect("branches");
            prop_assert!(weights[index] > 0.0 || weights.iter().all(|weight| *weight == 0.0) || weights.len() == 1);
        }
    }
}
