//! Watching files: one thread per watch, woken by the kernel, and every two seconds in any case.
//!
//! The kernel's word makes changes seen at once; the interval mends what it cannot tell (queues that
//! overflow, symbolic links, network file systems, a directory that was replaced).

use std::{
    collections::BTreeSet,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::AccessKind, event::AccessMode};

/// The safety net.
const EVERY: Duration = Duration::from_secs(2);

/// For how long a file that looks unfinished must stay as it is before it counts. Longer than a busy
/// machine keeps a writer waiting between truncating and writing.
pub(crate) const SETTLING: Duration = Duration::from_millis(150);

/// More paths than this in one go are "anything".
const MOST_PATHS: usize = 1024;

/// What changed, as far as somebody said so; everything else is looked at too, but may be skipped
/// where it looks the same.
#[derive(Debug, Default, Clone)]
pub(crate) struct Touched {
    pub paths: BTreeSet<PathBuf>,
    /// Somebody lost count.
    pub anything: bool,
}

impl Touched {
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.anything || self.paths.contains(path)
    }
}

#[derive(Default)]
struct Pending {
    touched: Touched,
    woken: bool,
    stopped: bool,
}

/// Wakes the thread of a watch. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Waker {
    shared: Arc<(Mutex<Pending>, Condvar)>,
}

impl Waker {
    pub(crate) fn touch(&self, paths: impl IntoIterator<Item = PathBuf>) {
        let mut pending = self.lock();
        pending.woken = true;
        pending.touched.paths.extend(paths);
        if pending.touched.paths.len() > MOST_PATHS {
            pending.touched = Touched { paths: BTreeSet::new(), anything: true };
        }
        self.shared.1.notify_one();
    }

    fn lost_count(&self) {
        let mut pending = self.lock();
        pending.woken = true;
        pending.touched.anything = true;
        self.shared.1.notify_one();
    }

    fn stop(&self) {
        self.lock().stopped = true;
        self.shared.1.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was touched, when something was or `until` has come; `None` once stopped.
    fn wait(&self, until: Instant) -> Option<Touched> {
        let mut pending = self.lock();
        loop {
            if pending.stopped {
                return None;
            }
            let left = until.saturating_duration_since(Instant::now());
            if pending.woken || left.is_zero() {
                pending.woken = false;
                return Some(std::mem::take(&mut pending.touched));
            }
            let waited = self.shared.1.wait_timeout(pending, left);
            pending = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A running watch; dropping it ends the thread.
pub(crate) struct Watch {
    waker: Waker,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.waker.stop();
    }
}

/// What is watched.
pub(crate) struct Root {
    pub directory: PathBuf,
    pub mode: RecursiveMode,
}

/// Calls `scan` on a thread of its own whenever something below `root` may have changed. It says when
/// it wants to be called again at the latest, if it does not want to wait for the interval.
pub(crate) fn start(
    name: &str,
    root: Root,
    waker: Waker,
    mut scan: impl FnMut(&Touched) -> Option<Duration> + Send + 'static,
) -> std::io::Result<Watch> {
    let watch = Watch { waker: waker.clone() };
    let mut eyes = Eyes::new(root, &waker);
    eyes.open();
    std::thread::Builder::new().name(format!("watch {name}")).spawn(move || {
        let mut next = Instant::now();
        while let Some(touched) = waker.wait(next) {
            eyes.open();
            let began = Instant::now();
            let again = scan(&touched).unwrap_or(EVERY).min(EVERY);
            // Of a huge directory: looking must not take more than a hundredth of a processor.
            let ended = Instant::now();
            let is_whole = again == EVERY && touched.paths.is_empty();
            next = ended + if is_whole { again.max(100 * (ended - began)) } else { again };
        }
    })?;
    Ok(watch)
}

/// The kernel's watch on a directory, opened again when the directory is another one.
struct Eyes {
    root: Root,
    watcher: Option<RecommendedWatcher>,
    /// Device and inode of what is watched.
    open_on: Option<(u64, u64)>,
}

impl Eyes {
    fn new(root: Root, waker: &Waker) -> Eyes {
        let waker = waker.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
            Ok(event) if is_change(&event.kind) => {
                if event.need_rescan() {
                    waker.lost_count();
                }
                waker.touch(event.paths);
            }
            Ok(_) => {}
            Err(_) => waker.lost_count(),
        });
        let watcher = watcher
            .inspect_err(|error| tracing::warn!(%error, "no file notifications; looking every two seconds"))
            .ok();
        Eyes { root, watcher, open_on: None }
    }

    fn open(&mut self) {
        let identity = std::fs::metadata(&self.root.directory).ok().map(|found| (found.dev(), found.ino()));
        let Some(watcher) = self.watcher.as_mut().filter(|_| identity != self.open_on) else { return };
        if self.open_on.take().is_some() {
            // It may have gone with its directory already; the new watch is what counts.
            let _ = watcher.unwatch(&self.root.directory);
        }
        if identity.is_none() {
            return;
        }
        match watcher.watch(&self.root.directory, self.root.mode) {
            Ok(()) => self.open_on = identity,
            Err(error) => {
                tracing::warn!(directory = %self.root.directory.display(), %error, "cannot watch; looking every two seconds");
            }
        }
    }
}

/// Reading a file is an event too, and must not lead to reading it again.
fn is_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}
