//! Recent requests, and why each went where it went.
//!
//! A record is what happened. The explanation is evaluated when it is looked at, under the request's own
//! dtab; if the router's dtab changed in between, both versions are shown, so that nobody takes one for
//! the other.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use axum::extract::{Path as UrlPath, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use names::{Dtab, Path};
use naming::State as Known;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use super::{Context, RouterSource, Shared, json as json_answer, json_error};

/// A request is slow from here on, unless `slowMs` says otherwise.
const SLOW_MS: u64 = 500;
const EXPLAIN_LIMIT: Duration = Duration::from_secs(2);

/// One request that was answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecentRequest {
    /// Unique in the process.
    pub id: u64,
    /// When its head was read.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    pub peer: Option<SocketAddr>,
    pub method: String,
    pub host: Option<String>,
    pub uri: String,
    /// The logical name, `/svc/world`; `None` if it could not be identified.
    pub name: Option<String>,
    /// What the request itself brought (`l5d-dtab`, `l5d-ctx-dtab`), as text.
    pub local_dtab: String,
    /// The router's dtab and the request's, as it was bound under.
    #[serde(skip)]
    pub bound_under: Dtab,
    /// The version that the interpreter served at the time.
    pub dtab_version: Option<String>,
    /// The id of its trace, 16 or 32 hexadecimal digits; `None` if it could not be identified.
    pub trace_id: Option<String>,
    /// Whether its spans went to an exporter.
    pub is_traced: bool,
    /// Each try, in order. Empty if it never got that far.
    pub attempts: Vec<Attempt>,
    /// What the client got; `None` if it went away first.
    pub status: Option<u16>,
    /// Our own error, if the answer was ours.
    pub error: Option<String>,
    /// From head read to answer written.
    pub total_micros: u64,
}

/// One try at an endpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// The bound id, `/#/io.l5d.fs/world-v1`.
    pub client: String,
    /// The share of its branch of the split, 0 to 1; `None` where there was nothing to draw.
    pub share: Option<f64>,
    pub endpoint: Option<SocketAddr>,
    /// The client span that the endpoint was told. One that was sent again because nobody took it keeps its span.
    pub span_id: Option<String>,
    pub status: Option<u16>,
    pub error: Option<String>,
    pub micros: u64,
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    match jiff::Timestamp::try_from(*time) {
        Ok(time) => serializer.serialize_str(&format!("{time:.3}")),
        Err(error) => Err(serde::ser::Error::custom(error)),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListQuery {
    router: Option<String>,
    filter: Option<String>,
    slow_ms: Option<u64>,
    limit: Option<usize>,
}

/// `?router=LABEL`, `?filter=failed|overridden|slow`, `?slowMs=500`, `?limit=N`. Each has `remarkable`: the
/// reasons for which a person might look at it.
pub(crate) async fn list(State(context): State<Shared>, Query(query): Query<ListQuery>) -> Response {
    if let Some(filter) = query.filter.as_deref().filter(|filter| !["failed", "overridden", "slow"].contains(filter)) {
        let text = format!("unknown filter {filter}: use failed, overridden or slow");
        return json_error(StatusCode::BAD_REQUEST, &text);
    }
    if let Some(label) = query.router.as_deref().filter(|label| context.router(label).is_none()) {
        return json_error(StatusCode::NOT_FOUND, &format!("no router is called {label}"));
    }
    let slow = Duration::from_millis(query.slow_ms.unwrap_or(SLOW_MS));
    let limit = query.limit.unwrap_or(usize::MAX);
    let shown = remembered(&context, query.router.as_deref(), query.filter.as_deref(), slow, limit);
    json_answer(StatusCode::OK, Value::from(shown).to_string())
}

/// What a page shows without being asked for more.
pub(crate) fn recent(context: &Context, router: &str, filter: Option<&str>, limit: usize) -> Value {
    remembered(context, Some(router), filter, Duration::from_millis(SLOW_MS), limit).into()
}

fn remembered(
    context: &Context,
    router: Option<&str>,
    filter: Option<&str>,
    slow: Duration,
    limit: usize,
) -> Vec<Value> {
    let routers = context.sources.routers.iter().filter(|source| router.is_none_or(|label| label == source.label));
    let mut requests = routers
        .flat_map(|router| router.status.requests().into_iter().map(move |request| (router, request)))
        .map(|(router, request)| (router, remarks(&request, slow), request))
        .filter(|(_, remarks, _)| filter.is_none_or(|filter| remarks.iter().any(|(kind, _)| *kind == filter)))
        .collect::<Vec<_>>();
    requests.sort_by_key(|(_, _, request)| std::cmp::Reverse((request.time, request.id)));
    requests.truncate(limit);
    requests.iter().map(|(router, remarks, request)| shown(router, remarks, request)).collect()
}

/// One request with the explanation of its name: `/admin/requests/ID`.
pub(crate) async fn why(State(context): State<Shared>, UrlPath(id): UrlPath<String>) -> Response {
    match why_document(&context, id.strip_suffix(".json").unwrap_or(&id)).await {
        Some(answer) => json_answer(StatusCode::OK, answer.to_string()),
        None => json_error(StatusCode::NOT_FOUND, "no such request is remembered"),
    }
}

/// The same for the page; `None` when it is forgotten.
pub(crate) async fn why_document(context: &Context, id: &str) -> Option<Value> {
    let (router, request) = find(context, id.parse::<u64>().ok()?)?;
    let mut answer = shown(router, &remarks(&request, Duration::from_millis(SLOW_MS)), &request);
    let now = match router.interpreter.served().get() {
        Known::Ok(served) => served.version,
        Known::Pending | Known::Failed(_) => None,
    };
    answer["dtabVersionNow"] = json!(now.as_deref());
    let (explained, error) = explained(router, &request).await;
    answer["explained"] = explained;
    answer["explainError"] = json!(error);
    Some(answer)
}

pub(crate) fn find(context: &Context, id: u64) -> Option<(&RouterSource, RecentRequest)> {
    context.sources.routers.iter().find_map(|router| {
        let request = router.status.requests().into_iter().find(|request| request.id == id)?;
        Some((router, request))
    })
}

async fn explained(router: &RouterSource, request: &RecentRequest) -> (Value, Option<String>) {
    let Some(Ok(name)) = request.name.as_deref().map(Path::read) else {
        return (Value::Null, Some("the request had no name".to_owned()));
    };
    match tokio::time::timeout(EXPLAIN_LIMIT, router.interpreter.explain(&request.bound_under, &name)).await {
        Ok(Ok(tree)) => (super::explained::tree(&tree), None),
        Ok(Err(error)) => (Value::Null, Some(error.to_string())),
        Err(_) => (Value::Null, Some("the interpreter did not answer within 2 s".to_owned())),
    }
}

fn shown(router: &RouterSource, remarks: &[(&'static str, String)], request: &RecentRequest) -> Value {
    let mut value = json!(request);
    value["router"] = json!(router.label);
    value["retries"] = json!(request.attempts.len().saturating_sub(1));
    // What is not spent at endpoints is ours: reading, binding, waiting for a connection, writing.
    let upstream = request.attempts.iter().map(|attempt| attempt.micros).sum::<u64>();
    value["ourMicros"] = json!(request.total_micros.saturating_sub(upstream));
    value["remarkable"] = remarks.iter().map(|(kind, why)| json!({ "kind": kind, "why": why })).collect();
    value
}

fn remarks(request: &RecentRequest, slow: Duration) -> Vec<(&'static str, String)> {
    let mut remarks = Vec::new();
    match (&request.error, request.status) {
        (Some(error), _) => remarks.push(("failed", error.clone())),
        (None, Some(status)) if status >= 500 => remarks.push(("failed", format!("the endpoint answered {status}"))),
        (None, None) => remarks.push(("failed", "the client went away before the answer".to_owned())),
        (None, Some(_)) => {}
    }
    if !request.local_dtab.is_empty() {
        remarks.push(("overridden", format!("the request brought {}", request.local_dtab)));
    }
    if request.total_micros >= slow.as_micros() as u64 {
        remarks.push(("slow", format!("it took {} ms", request.total_micros / 1000)));
    }
    remarks
}
