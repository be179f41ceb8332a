//! The fleet: who serves what, and waiting until all serve a version.

use std::time::Duration;

use axum::{http::StatusCode, response::Response};
use serde_json::json;
use store::{Error, Version};

use super::{
    Call,
    answers::{self, JSON, answer, chain, json_error},
    stream::stream,
};
use crate::{Control, fleet::Laggard};

/// At most so many updates a second go to one watcher: ages change all the time.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) fn show(control: &Control, call: &Call) -> Response {
    if !call.query.flag("watch") {
        return answers::json(control.fleet().to_string() + "\n");
    }
    let fleet = control.clone();
    stream(control, Some(JSON), async move |mut lines| {
        let mut changes = fleet.inner.fleet.changes();
        let mut names = fleet.inner.store.names();
        loop {
            changes.borrow_and_update();
            names.borrow_and_update();
            lines.write(&fleet.fleet().to_string()).await?;
            tokio::time::sleep(PAUSE).await;
            tokio::select! {
                _ = changes.changed() => {}
                _ = names.changed() => {}
            }
        }
    })
}

/// Why a wait ended without success.
pub(super) struct WaitError {
    pub(super) version: Version,
    pub(super) laggards: Vec<Laggard>,
}

/// 504: the version is stored, and not everywhere in force.
pub(super) fn wait_error(error: &WaitError) -> Response {
    let count = error.laggards.len();
    let noun = if count == 1 { "router does" } else { "routers do" };
    let text = format!(
        "{count} {noun} not serve version {} yet; the write stands: wait again with GET …/fleet?version=…&wait=…, or look at the routers",
        error.version
    );
    let body = json!({ "error": text, "version": error.version.to_string(), "laggards": error.laggards });
    answer(StatusCode::GATEWAY_TIMEOUT, Some(JSON), body.to_string() + "\n")
}

/// `GET /api/1/dtabs/NS/fleet?version=V&wait=5s`
pub(super) async fn wait(control: &Control, namespace: &str, call: &Call) -> Response {
    let wait = match call.query.wait() {
        Ok(wait) => wait.unwrap_or_default(),
        Err(text) => return json_error(StatusCode::BAD_REQUEST, text),
    };
    let version = match version(control, namespace, call).await {
        Ok(version) => version,
        Err(refused) => return refused,
    };
    match control.inner.fleet.wait(namespace, version, wait).await {
        Ok(routers) => answers::json(json!({ "version": version.to_string(), "routers": routers }).to_string() + "\n"),
        Err(laggards) => wait_error(&WaitError { version, laggards }),
    }
}

/// The version that is asked for, or the current one.
async fn version(control: &Control, namespace: &str, call: &Call) -> Result<Version, Response> {
    let last = control.inner.store.observe(namespace).borrow().clone();
    let Some(last) = last else {
        return Err(json_error(StatusCode::NOT_FOUND, Error::DoesNotExist(namespace.into()).to_string()));
    };
    let Some(text) = call.query.get("version") else { return Ok(last.version) };
    let unknown = || json_error(StatusCode::NOT_FOUND, format!("{namespace} never had the version {text}"));
    let version = Version::decode(text).map_err(|error| json_error(StatusCode::BAD_REQUEST, error.to_string()))?;
    let version = version.ok_or_else(unknown)?;
    match control.revision(namespace, version).await {
        Ok(Some(revision)) => Ok(revision.version),
        Ok(None) => Err(unknown()),
        Err(error) => Err(json_error(StatusCode::INTERNAL_SERVER_ERROR, chain(&error))),
    }
}
