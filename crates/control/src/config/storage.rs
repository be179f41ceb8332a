//! `storage:`: where dtabs are kept.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use discovery::{Clusters, ConfigError, Connection};
use names::Dtab;
use serde::Deserialize;
use serde_json::Value;
use store::{DtabStore, Kubernetes, Memory, Sqlite};

use super::{kind, typed};

/// The kinds that are built.
#[derive(Clone, Debug, PartialEq)]
pub enum Storage {
    /// `io.l5d.inMemory`, with the dtabs that it starts with.
    Memory(BTreeMap<String, Dtab>),
    /// `io.switchyard.sqlite`; the file is created where there is none.
    Sqlite(PathBuf),
    /// `io.l5d.k8s`: objects in a namespace of a cluster.
    Kubernetes { connection: Connection, namespace: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct MemoryKeys {
    #[serde(default)]
    namespaces: Option<BTreeMap<String, String>>,
    /// Accepted with every kind; only experimental kinds ask for it.
    #[serde(default, rename = "experimental")]
    _experimental: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SqliteKeys {
    path: PathBuf,
    #[serde(default, rename = "experimental")]
    _experimental: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct KubernetesKeys {
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    kubeconfig: Option<PathBuf>,
    #[serde(default)]
    context: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default, rename = "experimental")]
    _experimental: bool,
}

impl Storage {
    pub(super) fn read(mut value: Value) -> Result<Storage, ConfigError> {
        let kind = kind(&mut value)?;
        match kind.as_str() {
            "io.l5d.inMemory" => {
                let keys: MemoryKeys = typed(value)?;
                let read = |(namespace, text): (String, String)| match Dtab::read(&text) {
                    Ok(dtab) => Ok((namespace, dtab)),
                    Err(error) => {
                        Err(ConfigError::new(format!("namespaces.{namespace}"), format!("`{text}`: {error}")))
                    }
                };
                Ok(Storage::Memory(
                    keys.namespaces.unwrap_or_default().into_iter().map(read).collect::<Result<_, _>>()?,
                ))
            }
            "io.switchyard.sqlite" => {
                let keys: SqliteKeys = typed(value)?;
                if keys.path.as_os_str().is_empty() {
                    return Err(ConfigError::new("path", "must name a file, such as dtabs.db"));
                }
                Ok(Storage::Sqlite(keys.path))
            }
            "io.l5d.k8s" => {
                let KubernetesKeys { host, port, kubeconfig, context, namespace, .. } = typed(value)?;
                let namespace = namespace.unwrap_or_else(|| "default".to_owned());
                if !discovery::kubernetes::is_name(&namespace) {
                    return Err(ConfigError::new(
                        "namespace",
                        format!("`{namespace}` cannot be the name of a namespace"),
                    ));
                }
                Ok(Storage::Kubernetes { connection: Connection { host, port, kubeconfig, context }, namespace })
            }
            "io.l5d.zk" | "io.l5d.etcd" | "io.l5d.consul" => {
                let instead = "use io.l5d.k8s, io.switchyard.sqlite (on disk) or io.l5d.inMemory, and copy the dtabs with namerctl";
                Err(ConfigError::new("kind", format!("the storage `{kind}` is not supported yet: {instead}")))
            }
            other => {
                let message =
                    format!("unknown storage `{other}`: use io.l5d.k8s, io.switchyard.sqlite or io.l5d.inMemory");
                Err(ConfigError::new("kind", message))
            }
        }
    }

    /// Relative files start at `base` from here on.
    pub fn absolute(self, base: &Path) -> Storage {
        match self {
            Storage::Sqlite(path) => Storage::Sqlite(base.join(path)),
            other => other,
        }
    }

    /// Opens it. Waits for files, or for the cluster.
    ///
    /// # Errors
    /// Names the file, or what the cluster refuses.
    pub async fn open(&self, clusters: &Clusters) -> Result<Arc<dyn DtabStore>, OpenError> {
        match self {
            Storage::Memory(namespaces) => Ok(Arc::new(Memory::new(namespaces.clone()))),
            Storage::Sqlite(path) => {
                let path = path.clone();
                let opened = tokio::task::spawn_blocking(move || Sqlite::open(&path)).await;
                Ok(Arc::new(opened.unwrap_or(Err(store::Error::Closed))?))
            }
            Storage::Kubernetes { connection, namespace } => {
                let cluster = clusters.get(connection);
                let cluster = cluster.map_err(|error| ConfigError::new(error.key, error.message).under("storage"))?;
                Ok(Arc::new(Kubernetes::open(cluster, namespace).await?))
            }
        }
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] store::Error),
}
