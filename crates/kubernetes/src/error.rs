//! What a cluster answers when it does not do what was asked: verb, resource and namespace by name.

use std::{fmt, sync::Arc, time::Duration};

/// A request that failed.
#[derive(Clone, Debug)]
pub struct Error {
    /// `list`, `watch`, `get`, `create`, `update`, `patch`, `delete`: as in a role's rules.
    pub verb: &'static str,
    /// `endpointslices.discovery.k8s.io`: as in `kubectl auth can-i`.
    pub resource: Arc<str>,
    /// Empty: all of them.
    pub namespace: Arc<str>,
    pub problem: Problem,
}

/// What went wrong.
#[derive(Clone, Debug)]
pub enum Problem {
    /// The API server says no.
    Status { code: u16, reason: String, message: String },
    /// Nothing came within this time.
    Silent(Duration),
    /// No answer, or not one that can be read; with a hint where there is one.
    Transport(String),
}

impl Error {
    /// The HTTP status of a refusal.
    pub fn code(&self) -> Option<u16> {
        match self.problem {
            Problem::Status { code, .. } => Some(code),
            Problem::Silent(_) | Problem::Transport(_) => None,
        }
    }

    /// Whether the server gave an answer that trying again alone will not change: no such resource, or
    /// not for us.
    pub fn is_refusal(&self) -> bool {
        matches!(self.code(), Some(401 | 403 | 404))
    }

    /// Whether the resource version that was asked for is no longer there.
    pub fn is_gone(&self) -> bool {
        self.code() == Some(410)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Error { verb, resource, namespace, problem } = self;
        write!(f, "cannot {verb} {resource}")?;
        match namespace.as_ref() {
            "" => {}
            namespace => write!(f, " in namespace {namespace}")?,
        }
        match problem {
            Problem::Status { code: 403, message, .. } => {
                write!(
                    f,
                    ": forbidden; a role must allow the verb {verb} on {resource} (the API server says: {message})"
                )
            }
            Problem::Status { code: 401, message, .. } => {
                write!(f, ": the API server does not accept the credentials (it says: {message})")
            }
            Problem::Status { code: 404, message, .. } => write!(f, ": not found (the API server says: {message})"),
            Problem::Status { code, reason, message } => {
                write!(f, ": the API server answers {code} {reason} ({message})")
            }
            Problem::Silent(time) => write!(f, ": the API server was silent for {time:?}"),
            Problem::Transport(why) => write!(f, ": {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl Problem {
    pub(crate) fn of(error: &kube::Error, hint: &str) -> Problem {
        match error {
            kube::Error::Api(status) => status_problem(status),
            other => Problem::Transport(format!("{}{hint}", causes::chain(other))),
        }
    }
}

pub(crate) fn status_problem(status: &kube::core::Status) -> Problem {
    Problem::Status { code: status.code, reason: status.reason.clone(), message: status.message.clone() }
}
