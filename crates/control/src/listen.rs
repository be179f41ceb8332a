//! What may come in on the sockets of the control plane, which [`serving`] keeps.

mod foreign;

use std::time::Duration;

use axum::http::request::Parts;
use serving::{Body, Bounds, Whole};

pub(crate) use foreign::door;
pub(crate) use serving::Peer;

/// Of a request's body: the original's limit.
pub(crate) const LONGEST_BODY: usize = 5 << 20;
/// Of a dtab: the original's limit leaves room for some 100,000 entries.
pub(crate) const LONGEST_DTAB: usize = 64 << 20;
/// As long as that may take on a slow line.
const DTAB_WITHIN: Duration = Duration::from_secs(120);

/// Heads have longer than clients keep idle connections, so that they do not use one that is being closed.
pub(crate) fn bounds() -> Bounds {
    let bounds = Bounds::default();
    Bounds {
        connections: 8192,
        head_within: Duration::from_secs(120),
        body: Whole { bytes: LONGEST_BODY, ..bounds.body },
        body_of,
        bodies: 8 * LONGEST_DTAB,
        ..bounds
    }
}

fn body_of(head: &Parts, whole: Whole) -> Body {
    let path = head.uri.path();
    if path.starts_with("/api/1/follow/") {
        // Whoever follows says something every second or so, and is left when it does not.
        Body::Streamed
    } else if path.starts_with("/api/1/dtabs/") {
        Body::Whole(Whole { bytes: LONGEST_DTAB, within: DTAB_WITHIN })
    } else {
        Body::Whole(whole)
    }
}
