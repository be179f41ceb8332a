//! `explain`: the delegation tree as a person reads it.
//!
//! ```text
//! /svc/world
//! └─ /svc => /host                    /host/world
//!    ├─ 1. /host/world => /srv/world-v1    /srv/world-v1
//!    │  └─ … ● /#/io.l5d.fs/world-v1: 127.0.0.1:7721
//!    └─ 2. (not taken) …
//! ```

use clap::Args;
use serde_json::Value;

use super::Session;
use super::remote::Weights;
use crate::exit::Exit;
use crate::output::{self, Ink, Output, ink};

#[derive(Args, Debug)]
pub struct Explain {
    namespace: String,
    /// The name to look up, such as `/svc/world`.
    path: String,
    /// Entries that a request would bring (`l5d-dtab`); they win over the stored ones.
    #[arg(long, default_value = "", value_name = "DTAB")]
    dtab: String,
}

impl Explain {
    pub async fn run(&self, session: &Session) -> anyhow::Result<Exit> {
        // A namespace that is not there delegates nothing, which looks like a dtab without entries.
        session.control_plane.get(&self.namespace, Weights::Original).await?;
        let tree = session.control_plane.explain(&self.namespace, &self.path, &self.dtab).await?;
        match session.output {
            Output::Json => output::json(&tree)?,
            Output::Text => print!("{}", show(&tree, output::coloured())),
        }
        Ok(Exit::Ok)
    }
}

/// What a branch comes to; what the alternatives before and after it depend on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Bound,
    Empty,
    Neg,
    Fail,
    Broken,
}

fn outcome(node: &Value) -> Outcome {
    match node["type"].as_str().unwrap_or("") {
        "leaf" => match node["bound"]["addr"]["type"].as_str() {
            Some("neg") => Outcome::Neg,
            _ => Outcome::Bound,
        },
        "delegate" => outcome(&node["delegate"]),
        "transformation" => outcome(&node["tree"]),
        "alt" => children(node, "alt")
            .iter()
            .map(|child| outcome(child))
            .find(|found| *found != Outcome::Neg)
            .unwrap_or(Outcome::Neg),
        "union" => {
            let all: Vec<Outcome> = children(node, "union").iter().map(|branch| outcome(&branch["tree"])).collect();
            let best = [Outcome::Bound, Outcome::Empty, Outcome::Broken, Outcome::Fail];
            best.into_iter().find(|wanted| all.contains(wanted)).unwrap_or(Outcome::Neg)
        }
        "empty" => Outcome::Empty,
        "fail" => Outcome::Fail,
        "exception" => Outcome::Broken,
        _ => Outcome::Neg,
    }
}

fn children<'a>(node: &'a Value, key: &str) -> Vec<&'a Value> {
    node[key].as_array().map(|list| list.iter().collect()).unwrap_or_default()
}

/// The whole tree as text.
pub fn show(tree: &Value, coloured: bool) -> String {
    let mut page = Page { text: String::new(), coloured };
    let root = tree["path"].as_str().unwrap_or("/");
    let (end, end_ink) = end(tree);
    let gap = if end.is_empty() { "" } else { "   " };
    page.line("", &[(root, Ink::Strong), (gap, Ink::Plain), (&end, end_ink)]);
    page.below(tree, "", true);
    page.text
}

struct Page {
    text: String,
    coloured: bool,
}

impl Page {
    fn line(&mut self, rails: &str, parts: &[(&str, Ink)]) {
        self.text.push_str(rails);
        for (part, colour) in parts {
            self.text.push_str(&ink(&output::safe(part), *colour, self.coloured));
        }
        self.text.truncate(self.text.trim_end_matches(' ').len());
        self.text.push('\n');
    }

    /// Everything under a node whose own line is written.
    fn below(&mut self, node: &Value, rails: &str, taken: bool) {
        match node["type"].as_str().unwrap_or("") {
            "delegate" => self.step(&node["delegate"], "", rails, true, taken),
            "transformation" => {
                let name = node["name"].as_str().unwrap_or("transformer").trim_end_matches('$').to_owned();
                self.step(&node["tree"], &format!("through {name}: "), rails, true, taken);
            }
            "alt" => {
                let branches = children(node, "alt");
                let chosen = branches.iter().position(|branch| outcome(branch) != Outcome::Neg);
                for (n, branch) in branches.iter().enumerate() {
                    let mark = format!("{}. ", n + 1);
                    self.step(branch, &mark, rails, n + 1 == branches.len(), taken && chosen == Some(n));
                }
            }
            "union" => self.union(node, rails, taken),
            _ => {}
        }
    }

    fn union(&mut self, node: &Value, rails: &str, taken: bool) {
        let branches = children(node, "union");
        let alive =
            |branch: &Value| matches!(outcome(&branch["tree"]), Outcome::Bound | Outcome::Empty | Outcome::Broken);
        let weight = |branch: &Value| branch["weight"].as_f64().unwrap_or(0.0);
        let total: f64 = branches.iter().filter(|branch| alive(branch)).map(|branch| weight(branch)).sum();
        for (n, branch) in branches.iter().enumerate() {
            let mark = match alive(branch) && total > 0.0 {
                true => format!("{:.1}%  ", 100.0 * weight(branch) / total).replace(".0%", "%"),
                false => format!("(weight {}) ", weight(branch)),
            };
            self.step(&branch["tree"], &mark, rails, n + 1 == branches.len(), taken && alive(branch));
        }
    }

    /// One node: the entry that led to it, its path, and what it is if it is an end.
    fn step(&mut self, node: &Value, mark: &str, rails: &str, last: bool, taken: bool) {
        let branch = if last { "└─ " } else { "├─ " };
        let dentry = match (node["dentry"]["prefix"].as_str(), node["dentry"]["dst"].as_str()) {
            (Some(prefix), Some(dst)) => format!("{prefix} => {dst}"),
            _ => String::new(),
        };
        let path = node["path"].as_str().unwrap_or("");
        let colour = |wanted: Ink| if taken { wanted } else { Ink::Faint };
        let gap = if dentry.is_empty() { "" } else { "   " };
        let (end, end_ink) = end(node);
        let untaken = if taken || mark.is_empty() { "" } else { "(not taken) " };
        self.line(
            &format!("{rails}{branch}"),
            &[
                (mark, colour(Ink::Strong)),
                (untaken, Ink::Faint),
                (path, colour(Ink::Strong)),
                (gap, Ink::Plain),
                (&dentry, Ink::Faint),
                (if end.is_empty() { "" } else { "   " }, Ink::Plain),
                (&end, colour(end_ink)),
            ],
        );
        let rails = format!("{rails}{}", if last { "   " } else { "│  " });
        self.below(node, &rails, taken);
    }
}

/// What stands at the end of a branch.
fn end(node: &Value) -> (String, Ink) {
    match node["type"].as_str().unwrap_or("") {
        "leaf" => bound(&node["bound"]),
        "neg" => ("neg: no such name".into(), Ink::Waits),
        "fail" => ("fail: no such name, and no other is tried".into(), Ink::Broken),
        "empty" => ("empty: no endpoints".into(), Ink::Waits),
        "exception" => (format!("broken: {}", node["message"].as_str().unwrap_or("")), Ink::Broken),
        _ => (String::new(), Ink::Plain),
    }
}

fn bound(bound: &Value) -> (String, Ink) {
    let id = bound["id"].as_str().unwrap_or("");
    let residual = match bound["path"].as_str() {
        None | Some("/" | "") => String::new(),
        Some(path) => format!(" (rest {path})"),
    };
    let addr = &bound["addr"];
    let (state, colour) = match addr["type"].as_str().unwrap_or("") {
        "bound" => {
            let addresses: Vec<String> = children(addr, "addrs")
                .iter()
                .map(|address| format!("{}:{}", address["ip"].as_str().unwrap_or("?"), address["port"]))
                .collect();
            match addresses.is_empty() {
                true => ("no endpoints".to_owned(), Ink::Waits),
                false => (addresses.join(", "), Ink::Good),
            }
        }
        "failed" => (format!("failed: {}", addr["cause"].as_str().unwrap_or("")), Ink::Broken),
        "neg" => ("gone".to_owned(), Ink::Waits),
        other => (other.to_owned(), Ink::Waits),
    };
    (format!("bound {id}{residual}: {state}"), colour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_with_a_dead_branch_reads_well() {
        let leaf = |path: &str, port: u16| {
            serde_json::json!({"type": "leaf", "path": path, "dentry": {"prefix": "/srv", "dst": "/#/io.l5d.fs"},
                "bound": {"id": format!("/#/io.l5d.fs{path}"), "path": "/",
                    "addr": {"type": "bound", "addrs": [{"ip": "127.0.0.1", "port": port, "meta": {}}], "meta": {}}}})
        };
        let dentry = serde_json::json!({"prefix": "/svc", "dst": "1 * /v2 & 9 * /v1 | /v0"});
        let tree = serde_json::json!({"type": "alt", "path": "/svc", "alt": [
            {"type": "neg", "path": "/gone", "dentry": dentry},
            {"type": "union", "path": "/svc", "dentry": dentry, "union": [
                {"weight": 1.0, "tree": leaf("/v2", 2)},
                {"weight": 9.0, "tree": leaf("/v1", 1)},
                {"weight": 5.0, "tree": {"type": "neg", "path": "/v3", "dentry": dentry}},
            ]},
            leaf("/v0", 0),
        ]});
        insta::assert_snapshot!(show(&tree, false));
    }
}
