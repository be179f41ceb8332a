//! Which bindings a change of the interpreter's own dtab can reach.
//!
//! ```text
//!  evaluation of /svc/web looked up  /svc/web, /srv/web, /#/io.l5d.fs/web    ──▶ noted, by path
//!  the entry /srv/web => … changes   ──▶ bindings with a path that begins with /srv/web: evaluated anew
//! ```
//! All others follow from the new dtab as they are. A change of one entry among 200,000 costs a comparison
//! of the two tables and a search among the noted paths, however many names are bound.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use names::{Dtab, Elem, Path, Prefix};
use tokio::task::AbortHandle;

use crate::{BoundTree, Fed, Live, State, configured::Binding};

/// With more changed prefixes than this, every binding is evaluated anew.
const MOST_PREFIXES: usize = 10_000;

type Feeding = Arc<Fed<BoundTree, Binding>>;

/// The bindings of one interpreter, by what they looked up.
pub(crate) struct Reach {
    table: Mutex<Table>,
}

struct Table {
    now: State<Dtab>,
    /// With the binding that looked it up.
    looked: BTreeSet<(Path, u64)>,
    bindings: HashMap<u64, Noted>,
    next: u64,
}

struct Noted {
    fed: Feeding,
    paths: Vec<Path>,
    /// Its tree follows from the dtab of now.
    follows: bool,
}

/// Ends the watch when dropped.
pub(crate) struct Watching(AbortHandle);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A binding's place; given back when dropped.
pub(crate) struct Seat {
    reach: Arc<Reach>,
    number: u64,
}

impl Reach {
    /// Follows `own` for as long as the second value lives.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn watch(mut own: Live<Dtab>) -> (Arc<Reach>, Watching) {
        let table = Table { now: own.take(), looked: BTreeSet::new(), bindings: HashMap::new(), next: 0 };
        let reach = Arc::new(Reach { table: Mutex::new(table) });
        let watched = reach.clone();
        let task = tokio::spawn(async move {
            while own.changed().await.is_ok() {
                watched.change(own.take());
            }
        });
        (reach, Watching(task.abort_handle()))
    }

    pub(crate) fn now(&self) -> State<Dtab> {
        self.lock().now.clone()
    }

    pub(crate) fn enter(self: &Arc<Reach>, fed: &Feeding) -> Seat {
        let mut table = self.lock();
        let number = table.next;
        table.next += 1;
        table.bindings.insert(number, Noted { fed: fed.clone(), paths: Vec::new(), follows: false });
        Seat { reach: self.clone(), number }
    }

    fn change(&self, new: State<Dtab>) {
        // Comparing takes a while, and only this task changes what is compared.
        let prefixes = match (&self.now(), &new) {
            (State::Ok(old), State::Ok(new)) => Some(old.changed(new)).filter(|found| found.len() <= MOST_PREFIXES),
            _ => None,
        };
        let mut table = self.lock();
        let reached = match &prefixes {
            Some(prefixes) => table.reached(prefixes),
            None => table.bindings.keys().copied().collect(),
        };
        table.now = new.clone();
        for (number, noted) in &mut table.bindings {
            if reached.contains(number) {
                noted.follows = false;
                noted.fed.extra.touched.notify_one();
            } else if noted.follows && matches!(new, State::Ok(_)) {
                noted.fed.extra.under.put(new.clone());
            }
        }
    }

    /// Each change of the table is whole before the lock is given back, also by a panic elsewhere.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn reached(&self, prefixes: &[Prefix]) -> HashSet<u64> {
        let mut reached = HashSet::new();
        for prefix in prefixes {
            // Paths that begin alike stand together; a `*` has to be looked for among them.
            let head = prefix.elems().iter().map_while(|elem| match elem {
                Elem::Label(label) => Some(label),
                Elem::Any => None,
            });
            let head = Path::from_labels(head).unwrap_or_else(Path::empty);
            let from = Bound::Included((head.clone(), 0));
            let found = self.looked.range((from, Bound::Unbounded)).take_while(|(path, _)| path.starts_with(&head));
            reached.extend(found.filter(|(path, _)| prefix.matches(path)).map(|(_, number)| number));
        }
        reached
    }
}

impl Seat {
    /// After an evaluation under `under` that looked up `paths`. If that is still the dtab of now, `publish` hands
    /// the tree over and says whether it follows from it. If it is not, what changed since may reach the name:
    /// nothing is handed over, and it has to be evaluated once more.
    pub(crate) fn note(&self, mut paths: Vec<Path>, under: &State<Dtab>, publish: impl FnOnce() -> bool) -> bool {
        paths.sort();
        paths.dedup();
        let mut table = self.reach.lock();
        let table = &mut *table;
        let is_current = match (&table.now, under) {
            (State::Ok(now), State::Ok(under)) => now.is_same(under),
            (now, under) => now == under,
        };
        let Some(noted) = table.bindings.get_mut(&self.number).filter(|_| is_current) else { return false };
        if noted.paths != paths {
            for path in noted.paths.drain(..) {
                table.looked.remove(&(path, self.number));
            }
            table.looked.extend(paths.iter().map(|path| (path.clone(), self.number)));
            noted.paths = paths;
        }
        // Under the lock: a change that comes now finds the tree with what it was evaluated under.
        noted.follows = publish();
        if noted.follows && matches!(under, State::Ok(_)) {
            // Compared by identity: large tables, and one of these for each name.
            let same = |old: &State<Dtab>, new: &State<Dtab>| match (old, new) {
                (State::Ok(old), State::Ok(new)) => old.is_same(new),
                _ => false,
            };
            noted.fed.extra.under.set_unless(under.clone(), same);
        }
        true
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.reach.lock();
        if let Some(noted) = table.bindings.remove(&self.number) {
            for path in noted.paths {
                table.looked.remove(&(path, self.number));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shared;

    fn dtab(text: &str) -> State<Dtab> {
        State::Ok(Dtab::read(text).unwrap())
    }

    fn fed(names: &Shared<u32, BoundTree, Binding>, number: u32) -> (Live<BoundTree>, Feeding) {
        names.get(number, |_| std::future::pending())
    }

    /// Whether it was told to evaluate anew.
    fn is_touched(fed: &Feeding) -> bool {
        use futures_util::FutureExt;
        fed.extra.touched.notified().now_or_never().is_some()
    }

    #[tokio::test]
    async fn a_change_reaches_those_that_looked_up_what_it_says_and_the_others_follow_as_they_are() {
        let first = dtab("/svc/a => /srv/a; /svc/b => /srv/b; /x => /y");
        let (publisher, own) = Live::channel(first.clone());
        let (reach, _watching) = Reach::watch(own);
        let names = Shared::new();
        let looked = [vec!["/svc/a", "/srv/a"], vec!["/svc/b", "/srv/b/x"], vec!["/svc/stale"]];
        let bound: Vec<_> = looked
            .iter()
            .zip(0..)
            .map(|(paths, number)| {
                let (live, fed) = fed(&names, number);
                let seat = reach.enter(&fed);
                let paths = paths.iter().map(|path| Path::read(path).unwrap()).collect();
                assert!(seat.note(paths, &first, || number < 2));
                (live, fed, seat)
            })
            .collect();
        let cases: [(&str, &[bool; 3]); 6] = [
            ("/svc/a => /srv/other; /svc/b => /srv/b; /x => /y", &[true, false, false]),
            ("/svc/a => /srv/other; /svc/b => /srv/b; /x => /z", &[false, false, false]),
            ("/svc/a => /srv/other; /svc/b => /srv/b; /x => /z; /srv/*/x => !", &[false, true, false]),
            ("/svc/a => /srv/other; /svc/b => /srv/b; /x => /z; /srv/*/x => !; /*/stale => /u", &[false, false, true]),
            ("/svc => $; /svc/a => /srv/other; /svc/b => /srv/b; /x => /z; /srv/*/x => !", &[true, true, true]),
            ("", &[true, true, true]),
        ];
        let mut before = first;
        for (text, reached) in cases {
            let now = dtab(text);
            publisher.set(now.clone());
            let moved = || matches!((reach.now(), &now), (State::Ok(one), State::Ok(other)) if one.is_same(other));
            while !moved() {
                tokio::task::yield_now().await;
            }
            let told: Vec<bool> = bound.iter().map(|(_, fed, _)| is_touched(fed)).collect();
            assert_eq!(told, reached, "{text}");
            for ((_, fed, seat), reached) in bound.iter().zip(reached) {
                let follows = seat.number < 2;
                let expected = match (follows, reached) {
                    (false, _) => State::Pending,
                    (true, true) => before.clone(),
                    (true, false) => now.clone(),
                };
                assert_eq!(fed.extra.under.get(), expected, "{text}");
                // What was reached is evaluated anew, and looks up the same.
                let paths = looked[seat.number as usize].iter().map(|path| Path::read(path).unwrap()).collect();
                assert!(seat.note(paths, &now, || follows));
            }
            before = now;
        }
        let late = Path::read("/svc/a").unwrap();
        let never = || panic!("handed over what does not follow");
        assert!(!bound[0].2.note(vec![late], &dtab("/svc/a => /gone"), never), "evaluated under an older dtab");
        drop(bound);
        assert!(reach.lock().looked.is_empty() && reach.lock().bindings.is_empty());
    }
}
