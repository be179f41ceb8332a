//! `io.l5d.k8s.external`: names are services of a cluster, endpoints their load balancers.
//!
//! `/<namespace>/<port>/<service>`; the port is a name or a number of the service. Of several load
//! balancers the last counts, as in the original; a host name is resolved, and again every five seconds.

use std::{path::PathBuf, sync::Arc};

use names::{NameTree, Path};
use naming::{Addr, Bound, Fed, Live, Name, Namer, NamerTree, Shared, State};
use serde::Deserialize;
use serde_json::json;

use super::{books::Books, connection, is_name, services::Service};
use crate::{
    ConfigError, Surroundings, TransformerConfig,
    dns::{Dns, Keep},
};

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
    /// The key of a label that services must carry, with the last part of names as its value.
    #[serde(default)]
    pub label_selector: Option<String>,
    /// `/io.l5d.k8s.external` by default.
    #[serde(default, deserialize_with = "crate::config::shown_if_given")]
    pub prefix: Option<Path>,
    #[serde(default)]
    pub transformers: Vec<TransformerConfig>,
    /// A router asks for it.
    #[serde(default)]
    pub experimental: bool,
}

impl Config {
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn build(&self, full: &Path, surroundings: &Surroundings) -> Result<ExternalNamer, ConfigError> {
        Ok(ExternalNamer {
            prefix: full.clone(),
            books: surroundings.books(&connection!(self))?,
            label: self.label_selector.as_deref().map(Arc::from),
            dns: Arc::new(Dns::new()),
            trees: Shared::new(),
        })
    }
}

/// See the module's documentation.
pub struct ExternalNamer {
    prefix: Path,
    books: Arc<Books>,
    label: Option<Arc<str>>,
    dns: Arc<Dns>,
    trees: Shared<Path, NamerTree>,
}

impl Namer for ExternalNamer {
    fn lookup(&self, path: &Path) -> Live<NamerTree> {
        let length = 3 + usize::from(self.label.is_some());
        if path.len() < length {
            return Live::constant(NameTree::Neg);
        }
        let label = |number: usize| String::from_utf8_lossy(&path.labels()[number]).into_owned();
        let (namespace, port, name) = (label(0).to_lowercase(), label(1).to_lowercase(), label(2).to_lowercase());
        if !is_name(&namespace) || !is_name(&name) {
            return Live::constant(NameTree::Neg);
        }
        let wanted = self.label.clone().map(|key| (key, label(3)));
        // The case of the name stays in the id.
        let (id, residual) = (self.prefix.concat(&path.take(length)), path.drop_first(length));
        let (books, dns) = (self.books.clone(), self.dns.clone());
        let feed = move |fed: Arc<Fed<NamerTree, ()>>| async move {
            let mut service = books.service(&namespace, &name);
            let mut last: Option<((String, u16), Live<Addr>)> = None;
            loop {
                let state = match service.take() {
                    State::Pending => State::Pending,
                    State::Failed(why) => State::Failed(why),
                    State::Ok(service) => {
                        let place = service.and_then(|service| place(&service, &port, wanted.as_ref()));
                        // The same place keeps its resolver, and its readers their addresses.
                        last = place.map(|place| match last.take() {
                            Some((known, addr)) if known == place => (known, addr),
                            _ => {
                                let addr = dns.addr(&place.0, i32::from(place.1), Keep::Refreshed);
                                (place, addr)
                            }
                        });
                        State::Ok(match &last {
                            None => NameTree::Neg,
                            Some((_, addr)) => {
                                NameTree::Leaf(Name::Bound(Bound::new(id.clone(), residual.clone(), addr.clone())))
                            }
                        })
                    }
                };
                fed.value.put(state);
                service.next_change().await;
            }
        };
        self.trees.get(path.clone(), feed).0
    }

    fn state(&self) -> serde_json::Value {
        let mut services = serde_json::Map::new();
        for (path, fed) in self.trees.entries() {
            let state = match fed.value.get() {
                State::Ok(NameTree::Neg) => json!({ "state": "neg" }),
                State::Ok(_) => json!({ "state": "bound" }),
                State::Pending => json!({ "state": "pending" }),
                State::Failed(why) => json!({ "state": "failed", "why": &*why }),
            };
            let namespace = String::from_utf8_lossy(&path.labels()[0]).to_lowercase();
            let entry = json!({ "state": state, "watch": self.books.reports(&namespace) });
            services.insert(path.show(), entry);
        }
        json!({ "cluster": self.books.cluster.shown(), "services": services })
    }
}

/// Where the service's port is reached from outside.
fn place(service: &Service, port: &str, label: Option<&(Arc<str>, String)>) -> Option<(String, u16)> {
    if let Some((key, value)) = label
        && service.labels.get(&**key) != Some(value)
    {
        return None;
    }
    let host = service.ingress.last()?;
    let port = service.named(port).or_else(|| service.numbered(port.parse().ok()?))?;
    Some((host.clone(), port.number))
}
