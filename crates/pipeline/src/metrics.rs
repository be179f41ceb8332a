//! What the pipeline server counts, and where it is shown.
//!
//! | path | |
//! |---|---|
//! | `http/route/<METHOD PATH>/requests`, `…/status/<STATUS>` | requests, by the route that answered; `other` is none of ours |
//! | `server/…` | connections and refusals: [`serving::Counts`] |
//! | `deploys/pipeline/<NAME>/<STATE>` | deploys of the journal, by how they stand |
//! | `gates/waiting`, `gates/longest_wait_seconds` | deploys that wait for a person |
//! | `tls/…`, `process/…`, `jvm/…` | as in a router |

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{MatchedPath, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use telemetry::{Registry, SharedCounter};

use crate::api::DeployState;
use crate::deploys::Deploys;
use crate::view;

/// Clones share.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    routes: Arc<Mutex<HashMap<Key, Counters>>>,
}

/// As many as there are routes, methods that have a name, and statuses.
type Key = (String, StatusCode);

#[derive(Clone)]
struct Counters {
    requests: SharedCounter,
    status: SharedCounter,
}

const STATES: [(&str, DeployState); 5] = [
    ("running", DeployState::Running),
    ("waiting", DeployState::Waiting),
    ("succeeded", DeployState::Succeeded),
    ("reverted", DeployState::Reverted),
    ("failed", DeployState::Failed),
];

/// Nobody's route, or a method that nobody has heard of.
const OTHER: &str = "other";

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let registry = Registry::default();
        telemetry::register_process(&registry);
        Metrics { registry, routes: Arc::default() }
    }

    /// What a port counts.
    pub(crate) fn port(&self) -> serving::Counts {
        serving::Counts::under(&self.registry, &["server"])
    }

    /// Where the document has any.
    pub(crate) fn watch_certificates(&self, reloader: &tls::Reloader) {
        if reloader.status().is_empty() {
            return;
        }
        for (name, read) in tls::TOTALS {
            let reloader = reloader.clone();
            self.registry.gauge_with(&["tls", name], move || read(&reloader.status()));
        }
    }

    /// Deploys of the pipelines that there are, and were.
    pub(crate) fn watch_deploys(&self, deploys: &Deploys) {
        let pipelines: BTreeSet<String> = deploys.pipelines_known();
        for (pipeline, (name, state)) in pipelines.iter().flat_map(|pipeline| STATES.map(|state| (pipeline, state))) {
            let (deploys, wanted) = (deploys.clone(), pipeline.clone());
            let count = move || deploys.count(|story| story.head.file.name == wanted && view::state(story) == state);
            self.registry.gauge_with(&["deploys", "pipeline", pipeline, name], move || count() as f64);
        }
        let waiting = deploys.clone();
        let waits = move || waiting.count(|story| view::state(story) == DeployState::Waiting) as f64;
        self.registry.gauge_with(&["gates", "waiting"], waits);
        let waiting = deploys.clone();
        self.registry.gauge_with(&["gates", "longest_wait_seconds"], move || waiting.longest_wait().as_secs_f64());
    }

    fn count(&self, route: String, status: StatusCode) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = routes.entry((route, status)).or_insert_with_key(|(route, status)| {
            let under = |name: &[&str]| self.registry.shared_counter(&[&["http", "route", route], name].concat());
            Counters { requests: under(&["requests"]), status: under(&["status", status.as_str()]) }
        });
        counters.requests.inc();
        counters.status.inc();
    }
}

/// `GET /api/1/deploys/{id}`
fn route(method: &Method, path: Option<&MatchedPath>) -> String {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH];
    match path {
        Some(path) if known.contains(method) => format!("{method} {}", path.as_str()),
        _ => OTHER.to_owned(),
    }
}

/// Counts a request when the head of its answer is there.
pub(crate) async fn counted(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let route = route(request.method(), request.extensions().get::<MatchedPath>());
    let response = next.run(request).await;
    metrics.count(route, response.status());
    response
}

/// Where they are shown, as by a router and a control plane.
pub(crate) fn exposition(metrics: Metrics) -> Router {
    Router::new()
        .route("/admin/metrics.json", get(json))
        .route("/admin/metrics/prometheus", get(prometheus))
        .with_state(metrics)
}

async fn json(State(metrics): State<Metrics>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let parameters = query.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let answer = telemetry::metrics_json(&metrics.registry.snapshot(), parameters);
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    (status, [(header::CONTENT_TYPE, "application/json")], answer.body).into_response()
}

/// The text of Linkerd's, or OpenMetrics for who asks for it.
async fn prometheus(State(metrics): State<Metrics>, headers: HeaderMap) -> Response {
    let snapshot = metrics.registry.snapshot();
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (kind, text) = telemetry::scraped(&snapshot, "", accept);
    ([(header::CONTENT_TYPE, kind), (header::VARY, "Accept")], text).into_response()
}
