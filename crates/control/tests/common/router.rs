//! The client side as a router has it: interpreters of one process, on a runtime of their own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use control::client::{Config, Farewell, Identity};
use discovery::{Precedence, Surroundings};
use names::{Dtab, NameTree, Path};
use naming::{Addr, BoundTree, Interpreter, Live, Served, State};
use serde_json::{Value, json};
use testkit::until::until;

use super::LIMIT;

pub struct Router {
    pub interpreter: Arc<dyn Interpreter>,
    pub farewell: Farewell,
    pub runtime: Arc<tokio::runtime::Runtime>,
}

pub fn runtime() -> Arc<tokio::runtime::Runtime> {
    Arc::new(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
}

impl Router {
    pub fn new(port: u16, namespace: &str, label: &str) -> Router {
        Router::with(port, namespace, label, json!({}), runtime())
    }

    /// With more keys of the interpreter.
    pub fn with(port: u16, namespace: &str, label: &str, keys: Value, runtime: Arc<tokio::runtime::Runtime>) -> Router {
        let mut document = json!({ "dst": format!("/$/inet/127.0.0.1/{port}"), "namespace": namespace });
        document.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let config: Config = serde_json::from_value(document).unwrap();
        let guard = runtime.enter();
        let namers = discovery::build_namers(&[], Precedence::LastWins, &Surroundings::default()).unwrap();
        let farewell = Farewell::default();
        let identity = Identity {
            router: label.to_owned(),
            process: "test:1".to_owned(),
            admin: Some("http://127.0.0.1:9990".to_owned()),
            farewell: farewell.clone(),
        };
        let interpreter = config.build(identity, &namers, &Surroundings::default()).unwrap();
        drop(guard);
        Router { interpreter, farewell, runtime }
    }

    pub fn bind(&self, path: &str) -> Live<BoundTree> {
        self.bind_with("", path)
    }

    pub fn bind_with(&self, dtab: &str, path: &str) -> Live<BoundTree> {
        let _guard = self.runtime.enter();
        self.interpreter.bind(&Dtab::read(dtab).unwrap(), &Path::read(path).unwrap())
    }

    pub fn served(&self) -> Served {
        self.interpreter.served().get().ok().unwrap()
    }

    #[track_caller]
    pub fn serves(&self, version: &str) {
        until("the version is served", LIMIT, || match self.served() {
            served if served.version.as_deref() == Some(version) && served.stale.is_none() => Ok(()),
            served => Err(served),
        });
    }
}

/// `id[residual]`, unions as `w*a & w*b`, or what there is in place of a tree.
pub fn shown(live: &Live<BoundTree>) -> String {
    match live.get() {
        State::Pending => "pending".into(),
        State::Failed(why) => format!("failed: {why}"),
        State::Ok(tree) => tree_text(&tree),
    }
}

fn tree_text(tree: &BoundTree) -> String {
    match tree {
        NameTree::Leaf(bound) => format!("{}[{}]", bound.id, bound.residual),
        NameTree::Union(branches) => {
            let branches = branches.iter().map(|branch| format!("{}*{}", branch.weight, tree_text(&branch.tree)));
            branches.collect::<Vec<_>>().join(" & ")
        }
        other => other.show_with(&|_| String::new()),
    }
}

#[track_caller]
pub fn becomes(live: &Live<BoundTree>, expected: &str) {
    until(expected, LIMIT, || match shown(live) {
        found if found == expected => Ok(()),
        found => Err(found),
    });
}

/// The addresses of a tree that is one leaf.
pub fn addresses(live: &Live<BoundTree>) -> Vec<String> {
    let State::Ok(NameTree::Leaf(bound)) = live.get() else { return vec![shown(live)] };
    match bound.addr.get() {
        State::Ok(Addr::Bound { endpoints, .. }) => {
            endpoints.iter().map(|endpoint| endpoint.addr.to_string()).collect()
        }
        other => vec![format!("{other:?}")],
    }
}

/// How long something took.
pub fn timed<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = what();
    (result, start.elapsed())
}
