//! Leases: claims on one entry of a namespace, with an owner and an expiry. Advisory: the store does
//! not refuse writes for their sake.

use std::time::Duration;

use jiff::Timestamp;

use crate::revision::to_millis;

/// A lease that was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    pub namespace: String,
    /// The prefix of the entry, `/host/world`.
    pub entry: String,
    pub owner: String,
    pub reason: Option<String>,
    /// When this owner first took it.
    pub since: Timestamp,
    pub expires: Timestamp,
}

/// Who wants what, for how long from `now` on.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseRequest {
    pub namespace: String,
    pub entry: String,
    pub owner: String,
    pub reason: Option<String>,
    pub lasts: Duration,
    pub now: Timestamp,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Leased {
    Taken(Lease),
    /// Another owner holds it.
    Held(Lease),
}

impl Lease {
    pub fn holds_at(&self, now: Timestamp) -> bool {
        self.expires > now
    }
}

/// Decides a request against the lease that is there.
pub(crate) fn decide(request: &LeaseRequest, held: Option<Lease>) -> Leased {
    let held = held.filter(|lease| lease.holds_at(request.now));
    match held {
        Some(lease) if lease.owner != request.owner => Leased::Held(lease),
        held => {
            let lasts = jiff::SignedDuration::try_from(request.lasts).unwrap_or(jiff::SignedDuration::MAX);
            Leased::Taken(Lease {
                namespace: request.namespace.clone(),
                entry: request.entry.clone(),
                owner: request.owner.clone(),
                reason: request.reason.clone(),
                since: held.map_or(to_millis(request.now), |lease| lease.since),
                expires: to_millis(request.now.checked_add(lasts).unwrap_or(Timestamp::MAX)),
            })
        }
    }
}
