//! Whether the process is ready, and reloading its document.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::{Shared, json as json_answer, json_error, method_not_allowed};

/// Where a process is in its life. Clones are the same process.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicU8>);

/// See [`Readiness`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Starting,
    Ready,
    /// New requests should go elsewhere; those that come all the same are answered.
    Draining,
}

impl Readiness {
    pub fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Release);
    }

    #[must_use]
    pub fn get(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    fn answer(&self) -> Response {
        match self.get() {
            Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response(),
            Phase::Ready => "ready\n".into_response(),
            Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response(),
        }
    }
}

/// Reloads: who asks for them, and what came of the last one. Clones are the same.
#[derive(Clone)]
pub struct Reloads {
    ask: mpsc::Sender<oneshot::Sender<Reloaded>>,
    last: Arc<Mutex<Option<Value>>>,
}

/// The answer to a reload.
#[derive(Debug, Clone)]
pub struct Reloaded {
    /// 200 applied or nothing to do, 400 refused, 409 needs a restart.
    pub status: u16,
    pub document: Value,
}

impl Reloads {
    /// The second part gets each `POST /admin/reload`.
    #[must_use]
    pub fn new() -> (Reloads, mpsc::Receiver<oneshot::Sender<Reloaded>>) {
        let (ask, asked) = mpsc::channel(1);
        (Reloads { ask, last: Arc::default() }, asked)
    }

    /// Keeps what came of a reload, for `GET /admin/reload` and the page.
    pub fn keep(&self, reloaded: &Reloaded) {
        *self.locked() = Some(reloaded.document.clone());
    }

    /// `null` before the first one.
    #[must_use]
    pub fn last(&self) -> Value {
        self.locked().clone().unwrap_or(Value::Null)
    }

    /// A panic elsewhere leaves it whole.
    fn locked(&self) -> MutexGuard<'_, Option<Value>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) async fn ready(State(context): State<Shared>) -> Response {
    context.sources.readiness.answer()
}

/// GET tells of the last reload, POST does one.
pub(crate) async fn reload(State(context): State<Shared>, method: Method) -> Response {
    let reloads = &context.sources.reloads;
    match method {
        Method::GET | Method::HEAD => json_answer(StatusCode::OK, json!({ "last": reloads.last() }).to_string()),
        Method::POST => {
            let gone = || json_error(StatusCode::SERVICE_UNAVAILABLE, "this router is ending and reloads nothing");
            let (tell, told) = oneshot::channel();
            if reloads.ask.send(tell).await.is_err() {
                return gone();
            }
            let Ok(Reloaded { status, document }) = told.await else { return gone() };
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            json_answer(status, format!("{document:#}\n"))
        }
        _ => method_not_allowed("GET, HEAD, POST"),
    }
}

/// The admin server before there is anything to tell.
pub fn starting(readiness: Readiness) -> Router {
    let ready = move || std::future::ready(readiness.answer());
    Router::new()
        .route("/admin/ping", any(|| async { "pong" }))
        .route("/admin/ready", any(ready))
        .fallback(|| async { (StatusCode::SERVICE_UNAVAILABLE, "starting\n") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_between_its_start_and_its_end() {
        let readiness = Readiness::default();
        let found = [Phase::Starting, Phase::Ready, Phase::Draining].map(|phase| {
            readiness.set(phase);
            (readiness.get(), readiness.answer().status().as_u16())
        });
        assert_eq!(found, [(Phase::Starting, 503), (Phase::Ready, 200), (Phase::Draining, 503)]);
    }
}
