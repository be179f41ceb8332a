//! `/admin/overview.json`: the process and its routers in figures, for pages and for scripts.
//!
//! `last` sums up the last minute of the history, `columns` are the ten minutes behind it: `?columns=all`, `servers`
//! or `none`, without which the router that `?router=LABEL` names has all and others have none. What was not measured is `null`, never 0. With `?limit=N` only the N
//! busiest services of each router are told, and the clients that they went to; the counts are of all.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::PoisonError;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use naming::{Addr, State as Known};
use serde::Deserialize;
use serde_json::{Value, json};
use telemetry::{Column, History, Snapshot};

use super::{ClientStatus, Context, Phase, RouterSource, Shared, json as json_answer, json_error};

const LAST: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
pub(crate) struct OverviewQuery {
    router: Option<String>,
    limit: Option<usize>,
    columns: Option<String>,
}

pub(crate) async fn answer(State(context): State<Shared>, Query(query): Query<OverviewQuery>) -> Response {
    if let Some(label) = query.router.as_deref().filter(|label| context.router(label).is_none()) {
        return json_error(StatusCode::NOT_FOUND, &format!("no router is called {label}"));
    }
    let columns = match (query.columns.as_deref(), &query.router) {
        (Some("all"), _) | (None, Some(_)) => Columns::All,
        (Some("servers"), _) => Columns::Servers,
        (Some("none"), _) | (None, None) => Columns::None,
        (Some(other), _) => {
            let text = format!("unknown columns {other}: use all, servers or none");
            return json_error(StatusCode::BAD_REQUEST, &text);
        }
    };
    let most = query.limit.unwrap_or(usize::MAX);
    let overview = document(&context, query.router.as_deref(), most, |_| columns);
    json_answer(StatusCode::OK, overview.to_string())
}

/// Whose ten minutes are told: they are most of what there is to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Columns {
    None,
    Servers,
    All,
}

/// The overview of one router or of all, with so many services of each at the most.
pub(crate) fn document(context: &Context, only: Option<&str>, most: usize, columns: impl Fn(&str) -> Columns) -> Value {
    // A router with many names has hundred times as many series as are told here.
    let snapshot = context.sources.registry.snapshot_matching(is_told);
    let history = context.sources.history.lock().unwrap_or_else(PoisonError::into_inner);
    let figures = Figures { snapshot: &snapshot, history: &history };
    let chosen = |router: &&RouterSource| only.is_none_or(|label| label == router.label);
    let routers = context.sources.routers.iter().filter(chosen);
    let routers = routers.map(|router| figures.router(router, most, columns(&router.label))).collect::<Vec<_>>();
    json!({ "process": process(context, &snapshot), "routers": routers })
}

fn process(context: &Context, snapshot: &Snapshot) -> Value {
    json!({
        "version": context.sources.version,
        "pid": std::process::id(),
        "uptimeMs": context.sources.started.elapsed().as_millis() as u64,
        "residentBytes": snapshot.gauge(&["process", "resident_bytes"]),
        "cpuSeconds": snapshot.gauge(&["process", "cpu_seconds"]),
        "phase": match context.sources.readiness.get() {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Draining => "draining",
        },
        "reload": context.sources.reloads.last(),
    })
}

/// Whether the series of this path is read here.
fn is_told(mut path: std::str::Split<'_, char>) -> bool {
    match path.next() {
        Some("process") => return true,
        Some("rt") => {}
        _ => return false,
    }
    let (_label, kind, _name) = (path.next(), path.next(), path.next());
    let mut leaf = path.next();
    if kind == Some("client") && leaf == Some("service") {
        let _service = path.next();
        leaf = path.next();
    }
    matches!(kind, Some("server" | "service" | "client"))
        && matches!(leaf, Some("requests" | "failures" | "pending"))
        && path.next().is_none()
}

struct Figures<'a> {
    snapshot: &'a Snapshot,
    history: &'a History,
}

impl Figures<'_> {
    fn router(&self, router: &RouterSource, most: usize, columns: Columns) -> Value {
        let label = router.label.as_str();
        let part = |kind: &str, name: &str| {
            let with_columns = columns == Columns::All || (columns == Columns::Servers && kind == "server");
            self.part(&["rt", label, kind, name], with_columns)
        };
        let parts = |kind: &str, names: &[String]| names.iter().map(|name| part(kind, name)).collect::<Vec<_>>();
        let mut services = self.snapshot.children(&["rt", label, "service"]);
        let service_count = services.len();
        self.keep_busiest(label, "service", &mut services, most);
        let is_cut = services.len() < service_count;
        let told = services.iter().map(String::as_str).collect::<HashSet<_>>();

        let mut clients = self.snapshot.children(&["rt", label, "client"]);
        let client_count = clients.len();
        let mut shares = HashMap::new();
        clients.retain(|name| {
            let mut services = self.snapshot.children(&["rt", label, "client", name, "service"]);
            services.retain(|service| !is_cut || told.contains(service.as_str()));
            let is_wanted = !is_cut || !services.is_empty();
            shares.insert(name.clone(), services);
            is_wanted
        });
        self.keep_busiest(label, "client", &mut clients, most);

        let statuses = router.status.clients();
        let without = statuses.iter().filter(|status| is_without_endpoints(status)).count();
        let statuses: HashMap<&str, &ClientStatus> =
            statuses.iter().map(|status| (status.id.trim_start_matches('/'), status)).collect();
        let clients = clients.iter().map(|name| {
            let mut client = part("client", name);
            let services = shares.remove(name).unwrap_or_default().into_iter();
            client["services"] = services.map(|service| self.share(label, name, service)).collect();
            client["addr"] = json!(statuses.get(name.as_str()).map(|status| addr(status)));
            client
        });
        json!({
            "label": label,
            "interpreter": interpreter(router),
            "servers": parts("server", &self.snapshot.children(&["rt", label, "server"])),
            "clients": clients.collect::<Vec<_>>(),
            "services": parts("service", &services),
            "serviceCount": service_count,
            "clientCount": client_count,
            "withoutEndpoints": without,
        })
    }

    /// Those with most requests in the newest column, then since the start; in the order of names.
    fn keep_busiest(&self, label: &str, kind: &str, names: &mut Vec<String>, most: usize) {
        if names.len() <= most {
            return;
        }
        names.sort_by_cached_key(|name| {
            let newest = self.history.get(&["rt", label, kind, name]).and_then(|series| series.columns().next_back());
            let since_start = self.snapshot.counter(&["rt", label, kind, name, "requests"]);
            Reverse((newest.map_or(0, |column| column.requests), since_start))
        });
        names.truncate(most);
        names.sort();
    }

    fn part(&self, path: &[&str; 4], with_columns: bool) -> Value {
        let below = |name: &'static str| [path[0], path[1], path[2], path[3], name];
        let series = self.history.get(path);
        let newest = series.and_then(|series| series.columns().next_back()).map(|column| column.end);
        let last = series.zip(newest).map(|(series, newest)| series.total(newest.saturating_sub(LAST)));
        let mut part = json!({
            "name": path[3],
            "requests": self.snapshot.counter(&below("requests")),
            "failures": self.snapshot.counter(&below("failures")),
            "pending": self.snapshot.gauge(&below("pending")),
            "last": last.as_ref().map(figures),
        });
        if with_columns {
            part["columns"] =
                series.into_iter().flat_map(|series| series.columns()).map(|column| figures(&column)).collect();
        }
        part
    }

    /// What one service sent through one client.
    fn share(&self, label: &str, client: &str, service: String) -> Value {
        let count = |name| self.snapshot.counter(&["rt", label, "client", client, "service", &service, name]);
        json!({ "requests": count("requests"), "failures": count("failures"), "name": service })
    }
}

fn figures(column: &Column) -> Value {
    let seconds = column.length.as_secs_f64();
    let summary = column.latency_ms.summary();
    let latency = (summary.count > 0)
        .then(|| json!({ "p50": summary.p50, "p90": summary.p90, "p99": summary.p99, "max": summary.max }));
    json!({
        "seconds": seconds,
        "requests": column.requests,
        "failures": column.failures,
        "perSecond": (seconds > 0.0).then(|| column.requests as f64 / seconds),
        "latencyMs": latency,
    })
}

fn interpreter(router: &RouterSource) -> Value {
    let (served, stale) = match router.interpreter.served().get() {
        Known::Ok(served) => {
            let stale = served.stale.clone();
            (Some(served), stale)
        }
        Known::Pending => (None, None),
        Known::Failed(why) => (None, Some(why)),
    };
    let confirmed = served.as_ref().and_then(|served| served.confirmed);
    let confirmed = confirmed.and_then(|time| jiff::Timestamp::try_from(time).ok()).map(|time| format!("{time:.3}"));
    json!({
        "kind": router.interpreter_kind,
        "namespace": served.as_ref().and_then(|served| served.namespace.as_deref()),
        "version": served.as_ref().and_then(|served| served.version.as_deref()),
        "confirmed": confirmed,
        "stale": stale.as_deref(),
    })
}

fn addr(client: &ClientStatus) -> Value {
    match &client.addr {
        Known::Ok(Addr::Bound { endpoints, .. }) => {
            let endpoint = |endpoint: &naming::Endpoint| json!({ "addr": endpoint.addr, "weight": endpoint.weight });
            json!({ "state": "bound", "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>() })
        }
        Known::Ok(Addr::Neg) => json!({ "state": "neg" }),
        Known::Ok(Addr::Failed(why)) | Known::Failed(why) => json!({ "state": "failed", "cause": why.as_ref() }),
        Known::Pending => json!({ "state": "pending" }),
    }
}

/// Known to have none; not one that is still asked for.
fn is_without_endpoints(client: &ClientStatus) -> bool {
    match &client.addr {
        Known::Ok(Addr::Bound { endpoints, .. }) => endpoints.is_empty(),
        Known::Ok(Addr::Neg | Addr::Failed(_)) | Known::Failed(_) => true,
        Known::Pending => false,
    }
}
