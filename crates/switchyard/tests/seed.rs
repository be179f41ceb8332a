//! `switchyard dtab seed`: what a job that prepares a control plane can rely on.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::TcpListener;

use common::{Namerd, switchyard};
use serde_json::json;
use testkit::http;
use testkit::process::{Finished, run};

fn seed(api: &str, arguments: &[&str]) -> Finished {
    run(switchyard().args(["dtab", "--base-url", api, "seed"]).args(arguments), b"")
}

#[test]
fn namespaces_are_created_once_and_never_changed() {
    let namerd = Namerd::with_namespaces(&json!({ "old": "/svc => /kept" }));
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let (first, second) = (file("first", "/svc => /host;\n"), file("second", "/svc => /other"));
    let old = seed(&namerd.api, &[&format!("new={first}"), &format!("old={second}")]);
    assert_eq!((old.code, old.stdout.as_str()), (0, "Created new\nold exists already\n"), "{}", old.stderr);
    let again = seed(&namerd.api, &[&format!("new={second}")]);
    assert_eq!((again.code, again.stdout.as_str()), (0, "new exists already\n"), "{}", again.stderr);
    for (namespace, dtab) in [("new", "/host"), ("old", "/kept")] {
        let found = http::get(&format!("{}/api/1/dtabs/{namespace}", namerd.api), &[]).json();
        assert_eq!(found, json!([{ "prefix": "/svc", "dst": dtab }]));
    }
    let bad = seed(&namerd.api, &["--within=60s", &format!("bad={}", file("bad", "no dtab"))]);
    assert_eq!(bad.code, 2, "a dtab that makes no sense is not tried again: {}", bad.stderr);
    assert_eq!(seed(&namerd.api, &["new"]).code, 2, "no file");
    assert_eq!(seed(&namerd.api, &["new=/no/such/file"]).code, 1);
}

#[test]
fn a_control_plane_that_cannot_be_reached_is_tried_again_for_the_time_given() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let api = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let once = seed(&api, &["new=/dev/null"]);
    assert_eq!((once.code, once.stderr.matches("trying again").count()), (1, 0), "{}", once.stderr);
    let several = seed(&api, &["--within=1s", "new=/dev/null"]);
    assert!(several.code == 1 && several.stderr.matches("trying again").count() >= 2, "{}", several.stderr);
}
