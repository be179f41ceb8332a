//! `Shared`: live values by key, each fed by one task for as long as somebody reads it.
//!
//! Two readers of the same key share the task and the value; when the last one is gone the task
//! ends and the key is forgotten. So the table holds no more than what is being read.

use std::{
    collections::HashMap,
    hash::Hash,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::runtime::Handle;

use crate::{Live, Publisher, State};

/// Above this number of keys a value is fed, but no longer shared: reading must not cost memory
/// that nobody bounds.
const MOST_SHARED: usize = 20_000;

type Table<K, T, E> = Arc<Mutex<HashMap<K, Arc<Fed<T, E>>>>>;

/// One live value, and what its feeder wants to tell besides it.
pub struct Fed<T, E> {
    pub value: Publisher<T>,
    pub extra: E,
}

/// See the module's documentation. `E` is what a feeder keeps beside the value.
pub struct Shared<K, T, E = ()> {
    table: Table<K, T, E>,
    runtime: Handle,
}

impl<K, T, E> Clone for Shared<K, T, E> {
    fn clone(&self) -> Self {
        Shared { table: self.table.clone(), runtime: self.runtime.clone() }
    }
}

impl<K, T, E> Shared<K, T, E>
where
    K: Eq + Hash + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
    E: Default + Send + Sync + 'static,
{
    /// Feeds its values on the runtime that it is made on, whoever reads them.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new() -> Self {
        Shared { table: Arc::default(), runtime: Handle::current() }
    }

    /// The value for `key`; where nobody reads it yet, `feed` starts to write it.
    pub fn get<F>(&self, key: K, feed: impl FnOnce(Arc<Fed<T, E>>) -> F) -> (Live<T>, Arc<Fed<T, E>>)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut table = lock(&self.table);
        if let Some(fed) = table.get(&key) {
            return (fed.value.live(), fed.clone());
        }
        let (value, live) = Live::channel(State::Pending);
        let fed = Arc::new(Fed { value, extra: E::default() });
        if table.len() < MOST_SHARED {
            table.insert(key.clone(), fed.clone());
        }
        drop(table);
        self.runtime.spawn(keep_fed(self.table.clone(), key, fed.clone(), feed(fed.clone())));
        (live, fed)
    }

    /// What is being read now.
    pub fn entries(&self) -> Vec<(K, Arc<Fed<T, E>>)> {
        lock(&self.table).iter().map(|(key, fed)| (key.clone(), fed.clone())).collect()
    }
}

impl<K, T, E> Default for Shared<K, T, E>
where
    K: Eq + Hash + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
    E: Default + Send + Sync + 'static,
{
    fn default() -> Self {
        Shared::new()
    }
}

async fn keep_fed<K, T, E>(table: Table<K, T, E>, key: K, fed: Arc<Fed<T, E>>, feed: impl Future<Output = ()>)
where
    K: Eq + Hash,
    T: Clone + Send + Sync + 'static,
{
    let mut feed = pin!(feed);
    let mut feeding = true;
    loop {
        tokio::select! {
            () = &mut feed, if feeding => feeding = false,
            () = fed.value.closed() => {
                let mut table = lock(&table);
                // Somebody may have taken a new reader since; under the lock nobody can.
                if fed.value.is_closed() {
                    if table.get(&key).is_some_and(|current| Arc::ptr_eq(current, &fed)) {
                        table.remove(&key);
                    }
                    return;
                }
            }
        }
    }
}

/// The table is only ever inserted into and removed from: a panic elsewhere leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
