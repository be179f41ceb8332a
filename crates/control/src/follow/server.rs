//! The endpoint that routers follow.

use axum::{
    body::Body,
    http::{Method, StatusCode},
    response::Response,
};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{lines::Outbox, session::Session};
use crate::{Control, fleet::Follower, listen::Peer};

/// Who asks: parameters of the request.
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a Method,
    pub(crate) namespace: &'a str,
    pub(crate) router: Option<&'a str>,
    pub(crate) process: Option<&'a str>,
    pub(crate) admin: Option<&'a str>,
    pub(crate) peer: Option<Peer>,
}

/// Pieces that wait for the connection.
const PIECES: usize = 2;

/// The stream, or why not: a status and a text.
pub(crate) fn follow(control: &Control, asked: &Asked<'_>, body: Body) -> Result<Response, (StatusCode, String)> {
    if asked.method != Method::POST {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "follow is a POST".to_owned()));
    }
    let named = |name: &str, value: Option<&str>| match value.filter(|value| !value.is_empty() && value.len() <= 256) {
        Some(value) => Ok(value.to_owned()),
        None => Err((StatusCode::BAD_REQUEST, format!("{name}: say who follows, in at most 256 bytes"))),
    };
    let follower = Follower {
        process: named("process", asked.process)?,
        router: named("router", asked.router)?,
        namespace: asked.namespace.to_owned(),
    };
    let address = asked.peer.map(|peer| peer.0.to_string()).unwrap_or_default();
    let admin = asked.admin.filter(|admin| admin.starts_with("http://") || admin.starts_with("https://"));
    let membership = control.inner.fleet.join(follower, address, admin.map(str::to_owned));
    control.inner.metrics.follow_opened.inc();
    let (sender, receiver) = mpsc::channel::<Bytes>(PIECES);
    let session = Session::new(control, asked.namespace, membership, Outbox::new(sender));
    tokio::spawn(session.run(body.into_data_stream()));
    let pieces = ReceiverStream::new(receiver).map(Ok::<_, std::convert::Infallible>);
    let mut response = Response::new(Body::from_stream(pieces));
    let kind = http::HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    Ok(response)
}
