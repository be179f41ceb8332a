//! Lists a kind of object, then follows it: one connection, whatever the number of readers.
//!
//! ```text
//!        ┌────────── 410: the version is gone ─────────┐
//!        ▼                                             │
//!      list ──ok──▶ watch from its version ──events──▶ (ends after `window`, by the server's hand) ──┐
//!        ▲            ▲                                                                              │
//!        └── backoff  └──────────────────────────── again, from the last version ◀───────────────────┘
//! ```
//!
//! A watch that hangs is noticed: the server is asked to end each watch after `window`; one that has not
//! ended a `grace` later is dead, whatever the connection says. Bookmarks keep the version fresh where
//! nothing changes. Trouble never ends a watch and never takes anything away; the `Report` tells.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    api::{ListParams, ObjectList, WatchParams},
    core::{Request, WatchEvent},
};
use serde::de::DeserializeOwned;

use crate::{Cluster, Error, Problem, Report, error::status_problem};

/// A kind of object, as the API's paths and a role's rules name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
}

impl Resource {
    pub const ENDPOINT_SLICES: Resource = Resource::new("discovery.k8s.io", "v1", "endpointslices");
    pub const ENDPOINTS: Resource = Resource::new("", "v1", "endpoints");
    pub const SERVICES: Resource = Resource::new("", "v1", "services");
    pub const EVENTS: Resource = Resource::new("", "v1", "events");
    pub const CONFIG_MAPS: Resource = Resource::new("", "v1", "configmaps");
    pub const INGRESSES: Resource = Resource::new("networking.k8s.io", "v1", "ingresses");

    pub const fn new(group: &'static str, version: &'static str, plural: &'static str) -> Resource {
        Resource { group, version, plural }
    }

    /// `/apis/discovery.k8s.io/v1/namespaces/default/endpointslices`; an empty namespace is all of them.
    pub fn path(&self, namespace: &str) -> String {
        let Resource { group, version, plural } = self;
        let base = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        match namespace {
            "" => format!("{base}/{plural}"),
            namespace => format!("{base}/namespaces/{namespace}/{plural}"),
        }
    }

    /// `endpointslices.discovery.k8s.io`
    pub fn shown(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }
}

/// How long to wait for what.
#[derive(Clone, Debug, PartialEq)]
pub struct Patience {
    /// The server ends a watch after this time.
    pub window: Duration,
    /// A watch that has not ended this long after its window is dead.
    pub grace: Duration,
    /// An answer must begin, and a list be whole, within this time.
    pub answer: Duration,
    /// Between tries; doubles from the first to the second, with jitter.
    pub backoff: (Duration, Duration),
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            window: Duration::from_secs(30),
            grace: Duration::from_secs(5),
            answer: Duration::from_secs(15),
            backoff: (Duration::from_millis(50), Duration::from_secs(5)),
        }
    }
}

/// What a watch tells its reader.
#[derive(Clone, Debug)]
pub enum Event<K> {
    /// Everything there is, at this version of the collection; what is not in it is gone.
    All(Vec<K>, String),
    /// Created or changed.
    Put(K),
    Gone(K),
}

/// A whole collection.
#[derive(Clone, Debug)]
pub struct List<K> {
    pub items: Vec<K>,
    pub version: String,
}

/// One kind of object in one namespace (or all), followed for ever.
pub struct Watch {
    cluster: Cluster,
    resource: Resource,
    namespace: Arc<str>,
    /// Empty: all.
    labels: String,
    report: Arc<Report>,
}

/// Objects in one page of a list.
const PAGE: u32 = 500;

impl Watch {
    /// `namespace` is empty for all. Its report is among the cluster's from now on.
    pub fn new(cluster: &Cluster, resource: Resource, namespace: &str, report: &Arc<Report>) -> Watch {
        cluster.enlist(report);
        let (cluster, report) = (cluster.clone(), report.clone());
        Watch { cluster, resource, namespace: namespace.into(), labels: String::new(), report }
    }

    /// Only objects with these labels, `app=web,tier!=test`.
    pub fn selecting(self, labels: &str) -> Watch {
        Watch { labels: labels.to_owned(), ..self }
    }

    fn error(&self, verb: &'static str, problem: Problem) -> Error {
        Error { verb, resource: self.resource.shown().into(), namespace: self.namespace.clone(), problem }
    }

    /// Lists once in a while until that works; tells nobody of its failures.
    pub async fn wait_until_listed<K: Clone + DeserializeOwned>(&self) -> List<K> {
        loop {
            tokio::time::sleep(self.cluster.patience().window).await;
            if let Ok(list) = self.pages().await {
                self.confirm();
                return list;
            }
        }
    }

    /// One request within the time for answers.
    async fn call<T>(
        &self,
        verb: &'static str,
        send: impl AsyncFnOnce(kube::Client) -> Result<T, kube::Error>,
    ) -> Result<T, Error> {
        self.cluster.call(verb, self.resource, &self.namespace, self.cluster.patience().answer, send).await
    }

    /// The whole collection as it is now, page by page. Notes in the report how it went.
    ///
    /// # Errors
    /// As the server or the connection has it.
    pub async fn list<K: Clone + DeserializeOwned>(&self) -> Result<List<K>, Error> {
        let listed = self.pages().await;
        match &listed {
            Ok(_) => self.confirm(),
            Err(error) => self.fail(error),
        }
        listed
    }

    async fn pages<K: Clone + DeserializeOwned>(&self) -> Result<List<K>, Error> {
        let request = Request::new(self.resource.path(&self.namespace));
        let mut parameters = ListParams::default().limit(PAGE);
        if !self.labels.is_empty() {
            parameters = parameters.labels(&self.labels);
        }
        let mut items = Vec::new();
        loop {
            self.report.listed();
            let page = request.list(&parameters).map_err(kube::Error::BuildRequest);
            let page = self.call("list", async |client| client.request::<ObjectList<K>>(page?).await).await?;
            items.extend(page.items);
            let next = page.metadata.continue_.filter(|token| !token.is_empty());
            let Some(token) = next else {
                return Ok(List { items, version: page.metadata.resource_version.unwrap_or_default() });
            };
            parameters.continue_token = Some(token);
        }
    }

    fn confirm(&self) {
        if self.report.confirm() {
            tracing::info!(resource = %self.resource.shown(), namespace = %self.namespace, "current again");
        }
    }

    fn fail(&self, error: &Error) {
        if self.report.fail(error) {
            tracing::warn!("{error}; keeping what is known, and trying again");
        }
    }

    /// Follows from `list` on; tells `list` first. Ends only when it is dropped.
    pub async fn follow<K>(&self, list: List<K>, mut tell: impl FnMut(Event<K>))
    where
        K: Clone + DeserializeOwned + AsMeta,
    {
        let mut backoff = self.backoff();
        let mut version = list.version.clone();
        tell(Event::All(list.items, list.version));
        loop {
            match self.watch_once(&mut version, &mut tell, &mut backoff).await {
                Ok(()) => {}
                Err(error) if error.is_gone() => {
                    tracing::info!("{error}: listing again");
                    version = self.list_until_good(&mut tell, &mut backoff).await;
                }
                Err(error) => {
                    self.fail(&error);
                    backoff.wait().await;
                }
            }
        }
    }

    /// The version of a new list that was told.
    async fn list_until_good<K>(&self, tell: &mut impl FnMut(Event<K>), backoff: &mut Backoff) -> String
    where
        K: Clone + DeserializeOwned,
    {
        loop {
            match self.list().await {
                Ok(list) => {
                    let version = list.version.clone();
                    tell(Event::All(list.items, list.version));
                    return version;
                }
                Err(_) => backoff.wait().await,
            }
        }
    }

    /// One watch request to its end. `Ok` where the server ended it in good order.
    async fn watch_once<K>(
        &self,
        version: &mut String,
        tell: &mut impl FnMut(Event<K>),
        backoff: &mut Backoff,
    ) -> Result<(), Error>
    where
        K: Clone + DeserializeOwned + AsMeta,
    {
        let Patience { window, grace, .. } = *self.cluster.patience();
        let seconds = u32::try_from(window.as_secs()).unwrap_or(u32::MAX).max(1);
        let mut parameters = WatchParams::default().timeout(seconds);
        if !self.labels.is_empty() {
            parameters = parameters.labels(&self.labels);
        }
        let request = Request::new(self.resource.path(&self.namespace)).watch(&parameters, version);
        let request = request.map_err(kube::Error::BuildRequest);
        self.report.watched();
        let opened = tokio::time::Instant::now();
        let stream = self.call("watch", async |client| client.request_events::<K>(request?).await).await?;
        self.confirm();
        let deadline = opened + window + grace;
        let mut stream = std::pin::pin!(stream);
        let mut told = false;
        loop {
            let next = tokio::time::timeout_at(deadline, stream.next()).await;
            let event = match next {
                Err(_) => return Err(self.error("watch", Problem::Silent(opened.elapsed()))),
                Ok(None) if told || opened.elapsed() > Duration::from_secs(1) => {
                    self.confirm();
                    backoff.reset();
                    return Ok(());
                }
                // A server (or something before it) that ends watches at once must not be asked in a loop.
                Ok(None) => {
                    backoff.wait().await;
                    return Ok(());
                }
                Ok(Some(Err(error))) => return Err(self.error("watch", Problem::of(&error, ""))),
                Ok(Some(Ok(event))) => event,
            };
            told = true;
            self.report.event();
            self.confirm();
            backoff.reset();
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    note_version(version, object.meta());
                    tell(Event::Put(object));
                }
                WatchEvent::Deleted(object) => {
                    note_version(version, object.meta());
                    tell(Event::Gone(object));
                }
                WatchEvent::Bookmark(bookmark) => *version = bookmark.metadata.resource_version,
                WatchEvent::Error(status) => return Err(self.error("watch", status_problem(&status))),
            }
        }
    }

    /// For callers that list until it works.
    pub fn backoff(&self) -> Backoff {
        Backoff::new(self.cluster.patience().backoff)
    }
}

/// Objects with metadata.
pub trait AsMeta {
    fn meta(&self) -> &ObjectMeta;
}

impl<K: kube::core::Resource> AsMeta for K {
    fn meta(&self) -> &ObjectMeta {
        kube::core::Resource::meta(self)
    }
}

fn note_version(version: &mut String, meta: &ObjectMeta) {
    if let Some(new) = &meta.resource_version {
        version.clone_from(new);
    }
}

/// Waits longer each time, with jitter.
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    fn new((first, most): (Duration, Duration)) -> Backoff {
        Backoff { first, most, next: first }
    }

    fn reset(&mut self) {
        self.next = self.first;
    }

    pub async fn wait(&mut self) {
        let wait = self.next.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.next = (self.next * 2).min(self.most);
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_names_are_those_of_the_api() {
        let cases = [
            (Resource::SERVICES, "default", "/api/v1/namespaces/default/services", "services"),
            (Resource::INGRESSES, "", "/apis/networking.k8s.io/v1/ingresses", "ingresses.networking.k8s.io"),
        ];
        for (resource, namespace, path, shown) in cases {
            assert_eq!((resource.path(namespace).as_str(), resource.shown().as_str()), (path, shown));
        }
    }
}
