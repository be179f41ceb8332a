//! Shapes of answers that several endpoints give.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};

pub(crate) use causes::chain;

pub(super) const JSON: &str = "application/json";

/// A body of a type; without one where the original sends none.
pub(super) fn answer(status: StatusCode, content_type: Option<&'static str>, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    if let Some(content_type) = content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        // As the original does.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

pub(super) fn json(body: String) -> Response {
    answer(StatusCode::OK, Some(JSON), body)
}

/// The errors of the original's endpoints.
pub(super) fn text_error(status: StatusCode, text: impl Into<String>) -> Response {
    answer(status, None, text.into())
}

pub(super) fn bad_request(text: impl Into<String>) -> Response {
    text_error(StatusCode::BAD_REQUEST, text)
}

/// The errors of our own endpoints.
pub(super) fn json_error(status: StatusCode, text: impl Into<String>) -> Response {
    answer(status, Some(JSON), format!("{}\n", serde_json::json!({ "error": text.into() })))
}

pub(super) fn not_found() -> Response {
    answer(StatusCode::NOT_FOUND, None, Body::empty())
}

pub(super) fn no_content() -> Response {
    answer(StatusCode::NO_CONTENT, None, Body::empty())
}
