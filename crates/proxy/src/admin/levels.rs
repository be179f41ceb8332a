//! `/logging.json`: levels by logger, changed while running if the binary allows it.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{Shared, json as json_answer, json_error, method_not_allowed};

/// One row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Level {
    /// `root` or a part, such as `proxy`.
    pub logger: String,
    /// The original's names: ALL TRACE DEBUG INFO WARNING ERROR CRITICAL FATAL OFF.
    pub level: String,
}

/// Changes levels at run time; the binary implements it over its subscriber.
pub trait Levels: Send + Sync {
    fn all(&self) -> Vec<Level>;
    /// # Errors
    /// If there is no such level.
    fn set(&self, logger: &str, level: &str) -> Result<(), UnknownLevel>;
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown level {0}: use ALL, TRACE, DEBUG, INFO, WARNING, ERROR, CRITICAL, FATAL or OFF")]
pub struct UnknownLevel(pub String);

pub(crate) async fn answer(State(context): State<Shared>, method: Method, body: Bytes) -> Response {
    if method != Method::GET && method != Method::POST {
        return method_not_allowed("GET, POST");
    }
    let Some(levels) = &context.sources.levels else {
        return json_error(StatusCode::NOT_IMPLEMENTED, "log levels of this process cannot be changed while it runs");
    };
    if method == Method::POST {
        let (mut logger, mut level) = (None, None);
        for (name, value) in form(&body) {
            match name.as_str() {
                "logger" => logger = Some(value),
                "level" => level = Some(value),
                _ => {}
            }
        }
        let (Some(logger), Some(level)) = (logger, level) else {
            return json_error(StatusCode::BAD_REQUEST, "the form needs logger and level");
        };
        // The original answers 200 to a level that does not exist, and changes nothing.
        if let Err(unknown) = levels.set(&logger, &level) {
            return json_error(StatusCode::BAD_REQUEST, &unknown.to_string());
        }
    }
    match serde_json::to_string(&levels.all()) {
        Ok(text) => json_answer(StatusCode::OK, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn form(body: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(body);
    let decoded = |text: &str| {
        let blanks = text.replace('+', " ");
        percent_encoding::percent_decode_str(&blanks).decode_utf8_lossy().into_owned()
    };
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}
