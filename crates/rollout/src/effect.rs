//! What the machine asks for, and what it is told.

use serde::{Deserialize, Serialize};

use crate::texts::Level;

/// An effect with its number. Numbers only grow; an outcome counts for the outstanding number only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbered {
    pub id: u64,
    pub effect: Effect,
}

/// Each can be run again after a crash in the middle of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// Reads the source of the new version.
    Fetch,
    /// Takes (or renews) the lease on the entry.
    TakeLease,
    /// Reads the entry and what exists. Changes nothing.
    Inspect,
    /// Compare and set of the one entry: done if it holds one of `expected`; everything else is
    /// `Foreign`. An entry that holds `dst` already is done, except with `fence`, which writes all the
    /// same: the new version makes writes fail that may still be under way.
    Write {
        expected: Vec<String>,
        dst: String,
        fence: bool,
    },
    /// Starts and registers the new version; done when its instances are ready.
    Start {
        version: String,
    },
    /// Asks the new version, through the routers and without a fallback.
    Test {
        version: String,
    },
    /// Waits until each live router serves this version of the dtab.
    AwaitFleet {
        dtab: String,
    },
    /// Waits until neither the dtab nor any live router can send a request to `unused`.
    Settle {
        unused: String,
    },
    /// Looks once more that nothing names it, then unregisters, drains and stops.
    Remove {
        version: String,
    },
    ReleaseLease,
}

/// What became of an effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    Fetched {
        commit: Option<(String, String)>,
        text: String,
    },
    /// Lease taken, fleet serves, test passed, version started, settled, removed, lease released.
    Done {
        detail: String,
    },
    Inspected(Found),
    Written {
        version: String,
    },
    /// The entry holds something that this deploy did not write. `None`: it is gone.
    Foreign {
        found: Option<String>,
    },
    /// An entry still names the version that was to go.
    StillUsed {
        entry: String,
        dst: String,
    },
    /// It did not work, or it is not known whether it did.
    Failed {
        reason: String,
    },
}

/// What `Inspect` saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// Right side of the entry.
    pub dst: String,
    /// Version names that exist as processes, registrations or in the dtab.
    pub existing: Vec<String>,
    /// Those of them that ended deploys left behind and nothing names.
    pub leftovers: Vec<String>,
}

/// What can happen to a deploy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Event {
    Outcome {
        id: u64,
        outcome: Outcome,
    },
    /// `stage`: the gate that was looked at, if the person said so.
    Approve {
        actor: String,
        reason: Option<String>,
        stage: Option<String>,
    },
    Abort {
        actor: String,
        reason: Option<String>,
    },
    /// Something the deploy rests on broke: instances of the new version, the lease, the journal's disk.
    Trouble {
        reason: String,
    },
    /// Whoever runs the outstanding effect has something to say about it. Changes nothing else.
    Remark {
        level: Level,
        text: String,
    },
    /// Try again what failed.
    Retry,
    /// Another deploy on the same entry takes over from this failed one.
    Supersede {
        by: String,
    },
}
