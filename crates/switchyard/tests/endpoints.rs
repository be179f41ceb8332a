//! What the admin server of a real router answers, case by case: `vectors/{metrics,admin,metric_names}.json`.
#![allow(clippy::unwrap_used)] // A test says what it needs by failing.

mod common;

use common::{LIMIT, switchyard};
use serde_json::{Map, Value, json};
use testkit::http::{self, Answer, Connection, Request};
use testkit::process::Process;
use testkit::recorder::{Recorder, Reply};
use testkit::until::until;

/// A router that answered three requests to `web` (the last with a 500), one to `down`, where nobody listens, and
/// one to `nope`, which is no name.
struct Router {
    _process: Process,
    /// `127.0.0.1:port`
    admin: String,
    web: String,
    _directory: tempfile::TempDir,
}

impl Router {
    fn start() -> Router {
        let reply = |status| Answer { status, headers: Vec::new(), body: b"hi".to_vec() };
        let (web, broken) = (Recorder::start(Reply::Script(reply(200))), Recorder::start(Reply::Script(reply(500))));
        let directory = tempfile::tempdir().unwrap();
        let disco = directory.path().join("disco");
        std::fs::create_dir(&disco).unwrap();
        std::fs::write(disco.join("web"), web.authority.replace(':', " ")).unwrap();
        std::fs::write(disco.join("down"), "127.0.0.1 1").unwrap();
        let out = json!({
            "protocol": "http", "label": "out", "servers": [{ "port": 0 }], "originator": true, "client": {},
            "interpreter": {}, "dtab": "/svc => /#/io.l5d.fs",
        });
        let quoted = json!({ "protocol": "http", "label": "quo\"ted", "servers": [{ "port": 0 }], "originator": true });
        let document = json!({
            "admin": { "port": 0 },
            "namers": [{ "kind": "io.l5d.fs", "rootDir": disco }],
            "telemetry": [
                { "kind": "io.l5d.prometheus" },
                { "kind": "io.l5d.prometheus", "path": "/linkerd/metrics", "prefix": "linkerd_" },
                { "kind": "io.l5d.influxdb" },
            ],
            "routers": [out, quoted],
        });
        let file = directory.path().join("linkerd.json");
        std::fs::write(&file, document.to_string()).unwrap();
        let process = Process::start(switchyard().arg("router").arg(&file).args(["--workers", "1"]));
        process.line("initialized", LIMIT);
        let authority = after(&process.text(), "serving out on ");
        let admin = after(&process.text(), "admin on ");
        for (host, status) in [("web", 200), ("web", 200), ("down", 502), ("nope", 502)] {
            assert_eq!(get(&authority, host).status, status, "{host}");
        }
        // The same name, so that the address of the set changes under it.
        std::fs::write(disco.join("web"), broken.authority.replace(':', " ")).unwrap();
        until("the new address is known", LIMIT, || {
            let state = http::get(&format!("http://{admin}/client_state.json"), &[]).text();
            if state.contains(&broken.authority) { Ok(()) } else { Err(state) }
        });
        assert_eq!(get(&authority, "web").status, 500);
        until("all is counted", LIMIT, || {
            let metrics = http::get(&format!("http://{admin}/admin/metrics.json"), &[]).json();
            let names = ["server/127.0.0.1/0", "service/svc/web", "service/svc/down", "service/svc/nope"];
            let counted = names.map(|name| metrics[format!("rt/out/{name}/requests")].clone());
            // Gauges of endpoints are set once a second.
            let sizes =
                ["web", "down"].map(|name| &metrics[format!("rt/out/client/#/io.l5d.fs/{name}/loadbalancer/size")]);
            if counted == [5, 3, 1, 1] && sizes.iter().all(|size| **size == 1.0) {
                Ok(())
            } else {
                Err(metrics.clone())
            }
        });
        Router { _process: process, admin, web: broken.authority.clone(), _directory: directory }
    }

    fn answer(&self, request: &Value) -> Answer {
        let text = |key: &str| request[key].as_str();
        let mut headers = vec![("Connection", "close")];
        let given = request["headers"].as_object().cloned().unwrap_or_default();
        headers.extend(given.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())));
        if !given.contains_key("Host") {
            headers.push(("Host", &self.admin));
        }
        let (method, body) = (text("method").unwrap_or("GET"), text("body").map(str::as_bytes));
        let method = if body.is_some() { text("method").unwrap_or("POST") } else { method };
        let mut connection = Connection::open(&self.admin).unwrap();
        connection.send(&Request { method, target: text("target").unwrap(), headers: &headers, body }).unwrap()
    }
}

fn after(text: &str, start: &str) -> String {
    let (_, rest) = text.split_once(start).unwrap();
    rest.split_whitespace().next().unwrap().to_owned()
}

fn get(authority: &str, host: &str) -> Answer {
    let headers = [("Host", host), ("Connection", "close")];
    let request = Request { method: "GET", target: "/", headers: &headers, body: None };
    Connection::open(authority).unwrap().send(&request).unwrap()
}

/// What an answer has that its case does not want; `WEB` stands for the endpoint's address.
fn wrong(answer: &Answer, expect: &Map<String, Value>, web: &str) -> Vec<String> {
    let text = answer.text();
    let header = |name: &str| Value::from(answer.header(name));
    let object = || serde_json::from_str::<Map<String, Value>>(&text).unwrap_or_default();
    let mut wrong = Vec::new();
    for (key, wanted) in expect {
        let texts = || wanted.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned());
        let is_right = match key.as_str() {
            "status" => json!(answer.status) == *wanted,
            "contentType" => header("content-type") == *wanted,
            "allow" => header("allow") == *wanted,
            "body" => text == wanted.as_str().unwrap(),
            "json" => serde_json::from_str::<Value>(&text.replace(web, "WEB")).is_ok_and(|json| json == *wanted),
            "has" => {
                let object = object();
                let shown: Map<String, Value> = wanted
                    .as_object()
                    .unwrap()
                    .keys()
                    .map(|name| (name.clone(), object.get(name).cloned().unwrap_or_default()))
                    .collect();
                if Value::from(shown.clone()) != *wanted {
                    wrong.push(format!("has {}", Value::from(shown)));
                }
                true
            }
            "keys" => texts().all(|name| object().contains_key(&name)),
            "noKeys" => texts().all(|name| !object().contains_key(&name)),
            "contains" => texts().all(|part| text.contains(&part)),
            "lacks" => texts().all(|part| !text.contains(&part)),
            "sorted" => text.lines().is_sorted(),
            other => panic!("{other} is no expectation"),
        };
        if !is_right {
            wrong.push(format!("{key} should be {wanted}"));
        }
    }
    wrong
}

#[track_caller]
fn check(cases: &str, least: usize) {
    let router = Router::start();
    let cases: Vec<Value> = serde_json::from_str(cases).unwrap();
    let mut failures = Vec::new();
    for case in &cases {
        let answer = router.answer(&case["request"]);
        let wrong = wrong(&answer, case["expect"].as_object().unwrap(), &router.web);
        if !wrong.is_empty() {
            let body: String = answer.text().chars().take(2000).collect();
            failures.push(format!("{}: {}\n{:?}\n{body}", case["id"], wrong.join(", "), answer.headers));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(cases.len() >= least, "{} cases", cases.len());
}

#[test]
fn metrics_are_told_as_the_original_tells_them() {
    check(include_str!("vectors/metrics.json"), 31);
}

#[test]
fn the_admin_server_answers_as_the_original() {
    check(include_str!("vectors/admin.json"), 60);
}

#[test]
fn metrics_have_the_originals_names_and_kinds() {
    let router = Router::start();
    let shown = http::get(&format!("http://{}/admin/metrics.json", router.admin), &[]).json();
    let scopes: Map<String, Value> = serde_json::from_str(include_str!("vectors/metric_names.json")).unwrap();
    let (mut missing, mut checked) = (Vec::new(), 0);
    for (scope, kinds) in &scopes {
        for (kind, names) in kinds.as_object().unwrap() {
            for name in names.as_array().unwrap().iter().map(|name| name.as_str().unwrap()) {
                let flat = format!("{scope}/{name}");
                let is_there = match kind.as_str() {
                    "counter" => shown[&flat].is_u64(),
                    "gauge" => shown[&flat].is_f64(),
                    _ => shown[format!("{flat}.count")].is_u64(),
                };
                if !is_there {
                    missing.push(format!("{kind} {flat}"));
                }
                checked += 1;
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(checked >= 142, "{checked}");
}
