//! The document of `switchyard pipeline CONFIG`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The whole file. Paths are taken as they are: the binary makes them absolute before `build`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// Where the API and the pages listen.
    #[serde(default = "default_ip")]
    pub ip: std::net::IpAddr,
    #[serde(default = "default_port")]
    pub port: u16,
    /// Of the socket there.
    #[serde(default)]
    pub socket_options: serving::SocketOptions,
    /// The API and the pages by `https://`.
    #[serde(default)]
    pub tls: Option<tls::server::Config>,
    /// Directory of the journal and of clones.
    pub state: PathBuf,
    /// Directory of process specs; needed where a pipeline has the target `process`, as the next two.
    #[serde(default)]
    pub processes: Option<PathBuf>,
    /// Directory of the instances' log files.
    #[serde(default)]
    pub logs: Option<PathBuf>,
    /// `rootDir` of the control plane's `io.l5d.fs` namer, where versions are registered.
    #[serde(default)]
    pub registrations: Option<PathBuf>,
    /// Where the cluster of the target `kubernetes` is. Left out: the pod's own, or as KUBECONFIG says.
    #[serde(default)]
    pub kubernetes: Reach,
    /// `http://127.0.0.1:4180`
    pub control_plane: String,
    /// Where that is an `https://` address: whom to trust, and who we are. The URL's host is the name that
    /// is verified.
    #[serde(default)]
    pub control_plane_tls: Option<tls::client::Config>,
    /// Where a user's requests enter: `http://127.0.0.1:4142`.
    pub frontend: String,
    /// Pipeline files.
    pub pipelines: Vec<PathBuf>,
    /// pipeline → parameter → value, in place of the file's own default.
    #[serde(default)]
    pub defaults: BTreeMap<String, BTreeMap<String, String>>,
    /// Ports that new instances may take; without it the system chooses.
    #[serde(default)]
    pub ports: Option<Ports>,
    /// Started processes end when the pipeline server's own process ends. For throw-away demos.
    #[serde(default)]
    pub processes_die_with_me: bool,
    /// Addresses of the other parts' pages, for the links at the top.
    #[serde(default)]
    pub links: Links,
}

impl Config {
    /// One of the directories of the target `process`.
    pub(crate) fn directory(&self, key: &str) -> Result<&PathBuf, String> {
        let directory = match key {
            "processes" => &self.processes,
            "logs" => &self.logs,
            _ => &self.registrations,
        };
        directory.as_ref().ok_or_else(|| format!("the pipeline server's document has no `{key}`"))
    }
}

/// The keys that say where a cluster's API is, as namers and storage have them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reach {
    pub host: Option<String>,
    pub port: Option<u16>,
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
}

impl Reach {
    pub(crate) fn connection(&self) -> kubernetes::Connection {
        let Reach { host, port, kubeconfig, context } = self.clone();
        kubernetes::Connection { host, port, kubeconfig, context }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ports {
    pub from: u16,
    pub to: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Links {
    pub router: Option<String>,
    pub control: Option<String>,
}

fn default_ip() -> std::net::IpAddr {
    std::net::IpAddr::from([127, 0, 0, 1])
}

fn default_port() -> u16 {
    8080
}

/// Where in which file, what is wrong, and what would be right.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{file}: {path}: {message}")]
pub struct ConfigError {
    pub file: String,
    pub path: String,
    pub message: String,
}
