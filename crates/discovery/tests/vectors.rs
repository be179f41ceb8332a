//! The reference vectors that need a global namer: bind, explain, utility namers.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use discovery::global;
use names::{Dtab, NameTree, Path, PathMatcher};
use naming::{
    Addr, Bound, BoundTree, ConfiguredInterpreter, ExplainError, Interpreter, Live, Name, Namer, NamerTree, Namers,
    State, json,
};
use serde_json::{Value, json};

/// A namer over a fixed list of files, like the file namer's.
struct Files {
    prefix: Path,
    files: Vec<Path>,
    states: Vec<(Path, String)>,
}

impl Namer for Files {
    fn lookup(&self, path: &Path) -> Live<NamerTree> {
        let full = self.prefix.concat(path);
        match self.states.iter().find(|(name, _)| full.starts_with(name)) {
            Some((_, state)) if state == "pending" => return Live::pending(),
            Some((name, _)) => return Live::failed(format!("lookup failed: {name}")),
            None => {}
        }
        let Some(file) = self.files.iter().find(|file| path.starts_with(file)) else {
            return Live::constant(NameTree::Neg);
        };
        let addr = Live::constant(Addr::Bound { endpoints: naming::Endpoints::default(), meta: Arc::default() });
        let bound = Bound::new(self.prefix.concat(file), path.drop_first(file.len()), addr);
        Live::constant(NameTree::Leaf(Name::Bound(bound)))
    }
}

fn cases(file: &str) -> Vec<Value> {
    let cases: Vec<Value> = serde_json::from_str(file).unwrap();
    assert!(cases.len() > 15);
    cases
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn path(value: &Value) -> Path {
    Path::read(text(value)).unwrap()
}

fn namers(case: &Value) -> Namers {
    let states: Vec<(Path, String)> = match case["states"].as_object() {
        Some(states) => {
            states.iter().map(|(name, state)| (Path::read(name).unwrap(), text(state).to_owned())).collect()
        }
        None => Vec::new(),
    };
    let configured = case["namers"].as_object().into_iter().flatten().map(|(prefix, files)| {
        let prefix = Path::read(prefix).unwrap();
        let files = files.as_array().unwrap().iter().map(|file| Path::read(&format!("/{}", text(file))).unwrap());
        let namer: Arc<dyn Namer> =
            Arc::new(Files { prefix: prefix.clone(), files: files.collect(), states: states.clone() });
        (prefix, namer)
    });
    Namers::new(configured.collect(), global::namer())
}

fn shown(tree: &BoundTree) -> String {
    tree.show_with(&|bound: &Bound| {
        if bound.residual.is_empty() { bound.id.show() } else { format!("{}[{}]", bound.id, bound.residual) }
    })
}

/// Lets every task do what it can do without IO.
async fn everything_done() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn names_are_bound_as_the_vectors_say() {
    let mut wrong = Vec::new();
    for case in cases(include_str!("vectors/delegate.json")) {
        let interpreter =
            ConfiguredInterpreter::new(Some(Live::constant(text(&case["dtab"]).parse().unwrap())), namers(&case));
        let live = interpreter.bind(&text(&case["localDtab"]).parse().unwrap(), &path(&case["path"]));
        everything_done().await;
        let got = match live.get() {
            State::Ok(tree) => json!({ "expect": shown(&tree) }),
            State::Pending => json!({ "expect": "pending", "pending": true }),
            State::Failed(why) if why.starts_with("lookup failed") => json!({ "error": true, "msg": case["msg"] }),
            State::Failed(why) => json!({ "error": true, "msg": &*why }),
        };
        let keys = ["expect", "pending", "error", "msg"];
        if keys.iter().any(|key| case[key] != got[key]) {
            wrong.push(format!(
                "{}: {} under {}: {got}, wanted {}",
                case["id"], case["path"], case["dtab"], case["expect"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Without the addresses, which are no part of the vectors.
fn without_addresses(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(key, _)| *key != "addr");
            kept.map(|(key, value)| (key.clone(), without_addresses(value))).collect::<serde_json::Map<_, _>>().into()
        }
        Value::Array(items) => items.iter().map(without_addresses).collect(),
        other => other.clone(),
    }
}

#[tokio::test]
async fn names_are_explained_as_the_vectors_say() {
    let mut wrong = Vec::new();
    for case in cases(include_str!("vectors/explain.json")) {
        let interpreter = ConfiguredInterpreter::new(None, namers(&case));
        let dtab: Dtab = text(&case["dtab"]).parse().unwrap();
        let got = match interpreter.explain(&dtab, &path(&case["path"])).await {
            Ok(tree) => without_addresses(&json::value(&json::explain(&tree))),
            Err(ExplainError::Failed(why)) => json!({ "msg": &*why }),
            Err(other) => panic!("{other}"),
        };
        if got != case["out"] {
            wrong.push(format!(
                "{}: {} under {}:\n got {got}\nwant {}",
                case["id"], case["path"], case["dtab"], case["out"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn one_lookup(state: State<NamerTree>) -> Result<Value, String> {
    match state {
        State::Ok(tree) => Ok(json!(tree.show_with(&|name: &Name| match name {
            Name::Path(path) => path.show(),
            Name::Bound(bound) if bound.residual.is_empty() => bound.id.show(),
            Name::Bound(bound) => format!("{}[{}]", bound.id, bound.residual),
        }))),
        State::Failed(why) => Err(why.to_string()),
        State::Pending => Err("pending".to_owned()),
    }
}

#[tokio::test]
async fn utility_namers_are_as_the_vectors_say() {
    let global = global::namer();
    let mut wrong = Vec::new();
    let mut quirks = Vec::new();
    for case in cases(include_str!("vectors/utility_namers.json")) {
        let given = &case["in"];
        let got = match text(&case["op"]) {
            "lookup" => one_lookup(global.lookup(&path(given)).get()),
            "pathmatch" => Ok(json!(PathMatcher::new(text(&given["expr"])).captures(&path(&given["path"])))),
            "rewrite" => {
                let config = json!({ "prefix": "/p", "pattern": given["pattern"], "name": given["name"] });
                let config: discovery::rewrite::Config = serde_json::from_value(config).unwrap();
                one_lookup(config.build().lookup(&path(&given["path"])).get())
            }
            other => panic!("unknown operation {other}"),
        };
        let right = match (&got, case["error"].as_bool()) {
            (Err(why), Some(true)) => {
                case["msg"].is_null()
                    || text(&case["msg"]).starts_with("requirement failed")
                    || case["msg"] == json!(why)
            }
            (Ok(value), None) => case["out"] == *value,
            _ => false,
        };
        if !right && case["quirk"] == json!(true) {
            quirks.push(text(&case["id"]).to_owned());
        } else if !right {
            wrong.push(format!("{}: {} {given} gave {got:?}, wanted {case}", case["id"], case["op"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A `*` behind the end of the path does not match, instead of throwing.
    assert_eq!(quirks, ["utility_namers-101"], "mended on purpose, and no others");
}
