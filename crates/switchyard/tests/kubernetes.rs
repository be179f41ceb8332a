//! The binary in a cluster: documents of the original's tutorials, names and dtabs through `kubectl proxy`,
//! and an API server that is killed under load.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use common::{LIMIT, switchyard};
use serde_json::{Value, json};
use testkit::http::{self, Answer, Connection, Request};
use testkit::kube::ControlPlane;
use testkit::load::{Load, Plan};
use testkit::process::{self, Process};
use testkit::recorder::{Recorder, Reply};
use testkit::until::until;

/// The tutorial's document for a daemon set of routers.
const LINKERD: &str = "
admin:
  ip: 0.0.0.0
  port: 9990
namers:
- kind: io.l5d.k8s
  experimental: true
  host: localhost
  port: 8001
telemetry:
- kind: io.l5d.prometheus
- kind: io.l5d.recentRequests
  sampleRate: 0.25
usage:
  orgId: linkerd-examples-daemonset
routers:
- protocol: http
  label: outgoing
  dtab: |
    /srv        => /#/io.l5d.k8s/default/http;
    /host       => /srv;
    /svc        => /host;
    /host/world => /srv/world-v1;
  interpreter:
    kind: default
    transformers:
    - kind: io.l5d.k8s.daemonset
      namespace: default
      port: incoming
      service: l5d
  servers:
  - port: 4140
    ip: 0.0.0.0
- protocol: http
  label: incoming
  dtab: |
    /srv        => /#/io.l5d.k8s/default/http;
    /host       => /srv;
    /svc        => /host;
    /host/world => /srv/world-v1;
  interpreter:
    kind: default
    transformers:
    - kind: io.l5d.k8s.localnode
  servers:
  - port: 4141
    ip: 0.0.0.0
- protocol: http
  label: ingress
  identifier:
    kind: io.l5d.ingress
  servers:
  - port: 4142
  dtab: /svc => /#/io.l5d.k8s
";

/// Its control plane; the interfaces are those that are built.
const NAMERD: &str = "
admin:
  ip: 0.0.0.0
  port: 9991
namers:
- kind: io.l5d.k8s
  host: localhost
  port: 8001
storage:
  kind: io.l5d.k8s
  host: localhost
  port: 8001
  namespace: default
interfaces:
- kind: io.l5d.httpController
  ip: 0.0.0.0
  port: 4180
";

#[test]
fn the_tutorials_documents_are_valid_as_they_are() {
    for (command, document) in [("router", LINKERD), ("namerd", NAMERD)] {
        let finished = process::run(switchyard().args([command, "--validate", "-"]), document.as_bytes());
        assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{command}");
    }
    let without = "routers: [{protocol: http, servers: [{}]}]\nnamers: [{kind: io.l5d.k8s.external}]";
    let finished = process::run(switchyard().args(["router", "--validate", "-"]), without.as_bytes());
    let wanted = "The /#/io.l5d.k8s.external namer is experimental and must be explicitly enabled by setting the `experimental' parameter to `true'.";
    assert!(finished.stderr.contains(wanted), "{}", finished.stderr);
}

/// An address of this machine that is not a loopback address, which endpoints must not have.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Sends nothing: the kernel picks the address that it would send from.
    socket.connect("192.0.2.1:9").expect("this machine has a network");
    socket.local_addr().unwrap().ip()
}

fn start(command: &str, document: &Value, directory: &Path) -> Process {
    let file = directory.join(format!("{command}.json"));
    std::fs::write(&file, document.to_string()).unwrap();
    Process::start(switchyard().arg(command).arg(&file))
}

fn after(process: &Process, text: &str) -> String {
    let line = process.line(text, LIMIT);
    let rest = line.split_once(text).unwrap().1;
    rest.split_whitespace().next().unwrap().to_owned()
}

fn backend(ip: IpAddr, text: &str) -> Recorder {
    Recorder::start_on(ip, Reply::Script(Answer { status: 200, headers: Vec::new(), body: text.as_bytes().to_vec() }))
}

fn slice(service: &str, backend: &Recorder) -> Value {
    let (ip, port) = backend.authority.rsplit_once(':').unwrap();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": format!("{service}-a"), "namespace": "default",
                      "labels": { "kubernetes.io/service-name": service } },
        "endpoints": [{ "addresses": [ip], "conditions": { "ready": true } }],
        "ports": [{ "name": "http", "port": port.parse::<u16>().unwrap() }],
    })
}

fn ask(url: &str, host: &str) -> Answer {
    let (authority, target) = http::split(url);
    let headers = [("Host", host), ("Connection", "close")];
    Connection::open(authority)
        .unwrap()
        .send(&Request { method: "GET", target, headers: &headers, body: None })
        .unwrap()
}

#[track_caller]
fn answers(url: &str, host: &str, expected: &str) {
    until(expected, LIMIT, || {
        let answer = ask(url, host);
        if answer.text() == expected { Ok(()) } else { Err(format!("{} {}", answer.status, answer.text())) }
    });
}

#[test]
fn requests_follow_the_cluster_and_none_fails_while_its_api_server_is_away() {
    let cluster = ControlPlane::start();
    let definition = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/k8s/dtabs.yml");
    cluster.kubectl(&["apply", "-f", definition.to_str().unwrap()], "");
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/dtabs.l5d.io"], "");
    let (one, two) = (backend(own_address(), "world one"), backend(own_address(), "world two"));
    cluster.apply(&slice("world-v1", &one));
    cluster.apply(&slice("world-v2", &two));
    cluster.apply(&json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": { "name": "web", "namespace": "default" },
        "spec": { "rules": [{ "host": "shop.test", "http": { "paths": [
            { "path": "/two", "pathType": "Prefix",
              "backend": { "service": { "name": "world-v2", "port": { "name": "http" } } } },
        ] } }] },
    }));
    let directory = tempfile::tempdir().unwrap();
    let proxy = Process::start(&mut cluster.kubectl_command(&["proxy", "--port=0"]));
    let port: u16 = after(&proxy, "Starting to serve on 127.0.0.1:").parse().unwrap();
    let by_proxy = |kind: &str| json!({ "kind": kind, "host": "localhost", "port": port });
    let namerd = start(
        "namerd",
        &json!({
            "admin": { "port": 0 }, "storage": by_proxy("io.l5d.k8s"), "namers": [by_proxy("io.l5d.k8s")],
            "interfaces": [{ "kind": "io.l5d.httpController", "port": 0 }],
        }),
        directory.path(),
    );
    let api = after(&namerd, "serving io.l5d.httpController on ");
    let internal = "/srv => /#/io.l5d.k8s/default/http; /host => /srv; /svc => /host; /host/world => /srv/world-v1";
    let write = |method: &str, text: &str| {
        let url = format!("http://{api}/api/1/dtabs/internal");
        let answer =
            http::request(method, &url, &[("Content-Type", "application/dtab")], Some(text.as_bytes())).unwrap();
        assert_eq!(answer.status, 204, "{}", answer.text());
    };
    write("POST", internal);
    let router = start(
        "router",
        &json!({
            "admin": { "port": 0 },
            "namers": [by_proxy("io.l5d.k8s")],
            "routers": [
                { "protocol": "http", "label": "outgoing", "servers": [{ "port": 0 }],
                  "interpreter": { "kind": "io.l5d.namerd.http", "experimental": true, "namespace": "internal",
                                   "dst": format!("/$/inet/{}", api.replace(':', "/")) } },
                { "protocol": "http", "label": "ingress", "servers": [{ "port": 0 }],
                  "identifier": by_proxy("io.l5d.ingress"), "dtab": "/svc => /#/io.l5d.k8s" },
            ],
        }),
        directory.path(),
    );
    let outgoing = format!("http://{}/", after(&router, "serving outgoing on "));
    let ingress = format!("http://{}", after(&router, "serving ingress on "));
    let admin = format!("http://{}", after(&router, "admin on "));
    answers(&outgoing, "world", "world one");
    answers(&format!("{ingress}/two/x?y"), "shop.test", "world two");
    let nobody = ask(&format!("{ingress}/other"), "shop.test");
    assert_eq!(nobody.status, 400, "{}", nobody.text());
    assert!(nobody.text().contains("no ingress rule matches"), "{}", nobody.text());
    // By another hand, and seen by the router.
    let edit = r#"[{"op":"replace","path":"/dentries/3/dst","value":"/srv/world-v2"}]"#;
    cluster.kubectl(&["patch", "dtab", "internal", "--type=json", "-p", edit], "");
    answers(&outgoing, "world", "world two");
    let load = |url: &str| {
        Load::start(&Plan {
            url: url.to_owned(),
            pause: Duration::from_millis(5),
            keeping: 2,
            opening: 1,
            classify: |answer| if answer.status == 200 { Ok("ok".to_owned()) } else { Err(answer.text()) },
        })
    };
    write("PUT", "/svc => /#/io.l5d.k8s/default/http/world-v2");
    answers(&outgoing, "anything", "world two");
    let busy = load(&outgoing);
    let watch = |wanted: &str| {
        until(wanted, LIMIT, || {
            let state = http::get(&format!("{admin}/namer_state/io.l5d.k8s.json"), &[]).json();
            let watch = state["endpoints"]["default/world-v2"]["watch"]["endpoints"].clone();
            if watch["state"] == wanted { Ok(watch) } else { Err(state) }
        })
    };
    watch("current");
    let dead = cluster.kill_api();
    let stale = watch("stale");
    assert!(stale["secondsSinceConfirmed"].is_number() && stale["trouble"].is_string(), "{stale}");
    let metrics = http::get(&format!("{admin}/admin/metrics.json"), &[]).json();
    assert!(metrics["kubernetes/failing_watches"].as_f64() >= Some(1.0), "{metrics}");
    answers(&format!("{ingress}/two"), "shop.test", "world two");
    dead.start();
    watch("current");
    cluster.apply(&slice("world-v2", &one));
    answers(&outgoing, "anything", "world one");
    let report = busy.stop();
    assert!(report.requests > 100, "{report:?}");
    assert_eq!(report.failures, Vec::<String>::new());
}
