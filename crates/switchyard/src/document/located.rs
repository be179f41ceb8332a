//! A document as a value, with the line of each key: for readers that check it in steps and report
//! everything that is wrong with it, not only what is found first.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use super::{NoDuplicates, Problem, Source};
use crate::exit::{Exit, Failure};

/// See the module's documentation. JSON documents have no lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    pub value: Value,
    /// By key path: `routers[0].servers[0].port`.
    lines: BTreeMap<String, u64>,
}

impl Located {
    pub fn read(source: &Source) -> anyhow::Result<Located> {
        Located::parse(&source.text()?).map_err(|problem| super::refuse(source, &problem))
    }

    /// Duplicate keys are errors here already.
    pub fn parse(text: &str) -> Result<Located, Problem> {
        if text.trim_start().starts_with('{') {
            let broken = |error: serde_json::Error| Problem { path: String::new(), message: error.to_string() };
            serde_json::from_str::<NoDuplicates>(text).map_err(broken)?;
            let value = serde_json::from_str(text).map_err(broken)?;
            return Ok(Located { value, lines: BTreeMap::new() });
        }
        // Words such as `yes` are texts, as they were for Linkerd 1.
        let options = serde_saphyr::options! { strict_booleans: true };
        let node = serde_saphyr::from_str_with_options::<Spanned<Node>>(text, options)
            .map_err(|error| super::yaml_problem(error, String::new()))?;
        let mut lines = BTreeMap::new();
        let value = node.value.settle("", &mut lines);
        Ok(Located { value, lines })
    }

    /// The line of the key, or of the nearest one above it that has one.
    fn line(&self, path: &str) -> Option<u64> {
        let mut path = path;
        loop {
            if let Some(line) = self.lines.get(path) {
                return Some(*line);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// Each problem with its line, in the order of the document.
    pub fn placed(&self, problems: impl IntoIterator<Item = Problem>) -> Vec<(Option<u64>, Problem)> {
        let mut problems: Vec<_> = problems.into_iter().map(|problem| (self.line(&problem.path), problem)).collect();
        problems.sort_by_key(|(line, _)| *line);
        problems
    }

    /// One line for each problem, in the order of the document.
    pub fn refuse(&self, source: &Source, problems: impl IntoIterator<Item = Problem>) -> anyhow::Error {
        let lines = self.placed(problems).into_iter().map(|(line, problem)| {
            let place = line.map(|line| format!(" (line {line})")).unwrap_or_default();
            format!("{}: {problem}{place}", source.name())
        });
        Failure::error(Exit::Failed, lines.collect::<Vec<_>>().join("\nerror: "))
    }
}

enum Node {
    Scalar(Value),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl Node {
    fn settle(self, path: &str, lines: &mut BTreeMap<String, u64>) -> Value {
        match self {
            Node::Scalar(value) => value,
            Node::List(items) => {
                let items = items.into_iter().enumerate().map(|(number, item)| {
                    let path = format!("{path}[{number}]");
                    lines.insert(path.clone(), item.referenced.line());
                    item.value.settle(&path, lines)
                });
                Value::Array(items.collect())
            }
            Node::Map(entries) => {
                let entries = entries.into_iter().map(|(key, value)| {
                    let path = if path.is_empty() { key.value.clone() } else { format!("{path}.{}", key.value) };
                    lines.insert(path.clone(), key.referenced.line());
                    (key.value, value.value.settle(&path, lines))
                });
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }
    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }
    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const YAML: &str = "\
# a comment
routers:
- protocol: http
  servers:
  - {}
  - ip: 127.0.0.1
    port: 4141
  dtab: |
    /svc => /a ;
    /b => /c
  on: yes
  ratio: 0.25
  none:
";

    #[test]
    fn each_key_has_its_line() {
        let located = Located::parse(YAML).unwrap();
        let expected = json!({"routers": [{
            "protocol": "http", "servers": [{}, {"ip": "127.0.0.1", "port": 4141}],
            "dtab": "/svc => /a ;\n/b => /c\n", "on": "yes", "ratio": 0.25, "none": null,
        }]});
        assert_eq!(located.value, expected);
        let cases = [
            ("routers", Some(2)),
            ("routers[0]", Some(3)),
            ("routers[0].servers[0].port", Some(5)),
            ("routers[0].servers[1].port", Some(7)),
            ("routers[0].dtab", Some(8)),
            ("routers[0].label", Some(3)),
            ("admin", None),
            ("", None),
        ];
        for (path, line) in cases {
            assert_eq!(located.line(path), line, "{path}");
        }
    }

    #[test]
    fn duplicates_and_broken_texts_are_errors() {
        let cases = [
            ("a: 1\nb:\n  c: 1\n  c: 2\n", "c"),
            ("{\"a\": {\"b\": 1, \"b\": 2}}", "duplicate key `b`"),
            ("a: [", "line"),
            ("{\"a\"", "EOF"),
        ];
        for (text, expected) in cases {
            let found = Located::parse(text).expect_err(text).to_string();
            assert!(found.contains(expected), "{text}\n gives {found}");
        }
    }

    #[test]
    fn each_problem_gets_a_line() {
        let located = Located::parse("a: 1\nb: 2\n").unwrap();
        let problem = |path: &str| Problem { path: path.into(), message: "no".into() };
        let error = located.refuse(&Source::File("x.yaml".into()), [problem("b.c"), problem("a"), problem("")]);
        assert_eq!(error.to_string(), "x.yaml: no\nerror: x.yaml: a: no (line 1)\nerror: x.yaml: b.c: no (line 2)");
    }
}
