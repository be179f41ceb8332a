//! What the control plane counts.

use telemetry::{Registry, SharedCounter};

/// Scopes as in the original: `dtabstore`, `interface/<kind>`.
pub(crate) struct Metrics {
    pub(crate) registry: Registry,
    pub(crate) requests: SharedCounter,
    pub(crate) writes: SharedCounter,
    pub(crate) refused_writes: SharedCounter,
    pub(crate) follow_opened: SharedCounter,
    pub(crate) follow_trees: SharedCounter,
    pub(crate) follow_addrs: SharedCounter,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let registry = Registry::default();
        telemetry::register_process(&registry);
        let counter = |path: &[&str]| registry.shared_counter(path);
        let http = |name| counter(&["interface", crate::config::Interface::KIND, name]);
        Metrics {
            requests: http("requests"),
            writes: counter(&["dtabstore", "writes"]),
            refused_writes: counter(&["dtabstore", "refused"]),
            follow_opened: counter(&["follow", "opened"]),
            follow_trees: counter(&["follow", "trees"]),
            follow_addrs: counter(&["follow", "addrs"]),
            registry,
        }
    }

    /// How the certificates of files do, where the document has any.
    pub(crate) fn watch_certificates(&self, reloader: &tls::Reloader) {
        if reloader.status().is_empty() {
            return;
        }
        for (name, read) in tls::TOTALS {
            let reloader = reloader.clone();
            self.registry.gauge_with(&["tls", name], move || read(&reloader.status()));
        }
    }

    /// How the watches of clusters do, where the document has any.
    pub(crate) fn watch_clusters(&self, clusters: &discovery::Clusters) {
        if !clusters.are_used() {
            return;
        }
        for (name, read) in discovery::TOTALS {
            let clusters = clusters.clone();
            self.registry.gauge_with(&["kubernetes", name], move || read(&clusters.totals()));
        }
    }
}
