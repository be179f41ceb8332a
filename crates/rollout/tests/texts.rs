//! Texts of a plan are filled in one pass; what is said beside them changes nothing.

mod common;

use common::{gate, tutorial};
use rollout::{Deploy, Event, Found, Kind, Level, Outcome};

#[test]
fn what_a_value_brings_along_is_not_filled_again() {
    let mut plan = tutorial();
    plan.test_gate = gate("{text} is {new}, not {current}; {other} {");
    let mut deploy = Deploy::new(plan);
    assert_eq!(deploy.fill("{new}"), "…", "not known yet");
    let outcomes = [
        Outcome::Fetched { commit: None, text: "{new} {current}".to_owned() },
        Outcome::Done { detail: "leased".to_owned() },
        Outcome::Inspected(Found { dst: "/srv/world-v1".to_owned(), existing: Vec::new(), leftovers: Vec::new() }),
        Outcome::Written { version: "1".to_owned() },
        Outcome::Done { detail: "served".to_owned() },
        Outcome::Done { detail: "started".to_owned() },
        Outcome::Done { detail: "tested".to_owned() },
    ];
    for outcome in outcomes {
        let id = deploy.outstanding().expect("an effect is asked for").id;
        deploy.on(Event::Outcome { id, outcome }).expect("outcomes are never refused");
    }
    assert_eq!(deploy.gate(), Some(2));
    let said = deploy.take_notes().pop().expect("it says that it waits").text;
    assert!(said.ends_with("waits for a person: {new} {current} is world-v2, not world-v1; {other} {"), "{said}");
}

#[test]
fn a_remark_is_a_line_of_the_log_and_changes_nothing() {
    let mut deploy = Deploy::new(tutorial());
    deploy.take_notes();
    let before = deploy.clone();
    let remark = Event::Remark { level: Level::Warning, text: "1 of 2 pods are ready".to_owned() };
    deploy.on(remark).expect("remarks are never refused");
    let notes = deploy.take_notes();
    assert_eq!(deploy, before);
    let said: Vec<_> = notes.iter().map(|note| (note.kind, note.level, note.stage.as_deref(), &*note.text)).collect();
    assert_eq!(said, [(Kind::Log, Level::Warning, Some("clone"), "1 of 2 pods are ready")]);
}
