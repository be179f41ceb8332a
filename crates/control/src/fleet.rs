//! The fleet: which routers follow which namespace, and the version that each serves.
//!
//! A router is live while its follow stream is. One that went away without a word counts as a laggard
//! until it has been silent for [`FORGOTTEN_AFTER`]; then it is forgotten: if it is alive but cut off,
//! it serves its last good trees and says so on its own page. One that says that it ends is forgotten
//! at once.
//!
//! The fleet is kept in the store, so that after a restart of the control plane the routers known
//! before count as silent from the start, and a wait does not succeed only because none of them has
//! come back yet. (A store in memory forgets them with the dtabs that they served.)

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{DtabStore, Version};
use tokio::sync::watch;

use crate::time;

/// How long a silent router counts: `forgottenAfterMs` in `GET /api/1/fleet`.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);

/// How often it is looked for routers to forget.
const TICK: Duration = Duration::from_millis(250);

/// Where the store keeps it.
const NOTE: &str = "fleet";

/// A router process's follow stream of one namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Follower {
    /// `host:pid`
    pub(crate) process: String,
    /// The router's label.
    pub(crate) router: String,
    pub(crate) namespace: String,
}

/// What is told of it besides.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct About {
    /// The stream's other end, `127.0.0.1:53422`.
    pub(crate) address: String,
    /// Base URL of the router's admin server.
    pub(crate) admin: Option<String>,
    /// When it first came, or came back after it was forgotten.
    pub(crate) since: Timestamp,
}

struct Member {
    about: About,
    /// The stream; `None` while it is silent.
    session: Option<u64>,
    last_word: Timestamp,
    heard: Instant,
    acknowledged: Option<Acknowledged>,
    waits_for: Vec<String>,
}

struct Acknowledged {
    /// `None`: that there is no dtab of this name.
    version: Option<Version>,
    at: Instant,
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    #[serde(flatten)]
    follower: Follower,
    address: String,
    admin: Option<String>,
    /// Milliseconds since 1970.
    since: i64,
}

/// A router that does not serve the version that was waited for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Laggard {
    router: String,
    process: String,
    /// What it serves.
    version: Option<String>,
    behind_ms: u64,
    last_word: String,
    state: &'static str,
    /// Names whose trees do not follow from the version yet; the first ten.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waits_for: Vec<String>,
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Fleet {
    shared: Arc<Shared>,
}

struct Shared {
    members: Mutex<BTreeMap<Follower, Member>>,
    /// Counts changes of anything.
    changed: watch::Sender<u64>,
    /// Counts changes of who is a member.
    membership: watch::Sender<u64>,
    sessions: AtomicU64,
}

impl Fleet {
    /// As it was kept: whoever was there before is silent from now on.
    pub(crate) async fn recall(store: &dyn DtabStore) -> Result<Fleet, store::Error> {
        let kept = store.recall(NOTE).await?.unwrap_or_else(|| "[]".to_owned());
        let kept: Vec<Remembered> = serde_json::from_str(&kept).unwrap_or_else(|error| {
            tracing::warn!(%error, "the fleet of before cannot be read; starting without it");
            Vec::new()
        });
        let silent = |remembered: Remembered| {
            let member = Member {
                about: About {
                    address: remembered.address,
                    admin: remembered.admin,
                    since: Timestamp::from_millisecond(remembered.since).unwrap_or_else(|_| Timestamp::now()),
                },
                session: None,
                last_word: Timestamp::now(),
                heard: Instant::now(),
                acknowledged: None,
                waits_for: Vec::new(),
            };
            (remembered.follower, member)
        };
        let shared = Shared {
            members: Mutex::new(kept.into_iter().map(silent).collect()),
            changed: watch::Sender::new(0),
            membership: watch::Sender::new(0),
            sessions: AtomicU64::new(0),
        };
        Ok(Fleet { shared: Arc::new(shared) })
    }

    /// Forgets and keeps, for as long as the server runs.
    pub(crate) async fn run(self, store: Arc<dyn DtabStore>) {
        let mut membership = self.shared.membership.subscribe();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.forget_silent(),
                changed = membership.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let text = self.kept();
                    if let Err(error) = store.remember(NOTE, text).await {
                        tracing::warn!(%error, "cannot keep the fleet for after a restart");
                    }
                }
            }
        }
    }

    fn kept(&self) -> String {
        let members = self.members();
        let kept = members.iter().map(|(follower, member)| Remembered {
            follower: follower.clone(),
            address: member.about.address.clone(),
            admin: member.about.admin.clone(),
            since: member.about.since.as_millisecond(),
        });
        naming::json::text(&kept.collect::<Vec<_>>())
    }

    fn forget_silent(&self) {
        let mut members = self.members();
        let before = members.len();
        members.retain(|follower, member| {
            let keep = member.session.is_some() || member.heard.elapsed() < FORGOTTEN_AFTER;
            if !keep {
                tracing::warn!(
                    process = follower.process,
                    router = follower.router,
                    namespace = follower.namespace,
                    "forgetting a router that went away"
                );
            }
            keep
        });
        let forgot = members.len() != before;
        drop(members);
        if forgot {
            self.membership_changed();
        }
    }

    /// A follow stream begins.
    pub(crate) fn join(&self, follower: Follower, address: String, admin: Option<String>) -> Membership {
        let session = self.shared.sessions.fetch_add(1, Ordering::Relaxed);
        let mut members = self.members();
        let since = members.get(&follower).map_or_else(Timestamp::now, |member| member.about.since);
        let member = Member {
            about: About { address, admin, since },
            session: Some(session),
            last_word: Timestamp::now(),
            heard: Instant::now(),
            acknowledged: None,
            waits_for: Vec::new(),
        };
        members.insert(follower.clone(), member);
        drop(members);
        self.membership_changed();
        Membership { fleet: self.clone(), follower, session }
    }

    /// Waits until each router that counts serves `version` of the namespace, or a newer one: how many
    /// live ones that are. After `within`: those that do not.
    pub(crate) async fn wait(
        &self,
        namespace: &str,
        version: Version,
        within: Duration,
    ) -> Result<usize, Vec<Laggard>> {
        let start = Instant::now();
        let mut changed = self.shared.changed.subscribe();
        let deadline = tokio::time::sleep(within);
        tokio::pin!(deadline);
        loop {
            changed.borrow_and_update();
            if let Some(routers) = self.all_serve(namespace, version) {
                return Ok(routers);
            }
            tokio::select! {
                _ = changed.changed() => {}
                () = &mut deadline => {
                    return self.all_serve(namespace, version).ok_or_else(|| self.laggards(namespace, version, start));
                }
            }
        }
    }

    /// How many live routers there are, if all that count serve the version.
    fn all_serve(&self, namespace: &str, version: Version) -> Option<usize> {
        let members = self.members();
        let mut of_namespace = members.iter().filter(|(follower, _)| follower.namespace == namespace);
        of_namespace.try_fold(0, |count, (_, member)| (!member.is_behind(version)).then_some(count + 1))
    }

    fn laggards(&self, namespace: &str, version: Version, since: Instant) -> Vec<Laggard> {
        let members = self.members();
        let of_namespace = members.iter().filter(|(follower, _)| follower.namespace == namespace);
        let behind = of_namespace.filter(|(_, member)| member.is_behind(version));
        behind
            .map(|(follower, member)| Laggard {
                router: follower.router.clone(),
                process: follower.process.clone(),
                version: member.served(),
                behind_ms: millis(since.elapsed()),
                last_word: time::show(member.last_word),
                state: member.state(),
                waits_for: member.waits_for.clone(),
            })
            .collect()
    }

    /// What `GET /api/1/fleet` answers.
    pub(crate) fn document(&self, store: &dyn DtabStore) -> Value {
        let members = self.members();
        let now = Timestamp::now();
        let mut current: BTreeMap<String, Option<(Version, Timestamp)>> = BTreeMap::new();
        let existing: BTreeSet<String> = store.names().borrow().iter().map(|name| name.to_string()).collect();
        for namespace in existing.into_iter().chain(members.keys().map(|follower| follower.namespace.clone())) {
            let revision = store.observe(&namespace).borrow().clone();
            current.insert(namespace, revision.map(|revision| (revision.version, revision.time)));
        }
        let mut routers: Vec<Value> = Vec::new();
        let mut last: Option<(&str, &str)> = None;
        for (follower, member) in members.iter() {
            let wanted = current.get(&follower.namespace).copied().flatten();
            let acknowledged = member.acknowledged.as_ref();
            let is_current =
                acknowledged.is_some_and(|acknowledged| acknowledged.version == wanted.map(|(version, _)| version));
            let behind = wanted.map_or(member.about.since, |(_, time)| time).max(member.about.since);
            let of_namespace = json!({
                "version": member.served(),
                "current": is_current,
                "ageMs": acknowledged.map(|acknowledged| millis(acknowledged.at.elapsed())),
                "behindMs": (!is_current).then(|| now.duration_since(behind).as_millis().max(0) as u64),
                "waitsFor": member.waits_for,
            });
            let key = (follower.process.as_str(), follower.router.as_str());
            match routers.last_mut().filter(|_| last == Some(key)) {
                Some(router) => router["namespaces"][&follower.namespace] = of_namespace,
                None => routers.push(json!({
                    "router": follower.router,
                    "process": follower.process,
                    "address": member.about.address,
                    "admin": member.about.admin,
                    "since": time::show(member.about.since),
                    "lastWord": time::show(member.last_word),
                    "state": member.state(),
                    "namespaces": { &follower.namespace: of_namespace },
                })),
            }
            last = Some(key);
        }
        let namespaces: BTreeMap<_, _> = current
            .into_iter()
            .map(|(name, at)| (name, json!({ "version": at.map(|(version, _)| version.to_string()) })))
            .collect();
        json!({
            "routers": routers,
            "namespaces": namespaces,
            "forgottenAfterMs": millis(FORGOTTEN_AFTER),
        })
    }

    /// Changes whenever something of the fleet does.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    fn membership_changed(&self) {
        self.shared.membership.send_modify(|count| *count += 1);
        self.changed();
    }

    fn changed(&self) {
        self.shared.changed.send_modify(|count| *count += 1);
    }

    /// Each change to the members is one step: a panic elsewhere leaves them whole.
    fn members(&self) -> MutexGuard<'_, BTreeMap<Follower, Member>> {
        self.shared.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    /// Whether it does not serve this version or a newer one, or that is not known any more.
    fn is_behind(&self, version: Version) -> bool {
        let serves = self.acknowledged.as_ref().and_then(|acknowledged| acknowledged.version);
        self.session.is_none() || serves < Some(version)
    }

    fn served(&self) -> Option<String> {
        Some(self.acknowledged.as_ref()?.version?.to_string())
    }

    fn state(&self) -> &'static str {
        if self.session.is_some() { "live" } else { "silent" }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A follow stream's place in the fleet. When it is dropped the router is silent.
pub(crate) struct Membership {
    fleet: Fleet,
    follower: Follower,
    session: u64,
}

/// Whether there was news in a change.
#[derive(PartialEq, Eq)]
enum News {
    Some,
    None,
}

impl Membership {
    /// The router said something.
    pub(crate) fn word(&self) {
        self.change(|_| News::None);
    }

    /// The router serves this version.
    pub(crate) fn acknowledge(&self, version: Option<Version>) {
        self.change(|member| {
            member.acknowledged = Some(Acknowledged { version, at: Instant::now() });
            member.waits_for.clear();
            News::Some
        });
    }

    /// Names that keep the router from the newest version.
    pub(crate) fn waits_for(&self, names: Vec<String>) {
        self.change(|member| {
            let news = member.waits_for != names;
            member.waits_for = names;
            if news { News::Some } else { News::None }
        });
    }

    /// The router ends.
    pub(crate) fn leave(self) {
        let mut members = self.fleet.members();
        if members.get(&self.follower).is_some_and(|member| member.session == Some(self.session)) {
            members.remove(&self.follower);
        }
        drop(members);
        self.fleet.membership_changed();
    }

    fn change(&self, change: impl FnOnce(&mut Member) -> News) {
        let mut members = self.fleet.members();
        // A newer stream of the same router may have taken the place.
        let member = members.get_mut(&self.follower).filter(|member| member.session == Some(self.session));
        let Some(member) = member else { return };
        member.last_word = Timestamp::now();
        member.heard = Instant::now();
        let news = change(member);
        drop(members);
        if news == News::Some {
            self.fleet.changed();
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut members = self.fleet.members();
        match members.get_mut(&self.follower).filter(|member| member.session == Some(self.session)) {
            Some(member) => member.session = None,
            None => return,
        }
        drop(members);
        self.fleet.changed();
    }
}
