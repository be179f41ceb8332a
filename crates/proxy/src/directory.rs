//! What the workers of one router tell the outside: clients in use and recent requests.
//!
//! Workers write rarely (a client appears or goes, a request is sampled), readers copy out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use naming::{Addr, Live};

use crate::admin::{ClientStatus, RecentRequest, Status};

/// One router's directory; clones share.
#[derive(Clone)]
pub(crate) struct Directory {
    shared: Arc<Shared>,
}

struct Shared {
    /// Requests that are remembered.
    capacity: usize,
    clients: Mutex<BTreeMap<String, Listed>>,
    rings: Mutex<Vec<Ring>>,
}

struct Listed {
    addr: Live<Addr>,
    holders: Arc<AtomicUsize>,
}

/// One worker's recent requests.
#[derive(Clone)]
pub(crate) struct Ring {
    capacity: usize,
    requests: Arc<Mutex<VecDeque<RecentRequest>>>,
}

/// A worker's hold on a client's entry.
pub(crate) struct Entry {
    shared: Arc<Shared>,
    id: String,
    holders: Arc<AtomicUsize>,
}

impl Directory {
    /// Remembers at most `capacity` requests.
    pub(crate) fn new(capacity: usize) -> Directory {
        Directory { shared: Arc::new(Shared { capacity, clients: Mutex::default(), rings: Mutex::default() }) }
    }

    pub(crate) fn enter(&self, id: &str, addr: Live<Addr>) -> Entry {
        let mut clients = locked(&self.shared.clients);
        let listed = clients.entry(id.to_owned());
        let listed = listed.or_insert_with(|| Listed { addr: addr.clone(), holders: Arc::default() });
        // After a reload another namer may answer for the same id.
        listed.addr = addr;
        listed.holders.fetch_add(1, Ordering::Relaxed);
        Entry { shared: self.shared.clone(), id: id.to_owned(), holders: listed.holders.clone() }
    }

    /// A ring for one worker.
    pub(crate) fn ring(&self) -> Ring {
        let ring = Ring { capacity: self.shared.capacity, requests: Arc::default() };
        locked(&self.shared.rings).push(ring.clone());
        ring
    }
}

impl Ring {
    /// Remembers it, unless somebody is reading just now: no request waits for a page.
    pub(crate) fn push(&self, request: RecentRequest) {
        if let Ok(mut ring) = self.requests.try_lock() {
            if ring.len() >= self.capacity {
                ring.pop_front();
            }
            ring.push_back(request);
        }
    }
}

impl Entry {
    /// Workers that use this client.
    pub(crate) fn holders(&self) -> usize {
        self.holders.load(Ordering::Relaxed)
    }

    pub(crate) fn follow(&self, addr: &Live<Addr>) {
        if let Some(listed) = locked(&self.shared.clients).get_mut(&self.id) {
            listed.addr = addr.clone();
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut clients = locked(&self.shared.clients);
        if self.holders.fetch_sub(1, Ordering::Relaxed) == 1 {
            clients.remove(&self.id);
        }
    }
}

impl Status for Directory {
    fn clients(&self) -> Vec<ClientStatus> {
        let clients = locked(&self.shared.clients);
        clients.iter().map(|(id, listed)| ClientStatus { id: id.clone(), addr: listed.addr.get() }).collect()
    }

    fn requests(&self) -> Vec<RecentRequest> {
        let rings = locked(&self.shared.rings).clone();
        let mut requests = rings
            .iter()
            .flat_map(|ring| locked(&ring.requests).iter().cloned().collect::<Vec<_>>())
            .collect::<Vec<_>>();
        requests.sort_by_key(|request| std::cmp::Reverse((request.time, request.id)));
        requests.truncate(self.shared.capacity);
        requests
    }
}

/// A panic elsewhere leaves these tables whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
