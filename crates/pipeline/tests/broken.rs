//! New versions that do not work: they are taken away again, and the reason says why.

#![allow(clippy::unwrap_used)]

mod common;

use common::{LIMIT, World};
use serde_json::{Value, json};
use testkit::process;
use testkit::until::until;

#[test]
fn instance() {
    common::instance::run();
}

#[test]
fn server() {
    common::serve();
}

/// Deploys a version that misbehaves like this, and gives the reason of its end.
fn reason(mode: &str, stage: &str) -> String {
    let mut world = World::new();
    world.pipeline = world.pipeline.replace("INSTANCE_MODE: \"\"", &format!("INSTANCE_MODE: {mode}"));
    world.pipeline = world.pipeline.replace("timeoutSeconds: 5", "timeoutSeconds: 2");
    let server = world.server();
    let id = server.start(json!({}));
    let deploy = server.rests_at(&id, "reverted");
    let failed: Vec<&Value> =
        deploy["stages"].as_array().unwrap().iter().filter(|stage| stage["state"] == "failed").collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["name"], stage);
    world.is_at("world-v1", "first");
    deploy["reason"].as_str().unwrap().to_owned()
}

#[track_caller]
fn check(mode: &str, stage: &str, expected: &[&str]) {
    let reason = reason(mode, stage);
    for part in expected {
        assert!(reason.contains(part), "{mode}: {part} in {reason}");
    }
}

#[test]
fn one_that_never_gets_ready() {
    check("silent", "deploy", &["world-v2-1 is not ready after 2 s", "Connection refused"]);
}

#[test]
fn one_that_ends_at_once() {
    check("exit", "deploy", &["ends again and again", "ended with status 3", "no configuration found"]);
}

#[test]
fn one_that_answers_500_through_the_routers() {
    check("broken", "integration testing", &["does not reach world-v2", "500 Internal Server Error", "broken"]);
}

#[test]
fn one_that_is_not_what_answers() {
    check("wrong", "integration testing", &["without the proof", "somebody else"]);
}

#[test]
fn one_that_crashes_at_10_percent() {
    let mut world = World::new();
    let flag = world.path("crash");
    world.pipeline = world
        .pipeline
        .replace("INSTANCE_MODE: \"\"", &format!("INSTANCE_MODE: crash\n    CRASH_WHEN: {}", flag.display()));
    let server = world.server();
    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");
    server.approve(&id);
    server.rests_at(&id, "shift traffic (10%)");
    std::fs::write(&flag, "").unwrap();
    let deploy = server.rests_at_later(&id, "reverted");
    let reason = deploy["reason"].as_str().unwrap();
    assert!(reason.contains("ends again and again") && reason.contains("world-v2-"), "{reason}");
    world.is_at("world-v1", "first");
}

#[test]
fn one_crash_is_no_reason_to_stop() {
    let world = World::new();
    let server = world.server();
    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");
    let pid = |deploy: &Value| {
        let instances = deploy["instances"].as_array().unwrap().clone();
        let instance = instances.into_iter().find(|instance| instance["name"] == "world-v2-1").unwrap();
        (instance["ready"] == true, instance["pid"].as_u64().unwrap_or(0) as u32)
    };
    let (_, old) = pid(&server.deploy(&id));
    process::signal(old, "KILL");
    until("it runs again", LIMIT, || match pid(&server.deploy(&id)) {
        (true, new) if new != old => Ok(()),
        other => Err(other),
    });
    for stage in ["shift traffic (10%)", "shift traffic (100%)", "succeeded"] {
        server.approve(&id);
        server.rests_at(&id, stage);
    }
    world.is_at("world-v2", "second");
}

#[test]
fn an_abort_ends_a_start_that_is_under_way() {
    let mut world = World::new();
    world.pipeline = world.pipeline.replace("INSTANCE_MODE: \"\"", "INSTANCE_MODE: silent");
    world.pipeline = world.pipeline.replace("timeoutSeconds: 5", "timeoutSeconds: 600");
    let server = world.server();
    let id = server.start(json!({}));
    until("its processes run", LIMIT, || {
        let processes = world.processes();
        if processes.len() == 4 { Ok(()) } else { Err(processes) }
    });
    server.abort(&id);
    let deploy = server.rests_at(&id, "reverted");
    assert_eq!(deploy["stages"][1]["state"], "failed");
    assert_eq!(deploy["stages"][5]["state"], "skipped");
    world.is_at("world-v1", "first");
}
