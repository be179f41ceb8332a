//! Config documents for namers, transformers and interpreters: inert values, tagged by `kind`.

use std::sync::Arc;

use names::Path;
use naming::{ConfiguredInterpreter, Interpreter, Namers, Transformer};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use crate::{Surroundings, dtab_file, fs, kubernetes, rewrite, transformer};

/// A value that cannot be built. `path` is the key's, relative to the document it was given in
/// (`namers[0].rootDir`); the message names the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ConfigError {
    pub path: String,
    pub message: String,
}

impl ConfigError {
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> ConfigError {
        ConfigError { path: path.into(), message: message.into() }
    }

    /// The same error, its path below `prefix`: `namers[0]` and `rootDir` make `namers[0].rootDir`.
    pub fn under(self, prefix: &str) -> ConfigError {
        let path = match (prefix.is_empty(), self.path.is_empty()) {
            (true, _) => self.path,
            (_, true) => prefix.to_owned(),
            _ => format!("{prefix}.{}", self.path),
        };
        ConfigError { path, ..self }
    }

    fn not_built(what: &str, kind: &str) -> ConfigError {
        ConfigError::new("kind", format!("the {what} `{kind}` is not supported yet"))
    }
}

/// Stands for the keys of a kind that is known and not built.
#[derive(Clone, Debug, PartialEq)]
pub struct NotBuilt;

impl<'de> Deserialize<'de> for NotBuilt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<NotBuilt, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| NotBuilt)
    }
}

/// A path in its shown form.
pub(crate) fn shown<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Path, D::Error> {
    let text = String::deserialize(deserializer)?;
    Path::read(&text).map_err(|error| serde::de::Error::custom(format!("invalid path `{text}`: {error}")))
}

pub(crate) fn shown_if_given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Path>, D::Error> {
    shown(deserializer).map(Some)
}

/// One of `namers:`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind")]
pub enum NamerConfig {
    #[serde(rename = "io.l5d.fs")]
    Fs(fs::Config),
    #[serde(rename = "io.l5d.rewrite")]
    Rewrite(rewrite::Config),
    #[serde(rename = "io.l5d.k8s")]
    Kubernetes(kubernetes::Config),
    #[serde(rename = "io.l5d.k8s.ns")]
    KubernetesNamespace(kubernetes::NamespaceConfig),
    #[serde(rename = "io.l5d.k8s.external")]
    KubernetesExternal(kubernetes::external::Config),
    #[serde(rename = "io.l5d.k8s.istio")]
    Istio(NotBuilt),
    #[serde(rename = "io.l5d.consul")]
    Consul(NotBuilt),
    #[serde(rename = "io.l5d.marathon")]
    Marathon(NotBuilt),
    #[serde(rename = "io.l5d.serversets")]
    Serversets(NotBuilt),
    #[serde(rename = "io.l5d.zkLeader")]
    ZkLeader(NotBuilt),
    #[serde(rename = "io.l5d.curator")]
    Curator(NotBuilt),
    #[serde(rename = "io.l5d.dnssrv")]
    DnsSrv(NotBuilt),
    #[serde(rename = "io.l5d.rancher")]
    Rancher(NotBuilt),
}

impl NamerConfig {
    pub fn kind(&self) -> &'static str {
        match self {
            NamerConfig::Fs(_) => "io.l5d.fs",
            NamerConfig::Rewrite(_) => "io.l5d.rewrite",
            NamerConfig::Kubernetes(_) => "io.l5d.k8s",
            NamerConfig::KubernetesNamespace(_) => "io.l5d.k8s.ns",
            NamerConfig::KubernetesExternal(_) => "io.l5d.k8s.external",
            NamerConfig::Istio(_) => "io.l5d.k8s.istio",
            NamerConfig::Consul(_) => "io.l5d.consul",
            NamerConfig::Marathon(_) => "io.l5d.marathon",
            NamerConfig::Serversets(_) => "io.l5d.serversets",
            NamerConfig::ZkLeader(_) => "io.l5d.zkLeader",
            NamerConfig::Curator(_) => "io.l5d.curator",
            NamerConfig::DnsSrv(_) => "io.l5d.dnssrv",
            NamerConfig::Rancher(_) => "io.l5d.rancher",
        }
    }

    /// What stands behind `/#` in its names.
    pub(crate) fn prefix(&self) -> Result<Path, ConfigError> {
        let or_kind = |prefix: &Option<Path>| Ok(prefix.clone().unwrap_or_else(|| one_label(self.kind())));
        match self {
            NamerConfig::Fs(config) => or_kind(&config.prefix),
            NamerConfig::Rewrite(config) => Ok(config.prefix.clone()),
            NamerConfig::Kubernetes(config) => or_kind(&config.prefix),
            NamerConfig::KubernetesNamespace(config) => or_kind(&config.prefix),
            NamerConfig::KubernetesExternal(config) => or_kind(&config.prefix),
            other => Err(ConfigError::not_built("namer", other.kind())),
        }
    }

    pub(crate) fn transformers(&self) -> &[TransformerConfig] {
        match self {
            NamerConfig::Fs(config) => &config.transformers,
            NamerConfig::Rewrite(config) => &config.transformers,
            NamerConfig::Kubernetes(config) => &config.transformers,
            NamerConfig::KubernetesNamespace(config) => &config.transformers,
            NamerConfig::KubernetesExternal(config) => &config.transformers,
            _ => &[],
        }
    }

    /// What can be said without building it.
    pub fn check(&self) -> Result<(), ConfigError> {
        let prefix = self.prefix()?;
        if prefix.is_empty() {
            return Err(ConfigError::new("prefix", "`/` cannot be a namer's prefix: it needs at least one label"));
        }
        check_all(self.transformers())
    }

    /// Experimental kinds must be asked for by name in a router; a control plane never asked.
    pub fn check_experimental(&self) -> Result<(), ConfigError> {
        match self {
            NamerConfig::KubernetesExternal(config) if !config.experimental => {
                let prefix = one_label("#").concat(&self.prefix()?);
                let message = format!(
                    "The {prefix} namer is experimental and must be explicitly enabled by setting the `experimental' \
                     parameter to `true'."
                );
                Err(ConfigError::new("experimental", message))
            }
            _ => Ok(()),
        }
    }
}

/// One of `transformers:`, of a namer or an interpreter.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind")]
pub enum TransformerConfig {
    #[serde(rename = "io.l5d.localhost")]
    Localhost(transformer::LocalhostConfig),
    #[serde(rename = "io.l5d.specificHost")]
    SpecificHost(transformer::SpecificHostConfig),
    #[serde(rename = "io.l5d.port")]
    Port(transformer::PortConfig),
    #[serde(rename = "io.l5d.replace")]
    Replace(transformer::TreeConfig),
    #[serde(rename = "io.l5d.const")]
    Const(transformer::TreeConfig),
    #[serde(rename = "io.l5d.k8s.localnode")]
    LocalNode(kubernetes::localnode::Config),
    #[serde(rename = "io.l5d.k8s.daemonset")]
    DaemonSet(kubernetes::daemonset::Config),
}

impl TransformerConfig {
    pub fn kind(&self) -> &'static str {
        match self {
            TransformerConfig::Localhost(_) => "io.l5d.localhost",
            TransformerConfig::SpecificHost(_) => "io.l5d.specificHost",
            TransformerConfig::Port(_) => "io.l5d.port",
            TransformerConfig::Replace(_) => "io.l5d.replace",
            TransformerConfig::Const(_) => "io.l5d.const",
            TransformerConfig::LocalNode(_) => "io.l5d.k8s.localnode",
            TransformerConfig::DaemonSet(_) => "io.l5d.k8s.daemonset",
        }
    }

    /// What can be said without building it.
    pub fn check(&self) -> Result<(), ConfigError> {
        match self {
            TransformerConfig::DaemonSet(config) => config.check(),
            _ => Ok(()),
        }
    }

    /// `replace` and `const` bind their path by `namers`.
    pub fn build(&self, namers: &Namers, surroundings: &Surroundings) -> Result<Arc<dyn Transformer>, ConfigError> {
        self.check()?;
        Ok(match self {
            TransformerConfig::Localhost(config) => Arc::new(config.build(self.kind())?),
            TransformerConfig::SpecificHost(config) => Arc::new(config.build(self.kind())?),
            TransformerConfig::Port(config) => Arc::new(config.build(self.kind())),
            TransformerConfig::Replace(config) => Arc::new(config.build_replace(self.kind(), namers)),
            TransformerConfig::Const(config) => Arc::new(config.build_const(self.kind(), namers)),
            TransformerConfig::LocalNode(config) => Arc::new(config.build(self.kind(), surroundings)?),
            TransformerConfig::DaemonSet(config) => Arc::new(config.build(self.kind(), surroundings)?),
        })
    }
}

pub(crate) fn check_all(transformers: &[TransformerConfig]) -> Result<(), ConfigError> {
    transformers.iter().enumerate().try_for_each(|(number, config)| {
        config.check().map_err(|error| error.under(&format!("transformers[{number}]")))
    })
}

/// A router's `interpreter:` that needs no control plane. Those that do are the control plane's.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind")]
pub enum InterpreterConfig {
    #[serde(rename = "default")]
    Default(DefaultConfig),
    #[serde(rename = "io.l5d.fs")]
    Fs(dtab_file::Config),
    #[serde(rename = "io.l5d.k8s.configMap")]
    ConfigMap(NotBuilt),
    #[serde(rename = "io.l5d.consul.interpreter")]
    Consul(NotBuilt),
    #[serde(rename = "io.l5d.k8s.istio")]
    Istio(NotBuilt),
}

/// `kind: default`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DefaultConfig {
    #[serde(default)]
    pub transformers: Vec<TransformerConfig>,
    /// Accepted with every kind; only experimental kinds ask for it.
    #[serde(default)]
    pub experimental: bool,
}

impl Default for InterpreterConfig {
    fn default() -> InterpreterConfig {
        InterpreterConfig::Default(DefaultConfig::default())
    }
}

impl InterpreterConfig {
    pub fn kind(&self) -> &'static str {
        match self {
            InterpreterConfig::Default(_) => "default",
            InterpreterConfig::Fs(_) => "io.l5d.fs",
            InterpreterConfig::ConfigMap(_) => "io.l5d.k8s.configMap",
            InterpreterConfig::Consul(_) => "io.l5d.consul.interpreter",
            InterpreterConfig::Istio(_) => "io.l5d.k8s.istio",
        }
    }

    /// What can be said without building it.
    pub fn check(&self) -> Result<(), ConfigError> {
        match self {
            InterpreterConfig::Default(config) => check_all(&config.transformers),
            InterpreterConfig::Fs(config) => check_all(&config.transformers),
            other => Err(ConfigError::not_built("interpreter", other.kind())),
        }
    }

    /// # Panics
    /// Outside a tokio runtime.
    pub fn build(&self, namers: &Namers, surroundings: &Surroundings) -> Result<Arc<dyn Interpreter>, ConfigError> {
        self.check()?;
        let (inner, transformers) = match self {
            InterpreterConfig::Default(config) => {
                (ConfiguredInterpreter::new(None, namers.clone()), &config.transformers)
            }
            InterpreterConfig::Fs(config) => (config.build(namers)?, &config.transformers),
            other => return Err(ConfigError::not_built("interpreter", other.kind())),
        };
        crate::transformed(Arc::new(inner), transformers, namers, surroundings)
    }
}

/// `/io.l5d.fs`
pub(crate) fn one_label(label: &str) -> Path {
    Path::from_labels([label]).unwrap_or_else(Path::empty)
}
