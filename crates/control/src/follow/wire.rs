//! The lines of a follow stream. Weights are texts, so that every digit arrives whatever reads them.

use std::{net::SocketAddr, str::FromStr, sync::Arc};

use names::{NameTree, Path, Weighted};
use naming::{Addr, BoundTree, Endpoint, Meta, State};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What a router says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum FromRouter {
    /// It wants the tree of a name. The id is new in this stream.
    Bind(Bind),
    /// It does not any more.
    Unbind(u64),
    /// Everything that it holds has been asked for.
    Ready,
    /// It serves this version (`null`: that there is no dtab).
    Ack(Option<String>),
    /// It ends, and is not to be missed.
    Bye,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bind {
    pub(crate) id: u64,
    pub(crate) path: String,
    /// The request's own entries, with every digit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) dtab: String,
    /// It serves a tree of an earlier stream.
    #[serde(default)]
    pub(crate) held: bool,
}

/// What the control plane says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum FromControl {
    #[serde(rename_all = "camelCase")]
    Hello { keep_alive_ms: u64 },
    /// The tree of a name, as of now.
    Tree { id: u64, tree: Tree },
    /// A name has no tree, and why.
    Failed { id: u64, why: String },
    /// The addresses of a bound id, as of now. Those of ids in a tree come before it.
    Addr { id: String, addr: WireAddr },
    /// No tree leads to this bound id any more.
    Drop(String),
    /// Everything before follows from this version (`null`: that there is no dtab).
    Version(Option<String>),
    /// The stream ends, and why.
    Refused(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Tree {
    Neg,
    Fail,
    Empty,
    Leaf(Leaf),
    Union(Vec<(Weight, Tree)>),
    Alt(Vec<Tree>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Leaf {
    pub(crate) id: String,
    pub(crate) residual: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) weight: Option<Weight>,
}

/// A double as its shortest text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Weight(pub(crate) f64);

impl Serialize for Weight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Weight, D::Error> {
        let text = String::deserialize(deserializer)?;
        let weight = f64::from_str(&text).ok().filter(|weight| weight.is_finite() && *weight >= 0.0);
        weight.map(Weight).ok_or_else(|| de::Error::custom(format!("`{text}` is not a weight")))
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum WireAddr {
    Pending,
    Neg,
    Failed(String),
    Bound {
        endpoints: Vec<WireEndpoint>,
        #[serde(default, skip_serializing_if = "Meta::is_empty")]
        meta: Meta,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct WireEndpoint {
    addr: SocketAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<Weight>,
    #[serde(default, skip_serializing_if = "Meta::is_empty")]
    meta: Meta,
}

/// How deep a tree may be that a router takes: more than any evaluation makes.
const DEEPEST: usize = 500;

impl Tree {
    pub(crate) fn of(tree: &BoundTree) -> Tree {
        match tree {
            NameTree::Neg => Tree::Neg,
            NameTree::Fail => Tree::Fail,
            NameTree::Empty => Tree::Empty,
            NameTree::Leaf(bound) => Tree::Leaf(Leaf {
                id: bound.id.show(),
                residual: bound.residual.show(),
                weight: bound.weight.map(Weight),
            }),
            NameTree::Union(branches) => {
                Tree::Union(branches.iter().map(|branch| (Weight(branch.weight), Tree::of(&branch.tree))).collect())
            }
            NameTree::Alt(trees) => Tree::Alt(trees.iter().map(Tree::of).collect()),
        }
    }

    /// The tree, with each leaf made by `leaf` of bound id, residual and weight. The error says what
    /// cannot be read.
    pub(crate) fn read<T>(&self, leaf: &mut impl FnMut(Path, Path, Option<f64>) -> T) -> Result<NameTree<T>, String> {
        self.read_at(0, leaf)
    }

    fn read_at<T>(
        &self,
        depth: usize,
        leaf: &mut impl FnMut(Path, Path, Option<f64>) -> T,
    ) -> Result<NameTree<T>, String> {
        if depth > DEEPEST {
            return Err(format!("a tree deeper than {DEEPEST}"));
        }
        let path = |text: &str| Path::read(text).map_err(|error| error.to_string());
        Ok(match self {
            Tree::Neg => NameTree::Neg,
            Tree::Fail => NameTree::Fail,
            Tree::Empty => NameTree::Empty,
            Tree::Leaf(bound) => {
                NameTree::Leaf(leaf(path(&bound.id)?, path(&bound.residual)?, bound.weight.map(|weight| weight.0)))
            }
            Tree::Union(branches) => {
                let mut read = Vec::with_capacity(branches.len());
                for (weight, tree) in branches {
                    read.push(Weighted { weight: weight.0, tree: tree.read_at(depth + 1, leaf)? });
                }
                NameTree::Union(read)
            }
            Tree::Alt(trees) => {
                NameTree::Alt(trees.iter().map(|tree| tree.read_at(depth + 1, leaf)).collect::<Result<_, _>>()?)
            }
        })
    }
}

impl WireAddr {
    pub(crate) fn of(state: &State<Addr>) -> WireAddr {
        match state {
            State::Pending => WireAddr::Pending,
            State::Ok(Addr::Neg) => WireAddr::Neg,
            State::Failed(why) | State::Ok(Addr::Failed(why)) => WireAddr::Failed(why.to_string()),
            State::Ok(Addr::Bound { endpoints, meta }) => WireAddr::Bound {
                endpoints: endpoints
                    .iter()
                    .map(|endpoint| WireEndpoint {
                        addr: endpoint.addr,
                        weight: Some(Weight(endpoint.weight)).filter(|weight| weight.0 != 1.0),
                        meta: (*endpoint.meta).clone(),
                    })
                    .collect(),
                meta: (**meta).clone(),
            },
        }
    }

    pub(crate) fn read(self) -> State<Addr> {
        match self {
            WireAddr::Pending => State::Pending,
            WireAddr::Neg => State::Ok(Addr::Neg),
            WireAddr::Failed(why) => State::Ok(Addr::Failed(why.into())),
            WireAddr::Bound { endpoints, meta } => {
                let mut endpoints: Vec<Endpoint> = endpoints
                    .into_iter()
                    .map(|endpoint| Endpoint {
                        addr: endpoint.addr,
                        weight: endpoint.weight.map_or(1.0, |weight| weight.0),
                        meta: Arc::new(endpoint.meta),
                    })
                    .collect();
                endpoints.sort_by_key(|endpoint| endpoint.addr);
                endpoints.dedup_by_key(|endpoint| endpoint.addr);
                State::Ok(Addr::Bound { endpoints: endpoints.into(), meta: Arc::new(meta) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use naming::{Bound, Live};

    use super::*;

    #[test]
    fn a_tree_arrives_with_every_digit() {
        let bound = |id: &str, weight| Bound {
            weight,
            ..Bound::new(Path::read(id).unwrap(), Path::read("/r").unwrap(), Live::pending())
        };
        for weight in [0.1 + 0.2, 1e-300, 1.0, 0.0, 12345.6789, f64::MAX] {
            let tree: BoundTree = NameTree::Union(vec![
                Weighted { weight, tree: NameTree::Leaf(bound("/#/a/b", Some(weight))) },
                Weighted { weight: 2.5, tree: NameTree::Alt(vec![NameTree::Neg, NameTree::Fail, NameTree::Empty]) },
            ]);
            let line = naming::json::text(&Tree::of(&tree));
            let read: Tree = serde_json::from_str(&line).unwrap();
            let read = read
                .read(&mut |id, residual, weight| Bound { weight, ..Bound::new(id, residual, Live::pending()) })
                .unwrap();
            assert_eq!(read, tree, "{line}");
        }
    }

    #[test]
    fn addresses_arrive() {
        let meta = |text: &str| Arc::new(serde_json::from_str::<Meta>(text).unwrap());
        let endpoint =
            |addr: &str, weight| Endpoint { addr: addr.parse().unwrap(), weight, meta: meta(r#"{"nodeName":"n"}"#) };
        let bound = Addr::Bound {
            endpoints: naming::Endpoints::from([endpoint("127.0.0.1:1", 0.1), endpoint("[::1]:2", 1.0)]),
            meta: meta(r#"{"authority":"a"}"#),
        };
        for state in [State::Pending, State::Ok(Addr::Neg), State::Ok(Addr::Failed("why".into())), State::Ok(bound)] {
            let line = naming::json::text(&WireAddr::of(&state));
            assert_eq!(serde_json::from_str::<WireAddr>(&line).unwrap().read(), state, "{line}");
        }
    }

    #[test]
    fn lines_are_as_documented() {
        let lines = [
            (naming::json::text(&FromRouter::Ready), r#""ready""#),
            (naming::json::text(&FromRouter::Ack(None)), r#"{"ack":null}"#),
            (naming::json::text(&FromControl::Version(Some("V".into()))), r#"{"version":"V"}"#),
            (naming::json::text(&FromControl::Hello { keep_alive_ms: 1000 }), r#"{"hello":{"keepAliveMs":1000}}"#),
        ];
        for (found, expected) in lines {
            assert_eq!(found, expected);
        }
        let bind = FromRouter::Bind(Bind { id: 1, path: "/svc".into(), dtab: String::new(), held: true });
        assert_eq!(naming::json::text(&bind), r#"{"bind":{"id":1,"path":"/svc","held":true}}"#);
    }

    #[test]
    fn weights_are_finite_and_not_negative() {
        for text in [r#""NaN""#, r#""inf""#, r#""-1""#, r#""""#, "1"] {
            assert!(serde_json::from_str::<Weight>(text).is_err(), "{text}");
        }
    }
}
