//! The control plane's pages: namespaces, one dtab with its history, an edit, the fleet.
//!
//! The types are read from the control API (port 4180; its reading part also on the admin port).

mod dtab;
mod edit;
mod fleet;
mod namespaces;

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::explain::Entry;
use crate::parts::{Dots, Mark, Moment};

pub use dtab::{DtabPage, Notice};
pub use edit::{Checked, EditPage};
pub use fleet::FleetPage;
pub use namespaces::{Namespace, NamespacesPage};

/// `GET /api/1/fleet`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fleet {
    pub routers: Vec<FleetRouter>,
    pub namespaces: BTreeMap<String, FleetNamespace>,
    #[serde(default)]
    pub forgotten_after_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct FleetNamespace {
    pub version: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetRouter {
    pub router: String,
    pub process: String,
    pub address: String,
    pub admin: Option<String>,
    pub since: Moment,
    pub last_word: Moment,
    /// `live`, `silent`
    pub state: String,
    pub namespaces: BTreeMap<String, Serves>,
}

/// What a router serves of one namespace.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Serves {
    pub version: Option<String>,
    pub current: bool,
    pub age_ms: Option<u64>,
    pub behind_ms: Option<u64>,
    /// Names that it has still to bind.
    #[serde(default)]
    pub waits_for: Vec<String>,
}

/// One of `GET /api/1/leases`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Lease {
    pub namespace: String,
    pub entry: String,
    pub owner: String,
    pub reason: Option<String>,
    pub since: Moment,
    pub expires: Moment,
}

/// One of `GET /api/1/dtabs/NS/history`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Revision {
    pub version: String,
    pub time: Moment,
    pub author: String,
    pub comment: Option<String>,
    /// `create`, `update`, `delete`
    pub action: String,
    /// Its text, read.
    #[serde(skip)]
    pub entries: Vec<Entry>,
}

/// The routers of one namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Followers {
    pub(crate) in_step: usize,
    pub(crate) behind: usize,
}

impl Fleet {
    pub(crate) fn followers(&self, namespace: &str) -> Followers {
        let serves = self.routers.iter().filter_map(|router| Some((router, router.namespaces.get(namespace)?)));
        let (in_step, behind) = serves.partition::<Vec<_>, _>(|(router, serves)| serves.current && router.is_live());
        Followers { in_step: in_step.len(), behind: behind.len() }
    }

    /// Routers that are silent or serve something old.
    pub fn behind(&self) -> usize {
        self.routers.iter().filter(|router| !router.is_in_step()).count()
    }
}

impl FleetRouter {
    pub(crate) fn is_live(&self) -> bool {
        self.state == "live"
    }

    pub(crate) fn is_in_step(&self) -> bool {
        self.is_live() && self.namespaces.values().all(|serves| serves.current)
    }
}

impl Followers {
    pub(crate) fn all(self) -> usize {
        self.in_step + self.behind
    }

    pub(crate) fn dots(self) -> Dots {
        let label = format!("{} in step, {} behind", self.in_step, self.behind);
        Dots { label, good: self.in_step, lagging: self.behind, ..Dots::default() }
    }

    /// `2 of 3 routers serve it`
    pub(crate) fn mark(self) -> Mark {
        match (self.all(), self.behind) {
            (0, _) => Mark::new("idle", "ring", "no router follows it"),
            (1, 0) => Mark::new("healthy", "ok", "its 1 router serves it"),
            (all, 0) => Mark::new("healthy", "ok", format!("all {all} routers serve it")),
            (all, behind) => Mark::new("lagging", "warn", format!("{} of {all} routers serve it", all - behind)),
        }
    }
}

impl Revision {
    /// `ada: shift to v2`
    pub(crate) fn in_words(&self) -> String {
        let what = self.comment.clone().unwrap_or_else(|| self.action_word().to_owned());
        if self.author == "-" { what } else { format!("{}: {what}", self.author) }
    }

    pub(crate) fn action_word(&self) -> &str {
        match self.action.as_str() {
            "create" => "created",
            "delete" => "deleted",
            _ => "changed",
        }
    }
}

pub(crate) fn dtab_href(namespace: &str) -> String {
    format!("/dtab/{}", crate::web::segment(namespace))
}
