//! The thread that owns the database.
//!
//! Jobs come in groups of one transaction. A job decides before it writes, so that a refusal leaves no
//! trace in the group's transaction; a failure undoes the whole group, and then each of its jobs is
//! tried alone, so that nobody's write fails for another's sake.

use std::{fs::File, path::PathBuf, sync::Arc};

use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::queries::{self, Problem};
use crate::{
    Change, Error, Lease, LeaseRequest, Leased, Note, Revision, Version, current::Current, lease, revision::decide,
};

pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

pub(super) enum Job {
    Write { namespace: String, change: Change, note: Note, reply: Reply<Arc<Revision>> },
    History { namespace: String, limit: usize, reply: Reply<Option<Vec<Arc<Revision>>>> },
    Revision { namespace: String, version: Version, reply: Reply<Option<Arc<Revision>>> },
    TakeLease { request: LeaseRequest, reply: Reply<Leased> },
    ReleaseLease { namespace: String, entry: String, owner: String, now: Timestamp, reply: Reply<Option<Lease>> },
    Leases { now: Timestamp, reply: Reply<Vec<Lease>> },
    Remember { key: &'static str, text: String, reply: Reply<()> },
    Recall { key: &'static str, reply: Reply<Option<String>> },
}

pub(super) struct Worker {
    pub(super) connection: Connection,
    pub(super) path: Arc<PathBuf>,
    pub(super) current: Arc<Current>,
    pub(super) _lock: File,
}

/// Jobs in one transaction.
const GROUP: usize = 128;

/// What a job came to inside the transaction; it is told only after the commit.
enum Outcome {
    Written(Arc<Revision>),
    History(Option<Vec<Arc<Revision>>>),
    Revision(Option<Arc<Revision>>),
    Leased(Leased),
    Released(Option<Lease>),
    Leases(Vec<Lease>),
    Remembered,
    Recalled(Option<String>),
    Refused(Error),
}

impl Worker {
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut group = Vec::with_capacity(GROUP);
        while queue.blocking_recv_many(&mut group, GROUP) > 0 {
            match self.transact(&group) {
                Ok(outcomes) => {
                    for (job, outcome) in group.drain(..).zip(outcomes) {
                        self.tell(job, Ok(outcome));
                    }
                }
                Err(_) if group.len() > 1 => {
                    for job in group.drain(..) {
                        let outcome = self.transact(std::slice::from_ref(&job));
                        let outcome = outcome.map(|mut outcomes| outcomes.swap_remove(0));
                        self.tell(job, outcome);
                    }
                }
                Err(problem) => {
                    let error = problem.at(&self.path);
                    group.drain(..).for_each(|job| job.fail(error.clone()));
                }
            }
        }
    }

    fn transact(&mut self, group: &[Job]) -> Result<Vec<Outcome>, Problem> {
        // Immediate: a lock that another process holds shows here, before anything is decided.
        let begin = if group.iter().any(Job::writes) { "BEGIN IMMEDIATE" } else { "BEGIN" };
        self.connection.execute_batch(begin)?;
        let outcomes = group.iter().map(|job| job.carry_out(&self.connection)).collect::<Result<Vec<_>, _>>();
        let outcomes = outcomes.and_then(|outcomes| {
            self.connection.execute_batch("COMMIT")?;
            Ok(outcomes)
        });
        // Some failures end the transaction by themselves.
        if outcomes.is_err() && !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        outcomes
    }

    fn tell(&self, job: Job, outcome: Result<Outcome, Problem>) {
        match outcome {
            Ok(Outcome::Written(revision)) => {
                self.current.publish(&revision);
                job.tell(Outcome::Written(revision));
            }
            Ok(outcome) => job.tell(outcome),
            Err(problem) => job.fail(problem.at(&self.path)),
        }
    }
}

impl Job {
    fn writes(&self) -> bool {
        matches!(self, Job::Write { .. } | Job::TakeLease { .. } | Job::ReleaseLease { .. } | Job::Remember { .. })
    }

    fn carry_out(&self, connection: &Connection) -> Result<Outcome, Problem> {
        Ok(match self {
            Job::Write { namespace, change, note, .. } => {
                let last = queries::last_revision(connection, namespace)?;
                match decide(namespace, last.as_ref(), change, note) {
                    Err(refused) => Outcome::Refused(refused),
                    Ok(revision) => {
                        queries::insert(connection, &revision)?;
                        Outcome::Written(Arc::new(revision))
                    }
                }
            }
            Job::History { namespace, limit, .. } => {
                let revisions = queries::history(connection, namespace, (*limit).max(1))?;
                let known = !revisions.is_empty();
                Outcome::History(known.then(|| revisions.into_iter().take(*limit).map(Arc::new).collect()))
            }
            Job::Revision { namespace, version, .. } => {
                Outcome::Revision(queries::revision(connection, namespace, *version)?.map(Arc::new))
            }
            Job::TakeLease { request, .. } => {
                let held = queries::lease(connection, &request.namespace, &request.entry)?;
                let leased = lease::decide(request, held);
                if let Leased::Taken(lease) = &leased {
                    queries::put_lease(connection, lease, request.now)?;
                }
                Outcome::Leased(leased)
            }
            Job::ReleaseLease { namespace, entry, owner, now, .. } => {
                let held = queries::lease(connection, namespace, entry)?;
                let held = held.filter(|lease| lease.holds_at(*now) && lease.owner != *owner);
                if held.is_none() {
                    queries::remove_lease(connection, namespace, entry)?;
                }
                Outcome::Released(held)
            }
            Job::Leases { now, .. } => Outcome::Leases(queries::leases(connection, *now)?),
            Job::Remember { key, text, .. } => {
                queries::remember(connection, key, text)?;
                Outcome::Remembered
            }
            Job::Recall { key, .. } => Outcome::Recalled(queries::recall(connection, key)?),
        })
    }

    /// Whoever asked may have gone: then there is nobody to tell.
    fn tell(self, outcome: Outcome) {
        match (self, outcome) {
            (job, Outcome::Refused(error)) => job.fail(error),
            (Job::Write { reply, .. }, Outcome::Written(revision)) => drop(reply.send(Ok(revision))),
            (Job::History { reply, .. }, Outcome::History(revisions)) => drop(reply.send(Ok(revisions))),
            (Job::Revision { reply, .. }, Outcome::Revision(revision)) => drop(reply.send(Ok(revision))),
            (Job::TakeLease { reply, .. }, Outcome::Leased(leased)) => drop(reply.send(Ok(leased))),
            (Job::ReleaseLease { reply, .. }, Outcome::Released(held)) => drop(reply.send(Ok(held))),
            (Job::Leases { reply, .. }, Outcome::Leases(leases)) => drop(reply.send(Ok(leases))),
            (Job::Remember { reply, .. }, Outcome::Remembered) => drop(reply.send(Ok(()))),
            (Job::Recall { reply, .. }, Outcome::Recalled(text)) => drop(reply.send(Ok(text))),
            // `carry_out` pairs them; a job that is dropped here is answered with `Closed`.
            (_, _) => {}
        }
    }

    fn fail(self, error: Error) {
        match self {
            Job::Write { reply, .. } => drop(reply.send(Err(error))),
            Job::History { reply, .. } => drop(reply.send(Err(error))),
            Job::Revision { reply, .. } => drop(reply.send(Err(error))),
            Job::TakeLease { reply, .. } => drop(reply.send(Err(error))),
            Job::ReleaseLease { reply, .. } => drop(reply.send(Err(error))),
            Job::Leases { reply, .. } => drop(reply.send(Err(error))),
            Job::Remember { reply, .. } => drop(reply.send(Err(error))),
            Job::Recall { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}
