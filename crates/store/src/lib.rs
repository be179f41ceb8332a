//! The store of the control plane: dtabs by namespace with every revision, and leases on entries.
//!
//! Three kinds, one contract (`tests/contract.rs` runs on each): [`Memory`] (`io.l5d.inMemory`), [`Sqlite`]
//! (`io.switchyard.sqlite`), which is durable before it acknowledges, and [`Kubernetes`] (`io.l5d.k8s`).
//! Knows nothing of HTTP, discovery, or who reads what it stores.
//!
//! ```
//! use store::{Change, DtabStore, Memory, Note};
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let store = Memory::new([]);
//! let dtab = names::Dtab::read("/svc => /host").unwrap();
//! let created = store.write("internal", Change::Create(dtab), Note::now("alice")).await.unwrap();
//! assert_eq!(created.version.to_string(), "AAAAAAAAAAE=");
//! assert_eq!(store.observe("internal").borrow().as_ref(), Some(&created));
//! # });
//! ```

mod current;
mod error;
mod kubernetes;
mod lease;
mod memory;
mod revision;
mod sqlite;
mod version;

use std::{collections::BTreeSet, pin::Pin, sync::Arc};

use tokio::sync::watch;

#[cfg(any(fuzzing, test))]
pub use kubernetes::fuzzing;

pub use error::Error;
pub use kubernetes::Kubernetes;
pub use lease::{Lease, LeaseRequest, Leased};
pub use memory::{KEPT_IN_MEMORY, Memory};
pub use revision::{Action, Change, Note, Revision};
pub use sqlite::Sqlite;
pub use version::{NotAVersion, Version};

/// What a store's methods answer with.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// The names of namespaces that exist, sorted.
pub type Names = Arc<BTreeSet<Arc<str>>>;

/// Dtabs with their history, and leases.
///
/// Versions of a namespace only grow and are never used twice, also across delete and create.
/// Writes to one namespace take effect in one order, and readers see them in that order.
pub trait DtabStore: Send + Sync {
    /// As in a config document: `io.l5d.inMemory`.
    fn kind(&self) -> &'static str;

    /// The namespaces that exist, live.
    fn names(&self) -> watch::Receiver<Names>;

    /// The last revision of a namespace, live; `None` where there never was one. After a delete it is
    /// the deletion (`Revision::exists` is false).
    fn observe(&self, namespace: &str) -> watch::Receiver<Option<Arc<Revision>>>;

    /// Changes a namespace. When it answers, the change is as durable as the store is, and observers
    /// have it.
    fn write(&self, namespace: &str, change: Change, note: Note) -> Answer<'_, Arc<Revision>>;

    /// At most `limit` revisions, newest first; also of a deleted namespace. `None` where there never
    /// was one.
    fn history(&self, namespace: &str, limit: usize) -> Answer<'_, Option<Vec<Arc<Revision>>>>;

    /// One revision; `None` where there is no such version (any more).
    fn revision(&self, namespace: &str, version: Version) -> Answer<'_, Option<Arc<Revision>>>;

    /// Takes a lease, or renews it for the same owner.
    fn take_lease(&self, request: LeaseRequest) -> Answer<'_, Leased>;

    /// Gives a lease back: `None` when it is gone, or the lease if another owner holds it at `now`.
    fn release_lease(
        &self,
        namespace: &str,
        entry: &str,
        owner: &str,
        now: jiff::Timestamp,
    ) -> Answer<'_, Option<Lease>>;

    /// The leases that hold at `now`, by namespace and entry.
    fn leases(&self, now: jiff::Timestamp) -> Answer<'_, Vec<Lease>>;

    /// Keeps a text under a key for the time after a restart (as durable as the store is).
    fn remember(&self, key: &'static str, text: String) -> Answer<'_, ()>;

    /// What was last kept under a key.
    fn recall(&self, key: &'static str) -> Answer<'_, Option<String>>;

    /// How the store itself does, for the admin server; null where there is nothing to tell.
    fn state(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}
