//! `delegate`: every step from a name to its endpoints.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use names::{Dtab, Path};
use naming::{ExplainError, json};
use serde::Deserialize;

use super::{
    Call,
    answers::{self, answer, bad_request, text_error},
    body::{Object, parameters, whole},
};
use crate::Control;

struct Asked {
    namespace: Option<String>,
    dtab: Dtab,
    path: Path,
}

#[derive(Deserialize)]
struct Posted {
    #[serde(default)]
    namespace: Option<String>,
    dtab: String,
    path: String,
}

pub(super) async fn in_namespace(control: &Control, namespace: &str, call: &Call, body: Body) -> Response {
    let query = match parameters(call, body).await {
        Ok(query) => query,
        Err(refused) => return refused,
    };
    match (query.path(), query.dtab()) {
        (Ok(path), Ok(dtab)) => delegate(control, &Asked { namespace: Some(namespace.to_owned()), dtab, path }).await,
        (Err(text), _) | (_, Err(text)) => bad_request(text),
    }
}

/// The namespace is a parameter, or there is none.
pub(super) async fn without_namespace(control: &Control, call: &Call, body: Body) -> Response {
    match asked(call, body).await {
        Ok(asked) => delegate(control, &asked).await,
        Err(refused) => refused,
    }
}

/// The namespace that may be named is not looked at.
pub(super) async fn under_sent_dtab(control: &Control, call: &Call, body: Body) -> Response {
    match asked(call, body).await {
        Ok(asked) => delegate(control, &Asked { namespace: None, ..asked }).await,
        Err(refused) => refused,
    }
}

async fn asked(call: &Call, body: Body) -> Result<Asked, Response> {
    match call.method {
        Method::GET => match (call.query.path(), call.query.dtab()) {
            (Ok(path), Ok(dtab)) => Ok(Asked { namespace: call.query.get("namespace").map(str::to_owned), dtab, path }),
            (Err(text), _) | (_, Err(text)) => Err(bad_request(text)),
        },
        Method::POST => match whole(body).await {
            Ok(body) => posted(&call.headers, &body).map_err(|(status, text)| text_error(status, text)),
            Err(refused) => Err(refused),
        },
        _ => {
            let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, None, "");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
            Err(response)
        }
    }
}

/// A delegation request in a body; `application/json` with or without parameters.
fn posted(headers: &HeaderMap, body: &[u8]) -> Result<Asked, (StatusCode, String)> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "send Content-Type: application/json\n".to_owned()));
    }
    let bad = |text: String| (StatusCode::BAD_REQUEST, text);
    let malformed = |_| bad(format!("Malformed delegation request: {}", String::from_utf8_lossy(body)));
    let Object::<Posted>(posted) = serde_json::from_slice(body).map_err(malformed)?;
    let dtab = Dtab::read(&posted.dtab).map_err(|error| bad(format!("Invalid dtab: {error}")))?;
    let path = Path::read(&posted.path).map_err(|error| bad(format!("Invalid path: {error}")))?;
    Ok(Asked { namespace: posted.namespace, dtab, path })
}

async fn delegate(control: &Control, asked: &Asked) -> Response {
    match control.explain(asked.namespace.as_deref(), &asked.dtab, &asked.path).await {
        Ok(tree) => answers::json(json::text(&json::explain(&tree))),
        Err(error @ ExplainError::TimedOut) => text_error(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        Err(ExplainError::Unsupported) => {
            let namespace = asked.namespace.as_deref().unwrap_or_default();
            let text = format!("Name Interpreter for {namespace} cannot show delegations");
            text_error(StatusCode::NOT_IMPLEMENTED, text)
        }
        Err(ExplainError::Failed(why)) => text_error(StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")),
    }
}
