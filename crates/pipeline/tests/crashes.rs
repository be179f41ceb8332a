//! `kill -9` of the pipeline server at every step of a deploy: it goes on, or goes back, and nothing is
//! left behind.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{LIMIT, Server, World};
use serde_json::{Value, json};
use testkit::http;
use testkit::until::until;

#[test]
fn instance() {
    common::instance::run();
}

#[test]
fn server() {
    common::serve();
}

fn lines(world: &World) -> usize {
    let journal = std::fs::read(world.path("state/journal/000001.jsonl")).unwrap_or_default();
    journal.iter().filter(|byte| **byte == b'\n').count()
}

/// How a deploy is treated.
struct Treatment {
    /// Gates to approve before the abort; `None`: all of them.
    abort_at: Option<usize>,
    seed: u64,
}

/// One deploy whose server is killed after every line that it writes.
fn drive(world: &World, treatment: &Treatment) -> (Value, u32) {
    let mut random = fastrand::Rng::with_seed(treatment.seed);
    // Time to be killed in the middle of each effect.
    world.control.fault(|faults| faults.slow = Duration::from_millis(20));
    let mut server = world.server();
    server.start(json!({}));
    let (mut killed_at, mut kills, began) = (0, 0, Instant::now());
    loop {
        assert!(began.elapsed() < LIMIT * 3, "{}", server.log("1"));
        let count = lines(world);
        // One line says that it was started again; the next one is a step.
        let stepped = count >= killed_at + if kills == 0 { 1 } else { 2 };
        // An ended deploy's journal is one line.
        if stepped && count > 1 {
            std::thread::sleep(Duration::from_millis(random.u64(0..30)));
            killed_at = lines(world);
            server.kill();
            kills += 1;
            server = world.server();
            continue;
        }
        let deploy = server.deploy("1");
        match deploy["state"].as_str().unwrap() {
            "waiting" => decide(&server, &deploy, treatment.abort_at),
            "running" => std::thread::sleep(Duration::from_millis(1)),
            _ => {
                server.stop();
                return (deploy, kills);
            }
        }
    }
}

fn decide(server: &Server, deploy: &Value, abort_at: Option<usize>) {
    let gates = ["integration testing", "shift traffic (10%)", "shift traffic (100%)"];
    let gate = gates.iter().position(|gate| deploy["stage"] == *gate).unwrap();
    let verb = if abort_at == Some(gate) { "abort" } else { "approve" };
    let body = json!({"actor": "grace", "stage": gates[gate]});
    server.post(&format!("/api/1/deploys/1/{verb}"), &body);
}

fn check(abort_at: Option<usize>, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let world = World::new();
        let (deploy, kills) = drive(&world, &Treatment { abort_at, seed });
        let (state, version, text) = match abort_at {
            None => ("succeeded", "world-v2", "second"),
            Some(_) => ("reverted", "world-v1", "first"),
        };
        assert_eq!(deploy["state"], state, "seed {seed}: {deploy:#}");
        // A slow machine takes several steps between two looks.
        assert!(kills >= 5, "seed {seed}: only {kills} kills");
        world.is_at(version, text);
    }
}

#[test]
fn a_deploy_goes_through_although_the_server_dies_at_every_step() {
    check(None, 0..2);
}

#[test]
fn an_abort_at_the_first_gate_goes_through_although_the_server_dies_at_every_step() {
    check(Some(0), 10..11);
}

#[test]
fn an_abort_at_the_second_gate_goes_through_although_the_server_dies_at_every_step() {
    check(Some(1), 20..21);
}

#[test]
fn an_abort_at_the_last_gate_goes_through_although_the_server_dies_at_every_step() {
    check(Some(2), 30..31);
}

#[test]
fn requests_go_on_while_the_server_is_dead() {
    let world = World::new();
    let server = world.server();
    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");
    server.approve(&id);
    server.rests_at(&id, "shift traffic (10%)");
    let pids = |world: &World| -> Vec<u32> {
        let read = |name: &String| supervise::Running::read(&world.path("processes"), name).unwrap().pid;
        world.processes().iter().map(read).collect()
    };
    let before = pids(&world);
    server.kill();
    for _ in 0..50 {
        assert_eq!(http::get(&world.frontend, &[]).status, 200);
    }
    let server = world.server();
    assert_eq!(server.deploy(&id)["state"], "waiting");
    assert_eq!(pids(&world), before, "what runs is adopted, not started again");
    until("the log tells it", LIMIT, || {
        let log = server.log(&id);
        if log.contains("was started again") { Ok(()) } else { Err(log) }
    });
    server.approve(&id);
    server.rests_at(&id, "shift traffic (100%)");
    server.approve(&id);
    server.rests_at(&id, "succeeded");
    world.is_at("world-v2", "second");
    server.stop();
}

#[test]
fn a_line_that_broke_off_never_counted() {
    let world = World::new();
    let server = world.server();
    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");
    server.kill();
    let path = world.path("state/journal/000001.jsonl");
    let mut journal = std::fs::read(&path).unwrap();
    journal.extend_from_slice(b"{\"step\":{\"time\":\"2026");
    std::fs::write(&path, &journal).unwrap();
    // One that was never begun, and one that was being shortened.
    std::fs::write(world.path("state/journal/000002.jsonl"), b"{\"begin\":").unwrap();
    std::fs::write(world.path("state/journal/000001.new"), b"{").unwrap();
    let server = world.server();
    assert_eq!(server.get("/api/1/deploys").json().as_array().unwrap().len(), 1);
    server.abort(&id);
    server.rests_at(&id, "reverted");
    world.is_at("world-v1", "first");
    server.kill();

    // In the middle a line that cannot be read is nothing to guess about.
    std::fs::write(&path, b"{\"nonsense\":1}\n").unwrap();
    let mut command = std::process::Command::new(common::this());
    command.args(["--exact", "server", "--nocapture"]).env("SERVER_CONFIG", world.config().to_string());
    let refused = testkit::process::run(&mut command, b"");
    assert!(refused.stdout.contains("000001.jsonl: line 1 cannot be read; move the file away"), "{}", refused.stdout);
}

#[test]
fn a_server_of_a_throw_away_demo_takes_its_processes_along() {
    let world = World::new();
    let mut config = world.config();
    config["processesDieWithMe"] = json!(true);
    let server = world.server_with(&config);
    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");
    let pid = |name: &str| supervise::Running::read(&world.path("processes"), name).unwrap().pid;
    let new = pid("world-v2-1");
    server.kill();
    until("it died with the server", LIMIT, || if testkit::process::is_alive(new) { Err(()) } else { Ok(()) });

    // The next one starts it again, and the deploy goes on; ended as it should, it stops them all.
    let server = world.server_with(&config);
    server.approve(&id);
    server.rests_at(&id, "shift traffic (10%)");
    let pids = ["world-v1-1", "world-v2-1"].map(pid);
    server.stop();
    assert!(pids.iter().all(|pid| !testkit::process::is_alive(*pid)));
}
