//! `io.l5d.k8s`: dtabs as objects of a cluster (`dtabs.l5d.io`), as the original wrote them.
//!
//! ```text
//!   write ──▶ get, decide, replace by resourceVersion ──▶ answer ──▶ observers
//!                                                                      ▲
//!   any other replica, kubectl ──▶ API server ──▶ watch ───────────────┘
//! ```
//!
//! The version of a dtab is the object's resourceVersion. Unlike the original's store, observers have a
//! write when it is answered, labels and annotations stay, and an object that cannot be read hides no
//! other: the log names it, and its namespace keeps what it last was. While the API server is away
//! reads go on, writes fail. See `object` for where revisions are kept; each write is an Event, too.

#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod object;
mod requests;
mod shared;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube::core::DynamicObject;
use kubernetes::{Cluster, Event, Report, Resource, Watch, k8s_openapi::api::core::v1 as core};
use names::Dtab;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
};

use self::{
    requests::Requests,
    shared::{Shared, Then},
};
use crate::{
    Action, Answer, Change, DtabStore, Error, Lease, LeaseRequest, Leased, Names, Note, Revision, Version,
    current::Current, lease, revision::decide,
};

const DTABS: Resource = Resource::new("l5d.io", "v1alpha1", "dtabs");
/// How long the first list is waited for.
const OPEN_WITHIN: Duration = Duration::from_secs(30);
/// Writers that get in each other's way try again so often.
const TRIES: usize = 20;
/// A deletion must show in the watch within this time.
const GONE_WITHIN: Duration = Duration::from_secs(15);
/// Revisions that a process remembers of each namespace.
const KEPT: usize = 1000;
/// Events under way at once; more are left out.
const EVENTS: usize = 16;

/// See the module's documentation.
pub struct Kubernetes {
    inner: Arc<Inner>,
    watch: JoinHandle<()>,
}

struct Inner {
    requests: Requests,
    current: Current,
    state: Mutex<State>,
    shared: Shared,
    report: Arc<Report>,
    events: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    /// By version; the newest is last.
    history: HashMap<Arc<str>, BTreeMap<u64, Arc<Revision>>>,
    /// Who is deleting what, for the revision that the deletion becomes.
    deleting: HashMap<String, Note>,
    /// Objects that cannot be read, and why.
    unreadable: BTreeMap<String, String>,
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Kubernetes {
    /// Reads all dtabs of a namespace of the cluster, then watches them. Tries for 30 seconds.
    ///
    /// # Errors
    /// `Cluster`: verb, resource and what the API server says; also where the resource is not defined.
    pub async fn open(cluster: Cluster, namespace: &str) -> Result<Kubernetes, Error> {
        let report = Arc::new(Report::default());
        let watch = Watch::new(&cluster, DTABS, namespace, &report);
        let mut backoff = watch.backoff();
        let give_up = tokio::time::Instant::now() + OPEN_WITHIN;
        let list = loop {
            match watch.list::<DynamicObject>().await {
                Ok(list) => break list,
                Err(error) if tokio::time::Instant::now() > give_up => {
                    return Err(if error.code() == Some(404) { Error::Undefined(error) } else { error.into() });
                }
                Err(_) => backoff.wait().await,
            }
        };
        let inner = Arc::new(Inner {
            requests: Requests { cluster, namespace: namespace.into() },
            current: Current::new([]),
            state: Mutex::default(),
            shared: Shared::default(),
            report,
            events: Arc::new(Semaphore::new(EVENTS)),
        });
        // Here and not in the task: whoever opens a store finds it filled.
        inner.hear(Event::All(list.items.clone(), list.version.clone()));
        let hearing = inner.clone();
        let watch = tokio::spawn(async move { watch.follow(list, |event| hearing.hear(event)).await });
        Ok(Kubernetes { inner, watch })
    }
}

impl Inner {
    /// Each change is one step: a panic elsewhere leaves it whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the watch tells.
    fn hear(&self, event: Event<DynamicObject>) {
        match event {
            Event::Put(object) => {
                self.accept(&object);
            }
            Event::Gone(object) => {
                if let Some(version) = object::version(&object) {
                    self.deleted(object::name(&object), version);
                }
            }
            Event::All(objects, version) => {
                objects.iter().for_each(|object| {
                    self.accept(object);
                });
                let Some(version) = object::version_of(&version) else { return };
                let names = self.current.names().borrow().clone();
                for name in names.iter().filter(|name| !objects.iter().any(|object| object::name(object) == &***name)) {
                    self.deleted(name, version);
                }
                self.state().unreadable.retain(|name, _| objects.iter().any(|object| object::name(object) == name));
            }
        }
    }

    /// Publishes what an object is, unless something newer is known. `None` where it cannot be read.
    fn accept(&self, object: &DynamicObject) -> Option<Arc<Revision>> {
        let name = object::name(object);
        let mut state = self.state();
        match object::revision(object) {
            Ok(revision) => {
                if state.unreadable.remove(name).is_some() {
                    tracing::info!(namespace = %name, "this dtab can be read again");
                }
                let revision = Arc::new(revision);
                let before = object::history(object).into_iter().map(Arc::new);
                state.note(before.chain([revision.clone()]));
                self.publish(&revision);
                Some(revision)
            }
            Err(why) => {
                if state.unreadable.insert(name.to_owned(), why.clone()).as_ref() != Some(&why) {
                    tracing::warn!(namespace = %name, %why, "this dtab cannot be read; it stays what it was");
                }
                None
            }
        }
    }

    fn deleted(&self, name: &str, version: Version) {
        let mut state = self.state();
        state.unreadable.remove(name);
        let Some(last) = self.current.get(name) else { return };
        if last.version >= version || !last.exists() {
            return;
        }
        let note = state.deleting.remove(name).unwrap_or_else(|| Note::now("-"));
        let revision = Arc::new(Revision {
            namespace: name.into(),
            version,
            time: crate::revision::to_millis(note.time),
            author: note.author,
            comment: note.comment,
            action: Action::Delete,
            dtab: Dtab::empty(),
        });
        state.note([revision.clone()]);
        self.publish(&revision);
    }

    /// Only called with the state locked: observers see versions grow.
    fn publish(&self, revision: &Arc<Revision>) {
        if self.current.get(&revision.namespace).is_none_or(|known| known.version < revision.version) {
            self.current.publish(revision);
        }
    }

    async fn write(&self, namespace: &str, change: &Change, note: &Note) -> Result<Arc<Revision>, Error> {
        if !kubernetes::is_name(namespace) {
            return Err(Error::BadName(namespace.into()));
        }
        for _ in 0..TRIES {
            let live = self.requests.get::<DynamicObject>(DTABS, namespace).await?;
            let last = match &live {
                Some(object) => Some(self.accept(object).map_or_else(|| unreadable(object), Ok)?),
                // Deleted, or never there; whichever this process knows.
                None => self.current.get(namespace).filter(|revision| !revision.exists()),
            };
            let decided = decide(namespace, last.as_deref(), change, note)?;
            let done = match decided.action {
                Action::Delete => self.delete(namespace, live, note).await,
                Action::Create | Action::Update => self.send(live, &decided).await,
            };
            match done {
                Ok(revision) => {
                    self.tell(&revision);
                    return Ok(revision);
                }
                // Somebody wrote in between: decide again.
                Err(Error::Cluster(error)) if matches!(error.code(), Some(409 | 404)) && !is_undefined(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::VersionMismatch)
    }

    async fn send(&self, live: Option<DynamicObject>, decided: &Revision) -> Result<Arc<Revision>, Error> {
        let before: Vec<_> = {
            let state = self.state();
            let known = state.history.get(&decided.namespace);
            known.map(|known| known.values().rev().take(64).cloned().collect()).unwrap_or_default()
        };
        let exists = live.is_some();
        let object = object::written(live, decided, &before);
        let object = object.map_err(|error| self.requests.unreadable(DTABS, &error))?;
        let stored = match exists {
            true => self.requests.replace(DTABS, &decided.namespace, &object).await?,
            false => self.requests.create(DTABS, &object).await?,
        };
        self.accept(&stored).map_or_else(|| unreadable(&stored), Ok)
    }

    /// Its version is known when the watch tells.
    async fn delete(&self, name: &str, live: Option<DynamicObject>, note: &Note) -> Result<Arc<Revision>, Error> {
        let mut observed = self.current.observe(name);
        self.state().deleting.insert(name.to_owned(), note.clone());
        let version = live.and_then(|object| object.metadata.resource_version);
        let known = version.as_deref().and_then(object::version_of);
        if let Err(error) = self.requests.delete(DTABS, name, version).await {
            self.state().deleting.remove(name);
            return Err(error.into());
        }
        let is_gone = |revision: &Option<Arc<Revision>>| {
            revision.as_ref().is_some_and(|revision| !revision.exists() && Some(revision.version) > known)
        };
        match tokio::time::timeout(GONE_WITHIN, observed.wait_for(is_gone)).await {
            Ok(Ok(revision)) => revision.clone().ok_or(Error::Closed),
            Ok(Err(_)) => Err(Error::Closed),
            Err(_) => Err(Error::Cluster(kubernetes::Error {
                verb: "watch",
                resource: DTABS.shown().into(),
                namespace: self.requests.namespace.clone(),
                problem: kubernetes::Problem::Silent(GONE_WITHIN),
            })),
        }
    }

    /// Says in an Event what was written; for people, so that trouble with it is only logged.
    fn tell(&self, revision: &Arc<Revision>) {
        let Ok(permit) = self.events.clone().try_acquire_owned() else { return };
        let (requests, revision) = (self.requests.clone(), revision.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let event = event(&revision, &requests.namespace);
            if let Err(error) = requests.create(Resource::EVENTS, &event).await {
                tracing::debug!("no event tells of version {} of {}: {error}", revision.version, revision.namespace);
            }
        });
    }
}

impl State {
    fn note(&mut self, revisions: impl IntoIterator<Item = Arc<Revision>>) {
        for revision in revisions {
            let history = self.history.entry(revision.namespace.clone()).or_default();
            // What was seen first was closer to its writer.
            history.entry(revision.version.number()).or_insert(revision);
            while history.len() > KEPT {
                history.pop_first();
            }
        }
    }
}

/// An object that cannot be read, for a writer who wants to replace it: its entries are not known.
fn unreadable(object: &DynamicObject) -> Result<Arc<Revision>, Error> {
    Ok(Arc::new(Revision {
        namespace: object::name(object).into(),
        version: object::version(object).ok_or(Error::Closed)?,
        time: Timestamp::now(),
        author: "-".into(),
        comment: None,
        action: Action::Update,
        dtab: Dtab::empty(),
    }))
}

/// Whether a 404 says that the cluster has no such resource at all.
fn is_undefined(error: &kubernetes::Error) -> bool {
    matches!(&error.problem, kubernetes::Problem::Status { code: 404, message, .. } if !message.contains('"'))
}

fn event(revision: &Revision, namespace: &str) -> core::Event {
    let reason = match revision.action {
        Action::Create => "DtabCreated",
        Action::Update => "DtabUpdated",
        Action::Delete => "DtabDeleted",
    };
    let comment = revision.comment.as_ref().map(|comment| format!(" ({comment})")).unwrap_or_default();
    let mut message = format!("{} by {}{comment}: {}", revision.action, revision.author, revision.dtab);
    // The API's limit is 1 KiB.
    message.truncate(message.floor_char_boundary(1000));
    let now = kubernetes::k8s_openapi::jiff::Timestamp::now();
    core::Event {
        metadata: kube::core::ObjectMeta {
            name: Some(format!("{}.{:x}", revision.namespace, revision.version.number())),
            ..Default::default()
        },
        involved_object: core::ObjectReference {
            api_version: Some(object::GROUP_VERSION.to_owned()),
            kind: Some(object::KIND.to_owned()),
            name: Some(revision.namespace.to_string()),
            namespace: Some(namespace.to_owned()),
            resource_version: Some(revision.version.number().to_string()),
            ..Default::default()
        },
        reason: Some(reason.to_owned()),
        message: Some(message),
        type_: Some("Normal".to_owned()),
        count: Some(1),
        first_timestamp: Some(kubernetes::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now)),
        last_timestamp: Some(kubernetes::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now)),
        source: Some(core::EventSource { component: Some("switchyard".to_owned()), host: None }),
        ..Default::default()
    }
}

impl DtabStore for Kubernetes {
    fn kind(&self) -> &'static str {
        "io.l5d.k8s"
    }

    fn names(&self) -> watch::Receiver<Names> {
        self.inner.current.names()
    }

    fn observe(&self, namespace: &str) -> watch::Receiver<Option<Arc<Revision>>> {
        self.inner.current.observe(namespace)
    }

    fn write(&self, namespace: &str, change: Change, note: Note) -> Answer<'_, Arc<Revision>> {
        let namespace = namespace.to_owned();
        Box::pin(async move { self.inner.write(&namespace, &change, &note).await })
    }

    fn history(&self, namespace: &str, limit: usize) -> Answer<'_, Option<Vec<Arc<Revision>>>> {
        let state = self.inner.state();
        let history = state.history.get(namespace).map(|known| known.values().rev().take(limit).cloned().collect());
        Box::pin(std::future::ready(Ok(history)))
    }

    fn revision(&self, namespace: &str, version: Version) -> Answer<'_, Option<Arc<Revision>>> {
        let state = self.inner.state();
        let found = state.history.get(namespace).and_then(|known| known.get(&version.number()).cloned());
        Box::pin(std::future::ready(Ok(found)))
    }

    fn take_lease(&self, request: LeaseRequest) -> Answer<'_, Leased> {
        Box::pin(async move {
            let take = |state: &mut shared::State| {
                state.leases.retain(|lease| lease.holds_at(request.now));
                let is_same = |lease: &Lease| lease.namespace == request.namespace && lease.entry == request.entry;
                let held = state.leases.iter().find(|lease| is_same(lease)).cloned();
                match lease::decide(&request, held) {
                    Leased::Taken(lease) => {
                        state.leases.retain(|lease| !is_same(lease));
                        state.leases.push(lease.clone());
                        Then::Write(Leased::Taken(lease))
                    }
                    held => Then::Leave(held),
                }
            };
            self.inner.shared.with(&self.inner.requests, take).await
        })
    }

    fn release_lease(&self, namespace: &str, entry: &str, owner: &str, now: Timestamp) -> Answer<'_, Option<Lease>> {
        let (namespace, entry, owner) = (namespace.to_owned(), entry.to_owned(), owner.to_owned());
        Box::pin(async move {
            let release = |state: &mut shared::State| {
                let is_it = |lease: &Lease| lease.namespace == namespace && lease.entry == entry;
                match state.leases.iter().find(|lease| is_it(lease)).cloned() {
                    None => Then::Leave(None),
                    Some(lease) if lease.holds_at(now) && lease.owner != owner => Then::Leave(Some(lease)),
                    Some(_) => {
                        state.leases.retain(|lease| !is_it(lease));
                        Then::Write(None)
                    }
                }
            };
            self.inner.shared.with(&self.inner.requests, release).await
        })
    }

    fn leases(&self, now: Timestamp) -> Answer<'_, Vec<Lease>> {
        Box::pin(async move {
            let holding = |state: &mut shared::State| {
                let mut leases: Vec<_> = state.leases.iter().filter(|lease| lease.holds_at(now)).cloned().collect();
                leases.sort_by(|a, b| (&a.namespace, &a.entry).cmp(&(&b.namespace, &b.entry)));
                Then::Leave(leases)
            };
            self.inner.shared.with(&self.inner.requests, holding).await
        })
    }

    fn remember(&self, key: &'static str, text: String) -> Answer<'_, ()> {
        Box::pin(async move {
            let keep = |state: &mut shared::State| {
                state.notes.insert(key.to_owned(), text.clone());
                Then::Write(())
            };
            self.inner.shared.with(&self.inner.requests, keep).await
        })
    }

    fn recall(&self, key: &'static str) -> Answer<'_, Option<String>> {
        let kept = move |state: &mut shared::State| Then::Leave(state.notes.get(key).cloned());
        Box::pin(async move { self.inner.shared.with(&self.inner.requests, kept).await })
    }

    fn state(&self) -> serde_json::Value {
        serde_json::json!({ "watch": self.inner.report.json(), "unreadable": self.inner.state().unreadable })
    }
}
