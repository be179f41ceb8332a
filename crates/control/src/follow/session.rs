//! One follow stream, on the side of the control plane.

use std::{collections::HashMap, pin::Pin, sync::Arc, time::Instant};

use axum::body::BodyDataStream;
use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::{AbortHandle, Aborted, abortable},
    stream::FuturesUnordered,
};
use names::{Dtab, NameTree, Path};
use naming::{Addr, BoundTree, Live, State};
use store::Version;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{
    KEEP_ALIVE, SILENCE, STUCK,
    lines::{Lines, Outbox},
    wire::{Bind, FromControl, FromRouter, Tree, WireAddr},
};
use crate::{
    Control,
    fleet::Membership,
    metrics::Metrics,
    spaces::{Known, Space},
};

/// Names on one stream.
const MOST_NAMES: usize = 100_000;

/// How many of the names that keep a version back are told.
const TOLD: usize = 10;

/// Waits for the next change of a watched value and gives it back with its key.
type Change<K, T> = Pin<Box<dyn Future<Output = Result<(K, T), Aborted>> + Send>>;

/// A name's tree, and the dtab that it follows from.
struct Trees {
    tree: Live<BoundTree>,
    under: Live<Dtab>,
}

struct Name {
    path: Path,
    /// Stops watching it.
    watch: AbortHandle,
    /// The dtab that it followed from when it was last looked at.
    under: Option<Dtab>,
    /// The router has a tree: of this stream or an earlier one.
    bound: bool,
    /// There is no tree now; a router that has one of an earlier stream keeps it.
    fails: bool,
    /// The tree that was sent last leads here.
    leads_to: Vec<Path>,
    /// What was sent last; not sent again.
    sent: Option<State<BoundTree>>,
}

/// The addresses of a bound id.
struct Cluster {
    source: u64,
    watch: AbortHandle,
    /// Trees that lead here.
    trees: usize,
}

pub(crate) struct Session {
    metrics: Arc<crate::control::Inner>,
    space: Arc<Space>,
    known: Live<Known>,
    membership: Option<Membership>,
    outbox: Outbox,
    closing: CancellationToken,
    names: HashMap<u64, Name>,
    tree_changes: FuturesUnordered<Change<u64, Trees>>,
    clusters: HashMap<Path, Cluster>,
    addr_changes: FuturesUnordered<Change<Path, Live<Addr>>>,
    /// What is to be told next.
    target: Known,
    /// The dtab of the version that was told last.
    told: Option<Known>,
    /// Names with a tree that does not follow from the target yet.
    behind: usize,
    ready: bool,
    heard: Instant,
}

/// Why a stream ends.
enum End {
    /// The router said so, or its connection ended.
    Router(&'static str),
    /// It did what it must not: told to it.
    Refused(String),
    Closing,
}

impl Session {
    pub(super) fn new(control: &Control, namespace: &str, membership: Membership, outbox: Outbox) -> Session {
        let space = control.space(namespace);
        let mut known = space.known.clone();
        let target = target(&mut known);
        Session {
            metrics: control.inner.clone(),
            known,
            space,
            membership: Some(membership),
            outbox,
            closing: control.inner.closing.clone(),
            names: HashMap::new(),
            tree_changes: FuturesUnordered::new(),
            clusters: HashMap::new(),
            addr_changes: FuturesUnordered::new(),
            target,
            told: None,
            behind: 0,
            ready: false,
            heard: Instant::now(),
        }
    }

    pub(super) async fn run(mut self, body: BodyDataStream) {
        let mut lines = Lines::new(body);
        self.outbox.put(&FromControl::Hello { keep_alive_ms: KEEP_ALIVE.as_millis() as u64 });
        match self.serve(&mut lines).await {
            End::Router(why) => tracing::debug!(why, "a follow stream ended"),
            End::Refused(why) => {
                tracing::warn!(why, "ending a follow stream");
                self.outbox.put(&FromControl::Refused(why));
                // Who does not read it learns from the end of the stream.
                let _ = tokio::time::timeout(KEEP_ALIVE, self.outbox.send()).await;
            }
            End::Closing => {}
        }
    }

    async fn serve(&mut self, lines: &mut Lines<BodyDataStream>) -> End {
        let mut ticks = tokio::time::interval(KEEP_ALIVE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let gone = self.outbox.closed();
        tokio::pin!(gone);
        let closing = self.closing.clone();
        loop {
            let has_room = self.outbox.has_room();
            tokio::select! {
                () = closing.cancelled() => return End::Closing,
                () = &mut gone => return End::Router("it does not read any more"),
                line = lines.next() => match line {
                    Ok(Some(line)) => {
                        self.heard = Instant::now();
                        if let Some(end) = self.hear(&line) {
                            return end;
                        }
                        // Lines that came together are taken together.
                        while let Ok(Some(line)) = lines.buffered() {
                            if let Some(end) = self.hear(&line) {
                                return end;
                            }
                        }
                    }
                    Ok(None) => return End::Router("it ended its stream"),
                    Err(super::lines::Broken::TooLong) => return End::Refused("a line is too long".to_owned()),
                    Err(super::lines::Broken::Stream(_)) => return End::Router("its connection broke"),
                },
                sent = self.outbox.send(), if !self.outbox.is_empty() => if sent.is_err() {
                    return End::Router("it does not read any more");
                },
                () = self.known.next_change() => self.aim(),
                Some(change) = self.tree_changes.next(), if has_room => self.tree_changed(change),
                Some(change) = self.addr_changes.next(), if has_room => self.addr_changed(change),
                _ = ticks.tick() => {
                    if self.heard.elapsed() > SILENCE {
                        return End::Router("nothing heard for five seconds");
                    }
                    if self.outbox.stuck_since().is_some_and(|since| since.elapsed() > STUCK) {
                        return End::Router("it has not read for fifteen seconds");
                    }
                    self.outbox.keep_alive();
                    self.tell_what_waits();
                }
            }
            self.tell_version();
        }
    }

    fn hear(&mut self, line: &Bytes) -> Option<End> {
        let membership = self.membership.as_ref()?;
        if line.is_empty() {
            membership.word();
            return None;
        }
        let message = match serde_json::from_slice::<FromRouter>(line) {
            Ok(message) => message,
            Err(error) => return Some(End::Refused(format!("a line that cannot be read: {error}"))),
        };
        match message {
            FromRouter::Bind(bind) => return self.bind(bind).err().map(End::Refused),
            FromRouter::Unbind(id) => self.unbind(id),
            FromRouter::Ready => self.ready = true,
            FromRouter::Ack(text) => {
                let version = match text.as_deref().map(Version::decode) {
                    None => None,
                    Some(Ok(Some(version))) => Some(version),
                    Some(_) => return Some(End::Refused("an acknowledged version that there is not".to_owned())),
                };
                // What was not told cannot be served.
                if self.told.as_ref().is_some_and(|told| told.version >= version) {
                    membership.acknowledge(version);
                } else {
                    return Some(End::Refused("it acknowledges a version that it was not told".to_owned()));
                }
            }
            FromRouter::Bye => {
                if let Some(membership) = self.membership.take() {
                    membership.leave();
                }
                return Some(End::Router("it said goodbye"));
            }
        }
        None
    }

    fn bind(&mut self, bind: Bind) -> Result<(), String> {
        if self.names.len() >= MOST_NAMES {
            return Err(format!("more than {MOST_NAMES} names on one stream"));
        }
        if self.names.contains_key(&bind.id) {
            return Err(format!("id {} is in use", bind.id));
        }
        let path = Path::read(&bind.path).map_err(|error| format!("path {}: {error}", bind.path))?;
        let dtab = Dtab::read(&bind.dtab).map_err(|error| format!("dtab {}: {error}", bind.dtab))?;
        let (tree, under) = self.space.interpreter.bind_under(&dtab, &path);
        let mut trees = Trees { tree, under };
        // Looked at once in any case; afterwards only when it changes.
        let (changed, watch) = abortable(async move {
            trees.settled().await;
            (bind.id, trees)
        });
        self.tree_changes.push(Box::pin(changed));
        let name = Name { path, watch, under: None, bound: bind.held, fails: false, leads_to: Vec::new(), sent: None };
        self.names.insert(bind.id, name);
        // A tree of an earlier stream follows from nobody knows what.
        self.behind += usize::from(bind.held);
        Ok(())
    }

    fn unbind(&mut self, id: u64) {
        let Some(name) = self.names.remove(&id) else { return };
        name.watch.abort();
        self.behind -= usize::from(name.is_behind(&self.target));
        self.release(name.leads_to);
    }

    /// A tree, or the dtab that it follows from, has changed.
    fn tree_changed(&mut self, change: Result<(u64, Trees), Aborted>) {
        let Ok((id, mut trees)) = change else { return };
        // In this order: the tree is then at least as new as the dtab says, and the target is, too.
        let under = trees.under.take().ok();
        let state = trees.tree.take();
        if self.known.has_changed() {
            self.aim();
        }
        let Some(name) = self.names.get_mut(&id) else { return };
        let was_behind = name.is_behind(&self.target);
        name.under = under;
        name.fails = matches!(state, State::Failed(_));
        let (changed, watch) = abortable(async move {
            trees.changed().await;
            (id, trees)
        });
        self.tree_changes.push(Box::pin(changed));
        name.watch = watch;
        // A tree that follows from something older than what was told must not replace, or be, one that does not.
        let follows = |known: &Known| name.under.as_ref().is_some_and(|under| under.is_same(&known.dtab));
        let is_fresh = follows(&self.target) || self.told.as_ref().is_none_or(follows);
        let is_news = name.sent.as_ref().is_none_or(|sent| !naming::is_same(sent, &state));
        if is_fresh && is_news {
            match &state {
                State::Pending => {}
                State::Ok(tree) => {
                    name.bound = true;
                    let left = std::mem::replace(&mut name.leads_to, leaf_ids(tree));
                    name.sent = Some(state.clone());
                    self.send_tree(id, tree, left);
                }
                State::Failed(why) => {
                    // Only before its first tree: later ones are kept.
                    name.sent = Some(state.clone());
                    self.outbox.put(&FromControl::Failed { id, why: why.to_string() });
                }
            }
        }
        if let Some(name) = self.names.get(&id) {
            let is_behind = name.is_behind(&self.target);
            self.behind = self.behind + usize::from(is_behind) - usize::from(was_behind);
        }
    }

    /// New addresses, the tree, and what is not led to any more.
    fn send_tree(&mut self, id: u64, tree: &BoundTree, left: Vec<Path>) {
        let mut leaves = Vec::new();
        leaves_of(tree, &mut leaves);
        for (bound_id, addr) in leaves {
            self.lead_to(bound_id, addr);
        }
        self.metrics().follow_trees.inc();
        self.outbox.put(&FromControl::Tree { id, tree: Tree::of(tree) });
        self.release(left);
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics.metrics
    }

    /// Watches the addresses of a bound id; sends them where they come from a source that is new.
    fn lead_to(&mut self, id: Path, addr: Live<Addr>) {
        let source = addr.id();
        match self.clusters.get_mut(&id) {
            Some(cluster) => {
                cluster.trees += 1;
                if cluster.source == source {
                    return;
                }
                cluster.watch.abort();
                cluster.source = source;
                let watch = self.watch_addr(id.clone(), addr);
                if let Some(cluster) = self.clusters.get_mut(&id) {
                    cluster.watch = watch;
                }
            }
            None => {
                let watch = self.watch_addr(id.clone(), addr);
                self.clusters.insert(id, Cluster { source, watch, trees: 1 });
            }
        }
    }

    fn watch_addr(&mut self, id: Path, mut addr: Live<Addr>) -> AbortHandle {
        self.send_addr(&id, &mut addr);
        self.next_addr(id, addr)
    }

    fn next_addr(&mut self, id: Path, mut addr: Live<Addr>) -> AbortHandle {
        let (changed, watch) = abortable(async move {
            addr.next_change().await;
            (id, addr)
        });
        self.addr_changes.push(Box::pin(changed));
        watch
    }

    fn send_addr(&mut self, id: &Path, addr: &mut Live<Addr>) {
        let state = addr.take();
        // Pending is what a router takes an id for of which it was told nothing.
        if state != State::Pending {
            self.metrics().follow_addrs.inc();
            self.outbox.put(&FromControl::Addr { id: id.show(), addr: WireAddr::of(&state) });
        }
    }

    fn addr_changed(&mut self, change: Result<(Path, Live<Addr>), Aborted>) {
        let Ok((id, mut addr)) = change else { return };
        if self.clusters.get(&id).is_none_or(|cluster| cluster.source != addr.id()) {
            return;
        }
        self.send_addr(&id, &mut addr);
        let watch = self.next_addr(id.clone(), addr);
        if let Some(cluster) = self.clusters.get_mut(&id) {
            cluster.watch = watch;
        }
    }

    fn release(&mut self, ids: Vec<Path>) {
        for id in ids {
            let Some(cluster) = self.clusters.get_mut(&id) else { continue };
            cluster.trees -= 1;
            if cluster.trees == 0 {
                cluster.watch.abort();
                self.clusters.remove(&id);
                self.outbox.put(&FromControl::Drop(id.show()));
            }
        }
    }

    /// The dtab has changed.
    fn aim(&mut self) {
        let target = target(&mut self.known);
        let same_dtab = target.dtab.is_same(&self.target.dtab);
        self.target = target;
        if !same_dtab {
            self.behind = self.names.values().filter(|name| name.is_behind(&self.target)).count();
        }
    }

    fn tell_version(&mut self) {
        if !self.ready || self.behind > 0 || self.told.as_ref() == Some(&self.target) {
            return;
        }
        self.outbox.put(&FromControl::Version(self.target.version.map(|version| version.to_string())));
        self.told = Some(self.target.clone());
    }

    /// For the fleet: which names keep the version back.
    fn tell_what_waits(&self) {
        let Some(membership) = &self.membership else { return };
        let mut names: Vec<String> = if self.behind == 0 {
            Vec::new()
        } else {
            let behind = self.names.values().filter(|name| name.is_behind(&self.target));
            behind.take(TOLD).map(|name| name.path.show()).collect()
        };
        names.sort();
        membership.waits_for(names);
    }
}

impl Name {
    /// Whether the router serves a tree that does not follow from `target`.
    fn is_behind(&self, target: &Known) -> bool {
        let follows = self.under.as_ref().is_some_and(|under| under.is_same(&target.dtab));
        self.bound && (self.fails || !follows)
    }
}

impl Trees {
    /// Until there is something to look at.
    async fn settled(&mut self) {
        self.tree.settled().await;
    }

    async fn changed(&mut self) {
        tokio::select! {
            () = self.tree.next_change() => {}
            () = self.under.next_change() => {}
        }
    }
}

/// What the store holds now.
fn target(known: &mut Live<Known>) -> Known {
    known.take().ok().unwrap_or_else(|| Known { version: None, dtab: Dtab::empty() })
}

fn leaf_ids(tree: &BoundTree) -> Vec<Path> {
    let mut leaves = Vec::new();
    leaves_of(tree, &mut leaves);
    leaves.into_iter().map(|(id, _)| id).collect()
}

fn leaves_of(tree: &BoundTree, into: &mut Vec<(Path, Live<Addr>)>) {
    match tree {
        NameTree::Leaf(bound) => into.push((bound.id.clone(), bound.addr.clone())),
        NameTree::Alt(trees) => trees.iter().for_each(|tree| leaves_of(tree, into)),
        NameTree::Union(branches) => branches.iter().for_each(|branch| leaves_of(&branch.tree, into)),
        NameTree::Neg | NameTree::Fail | NameTree::Empty => {}
    }
}
