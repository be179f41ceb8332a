//! `admin:`: the admin server, and which of its paths answer.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use admin::{Categories, Security, SecurityConfig};
use discovery::ConfigError;
use serde::Deserialize;
use serving::SocketOptions;

use super::interface::{check_options, check_tls, loopback};

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
    pub tls: Option<tls::server::Config>,
    /// Only the original's default.
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
        check_tls(self.tls.as_ref())?;
        if let Some(threads) = self.worker_threads {
            // The original's default is what there is here, too.
            if threads != 2 {
                let message = format!("{threads} is not supported: take the key out; control work runs on two threads");
                return Err(ConfigError::new("workerThreads", message));
            }
        }
        check_options(&self.socket_options)?;
        self.security().map(drop)
    }

    /// # Errors
    /// Names the expression of the lists that cannot be read.
    pub(crate) fn security(&self) -> Result<Security, ConfigError> {
        Security::build(self.security.clone()).map_err(|error| {
            let message = format!("cannot read `{}` as a regular expression: {}", error.expression, error.reason);
            ConfigError::new(format!("security.{}", error.key), message)
        })
    }
}

/// The original's lists; pages and what they show count as UI.
pub(crate) const CATEGORIES: Categories = Categories {
    control: &["/admin/shutdown", "/logging.json"],
    ui: &[
        "/",
        "/config.json",
        "/admin/metrics.json",
        "/admin/metrics",
        "/logging",
        "/help",
        "/fleet",
        "/delegator.json",
        "/dtab/delegator.json",
    ],
    ui_below: &["/files/", "/admin/files/", "/assets/", "/dtab/", "/namespaces/"],
};
