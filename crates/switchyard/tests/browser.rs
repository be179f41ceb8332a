//! The pages of a real demo in a real browser: a whole deploy driven by clicks, an aborted one, an edit of
//! a dtab, and every page right on every screen.

#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;

use common::demo::{Demo, text_of};
use testkit::browser::{Browser, Page, Screen, checked};
use testkit::process;
use testkit::until::until;

use common::LIMIT;

const DESK: Screen = Screen { width: 1280, is_dark: false, is_touch: false };

/// The page that is open is right on every screen.
#[track_caller]
fn is_right(page: &Page) {
    let wrong = checked(page);
    assert!(wrong.is_empty(), "{}: {}\n{}", page.url(), wrong.join("\n"), page.text());
    page.screen(DESK);
}

/// What this many requests were answered by.
fn texts(demo: &Demo, count: usize) -> Vec<String> {
    let text = |_| {
        let answer = demo.get(&[]);
        assert_eq!(answer.status, 200, "{}", answer.text());
        text_of(&answer.text()).unwrap_or_else(|| panic!("{}", answer.text()))
    };
    (0..count).map(text).collect()
}

#[test]
fn a_whole_deploy_is_driven_by_clicks() {
    let demo = Demo::start();
    let browser = Browser::start();
    let page = browser.page();
    page.screen(DESK);
    let new = "hal, open the pod bay doors";
    demo.commit(new);

    page.open(&demo.url("pipeline"));
    page.shows("No deploy yet");
    is_right(&page);
    page.leads(|| page.press("Build with parameters"));
    let value = |name: &str| page.eval(&format!("document.querySelector('[name=\"p.{name}\"]').value"));
    assert_eq!(value("gitRepo"), demo.url("repo"));
    assert_eq!((value("gitBranch"), value("namerdNamespace")), ("master".into(), "internal".into()));
    is_right(&page);
    page.fill("#actor", "ada");
    page.leads(|| page.press("Build"));

    // The first gate: the command on it reaches v2, and nothing else does.
    page.shows("Ok, I'm done with manual testing");
    is_right(&page);
    let command = page.eval("document.querySelector('.gate .cmd .c').innerText");
    let command = command.as_str().unwrap();
    assert!(command.contains("l5d-dtab"), "{command}");
    let tried = process::run(Command::new("sh").args(["-c", command]), b"");
    assert!(tried.stdout.contains(new), "{command}: {}{}", tried.stdout, tried.stderr);
    assert!(texts(&demo, 30).iter().all(|text| text == "world"));

    page.leads(|| page.press("Ok, I'm done with manual testing"));
    page.shows("Ok, success rates look stable");
    is_right(&page);
    let shifted = texts(&demo, 300).iter().filter(|text| *text == new).count();
    assert!((9..=60).contains(&shifted), "{shifted} of 300");
    page.leads(|| page.press("Ok, success rates look stable"));
    page.shows("Ok, everything looks good");
    assert!(texts(&demo, 30).iter().all(|text| text == new));
    is_right(&page);
    page.leads(|| page.press("Ok, everything looks good"));
    page.shows("world-v2 is the current version");
    is_right(&page);
    demo.is_at("world-v2", new);
    page.open(&demo.url("pipeline"));
    page.shows("Succeeded");
    is_right(&page);

    routers_tell_where_requests_went(&demo, &page);
}

/// The router's pages after a deploy.
fn routers_tell_where_requests_went(demo: &Demo, page: &Page) {
    let tried = demo.get(&[("l5d-dtab", "/host/world => /srv/world-v2")]);
    assert_eq!(tried.status, 200);
    page.open(&demo.url("router_admin"));
    page.shows("Routers in this process");
    // The history ends a column each five seconds; this page follows it.
    page.shows("Requests per second");
    is_right(page);
    page.leads(|| page.press("external"));
    page.leads(|| page.press("outgoing"));
    assert!(page.text().contains("world-v2"), "{}", page.text());
    page.leads(|| page.press("Overridden"));
    page.shows("l5d-dtab");
    page.leads(|| page.press("why?"));
    page.shows("In one sentence");
    let text = page.text();
    assert!(text.contains("world-v2") && text.contains("this request only"), "{text}");
    is_right(page);
    page.open(&format!("{}/delegator?router=outgoing&path=/svc/world", demo.url("router_admin")));
    page.shows("a request for /svc/world goes here");
    is_right(page);
    page.open(&format!("{}/delegator?router=outgoing&path=/svc/wrold", demo.url("router_admin")));
    page.shows("goes nowhere");
}

#[test]
fn an_abort_and_edits_of_the_dtab_by_hand() {
    let demo = Demo::start();
    let browser = Browser::start();
    let page = browser.page();
    page.screen(DESK);
    demo.commit("second");
    let id = demo.deploy_to_gate();
    demo.approve(&id, 4);

    // The control plane's pages, in the middle of a deploy.
    let admin = demo.url("namerd_admin");
    page.open(&admin);
    page.shows("internal");
    page.shows("All routers in step");
    is_right(&page);
    page.leads(|| page.press("internal"));
    let text = page.text();
    assert!(text.contains("& 9 * /tmp/world-v1") && text.contains("leased to"), "{text}");
    is_right(&page);
    page.fill("#x-path", "/svc/world");
    page.leads(|| page.press("Explain"));
    page.shows("a request for /svc/world goes here");
    assert!(page.text().contains("10%"), "{}", page.text());
    is_right(&page);
    // Pointing at a step lights its entry.
    page.hover(".ex [data-entry='5']");
    until("the entry is lit", LIMIT, || {
        let lit = page.eval("document.querySelectorAll('.dtab tr.hit').length");
        if lit == 1 { Ok(()) } else { Err(lit) }
    });
    page.open(&format!("{admin}/fleet"));
    page.shows("In step");
    is_right(&page);

    // Abort at 10%, by click.
    page.open(&format!("{}/deploys/{id}", demo.url("pipeline")));
    page.shows("Ok, success rates look stable");
    page.fill("#actor", "grace");
    page.fill("#reason", "not <i>today</i> & \"never\"");
    page.leads(|| page.press("Abort"));
    page.shows("Everything is as it was before the deploy");
    page.shows("not <i>today</i> & \"never\"");
    is_right(&page);
    demo.is_at("world-v1", "world");

    edits_are_drafts_first(&demo, &browser, &page);
}

fn edits_are_drafts_first(demo: &Demo, browser: &Browser, page: &Page) {
    let dtab = format!("{}/dtab/internal", demo.url("namerd_admin"));
    let other = browser.page();
    for page in [page, &other] {
        page.open(&dtab);
        page.leads(|| page.press("Edit"));
    }
    let before = page.eval("document.querySelector('#draft').value");
    let before = before.as_str().unwrap();
    is_right(page);

    // What is wrong is told, and kept.
    page.fill("#draft", "/host => ");
    page.leads(|| page.press("Show what it would change"));
    page.shows("This is not a dtab");
    page.troubles();
    page.fill("#draft", &format!("{before}/host/extra => /srv/hello ;"));
    page.leads(|| page.press("Show what it would change"));
    page.shows("/host/extra => /srv/hello");
    is_right(page);
    page.fill("#author", "ada");
    page.fill("#comment", "one more");
    page.leads(|| page.press("Write and wait for all routers"));
    page.shows("is written");
    page.shows("all 2 routers serve it");
    is_right(page);
    assert!(demo.expect(0, &["dtab", "get", "internal"]).contains("/host/extra"));

    // Who began from the version before is told, and overwrites nothing.
    other.fill("#draft", &format!("{before}/host/mine => /srv/hello ;"));
    other.leads(|| other.press("Show what it would change"));
    other.leads(|| other.press("Write and wait for all routers"));
    other.shows("Somebody else wrote meanwhile");
    assert!(!demo.expect(0, &["dtab", "get", "internal"]).contains("/host/mine"));
    other.troubles();
    is_right(&other);

    // Put back: a new version with the text of before.
    page.leads(|| page.press("Put back"));
    page.shows("is written");
    page.shows("put back version");
    let now = demo.expect(0, &["dtab", "get", "internal"]);
    assert!(!now.contains("/host/extra") && now.contains("/host/world"), "{now}");
    is_right(page);
}
