//! The last revision of each namespace, as observers see it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{Names, Revision};

type Sender = watch::Sender<Option<Arc<Revision>>>;

/// See the module's documentation. Writers publish in the order of their writes.
pub(crate) struct Current {
    names: watch::Sender<Names>,
    table: Mutex<Table>,
}

struct Table {
    senders: HashMap<Arc<str>, Sender>,
    /// At this size the table is looked through for namespaces that never were and nobody observes.
    look_at: usize,
}

const LOOK_FIRST_AT: usize = 1024;

impl Current {
    pub(crate) fn new(revisions: impl IntoIterator<Item = Revision>) -> Current {
        let current = Current {
            names: watch::Sender::default(),
            table: Mutex::new(Table { senders: HashMap::new(), look_at: LOOK_FIRST_AT }),
        };
        revisions.into_iter().for_each(|revision| current.publish(&Arc::new(revision)));
        current
    }

    pub(crate) fn names(&self) -> watch::Receiver<Names> {
        self.names.subscribe()
    }

    pub(crate) fn observe(&self, namespace: &str) -> watch::Receiver<Option<Arc<Revision>>> {
        let mut table = self.table();
        if let Some(sender) = table.senders.get(namespace) {
            return sender.subscribe();
        }
        if table.senders.len() >= table.look_at {
            table.senders.retain(|_, sender| sender.borrow().is_some() || sender.receiver_count() > 0);
            table.look_at = (table.senders.len() * 2).max(LOOK_FIRST_AT);
        }
        table.senders.entry(namespace.into()).or_default().subscribe()
    }

    pub(crate) fn get(&self, namespace: &str) -> Option<Arc<Revision>> {
        self.table().senders.get(namespace)?.borrow().clone()
    }

    pub(crate) fn publish(&self, revision: &Arc<Revision>) {
        self.table().senders.entry(revision.namespace.clone()).or_default().send_replace(Some(revision.clone()));
        self.names.send_if_modified(|names| {
            if names.contains(&revision.namespace) == revision.exists() {
                return false;
            }
            let mut changed: BTreeSet<Arc<str>> = (**names).clone();
            if revision.exists() {
                changed.insert(revision.namespace.clone());
            } else {
                changed.remove(&revision.namespace);
            }
            *names = Arc::new(changed);
            true
        });
    }

    /// Each change to the table is one step: a panic elsewhere leaves it whole.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
