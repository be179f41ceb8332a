//! What the state machine asks for, done: each effect to its outcome. All can be run again.
//!
//! An effect's future may be dropped at any time: what it was doing then counts as begun.

mod dtab;
mod git;
mod kubernetes;
mod lease;
mod process;
mod proof;
mod target;

use std::sync::Arc;
use std::time::Duration;

use rollout::{Effect, Event, Level, Outcome};
use tokio::sync::OwnedMutexGuard;

use crate::deploys::Deploys;
use crate::patience::Patience;
use crate::slot::Slot;
use crate::story::Story;

pub(crate) use lease::{held, keep as keep_lease};
pub(crate) use target::watch as watch_instances;

/// What an effect works with.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub deploys: Deploys,
    pub slot: Arc<Slot>,
    /// As it was when the effect was asked for.
    pub story: Arc<Story>,
}

/// An outcome, and what must be held until it is in the journal.
#[derive(Debug)]
pub(crate) struct Ended {
    pub outcome: Outcome,
    pub _hold: Option<OwnedMutexGuard<()>>,
}

pub(crate) async fn run(job: Job, effect: Effect) -> Ended {
    let outcome = match effect {
        Effect::Fetch => git::fetch(&job).await,
        Effect::TakeLease => lease::take(&job).await,
        Effect::ReleaseLease => lease::release(&job).await,
        Effect::Inspect => {
            // Two deploys that look at the same time would choose the same version name.
            let hold = job.deploys.inspecting().await;
            return Ended { outcome: done(dtab::inspect(&job).await), _hold: Some(hold) };
        }
        Effect::Write { expected, dst, fence } => dtab::write(&job, &expected, &dst, fence).await,
        Effect::Start { version } => target::start(&job, &version).await,
        Effect::Test { version } => proof::test(&job, &version).await,
        Effect::AwaitFleet { dtab } => dtab::await_fleet(&job, &dtab).await,
        Effect::Settle { unused } => dtab::settle(&job, &unused).await,
        Effect::Remove { version } => target::remove(&job, &version).await,
    };
    Ended { outcome: done(outcome), _hold: None }
}

fn done(result: Result<Outcome, String>) -> Outcome {
    result.unwrap_or_else(|reason| Outcome::Failed { reason })
}

impl Job {
    /// How long the control plane may be away.
    fn patience(&self) -> Patience {
        let limit = Duration::from_secs(self.story.head.file.limits.control_plane_seconds);
        Patience::new(self.slot.clone(), (!self.is_patient()).then_some(limit))
    }

    fn is_patient(&self) -> bool {
        self.story.deploy.is_patient()
    }

    fn namespace(&self) -> &str {
        &self.story.head.namespace
    }

    fn entry(&self) -> &str {
        &self.story.deploy.plan.entry
    }

    /// A line of the deploy's log, while an effect is under way.
    async fn remark(&self, level: Level, text: String) {
        if let Err(problem) = self.slot.send(Event::Remark { level, text }).await {
            tracing::debug!(deploy = self.story.id(), %problem, "a remark was not written");
        }
    }

    fn owner(&self) -> String {
        self.story.owner(self.deploys.identity())
    }
}

/// For people, while it is under way.
pub(crate) fn what(story: &Story, effect: &Effect) -> String {
    let plan = &story.deploy.plan;
    match effect {
        Effect::Fetch => "reading the new text from the repository".to_owned(),
        Effect::TakeLease => format!("taking the lease on {}", plan.entry),
        Effect::Inspect => format!("looking at {} and at what runs", plan.entry),
        Effect::Write { dst, .. } => format!("writing {} => {dst}", plan.entry),
        Effect::Start { version } => format!("starting {version} and waiting until it is ready"),
        Effect::Test { version } => format!("asking {version} through the routers"),
        Effect::AwaitFleet { dtab } => format!("waiting until every router serves version {dtab}"),
        Effect::Settle { unused } => format!("waiting until no router can send a request to {unused}"),
        Effect::Remove { version } => format!("taking {version} away"),
        Effect::ReleaseLease => format!("giving back the lease on {}", plan.entry),
    }
}
