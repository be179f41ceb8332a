//! `io.l5d.k8s` and `io.l5d.k8s.ns`: names are services of a cluster, endpoints their pods.
//!
//! ```text
//! io.l5d.k8s     /<namespace>/<port>/<service>[/<label value>]   →  /#/io.l5d.k8s/default/http/hello
//! io.l5d.k8s.ns             /<port>/<service>[/<label value>]
//! ```
//!
//! The port is a name, or a number of the service. No such service or port: neg, so that alternates are
//! tried; a port with nobody ready behind it exists and is empty, as in the original. What was known
//! stays while the API server is away; `state()` tells for how long.

pub(crate) mod backends;
pub(crate) mod book;
pub(crate) mod books;
pub(crate) mod daemonset;
pub mod external;
pub mod ingress;
pub mod localnode;
pub(crate) mod services;

use std::{path::PathBuf, sync::Arc};

use kubernetes::Connection;
use names::{NameTree, Path};
use naming::{Addr, Bound, Fed, Live, Name, Namer, NamerTree, Shared, State};
use serde::Deserialize;
use serde_json::json;

use self::{
    backends::{Backends, Label},
    books::Books,
    services::{Service, Target},
};
use crate::{ConfigError, Surroundings, TransformerConfig, address_set};

/// `io.l5d.k8s`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    #[serde(default)]
    pub host: Option<String>,
    #[serde(default)]
    pub port: Option<u16>,
    #[serde(default)]
    pub kubeconfig: Option<PathBuf>,
    #[serde(default)]
    pub context: Option<String>,
    /// The key of a label, whose value is then the last part of names.
    #[serde(default)]
    pub label_selector: Option<String>,
    /// `/io.l5d.k8s` by default.
    #[serde(default, deserialize_with = "crate::config::shown_if_given")]
    pub prefix: Option<Path>,
    #[serde(default)]
    pub transformers: Vec<TransformerConfig>,
    /// Accepted with every kind; only experimental kinds ask for it.
    #[serde(default)]
    pub experimental: bool,
}

/// `io.l5d.k8s.ns`: the namespace is that of the pod.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NamespaceConfig {
    #[serde(default)]
    pub host: Option<String>,
    #[serde(default)]
    pub port: Option<u16>,
    #[serde(default)]
    pub kubeconfig: Option<PathBuf>,
    #[serde(default)]
    pub context: Option<String>,
    /// The variable that holds the namespace, `POD_NAMESPACE` by default.
    #[serde(default)]
    pub env_var: Option<String>,
    #[serde(default)]
    pub label_selector: Option<String>,
    /// `/io.l5d.k8s.ns` by default.
    #[serde(default, deserialize_with = "crate::config::shown_if_given")]
    pub prefix: Option<Path>,
    #[serde(default)]
    pub transformers: Vec<TransformerConfig>,
    /// Accepted with every kind; only experimental kinds ask for it.
    #[serde(default)]
    pub experimental: bool,
}

/// The keys by which every kind here says where the cluster is.
macro_rules! connection {
    ($config:expr) => {
        kubernetes::Connection {
            host: $config.host.clone(),
            port: $config.port,
            kubeconfig: $config.kubeconfig.clone(),
            context: $config.context.clone(),
        }
    };
}
pub(crate) use connection;
pub use kubernetes::is_name;

impl Config {
    /// `full` is the prefix with `/#`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn build(&self, full: &Path, surroundings: &Surroundings) -> Result<ServiceNamer, ConfigError> {
        let connection: Connection = connection!(self);
        Ok(ServiceNamer::new(full, surroundings.books(&connection)?, None, self.label_selector.as_deref()))
    }
}

impl NamespaceConfig {
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn build(&self, full: &Path, surroundings: &Surroundings) -> Result<ServiceNamer, ConfigError> {
        let connection: Connection = connection!(self);
        let variable = self.env_var.as_deref().unwrap_or("POD_NAMESPACE");
        let namespace = surroundings.clusters().variable(variable).ok_or_else(|| {
            let message =
                format!("the environment variable `{variable}` must hold the pod's namespace, and is not set");
            ConfigError::new("envVar", message)
        })?;
        let namespace = Some(namespace.to_lowercase());
        Ok(ServiceNamer::new(full, surroundings.books(&connection)?, namespace, self.label_selector.as_deref()))
    }
}

/// See the module's documentation.
pub struct ServiceNamer {
    prefix: Path,
    finder: Finder,
    /// Where names do not say it.
    namespace: Option<String>,
    label: Option<Arc<str>>,
    trees: Shared<Path, NamerTree>,
}

/// Finds the endpoints of a port of a service, live. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Finder {
    books: Arc<Books>,
    addrs: Shared<Choice, Addr>,
}

/// What names come to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Choice {
    pub(crate) namespace: Arc<str>,
    pub(crate) port: Arc<str>,
    pub(crate) service: Arc<str>,
    pub(crate) label: Option<Label>,
}

impl ServiceNamer {
    fn new(prefix: &Path, books: Arc<Books>, namespace: Option<String>, label: Option<&str>) -> ServiceNamer {
        ServiceNamer {
            prefix: prefix.clone(),
            finder: Finder::new(books),
            namespace,
            label: label.map(Arc::from),
            trees: Shared::new(),
        }
    }

    /// The choice that a name stands for, and how many labels of it that takes.
    fn choice(&self, path: &Path) -> Option<(Choice, Path)> {
        let length = 2 + usize::from(self.namespace.is_none()) + usize::from(self.label.is_some());
        let mut labels = path.labels().iter().map(|label| String::from_utf8_lossy(label).to_lowercase());
        let lowered: Vec<String> = labels.by_ref().take(length).collect();
        let id = Path::from_labels(&lowered).filter(|id| id.len() == length)?;
        let mut lowered = lowered.into_iter();
        let namespace = match &self.namespace {
            Some(namespace) => namespace.clone(),
            None => lowered.next()?,
        };
        let (port, service) = (lowered.next()?, lowered.next()?);
        let label = self.label.as_ref().zip(lowered.next());
        let choice = Choice {
            namespace: namespace.as_str().into(),
            port: port.as_str().into(),
            service: service.as_str().into(),
            label: label.map(|(key, value)| Label { key: key.clone(), value: value.as_str().into() }),
        };
        (is_name(&choice.namespace) && is_name(&choice.service)).then_some((choice, id))
    }
}

impl Namer for ServiceNamer {
    fn lookup(&self, path: &Path) -> Live<NamerTree> {
        let Some((choice, id)) = self.choice(path) else { return Live::constant(NameTree::Neg) };
        let residual = path.drop_first(id.len());
        let (finder, id) = (self.finder.clone(), self.prefix.concat(&id));
        let feed = move |fed: Arc<Fed<NamerTree, ()>>| async move {
            let bound = Bound::new(id, residual, finder.addr(&choice));
            let mut sources = finder.sources(&choice);
            loop {
                let state = match sources.exists() {
                    State::Ok(true) => State::Ok(NameTree::Leaf(Name::Bound(bound.clone()))),
                    State::Ok(false) => State::Ok(NameTree::Neg),
                    State::Pending => State::Pending,
                    State::Failed(why) => State::Failed(why),
                };
                fed.value.set(state);
                sources.changed().await;
            }
        };
        self.trees.get(path.clone(), feed).0
    }

    /// `{"endpoints":{"ns/svc[:label value]":{"state":{"http":…},"watch":{…}}},"portMappings":{"ns/svc":{"80":"8080"}}}`
    fn state(&self) -> serde_json::Value {
        self.finder.state()
    }
}

impl Finder {
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new(books: Arc<Books>) -> Finder {
        Finder { books, addrs: Shared::new() }
    }

    /// The endpoints; neg where there is no such service or port.
    pub(crate) fn addr(&self, choice: &Choice) -> Live<Addr> {
        let (finder, asked) = (self.clone(), choice.clone());
        let feed = move |fed: Arc<Fed<Addr, ()>>| async move {
            let mut sources = finder.sources(&asked);
            loop {
                fed.value.publish(sources.addr());
                sources.changed().await;
            }
        };
        self.addrs.get(choice.clone(), feed).0
    }

    fn sources(&self, choice: &Choice) -> Sources {
        let number = choice.port.parse::<u16>().ok();
        Sources {
            choice: choice.clone(),
            backends: self.books.backends(&choice.namespace, &choice.service),
            service: number.map(|number| (number, self.books.service(&choice.namespace, &choice.service))),
        }
    }

    fn state(&self) -> serde_json::Value {
        let (mut endpoints, mut mappings) = (serde_json::Map::new(), serde_json::Map::new());
        for (choice, fed) in self.addrs.entries() {
            let Choice { namespace, service, port, label } = &choice;
            let label_shown = label.as_ref().map(|label| format!(":{}", label.value)).unwrap_or_default();
            let entry = endpoints.entry(format!("{namespace}/{service}{label_shown}"));
            let entry = entry.or_insert_with(|| json!({ "state": {}, "watch": self.books.reports(namespace) }));
            entry["state"][&**port] = shown(&fed.value.get());
            if let State::Ok(Some((number, target))) = self.sources(&choice).mapping() {
                let entry = mappings.entry(format!("{namespace}/{service}")).or_insert_with(|| json!({}));
                entry[number.to_string()] = json!(target);
            }
        }
        json!({ "cluster": self.books.cluster.shown(), "endpoints": endpoints, "portMappings": mappings })
    }
}

/// At most so many addresses are shown of each set.
const MOST_SHOWN: usize = 100;

fn shown(addr: &State<Addr>) -> serde_json::Value {
    match addr {
        State::Ok(Addr::Bound { endpoints, .. }) => {
            let addresses: Vec<_> = endpoints.iter().take(MOST_SHOWN).map(|one| one.addr.to_string()).collect();
            json!({ "state": "bound", "endpoints": endpoints.len(), "addresses": addresses })
        }
        State::Ok(Addr::Neg) => json!({ "state": "neg" }),
        State::Ok(Addr::Failed(why)) | State::Failed(why) => json!({ "state": "failed", "why": &**why }),
        State::Pending => json!({ "state": "pending" }),
    }
}

/// The live values that decide a choice.
struct Sources {
    choice: Choice,
    backends: Live<Option<Arc<Backends>>>,
    /// Where the port is a number.
    service: Option<(u16, Live<Option<Arc<Service>>>)>,
}

/// Where the endpoints' port comes from.
enum Port<'a> {
    /// No such port.
    None,
    Named(&'a str),
    Number(u16),
}

impl Sources {
    fn exists(&mut self) -> State<bool> {
        self.decide(|_, port| !matches!(port, Port::None))
    }

    fn addr(&mut self) -> State<Addr> {
        let label = self.choice.label.clone();
        self.decide(|backends, port| match port {
            Port::None => Addr::Neg,
            Port::Named(name) => address_set::bound(backends.at_name(name, label.as_ref()), Arc::default()),
            Port::Number(number) => address_set::bound(backends.at_number(number, label.as_ref()), Arc::default()),
        })
    }

    /// Which target stands behind the number, if the port is one.
    fn mapping(&mut self) -> State<Option<(u16, String)>> {
        match &mut self.service {
            None => State::Ok(None),
            Some((number, service)) => match service.take() {
                State::Ok(service) => State::Ok(service.and_then(|service| {
                    let target = match &service.numbered(*number)?.target {
                        Target::Number(target) => target.to_string(),
                        Target::Name(name) => name.clone(),
                    };
                    Some((*number, target))
                })),
                State::Pending => State::Pending,
                State::Failed(why) => State::Failed(why),
            },
        }
    }

    fn decide<T>(&mut self, decide: impl FnOnce(&Backends, Port<'_>) -> T) -> State<T> {
        let backends = match self.backends.take() {
            State::Ok(backends) => backends.unwrap_or_default(),
            State::Pending => return State::Pending,
            State::Failed(why) => return State::Failed(why),
        };
        let label = self.choice.label.as_ref();
        let Some((number, service)) = &mut self.service else {
            let name = &*self.choice.port;
            let port = if backends.has_port(name, label) { Port::Named(name) } else { Port::None };
            return State::Ok(decide(&backends, port));
        };
        let service = match service.take() {
            State::Ok(service) => service,
            State::Pending => return State::Pending,
            State::Failed(why) => return State::Failed(why),
        };
        let Some(port) = service.as_ref().and_then(|service| service.numbered(*number)) else {
            return State::Ok(decide(&backends, Port::None));
        };
        let chosen = match &port.target {
            // Slices carry the service port's name, whatever its target.
            _ if backends.has_port(&port.name, label) => Port::Named(&port.name),
            Target::Number(target) => Port::Number(*target),
            Target::Name(target) if backends.has_port(target, label) => Port::Named(target),
            Target::Name(_) => Port::None,
        };
        State::Ok(decide(&backends, chosen))
    }

    async fn changed(&mut self) {
        match &mut self.service {
            None => self.backends.next_change().await,
            Some((_, service)) => tokio::select! {
                () = self.backends.next_change() => {}
                () = service.next_change() => {}
            },
        }
    }
}
