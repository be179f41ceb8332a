//! `/`: the namespaces, who serves them, leases.

use askama::Template;

use super::{Fleet, Followers, Lease, Revision, dtab_href};
use crate::diff::Diff;
use crate::parts::{Cmd, Icon, Mark};
use crate::{Shell, format};

/// The control plane's first page.
#[derive(Debug, Template)]
#[template(path = "control/namespaces.html")]
pub struct NamespacesPage {
    pub shell: Shell,
    /// Sorted by name.
    pub namespaces: Vec<Namespace>,
    pub fleet: Fleet,
    pub leases: Vec<Lease>,
    /// `io.switchyard.sqlite`
    pub store: String,
    /// Whether a write is on disk before it is acknowledged.
    pub is_durable: bool,
}

/// One namespace.
#[derive(Debug)]
pub struct Namespace {
    pub name: String,
    pub current: Revision,
    /// The revision before it, if there is one.
    pub before: Option<Revision>,
}

impl NamespacesPage {
    fn followers(&self, namespace: &Namespace) -> Followers {
        self.fleet.followers(&namespace.name)
    }

    fn leases_of(&self, namespace: &Namespace) -> usize {
        self.leases.iter().filter(|lease| lease.namespace == namespace.name).count()
    }

    fn in_step(&self) -> Followers {
        let behind = self.fleet.behind();
        Followers { in_step: self.fleet.routers.len() - behind, behind }
    }

    fn fleet_mark(&self) -> Mark {
        let followers = self.in_step();
        match (followers.all(), followers.behind) {
            (0, _) => Mark::new("idle", "ring", "No router follows"),
            (_, 0) => Mark::new("healthy", "ok", "All routers in step"),
            (_, behind) => Mark::new("lagging", "warn", format!("{} behind", format::counted(behind as u64, "router"))),
        }
    }

    fn durable_mark(&self) -> Mark {
        if self.is_durable {
            Mark::new("healthy", "ok", "Writes are durable")
        } else {
            Mark::new("stale", "warn", "Kept in memory: gone when this process ends")
        }
    }

    fn first(&self) -> Cmd {
        Cmd::new("echo '/svc => /#/io.l5d.fs' | switchyard dtab create internal -", None)
    }
}

impl Namespace {
    fn href(&self) -> String {
        dtab_href(&self.name)
    }

    /// What the last write did.
    fn change(&self) -> String {
        match &self.before {
            Some(before) => Diff::of(&before.entries, &self.current.entries).in_words(),
            None => match self.current.entries.len() {
                1 => "1 entry".to_owned(),
                number => format!("{number} entries"),
            },
        }
    }
}
