//! Which of the admin server's paths answer, by the `security` keys.

use std::sync::Arc;

use admin::{Categories, Security, is_foreign};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::not_found;

/// The original's lists; our own pages and their data count as UI.
pub const CATEGORIES: Categories = Categories {
    control: &["/admin/reload", "/admin/shutdown", "/logging.json"],
    ui: &[
        "/",
        "/config.json",
        "/metrics.json",
        "/admin/metrics.json",
        "/admin/metrics",
        "/delegator",
        "/delegator.json",
        "/logging",
        "/help",
        "/requests",
        "/admin/requests.json",
        "/admin/overview.json",
    ],
    ui_below: &["/files/", "/admin/files/", "/assets/", "/requests/", "/admin/requests/"],
};

pub(crate) async fn check(State(security): State<Arc<Security>>, request: Request, next: Next) -> Response {
    if !security.allows(request.uri().path(), &CATEGORIES) {
        return not_found("no such page");
    }
    if is_foreign(request.method(), request.headers()) {
        return (StatusCode::FORBIDDEN, "a page of another origin may not do this\n").into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_allowed_as_in_the_reference() {
        let texts = [
            include_str!("../../tests/vectors/errors.json"),
            include_str!("../../tests/vectors/derived/security.json"),
        ];
        let cases = texts.map(|text| serde_json::from_str::<Vec<serde_json::Value>>(text).expect("a list"));
        let mut checked = 0;
        for case in cases.iter().flatten() {
            let id = case["id"].as_str().unwrap_or_default();
            if !id.starts_with("adm-") {
                continue;
            }
            let config = serde_json::from_value(case["config"]["admin"]["security"].clone()).expect(id);
            let uri = case["request"]["uri"].as_str().expect(id);
            let path = uri.split('?').next().unwrap_or_default();
            let allowed = Security::build(config).expect(id).allows(path, &CATEGORIES);
            assert_eq!(Some(allowed), case["expect"]["allowed"].as_bool(), "{id}");
            checked += 1;
        }
        assert_eq!(checked, 5 + 73);
    }
}
