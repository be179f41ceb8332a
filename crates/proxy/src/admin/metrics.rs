//! The metrics endpoints.

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{Shared, json as json_answer};

pub(crate) async fn json(State(context): State<Shared>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let parameters = query.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let answer = telemetry::metrics_json(&context.sources.registry.snapshot(), parameters);
    json_answer(StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK), answer.body)
}

/// Where metrics are told in Prometheus' format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prometheus {
    pub path: String,
    /// Before each name.
    pub prefix: String,
}

impl Default for Prometheus {
    fn default() -> Prometheus {
        Prometheus { path: "/admin/metrics/prometheus".to_owned(), prefix: String::new() }
    }
}

pub(crate) fn prometheus(registry: &telemetry::Registry, prefix: &str) -> Response {
    let text = registry.snapshot().to_prometheus(prefix);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
