//! Follow: one stream on which the control plane tells a router everything about one namespace, in order.
//!
//! A router asks with `POST /api/1/follow/NS?router=LABEL&process=ID[&admin=URL]`. Request and answer
//! are both streams of lines, one JSON value each, and run at the same time on the one connection:
//!
//! ```text
//!   router                                             control plane
//!     {"bind":{"id":1,"path":"/svc/world","held":true}}  ─▶
//!     "ready"                                            ─▶
//!                                                   ◀─  {"hello":{"keepAliveMs":1000}}
//!                                                   ◀─  {"addr":{"id":"/#/io.l5d.fs/world-v1","addr":…}}
//!                                                   ◀─  {"tree":{"id":1,"tree":{"leaf":{…}}}}
//!                                                   ◀─  {"version":"AAAAAAAAAAE="}
//!     {"ack":"AAAAAAAAAAE="}                             ─▶
//! ```
//!
//! **Order.** A version is told after all trees that follow from it, so a router that publishes what it
//! reads in order, and then acknowledges, serves the version. Names count that the router holds a tree
//! for, from this stream or from an earlier one (`held`); no version is told before `"ready"`, which
//! stands behind all that are held. A name without a tree keeps nobody back: its first tree is withheld
//! until it follows from the version that was told last. A name that keeps an older tree because it is
//! pending, or fails, under the newer dtab keeps the version back; the fleet shows which (`waitsFor`).
//!
//! **Size.** Addresses stand apart from trees, by bound id, so that a change of one endpoint sends one
//! cluster's addresses whatever number of names lead there. What changes while a router reads slowly
//! is sent once, in its latest state: neither side queues more than a few buffers.
//!
//! **Life.** Each side sends an empty line a second; one that hears nothing for five seconds ends the
//! stream. The router then connects again and asks for everything anew, while its last good trees serve.

pub(crate) mod lines;
pub(crate) mod server;
mod session;
pub(crate) mod wire;

use std::time::Duration;

/// Each side says something at least this often.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Nothing heard for so long: the other side is gone.
pub(crate) const SILENCE: Duration = Duration::from_secs(5);

/// A side that does not read for so long is treated as gone.
pub(crate) const STUCK: Duration = Duration::from_secs(15);
