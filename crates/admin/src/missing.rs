//! A page in place of one that is not there, or that could not be made.

use askama::Template;

use crate::Shell;

/// Says what is missing and where to go.
#[derive(Debug, Template)]
#[template(path = "missing.html")]
pub struct MissingPage {
    pub shell: Shell,
    /// `There is no deploy 12`
    pub title: String,
    /// What is known about it, in a sentence.
    pub what: String,
}
