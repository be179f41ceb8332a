//! How a name becomes endpoints, as a person reads it: a rewrite is a row, only a branch indents.
//!
//! Read from the delegation JSON of the original (`/delegator.json`, `/api/1/delegate`). What is not
//! taken stays on the page, greyed: an alternative after one that leads somewhere, a branch that leads
//! nowhere.

mod node;
mod view;

use askama::Template;

pub use node::{Address, Bound, Entry, Node, Weighted};
pub use view::{Branch, By, Explained, Goes, Row};

pub(crate) use view::newest;

use crate::Shell;
use crate::parts::{Icon, Src};

/// The form above an explanation, and the answer below it if something was asked.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Where the form goes, `/dtab/internal/explain`.
    pub action: String,
    pub path: String,
    /// The override, as in `l5d-dtab`.
    pub dtab: String,
    /// What to choose from beside the path: `("router", ["outgoing", …], "outgoing")`.
    pub choice: Option<Choice>,
    /// The endpoint's path with its query.
    pub endpoint: String,
    /// The tree, or why there is none; `None` before anything was asked.
    pub answer: Option<Result<Explained, String>>,
}

/// A field with a few fixed values.
#[derive(Debug, Clone)]
pub struct Choice {
    pub name: &'static str,
    pub label: &'static str,
    /// Value and text.
    pub values: Vec<(String, String)>,
    pub chosen: String,
}

/// The card with form and tree, on whichever page it stands.
#[derive(Debug, Template)]
#[template(path = "parts/explain.html")]
pub struct Card<'a> {
    pub asked: &'a Asked,
    pub shell: &'a Shell,
}

impl askama::filters::HtmlSafe for Card<'_> {}

impl Asked {
    pub fn card<'a>(&'a self, shell: &'a Shell) -> Card<'a> {
        Card { asked: self, shell }
    }
}

impl Card<'_> {
    fn src(&self) -> Src {
        self.shell.src(&self.asked.endpoint)
    }
}

/// One branch with its rows and what hangs below it.
#[derive(Template)]
#[template(path = "parts/branch.html")]
pub(crate) struct BranchView<'a>(&'a Branch);

impl askama::filters::HtmlSafe for BranchView<'_> {}

impl Branch {
    fn view(&self) -> BranchView<'_> {
        BranchView(self)
    }
}

impl Explained {
    pub(crate) fn root(&self) -> BranchView<'_> {
        self.root.view()
    }
}

/// A page with nothing but an explanation.
#[derive(Debug, Template)]
#[template(path = "parts/explain_page.html")]
pub struct ExplainPage {
    pub shell: Shell,
    /// Links above the heading: text and where to.
    pub crumbs: Vec<(String, String)>,
    pub asked: Asked,
}
