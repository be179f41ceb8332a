//! `interpreter: {kind: io.l5d.namerd.http}` of a router's document.

use std::{sync::Arc, time::Duration};

use discovery::{ConfigError, Surroundings, TransformerConfig};
use names::Path;
use naming::{Interpreter, Namers};
use serde::{Deserialize, Deserializer, de};
use tls::client::Naming;

use crate::config::bad_section;

use super::{
    Client, Identity, Parts,
    connection::{Backoff, Dst, Secured},
};

/// The keys. `experimental` is accepted and not asked for: here it is no experiment.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// Where the control plane is, as a name: `/$/inet/127.0.0.1/4180`.
    #[serde(deserialize_with = "shown")]
    pub dst: Path,
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Without it: from 50 ms to one second, so that routers are back soon after a restart.
    #[serde(default)]
    pub retry: Option<Retry>,
    /// As of a router's clients; `commonName` is what the control plane's certificate must be for.
    #[serde(default)]
    pub tls: Option<tls::client::Config>,
    #[serde(default)]
    pub transformers: Vec<TransformerConfig>,
    #[serde(default)]
    pub experimental: bool,
    /// As the document calls it.
    #[serde(skip)]
    pub kind: Kind,
}

/// What the document calls the interpreter. All of them ask over HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Http,
    /// See `client::original`.
    Thrift,
    Mesh,
}

impl Kind {
    /// As in a document.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Http => Config::KIND,
            Kind::Thrift => super::Namerd::KIND,
            Kind::Mesh => super::Mesh::KIND,
        }
    }
}

/// Pauses between attempts to connect: exponential from the first to the second, with jitter.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Retry {
    #[serde(default = "default_base")]
    pub base_seconds: f64,
    #[serde(default = "default_max")]
    pub max_seconds: f64,
}

pub(super) fn default_namespace() -> String {
    "default".to_owned()
}

fn default_base() -> f64 {
    5.0
}

fn default_max() -> f64 {
    600.0
}

pub(super) fn shown<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Path, D::Error> {
    let text = String::deserialize(deserializer)?;
    Path::read(&text).map_err(|error| de::Error::custom(format!("invalid path `{text}`: {error}")))
}

impl Config {
    /// As in a document.
    pub const KIND: &'static str = "io.l5d.namerd.http";

    /// What can be said without building it. Paths are relative to the interpreter.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.dst.is_empty() {
            return Err(ConfigError::new("dst", "`/` names nobody: write a name such as /$/inet/127.0.0.1/4180"));
        }
        if self.namespace.is_empty() {
            return Err(ConfigError::new("namespace", "must not be empty"));
        }
        if let Some(tls) = &self.tls {
            let wrong = |error: tls::Error| bad_section(error.under("tls"));
            tls.check(Naming::CommonName).map_err(wrong)?;
        }
        if let Some(retry) = &self.retry {
            retry.check()?;
        }
        self.transformers.iter().enumerate().try_for_each(|(number, transformer)| {
            transformer.check().map_err(|error| error.under(&format!("transformers[{number}]")))
        })
    }

    /// The interpreter. It connects from a task of its own, on the runtime that this is called on, and
    /// never gives up.
    ///
    /// # Errors
    /// As `check`, and transformers that cannot be built.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn build(
        &self,
        identity: Identity,
        namers: &Namers,
        surroundings: &Surroundings,
    ) -> Result<Arc<dyn Interpreter>, ConfigError> {
        self.check()?;
        let build = |(number, config): (usize, &TransformerConfig)| {
            config.build(namers, surroundings).map_err(|error| error.under(&format!("transformers[{number}]")))
        };
        let transformers = self.transformers.iter().enumerate().map(build).collect::<Result<_, _>>()?;
        let secured = match self.tls.as_ref().filter(|tls| tls.is_on()) {
            None => None,
            Some(tls) => Some(Secured::new(tls).map_err(|error| bad_section(error.under("tls")))?),
        };
        Ok(Arc::new(Client::start(Parts {
            dst: Dst::new(&self.dst, namers, secured).called(self.kind),
            namespace: self.namespace.as_str().into(),
            identity,
            backoff: self.retry.as_ref().map_or_else(Backoff::default, Retry::backoff),
            transformers,
        })))
    }
}

impl Retry {
    fn check(&self) -> Result<(), ConfigError> {
        let (base, max) = (self.base_seconds, self.max_seconds);
        for (key, seconds) in [("baseSeconds", base), ("maxSeconds", max)] {
            if !(seconds > 0.0 && seconds <= 1e9) {
                return Err(ConfigError::new(
                    format!("retry.{key}"),
                    format!("{seconds} is not a positive number of seconds"),
                ));
            }
        }
        if base > max {
            return Err(ConfigError::new("retry.baseSeconds", format!("{base} is more than maxSeconds, {max}")));
        }
        Ok(())
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(Duration::from_secs_f64(self.base_seconds), Duration::from_secs_f64(self.max_seconds))
    }
}
