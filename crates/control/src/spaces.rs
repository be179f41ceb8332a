//! Namespaces as interpreters: each stored dtab that somebody asks about, evaluated live.
//!
//! A namespace that does not exist is an empty dtab, as in the original.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use names::Dtab;
use naming::{ConfiguredInterpreter, Live, Namers, Served, State};
use store::{DtabStore, Version};
use tokio::runtime::Handle;

/// One namespace. It stays while somebody holds it.
pub(crate) struct Space {
    pub(crate) interpreter: ConfiguredInterpreter,
    /// What the store holds, with the very dtab that the interpreter evaluates under.
    pub(crate) known: Live<Known>,
}

/// A dtab as the interpreter has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    /// `None`: there never was a dtab of this name.
    pub(crate) version: Option<Version>,
    pub(crate) dtab: Dtab,
}

/// All that are asked about.
pub(crate) struct Spaces {
    store: Arc<dyn DtabStore>,
    namers: Namers,
    table: Mutex<HashMap<Arc<str>, Arc<Space>>>,
    runtime: Handle,
}

/// Namespaces kept although nobody holds them.
const KEPT_IDLE: usize = 64;

impl Spaces {
    pub(crate) fn new(store: Arc<dyn DtabStore>, namers: Namers) -> Spaces {
        Spaces { store, namers, table: Mutex::default(), runtime: Handle::current() }
    }

    pub(crate) fn get(&self, namespace: &str) -> Arc<Space> {
        // Each change to the table is one step: a panic elsewhere leaves it whole.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(space) = table.get(namespace) {
            return space.clone();
        }
        if table.len() >= KEPT_IDLE {
            table.retain(|_, space| Arc::strong_count(space) > 1);
        }
        let space = Arc::new(self.open(namespace));
        table.insert(namespace.into(), space.clone());
        space
    }

    fn open(&self, namespace: &str) -> Space {
        let mut stored = self.store.observe(namespace);
        let namespace: Arc<str> = namespace.into();
        let mut last = known(&stored.borrow_and_update(), None);
        let (own, own_live) = Live::channel(State::Ok(last.dtab.clone()));
        let (known_now, known_live) = Live::channel(State::Ok(last.clone()));
        let (said, served) = Live::channel(State::Ok(as_served(&namespace, &last)));
        self.runtime.spawn(async move {
            loop {
                tokio::select! {
                    changed = stored.changed() => if changed.is_err() {
                        return;
                    },
                    // The interpreter holds `own`; when it is gone nobody needs the rest.
                    () = own.closed() => return,
                }
                last = known(&stored.borrow_and_update(), Some(&last));
                said.set(State::Ok(as_served(&namespace, &last)));
                // In this order: nothing follows from a dtab that `known` does not tell yet. Equal ones are the
                // same one: a large table is compared once.
                let version = last.version;
                known_now.set_unless(State::Ok(last.clone()), |old, _| match old {
                    State::Ok(old) => old.version == version && old.dtab.is_same(&last.dtab),
                    State::Pending | State::Failed(_) => false,
                });
                own.set_unless(State::Ok(last.dtab.clone()), |old, _| match old {
                    State::Ok(old) => old.is_same(&last.dtab),
                    State::Pending | State::Failed(_) => false,
                });
            }
        });
        let interpreter = ConfiguredInterpreter::serving(Some(own_live), self.namers.clone(), served);
        Space { interpreter, known: known_live }
    }
}

/// Where the text did not change the value stays the very same, so that comparisons are cheap.
fn known(stored: &Option<Arc<store::Revision>>, last: Option<&Known>) -> Known {
    let (version, dtab) = match stored {
        Some(revision) => (Some(revision.version), revision.dtab.clone()),
        None => (None, Dtab::empty()),
    };
    match last.filter(|last| last.dtab == dtab) {
        Some(last) => Known { version, dtab: last.dtab.clone() },
        None => Known { version, dtab },
    }
}

fn as_served(namespace: &Arc<str>, known: &Known) -> Served {
    Served {
        namespace: Some(namespace.clone()),
        version: known.version.map(|version| version.to_string().into()),
        confirmed: Some(SystemTime::now()),
        stale: None,
    }
}
