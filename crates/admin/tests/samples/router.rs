//! A router process with traffic, without, cut off, and with very many names.

use admin::explain::{Asked, Choice, Entry, ExplainPage, Explained, Node};
use admin::router::{OverviewPage, RequestPage};
use admin::{Links, Part, Shell, web};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::EVIL;

pub fn page(name: &str, headers: &HeaderMap) -> Option<Response> {
    let overview = |overview: Value, requests: Value| {
        let page = OverviewPage {
            shell: shell(headers),
            overview: serde_json::from_value(overview).expect("an overview"),
            chosen: "outgoing".into(),
            requests: serde_json::from_value(requests).expect("requests"),
            filter: String::new(),
        };
        web::page(StatusCode::OK, &page)
    };
    let request = |value: Value, explained: Result<Node, String>| RequestPage {
        shell: shell(headers),
        request: serde_json::from_value(value).expect("a request"),
        version_now: Some("AAAAAAAAACg=".into()),
        namespace: Some("internal".into()),
        explained,
        overrides: vec![Entry { prefix: "/host/world".into(), dst: "/tmp/world-v2".into(), exact: None }],
    };
    Some(match name {
        "router" => overview(process(&[("outgoing", 5), ("incoming", 2), ("external", 1)], None), requests()),
        "router-idle" => overview(process(&[("outgoing", 0)], None), json!([])),
        "router-stale" => {
            let why = "http://127.0.0.1:4180: connection refused; next try in 8 s";
            overview(process(&[("outgoing", 2), ("incoming", 1)], Some(why)), requests())
        }
        "router-many" => {
            let labels = (0..40).map(|n| format!("router-{n:02}-with-a-long-label")).collect::<Vec<_>>();
            let mut routers = labels.iter().map(|label| (label.as_str(), 1)).collect::<Vec<_>>();
            routers.insert(7, ("outgoing", 200));
            overview(process(&routers, None), requests())
        }
        "request" => web::page(StatusCode::OK, &request(requests()[1].clone(), Ok(tree()))),
        "request-failed" => {
            web::page(StatusCode::OK, &request(requests()[2].clone(), Err("the interpreter did not answer".into())))
        }
        "delegator" | "delegator-nowhere" => {
            let answer = if name == "delegator" {
                Ok(Explained::new(&tree(), &[], &[]))
            } else {
                Ok(Explained::new(&nowhere(), &[], &[]))
            };
            let page = ExplainPage {
                shell: shell(headers),
                crumbs: vec![("Routers".into(), "/".into()), ("outgoing".into(), "/?router=outgoing".into())],
                asked: Asked {
                    action: "/delegator".into(),
                    path: "/svc/world".into(),
                    dtab: EVIL.into(),
                    choice: Some(Choice {
                        name: "router",
                        label: "Router",
                        values: vec![("outgoing".into(), "outgoing".into()), ("incoming".into(), "incoming".into())],
                        chosen: "incoming".into(),
                    }),
                    endpoint: "/delegator.json?namespace=outgoing&path=%2Fsvc%2Fworld".into(),
                    answer: Some(answer),
                },
            };
            web::page(StatusCode::OK, &page)
        }
        _ => return None,
    })
}

fn shell(headers: &HeaderMap) -> Shell {
    let link = |port: u16| Some(format!("http://localhost:{port}"));
    let links = Links { pipeline: link(8080), router: None, control: link(9991) };
    Shell::new(Part::Router, "router", headers, links)
}

fn before(seconds: i64) -> String {
    format!("{:.3}", Timestamp::now() - SignedDuration::from_secs(seconds))
}

fn column(n: usize, rate: u64) -> Value {
    if n % 17 == 3 {
        return json!({ "seconds": 5.0, "requests": 0, "failures": 0, "perSecond": 0.0, "latencyMs": null });
    }
    let requests = rate * 5 + (n as u64 * 7919) % (rate + 3);
    let failures = if (60..68).contains(&n) { requests / 30 } else { 0 };
    let wave = 1.0 + (n as f64 / 9.0).sin() / 4.0;
    json!({
        "seconds": 5.0, "requests": requests, "failures": failures, "perSecond": requests as f64 / 5.0,
        "latencyMs": { "p50": 3.6 * wave, "p90": 8.2 * wave, "p99": 15.0 * wave * wave, "max": 40.0 },
    })
}

fn figures(name: &str, rate: u64, with_columns: bool) -> Value {
    let mut figures = json!({ "name": name, "requests": rate * 3600, "failures": rate / 7, "pending": rate % 19, "last": column(0, rate) });
    if with_columns {
        figures["columns"] = (0..120).map(|n| column(n, rate)).collect();
    }
    if rate == 0 {
        figures["last"] = Value::Null;
        figures["pending"] = Value::Null;
    }
    figures
}

fn process(routers: &[(&str, usize)], stale: Option<&str>) -> Value {
    let routers = routers.iter().enumerate().map(|(n, (label, services))| {
        let is_chosen = *label == "outgoing";
        let rate = if *services == 0 { 0 } else { 400 };
        json!({
            "label": label,
            "interpreter": {
                "kind": "io.l5d.namerd.http", "namespace": (n != 1).then_some("internal"), "version": "AAAAAAAAACc=",
                "confirmed": before(if stale.is_some() { 420 } else { 1 }), "stale": stale,
            },
            "servers": [figures(&format!("127.0.0.1/414{}", n % 10), rate, true)],
            "services": (0..*services).map(|n| figures(&service(n), 230 / (n as u64 + 1), is_chosen)).collect::<Vec<_>>(),
            "clients": clients(*services),
            "serviceCount": services, "clientCount": clients(*services).as_array().map_or(0, Vec::len),
            "withoutEndpoints": without_endpoints(&clients(*services)),
        })
    });
    json!({
        "process": { "version": "switchyard 0.1.0", "pid": 4711, "uptimeMs": 273_600_000, "residentBytes": 17_300_000.0, "cpuSeconds": 12.5 },
        "routers": routers.collect::<Vec<_>>(),
    })
}

fn service(n: usize) -> String {
    match n {
        0 => "svc/world".to_owned(),
        1 => "svc/a-service-with-a-very-long-name-that-somebody-gave-it-in-a-hurry-and-never-changed".to_owned(),
        n => format!("svc/service-{n}"),
    }
}

fn without_endpoints(clients: &Value) -> usize {
    let is_without = |client: &&Value| match client["addr"]["state"].as_str() {
        Some("bound") => client["addr"]["endpoints"].as_array().is_some_and(Vec::is_empty),
        state => matches!(state, Some("neg" | "failed")),
    };
    clients.as_array().into_iter().flatten().filter(is_without).count()
}

fn clients(services: usize) -> Value {
    let client = |name: &str, of: usize, rate: u64, addr: Value| {
        let mut client = figures(name, rate, false);
        client["services"] = json!([{ "name": service(of), "requests": rate, "failures": 0 }]);
        client["addr"] = addr;
        client
    };
    let bound = |count: u16| {
        let endpoints = (1..=count).map(|n| json!({ "addr": format!("127.0.0.1:{}", 7700 + n), "weight": 1.0 }));
        json!({ "state": "bound", "endpoints": endpoints.collect::<Vec<_>>() })
    };
    let mut clients = Vec::new();
    if services > 0 {
        clients.push(client("#/io.l5d.fs/world-v1", 0, 208, bound(3)));
        clients.push(client("#/io.l5d.fs/world-v2", 0, 23, bound(60)));
    }
    if services > 2 {
        let long = "%/io.l5d.k8s.daemonset/default/incoming/l5d/#/io.l5d.k8s/default/http/checkout-v2026-11-20-b12e0d";
        clients.push(client(long, 1, 90, json!({ "state": "failed", "cause": EVIL })));
        clients.push(client("#/io.l5d.fs/gone", 2, 1, json!({ "state": "neg" })));
    }
    for n in 5..services {
        clients.push(client(&format!("#/io.l5d.fs/service-{n}"), n, 3, bound(2)));
    }
    clients.into()
}

fn requests() -> Value {
    let request = |id: u64, uri: &str, dtab: &str, version: &str, status: Option<u16>| {
        let attempt = json!({
            "client": format!("/#/io.l5d.fs/{version}"), "share": if dtab.is_empty() { Some(0.1) } else { None },
            "endpoint": "127.0.0.1:7722", "status": status, "error": null, "micros": 3_400,
        });
        json!({
            "id": id, "time": before(id as i64), "peer": "127.0.0.1:53422", "method": "GET", "host": "world",
            "uri": uri, "name": "/svc/world", "localDtab": dtab, "dtabVersion": "AAAAAAAAACc=",
            "attempts": [attempt], "status": status, "error": null, "totalMicros": 3_458, "router": "outgoing",
            "retries": 0, "ourMicros": 58, "remarkable": [],
        })
    };
    let mut failed = request(3, "/orders?expand=lines&text=%3Cb%3E", "", "world-v1", Some(502));
    failed["remarkable"] = json!([{ "kind": "failed", "why": EVIL }]);
    failed["error"] = json!(EVIL);
    failed["attempts"] = json!([
        { "client": "/#/io.l5d.fs/world-v1", "share": 0.9, "endpoint": null, "status": null, "error": EVIL, "micros": 12 },
        { "client": "/#/io.l5d.fs/world-v1", "share": 0.9, "endpoint": "10.196.2.41:8080", "status": null, "error": "connection refused", "micros": 900 },
    ]);
    let mut nameless = request(4, EVIL, "", "world-v1", None);
    nameless["name"] = Value::Null;
    nameless["attempts"] = json!([]);
    json!([
        request(1, "/", "", "world-v1", Some(200)),
        request(2, "/", "/host/world => /tmp/world-v2", "world-v2", Some(200)),
        failed,
        nameless,
    ])
}

/// A split with a failover and a transformer.
pub fn tree() -> Node {
    let bound = |id: &str| {
        let addrs = [7791, 7792, 7793].map(|port| json!({ "ip": "127.0.0.1", "port": port, "meta": {} }));
        json!({ "addr": { "type": "bound", "addrs": addrs, "meta": {} }, "id": id, "path": "/" })
    };
    let entry = |prefix: &str, dst: &str| json!({ "prefix": prefix, "dst": dst });
    let split = entry("/host/world", "1 * /tmp/world-v2 & 9 * /tmp/world-v1");
    let leaf = |version: &str| {
        let id = format!("/#/io.l5d.fs/{version}");
        let through = format!("/%/io.l5d.port/4141{id}");
        let last = json!({ "type": "leaf", "path": through, "dentry": null, "bound": bound(&through) });
        json!({ "type": "transformation", "path": id, "name": "io.l5d.port", "bound": bound(&id), "tree": last })
    };
    let branch = |version: &str| {
        let next = json!({ "type": "delegate", "path": format!("/srv/{version}"), "dentry": entry("/tmp", "/srv"), "delegate": leaf(version) });
        json!({ "type": "delegate", "path": format!("/tmp/{version}"), "dentry": split, "delegate": next })
    };
    let failing = json!({ "type": "exception", "path": "/#/io.l5d.consul/dc1/world", "dentry": entry("/host", "/srv | /#/io.l5d.consul/dc1"), "message": EVIL });
    let tree = json!({
        "type": "delegate", "path": "/svc/world", "delegate": {
            "type": "alt", "path": "/host/world", "dentry": entry("/svc", "/host"), "alt": [
                { "type": "union", "path": "/host/world", "dentry": split, "union": [
                    { "weight": 1.0, "tree": branch("world-v2") }, { "weight": 9.0, "tree": branch("world-v1") }] },
                { "type": "neg", "path": "/#/io.l5d.fs/world", "dentry": entry("/srv", "/#/io.l5d.fs") },
                failing,
                { "type": "fail", "path": "!", "dentry": entry("/host", "!") },
                { "type": "empty", "path": "/$/nil", "dentry": entry("/host", "/$/nil") },
            ] },
    });
    serde_json::from_value(tree).expect("a tree")
}

fn nowhere() -> Node {
    let neg = json!({ "type": "delegate", "path": "/svc/wrold", "delegate": { "type": "neg", "path": "/#/io.l5d.fs/wrold", "dentry": { "prefix": "/svc", "dst": "/#/io.l5d.fs" } } });
    serde_json::from_value(neg).expect("a tree")
}
