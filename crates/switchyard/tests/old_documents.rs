//! The tutorial's documents as they were written for Namerd and Linkerd, with the interfaces and interpreters of
//! protocols that are not spoken here: they start unchanged, fit each other, and refuse the originals clearly.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::{LIMIT, switchyard};
use serde_json::{Value, json};
use testkit::http::{self, Answer, Connection, Request};
use testkit::process::{self, Process};
use testkit::recorder::{Recorder, Reply};
use testkit::until::until;

const NAMERD: &str = include_str!("vectors/tutorial/namerd.yaml");
const LINKERD: &str = include_str!("vectors/tutorial/linkerd.yaml");

#[test]
fn the_tutorials_config_maps_are_valid_unchanged() {
    for (command, document) in [("namerd", NAMERD), ("router", LINKERD)] {
        let finished = process::run(switchyard().args([command, "--validate", "-"]), document.as_bytes());
        assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{command}");
    }
}

struct Control {
    process: Process,
    thrift: String,
    mesh: String,
}

fn start(command: &str, document: &Value) -> Process {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("document.json");
    std::fs::write(&file, document.to_string()).unwrap();
    let process = Process::start(switchyard().arg(command).arg(&file));
    process.line("admin on ", LIMIT);
    process
}

fn after(process: &Process, text: &str) -> String {
    let line = process.line(text, LIMIT);
    line.split_once(text).unwrap().1.split_whitespace().next().unwrap().to_owned()
}

fn control(dtab: &str) -> Control {
    let process = start(
        "namerd",
        &json!({
            "admin": { "port": 0 },
            "storage": { "kind": "io.l5d.inMemory", "namespaces": { "internal": dtab } },
            "interfaces": [
                { "kind": "io.l5d.thriftNameInterpreter", "port": 0 },
                { "kind": "io.l5d.mesh", "port": 0 },
            ],
        }),
    );
    let thrift = after(&process, "serving io.l5d.thriftNameInterpreter on ");
    let mesh = after(&process, "serving io.l5d.mesh on ");
    Control { process, thrift, mesh }
}

fn inet(address: &str) -> String {
    format!("/$/inet/{}", address.replace(':', "/"))
}

fn ask(address: &str) -> Answer {
    let headers = [("Host", "world"), ("Connection", "close")];
    let request = Request { method: "GET", target: "/", headers: &headers, body: None };
    Connection::open(address).unwrap().send(&request).unwrap()
}

#[test]
fn a_router_follows_over_the_ports_of_thrift_and_mesh() {
    let answer = Answer { status: 200, headers: Vec::new(), body: b"world".to_vec() };
    let backend = Recorder::start(Reply::Script(answer));
    let control = control(&format!("/svc/world => {}", inet(&backend.authority)));
    let router = |label: &str, interpreter: Value| json!({ "protocol": "http", "label": label, "servers": [{ "port": 0 }], "interpreter": interpreter });
    let thrift = json!({ "kind": "io.l5d.namerd", "dst": inet(&control.thrift), "namespace": "internal" });
    let mesh = json!({ "kind": "io.l5d.mesh", "dst": inet(&control.mesh), "root": "/internal" });
    let routers =
        start("router", &json!({ "admin": { "port": 0 }, "routers": [router("a", thrift), router("b", mesh)] }));
    let admin = after(&routers, "admin on ");
    for (label, kind) in [("a", "io.l5d.namerd"), ("b", "io.l5d.mesh")] {
        let address = after(&routers, &format!("serving {label} on "));
        until("an answer through the router", LIMIT, || match ask(&address) {
            answer if answer.status == 200 => Ok(()),
            answer => Err(answer.text()),
        });
        let state = http::get(&format!("http://{admin}/{label}/interpreter_state/{kind}/internal.json"), &[]).json();
        assert_eq!(state["mode"], "follow", "{state}");
    }
    // What is open to routers is not open to editors.
    for address in [&control.thrift, &control.mesh] {
        let url = format!("http://{address}/api/1/dtabs/internal");
        assert_eq!(http::get(&url, &[]).status, 200);
        let headers = [("Content-Type", "application/dtab")];
        let refused = http::request("PUT", &url, &headers, Some(b"/svc => /nobody")).unwrap();
        assert_eq!(refused.status, 403, "{}", refused.text());
        assert!(refused.text().contains("io.l5d.httpController"), "{}", refused.text());
    }
}

#[test]
fn a_linkerd_is_refused_in_its_own_protocol_and_the_log_says_so() {
    let control = control("");
    let talk = |address: &str, bytes: &[u8]| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    };
    let mux = talk(&control.thrift, b"\0\0\0\x0f\x7f\0\0\x01tinit check");
    assert_eq!(mux[4..8], [0x80, 0, 0, 1], "an error with the tag that was asked with");
    assert!(String::from_utf8_lossy(&mux).contains("io.l5d.namerd.http"));
    let http2 = talk(&control.mesh, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert_eq!(http2[9 + 3], 7, "a GOAWAY behind the settings");
    assert!(String::from_utf8_lossy(&http2).contains("io.l5d.namerd.http"));
    for kind in ["io.l5d.thriftNameInterpreter", "io.l5d.mesh"] {
        let wanted = format!("interface=\"{kind}\"");
        until(&wanted, LIMIT, || {
            let text = control.process.text();
            let line = text.lines().find(|line| line.contains("refusing a connection") && line.contains(&wanted));
            line.map(|_| ()).ok_or(text.clone())
        });
    }
}

#[test]
fn a_namerd_behind_an_old_interpreter_is_named_in_the_routers_state() {
    // Whoever answers Mux, or nothing, instead of HTTP.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 64];
            let read = stream.read(&mut head).unwrap_or(0);
            assert!(read > 0);
            stream.write_all(b"\0\0\0\x08\x80\0\0\x01nope").unwrap();
        }
    });
    let interpreter = json!({ "kind": "io.l5d.namerd", "dst": inet(&address) });
    let routers = start(
        "router",
        &json!({ "admin": { "port": 0 }, "routers": [
            { "protocol": "http", "label": "a", "servers": [{ "port": 0 }], "interpreter": interpreter },
        ] }),
    );
    let admin = after(&routers, "admin on ");
    until("a hint", LIMIT, || {
        let state = http::get(&format!("http://{admin}/a/interpreter_state/io.l5d.namerd/default.json"), &[]).json();
        match state["lastEnd"].as_str() {
            Some(text) if text.contains("interpreter kind io.l5d.namerd.http") => Ok(()),
            _ => Err(state),
        }
    });
}
