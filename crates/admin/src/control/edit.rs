//! `/dtab/NS/edit` and `/new`: a draft, what it changes, whose lease it touches, then the write.

use askama::Template;

use super::{Lease, dtab_href};
use crate::Shell;
use crate::diff::Diff;
use crate::parts::{Icon, Src};

/// A draft of one namespace's dtab.
#[derive(Debug, Template)]
#[template(path = "control/edit.html")]
pub struct EditPage {
    pub shell: Shell,
    /// Empty for a new one, until it is typed.
    pub namespace: String,
    pub is_new: bool,
    /// The version that the draft began from; what is written replaces only that.
    pub base: String,
    /// One entry a line.
    pub draft: String,
    pub author: String,
    pub comment: String,
    /// Why the draft cannot be read or written.
    pub error: Option<String>,
    /// What it would do, once it was looked at.
    pub checked: Option<Checked>,
    /// Somebody else wrote meanwhile: who and what.
    pub overtaken: Option<(String, Diff)>,
}

/// What a draft would change.
#[derive(Debug, Clone)]
pub struct Checked {
    pub diff: Diff,
    /// Leases on entries that it touches.
    pub leases: Vec<Lease>,
}

impl EditPage {
    fn action(&self) -> String {
        if self.is_new { "/new".to_owned() } else { format!("{}/edit", dtab_href(&self.namespace)) }
    }

    fn rows(&self) -> usize {
        (self.draft.lines().count() + 2).clamp(8, 24)
    }

    fn back(&self) -> String {
        if self.is_new { "/".to_owned() } else { dtab_href(&self.namespace) }
    }

    fn src(&self) -> Src {
        self.shell.src(&format!("/api/1/dtabs/{}", crate::web::segment(&self.namespace)))
    }

    fn can_write(&self) -> bool {
        self.error.is_none()
            && self.checked.as_ref().is_some_and(|checked| !checked.diff.lines.is_empty() || self.is_new)
    }
}
