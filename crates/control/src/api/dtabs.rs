//! Dtabs by namespace: list, read, watch, write; with history and earlier versions.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use jiff::Timestamp;
use names::Dtab;
use serde_json::json;
use store::{Change, Error, Note, Revision, Version};

use super::{
    Call,
    answers::{self, JSON, answer, bad_request, chain, json_error, no_content, not_found, text_error},
    body,
    dtabs_body::{self, Digits, Media},
    fleet::{WaitError, wait_error},
    stream::stream,
};
use crate::{Control, time};

/// The version of the dtab after a write, also where the original's shape has no room for an ETag.
const VERSION: &str = "l5d-version";

/// Any method: the original lists on DELETE, too.
pub(super) fn list(control: &Control, call: &Call) -> Response {
    let mut names = control.inner.store.names();
    if !call.query.flag("watch") {
        return answers::json(json!(**names.borrow()).to_string() + "\n");
    }
    stream(control, Some(JSON), async move |mut lines| {
        loop {
            let text = json!(**names.borrow_and_update()).to_string();
            lines.update(text).await?;
            if names.changed().await.is_err() {
                return Ok(());
            }
        }
    })
}

pub(super) async fn namespace(control: &Control, name: &str, call: &Call, body: Body) -> Response {
    // A dtab may have any name, so these count only where there is none of that name.
    if call.method == Method::GET && control.current(name).is_none() {
        if let Some(namespace) = name.strip_suffix("/history") {
            return history(control, namespace, call).await;
        }
        if let Some(namespace) = name.strip_suffix("/fleet") {
            return super::fleet::wait(control, namespace, call).await;
        }
    }
    match call.method {
        Method::GET if call.query.flag("watch") => watch(control, name, call),
        Method::GET => read(control, name, call).await,
        Method::HEAD => head(control, name, call).await,
        Method::POST | Method::PUT | Method::DELETE => match write(control, name, call, body).await {
            Ok(response) | Err(response) => response,
        },
        _ => not_found(),
    }
}

fn digits(call: &Call) -> Digits {
    if call.query.flag("exact") { Digits::Every } else { Digits::Two }
}

fn with_etag(mut response: Response, version: Version) -> Response {
    if let Ok(value) = HeaderValue::from_str(&version.to_string()) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

/// The dtab, as it is or as it was at the version that is asked for.
async fn wanted(control: &Control, name: &str, call: &Call) -> Result<Option<Arc<Revision>>, Response> {
    let Some(text) = call.query.get("version") else { return Ok(control.current(name)) };
    match Version::decode(text) {
        Ok(None) => Ok(None),
        Ok(Some(version)) => match control.revision(name, version).await {
            // A deletion is a version, too, but there is no dtab at it.
            Ok(revision) => Ok(revision.filter(|revision| revision.exists())),
            Err(error) => Err(json_error(StatusCode::INTERNAL_SERVER_ERROR, chain(&error))),
        },
        Err(error) => Err(json_error(StatusCode::BAD_REQUEST, error.to_string())),
    }
}

/// The original sends no `Content-Type` here.
async fn head(control: &Control, name: &str, call: &Call) -> Response {
    match wanted(control, name, call).await {
        Ok(Some(revision)) => with_etag(answer(StatusCode::OK, None, ""), revision.version),
        Ok(None) => not_found(),
        Err(refused) => answer(refused.status(), None, ""),
    }
}

async fn read(control: &Control, name: &str, call: &Call) -> Response {
    let revision = match wanted(control, name, call).await {
        Ok(revision) => revision,
        Err(refused) => return refused,
    };
    match revision {
        Some(revision) => {
            let media = Media::accepted(&call.headers);
            let text = dtabs_body::show(&revision.dtab, media, digits(call));
            with_etag(answer(StatusCode::OK, Some(media.name()), text + "\n"), revision.version)
        }
        None if call.query.get("version").is_some() => json_error(
            StatusCode::NOT_FOUND,
            format!("no such version of the dtab {name}: see /api/1/dtabs/{name}/history"),
        ),
        None => not_found(),
    }
}

/// Silent while there is no such namespace.
fn watch(control: &Control, name: &str, call: &Call) -> Response {
    let mut stored = control.inner.store.observe(name);
    let media = Media::accepted(&call.headers);
    let digits = digits(call);
    stream(control, Some(media.name()), async move |mut lines| {
        loop {
            let revision = stored.borrow_and_update().clone();
            if let Some(revision) = revision.filter(|revision| revision.exists()) {
                // Each write is an update, also of the same text.
                lines.write(&dtabs_body::show(&revision.dtab, media, digits)).await?;
            }
            if stored.changed().await.is_err() {
                return Ok(());
            }
        }
    })
}

/// Revisions that a history tells of when nobody says how many.
const HISTORY: usize = 100;

async fn history(control: &Control, namespace: &str, call: &Call) -> Response {
    let limit = match call.query.limit() {
        Ok(limit) => limit.unwrap_or(HISTORY),
        Err(text) => return json_error(StatusCode::BAD_REQUEST, text),
    };
    match control.history(namespace, limit).await {
        Ok(Some(revisions)) => {
            let lines: Vec<_> = revisions.iter().map(|revision| revision_json(revision)).collect();
            answers::json(json!(lines).to_string() + "\n")
        }
        Ok(None) => json_error(StatusCode::NOT_FOUND, Error::DoesNotExist(namespace.into()).to_string()),
        Err(error) => json_error(StatusCode::INTERNAL_SERVER_ERROR, chain(&error)),
    }
}

/// One line of a history.
pub(crate) fn revision_json(revision: &Revision) -> serde_json::Value {
    json!({
        "version": revision.version.to_string(),
        "time": time::show(revision.time),
        "author": &*revision.author,
        "comment": revision.comment.as_deref(),
        "action": revision.action.to_string(),
        "dtab": revision.dtab.show_exact(),
    })
}

/// The versions that `If-Match` names; `None` without one. `*` names none: it must not overwrite what
/// its sender has not seen. A weak version never matches, as in RFC 9110.
fn if_match(headers: &HeaderMap) -> Result<Option<Vec<Version>>, String> {
    let mut lines = headers.get_all(header::IF_MATCH).iter().peekable();
    if lines.peek().is_none() {
        return Ok(None);
    }
    let mut versions = Vec::new();
    for line in lines {
        let line = line.to_str().map_err(|_| "If-Match: not a version".to_owned())?;
        for item in line.split(',').map(str::trim).filter(|item| !item.starts_with("W/")) {
            versions.extend(Version::decode(item).map_err(|error| format!("If-Match: {error}"))?);
        }
    }
    Ok(Some(versions))
}

/// Who writes: the headers are percent-encoded.
fn note(headers: &HeaderMap) -> Result<Note, String> {
    let text = |name: &str| match headers.get(name) {
        None => Ok(None),
        Some(value) => percent_encoding::percent_decode(value.as_bytes())
            .decode_utf8()
            .map(|text| Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
            .map_err(|_| format!("{name}: not UTF-8 under percent-encoding")),
    };
    Ok(Note {
        author: text("l5d-author")?.as_deref().unwrap_or("-").into(),
        comment: text("l5d-comment")?.as_deref().map(Arc::from),
        time: Timestamp::now(),
    })
}

async fn write(control: &Control, name: &str, call: &Call, body: Body) -> Result<Response, Response> {
    let headers = &call.headers;
    let wait = call.query.wait().map_err(|text| json_error(StatusCode::BAD_REQUEST, text))?;
    let versions = if_match(headers).map_err(bad_request)?;
    let note = note(headers).map_err(bad_request)?;
    let change = match call.method {
        Method::DELETE => Change::Delete(versions),
        ref method => {
            let dtab = sent(headers, body).await?;
            match (method, versions) {
                (&Method::POST, _) => Change::Create(dtab),
                (_, Some(versions)) => Change::Update(dtab, versions),
                (_, None) => Change::Put(dtab),
            }
        }
    };
    // The original answers a POST without an ETag, and clients that know only it may rely on that.
    let etag = !matches!(change, Change::Create(_)) || headers.contains_key("l5d-author") || wait.is_some();
    let revision = store(control, name, change, note).await?;
    let mut response = match wait {
        None => no_content(),
        Some(wait) => waited(control, &revision, wait).await,
    };
    if let Ok(value) = HeaderValue::from_str(&revision.version.to_string()) {
        response.headers_mut().insert(VERSION, value);
    }
    Ok(if etag { with_etag(response, revision.version) } else { response })
}

/// The store's refusals in the original's statuses.
async fn store(control: &Control, name: &str, change: Change, note: Note) -> Result<Arc<Revision>, Response> {
    control.write(name, change, note).await.map_err(|error| match error {
        Error::DoesNotExist(_) => not_found(),
        Error::AlreadyExists(_) => answer(StatusCode::CONFLICT, None, ""),
        Error::VersionMismatch => answer(StatusCode::PRECONDITION_FAILED, None, ""),
        Error::BadName(_) => json_error(StatusCode::BAD_REQUEST, error.to_string()),
        failed => {
            tracing::error!(error = chain(&failed), "the store failed");
            text_error(StatusCode::INTERNAL_SERVER_ERROR, chain(&failed) + "\n")
        }
    })
}

async fn sent(headers: &HeaderMap, body: Body) -> Result<Dtab, Response> {
    let media = Media::sent(headers).map_err(|raw| bad_request(format!("Invalid Content-Type \"{raw}\". ")))?;
    let body = body::dtab(body).await?;
    dtabs_body::read(media, &body).map_err(bad_request)
}

/// What a write with `wait` answers: the write stands in any case.
async fn waited(control: &Control, revision: &Revision, wait: Duration) -> Response {
    match control.inner.fleet.wait(&revision.namespace, revision.version, wait).await {
        Ok(routers) => {
            let mut response = no_content();
            response.headers_mut().insert("l5d-fleet", HeaderValue::from(routers));
            response
        }
        Err(laggards) => wait_error(&WaitError { version: revision.version, laggards }),
    }
}
