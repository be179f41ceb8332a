//! `/fleet`: every router that follows, those behind first.

use askama::Template;

use super::{Fleet, FleetRouter, Followers};
use crate::parts::Mark;
use crate::{Shell, format};

/// From here on the rest is shown on demand.
const ROWS: usize = 50;

/// The routers of this control plane.
#[derive(Debug, Template)]
#[template(path = "control/fleet.html")]
pub struct FleetPage {
    pub shell: Shell,
    pub fleet: Fleet,
}

impl FleetPage {
    fn namespaces(&self) -> Vec<(&str, &str, Followers)> {
        let all = self.fleet.namespaces.iter();
        all.map(|(name, namespace)| {
            (name.as_str(), namespace.version.as_deref().unwrap_or("deleted"), self.fleet.followers(name))
        })
        .collect()
    }

    /// Those behind first, then by name.
    fn routers(&self) -> Vec<&FleetRouter> {
        let mut routers = self.fleet.routers.iter().collect::<Vec<_>>();
        routers.sort_by_key(|router| {
            (router.is_in_step(), router.is_live(), router.router.as_str(), router.process.as_str())
        });
        routers
    }

    fn pill(&self) -> Option<Mark> {
        let behind = self.fleet.behind();
        let text = format!("{behind} of {} behind", self.fleet.routers.len());
        (behind > 0).then(|| Mark::new("lagging", "warn", text).pill())
    }

    fn forgotten_after(&self) -> String {
        format::span_ms(self.fleet.forgotten_after_ms)
    }

    /// What happens next to one that is behind.
    fn next(&self, router: &FleetRouter) -> String {
        let waits = router.namespaces.values().flat_map(|serves| &serves.waits_for).collect::<Vec<_>>();
        if !router.is_live() {
            return format!(
                "silent: stops counting {} after its last word; if it lives, it goes on with what it last knew",
                self.forgotten_after()
            );
        }
        match waits.as_slice() {
            [] if router.is_in_step() => String::new(),
            [] => "was told the new version, has not acknowledged it yet".to_owned(),
            [one] => format!("binds {one} of the new version"),
            [first, rest @ ..] => format!("binds {first} and {} more of the new version", rest.len()),
        }
    }
}

impl FleetRouter {
    fn mark(&self) -> Mark {
        match (self.is_live(), self.is_in_step()) {
            (false, _) => Mark::new("stale", "warn", "Silent"),
            (true, false) => Mark::new("lagging", "warn", "Behind"),
            (true, true) => Mark::new("healthy", "ok", "In step"),
        }
    }

    fn behind_for(&self) -> String {
        let longest = self.namespaces.values().filter_map(|serves| serves.behind_ms).max();
        longest.map_or_else(|| format::NONE.to_owned(), format::span_ms)
    }
}
