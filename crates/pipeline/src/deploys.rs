//! All deploys of this server: what the API and the pages ask and order. Cheap to clone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use rollout::{Event, State};
use supervise::Supervisor;
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::control::{Control, Trouble};
use crate::effects;
use crate::file::File;
use crate::journal::{Journal, Pen};
use crate::plan;
use crate::problem::Problem;
use crate::runner::Runner;
use crate::slot::Slot;
use crate::story::{Head, Step, Story, now};
use crate::view;

/// For questions on behalf of a person who waits.
const SOON: Duration = Duration::from_secs(2);
/// Of a name or a reason that somebody gave.
const LONGEST_WORDS: usize = 1000;

#[derive(Clone, Debug)]
pub(crate) struct Deploys {
    inner: Arc<Inner>,
}

/// What the server hands over.
#[derive(Debug)]
pub(crate) struct Parts {
    /// Where this server answers.
    pub address: SocketAddr,
    pub config: Config,
    pub switchyard: PathBuf,
    pub identity: String,
    pub files: Vec<File>,
    pub control: Control,
    pub journal: Journal,
    /// Where a pipeline has the target `process`.
    pub supervisor: Option<Supervisor>,
    /// Where a pipeline has the target `kubernetes`.
    pub cluster: Option<Cluster>,
}

#[derive(Debug)]
struct Inner {
    parts: Parts,
    slots: Mutex<BTreeMap<u64, Arc<Slot>>>,
    /// Routers that were counted per namespace.
    fleet: Mutex<BTreeMap<String, u64>>,
    inspecting: Arc<tokio::sync::Mutex<()>>,
    starting: tokio::sync::Mutex<()>,
    runners: TaskTracker,
    stopping: CancellationToken,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Changes are single insertions.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Deploys {
    pub fn new(parts: Parts) -> Deploys {
        let inner = Inner {
            parts,
            slots: Mutex::default(),
            fleet: Mutex::default(),
            inspecting: Arc::default(),
            starting: tokio::sync::Mutex::default(),
            runners: TaskTracker::new(),
            stopping: CancellationToken::new(),
        };
        Deploys { inner: Arc::new(inner) }
    }

    pub fn config(&self) -> &Config {
        &self.inner.parts.config
    }

    pub fn url(&self) -> String {
        let scheme = if self.config().tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.inner.parts.address)
    }

    pub fn switchyard(&self) -> &Path {
        &self.inner.parts.switchyard
    }

    /// Tells this pipeline server from others.
    pub fn identity(&self) -> &str {
        &self.inner.parts.identity
    }

    pub fn control(&self) -> &Control {
        &self.inner.parts.control
    }

    /// `Err`: the document names no directory for processes.
    pub fn supervisor(&self) -> Result<&Supervisor, String> {
        let missing = "the pipeline server's document has no `processes`: it can run none";
        self.inner.parts.supervisor.as_ref().ok_or_else(|| missing.to_owned())
    }

    pub fn cluster(&self) -> Result<&Cluster, String> {
        let missing = "no pipeline of this server has the target `kubernetes`";
        self.inner.parts.cluster.as_ref().ok_or_else(|| missing.to_owned())
    }

    pub fn runners(&self) -> &TaskTracker {
        &self.inner.runners
    }

    /// Cancelled when the server stops: runners end where they are, and their journal tells it.
    pub fn stopping(&self) -> CancellationToken {
        self.inner.stopping.clone()
    }

    fn spawn(&self, runner: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping();
        self.inner.runners.spawn(async move {
            // `None` is the server's stop: the journal knows where it ended.
            let _ = stopping.run_until_cancelled(runner).await;
        });
    }

    /// Held from a look at what exists until the name of the new version is in the journal.
    pub async fn inspecting(&self) -> OwnedMutexGuard<()> {
        self.inner.inspecting.clone().lock_owned().await
    }

    /// How many routers should follow it: as many as the last time; one, if nobody looked yet.
    pub fn fleet_expected(&self, namespace: &str) -> u64 {
        locked(&self.inner.fleet).get(namespace).copied().unwrap_or(1)
    }

    pub fn see_fleet(&self, namespace: &str, routers: u64) {
        locked(&self.inner.fleet).insert(namespace.to_owned(), routers);
    }

    /// Takes up what the journal tells.
    pub fn resume(&self, stories: Vec<Story>) -> Result<(), crate::journal::JournalError> {
        for story in stories {
            let is_final = story.is_final();
            let (id, (slot, commands)) = (story.id(), Slot::new(story));
            if !is_final {
                let pen = self.inner.parts.journal.resume(id)?;
                let runner = Runner::new(self.clone(), slot.clone(), pen, commands);
                self.spawn(runner.resume());
            }
            locked(&self.inner.slots).insert(id, slot);
        }
        Ok(())
    }

    fn insert(&self, story: Story, pen: Pen) {
        let id = story.id();
        let (slot, commands) = Slot::new(story);
        locked(&self.inner.slots).insert(id, slot.clone());
        self.spawn(Runner::new(self.clone(), slot, pen, commands).run());
    }

    fn slots(&self) -> Vec<Arc<Slot>> {
        locked(&self.inner.slots).values().cloned().collect()
    }

    pub fn slot(&self, id: &str) -> Result<Arc<Slot>, Problem> {
        let number = id.parse::<u64>().ok().filter(|number| number.to_string() == id);
        let slot = number.and_then(|number| locked(&self.inner.slots).get(&number).cloned());
        slot.ok_or_else(|| Problem::unknown_deploy(id))
    }

    /// Newest first; `before`: only older ones than this.
    pub fn list(&self, limit: usize, before: Option<u64>) -> Vec<api::Deploy> {
        let slots: Vec<Arc<Slot>> = {
            let slots = locked(&self.inner.slots);
            slots.range(..before.unwrap_or(u64::MAX)).rev().take(limit).map(|(_, slot)| slot.clone()).collect()
        };
        slots.iter().map(|slot| view::deploy(self, slot)).collect()
    }

    pub fn get(&self, id: &str) -> Result<api::Deploy, Problem> {
        Ok(view::deploy(self, &*self.slot(id)?))
    }

    /// What can be started, with what serves now.
    pub async fn pipelines(&self) -> Vec<api::Pipeline> {
        let described = self.inner.parts.files.iter().map(|file| view::pipeline(self, file));
        futures_util::future::join_all(described).await
    }

    /// Names of all pipelines that can be started, or were.
    pub fn pipelines_known(&self) -> BTreeSet<String> {
        let started = self.slots().into_iter().map(|slot| slot.story().head.file.name.clone());
        started.chain(self.inner.parts.files.iter().map(|file| file.name.clone())).collect()
    }

    pub fn count(&self, is_meant: impl Fn(&Story) -> bool) -> usize {
        self.slots().iter().filter(|slot| is_meant(&slot.story())).count()
    }

    /// Of the deploy that has waited at its gate for longest.
    pub fn longest_wait(&self) -> Duration {
        let now = jiff::Timestamp::now();
        let since = |slot: &Arc<Slot>| slot.story().waiting_since.as_ref()?.parse::<jiff::Timestamp>().ok();
        let waits = self.slots().iter().filter_map(since).map(|since| now.duration_since(since)).max();
        waits.and_then(|longest| Duration::try_from(longest).ok()).unwrap_or_default()
    }

    /// The deploy that is under way on this entry.
    pub fn holder(&self, namespace: &str, entry: &str) -> Option<u64> {
        let holds = |slot: &Arc<Slot>| {
            let story = slot.story();
            let same = story.head.namespace == namespace && story.deploy.plan.entry == entry;
            (same && story.deploy.holds_entry()).then(|| story.id())
        };
        self.slots().iter().find_map(holds)
    }

    /// States of the last deploys of a pipeline, oldest first.
    pub fn last(&self, pipeline: &str, count: usize) -> Vec<api::DeployState> {
        let states = self.slots().into_iter().rev().map(|slot| slot.story());
        let mut states: Vec<_> = states
            .filter(|story| story.head.file.name == pipeline)
            .take(count)
            .map(|story| view::state(&story))
            .collect();
        states.reverse();
        states
    }

    /// Versions that other deploys under way take for theirs.
    pub fn versions_in_flight(&self, except: u64) -> BTreeSet<String> {
        let stories = self.slots().into_iter().map(|slot| slot.story());
        stories
            .filter(|story| story.id() != except && !story.is_final())
            .flat_map(|story| [story.deploy.facts.new.clone(), story.deploy.facts.current.clone()])
            .flatten()
            .collect()
    }

    /// Versions that ended deploys should have taken away: those that were never to stay, and those
    /// that were replaced.
    pub fn left_behind(&self, service: &str) -> Vec<String> {
        let mut left: BTreeMap<String, bool> = BTreeMap::new();
        for story in self.slots().into_iter().map(|slot| slot.story()) {
            if story.deploy.plan.service != service || !story.is_final() {
                continue;
            }
            let succeeded = story.deploy.state() == State::Succeeded;
            let facts = &story.deploy.facts;
            if let Some(new) = &facts.new {
                left.insert(new.clone(), !succeeded);
            }
            if let Some(current) = facts.current.as_ref().filter(|_| succeeded) {
                left.insert(current.clone(), true);
            }
        }
        left.into_iter().filter_map(|(version, left)| left.then_some(version)).collect()
    }

    /// Whether this owner of a lease is a deploy of ours that is over.
    pub fn is_over(&self, owner: &str) -> bool {
        let mut stories = self.slots().into_iter().map(|slot| slot.story());
        stories.any(|story| !story.deploy.holds_entry() && story.owner(self.identity()) == owner)
    }

    /// Checks a request, writes the deploy into the journal, and starts it. Its id.
    pub async fn start(&self, request: api::StartDeploy) -> Result<String, Problem> {
        // A task of its own: whoever asked may go away in the middle, and half a start is none.
        let deploys = self.clone();
        let started = tokio::spawn(async move { deploys.begin(request).await });
        started.await.unwrap_or_else(|error| {
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the deploy was not started: {error}")))
        })
    }

    async fn begin(&self, request: api::StartDeploy) -> Result<String, Problem> {
        let file = self.inner.parts.files.iter().find(|file| file.name == request.pipeline).ok_or_else(|| {
            let known: Vec<&str> = self.inner.parts.files.iter().map(|file| file.name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Problem::field("pipeline", format!("there is no pipeline {:?}; there are: {known}", request.pipeline))
        })?;
        let planned = plan::plan(file, &request.parameters).map_err(|wrong| {
            Problem::field(plan::blame(file, &wrong.path), format!("{}: {}", wrong.path, wrong.message))
        })?;
        let actor = words("actor", request.actor.as_deref())?.unwrap_or_else(|| "-".to_owned());
        let note = words("reason", request.reason.as_deref())?;

        let _one_at_a_time = self.inner.starting.lock().await;
        let (namespace, entry) = (planned.namespace.clone(), planned.plan.entry.clone());
        self.check_conflicts(&namespace, &entry).await?;
        let id = locked(&self.inner.slots).last_key_value().map_or(1, |(last, _)| last + 1);
        let head = Head { id, file: file.clone(), parameters: planned.parameters, namespace, actor, note };
        let mut deploy = rollout::Deploy::new(planned.plan);
        let notes = deploy.take_notes();
        let step = Step { time: now(), deploy, notes };
        let inner = self.inner.clone();
        let written = tokio::task::spawn_blocking(move || {
            inner.parts.journal.begin(&head, &step).map(|pen| (pen, Story::begin(head, step)))
        });
        let written = written.await.map_err(|error| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the journal's thread broke: {error}"))
        })?;
        let (pen, story) = written.map_err(|error| Problem::journal(&error))?;
        self.supersede(&story).await;
        tracing::info!(deploy = id, pipeline = %story.head.file.name, actor = %story.head.actor, "started");
        self.insert(story, pen);
        Ok(id.to_string())
    }

    async fn check_conflicts(&self, namespace: &str, entry: &str) -> Result<(), Problem> {
        if let Some(holder) = self.holder(namespace, entry) {
            return Err(Problem::held(
                format!(
                    "deploy {holder} is under way on {entry} of {namespace}; wait until it is over, or abort it first"
                ),
                holder.to_string(),
            ));
        }
        // While the control plane is away a deploy may be started: it waits for it, and for the lease.
        let leases = match tokio::time::timeout(SOON, self.control().leases()).await {
            Ok(Ok(leases)) => leases,
            Ok(Err(Trouble::Lasting(why))) => {
                tracing::warn!(why, "cannot look at the leases");
                return Ok(());
            }
            Ok(Err(Trouble::Passing(_))) | Err(_) => return Ok(()),
        };
        let held = leases.into_iter().find(|lease| {
            lease.namespace == namespace && lease.entry == entry && lease.holds() && !self.is_over(&lease.owner)
        });
        match held {
            Some(lease) => {
                let text = format!("{}; wait until it is given back", effects::held(namespace, entry, &lease));
                Err(Problem::held(text, lease.owner))
            }
            None => Ok(()),
        }
    }

    /// Failed deploys on the same entry stop trying: the new one looks at what is there.
    async fn supersede(&self, story: &Story) {
        for slot in self.slots() {
            let failed = slot.story();
            let same =
                failed.head.namespace == story.head.namespace && failed.deploy.plan.entry == story.deploy.plan.entry;
            if same && failed.deploy.state() == State::Failed && !failed.is_final() {
                // It may have been mended this moment, which is as well.
                if let Err(problem) = slot.send(Event::Supersede { by: story.id().to_string() }).await {
                    tracing::info!(deploy = failed.id(), %problem, "was not handed over");
                }
            }
        }
    }

    /// Ok at a gate.
    pub async fn approve(&self, id: &str, decision: api::Decision) -> Result<api::Deploy, Problem> {
        let (actor, reason) = who(&decision)?;
        self.send(id, Event::Approve { actor, reason, stage: decision.stage }).await
    }

    pub async fn abort(&self, id: &str, decision: api::Decision) -> Result<api::Deploy, Problem> {
        let (actor, reason) = who(&decision)?;
        self.send(id, Event::Abort { actor, reason }).await
    }

    /// Tries a failed deploy again, now.
    pub async fn retry(&self, id: &str) -> Result<api::Deploy, Problem> {
        self.send(id, Event::Retry).await
    }

    async fn send(&self, id: &str, event: Event) -> Result<api::Deploy, Problem> {
        self.slot(id)?.send(event).await?;
        self.get(id)
    }
}

fn who(decision: &api::Decision) -> Result<(String, Option<String>), Problem> {
    let actor = words("actor", decision.actor.as_deref())?.unwrap_or_else(|| "-".to_owned());
    Ok((actor, words("reason", decision.reason.as_deref())?))
}

/// Something that a person wrote; nothing at all if there is nothing in it.
fn words(field: &str, text: Option<&str>) -> Result<Option<String>, Problem> {
    let text = text.unwrap_or_default().trim();
    if text.len() > LONGEST_WORDS || text.contains(|c: char| c.is_control() && c != '\n' && c != '\t') {
        return Err(Problem::field(
            field,
            format!("{field}: must have at most {LONGEST_WORDS} bytes, and no control characters"),
        ));
    }
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}
