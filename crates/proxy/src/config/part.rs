//! Parts of a document: read one by one, so that one broken part hides nothing of the others.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key's: `routers[0].servers[1].port`; empty for the document as a whole.
    pub path: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

/// Where a part stands in the document.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct At(String);

impl At {
    pub(super) fn root() -> At {
        At::default()
    }

    /// A place by its path.
    pub(super) fn place(path: &str) -> At {
        At(path.to_owned())
    }

    pub(super) fn key(&self, key: &str) -> At {
        if key.is_empty() {
            return self.clone();
        }
        At(if self.0.is_empty() { key.to_owned() } else { format!("{}.{key}", self.0) })
    }

    pub(super) fn nth(&self, number: usize) -> At {
        At(format!("{}[{number}]", self.0))
    }

    pub(super) fn path(&self) -> &str {
        &self.0
    }
}

/// What was found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn add(&mut self, at: &At, message: impl Into<String>) {
        self.0.push(Problem { path: at.0.clone(), message: message.into() });
    }

    pub(super) fn take(self) -> Vec<Problem> {
        self.0
    }

    /// The value without the error, which is noted.
    pub(super) fn note<T, E: fmt::Display>(&mut self, at: &At, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(at, error.to_string())).ok()
    }

    /// A number that must not be 0.
    pub(super) fn positive(&mut self, at: &At, key: &str, given: Option<u64>) {
        if given == Some(0) {
            self.add(&at.key(key), "must be greater than 0");
        }
    }

    /// The typed form of a mapping. A key that cannot be read is noted and taken out, so that the
    /// others are looked at too.
    pub(super) fn read<T: DeserializeOwned>(&mut self, at: &At, value: &Value) -> Option<T> {
        let Value::Object(entries) = value else {
            self.add(at, format!("expected a mapping, not `{}`", shown(value)));
            return None;
        };
        let mut rest = entries.clone();
        loop {
            let error = match serde_path_to_error::deserialize::<_, T>(&Value::Object(rest.clone())) {
                Ok(value) => return Some(value),
                Err(error) => error,
            };
            let below = error.path().to_string();
            let message = error.into_inner().to_string();
            let Some((key, _)) =
                rest.keys().find(|key| is_below(&below, key)).and_then(|key| entries.get_key_value(key))
            else {
                // A key that is required and was broken is not missing as well.
                let missing = message.strip_prefix("missing field `").and_then(|text| text.strip_suffix('`'));
                match missing {
                    Some(key) if entries.contains_key(key) => {}
                    Some(key) => self.add(&at.key(key), "is missing"),
                    None => self.add(at, message),
                }
                return None;
            };
            self.add(&at.key(&below), friendly(&message, &entries[key]));
            rest.shift_remove(key);
        }
    }

    /// A plugin: its kind, and its other keys.
    pub(super) fn kind(&mut self, at: &At, value: &Value, plugin: &Plugin) -> Option<(String, Value)> {
        let Value::Object(entries) = value else {
            self.add(at, format!("expected a mapping, not `{}`: the keys of the {}", shown(value), plugin.what));
            return None;
        };
        let mut rest: Map<String, Value> = entries.clone();
        let kind = match (rest.shift_remove("kind"), plugin.default) {
            (Some(Value::String(kind)), _) => kind,
            (None | Some(Value::Null), Some(default)) => default.to_owned(),
            (None | Some(Value::Null), None) => {
                self.add(&at.key("kind"), format!("is missing: use {}", plugin.known()));
                return None;
            }
            (Some(other), _) => {
                self.add(&at.key("kind"), format!("expected a text, not `{}`", shown(&other)));
                return None;
            }
        };
        if plugin.built.contains(&kind.as_str()) {
            return Some((kind, Value::Object(rest)));
        }
        let message = if plugin.not_built.contains(&kind.as_str()) {
            format!("the {} `{kind}` is not supported yet: use {}", plugin.what, plugin.known())
        } else {
            format!("unknown {} `{kind}`: use {}", plugin.what, plugin.known())
        };
        self.add(&at.key("kind"), message);
        None
    }
}

/// Keys of older documents and of the original's manual that its last releases do not know either.
const GONE: [(&str, &str); 4] = [
    ("maxChunkKB", "Linkerd 1.6 took it out; leave it out, chunks of any size are passed on as they come"),
    ("maxRequestKB", "Linkerd 1.7 took it out; leave it out, long bodies are passed on as they come"),
    ("maxResponseKB", "Linkerd 1.7 took it out; leave it out, long bodies are passed on as they come"),
    // Of a client; a server's `tls` has it.
    ("caCertPath", "Linkerd 1.7 knows it for servers only; write `trustCerts: [PATH]`"),
];

/// serde's message about a key with this value, in the words of documents.
fn friendly(message: &str, value: &Value) -> String {
    if message == "invalid IP address syntax" {
        return format!("`{}` is no IP address (names are not resolved here)", shown(value));
    }
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let name = rest.split_once('`').map_or(rest, |(name, _)| name);
        if let Some((_, instead)) = GONE.iter().find(|(gone, _)| *gone == name) {
            return format!("unknown key: {instead}");
        }
        return match message.split_once("`, expected ") {
            Some((_, expected)) => format!("unknown key, expected {expected}"),
            None => "unknown key: there are no others here".to_owned(),
        };
    }
    match message.rsplit_once(", expected ") {
        Some((found, "u16")) => format!("{found}, expected a number from 0 to 65535"),
        Some((found, "u32" | "u64" | "usize")) => format!("{found}, expected a whole number from 0 up"),
        Some((found, "i64")) => format!("{found}, expected a whole number"),
        Some((found, "f64")) => format!("{found}, expected a number"),
        _ => message.to_owned(),
    }
}

/// Whether a path is `key`, or begins with it.
fn is_below(path: &str, key: &str) -> bool {
    path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The kinds that may stand in one place.
pub(super) struct Plugin {
    /// `identifier`
    pub(super) what: &'static str,
    pub(super) default: Option<&'static str>,
    pub(super) built: &'static [&'static str],
    /// Known to the original.
    pub(super) not_built: &'static [&'static str],
}

impl Plugin {
    fn known(&self) -> String {
        let quoted: Vec<String> = self.built.iter().map(|kind| format!("`{kind}`")).collect();
        match quoted.split_last() {
            Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
            _ => quoted.concat(),
        }
    }
}

/// As it stands in the document.
fn shown(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}

/// What is there: `null` is not, as in the original.
pub(super) fn given(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !value.is_null())
}
