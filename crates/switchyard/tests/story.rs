//! The tutorial, word for word, by command line: the story that must always work.

#![allow(clippy::unwrap_used)]

mod common;

use common::demo::{Demo, text_of};

const NEW: &str = "hal, open the pod bay doors";

#[test]
fn a_deploy_goes_through_while_every_request_is_answered() {
    let demo = Demo::start();
    assert_eq!(text_of(&demo.get(&[]).text()).as_deref(), Some("world"));
    let printed = demo.expect(0, &["dtab", "get", "internal"]);
    assert!(printed.starts_with("# version "), "{printed}");
    assert_eq!(printed.lines().last(), Some("/host/world  => /srv/world-v1 ;"));

    demo.commit(NEW);
    let load = demo.load();
    let id = demo.deploy_to_gate();
    let deploy = demo.deploy(&id);
    assert_eq!(deploy["stage"], "integration testing");
    assert_eq!(deploy["gate"]["ok"], "Ok, I'm done with manual testing");
    assert_eq!(deploy["version"], serde_json::json!({"current": "world-v1", "new": "world-v2"}));

    // The override reaches v2, and nothing else does.
    let dtab = [("l5d-dtab", "/host/world => /tmp/world-v2")];
    for _ in 0..10 {
        assert_eq!(text_of(&demo.get(&dtab).text()).as_deref(), Some(NEW));
        assert_eq!(text_of(&demo.get(&[]).text()).as_deref(), Some("world"));
    }
    let before = load.stop();
    assert_eq!(before.failures, [""; 0]);
    assert_eq!(before.answers.keys().collect::<Vec<_>>(), ["world"], "no request reaches v2 before the first shift");

    let load = demo.load();
    demo.approve(&id, 4);
    let share = {
        let answers: Vec<Option<String>> = (0..200).map(|_| text_of(&demo.get(&[]).text())).collect();
        answers.iter().filter(|text| text.as_deref() == Some(NEW)).count()
    };
    assert!((3..=50).contains(&share), "{share} of 200 requests reached v2 at 10%");
    demo.approve(&id, 4);
    assert_eq!(demo.world(), "/tmp/world-v2 | /tmp/world-v1");
    for _ in 0..20 {
        assert_eq!(text_of(&demo.get(&[]).text()).as_deref(), Some(NEW));
    }
    demo.approve(&id, 0);
    demo.is_at("world-v2", NEW);
    let report = load.stop();
    assert_eq!(report.failures, [""; 0], "{} requests", report.requests);
    assert!(report.requests > 100, "{report:?}");

    let stages: Vec<String> = demo.deploy(&id)["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| stage["name"].as_str().unwrap().into())
        .collect();
    assert_eq!(
        stages,
        ["clone", "deploy", "integration testing", "shift traffic (10%)", "shift traffic (100%)", "cleanup"]
    );

    // History tells who did what, and undo is one command.
    let history = demo.expect(0, &["dtab", "history", "internal", "-o", "json"]);
    let history: serde_json::Value = serde_json::from_str(&history).unwrap();
    assert!(history.as_array().unwrap().len() >= 5, "{history}");

    // The next one makes v3.
    demo.commit("third");
    let id = demo.deploy_to_gate();
    assert_eq!(demo.deploy(&id)["version"]["new"], "world-v3");
    demo.expect(3, &["deploy", "abort", &id, "--wait", "--timeout", "60s"]);
    demo.is_at("world-v2", NEW);
}

#[test]
fn abort_at_any_gate_puts_everything_back_and_loses_no_request() {
    let demo = Demo::start();
    demo.commit(NEW);
    for gate in 0..3 {
        let load = demo.load();
        let id = demo.deploy_to_gate();
        for _ in 0..gate {
            demo.approve(&id, 4);
        }
        demo.expect(3, &["deploy", "abort", &id, "-m", "changed my mind", "--wait", "--timeout", "60s"]);
        demo.is_at("world-v1", "world");
        let report = load.stop();
        assert_eq!(report.failures, [""; 0], "{} requests, aborted at gate {gate}", report.requests);
        let deploy = demo.deploy(&id);
        assert_eq!(deploy["state"], "reverted");
        assert!(deploy["reason"].as_str().unwrap().contains("changed my mind"), "{deploy}");
    }
}

#[test]
fn text_arrives_as_it_was_written() {
    let demo = Demo::start();
    let text = r#"it's "v2": <b>&amp;</b> {{text}} $HOME `id` \n # - [x] % ü 🚀"#;
    demo.commit(text);
    let id = demo.deploy_to_gate();
    let dtab = [("l5d-dtab", "/host/world => /tmp/world-v2")];
    assert_eq!(text_of(&demo.get(&dtab).text()).as_deref(), Some(text));
    demo.expect(6, &["deploy", "retry", &id]);
    demo.expect(3, &["deploy", "abort", &id, "--wait", "--timeout", "60s"]);
    demo.expect(6, &["deploy", "retry", &id]);
    demo.is_at("world-v1", "world");
}
