//! What the parts of one process share: its environment, and its connections to clusters.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use kubernetes::{Clusters, Connection};

use crate::{ConfigError, kubernetes::books::Books};

/// Cheap to clone; clones share. Whoever names the same cluster gets the same watches.
#[derive(Clone, Default)]
pub struct Surroundings {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    clusters: Clusters,
    books: Mutex<HashMap<Connection, Arc<Books>>>,
}

impl Surroundings {
    pub fn new(clusters: Clusters) -> Surroundings {
        Surroundings { inner: Arc::new(Inner { clusters, books: Mutex::default() }) }
    }

    /// Also for metrics: how the watches do.
    pub fn clusters(&self) -> &Clusters {
        &self.inner.clusters
    }

    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn books(&self, connection: &Connection) -> Result<Arc<Books>, ConfigError> {
        let cluster = self.inner.clusters.get(connection);
        let cluster = cluster.map_err(|error| ConfigError::new(error.key, error.message))?;
        // Each change to the table is one step: a panic elsewhere leaves it whole.
        let mut books = self.inner.books.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(books.entry(connection.clone()).or_insert_with(|| Arc::new(Books::new(cluster))).clone())
    }
}
