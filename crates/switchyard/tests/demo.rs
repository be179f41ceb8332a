//! The demo itself: what it says, what it leaves behind, and what it refuses.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::TcpListener;

use common::demo::{Demo, PORTS};
use common::{LIMIT, switchyard};
use testkit::process::{self, Process};

#[test]
fn a_temporary_demo_leaves_nothing_behind() {
    let offset = testkit::ports::take(PORTS);
    let place = tempfile::tempdir().unwrap();
    let mut demo = Process::start(
        switchyard().args(["demo", "--port-offset", &offset.value.to_string()]).env("TMPDIR", place.path()),
    );
    let line = demo.line("all of it, for programs", LIMIT);
    let file = line.split_whitespace().last().unwrap().to_owned();
    let text = std::fs::read_to_string(&file).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let processes = document["processes"].as_array().unwrap();
    let names: Vec<&str> = processes.iter().map(|process| process["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["namerd", "router", "pipeline", "hello-1", "hello-2", "hello-3", "world-v1-1", "world-v1-2", "world-v1-3"]
    );
    let pids: Vec<u32> = processes.iter().map(|process| process["pid"].as_u64().unwrap() as u32).collect();
    assert!(pids.iter().all(|pid| process::is_alive(*pid)));

    demo.signal("INT");
    assert_eq!(demo.wait(LIMIT), 0, "{}", demo.text());
    let left: Vec<&u32> = pids.iter().filter(|pid| process::is_alive(**pid)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "the directory is removed");
}

#[test]
fn a_port_in_use_is_named_with_what_wanted_it_and_the_flag() {
    let offset = testkit::ports::take(PORTS);
    let _held = TcpListener::bind(("127.0.0.1", 4142 + offset.value)).unwrap();
    let place = tempfile::tempdir().unwrap();
    let finished = process::run(
        switchyard().args(["demo", "--port-offset", &offset.value.to_string()]).env("TMPDIR", place.path()),
        b"",
    );
    assert_eq!(finished.code, 1);
    for wanted in [&format!("port {}", 4142 + offset.value), "router external", "--port-offset"] {
        assert!(finished.stderr.contains(wanted), "{wanted} in {}", finished.stderr);
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn a_directory_has_one_demo_at_a_time_and_one_offset() {
    let demo = Demo::start();
    let second = process::run(switchyard().arg("demo").arg("--dir").arg(demo.path()), b"");
    assert_eq!(second.code, 1);
    assert!(second.stderr.contains("another demo"), "{}", second.stderr);
    let other = process::run(switchyard().args(["demo", "--port-offset", "1", "--dir"]).arg(demo.path()), b"");
    assert_eq!(other.code, 1);
    assert!(other.stderr.contains("--port-offset"), "{}", other.stderr);
}

#[test]
fn what_dies_is_started_again_under_its_name() {
    let demo = Demo::start();
    for name in ["hello-1", "world-v1-3", "namerd", "router", "pipeline"] {
        let old = demo.pids()[name];
        demo.kill(name);
        demo.back(name, old);
    }
    demo.is_at("world-v1", "world");
}
