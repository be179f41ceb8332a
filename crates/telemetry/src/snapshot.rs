//! All values of one moment, and the flat and nested JSON of `/admin/metrics.json`.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde_json::{Map, Number, Value as Json};

use crate::histogram::{Summary, Total};
use crate::registry::{Key, SEPARATOR};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    Counter(u64),
    Gauge(f64),
    Stat(Summary),
}

/// Values by path, in the order of paths.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    values: BTreeMap<Key, Value>,
    totals: BTreeMap<Key, Total>,
}

impl Snapshot {
    pub(crate) fn new(values: BTreeMap<Key, Value>, totals: BTreeMap<Key, Total>) -> Snapshot {
        Snapshot { values, totals }
    }

    pub fn get(&self, path: &[&str]) -> Option<Value> {
        self.values.get(path.join("\0").as_str()).copied()
    }

    /// 0 if there is no such counter.
    pub fn counter(&self, path: &[&str]) -> u64 {
        match self.get(path) {
            Some(Value::Counter(count)) => count,
            _ => 0,
        }
    }

    pub fn gauge(&self, path: &[&str]) -> Option<f64> {
        match self.get(path) {
            Some(Value::Gauge(level)) => Some(level),
            _ => None,
        }
    }

    pub fn stat(&self, path: &[&str]) -> Option<Summary> {
        match self.get(path) {
            Some(Value::Stat(summary)) => Some(summary),
            _ => None,
        }
    }

    /// What a histogram recorded since the start, where [`Snapshot::stat`] tells of a window.
    pub fn total(&self, path: &[&str]) -> Option<Total> {
        self.totals.get(path.join("\0").as_str()).copied()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = (&str, Value)> + '_ {
        self.values.iter().map(|(key, value)| (&**key, *value))
    }

    /// Each path as its elements.
    pub fn iter(&self) -> impl Iterator<Item = (Vec<&str>, Value)> + '_ {
        self.values.iter().map(|(key, value)| (key.split(SEPARATOR).collect(), *value))
    }

    /// The distinct elements right below `prefix`, in order: the services of a router, say.
    pub fn children(&self, prefix: &[&str]) -> Vec<String> {
        let prefix = format!("{}\0", prefix.join("\0"));
        let mut children = self
            .values
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&prefix))
            .filter_map(|(key, _)| key[prefix.len()..].split(SEPARATOR).next())
            .map(str::to_owned)
            .collect::<Vec<_>>();
        children.sort();
        children.dedup();
        children
    }

    /// The values below `prefix` with paths relative to it; `None` if there is nothing there.
    pub fn subtree(&self, prefix: &[&str]) -> Option<Snapshot> {
        let prefix = prefix.join("\0");
        let values = below(&self.values, &prefix);
        (!values.is_empty()).then(|| Snapshot { values, totals: below(&self.totals, &prefix) })
    }

    /// Keys joined by `/`: `{"rt/out/server/127.0.0.1/4140/requests":10}`.
    pub fn to_flat(&self) -> Map<String, Json> {
        let mut flat = BTreeMap::new();
        for (key, value) in &self.values {
            let name = key.replace(SEPARATOR, "/");
            match value {
                Value::Counter(count) => drop(flat.insert(name, Json::from(*count))),
                Value::Gauge(level) => drop(flat.insert(name, float(*level))),
                Value::Stat(summary) => {
                    flat.extend(fields(summary).into_iter().map(|(field, value)| (format!("{name}.{field}"), value)));
                }
            }
        }
        flat.into_iter().collect()
    }

    /// Nested by element; leaves are `{"counter":n}`, `{"gauge":x}`, `{"stat.count":n, …}`.
    pub fn to_tree(&self) -> Map<String, Json> {
        let mut root = Map::new();
        for (key, value) in &self.values {
            let elements = key.split(SEPARATOR).filter(|_| !key.is_empty());
            let Some(node) = node_at(&mut root, elements) else { continue };
            match value {
                Value::Counter(count) => drop(node.insert("counter".to_owned(), Json::from(*count))),
                Value::Gauge(level) => drop(node.insert("gauge".to_owned(), float(*level))),
                Value::Stat(summary) => {
                    node.extend(fields(summary).into_iter().map(|(field, value)| (format!("stat.{field}"), value)));
                }
            }
        }
        root
    }

    /// The flat JSON text.
    pub fn to_json(&self) -> String {
        Json::Object(self.to_flat()).to_string()
    }
}

/// With keys relative to the prefix.
fn below<V: Copy>(map: &BTreeMap<Key, V>, prefix: &str) -> BTreeMap<Key, V> {
    let relative = |(key, value): (&Key, &V)| match key.strip_prefix(prefix)? {
        "" => Some((Key::default(), *value)),
        rest => rest.strip_prefix(SEPARATOR).map(|rest| (rest.into(), *value)),
    };
    map.iter().filter_map(relative).collect()
}

/// `None` if an element of the path is named like a leaf (`counter`) of its parent.
fn node_at<'a, 'b>(
    root: &'a mut Map<String, Json>,
    elements: impl Iterator<Item = &'b str>,
) -> Option<&'a mut Map<String, Json>> {
    elements.into_iter().try_fold(root, |node, element| {
        node.entry(element.to_owned()).or_insert_with(|| Json::Object(Map::new())).as_object_mut()
    })
}

fn fields(summary: &Summary) -> Vec<(&'static str, Json)> {
    let mut fields = vec![("count", Json::from(summary.count))];
    if summary.count > 0 {
        let values = [
            ("max", summary.max),
            ("min", summary.min),
            ("p50", summary.p50),
            ("p90", summary.p90),
            ("p95", summary.p95),
            ("p99", summary.p99),
            ("p9990", summary.p9990),
            ("p9999", summary.p9999),
            ("sum", summary.sum),
        ];
        fields.extend(values.map(|(name, value)| (name, Json::from(value))));
        fields.push(("avg", float(summary.avg)));
    }
    fields
}

/// JSON has no infinities; such a gauge is shown as 0.
fn float(value: f64) -> Json {
    Json::Number(Number::from_f64(value).unwrap_or_else(|| Number::from(0)))
}
