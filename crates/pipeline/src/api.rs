//! The JSON of the deploy API (port 8080), as types: what the server answers, the pages show and
//! the command line reads. Additions to these objects are compatible; renames are not.
//!
//! Times are RFC 3339 with milliseconds, UTC. Absent facts are `null`, never empty texts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `POST /api/1/deploys`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StartDeploy {
    pub pipeline: String,
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// Who starts it; `-` if unknown.
    #[serde(default)]
    pub actor: Option<String>,
    #[serde(default)]
    pub reason: Option<String>,
}

/// Its answer, with 201.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Started {
    pub id: String,
}

/// `POST /api/1/deploys/ID/approve` and `…/abort`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Decision {
    pub actor: Option<String>,
    pub reason: Option<String>,
    /// Approve only: the stage whose gate was looked at. Approving another gate is a 409.
    pub stage: Option<String>,
}

/// Every error answer of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorAnswer {
    /// What is wrong and how to mend it.
    pub error: String,
    /// The parameter or field that is wrong, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Conflicts: the deploy that is in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
}

/// Where a deploy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeployState {
    Running,
    /// At a gate.
    Waiting,
    Succeeded,
    /// Everything is as it was before.
    Reverted,
    /// Neither the old nor the new state could be reached: a person is needed.
    Failed,
}

impl DeployState {
    pub fn is_over(self) -> bool {
        matches!(self, DeployState::Succeeded | DeployState::Reverted | DeployState::Failed)
    }
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

/// `GET /api/1/deploys/ID`; the list answers the same objects, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deploy {
    /// A decimal number, counted over all pipelines.
    pub id: String,
    pub pipeline: String,
    pub parameters: BTreeMap<String, String>,
    pub state: DeployState,
    /// Name of the stage that runs, waits or was the last to run.
    pub stage: Option<String>,
    /// The question, while `state` is `waiting`.
    pub gate: Option<Gate>,
    pub stages: Vec<Stage>,
    pub version: Versions,
    /// Why it was reverted or failed, and for `failed` what a person has to do.
    pub reason: Option<String>,

    // What follows is more than the contract asks for.
    /// `world`.
    pub service: String,
    /// `/host/world`.
    pub entry: String,
    pub namespace: String,
    pub actor: String,
    pub note: Option<String>,
    pub started: String,
    pub ended: Option<String>,
    /// Reverting, while `state` is still `running`.
    pub reverting: bool,
    /// An abort would be accepted now.
    pub abortable: bool,
    /// What it is doing this moment, and why that takes so long, in words.
    pub doing: Option<Doing>,
    pub commit: Option<Commit>,
    /// The text that the new version answers with.
    pub text: Option<String>,
    /// How the entry changed at the last step.
    pub change: Option<Change>,
    pub lease: Option<Lease>,
    pub instances: Vec<Instance>,
    /// Numbered steps for a person, while `failed`.
    pub instructions: Vec<Instruction>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    /// The question, with this deploy's versions.
    pub message: String,
    /// Text of the button that goes on.
    pub ok: String,
    /// Commands to try before answering, with what to expect.
    #[serde(default)]
    pub commands: Vec<Command>,
    /// What Ok and Abort will do.
    #[serde(default)]
    pub ok_does: String,
    #[serde(default)]
    pub abort_does: String,
    #[serde(default)]
    pub since: Option<String>,
}

/// A command that can be pasted into a shell as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Command {
    pub command: String,
    /// An answer to expect, if it is known.
    pub expect: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stage {
    pub name: String,
    pub state: StageState,
    #[serde(default)]
    pub started: Option<String>,
    #[serde(default)]
    pub ended: Option<String>,
    /// Has a gate behind it.
    #[serde(default)]
    pub gated: bool,
    /// Share of requests for the new version at the end of this stage, 0 to 1; `null`: it is not up yet.
    #[serde(default)]
    pub share: Option<f64>,
    /// What happened or will happen, in a few words.
    #[serde(default)]
    pub detail: Option<String>,
    /// Who approved its gate.
    #[serde(default)]
    pub approved_by: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Versions {
    /// `world-v1`; `null` until the dtab was read.
    pub current: Option<String>,
    pub new: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Doing {
    /// `waiting until every router serves version …`
    pub what: String,
    pub since: String,
    /// Last error, if it is trying again.
    pub trouble: Option<String>,
    /// How often it has tried.
    pub attempt: u32,
    /// Routers that lag, while it waits for the fleet.
    #[serde(default)]
    pub laggards: Vec<Laggard>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub struct Laggard {
    pub router: String,
    pub process: String,
    pub version: Option<String>,
    pub behind_ms: Option<u64>,
    pub last_word: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    pub id: String,
    pub subject: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Texts of the entry's right side.
    pub from: String,
    pub to: String,
    /// Version of the namespace after the write.
    pub version: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    pub owner: String,
    pub expires: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// `world-v2-1`
    pub name: String,
    /// `world-v2`
    pub version: String,
    pub address: String,
    pub pid: Option<u32>,
    pub ready: bool,
    pub restarts: u32,
    /// Why it is not ready.
    pub trouble: Option<String>,
}

/// One step for a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instruction {
    pub text: String,
    pub command: Option<String>,
}

/// One server-sent event of `GET /api/1/deploys/ID/events`; `id:` is `sequence`, `event:` is `kind`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// From 1, without gaps, per deploy.
    pub sequence: u64,
    pub time: String,
    pub kind: EventKind,
    pub stage: Option<String>,
    /// `info`, `warning` or `error`.
    pub level: Level,
    pub actor: Option<String>,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The deploy or a stage changed its state.
    State,
    /// A person or another program did something.
    Decision,
    /// A fact worth the timeline: version written, instances ready, lease taken.
    Fact,
    /// A line of the log only.
    Log,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Info,
    Warning,
    Error,
}

/// `GET /api/1/pipelines`, an addition: what can be started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pipeline {
    pub name: String,
    pub description: Option<String>,
    pub service: String,
    pub entry: String,
    pub namespace: String,
    /// In the order of the file.
    pub parameters: Vec<Parameter>,
    pub stages: Vec<Stage>,
    /// Last segment of what the entry names now; `null` when the control plane cannot be asked.
    pub current: Option<String>,
    /// Why `current` is not known.
    pub trouble: Option<String>,
    /// The deploy that holds the entry now.
    pub holder: Option<String>,
    /// States of its last deploys, oldest first, at most 20.
    pub last: Vec<DeployState>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameter {
    pub name: String,
    pub default: String,
    pub description: Option<String>,
}
