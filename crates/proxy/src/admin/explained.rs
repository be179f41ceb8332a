//! The explain tree as the original's delegation JSON.

use std::sync::Arc;

use names::{Dentry, Path};
use naming::{Addr, Bound, Explain, Meta};
use serde_json::{Map, Value, json};

/// `{"type":"delegate","path":…,"dentry":{"prefix","dst"},"delegate":{…}}`; the root has no dentry.
pub(crate) fn tree(explain: &Explain) -> Value {
    match explain {
        Explain::Delegate { path, dentry, next } => {
            node("delegate", path.to_string(), dentry, [("delegate", tree(next))])
        }
        Explain::Alt { path, dentry, alternatives } => {
            let alternatives = alternatives.iter().map(tree).collect();
            node("alt", path.to_string(), dentry, [("alt", alternatives)])
        }
        Explain::Union { path, dentry, branches } => {
            let branches =
                branches.iter().map(|(weight, branch)| json!({ "weight": weight, "tree": tree(branch) })).collect();
            node("union", path.to_string(), dentry, [("union", branches)])
        }
        Explain::Leaf { path, dentry, bound: name, addr } => {
            node("leaf", path.to_string(), dentry, [("bound", bound(name, addr))])
        }
        Explain::Neg { path, dentry } => node("neg", shown(path, "~"), dentry, []),
        Explain::Fail { path, dentry } => node("fail", shown(path, "!"), dentry, []),
        Explain::Empty { path, dentry } => node("empty", path.to_string(), dentry, []),
        Explain::Exception { path, dentry, message } => {
            node("exception", path.to_string(), dentry, [("message", json!(message.as_ref()))])
        }
        Explain::Transformation { path, name, bound: before, addr, next } => {
            let fields = [("name", json!(name.as_ref())), ("bound", bound(before, addr)), ("tree", tree(next))];
            node("transformation", path.to_string(), &None, fields)
        }
    }
}

fn node<const N: usize>(
    kind: &str,
    path: String,
    dentry: &Option<Dentry>,
    fields: [(&'static str, Value); N],
) -> Value {
    let mut node = Map::new();
    node.insert("type".into(), kind.into());
    node.insert("path".into(), path.into());
    if let Some(dentry) = dentry {
        let shown = json!({ "prefix": dentry.prefix.to_string(), "dst": dentry.dst.to_string() });
        node.insert("dentry".into(), shown);
    }
    node.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Value::Object(node)
}

/// How a literal `~` or `!` is shown, which has no path.
fn shown(path: &Option<Path>, literal: &str) -> String {
    path.as_ref().map_or_else(|| literal.to_owned(), ToString::to_string)
}

fn bound(name: &Bound, addr: &Addr) -> Value {
    json!({ "addr": address(addr), "id": name.id.to_string(), "path": name.residual.to_string() })
}

fn address(addr: &Addr) -> Value {
    match addr {
        Addr::Bound { endpoints, meta } => {
            let endpoint = |endpoint: &naming::Endpoint| json!({ "ip": endpoint.addr.ip(), "port": endpoint.addr.port(), "meta": object(&endpoint.meta) });
            let addrs = endpoints.iter().map(endpoint).collect::<Vec<_>>();
            json!({ "type": "bound", "addrs": addrs, "meta": object(meta) })
        }
        Addr::Neg => json!({ "type": "neg" }),
        Addr::Failed(why) => json!({ "type": "failed", "cause": why.as_ref() }),
    }
}

fn object(meta: &Arc<Meta>) -> Value {
    meta.iter().map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>().into()
}
