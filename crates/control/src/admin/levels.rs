//! `/logging.json`: levels by logger, changed while running if the binary allows it.

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{Shared, json as json_answer};

/// Levels of the process's log; the binary implements it over its subscriber.
pub trait Levels: Send + Sync {
    /// Loggers with the original's names of levels: `("root", "INFO")`.
    fn all(&self) -> Vec<(String, String)>;

    /// # Errors
    /// A text for people, if there is no such level.
    fn set(&self, logger: &str, level: &str) -> Result<(), String>;
}

fn error(status: StatusCode, text: &str) -> Response {
    json_answer(status, json!({ "error": text }).to_string())
}

/// GET lists; POST takes a form with `logger` and `level`, and lists.
pub(super) async fn answer(State(context): State<Shared>, method: Method, body: Bytes) -> Response {
    if method != Method::GET && method != Method::POST {
        let mut response = StatusCode::METHOD_NOT_ALLOWED.into_response();
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
        return response;
    }
    let Some(levels) = &context.levels else {
        let text = "log levels of this process cannot be changed while it runs: start it with --log";
        return error(StatusCode::NOT_IMPLEMENTED, text);
    };
    if method == Method::POST {
        let form: Vec<(String, String)> = url::form_urlencoded::parse(&body).into_owned().collect();
        let value = |wanted: &str| form.iter().rev().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let (Some(logger), Some(level)) = (value("logger"), value("level")) else {
            return error(StatusCode::BAD_REQUEST, "the form needs logger and level");
        };
        // The original answers 200 to a level that does not exist, and changes nothing.
        if let Err(text) = levels.set(logger, level) {
            return error(StatusCode::BAD_REQUEST, &text);
        }
    }
    let levels: Vec<_> =
        levels.all().into_iter().map(|(logger, level)| json!({ "logger": logger, "level": level })).collect();
    json_answer(StatusCode::OK, json!(levels).to_string())
}
