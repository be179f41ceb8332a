//! Lines for the log and the timeline.

use serde::{Deserialize, Serialize};

/// Something a person may want to read later. The time is whoever stores it's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    pub kind: Kind,
    pub level: Level,
    pub stage: Option<String>,
    pub actor: Option<String>,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The deploy or a stage changed its state.
    State,
    /// Somebody decided.
    Decision,
    /// Worth the timeline.
    Fact,
    /// For the log only.
    Log,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Info,
    Warning,
    Error,
}

/// `by ada: typo in the greeting`
pub(crate) fn by(actor: &str, reason: Option<&str>) -> String {
    match reason.filter(|reason| !reason.trim().is_empty()) {
        Some(reason) => format!("by {actor}: {reason}"),
        None => format!("by {actor}"),
    }
}
