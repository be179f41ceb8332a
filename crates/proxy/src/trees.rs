//! `bindingCache.trees` and `bounds`: how many names of a router keep their tree compiled, and how many leaves
//! these have in all.
//!
//! Above that, the trees of names that no request uses now are taken apart, those that were not used for longest
//! first. The name stays bound: its next request compiles the tree again.

use std::rc::{Rc, Weak};

use crate::name::Name;

/// How many one search looks at.
const LOOKS: usize = 64;
/// Of so many that could go the oldest goes.
const CANDIDATES: usize = 16;

#[derive(Default)]
pub(crate) struct Trees {
    /// Names that are gone are found in passing.
    seats: Vec<Seat>,
    leaves: usize,
}

struct Seat {
    name: Weak<Name>,
    leaves: usize,
}

impl Trees {
    /// A name compiled its tree: to so many leaves.
    pub(crate) fn note(&mut self, name: &Name, leaves: usize) {
        let seat = Seat { name: name.me(), leaves };
        self.leaves += leaves;
        match self.seats.get_mut(name.seat.get()) {
            Some(place) if Weak::ptr_eq(&place.name, &seat.name) => {
                self.leaves -= place.leaves;
                *place = seat;
            }
            _ => {
                name.seat.set(self.seats.len());
                self.seats.push(seat);
            }
        }
    }

    pub(crate) fn is_above(&self, trees: usize, leaves: usize) -> bool {
        self.seats.len() > trees.max(1) || (self.leaves > leaves && self.seats.len() > 1)
    }

    /// Takes one out, other than `newest`: with its name, if that is not gone. `Err`: of those that were looked at
    /// requests use all.
    pub(crate) fn take_oldest(&mut self, newest: &Name) -> Result<(Option<Rc<Name>>, usize), ()> {
        let (many, mut oldest) = (self.seats.len(), None::<(u64, usize)>);
        let mut candidates = 0;
        for look in 0..LOOKS.min(many) {
            let place = if many <= LOOKS { look } else { fastrand::usize(..many) };
            let Some(name) = self.seats[place].name.upgrade() else {
                return Ok((None, self.take(place)));
            };
            // Ours, and those of the cache of paths.
            if Rc::strong_count(&name) > 3 || std::ptr::eq(&*name, newest) {
                continue;
            }
            if oldest.is_none_or(|(used, _)| name.used.get() < used) {
                oldest = Some((name.used.get(), place));
            }
            candidates += 1;
            if candidates == CANDIDATES {
                break;
            }
        }
        let (_, place) = oldest.ok_or(())?;
        let name = self.seats[place].name.upgrade();
        Ok((name, self.take(place)))
    }

    /// How many leaves it had.
    fn take(&mut self, place: usize) -> usize {
        let taken = self.seats.swap_remove(place);
        self.leaves -= taken.leaves;
        if let Some(moved) = self.seats.get(place).and_then(|seat| seat.name.upgrade()) {
            moved.seat.set(place);
        }
        taken.leaves
    }
}
