//! What replicas share besides dtabs: leases and notes, in one ConfigMap.
//!
//! Where the role does not allow ConfigMaps (an old Namerd's does not) they are kept in this process, and
//! a warning says so once: leases then hold for this replica only.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;
use kubernetes::Resource;
use kubernetes::k8s_openapi::api::core::v1::ConfigMap;
use serde::{Deserialize, Serialize};

use super::requests::Requests;
use crate::{Error, Lease};

const NAME: &str = "dtab-store";
const LEASES: &str = "leases";
/// Writers that get in each other's way try again so often.
const TRIES: usize = 20;

/// What is shared, as the ConfigMap's `data` holds it.
#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) leases: Vec<Lease>,
    pub(super) notes: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Noted {
    namespace: String,
    entry: String,
    owner: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    since: i64,
    expires: i64,
}

impl State {
    fn read(map: &ConfigMap) -> State {
        let mut notes = map.data.clone().unwrap_or_default();
        let leases = notes.remove(LEASES).unwrap_or_default();
        let noted: Vec<Noted> = serde_json::from_str(&leases).unwrap_or_default();
        let lease = |noted: Noted| {
            Some(Lease {
                namespace: noted.namespace,
                entry: noted.entry,
                owner: noted.owner,
                reason: noted.reason,
                since: Timestamp::from_millisecond(noted.since).ok()?,
                expires: Timestamp::from_millisecond(noted.expires).ok()?,
            })
        };
        State { leases: noted.into_iter().filter_map(lease).collect(), notes }
    }

    fn show(&self) -> Result<BTreeMap<String, String>, serde_json::Error> {
        let noted = |lease: &Lease| Noted {
            namespace: lease.namespace.clone(),
            entry: lease.entry.clone(),
            owner: lease.owner.clone(),
            reason: lease.reason.clone(),
            since: lease.since.as_millisecond(),
            expires: lease.expires.as_millisecond(),
        };
        let leases: Vec<_> = self.leases.iter().map(noted).collect();
        let mut data = self.notes.clone();
        data.insert(LEASES.to_owned(), serde_json::to_string(&leases)?);
        Ok(data)
    }
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Shared {
    own: Mutex<State>,
    is_own: AtomicBool,
}

/// Whether what a closure did to the state must be written.
pub(super) enum Then<T> {
    Write(T),
    Leave(T),
}

impl Shared {
    /// Reads, changes, writes; again where somebody else wrote in between.
    pub(super) async fn with<T>(
        &self,
        requests: &Requests,
        change: impl Fn(&mut State) -> Then<T>,
    ) -> Result<T, Error> {
        for _ in 0..TRIES {
            let found = match requests.get::<ConfigMap>(Resource::CONFIG_MAPS, NAME).await {
                Ok(found) => found,
                Err(error) if error.code() == Some(403) => return Ok(self.with_own(&error, change)),
                Err(error) => return Err(error.into()),
            };
            let mut map = found.clone().unwrap_or_default();
            let mut state = State::read(&map);
            let answer = match change(&mut state) {
                Then::Leave(answer) => return Ok(answer),
                Then::Write(answer) => answer,
            };
            map.metadata.name = Some(NAME.to_owned());
            map.data = Some(state.show().map_err(|error| requests.unreadable(Resource::CONFIG_MAPS, &error))?);
            let sent = match found {
                Some(_) => requests.replace(Resource::CONFIG_MAPS, NAME, &map).await,
                None => requests.create(Resource::CONFIG_MAPS, &map).await,
            };
            match sent {
                Ok(_) => return Ok(answer),
                Err(error) if matches!(error.code(), Some(409 | 404)) => {}
                Err(error) if error.code() == Some(403) => return Ok(self.with_own(&error, change)),
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::VersionMismatch)
    }

    fn with_own<T>(&self, error: &kubernetes::Error, change: impl Fn(&mut State) -> Then<T>) -> T {
        if !self.is_own.swap(true, Ordering::Relaxed) {
            tracing::warn!("leases and the fleet are known to this replica only: {error}");
        }
        // Each change is one step: a panic elsewhere leaves it whole.
        match change(&mut self.own.lock().unwrap_or_else(PoisonError::into_inner)) {
            Then::Write(answer) | Then::Leave(answer) => answer,
        }
    }
}
