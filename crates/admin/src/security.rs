//! The `security` keys of `admin`: which paths answer, and whose pages may change something.

use http::{HeaderMap, Method};
use regex::Regex;
use serde::{Deserialize, Serialize};

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
#[error("{key}: cannot read `{expression}` as a regular expression: {reason}")]
pub struct SecurityError {
    /// `pathWhitelist[0]`
    pub key: String,
    pub expression: String,
    pub reason: String,
}

/// The parser draws the place on several lines; what is wrong comes last.
fn last_line(error: &regex::Error) -> String {
    error.to_string().lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned()
}

/// Which paths of a server belong to `controlEnabled` and `uiEnabled`; the rest are diagnostics.
#[derive(Debug, Clone, Copy)]
pub struct Categories {
    pub control: &'static [&'static str],
    pub ui: &'static [&'static str],
    /// Prefixes of further UI paths.
    pub ui_below: &'static [&'static str],
}

/// The keys, ready to decide.
#[derive(Debug, Clone)]
pub struct Security {
    config: SecurityConfig,
    allowed: Vec<Regex>,
    refused: Vec<Regex>,
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
    pub fn allows(&self, path: &str, categories: &Categories) -> bool {
        let listed = |list: &[Regex]| list.iter().any(|expression| expression.is_match(path));
        if listed(&self.refused) {
            return false;
        }
        let enabled = if categories.control.contains(&path) {
            self.config.control_enabled
        } else if categories.ui.contains(&path) || categories.ui_below.iter().any(|prefix| path.starts_with(prefix)) {
            self.config.ui_enabled
        } else {
            self.config.diagnostics_enabled
        };
        enabled || listed(&self.allowed)
    }
}

/// A change that a page of another origin wants to make: browsers say which page sends a request. Without
/// this any web page could stop a router or edit dtabs on its reader's machine. Command-line clients send
/// no `Origin`.
pub fn is_foreign(method: &Method, headers: &HeaderMap) -> bool {
    if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) {
        return false;
    }
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let of_another_site = text("sec-fetch-site").is_some_and(|site| site == "cross-site");
    let Some(origin) = text("origin") else { return of_another_site };
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    of_another_site || authority.is_none() || authority != text("host")
}

fn compiled(key: &str, expressions: &[String]) -> Result<Vec<Regex>, SecurityError> {
    let compile = |(number, expression): (usize, &String)| {
        Regex::new(&format!("^(?:{expression})$")).map_err(|error| SecurityError {
            key: format!("{key}[{number}]"),
            expression: expression.clone(),
            reason: last_line(&error),
        })
    };
    expressions.iter().enumerate().map(compile).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATEGORIES: Categories =
        Categories { control: &["/admin/shutdown"], ui: &["/", "/config.json", "/delegator"], ui_below: &["/files/"] };

    #[test]
    fn the_black_list_wins_and_expressions_match_whole_paths() {
        let config = SecurityConfig {
            ui_enabled: false,
            path_whitelist: vec!["/config.*".into(), "/".into()],
            path_blacklist: vec!["/config.json".into()],
            ..SecurityConfig::default()
        };
        let security = Security::build(config).expect("valid");
        let paths = ["/", "/config.json", "/delegator", "/files/a", "/admin/ping"];
        assert_eq!(paths.map(|path| security.allows(path, &CATEGORIES)), [true, false, false, false, true]);
    }

    #[test]
    fn a_bad_expression_is_named() {
        let config = SecurityConfig { path_blacklist: vec!["a".into(), "(".into()], ..SecurityConfig::default() };
        let error = Security::build(config).expect_err("not closed").to_string();
        assert_eq!(error, "pathBlacklist[1]: cannot read `(` as a regular expression: unclosed group");
    }

    #[test]
    fn only_changes_asked_for_by_another_page_are_foreign() {
        let foreign = |method: Method, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert("host", "a:1".parse().expect("valid"));
            if let Some(origin) = origin {
                headers.insert("origin", origin.parse().expect("valid"));
            }
            is_foreign(&method, &headers)
        };
        assert!(foreign(Method::POST, Some("http://b:1")));
        assert!(foreign(Method::PUT, Some("null")));
        assert!(!foreign(Method::POST, Some("http://a:1")));
        assert!(!foreign(Method::POST, None));
        assert!(!foreign(Method::GET, Some("http://b:1")));
    }
}
