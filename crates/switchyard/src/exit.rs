//! Exit codes, and how a failed command tells its user. `docs/exit-codes.md` is the table.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

/// What a command ends with. The numbers are API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Ok = 0,
    /// Anything that has no number of its own.
    Failed = 1,
    /// The command line or an input file makes no sense.
    Usage = 2,
    /// The deploy ended with everything put back as it was.
    Reverted = 3,
    /// The deploy waits at a gate (`--until gate`).
    Waiting = 4,
    /// Not over within the time given; what was begun goes on.
    TimedOut = 5,
    /// Somebody else holds or changed what was to be changed.
    Conflict = 6,
    /// `dtab diff --exit-code`: the two differ.
    Differs = 7,
    /// What namerctl answers to any error.
    Namerctl = 255,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// An error that has an exit code of its own.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
    /// What a server said beside its status; `namerctl` does not show it, we do.
    pub detail: Option<String>,
}

impl Failure {
    /// As an `anyhow::Error`, so that `?` and `bail!` go on working around it.
    pub fn error(exit: Exit, message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Failure { exit, message: message.into(), detail: None })
    }

    /// The same, with what a server said.
    pub fn with_detail(exit: Exit, message: impl Into<String>, detail: Option<String>) -> anyhow::Error {
        anyhow::Error::new(Failure { exit, message: message.into(), detail })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.detail {
            Some(detail) => write!(f, ": {}", crate::output::safe(detail)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// Prints the error, if there is one, and gives the code to end with.
pub fn report(result: anyhow::Result<Exit>) -> Exit {
    match result {
        Ok(exit) => exit,
        Err(error) => {
            // Standard error may be a log on a full disk. Nobody can be told then, but the code still says it.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            error.downcast_ref::<Failure>().map_or(Exit::Failed, |failure| failure.exit)
        }
    }
}
