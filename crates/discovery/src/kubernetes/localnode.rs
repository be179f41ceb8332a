//! `io.l5d.k8s.localnode`: keeps the addresses that are on this pod's node.
//!
//! By network: pods of a node share an IPv4 /24 (IPv6: a /64), the pod's own address is in `POD_IP`. With
//! `hostNetwork: true`, where pods have the node's address, by the name of the node, in `NODE_NAME`.

use std::{net::IpAddr, sync::Arc};

use names::Path;
use naming::{Addr, AddrMap, Bound, BoundTree, Endpoint, Transformer};
use serde::Deserialize;

use crate::{
    ConfigError, Surroundings, address_set,
    config::{one_label, shown_if_given},
};

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    #[serde(default)]
    pub host_network: bool,
    /// `/io.l5d.k8s.localnode` by default; the address or the node's name follows it.
    #[serde(default, deserialize_with = "shown_if_given")]
    pub prefix: Option<Path>,
}

/// What tells the nodes of two addresses apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    V4([u8; 3]),
    V6([u8; 8]),
    /// By the endpoint's metadata; two that say nothing are on the same node, as in the original.
    Node(Option<Arc<str>>),
}

/// How places are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Network,
    NodeName,
}

impl By {
    pub(crate) fn of(host_network: bool) -> By {
        if host_network { By::NodeName } else { By::Network }
    }

    pub(crate) fn place(self, endpoint: &Endpoint) -> Place {
        match self {
            By::Network => network(endpoint.addr.ip()),
            By::NodeName => Place::Node(endpoint.meta.get("nodeName").and_then(|name| name.as_str()).map(Arc::from)),
        }
    }
}

pub(crate) fn network(ip: IpAddr) -> Place {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            Place::V4([a, b, c])
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, g, h, ..] = ip.octets();
            Place::V6([a, b, c, d, e, f, g, h])
        }
    }
}

impl Config {
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn build(&self, kind: &str, surroundings: &Surroundings) -> Result<LocalNode, ConfigError> {
        let variable = if self.host_network { "NODE_NAME" } else { "POD_IP" };
        let value = surroundings.clusters().variable(variable).ok_or_else(|| {
            let (what, field) = match self.host_network {
                true => ("the node's name", "spec.nodeName"),
                false => ("the pod's IP address", "status.podIP"),
            };
            let message = format!(
                "the environment variable `{variable}` must hold {what}, and is not set; in a pod's manifest: \
                 {{name: {variable}, valueFrom: {{fieldRef: {{fieldPath: {field}}}}}}}"
            );
            ConfigError::new("kind", message)
        })?;
        let (here, label) = if self.host_network {
            (Place::Node(Some(value.into())), value.to_owned())
        } else {
            let ip: IpAddr = value.parse().map_err(|_| {
                ConfigError::new("kind", format!("the environment variable `POD_IP` is no IP address: `{value}`"))
            })?;
            (network(ip), ip.to_string())
        };
        let by = By::of(self.host_network);
        let change = move |addr: &Addr| match addr {
            Addr::Bound { endpoints, meta } => {
                let kept: Vec<_> = endpoints.iter().filter(|endpoint| by.place(endpoint) == here).cloned().collect();
                if kept.is_empty() { Addr::Neg } else { address_set::bound(kept, meta.clone()) }
            }
            other => other.clone(),
        };
        let base = self.prefix.clone().unwrap_or_else(|| one_label(kind));
        let explain_name = match by {
            By::Network => "SubnetLocalTransformer",
            By::NodeName => "MetadataFiltertingNameTreeTransformer",
        };
        Ok(LocalNode {
            prefix: one_label("%").concat(&base).concat(&one_label(&label)),
            explain_name,
            map: AddrMap::new(change),
        })
    }
}

/// See the module's documentation. Where no address is left the leaf is neg.
pub struct LocalNode {
    prefix: Path,
    explain_name: &'static str,
    map: AddrMap,
}

impl Transformer for LocalNode {
    fn transform(&self, tree: &BoundTree, _: Option<&BoundTree>) -> BoundTree {
        tree.map(&mut |bound: &Bound| self.map.bound(&self.prefix, bound))
    }

    fn prefix(&self) -> &Path {
        &self.prefix
    }

    fn explain_name(&self) -> &'static str {
        self.explain_name
    }
}
