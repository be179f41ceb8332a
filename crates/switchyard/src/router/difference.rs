//! What differs between two documents of a router, by the names of its parts and not by their numbers.
//!
//! ```text
//!  router outgoing: client.failureAccrual.failures is 3, was 5
//!  router outgoing, server 0.0.0.0:4140: maxConcurrentRequests is new: 100
//!  router incoming is gone
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use proxy::config::Problem;
use serde_json::{Map, Value, json};

/// One difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// `router outgoing`, `namer /io.l5d.fs`, `admin`
    pub part: String,
    /// Inside the part; empty where the part as a whole is new or gone.
    pub key: String,
    pub from: Option<Value>,
    pub to: Option<Value>,
}

impl Change {
    pub fn json(&self) -> Value {
        let what = match (&self.from, &self.to) {
            (None, _) => "added",
            (_, None) => "removed",
            _ => "changed",
        };
        let words = self.to_string();
        json!({ "part": self.part, "key": self.key, "change": what, "from": self.from, "to": self.to, "words": words })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Change { part, key, from, to } = self;
        match (key.as_str(), from, to) {
            ("", None, _) => write!(f, "{part} is new"),
            ("", _, None) => write!(f, "{part} is gone"),
            (key, Some(Value::String(from)), Some(Value::String(to))) if is_dtab(key) => {
                write!(f, "{part}: {key}:{}", entries(from, to))
            }
            (key, None, Some(to)) => write!(f, "{part}: {key} is new: {}", shown(to)),
            (key, Some(from), None) => write!(f, "{part}: {key} is gone, was {}", shown(from)),
            (key, Some(from), Some(to)) => write!(f, "{part}: {key} is {}, was {}", shown(to), shown(from)),
            (key, None, None) => write!(f, "{part}: {key}"),
        }
    }
}

/// Everything that differs, in the order of the old document, what is new behind it.
pub fn between(old: &Value, new: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    let (old, new) = (Document(old), Document(new));
    for part in Document::PARTS {
        compare(part, &old.named(part), &new.named(part), &mut changes);
    }
    changes
}

/// Keys that hold only for a process as a whole, where they differ.
pub fn needs_restart(changes: &[Change]) -> Vec<Problem> {
    let fixed = ["ip", "port", "tls", "socketOptions", "workerThreads", "httpIdentifierPort"];
    let is_fixed = |change: &&Change| match change.part.as_str() {
        "admin" => fixed.iter().any(|key| change.key == *key || change.key.starts_with(&format!("{key}."))),
        part => part.starts_with("telemeter "),
    };
    let problem = |change: &Change| {
        let path = match change.part.as_str() {
            "admin" => format!("admin.{}", change.key),
            _ => "telemetry".to_owned(),
        };
        let message =
            format!("{change}: this cannot be changed without a restart; put it back, or start the router anew");
        Problem { path, message }
    };
    changes.iter().filter(is_fixed).map(problem).collect()
}

struct Document<'a>(&'a Value);

/// Parts of one kind, each with its name.
type Named<'a> = Vec<(String, &'a Value)>;

impl<'a> Document<'a> {
    const PARTS: [&'static str; 5] = ["admin", "namers", "routers", "telemetry", "usage"];

    fn named(&self, part: &str) -> Named<'a> {
        let list = self.0[part].as_array().map(Vec::as_slice).unwrap_or_default();
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        match part {
            "namers" => unique(list.iter().map(|namer| {
                let prefix = text(namer, "prefix");
                let kind = text(namer, "kind");
                (format!("namer {}", if prefix.is_empty() { format!("/{kind}") } else { prefix }), namer)
            })),
            "routers" => unique(list.iter().map(|router| (format!("router {}", label(router)), router))),
            "telemetry" => unique(list.iter().map(|part| (format!("telemeter {}", text(part, "kind")), part))),
            _ => match &self.0[part] {
                Value::Null => Vec::new(),
                value => vec![(part.to_owned(), value)],
            },
        }
    }
}

/// A router without a label is called like its protocol.
pub fn label(router: &Value) -> String {
    router["label"].as_str().or(router["protocol"].as_str()).unwrap_or_default().to_owned()
}

/// Where a server of a good document listens, with the original's defaults.
pub fn address(server: &Value) -> Option<SocketAddr> {
    let ip = server["ip"].as_str().unwrap_or("127.0.0.1").parse::<IpAddr>().ok()?;
    Some(SocketAddr::new(ip, u16::try_from(server["port"].as_u64().unwrap_or(4140)).ok()?))
}

/// A second part with the same name gets a number.
fn unique<'a>(named: impl Iterator<Item = (String, &'a Value)>) -> Named<'a> {
    let mut seen: Named<'a> = Vec::new();
    for (name, value) in named {
        let again = |name: &str| seen.iter().any(|(other, _)| other == name);
        let unique = match again(&name) {
            false => name,
            true => (2..).map(|n| format!("{name} ({n})")).find(|name| !again(name)).unwrap_or(name),
        };
        seen.push((unique, value));
    }
    seen
}

fn compare(kind: &str, old: &Named<'_>, new: &Named<'_>, changes: &mut Vec<Change>) {
    let find = |named: &Named<'_>, name: &str| {
        named.iter().find(|(other, _)| other == name).map(|(_, value)| (*value).clone())
    };
    let whole = |part: &str, from, to| Change { part: part.to_owned(), key: String::new(), from, to };
    // Of `admin` and `usage` every key counts, also where the whole part is new.
    let is_single = ["admin", "usage"].contains(&kind);
    for (name, before) in old {
        match find(new, name) {
            Some(after) if kind == "routers" => router(name, before, &after, changes),
            Some(after) => value(name, "", before, &after, changes),
            None if is_single => value(name, "", before, &json!({}), changes),
            None => changes.push(whole(name, Some((*before).clone()), None)),
        }
    }
    for (name, after) in new.iter().filter(|(name, _)| find(old, name).is_none()) {
        match is_single {
            true => value(name, "", &json!({}), after, changes),
            false => changes.push(whole(name, None, Some((*after).clone()))),
        }
    }
}

fn router(name: &str, old: &Value, new: &Value, changes: &mut Vec<Change>) {
    let parts = |router: &Value| {
        let mut rest = router.clone();
        let servers = rest.as_object_mut().and_then(|rest| rest.shift_remove("servers"));
        (rest, servers.and_then(|servers| servers.as_array().cloned()).unwrap_or_default())
    };
    let ((old, old_servers), (new, new_servers)) = (parts(old), parts(new));
    value(name, "", &old, &new, changes);
    let title = |value: &Value| {
        format!("{name}, server {}", address(value).map_or_else(String::new, |address| address.to_string()))
    };
    let old = unique(old_servers.iter().map(|value| (title(value), value)));
    let new = unique(new_servers.iter().map(|value| (title(value), value)));
    compare("servers", &old, &new, changes);
}

/// Goes down where both sides are mappings; lists of the same length are compared one by one.
fn value(part: &str, key: &str, old: &Value, new: &Value, changes: &mut Vec<Change>) {
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match (old, new) {
        (old, new) if old == new => {}
        (Value::Object(old), Value::Object(new)) => {
            for name in keys(old, new) {
                match (old.get(name), new.get(name)) {
                    (Some(old), Some(new)) => value(part, &below(name), old, new, changes),
                    (from, to) => {
                        changes.push(Change {
                            part: part.to_owned(),
                            key: below(name),
                            from: from.cloned(),
                            to: to.cloned(),
                        });
                    }
                }
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (number, (old, new)) in old.iter().zip(new).enumerate() {
                value(part, &format!("{key}[{number}]"), old, new, changes);
            }
        }
        (old, new) => {
            let (from, to) = (Some(old.clone()), Some(new.clone()));
            changes.push(Change { part: part.to_owned(), key: key.to_owned(), from, to });
        }
    }
}

/// Those of the old one first, each once.
fn keys<'a>(old: &'a Map<String, Value>, new: &'a Map<String, Value>) -> Vec<&'a String> {
    old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))).collect()
}

fn is_dtab(key: &str) -> bool {
    key == "dtab" || key.ends_with(".dtab")
}

/// Entries that came and went.
fn entries(old: &str, new: &str) -> String {
    let split = |text: &str| {
        text.split(';')
            .map(|entry| entry.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|entry| !entry.is_empty())
            .collect::<Vec<_>>()
    };
    let (old, new) = (split(old), split(new));
    let (before, after): (BTreeSet<_>, BTreeSet<_>) = (old.iter().collect(), new.iter().collect());
    let gone = old.iter().filter(|entry| !after.contains(entry)).map(|entry| format!(" - {entry}"));
    let come = new.iter().filter(|entry| !before.contains(entry)).map(|entry| format!(" + {entry}"));
    let text = cut(&gone.chain(come).collect::<String>());
    if text.is_empty() { " the same entries in another order or spelling".to_owned() } else { text }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => cut(text.trim()),
        other => cut(&other.to_string()),
    }
}

/// A person reads this; the whole value is in the JSON.
fn cut(text: &str) -> String {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(old: &str, new: &str, expected: &[&str]) {
        let parse = |text: &str| crate::document::Located::parse(text).unwrap().value;
        let found: Vec<_> = between(&parse(old), &parse(new)).iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{old}\n{new}");
    }

    #[test]
    fn a_person_reads_what_changed() {
        let old = "\
admin: {port: 9990}
routers:
- protocol: http
  label: out
  servers: [{port: 4140}, {port: 4141}]
  dtab: /svc => /a ; /b => /c
  client: {failureAccrual: {kind: none}, requeueBudget: {ttlSecs: 5}}
- protocol: http
  servers: [{port: 5000}]
";
        check(old, old, &[]);
        let new = "\
admin: {port: 9990, shutdownGraceMs: 5}
namers: [{kind: io.l5d.fs, rootDir: disco}]
routers:
- protocol: http
  label: in
  servers: [{port: 5000}]
- protocol: http
  label: out
  servers: [{port: 4141, maxConcurrentRequests: 3}, {port: 4142}]
  dtab: /b => /c ; /svc =>  /d
  client: {failureAccrual: {kind: io.l5d.consecutiveFailures}}
";
        check(
            old,
            new,
            &[
                "admin: shutdownGraceMs is new: 5",
                "namer /io.l5d.fs is new",
                "router out: dtab: - /svc => /a + /svc => /d",
                "router out: client.failureAccrual.kind is io.l5d.consecutiveFailures, was none",
                "router out: client.requeueBudget is gone, was {\"ttlSecs\":5}",
                "router out, server 127.0.0.1:4140 is gone",
                "router out, server 127.0.0.1:4141: maxConcurrentRequests is new: 3",
                "router out, server 127.0.0.1:4142 is new",
                "router http is gone",
                "router in is new",
            ],
        );
    }

    #[test]
    fn some_keys_need_a_restart() {
        let (old, new) = (
            json!({ "admin": { "port": 1 }, "telemetry": [{ "kind": "io.l5d.prometheus" }] }),
            json!({ "admin": { "port": 2, "shutdownGraceMs": 1, "tls": { "certPath": "x" } }, "telemetry": [] }),
        );
        let found: Vec<_> = needs_restart(&between(&old, &new)).into_iter().map(|problem| problem.path).collect();
        assert_eq!(found, ["admin.port", "admin.tls", "telemetry"]);
        assert_eq!(needs_restart(&between(&json!({}), &json!({ "admin": { "links": {} } }))), []);
    }
}
