//! Leases on entries: advisory claims with an owner and an expiry.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Method, StatusCode},
    response::Response,
};
use jiff::Timestamp;
use names::Prefix;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{Lease, LeaseRequest, Leased};

use super::{
    Call,
    answers::{self, JSON, answer, chain, json_error, no_content, not_found},
    body::{Object, whole},
};
use crate::{Control, time};

/// Longer than any deploy, and short enough that a claim of a process that died goes by itself.
const LONGEST_SECONDS: u64 = 24 * 60 * 60;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    owner: String,
    seconds: u64,
    #[serde(default)]
    reason: Option<String>,
}

pub(crate) fn lease_json(lease: &Lease) -> Value {
    json!({
        "namespace": lease.namespace,
        "entry": lease.entry,
        "owner": lease.owner,
        "reason": lease.reason,
        "since": time::show(lease.since),
        "expires": time::show(lease.expires),
    })
}

pub(super) async fn list(control: &Control) -> Response {
    match control.leases().await {
        Ok(leases) => {
            let leases: Vec<Value> = leases.iter().map(lease_json).collect();
            answers::json(json!(leases).to_string() + "\n")
        }
        Err(error) => failed(&error),
    }
}

pub(super) async fn of_namespace(control: &Control, namespace: &str, call: &Call, body: Body) -> Response {
    let result = match call.method {
        Method::PUT => take(control, namespace, call, body).await,
        Method::DELETE => release(control, namespace, call).await,
        _ => Ok(not_found()),
    };
    result.unwrap_or_else(|refused| refused)
}

fn bad(text: impl Into<String>) -> Response {
    json_error(StatusCode::BAD_REQUEST, text)
}

fn failed(error: &store::Error) -> Response {
    json_error(StatusCode::INTERNAL_SERVER_ERROR, chain(error))
}

fn held(lease: &Lease) -> Response {
    let text = format!(
        "{} of {} is leased to {} until {}: wait, or ask its owner to end",
        lease.entry,
        lease.namespace,
        lease.owner,
        time::show(lease.expires)
    );
    let body = json!({ "error": text, "lease": lease_json(lease) });
    answer(StatusCode::CONFLICT, Some(JSON), body.to_string() + "\n")
}

/// The prefix of the entry, as it is shown in a dtab, so that two spellings are one lease.
fn entry(call: &Call) -> Result<String, String> {
    let text = call.query.get("entry").ok_or("missing parameter `entry`: add ?entry=/host/NAME")?;
    Prefix::read(text).map(|prefix| prefix.to_string()).map_err(|error| format!("entry={text}: {error}"))
}

async fn take(control: &Control, namespace: &str, call: &Call, body: Body) -> Result<Response, Response> {
    let entry = entry(call).map_err(bad)?;
    let body = whole(body).await?;
    let Object::<Wanted>(wanted) = serde_json::from_slice(&body).map_err(|error| {
        bad(format!("the body must be {{\"owner\":\"…\",\"seconds\":60,\"reason\":\"…\"|null}}: {error}"))
    })?;
    if wanted.owner.is_empty() {
        return Err(bad("owner: must not be empty"));
    }
    if wanted.seconds == 0 || wanted.seconds > LONGEST_SECONDS {
        return Err(bad(format!("seconds: {} is not between 1 and {LONGEST_SECONDS}", wanted.seconds)));
    }
    let request = LeaseRequest {
        namespace: namespace.to_owned(),
        entry,
        owner: wanted.owner,
        reason: wanted.reason,
        lasts: Duration::from_secs(wanted.seconds),
        now: Timestamp::now(),
    };
    match control.take_lease(request).await {
        Ok(Leased::Taken(lease)) => Ok(answers::json(lease_json(&lease).to_string() + "\n")),
        Ok(Leased::Held(lease)) => Err(held(&lease)),
        Err(error) => Err(failed(&error)),
    }
}

async fn release(control: &Control, namespace: &str, call: &Call) -> Result<Response, Response> {
    let entry = entry(call).map_err(bad)?;
    let owner = call.query.get("owner").ok_or_else(|| bad("missing parameter `owner`"))?;
    match control.inner.store.release_lease(namespace, &entry, owner, Timestamp::now()).await {
        Ok(None) => Ok(no_content()),
        Ok(Some(lease)) => Err(held(&lease)),
        Err(error) => Err(failed(&error)),
    }
}
