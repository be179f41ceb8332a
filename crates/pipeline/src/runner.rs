//! Runs one deploy: event → journal → state → effect, one at a time, until it is over.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rollout::{Event, Kind, Level, Note, Numbered, State};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::deploys::Deploys;
use crate::effects::{self, Ended, Job};
use crate::journal::{JournalError, Pen, Space};
use crate::pods::Pods;
use crate::problem::Problem;
use crate::slot::{Command, Slot};
use crate::story::{Step, now};
use causes::chain;

/// Between two attempts to write a line.
const JOURNAL_PAUSE: Duration = Duration::from_millis(500);
/// A failed deploy tries again by itself.
const FIRST_RETRY: Duration = Duration::from_secs(15);
const LONGEST_RETRY: Duration = Duration::from_secs(300);

type Work<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

pub(crate) struct Runner {
    deploys: Deploys,
    slot: Arc<Slot>,
    /// Away only while a line is being written.
    pen: Option<Pen>,
    commands: mpsc::Receiver<Command>,
    effect: Work<Ended>,
    effect_of: Option<Numbered>,
    /// Ends when the lease is lost.
    lease: Work<String>,
    /// Ends when the new version breaks.
    instances: Work<String>,
    /// Pods of the deploy's cluster, followed until it is over.
    _pods: Option<Arc<Pods>>,
    /// What happened and could not be written yet: nothing else happens before.
    unwritten: Option<Unwritten>,
    retry_at: Option<Instant>,
    retry_pause: Duration,
}

struct Unwritten {
    event: Event,
    since: Instant,
    why: String,
    again_at: Instant,
}

enum Happened {
    Command(Command),
    Ended(Ended),
    LeaseLost(String),
    Broken(String),
    Retry,
    WriteAgain,
}

enum Refused {
    Event(rollout::Refusal),
    Journal(JournalError),
}

impl Runner {
    pub fn new(deploys: Deploys, slot: Arc<Slot>, pen: Pen, commands: mpsc::Receiver<Command>) -> Runner {
        let namespace = slot.story().cluster_namespace();
        let _pods = namespace.and_then(|namespace| Some(deploys.cluster().ok()?.pods(&namespace)));
        Runner {
            deploys,
            slot,
            pen: Some(pen),
            commands,
            effect: None,
            effect_of: None,
            lease: None,
            instances: None,
            _pods,
            unwritten: None,
            retry_at: None,
            retry_pause: FIRST_RETRY,
        }
    }

    /// The same for a deploy that was read from the journal.
    pub async fn resume(mut self) {
        let note = Note {
            kind: Kind::Log,
            level: Level::Info,
            stage: None,
            actor: None,
            text: "the pipeline server was started again and goes on with this deploy".to_owned(),
        };
        let step = Step { time: now(), deploy: self.slot.story().deploy.clone(), notes: vec![note] };
        match self.append(&step).await {
            Ok(_) => self.publish(step),
            // Only a note is lost; what counts will be tried again and again.
            Err(error) => tracing::warn!(error = chain(&error), "the journal cannot be written"),
        }
        self.run().await;
    }

    pub async fn run(mut self) {
        loop {
            let story = self.slot.story();
            if story.is_final() {
                break;
            }
            self.arrange();
            match self.next().await {
                Happened::Command(command) => self.command(command).await,
                Happened::Ended(ended) => {
                    let Some(Numbered { id, .. }) = self.effect_of.take() else { continue };
                    self.effect = None;
                    let event = Event::Outcome { id, outcome: ended.outcome.clone() };
                    self.happen(event).await;
                    drop(ended);
                }
                Happened::LeaseLost(reason) => {
                    self.lease = None;
                    self.happen(Event::Trouble { reason }).await;
                }
                Happened::Broken(reason) => {
                    self.instances = None;
                    self.happen(Event::Trouble { reason }).await;
                }
                Happened::Retry => {
                    self.retry_at = None;
                    self.retry_pause = (self.retry_pause * 2).min(LONGEST_RETRY);
                    self.happen(Event::Retry).await;
                }
                Happened::WriteAgain => self.write_again().await,
            }
        }
        self.finish().await;
    }

    fn job(&self) -> Job {
        Job { deploys: self.deploys.clone(), slot: self.slot.clone(), story: self.slot.story() }
    }

    /// Starts, replaces and ends what runs beside us, as the state wants it.
    fn arrange(&mut self) {
        if self.unwritten.is_some() {
            self.effect = None;
            self.effect_of = None;
            return;
        }
        let job = self.job();
        let deploy = &job.story.deploy;
        if deploy.outstanding() != self.effect_of.as_ref() {
            // The old one has ended when the new one begins.
            self.effect = None;
            self.effect_of = deploy.outstanding().cloned();
            let wanted = self.effect_of.as_ref().map(|numbered| &numbered.effect);
            self.slot.set_doing(wanted.map(|effect| effects::what(&job.story, effect)));
            self.effect = wanted.map(|effect| Box::pin(effects::run(job.clone(), effect.clone())) as Pin<Box<_>>);
        }
        match deploy.holds_lease() {
            true if self.lease.is_none() => self.lease = Some(Box::pin(effects::keep_lease(job.clone()))),
            true => {}
            false => self.lease = None,
        }
        match deploy.facts.new.clone().filter(|_| deploy.rests_on_new()) {
            Some(new) if self.instances.is_none() => {
                self.instances = Some(Box::pin(effects::watch_instances(job.clone(), new)));
            }
            Some(_) => {}
            None => self.instances = None,
        }
        self.retry_at = match deploy.state() {
            State::Failed => Some(self.retry_at.unwrap_or_else(|| Instant::now() + self.retry_pause)),
            _ => None,
        };
    }

    async fn next(&mut self) -> Happened {
        let write_again = self.unwritten.as_ref().map(|unwritten| unwritten.again_at);
        let quiet = write_again.is_some();
        tokio::select! {
            command = self.commands.recv() => match command {
                Some(command) => Happened::Command(command),
                // The slot holds the other end as long as the server lives.
                None => std::future::pending().await,
            },
            () = at(write_again) => Happened::WriteAgain,
            ended = work(&mut self.effect), if !quiet => Happened::Ended(ended),
            reason = work(&mut self.lease), if !quiet => Happened::LeaseLost(reason),
            reason = work(&mut self.instances), if !quiet => Happened::Broken(reason),
            () = at(self.retry_at), if !quiet => Happened::Retry,
        }
    }

    async fn command(&mut self, command: Command) {
        let result = match &self.unwritten {
            Some(unwritten) => Err(Problem::new(
                axum::http::StatusCode::INSUFFICIENT_STORAGE,
                format!("nothing can be decided while the journal cannot be written: {}", unwritten.why),
            )),
            None => self.write(command.event).await.map_err(|refused| match refused {
                Refused::Event(refusal) => Problem::conflict(format!("deploy {}: {refusal}", self.slot.story().id())),
                Refused::Journal(error) => Problem::journal(&error),
            }),
        };
        // Whoever asked may have gone.
        drop(command.answer.send(result));
    }

    /// Something happened, whether it can be written or not.
    async fn happen(&mut self, event: Event) {
        match self.write(event.clone()).await {
            Ok(()) => {}
            Err(Refused::Event(refusal)) => {
                tracing::debug!(deploy = self.slot.story().id(), %refusal, "nothing to do");
            }
            Err(Refused::Journal(error)) => self.cannot_write(event, &error),
        }
    }

    fn cannot_write(&mut self, event: Event, error: &JournalError) {
        let why = chain(error);
        let (now, id) = (Instant::now(), self.slot.story().id());
        let since = self.unwritten.as_ref().map_or(now, |unwritten| unwritten.since);
        if self.unwritten.is_none() {
            tracing::error!(deploy = id, why, "stopped, because the journal cannot be written");
            self.slot.set_doing(Some("stopped: nothing more is done until the journal can be written".to_owned()));
        }
        self.slot.update_doing(|doing| {
            doing.trouble = Some(why.clone());
            doing.attempt += 1;
        });
        self.unwritten = Some(Unwritten { event, since, why, again_at: now + JOURNAL_PAUSE });
    }

    async fn write_again(&mut self) {
        let Some(Unwritten { event, since, why, .. }) = &self.unwritten else { return };
        let (event, why, since) = (event.clone(), why.clone(), *since);
        match self.write(event.clone()).await {
            Err(Refused::Journal(error)) => self.cannot_write(event, &error),
            Ok(()) | Err(Refused::Event(_)) => {
                self.unwritten = None;
                let seconds = since.elapsed().as_secs_f64().ceil();
                let reason = format!("the journal could not be written for {seconds} s: {why}");
                self.happen(Event::Trouble { reason }).await;
            }
        }
    }

    /// The event into a copy of the state, the result into the journal, and only then into memory.
    async fn write(&mut self, event: Event) -> Result<(), Refused> {
        let story = self.slot.story();
        let mut deploy = story.deploy.clone();
        deploy.on(event).map_err(Refused::Event)?;
        let notes = deploy.take_notes();
        if deploy == story.deploy && notes.is_empty() {
            return Ok(());
        }
        let step = Step { time: now(), deploy, notes };
        let space = self.append(&step).await.map_err(Refused::Journal)?;
        self.publish(step);
        if let Space::Low(error) = space {
            self.run_out(&error).await?;
        }
        Ok(())
    }

    /// The disk is full but for what was reserved: enough to go back, not to go on.
    async fn run_out(&mut self, error: &std::io::Error) -> Result<(), Refused> {
        let mut deploy = self.slot.story().deploy.clone();
        let reason = format!("the disk of the journal is full: {error}; what was reserved is enough to go back");
        if deploy.on(Event::Trouble { reason }).is_err() {
            return Ok(());
        }
        let notes = deploy.take_notes();
        if notes.is_empty() {
            return Ok(());
        }
        let step = Step { time: now(), deploy, notes };
        self.append(&step).await.map_err(Refused::Journal)?;
        self.publish(step);
        Ok(())
    }

    async fn append(&mut self, step: &Step) -> Result<Space, JournalError> {
        let Some(mut pen) = self.pen.take() else { return Ok(Space::Enough) };
        let step = step.clone();
        let written = tokio::task::spawn_blocking(move || {
            let space = pen.append(&step);
            (pen, space)
        });
        match written.await {
            Ok((pen, space)) => {
                self.pen = Some(pen);
                space
            }
            Err(broken) => match broken.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is ending, and we with it.
                Err(_) => std::future::pending().await,
            },
        }
    }

    fn publish(&self, step: Step) {
        let mut story = (*self.slot.story()).clone();
        for Note { kind, level, text, .. } in &step.notes {
            let deploy = story.id();
            match (kind, level) {
                (_, Level::Error) => tracing::error!(deploy, "{text}"),
                (_, Level::Warning) => tracing::warn!(deploy, "{text}"),
                (Kind::Log, _) => tracing::debug!(deploy, "{text}"),
                _ => tracing::info!(deploy, "{text}"),
            }
        }
        story.step(step);
        self.slot.set_story(story);
    }

    async fn finish(mut self) {
        self.effect = None;
        self.lease = None;
        self.slot.set_doing(None);
        self.slot.set_lease(None);
        // Late commands are answered by the slot, once this end is gone.
        self.commands.close();
        let Some(pen) = self.pen.take() else { return };
        let story = self.slot.story();
        let finished = tokio::task::spawn_blocking(move || pen.finish(&story));
        if let Ok(Err(error)) = finished.await {
            tracing::warn!(error = chain(&error), "the journal of an ended deploy stays as long as it is");
        }
    }
}

async fn work<T>(work: &mut Work<T>) -> T {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
