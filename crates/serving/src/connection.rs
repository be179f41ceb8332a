//! One connection: its requests one after the other, each with its body, and the answers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::body::{Budget, Failed, whole};
use crate::timed::{Answering, Flow, Timed, Times};
use crate::{Counts, Peer, Refusal, Whole};

/// Longest head, in bytes.
const HEAD: usize = 64 * 1024;

/// What holds for all connections of a port.
pub(crate) struct Terms {
    pub(crate) head_within: Duration,
    pub(crate) body: Whole,
    pub(crate) body_of: fn(&axum::http::request::Parts, Whole) -> crate::Body,
    pub(crate) budget: Budget,
    pub(crate) times: Times,
    pub(crate) counts: Counts,
    pub(crate) refusal: Refusal,
}

pub(crate) async fn serve(
    stream: tls::listen::Stream,
    peer: Peer,
    terms: Arc<Terms>,
    routes: impl Fn() -> Router + Clone,
    closing: CancellationToken,
) {
    let flow = Flow::default();
    let head_within = terms.head_within;
    let timed = Timed::new(stream, flow.clone(), terms.times, terms.counts.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        answer(request, routes.clone(), terms.clone(), flow.clone())
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_within)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(timed), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %peer.0, %error, "a connection ended");
    }
}

async fn answer(
    request: Request<Incoming>,
    routes: impl Fn() -> Router,
    terms: Arc<Terms>,
    flow: Flow,
) -> Result<Response<Answer>, std::convert::Infallible> {
    let (head, body) = request.into_parts();
    let bound = match (terms.body_of)(&head, terms.body) {
        crate::Body::Streamed => {
            let answering = flow.answering_while_more_comes();
            let response = routes().oneshot(Request::from_parts(head, Body::new(body))).await?;
            return Ok(Answer::of(response, answering));
        }
        crate::Body::Whole(bound) => bound,
    };
    let taken = whole(body, bound, &terms.budget).await;
    let answering = flow.answering();
    let response = match taken {
        Ok((bytes, held)) => {
            let response = routes().oneshot(Request::from_parts(head, Body::from(bytes))).await?;
            drop(held);
            response
        }
        Err(failed) => {
            if let Failed::Refused(why) = failed {
                terms.counts.refused(why);
            }
            // What was not taken is still under way.
            flow.linger();
            let (status, text) = failed.told(bound);
            (terms.refusal)(status, text)
        }
    };
    Ok(Answer::of(response, answering))
}

/// An answer's body; as long as it is there the request is being answered.
struct Answer {
    body: Body,
    _answering: Answering,
}

impl Answer {
    fn of(response: Response, answering: Answering) -> Response<Answer> {
        response.map(|body| Answer { body, _answering: answering })
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
