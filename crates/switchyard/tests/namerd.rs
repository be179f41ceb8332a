//! `switchyard namerd` as a process: what it refuses, how it ends, and what survives `kill -9`.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{LIMIT, switchyard};
use serde_json::{Value, json};
use testkit::http;
use testkit::process::{self, Process};

/// What comes of a document on standard input.
fn refused(document: &str) -> String {
    let finished = process::run(switchyard().args(["namerd", "--validate", "-"]), document.as_bytes());
    assert_eq!((finished.code, finished.stdout.as_str()), (1, ""), "{document}\n{}", finished.stderr);
    finished.stderr
}

#[test]
fn documents_are_refused_by_file_key_and_what_to_do() {
    let valid = "storage: {kind: io.l5d.inMemory}\ninterfaces: [{kind: io.l5d.httpController}]\n";
    for more in ["", "telemetry: [{kind: io.l5d.influxdb}]\nnamers: null\n"] {
        let document = format!("{valid}{more}");
        let finished = process::run(switchyard().args(["namerd", "--validate", "-"]), document.as_bytes());
        assert_eq!((finished.code, finished.stderr.as_str()), (0, ""));
    }
    let http = "interfaces: [{kind: io.l5d.httpController}]\n";
    let memory = "storage: {kind: io.l5d.inMemory}\n";
    let cases: &[(String, &[&str])] = &[
        (memory.to_owned(), &["standard input: interfaces: 'interfaces' field is required"]),
        (format!("{memory}interfaces: []\n"), &["One or more interfaces must be specified"]),
        (http.to_owned(), &["storage: 'storage' field is required", "io.switchyard.sqlite"]),
        (
            format!("{http}storage: {{kind: io.l5d.zk}}\n"),
            &[
                "storage.kind: the storage `io.l5d.zk` is not supported yet",
                "use io.l5d.k8s, io.switchyard.sqlite",
                "(line 2)",
            ],
        ),
        (format!("{http}storage: {{kind: nope}}\n"), &["unknown storage `nope`"]),
        (format!("{http}storage: {{kind: io.switchyard.sqlite}}\n"), &["storage: missing field `path`"]),
        (
            format!("{http}storage: {{kind: io.l5d.inMemory, namespaces: {{n: 'oops'}}}}\n"),
            &["storage.namespaces.n: `oops`: '/' expected but 'o' found at '[o]ops'"],
        ),
        (
            format!("{memory}interfaces: [{{kind: io.l5d.destination}}]\n"),
            &["interfaces[0].kind: the interface `io.l5d.destination` is not supported yet", "io.l5d.httpController"],
        ),
        (
            format!("{memory}interfaces: [{{kind: io.l5d.thriftNameInterpreter, cache: {{}}}}]\n"),
            &["interfaces[0].cache: is not supported: take it out"],
        ),
        (
            format!("{memory}interfaces: [{{kind: io.l5d.httpController, port: 70000}}]\n"),
            &["interfaces[0].port: invalid value: integer `70000`"],
        ),
        (
            format!("{memory}interfaces: [{{kind: io.l5d.httpController, tls: {{}}}}]\n"),
            &["interfaces[0].tls: missing field `certPath`"],
        ),
        (
            format!("{memory}interfaces: [{{kind: io.l5d.httpController, socketOptions: {{readTimeoutMs: 0}}}}]\n"),
            &["interfaces[0].socketOptions.readTimeoutMs: must be greater than 0"],
        ),
        (format!("{memory}{http}surprise: 1\n"), &["surprise: unknown key, expected one of `admin`", "(line 3)"]),
        (format!("{memory}interfaces: {{}}\n"), &["interfaces: expected a list, not `{}`"]),
        (format!("{memory}{http}telemetry: [{{kind: io.l5d.influxdb, x: 1}}]\n"), &["telemetry[0].x: unknown field"]),
        // All in one go.
        (
            "storage: {kind: io.l5d.etcd}\nnamers: [{kind: io.l5d.consul}, {kind: io.l5d.marathon}]\nadmin: {port: x}\n\
             interfaces: [{kind: io.l5d.thriftNameInterpreter, retryBaseSecs: 1, retryJitterSecs: 1}]\nmore: 1\n"
                .to_owned(),
            &[
                "storage.kind: the storage `io.l5d.etcd`",
                "namers[0].kind: the namer `io.l5d.consul`",
                "namers[1].kind: the namer `io.l5d.marathon`",
                "admin.port: invalid type",
                "interfaces[0].retryBaseSecs: is not supported: take it out",
                "interfaces[0].retryJitterSecs: is not supported",
                "more: unknown key",
            ],
        ),
        (format!("{memory}{http}{memory}"), &["duplicate mapping key: storage (line"]),
        (String::new(), &["standard input: the document must be a map", "'storage' and 'interfaces'"]),
        ("[1, 2]".to_owned(), &["the document must be a map"]),
        (
            format!("{memory}{http}admin: {{security: {{pathBlacklist: ['(']}}}}\n"),
            &["admin.security.pathBlacklist[0]: cannot read `(`"],
        ),
        (format!("{memory}{http}namers: [{{kind: io.l5d.consul}}]\n"), &["namers[0].kind", "io.l5d.consul"]),
        (
            format!("{memory}{http}telemetry: [{{kind: io.l5d.statsd}}]\n"),
            &["telemetry[0].kind: the telemeter `io.l5d.statsd` is not supported yet"],
        ),
    ];
    for (document, parts) in cases {
        let text = refused(document);
        assert!(parts.iter().all(|part| text.contains(part)), "{document}\n{text}");
    }
}

struct Running {
    process: Process,
    api: String,
    admin: String,
}

fn start(file: &Path, port: u16) -> Running {
    let document = json!({
        "admin": { "port": 0 },
        "storage": { "kind": "io.switchyard.sqlite", "path": file },
        "interfaces": [{ "kind": "io.l5d.httpController", "port": port }],
    });
    let config = file.with_extension("json");
    std::fs::write(&config, document.to_string()).unwrap();
    let process = Process::start(switchyard().arg("namerd").arg(&config));
    let address = |text: &str| {
        let line = process.line(text, LIMIT);
        format!("http://{}", line.rsplit(" on ").next().unwrap().trim())
    };
    let (api, admin) = (address("serving io.l5d.httpController on "), address("serving admin on "));
    Running { process, api, admin }
}

const DTAB: &[(&str, &str)] = &[("Content-Type", "application/dtab"), ("l5d-author", "test")];

#[test]
fn it_ends_in_good_order() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dtabs.db");
    for way in ["TERM", "INT", "shutdown"] {
        let mut running = start(&file, 0);
        // An open stream does not hold it up.
        let url = format!("{}/api/1/dtabs?watch=true", running.api);
        let watcher = std::thread::spawn(move || http::get(&url, &[]).status);
        let write = format!("{}/api/1/dtabs/{way}", running.api);
        assert_eq!(http::request("PUT", &write, DTAB, Some(b"/a => /b")).unwrap().status, 204);
        match way {
            "shutdown" => {
                let url = format!("{}/admin/shutdown", running.admin);
                assert_eq!(http::request("POST", &url, &[], Some(b"")).unwrap().status, 200);
            }
            signal => running.process.signal(signal),
        }
        assert_eq!(running.process.wait(LIMIT), 0, "{}", running.process.text());
        assert_eq!(watcher.join().unwrap(), 200);
    }
    let running = start(&file, 0);
    let names = http::get(&format!("{}/api/1/dtabs", running.api), &[]).text();
    assert_eq!(names, "[\"INT\",\"TERM\",\"shutdown\"]\n");
    // The port is taken, and so is the file.
    let port: u16 = running.api.rsplit(':').next().unwrap().parse().unwrap();
    let config = directory.path().join("second.yaml");
    let document = format!(
        "admin: {{port: 0}}\nstorage: {{kind: io.switchyard.sqlite, path: second.db}}\ninterfaces: [{{kind: io.l5d.httpController, port: {port}}}]\n"
    );
    std::fs::write(&config, &document).unwrap();
    let finished = process::run(switchyard().arg("namerd").arg(&config), b"");
    assert_eq!(finished.code, 1);
    let wanted = format!("interfaces[0].port: cannot listen on 127.0.0.1:{port}: Address already in use");
    assert!(finished.stderr.contains(&wanted), "{}", finished.stderr);
    std::fs::write(&config, document.replace("second.db", "dtabs.db").replace(&port.to_string(), "0")).unwrap();
    let finished = process::run(switchyard().arg("namerd").arg(&config), b"");
    assert!(finished.stderr.contains("dtabs.db is in use by another control plane"), "{}", finished.stderr);
}

/// Writers on several namespaces; the process is killed in the middle of that, several times.
#[test]
fn what_was_acknowledged_survives_kill_9() {
    const WRITERS: usize = 4;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dtabs.db");
    let acknowledged: Vec<AtomicU64> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
    for round in 0..5_u64 {
        let mut running = start(&file, 0);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for (writer, last) in acknowledged.iter().enumerate() {
                let (api, over) = (running.api.clone(), &over);
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let next = last.load(Ordering::Relaxed) + 1;
                        let body = format!("/svc => /{next}");
                        let url = format!("{api}/api/1/dtabs/n{writer}");
                        match http::request("PUT", &url, DTAB, Some(body.as_bytes())) {
                            Ok(answer) if answer.status == 204 => last.store(next, Ordering::Relaxed),
                            Ok(answer) => panic!("{} {}", answer.status, answer.text()),
                            Err(_) => return,
                        }
                    }
                });
            }
            let enough = round * 10 + 10;
            testkit::until::until("all write", LIMIT, || {
                let least = acknowledged.iter().map(|last| last.load(Ordering::Relaxed)).min().unwrap();
                if least >= enough { Ok(()) } else { Err(least) }
            });
            running.process.signal("KILL");
            running.process.wait(LIMIT);
            over.store(true, Ordering::Relaxed);
        });
        let running = start(&file, 0);
        for (writer, last) in acknowledged.iter().enumerate() {
            let target = format!("{}/api/1/dtabs/n{writer}", running.api);
            let history: Vec<Value> =
                serde_json::from_value(http::get(&format!("{target}/history?limit=1000000"), &[]).json()).unwrap();
            let stored = http::get(&target, &[("Accept", "application/dtab")]).text();
            let stored: u64 = stored.trim().rsplit('/').next().unwrap().parse().unwrap();
            let told = last.load(Ordering::Relaxed);
            // The last write may have been stored without its answer having arrived.
            assert!(stored == told || stored == told + 1, "{told} was acknowledged, {stored} is stored");
            last.store(stored, Ordering::Relaxed);
            assert_eq!(history.len() as u64, stored, "each revision once");
        }
    }
}

#[test]
fn levels_can_be_changed() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(&directory.path().join("dtabs.db"), 0);
    let url = format!("{}/logging.json", running.admin);
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let levels = http::request("POST", &url, &form, Some(b"logger=control&level=DEBUG")).unwrap();
    assert!(levels.text().contains(r#"{"logger":"control","level":"DEBUG"}"#), "{}", levels.text());
    assert_eq!(http::request("POST", &url, &form, Some(b"logger=control&level=LOUD")).unwrap().status, 400);
}

#[test]
fn the_history_on_the_command_line_is_bounded_and_undo_finds_what_is_old() {
    let namerd = common::Namerd::with_namespaces(&json!({}));
    let target = format!("{}/api/1/dtabs/n", namerd.api);
    let header = [("Content-Type", "application/dtab")];
    for number in 0..130 {
        let method = if number == 0 { "POST" } else { "PUT" };
        let body = format!("/n => /v{number}");
        assert_eq!(http::request(method, &target, &header, Some(body.as_bytes())).unwrap().status, 204);
    }
    let dtab = |arguments: &[&str]| {
        let mut command = switchyard();
        command.arg("dtab").args(arguments).env("NAMERCTL_BASE_URL", &namerd.api);
        let finished = process::run(&mut command, b"");
        assert_eq!(finished.code, 0, "{arguments:?}: {}{}", finished.stdout, finished.stderr);
        finished.stdout
    };
    let stored = || http::get(&target, &[("Accept", "application/dtab")]).text().trim().to_owned();
    let history = |more: &[&str]| -> Vec<Value> {
        serde_json::from_str(&dtab(&[&["history", "n", "-o", "json"], more].concat())).unwrap()
    };
    assert_eq!((history(&[]).len(), history(&["--limit", "3"]).len()), (100, 3));
    let patch = dtab(&["history", "n", "--limit", "1", "--patch"]);
    assert!(patch.contains("- /n => /v128") && patch.contains("+ /n => /v129"), "{patch}");
    dtab(&["undo", "n"]);
    assert_eq!(stored(), "/n=>/v128");
    let oldest = history(&["--limit", "1000"]).last().unwrap()["version"].as_str().unwrap().to_owned();
    dtab(&["undo", "n", "--to", &oldest]);
    assert_eq!(stored(), "/n=>/v0");
}
