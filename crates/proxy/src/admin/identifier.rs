//! `httpIdentifierPort`: what the routers would call a request. Every request to this server is
//! identified, and none is sent anywhere.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Version};
use axum::response::Response;
use http1::{Limits, Progress, RequestHead, parse_request};
use serde_json::{Map, Value, json};

use super::json as json_answer;
use crate::context;
use crate::identify::Unidentified;
use crate::settings;

/// Answers `{"LABEL":{"path":"/svc/web","dtab":"/a=>/b"}}`, or `{"LABEL":{"error":"Host header is absent"}}`.
pub fn identifier(routers: Vec<settings::Router>) -> Router {
    Router::new().fallback(answer).with_state(Arc::new(routers))
}

async fn answer(State(routers): State<Arc<Vec<settings::Router>>>, request: Request<Body>) -> Response {
    let bytes = written(&request);
    let mut head = RequestHead::default();
    // What hyper let through is not all that a router lets through.
    let limits = Limits { line: bytes.len(), headers: bytes.len() };
    let parsed = parse_request(&bytes, &limits, &mut head);
    let identified: Map<String, Value> = routers
        .iter()
        .map(|router| {
            let found = match &parsed {
                Ok(Progress::Complete) => identify(router, &head, &bytes),
                Ok(Progress::Partial) => Err("the head has no end".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            (router.label.clone(), found.unwrap_or_else(|error| json!({ "error": error })))
        })
        .collect();
    json_answer(StatusCode::OK, Value::Object(identified).to_string())
}

/// The head as it was sent, as far as that matters to an identifier.
fn written(request: &Request<Body>) -> Vec<u8> {
    let version = if request.version() == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" };
    let mut bytes = format!("{} {} {version}\r\n", request.method(), request.uri()).into_bytes();
    for (name, value) in request.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// As a worker does it, without its cache.
fn identify(router: &settings::Router, head: &RequestHead, bytes: &[u8]) -> Result<Value, String> {
    let mut reason = String::new();
    for identifier in &router.identifiers {
        let mut key = Vec::new();
        match identifier.key(head, bytes, &mut key) {
            Ok(()) => {
                let path = router.dst_prefix.concat(&identifier.name(&key)?);
                let local = context::dtab(head, bytes).map_err(|error| error.message)?;
                return Ok(json!({ "path": path.to_string(), "dtab": router.dtab.concat(&local).to_string() }));
            }
            Err(Unidentified::Next(why)) => reason = why,
            Err(Unidentified::Failed(why)) => return Err(why),
        }
    }
    Err(reason)
}
