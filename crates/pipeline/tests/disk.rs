//! A full disk: the journal's space is reserved, so a deploy that has begun can always go back.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{LIMIT, World};
use serde_json::json;
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

/// A small filesystem, where this machine lets us mount one.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf) -> Option<Disk> {
        std::fs::create_dir_all(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m", "none"]).arg(&path);
        match process::run(&mut mount, b"").code {
            0 => Some(Disk(path)),
            _ => {
                eprintln!("not tested: only root can mount a small disk");
                None
            }
        }
    }

    /// Leaves no byte free.
    fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        let mut file = std::fs::File::create(&ballast).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        ballast
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        process::run(Command::new("umount").arg("-l").arg(&self.0), b"");
    }
}

fn journal(path: &Path) -> usize {
    std::fs::read_dir(path.join("journal")).unwrap().count()
}

#[test]
fn a_deploy_is_not_begun_on_a_full_disk() {
    let world = World::new();
    let Some(disk) = Disk::mount(world.path("state")) else { return };
    let server = world.server();
    let ballast = disk.fill();
    let answer = server.post("/api/1/deploys", &json!({"pipeline": "hello_world"}));
    assert_eq!(answer.status, 507, "{}", answer.text());
    assert!(answer.json()["error"].as_str().unwrap().contains("No space left"), "{}", answer.text());
    assert_eq!(journal(&disk.0), 0);
    assert_eq!(server.get("/api/1/deploys").json(), json!([]));
    std::fs::remove_file(ballast).unwrap();
    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");
    server.abort(&id);
    server.rests_at(&id, "reverted");
    world.is_at("world-v1", "first");
    server.kill();
}

#[test]
fn a_disk_that_fills_up_takes_nothing_from_a_deploy_that_has_begun() {
    let world = World::new();
    let Some(disk) = Disk::mount(world.path("state")) else { return };
    let server = world.server();
    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");
    disk.fill();
    // Every decision is still written before it is done, also by a server that was killed.
    server.approve(&id);
    server.rests_at(&id, "shift traffic (10%)");
    server.kill();
    let server = world.server();
    assert_eq!(server.deploy(&id)["state"], "waiting");
    server.abort(&id);
    server.rests_at(&id, "reverted");
    world.is_at("world-v1", "first");
    server.kill();
    let server = world.server();
    assert_eq!(server.deploy(&id)["state"], "reverted");
    server.kill();
}

#[test]
fn a_deploy_goes_back_while_the_space_for_that_is_left() {
    let world = World::new();
    std::fs::create_dir(world.path("state")).unwrap();
    let Some(disk) = Disk::mount(world.path("state/journal")) else { return };
    let server = world.server();
    let ballast = disk.fill();
    let file = std::fs::File::options().write(true).open(&ballast).unwrap();
    file.set_len(file.metadata().unwrap().len() - 400 * 1024).unwrap();
    // Room for a deploy of a short text; this one is known only once it was fetched.
    world.commit(&"long ".repeat(8000));
    let id = server.start(json!({}));
    let deploy = server.rests_at(&id, "reverted");
    let reason = deploy["reason"].as_str().unwrap();
    assert!(reason.contains("the disk of the journal is full") && reason.contains("No space left"), "{reason}");
    world.is_at("world-v1", "first");
    server.kill();
}

#[test]
fn a_journal_that_cannot_be_written_stops_the_deploy_until_it_can() {
    let world = World::new();
    std::fs::create_dir(world.path("state")).unwrap();
    let Some(disk) = Disk::mount(world.path("state/journal")) else { return };
    let server = world.server();
    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");
    // Holes where space was reserved: as on a filesystem that cannot reserve.
    let path = disk.0.join("000001.jsonl");
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
    disk.fill();
    let mut refused = 0;
    // Some lines may still fit into the last page.
    for _ in 0..3 {
        let answer = server.post(&format!("/api/1/deploys/{id}/approve"), &json!({"actor": "grace"}));
        if answer.status == 507 {
            refused += 1;
            assert!(answer.json()["error"].as_str().unwrap().contains("No space left"), "{}", answer.text());
            break;
        }
        let deploy = until("it rests or stands still", LIMIT, || {
            let deploy = server.deploy(&id);
            let stopped = deploy["doing"]["what"].as_str().is_some_and(|what| what.starts_with("stopped"));
            if stopped || deploy["state"] != "running" { Ok(deploy) } else { Err(deploy) }
        });
        if deploy["state"] == "running" {
            refused += 1;
            assert!(deploy["doing"]["trouble"].as_str().unwrap().contains("No space left"), "{deploy:#}");
            break;
        }
    }
    assert_eq!(refused, 1);
    assert_eq!(world.processes().len(), 4, "nothing is taken away");
    std::fs::remove_file(disk.0.join("ballast")).unwrap();
    server.rest(&id);
    if server.deploy(&id)["state"] == "waiting" {
        server.abort(&id);
    }
    server.rests_at_later(&id, "reverted");
    world.is_at("world-v1", "first");
    server.kill();
}
