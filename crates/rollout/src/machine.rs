//! The machine: where a deploy is, and what each event makes of it. Going back is in `revert`.

use serde::{Deserialize, Serialize};

use crate::effect::{Effect, Event, Found, Numbered, Outcome};
use crate::plan::Plan;
use crate::texts::{Kind, Level, Note, by};
use crate::version;

/// The whole state of one deploy: store it, load it, and go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deploy {
    pub plan: Plan,
    pub facts: Facts,
    pub stages: Vec<StageRecord>,
    /// Why it was reverted or failed, for people.
    pub reason: Option<String>,
    pub(crate) phase: Phase,
    pub(crate) outstanding: Option<Numbered>,
    pub(crate) last_id: u64,
    /// Texts that may stand in the entry because of us, in the order they were issued.
    pub(crate) issued: Vec<String>,
    pub(crate) leased: bool,
    pub(crate) started: bool,
    /// Somebody else's edit was found while going back; it stays.
    pub(crate) foreign: Option<Option<String>>,
    #[serde(skip)]
    pub(crate) notes: Vec<Note>,
}

/// What is known so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Commit id and subject.
    pub commit: Option<(String, String)>,
    pub text: Option<String>,
    /// `world-v1`
    pub current: Option<String>,
    pub new: Option<String>,
    /// The entry's right side before the deploy.
    pub original: Option<String>,
    /// The last change of the entry: from, to, version of the dtab.
    pub change: Option<(String, String, String)>,
    /// Leftovers still to be swept before the start.
    pub leftovers: Vec<String>,
    /// Another deploy took over from this failed one.
    pub superseded: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    pub name: String,
    pub state: StageState,
    pub approved_by: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageState {
    Pending,
    Running,
    Waiting,
    Succeeded,
    Failed,
    Skipped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Running,
    Waiting,
    Succeeded,
    Reverted,
    Failed,
}

/// Why an event is not accepted. The deploy is as it was.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("the deploy is {0} and does not wait at a gate")]
    NotWaiting(String),
    #[error("the deploy waits after {waiting:?}, not after {asked:?}: look again")]
    OtherGate { waiting: String, asked: String },
    #[error("the deploy is over ({0}): nothing is left to abort")]
    Over(String),
    #[error("it is being reverted already")]
    Reverting,
    #[error(
        "too late to abort: {new} serves all requests and {current} is being taken away; deploy the old text again"
    )]
    TooLate { new: String, current: String },
    #[error("only a failed deploy can be tried again or handed over")]
    NotFailed,
}

/// Where it is. Stage numbers count from 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Phase {
    Fetch,
    Lease,
    Inspect,
    SweepSettle,
    SweepRemove,
    Mark,
    MarkFleet,
    Start,
    Test,
    Gate {
        stage: usize,
    },
    Step {
        index: usize,
    },
    StepFleet {
        index: usize,
    },
    Commit,
    CommitSettle,
    CommitRemove,
    CommitRelease,
    Revert(crate::revert::Revert),
    Succeeded,
    Reverted,
    /// What to do again, once a person or time has mended it.
    Stuck {
        forward: bool,
    },
}

impl Deploy {
    /// A new deploy and its first effect (in `outstanding`).
    pub fn new(plan: Plan) -> Deploy {
        let stages = plan
            .stages()
            .into_iter()
            .map(|name| StageRecord { name: name.to_owned(), state: StageState::Pending, approved_by: None })
            .collect();
        let mut deploy = Deploy {
            plan,
            facts: Facts::default(),
            stages,
            reason: None,
            phase: Phase::Fetch,
            outstanding: None,
            last_id: 0,
            issued: Vec::new(),
            leased: false,
            started: false,
            foreign: None,
            notes: Vec::new(),
        };
        deploy.begin(0);
        deploy.order(Phase::Fetch, Effect::Fetch);
        deploy
    }

    /// The effect to run now; also what to run again after a restart.
    pub fn outstanding(&self) -> Option<&Numbered> {
        self.outstanding.as_ref()
    }

    /// Lines written since the last call.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    pub fn state(&self) -> State {
        match self.phase {
            Phase::Gate { .. } => State::Waiting,
            Phase::Succeeded => State::Succeeded,
            Phase::Reverted => State::Reverted,
            Phase::Stuck { .. } => State::Failed,
            _ => State::Running,
        }
    }

    pub fn is_reverting(&self) -> bool {
        matches!(self.phase, Phase::Revert(_))
    }

    /// Whether an abort would be accepted.
    pub fn is_abortable(&self) -> bool {
        self.abort_refusal().is_none()
    }

    /// Whether the entry may be changed by this deploy from now on.
    pub fn holds_entry(&self) -> bool {
        matches!(self.state(), State::Running | State::Waiting)
    }

    /// Whether the lease was taken and is to be kept: renew it until this is false.
    pub fn holds_lease(&self) -> bool {
        let is_taking = matches!(self.phase, Phase::Lease);
        let is_leaving = matches!(self.phase, Phase::CommitRelease | Phase::Revert(crate::revert::Revert::Release));
        self.leased && self.holds_entry() && !is_taking && !is_leaving
    }

    /// Whether it is past the point where giving up changes anything: better to go on trying.
    pub fn is_patient(&self) -> bool {
        matches!(self.phase, Phase::Revert(_) | Phase::CommitRemove | Phase::CommitRelease)
    }

    /// Whether instances of the new version should be watched: an end of theirs is `Trouble`.
    pub fn rests_on_new(&self) -> bool {
        matches!(
            self.phase,
            Phase::Test
                | Phase::Gate { .. }
                | Phase::Step { .. }
                | Phase::StepFleet { .. }
                | Phase::Commit
                | Phase::CommitSettle
        )
    }

    /// The gate that it waits at: stage number.
    pub fn gate(&self) -> Option<usize> {
        match self.phase {
            Phase::Gate { stage } => Some(stage),
            _ => None,
        }
    }

    /// The stage that runs, waits or was the last to run.
    pub fn stage(&self) -> Option<usize> {
        let last = |states: &[StageState]| self.stages.iter().rposition(|stage| states.contains(&stage.state));
        last(&[StageState::Running, StageState::Waiting, StageState::Failed]).or_else(|| last(&[StageState::Succeeded]))
    }

    /// The one door: an event changes the state, or is refused and changes nothing.
    pub fn on(&mut self, event: Event) -> Result<(), Refusal> {
        match event {
            Event::Outcome { id, outcome } => {
                if self.outstanding.as_ref().is_some_and(|outstanding| outstanding.id == id) {
                    self.outcome(outcome);
                }
                Ok(())
            }
            Event::Approve { actor, reason, stage } => self.approve(&actor, reason.as_deref(), stage.as_deref()),
            Event::Abort { actor, reason } => self.abort(&actor, reason.as_deref()),
            Event::Trouble { reason } => {
                if self.abort_refusal().is_none() && self.holds_entry() {
                    self.go_back(reason);
                }
                Ok(())
            }
            Event::Remark { level, text } => {
                self.note(Kind::Log, level, None, text);
                Ok(())
            }
            Event::Retry => self.retry("trying again"),
            Event::Supersede { by } => self.supersede(by),
        }
    }

    fn approve(&mut self, actor: &str, reason: Option<&str>, asked: Option<&str>) -> Result<(), Refusal> {
        let Phase::Gate { stage } = self.phase else {
            return Err(Refusal::NotWaiting(self.shown_state()));
        };
        let waiting = self.stages[stage].name.clone();
        if let Some(asked) = asked.filter(|asked| *asked != waiting) {
            return Err(Refusal::OtherGate { waiting, asked: asked.to_owned() });
        }
        let ok = self.plan.gate(stage).map_or("Ok", |gate| gate.ok.as_str()).to_owned();
        self.note(Kind::Decision, Level::Info, Some(actor), format!("{ok} ({})", by(actor, reason)));
        self.stages[stage].approved_by = Some(actor.to_owned());
        self.pass(stage);
        Ok(())
    }

    pub(crate) fn abort_refusal(&self) -> Option<Refusal> {
        match self.phase {
            Phase::Succeeded | Phase::Reverted => Some(Refusal::Over(self.shown_state())),
            Phase::Revert(_) => Some(Refusal::Reverting),
            Phase::CommitRemove | Phase::CommitRelease | Phase::Stuck { forward: true } => Some(Refusal::TooLate {
                new: self.facts.new.clone().unwrap_or_default(),
                current: self.facts.current.clone().unwrap_or_default(),
            }),
            _ if self.facts.superseded.is_some() => Some(Refusal::Over(self.shown_state())),
            _ => None,
        }
    }

    fn abort(&mut self, actor: &str, reason: Option<&str>) -> Result<(), Refusal> {
        if let Some(refusal) = self.abort_refusal() {
            return Err(refusal);
        }
        let text = format!("aborted {}", by(actor, reason));
        self.note(Kind::Decision, Level::Warning, Some(actor), text.clone());
        match self.phase {
            Phase::Stuck { .. } => self.retry(&text),
            _ => {
                self.go_back(text);
                Ok(())
            }
        }
    }

    /// The outstanding effect ended.
    fn outcome(&mut self, outcome: Outcome) {
        self.outstanding = None;
        let phase = self.phase.clone();
        match (phase, outcome) {
            (Phase::Revert(revert), outcome) => self.revert_outcome(revert, outcome),
            (Phase::CommitRemove, Outcome::Done { detail }) => {
                self.fact(detail);
                self.order(Phase::CommitRelease, Effect::ReleaseLease);
            }
            (Phase::CommitRemove, outcome) => self.removal_failed(outcome),
            // The lease ends by itself; the deploy is done either way.
            (Phase::CommitRelease, _) => self.succeed(),
            (Phase::CommitSettle, Outcome::StillUsed { entry, dst }) if entry != self.plan.entry => {
                self.keep_current(&entry, &dst);
            }
            (Phase::SweepSettle | Phase::SweepRemove, Outcome::StillUsed { entry, .. }) => {
                let left = self.facts.leftovers.remove(0);
                self.note(Kind::Log, Level::Warning, None, format!("{left} stays: the entry {entry} names it"));
                self.sweep();
            }
            (_, Outcome::Failed { reason }) => self.go_back(reason),
            (_, Outcome::Foreign { found }) => self.foreign_edit(found),
            (_, Outcome::StillUsed { entry: _, dst }) => self.foreign_edit(Some(dst)),
            (phase, outcome) => self.advance(phase, outcome),
        }
    }

    /// The outcome is a success: on to what follows.
    fn advance(&mut self, phase: Phase, outcome: Outcome) {
        match (phase, outcome) {
            (Phase::Fetch, Outcome::Fetched { commit, text }) => {
                if let Some((id, subject)) = &commit {
                    self.note(Kind::Fact, Level::Info, None, format!("at {id} {subject:?}"));
                }
                self.facts.commit = commit;
                self.facts.text = Some(text);
                self.end(0);
                self.begin(1);
                self.leased = true;
                self.order(Phase::Lease, Effect::TakeLease);
            }
            (Phase::Lease, Outcome::Done { detail }) => {
                self.fact(detail);
                self.order(Phase::Inspect, Effect::Inspect);
            }
            (Phase::Inspect, Outcome::Inspected(found)) => self.inspected(found),
            (Phase::SweepSettle, Outcome::Done { .. }) => {
                let version = self.facts.leftovers[0].clone();
                self.order(Phase::SweepRemove, Effect::Remove { version });
            }
            (Phase::SweepRemove, Outcome::Done { detail }) => {
                self.note(Kind::Log, Level::Info, None, detail);
                self.facts.leftovers.remove(0);
                self.sweep();
            }
            (Phase::Mark, Outcome::Written { version }) => {
                self.written(&version);
                self.order(Phase::MarkFleet, Effect::AwaitFleet { dtab: version });
            }
            (Phase::MarkFleet, Outcome::Done { detail }) => {
                self.fact(detail);
                self.started = true;
                let version = self.new_version();
                self.order(Phase::Start, Effect::Start { version });
            }
            (Phase::Start, Outcome::Done { detail }) => {
                self.fact(detail);
                self.end(1);
                self.begin(2);
                let version = self.new_version();
                self.order(Phase::Test, Effect::Test { version });
            }
            (Phase::Test, Outcome::Done { detail }) => {
                self.fact(detail);
                self.reach_gate(2);
            }
            (Phase::Step { index }, Outcome::Written { version }) => {
                self.written(&version);
                self.order(Phase::StepFleet { index }, Effect::AwaitFleet { dtab: version });
            }
            (Phase::StepFleet { index }, Outcome::Done { detail }) => {
                self.fact(detail);
                self.reach_gate(3 + index);
            }
            (Phase::Commit, Outcome::Written { version }) => {
                self.written(&version);
                let unused = self.current_version();
                self.order(Phase::CommitSettle, Effect::Settle { unused });
            }
            (Phase::CommitSettle, Outcome::Done { detail }) => {
                self.fact(detail);
                let version = self.current_version();
                self.order(Phase::CommitRemove, Effect::Remove { version });
            }
            (phase, outcome) => self.go_back(format!("bug: {outcome:?} cannot answer {phase:?}")),
        }
    }

    fn inspected(&mut self, found: Found) {
        let Plan { service, entry, live, marker, .. } = &self.plan;
        let Some(current) = version::target(live, &found.dst) else {
            let why = if found.dst.contains(&format!("{marker}/")) {
                "it is marked as being deployed: another deploy holds it, or one ended without putting it back. \
                 Wait for it, or set the entry to the version that should serve"
            } else {
                "the entry must name one version before a deploy can begin"
            };
            return self.go_back(format!("{entry} => {} : {why} ({live}/{service}-vN)", found.dst));
        };
        let Some(number) = version::number(service, current) else {
            return self.go_back(format!(
                "{entry} => {} : {current:?} is not {service}-vN, so it has no successor",
                found.dst
            ));
        };
        let kept =
            found.existing.iter().map(String::as_str).filter(|name| !found.leftovers.iter().any(|left| left == name));
        let Some(new) = version::next(service, number, kept) else {
            return self.go_back(format!("there is no version number after {current}"));
        };
        self.facts.current = Some(current.to_owned());
        self.facts.new = Some(new);
        self.facts.original = Some(found.dst.clone());
        self.facts.leftovers = found.leftovers.into_iter().filter(|left| left != current).collect();
        self.note(Kind::Log, Level::Info, None, format!("{} => {}", self.plan.entry, found.dst));
        self.sweep();
    }

    /// Leftovers first: their names may be wanted again.
    fn sweep(&mut self) {
        if let Some(left) = self.facts.leftovers.first().cloned() {
            self.note(Kind::Log, Level::Info, None, format!("taking away {left}, left behind by an ended deploy"));
            return self.order(Phase::SweepSettle, Effect::Settle { unused: left });
        }
        let dst = format!("{}/{}", self.plan.marker, self.current_version());
        let original = self.facts.original.clone().unwrap_or_default();
        self.write(Phase::Mark, original, dst);
    }

    fn reach_gate(&mut self, stage: usize) {
        let Some(gate) = self.plan.gate(stage) else { return self.pass(stage) };
        let text = format!("{}: waits for a person: {}", self.stages[stage].name, self.fill(&gate.message));
        self.stages[stage].state = StageState::Waiting;
        self.note(Kind::State, Level::Info, None, text);
        self.phase = Phase::Gate { stage };
    }

    /// Past a stage and its gate.
    fn pass(&mut self, stage: usize) {
        self.end(stage);
        self.begin(stage + 1);
        let index = stage - 2;
        let before = self.issued.last().cloned().unwrap_or_default();
        let (new, current) = (self.new_version(), self.current_version());
        match self.plan.destination(index, &new, &current) {
            Some(dst) => self.write(Phase::Step { index }, before, dst),
            None => {
                let dst = format!("{}/{new}", self.plan.live);
                self.write(Phase::Commit, before, dst);
            }
        }
    }

    fn write(&mut self, phase: Phase, before: String, dst: String) {
        self.issued.push(dst.clone());
        self.order(phase, Effect::Write { expected: vec![before], dst, fence: false });
    }

    fn written(&mut self, version: &str) {
        let to = self.issued.last().cloned().unwrap_or_default();
        let from = match self.issued.len() {
            0 | 1 => self.facts.original.clone().unwrap_or_default(),
            length => self.issued[length - 2].clone(),
        };
        self.note(Kind::Fact, Level::Info, None, format!("{} => {to} (version {version})", self.plan.entry));
        self.facts.change = Some((from, to, version.to_owned()));
    }

    fn keep_current(&mut self, entry: &str, dst: &str) {
        let current = self.current_version();
        let text = format!("{current} was left running: {entry} => {dst} names it");
        self.note(Kind::Fact, Level::Warning, None, text.clone());
        self.reason = Some(text);
        self.order(Phase::CommitRelease, Effect::ReleaseLease);
    }

    fn succeed(&mut self) {
        let last = self.stages.len() - 1;
        self.end(last);
        self.phase = Phase::Succeeded;
        let text = format!("succeeded: {} => {}/{}", self.plan.entry, self.plan.live, self.new_version());
        self.note(Kind::State, Level::Info, None, text);
    }

    pub(crate) fn order(&mut self, phase: Phase, effect: Effect) {
        self.last_id += 1;
        self.phase = phase;
        self.outstanding = Some(Numbered { id: self.last_id, effect });
    }

    fn begin(&mut self, stage: usize) {
        self.stages[stage].state = StageState::Running;
        self.note(Kind::State, Level::Info, None, format!("{}: started", self.stages[stage].name));
    }

    fn end(&mut self, stage: usize) {
        self.note(Kind::State, Level::Info, None, format!("{}: succeeded", self.stages[stage].name));
        self.stages[stage].state = StageState::Succeeded;
    }

    pub(crate) fn fact(&mut self, text: String) {
        self.note(Kind::Fact, Level::Info, None, text);
    }

    pub(crate) fn note(&mut self, kind: Kind, level: Level, actor: Option<&str>, text: String) {
        let stage = match self.is_reverting() {
            true => Some("revert".to_owned()),
            false => self.stage().map(|stage| self.stages[stage].name.clone()),
        };
        self.notes.push(Note { kind, level, stage, actor: actor.map(str::to_owned), text });
    }

    /// Fills the deploy's own placeholders into a text of the plan, in one pass: what a value
    /// brings along is not filled again.
    pub fn fill(&self, text: &str) -> String {
        let Facts { new, current, text: written, .. } = &self.facts;
        let mut filled = String::new();
        let mut rest = text;
        while let Some(start) = rest.find('{') {
            filled.push_str(&rest[..start]);
            rest = &rest[start..];
            let known = [("{new}", new), ("{current}", current), ("{text}", written)];
            let Some((name, value)) = known.into_iter().find(|(name, _)| rest.starts_with(name)) else {
                filled.push('{');
                rest = &rest[1..];
                continue;
            };
            filled.push_str(value.as_deref().unwrap_or("…"));
            rest = &rest[name.len()..];
        }
        filled + rest
    }

    pub(crate) fn shown_state(&self) -> String {
        let state = match self.state() {
            State::Running if self.is_reverting() => "being reverted",
            State::Running => "running",
            State::Waiting => "waiting",
            State::Succeeded => "succeeded",
            State::Reverted => "reverted",
            State::Failed => "failed",
        };
        state.to_owned()
    }

    pub(crate) fn new_version(&self) -> String {
        self.facts.new.clone().unwrap_or_default()
    }

    pub(crate) fn current_version(&self) -> String {
        self.facts.current.clone().unwrap_or_default()
    }
}
