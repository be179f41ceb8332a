//! The pipeline's pages: deploys and pipelines, build with parameters, one deploy.
//!
//! The types here are read from the JSON of the deploy API (port 8080), whose owner is the crate
//! `pipeline`; its tests read its answers with these types.

mod build;
mod deploy;
mod list;
mod yard;

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::format;
use crate::parts::{Mark, Moment, Ver};

pub use build::{BuildField, BuildPage};
pub use deploy::{DeployPage, Refused};
pub use list::ListPage;

/// Where a deploy stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeployState {
    Running,
    Waiting,
    Succeeded,
    Reverted,
    Failed,
}

impl DeployState {
    /// The class of the stylesheet.
    pub(crate) fn class(self) -> &'static str {
        match self {
            DeployState::Running => "running",
            DeployState::Waiting => "waiting",
            DeployState::Succeeded => "succeeded",
            DeployState::Reverted => "reverted",
            DeployState::Failed => "failed",
        }
    }

    fn icon(self) -> &'static str {
        match self {
            DeployState::Running => "run",
            DeployState::Waiting => "wait",
            DeployState::Succeeded => "ok",
            DeployState::Reverted => "back",
            DeployState::Failed => "bad",
        }
    }

    fn word(self) -> &'static str {
        match self {
            DeployState::Running => "Running",
            DeployState::Waiting => "Waits at gate",
            DeployState::Succeeded => "Succeeded",
            DeployState::Reverted => "Reverted",
            DeployState::Failed => "Failed",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageState {
    Pending,
    Running,
    Waiting,
    Succeeded,
    Failed,
    Skipped,
}

/// `GET /api/1/deploys/ID`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deploy {
    pub id: String,
    pub pipeline: String,
    pub parameters: BTreeMap<String, String>,
    pub state: DeployState,
    pub stage: Option<String>,
    pub gate: Option<Gate>,
    pub stages: Vec<Stage>,
    pub version: Versions,
    pub reason: Option<String>,
    pub service: String,
    pub entry: String,
    pub namespace: String,
    pub actor: String,
    pub note: Option<String>,
    pub started: Moment,
    pub ended: Option<Moment>,
    #[serde(default)]
    pub reverting: bool,
    #[serde(default)]
    pub abortable: bool,
    pub doing: Option<Doing>,
    pub commit: Option<Commit>,
    pub text: Option<String>,
    pub change: Option<Change>,
    pub lease: Option<Lease>,
    #[serde(default)]
    pub instances: Vec<Instance>,
    #[serde(default)]
    pub instructions: Vec<Instruction>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    pub message: String,
    pub ok: String,
    #[serde(default)]
    pub commands: Vec<Command>,
    #[serde(default)]
    pub ok_does: String,
    #[serde(default)]
    pub abort_does: String,
    #[serde(default)]
    pub since: Option<Moment>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Command {
    pub command: String,
    pub expect: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stage {
    pub name: String,
    pub state: StageState,
    #[serde(default)]
    pub started: Option<Moment>,
    #[serde(default)]
    pub ended: Option<Moment>,
    #[serde(default)]
    pub gated: bool,
    #[serde(default)]
    pub share: Option<f64>,
    #[serde(default)]
    pub detail: Option<String>,
    #[serde(default)]
    pub approved_by: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Versions {
    pub current: Option<String>,
    pub new: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Doing {
    pub what: String,
    pub since: Moment,
    pub trouble: Option<String>,
    #[serde(default)]
    pub attempt: u32,
    #[serde(default)]
    pub laggards: Vec<Laggard>,
}

/// A router that is behind. The same shape in the answers of the control plane.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Laggard {
    pub router: String,
    pub process: String,
    pub version: Option<String>,
    #[serde(default)]
    pub behind_ms: Option<u64>,
    #[serde(default)]
    pub last_word: Option<Moment>,
}

impl Change {
    pub(crate) fn was(&self) -> String {
        format::destination(&self.from)
    }

    pub(crate) fn is(&self) -> String {
        format::destination(&self.to)
    }
}

impl Laggard {
    pub(crate) fn behind(&self) -> String {
        self.behind_ms.map_or_else(|| format::NONE.to_owned(), format::span_ms)
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Commit {
    pub id: String,
    pub subject: String,
}

impl Commit {
    pub(crate) fn short(&self) -> &str {
        self.id.get(..7).unwrap_or(&self.id)
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Change {
    pub from: String,
    pub to: String,
    pub version: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Lease {
    pub owner: String,
    pub expires: Option<Moment>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Instance {
    pub name: String,
    pub version: String,
    pub address: String,
    pub pid: Option<u32>,
    pub ready: bool,
    #[serde(default)]
    pub restarts: u32,
    pub trouble: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Instruction {
    pub text: String,
    pub command: Option<String>,
}

/// One of `GET /api/1/deploys/ID/events`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub sequence: u64,
    pub time: Moment,
    pub kind: EventKind,
    pub stage: Option<String>,
    pub level: Level,
    pub actor: Option<String>,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    State,
    Decision,
    Fact,
    Log,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Info,
    Warning,
    Error,
}

/// One of `GET /api/1/pipelines`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pipeline {
    pub name: String,
    pub description: Option<String>,
    pub service: String,
    pub entry: String,
    pub namespace: String,
    pub parameters: Vec<Parameter>,
    pub stages: Vec<Stage>,
    pub current: Option<String>,
    pub trouble: Option<String>,
    pub holder: Option<String>,
    #[serde(default)]
    pub last: Vec<DeployState>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Parameter {
    pub name: String,
    pub default: String,
    pub description: Option<String>,
}

impl Deploy {
    pub(crate) fn mark(&self) -> Mark {
        let text = match self.state {
            DeployState::Running if self.reverting => "Reverting",
            DeployState::Failed => "Failed: person needed",
            state => state.word(),
        };
        let icon = if self.reverting && self.state == DeployState::Running { "run" } else { self.state.icon() };
        Mark::new(self.state.class(), icon, text)
    }

    /// `v1` of `world-v1`: short where the service is named beside it.
    pub(crate) fn short(&self, version: &Option<String>) -> String {
        let short = |version: &str| {
            version.strip_prefix(&self.service).and_then(|rest| rest.strip_prefix('-')).unwrap_or(version).to_owned()
        };
        version.as_deref().map(short).unwrap_or_default()
    }

    pub(crate) fn current(&self) -> Option<Ver> {
        self.version.current.as_ref().map(|name| Ver { name: name.clone(), is_new: false })
    }

    pub(crate) fn fresh(&self) -> Option<Ver> {
        self.version.new.as_ref().map(|name| Ver { name: name.clone(), is_new: true })
    }

    pub(crate) fn href(&self) -> String {
        format!("/deploys/{}", crate::web::segment(&self.id))
    }

    pub(crate) fn build_href(&self) -> String {
        build_href(&self.pipeline)
    }
}

pub(crate) fn build_href(pipeline: &str) -> String {
    format!("/pipelines/{}/build", crate::web::segment(pipeline))
}
