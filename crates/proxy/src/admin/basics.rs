//! Ping, index, config, server info, shutdown.

use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::{Shared, json as json_answer, method_not_allowed};

/// Sorted paths, one a line.
pub(crate) async fn index(State(context): State<Shared>) -> String {
    context.listed.iter().map(|path| format!("{path}\n")).collect()
}

pub(crate) async fn config(State(context): State<Shared>) -> Response {
    json_answer(StatusCode::OK, context.sources.config.to_string())
}

pub(crate) async fn server_info(State(context): State<Shared>) -> Response {
    let (name, version) = context.sources.version.split_once(' ').unwrap_or((&context.sources.version, ""));
    let info = json!({
        "name": name,
        "version": version,
        "pid": std::process::id(),
        "uptimeMs": context.sources.started.elapsed().as_millis() as u64,
    });
    json_answer(StatusCode::OK, format!("{info:#}\n"))
}

#[derive(Deserialize)]
pub(crate) struct ShutdownQuery {
    grace: Option<String>,
}

/// `POST` only; answers before the process begins to drain.
pub(crate) async fn shutdown(
    State(context): State<Shared>,
    method: Method,
    Query(query): Query<ShutdownQuery>,
) -> Response {
    if method != Method::POST {
        return method_not_allowed("POST");
    }
    let grace = match query.grace.as_deref().map(duration) {
        None => None,
        Some(Some(grace)) => Some(grace),
        Some(None) => {
            let text = format!("cannot read grace={}: write 5.seconds\n", query.grace.unwrap_or_default());
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
    };
    // A full channel means that a shutdown is already under way, which is what was asked for.
    match context.sources.shutdown.try_send(grace) {
        Ok(()) | Err(tokio::sync::mpsc::error::TrySendError::Full(_)) => "quitting\n".into_response(),
        Err(tokio::sync::mpsc::error::TrySendError::Closed(_)) => {
            (StatusCode::SERVICE_UNAVAILABLE, "nobody listens for a shutdown\n").into_response()
        }
    }
}

/// The original's durations: `5.seconds`, `500.milliseconds`, `1.minute`.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_once('.')?;
    let number = number.parse::<u64>().ok()?;
    let nanos = match unit.strip_suffix('s').unwrap_or(unit) {
        "nanosecond" => 1,
        "microsecond" => 1_000,
        "millisecond" => 1_000_000,
        "second" => 1_000_000_000,
        "minute" => 60_000_000_000,
        "hour" => 3_600_000_000_000,
        "day" => 86_400_000_000_000,
        _ => return None,
    };
    number.checked_mul(nanos).map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        let cases = [
            ("5.seconds", Some(Duration::from_secs(5))),
            ("1.second", Some(Duration::from_secs(1))),
            ("250.milliseconds", Some(Duration::from_millis(250))),
            ("2.minutes", Some(Duration::from_secs(120))),
            ("5", None),
            ("5.parsecs", None),
            ("-1.seconds", None),
            ("99999999999999999.days", None),
        ];
        for (text, expected) in cases {
            assert_eq!(duration(text), expected, "{text}");
        }
    }
}
