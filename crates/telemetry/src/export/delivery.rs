//! Batches of spans, and how often each is tried.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::Task;
use crate::spans::{Sampled, Span};

/// A batch is sent when it has so many spans, or is so old.
const SPANS: usize = 512;
const AGE: Duration = Duration::from_millis(500);
const ATTEMPTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// However long a collector asks us to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Of what a collector says about an error.
const ERROR_TEXT: usize = 300;

/// How spans get to one kind of collector.
pub(super) trait Protocol: Send {
    fn encode(&self, spans: &[&Span]) -> Bytes;

    /// Says how many the collector rejected.
    fn send(&mut self, body: Bytes) -> impl Future<Output = Result<u64, Undelivered>> + Send;

    /// How long sending may take.
    fn limit(&self) -> Duration;
}

/// Why something was not taken.
#[derive(Debug)]
pub(super) struct Undelivered {
    pub text: String,
    pub again: Again,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Never,
    /// After the usual time.
    Later,
    /// After this time.
    In(Duration),
}

impl Undelivered {
    pub(super) fn later(error: impl std::fmt::Display) -> Undelivered {
        Undelivered { text: error.to_string(), again: Again::Later }
    }
}

/// An error with its causes, in one line.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    short(&causes::chain(error))
}

/// The start of a text that somebody else made, on one line.
pub(super) fn short(text: &str) -> String {
    let text = &text[..text.floor_char_boundary(ERROR_TEXT)];
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect::<String>().trim().to_owned()
}

/// Until the inbox is closed and empty.
pub(super) async fn run<P: Protocol>(mut protocol: P, mut inbox: mpsc::Receiver<Arc<Sampled>>, mut task: Task) {
    let mut batch = Vec::new();
    while fill(&mut inbox, &mut batch).await {
        let spans = batch.iter().flat_map(|sampled| &sampled.spans).collect::<Vec<_>>();
        let count = spans.len() as u64;
        let body = protocol.encode(&spans);
        match deliver(&body, &mut protocol, &mut task).await {
            Some(rejected) => task.state.sent(count, rejected),
            None => task.state.dropped.add(count),
        }
        batch.clear();
    }
}

async fn fill(inbox: &mut mpsc::Receiver<Arc<Sampled>>, batch: &mut Vec<Arc<Sampled>>) -> bool {
    let Some(first) = inbox.recv().await else { return false };
    let mut spans = first.spans.len();
    batch.push(first);
    let full = Instant::now() + AGE;
    while spans < SPANS {
        match timeout_at(full, inbox.recv()).await {
            Ok(Some(more)) => {
                spans += more.spans.len();
                batch.push(more);
            }
            Ok(None) | Err(_) => break,
        }
    }
    true
}

/// How many were rejected; `None`: all is lost.
async fn deliver(body: &Bytes, protocol: &mut impl Protocol, task: &mut Task) -> Option<u64> {
    let mut wait = FIRST_WAIT;
    for attempt in 1..=ATTEMPTS {
        let limit = protocol.limit();
        let sent = timeout(limit, protocol.send(body.clone())).await;
        let undelivered = match sent {
            Ok(Ok(rejected)) => return Some(rejected),
            Ok(Err(undelivered)) => undelivered,
            Err(_) => Undelivered::later(format!("no answer within {limit:?}")),
        };
        task.state.failed(&undelivered.text);
        let pause = match undelivered.again {
            Again::Never => return None,
            Again::Later => wait.mul_f64(0.5 + fastrand::f64() / 2.0),
            Again::In(asked) => asked.min(LONGEST_WAIT),
        };
        wait = (wait * 2).min(LONGEST_WAIT);
        if attempt == ATTEMPTS || !pause_unless(&mut task.ending, pause).await {
            return None;
        }
    }
    None
}

/// False: all ends, there is no time to wait.
pub(super) async fn pause_unless(ending: &mut watch::Receiver<bool>, pause: Duration) -> bool {
    timeout(pause, ending.wait_for(|over| *over)).await.is_err()
}
