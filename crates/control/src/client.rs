//! The client side: an interpreter for routers that asks a control plane. Kind `io.l5d.namerd.http`.
//!
//! It follows ([`crate::follow`]); against a control plane that does not offer that, such as the
//! original's, it falls back to a watch stream for each name and each bound id.
//!
//! One task on the control runtime does all of it. What arrives is published into `naming::Live`
//! values, which the data plane's workers look at with one atomic load per request: publishing is the
//! handing over, and from then on every request uses the new tree. So a version is acknowledged as soon
//! as everything that stands before it on the stream is published.
//!
//! While the control plane cannot be reached, known names go on with their last good trees and
//! addresses for as long as it takes, `served()` says since when and why; new names stay pending.

mod book;
mod bound_names;
mod config;
mod connection;
mod explain;
mod follow;
mod read;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use names::{Dtab, Path};
use naming::{
    BoundTree, ExplainError, Explaining, Fed, Interpreter, Live, Publisher, Served, Shared, State, Transformed,
    Transformer,
};
use serde_json::json;
use tokio::sync::mpsc;

use book::{Book, Request};
use connection::Dst;

pub use config::{Config, Kind, Retry};
pub use identity::{Farewell, Identity};
pub use original::{Mesh, Namerd};

mod identity;
mod original;

/// The interpreter. Dropping it, and everything that was bound by it, ends its stream with a goodbye.
pub struct Client {
    core: Arc<Core>,
    /// Where there are transformers: explains with them.
    explaining: Option<Transformed>,
}

struct Core {
    dst: Arc<Dst>,
    namespace: Arc<str>,
    names: Shared<Key, BoundTree>,
    ids: Mutex<u64>,
    requests: mpsc::UnboundedSender<Request>,
    served: Live<Served>,
    bound_names: Shared<(), Arc<[Path]>>,
    status: Arc<Mutex<Status>>,
}

/// What a binding is shared by.
#[derive(Clone, PartialEq, Hash)]
struct Key {
    local: Dtab,
    path: Path,
}

impl Eq for Key {}

/// For `state()`.
#[derive(Debug, Default)]
struct Status {
    mode: Mode,
    connected_to: Option<std::net::SocketAddr>,
    connects: u64,
    last_end: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Connecting,
    Follow,
    /// The original's watch streams.
    Watch,
}

/// What a client is made of.
struct Parts {
    dst: Dst,
    namespace: Arc<str>,
    identity: Identity,
    backoff: connection::Backoff,
    transformers: Vec<Arc<dyn Transformer>>,
}

impl Client {
    /// # Panics
    /// Outside a tokio runtime.
    fn start(parts: Parts) -> Client {
        let dst = Arc::new(parts.dst);
        let (said, served): (Publisher<Served>, Live<Served>) = Live::channel(State::Ok(Served {
            namespace: Some(parts.namespace.clone()),
            stale: Some(format!("connecting to the control plane at {}", dst.shown()).into()),
            ..Served::default()
        }));
        let (requests, asked) = mpsc::unbounded_channel();
        let status = Arc::new(Mutex::new(Status::default()));
        let book = Book::new(parts.transformers.clone(), said, asked);
        let task = follow::Task {
            dst: dst.clone(),
            namespace: parts.namespace.clone(),
            identity: parts.identity,
            backoff: parts.backoff,
            status: status.clone(),
        };
        tokio::spawn(task.run(book));
        let core = Arc::new(Core {
            dst,
            namespace: parts.namespace,
            names: Shared::new(),
            ids: Mutex::new(0),
            requests,
            served,
            bound_names: Shared::new(),
            status,
        });
        let explaining = (!parts.transformers.is_empty())
            .then(|| Transformed::new(core.clone() as Arc<dyn Interpreter>, parts.transformers));
        Client { core, explaining }
    }
}

impl Interpreter for Client {
    fn bind(&self, local: &Dtab, path: &Path) -> Live<BoundTree> {
        self.core.bind(local, path)
    }

    fn explain<'a>(&'a self, local: &'a Dtab, path: &'a Path) -> Explaining<'a> {
        match &self.explaining {
            Some(transformed) => transformed.explain(local, path),
            None => self.core.explain(local, path),
        }
    }

    fn served(&self) -> Live<Served> {
        self.core.served()
    }

    fn bound_names(&self) -> Live<Arc<[Path]>> {
        self.core.bound_names()
    }

    fn state(&self) -> serde_json::Value {
        self.core.state()
    }
}

impl Interpreter for Core {
    fn bind(&self, local: &Dtab, path: &Path) -> Live<BoundTree> {
        let key = Key { local: local.clone(), path: path.clone() };
        let feed = |fed: Arc<Fed<BoundTree, ()>>| {
            let id = {
                // A number: a panic elsewhere leaves it whole.
                let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
                *ids += 1;
                *ids
            };
            let asked = Asked { id, requests: self.requests.clone() };
            // The task is there as long as somebody can ask.
            let _ = self.requests.send(Request::Bind { id, key: key.clone(), fed });
            async move {
                let _asked = asked;
                std::future::pending().await
            }
        };
        self.names.get(key.clone(), feed).0
    }

    fn explain<'a>(&'a self, local: &'a Dtab, path: &'a Path) -> Explaining<'a> {
        explain::ask(&self.dst, &self.namespace, local, path).map(|explained| explained.map(Arc::new)).boxed()
    }

    fn served(&self) -> Live<Served> {
        self.served.clone()
    }

    fn bound_names(&self) -> Live<Arc<[Path]>> {
        let dst = self.dst.clone();
        self.bound_names.get((), |fed| bound_names::keep(dst, fed)).0
    }

    fn state(&self) -> serde_json::Value {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let names = self.names.entries();
        let pending = names.iter().filter(|(_, fed)| matches!(fed.value.get(), State::Pending)).count();
        let served = self.served.get().ok().unwrap_or_default();
        json!({
            "dst": self.dst.shown(),
            "namespace": &*self.namespace,
            "mode": match status.mode {
                Mode::Connecting => "connecting",
                Mode::Follow => "follow",
                Mode::Watch => "watch",
            },
            "connectedTo": status.connected_to.map(|address| address.to_string()),
            "connects": status.connects,
            "lastEnd": status.last_end,
            "version": served.version.as_deref(),
            "stale": served.stale.as_deref(),
            "bindings": names.len(),
            "pending": pending,
            "staleCertificates": self.dst.stale_certificates(),
        })
    }
}

/// A name that is asked for, as long as somebody reads it.
struct Asked {
    id: u64,
    requests: mpsc::UnboundedSender<Request>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        let _ = self.requests.send(Request::Unbind(self.id));
    }
}

/// The error of a control plane that cannot be reached.
fn unreachable(dst: &Dst, why: &str) -> ExplainError {
    ExplainError::Failed(format!("cannot ask the control plane at {}: {why}", dst.shown()).into())
}
