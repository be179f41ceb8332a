//! Where paths and cells meet. The threads that count never wait for those that read: a shard sends what it
//! registers (a path and its cell) and what it prunes, and whoever reads next, or the control thread, puts it in its
//! place first.
//!
//! ```text
//!  worker ──(path, cell)──▶ channel ──settle──▶ groups of its shard: rt/out/service/web ──▶ failures, requests, …
//!                                                                    rt/out/service/web/retries ──▶ budget, …
//! ```
//! A router has some hundred series for each name that it knows, in some fifteen groups, so a group's path is there
//! once, and of a series only the last element, which all that are called alike share. (When workers looked for the
//! place themselves, they waited for scrapes: on a busy machine for many milliseconds, because a scrape that holds a
//! lock is put aside like any other thread.)
//!
//! Life of a series: resolved → counted → its handles dropped (a counter's value is folded into the
//! series, a gauge disappears) → [`Registry::prune`]d with its subtree.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::entry::{Entry, Source};
use crate::group::Group;
use crate::handle::{Counter, Gauge, SharedCounter, Stat};
use crate::histogram::{Reading, Recorder, Summary};
use crate::snapshot::{Snapshot, Value};

/// The element that stands for all children of a scope that came after the limit was reached.
pub const OVERFLOW: &str = "overflow";
const OVERFLOWED: [&str; 2] = ["telemetry", "overflowed"];
/// With so many changes that have no place yet the control thread is woken.
const CROWDED: usize = 8_192;
/// With so many a shard settles them itself: the control thread does not keep up, and memory has bounds.
const OVERFULL: usize = 262_144;
/// Below this it is not worth while to look for leaves that nobody has any more.
const FEW_LEAVES: usize = 1024;

/// Bounds, so that a stranger who invents names cannot fill the memory.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Children of one scope; later ones share the child [`OVERFLOW`].
    pub children: usize,
    /// Length of a histogram's window. Before the first window ends the running one is shown (the
    /// original shows nothing for a minute); later the last whole window is.
    pub window: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { children: 10_000, window: Duration::from_secs(60) }
    }
}

/// All metrics of a process. Clones share.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    limits: Limits,
    state: Mutex<State>,
    /// Changes that shards sent and nobody has settled.
    pending: AtomicUsize,
    crowded: Notify,
    /// Names that were resolved as [`OVERFLOW`].
    overflowed: AtomicU64,
    windows: Mutex<Windows>,
}

/// For those who read, and for parts that are not hot. No worker waits for it.
#[derive(Default)]
struct State {
    stores: Vec<Store>,
    names: Names,
}

/// What one shard registered: groups by the path above their series, empty for paths of one element.
struct Store {
    groups: BTreeMap<Key, Group>,
    changes: Receiver<Change>,
}

/// What a shard tells.
enum Change {
    Series(Key, Source),
    Prune(Key),
}

/// Elements joined by NUL, which no element contains: sorts and prunes by prefix.
pub(crate) type Key = Box<str>;
pub(crate) const SEPARATOR: char = '\0';

/// Which names there are, in all shards.
#[derive(Default)]
struct Names {
    children: BTreeMap<Key, Children>,
    /// Last elements of paths, which groups share.
    leaves: HashSet<Arc<str>>,
    /// With so many leaves those are forgotten that no group has any more.
    look_at: usize,
}

/// The children that a scope has, by the hashes of their elements, sorted: so many scopes have so few that
/// nothing larger pays. That two of one scope share a hash is as good as impossible, and would cost a place.
type Children = Vec<u64>;

/// Of this process: a stranger who chooses names must not choose hashes.
fn hash(element: &str) -> u64 {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    KEYS.hash_one(element)
}

#[derive(Default)]
struct Windows {
    started: Option<Duration>,
    states: BTreeMap<Key, Window>,
}

#[derive(Default)]
struct Window {
    at_start: Reading,
    last: Option<Summary>,
}

/// One thread's door to the registry.
#[derive(Clone)]
pub struct Shard {
    registry: Registry,
    changes: Sender<Change>,
}

impl Default for Registry {
    fn default() -> Registry {
        Registry::new(Limits::default())
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Registry").field("limits", &self.inner.limits).finish_non_exhaustive()
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shard").finish_non_exhaustive()
    }
}

impl Registry {
    pub fn new(limits: Limits) -> Registry {
        let inner = Inner {
            limits,
            state: Mutex::default(),
            pending: AtomicUsize::new(0),
            crowded: Notify::new(),
            overflowed: AtomicU64::new(0),
            windows: Mutex::default(),
        };
        let registry = Registry { inner: Arc::new(inner) };
        // For series of no thread in particular.
        drop(registry.shard());
        registry
    }

    /// A new shard: one per thread.
    pub fn shard(&self) -> Shard {
        let (sender, changes) = channel();
        locked(&self.inner.state).stores.push(Store { groups: BTreeMap::new(), changes });
        Shard { registry: self.clone(), changes: sender }
    }

    /// A counter with several writers, for parts that are not hot.
    pub fn shared_counter(&self, path: &[&str]) -> SharedCounter {
        let cell = Arc::<AtomicU64>::default();
        self.add(path, Source::Counter(Arc::clone(&cell)));
        SharedCounter::new(cell)
    }

    /// A gauge that is computed when it is read; it stays until it is pruned. The closure must not use
    /// the registry.
    pub fn gauge_with(&self, path: &[&str], read: impl Fn() -> f64 + Send + Sync + 'static) {
        self.add(path, Source::Closure(Arc::new(read)));
    }

    /// Removes the subtree unless a handle in it is still alive in any thread: whoever drops the last
    /// handles and prunes then removes it all. Returns whether it is gone.
    pub fn prune(&self, prefix: &[&str]) -> bool {
        let mut state = self.settled();
        self.prune_in(&mut state, &key_of(prefix))
    }

    fn prune_in(&self, state: &mut State, key: &str) -> bool {
        let (above, last) = split(key);
        let alive = state.stores.iter_mut().any(|Store { groups, .. }| {
            groups.get_mut(above).and_then(|group| group.get_mut(last)).is_some_and(Entry::is_held)
                || subtree(groups, key).any(|(_, group)| group.is_held())
        });
        if alive {
            return false;
        }
        for Store { groups, .. } in &mut state.stores {
            if let Some(group) = groups.get_mut(above) {
                group.remove(last);
                if group.is_empty() {
                    groups.remove(above);
                }
            }
            remove(groups, key);
        }
        remove(&mut locked(&self.inner.windows).states, key);
        let children = &mut state.names.children;
        remove(children, key);
        if !key.is_empty()
            && let Some(siblings) = children.get_mut(above)
            && let Ok(place) = siblings.binary_search(&hash(last))
        {
            siblings.remove(place);
        }
        true
    }

    /// Puts what shards have sent in its place. The control thread calls this when [`Registry::crowded`] says so;
    /// whoever reads does it, too.
    pub fn settle(&self) {
        drop(self.settled());
    }

    /// Until so much was sent that it should be [settled](Registry::settle).
    pub async fn crowded(&self) {
        self.inner.crowded.notified().await;
    }

    fn settled(&self) -> MutexGuard<'_, State> {
        let mut guard = locked(&self.inner.state);
        let State { stores, names } = &mut *guard;
        let mut pruned = Vec::new();
        for store in stores.iter_mut() {
            while let Ok(change) = store.changes.try_recv() {
                self.inner.pending.fetch_sub(1, Ordering::Relaxed);
                match change {
                    Change::Series(path, source) => self.place(names, &mut store.groups, &path, source),
                    Change::Prune(path) => pruned.push(path),
                }
            }
        }
        // Behind all series: of two shards it is not known who was first, and whatever has a handle stays.
        for path in pruned {
            self.prune_in(&mut guard, &path);
        }
        guard
    }

    /// Ends the window if it is over. The control thread calls this every few seconds; `now` is any
    /// monotonic clock.
    pub fn tick(&self, now: Duration) {
        let started = *locked(&self.inner.windows).started.get_or_insert(now);
        if now.saturating_sub(started) >= self.inner.limits.window {
            self.end_window();
            locked(&self.inner.windows).started = Some(now);
        }
    }

    /// Ends the window now.
    pub fn end_window(&self) {
        // Held to the end: nothing is pruned whose window would then be left.
        let mut state = self.settled();
        for (key, entry) in state.merged(|_| true, |_, _, entry| entry.is_histogram()) {
            // Without a window it is shown whole, which is nothing either.
            let Some(reading) = entry.reading().filter(|reading| !reading.is_empty()) else { continue };
            let mut windows = locked(&self.inner.windows);
            let window = windows.states.entry(key).or_default();
            window.last = Some(reading.since(&window.at_start).summary());
            window.at_start = reading;
        }
    }

    /// How often a name was resolved that came too late for a series of its own, and shares [`OVERFLOW`]. Once
    /// there are any, snapshots show it as `telemetry/overflowed`.
    pub fn overflowed(&self) -> u64 {
        self.settle();
        self.inner.overflowed.load(Ordering::Relaxed)
    }

    pub fn snapshot(&self) -> Snapshot {
        self.snapshot_of(|_, _, _| true)
    }

    /// Of the series whose path, element by element, is wanted.
    pub fn snapshot_matching(&self, wanted: impl Fn(std::str::Split<'_, char>) -> bool) -> Snapshot {
        self.snapshot_of(|above, last, _| wanted(joined(above, last).split(SEPARATOR)))
    }

    /// Without histograms, for who reads these by themselves.
    pub(crate) fn snapshot_of_levels(&self) -> Snapshot {
        self.snapshot_of(|_, _, entry| !entry.is_histogram())
    }

    fn snapshot_of(&self, wanted: impl Fn(&str, &str, &Entry) -> bool) -> Snapshot {
        let (mut values, mut totals) = (BTreeMap::new(), BTreeMap::new());
        for (key, entry) in self.merged(|_| true, wanted) {
            if let Some(reading) = entry.reading() {
                totals.insert(key.clone(), reading.total());
                // Not held from one to the next: a worker that prunes waits for it.
                let summary = match locked(&self.inner.windows).states.get(&key) {
                    Some(Window { last: Some(last), .. }) => *last,
                    Some(window) => reading.since(&window.at_start).summary(),
                    None => reading.since(&Reading::default()).summary(),
                };
                values.insert(key, Value::Stat(summary));
            } else if let Some(count) = entry.counted() {
                values.insert(key, Value::Counter(count));
            } else if entry.has_gauges() {
                values.insert(key, Value::Gauge(entry.level()));
            }
        }
        let overflowed = self.inner.overflowed.load(Ordering::Relaxed);
        if overflowed > 0 {
            values.insert(key_of(&OVERFLOWED), Value::Counter(overflowed));
        }
        Snapshot::new(values, totals)
    }

    /// Total readings of all histograms since they began.
    pub(crate) fn readings(&self) -> BTreeMap<Key, Reading> {
        self.merged(|_| true, |_, _, entry| entry.is_histogram())
            .into_iter()
            .filter_map(|(key, entry)| Some((key, entry.reading()?)))
            .collect()
    }

    /// One entry per path that is `wanted` (asked with the path above, the last element and a shard's entry), of the
    /// groups whose path is: counts are summed, pointers collected.
    pub(crate) fn merged(
        &self,
        groups_wanted: impl Fn(&str) -> bool,
        wanted: impl Fn(&str, &str, &Entry) -> bool,
    ) -> BTreeMap<Key, Entry> {
        self.settled().merged(groups_wanted, wanted)
    }

    /// Adds a series of no thread in particular.
    fn add(&self, path: &[&str], source: Source) {
        let mut state = self.settled();
        let State { stores, names } = &mut *state;
        if let Some(store) = stores.first_mut() {
            self.place(names, &mut store.groups, &key_of(path), source);
        }
    }

    fn place(&self, names: &mut Names, groups: &mut BTreeMap<Key, Group>, path: &str, source: Source) {
        let (above, last) = self.bounded(names, path);
        let group = match groups.get_mut(&*above) {
            Some(group) => group,
            None => groups.entry(above.into()).or_default(),
        };
        let entry = group.entry(last);
        entry.make_room();
        entry.add(source);
    }

    /// The path above a series and its last element, with elements replaced that would exceed their scope's limit.
    fn bounded<'a>(&self, names: &mut Names, path: &'a str) -> (Cow<'a, str>, Arc<str>) {
        let limits = &self.inner.limits;
        let (above, last) = split(path);
        let (mut key, mut overflows) = (Cow::Borrowed(above), false);
        // What has children was let in, and so was all above it.
        if !names.children.contains_key(above) {
            let mut admitted = String::new();
            for element in above.split(SEPARATOR).filter(|_| !above.is_empty()) {
                let element = names.admit(&admitted, element, limits, &mut overflows);
                if !admitted.is_empty() {
                    admitted.push(SEPARATOR);
                }
                admitted.push_str(element);
            }
            key = admitted.into();
        }
        let last = names.admit(&key, last, limits, &mut overflows);
        let last = names.leaf(last);
        if overflows {
            self.inner.overflowed.fetch_add(1, Ordering::Relaxed);
        }
        (key, last)
    }
}

impl State {
    /// See [`Registry::merged`].
    fn merged(
        &mut self,
        groups_wanted: impl Fn(&str) -> bool,
        wanted: impl Fn(&str, &str, &Entry) -> bool,
    ) -> BTreeMap<Key, Entry> {
        let mut merged = BTreeMap::<Key, Entry>::new();
        for store in &mut self.stores {
            for (above, group) in store.groups.iter_mut().filter(|(above, _)| groups_wanted(above)) {
                for (last, entry) in group.iter_mut() {
                    if wanted(above, last, entry) {
                        entry.fold_dropped();
                        merged.entry(joined(above, last)).or_default().absorb(entry);
                    }
                }
            }
        }
        merged
    }
}

impl Names {
    /// The element if there is a place for it in its scope, or [`OVERFLOW`].
    fn admit<'a>(&mut self, scope: &str, element: &'a str, limits: &Limits, overflows: &mut bool) -> &'a str {
        let hash = hash(element);
        let siblings = match self.children.get_mut(scope) {
            Some(siblings) => siblings,
            None => self.children.entry(scope.into()).or_default(),
        };
        match siblings.binary_search(&hash) {
            Ok(_) => element,
            Err(place) if siblings.len() < limits.children => {
                siblings.insert(place, hash);
                element
            }
            Err(_) => {
                *overflows = true;
                OVERFLOW
            }
        }
    }

    /// The one text for all series that are called so.
    fn leaf(&mut self, name: &str) -> Arc<str> {
        if let Some(leaf) = self.leaves.get(name) {
            return leaf.clone();
        }
        if self.leaves.len() >= self.look_at {
            self.leaves.retain(|leaf| Arc::strong_count(leaf) > 1);
            self.look_at = (2 * self.leaves.len()).max(FEW_LEAVES);
        }
        let leaf = Arc::<str>::from(name);
        self.leaves.insert(leaf.clone());
        leaf
    }
}

impl Shard {
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    pub fn counter(&self, path: &[&str]) -> Counter {
        let cell = Arc::<AtomicU64>::default();
        self.resolve(path, Source::Counter(Arc::clone(&cell)));
        Counter::new(cell)
    }

    pub fn gauge(&self, path: &[&str]) -> Gauge {
        let bits = Arc::<AtomicU64>::default();
        self.resolve(path, Source::Gauge(Arc::clone(&bits)));
        Gauge::new(bits)
    }

    pub fn stat(&self, path: &[&str]) -> Stat {
        let recorder = Arc::<Recorder>::default();
        self.resolve(path, Source::Stat(Arc::clone(&recorder)));
        Stat::new(recorder)
    }

    /// Has the subtree removed once nobody has a handle in it, without waiting for that; see [`Registry::prune`].
    pub fn prune(&self, prefix: &[&str]) {
        self.send(Change::Prune(key_of(prefix)));
    }

    fn resolve(&self, path: &[&str], source: Source) {
        self.send(Change::Series(key_of(path), source));
    }

    fn send(&self, change: Change) {
        // Before it can be settled, so that the count never falls below nothing.
        let pending = self.registry.inner.pending.fetch_add(1, Ordering::Relaxed) + 1;
        // The registry, which holds the other end, is held here.
        let _ = self.changes.send(change);
        match pending {
            OVERFULL.. => self.registry.settle(),
            pending if pending.is_multiple_of(CROWDED) => self.registry.inner.crowded.notify_one(),
            _ => {}
        }
    }
}

fn key_of(elements: &[&str]) -> Key {
    elements.join("\0").into_boxed_str()
}

/// A path apart: what is above, and its last element.
fn split(key: &str) -> (&str, &str) {
    key.rsplit_once(SEPARATOR).unwrap_or(("", key))
}

fn joined(above: &str, last: &str) -> Key {
    let mut key = String::with_capacity(above.len() + 1 + last.len());
    if !above.is_empty() {
        key.push_str(above);
        key.push(SEPARATOR);
    }
    key.push_str(last);
    key.into_boxed_str()
}

/// What is at `key` and below it: a subtree's keys stand together, because nothing sorts before the separator.
fn subtree<'a, T>(map: &'a mut BTreeMap<Key, T>, key: &'a str) -> impl Iterator<Item = (&'a Key, &'a mut T)> {
    map.range_mut::<str, _>((Bound::Included(key), Bound::Unbounded)).take_while(move |(path, _)| under(path, key))
}

/// Removes a subtree, without a look at the rest.
fn remove<T>(map: &mut BTreeMap<Key, T>, key: &str) {
    let going = subtree(map, key).map(|(path, _)| path.clone()).collect::<Vec<_>>();
    for path in going {
        map.remove(&path);
    }
}

/// Whether `path` is `prefix` or below it.
fn under(path: &str, prefix: &str) -> bool {
    match path.strip_prefix(prefix) {
        Some(rest) => prefix.is_empty() || rest.is_empty() || rest.starts_with(SEPARATOR),
        None => false,
    }
}

/// A panic of another holder leaves counts as good as they were, so poisoning is not an error here.
fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
