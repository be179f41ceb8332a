//! What goes wrong: killed processes, two deploys at once, foreign edits, versions that do not
//! work, repositories that are not there. Afterwards dtab, processes and pipeline agree.

#![allow(clippy::unwrap_used)]

mod common;

use common::LIMIT;
use common::demo::{Demo, text_of};
use testkit::process::{self, Process};
use testkit::until::until;

const NEW: &str = "second";

#[test]
fn a_deploy_survives_the_death_of_each_process() {
    let demo = Demo::start();
    demo.commit(NEW);
    let id = demo.deploy_to_gate();
    for name in ["namerd", "router", "hello-2", "world-v1-2", "world-v2-1"] {
        let old = demo.pids()[name];
        demo.kill(name);
        demo.back(name, old);
    }
    let old = demo.pids()["pipeline"];
    let load = demo.load();
    demo.kill("pipeline");
    demo.back("pipeline", old);
    until("the pipeline answers", LIMIT, || match demo.run(&["deploy", "status", &id]).code {
        0 => Ok(()),
        code => Err(code),
    });
    let report = load.stop();
    assert_eq!(report.failures, [""; 0], "requests go on without the pipeline");
    demo.approve(&id, 4);

    // With the control plane dead, requests go on; a deploy waits for it.
    let old = demo.pids()["namerd"];
    let load = demo.load();
    demo.kill("namerd");
    demo.back("namerd", old);
    demo.approve(&id, 4);
    let report = load.stop();
    assert_eq!(report.failures, [""; 0], "requests go on without the control plane");
    let old = demo.pids()["router"];
    demo.kill("router");
    demo.back("router", old);
    demo.approve(&id, 0);
    demo.is_at("world-v2", NEW);
}

#[test]
fn a_killed_pipeline_takes_up_a_deploy_in_any_stage() {
    let demo = Demo::start();
    demo.commit(NEW);
    // Once in the middle of the first stages, and once in the middle of a revert.
    let id = demo.expect(0, &["deploy", "start", "hello_world"]);
    demo.kill("pipeline");
    demo.expect(4, &["deploy", "watch", &id, "--until", "gate", "--timeout", "60s"]);
    demo.expect(0, &["deploy", "abort", &id]);
    demo.kill("pipeline");
    demo.expect(3, &["deploy", "watch", &id, "--timeout", "60s"]);
    demo.is_at("world-v1", "world");
}

#[test]
fn a_killed_demo_carries_on_in_its_directory() {
    let mut demo = Demo::start();
    demo.commit(NEW);
    let id = demo.deploy_to_gate();
    let before = demo.pids();
    let load = demo.load();
    demo.kill_demo();
    demo.begin();
    assert_eq!(demo.pids(), before, "what ran is adopted, not started again");
    demo.approve(&id, 4);
    let report = load.stop();
    assert_eq!(report.failures, [""; 0]);

    // Ended properly and begun again, the deploy is where it was.
    demo.stop();
    demo.begin();
    assert_eq!(demo.deploy(&id)["state"], "waiting");
    demo.approve(&id, 4);
    demo.approve(&id, 0);
    demo.is_at("world-v2", NEW);
    demo.stop();
}

#[test]
fn a_second_deploy_on_the_same_entry_is_refused_clearly() {
    let demo = Demo::start();
    demo.commit(NEW);
    let id = demo.deploy_to_gate();
    let refused = demo.run(&["deploy", "start", "hello_world", "--wait"]);
    assert_eq!(refused.code, 6, "{}", refused.stderr);
    assert!(refused.stderr.contains("/host/world"), "{}", refused.stderr);
    demo.expect(3, &["deploy", "abort", &id, "--wait", "--timeout", "60s"]);
    let id = demo.deploy_to_gate();
    demo.expect(3, &["deploy", "abort", &id, "--wait", "--timeout", "60s"]);
    demo.is_at("world-v1", "world");
}

#[test]
fn a_deploy_that_nobody_watches_goes_through_or_goes_back() {
    let demo = Demo::start();
    demo.commit(NEW);
    let url = demo.url("pipeline");
    let start = |more: &[&str]| {
        let arguments = ["deploy", "start", "hello_world", "--server", &url, "--wait"];
        Process::start(common::switchyard().args(arguments).args(more))
    };
    // Interrupted, it is left alone, or aborted: whoever started the command sees which.
    let mut left = start(&[]);
    left.line("waiting    integration testing", LIMIT);
    left.signal("TERM");
    assert_eq!(left.wait(LIMIT), 128 + 15, "{}", left.text());
    assert!(left.text().contains("goes on; `switchyard deploy watch"), "{}", left.text());
    assert_eq!(demo.deploy("1")["state"], "waiting");
    demo.expect(3, &["deploy", "abort", "1", "--wait", "--timeout", "60s"]);
    let mut aborted = start(&["--or-abort"]);
    aborted.line("waiting    integration testing", LIMIT);
    aborted.signal("INT");
    assert_eq!(aborted.wait(LIMIT), 3, "{}", aborted.text());
    assert!(aborted.text().contains("SIGINT: aborting 2"), "{}", aborted.text());
    assert!(demo.deploy("2")["reason"].as_str().unwrap().contains("SIGINT: --or-abort"), "{}", demo.deploy("2"));
    let mut late = start(&["--timeout", "1s", "--or-abort"]);
    assert_eq!(late.wait(LIMIT), 3, "{}", late.text());
    assert!(late.text().contains("the time is over: aborting 3"), "{}", late.text());
    demo.is_at("world-v1", "world");

    let mut through = start(&["--approve-after", "100ms", "--actor", "ci", "--timeout", "60s"]);
    assert_eq!(through.wait(LIMIT), 0, "{}", through.text());
    let text = through.text();
    // What is over between two looks at the deploy is not told as running, but as done.
    for line in ["succeeded  deploy", "world-v2 is ready and registered", "succeeded  cleanup"] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let stages = demo.deploy("4")["stages"].clone();
    assert_eq!(stages.as_array().unwrap().iter().filter(|stage| stage["approvedBy"] == "ci").count(), 3, "{stages}");
    demo.is_at("world-v2", NEW);
}

#[test]
fn a_foreign_edit_is_not_overwritten() {
    let demo = Demo::start();
    demo.commit(NEW);
    let id = demo.deploy_to_gate();
    // Another entry does not matter: the deploy goes on beside it.
    demo.expect(0, &["dtab", "edit", "internal", "--set", "/host/other => /srv/other"]);
    demo.approve(&id, 4);
    assert!(demo.expect(0, &["dtab", "get", "internal"]).contains("/host/other"));
    // Our entry does.
    demo.expect(0, &["dtab", "edit", "internal", "--set", "/host/world => /srv/world-v1"]);
    let finished = demo.run(&["deploy", "approve", &id, "--wait", "--timeout", "60s"]);
    assert!([1, 3].contains(&finished.code), "{} {}", finished.code, finished.stderr);
    assert_eq!(demo.world(), "/srv/world-v1", "the person's edit stands");
    assert!(demo.deploy(&id)["reason"].as_str().unwrap().contains("/host/world"), "{}", demo.deploy(&id));
    assert_eq!(text_of(&demo.get(&[]).text()).as_deref(), Some("world"));
}

#[test]
fn a_repository_or_branch_that_is_not_there_reverts() {
    let demo = Demo::start();
    for parameter in ["gitRepo=/no/such/repository", "gitBranch=no-such-branch"] {
        let finished = demo.run(&["deploy", "start", "hello_world", "-p", parameter, "--wait", "--timeout", "60s"]);
        assert_eq!(finished.code, 3, "{parameter}: {}{}", finished.stdout, finished.stderr);
        let value = parameter.split_once('=').unwrap().1;
        assert!(finished.stdout.contains(value), "{parameter}: {}", finished.stdout);
    }
    let unknown = demo.run(&["deploy", "start", "hello_world", "-p", "nonsense=1"]);
    assert_eq!(unknown.code, 2, "{}", unknown.stderr);
    assert_eq!(demo.run(&["deploy", "start", "no_such_pipeline"]).code, 2);
    demo.is_at("world-v1", "world");
}

/// A pipeline of its own beside the demo's, whose new version is this command.
fn pipeline_with(demo: &Demo, argv: &str, ready_seconds: u32) -> (Process, String) {
    let own = demo.file("own");
    std::fs::create_dir_all(&own).unwrap();
    let text = std::fs::read_to_string(demo.file("pipelines/hello_world.yaml")).unwrap();
    let argv_line = text.lines().find(|line| line.trim_start().starts_with("argv:")).unwrap();
    let ready_line = text.lines().find(|line| line.trim_start().starts_with("url: http://{address}/")).unwrap();
    let text = text
        .replace(argv_line, &format!("  argv: {argv}"))
        .replace(ready_line, &format!("{ready_line}\n    timeoutSeconds: {ready_seconds}"));
    std::fs::write(own.join("hello_world.yaml"), text).unwrap();
    let document = std::fs::read_to_string(demo.file("pipeline.yaml")).unwrap();
    let document: String = document
        .lines()
        .map(|line| match line.split(':').next().unwrap() {
            "port" => "port: 0\n".to_owned(),
            "state" => "state: own/state\n".to_owned(),
            "processes" => "processes: own/processes\n".to_owned(),
            "- " | "pipelines" => format!("{line}\n"),
            _ if line.starts_with("- ") => "- own/hello_world.yaml\n".to_owned(),
            _ => format!("{line}\n"),
        })
        .collect();
    std::fs::write(demo.file("own.yaml"), document).unwrap();
    let process = Process::start(common::switchyard().arg("pipeline").arg(demo.file("own.yaml")));
    let line = process.line("serving the pipeline on ", LIMIT);
    let url = format!("http://{}", line.rsplit(' ').next().unwrap());
    (process, url)
}

#[test]
fn a_version_that_never_gets_ready_is_taken_away_again() {
    let demo = Demo::start();
    demo.commit(NEW);
    let (_process, url) = pipeline_with(&demo, "[sleep, '1000']", 2);
    let load = demo.load();
    let finished = demo.run(&["deploy", "start", "hello_world", "--server", &url, "--wait", "--timeout", "60s"]);
    assert_eq!(finished.code, 3, "{}{}", finished.stdout, finished.stderr);
    demo.is_at("world-v1", "world");
    assert_eq!(load.stop().failures, [""; 0]);
}

#[test]
fn a_version_that_answers_500_fails_its_test_and_is_taken_away() {
    let demo = Demo::start();
    demo.commit(NEW);
    // Ready (its port answers), but wrong: what decides is the test through the routers.
    let argv = r#"["{switchyard}", helloworld, "--addr=127.0.0.1:{port}", "--text={text}", "--target=127.0.0.1:1"]"#;
    let (_process, url) = pipeline_with(&demo, argv, 3);
    let load = demo.load();
    let finished = demo.run(&["deploy", "start", "hello_world", "--server", &url, "--wait", "--timeout", "60s"]);
    assert_eq!(finished.code, 3, "{}{}", finished.stdout, finished.stderr);
    demo.is_at("world-v1", "world");
    assert_eq!(load.stop().failures, [""; 0]);
}

#[test]
fn a_version_that_crashes_at_10_percent_reverts_by_itself() {
    let demo = Demo::start();
    demo.commit(NEW);
    let id = demo.deploy_to_gate();
    demo.approve(&id, 4);
    let load = demo.load();
    let mut killed = std::collections::BTreeSet::new();
    until("the deploy goes back", LIMIT, || {
        for (name, pid) in demo.pids() {
            if name.starts_with("world-v2-") && killed.insert(pid) {
                process::signal(pid, "KILL");
            }
        }
        match demo.deploy(&id)["state"].as_str() {
            Some("reverted") => Ok(()),
            state => Err(format!("{state:?}")),
        }
    });
    let report = load.stop();
    let deploy = demo.deploy(&id);
    let reason = deploy["reason"].as_str().unwrap();
    assert!(reason.contains("world-v2-") && reason.contains("again and again"), "{reason}");
    // A crash costs at most the answer that it broke off: what never got one was sent elsewhere.
    let (failures, crashes) = (report.failures, killed.len());
    assert!(failures.len() <= crashes, "{crashes} crashes, of {} requests failed: {failures:?}", report.requests);
    let load = demo.load();
    demo.is_at("world-v1", "world");
    assert_eq!(load.stop().failures, [""; 0]);
}
