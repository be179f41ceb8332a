//! `/admin/tls.json`: the certificates in use, and those that could not be taken.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::Shared;

pub(super) async fn answer(State(context): State<Shared>) -> Response {
    let shown = context.sources.tls.status().iter().map(shown).collect::<Vec<_>>();
    super::json(StatusCode::OK, Value::from(shown).to_string())
}

fn shown(status: &tls::Status) -> Value {
    let certificate = status.certificate.as_ref().map(|certificate| {
        json!({
            "subject": certificate.subject,
            "issuer": certificate.issuer,
            "names": certificate.names,
            "notBefore": time(certificate.not_before),
            "notAfter": time(certificate.not_after),
        })
    });
    json!({
        "section": status.at,
        "files": status.files,
        "certificate": certificate,
        "loaded": jiff::Timestamp::try_from(status.loaded).unwrap_or_default().to_string(),
        "reloads": status.reloads,
        "failures": status.failures,
        "stale": status.stale,
    })
}

fn time(seconds: i64) -> Value {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.into(), |time| time.to_string().into())
}

/// Gauges of all sections together: [`tls::TOTALS`] under `tls`.
pub(crate) fn register(registry: &telemetry::Registry, reloader: &tls::Reloader) {
    for (name, read) in tls::TOTALS {
        let reloader = reloader.clone();
        registry.gauge_with(&["tls", name], move || read(&reloader.status()));
    }
}
