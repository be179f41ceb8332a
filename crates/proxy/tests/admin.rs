//! The admin server over fakes: each endpoint's status and shape.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use names::{Dtab, NameTree, Path};
use naming::{Addr, BoundTree, Endpoint, Explain, ExplainError, Interpreter, Live, Served, State};
use proxy::admin::{
    Attempt, ClientStatus, Level, Levels, Phase, Readiness, RecentRequest, Reloaded, Reloads, RouterSource, Security,
    SecurityConfig, Sources, Status, UnknownLevel, routes,
};
use serde_json::{Value, json};
use telemetry::Registry;
use tokio::sync::mpsc;

/// Explains by one look-up in the dtab that it is given.
struct OneStep;

type Explained<'a> = Pin<Box<dyn Future<Output = Result<Arc<Explain>, ExplainError>> + Send + 'a>>;

impl Interpreter for OneStep {
    fn bind(&self, _: &Dtab, _: &Path) -> Live<BoundTree> {
        Live::pending()
    }

    fn explain<'a>(&'a self, local: &'a Dtab, path: &'a Path) -> Explained<'a> {
        Box::pin(async move {
            match path.to_string().as_str() {
                "/slow" => std::future::pending().await,
                "/broken" => return Err(ExplainError::Failed("it broke".into())),
                "/const" => return Err(ExplainError::Unsupported),
                _ => {}
            }
            let neg = Explain::Neg { path: Some(path.clone()), dentry: None };
            let Some((_, entry)) = local.matching(path).into_iter().next() else { return Ok(Arc::new(neg)) };
            let NameTree::Leaf(next) = entry.rewrite(path) else { return Ok(Arc::new(neg)) };
            let next = Box::new(Explain::Neg { path: Some(next), dentry: Some(entry.clone()) });
            Ok(Arc::new(Explain::Delegate { path: path.clone(), dentry: None, next }))
        })
    }

    fn served(&self) -> Live<Served> {
        Live::constant(Served {
            namespace: Some("internal".into()),
            version: Some("AAAAAAAAAAI=".into()),
            confirmed: None,
            stale: None,
        })
    }

    fn bound_names(&self) -> Live<Arc<[Path]>> {
        Live::constant(Arc::from([path("/#/io.l5d.fs/web"), path("/#/io.l5d.fs/api")]))
    }

    fn state(&self) -> Value {
        json!({ "watching": 3 })
    }
}

struct Fixed;

impl Status for Fixed {
    fn clients(&self) -> Vec<ClientStatus> {
        let endpoint = Endpoint { addr: ([127, 0, 0, 1], 8080).into(), weight: 1.0, meta: Arc::default() };
        let addr = State::Ok(Addr::Bound { endpoints: [endpoint].into(), meta: Arc::default() });
        let failed = State::Failed("no route".into());
        [("/#/io.l5d.fs/web", addr), ("/#/io.l5d.fs/new", State::Pending), ("/#/io.l5d.fs/bad", failed)]
            .map(|(id, addr)| ClientStatus { id: id.into(), addr })
            .into()
    }

    fn requests(&self) -> Vec<RecentRequest> {
        let fine = request(1, "", Some(200), 1_000);
        let overridden = request(2, "/svc => /tmp", Some(200), 900_000);
        let failed = RecentRequest { error: Some("no route".into()), ..request(3, "", Some(502), 2_000) };
        vec![failed, overridden, fine]
    }
}

fn request(id: u64, local_dtab: &str, status: Option<u16>, total_micros: u64) -> RecentRequest {
    let attempt = Attempt {
        span_id: None,
        client: "/#/io.l5d.fs/web".into(),
        share: Some(0.1),
        endpoint: Some(([127, 0, 0, 1], 8080).into()),
        status,
        error: None,
        micros: 700,
    };
    RecentRequest {
        id,
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(id),
        peer: None,
        method: "GET".into(),
        host: Some("world".into()),
        uri: "/".into(),
        name: Some("/svc/world".into()),
        local_dtab: local_dtab.into(),
        bound_under: Dtab::read(local_dtab).expect("a dtab"),
        dtab_version: Some("AAAAAAAAAAE=".into()),
        trace_id: None,
        is_traced: false,
        attempts: vec![attempt],
        status,
        error: None,
        total_micros,
    }
}

#[derive(Default)]
struct Kept(Mutex<BTreeMap<String, String>>);

impl Levels for Kept {
    fn all(&self) -> Vec<Level> {
        let kept = self.0.lock().expect("not poisoned");
        kept.iter().map(|(logger, level)| Level { logger: logger.clone(), level: level.clone() }).collect()
    }

    fn set(&self, logger: &str, level: &str) -> Result<(), UnknownLevel> {
        if level != "DEBUG" {
            return Err(UnknownLevel(level.into()));
        }
        self.0.lock().expect("not poisoned").insert(logger.into(), level.into());
        Ok(())
    }
}

fn path(text: &str) -> Path {
    Path::read(text).expect("a path")
}

struct Server {
    base: String,
    client: reqwest::Client,
    shutdown: mpsc::Receiver<Option<Duration>>,
}

async fn serve(change: impl FnOnce(&mut Sources)) -> Server {
    let registry = Registry::default();
    registry.shared_counter(&["rt", "out", "service", "svc/world", "requests"]).add(8);
    let (sender, shutdown) = mpsc::channel(1);
    let router = RouterSource {
        label: "out".into(),
        interpreter_kind: "io.l5d.namerd.http".into(),
        interpreter: Arc::new(OneStep),
        dtab: Dtab::read("/base => /host").expect("a dtab"),
        status: Arc::new(Fixed),
    };
    let mut sources = Sources {
        exporters: telemetry::export::Reports::default(),
        registry,
        prometheus: Vec::new(),
        influxdb: false,
        history: Arc::default(),
        routers: vec![router],
        namers: Vec::new(),
        bare: Arc::new(OneStep),
        config: json!({ "routers": [{ "protocol": "http" }] }),
        levels: Some(Arc::new(Kept::default())),
        shutdown: sender,
        readiness: Readiness::default(),
        reloads: Reloads::new().0,
        security: Security::build(SecurityConfig::default()).expect("valid"),
        started: std::time::Instant::now(),
        tls: tls::Reloader::default(),
        version: "switchyard 0.1.0".into(),
    };
    change(&mut sources);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, routes(sources)).await });
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_backend_preconfigured(tls::client::nobody())
        .build()
        .expect("a client");
    Server { base, client, shutdown }
}

impl Server {
    async fn get(&self, path: &str) -> (u16, String) {
        answer(self.client.get(format!("{}{path}", self.base))).await
    }

    async fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect(path)
    }

    async fn post(&self, path: &str, kind: &str, body: &str) -> (u16, String) {
        let request = self.client.post(format!("{}{path}", self.base));
        answer(request.header("content-type", kind.to_owned()).body(body.to_owned())).await
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, String) {
    let response = request.send().await.expect("an answer");
    (response.status().as_u16(), response.text().await.expect("a body"))
}

#[tokio::test]
async fn simple_endpoints_answer_as_the_original() {
    let server = serve(|_| {}).await;
    assert_eq!(server.get("/admin/ping").await, (200, "pong".into()));
    assert_eq!(server.json("/config.json").await, json!({ "routers": [{ "protocol": "http" }] }));
    assert_eq!(server.json("/bound-names.json").await, json!(["/#/io.l5d.fs/api", "/#/io.l5d.fs/web"]));
    let clients = json!({
        "/#/io.l5d.fs/web": { "state": "bound", "addresses": ["127.0.0.1:8080"] },
        "/#/io.l5d.fs/new": { "state": "Pending" },
        "/#/io.l5d.fs/bad": { "state": "Failed: no route" },
    });
    assert_eq!(server.json("/client_state.json").await, clients);
    let (_, index) = server.get("/admin").await;
    assert!(
        index.contains("/admin/ping\n") && index.contains("/out/interpreter_state/io.l5d.namerd.http/internal.json\n")
    );
    assert!(index.lines().is_sorted());
    assert_eq!(server.json("/out/interpreter_state/io.l5d.namerd.http/internal.json").await, json!({ "watching": 3 }));
    for missing in
        ["/nothing", "/metrics.json", "/admin/metrics", "/namer_state/x.json", "/out/interpreter_state/x.json"]
    {
        assert_eq!(server.get(missing).await.0, 404, "{missing}");
    }
    assert_eq!(server.json("/admin/server_info").await["version"], "0.1.0");
}

#[tokio::test]
async fn metrics_are_shown_in_both_shapes() {
    let server = serve(|_| {}).await;
    assert_eq!(server.json("/admin/metrics.json").await, json!({ "rt/out/service/svc/world/requests": 8 }));
    assert_eq!(
        server.json("/admin/metrics.json?tree=1&q=rt/out/service").await,
        json!({ "svc/world": { "requests": { "counter": 8 } } })
    );
    let (status, body) = server.get("/admin/metrics.json?q=no").await;
    assert_eq!((status, body.as_str()), (404, r#"{"error": "No such subtree: no"}"#));
    assert_eq!(server.get("/admin/metrics/prometheus").await, (200, ORIGINAL.into()));
}

const ORIGINAL: &str = "# HELP rt:service:requests Requests that ended or are under way.\n\
    # TYPE rt:service:requests counter\n\
    rt:service:requests{rt=\"out\", service=\"svc/world\"} 8\n";

#[tokio::test]
async fn prometheus_gets_openmetrics_where_it_asks_and_the_originals_telemeter_tells_the_originals() {
    let scrape = async |server: &Server| {
        let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        let request = server.client.get(format!("{}/admin/metrics/prometheus", server.base));
        let response = request.header("accept", accept).send().await.expect("an answer");
        let kind = response.headers()["content-type"].to_str().expect("a text").to_owned();
        (kind, response.text().await.expect("a body"))
    };
    let (kind, text) = scrape(&serve(|_| {}).await).await;
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let expected = "# TYPE rt:service:requests counter\n\
        # HELP rt:service:requests Requests that ended or are under way.\n\
        rt:service:requests_total{rt=\"out\",service=\"svc/world\"} 8\n# EOF\n";
    assert_eq!(text, expected);
    let configured = proxy::admin::Prometheus { openmetrics: false, ..Default::default() };
    let (kind, text) = scrape(&serve(|sources| sources.prometheus.push(configured)).await).await;
    assert_eq!(kind, "text/plain; version=0.0.4");
    assert_eq!(text, ORIGINAL);
}

#[tokio::test]
async fn influxdb_is_told_where_it_is_configured() {
    let server = serve(|_| {}).await;
    assert_eq!(server.get("/admin/metrics/influxdb").await.0, 404);
    let server = serve(|sources| sources.influxdb = true).await;
    let host = server.base.strip_prefix("http://").expect("a URL");
    let expected = format!("rt:service,host={host},rt=out,service=svc/world requests=8\n");
    assert_eq!(server.get("/admin/metrics/influxdb").await, (200, expected));
    assert!(server.get("/admin").await.1.lines().any(|line| line == "/admin/metrics/influxdb"));
}

#[tokio::test]
async fn delegations_and_their_errors_are_the_originals() {
    let server = serve(|_| {}).await;
    let delegated = r#"{"type":"delegate","path":"/foo","delegate":{"type":"neg","path":"/bar","dentry":{"prefix":"/foo","dst":"/bar"}}}"#;
    let cases = [
        ("?dtab=/foo%3D%3E/bar&path=/foo", 200, delegated),
        ("?namespace=out&dtab=/foo%3D%3E/bar&path=/foo", 200, delegated),
        ("?path=/foo", 200, r#"{"type":"neg","path":"/foo"}"#),
        ("?namespace=ghost&path=/foo", 501, "Name Interpreter for ghost cannot show delegations"),
        ("?namespace=out&path=/const", 501, "Name Interpreter for out cannot show delegations"),
        ("?path=/broken", 500, "it broke"),
        ("?path=/slow", 503, "Request timed out."),
        ("?path=x", 400, "Invalid path: x / '/' expected but 'x' found at '[x]'"),
    ];
    for (query, status, body) in cases {
        assert_eq!(server.get(&format!("/delegator.json{query}")).await, (status, body.to_owned()), "{query}");
    }
    assert!(server.get("/delegator.json?path=/x&dtab=oops").await.1.starts_with("Invalid dtab: "));
    let posted = r#"{"namespace":"out","dtab":"/foo=>/bar","path":"/foo"}"#;
    assert_eq!(server.post("/delegator.json", "application/json", posted).await, (200, delegated.to_owned()));
    for kind in ["application/json; charset=utf-8", "Application/JSON;charset=utf-8"] {
        assert_eq!(server.post("/delegator.json", kind, posted).await, (200, delegated.to_owned()), "{kind}");
    }
    for kind in ["text/plain", "application/jsonp", "text/json", ""] {
        assert_eq!(server.post("/delegator.json", kind, posted).await.0, 415, "{kind}");
    }
    let bad_path = server.post("/delegator.json", "application/json", r#"{"dtab":"","path":"x"}"#).await;
    assert_eq!(bad_path, (400, "Invalid path: '/' expected but 'x' found at '[x]'".into()));
    let malformed = server.post("/delegator.json", "application/json", "{").await;
    assert_eq!(malformed, (400, "Malformed delegation request: {".into()));
    let put = server.client.put(format!("{}/delegator.json", server.base));
    assert_eq!(answer(put).await.0, 405);
}

#[tokio::test]
async fn a_shutdown_needs_post_and_hands_on_its_grace() {
    let mut server = serve(|_| {}).await;
    let refused = server.client.get(format!("{}/admin/shutdown", server.base)).send().await.expect("an answer");
    assert_eq!((refused.status().as_u16(), refused.headers()["allow"].to_str().ok()), (405, Some("POST")));
    assert_eq!(server.post("/admin/shutdown?grace=nonsense", "text/plain", "").await.0, 400);
    assert!(server.shutdown.try_recv().is_err());
    let accepted = server.post("/admin/shutdown?grace=5.seconds", "text/plain", "").await;
    assert_eq!(accepted, (200, "quitting\n".into()));
    assert_eq!(server.shutdown.recv().await, Some(Some(Duration::from_secs(5))));
    server.post("/admin/shutdown", "text/plain", "").await;
    assert_eq!(server.shutdown.recv().await, Some(None));
}

#[tokio::test]
async fn levels_change_where_the_process_allows_it() {
    let server = serve(|_| {}).await;
    let form = "application/x-www-form-urlencoded";
    let changed = server.post("/logging.json", form, "logger=root&level=DEBUG").await;
    assert_eq!(changed, (200, r#"[{"logger":"root","level":"DEBUG"}]"#.into()));
    assert_eq!(server.get("/logging.json").await, changed);
    assert_eq!(server.post("/logging.json", form, "logger=root").await.0, 400);
    assert_eq!(server.post("/logging.json", form, "logger=root&level=LOUD").await.0, 400);
    let fixed = serve(|sources| sources.levels = None).await;
    assert_eq!(fixed.get("/logging.json").await.0, 501);
}

#[tokio::test]
async fn recent_requests_are_filtered_and_explained() {
    let server = serve(|_| {}).await;
    let ids = async |query: &str| {
        let list = server.json(&format!("/admin/requests.json{query}")).await;
        list.as_array().expect("a list").iter().map(|request| request["id"].as_u64()).collect::<Vec<_>>()
    };
    assert_eq!(ids("").await, [Some(3), Some(2), Some(1)]);
    assert_eq!(ids("?filter=failed").await, [Some(3)]);
    assert_eq!(ids("?filter=overridden").await, [Some(2)]);
    assert_eq!(ids("?filter=slow&router=out").await, [Some(2)]);
    assert_eq!(ids("?filter=slow&slowMs=2&limit=1").await, [Some(3)]);
    assert_eq!(server.get("/admin/requests.json?filter=odd").await.0, 400);
    assert_eq!(server.get("/admin/requests.json?router=ghost").await.0, 404);
    let why = server.json("/admin/requests/2").await;
    assert_eq!(why["remarkable"][0], json!({ "kind": "overridden", "why": "the request brought /svc => /tmp" }));
    assert_eq!((&why["dtabVersion"], &why["dtabVersionNow"]), (&json!("AAAAAAAAAAE="), &json!("AAAAAAAAAAI=")));
    assert_eq!(why["explained"]["delegate"]["path"], "/tmp/world");
    assert_eq!((&why["ourMicros"], &why["retries"]), (&json!(899_300), &json!(0)));
    assert_eq!(server.get("/admin/requests/99").await.0, 404);
}

#[tokio::test]
async fn readiness_and_reloads_are_told() {
    let readiness = Readiness::default();
    let (reloads, mut asked) = Reloads::new();
    let (own, kept) = (readiness.clone(), reloads.clone());
    let server = serve(|sources| {
        sources.readiness = own;
        sources.reloads = reloads;
    })
    .await;
    let phases =
        [(Phase::Starting, 503, "starting\n"), (Phase::Ready, 200, "ready\n"), (Phase::Draining, 503, "draining\n")];
    for (phase, status, text) in phases {
        readiness.set(phase);
        assert_eq!(server.get("/admin/ready").await, (status, text.to_owned()));
        assert_eq!(server.get("/admin/ping").await, (200, "pong".to_owned()));
    }
    assert_eq!(server.json("/admin/reload").await, json!({ "last": null }));
    let keeping = kept.clone();
    tokio::spawn(async move {
        let tell = asked.recv().await.expect("asked");
        let reloaded = Reloaded { status: 409, document: json!({ "result": "needsRestart" }) };
        keeping.keep(&reloaded);
        tell.send(reloaded).expect("somebody waits");
        // From here on nobody reloads.
    });
    let (status, body) = server.post("/admin/reload", "text/plain", "").await;
    assert_eq!(
        (status, serde_json::from_str::<Value>(&body).expect("JSON")["result"].clone()),
        (409, json!("needsRestart"))
    );
    assert_eq!(server.json("/admin/reload").await["last"]["result"], "needsRestart");
    assert_eq!(server.json("/admin/overview.json").await["process"]["reload"]["result"], "needsRestart");
    let (status, body) = server.post("/admin/reload", "text/plain", "").await;
    assert!(status == 503 && body.contains("is ending"), "{status} {body}");
}

#[tokio::test]
async fn the_overview_tells_what_was_measured_and_null_for_the_rest() {
    let server = serve(|sources| {
        let mut history = sources.history.lock().expect("not poisoned");
        history.sample(&sources.registry, Duration::from_secs(1));
        let client = ["rt", "out", "client", "#/io.l5d.fs/web", "requests"];
        sources.registry.shared_counter(&client).add(30);
        sources
            .registry
            .shared_counter(&["rt", "out", "client", "#/io.l5d.fs/web", "service", "svc/world", "requests"])
            .inc();
        history.sample(&sources.registry, Duration::from_secs(6));
    })
    .await;
    let overview = server.json("/admin/overview.json").await;
    assert_eq!(overview["process"]["residentBytes"], Value::Null);
    let router = &overview["routers"][0];
    assert_eq!(router["interpreter"]["version"], "AAAAAAAAAAI=");
    assert_eq!(router["services"][0]["requests"], 8);
    let client = &router["clients"][0];
    assert_eq!(client["addr"]["endpoints"][0]["addr"], "127.0.0.1:8080");
    assert_eq!(client["services"], json!([{ "requests": 1, "failures": 0, "name": "svc/world" }]));
    let last = json!({ "seconds": 5.0, "requests": 30, "failures": 0, "perSecond": 6.0, "latencyMs": null });
    assert_eq!((&client["last"], &client["columns"]), (&last, &Value::Null));
    let chosen = server.json("/admin/overview.json?router=out").await;
    assert_eq!(chosen["routers"][0]["services"][0]["columns"].as_array().map(Vec::len), Some(1));
    assert_eq!(server.get("/admin/overview.json?router=ghost").await.0, 404);
    for (columns, of_servers, of_services) in [("all", 1, 1), ("servers", 1, 0), ("none", 0, 0)] {
        let shown = server.json(&format!("/admin/overview.json?router=out&columns={columns}")).await;
        let router = &shown["routers"][0];
        let count = |part: &Value| part["columns"].as_array().map_or(0, Vec::len);
        assert_eq!(count(&router["services"][0]), of_services, "{columns}: {shown}");
        assert!(router["servers"].as_array().is_some_and(|all| all.iter().all(|one| count(one) == of_servers)));
    }
    assert_eq!(server.get("/admin/overview.json?columns=some").await.0, 400);
}

#[tokio::test]
async fn a_page_of_another_origin_cannot_stop_a_router() {
    let mut server = serve(|_| {}).await;
    let statuses =
        [("https://elsewhere.example".to_owned(), 403), ("null".to_owned(), 403), (server.base.clone(), 200)];
    for (origin, status) in statuses {
        let post = server.client.post(format!("{}/admin/shutdown", server.base)).header("origin", &origin);
        assert_eq!(answer(post).await.0, status, "{origin}");
        assert_eq!(server.shutdown.try_recv().is_ok(), status == 200, "{origin}");
    }
}

#[tokio::test]
async fn security_keys_hide_what_they_should() {
    let config = SecurityConfig { control_enabled: false, ..SecurityConfig::default() };
    let server = serve(|sources| sources.security = Security::build(config).expect("valid")).await;
    assert_eq!(server.post("/admin/shutdown", "text/plain", "").await.0, 404);
    assert_eq!(server.get("/admin/ping").await.0, 200);
}

#[tokio::test]
async fn pages_show_what_the_endpoints_answer() {
    let server = serve(|sources| {
        let client = |name: &str| ["rt", "out", "client", name, "requests"].map(str::to_owned);
        for name in ["#/io.l5d.fs/web", "#/io.l5d.fs/bad"] {
            let path = client(name);
            sources.registry.shared_counter(&path.each_ref().map(String::as_str)).add(8);
        }
    })
    .await;
    let page = async |path: &str, status: u16| {
        let response = server.client.get(format!("{}{path}", server.base)).send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), status, "{path}");
        let policy = response.headers()["content-security-policy"].to_str().expect("text").to_owned();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        response.text().await.expect("a body")
    };
    let overview = page("/", 200).await;
    for shown in ["/svc/world", "/#/io.l5d.fs/", "127.0.0.1:8080", "no route", "l5d-dtab", "/requests/2"] {
        assert!(overview.contains(shown), "{shown} in\n{overview}");
    }
    let failed = page("/?router=out&filter=failed", 200).await;
    assert!(failed.contains("/requests/3") && !failed.contains("/requests/2"), "{failed}");
    assert!(page("/?router=ghost", 404).await.contains("No router is called ghost."));
    let why = page("/requests/2", 200).await;
    assert!(why.contains("carries an override") && why.contains("AAAAAAAAAAE="), "{why}");
    page("/requests/99", 404).await;
    let explained = page("/delegator?path=/foo&dtab=/foo%3D%3E/bar", 200).await;
    assert!(explained.contains("goes nowhere") && explained.contains("override"), "{explained}");
    let under_base = page("/delegator?path=/base/a&dtab=/foo%3D%3E/bar", 200).await;
    for shown in ["/host/a", "data-entry=\"1\"", "dtab=%2Fbase%3D%3E%2Fhost%3B%2Ffoo%3D%3E%2Fbar"] {
        assert!(under_base.contains(shown), "{shown} in\n{under_base}");
    }
    assert!(page("/delegator?path=/broken", 200).await.contains("it broke"));
    assert!(page("/delegator?path=x", 200).await.contains("x is not a path"));
    page("/delegator", 200).await;
}

#[tokio::test]
async fn pages_link_to_the_other_parts_that_the_document_names() {
    let links = json!({ "admin": { "links": { "control": "http://control.example:9991" } } });
    let server = serve(|sources| sources.config = links).await;
    let (_, overview) = server.get("/").await;
    assert!(overview.contains("<a href=\"http://control.example:9991\">"), "{overview}");
    assert!(!overview.contains(">Pipeline"), "a part without an address is not linked to");
    let hidden = SecurityConfig { ui_enabled: false, ..SecurityConfig::default() };
    let server = serve(|sources| sources.security = Security::build(hidden).expect("valid")).await;
    assert_eq!(server.get("/").await.0, 404);
    assert_eq!(server.get("/assets/page.js").await.0, 404);
}
