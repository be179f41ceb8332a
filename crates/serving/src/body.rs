//! Request bodies, read whole before the routes get them: bounded in length and time, and in what all of them
//! take together.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use crate::Whole;
use crate::counts::Refused;

/// Bytes that all bodies of one port may take together.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    left: Arc<AtomicUsize>,
}

/// What one of them takes; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    pub(crate) fn of(bytes: usize) -> Budget {
        Budget { left: Arc::new(AtomicUsize::new(bytes)) }
    }

    fn holder(&self) -> Held {
        Held { budget: self.clone(), bytes: 0 }
    }
}

impl Held {
    /// False where there is not so much left.
    fn take(&mut self, bytes: usize) -> bool {
        let left = &self.budget.left;
        let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        if taken.is_ok() {
            self.bytes += bytes;
        }
        taken.is_ok()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// Why there is no whole body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    Refused(Refused),
    /// Nothing came for as long as the socket may be silent.
    Silent,
    /// Its end never came, or it was no body.
    Broken,
}

impl Failed {
    /// What the client is told.
    pub(crate) fn told(&self, bound: Whole) -> (StatusCode, String) {
        match self {
            Failed::Refused(Refused::TooLong) => {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {} bytes", bound.bytes))
            }
            Failed::Refused(Refused::TooLate) => {
                let seconds = bound.within.as_secs_f64();
                (StatusCode::REQUEST_TIMEOUT, format!("the body did not come within {seconds} seconds"))
            }
            Failed::Refused(Refused::NoRoom) => {
                let text = "too many long bodies come in at once: try again";
                (StatusCode::SERVICE_UNAVAILABLE, text.to_owned())
            }
            Failed::Silent => (StatusCode::REQUEST_TIMEOUT, "the body stood still".to_owned()),
            Failed::Broken => (StatusCode::BAD_REQUEST, "the body broke off".to_owned()),
        }
    }
}

pub(crate) async fn whole(body: Incoming, bound: Whole, budget: &Budget) -> Result<(Bytes, Held), Failed> {
    if body.size_hint().lower() > bound.bytes as u64 {
        return Err(Failed::Refused(Refused::TooLong));
    }
    let late = |_| Failed::Refused(Refused::TooLate);
    tokio::time::timeout(bound.within, collected(body, bound.bytes, budget)).await.map_err(late)?
}

async fn collected(mut body: Incoming, longest: usize, budget: &Budget) -> Result<(Bytes, Held), Failed> {
    let (mut all, mut held) = (BytesMut::new(), budget.holder());
    while let Some(frame) = body.frame().await {
        // Trailers mean nothing here.
        let Ok(part) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
        if all.len() + part.len() > longest {
            return Err(Failed::Refused(Refused::TooLong));
        }
        if !held.take(part.len()) {
            return Err(Failed::Refused(Refused::NoRoom));
        }
        all.extend_from_slice(&part);
    }
    Ok((all.freeze(), held))
}

fn broken(error: &hyper::Error) -> Failed {
    let mut source = error.source();
    while let Some(error) = source {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return Failed::Silent;
        }
        source = error.source();
    }
    Failed::Broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_overdrawn_and_comes_back() {
        let budget = Budget::of(10);
        let (mut one, mut other) = (budget.holder(), budget.holder());
        assert!(one.take(6) && other.take(4));
        assert!(!other.take(1));
        drop(one);
        assert!(other.take(6) && !other.take(1));
        drop(other);
        assert!(budget.holder().take(10));
    }
}
