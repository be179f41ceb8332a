//! Revisions: what a namespace was, since when, and by whose hand.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::Timestamp;
use names::Dtab;

use crate::{Error, Version};

/// One version of a namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    pub namespace: Arc<str>,
    pub version: Version,
    pub time: Timestamp,
    /// `-` where nobody said.
    pub author: Arc<str>,
    pub comment: Option<Arc<str>>,
    pub action: Action,
    /// Empty where the action is a deletion.
    pub dtab: Dtab,
}

impl Revision {
    /// False for a deletion.
    pub fn exists(&self) -> bool {
        self.action != Action::Delete
    }
}

/// What made a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Create,
    Update,
    Delete,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Create => "create",
            Action::Update => "update",
            Action::Delete => "delete",
        })
    }
}

/// Not one of `create`, `update`, `delete`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an action")]
pub struct NotAnAction;

impl FromStr for Action {
    type Err = NotAnAction;
    fn from_str(text: &str) -> Result<Action, NotAnAction> {
        match text {
            "create" => Ok(Action::Create),
            "update" => Ok(Action::Update),
            "delete" => Ok(Action::Delete),
            _ => Err(NotAnAction),
        }
    }
}

/// What is to become of a namespace.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Refused where it exists.
    Create(Dtab),
    /// Refused where it does not exist, or none of these versions is the current one.
    Update(Dtab, Vec<Version>),
    /// Creates or overwrites.
    Put(Dtab),
    /// Refused where it does not exist; with versions, also where none of them is the current one.
    Delete(Option<Vec<Version>>),
}

/// Who writes, when, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    pub author: Arc<str>,
    pub comment: Option<Arc<str>>,
    pub time: Timestamp,
}

impl Note {
    /// Written now, without a comment.
    pub fn now(author: &str) -> Note {
        Note { author: author.into(), comment: None, time: Timestamp::now() }
    }
}

/// Decides a write: the revision that follows from `last`. The one place where that is decided.
pub(crate) fn decide(
    namespace: &str,
    last: Option<&Revision>,
    change: &Change,
    note: &Note,
) -> Result<Revision, Error> {
    let current = last.filter(|revision| revision.exists());
    let is_current = |versions: &[Version]| current.is_some_and(|revision| versions.contains(&revision.version));
    let missing = || Error::DoesNotExist(namespace.into());
    let (action, dtab) = match change {
        Change::Create(_) if current.is_some() => return Err(Error::AlreadyExists(namespace.into())),
        Change::Create(dtab) => (Action::Create, dtab.clone()),
        Change::Put(dtab) => (if current.is_some() { Action::Update } else { Action::Create }, dtab.clone()),
        Change::Update(..) | Change::Delete(_) if current.is_none() => return Err(missing()),
        Change::Update(_, versions) if !is_current(versions) => return Err(Error::VersionMismatch),
        Change::Update(dtab, _) => (Action::Update, dtab.clone()),
        Change::Delete(Some(versions)) if !is_current(versions) => return Err(Error::VersionMismatch),
        Change::Delete(_) => (Action::Delete, Dtab::empty()),
    };
    Ok(Revision {
        namespace: namespace.into(),
        version: last.map_or(Version::FIRST, |last| last.version.next()),
        time: to_millis(note.time),
        author: note.author.clone(),
        comment: note.comment.clone(),
        action,
        dtab,
    })
}

/// Times are kept to the millisecond, in each kind of store.
pub(crate) fn to_millis(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}
