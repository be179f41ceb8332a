//! The JSON of bound trees, addresses and explain trees, as the original's admin and API show them.
//!
//! Key order, absent fields and the text of numbers (`9.0`, `1.0E-4`) are the original's, because
//! clients compare texts. `text(&bound_tree(&tree))` is one such document.
//!
//! ```text
//! {"type":"leaf","bound":{"addr":{"type":"bound","addrs":[{"ip":"10.1.2.3","port":80,"meta":{}}],"meta":{}},
//!  "id":"/#/io.l5d.fs/web","path":"/"}}
//! ```

use names::{Dentry, NameTree, Path};
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::{Value, value::RawValue};

use crate::{Addr, Bound, BoundTree, Explain, Meta, State};

/// As one text without blanks.
pub fn text(document: &impl Serialize) -> String {
    serde_json::to_string(document).unwrap_or_else(|error| unreachable!("keys are texts: {error}"))
}

/// As a value, to be put into another document. Numbers lose the original's text there.
pub fn value(document: &impl Serialize) -> Value {
    serde_json::to_value(document).unwrap_or_else(|error| unreachable!("keys are texts: {error}"))
}

/// `{"type":"bound",…}`, `neg`, `failed`, `pending`.
pub fn addr(state: &State<Addr>) -> impl Serialize + '_ {
    AddrJson { state, weight: None }
}

/// A bound tree with the addresses as they are now.
pub fn bound_tree(tree: &BoundTree) -> impl Serialize + '_ {
    TreeJson(tree)
}

/// `{"type","path","dentry"?,…}`
pub fn explain(tree: &Explain) -> impl Serialize + '_ {
    ExplainJson(tree)
}

/// A number as Java prints a double: `9.0`, `1.0E-4`, `1.0E7`.
pub fn java_double(number: f64) -> String {
    let size = number.abs();
    if number == 0.0 || (1e-3..1e7).contains(&size) || !number.is_finite() {
        return format!("{number:?}");
    }
    let shown = format!("{number:e}");
    let (digits, exponent) = shown.split_once('e').unwrap_or((&shown, "0"));
    let point = if digits.contains('.') { "" } else { ".0" };
    format!("{digits}{point}E{exponent}")
}

struct Double(f64);

impl Serialize for Double {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match RawValue::from_string(java_double(self.0)) {
            Ok(raw) => raw.serialize(serializer),
            // Neither infinite nor NaN is JSON.
            Err(_) => serializer.serialize_none(),
        }
    }
}

struct AddrJson<'a> {
    state: &'a State<Addr>,
    weight: Option<f64>,
}

impl Serialize for AddrJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.state {
            State::Pending => map.serialize_entry("type", "pending")?,
            State::Failed(why) | State::Ok(Addr::Failed(why)) => {
                map.serialize_entry("type", "failed")?;
                map.serialize_entry("cause", &**why)?;
            }
            State::Ok(Addr::Neg) => map.serialize_entry("type", "neg")?,
            State::Ok(Addr::Bound { endpoints, meta }) => {
                map.serialize_entry("type", "bound")?;
                map.serialize_entry("addrs", &list(endpoints, EndpointJson))?;
                map.serialize_entry("meta", &MetaJson { meta, endpoint: None, tree: self.weight })?;
            }
        }
        map.end()
    }
}

struct EndpointJson<'a>(&'a crate::Endpoint);

impl Serialize for EndpointJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let endpoint = self.0;
        let weight = Some(endpoint.weight).filter(|weight| *weight != 1.0);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("ip", &endpoint.addr.ip())?;
        map.serialize_entry("port", &endpoint.addr.port())?;
        map.serialize_entry("meta", &MetaJson { meta: &endpoint.meta, endpoint: weight, tree: None })?;
        map.end()
    }
}

/// Metadata, and the weights that the original keeps there.
struct MetaJson<'a> {
    meta: &'a Meta,
    endpoint: Option<f64>,
    tree: Option<f64>,
}

impl Serialize for MetaJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in self.meta {
            map.serialize_entry(key, &AnyJson(value))?;
        }
        let weights = [("endpoint_addr_weight", self.endpoint), ("namer_nametree_weight", self.tree)];
        for (key, weight) in weights {
            if let Some(weight) = weight.filter(|_| !self.meta.contains_key(key)) {
                map.serialize_entry(key, &Double(weight))?;
            }
        }
        map.end()
    }
}

/// A JSON value with the original's numbers.
struct AnyJson<'a>(&'a Value);

impl Serialize for AnyJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Number(number) if number.is_f64() => {
                Double(number.as_f64().unwrap_or_default()).serialize(serializer)
            }
            Value::Array(values) => list(values, AnyJson).serialize(serializer),
            Value::Object(values) => {
                let mut map = serializer.serialize_map(Some(values.len()))?;
                for (key, value) in values {
                    map.serialize_entry(key, &AnyJson(value))?;
                }
                map.end()
            }
            other => other.serialize(serializer),
        }
    }
}

/// A list, each item in its own shape.
struct List<I, F>(I, F);

fn list<I: IntoIterator + Copy, J, F: Fn(I::Item) -> J>(items: I, shape: F) -> List<I, F> {
    List(items, shape)
}

impl<I: IntoIterator + Copy, J: Serialize, F: Fn(I::Item) -> J> Serialize for List<I, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for item in self.0 {
            list.serialize_element(&(self.1)(item))?;
        }
        list.end()
    }
}

struct Branch<T> {
    weight: f64,
    tree: T,
}

impl<T: Serialize> Serialize for Branch<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("weight", &Double(self.weight))?;
        map.serialize_entry("tree", &self.tree)?;
        map.end()
    }
}

struct BoundJson<'a> {
    bound: &'a Bound,
    addr: &'a State<Addr>,
}

impl Serialize for BoundJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("addr", &AddrJson { state: self.addr, weight: self.bound.weight })?;
        map.serialize_entry("id", &self.bound.id.show())?;
        map.serialize_entry("path", &self.bound.residual.show())?;
        map.end()
    }
}

struct TreeJson<'a>(&'a BoundTree);

impl Serialize for TreeJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.0 {
            NameTree::Neg => map.serialize_entry("type", "neg")?,
            NameTree::Fail => map.serialize_entry("type", "fail")?,
            NameTree::Empty => map.serialize_entry("type", "empty")?,
            NameTree::Leaf(bound) => {
                map.serialize_entry("type", "leaf")?;
                map.serialize_entry("bound", &BoundJson { bound, addr: &bound.addr.get() })?;
            }
            NameTree::Alt(trees) => {
                map.serialize_entry("type", "alt")?;
                map.serialize_entry("alt", &list(trees, TreeJson))?;
            }
            NameTree::Union(branches) => {
                map.serialize_entry("type", "union")?;
                map.serialize_entry(
                    "union",
                    &list(branches, |branch| Branch { weight: branch.weight, tree: TreeJson(&branch.tree) }),
                )?;
            }
        }
        map.end()
    }
}

struct ExplainJson<'a>(&'a Explain);

impl Serialize for ExplainJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.0 {
            Explain::Delegate { path, dentry, next } => {
                begin(&mut map, "delegate", &path.show(), dentry)?;
                map.serialize_entry("delegate", &ExplainJson(next))?;
            }
            Explain::Alt { path, dentry, alternatives } => {
                begin(&mut map, "alt", &path.show(), dentry)?;
                map.serialize_entry("alt", &list(alternatives, ExplainJson))?;
            }
            Explain::Union { path, dentry, branches } => {
                begin(&mut map, "union", &path.show(), dentry)?;
                map.serialize_entry(
                    "union",
                    &list(branches, |(weight, tree)| Branch { weight: *weight, tree: ExplainJson(tree) }),
                )?;
            }
            Explain::Leaf { path, dentry, bound, addr } => {
                begin(&mut map, "leaf", &path.show(), dentry)?;
                map.serialize_entry("bound", &unweighted(bound, addr))?;
            }
            Explain::Neg { path, dentry } => begin(&mut map, "neg", &or_sign(path, "~"), dentry)?,
            Explain::Fail { path, dentry } => begin(&mut map, "fail", &or_sign(path, "!"), dentry)?,
            Explain::Empty { path, dentry } => begin(&mut map, "empty", &path.show(), dentry)?,
            Explain::Exception { path, dentry, message } => {
                begin(&mut map, "exception", &path.show(), dentry)?;
                map.serialize_entry("message", &**message)?;
            }
            Explain::Transformation { path, name, bound, addr, next } => {
                begin(&mut map, "transformation", &path.show(), &None)?;
                map.serialize_entry("name", &**name)?;
                map.serialize_entry("bound", &unweighted(bound, addr))?;
                map.serialize_entry("tree", &ExplainJson(next))?;
            }
        }
        map.end()
    }
}

fn begin<M: SerializeMap>(map: &mut M, kind: &str, path: &str, dentry: &Option<Dentry>) -> Result<(), M::Error> {
    map.serialize_entry("type", kind)?;
    map.serialize_entry("path", path)?;
    match dentry {
        Some(dentry) => map.serialize_entry("dentry", &DentryJson(dentry)),
        None => Ok(()),
    }
}

struct DentryJson<'a>(&'a Dentry);

impl Serialize for DentryJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("prefix", &self.0.prefix.to_string())?;
        map.serialize_entry("dst", &self.0.dst.to_string())?;
        map.end()
    }
}

/// A bound name in an explain tree, which shows no tree weights.
fn unweighted<'a>(bound: &'a Bound, addr: &'a Addr) -> impl Serialize + 'a {
    ExplainedBound { bound, state: State::Ok(addr.clone()) }
}

struct ExplainedBound<'a> {
    bound: &'a Bound,
    state: State<Addr>,
}

impl Serialize for ExplainedBound<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bound = Bound { weight: None, ..self.bound.clone() };
        BoundJson { bound: &bound, addr: &self.state }.serialize(serializer)
    }
}

fn or_sign(path: &Option<Path>, sign: &str) -> String {
    path.as_ref().map_or_else(|| sign.to_owned(), Path::show)
}
