//! `io.l5d.k8s.daemonset`: instead of each address, the pod of a daemon set on the same node.
//!
//! So the routers of the nodes hand requests to each other: `outgoing` here sends to `incoming` there.
//! Nodes are told apart as by `io.l5d.k8s.localnode`. An address whose node has no such pod is left out;
//! where none is left the leaf is neg.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use kubernetes::Connection;
use names::Path;
use naming::{Addr, Bound, BoundTree, Endpoint, Fed, Live, Shared, State, Transformer};
use serde::Deserialize;

use super::{
    Choice, Finder, is_name,
    localnode::{By, Place},
};
use crate::{
    ConfigError, Surroundings, address_set,
    config::{one_label, shown_if_given},
};

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    #[serde(default)]
    pub k8s_host: Option<String>,
    #[serde(default)]
    pub k8s_port: Option<u16>,
    #[serde(default)]
    pub kubeconfig: Option<PathBuf>,
    #[serde(default)]
    pub context: Option<String>,
    /// Of the daemon set's service.
    pub namespace: String,
    pub service: String,
    /// The service's port, by name or number.
    #[serde(deserialize_with = "text_or_number")]
    pub port: String,
    #[serde(default)]
    pub host_network: bool,
    /// `/io.l5d.k8s.daemonset/NAMESPACE/PORT/SERVICE` by default.
    #[serde(default, deserialize_with = "shown_if_given")]
    pub prefix: Option<Path>,
}

fn text_or_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Text(String),
        Number(u16),
    }
    Ok(match Given::deserialize(deserializer)? {
        Given::Text(text) => text,
        Given::Number(number) => number.to_string(),
    })
}

impl Config {
    /// What can be said without the cluster.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for (key, value) in [("namespace", &self.namespace), ("service", &self.service)] {
            if !is_name(&value.to_lowercase()) {
                return Err(ConfigError::new(key, format!("`{value}` cannot be the name of a {key}")));
            }
        }
        if self.port.is_empty() {
            return Err(ConfigError::new("port", "must name a port of the service"));
        }
        Ok(())
    }

    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn build(&self, kind: &str, surroundings: &Surroundings) -> Result<DaemonSet, ConfigError> {
        self.check()?;
        let connection = Connection {
            host: self.k8s_host.clone(),
            port: self.k8s_port,
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
        };
        let books = surroundings.books(&connection).map_err(|error| {
            let path = if error.path == "host" { "k8sHost".to_owned() } else { error.path };
            ConfigError { path, ..error }
        })?;
        let choice = Choice {
            namespace: self.namespace.to_lowercase().into(),
            port: self.port.to_lowercase().into(),
            service: self.service.to_lowercase().into(),
            label: None,
        };
        let default = || {
            [kind, &self.namespace, &self.port, &self.service]
                .iter()
                .fold(Path::empty(), |path, label| path.concat(&one_label(label)))
        };
        Ok(DaemonSet {
            prefix: one_label("%").concat(&self.prefix.clone().unwrap_or_else(default)),
            by: By::of(self.host_network),
            gateways: Finder::new(books).addr(&choice),
            shared: Shared::new(),
        })
    }
}

/// See the module's documentation.
pub struct DaemonSet {
    prefix: Path,
    by: By,
    gateways: Live<Addr>,
    shared: Shared<(Path, u64), Addr>,
}

impl DaemonSet {
    fn bound(&self, bound: &Bound) -> Bound {
        let (by, mut from, mut gateways) = (self.by, bound.addr.clone(), self.gateways.clone());
        let key = (bound.id.clone(), from.id());
        let feed = move |fed: Arc<Fed<Addr, ()>>| async move {
            loop {
                fed.value.publish(replaced(by, from.take(), gateways.take()));
                tokio::select! {
                    () = from.next_change() => {}
                    () = gateways.next_change() => {}
                }
            }
        };
        Bound { id: self.prefix.concat(&bound.id), addr: self.shared.get(key, feed).0, ..bound.clone() }
    }
}

fn replaced(by: By, addr: State<Addr>, gateways: State<Addr>) -> State<Addr> {
    let (endpoints, meta) = match addr {
        State::Ok(Addr::Bound { endpoints, meta }) => (endpoints, meta),
        other => return other,
    };
    let gateways = match gateways {
        State::Ok(Addr::Bound { endpoints, .. }) => endpoints,
        State::Ok(Addr::Neg | Addr::Failed(_)) => naming::Endpoints::default(),
        State::Pending => return State::Pending,
        State::Failed(why) => return State::Failed(why),
    };
    let mut on: HashMap<Place, Vec<&Endpoint>> = HashMap::new();
    gateways.iter().for_each(|gateway| on.entry(by.place(gateway)).or_default().push(gateway));
    let places: HashSet<Place> = endpoints.iter().map(|endpoint| by.place(endpoint)).collect();
    let found: Vec<Endpoint> =
        places.iter().filter_map(|place| on.get(place)).flatten().map(|gateway| (*gateway).clone()).collect();
    State::Ok(if found.is_empty() { Addr::Neg } else { address_set::bound(found, meta) })
}

impl Transformer for DaemonSet {
    fn transform(&self, tree: &BoundTree, _: Option<&BoundTree>) -> BoundTree {
        tree.map(&mut |bound| self.bound(bound))
    }

    fn prefix(&self) -> &Path {
        &self.prefix
    }

    fn explain_name(&self) -> &'static str {
        "DelegatingNameTreeTransformer$"
    }
}

#[cfg(test)]
mod tests {
    use naming::Meta;

    use super::*;

    fn set(addresses: &[(&str, Option<&str>)]) -> State<Addr> {
        let endpoint = |(addr, node): &(&str, Option<&str>)| Endpoint {
            addr: addr.parse().unwrap(),
            weight: 1.0,
            meta: Arc::new(node.map(|node| ("nodeName".to_owned(), node.into())).into_iter().collect::<Meta>()),
        };
        State::Ok(address_set::bound(addresses.iter().map(endpoint).collect(), Arc::default()))
    }

    #[track_caller]
    fn check(by: By, addresses: State<Addr>, gateways: State<Addr>, expected: &str) {
        let shown = match replaced(by, addresses, gateways) {
            State::Ok(Addr::Bound { endpoints, .. }) => {
                endpoints.iter().map(|endpoint| endpoint.addr.to_string()).collect::<Vec<_>>().join(" ")
            }
            other => format!("{other:?}"),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn each_address_becomes_the_pods_of_its_node() {
        let gateways = || set(&[("10.1.1.9:4141", Some("a")), ("10.1.2.9:4141", Some("b")), ("[fd00::9]:4141", None)]);
        let web = set(&[("10.1.1.1:80", Some("a")), ("10.1.1.2:80", Some("a")), ("10.1.3.1:80", Some("b"))]);
        check(By::Network, web.clone(), gateways(), "10.1.1.9:4141");
        check(By::NodeName, web, gateways(), "10.1.1.9:4141 10.1.2.9:4141");
        check(By::Network, set(&[("[fd00::1]:80", None)]), gateways(), "[fd00::9]:4141");
        check(By::NodeName, set(&[("10.7.7.7:80", None)]), gateways(), "[fd00::9]:4141");
        check(By::Network, set(&[("10.7.7.7:80", None)]), gateways(), "Ok(Neg)");
        check(By::Network, set(&[("10.1.1.1:80", None)]), State::Ok(Addr::Neg), "Ok(Neg)");
        check(By::Network, set(&[("10.1.1.1:80", None)]), State::Pending, "Pending");
        check(By::Network, State::Ok(Addr::Neg), gateways(), "Ok(Neg)");
        check(By::Network, State::Pending, gateways(), "Pending");
    }
}
