//! The certificates of one router: what its `tls` sections became, for all workers.

use tls::client::Naming;
use tls::{Error, Reloader};

use crate::settings::Router;

/// In the order of the settings; `None` where there is no TLS.
#[derive(Debug)]
pub(crate) struct Secrets {
    /// One for each server.
    pub servers: Vec<Option<tls::server::Live>>,
    /// One for each entry of `client`.
    pub clients: Vec<Option<tls::client::Live>>,
}

impl Secrets {
    /// Reads the files; from here on `reloader` looks after them.
    pub(crate) fn read(router: &Router, reloader: &Reloader) -> Result<Secrets, Error> {
        let server = |server: &crate::settings::Server| {
            let Some(section) = &server.tls else { return Ok(None) };
            let live = tls::server::Live::start(&section.config, &section.at, reloader);
            live.map(Some).map_err(|error| error.under(&section.at))
        };
        let client = |client: &crate::settings::Client| {
            let Some(section) = client.tls.as_ref().filter(|section| section.config.is_on()) else { return Ok(None) };
            let live = tls::client::Live::start(&section.config, Naming::CommonName, &section.at, reloader);
            live.map(Some).map_err(|error| error.under(&section.at))
        };
        Ok(Secrets {
            servers: router.servers.iter().map(server).collect::<Result<_, _>>()?,
            clients: router.client.entries.iter().map(|(_, settings)| client(settings)).collect::<Result<_, _>>()?,
        })
    }
}
