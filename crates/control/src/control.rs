//! The control plane's handle: everything that its API, its admin server and its pages are made of.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use names::{Dtab, Path};
use naming::{ConfiguredInterpreter, Explain, ExplainError, Interpreter, Live, Namers, State};
use store::{Change, DtabStore, Error, Lease, LeaseRequest, Leased, Note, Revision, Version};
use tokio_util::sync::CancellationToken;

use crate::{
    fleet::Fleet,
    metrics::Metrics,
    spaces::{Space, Spaces},
};

/// Cheap to clone.
#[derive(Clone)]
pub struct Control {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn DtabStore>,
    pub(crate) namers: Namers,
    /// Without a dtab: for ids, and for dtabs that a request brings.
    pub(crate) bare: ConfiguredInterpreter,
    /// Ids that namers can list, kept current.
    pub(crate) bound_names: Live<Arc<[Path]>>,
    pub(crate) spaces: Spaces,
    pub(crate) fleet: Fleet,
    pub(crate) metrics: Metrics,
    pub(crate) closing: CancellationToken,
    /// Whether routers may follow; without, they fall back on the original's watch streams.
    pub(crate) offers_follow: bool,
}

/// The limit that the original sets to an explanation.
pub(crate) const EXPLAIN_WITHIN: Duration = Duration::from_secs(2);

impl Control {
    /// The fleet of before is that of the store.
    pub(crate) async fn over(store: Arc<dyn DtabStore>, namers: Namers, offers_follow: bool) -> Result<Control, Error> {
        let fleet = Fleet::recall(&*store).await?;
        let bare = ConfiguredInterpreter::new(None, namers.clone());
        let inner = Inner {
            bound_names: bare.bound_names(),
            bare,
            spaces: Spaces::new(store.clone(), namers.clone()),
            store,
            namers,
            fleet,
            metrics: Metrics::new(),
            closing: CancellationToken::new(),
            offers_follow,
        };
        Ok(Control { inner: Arc::new(inner) })
    }

    /// Writes on a task of its own: a client that goes away does not undo half of what it asked for.
    pub(crate) async fn write(&self, name: &str, change: Change, note: Note) -> Result<Arc<Revision>, Error> {
        let (store, name) = (self.inner.store.clone(), name.to_owned());
        let written = tokio::spawn(async move { store.write(&name, change, note).await }).await;
        let written = written.unwrap_or(Err(Error::Closed));
        match &written {
            Ok(revision) => {
                self.inner.metrics.writes.inc();
                tracing::info!(
                    namespace = %revision.namespace, version = %revision.version, author = %revision.author,
                    action = %revision.action, "dtab written"
                );
            }
            Err(error) => {
                self.inner.metrics.refused_writes.inc();
                tracing::debug!(%error, "dtab write refused");
            }
        }
        written
    }

    /// The namespaces that exist, each with its current revision, sorted by name.
    pub fn namespaces(&self) -> Vec<Arc<Revision>> {
        let names = self.inner.store.names().borrow().clone();
        names.iter().filter_map(|name| self.current(name)).collect()
    }

    /// The current revision of a namespace that exists.
    pub fn current(&self, namespace: &str) -> Option<Arc<Revision>> {
        self.inner.store.observe(namespace).borrow().clone().filter(|revision| revision.exists())
    }

    /// Newest first, at most `limit`; `None` where there never was such a namespace.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn history(&self, namespace: &str, limit: usize) -> Result<Option<Vec<Arc<Revision>>>, Error> {
        self.inner.store.history(namespace, limit).await
    }

    /// One revision of a namespace.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn revision(&self, namespace: &str, version: Version) -> Result<Option<Arc<Revision>>, Error> {
        self.inner.store.revision(namespace, version).await
    }

    /// The leases that hold now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn leases(&self) -> Result<Vec<Lease>, Error> {
        self.inner.store.leases(Timestamp::now()).await
    }

    pub(crate) async fn take_lease(&self, request: LeaseRequest) -> Result<Leased, Error> {
        self.inner.store.take_lease(request).await
    }

    /// Who serves what, as `GET /api/1/fleet` tells it.
    pub fn fleet(&self) -> serde_json::Value {
        self.inner.fleet.document(&*self.inner.store)
    }

    /// How `path` is resolved under a namespace's dtab and `local` on top, evaluated once, within two
    /// seconds. Without a namespace: under `local` alone.
    ///
    /// # Errors
    /// As `Interpreter::explain`, and `TimedOut`.
    pub async fn explain(
        &self,
        namespace: Option<&str>,
        local: &Dtab,
        path: &Path,
    ) -> Result<Arc<Explain>, ExplainError> {
        let space = namespace.map(|namespace| self.space(namespace));
        let interpreter = space.as_ref().map_or(&self.inner.bare, |space| &space.interpreter);
        match tokio::time::timeout(EXPLAIN_WITHIN, interpreter.explain(local, path)).await {
            Ok(explained) => explained,
            Err(_) => Err(ExplainError::TimedOut),
        }
    }

    /// Ids that namers can list, sorted.
    pub fn bound_names(&self) -> Vec<String> {
        match self.inner.bound_names.get() {
            State::Ok(names) => names.iter().map(Path::show).collect(),
            State::Pending | State::Failed(_) => Vec::new(),
        }
    }

    /// As in the document's `storage:`.
    pub fn store_kind(&self) -> &'static str {
        self.inner.store.kind()
    }

    pub(crate) fn space(&self, namespace: &str) -> Arc<Space> {
        self.inner.spaces.get(namespace)
    }
}
