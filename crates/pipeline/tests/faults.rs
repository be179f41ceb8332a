//! What goes wrong around a deploy: the control plane, the routers, other people, other servers.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{LIMIT, World};
use serde_json::{Value, json};
use testkit::until::until;

#[test]
fn instance() {
    common::instance::run();
}

#[test]
fn server() {
    common::serve();
}

#[test]
fn other_peoples_entries_survive_a_storm_of_edits() {
    let world = World::new();
    let server = world.server();
    world.control.fault(|faults| faults.storms = 4);
    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");
    world.control.fault(|faults| faults.storms = 2);
    server.approve(&id);
    server.rests_at(&id, "shift traffic (10%)");
    world.control.fault(|faults| faults.storms = 3);
    server.abort(&id);
    server.rests_at(&id, "reverted");
    world.is_at("world-v1", "first");
    let dtab = world.control.dtab("internal");
    let others = dtab.entries().iter().filter(|entry| entry.prefix.to_string() == "/other").count();
    assert_eq!(others, 9);
}

#[test]
fn a_write_whose_answer_is_lost_is_no_foreign_edit() {
    let world = World::new();
    let server = world.server();
    world.control.fault(|faults| faults.lost = 1);
    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");
    for stage in ["shift traffic (10%)", "shift traffic (100%)", "succeeded"] {
        world.control.fault(|faults| faults.lost = 1);
        server.approve(&id);
        server.rests_at(&id, stage);
    }
    world.is_at("world-v2", "second");
}

#[test]
fn a_short_absence_of_the_control_plane_is_waited_out() {
    let world = World::new();
    let server = world.server();
    world.control.fault(|faults| faults.dead = true);
    // It can be started all the same.
    let id = server.start(json!({}));
    until("it tells what it waits for", LIMIT, || {
        let doing = server.deploy(&id)["doing"].clone();
        if doing["trouble"].as_str().is_some_and(|text| text.contains("503")) { Ok(()) } else { Err(doing) }
    });
    world.control.fault(|faults| faults.dead = false);
    server.rests_at(&id, "integration testing");
    world.control.fault(|faults| faults.slow = Duration::from_millis(150));
    server.approve(&id);
    server.rests_at(&id, "shift traffic (10%)");
    server.abort(&id);
    server.rests_at(&id, "reverted");
    world.is_at("world-v1", "first");
}

#[test]
fn a_long_absence_of_the_control_plane_reverts_and_never_stops_trying() {
    let world = World::new();
    let server = world.server();
    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");
    world.control.fault(|faults| faults.full = true);
    server.approve(&id);
    let reverting = until("it goes back", LIMIT, || {
        let deploy = server.deploy(&id);
        if deploy["reverting"] == true { Ok(deploy) } else { Err(deploy) }
    });
    assert!(reverting["reason"].as_str().unwrap().contains("the store's disk is full"), "{reverting:#}");
    assert_eq!(reverting["abortable"], false);
    until("it has tried often", LIMIT, || {
        let attempt = server.deploy(&id)["doing"]["attempt"].as_u64().unwrap();
        if attempt > 4 { Ok(()) } else { Err(attempt) }
    });
    world.control.fault(|faults| faults.full = false);
    server.rests_at(&id, "reverted");
    world.is_at("world-v1", "first");
}

#[test]
fn routers_that_lag_stop_a_step_and_are_named() {
    let world = World::new();
    let server = world.server();
    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");
    world.control.fault(|faults| faults.laggards = 2);
    server.approve(&id);
    until("the laggards are shown", LIMIT, || {
        let doing = server.deploy(&id)["doing"].clone();
        if doing["laggards"].as_array().is_some_and(|all| all.len() == 2) { Ok(()) } else { Err(doing) }
    });
    until("it goes back", LIMIT, || {
        let deploy = server.deploy(&id);
        if deploy["reverting"] == true { Ok(()) } else { Err(deploy) }
    });
    assert_eq!(world.processes().len(), 4, "nothing is taken away while routers may still use it");
    world.control.fault(|faults| faults.laggards = 0);
    let deploy = server.rests_at(&id, "reverted");
    assert!(deploy["reason"].as_str().unwrap().contains("outgoing of host:1"), "{deploy:#}");
    world.is_at("world-v1", "first");
}

#[test]
fn routers_get_time_to_come_back_to_a_control_plane_that_was_restarted() {
    let world = World::new();
    let server = world.server();
    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");
    world.control.fault(|faults| faults.routers = 0);
    server.approve(&id);
    until("it waits for the router", LIMIT, || {
        let doing = server.deploy(&id)["doing"].clone();
        if doing["trouble"].as_str().is_some_and(|text| text.contains("0 of 1 routers")) { Ok(()) } else { Err(doing) }
    });
    world.control.fault(|faults| faults.routers = 1);
    server.rests_at(&id, "shift traffic (10%)");
    server.abort(&id);
    server.rests_at(&id, "reverted");
}

#[test]
fn a_foreign_edit_is_not_overwritten() {
    for (edit, shown) in [("/srv/world-v1", "/srv/world-v1"), ("", ""), ("/srv/world-v1 | /srv/other", "/srv/other")] {
        let world = World::new();
        let server = world.server();
        let id = server.start(json!({}));
        server.rests_at(&id, "integration testing");
        world.control.edit("/host/world", edit);
        server.approve(&id);
        let deploy = server.rests_at(&id, "reverted");
        assert_eq!(world.entry(), edit);
        let reason = deploy["reason"].as_str().unwrap();
        assert!(
            reason.contains("somebody else") && reason.contains("/host/world") && reason.contains(shown),
            "{reason}"
        );
        assert_eq!(world.registered(), ["world-v1"]);
        assert_eq!(world.control.leases(), [""; 0]);
    }
}

#[test]
fn an_edit_that_uses_the_new_version_needs_a_person_and_mends_itself() {
    let world = World::new();
    let server = world.server();
    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");
    world.control.edit("/host/world", "/srv/world-v2");
    server.approve(&id);
    let deploy = server.rests_at(&id, "failed");
    let reason = deploy["reason"].as_str().unwrap();
    assert!(reason.contains("/host/world => /srv/world-v2") && reason.contains("What to do:"), "{reason}");
    let commands: Vec<&Value> =
        deploy["instructions"].as_array().unwrap().iter().map(|step| &step["command"]).collect();
    assert_eq!(commands[0], "switchyard dtab get internal");
    assert_eq!(commands[1], "switchyard dtab edit internal --set '/host/world => /srv/world-v1'");
    assert_eq!(world.processes().len(), 4, "what is used is left alone");
    // Killed or not, it stays what it is.
    server.kill();
    let server = world.server();
    assert_eq!(server.deploy(&id)["state"], "failed");
    world.control.edit("/host/world", "/srv/world-v1");
    assert_eq!(server.post(&format!("/api/1/deploys/{id}/retry"), &json!({})).status, 200);
    server.rests_at(&id, "reverted");
    world.is_at("world-v1", "first");
}

#[test]
fn a_new_deploy_takes_over_from_a_failed_one_and_sweeps_what_it_left() {
    let world = World::new();
    let server = world.server();
    let failed = server.start(json!({}));
    server.rests_at(&failed, "integration testing");
    world.control.edit("/host/world", "/srv/world-v2");
    server.abort(&failed);
    server.rests_at(&failed, "failed");
    world.control.edit("/host/world", "/srv/world-v1");
    world.commit("third");
    let id = server.start(json!({}));
    let deploy = server.rests_at(&id, "integration testing");
    assert_eq!(deploy["version"]["new"], "world-v2", "its name is free again");
    assert!(server.log(&id).contains("taking away world-v2"), "{}", server.log(&id));
    assert!(server.deploy(&failed)["reason"].as_str().unwrap().contains("Deploy 2 took over"));
    for stage in ["shift traffic (10%)", "shift traffic (100%)", "succeeded"] {
        server.approve(&id);
        server.rests_at(&id, stage);
    }
    world.is_at("world-v2", "third");
}

#[test]
fn one_entry_has_one_deploy() {
    let world = World::new();
    let server = world.server();
    let id = server.start(json!({}));
    let body = json!({"pipeline": "hello_world"});
    let refused = server.post("/api/1/deploys", &body);
    assert_eq!(refused.status, 409);
    assert_eq!(refused.json()["holder"], "1");
    assert!(refused.json()["error"].as_str().unwrap().contains("/host/world of internal"), "{}", refused.text());
    server.rests_at(&id, "integration testing");
    server.abort(&id);
    server.rests_at(&id, "reverted");

    world.control.lease_to("deploy 7 of somebody", 60);
    let refused = server.post("/api/1/deploys", &body);
    assert_eq!(refused.status, 409);
    assert_eq!(refused.json()["holder"], "deploy 7 of somebody");
    assert!(
        refused.json()["error"].as_str().unwrap().contains("/host/world of internal is held"),
        "{}",
        refused.text()
    );
    // One that has expired holds nothing.
    world.control.lease_to("deploy 7 of somebody", -1);
    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");

    // Lost in the middle, to somebody who did not know: it goes back.
    world.control.lease_to("a person", 60);
    let deploy = server.rests_at_later(&id, "reverted");
    let reason = deploy["reason"].as_str().unwrap();
    assert!(reason.contains("lease was lost") && reason.contains("a person"), "{reason}");
    assert_eq!(world.control.leases(), ["a person"]);
}

#[test]
fn a_lease_whose_release_was_lost_does_not_hinder_the_next_deploy() {
    let world = World::new();
    let server = world.server();
    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");
    let owner = world.control.leases().remove(0);
    server.abort(&id);
    server.rests_at(&id, "reverted");
    world.control.lease_to(&owner, 60);
    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");
    assert_ne!(world.control.leases(), [owner]);
}

#[test]
fn what_cannot_be_deployed_over_is_refused_before_anything_is_changed() {
    let cases = [
        ("/srv/world-abc", "\"world-abc\" is not world-vN"),
        ("2 * /tmp/world-v2 & 8 * /tmp/world-v1", "marked as being deployed"),
        ("/tmp/world-v1", "marked as being deployed"),
        ("", "has no entry /host/world"),
        ("/srv/world-v1;/host/world=>/srv/world-v2", "more than once"),
    ];
    let world = World::new();
    let server = world.server();
    for (dst, why) in cases {
        world.control.edit("/host/world", dst);
        let id = server.start(json!({}));
        let deploy = server.rests_at(&id, "reverted");
        assert!(deploy["reason"].as_str().unwrap().contains(why), "{dst}: {}", deploy["reason"]);
    }
    assert_eq!(world.control.writes(), [""; 0]);
    let id = server.start(json!({"namerdNamespace": "nowhere"}));
    let deploy = server.rests_at(&id, "reverted");
    assert!(deploy["reason"].as_str().unwrap().contains("no namespace nowhere"), "{}", deploy["reason"]);

    // Versions are numbers, and what exists counts: v9 serves, v10 is registered.
    world.control.edit("/host/world", "/srv/world-v9");
    std::fs::write(world.path("disco/world-v9"), "127.0.0.1 1\n").unwrap();
    std::fs::write(world.path("disco/world-v10"), "127.0.0.1 1\n").unwrap();
    let id = server.start(json!({}));
    let deploy = server.rests_at(&id, "integration testing");
    assert_eq!(deploy["version"], json!({"current": "world-v9", "new": "world-v11"}));
    server.abort(&id);
    server.rests_at(&id, "reverted");
    assert_eq!(world.registered(), ["world-v1", "world-v10", "world-v9"], "what is not ours stays");
}

#[test]
fn a_repository_branch_or_file_that_is_not_there_is_named() {
    let world = World::new();
    let mark = world.path("hacked");
    let hack = format!("--upload-pack=touch {}", mark.display());
    let ext = format!("ext::sh -c touch% {}", mark.display());
    let mut config = world.config();
    let mut other =
        world.pipeline.replace("name: hello_world", "name: other").replace("file: world.txt", "file: no.txt");
    other = other
        .replace("  - name: gitRepo\n", &format!("  - name: gitRepo\n    default: {}\n", world.path("repo").display()));
    std::fs::write(world.path("other.yaml"), other).unwrap();
    config["pipelines"].as_array_mut().unwrap().push(json!(world.path("other.yaml")));
    let server = world.server_with(&config);
    let cases = [
        ("hello_world", "gitRepo", "/no/such/repository", "/no/such/repository"),
        ("hello_world", "gitBranch", "no-such-branch", "no-such-branch"),
        ("hello_world", "gitBranch", "", "the branch is empty"),
        ("hello_world", "gitRepo", &hack, "--upload-pack"),
        ("hello_world", "gitBranch", &hack, "--upload-pack"),
        ("hello_world", "gitRepo", &ext, "ext"),
        ("other", "gitBranch", "master", "there is no such file in it"),
    ];
    for (pipeline, parameter, value, expected) in cases {
        let answer = server.post("/api/1/deploys", &json!({"pipeline": pipeline, "parameters": {parameter: value}}));
        assert_eq!(answer.status, 201, "{}", answer.text());
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        let deploy = server.rests_at(&id, "reverted");
        assert!(deploy["reason"].as_str().unwrap().contains(expected), "{value}: {}", deploy["reason"]);
        assert_eq!(deploy["stages"][0]["state"], "failed");
    }
    assert!(!mark.exists());
    world.is_at("world-v1", "first");
    assert!(std::fs::read_dir(world.path("state/clones")).unwrap().next().is_none(), "clones are removed");
}

#[test]
fn text_arrives_as_it_was_written() {
    let world = World::new();
    let server = world.server();
    for text in [
        r#"it's "v2": <b>&amp;</b> {text} {port} {{ }} $HOME `id` \n # - [x] %41 ü 🚀"#,
        "two\nlines: {a: b}\n- c",
        "--flag",
    ] {
        world.commit(text);
        let id = server.start(json!({}));
        let deploy = server.rests_at(&id, "integration testing");
        assert_eq!(deploy["text"], text);
        let answer = testkit::http::get(&world.frontend, &[("l5d-dtab", "/host/world => /tmp/world-v2")]);
        assert!(answer.text().contains(&format!("Hello (frontend) {text} (")), "{}", answer.text());
        server.abort(&id);
        server.rests_at(&id, "reverted");
    }
    world.is_at("world-v1", "first");
}

#[test]
fn a_repository_that_does_not_answer_is_given_up_with_all_that_git_started() {
    let mut world = World::new();
    world.pipeline = world.pipeline.replace("timeoutSeconds: 10", "timeoutSeconds: 1");
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let repository = format!("http://{}/never", listener.local_addr().unwrap());
    let server = world.server();
    let id = server.start(json!({"gitRepo": repository}));
    let deploy = server.rests_at(&id, "reverted");
    assert!(deploy["reason"].as_str().unwrap().contains("not done within 1 s"), "{}", deploy["reason"]);
    let askers = || -> Vec<String> {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
        lines.filter(|line| line.contains("git") && line.contains(&repository)).collect()
    };
    until("git is gone", LIMIT, || if askers().is_empty() { Ok(()) } else { Err(askers()) });
}

#[test]
fn deploys_of_one_service_in_two_namespaces_take_different_versions() {
    let world = World::new();
    world.control.create("staging", common::NAMESPACE);
    let server = world.server();
    let ids = [server.start(json!({})), server.start(json!({"namerdNamespace": "staging"}))];
    let mut versions: Vec<String> = ids
        .iter()
        .map(|id| server.rests_at(id, "integration testing")["version"]["new"].as_str().unwrap().to_owned())
        .collect();
    versions.sort();
    assert_eq!(versions, ["world-v2", "world-v3"]);
    // What the other namespace still uses is not taken away.
    for stage in ["shift traffic (10%)", "shift traffic (100%)", "succeeded"] {
        server.approve(&ids[0]);
        server.rests_at(&ids[0], stage);
    }
    let deploy = server.deploy(&ids[0]);
    assert!(
        deploy["reason"].as_str().unwrap().contains("world-v1 was left running: staging: /host/world"),
        "{deploy:#}"
    );
    server.abort(&ids[1]);
    server.rests_at(&ids[1], "reverted");
    assert_eq!(world.control.entry("staging", "/host/world"), "/srv/world-v1");
    let first = server.deploy(&ids[0])["version"]["new"].as_str().unwrap().to_owned();
    assert_eq!(world.registered(), ["world-v1".to_owned(), first]);
}
