//! `switchyard router` as a process: documents, serving, admin, following a control plane, ending.
#![allow(clippy::unwrap_used)] // A test says what it needs by failing.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use common::{LIMIT, Namerd, switchyard};
use serde_json::{Value, json};
use testkit::http::{self, Answer, Connection, Request};
use testkit::process::{self, Process};
use testkit::recorder::{Recorder, Reply};
use testkit::until::until;

/// A router on free ports.
struct Router {
    process: Process,
    /// `host:port` of the first server.
    authority: String,
    /// `http://host:port`
    admin: String,
    _directory: tempfile::TempDir,
}

impl Router {
    /// One router, `out`, with these keys beside its label and servers; `more` at the top.
    fn start(keys: Value, more: Value) -> Router {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("linkerd.json");
        std::fs::write(&file, document(keys, more).to_string()).unwrap();
        let process = Process::start(switchyard().arg("router").arg(&file).args(["--workers", "2"]));
        let authority = after(&process.line("serving out on ", LIMIT), "serving out on ");
        let admin = after(&process.line("admin on ", LIMIT), "admin on ");
        Router { process, authority, admin: format!("http://{admin}"), _directory: directory }
    }

    /// A dtab and nothing else.
    fn with_dtab(dtab: &str) -> Router {
        Router::start(json!({ "dtab": dtab }), json!({}))
    }

    fn ask(&self, host: &str) -> Answer {
        ask(&self.authority, host, &[])
    }

    fn json(&self, path: &str) -> Value {
        let answer = http::get(&format!("{}{path}", self.admin), &[]);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// Waits until a request to `host` is answered with this text.
    #[track_caller]
    fn answers(&self, host: &str, text: &str) {
        until(&format!("{host} answers {text}"), LIMIT, || {
            let answer = self.ask(host);
            if (answer.status, answer.text().as_str()) == (200, text) { Ok(()) } else { Err(answer.text()) }
        });
    }
}

fn document(keys: Value, more: Value) -> Value {
    let mut router = json!({ "protocol": "http", "label": "out", "servers": [{ "port": 0 }] });
    merge(&mut router, keys);
    let mut document = json!({ "admin": { "port": 0 }, "routers": [router] });
    merge(&mut document, more);
    document
}

fn merge(into: &mut Value, more: Value) {
    let Value::Object(more) = more else { panic!("an object") };
    into.as_object_mut().unwrap().extend(more);
}

fn after(line: &str, text: &str) -> String {
    let (_, rest) = line.split_once(text).unwrap();
    rest.split_whitespace().next().unwrap().to_owned()
}

#[track_caller]
fn ask(authority: &str, host: &str, more: &[(&str, &str)]) -> Answer {
    let mut headers = vec![("Host", host), ("Connection", "close")];
    headers.extend_from_slice(more);
    let mut connection = Connection::open(authority).unwrap();
    connection.send(&Request { method: "GET", target: "/", headers: &headers, body: None }).unwrap()
}

/// An application that answers everything with this text.
fn app(text: &str) -> Recorder {
    Recorder::start(Reply::Script(Answer { status: 200, headers: Vec::new(), body: text.as_bytes().to_vec() }))
}

/// `/$/inet/127.0.0.1/PORT`
fn inet(app: &Recorder) -> String {
    format!("/$/inet/{}", app.authority.replace(':', "/"))
}

/// `switchyard router ARGUMENTS` that ends by itself.
fn run(arguments: &[&str], stdin: &str) -> process::Finished {
    process::run(switchyard().arg("router").args(arguments), stdin.as_bytes())
}

#[test]
fn a_request_goes_where_the_dtab_says() {
    let (web, api) = (app("I am web"), app("I am api"));
    let dtab = format!("/svc/web => {} ; /svc/api => {} ;", inet(&web), inet(&api));
    let router = Router::with_dtab(&dtab);
    assert_eq!(router.ask("web").text(), "I am web");
    assert_eq!(router.ask("api").text(), "I am api");
    let overridden = ask(&router.authority, "web", &[("l5d-dtab", "/svc/web => /svc/api")]);
    assert_eq!(overridden.text(), "I am api");
    let lost = router.ask("nobody");
    assert_eq!(lost.status, 502, "{}", lost.text());
    assert!(lost.text().contains("service name: /svc/nobody") && lost.header("l5d-err").is_some(), "{}", lost.text());
    let seen = &web.requests()[0];
    assert_eq!((seen.header("l5d-dst-service"), seen.header("via")), (Some("/svc/web"), Some("1.1 linkerd")));
}

#[test]
fn a_document_is_checked_whole_and_without_serving_it() {
    let good = document(json!({}), json!({ "usage": { "orgId": "x" } })).to_string();
    for flag in ["-validate", "--validate"] {
        let finished = run(&[flag, "-"], &good);
        assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{flag}");
    }
    let bad = "\
admin: {prt: 1}
routers:
- protocol: http
  servers:
  - port: 70000
  interpreter:
    kind: io.l5d.consul.interpreter
    host: x
- protocol: h2
namers:
- kind: io.l5d.consul
";
    let finished = run(&["-validate", "-"], bad);
    let expected = "\
error: standard input: admin.prt: unknown key, expected one of `ip`, `port`, `tls`, `socketOptions`, `workerThreads`, `shutdownGraceMs`, `httpIdentifierPort`, `security`, `links` (line 1)
error: standard input: routers[0].servers[0].port: invalid value: integer `70000`, expected a number from 0 to 65535 (line 5)
error: standard input: routers[0].interpreter.kind: the interpreter `io.l5d.consul.interpreter` is not supported yet (line 7)
error: standard input: routers[1].protocol: the protocol `h2` is not supported yet: use `http` (line 9)
error: standard input: namers[0].kind: the namer `io.l5d.consul` is not supported yet (line 11)
";
    assert_eq!((finished.code, finished.stderr.as_str()), (1, expected));
    // The same without the flag: nothing starts.
    let finished = run(&["-"], bad);
    assert_eq!((finished.code, finished.stderr.as_str()), (1, expected));
    let finished = run(&["-validate", "/no/such/file"], "");
    assert_eq!(finished.code, 1);
    assert!(finished.stderr.contains("/no/such/file"), "{}", finished.stderr);
}

#[test]
fn the_documents_of_examples_and_demo_are_good() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    for file in ["examples/linkerd.yaml", "examples/linkerd-alone.yaml", "examples/tracing.yaml"] {
        let finished = run(&["-validate", &format!("{root}/{file}")], "");
        assert_eq!(finished.code, 0, "{file}: {}", finished.stderr);
    }
    // The demo puts ports into its template; any will do.
    let template =
        std::fs::read_to_string(format!("{root}/crates/switchyard/src/demo/templates/linkerd.yaml")).unwrap();
    let filled = [4140, 4141, 4142, 4180, 8080, 9990, 9991]
        .iter()
        .fold(template, |text, port| text.replace(&format!("{{{port}}}"), &port.to_string()));
    let finished = run(&["-validate", "-"], &filled);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
}

#[test]
fn a_document_comes_from_standard_input_too() {
    let web = app("from stdin");
    let text = document(json!({ "dtab": format!("/svc => {}", inet(&web)) }), json!({})).to_string();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("document");
    std::fs::write(&file, text).unwrap();
    // `linkerd - < file`, under its own name.
    let linkerd = directory.path().join("linkerd");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_switchyard"), &linkerd).unwrap();
    let script = format!("exec {} - < {}", linkerd.display(), file.display());
    let process = Process::start(std::process::Command::new("sh").args(["-c", &script]));
    let authority = after(&process.line("serving out on ", LIMIT), "serving out on ");
    assert_eq!(ask(&authority, "web", &[]).text(), "from stdin");
}

#[test]
fn a_port_that_is_taken_is_named_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let cases = [
        (document(json!({ "servers": [{ "port": 0 }, { "port": port }] }), json!({})), "routers[0].servers[1].port"),
        (document(json!({}), json!({ "admin": { "port": port } })), "admin.port"),
    ];
    for (document, key) in cases {
        let finished = run(&["-"], &document.to_string());
        assert_eq!(finished.code, 1, "{}", finished.stderr);
        let expected =
            format!("error: standard input: {key}: cannot listen on 127.0.0.1:{port}: Address already in use");
        assert!(finished.stderr.contains(&expected), "{}", finished.stderr);
    }
}

/// An application that answers when it is told to.
struct Slow {
    authority: String,
    arrived: mpsc::Receiver<()>,
    go: mpsc::Sender<()>,
}

impl Slow {
    fn start() -> Slow {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let (here, arrived) = mpsc::channel();
        let (go, wait) = mpsc::channel();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            read_head(&stream);
            here.send(()).unwrap();
            wait.recv().unwrap();
            let mut stream = stream;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow").unwrap();
        });
        Slow { authority, arrived, go }
    }
}

fn read_head(stream: &TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
}

/// A request in flight, then `end`: the request is answered, new ones are refused, and the process
/// ends with 0.
#[track_caller]
fn drains(end: impl FnOnce(&Router)) {
    let slow = Slow::start();
    let mut router = Router::with_dtab(&format!("/svc => /$/inet/{}", slow.authority.replace(':', "/")));
    let authority = router.authority.clone();
    let asking = std::thread::spawn(move || ask(&authority, "web", &[]));
    slow.arrived.recv_timeout(LIMIT).expect("the request arrived");
    end(&router);
    until("nobody listens any more", LIMIT, || match TcpStream::connect(&router.authority) {
        Err(_) => Ok(()),
        Ok(_) => Err("connected"),
    });
    // Metrics stay readable while requests drain.
    assert_eq!(http::get(&format!("{}/admin/ping", router.admin), &[]).text(), "pong");
    slow.go.send(()).unwrap();
    let answer = asking.join().unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "slow"));
    assert_eq!(router.process.wait(LIMIT), 0, "{}", router.process.text());
}

#[test]
fn a_signal_ends_it_when_requests_in_flight_are_answered() {
    drains(|router| router.process.signal("TERM"));
}

#[test]
fn a_post_ends_it_when_requests_in_flight_are_answered() {
    drains(|router| {
        let url = format!("{}/admin/shutdown", router.admin);
        assert_eq!(http::get(&url, &[]).status, 405);
        assert_eq!(http::request("POST", &url, &[], Some(b"")).unwrap().text(), "quitting\n");
    });
}

#[test]
fn requests_that_outlast_the_grace_are_cut() {
    let slow = Slow::start();
    let mut router = Router::with_dtab(&format!("/svc => /$/inet/{}", slow.authority.replace(':', "/")));
    let authority = router.authority.clone();
    let asking = std::thread::spawn(move || {
        let mut connection = Connection::open(&authority).unwrap();
        let headers = [("Host", "web")];
        connection.send(&Request { method: "GET", target: "/", headers: &headers, body: None }).is_ok()
    });
    slow.arrived.recv_timeout(LIMIT).expect("the request arrived");
    let url = format!("{}/admin/shutdown?grace=50.milliseconds", router.admin);
    assert_eq!(http::request("POST", &url, &[], Some(b"")).unwrap().text(), "quitting\n");
    assert_eq!(router.process.wait(LIMIT), 0, "{}", router.process.text());
    assert!(!asking.join().unwrap(), "an answer from nobody");
}

#[test]
fn the_admin_server_tells_what_the_router_does() {
    let web = app("hello");
    let telemetry = json!([
        { "kind": "io.l5d.prometheus", "path": "/metrics", "prefix": "l5d_" },
        { "kind": "io.l5d.recentRequests", "sampleRate": 1.0, "capacity": 20 },
    ]);
    let disco = tempfile::tempdir().unwrap();
    std::fs::write(disco.path().join("web"), format!("{}\n", web.authority.replace(':', " "))).unwrap();
    let namers = json!([{ "kind": "io.l5d.fs", "rootDir": disco.path() }]);
    let more = json!({ "telemetry": telemetry, "namers": namers, "usage": { "orgId": "me" } });
    let router = Router::start(json!({ "dtab": "/svc => /#/io.l5d.fs", "client": {} }), more);
    for _ in 0..3 {
        assert_eq!(router.ask("web").text(), "hello");
    }
    assert_eq!(http::get(&format!("{}/admin/ping", router.admin), &[]).text(), "pong");
    let config = router.json("/config.json");
    assert_eq!(config["routers"][0]["dtab"], "/svc => /#/io.l5d.fs");
    assert_eq!(config["routers"][0]["client"], json!({ "kind": "io.l5d.global" }));
    assert_eq!(router.json("/bound-names.json"), json!(["/#/io.l5d.fs/web"]));
    let state = json!({ "/#/io.l5d.fs/web": { "state": "bound", "addresses": [web.authority] } });
    assert_eq!(router.json("/client_state.json"), state);
    let tree = router.json("/delegator.json?namespace=out&path=/svc/web&dtab=/svc%3D%3E/%23/io.l5d.fs");
    assert_eq!((&tree["type"], &tree["path"]), (&json!("delegate"), &json!("/svc/web")), "{tree}");
    assert_eq!(router.json("/namer_state/io.l5d.fs.json")["files"]["web"]["endpoints"], 1);

    let server = format!("rt/out/server/{}", router.authority.replace(':', "/"));
    let counted = until("the requests are counted", LIMIT, || {
        let metrics = router.json("/admin/metrics.json");
        if metrics["rt/out/service/svc/web/requests"] == 3 { Ok(metrics) } else { Err(metrics) }
    });
    assert_eq!(counted["rt/out/client/#/io.l5d.fs/web/requests"], 3, "{counted}");
    let by_server: Vec<&Value> = counted
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| name.ends_with("/requests") && name.starts_with("rt/out/server/"))
        .map(|(_, value)| value)
        .collect();
    assert_eq!(by_server, [&json!(3)], "{server}");
    let nested = router.json("/admin/metrics.json?tree=1&q=rt/out/service");
    assert_eq!(nested["svc/web"]["requests"], json!({ "counter": 3 }));
    let pretty = http::get(&format!("{}/admin/metrics.json?pretty=1", router.admin), &[]).text();
    assert!(pretty.contains("\n  \"rt/out/service/svc/web/requests\": 3"), "{pretty}");
    let prometheus = http::get(&format!("{}/metrics", router.admin), &[]).text();
    assert!(prometheus.contains("l5d_rt:service:requests{rt=\"out\", service=\"svc/web\"} 3\n"), "{prometheus}");
    assert_eq!(http::get(&format!("{}/admin/metrics/prometheus", router.admin), &[]).status, 404);

    let recent = until("the requests are remembered", LIMIT, || {
        let recent = router.json("/admin/requests.json");
        if recent.as_array().map(Vec::len) == Some(3) { Ok(recent) } else { Err(recent) }
    });
    assert_eq!(recent[0]["attempts"][0]["client"], "/#/io.l5d.fs/web");
    assert!(router.process.text().contains("nothing is sent"), "{}", router.process.text());
}

#[test]
fn as_many_requests_are_remembered_as_the_document_says() {
    let web = app("hello");
    let telemetry = json!([{ "kind": "io.l5d.recentRequests", "sampleRate": 0.0, "capacity": 2 }]);
    let router =
        Router::start(json!({ "dtab": format!("/svc/web => {}", inet(&web)) }), json!({ "telemetry": telemetry }));
    assert_eq!(router.ask("web").text(), "hello");
    for host in ["a", "b", "c"] {
        assert_eq!(router.ask(host).status, 502);
    }
    // Written down when the answer is out, newest first.
    until("the newest two failures are remembered, and nothing else", LIMIT, || {
        let recent = router.json("/admin/requests.json");
        let names: Vec<Value> = recent.as_array().unwrap().iter().map(|request| request["name"].clone()).collect();
        if names == [json!("/svc/c"), json!("/svc/b")] { Ok(()) } else { Err(recent) }
    });
}

#[test]
fn log_levels_change_while_it_runs() {
    let router = Router::with_dtab("");
    let url = format!("{}/logging.json", router.admin);
    let level = |logger: &str| {
        let levels = router.json("/logging.json");
        let row = levels.as_array().unwrap().iter().find(|row| row["logger"] == logger).cloned();
        row.unwrap_or_else(|| panic!("{logger} in {levels}"))["level"].as_str().unwrap().to_owned()
    };
    assert_eq!((level("root"), level("proxy")), ("INFO".into(), "INFO".into()));
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    assert_eq!(http::request("POST", &url, &form, Some(b"logger=proxy&level=DEBUG")).unwrap().status, 200);
    assert_eq!((level("root"), level("proxy")), ("INFO".into(), "DEBUG".into()));
    router.process.line("log level changed", LIMIT);
    assert_eq!(http::request("POST", &url, &form, Some(b"logger=proxy&level=LOUD")).unwrap().status, 400);
}

#[test]
fn a_dtab_file_is_followed_and_a_bad_one_changes_nothing() {
    let (blue, green) = (app("blue"), app("green"));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dtab");
    std::fs::write(&file, format!("/svc => {} ;\n", inet(&blue))).unwrap();
    let router = Router::start(json!({ "interpreter": { "kind": "io.l5d.fs", "dtabFile": file } }), json!({}));
    assert_eq!(router.ask("web").text(), "blue");
    std::fs::write(&file, format!("/svc => {} ;\n", inet(&green))).unwrap();
    router.answers("web", "green");
    std::fs::write(&file, "/svc -> nonsense\n").unwrap();
    router.process.line("bad dtab file", LIMIT);
    assert_eq!(router.ask("web").text(), "green");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(router.ask("web").text(), "green");
    std::fs::write(&file, format!("/svc => {} ;\n", inet(&blue))).unwrap();
    router.answers("web", "blue");
}

#[test]
fn what_cannot_be_built_is_named_with_its_key() {
    let cases = [
        (
            json!({}),
            json!({ "namers": [{ "kind": "io.l5d.fs", "rootDir": "/no/such/dir" }] }),
            "namers[0].rootDir: `/no/such/dir` is not a directory",
        ),
        (
            json!({ "interpreter": { "kind": "io.l5d.fs", "dtabFile": "/no/such/file" } }),
            json!({}),
            "routers[0].interpreter.dtabFile: `/no/such/file` is not a file",
        ),
    ];
    for (keys, more, expected) in cases {
        let finished = run(&["-"], &document(keys, more).to_string());
        assert_eq!((finished.code, finished.stderr), (1, format!("error: standard input: {expected}\n")));
    }
}

/// A control plane on a port of its own, which can be killed and begun again on its store.
struct Plane {
    namerd: Option<Namerd>,
    document: Value,
    api: String,
    _directory: tempfile::TempDir,
    _offset: testkit::ports::Offset,
}

impl Plane {
    fn start() -> Plane {
        let offset = testkit::ports::take(&[4180]);
        let port = 4180 + offset.value;
        let directory = tempfile::tempdir().unwrap();
        let document = json!({
            "admin": { "port": 0 },
            "storage": { "kind": "io.switchyard.sqlite", "path": directory.path().join("dtabs.db") },
            "interfaces": [{ "kind": "io.l5d.httpController", "port": port }],
        });
        let namerd = Some(Namerd::with(document.clone()));
        let api = format!("http://127.0.0.1:{port}");
        Plane { namerd, document, api, _directory: directory, _offset: offset }
    }

    fn kill(&mut self) {
        self.namerd = None;
    }

    fn begin(&mut self) {
        self.namerd = Some(Namerd::with(self.document.clone()));
    }

    fn write(&self, method: &str, query: &str, dtab: &str) -> Answer {
        let url = format!("{}/api/1/dtabs/internal{query}", self.api);
        http::request(method, &url, &[("Content-Type", "application/dtab")], Some(dtab.as_bytes())).unwrap()
    }

    /// The one router of the fleet.
    #[track_caller]
    fn router(&self, what: &str, fact: impl Fn(&Value) -> bool) -> Value {
        until(what, LIMIT, || {
            let fleet = http::get(&format!("{}/api/1/fleet", self.api), &[]).json();
            match fleet["routers"].as_array().map(Vec::as_slice) {
                Some([router]) if fact(router) => Ok(router.clone()),
                _ => Err(fleet.to_string()),
            }
        })
    }

    /// A router that follows it.
    fn follower(&self) -> Router {
        let dst = format!("/$/inet/{}", self.api.trim_start_matches("http://").replace(':', "/"));
        let interpreter =
            json!({ "kind": "io.l5d.namerd.http", "dst": dst, "namespace": "internal", "experimental": true });
        Router::start(json!({ "interpreter": interpreter }), json!({}))
    }
}

#[test]
fn a_change_of_the_dtab_is_applied_when_the_write_returns() {
    let (blue, green) = (app("blue"), app("green"));
    let plane = Plane::start();
    assert_eq!(plane.write("POST", "", &format!("/svc => {}", inet(&blue))).status, 204);
    let mut router = plane.follower();
    assert_eq!(router.ask("web").text(), "blue");
    let found =
        plane.router("the router is in the fleet", |router| router["namespaces"]["internal"]["current"] == true);
    assert_eq!(
        (&found["router"], &found["admin"], &found["state"]),
        (&json!("out"), &json!(router.admin), &json!("live"))
    );
    let process = found["process"].as_str().unwrap();
    assert_eq!(process.rsplit(':').next().unwrap(), router.process.pid().to_string(), "{process}");

    for (text, target) in [("green", &green), ("blue", &blue), ("green", &green)] {
        let written = plane.write("PUT", "?wait=5s", &format!("/svc => {}", inet(target)));
        assert_eq!((written.status, written.header("l5d-fleet")), (204, Some("1")), "{}", written.text());
        // No waiting here: that is what the 204 means.
        assert_eq!(router.ask("web").text(), text);
        let version = written.header("etag").unwrap().to_owned();
        plane.router("the fleet shows the version", |router| router["namespaces"]["internal"]["version"] == version);
    }
    let overview = router.json("/admin/overview.json");
    let interpreter = &overview["routers"][0]["interpreter"];
    assert_eq!((&interpreter["kind"], &interpreter["namespace"]), (&json!("io.l5d.namerd.http"), &json!("internal")));
    assert_eq!(interpreter["stale"], Value::Null, "{interpreter}");
    let path = "/out/interpreter_state/io.l5d.namerd.http/internal.json";
    assert!(router.json(path).is_object());
    // One that ends says goodbye: nobody waits for it.
    router.process.signal("TERM");
    assert_eq!(router.process.wait(LIMIT), 0, "{}", router.process.text());
    let written = plane.write("PUT", "?wait=5s", "/svc => /nowhere");
    assert_eq!((written.status, written.header("l5d-fleet")), (204, Some("0")), "{}", written.text());
}

#[test]
fn without_its_control_plane_a_router_serves_on_and_catches_up() {
    let (blue, green) = (app("blue"), app("green"));
    let mut plane = Plane::start();
    assert_eq!(plane.write("POST", "", &format!("/svc => {}", inet(&blue))).status, 204);
    let router = plane.follower();
    assert_eq!(router.ask("web").text(), "blue");
    plane.kill();
    until("the router knows that it is alone", LIMIT, || {
        let overview = router.json("/admin/overview.json");
        let stale = overview["routers"][0]["interpreter"]["stale"].clone();
        if stale.is_string() { Ok(()) } else { Err(overview) }
    });
    assert_eq!(router.ask("web").text(), "blue");
    plane.begin();
    plane.router("the router is back in the fleet", |router| router["state"] == "live");
    let written = plane.write("PUT", "?wait=30s", &format!("/svc => {}", inet(&green)));
    assert_eq!((written.status, written.header("l5d-fleet")), (204, Some("1")), "{}", written.text());
    assert_eq!(router.ask("web").text(), "green");
}

#[test]
fn a_router_that_starts_before_its_control_plane_waits_for_it() {
    let blue = app("blue");
    let mut plane = Plane::start();
    assert_eq!(plane.write("POST", "", &format!("/svc => {}", inet(&blue))).status, 204);
    plane.kill();
    let router = plane.follower();
    let authority = router.authority.clone();
    let asking = std::thread::spawn(move || ask(&authority, "web", &[]));
    plane.begin();
    assert_eq!(asking.join().unwrap().text(), "blue", "{}", router.process.text());
}

#[test]
fn the_identifier_port_tells_what_a_request_would_be_called() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("linkerd.json");
    let identifier = json!([{ "kind": "io.l5d.path", "segments": 2 }, { "kind": "io.l5d.header.token" }]);
    let document = document(
        json!({ "identifier": identifier, "dtab": "/a => /b" }),
        json!({ "admin": { "port": 0, "httpIdentifierPort": 0 } }),
    );
    std::fs::write(&file, document.to_string()).unwrap();
    let process = Process::start(switchyard().arg("router").arg(&file));
    let authority = after(&process.line("identifying on ", LIMIT), "identifying on ");
    let said = |target: &str, headers: &[(&str, &str)]| {
        let mut connection = Connection::open(&authority).unwrap();
        connection.send(&Request { method: "GET", target, headers, body: None }).unwrap().json()
    };
    let web = said("/x", &[("Host", "web"), ("l5d-dtab", "/c => /d")]);
    assert_eq!(web, json!({ "out": { "path": "/svc/web", "dtab": "/a=>/b;/c=>/d" } }));
    let by_path = said("/x/y?z", &[("Host", "web")]);
    assert_eq!(by_path, json!({ "out": { "path": "/svc/x/y", "dtab": "/a=>/b" } }));
    let bad = said("/x", &[("Host", "web"), ("l5d-dtab", "nonsense")]);
    assert_eq!(bad, json!({ "out": { "error": "'/' expected but 'n' found at '[n]onsense'" } }));
}
