//! The HTTP API: what it refuses, and how; events and log.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::{Server, World};
use serde_json::{Value, json};
use testkit::http;

#[test]
fn instance() {
    common::instance::run();
}

#[test]
fn server() {
    common::serve();
}

#[test]
fn requests_that_make_no_sense_are_refused_with_the_field() {
    let world = World::new();
    let server = world.server();
    let long = "x".repeat(5000);
    let cases = [
        (json!({"pipeline": "nonsense"}), "pipeline", "there are: hello_world"),
        (json!({}), "", "missing field `pipeline`"),
        (json!({"pipeline": "hello_world", "parameters": {"nonsense": "1"}}), "nonsense", "gitRepo, gitBranch"),
        (json!({"pipeline": "hello_world", "parameters": {"gitRepo": 1}}), "parameters.gitRepo", "invalid type"),
        (json!({"pipeline": "hello_world", "parameters": {"gitRepo": long}}), "gitRepo", "at most 4096"),
        (json!({"pipeline": "hello_world", "parameters": {"gitRepo": "a\u{0}b"}}), "gitRepo", "no NUL"),
        (
            json!({"pipeline": "hello_world", "parameters": {"namerdNamespace": "a/b"}}),
            "namerdNamespace",
            "no namespace",
        ),
        (json!({"pipeline": "hello_world", "paramters": {}}), "paramters", "unknown field"),
        (json!({"pipeline": "hello_world", "actor": "a\u{7}"}), "actor", "control characters"),
        (json!([]), "", "must be an object"),
        (json!(["hello_world", {}, null, null]), "", "must be an object"),
    ];
    for (body, field, expected) in cases {
        let answer = server.post("/api/1/deploys", &body);
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        let said = answer.json();
        assert!(said["error"].as_str().unwrap().contains(expected), "{body}: {said}");
        if !field.is_empty() {
            assert_eq!(said["field"], field, "{body}: {said}");
        }
    }
    let raw = |body: &[u8]| http::request("POST", &format!("{}/api/1/deploys", server.url), &[], Some(body)).unwrap();
    assert_eq!(raw(b"{").status, 400);
    assert_eq!(raw(b"").status, 400);
    let huge = raw(&vec![b' '; 300 * 1024]);
    assert_eq!(huge.status, 413);
    assert!(huge.json()["error"].as_str().unwrap().contains("larger than 262144 bytes"));
    assert_eq!(server.get("/api/1/deploys").json(), json!([]));

    for id in ["1", "x", "01", "-1", "99999999999999999999"] {
        let answer = server.get(&format!("/api/1/deploys/{id}"));
        assert_eq!(answer.status, 404, "{id}");
        assert!(answer.json()["error"].as_str().unwrap().contains("no deploy"));
        assert_eq!(server.post(&format!("/api/1/deploys/{id}/abort"), &json!({})).status, 404);
    }
    assert_eq!(http::request("DELETE", &format!("{}/api/1/deploys", server.url), &[], None).unwrap().status, 405);
    assert_eq!(server.get("/admin/ping").text(), "pong");
}

#[test]
fn pages_of_other_origins_may_not_order_anything() {
    let world = World::new();
    let server = world.server();
    let url = format!("{}/api/1/deploys", server.url);
    let own = server.url.clone();
    let cases = [
        (vec![("Origin", "http://evil.example")], 403),
        (vec![("Origin", "null")], 403),
        (vec![("Sec-Fetch-Site", "cross-site")], 403),
        (vec![("Origin", own.as_str())], 400),
        (vec![("Origin", own.as_str()), ("Sec-Fetch-Site", "same-origin")], 400),
    ];
    for (headers, status) in cases {
        let answer = http::request("POST", &url, &headers, Some(b"{}")).unwrap();
        assert_eq!(answer.status, status, "{headers:?}");
    }
    assert_eq!(http::get(&url, &[("Origin", "http://evil.example")]).status, 200);
}

#[test]
fn metrics_tell_of_requests_deploys_and_gates() {
    let world = World::new();
    let server = world.server();
    let gauge = |metrics: &Value, name: &str| metrics[name].as_f64().unwrap_or_else(|| panic!("{name}: {metrics}"));
    let metrics = || server.get("/admin/metrics.json").json();
    let before = metrics();
    assert_eq!(gauge(&before, "deploys/pipeline/hello_world/waiting"), 0.0);
    assert_eq!((gauge(&before, "gates/waiting"), gauge(&before, "gates/longest_wait_seconds")), (0.0, 0.0));

    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");
    assert_eq!(server.get("/api/1/deploys/77").status, 404);
    assert_eq!(server.get("/nothing").status, 404);
    let evil = http::get(&format!("{}/admin/ping", server.url), &[("Origin", "http://evil.example")]);
    assert_eq!(evil.status, 200);
    assert_eq!(server.post("/api/1/deploys", &json!({"pipeline": "x".repeat(300_000)})).status, 413);

    let now = metrics();
    assert_eq!(gauge(&now, "deploys/pipeline/hello_world/waiting"), 1.0);
    assert_eq!(gauge(&now, "deploys/pipeline/hello_world/running"), 0.0);
    assert_eq!(gauge(&now, "gates/waiting"), 1.0);
    assert!(gauge(&now, "gates/longest_wait_seconds") < 60.0);
    assert_eq!(gauge(&now, "http/route/POST /api/1/deploys/status/201"), 1.0);
    assert_eq!(gauge(&now, "http/route/GET /api/1/deploys/{id}/status/404"), 1.0);
    assert_eq!(gauge(&now, "http/route/other/status/404"), 1.0);
    assert_eq!(
        gauge(&now, "http/route/GET /admin/ping/requests"),
        gauge(&now, "http/route/GET /admin/ping/status/200")
    );
    assert_eq!(gauge(&now, "server/refused/body_too_long"), 1.0);
    assert!(gauge(&now, "server/connects") >= gauge(&now, "server/connections"));
    assert!(gauge(&now, "server/connections") >= 1.0);
    let subtree = server.get("/admin/metrics.json?q=deploys/pipeline").json();
    assert_eq!(gauge(&subtree, "hello_world/waiting"), 1.0);
    assert_eq!(server.get("/admin/metrics.json?q=none").status, 404);

    let text = server.get("/admin/metrics/prometheus").text();
    let lines = [
        "deploys:pipeline:waiting{pipeline=\"hello_world\"} 1.0\n",
        "http:route:status:404{route=\"GET /api/1/deploys/{id}\"} 1\n",
        "gates:waiting 1.0\n",
    ];
    for line in lines {
        assert!(text.contains(line), "{line}: {text}");
    }
    let accept = [("Accept", "application/openmetrics-text; version=1.0.0")];
    let text = http::get(&format!("{}/admin/metrics/prometheus", server.url), &accept).text();
    assert!(text.contains("http:route:status:404_total{route=\"GET /api/1/deploys/{id}\"} 1\n"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");

    server.abort(&id);
    server.rests_at_later(&id, "reverted");
    let after = metrics();
    assert_eq!(gauge(&after, "gates/waiting"), 0.0);
    assert_eq!(gauge(&after, "deploys/pipeline/hello_world/reverted"), 1.0);
}

#[test]
fn decisions_count_only_where_they_are_asked_for() {
    let world = World::new();
    let server = world.server();
    let id = server.start(json!({}));
    let decide = |verb: &str, body: Value| server.post(&format!("/api/1/deploys/{id}/{verb}"), &body);
    server.rests_at(&id, "integration testing");
    let other = decide("approve", json!({"actor": "ada", "stage": "shift traffic (10%)"}));
    assert_eq!(other.status, 409);
    assert!(
        other.json()["error"].as_str().unwrap().contains("waits after \"integration testing\""),
        "{}",
        other.text()
    );
    assert_eq!(decide("retry", json!({})).status, 409);
    let approved = decide("approve", json!({"actor": "ada", "reason": "tried it", "stage": "integration testing"}));
    assert_eq!(approved.status, 200);
    assert_eq!(approved.json()["id"], "1");
    let deploy = server.rests_at(&id, "shift traffic (10%)");
    assert_eq!(deploy["stages"][2]["approvedBy"], "ada");
    assert_eq!(deploy["abortable"], true);
    assert_eq!(
        deploy["gate"]["okDoes"],
        "sends all requests to world-v2; world-v1 stands by: /host/world => /tmp/world-v2 | /tmp/world-v1"
    );
    assert_eq!(deploy["gate"]["abortDoes"], "puts /host/world => /srv/world-v1 back and takes world-v2 away");
    assert_eq!(deploy["change"]["to"], "1 * /tmp/world-v2 & 9 * /tmp/world-v1");
    assert_eq!(deploy["instances"].as_array().unwrap().len(), 4);
    assert_eq!(deploy["stages"][3]["share"], 0.1);
    // Without a body it is anonymous.
    let url = format!("{}/api/1/deploys/{id}/abort", server.url);
    assert_eq!(http::request("POST", &url, &[], Some(b"")).unwrap().status, 200);
    server.rests_at(&id, "reverted");
    for verb in ["approve", "abort", "retry"] {
        let answer = decide(verb, json!({}));
        assert_eq!(answer.status, 409, "{verb}");
        assert!(answer.json()["error"].as_str().unwrap().contains("reverted"), "{}", answer.text());
    }
    let pipelines = server.get("/api/1/pipelines").json();
    assert_eq!(pipelines[0]["current"], "world-v1");
    assert_eq!(pipelines[0]["last"], json!(["reverted"]));
    assert_eq!(pipelines[0]["parameters"][0]["default"], world.path("repo").display().to_string());
    assert_eq!(pipelines[0]["stages"].as_array().unwrap().len(), 6);
    world.control.fault(|faults| faults.dead = true);
    let pipelines = server.get("/api/1/pipelines").json();
    assert_eq!(pipelines[0]["current"], Value::Null);
    assert!(pipelines[0]["trouble"].as_str().unwrap().contains("503"));
}

/// Reads server-sent events until one is called `end`, or there are `most`.
fn events(server: &Server, id: &str, last: Option<&str>, most: usize) -> Vec<(String, String, Value)> {
    let (authority, _) = http::split(&server.url);
    let mut stream = TcpStream::connect(authority).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let last = last.map(|last| format!("Last-Event-ID: {last}\r\n")).unwrap_or_default();
    write!(stream, "GET /api/1/deploys/{id}/events HTTP/1.1\r\nHost: {authority}\r\n{last}\r\n").unwrap();
    let (mut all, mut one) = (Vec::new(), (String::new(), String::new(), Value::Null));
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        if let Some(text) = line.strip_prefix("event: ") {
            one.0 = text.to_owned();
        } else if let Some(text) = line.strip_prefix("id: ") {
            one.1 = text.to_owned();
        } else if let Some(text) = line.strip_prefix("data: ") {
            one.2 = serde_json::from_str(text).unwrap();
        } else if line.is_empty() && !one.0.is_empty() {
            all.push(std::mem::take(&mut one));
            if all.len() == most || all.last().unwrap().0 == "end" {
                return all;
            }
        }
    }
    all
}

#[test]
fn events_are_replayed_from_the_start_and_after_the_last_one_seen() {
    let world = World::new();
    let server = world.server();
    let id = server.start(json!({}));
    let first = events(&server, &id, None, 3);
    assert_eq!(first.iter().map(|(_, id, _)| id.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
    assert_eq!(first[0].2["text"], "clone: started");
    server.rests_at(&id, "integration testing");
    server.abort(&id);
    let all = events(&server, &id, None, 1000);
    assert_eq!(all[..3], first);
    let (kind, _, state) = all.last().unwrap();
    assert_eq!((kind.as_str(), state), ("end", &json!("reverted")));
    let sequences: Vec<u64> = all[..all.len() - 1].iter().map(|(_, id, _)| id.parse().unwrap()).collect();
    assert!(sequences.iter().copied().eq(1..=sequences.len() as u64), "{sequences:?}");
    let decision = all.iter().find(|(kind, ..)| kind == "decision").unwrap();
    assert_eq!((&decision.2["actor"], &decision.2["text"]), (&json!("lin"), &json!("aborted by lin: changed my mind")));
    let rest = events(&server, &id, Some("5"), 1000);
    assert_eq!(rest[0].1, "6");
    assert_eq!(rest[..], all[5..]);

    // The log is the same, as text, and only ever grows.
    let log = server.log(&id);
    assert!(log.lines().next().unwrap().ends_with("info  [clone] clone: started"), "{log}");
    assert!(log.contains("warn  [integration testing] aborted by lin: changed my mind"), "{log}");
    assert!(log.contains("/host/world => /srv/world-v1 is back"), "{log}");
}

#[test]
fn lists_are_newest_first_and_can_be_read_in_parts() {
    let world = World::new();
    let server = world.server();
    for _ in 0..3 {
        let id = server.start(json!({"gitBranch": "no-such-branch"}));
        server.rests_at(&id, "reverted");
    }
    let ids = |path: &str| -> Vec<String> {
        let list = server.get(path).json();
        list.as_array().unwrap().iter().map(|deploy| deploy["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("/api/1/deploys"), ["3", "2", "1"]);
    assert_eq!(ids("/api/1/deploys?limit=1"), ["3"]);
    assert_eq!(ids("/api/1/deploys?limit=2&before=3"), ["2", "1"]);
    assert_eq!(server.get("/api/1/deploys?limit=x").status, 400);
}

#[test]
fn two_servers_do_not_share_a_state() {
    let world = World::new();
    let _server = world.server();
    let mut config = world.config();
    config["processes"] = json!(world.path("other"));
    let mut command = std::process::Command::new(common::this());
    command.args(["--exact", "server", "--nocapture"]).env("SERVER_CONFIG", config.to_string());
    let refused = testkit::process::run(&mut command, b"");
    assert_eq!(refused.code, 1);
    assert!(refused.stdout.contains("another pipeline server uses this state directory"), "{}", refused.stdout);
}
