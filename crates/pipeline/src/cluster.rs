//! The cluster of the target `kubernetes`: requests, and the pods that are followed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use kubernetes::{Cluster as Connected, Error, Objects};

use crate::control::Trouble;
use crate::pods::Pods;

/// As whom the API server notes what a deploy makes.
pub(crate) const MANAGER: &str = "switchyard-pipeline";
/// One answer.
const WITHIN: Duration = Duration::from_secs(10);

/// One for a server.
pub(crate) struct Cluster {
    connected: Connected,
    followed: Mutex<HashMap<String, Weak<Pods>>>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cluster").field(&self.connected.shown()).finish()
    }
}

impl Cluster {
    pub fn new(connected: Connected) -> Cluster {
        Cluster { connected, followed: Mutex::default() }
    }

    pub fn objects(&self, namespace: &str) -> Objects {
        Objects::new(&self.connected, namespace, WITHIN, MANAGER)
    }

    /// Our pods there, followed as long as somebody holds this.
    pub fn pods(&self, namespace: &str) -> Arc<Pods> {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pods) = followed.get(namespace).and_then(Weak::upgrade) {
            return pods;
        }
        followed.retain(|_, pods| pods.strong_count() > 0);
        let pods = Pods::follow(&self.connected, namespace);
        followed.insert(namespace.to_owned(), Arc::downgrade(&pods));
        pods
    }

    /// The same, if they are followed.
    pub fn followed(&self, namespace: &str) -> Option<Arc<Pods>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner).get(namespace)?.upgrade()
    }
}

/// Whether it may be different the next time.
pub(crate) fn trouble(error: &Error) -> Trouble {
    match error.code() {
        None | Some(401 | 408 | 429 | 500..) => Trouble::Passing(error.to_string()),
        Some(_) => Trouble::Lasting(error.to_string()),
    }
}
