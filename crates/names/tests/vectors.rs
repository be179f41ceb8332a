//! The reference vectors for paths, name trees and dtabs, each case with the original's exact texts.

#![allow(clippy::unwrap_used)]

use names::{Dentry, Dtab, NameTree, Path, Prefix, Weighted};
use serde_json::{Value, json};

fn run(file: &str, text: &str, answer: impl Fn(&str, &Value) -> Result<Value, String>) {
    let cases: Vec<Value> = serde_json::from_str(text).expect("vectors are JSON");
    assert!(cases.len() > 20, "{file} has its cases");
    let mut wrong = Vec::new();
    for case in &cases {
        let operation = case["op"].as_str().expect("op");
        let got = answer(operation, &case["in"]);
        let right = match (&got, case["error"].as_bool()) {
            (Err(message), Some(true)) => case["msg"].as_str() == Some(message),
            (Ok(value), None) => ["out", "elems_hex", "ast", "entries"]
                .iter()
                .all(|key| case.get(key).is_none_or(|want| *want == value[key])),
            _ => false,
        };
        if !right {
            wrong.push(format!("{}: {operation} {} gave {got:?}, wanted {case}", case["id"], case["in"]));
        }
    }
    assert!(wrong.is_empty(), "{file}: {} of {} cases differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn path(value: &Value) -> Path {
    Path::read(text(value)).expect("a path")
}

fn hex(label: &[u8]) -> String {
    label.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(value: &Value) -> Vec<u8> {
    let digits = text(value).as_bytes();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn ast(tree: &NameTree<Path>) -> Value {
    match tree {
        NameTree::Fail => json!("fail"),
        NameTree::Neg => json!("neg"),
        NameTree::Empty => json!("empty"),
        NameTree::Leaf(path) => json!({ "leaf": path.show() }),
        NameTree::Alt(trees) => json!({ "alt": trees.iter().map(ast).collect::<Vec<_>>() }),
        NameTree::Union(branches) => json!({ "union": branches.iter()
            .map(|branch| json!({ "weight": branch.weight, "tree": ast(&branch.tree) })).collect::<Vec<_>>() }),
    }
}

fn from_ast(value: &Value) -> NameTree<Path> {
    match value.as_str() {
        Some("fail") => return NameTree::Fail,
        Some("neg") => return NameTree::Neg,
        Some("empty") => return NameTree::Empty,
        _ => {}
    }
    if let Some(trees) = value["alt"].as_array() {
        return NameTree::Alt(trees.iter().map(from_ast).collect());
    }
    if let Some(branches) = value["union"].as_array() {
        let branch =
            |value: &Value| Weighted { weight: value["weight"].as_f64().unwrap(), tree: from_ast(&value["tree"]) };
        return NameTree::Union(branches.iter().map(branch).collect());
    }
    NameTree::Leaf(path(&value["leaf"]))
}

#[test]
fn paths_are_as_the_vectors_say() {
    run("path.json", include_str!("vectors/path.json"), |operation, given| {
        let shown = |path: Path| json!({ "out": path.show(), "elems_hex": path.labels().iter().map(|l| hex(l)).collect::<Vec<_>>() });
        Ok(match operation {
            "read" => shown(Path::read(text(given)).map_err(|e| e.to_string())?),
            "show" => {
                let labels: Vec<_> = given["elems_hex"].as_array().unwrap().iter().map(from_hex).collect();
                shown(Path::from_labels(labels).expect("no empty label"))
            }
            "startsWith" => json!({ "out": path(&given["path"]).starts_with(&path(&given["prefix"])) }),
            "take" => shown(path(&given["path"]).take(given["n"].as_u64().unwrap() as usize)),
            "drop" => shown(path(&given["path"]).drop_first(given["n"].as_u64().unwrap() as usize)),
            "concat" => shown(path(&given["a"]).concat(&path(&given["b"]))),
            other => panic!("unknown operation {other}"),
        })
    });
}

#[test]
fn name_trees_are_as_the_vectors_say() {
    run("nametree.json", include_str!("vectors/nametree.json"), |operation, given| {
        let read = || NameTree::read(text(given)).map_err(|e| e.to_string());
        let shown = |tree: NameTree<Path>| json!({ "out": tree.to_string(), "ast": ast(&tree) });
        Ok(match operation {
            "read" => shown(read()?),
            "show" => shown(from_ast(given)),
            "simplified" => shown(read()?.simplified()),
            "eval" => {
                let tree = read()?;
                let mut leaves = tree.eval().map(|leaves| leaves.into_iter().map(Path::show).collect::<Vec<_>>());
                leaves.iter_mut().for_each(|leaves| leaves.sort());
                json!({ "out": leaves })
            }
            other => panic!("unknown operation {other}"),
        })
    });
}

#[test]
fn dtabs_are_as_the_vectors_say() {
    run("dtab.json", include_str!("vectors/dtab.json"), |operation, given| {
        let read = |value: &Value| Dtab::read(text(value)).map_err(|e| e.to_string());
        let shown = |dtab: Dtab| {
            let entries = dtab.entries().iter().map(|entry| json!([entry.prefix.to_string(), entry.dst.to_string()]));
            json!({ "out": dtab.to_string(), "entries": entries.collect::<Vec<_>>() })
        };
        let prefix = |value: &Value| Prefix::read(text(value)).map_err(|e| e.to_string());
        Ok(match operation {
            "read" => shown(read(given)?),
            "dentry" => json!({ "out": Dentry::read(text(given)).map_err(|e| e.to_string())?.to_string() }),
            "prefix" => json!({ "out": prefix(given)?.to_string() }),
            "matches" => json!({ "out": prefix(&given["prefix"])?.matches(&path(&given["path"])) }),
            "lookup" => {
                let tree = read(&given["dtab"])?.lookup(&path(&given["path"]));
                json!({ "out": tree.to_string(), "ast": ast(&tree) })
            }
            "concat" => shown(read(&given["a"])?.concat(&read(&given["b"])?)),
            "simplified" => shown(read(given)?.simplified()),
            other => panic!("unknown operation {other}"),
        })
    });
}
