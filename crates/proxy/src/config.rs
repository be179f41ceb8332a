//! The document of `switchyard router`, which is Linkerd 1's: from its value to [`Settings`].
//!
//! ```text
//!  text ──(binary)──▶ Value ──read──▶ Draft ──finish──▶ Config { settings, admin, telemetry, … }
//!                                      │
//!                                      ├─ problems           all of them, each with its key path
//!                                      └─ namers, interpreters  raw: the binary knows their kinds
//! ```
//! Strict: a key that the original does not know is an error, and so is one that it knows and we have
//! not built. Keys of which only the default is built may say the default. Nothing is ignored.

mod access_log;
mod admin;
mod by_prefix;
mod exporters;
mod identifier;
mod load_balancer;
mod part;
mod reliability;
mod router;
mod server;
mod telemetry;
mod trace_propagator;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::access_log::is_same;
use crate::settings::{Roll, Settings};
use part::{At, Problems, given};

pub use admin::Admin;
pub use part::Problem;
pub use telemetry::Telemetry;

/// A document without problems.
#[derive(Clone, Debug)]
pub struct Config {
    pub settings: Settings,
    pub admin: Admin,
    pub telemetry: Telemetry,
    /// `usage` is there: the original would send reports, we send nothing and say so.
    pub usage: bool,
    /// `/config.json`: the document with the kinds that it left out.
    pub shown: Value,
}

/// A part that is not ours to read.
#[derive(Clone, Debug, PartialEq)]
pub struct Raw {
    /// `namers[0]`, `routers[2].interpreter`
    pub path: String,
    pub value: Value,
}

/// A document as far as it could be read.
#[derive(Debug)]
pub struct Draft {
    /// In the order of the document.
    pub namers: Vec<Raw>,
    /// One for each router, `kind: default` where there is none; none for a router that cannot be
    /// read. After [`Draft::finish`] these are those of `settings.routers`, in their order.
    pub interpreters: Vec<Raw>,
    problems: Vec<Problem>,
    config: Option<Config>,
}

impl Draft {
    /// The config, unless something is wrong with the document; `more` is what the caller found out.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn finish(mut self, more: impl IntoIterator<Item = Problem>) -> Result<Config, Vec<Problem>> {
        self.problems.extend(more);
        match self.config {
            Some(config) if self.problems.is_empty() => Ok(config),
            _ => Err(self.problems),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    admin: Option<Value>,
    routers: Option<Vec<Value>>,
    namers: Option<Vec<Value>>,
    telemetry: Option<Vec<Value>>,
    usage: Option<Value>,
}

/// Reads everything that can be read.
#[must_use]
pub fn read(document: &Value) -> Draft {
    let mut problems = Problems::default();
    let root = At::root();
    let Some(keys) = problems.read::<Keys>(&root, document) else {
        return Draft { namers: Vec::new(), interpreters: Vec::new(), problems: problems.take(), config: None };
    };
    let admin = admin::read(given(keys.admin.as_ref()), &root.key("admin"), &mut problems);
    let list = keys.routers.unwrap_or_default();
    let at = root.key("routers");
    let is_list = given(document.get("routers")).is_none_or(Value::is_array);
    if list.is_empty() && is_list {
        problems.add(&at, "At least one router must be specified in the configuration.");
    }
    let read = |(number, value): (usize, &Value)| router::read(value, &at.nth(number), &mut problems);
    let routers: Vec<router::Read> = list.iter().enumerate().map(read).collect();
    labels_differ(&routers, &at, &mut problems);
    addresses_differ(&routers, admin.as_ref(), &at, &mut problems);
    logs_differ(&routers, &at, &mut problems);
    let telemetry =
        telemetry::read(keys.telemetry.as_deref().unwrap_or_default(), &root.key("telemetry"), &mut problems);
    let usage =
        given(keys.usage.as_ref()).is_some_and(|value| telemetry::usage(value, &root.key("usage"), &mut problems));
    let raw = |(number, value)| Raw { path: root.key("namers").nth(number).path().to_owned(), value };
    let namers = keys.namers.unwrap_or_default().into_iter().enumerate().map(raw).collect();
    let (interpreters, routers): (Vec<_>, Vec<_>) =
        routers.into_iter().map(|read| (read.interpreter, read.settings)).unzip();
    let mut settings = Settings { routers: routers.into_iter().flatten().collect() };
    for router in &mut settings.routers {
        router.recent = telemetry.recent_requests.unwrap_or_default();
    }
    let config = admin.map(|admin| Config { settings, admin, telemetry, usage, shown: shown(document) });
    Draft { namers, interpreters: interpreters.into_iter().flatten().collect(), problems: problems.take(), config }
}

/// Reads a mapping the way the parts of this document are read: every key that is wrong is told, with
/// its path below `path`.
///
/// # Errors
/// Everything that is wrong.
pub fn typed<T: DeserializeOwned>(path: &str, value: &Value) -> Result<T, Vec<Problem>> {
    let mut problems = Problems::default();
    let read = problems.read(&At::root().key(path), value);
    let problems = problems.take();
    read.filter(|_| problems.is_empty()).ok_or(problems)
}

fn labels_differ(routers: &[router::Read], at: &At, problems: &mut Problems) {
    for (number, router) in routers.iter().enumerate() {
        let Some(label) = &router.label else { continue };
        if let Some(first) = routers[..number].iter().position(|other| other.label.as_ref() == Some(label)) {
            let text = format!(
                "`{label}` is the label of routers[{first}] already (ConflictingLabels); \
                 a router without a label is called like its protocol"
            );
            problems.add(&at.nth(number).key("label"), text);
        }
    }
}

/// Port 0 is as many ports as there are servers with it.
fn addresses_differ(routers: &[router::Read], admin: Option<&Admin>, at: &At, problems: &mut Problems) {
    let mut taken = Vec::new();
    if let Some(admin) = admin {
        taken.push((admin.address, "admin".to_owned()));
        taken.extend(admin.identifier.map(|address| (address, "admin.httpIdentifierPort".to_owned())));
    }
    for (number, router) in routers.iter().enumerate() {
        let servers = router.settings.iter().flat_map(|router| &router.servers);
        for (n, server) in servers.enumerate() {
            let at = at.nth(number).key("servers").nth(n);
            let first = taken.iter().find(|(address, _)| *address == server.address && address.port() != 0);
            if let Some((address, by)) = first {
                problems.add(&at.key("port"), format!("{address} is taken by {by} already (ConflictingPorts)"));
            }
            taken.push((server.address, at.path().to_owned()));
        }
    }
}

/// Two routers may write to one file, unless one of them sets it aside.
fn logs_differ(routers: &[router::Read], at: &At, problems: &mut Problems) {
    let log = |router: &router::Read| router.settings.as_ref().and_then(|router| router.access_log.clone());
    let logs = routers.iter().map(log).collect::<Vec<_>>();
    for (number, log) in logs.iter().enumerate() {
        let Some(log) = log else { continue };
        let first = logs[..number].iter().position(|other| {
            let same = other.as_ref().filter(|other| is_same(&other.path, &log.path));
            same.is_some_and(|other| other.roll != Roll::Never || log.roll != Roll::Never)
        });
        if let Some(first) = first {
            let text = format!("is routers[{first}]'s already; a file that is rolled needs one router");
            problems.add(&at.nth(number).key("httpAccessLog"), text);
        }
    }
}

/// The document with the kinds that it left to their defaults.
fn shown(document: &Value) -> Value {
    let mut shown = document.clone();
    let routers = shown.get_mut("routers").and_then(Value::as_array_mut);
    for router in routers.into_iter().flatten() {
        for (key, kind) in [("client", "io.l5d.global"), ("service", "io.l5d.global"), ("interpreter", "default")] {
            if let Some(Value::Object(part)) = router.get_mut(key) {
                part.entry("kind").or_insert_with(|| kind.into());
            }
        }
    }
    shown
}
