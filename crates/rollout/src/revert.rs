//! Going back: the entry first, then the routers, then the new version; nobody else's edit is touched.
//!
//! ```text
//! write original (fenced) → settle new → remove new → release lease → reverted
//!        └ foreign edit stays ┘     └── cannot be done ──→ failed, tried again later
//! ```

use serde::{Deserialize, Serialize};

use crate::effect::{Effect, Outcome};
use crate::machine::{Deploy, Phase, Refusal, StageState};
use crate::texts::{Kind, Level};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Revert {
    Write,
    Settle,
    Remove,
    Release,
}

impl Deploy {
    /// From wherever it is, back to how it was. The outstanding effect, if any, is replaced.
    pub(crate) fn go_back(&mut self, reason: String) {
        self.note(Kind::State, Level::Warning, None, format!("revert: {reason}"));
        self.reason.get_or_insert(reason);
        self.close_stages();
        self.foreign = None;
        self.back_from_start();
    }

    fn back_from_start(&mut self) {
        let Some(original) = self.facts.original.clone().filter(|_| !self.issued.is_empty()) else {
            return self.settle_new();
        };
        let mut expected = self.issued.clone();
        expected.push(original.clone());
        self.order(Phase::Revert(Revert::Write), Effect::Write { expected, dst: original, fence: true });
    }

    /// Somebody else wrote the entry in the middle of a deploy: stop, and leave it to them.
    pub(crate) fn foreign_edit(&mut self, found: Option<String>) {
        let entry = self.plan.entry.clone();
        let text = match &found {
            Some(dst) => {
                format!("somebody else changed the entry during the deploy: {entry} => {dst} . It was left as it is")
            }
            None => format!("somebody else removed the entry {entry} during the deploy. It was left as it is"),
        };
        self.note(Kind::State, Level::Warning, None, text.clone());
        self.reason = Some(match self.reason.take() {
            Some(reason) => format!("{reason}. Then {text}"),
            None => text,
        });
        self.close_stages();
        self.foreign = Some(found);
        self.settle_new();
    }

    fn settle_new(&mut self) {
        match self.started {
            true => {
                let unused = self.new_version();
                self.order(Phase::Revert(Revert::Settle), Effect::Settle { unused });
            }
            false => self.release(),
        }
    }

    fn release(&mut self) {
        match self.leased {
            true => self.order(Phase::Revert(Revert::Release), Effect::ReleaseLease),
            false => self.reverted(),
        }
    }

    pub(crate) fn revert_outcome(&mut self, revert: Revert, outcome: Outcome) {
        match (revert, outcome) {
            (Revert::Write, Outcome::Written { version }) => {
                let to = self.facts.original.clone().unwrap_or_default();
                let from = self.issued.last().cloned().unwrap_or_default();
                self.fact(format!("{} => {to} is back (version {version})", self.plan.entry));
                self.facts.change = Some((from, to, version));
                self.settle_new();
            }
            (Revert::Write, Outcome::Foreign { found }) => self.foreign_edit(found),
            (Revert::Settle, Outcome::Done { detail }) => {
                self.fact(detail);
                let version = self.new_version();
                self.order(Phase::Revert(Revert::Remove), Effect::Remove { version });
            }
            (Revert::Remove, Outcome::Done { detail }) => {
                self.fact(detail);
                self.started = false;
                self.release();
            }
            // An unreleased lease ends by itself.
            (Revert::Release, _) => self.reverted(),
            (_, Outcome::StillUsed { entry, dst }) => {
                let new = self.new_version();
                self.stuck(format!("{new} cannot be taken away: {entry} => {dst} still names it"), false);
            }
            (_, Outcome::Failed { reason }) => self.stuck(reason, false),
            (revert, outcome) => self.stuck(format!("bug: {outcome:?} cannot answer the revert's {revert:?}"), false),
        }
    }

    /// After the point of no return only forward is left.
    pub(crate) fn removal_failed(&mut self, outcome: Outcome) {
        let (new, current) = (self.new_version(), self.current_version());
        match outcome {
            Outcome::StillUsed { entry, dst } if entry != self.plan.entry => {
                let text = format!("{current} was left running: {entry} => {dst} names it");
                self.note(Kind::Fact, Level::Warning, None, text.clone());
                self.reason = Some(text);
                self.order(Phase::CommitRelease, Effect::ReleaseLease);
            }
            // Part of the old version may be gone already, so neither way is safe without a person.
            Outcome::StillUsed { entry, dst } => {
                self.stuck(
                    format!("{current} cannot be taken away: somebody set {entry} => {dst} at the last moment"),
                    true,
                );
            }
            Outcome::Failed { reason } => {
                self.stuck(format!("{new} serves all requests, but {current} could not be taken away: {reason}"), true);
            }
            outcome => self.stuck(format!("bug: {outcome:?} cannot answer the removal of {current}"), true),
        }
    }

    fn reverted(&mut self) {
        self.phase = Phase::Reverted;
        let text = match (&self.foreign, &self.facts.original) {
            (Some(_), _) => "reverted, except for the entry that somebody else changed".to_owned(),
            (None, Some(original)) => format!("reverted: {} => {original} as before", self.plan.entry),
            (None, None) => "reverted: nothing had been changed".to_owned(),
        };
        self.note(Kind::State, Level::Info, None, text);
    }

    fn stuck(&mut self, why: String, forward: bool) {
        self.note(Kind::State, Level::Error, None, format!("failed: {why}"));
        self.phase = Phase::Stuck { forward };
        self.outstanding = None;
        if !self.reason.as_deref().is_some_and(|reason| reason.contains(&why)) {
            self.reason = Some(match self.reason.take() {
                Some(reason) => format!("{reason}. Then: {why}"),
                None => why,
            });
        }
    }

    /// Once more from the point where it failed.
    pub(crate) fn retry(&mut self, why: &str) -> Result<(), Refusal> {
        match self.phase {
            _ if self.facts.superseded.is_some() => Err(Refusal::NotFailed),
            Phase::Stuck { forward } => {
                self.note(Kind::Log, Level::Info, None, format!("{why}: once more"));
                self.foreign = None;
                match forward {
                    true => {
                        let version = self.current_version();
                        self.order(Phase::CommitRemove, Effect::Remove { version });
                    }
                    false => self.back_from_start(),
                }
                Ok(())
            }
            _ => Err(Refusal::NotFailed),
        }
    }

    pub(crate) fn supersede(&mut self, by: String) -> Result<(), Refusal> {
        if !matches!(self.phase, Phase::Stuck { .. }) {
            return Err(Refusal::NotFailed);
        }
        self.note(Kind::State, Level::Info, None, format!("deploy {by} takes over; nothing more is tried here"));
        self.facts.superseded = Some(by);
        Ok(())
    }

    /// The stage it was in failed; what lies ahead is not reached.
    fn close_stages(&mut self) {
        for stage in &mut self.stages {
            stage.state = match stage.state {
                StageState::Running | StageState::Waiting => StageState::Failed,
                StageState::Pending => StageState::Skipped,
                state => state,
            };
        }
    }
}
