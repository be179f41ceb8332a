//! `io.l5d.inMemory`: dtabs that end with the process.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    future::ready,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use names::Dtab;
use tokio::sync::watch;

use crate::{
    Answer, Change, DtabStore, Lease, LeaseRequest, Leased, Names, Note, Revision, Version, current::Current, lease,
    revision::decide,
};

/// Revisions kept of each namespace; older ones are forgotten. The version counters are not.
pub const KEPT_IN_MEMORY: usize = 1000;

/// See the module's documentation.
pub struct Memory {
    current: Current,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    history: HashMap<Arc<str>, VecDeque<Arc<Revision>>>,
    leases: BTreeMap<(String, String), Lease>,
    notes: HashMap<&'static str, String>,
}

impl Memory {
    /// Holds these namespaces, each at its first version.
    pub fn new(namespaces: impl IntoIterator<Item = (String, Dtab)>) -> Memory {
        let memory = Memory { current: Current::new([]), state: Mutex::default() };
        for (namespace, dtab) in namespaces {
            // A namespace that is not there can be put.
            let _ = memory.change(&namespace, &Change::Put(dtab), &Note::now("-"));
        }
        memory
    }

    fn change(&self, namespace: &str, change: &Change, note: &Note) -> Result<Arc<Revision>, crate::Error> {
        let mut state = self.state();
        let revision = Arc::new(decide(namespace, self.current.get(namespace).as_deref(), change, note)?);
        let history = state.history.entry(revision.namespace.clone()).or_default();
        history.push_front(revision.clone());
        history.truncate(KEPT_IN_MEMORY);
        // Still under the lock, so that observers see writes in their order.
        self.current.publish(&revision);
        Ok(revision)
    }

    /// Each change is one step: a panic elsewhere leaves the state whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DtabStore for Memory {
    fn kind(&self) -> &'static str {
        "io.l5d.inMemory"
    }

    fn names(&self) -> watch::Receiver<Names> {
        self.current.names()
    }

    fn observe(&self, namespace: &str) -> watch::Receiver<Option<Arc<Revision>>> {
        self.current.observe(namespace)
    }

    fn write(&self, namespace: &str, change: Change, note: Note) -> Answer<'_, Arc<Revision>> {
        Box::pin(ready(self.change(namespace, &change, &note)))
    }

    fn history(&self, namespace: &str, limit: usize) -> Answer<'_, Option<Vec<Arc<Revision>>>> {
        let state = self.state();
        let history = state.history.get(namespace).map(|history| history.iter().take(limit).cloned().collect());
        Box::pin(ready(Ok(history)))
    }

    fn revision(&self, namespace: &str, version: Version) -> Answer<'_, Option<Arc<Revision>>> {
        let state = self.state();
        let mut revisions = state.history.get(namespace).into_iter().flatten();
        Box::pin(ready(Ok(revisions.find(|revision| revision.version == version).cloned())))
    }

    fn take_lease(&self, request: LeaseRequest) -> Answer<'_, Leased> {
        let mut state = self.state();
        state.leases.retain(|_, lease| lease.holds_at(request.now));
        let key = (request.namespace.clone(), request.entry.clone());
        let leased = lease::decide(&request, state.leases.get(&key).cloned());
        if let Leased::Taken(lease) = &leased {
            state.leases.insert(key, lease.clone());
        }
        Box::pin(ready(Ok(leased)))
    }

    fn release_lease(&self, namespace: &str, entry: &str, owner: &str, now: Timestamp) -> Answer<'_, Option<Lease>> {
        let mut state = self.state();
        let key = (namespace.to_owned(), entry.to_owned());
        let held = state.leases.get(&key).filter(|lease| lease.holds_at(now) && lease.owner != owner).cloned();
        if held.is_none() {
            state.leases.remove(&key);
        }
        Box::pin(ready(Ok(held)))
    }

    fn leases(&self, now: Timestamp) -> Answer<'_, Vec<Lease>> {
        let leases = self.state().leases.values().filter(|lease| lease.holds_at(now)).cloned().collect();
        Box::pin(ready(Ok(leases)))
    }

    fn remember(&self, key: &'static str, text: String) -> Answer<'_, ()> {
        self.state().notes.insert(key, text);
        Box::pin(ready(Ok(())))
    }

    fn recall(&self, key: &'static str) -> Answer<'_, Option<String>> {
        Box::pin(ready(Ok(self.state().notes.get(key).cloned())))
    }
}
