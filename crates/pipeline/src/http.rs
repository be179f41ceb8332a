//! The HTTP API: `docs/api.md` has it in prose, `api.rs` its objects.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::Stream;

use crate::api;
use crate::deploys::Deploys;
use crate::metrics::{self, Metrics};
use crate::problem::Problem;
use crate::view;

/// How many deploys a list has, if nothing else is asked for.
const LIST: usize = 200;
const MOST_LIST: usize = 1000;

type Answer<T> = Result<Json<T>, Problem>;

pub(crate) fn routes(deploys: Deploys, metrics: Metrics) -> Router {
    Router::new()
        .route("/api/1/deploys", get(list).post(start))
        .route("/api/1/deploys/{id}", get(one))
        .route("/api/1/deploys/{id}/approve", post(approve))
        .route("/api/1/deploys/{id}/abort", post(abort))
        .route("/api/1/deploys/{id}/retry", post(retry))
        .route("/api/1/deploys/{id}/events", get(events))
        .route("/api/1/deploys/{id}/log", get(log))
        .route("/api/1/pipelines", get(pipelines))
        .route("/admin/ping", get(|| async { "pong" }))
        .method_not_allowed_fallback(wrong_method)
        .with_state(deploys.clone())
        .merge(crate::pages::pages(deploys))
        .merge(metrics::exposition(metrics.clone()))
        .layer(middleware::from_fn(refuse_foreign))
        .layer(middleware::from_fn_with_state(metrics, metrics::counted))
}

async fn wrong_method(method: Method) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not for this path"))
}

/// Browsers say which page sends a request: without this, any web page could deploy on its reader's
/// machine. Command-line clients send no `Origin`.
async fn refuse_foreign(request: Request, next: Next) -> Response {
    if admin::is_foreign(request.method(), request.headers()) {
        return Problem::new(StatusCode::FORBIDDEN, "a page of another origin may not do this").into_response();
    }
    next.run(request).await
}

/// A JSON body, whatever its declared type: nothing else is ever meant.
fn read<T: serde::de::DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    let wrong = |error: &dyn std::fmt::Display| Problem::new(StatusCode::BAD_REQUEST, format!("the body: {error}"));
    // Derived readers take an array of the fields' values, too, which nobody means.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(wrong(&"must be an object, not an array"));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let mut problem = wrong(&error.into_inner());
        problem.answer.field = Some(path).filter(|path| path != ".");
        problem
    })?;
    reader.end().map_err(|error| wrong(&error))?;
    Ok(value)
}

async fn start(State(deploys): State<Deploys>, body: Bytes) -> Result<Response, Problem> {
    let request: api::StartDeploy = read(&body)?;
    let id = deploys.start(request).await?;
    let location = [(header::LOCATION, format!("/api/1/deploys/{id}"))];
    Ok((StatusCode::CREATED, location, Json(api::Started { id })).into_response())
}

async fn list(
    State(deploys): State<Deploys>,
    Query(query): Query<HashMap<String, String>>,
) -> Answer<Vec<api::Deploy>> {
    let number = |name: &str| match query.get(name) {
        None => Ok(None),
        Some(text) => {
            text.parse::<u64>().map(Some).map_err(|_| Problem::field(name, format!("{name}={text}: write a number")))
        }
    };
    let limit = number("limit")?.map_or(LIST, |limit| (limit as usize).min(MOST_LIST));
    Ok(Json(deploys.list(limit, number("before")?)))
}

async fn one(State(deploys): State<Deploys>, Path(id): Path<String>) -> Answer<api::Deploy> {
    deploys.get(&id).map(Json)
}

async fn approve(State(deploys): State<Deploys>, Path(id): Path<String>, body: Bytes) -> Answer<api::Deploy> {
    deploys.approve(&id, decision(&body)?).await.map(Json)
}

async fn abort(State(deploys): State<Deploys>, Path(id): Path<String>, body: Bytes) -> Answer<api::Deploy> {
    deploys.abort(&id, decision(&body)?).await.map(Json)
}

/// No body at all is an anonymous decision without a reason.
fn decision(body: &Bytes) -> Result<api::Decision, Problem> {
    if body.trim_ascii().is_empty() { Ok(api::Decision::default()) } else { read(body) }
}

async fn retry(State(deploys): State<Deploys>, Path(id): Path<String>) -> Answer<api::Deploy> {
    deploys.retry(&id).await.map(Json)
}

async fn pipelines(State(deploys): State<Deploys>) -> Json<Vec<api::Pipeline>> {
    Json(deploys.pipelines().await)
}

async fn log(State(deploys): State<Deploys>, Path(id): Path<String>) -> Result<String, Problem> {
    let story = deploys.slot(&id)?.story();
    Ok(story.events.iter().map(view::log_line).collect())
}

/// From the start, or after `Last-Event-ID`. Ends with an event `end` when nothing more can happen.
async fn events(
    State(deploys): State<Deploys>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let slot = deploys.slot(&id)?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse::<u64>().ok()).unwrap_or(0);
    let changes = slot.changes();
    let stream =
        futures_util::stream::unfold((slot, changes, last, false), |(slot, mut changes, last, ended)| async move {
            if ended {
                return None;
            }
            loop {
                changes.mark_unchanged();
                let story = slot.story();
                // Sequences count from 1 without gaps, so the index is the last one seen.
                if let Some(event) = usize::try_from(last).ok().and_then(|index| story.events.get(index)) {
                    let shown = Event::default().id(event.sequence.to_string()).event(kind(event.kind));
                    let shown = shown.json_data(event).unwrap_or_else(|_| Event::default().comment("not shown"));
                    return Some((Ok(shown), (slot, changes, last + 1, false)));
                }
                if story.is_final() {
                    let state = serde_json::to_string(&view::state(&story)).unwrap_or_default();
                    return Some((Ok(Event::default().event("end").data(state)), (slot, changes, last, true)));
                }
                // The slot lives as long as this stream holds it.
                if changes.changed().await.is_err() {
                    return None;
                }
            }
        });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

fn kind(kind: api::EventKind) -> &'static str {
    match kind {
        api::EventKind::State => "state",
        api::EventKind::Decision => "decision",
        api::EventKind::Fact => "fact",
        api::EventKind::Log => "log",
    }
}
