//! The router's admin server: what one asks a running router, and its pages.
//!
//! ```text
//!  binary ── Sources ──▶ routes() ──▶ axum, on a thread of its own
//!                │
//!                ├─ registry      counters of all workers
//!                ├─ interpreters  to explain names
//!                └─ Status        clients and recent requests, copied out of the workers
//! ```
//! Nothing here runs on a worker, and no worker waits for it.

mod basics;
pub(crate) mod certificates;
mod delegator;
mod explained;
mod identifier;
mod levels;
mod lifecycle;
mod metrics;
mod overview;
mod pages;
mod requests;
mod security;
mod state;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use names::Path;
use naming::{Addr, Interpreter, Namer};
use telemetry::{History, Registry};
use tokio::sync::mpsc;

pub use self::security::CATEGORIES;
pub use ::admin::{Security, SecurityConfig, SecurityError};
pub use identifier::identifier;
pub use levels::{Level, Levels, UnknownLevel};
pub use lifecycle::{Phase, Readiness, Reloaded, Reloads, starting};
pub use metrics::Prometheus;
pub use requests::{Attempt, RecentRequest};

/// How often a column of the history ends.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// Everything the admin server tells about. The binary fills it.
pub struct Sources {
    pub registry: Registry,
    /// Paths must not be [`is_taken`]; none is the default one.
    pub prometheus: Vec<Prometheus>,
    /// Whether metrics are told in InfluxDB's format, too.
    pub influxdb: bool,
    /// `/admin/exporters.json`
    pub exporters: telemetry::export::Reports,
    /// Kept by [`keep_history`].
    pub history: Arc<Mutex<History>>,
    pub routers: Vec<RouterSource>,
    /// With their full prefixes, `/#/io.l5d.fs`.
    pub namers: Vec<(Path, Arc<dyn Namer>)>,
    /// The namers without any dtab: `/delegator.json` without `namespace`.
    pub bare: Arc<dyn Interpreter>,
    /// The parsed config, written out again.
    pub config: serde_json::Value,
    /// Log levels that can be changed; `None` makes `/logging.json` answer 501.
    pub levels: Option<Arc<dyn Levels>>,
    /// Receives the grace of each accepted `POST /admin/shutdown`; `None` in it: as configured.
    pub shutdown: mpsc::Sender<Option<Duration>>,
    pub readiness: Readiness,
    pub reloads: Reloads,
    pub security: Security,
    /// When the process began.
    pub started: Instant,
    /// For `/admin/tls.json`.
    pub tls: tls::Reloader,
    /// `switchyard 0.1.0`, for `/admin/server_info`.
    pub version: String,
}

/// One router.
pub struct RouterSource {
    pub label: String,
    /// `io.l5d.namerd.http`
    pub interpreter_kind: String,
    /// The base dtab, under which every request is bound; what a request brings is added.
    pub dtab: names::Dtab,
    pub interpreter: Arc<dyn Interpreter>,
    pub status: Arc<dyn Status>,
}

/// What the data plane tells about itself, read from outside its workers.
pub trait Status: Send + Sync {
    fn clients(&self) -> Vec<ClientStatus>;
    /// Newest first. Bounded by whoever keeps them.
    fn requests(&self) -> Vec<RecentRequest>;
}

/// A bound name in use.
#[derive(Debug, Clone)]
pub struct ClientStatus {
    /// `/#/io.l5d.fs/world-v1`
    pub id: String,
    pub addr: naming::State<Addr>,
}

pub(crate) type Shared = Arc<Context>;

/// What handlers see.
pub(crate) struct Context {
    pub(crate) sources: Sources,
    /// What `/admin` lists.
    pub(crate) listed: BTreeSet<String>,
}

impl Context {
    pub(crate) fn router(&self, label: &str) -> Option<&RouterSource> {
        self.sources.routers.iter().find(|router| router.label == label)
    }
}

const FIXED: &[&str] = &[
    "/admin",
    "/admin/index.txt",
    "/admin/exporters.json",
    "/admin/metrics.json",
    "/admin/overview.json",
    "/admin/ping",
    "/admin/ready",
    "/admin/reload",
    "/admin/requests.json",
    "/admin/server_info",
    "/admin/shutdown",
    "/admin/tls.json",
    "/bound-names.json",
    "/client_state.json",
    "/config.json",
    "/delegator.json",
    "/logging.json",
];

/// Whether a path that can be configured would be hidden by one that cannot.
#[must_use]
pub fn is_taken(path: &str) -> bool {
    let below = ["/admin/requests/", "/namer_state/", "/assets/", "/files/", "/requests"];
    let pages = ["/", "/services", "/delegator", "/logging"];
    FIXED.contains(&path)
        || path == metrics::INFLUXDB
        || pages.contains(&path)
        || below.iter().any(|prefix| path.starts_with(prefix))
}

/// The whole admin server. Mount pages beside it with [`axum::Router::merge`] before [`secured`].
pub fn routes(mut sources: Sources) -> Router {
    let security = sources.security.clone();
    if sources.prometheus.is_empty() {
        sources.prometheus.push(Prometheus::default());
    }
    let mut listed = FIXED.iter().map(|path| (*path).to_owned()).collect::<BTreeSet<_>>();
    listed.extend(sources.prometheus.iter().map(|prometheus| prometheus.path.clone()));
    listed.extend(sources.influxdb.then(|| metrics::INFLUXDB.to_owned()));
    listed.extend(sources.namers.iter().map(|(prefix, _)| state::namer_path(prefix)));
    listed.extend(sources.routers.iter().map(state::interpreter_path));
    let metrics =
        if sources.influxdb { Router::new().route(metrics::INFLUXDB, get(metrics::influxdb)) } else { Router::new() };
    let context = Arc::new(Context { sources, listed });
    let routes = Router::new()
        .route("/admin", get(basics::index))
        .route("/admin/index.txt", get(basics::index))
        .route("/admin/ping", any(|| async { "pong" }))
        .route("/admin/ready", any(lifecycle::ready))
        .route("/admin/reload", any(lifecycle::reload))
        .route("/admin/server_info", get(basics::server_info))
        .route("/admin/shutdown", any(basics::shutdown))
        .route("/config.json", get(basics::config))
        .route("/admin/metrics.json", get(metrics::json))
        .route("/admin/exporters.json", get(metrics::exporters))
        .route("/delegator.json", any(delegator::answer))
        .route("/bound-names.json", get(state::bound_names))
        .route("/client_state.json", get(state::clients))
        .route("/logging.json", any(levels::answer))
        .route("/admin/overview.json", get(overview::answer))
        .route("/admin/requests.json", get(requests::list))
        .route("/admin/tls.json", get(certificates::answer))
        .route("/admin/requests/{id}", get(requests::why))
        .route("/namer_state/{*name}", get(state::namer))
        .route("/{router}/interpreter_state/{*name}", get(state::interpreter))
        .merge(metrics)
        .merge(pages::routes())
        .fallback(other)
        .with_state(context);
    secured(routes, security)
}

/// Paths that the document chose.
async fn other(State(context): State<Shared>, uri: Uri, headers: HeaderMap) -> Response {
    match context.sources.prometheus.iter().find(|prometheus| prometheus.path == uri.path()) {
        Some(prometheus) => metrics::prometheus(&context.sources.registry, prometheus, &headers),
        None => not_found("no such page"),
    }
}

/// Puts the `security` keys in front of any routes.
pub fn secured(routes: Router, security: Security) -> Router {
    routes.layer(axum::middleware::from_fn_with_state(Arc::new(security), security::check))
}

/// Ends histogram windows and history columns, for ever. Spawn it on the control runtime.
pub async fn keep_history(registry: Registry, history: Arc<Mutex<History>>) {
    let started = Instant::now();
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = registry.crowded() => {
                registry.settle();
                continue;
            }
        }
        let now = started.elapsed();
        registry.tick(now);
        let mut history = history.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        history.sample(&registry, now);
    }
}

pub(crate) fn not_found(text: &str) -> Response {
    (StatusCode::NOT_FOUND, format!("{text}\n")).into_response()
}

pub(crate) fn json(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Our own endpoints' errors.
pub(crate) fn json_error(status: StatusCode, text: &str) -> Response {
    json(status, serde_json::json!({ "error": text }).to_string())
}

/// 405 with the methods that would do.
pub(crate) fn method_not_allowed(allowed: &'static str) -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, allowed)]).into_response()
}
