//! Config documents: YAML, or JSON where the first character that is not blank is `{`.
//!
//! Unknown and duplicate keys are errors. An error names file, key path and value:
//! `linkerd.yaml: routers[0].servers[0].port: invalid value: integer `70000`, expected u16 (line 7)`.

mod located;

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::de::DeserializeOwned;

use crate::exit::{Exit, Failure};

pub use located::Located;

/// Where a document comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    StandardInput,
    File(PathBuf),
}

impl From<&str> for Source {
    fn from(argument: &str) -> Source {
        match argument {
            "-" => Source::StandardInput,
            file => Source::File(file.into()),
        }
    }
}

impl Source {
    /// As an error names it.
    pub fn name(&self) -> String {
        match self {
            Source::StandardInput => "standard input".to_owned(),
            Source::File(path) => path.display().to_string(),
        }
    }

    pub fn text(&self) -> anyhow::Result<String> {
        match self {
            Source::StandardInput => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
                Ok(text)
            }
            Source::File(path) => {
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
            }
        }
    }

    /// What relative paths in the document are relative to: its directory.
    pub fn directory(&self) -> PathBuf {
        match self {
            Source::File(path) => path.parent().unwrap_or(Path::new("")).to_owned(),
            Source::StandardInput => PathBuf::new(),
        }
    }
}

/// Reads a whole document.
pub fn read<T: DeserializeOwned>(source: &Source) -> anyhow::Result<T> {
    parse(&source.text()?).map_err(|problem| refuse(source, &problem))
}

/// An error in a document, as every command reports it.
pub fn refuse(source: &Source, problem: &Problem) -> anyhow::Error {
    Failure::error(Exit::Failed, format!("{}: {problem}", source.name()))
}

/// What is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `routers[0].interpreter.kind`; empty for the document as a whole.
    pub path: String,
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.path.as_str() {
            "" | "." => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

/// Parses text; JSON by a JSON parser, because tabs and `\/` are no YAML.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    if text.trim_start().starts_with('{') { parse_json(text) } else { parse_yaml(text) }
}

fn parse_json<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    // The typed reader overwrites repeated keys of maps in silence; this pass does not.
    serde_json::from_str::<NoDuplicates>(text)
        .map_err(|error| Problem { path: String::new(), message: error.to_string() })?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| Problem { path: error.path().to_string(), message: error.into_inner().to_string() })?;
    Ok(value)
}

fn parse_yaml<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let mut path = String::new();
    let result = serde_saphyr::with_deserializer_from_str(text, |reader| {
        serde_path_to_error::deserialize(reader).map_err(|error| {
            path = error.path().to_string();
            error.into_inner()
        })
    });
    result.map_err(|error| yaml_problem(error, path))
}

fn yaml_problem(error: serde_saphyr::Error, path: String) -> Problem {
    let error = error.without_snippet();
    // An include or an alias may have no place of its own.
    let place = error.location().map(|location| format!(" (line {})", location.line()));
    let text = error.to_string();
    let mut message = text.lines().next().unwrap_or("").trim_start_matches("error: ").to_owned();
    // Behind these stands a place that is told below, or advice for who calls the library.
    for end in [" at line ", ", set DuplicateKeyPolicy", "; use from_str_multiple"] {
        if let Some(start) = message.find(end) {
            message.truncate(start);
        }
    }
    Problem { path, message: message + &place.unwrap_or_default() }
}

/// Accepts any JSON without a key that stands twice in one object.
struct NoDuplicates;

impl<'de> serde::Deserialize<'de> for NoDuplicates {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<NoDuplicates, D::Error> {
        deserializer.deserialize_any(NoDuplicates)
    }
}

impl<'de> serde::de::Visitor<'de> for NoDuplicates {
    type Value = NoDuplicates;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<NoDuplicates>()?.is_some() {}
        Ok(self)
    }
    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        let mut seen = std::collections::HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            entries.next_value::<NoDuplicates>()?;
            if let Some(twice) = seen.replace(key) {
                return Err(serde::de::Error::custom(format!("duplicate key `{twice}`")));
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, serde::Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Example {
        routers: Vec<Router>,
        #[serde(default)]
        names: BTreeMap<String, String>,
    }

    #[derive(Debug, serde::Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Router {
        label: String,
        port: u16,
    }

    fn check(text: &str, expected: &str) {
        let found = match parse::<Example>(text) {
            Ok(_) => "ok".to_owned(),
            Err(problem) => problem.to_string(),
        };
        assert!(found.contains(expected), "{text}\n gives {found}\n  not {expected}");
    }

    #[test]
    fn yaml_and_json_read_alike() {
        let yaml: Example = parse("routers:\n- label: a\n  port: 1\nnames: {b: c}\n").unwrap();
        let json: Example =
            parse("\n{\t\"routers\": [{\"label\": \"a\", \"port\": 1}],\n\t\"names\": {\"b\": \"c\"}}").unwrap();
        assert_eq!(yaml, json);
    }

    #[test]
    fn errors_name_the_key() {
        check("routers:\n- label: a\n  port: 70000\n", "routers[0].port: ");
        check("routers:\n- label: a\n  port: 70000\n", "(line 3)");
        check("routers:\n- label: a\n  prt: 1\n", "unknown field `prt`");
        check("routers: []\nnames:\n  a: b\n  a: c\n", "duplicate");
        check("routers: []\nrouters: []\n", "duplicate");
        check("routers: []\nrouters: []\n", ": routers (line 2)");
        check("routers: []\n---\nrouters: []\n", "multiple YAML documents detected (line");
        check("{\"routers\": [], \"names\": {\"a\": \"b\", \"a\": \"c\"}}", "duplicate key `a`");
        check("{\"routers\": [{\"label\": 1}]}", "routers[0].label: invalid type: integer `1`");
        check("routers: [", "line");
        check("", "");
        check("- a\n", "");
        check("routers: []\n", "ok");
    }
}
