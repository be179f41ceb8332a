//! The metrics endpoints.

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{Shared, json as json_answer};

pub(crate) async fn json(State(context): State<Shared>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let parameters = query.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let answer = telemetry::metrics_json(&context.sources.registry.snapshot(), parameters);
    json_answer(StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK), answer.body)
}

/// What exporters did: the array of their [`telemetry::export::Report`]s.
pub(crate) async fn exporters(State(context): State<Shared>) -> Response {
    let reports = context.sources.exporters.all();
    json_answer(StatusCode::OK, serde_json::json!(reports).to_string())
}

/// Where metrics are told in Prometheus' format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prometheus {
    pub path: String,
    /// Before each name.
    pub prefix: String,
    /// Whether who prefers OpenMetrics gets it. Its counters end in `_total`, so that a dashboard made for the
    /// original would find none of them; therefore the original's telemeter tells the original's text to all.
    pub openmetrics: bool,
}

impl Default for Prometheus {
    fn default() -> Prometheus {
        Prometheus { path: "/admin/metrics/prometheus".to_owned(), prefix: String::new(), openmetrics: true }
    }
}

pub(crate) fn prometheus(registry: &telemetry::Registry, of: &Prometheus, headers: &HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (kind, text) = telemetry::scraped(&registry.snapshot(), &of.prefix, accept.filter(|_| of.openmetrics));
    ([(header::CONTENT_TYPE, kind), (header::VARY, "Accept")], text).into_response()
}

/// `io.l5d.influxdb`
pub(crate) const INFLUXDB: &str = "/admin/metrics/influxdb";

pub(crate) async fn influxdb(State(context): State<Shared>, headers: HeaderMap) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    context.sources.registry.snapshot().to_influxdb(host).into_response()
}
