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

pub(crate) async fn prometheus(State(context): State<Shared>) -> Response {
    let text = context.sources.registry.snapshot().to_prometheus("");
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
