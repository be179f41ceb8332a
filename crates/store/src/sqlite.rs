//! `io.switchyard.sqlite`: dtabs in one file, durable before a write is acknowledged.
//!
//! One thread owns the database. It takes what is asked for in groups: a group is one transaction and
//! one flush to the disk, then its observers are told, then it is answered. Reads of current dtabs do
//! not touch the file at all. Write-ahead log with `synchronous=FULL`: what was acknowledged survives
//! `kill -9` and loss of power; what was not is either there whole or not at all.
//!
//! A second control plane on the same file is refused (lock on `FILE-lock`): it would not see the
//! writes of the first. Reading the file with other tools, for a backup, is fine.

mod connection;
mod queries;
mod worker;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    Answer, Change, DtabStore, Error, Lease, LeaseRequest, Leased, Names, Note, Revision, Version, current::Current,
};
use worker::{Job, Reply};

/// See the module's documentation.
pub struct Sqlite {
    current: Arc<Current>,
    /// `None` only while it is dropped.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// Jobs that may wait for the thread; whoever comes next waits to be let in.
const QUEUE: usize = 1024;

impl Sqlite {
    /// Opens or creates the file. Waits up to three seconds for another process to let go of it.
    ///
    /// # Errors
    /// `Open`, `InUse`, `Locked`, `Newer`, `Damaged`: each names the file.
    pub fn open(path: &Path) -> Result<Sqlite, Error> {
        let (connection, lock) = connection::open(path)?;
        Sqlite::start(path, connection, lock)
    }

    /// Opens a file that may not grow beyond a number of pages: what a full disk looks like.
    #[doc(hidden)]
    pub fn open_limited(path: &Path, pages: u32) -> Result<Sqlite, Error> {
        let (connection, lock) = connection::open(path)?;
        connection::limit(&connection, pages).map_err(|problem| problem.at(path))?;
        Sqlite::start(path, connection, lock)
    }

    fn start(path: &Path, connection: rusqlite::Connection, lock: std::fs::File) -> Result<Sqlite, Error> {
        let path: Arc<PathBuf> = Arc::new(path.to_owned());
        let last = queries::last_revisions(&connection).map_err(|problem| problem.at(&path))?;
        let current = Arc::new(Current::new(last));
        let (jobs, queue) = mpsc::channel(QUEUE);
        let worker = worker::Worker { connection, path, current: current.clone(), _lock: lock };
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || worker.run(queue))
            .map_err(|source| Error::Open { path: PathBuf::from("a thread"), source: Arc::new(source) })?;
        Ok(Sqlite { current, jobs: Some(jobs), thread: Some(thread) })
    }

    fn ask<T: Send + 'static>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Answer<'_, T> {
        let (reply, answer) = oneshot::channel();
        let job = job(reply);
        let jobs = self.jobs.clone();
        Box::pin(async move {
            let jobs = jobs.ok_or(Error::Closed)?;
            jobs.send(job).await.map_err(|_| Error::Closed)?;
            answer.await.map_err(|_| Error::Closed)?
        })
    }
}

impl Drop for Sqlite {
    /// Ends what is under way and closes the file, so that another process can open it at once.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by itself.
            let _ = thread.join();
        }
    }
}

impl DtabStore for Sqlite {
    fn kind(&self) -> &'static str {
        "io.switchyard.sqlite"
    }

    fn names(&self) -> watch::Receiver<Names> {
        self.current.names()
    }

    fn observe(&self, namespace: &str) -> watch::Receiver<Option<Arc<Revision>>> {
        self.current.observe(namespace)
    }

    fn write(&self, namespace: &str, change: Change, note: Note) -> Answer<'_, Arc<Revision>> {
        let namespace = namespace.to_owned();
        self.ask(|reply| Job::Write { namespace, change, note, reply })
    }

    fn history(&self, namespace: &str, limit: usize) -> Answer<'_, Option<Vec<Arc<Revision>>>> {
        let namespace = namespace.to_owned();
        self.ask(|reply| Job::History { namespace, limit, reply })
    }

    fn revision(&self, namespace: &str, version: Version) -> Answer<'_, Option<Arc<Revision>>> {
        let namespace = namespace.to_owned();
        self.ask(|reply| Job::Revision { namespace, version, reply })
    }

    fn take_lease(&self, request: LeaseRequest) -> Answer<'_, Leased> {
        self.ask(|reply| Job::TakeLease { request, reply })
    }

    fn release_lease(&self, namespace: &str, entry: &str, owner: &str, now: Timestamp) -> Answer<'_, Option<Lease>> {
        let (namespace, entry, owner) = (namespace.to_owned(), entry.to_owned(), owner.to_owned());
        self.ask(|reply| Job::ReleaseLease { namespace, entry, owner, now, reply })
    }

    fn leases(&self, now: Timestamp) -> Answer<'_, Vec<Lease>> {
        self.ask(|reply| Job::Leases { now, reply })
    }

    fn remember(&self, key: &'static str, text: String) -> Answer<'_, ()> {
        self.ask(|reply| Job::Remember { key, text, reply })
    }

    fn recall(&self, key: &'static str) -> Answer<'_, Option<String>> {
        self.ask(|reply| Job::Recall { key, reply })
    }
}
