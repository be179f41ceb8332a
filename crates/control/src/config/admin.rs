//! `admin:`: the admin server, and which of its paths answer.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use axum::http::{HeaderMap, Method, header};
use discovery::ConfigError;
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::interface::{SocketOptions, loopback};

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Admin {
    pub ip: IpAddr,
    pub port: u16,
    pub socket_options: SocketOptions,
    pub shutdown_grace_ms: u64,
    pub security: SecurityConfig,
    /// Ours: where the pages of the other parts are.
    pub links: admin::Links,
    /// Not built.
    tls: Option<Value>,
    worker_threads: Option<usize>,
}

impl Default for Admin {
    fn default() -> Admin {
        Admin {
            ip: loopback(),
            port: 9991,
            socket_options: SocketOptions::default(),
            shutdown_grace_ms: 10_000,
            security: SecurityConfig::default(),
            links: admin::Links::default(),
            tls: None,
            worker_threads: None,
        }
    }
}

impl Admin {
    pub fn address(&self) -> SocketAddr {
        (self.ip, self.port).into()
    }

    pub fn shutdown_grace(&self) -> Duration {
        Duration::from_millis(self.shutdown_grace_ms)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.tls.is_some() {
            let message =
                "TLS is not supported yet: take the key out, and listen on a loopback address or behind a proxy";
            return Err(ConfigError::new("tls", message));
        }
        if let Some(threads) = self.worker_threads {
            // The original's default is what there is here, too.
            if threads != 2 {
                let message = format!("{threads} is not supported: take the key out; control work runs on two threads");
                return Err(ConfigError::new("workerThreads", message));
            }
        }
        self.socket_options.check()?;
        Security::build(&self.security)?;
        Ok(())
    }
}

/// `admin.security`. Lists are regular expressions that must match the whole path.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
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

/// The same, ready to decide.
#[derive(Clone, Debug)]
pub(crate) struct Security {
    config: SecurityConfig,
    allowed: Vec<Regex>,
    refused: Vec<Regex>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Category {
    Ui,
    Control,
    Diagnostics,
}

impl Security {
    pub(crate) fn build(config: &SecurityConfig) -> Result<Security, ConfigError> {
        let allowed = compiled("pathWhitelist", &config.path_whitelist)?;
        let refused = compiled("pathBlacklist", &config.path_blacklist)?;
        Ok(Security { config: config.clone(), allowed, refused })
    }

    /// The black list first; then the category or the white list.
    pub(crate) fn allows(&self, path: &str) -> bool {
        let listed = |list: &[Regex]| list.iter().any(|expression| expression.is_match(path));
        let enabled = match category(path) {
            Category::Ui => self.config.ui_enabled,
            Category::Control => self.config.control_enabled,
            Category::Diagnostics => self.config.diagnostics_enabled,
        };
        !listed(&self.refused) && (enabled || listed(&self.allowed))
    }
}

fn compiled(key: &str, expressions: &[String]) -> Result<Vec<Regex>, ConfigError> {
    let compile = |(number, expression): (usize, &String)| {
        Regex::new(&format!("^(?:{expression})$")).map_err(|error| {
            let reason = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
            let message = format!("cannot read `{expression}` as a regular expression: {reason}");
            ConfigError::new(format!("security.{key}[{number}]"), message)
        })
    };
    expressions.iter().enumerate().map(compile).collect()
}

/// The original's lists; pages and what they show count as UI.
fn category(path: &str) -> Category {
    let control = ["/admin/shutdown", "/logging.json"];
    let ui = [
        "/",
        "/config.json",
        "/admin/metrics.json",
        "/admin/metrics",
        "/logging",
        "/help",
        "/fleet",
        "/delegator.json",
        "/dtab/delegator.json",
    ];
    let below = ["/files/", "/admin/files/", "/assets/", "/dtab/", "/namespaces/"];
    if control.contains(&path) {
        Category::Control
    } else if ui.contains(&path) || below.iter().any(|prefix| path.starts_with(prefix)) {
        Category::Ui
    } else {
        Category::Diagnostics
    }
}

/// A write that a page of another origin wants to make: browsers say which page sends a request.
/// Without this any web page could edit dtabs on its reader's machine. Command-line clients send no
/// `Origin`.
pub(crate) fn is_foreign(method: &Method, headers: &HeaderMap) -> bool {
    if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) {
        return false;
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    authority.is_none() || authority != host
}
