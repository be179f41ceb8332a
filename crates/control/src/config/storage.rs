//! `storage:`: where dtabs are kept.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use discovery::ConfigError;
use names::Dtab;
use serde::Deserialize;
use serde_json::Value;
use store::{DtabStore, Memory, Sqlite};

use super::{kind, typed};

/// The kinds that are built.
#[derive(Clone, Debug, PartialEq)]
pub enum Storage {
    /// `io.l5d.inMemory`, with the dtabs that it starts with.
    Memory(BTreeMap<String, Dtab>),
    /// `io.switchyard.sqlite`; the file is created where there is none.
    Sqlite(PathBuf),
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
            "io.l5d.k8s" | "io.l5d.zk" | "io.l5d.etcd" | "io.l5d.consul" => {
                let instead = "use io.switchyard.sqlite (on disk) or io.l5d.inMemory, and copy the dtabs with namerctl";
                Err(ConfigError::new("kind", format!("the storage `{kind}` is not supported yet: {instead}")))
            }
            other => {
                let message = format!("unknown storage `{other}`: use io.switchyard.sqlite or io.l5d.inMemory");
                Err(ConfigError::new("kind", message))
            }
        }
    }

    /// Relative files start at `base` from here on.
    pub fn absolute(self, base: &Path) -> Storage {
        match self {
            Storage::Sqlite(path) => Storage::Sqlite(base.join(path)),
            memory => memory,
        }
    }

    /// Opens it.
    ///
    /// # Errors
    /// Names the file.
    pub fn open(&self) -> Result<Arc<dyn DtabStore>, store::Error> {
        Ok(match self {
            Storage::Memory(namespaces) => Arc::new(Memory::new(namespaces.clone())),
            Storage::Sqlite(path) => Arc::new(Sqlite::open(path)?),
        })
    }
}
