//! The demo itself: what it says, what it leaves behind, and what it refuses.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::demo::{Demo, PORTS};
use common::{LIMIT, switchyard};
use testkit::process::{self, Process};
use testkit::until::until;

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

    // Who does as told, on the same directory, is not held to the offset that did not work.
    let start = |offset: u16| {
        process::run(
            switchyard()
                .args(["demo", "--port-offset", &offset.to_string(), "--dir"])
                .arg(place.path())
                .env("PATH", ""),
            b"",
        )
    };
    assert!(start(offset.value).stderr.contains("is in use"));
    let other = testkit::ports::take(PORTS);
    let finished = start(other.value);
    assert!(finished.stderr.contains("needs it (Debian package git)"), "without git: {}", finished.stderr);
    assert_eq!(finished.code, 1);
    assert!(!place.path().join("repo").exists(), "no half of a repository is taken for one");
}

/// Processes that work below a directory, by their numbers.
fn processes_in(directory: &Path) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter(|process| std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(directory)))
        .map(|process| process.file_name().into_string().unwrap())
        .collect()
}

#[test]
fn an_interrupted_start_leaves_nothing_behind_however_impatient_the_person() {
    let offset = testkit::ports::take(PORTS);
    let place = tempfile::tempdir().unwrap();
    let mut demo = Process::start(
        switchyard().args(["demo", "--port-offset", &offset.value.to_string()]).env("TMPDIR", place.path()),
    );
    demo.line("starting pipeline", LIMIT);
    demo.signal("INT");
    demo.line("ending everything", LIMIT);
    demo.signal("INT");
    demo.signal("TERM");
    assert_eq!(demo.wait(LIMIT), 0, "{}", demo.text());
    assert_eq!(processes_in(place.path()), [""; 0]);
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn a_reader_that_goes_away_stops_nothing_and_the_end_is_in_good_order() {
    let offset = testkit::ports::take(PORTS);
    let place = tempfile::Builder::new().prefix("it's \"$a b\"").tempdir().unwrap();
    let mut demo = switchyard()
        .args(["demo", "--port-offset", &offset.value.to_string(), "--dir"])
        .arg(place.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(demo.stdout.take());
    drop(demo.stderr.take());
    until("demo.json", LIMIT, || if place.path().join("demo.json").exists() { Ok(()) } else { Err(()) });
    process::signal(demo.id(), "TERM");
    assert_eq!(demo.wait().unwrap().code(), Some(0));
    assert_eq!(processes_in(place.path()), [""; 0]);
}

#[test]
fn a_full_disk_ends_nothing_that_serves() {
    let place = tempfile::tempdir().unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=16m", "none"]).arg(place.path());
    if process::run(&mut mount, b"").code != 0 {
        eprintln!("not tested: only root can mount a small disk");
        return;
    }
    let _unmount = Unmount(place.path().to_owned());
    let mut demo = Demo::start_in(place.path());
    let ballast = place.path().join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    let load = demo.load();
    // Each of them logs its end, and its start: on the full disk.
    for name in ["hello-1", "world-v1-1"] {
        process::signal(demo.pids()[name], "TERM");
    }
    let router = demo.pids()["router"];
    assert_eq!(demo.run(&["dtab", "edit", "internal", "--set", "/host/x => /srv/x"]).code, 1, "the store is full");
    std::fs::remove_file(&ballast).unwrap();
    demo.back("hello-1", 0);
    demo.back("world-v1-1", 0);
    demo.expect(0, &["dtab", "edit", "internal", "--set", "/host/x => /srv/x", "--wait"]);
    assert_eq!(demo.pids()["router"], router, "the router has not died of its log");
    assert_eq!(load.stop().failures, [""; 0]);
    demo.is_at("world-v1", "world");
    demo.stop();
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        process::run(Command::new("umount").arg("-l").arg(&self.0), b"");
    }
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
