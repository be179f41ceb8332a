//! Files that change: read again within about a second, on a thread of its own.
//!
//! What is looked at is what a path leads to: inode, size and times. So a file that is written anew, one that
//! is renamed into place, and a symbolic link that is turned (Kubernetes' mounted secrets) are all noticed.
//! New files that are no good change nothing: the last good ones stay, and the [`Status`] and the log say so.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;

use crate::Error;
use crate::peer::Certificate;

/// How often files are looked at.
const EVERY: Duration = Duration::from_secs(1);
const DAY: i64 = 24 * 60 * 60;

/// Keeps what was made of files; clones share. When the last one is dropped, nobody looks any more.
#[derive(Clone, Default)]
pub struct Reloader {
    shared: Arc<Mutex<Vec<Entry>>>,
}

/// What is known of one `tls` section.
#[derive(Clone, Debug)]
pub struct Status {
    /// `routers[0].servers[0].tls`
    pub at: String,
    pub files: Vec<PathBuf>,
    /// Our own certificate.
    pub certificate: Option<Certificate>,
    /// When the files in use were read.
    pub loaded: SystemTime,
    /// How often new files were taken, or not.
    pub reloads: u64,
    pub failures: u64,
    /// Why the files as they are now are not in use.
    pub stale: Option<String>,
}

/// A figure of all sections together.
pub type Total = fn(&[Status]) -> f64;

/// They all, by name: `stale` (sections whose newest files are not in use), `reloads`,
/// `reload_failures`, and `expires_in_seconds` of the certificate that ends first.
pub const TOTALS: [(&str, Total); 4] = [
    ("stale", |all| all.iter().filter(|status| status.stale.is_some()).count() as f64),
    ("reloads", |all| all.iter().map(|status| status.reloads).sum::<u64>() as f64),
    ("reload_failures", |all| all.iter().map(|status| status.failures).sum::<u64>() as f64),
    ("expires_in_seconds", |all| {
        let now = jiff::Timestamp::now().as_second();
        let ends = all.iter().filter_map(|status| Some(status.certificate.as_ref()?.not_after - now));
        ends.min().unwrap_or_default() as f64
    }),
];

struct Entry {
    status: Status,
    seen: Vec<Seen>,
    again: Box<dyn FnMut() -> Result<Option<CertificateDer<'static>>, Error> + Send>,
    /// Whether somebody still uses it.
    used: Box<dyn Fn() -> bool + Send>,
}

/// Made of files.
pub(crate) struct Loaded<T> {
    pub(crate) value: T,
    pub(crate) certificate: Option<CertificateDer<'static>>,
}

/// What a path leads to; `None`: nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen(Option<[i64; 7]>);

impl Seen {
    fn of(file: &Path) -> Seen {
        Seen(std::fs::metadata(file).ok().map(|about| {
            let (device, inode, size) = (about.dev() as i64, about.ino() as i64, about.size() as i64);
            [device, inode, size, about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec()]
        }))
    }

    fn all(files: &[PathBuf]) -> Vec<Seen> {
        files.iter().map(|file| Seen::of(file)).collect()
    }
}

impl Reloader {
    pub(crate) fn keep<T: Send + Sync + 'static>(
        &self,
        at: &str,
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<Loaded<T>, Error> + Send + 'static,
    ) -> Result<Arc<ArcSwap<T>>, Error> {
        // Looked at before it is read: what changes in between is read again.
        let seen = Seen::all(&files);
        let loaded = load()?;
        let status = Status {
            at: at.to_owned(),
            certificate: loaded.certificate.as_ref().and_then(Certificate::of),
            loaded: SystemTime::now(),
            reloads: 0,
            failures: 0,
            stale: None,
            files,
        };
        status.warn_of_time();
        let current = Arc::new(ArcSwap::from_pointee(loaded.value));
        let (target, user): (_, Weak<ArcSwap<T>>) = (Arc::downgrade(&current), Arc::downgrade(&current));
        let again = move || {
            let loaded = load()?;
            if let Some(target) = target.upgrade() {
                target.store(Arc::new(loaded.value));
            }
            Ok(loaded.certificate)
        };
        let used = move || user.strong_count() > 0;
        let mut entries = locked(&self.shared);
        let is_first = entries.is_empty();
        entries.push(Entry { status, seen, again: Box::new(again), used: Box::new(used) });
        drop(entries);
        if is_first {
            self.watch();
        }
        Ok(current)
    }

    /// Every section, in the order in which they were built.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        locked(&self.shared).iter().map(|entry| entry.status.clone()).collect()
    }

    /// Looks now.
    pub fn look(&self) {
        look(&self.shared);
    }

    fn watch(&self) {
        let shared = Arc::downgrade(&self.shared);
        let watching = std::thread::Builder::new().name("tls-files".to_owned()).spawn(move || {
            loop {
                std::thread::sleep(EVERY);
                let Some(shared) = shared.upgrade() else { return };
                look(&shared);
                if locked(&shared).is_empty() {
                    return;
                }
            }
        });
        if let Err(error) = watching {
            tracing::error!(%error, "changed certificates will not be noticed: no thread");
        }
    }
}

fn look(shared: &Mutex<Vec<Entry>>) {
    let mut entries = locked(shared);
    entries.retain(|entry| (entry.used)());
    for entry in entries.iter_mut() {
        let seen = Seen::all(&entry.status.files);
        if seen != entry.seen {
            entry.seen = seen;
            entry.again();
        }
    }
}

impl Entry {
    fn again(&mut self) {
        let status = &mut self.status;
        match (self.again)() {
            Ok(certificate) => {
                status.certificate = certificate.as_ref().and_then(Certificate::of);
                status.loaded = SystemTime::now();
                status.reloads += 1;
                status.stale = None;
                let subject = status.certificate.as_ref().map(|certificate| certificate.subject.as_str());
                tracing::info!(section = %status.at, subject, "new certificate files are in use");
                status.warn_of_time();
            }
            Err(error) => {
                let error = error.under(&status.at);
                tracing::error!("{error}; the last good files stay in use");
                status.failures += 1;
                status.stale = Some(error.to_string());
            }
        }
    }
}

impl Status {
    /// Our own certificate may be out of its time, which others will not accept.
    fn warn_of_time(&self) {
        let Some(certificate) = &self.certificate else { return };
        let now = jiff::Timestamp::now().as_second();
        let (at, subject, ends) = (&self.at, &certificate.subject, certificate.ends());
        if certificate.not_after < now {
            tracing::warn!("{at}: the certificate of {subject} has expired on {ends}: others will refuse it");
        } else if certificate.not_before > now {
            tracing::warn!("{at}: the certificate of {subject} is not valid yet: others will refuse it");
        } else if certificate.not_after - now < 7 * DAY {
            tracing::warn!("{at}: the certificate of {subject} expires on {ends}");
        }
    }
}

/// A panic elsewhere leaves the list whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
