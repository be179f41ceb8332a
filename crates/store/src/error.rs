//! What a store can refuse or fail at. The first three texts are the original's.

use std::{path::PathBuf, sync::Arc};

use crate::Version;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("The dtab namespace {0} already exists")]
    AlreadyExists(Arc<str>),
    #[error("The dtab namespace {0} does not exist")]
    DoesNotExist(Arc<str>),
    #[error("Could not update dtab: current version does not match provided version")]
    VersionMismatch,
    #[error("the disk that holds {path} is full; nothing of this was stored, what was stored before is kept")]
    Full { path: PathBuf },
    #[error("{path} is locked by another process; nothing of this was stored")]
    Locked { path: PathBuf },
    #[error("{path} is in use by another control plane: stop it, or give each its own file")]
    InUse { path: PathBuf },
    #[error("cannot open {path}")]
    Open { path: PathBuf, source: Arc<dyn std::error::Error + Send + Sync> },
    #[error("{path} was written by a newer release (format {found}, this one knows {known})")]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("{path}: version {version} of namespace {namespace} cannot be read: {why}")]
    Damaged { path: PathBuf, namespace: String, version: Version, why: String },
    #[error("{path}: the store failed; nothing of this was stored")]
    Failed { path: PathBuf, source: Arc<rusqlite::Error> },
    #[error("`{0}` cannot be the name of a dtab in Kubernetes: lower-case letters, digits, `-` and `.`, at most 253")]
    BadName(Arc<str>),
    #[error(transparent)]
    Cluster(kubernetes::Error),
    #[error("{0}; the cluster does not know dtabs: kubectl apply -f deploy/k8s/dtabs.yml")]
    Undefined(kubernetes::Error),
    #[error("the store is closed")]
    Closed,
}

impl From<kubernetes::Error> for Error {
    fn from(error: kubernetes::Error) -> Error {
        Error::Cluster(error)
    }
}
