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
pub use interface::{Interface, Kind};
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
    /// Whether they are shown in InfluxDB's line protocol, too.
    pub influxdb: bool,
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
    /// No key: whether who prefers OpenMetrics gets it. The original's telemeter tells the original's text to all.
    #[serde(skip)]
    pub openmetrics: bool,
}

impl Default for Prometheus {
    fn default() -> Prometheus {
        Prometheus { path: "/admin/metrics/prometheus".to_owned(), prefix: String::new(), openmetrics: false }
    }
}

/// The keys of the top level; what stands under them is read by kind.
const SECTIONS: [&str; 5] = ["admin", "storage", "namers", "interfaces", "telemetry"];

/// Everything that is wrong with a document: it is to be mended in one go.
#[derive(Default)]
struct Problems(Vec<ConfigError>);

impl Problems {
    /// What was read, or a note of why not.
    fn take<T>(&mut self, read: Result<T, ConfigError>) -> Option<T> {
        read.map_err(|error| self.0.push(error)).ok()
    }

    /// The entries of a list that can be read.
    fn list<T>(
        &mut self,
        key: &str,
        value: Option<Value>,
        read: impl Fn(Value) -> Result<T, Vec<ConfigError>>,
    ) -> Vec<T> {
        let values = match value {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(values)) => values,
            Some(other) => {
                self.0.push(ConfigError::new(key, format!("expected a list, not `{other}`")));
                Vec::new()
            }
        };
        let mut list = Vec::new();
        for (number, value) in values.into_iter().enumerate() {
            match read(value) {
                Ok(entry) => list.push(entry),
                Err(errors) => {
                    self.0.extend(errors.into_iter().map(|error| error.under(&format!("{key}[{number}]"))));
                }
            }
        }
        list
    }
}

impl Config {
    /// Reads a document that has been parsed. Checks everything that can be checked without building.
    ///
    /// # Errors
    /// All that is wrong, at least one: key path, value, and what to do.
    pub fn read(document: Value) -> Result<Config, Vec<ConfigError>> {
        let Value::Object(mut sections) = document.clone() else {
            let message = "the document must be a map; it needs 'storage' and 'interfaces'";
            return Err(vec![ConfigError::new("", message)]);
        };
        let mut problems = Problems::default();
        for key in sections.keys().filter(|key| !SECTIONS.contains(&key.as_str())) {
            let known = SECTIONS.map(|key| format!("`{key}`")).join(", ");
            problems.0.push(ConfigError::new(key, format!("unknown key, expected one of {known}")));
        }
        let mut section = |key: &str| sections.shift_remove(key).filter(|value| !value.is_null());
        let admin = section("admin").map_or_else(|| Ok(Admin::default()), typed::<Admin>);
        let admin = admin.and_then(|admin| admin.check().map(|()| admin)).map_err(|error| error.under("admin"));
        let admin = problems.take(admin);
        let storage = section("storage").ok_or_else(|| {
            ConfigError::new("storage", "'storage' field is required: name a kind, such as io.switchyard.sqlite")
        });
        let storage = storage.and_then(|storage| Storage::read(storage).map_err(|error| error.under("storage")));
        let storage = problems.take(storage);
        let namers = problems.list("namers", section("namers"), |value| {
            let namer: NamerConfig = typed(value).map_err(|error| vec![error])?;
            namer.check().map_err(|error| vec![error])?;
            Ok(namer)
        });
        let listed = section("interfaces");
        let missing = match &listed {
            None => Some("'interfaces' field is required: list an io.l5d.httpController"),
            Some(Value::Array(listed)) if listed.is_empty() => Some("One or more interfaces must be specified"),
            Some(_) => None,
        };
        problems.0.extend(missing.map(|message| ConfigError::new("interfaces", message)));
        let interfaces = problems.list("interfaces", listed, Interface::read);
        let telemetry =
            problems.list("telemetry", section("telemetry"), |value| telemeter(value).map_err(|error| vec![error]));
        let (Some(admin), Some(storage), true) = (admin, storage, problems.0.is_empty()) else {
            return Err(problems.0);
        };
        let influxdb = telemetry.contains(&Telemeter::Influxdb);
        let mut prometheus: Vec<_> = telemetry.into_iter().filter_map(Telemeter::prometheus).collect();
        if prometheus.is_empty() {
            prometheus.push(Prometheus { openmetrics: true, ..Prometheus::default() });
        }
        Ok(Config {
            admin,
            storage,
            namers,
            interfaces,
            prometheus,
            influxdb,
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

/// Takes `kind` out of an object.
fn kind(value: &mut Value) -> Result<String, ConfigError> {
    let object = value.as_object_mut().ok_or_else(|| ConfigError::new("", "must be a map with a kind"))?;
    match object.shift_remove("kind") {
        Some(Value::String(kind)) => Ok(kind),
        Some(other) => Err(ConfigError::new("kind", format!("`{other}` is not the name of a kind"))),
        None => Err(ConfigError::new("kind", "'kind' field is required")),
    }
}

/// One of `telemetry:`.
#[derive(PartialEq)]
enum Telemeter {
    Prometheus(Prometheus),
    Influxdb,
    /// Traces, of which there are none here.
    Tracer,
}

impl Telemeter {
    fn prometheus(self) -> Option<Prometheus> {
        match self {
            Telemeter::Prometheus(prometheus) => Some(prometheus),
            Telemeter::Influxdb | Telemeter::Tracer => None,
        }
    }
}

/// The keys of a kind that has none of its own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoKeys {
    /// Accepted with every kind; only experimental kinds ask for it.
    #[serde(default, rename = "experimental")]
    _experimental: bool,
}

fn telemeter(mut value: Value) -> Result<Telemeter, ConfigError> {
    let kind = kind(&mut value)?;
    match kind.as_str() {
        "io.l5d.prometheus" => {
            let prometheus: Prometheus = typed(value)?;
            if !prometheus.path.starts_with('/') || prometheus.path.contains(['{', '}', '*']) {
                let message = format!("`{}` is not a path such as /admin/metrics/prometheus", prometheus.path);
                return Err(ConfigError::new("path", message));
            }
            Ok(Telemeter::Prometheus(prometheus))
        }
        "io.l5d.influxdb" => typed::<NoKeys>(value).map(|_| Telemeter::Influxdb),
        // Tracers, of which the original says in its log that a namerd does not trace.
        "io.l5d.zipkin" | "io.l5d.recentRequests" | "io.l5d.tracelog" => {
            tracing::warn!(%kind, "a control plane does not trace requests; nothing is sent");
            Ok(Telemeter::Tracer)
        }
        "io.l5d.commonMetrics" | "io.l5d.statsd" => {
            let instead = "take the entry out; metrics are at /admin/metrics.json and /admin/metrics/prometheus";
            Err(ConfigError::new("kind", format!("the telemeter `{kind}` is not supported yet: {instead}")))
        }
        other => {
            let message = format!("unknown telemeter `{other}`: use io.l5d.prometheus or io.l5d.influxdb");
            Err(ConfigError::new("kind", message))
        }
    }
}
