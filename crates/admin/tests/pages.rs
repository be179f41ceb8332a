//! Every page with sample data, in a real browser: on all screens, light and dark, with and without
//! scripts. With `SWITCHYARD_SCREENSHOTS=DIR` it also keeps a picture of each.

#![allow(clippy::unwrap_used)]

mod samples;

use std::net::SocketAddr;
use std::path::PathBuf;

use admin::web;
use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use testkit::browser::{Browser, Screen, checked};
use testkit::http;

/// A server of all samples at `/sample/NAME`, and of the assets.
fn serve() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let sample = |Path(name): Path<String>, headers: HeaderMap| async move {
                samples::page(&name, &headers).unwrap_or_else(|| web::page(StatusCode::NOT_FOUND, &samples::missing()))
            };
            let events = || async { ([("content-type", "text/event-stream")], "retry: 600000\n\n") };
            let router = Router::new()
                .route("/sample/{name}", get(sample))
                .route("/api/1/deploys/{id}/events", get(events))
                .merge(admin::assets());
            axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap();
        });
    });
    address
}

fn pictures() -> Option<PathBuf> {
    let directory = PathBuf::from(std::env::var_os("SWITCHYARD_SCREENSHOTS")?);
    std::fs::create_dir_all(&directory).unwrap();
    Some(directory)
}

#[test]
fn every_page_is_right_on_every_screen() {
    let (address, browser) = (serve(), Browser::start());
    let page = browser.page();
    let mut wrong = Vec::new();
    let only = std::env::var("SWITCHYARD_SAMPLE").unwrap_or_default();
    for name in samples::NAMES.iter().filter(|name| name.contains(&only)) {
        page.open(&format!("http://{address}/sample/{name}"));
        wrong.extend(checked(&page).into_iter().map(|problem| format!("{name} {problem}")));
        if let Some(directory) = pictures() {
            for (width, is_dark, file) in [(1280, false, "light.1280"), (390, true, "dark.390")] {
                page.screen(Screen { width, is_dark, is_touch: width < 600 });
                page.screenshot(&directory.join(format!("{name}.{file}.png")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{} problems", wrong.join("\n"), wrong.len());
}

#[test]
fn pages_are_complete_without_scripts() {
    let (address, browser) = (serve(), Browser::start());
    let page = browser.page();
    for name in samples::NAMES {
        page.scripts(true);
        page.open(&format!("http://{address}/sample/{name}"));
        let with = page.eval("document.querySelectorAll('td, dd, li, .log > div').length");
        page.scripts(false);
        page.open(&format!("http://{address}/sample/{name}"));
        let seen = page.eval(
            "[...document.querySelectorAll('td, dd, li, .log > div')].filter(e => !e.closest('[hidden]')).length",
        );
        assert_eq!(seen, with, "{name}");
        // What only a script can do is not offered.
        let dead = page.eval("[...document.querySelectorAll('.js')].filter(e => e.offsetParent).length");
        assert_eq!(dead, 0, "{name}");
    }
}

#[test]
fn pages_and_files_are_sent_with_the_right_headers() {
    let address = serve();
    let page = http::get(&format!("http://{address}/sample/list"), &[]);
    assert_eq!(page.header("content-security-policy"), Some(web::POLICY));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let text = page.text();
    assert!(!text.contains(" style=") && !text.contains("onclick") && !text.contains("javascript:"));
    let script = text.split("<script src=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let file = http::get(&format!("http://{address}{script}"), &[]);
    assert_eq!(file.header("cache-control"), Some("public, max-age=31536000, immutable"));
    let tag = file.header("etag").unwrap().to_owned();
    let again = http::get(&format!("http://{address}{script}"), &[("if-none-match", &tag)]);
    assert_eq!((again.status, again.text().len()), (304, 0));
    let stale = http::get(&format!("http://{address}/assets/page.js?v=old"), &[]);
    assert_eq!((stale.status, stale.header("cache-control")), (200, Some("no-cache")));
    assert_eq!(http::get(&format!("http://{address}/assets/none.js"), &[]).status, 404);
}

#[test]
fn enter_never_presses_ok() {
    let (address, browser) = (serve(), Browser::start());
    let page = browser.page();
    page.open(&format!("http://{address}/sample/deploy-waiting"));
    // The browser submits while it handles the key, so nothing has to be waited for.
    page.eval("window.sent = 0; addEventListener('submit', e => { e.preventDefault(); sent++; })");
    page.fill("#reason", "looks good");
    page.key("Enter");
    assert_eq!(page.eval("sent"), 0);
    page.press("Ok, success rates look stable");
    assert_eq!(page.eval("sent"), 1);
}

#[test]
fn a_page_of_forty_routers_and_two_hundred_services_is_there_within_a_second() {
    let (address, browser) = (serve(), Browser::start());
    let page = browser.page();
    let load = |_| {
        page.open("about:blank");
        page.open(&format!("http://{address}/sample/router-many"));
        // What the browser needs; making the sample is not the page's time.
        let took = page.eval(
            "(({ domComplete, responseStart }) => domComplete - responseStart)(performance.getEntriesByType('navigation')[0])",
        );
        took.as_f64().unwrap()
    };
    // The quickest of some: other tests run beside this one.
    let quickest = (0..5).map(load).fold(f64::INFINITY, f64::min);
    assert!(quickest < 1000.0, "{quickest} ms");
}

#[test]
fn nothing_in_a_template_is_unescaped() {
    let mut seen = 0;
    let mut waiting = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/templates"))];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
                continue;
            }
            let text = std::fs::read_to_string(entry.path()).unwrap();
            for forbidden in ["|safe", "| safe", " style=", "escape(\"none\")", "|e(\"none\")"] {
                assert!(!text.contains(forbidden), "{}: {forbidden}", entry.path().display());
            }
            seen += 1;
        }
    }
    assert!(seen > 5, "only {seen} templates");
}
