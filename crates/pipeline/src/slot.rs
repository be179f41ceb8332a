//! One deploy in memory: its story, what it does this moment, and the door to its runner.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use tokio::sync::{mpsc, oneshot, watch};

use crate::api;
use crate::problem::Problem;
use crate::story::{Story, now};

/// What somebody wants of a deploy, and where the answer goes.
#[derive(Debug)]
pub(crate) struct Command {
    pub event: rollout::Event,
    pub answer: oneshot::Sender<Result<(), Problem>>,
}

#[derive(Debug)]
pub(crate) struct Slot {
    story: Mutex<Arc<Story>>,
    doing: Mutex<Option<api::Doing>>,
    lease: Mutex<Option<api::Lease>>,
    changed: watch::Sender<u64>,
    commands: mpsc::Sender<Command>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is replaced whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    pub fn new(story: Story) -> (Arc<Slot>, mpsc::Receiver<Command>) {
        let (commands, received) = mpsc::channel(16);
        let slot = Slot {
            story: Mutex::new(Arc::new(story)),
            doing: Mutex::default(),
            lease: Mutex::default(),
            changed: watch::channel(0).0,
            commands,
        };
        (Arc::new(slot), received)
    }

    pub fn story(&self) -> Arc<Story> {
        locked(&self.story).clone()
    }

    pub fn set_story(&self, story: Story) {
        *locked(&self.story) = Arc::new(story);
        self.touch();
    }

    pub fn doing(&self) -> Option<api::Doing> {
        locked(&self.doing).clone()
    }

    pub fn lease(&self) -> Option<api::Lease> {
        locked(&self.lease).clone()
    }

    pub fn set_lease(&self, lease: Option<api::Lease>) {
        *locked(&self.lease) = lease;
        self.touch();
    }

    /// Begins something new; `None`: nothing is being done.
    pub fn set_doing(&self, what: Option<String>) {
        *locked(&self.doing) =
            what.map(|what| api::Doing { what, since: now(), trouble: None, attempt: 1, laggards: Vec::new() });
        self.touch();
    }

    /// Changes what is known about what is being done.
    pub fn update_doing(&self, change: impl FnOnce(&mut api::Doing)) {
        if let Some(doing) = locked(&self.doing).as_mut() {
            change(doing);
        }
        self.touch();
    }

    fn touch(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Changes whenever anything does.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Asks the runner; it answers when the event is in the journal.
    pub async fn send(&self, event: rollout::Event) -> Result<(), Problem> {
        let (answer, answered) = oneshot::channel();
        let over = || {
            let story = self.story();
            match story.is_final() {
                true => Problem::conflict(format!("deploy {} is over: it {}", story.id(), crate::view::ending(&story))),
                false => {
                    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the pipeline server is ending; ask the next one")
                }
            }
        };
        self.commands.send(Command { event, answer }).await.map_err(|_| over())?;
        answered.await.map_err(|_| over())?
    }
}
