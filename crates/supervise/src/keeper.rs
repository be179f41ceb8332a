//! Keeps one process running: start or adopt, watch, probe, restart with backoff, stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::kernel::{Process, boot};
use crate::supervisor::Shared;
use crate::{Leave, Ready, Running, Spec, probe, spawn};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Having run this long, an end counts as the first one again.
const STEADY: Duration = Duration::from_secs(10);
const PROBE_UNTIL_READY: Duration = Duration::from_millis(50);
const PROBE_WHEN_READY: Duration = Duration::from_secs(2);

/// What a keeper is told.
pub(crate) enum Order {
    /// The spec changed: end what runs, start this.
    Run(Box<Spec>),
    /// End the supervision.
    Stop(Leave, oneshot::Sender<()>),
}

pub(crate) struct Keeper {
    pub shared: Arc<Shared>,
    pub directory: PathBuf,
    pub spec: Spec,
    pub orders: mpsc::Receiver<Order>,
    pub restarts: u32,
}

/// Why watching stopped.
enum Why {
    Ended(String),
    Ordered(Order),
    Abandoned,
}

impl Keeper {
    /// Until it is told to stop. `adopted`: what runs already, with its generation.
    pub async fn keep(mut self, mut adopted: Option<(Process, u64)>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let process = match adopted.take() {
                Some((process, generation)) if generation == self.spec.generation => Ok(process),
                Some((process, _)) => {
                    self.end(&process).await;
                    self.start().await
                }
                None => self.start().await,
            };
            let why = match process {
                Ok(process) => self.watch(process).await,
                Err(trouble) => Why::Ended(trouble),
            };
            let trouble = match why {
                Why::Ended(trouble) => trouble,
                Why::Ordered(order) => match self.obey(order) {
                    Some(()) => continue,
                    None => return,
                },
                Why::Abandoned => return,
            };
            if began.elapsed() > STEADY {
                pause = FIRST_PAUSE;
            }
            tracing::warn!(process = %self.spec.name, %trouble, ?pause, "restarting");
            self.restarts += 1;
            let restarts = self.restarts;
            self.shared.update(&self.spec.name, |status| {
                status.pid = None;
                status.ready = false;
                status.restarts = restarts;
                status.trouble = Some(trouble);
            });
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                order = self.orders.recv() => match order {
                    Some(order) => match self.obey(order) {
                        Some(()) => pause = FIRST_PAUSE,
                        None => return,
                    },
                    None => return,
                },
            }
        }
    }

    async fn start(&mut self) -> Result<Process, String> {
        let program = self.spec.argv.first().cloned().unwrap_or_default();
        let pid = spawn::spawn(&self.directory, &self.spec)
            .await
            .map_err(|error| format!("cannot start {program}: {error}"))?;
        Process::child(pid).map_err(|error| format!("cannot watch process {pid}: {error}"))
    }

    /// Watches until it ends or an order comes. On an order the process has been dealt with.
    async fn watch(&mut self, process: Process) -> Why {
        self.record(&process);
        let (shared, spec) = (self.shared.clone(), self.spec.clone());
        let mut next_probe = tokio::time::Instant::now();
        loop {
            tokio::select! {
                biased;
                text = process.ended() => return Why::Ended(text),
                order = self.orders.recv() => {
                    return match order {
                        Some(Order::Stop(Leave::Running, done)) => {
                            process.leave();
                            Why::Ordered(Order::Stop(Leave::Running, done))
                        }
                        Some(order) => {
                            self.end(&process).await;
                            Why::Ordered(order)
                        }
                        None => {
                            process.leave();
                            Why::Abandoned
                        }
                    };
                }
                ready = probe_at(next_probe, &shared, &spec) => {
                    let pause = if ready { PROBE_WHEN_READY } else { PROBE_UNTIL_READY };
                    next_probe = tokio::time::Instant::now() + pause;
                }
            }
        }
    }

    fn record(&self, process: &Process) {
        let running = Running {
            pid: process.pid,
            start_time: process.start_time,
            generation: self.spec.generation,
            boot: boot(),
            restarts: self.restarts,
        };
        // Without the file a later supervisor still finds the process by its environment.
        if let Err(error) = running.write(&self.directory, &self.spec.name) {
            tracing::warn!(process = %self.spec.name, %error, "cannot write the process state");
        }
        let restarts = self.restarts;
        self.shared.update(&self.spec.name, |status| {
            status.pid = Some(process.pid);
            status.ready = false;
            status.restarts = restarts;
        });
        tracing::info!(process = %self.spec.name, pid = process.pid, "running");
    }

    /// SIGTERM, grace, SIGKILL; returns when it is gone.
    async fn end(&self, process: &Process) {
        process.signal(libc::SIGTERM);
        let grace = Duration::from_millis(self.spec.grace_ms);
        if tokio::time::timeout(grace, process.ended()).await.is_err() {
            tracing::warn!(process = %self.spec.name, ?grace, "did not end, so it is killed");
            process.signal(libc::SIGKILL);
            process.ended().await;
        }
    }

    /// `None`: the supervision is over.
    fn obey(&mut self, order: Order) -> Option<()> {
        match order {
            Order::Run(spec) => {
                self.spec = *spec;
                self.restarts = 0;
                Some(())
            }
            Order::Stop(leave, done) => {
                if leave == Leave::Stopped {
                    drop(std::fs::remove_file(Running::path(&self.directory, &self.spec.name)));
                }
                // The asker may have gone; the work is done all the same.
                let _ = done.send(());
                None
            }
        }
    }
}

/// Asks at the given time, and tells everybody what changed.
async fn probe_at(at: tokio::time::Instant, shared: &Shared, spec: &Spec) -> bool {
    tokio::time::sleep_until(at).await;
    let answer = match &spec.ready {
        Ready::Started => Ok(()),
        Ready::Http(url) => probe::ask(url).await,
    };
    let ready = answer.is_ok();
    shared.update(&spec.name, |status| {
        status.ready = ready;
        status.trouble = answer.err();
    });
    ready
}
