//! `interfaces:`: where the control plane is asked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use discovery::ConfigError;
use serde::Deserialize;
use serde_json::Value;

use super::{kind, typed};

/// An `io.l5d.httpController`.
#[derive(Clone, Debug, PartialEq)]
pub struct Interface {
    pub address: SocketAddr,
    pub socket_options: SocketOptions,
    pub tls: Option<tls::server::Config>,
}

/// `socketOptions:` of a listening socket.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct SocketOptions {
    pub no_delay: bool,
    pub reuse_addr: bool,
    pub reuse_port: bool,
    pub keep_alive: Option<bool>,
    /// Connections that may wait to be accepted.
    pub backlog: Option<u32>,
    /// Not built.
    #[serde(rename = "writeTimeoutMs")]
    write_timeout: Option<u64>,
    #[serde(rename = "readTimeoutMs")]
    read_timeout: Option<u64>,
}

impl Default for SocketOptions {
    fn default() -> SocketOptions {
        SocketOptions {
            no_delay: true,
            reuse_addr: true,
            reuse_port: false,
            keep_alive: None,
            backlog: None,
            write_timeout: None,
            read_timeout: None,
        }
    }
}

impl SocketOptions {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let keys = [("writeTimeoutMs", self.write_timeout), ("readTimeoutMs", self.read_timeout)];
        match keys.iter().find(|(_, value)| value.is_some()) {
            Some((key, _)) => {
                let message =
                    "is not supported yet: take it out; connections that stand still are closed by limits of their own";
                Err(ConfigError::new(format!("socketOptions.{key}"), message))
            }
            None => Ok(()),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Keys {
    #[serde(default = "loopback")]
    ip: IpAddr,
    #[serde(default = "default_port")]
    port: u16,
    #[serde(default)]
    socket_options: SocketOptions,
    #[serde(default)]
    tls: Option<tls::server::Config>,
    /// Accepted with every kind; only experimental kinds ask for it.
    #[serde(default, rename = "experimental")]
    _experimental: bool,
}

/// What can be said without files.
pub(super) fn check_tls(tls: Option<&tls::server::Config>) -> Result<(), ConfigError> {
    tls.map_or(Ok(()), tls::server::Config::check).map_err(|error| bad_section(error.under("tls")))
}

/// The error of a `tls` section as one of the document.
pub(crate) fn bad_section(error: tls::Error) -> ConfigError {
    ConfigError::new(error.key, error.message)
}

pub(super) fn loopback() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

fn default_port() -> u16 {
    4180
}

impl Interface {
    /// As in a document.
    pub const KIND: &'static str = "io.l5d.httpController";

    pub(super) fn read(mut value: Value) -> Result<Interface, ConfigError> {
        let kind = kind(&mut value)?;
        match kind.as_str() {
            Interface::KIND => {}
            "io.l5d.thriftNameInterpreter" | "io.l5d.mesh" | "io.l5d.destination" => {
                let instead = "use io.l5d.httpController, and interpreter kind io.l5d.namerd.http in routers";
                let message = format!("the interface `{kind}` is not supported yet: {instead}");
                return Err(ConfigError::new("kind", message));
            }
            other => {
                let message = format!("unknown interface `{other}`: use {}", Interface::KIND);
                return Err(ConfigError::new("kind", message));
            }
        }
        let keys: Keys = typed(value)?;
        check_tls(keys.tls.as_ref())?;
        keys.socket_options.check()?;
        Ok(Interface { address: (keys.ip, keys.port).into(), socket_options: keys.socket_options, tls: keys.tls })
    }
}
