//! `interfaces:`: where the control plane is asked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use discovery::ConfigError;
use serde::Deserialize;
use serde_json::Value;
use serving::SocketOptions;

use super::{kind, typed};

/// Where the API is served.
#[derive(Clone, Debug, PartialEq)]
pub struct Interface {
    pub kind: Kind,
    pub address: SocketAddr,
    pub socket_options: SocketOptions,
    pub tls: Option<tls::server::Config>,
}

/// What the document calls it. HTTP is spoken on all of them; see `listen::foreign`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The whole API.
    HttpController,
    /// What routers need.
    Thrift,
    Mesh,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::HttpController, Kind::Thrift, Kind::Mesh];

    /// As in a document.
    pub fn name(self) -> &'static str {
        match self {
            Kind::HttpController => "io.l5d.httpController",
            Kind::Thrift => "io.l5d.thriftNameInterpreter",
            Kind::Mesh => "io.l5d.mesh",
        }
    }

    fn port(self) -> u16 {
        match self {
            Kind::HttpController => 4180,
            Kind::Thrift => 4100,
            Kind::Mesh => 4321,
        }
    }

    /// Keys of the original's protocol, which mean nothing without it.
    fn foreign_keys(self) -> &'static [&'static str] {
        match self {
            Kind::HttpController => &[],
            Kind::Thrift => &["cache", "retryBaseSecs", "retryJitterSecs"],
            Kind::Mesh => &["h2AccessLog", "h2AccessLogRollPolicy", "h2AccessLogAppend", "h2AccessLogRotateCount"],
        }
    }
}

/// The error of a value below `socketOptions`.
pub(super) fn check_options(options: &SocketOptions) -> Result<(), ConfigError> {
    let wrong = |bad: serving::BadOption| ConfigError::new(format!("socketOptions.{}", bad.key), bad.message);
    options.check().map_err(wrong)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Keys {
    #[serde(default = "loopback")]
    ip: IpAddr,
    port: Option<u16>,
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

impl Interface {
    /// The kind with the whole API.
    pub const KIND: &'static str = "io.l5d.httpController";

    /// # Errors
    /// All keys that mean nothing here, or the first other thing that is wrong.
    pub(super) fn read(mut value: Value) -> Result<Interface, Vec<ConfigError>> {
        let one = |error| vec![error];
        let name = kind(&mut value).map_err(one)?;
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) else {
            let message = match name.as_str() {
                "io.l5d.destination" => format!("the interface `{name}` is not supported yet: use {}", Interface::KIND),
                other => format!("unknown interface `{other}`: use {}", Interface::KIND),
            };
            return Err(vec![ConfigError::new("kind", message)]);
        };
        let foreign = kind.foreign_keys().iter().filter(|key| value.get(**key).is_some());
        let message = "is not supported: take it out; HTTP is spoken here, and what it is about does not exist";
        let foreign: Vec<_> = foreign.map(|key| ConfigError::new(*key, message)).collect();
        if !foreign.is_empty() {
            return Err(foreign);
        }
        let keys: Keys = typed(value).map_err(one)?;
        check_tls(keys.tls.as_ref()).map_err(one)?;
        check_options(&keys.socket_options).map_err(one)?;
        let address = (keys.ip, keys.port.unwrap_or(kind.port())).into();
        Ok(Interface { kind, address, socket_options: keys.socket_options, tls: keys.tls })
    }
}
