//! What the process knows: stored dtabs, namers, ids, itself.

use std::collections::BTreeMap;

use axum::{
    extract::{Path as UrlPath, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use names::Path;
use serde_json::json;

use super::{Shared, json as json_answer};
use crate::time;

pub(super) async fn server_info(State(context): State<Shared>) -> Response {
    let info = json!({
        "name": "namerd",
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "storage": context.control.store_kind(),
    });
    json_answer(StatusCode::OK, format!("{info:#}\n"))
}

/// Every dtab with its version, as it is now.
pub(super) async fn dtabs(State(context): State<Shared>) -> Response {
    let dtabs: BTreeMap<String, _> = context
        .control
        .namespaces()
        .into_iter()
        .map(|revision| {
            let state = json!({
                "version": revision.version.to_string(),
                "time": time::show(revision.time),
                "author": &*revision.author,
                "dtab": revision.dtab.show_exact(),
            });
            (revision.namespace.to_string(), state)
        })
        .collect();
    json_answer(StatusCode::OK, json!(dtabs).to_string())
}

/// How the store itself does: its kind, and what it has to tell.
pub(super) async fn store(State(context): State<Shared>) -> Response {
    let store = &context.control.inner.store;
    json_answer(StatusCode::OK, json!({ "kind": store.kind(), "state": store.state() }).to_string())
}

pub(super) async fn bound_names(State(context): State<Shared>) -> Response {
    json_answer(StatusCode::OK, json!(context.control.bound_names()).to_string())
}

/// Where a namer's watch state is shown: `/#/io.l5d.fs` at `/namer_state/io.l5d.fs.json`.
pub(super) fn namer_path(prefix: &Path) -> String {
    let shown = prefix.to_string();
    format!("/namer_state/{}.json", shown.trim_start_matches("/#/").trim_start_matches('/'))
}

pub(super) async fn namer(State(context): State<Shared>, UrlPath(name): UrlPath<String>) -> Response {
    let wanted = format!("/namer_state/{name}");
    let namers = context.control.inner.namers.configured();
    match namers.iter().find(|(prefix, _)| namer_path(prefix) == wanted) {
        Some((_, namer)) => json_answer(StatusCode::OK, namer.state().to_string()),
        None => (StatusCode::NOT_FOUND, "no such namer\n").into_response(),
    }
}
