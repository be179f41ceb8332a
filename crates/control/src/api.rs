//! `io.l5d.httpController`: the API of the control plane.
//!
//! Paths are compared as they were sent, without decoding, because that is what namespaces are in the
//! original: `a/b` and `a%20b` are names. So this is one `match`, not a table of routes.

mod answers;
mod body;
mod delegate;
mod dtabs;
mod dtabs_body;
mod fleet;
mod leases;
mod query;
mod resolve;
mod stream;
mod tree_watch;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Method},
    response::Response,
};

use crate::{Control, follow::server, listen::Peer};
use answers::{json_error, not_found};

pub(crate) use dtabs::revision_json;
pub(crate) use leases::lease_json;

use query::Query;

pub(crate) fn router(control: Control) -> Router {
    Router::new().fallback(answer).with_state(control)
}

/// What routers need: the reading part, and following.
pub(crate) fn resolving_router(control: Control) -> Router {
    Router::new().fallback(resolve_only).with_state(control)
}

async fn resolve_only(State(control): State<Control>, request: Request<Body>) -> Response {
    let follows = request.uri().path().starts_with("/api/1/follow/");
    if !follows && !matches!(*request.method(), Method::GET | Method::HEAD) {
        let text = "nothing is written here: use the port of the interface io.l5d.httpController";
        return json_error(http::StatusCode::FORBIDDEN, text);
    }
    answer(State(control), request).await
}

/// The reading part, for the admin server.
pub(crate) async fn read_only(State(context): State<Control>, request: Request<Body>) -> Response {
    answer(State(context), request).await
}

/// A delegation request of the admin server: its namespace is not looked at.
pub(crate) async fn explain_sent(control: &Control, request: Request<Body>) -> Response {
    let (call, body) = Call::of(request);
    delegate::under_sent_dtab(control, &call, body).await
}

/// A delegation request under a stored dtab, which its `namespace` names.
pub(crate) async fn explain_stored(control: &Control, request: Request<Body>) -> Response {
    let (call, body) = Call::of(request);
    delegate::without_namespace(control, &call, body).await
}

/// A request without its body.
struct Call {
    method: Method,
    path: String,
    query: Query,
    headers: HeaderMap,
    peer: Option<Peer>,
}

fn follow(control: &Control, namespace: &str, call: &Call, body: Body) -> Response {
    let asked = server::Asked {
        method: &call.method,
        namespace,
        router: call.query.get("router"),
        process: call.query.get("process"),
        admin: call.query.get("admin"),
        peer: call.peer,
    };
    server::follow(control, &asked, body).unwrap_or_else(|(status, text)| json_error(status, text))
}

impl Call {
    fn of(request: Request<Body>) -> (Call, Body) {
        let (parts, body) = request.into_parts();
        let call = Call {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            query: Query::read(parts.uri.query().unwrap_or_default()),
            headers: parts.headers,
            peer: parts.extensions.get::<Peer>().copied(),
        };
        (call, body)
    }
}

async fn answer(State(control): State<Control>, request: Request<Body>) -> Response {
    if admin::is_foreign(request.method(), request.headers()) {
        let text = "a page of another origin may not do this: send the request without an Origin header, or from this server's own pages";
        return json_error(http::StatusCode::FORBIDDEN, text);
    }
    control.inner.metrics.requests.inc();
    let (call, body) = Call::of(request);
    let Some(rest) = call.path.strip_prefix("/api/1/") else { return not_found() };
    let (route, name) = match rest.split_once('/') {
        Some((route, name)) => (route, Some(name)),
        None => (rest, None),
    };
    match (route, name) {
        ("dtabs", None | Some("")) => dtabs::list(&control, &call),
        ("dtabs", Some(name)) => dtabs::namespace(&control, name, &call, body).await,
        ("bind", Some(name)) => resolve::bind(&control, name, &call, body).await,
        ("addr", Some(_)) => resolve::addr(&control, &call, body).await,
        ("resolve", Some(name)) => resolve::resolve(&control, name, &call, body).await,
        ("delegate", None) => delegate::without_namespace(&control, &call, body).await,
        ("delegate", Some(name)) => delegate::in_namespace(&control, name, &call, body).await,
        ("bound-names", None) if call.method == Method::GET => resolve::bound_names(&control, &call),
        ("fleet", None) if call.method == Method::GET => fleet::show(&control, &call),
        ("follow", Some(namespace)) if control.inner.offers_follow => follow(&control, namespace, &call, body),
        ("leases", None) if call.method == Method::GET => leases::list(&control).await,
        ("leases", Some(namespace)) => leases::of_namespace(&control, namespace, &call, body).await,
        _ => not_found(),
    }
}
