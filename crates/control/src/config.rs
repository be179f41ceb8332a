//! The document of `switchyard namerd CONFIG`: a namerd file as it is. Inert; `Server::start` builds it.
//!
//! Strict: unknown keys are errors, and what is known and not built yet is refused by key, kind and
//! what to do instead. Nothing is read and then ignored.

mod admin;
mod interface;
mod storage;

use std::collections::BTreeMap;

use discovery::{ConfigError, NamerConfig};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

pub use self::admin::Admin;
pub(crate) use self::admin::CATEGORIES;
pub(crate) use interface::bad_section;
pub use interface::{Interface, Kind, SocketOptions};
pub(crate) use storage::OpenError;
pub use storage::Storage;

/// The whole document.
#[derive(Clone, Debug)]
pub struct Config {
    pub admin: Admin,
    pub storage: Storage,
    pub namers: Vec<NamerConfig>,
    /// At least one.
    pub interfaces: Vec<Interface>,
    /// Where metrics are shown in Prometheus' format.
    pub prometheus: Vec<Prometheus>,
    /// What `/config.json` shows.
    pub document: Value,
    /// Whether routers may follow. No key of the document: without it this is what the original offers,
    /// for tests of the fallback.
    pub offers_follow: bool,
    /// The process's: whether this is a pod, and what its namers and its store need to know. Read in the binary.
    pub environment: BTreeMap<String, String>,
}

/// `telemetry: [{kind: io.l5d.prometheus}]`. Without one the metrics stand under the defaults.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Prometheus {
    pub path: String,
    pub prefix: String,
}

impl Default for Prometheus {
    fn default() -> Prometheus {
        Prometheus { path: "/admin/metrics/prometheus".to_owned(), prefix: String::new() }
    }
}

/// The keys of the top level; what stands under them is read by kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    admin: Option<Value>,
    #[serde(default)]
    storage: Option<Value>,
    #[serde(default)]
    namers: Option<Vec<Value>>,
    #[serde(default)]
    interfaces: Option<Vec<Value>>,
    #[serde(default)]
    telemetry: Option<Vec<Value>>,
}

impl Config {
    /// Reads a document that has been parsed. Checks everything that can be checked without building.
    ///
    /// # Errors
    /// The first thing that is wrong: key path, value, and what to do.
    pub fn read(document: Value) -> Result<Config, ConfigError> {
        if !document.is_object() {
            return Err(ConfigError::new("", "the document must be a map; it needs 'storage' and 'interfaces'"));
        }
        let parts: Document = typed(document.clone())?;
        let admin = match parts.admin {
            Some(admin) => typed(admin).map_err(|error| error.under("admin"))?,
            None => Admin::default(),
        };
        admin.check().map_err(|error| error.under("admin"))?;
        let storage = parts.storage.ok_or_else(|| {
            ConfigError::new("storage", "'storage' field is required: name a kind, such as io.switchyard.sqlite")
        })?;
        let storage = Storage::read(storage).map_err(|error| error.under("storage"))?;
        let namers = list("namers", parts.namers.unwrap_or_default(), |value| {
            let namer: NamerConfig = typed(value)?;
            namer.check()?;
            Ok(namer)
        })?;
        let interfaces = parts.interfaces.ok_or_else(|| {
            ConfigError::new("interfaces", "'interfaces' field is required: list an io.l5d.httpController")
        })?;
        let interfaces = list("interfaces", interfaces, Interface::read)?;
        if interfaces.is_empty() {
            return Err(ConfigError::new("interfaces", "One or more interfaces must be specified"));
        }
        let telemetry = list("telemetry", parts.telemetry.unwrap_or_default(), telemeter)?;
        let mut prometheus: Vec<_> = telemetry.into_iter().flatten().collect();
        if prometheus.is_empty() {
            prometheus.push(Prometheus::default());
        }
        Ok(Config {
            admin,
            storage,
            namers,
            interfaces,
            prometheus,
            document,
            offers_follow: true,
            environment: BTreeMap::new(),
        })
    }
}

impl Config {
    /// Relative files start at `base` from here on.
    pub fn absolute(self, base: &std::path::Path) -> Config {
        let absolute = |tls: Option<tls::server::Config>| tls.map(|tls| tls.absolute(base));
        let interfaces = self.interfaces.into_iter();
        let interfaces = interfaces.map(|interface| Interface { tls: absolute(interface.tls), ..interface });
        let mut admin = self.admin;
        admin.tls = absolute(admin.tls);
        Config { storage: self.storage.absolute(base), interfaces: interfaces.collect(), admin, ..self }
    }
}

/// A value of a known shape; the error's path is relative to it.
fn typed<T: DeserializeOwned>(value: Value) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = Some(error.path().to_string()).filter(|path| path != ".").unwrap_or_default();
        ConfigError::new(path, error.into_inner().to_string())
    })
}

fn list<T>(
    key: &str,
    values: Vec<Value>,
    read: impl Fn(Value) -> Result<T, ConfigError>,
) -> Result<Vec<T>, ConfigError> {
    let read = |(number, value)| read(value).map_err(|error| error.under(&format!("{key}[{number}]")));
    values.into_iter().enumerate().map(read).collect()
}

/// Takes `kind` out of an object.
fn kind(value: &mut Value) -> Result<String, ConfigError> {
    let object = value.as_object_mut().ok_or_else(|| ConfigError::new("", "must be a map with a kind"))?;
    match object.shift_remove("kind") {
        Some(Value::String(kind)) => Ok(kind),
        Some(other) => Err(ConfigError::new("kind", format!("`{other}` is not the name of a kind"))),
        None => Err(ConfigError::new("kind", "'kind' field is required")),
    }
}

fn telemeter(mut value: Value) -> Result<Option<Prometheus>, ConfigError> {
    let kind = kind(&mut value)?;
    match kind.as_str() {
        "io.l5d.prometheus" => {
            let prometheus: Prometheus = typed(value)?;
            if !prometheus.path.starts_with('/') || prometheus.path.contains(['{', '}', '*']) {
                let message = format!("`{}` is not a path such as /admin/metrics/prometheus", prometheus.path);
                return Err(ConfigError::new("path", message));
            }
            Ok(Some(prometheus))
        }
        // Tracers, of which the original says in its log that a namerd does not trace.
        "io.l5d.zipkin" | "io.l5d.recentRequests" | "io.l5d.tracelog" => {
            tracing::warn!(%kind, "a control plane does not trace requests; nothing is sent");
            Ok(None)
        }
        "io.l5d.commonMetrics" | "io.l5d.influxdb" | "io.l5d.statsd" => {
            let instead = "take the entry out; metrics are at /admin/metrics.json and /admin/metrics/prometheus";
            Err(ConfigError::new("kind", format!("the telemeter `{kind}` is not supported yet: {instead}")))
        }
        other => Err(ConfigError::new("kind", format!("unknown telemeter `{other}`: use io.l5d.prometheus"))),
    }
}
