//! Texts of a plan are filled in one pass.

mod common;

use common::{gate, tutorial};
use rollout::{Deploy, Event, Found, Outcome};

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
