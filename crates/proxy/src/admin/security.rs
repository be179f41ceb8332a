//! The `security` keys of `admin`: which paths answer.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use regex::Regex;
use serde::{Deserialize, Serialize};

use super::not_found;

/// `admin.security`. Lists are regular expressions that must match the whole path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct SecurityConfig {
    pub ui_enabled: bool,
    pub control_enabled: bool,
    pub diagnostics_enabled: bool,
    pub path_whitelist: Vec<String>,
    pub path_blacklist: Vec<String>,
}

impl Default for SecurityConfig {
    fn default() -> SecurityConfig {
        SecurityConfig {
            ui_enabled: true,
            control_enabled: true,
            diagnostics_enabled: true,
            path_whitelist: Vec::new(),
            path_blacklist: Vec::new(),
        }
    }
}

/// An expression that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{key}: cannot read `{expression}` as a regular expression")]
pub struct SecurityError {
    /// `pathWhitelist[0]`
    pub key: String,
    pub expression: String,
    pub source: regex::Error,
}

/// The same, ready to decide.
#[derive(Debug, Clone)]
pub struct Security {
    config: SecurityConfig,
    allowed: Vec<Regex>,
    refused: Vec<Regex>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Category {
    Ui,
    Control,
    Diagnostics,
}

impl Security {
    /// # Errors
    /// Names the key and the expression that cannot be read.
    pub fn build(config: SecurityConfig) -> Result<Security, SecurityError> {
        let allowed = compiled("pathWhitelist", &config.path_whitelist)?;
        let refused = compiled("pathBlacklist", &config.path_blacklist)?;
        Ok(Security { config, allowed, refused })
    }

    /// The black list first; then the category or the white list.
    pub fn allows(&self, path: &str) -> bool {
        let listed = |list: &[Regex]| list.iter().any(|expression| expression.is_match(path));
        if listed(&self.refused) {
            return false;
        }
        let enabled = match category(path) {
            Category::Ui => self.config.ui_enabled,
            Category::Control => self.config.control_enabled,
            Category::Diagnostics => self.config.diagnostics_enabled,
        };
        enabled || listed(&self.allowed)
    }
}

pub(crate) async fn check(State(security): State<Arc<Security>>, request: Request, next: Next) -> Response {
    if !security.allows(request.uri().path()) {
        return not_found("no such page");
    }
    if !is_safe(request.method()) && is_foreign(request.headers()) {
        return (StatusCode::FORBIDDEN, "a page of another origin may not do this\n").into_response();
    }
    next.run(request).await
}

fn is_safe(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

/// Browsers say which page sends a form; without this, any web page could stop a router on its reader's
/// machine. Command-line clients send no `Origin`.
fn is_foreign(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let origin = origin.to_str().unwrap_or_default();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_none() || authority != host
}

fn compiled(key: &str, expressions: &[String]) -> Result<Vec<Regex>, SecurityError> {
    let compile = |(number, expression): (usize, &String)| {
        Regex::new(&format!("^(?:{expression})$")).map_err(|source| SecurityError {
            key: format!("{key}[{number}]"),
            expression: expression.clone(),
            source,
        })
    };
    expressions.iter().enumerate().map(compile).collect()
}

/// The original's lists; our own pages and their data count as UI.
fn category(path: &str) -> Category {
    let ui = [
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
    ];
    let below = ["/files/", "/admin/files/", "/assets/", "/requests/", "/admin/requests/"];
    if ["/admin/shutdown", "/logging.json"].contains(&path) {
        Category::Control
    } else if ui.contains(&path) || below.iter().any(|prefix| path.starts_with(prefix)) {
        Category::Ui
    } else {
        Category::Diagnostics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_allowed_as_in_the_reference() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/errors.json")).expect("vectors");
        let cases = vectors["vectors"].as_array().or_else(|| vectors.as_array()).expect("a list");
        let mut checked = 0;
        for case in cases {
            let id = case["id"].as_str().unwrap_or_default();
            if !id.starts_with("adm-") {
                continue;
            }
            let config = serde_json::from_value(case["config"]["admin"]["security"].clone()).expect(id);
            let uri = case["request"]["uri"].as_str().expect(id);
            let path = uri.split('?').next().unwrap_or_default();
            let allowed = Security::build(config).expect(id).allows(path);
            assert_eq!(Some(allowed), case["expect"]["allowed"].as_bool(), "{id}");
            checked += 1;
        }
        assert_eq!(checked, 5);
    }

    #[test]
    fn the_black_list_wins_and_expressions_match_whole_paths() {
        let config = SecurityConfig {
            ui_enabled: false,
            path_whitelist: vec!["/config.*".into(), "/".into()],
            path_blacklist: vec!["/config.json".into()],
            ..SecurityConfig::default()
        };
        let security = Security::build(config).expect("valid");
        let shown = ["/", "/config.json", "/delegator", "/admin/ping"].map(|path| security.allows(path));
        assert_eq!(shown, [true, false, false, true]);
    }

    #[test]
    fn a_bad_expression_is_named() {
        let config = SecurityConfig { path_blacklist: vec!["a".into(), "(".into()], ..SecurityConfig::default() };
        let error = Security::build(config).expect_err("not closed").to_string();
        assert_eq!(error, "pathBlacklist[1]: cannot read `(` as a regular expression");
    }
}
