//! What pages do in the browser beyond being shown: filter, sort, follow, theme, copy, say that they are old.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use admin::{Links, Part, Shell, web};
use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use serde_json::{Value, json};
use testkit::browser::{Browser, Page, Screen};
use testkit::until::until;

const LIMIT: Duration = Duration::from_secs(20);

/// A pipeline server with as many deploys as it is told, that can be ended.
struct Server {
    address: SocketAddr,
    deploys: Arc<AtomicU64>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Server {
    fn start(deploys: u64) -> Server {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let deploys = Arc::new(AtomicU64::new(deploys));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let count = deploys.clone();
        let list = move |headers: HeaderMap| {
            let count = count.load(Ordering::Relaxed);
            async move { page(count, &headers) }
        };
        let router = Router::new().route("/", get(list)).merge(admin::assets());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Server { address, deploys, runtime: Some(runtime) }
    }

    fn open(&self, browser: &Browser) -> Page {
        let page = browser.page();
        page.screen(Screen { width: 1280, is_dark: false, is_touch: false });
        page.open(&format!("http://{}/", self.address));
        page
    }

    fn end(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

fn page(deploys: u64, headers: &HeaderMap) -> axum::response::Response {
    let deploy = |id: u64| {
        json!({
            "id": id.to_string(), "pipeline": if id.is_multiple_of(2) { "even" } else { "odd" }, "service": "world",
            "entry": "/host/world", "namespace": "internal", "parameters": {}, "state": "succeeded", "stage": null,
            "gate": null, "stages": [], "version": { "current": "world-v1", "new": "world-v2" }, "reason": null,
            "actor": "ada", "note": null, "started": "2026-11-26T14:02:03.000Z", "ended": "2026-11-26T14:02:09.000Z",
            "doing": null, "commit": null, "text": null, "change": null, "lease": null,
        })
    };
    let page = admin::pipeline::ListPage {
        shell: Shell::new(Part::Pipeline, "pipeline", headers, Links::default()),
        pipelines: Vec::new(),
        deploys: serde_json::from_value((1..=deploys).rev().map(deploy).collect::<Value>()).unwrap(),
    };
    web::page(StatusCode::OK, &page)
}

/// Ids of the deploys that can be seen, in their order.
fn seen(page: &Page) -> Vec<String> {
    let rows = page
        .eval("[...document.querySelectorAll('#deploys tbody tr')].filter(r => r.offsetParent).map(r => r.dataset.k)");
    rows.as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn sees(page: &Page, what: &str, wanted: impl Fn(&[String]) -> bool) {
    until(what, LIMIT, || {
        let seen = seen(page);
        if wanted(&seen) { Ok(()) } else { Err(seen) }
    });
}

#[test]
fn a_table_is_filtered_and_its_rest_is_shown_and_both_outlive_an_update() {
    let (server, browser) = (Server::start(60), Browser::start());
    let page = server.open(&browser);
    assert_eq!(seen(&page).len(), 50);
    page.press("Show the other 10");
    assert_eq!(seen(&page).len(), 60);
    // Under a pointer rows would be held.
    page.hover("h1");
    page.key("/");
    page.call("Input.insertText", json!({ "text": "even" }));
    sees(&page, "only the filtered rows", |rows| rows.len() == 30);
    server.deploys.store(62, Ordering::Relaxed);
    sees(&page, "the new row, and no odd one", |rows| rows.len() == 31 && rows[0] == "62");
    assert_eq!(page.eval("document.activeElement.value"), "even");
    page.fill("input.filter", "");
    sees(&page, "all rows", |rows| rows.len() == 62);
    assert_eq!(page.troubles(), [""; 0]);
}

#[test]
fn rows_do_not_move_under_a_pointer() {
    let (server, browser) = (Server::start(3), Browser::start());
    let page = server.open(&browser);
    page.hover("#deploys tbody tr td");
    page.eval("window.updates = 0; const real = fetch; window.fetch = (...a) => real(...a).finally(() => setTimeout(() => updates++, 100))");
    server.deploys.store(5, Ordering::Relaxed);
    until("two updates", LIMIT, || {
        let updates = page.eval("updates");
        if updates.as_u64() >= Some(2) { Ok(()) } else { Err(updates) }
    });
    assert_eq!(seen(&page), ["3", "2", "1"]);
    page.hover("h1");
    sees(&page, "the new rows once the pointer has left", |rows| rows == ["5", "4", "3", "2", "1"]);
}

#[test]
fn a_page_says_when_it_is_old_and_comes_back() {
    let (mut server, browser) = (Server::start(1), Browser::start());
    let page = server.open(&browser);
    page.shows("Live");
    server.end();
    page.shows("As of ");
    assert_eq!(page.eval("document.querySelector('#live').classList.contains('off')"), true);
    assert_eq!(seen(&page), ["1"], "what was known is kept");
    // On the same port again, the page finds it by itself.
    let address = server.address;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = until("the port is free again", LIMIT, || runtime.block_on(tokio::net::TcpListener::bind(address)));
    let list = |headers: HeaderMap| async move { page_of_two(&headers) };
    runtime.spawn(async move { axum::serve(listener, Router::new().route("/", get(list))).await });
    page.shows("Live");
    sees(&page, "what happened meanwhile", |rows| rows == ["2", "1"]);
    runtime.shutdown_background();
}

fn page_of_two(headers: &HeaderMap) -> axum::response::Response {
    page(2, headers)
}

#[test]
fn the_theme_is_chosen_and_remembered() {
    let (server, browser) = (Server::start(1), Browser::start());
    let page = server.open(&browser);
    let ground = || page.eval("getComputedStyle(document.body).backgroundColor");
    let light = ground();
    page.click("[data-do=theme]");
    assert_eq!(ground(), light, "from the system's to light");
    page.click("[data-do=theme]");
    let dark = ground();
    assert_ne!(dark, light);
    page.open(&format!("http://{}/", server.address));
    assert_eq!(ground(), dark, "remembered");
    page.click("[data-do=theme]");
    assert_eq!(ground(), light, "the system's again");
}

#[test]
fn times_are_shown_in_the_readers_zone() {
    let (server, browser) = (Server::start(1), Browser::start());
    let page = browser.page();
    page.call("Emulation.setTimezoneOverride", json!({ "timezoneId": "Asia/Kolkata" }));
    page.open(&format!("http://{}/", server.address));
    let time = page.eval("[document.querySelector('time').textContent, document.querySelector('time').title]");
    assert!(time[0].as_str().unwrap().contains("19:32") || time[0] == "26 Nov", "{time}");
    assert!(time[1].as_str().unwrap().starts_with("2026-11-26 19:32:03.000 Asia/"), "{time}");
}
