//! Streamed answers: one rendering and a line feed for each update.
//!
//! One task per stream. It holds one line at most: while a reader is slow the task waits, and what
//! changes meanwhile is read when the reader has caught up. So a slow reader costs no memory and sees
//! the latest value, but not necessarily each one before it. The task ends when its reader goes or the
//! server closes.

use axum::{
    body::{Body, Bytes},
    http::StatusCode,
    response::Response,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::answers::answer;
use crate::Control;

/// The writing end of a stream.
pub(super) struct Lines {
    sender: mpsc::Sender<Result<Bytes, std::convert::Infallible>>,
    last: Option<String>,
}

/// The reader has gone.
pub(super) struct Gone;

impl Lines {
    /// Writes an update, unless it is the one before.
    pub(super) async fn update(&mut self, text: String) -> Result<(), Gone> {
        if self.last.as_ref() == Some(&text) {
            return Ok(());
        }
        self.write(&text).await?;
        self.last = Some(text);
        Ok(())
    }

    /// Writes a line in any case.
    pub(super) async fn write(&mut self, text: &str) -> Result<(), Gone> {
        self.sender.send(Ok(Bytes::from(format!("{text}\n")))).await.map_err(|_| Gone)
    }
}

/// 200 with what `feed` writes. The body ends with `feed`.
pub(super) fn stream<F>(
    control: &Control,
    content_type: Option<&'static str>,
    feed: impl FnOnce(Lines) -> F,
) -> Response
where
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(1);
    let closing = control.inner.closing.clone();
    let gone = sender.clone();
    let feed = feed(Lines { sender, last: None });
    tokio::spawn(async move {
        tokio::select! {
            // A reader that went is no error.
            _ = feed => {}
            () = gone.closed() => {}
            () = closing.cancelled() => {}
        }
    });
    answer(StatusCode::OK, content_type, Body::from_stream(ReceiverStream::new(receiver)))
}
