//! The pages of a real pipeline server in a real browser: deploys driven by clicks.

#![allow(clippy::unwrap_used)]

mod common;

use common::World;
use serde_json::json;
use testkit::browser::{Browser, Page, checked};
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

/// The page is right on every screen.
#[track_caller]
fn is_right(page: &Page) {
    let wrong = checked(page);
    assert!(wrong.is_empty(), "{}: {}\n{}", page.url(), wrong.join("\n"), page.text());
    page.screen(testkit::browser::Screen { width: 1280, is_dark: false, is_touch: false });
}

#[test]
fn a_deploy_is_driven_by_clicks() {
    let world = World::new();
    let server = world.server();
    let browser = Browser::start();
    let page = browser.page();
    page.open(&format!("{}/", server.url));
    page.shows("No deploy yet");
    is_right(&page);

    page.leads(|| page.press("Build with parameters"));
    assert_eq!(page.eval("document.querySelector('[name=\"p.gitBranch\"]').value"), "master");
    is_right(&page);
    page.fill("#actor", "ada");
    page.fill("#reason", "a <b>new</b> \"text\"");
    page.leads(|| page.press("Build"));
    assert!(page.url().ends_with("/deploys/1"), "{}", page.url());

    // The page follows by itself: no reload between the stages.
    page.eval("window.same = true");
    page.shows("Try world-v2 yourself.");
    is_right(&page);
    assert_eq!(page.eval("document.querySelector('#actor').value"), "ada", "the name is remembered");
    // Enter in a field presses nothing.
    page.fill("#reason", "looks good");
    page.key("Enter");
    // A field that is being typed in survives updates of the page.
    page.eval("window.updates = 0; const real = fetch; window.fetch = (...a) => real(...a).finally(() => updates++)");
    until("two updates", common::LIMIT, || {
        let updates = page.eval("updates");
        if updates.as_u64() >= Some(3) { Ok(()) } else { Err(updates) }
    });
    assert_eq!(page.eval("document.querySelector('#reason').value"), "looks good");
    assert_eq!(page.eval("window.same"), true);

    page.leads(|| page.press("Ok, I'm done with manual testing"));
    page.shows("Ok, success rates look stable");
    is_right(&page);
    assert!(page.text().contains("looks good"), "the note is shown: {}", page.text());
    page.leads(|| page.press("Ok, success rates look stable"));
    page.shows("Ok, everything looks good");
    page.leads(|| page.press("Ok, everything looks good"));
    page.shows("world-v2 is the current version");
    is_right(&page);
    world.is_at("world-v2", "second");

    page.open(&format!("{}/", server.url));
    page.shows("hello_world #1");
    assert!(page.text().contains("Succeeded"), "{}", page.text());
    is_right(&page);
}

#[test]
fn an_abort_and_a_late_answer_are_told() {
    let world = World::new();
    let server = world.server();
    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");
    let browser = Browser::start();
    let (ada, grace) = (browser.page(), browser.page());
    for page in [&ada, &grace] {
        page.open(&format!("{}/deploys/{id}", server.url));
        page.shows("Ok, I'm done with manual testing");
    }
    // A second deploy on the same entry is not offered.
    grace.open(&format!("{}/pipelines/hello_world/build", server.url));
    grace.shows("Another deploy holds");
    assert_eq!(grace.eval("document.querySelector('form .btn.go').disabled"), true);
    is_right(&grace);

    // Grace's page is old by the time she answers: its form is kept, its updates are held back.
    grace.open(&format!("{}/deploys/{id}", server.url));
    grace.eval("document.documentElement.dataset.leaving = '1'");
    ada.fill("#actor", "ada");
    ada.fill("#reason", "wrong branch");
    ada.leads(|| ada.press("Abort"));
    ada.shows("Everything is as it was before the deploy");
    assert!(ada.text().contains("Aborted by ada") && ada.text().contains("wrong branch"), "{}", ada.text());
    is_right(&ada);
    world.is_at("world-v1", "first");
    grace.leads(|| grace.press("Ok, I'm done with manual testing"));
    assert!(grace.text().contains("Everything is as it was"), "{}", grace.text());
    assert!(grace.eval("document.querySelector('[role=alert]').innerText").as_str().is_some());
}

#[test]
fn forms_are_refused_from_elsewhere_and_pages_missing_are_told() {
    let world = World::new();
    let server = world.server();
    let client = |path: &str, origin: Option<&str>| {
        let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
        headers.extend(origin.map(|origin| ("origin", origin)));
        http::request("POST", &format!("{}{path}", server.url), &headers, Some(b"")).unwrap().status
    };
    for path in ["/pipelines/hello_world/build", "/deploys/1/approve", "/deploys/1/abort", "/deploys/1/retry"] {
        assert_eq!(client(path, None), 403, "{path}");
        assert_eq!(client(path, Some("http://evil.example")), 403, "{path}");
    }
    assert_eq!(client("/deploys/1/abort", Some(&server.url)), 404);
    for (path, kind) in [
        ("/deploys/77", "text/html"),
        ("/pipelines/none/build", "text/html"),
        ("/nothing", "text/html"),
        ("/api/1/nothing", "application/json"),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.header("content-type").unwrap().starts_with(kind), "{path}");
    }
    // A value that is refused stands in its field again, with why.
    let browser = Browser::start();
    let page = browser.page();
    page.open(&format!("{}/pipelines/hello_world/build", server.url));
    page.fill("[name='p.namerdNamespace']", "");
    page.fill("[name='p.gitBranch']", "<script>alert(1)</script>");
    page.leads(|| page.press("Build"));
    assert_eq!(page.eval("document.querySelector('[name=\"p.gitBranch\"]').value"), "<script>alert(1)</script>");
    page.eval("document.querySelector('.err, .t-bad').innerText");
    let troubles = page.troubles();
    assert!(troubles.iter().all(|trouble| trouble.contains("400")), "{troubles:?}");
}
