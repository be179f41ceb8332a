//! The transformers that need no cluster: filters by host, port changes, replacements.

use std::{
    collections::HashSet,
    net::{IpAddr, ToSocketAddrs},
    sync::Arc,
};

use names::{Dtab, NameTree, Path};
use naming::{Addr, AddrMap, Bound, BoundTree, ConfiguredInterpreter, Interpreter, Live, Namers, Transformer};
use serde::Deserialize;

use crate::{
    ConfigError, address_set,
    config::{one_label, shown, shown_if_given},
};

/// `io.l5d.localhost`: keeps the addresses of this machine's interfaces.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LocalhostConfig {
    #[serde(default, deserialize_with = "shown_if_given")]
    pub prefix: Option<Path>,
}

/// `io.l5d.specificHost`: keeps the addresses of one host, resolved once.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SpecificHostConfig {
    pub host: String,
    #[serde(default, deserialize_with = "shown_if_given")]
    pub prefix: Option<Path>,
}

/// `io.l5d.port`: gives every address this port.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PortConfig {
    pub port: std::num::NonZeroU16,
    #[serde(default, deserialize_with = "shown_if_given")]
    pub prefix: Option<Path>,
}

/// `io.l5d.replace` (every leaf becomes what `path` is bound to) and `io.l5d.const` (everything does).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TreeConfig {
    #[serde(deserialize_with = "shown")]
    pub path: Path,
    #[serde(default, deserialize_with = "shown_if_given")]
    pub prefix: Option<Path>,
}

/// `/%`, then the prefix that is configured, or else the default.
fn effective(prefix: &Option<Path>, default: Path) -> Path {
    one_label("%").concat(prefix.as_ref().unwrap_or(&default))
}

impl LocalhostConfig {
    pub(crate) fn build(&self, kind: &str) -> Result<OverAddresses, ConfigError> {
        let local = nix::ifaddrs::getifaddrs()
            .map_err(|error| ConfigError::new("kind", format!("cannot list the network interfaces: {error}")))?
            .filter(|interface| interface.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP))
            .filter_map(|interface| {
                let address = interface.address?;
                let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
                v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
            });
        Ok(OverAddresses::keeping(effective(&self.prefix, one_label(kind)), local.collect()))
    }
}

impl SpecificHostConfig {
    pub(crate) fn build(&self, kind: &str) -> Result<OverAddresses, ConfigError> {
        let error = |why: String| ConfigError::new("host", format!("cannot resolve `{}`: {why}", self.host));
        let mut found = (self.host.as_str(), 0).to_socket_addrs().map_err(|cause| error(cause.to_string()))?;
        let host = found.next().ok_or_else(|| error("no address".to_owned()))?.ip();
        Ok(OverAddresses::keeping(effective(&self.prefix, one_label(kind)), HashSet::from([host])))
    }
}

impl PortConfig {
    pub(crate) fn build(&self, kind: &str) -> OverAddresses {
        let port = self.port.get();
        let default = one_label(kind).concat(&one_label(&port.to_string()));
        let change = move |addr: &Addr| match addr {
            Addr::Bound { endpoints, meta } => {
                let mut endpoints = endpoints.to_vec();
                endpoints.iter_mut().for_each(|endpoint| endpoint.addr.set_port(port));
                address_set::bound(endpoints, meta.clone())
            }
            other => other.clone(),
        };
        OverAddresses {
            prefix: effective(&self.prefix, default),
            explain_name: "DelegatingNameTreeTransformer$",
            map: AddrMap::new(change),
        }
    }
}

/// A transformer that changes the addresses of each leaf on its own.
pub struct OverAddresses {
    prefix: Path,
    explain_name: &'static str,
    map: AddrMap,
}

impl OverAddresses {
    /// Where no address is left the leaf is neg, which does not fall through to alternates.
    fn keeping(prefix: Path, hosts: HashSet<IpAddr>) -> OverAddresses {
        let change = move |addr: &Addr| match addr {
            Addr::Bound { endpoints, meta } => {
                let kept = endpoints.iter().filter(|endpoint| hosts.contains(&endpoint.addr.ip())).cloned();
                let kept: Vec<_> = kept.collect();
                if kept.is_empty() { Addr::Neg } else { address_set::bound(kept, meta.clone()) }
            }
            other => other.clone(),
        };
        OverAddresses { prefix, explain_name: "SubnetLocalTransformer", map: AddrMap::new(change) }
    }
}

impl Transformer for OverAddresses {
    fn transform(&self, tree: &BoundTree, _: Option<&BoundTree>) -> BoundTree {
        tree.map(&mut |bound| self.map.bound(&self.prefix, bound))
    }

    fn prefix(&self) -> &Path {
        &self.prefix
    }

    fn explain_name(&self) -> &'static str {
        self.explain_name
    }
}

impl TreeConfig {
    pub(crate) fn build_replace(&self, kind: &str, namers: &Namers) -> OtherTree {
        OtherTree { leaves_only: Leaves::Replaced, ..self.other(kind, namers) }
    }

    pub(crate) fn build_const(&self, kind: &str, namers: &Namers) -> OtherTree {
        self.other(kind, namers)
    }

    fn other(&self, kind: &str, namers: &Namers) -> OtherTree {
        let prefix = effective(&self.prefix, one_label(kind));
        let id = prefix.concat(&self.path);
        let interpreter = Arc::new(ConfiguredInterpreter::new(None, namers.clone()));
        OtherTree { prefix, id, path: self.path.clone(), interpreter, leaves_only: Leaves::Ignored }
    }
}

/// What becomes of the leaves that there were.
#[derive(Clone, Copy, PartialEq)]
enum Leaves {
    Replaced,
    Ignored,
}

/// A transformer that puts another tree in place of leaves, or of everything.
pub struct OtherTree {
    prefix: Path,
    /// The prefix and the configured path, not the id that it is bound to.
    id: Path,
    path: Path,
    interpreter: Arc<ConfiguredInterpreter>,
    leaves_only: Leaves,
}

impl OtherTree {
    /// The other tree under our id; residuals are its own.
    fn tree(&self, other: &BoundTree) -> BoundTree {
        other.map(&mut |bound| Bound { id: self.id.clone(), ..bound.clone() })
    }

    fn replaced(&self, tree: &BoundTree, other: &BoundTree) -> BoundTree {
        match tree {
            NameTree::Leaf(_) => self.tree(other),
            NameTree::Alt(trees) => NameTree::Alt(trees.iter().map(|tree| self.replaced(tree, other)).collect()),
            NameTree::Union(branches) => {
                let branch = |branch: &names::Weighted<Bound>| names::Weighted {
                    weight: branch.weight,
                    tree: self.replaced(&branch.tree, other),
                };
                NameTree::Union(branches.iter().map(branch).collect())
            }
            NameTree::Neg => NameTree::Neg,
            NameTree::Fail => NameTree::Fail,
            NameTree::Empty => NameTree::Empty,
        }
    }
}

impl Transformer for OtherTree {
    fn transform(&self, tree: &BoundTree, other: Option<&BoundTree>) -> BoundTree {
        match (other, self.leaves_only) {
            // Without the other tree there is nothing to put in its place.
            (None, _) => NameTree::Neg,
            (Some(other), Leaves::Replaced) => self.replaced(tree, other),
            (Some(other), Leaves::Ignored) => self.tree(other),
        }
    }

    fn other(&self) -> Option<Live<BoundTree>> {
        Some(self.interpreter.bind(&Dtab::empty(), &self.path))
    }

    fn prefix(&self) -> &Path {
        &self.prefix
    }

    fn explain_name(&self) -> &'static str {
        if self.leaves_only == Leaves::Replaced { "ReplaceTransformer" } else { "ConstTransformer" }
    }
}
