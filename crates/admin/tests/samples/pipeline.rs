//! Pipelines, and a deploy in each of its states.

use admin::pipeline::{BuildPage, DeployPage, ListPage, Refused};
use admin::{Count, Links, Part, Shell, web};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::EVIL;

pub fn page(name: &str, headers: &HeaderMap) -> Option<Response> {
    let read = |value: Value| serde_json::from_value(value).expect("a sample");
    let list = |pipelines: Value, deploys: Value| ListPage {
        shell: shell(headers),
        pipelines: serde_json::from_value(pipelines).expect("pipelines"),
        deploys: serde_json::from_value(deploys).expect("deploys"),
    };
    let build = || {
        let again = |name: &str| (name == "gitBranch").then(|| "greeting-v2".to_owned());
        BuildPage::new(shell(headers), serde_json::from_value(pipeline("hello_world")).expect("a pipeline"), again)
    };
    let deploy = |deploy: Value, events: Value| DeployPage {
        shell: shell(headers),
        deploy: serde_json::from_value(deploy).expect("a deploy"),
        events: serde_json::from_value(events).expect("events"),
        refused: None,
    };
    let ok = StatusCode::OK;
    Some(match name {
        "list" => {
            let deploys =
                ["waiting", "running", "reverting", "reverted", "succeeded", "failed", "early"].map(self::deploy);
            web::page(ok, &list(json!([pipeline("hello_world"), pipeline("checkout")]), json!(deploys)))
        }
        "list-empty" => web::page(ok, &list(json!([]), json!([]))),
        "build" => web::page(ok, &build()),
        "build-wrong" => {
            let mut page = build();
            page.fields[1].error =
                Some("No branch, tag or commit “greeting-v2” in this repository. It has: master, fix-typo.".into());
            page.fields[0].value = EVIL.into();
            page.error = Some(EVIL.into());
            page.actor = "ada".into();
            web::page(ok, &page)
        }
        "build-held" => {
            let mut page = build();
            page.holder = Some(read(self::deploy("waiting")));
            web::page(ok, &page)
        }
        "deploy-waiting" => {
            let mut page = deploy(self::deploy("waiting"), events());
            page.refused = Some(Refused { what: "grace was faster: she approved integration testing.".into() });
            web::page(ok, &page)
        }
        _ => web::page(ok, &deploy(self::deploy(name.strip_prefix("deploy-")?), events())),
    })
}

fn shell(headers: &HeaderMap) -> Shell {
    let link = |port: u16| Some(format!("http://localhost:{port}"));
    let links = Links { pipeline: link(8080), router: link(9990), control: link(9991) };
    let count = Count { number: 1, what: "deploy waits for a person".into(), is_bad: false };
    Shell { count: Some(count), ..Shell::new(Part::Pipeline, "pipeline", headers, links) }
}

fn before(seconds: i64) -> String {
    format!("{:.3}", Timestamp::now() - SignedDuration::from_secs(seconds))
}

fn pipeline(name: &str) -> Value {
    json!({
        "name": name, "description": "The tutorial’s pipeline.", "service": "world", "entry": "/host/world",
        "namespace": "internal", "current": (name == "hello_world").then_some("world-v1"),
        "trouble": "http://127.0.0.1:4180 refuses connections", "holder": "12",
        "last": ["succeeded", "reverted", "failed", "succeeded", "waiting"],
        "parameters": [
            { "name": "gitRepo", "default": "/var/lib/switchyard/demo/repo", "description": "Path or URL of the repository to deploy from." },
            { "name": "gitBranch", "default": "master", "description": "Branch, tag or commit." },
            { "name": "namerdNamespace", "default": "internal", "description": null },
        ],
        "stages": stages("early"),
    })
}

/// Six stages of a deploy that stands at `state`.
fn stages(state: &str) -> Value {
    let names = ["clone", "deploy", "integration testing", "shift traffic (10%)", "shift traffic (100%)", "cleanup"];
    let shares = [None, Some(0.0), Some(0.0), Some(0.1), Some(1.0), Some(1.0)];
    let (at, here) = match state {
        "testing" => (2, "waiting"),
        "waiting" => (3, "waiting"),
        "running" => (4, "running"),
        "reverting" | "reverted" | "failed" => (3, "failed"),
        "early" => (0, "running"),
        _ => (6, "succeeded"),
    };
    let rest = if state == "reverted" { "skipped" } else { "pending" };
    let stages = names.iter().enumerate().map(|(n, name)| {
        let state = if n < at {
            "succeeded"
        } else if n == at {
            here
        } else {
            rest
        };
        json!({
            "name": name, "state": state, "gated": (2..5).contains(&n), "share": shares[n],
            "started": (n <= at).then(|| before(900 - 100 * n as i64)),
            "ended": (n < at || here == "failed" && n == at).then(|| before(830 - 100 * n as i64)),
            "detail": (n > at).then_some("10% → 100%"),
            "approvedBy": (n == 2 && n < at).then_some("grace"),
        })
    });
    stages.collect()
}

fn deploy(state: &str) -> Value {
    let api = match state {
        "testing" => "waiting",
        "reverting" | "early" => "running",
        other => other,
    };
    let mut deploy = json!({
        "id": "12", "pipeline": "hello_world", "service": "world", "entry": "/host/world", "namespace": "internal",
        "parameters": { "gitRepo": "/var/lib/switchyard/demo/repo", "gitBranch": "master", "namerdNamespace": "internal" },
        "state": api, "stage": null, "gate": null, "stages": stages(state),
        "version": { "current": "world-v1", "new": "world-v2" }, "reason": null, "actor": "ada", "note": "new greeting",
        "started": before(900), "ended": null, "reverting": state == "reverting", "abortable": false, "doing": null,
        "commit": { "id": "9f31c2e4a5b6", "subject": "Improve the output of the world service" },
        "text": "hal, open the pod bay doors",
        "change": { "from": "/tmp/world-v1", "to": "1 * /tmp/world-v2 & 9 * /tmp/world-v1", "version": "AAAAAAAAACc=" },
        "lease": { "owner": "deploy 12", "expires": before(-60) },
        "instances": instances(),
    });
    let stage = deploy["stages"].as_array().into_iter().flatten().find(|stage| stage["state"] != "succeeded");
    deploy["stage"] = stage.map_or(json!("cleanup"), |stage| stage["name"].clone());
    match state {
        "testing" => {
            deploy["gate"] = json!({
                "message": "world-v2 is up beside world-v1 and gets no traffic. Try it with this request:",
                "ok": "Ok, I'm done with manual testing", "since": before(115),
                "commands": [{ "command": "curl -H 'l5d-dtab: /host/world => /tmp/world-v2' localhost:4142",
                               "expect": "Hello (127.0.0.1:7712) hal, open the pod bay doors (127.0.0.1:7792)!!" }],
                "okDoes": "sends 10% of the requests to world-v2. Then the next gate.",
                "abortDoes": "takes world-v2 away. No traffic has moved, so none moves back.",
            });
        }
        "waiting" => {
            deploy["text"] = json!(EVIL);
            deploy["note"] = json!(EVIL);
            deploy["gate"] = json!({
                "message": "Do success rate and latency of world-v2 look right at 10%?",
                "ok": "Ok, success rates look stable", "since": before(250),
                "commands": [{ "command": "for i in {1..10}; do curl localhost:4142; echo; done", "expect": EVIL }],
                "okDoes": "sends 100% to world-v2; world-v1 stays up as failover. Then the next gate.",
                "abortDoes": "puts /host/world => /srv/world-v1 back at all routers, then takes world-v2 away.",
            });
        }
        "running" => {
            deploy["abortable"] = json!(true);
            deploy["doing"] = json!({
                "what": "Waiting until every router serves version AAAAAAAAACg=", "since": before(2), "attempt": 1,
                "trouble": null,
                "laggards": [{ "router": "outgoing", "process": "eu-17:4711", "version": "AAAAAAAAACc=", "behindMs": 2100, "lastWord": before(0) },
                             { "router": "a-router-with-a-very-long-label", "process": "us-04:12", "version": null, "behindMs": null, "lastWord": null }],
            });
        }
        "early" => {
            deploy["version"] = json!({ "current": null, "new": null });
            for gone in ["change", "lease", "commit", "text"] {
                deploy[gone] = Value::Null;
            }
            deploy["instances"] = json!([]);
            deploy["doing"] = json!({ "what": "fetching master", "since": before(1), "attempt": 3, "trouble": EVIL });
        }
        "reverting" | "reverted" => {
            deploy["reason"] = json!(format!("aborted by ada at shift traffic (10%): {EVIL}"));
            deploy["ended"] = if state == "reverted" { json!(before(10)) } else { Value::Null };
            deploy["change"]["to"] = json!("/srv/world-v1");
        }
        "failed" => {
            deploy["reason"] = json!(
                "Abort could not write the dtab back: the store’s disk is full. world-v2 still gets 10%, and it is healthy."
            );
            deploy["abortable"] = json!(true);
            deploy["doing"] = json!({ "what": "reverting", "since": before(360), "attempt": 11,
                "trouble": "PUT /api/1/dtabs/internal: 500 store: cannot write revision 40: database or disk is full (/var/lib/switchyard/dtabs.db)" });
            deploy["instructions"] = json!([
                { "text": "Free space on the store’s disk", "command": "df -h /var/lib/switchyard" },
                { "text": "Let it try again. It also tries by itself every 30 s.", "command": "switchyard deploy abort 12 --reason 'disk is free again'" },
                { "text": "Nothing else is needed.", "command": null },
            ]);
        }
        _ => {
            deploy["ended"] = json!(before(54));
            deploy["change"]["to"] = json!("/srv/world-v2");
        }
    }
    deploy
}

fn instances() -> Value {
    let one = |version: &str, n: u16, ready: bool| {
        json!({ "name": format!("{version}-{n}"), "version": version, "address": format!("127.0.0.1:77{n}1"),
                "pid": 4000 + n, "ready": ready, "restarts": u8::from(!ready) * 2,
                "trouble": (!ready).then_some(EVIL) })
    };
    let all = ["world-v1", "world-v2"].into_iter().flat_map(|version| (1..=3).map(move |n| (version, n)));
    all.map(|(version, n)| one(version, n, (version, n) != ("world-v2", 3))).collect()
}

fn events() -> Value {
    let event = |sequence: u64, kind: &str, level: &str, stage: &str, actor: Option<&str>, text: &str| {
        json!({ "sequence": sequence, "time": before(900 - 60 * sequence as i64), "kind": kind, "level": level,
                "stage": stage, "actor": actor, "text": text })
    };
    json!([
        event(1, "decision", "info", "clone", Some("ada"), "started the deploy: new greeting"),
        event(2, "state", "info", "clone", None, "clone: started"),
        event(3, "log", "info", "clone", None, "git clone --branch master /var/lib/switchyard/demo/repo"),
        event(4, "state", "info", "deploy", None, "deploy: started"),
        event(5, "fact", "info", "deploy", None, "lease on /host/world taken until 15:02:03"),
        event(
            6,
            "log",
            "warning",
            "deploy",
            None,
            "world-v2-3 was slow to answer its first probe (812 ms); asking again"
        ),
        event(7, "fact", "info", "deploy", None, "3 of 3 ready; no request reaches them yet"),
        event(8, "log", "error", "integration testing", None, EVIL),
        event(9, "decision", "info", "integration testing", Some("grace <g@example.com>"), EVIL),
        event(
            10,
            "fact",
            "info",
            "shift traffic (10%)",
            None,
            "/host/world => 1 * /tmp/world-v2 & 9 * /tmp/world-v1 (version 38 → 39)"
        ),
    ])
}
