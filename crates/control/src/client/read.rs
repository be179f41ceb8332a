//! The original's JSON, read: bound trees, addresses, explanations.

use std::{net::IpAddr, sync::Arc};

use names::{Dentry, NameTree, Path, Prefix, Weighted};
use naming::{Addr, Bound, BoundTree, Endpoint, Explain, Live, Meta, State};
use serde_json::{Map, Value};

/// Makes a leaf of bound id, residual and weight.
pub(super) type Leaf<'a> = dyn FnMut(Path, Path, Option<f64>) -> Bound + 'a;

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, String> {
    value[key].as_str().ok_or_else(|| format!("no text `{key}`"))
}

fn path(value: &Value, key: &str) -> Result<Path, String> {
    Path::read(text(value, key)?).map_err(|error| format!("{key}: {error}"))
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>, String> {
    value[key].as_array().ok_or_else(|| format!("no list `{key}`"))
}

fn weight(value: &Value) -> Result<f64, String> {
    let weight = value["weight"].as_f64().filter(|weight| weight.is_finite() && *weight >= 0.0);
    weight.ok_or_else(|| format!("`{}` is not a weight", value["weight"]))
}

/// A bound tree; the addresses in it are read by [`addrs_in`].
pub(super) fn tree(value: &Value, leaf: &mut Leaf<'_>) -> Result<BoundTree, String> {
    Ok(match text(value, "type")? {
        "neg" => NameTree::Neg,
        "fail" => NameTree::Fail,
        "empty" => NameTree::Empty,
        "leaf" => {
            let bound = &value["bound"];
            let weight = bound["addr"]["meta"]["namer_nametree_weight"].as_f64();
            NameTree::Leaf(leaf(path(bound, "id")?, path(bound, "path")?, weight))
        }
        "alt" => NameTree::Alt(list(value, "alt")?.iter().map(|tree_| tree(tree_, leaf)).collect::<Result<_, _>>()?),
        "union" => {
            let mut branches = Vec::new();
            for branch in list(value, "union")? {
                branches.push(Weighted { weight: weight(branch)?, tree: tree(&branch["tree"], leaf)? });
            }
            NameTree::Union(branches)
        }
        other => return Err(format!("a tree of type `{other}`")),
    })
}

/// The addresses that stand in a tree's leaves, by bound id.
pub(super) fn addrs_in(value: &Value, into: &mut Vec<(Path, State<Addr>)>) -> Result<(), String> {
    match value["type"].as_str() {
        Some("leaf") => into.push((path(&value["bound"], "id")?, addr(&value["bound"]["addr"])?)),
        Some("alt") => list(value, "alt")?.iter().try_for_each(|tree| addrs_in(tree, into))?,
        Some("union") => list(value, "union")?.iter().try_for_each(|branch| addrs_in(&branch["tree"], into))?,
        _ => {}
    }
    Ok(())
}

/// Metadata without a weight that the original keeps there.
fn meta(value: &Value, weight: &str) -> Meta {
    let entries = value.as_object().into_iter().flatten().filter(|(key, _)| *key != weight);
    entries.map(|(key, value)| (key.clone(), value.clone())).collect()
}

pub(super) fn addr(value: &Value) -> Result<State<Addr>, String> {
    Ok(match text(value, "type")? {
        "pending" => State::Pending,
        "neg" => State::Ok(Addr::Neg),
        "failed" => State::Ok(Addr::Failed(value["cause"].as_str().unwrap_or("failed").into())),
        "bound" => {
            let mut endpoints = Vec::new();
            for endpoint in list(value, "addrs")? {
                let ip: IpAddr = text(endpoint, "ip")?.parse().map_err(|error| format!("ip: {error}"))?;
                let port = endpoint["port"].as_u64().and_then(|port| u16::try_from(port).ok());
                let port = port.ok_or_else(|| format!("`{}` is not a port", endpoint["port"]))?;
                endpoints.push(Endpoint {
                    addr: (ip, port).into(),
                    weight: endpoint["meta"]["endpoint_addr_weight"].as_f64().unwrap_or(1.0),
                    meta: Arc::new(meta(&endpoint["meta"], "endpoint_addr_weight")),
                });
            }
            endpoints.sort_by_key(|endpoint| endpoint.addr);
            endpoints.dedup_by_key(|endpoint| endpoint.addr);
            let meta = Arc::new(meta(&value["meta"], "namer_nametree_weight"));
            State::Ok(Addr::Bound { endpoints: endpoints.into(), meta })
        }
        other => return Err(format!("an address of type `{other}`")),
    })
}

/// An explanation in the original's JSON.
pub(super) fn explain(body: &[u8]) -> Result<Explain, String> {
    node(&serde_json::from_slice(body).map_err(|error| error.to_string())?)
}

fn bound(value: &Value) -> Result<(Bound, Addr), String> {
    let addr = match addr(&value["addr"])? {
        State::Ok(addr) => addr,
        State::Pending => Addr::Failed("not known yet".into()),
        State::Failed(why) => Addr::Failed(why),
    };
    Ok((Bound::new(path(value, "id")?, path(value, "path")?, Live::constant(addr.clone())), addr))
}

fn dentry(object: &Map<String, Value>) -> Result<Option<Dentry>, String> {
    let Some(value) = object.get("dentry").filter(|value| !value.is_null()) else { return Ok(None) };
    let prefix = Prefix::read(text(value, "prefix")?).map_err(|error| format!("prefix: {error}"))?;
    let dst = NameTree::<Path>::read(text(value, "dst")?).map_err(|error| format!("dst: {error}"))?;
    Ok(Some(Dentry { prefix, dst }))
}

fn node(value: &Value) -> Result<Explain, String> {
    let object = value.as_object().ok_or("not an object")?;
    let dentry = dentry(object)?;
    // A written `~` or `!` has no path.
    let unless = |sign: &str| if value["path"] == sign { Ok(None) } else { path(value, "path").map(Some) };
    Ok(match text(value, "type")? {
        "neg" => Explain::Neg { path: unless("~")?, dentry },
        "fail" => Explain::Fail { path: unless("!")?, dentry },
        "empty" => Explain::Empty { path: path(value, "path")?, dentry },
        "delegate" => {
            Explain::Delegate { path: path(value, "path")?, dentry, next: Box::new(node(&value["delegate"])?) }
        }
        "alt" => Explain::Alt {
            path: path(value, "path")?,
            dentry,
            alternatives: list(value, "alt")?.iter().map(node).collect::<Result<_, _>>()?,
        },
        "union" => {
            let branch = |branch: &Value| Ok::<_, String>((weight(branch)?, node(&branch["tree"])?));
            let branches = list(value, "union")?.iter().map(branch).collect::<Result<_, _>>()?;
            Explain::Union { path: path(value, "path")?, dentry, branches }
        }
        "leaf" => {
            let (bound, addr) = bound(&value["bound"])?;
            Explain::Leaf { path: path(value, "path")?, dentry, bound, addr }
        }
        "exception" => {
            let message = text(value, "message")?.into();
            Explain::Exception { path: path(value, "path")?, dentry, message }
        }
        "transformation" => {
            let (bound, addr) = bound(&value["bound"])?;
            let (name, next) = (text(value, "name")?.into(), Box::new(node(&value["tree"])?));
            Explain::Transformation { path: path(value, "path")?, name, bound, addr, next }
        }
        other => return Err(format!("a node of type `{other}`")),
    })
}
