//! `interpreter: {kind: io.l5d.namerd}` and `{kind: io.l5d.mesh}` of old routers' documents, as they are.
//!
//! Neither Thrift nor gRPC is spoken: behind `dst` there must be a control plane of ours, which serves HTTP on
//! the ports of the interfaces `io.l5d.thriftNameInterpreter` and `io.l5d.mesh`. So the documents of a router
//! and of its control plane go on fitting each other.

use discovery::{ConfigError, TransformerConfig};
use names::Path;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Config, Kind, Retry,
    config::{default_namespace, shown},
};

/// `io.l5d.namerd`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Namerd {
    /// As a name: `/$/inet/namerd.default.svc.cluster.local/4100`.
    #[serde(deserialize_with = "shown")]
    dst: Path,
    #[serde(default = "default_namespace")]
    namespace: String,
    #[serde(default)]
    retry: Option<Retry>,
    #[serde(default)]
    tls: Option<Tls>,
    #[serde(default)]
    transformers: Vec<TransformerConfig>,
    #[serde(default)]
    experimental: bool,
    #[serde(default)]
    failure_threshold: Option<Value>,
}

/// Its `tls`: who the control plane is, and by whose word.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Tls {
    common_name: String,
    #[serde(default)]
    ca_cert: Option<std::path::PathBuf>,
}

/// `io.l5d.mesh`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Mesh {
    #[serde(deserialize_with = "shown")]
    dst: Path,
    /// The namespace, as a path of one label.
    #[serde(default = "default_root", deserialize_with = "shown")]
    root: Path,
    #[serde(default)]
    retry: Option<Retry>,
    #[serde(default)]
    tls: Option<tls::client::Config>,
    #[serde(default)]
    transformers: Vec<TransformerConfig>,
    #[serde(default)]
    experimental: bool,
    #[serde(default)]
    failure_threshold: Option<Value>,
    #[serde(default, rename = "initialStreamWindowSizeKB")]
    initial_stream_window_size: Option<Value>,
}

fn default_root() -> Path {
    Path::from_labels(["default"]).unwrap_or_else(Path::empty)
}

impl Namerd {
    /// As in a document.
    pub const KIND: &'static str = "io.l5d.namerd";

    /// What is asked by HTTP in its place.
    ///
    /// # Errors
    /// The first thing that is wrong, or means nothing over HTTP.
    pub fn config(self) -> Result<Config, ConfigError> {
        refuse("failureThreshold", self.failure_threshold.as_ref())?;
        let tls = self.tls.map(|tls| tls::client::Config {
            common_name: Some(tls.common_name),
            trust_certs: tls.ca_cert.map(|file| vec![file]),
            ..tls::client::Config::default()
        });
        let config = Config {
            dst: self.dst,
            namespace: self.namespace,
            retry: self.retry,
            tls,
            transformers: self.transformers,
            experimental: self.experimental,
            kind: Kind::Thrift,
        };
        config.check().map(|()| config)
    }
}

impl Mesh {
    /// As in a document.
    pub const KIND: &'static str = "io.l5d.mesh";

    /// As `Namerd::config`.
    ///
    /// # Errors
    /// As there.
    pub fn config(self) -> Result<Config, ConfigError> {
        refuse("failureThreshold", self.failure_threshold.as_ref())?;
        refuse("initialStreamWindowSizeKB", self.initial_stream_window_size.as_ref())?;
        let namespace = match self.root.labels() {
            [label] => String::from_utf8(label.to_vec()).ok(),
            _ => None,
        };
        let namespace = namespace.ok_or_else(|| {
            let message = format!("Invalid root: `{}` must have exactly one segment: the namespace", self.root.show());
            ConfigError::new("root", message)
        })?;
        let config = Config {
            dst: self.dst,
            namespace,
            retry: self.retry,
            tls: self.tls,
            transformers: self.transformers,
            experimental: self.experimental,
            kind: Kind::Mesh,
        };
        config.check().map(|()| config)
    }
}

fn refuse(key: &'static str, value: Option<&Value>) -> Result<(), ConfigError> {
    match value {
        Some(_) => {
            Err(ConfigError::new(key, "is not supported: take it out; HTTP is spoken here, which does not need it"))
        }
        None => Ok(()),
    }
}
