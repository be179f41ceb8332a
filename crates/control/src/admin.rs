//! The admin server on 9991: what operators, their tools and the pages ask of the process.
//!
//! `GET /admin/index.txt` lists it. The reading part of the API is here, too, so that pages get their
//! data from where they come from.

mod explain;
mod levels;
mod state;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Query, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use discovery::ConfigError;
use tokio::sync::mpsc;

use crate::{Config, Control, Prometheus, api, config::CATEGORIES, pages};

/// What the handlers share. `asked` gets the grace that a shutdown was asked with.
struct Context {
    control: Control,
    config: Config,
    security: ::admin::Security,
    listed: BTreeSet<String>,
    levels: Option<Arc<dyn Levels>>,
    asked: mpsc::Sender<Option<Duration>>,
}

pub use levels::Levels;

type Shared = Arc<Context>;

pub(crate) fn router(
    control: Control,
    config: Config,
    levels: Option<Arc<dyn Levels>>,
    asked: mpsc::Sender<Option<Duration>>,
) -> Result<Router, ConfigError> {
    let security = config.admin.security().map_err(|error| error.under("admin"))?;
    let context = Arc::new(Context { listed: listed(&control, &config), control, config, security, levels, asked });
    let router = Router::new()
        .route("/admin/ping", any(async || "pong"))
        .route("/admin", get(index))
        .route("/admin/index.txt", get(index))
        .route("/config.json", get(document))
        .route("/admin/server_info", get(state::server_info))
        .route("/admin/metrics.json", get(metrics))
        .route("/metrics.json", get(metrics))
        .route("/admin/shutdown", any(shutdown))
        .route("/dtab/delegator.json", any(explain::answer))
        .route("/delegator.json", any(explain::stored))
        .route("/namer_state/{*name}", get(state::namer))
        .route("/storage/dtabs.json", get(state::dtabs))
        .route("/storage/state.json", get(state::store))
        .route("/bound-names.json", get(state::bound_names))
        .route("/logging.json", any(levels::answer))
        .route("/api/1/{*rest}", get(read_api));
    let guard = middleware::from_fn_with_state(context.clone(), check);
    let pages = pages::router(context.control.clone(), context.config.admin.links.clone());
    Ok(router.with_state(context).merge(pages).layer(guard))
}

fn listed(control: &Control, config: &Config) -> BTreeSet<String> {
    let fixed = [
        "/admin/index.txt",
        "/admin/metrics.json",
        "/admin/ping",
        "/admin/server_info",
        "/admin/shutdown",
        "/api/1/bound-names",
        "/api/1/dtabs",
        "/api/1/fleet",
        "/api/1/leases",
        "/bound-names.json",
        "/config.json",
        "/delegator.json",
        "/dtab/delegator.json",
        "/storage/dtabs.json",
        "/storage/state.json",
    ];
    let namers = control.inner.namers.configured().iter().map(|(prefix, _)| state::namer_path(prefix));
    let prometheus = config.prometheus.iter().map(|prometheus| prometheus.path.clone());
    let influxdb = config.influxdb.then(|| INFLUXDB.to_owned());
    fixed.into_iter().map(str::to_owned).chain(namers).chain(prometheus).chain(influxdb).collect()
}

async fn check(State(context): State<Shared>, request: Request, next: Next) -> Response {
    if !context.security.allows(request.uri().path(), &CATEGORIES) {
        return (StatusCode::NOT_FOUND, "no such page\n").into_response();
    }
    if ::admin::is_foreign(request.method(), request.headers()) {
        return (StatusCode::FORBIDDEN, "a page of another origin may not do this\n").into_response();
    }
    // Before the routes: a document may name any path.
    let wanted = |prometheus: &&Prometheus| prometheus.path == request.uri().path();
    if let Some(prometheus) = context.config.prometheus.iter().find(wanted) {
        let snapshot = context.control.inner.metrics.registry.snapshot();
        let accept = request.headers().get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let accept = accept.filter(|_| prometheus.openmetrics);
        let (kind, text) = telemetry::scraped(&snapshot, &prometheus.prefix, accept);
        return ([(header::CONTENT_TYPE, kind), (header::VARY, "Accept")], text).into_response();
    }
    if context.config.influxdb && request.uri().path() == INFLUXDB {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        return context.control.inner.metrics.registry.snapshot().to_influxdb(host).into_response();
    }
    next.run(request).await
}

/// As in a router.
const INFLUXDB: &str = "/admin/metrics/influxdb";

/// The API, without its writes.
async fn read_api(State(context): State<Shared>, request: Request) -> Response {
    api::read_only(State(context.control.clone()), request).await
}

fn json(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Sorted paths, one a line.
async fn index(State(context): State<Shared>) -> String {
    context.listed.iter().map(|path| format!("{path}\n")).collect()
}

async fn document(State(context): State<Shared>) -> Response {
    json(StatusCode::OK, context.config.document.to_string())
}

async fn metrics(State(context): State<Shared>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let parameters = query.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let answer = telemetry::metrics_json(&context.control.inner.metrics.registry.snapshot(), parameters);
    json(StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK), answer.body)
}

#[derive(serde::Deserialize)]
struct ShutdownQuery {
    grace: Option<String>,
}

/// `POST` only; answers before the process begins to close. `grace=5.seconds`, as in the original.
async fn shutdown(State(context): State<Shared>, method: Method, Query(query): Query<ShutdownQuery>) -> Response {
    if method != Method::POST {
        let mut response = StatusCode::METHOD_NOT_ALLOWED.into_response();
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let grace = match query.grace.as_deref().map(twitter_duration) {
        None => None,
        Some(Some(grace)) => Some(grace),
        Some(None) => {
            let text = format!("cannot read grace={}: write 5.seconds\n", query.grace.unwrap_or_default());
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
    };
    match context.asked.try_send(grace) {
        // A full channel means that a shutdown is under way, which is what was asked for.
        Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => "quitting\n".into_response(),
        Err(mpsc::error::TrySendError::Closed(_)) => {
            (StatusCode::SERVICE_UNAVAILABLE, "nobody listens for a shutdown\n").into_response()
        }
    }
}

/// `5.seconds`, `500.milliseconds`, `1.minute`.
fn twitter_duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_once('.')?;
    let number = number.parse::<u64>().ok()?;
    let millis = match unit.strip_suffix('s').unwrap_or(unit) {
        "millisecond" => 1,
        "second" => 1_000,
        "minute" => 60_000,
        "hour" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}
