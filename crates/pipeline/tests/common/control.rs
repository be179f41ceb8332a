//! A control plane in memory, to the letter of its API, with faults to inject. The real one is tested
//! by its own crate and in the demo; nothing here replaces those.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, put};
use names::Dtab;
use serde_json::{Value, json};

#[derive(Clone)]
pub struct FakeControl {
    address: SocketAddr,
    state: Arc<Mutex<Inside>>,
}

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Every answer is a 503.
    pub dead: bool,
    /// Each answer takes this long.
    pub slow: Duration,
    /// So many of the next writes find that somebody else wrote (another entry) in between.
    pub storms: u32,
    /// So many of the next writes are done, and their answers lost.
    pub lost: u32,
    /// Routers that do not come along.
    pub laggards: u32,
    pub routers: u32,
    /// Writes are refused for good, as by a store on a full disk.
    pub full: bool,
}

struct Inside {
    namespaces: BTreeMap<String, (Dtab, u64)>,
    version: u64,
    leases: BTreeMap<(String, String), (String, jiff::Timestamp)>,
    writes: Vec<(String, String)>,
    signed: Vec<(String, String)>,
    faults: Faults,
}

impl FakeControl {
    pub fn start(internal: &str) -> FakeControl {
        let inside = Inside {
            namespaces: BTreeMap::from([("internal".to_owned(), (Dtab::read(internal).unwrap(), 1))]),
            version: 1,
            leases: BTreeMap::new(),
            writes: Vec::new(),
            signed: Vec::new(),
            faults: Faults { routers: 1, ..Faults::default() },
        };
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let control = FakeControl { address, state: Arc::new(Mutex::new(inside)) };
        let routes = Router::new()
            .route("/api/1/dtabs", get(list))
            .route("/api/1/dtabs/{ns}", any(dtab))
            .route("/api/1/dtabs/{ns}/fleet", get(fleet))
            .route("/api/1/leases", get(leases))
            .route("/api/1/leases/{ns}", put(take).delete(release))
            .layer(axum::middleware::from_fn_with_state(control.clone(), fail))
            .with_state(control.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, routes).await.unwrap();
            });
        });
        control
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn fault(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.inside().faults);
    }

    pub fn dtab(&self, namespace: &str) -> Dtab {
        self.inside().namespaces[namespace].0.clone()
    }

    /// The right side of an entry, exact.
    pub fn entry(&self, namespace: &str, prefix: &str) -> String {
        let dtab = self.dtab(namespace);
        let entry = dtab.entries().iter().find(|entry| entry.prefix.to_string() == prefix);
        entry.map(|entry| entry.dst.show_exact()).unwrap_or_default()
    }

    /// Another namespace.
    pub fn create(&self, namespace: &str, dtab: &str) {
        self.inside().set(namespace, Dtab::read(dtab).unwrap());
    }

    /// An edit by hand; `dst` empty takes the entry away.
    pub fn edit(&self, prefix: &str, dst: &str) {
        let mut inside = self.inside();
        let (dtab, _) = &inside.namespaces["internal"];
        let kept: Vec<_> =
            dtab.entries().iter().filter(|entry| entry.prefix.to_string() != prefix).map(ToString::to_string).collect();
        let mut text = kept.join(";");
        if !dst.is_empty() {
            text += &format!(";{prefix}=>{dst}");
        }
        inside.set("internal", Dtab::read(&text).unwrap());
    }

    /// Right sides of `/host/world`, as the pipeline wrote them.
    pub fn writes(&self) -> Vec<String> {
        self.inside().writes.iter().map(|(_, dst)| dst.clone()).collect()
    }

    /// Authors and comments of its writes.
    pub fn signed(&self) -> Vec<(String, String)> {
        self.inside().signed.clone()
    }

    pub fn leases(&self) -> Vec<String> {
        self.inside().leases.values().map(|(owner, _)| owner.clone()).collect()
    }

    pub fn lease_to(&self, owner: &str, seconds: i64) {
        let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
        self.inside().leases.insert(("internal".to_owned(), "/host/world".to_owned()), (owner.to_owned(), expires));
    }
}

impl Inside {
    fn set(&mut self, namespace: &str, dtab: Dtab) -> u64 {
        self.version += 1;
        let version = self.version;
        self.namespaces.insert(namespace.to_owned(), (dtab, version));
        version
    }
}

async fn fail(
    State(control): State<FakeControl>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let Faults { dead, slow, .. } = control.inside().faults.clone();
    tokio::time::sleep(slow).await;
    if dead {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    next.run(request).await
}

async fn list(State(control): State<FakeControl>) -> axum::Json<Vec<String>> {
    axum::Json(control.inside().namespaces.keys().cloned().collect())
}

async fn dtab(
    State(control): State<FakeControl>,
    Path(namespace): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    method: Method,
    headers: HeaderMap,
    body: String,
) -> Response {
    let mut inside = control.inside();
    let Some((found, version)) = inside.namespaces.get(&namespace).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default().to_owned();
    if method == Method::GET {
        assert_eq!(query.get("exact").map(String::as_str), Some("true"));
        assert_eq!(header("accept"), "application/dtab");
        return ([("etag", version.to_string())], found.show_exact() + "\n").into_response();
    }
    assert_eq!(header("content-type"), "application/dtab");
    if inside.faults.full {
        return (StatusCode::INTERNAL_SERVER_ERROR, "{\"error\":\"the store's disk is full\"}").into_response();
    }
    if inside.faults.storms > 0 {
        inside.faults.storms -= 1;
        let other = format!("{};/other=>/srv/{}", found.show_exact(), inside.version);
        inside.set(&namespace, Dtab::read(&other).unwrap());
        return StatusCode::PRECONDITION_FAILED.into_response();
    }
    if header("if-match") != version.to_string() {
        return StatusCode::PRECONDITION_FAILED.into_response();
    }
    let decode = |name: &str| percent_encoding::percent_decode_str(&header(name)).decode_utf8().unwrap().into_owned();
    inside.signed.push((decode("l5d-author"), decode("l5d-comment")));
    let written = Dtab::read(&body).unwrap();
    let entry = written.entries().iter().find(|entry| entry.prefix.to_string() == "/host/world");
    let dst = entry.map(|entry| entry.dst.show_exact()).unwrap_or_default();
    inside.writes.push((namespace.clone(), dst));
    let version = inside.set(&namespace, written);
    if inside.faults.lost > 0 {
        inside.faults.lost -= 1;
        return StatusCode::BAD_GATEWAY.into_response();
    }
    (StatusCode::NO_CONTENT, [("etag", version.to_string())]).into_response()
}

async fn fleet(
    State(control): State<FakeControl>,
    Path(namespace): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let version: u64 = query["version"].parse().unwrap();
    let wait = query["wait"].strip_suffix("ms").unwrap().parse::<u64>().unwrap();
    let (faults, known) = {
        let inside = control.inside();
        (inside.faults.clone(), inside.namespaces.contains_key(&namespace) && version <= inside.version)
    };
    if !known {
        return StatusCode::NOT_FOUND.into_response();
    }
    if faults.laggards == 0 {
        let answer = json!({"version": query["version"], "routers": faults.routers});
        return axum::Json(answer).into_response();
    }
    tokio::time::sleep(Duration::from_millis(wait)).await;
    let laggards: Vec<Value> = (1..=faults.laggards)
        .map(|number| json!({"router": "outgoing", "process": format!("host:{number}"), "version": "1", "behindMs": 7, "lastWord": "now"}))
        .collect();
    let answer = json!({"error": "not all serve it", "version": query["version"], "laggards": laggards});
    (StatusCode::GATEWAY_TIMEOUT, axum::Json(answer)).into_response()
}

fn shown(((namespace, entry), (owner, expires)): (&(String, String), &(String, jiff::Timestamp))) -> Value {
    json!({"namespace": namespace, "entry": entry, "owner": owner, "reason": null, "since": expires.to_string(), "expires": expires.to_string()})
}

async fn leases(State(control): State<FakeControl>) -> axum::Json<Vec<Value>> {
    axum::Json(control.inside().leases.iter().map(shown).collect())
}

async fn take(
    State(control): State<FakeControl>,
    Path(namespace): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    axum::Json(body): axum::Json<Value>,
) -> Response {
    let mut inside = control.inside();
    let key = (namespace, query["entry"].clone());
    let owner = body["owner"].as_str().unwrap().to_owned();
    let now = jiff::Timestamp::now();
    if let Some(found) = inside.leases.get(&key).filter(|(held, expires)| *held != owner && *expires > now) {
        return (StatusCode::CONFLICT, axum::Json(json!({"error": "held", "lease": shown((&key, found))})))
            .into_response();
    }
    let value = (owner, now + jiff::SignedDuration::from_secs(body["seconds"].as_i64().unwrap()));
    inside.leases.insert(key.clone(), value.clone());
    axum::Json(shown((&key, &value))).into_response()
}

async fn release(
    State(control): State<FakeControl>,
    Path(namespace): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> StatusCode {
    let mut inside = control.inside();
    let key = (namespace, query["entry"].clone());
    if inside.leases.get(&key).is_some_and(|(owner, _)| *owner != query["owner"]) {
        return StatusCode::CONFLICT;
    }
    inside.leases.remove(&key);
    StatusCode::NO_CONTENT
}
