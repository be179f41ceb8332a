//! Where paths and cells meet. Threads register through shards and never wait for each other's requests;
//! a scrape takes each shard's lock only to copy pointers, and only for a few series at a time.
//!
//! Life of a series: resolved → counted → its handles dropped (a counter's value is folded into the
//! series, a gauge disappears) → [`Registry::prune`]d with its subtree.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::entry::{Entry, Source};
use crate::handle::{Counter, Gauge, SharedCounter, Stat};
use crate::histogram::{Reading, Recorder, Summary};
use crate::snapshot::{Snapshot, Value};

/// The element that stands for all children of a scope that came after the limit was reached.
pub const OVERFLOW: &str = "overflow";
const OVERFLOWED: [&str; 2] = ["telemetry", "overflowed"];
/// Series that are looked at while a thread's lock is held: a worker that binds a name waits so long.
const AT_ONCE: usize = 128;

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
    shards: Mutex<Vec<Arc<Series>>>,
    children: Mutex<BTreeMap<Key, Children>>,
    /// Names that were resolved as [`OVERFLOW`].
    overflowed: AtomicU64,
    windows: Mutex<Windows>,
}

/// Elements joined by NUL, which no element contains: sorts and prunes by prefix.
pub(crate) type Key = Box<str>;
pub(crate) const SEPARATOR: char = '\0';

type Series = Mutex<BTreeMap<Key, Entry>>;

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
    series: Arc<Series>,
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
            shards: Mutex::new(vec![Arc::default()]),
            children: Mutex::default(),
            overflowed: AtomicU64::new(0),
            windows: Mutex::default(),
        };
        Registry { inner: Arc::new(inner) }
    }

    /// A new shard: one per thread.
    pub fn shard(&self) -> Shard {
        let series = Arc::<Series>::default();
        locked(&self.inner.shards).push(Arc::clone(&series));
        Shard { registry: self.clone(), series }
    }

    /// A counter with several writers, for parts that are not hot.
    pub fn shared_counter(&self, path: &[&str]) -> SharedCounter {
        let cell = Arc::<AtomicU64>::default();
        self.common().resolve(path, Source::Counter(Arc::clone(&cell)));
        SharedCounter::new(cell)
    }

    /// A gauge that is computed when it is read; it stays until it is pruned. The closure must not use
    /// the registry.
    pub fn gauge_with(&self, path: &[&str], read: impl Fn() -> f64 + Send + Sync + 'static) {
        self.common().resolve(path, Source::Closure(Arc::new(read)));
    }

    /// Removes the subtree unless a handle in it is still alive in any thread: whoever drops the last
    /// handles and prunes then removes it all. Returns whether it is gone.
    pub fn prune(&self, prefix: &[&str]) -> bool {
        let key = key_of(prefix.iter().copied());
        let shards = locked(&self.inner.shards).clone();
        // A stranger can have a worker prune with every request: what it costs must not depend on all there is.
        let alive = shards.iter().any(|shard| {
            let mut series = locked(shard);
            series.range_mut(key.clone()..).take_while(|(path, _)| under(path, &key)).any(|(_, entry)| entry.is_held())
        });
        if alive {
            return false;
        }
        for shard in &shards {
            remove(&mut locked(shard), &key, |entry| !entry.is_held());
        }
        remove(&mut locked(&self.inner.windows).states, &key, |_| true);
        let mut children = locked(&self.inner.children);
        remove(&mut children, &key, |_| true);
        if let Some((parent, child)) = key.rsplit_once(SEPARATOR)
            && let Some(siblings) = children.get_mut(parent)
            && let Ok(place) = siblings.binary_search(&hash(child))
        {
            siblings.remove(place);
        }
        true
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
        for (key, entry) in self.merged(|_, entry| entry.is_histogram()) {
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
        self.inner.overflowed.load(Ordering::Relaxed)
    }

    pub fn snapshot(&self) -> Snapshot {
        self.snapshot_of(|_, _| true)
    }

    /// Of the series whose path, element by element, is wanted.
    pub fn snapshot_matching(&self, wanted: impl Fn(std::str::Split<'_, char>) -> bool) -> Snapshot {
        self.snapshot_of(|key, _| wanted(key.split(SEPARATOR)))
    }

    /// Without histograms, for who reads these by themselves.
    pub(crate) fn snapshot_of_levels(&self) -> Snapshot {
        self.snapshot_of(|_, entry| !entry.is_histogram())
    }

    fn snapshot_of(&self, wanted: impl Fn(&str, &Entry) -> bool) -> Snapshot {
        let (mut values, mut totals) = (BTreeMap::new(), BTreeMap::new());
        for (key, entry) in self.merged(wanted) {
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
        if self.overflowed() > 0 {
            values.insert(key_of(OVERFLOWED.into_iter()), Value::Counter(self.overflowed()));
        }
        Snapshot::new(values, totals)
    }

    /// Total readings of all histograms since they began.
    pub(crate) fn readings(&self) -> BTreeMap<Key, Reading> {
        self.merged(|_, entry| entry.is_histogram())
            .into_iter()
            .filter_map(|(key, entry)| Some((key, entry.reading()?)))
            .collect()
    }

    /// One entry per path that is `wanted`: counts are summed, pointers collected. A thread that makes a series
    /// meanwhile waits for [`AT_ONCE`] of them at most, however many there are.
    pub(crate) fn merged(&self, wanted: impl Fn(&str, &Entry) -> bool) -> BTreeMap<Key, Entry> {
        let mut merged = BTreeMap::<Key, Entry>::new();
        for shard in locked(&self.inner.shards).clone() {
            let mut next = Some(Bound::<Key>::Unbounded);
            while let Some(from) = next.take() {
                let mut series = locked(&shard);
                let from = from.as_ref().map(|key| &**key);
                for (looked, (key, entry)) in series.range_mut::<str, _>((from, Bound::Unbounded)).enumerate() {
                    if looked == AT_ONCE {
                        next = Some(Bound::Included(key.clone()));
                        break;
                    }
                    if !wanted(key, entry) {
                        continue;
                    }
                    entry.fold_dropped();
                    match merged.get_mut(key) {
                        Some(target) => target.absorb(entry),
                        None => {
                            let mut target = Entry::default();
                            target.absorb(entry);
                            merged.insert(key.clone(), target);
                        }
                    }
                }
            }
        }
        merged
    }

    fn common(&self) -> Shard {
        let series = Arc::clone(&locked(&self.inner.shards)[0]);
        Shard { registry: self.clone(), series }
    }

    /// Replaces elements that would exceed their scope's limit.
    fn bounded(&self, path: &[&str]) -> Key {
        let mut children = locked(&self.inner.children);
        let (mut key, mut overflows) = (String::new(), false);
        for (depth, element) in path.iter().enumerate() {
            if !children.contains_key(&*key) {
                children.insert(key.as_str().into(), Children::default());
            }
            let Some(siblings) = children.get_mut(&*key) else { continue };
            let (mut element, hash) = (*element, hash(element));
            if let Err(place) = siblings.binary_search(&hash) {
                if siblings.len() < self.inner.limits.children {
                    siblings.insert(place, hash);
                } else {
                    overflows = true;
                    element = OVERFLOW;
                }
            }
            if depth > 0 {
                key.push(SEPARATOR);
            }
            key.push_str(element);
        }
        if overflows {
            self.inner.overflowed.fetch_add(1, Ordering::Relaxed);
        }
        key.into_boxed_str()
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

    fn resolve(&self, path: &[&str], source: Source) {
        let key = self.registry.bounded(path);
        let mut series = locked(&self.series);
        let entry = series.entry(key).or_default();
        entry.make_room();
        entry.add(source);
    }
}

fn key_of<'a>(elements: impl Iterator<Item = &'a str>) -> Key {
    elements.collect::<Vec<_>>().join("\0").into_boxed_str()
}

/// Whether `path` is `prefix` or below it.
/// Removes what of a subtree `may_go`, without a look at the rest: a subtree's keys stand together, because
/// nothing sorts before the separator.
fn remove<T>(map: &mut BTreeMap<Key, T>, key: &str, mut may_go: impl FnMut(&mut T) -> bool) {
    let subtree =
        map.range_mut::<str, _>((Bound::Included(key), Bound::Unbounded)).take_while(|(path, _)| under(path, key));
    let going = subtree.filter_map(|(path, value)| may_go(value).then(|| path.clone())).collect::<Vec<_>>();
    for path in going {
        map.remove(&path);
    }
}

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
