//! Sample data for every page: what the endpoints answer, with names and texts that tempt a page to break.

mod control;
mod pipeline;
mod router;

use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

pub const NAMES: &[&str] = &[
    "list",
    "list-empty",
    "build",
    "build-wrong",
    "build-held",
    "deploy-testing",
    "deploy-waiting",
    "deploy-running",
    "deploy-reverting",
    "deploy-reverted",
    "deploy-succeeded",
    "deploy-failed",
    "deploy-early",
    "router",
    "router-idle",
    "router-stale",
    "router-many",
    "request",
    "request-failed",
    "delegator",
    "delegator-nowhere",
    "control",
    "control-empty",
    "dtab",
    "dtab-deleted",
    "dtab-explain",
    "edit",
    "edit-conflict",
    "edit-new",
    "fleet",
    "fleet-empty",
];

pub fn page(name: &str, headers: &HeaderMap) -> Option<Response> {
    let page = router::page(name, headers).or_else(|| control::page(name, headers));
    let page = page.or_else(|| pipeline::page(name, headers))?;
    assert_eq!(page.status(), StatusCode::OK, "{name}");
    Some(page)
}

/// A text with everything that breaks markup, scripts and shells.
pub const EVIL: &str = "it's \"quoted\" & <b>bold</b></script><!-- {{x}} | ! => 'y' \u{1F600} http://example.com/a/very/long/word/without/any/space/that/has/to/be/broken/somewhere/or/it/leaves/its/card";

pub fn missing() -> admin::pipeline::ListPage {
    admin::pipeline::ListPage {
        shell: admin::Shell::new(admin::Part::Pipeline, "pipeline", &HeaderMap::new(), admin::Links::default()),
        pipelines: Vec::new(),
        deploys: Vec::new(),
    }
}
