//! Whole deploys: the way through, the ways back, and what the API says on the way.

#![allow(clippy::unwrap_used)]

mod common;

use common::World;
use serde_json::{Value, json};
use testkit::http;

#[test]
fn instance() {
    common::instance::run();
}

#[test]
fn server() {
    common::serve();
}

fn texts(world: &World, count: usize) -> Vec<String> {
    (0..count).map(|_| http::get(&world.frontend, &[]).text()).collect()
}

#[test]
fn a_deploy_goes_through_as_in_the_tutorial() {
    let world = World::new();
    let server = world.server();
    let id = server.start(json!({}));
    let deploy = server.rests_at(&id, "integration testing");
    assert_eq!(world.entry(), "/tmp/world-v1");
    assert_eq!(deploy["version"], json!({"current": "world-v1", "new": "world-v2"}));
    assert_eq!(deploy["gate"]["ok"], "Ok, I'm done with manual testing");
    assert_eq!(deploy["gate"]["message"], "Try world-v2 yourself.");
    let command = format!("curl -H 'l5d-dtab: /host/world => /tmp/world-v2' {}", world.frontend);
    assert_eq!(deploy["gate"]["commands"][0]["command"], command);
    assert!(texts(&world, 20).iter().all(|text| text.contains(" first (")));
    let through = http::get(&world.frontend, &[("l5d-dtab", "/host/world => /tmp/world-v2")]);
    assert!(through.text().contains(" second ("), "{}", through.text());
    assert_eq!(world.control.leases().len(), 1);

    server.approve(&id);
    server.rests_at(&id, "shift traffic (10%)");
    let new = texts(&world, 200).iter().filter(|text| text.contains(" second (")).count();
    assert!((3..=50).contains(&new), "{new} of 200");
    server.approve(&id);
    server.rests_at(&id, "shift traffic (100%)");
    assert!(texts(&world, 20).iter().all(|text| text.contains(" second (")));
    server.approve(&id);
    let deploy = server.rests_at(&id, "succeeded");
    world.is_at("world-v2", "second");
    let writes = ["/tmp/world-v1", "/tmp/world-v2 & 9*/tmp/world-v1", "/tmp/world-v2 | /tmp/world-v1", "/srv/world-v2"];
    assert_eq!(world.control.writes(), writes);
    assert!(
        world
            .control
            .signed()
            .iter()
            .all(|(author, comment)| author == "deploy 1 (ada)" && comment.contains("hello_world"))
    );
    let names: Vec<&Value> = deploy["stages"].as_array().unwrap().iter().map(|stage| &stage["name"]).collect();
    let expected = ["clone", "deploy", "integration testing", "shift traffic (10%)", "shift traffic (100%)", "cleanup"];
    assert_eq!(names, expected);
    assert_eq!(deploy["commit"]["subject"], "A new text");

    // Asked again, a server that was ended and begun tells the same.
    server.stop();
    let server = world.server();
    let again = server.deploy(&id);
    assert_eq!(again["stages"], deploy["stages"]);
    assert_eq!(again["state"], "succeeded");

    // And the next one makes v3.
    world.commit("third");
    let id = server.start(json!({}));
    assert_eq!(server.rests_at(&id, "integration testing")["version"]["new"], "world-v3");
    server.abort(&id);
    let deploy = server.rests_at(&id, "reverted");
    assert!(deploy["reason"].as_str().unwrap().contains("changed my mind"), "{deploy}");
    world.is_at("world-v2", "second");
    server.stop();
}
