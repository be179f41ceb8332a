//! What namers, interpreters and clients know: bound names, addresses, watch states.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::Response;
use names::Path;
use naming::{Addr, State as Known};
use serde_json::{Value, json};

use super::{RouterSource, Shared, json as json_answer, not_found};

/// Ids that can be listed, sorted. An empty set is `[]`; the original's `[""]` names nothing.
pub(crate) async fn bound_names(State(context): State<Shared>) -> Response {
    let mut names = BTreeSet::new();
    let namers = context.sources.namers.iter().map(|(_, namer)| namer.bound_names());
    let interpreters = context.sources.routers.iter().map(|router| router.interpreter.bound_names());
    for list in namers.chain(interpreters) {
        if let Known::Ok(paths) = list.get() {
            names.extend(paths.iter().map(ToString::to_string));
        }
    }
    json_answer(StatusCode::OK, json!(names).to_string())
}

/// `{"/#/io.l5d.fs/web":{"state":"bound","addresses":["127.0.0.1:80"]}}`
pub(crate) async fn clients(State(context): State<Shared>) -> Response {
    let clients = context.sources.routers.iter().flat_map(|router| router.status.clients());
    let states = clients.map(|client| (client.id, addr_state(&client.addr))).collect::<BTreeMap<_, _>>();
    json_answer(StatusCode::OK, json!(states).to_string())
}

fn addr_state(addr: &Known<Addr>) -> Value {
    match addr {
        Known::Ok(Addr::Bound { endpoints, .. }) => {
            let addresses = endpoints.iter().map(|endpoint| endpoint.addr.to_string()).collect::<Vec<_>>();
            json!({ "state": "bound", "addresses": addresses })
        }
        Known::Ok(Addr::Neg) => json!({ "state": "Neg" }),
        Known::Ok(Addr::Failed(why)) | Known::Failed(why) => json!({ "state": format!("Failed: {why}") }),
        Known::Pending => json!({ "state": "Pending" }),
    }
}

/// Where a namer's watch state is shown: `/#/io.l5d.fs` at `/namer_state/io.l5d.fs.json`.
pub(crate) fn namer_path(prefix: &Path) -> String {
    let shown = prefix.to_string();
    format!("/namer_state/{}.json", shown.trim_start_matches("/#/").trim_start_matches('/'))
}

/// `/outgoing/interpreter_state/io.l5d.namerd.http/internal.json`
pub(crate) fn interpreter_path(router: &RouterSource) -> String {
    let namespace = match router.interpreter.served().get() {
        Known::Ok(served) => served.namespace,
        Known::Pending | Known::Failed(_) => None,
    };
    let below = namespace.map(|namespace| format!("/{namespace}")).unwrap_or_default();
    format!("/{}/interpreter_state/{}{below}.json", router.label, router.interpreter_kind)
}

pub(crate) async fn namer(State(context): State<Shared>, UrlPath(name): UrlPath<String>) -> Response {
    let wanted = format!("/namer_state/{name}");
    match context.sources.namers.iter().find(|(prefix, _)| namer_path(prefix) == wanted) {
        Some((_, namer)) => json_answer(StatusCode::OK, namer.state().to_string()),
        None => not_found("no such namer"),
    }
}

pub(crate) async fn interpreter(
    State(context): State<Shared>,
    UrlPath((label, name)): UrlPath<(String, String)>,
) -> Response {
    let wanted = format!("/{label}/interpreter_state/{name}");
    match context.router(&label).filter(|router| interpreter_path(router) == wanted) {
        Some(router) => json_answer(StatusCode::OK, router.interpreter.state().to_string()),
        None => not_found("no such interpreter"),
    }
}
