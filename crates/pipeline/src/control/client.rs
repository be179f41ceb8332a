//! The HTTP client towards the control plane. Its certificates are those of the files as they are now: when these
//! change, requests from then on go by a new client, with connections of its own.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tls::rustls::ClientConfig;

const CONNECTED_WITHIN: Duration = Duration::from_secs(2);

/// Clones share.
#[derive(Clone)]
pub(super) struct Client {
    /// Where there are files that may change.
    live: Option<tls::client::Live>,
    current: Arc<Mutex<Current>>,
}

struct Current {
    /// What `http` was made of.
    settings: Arc<ClientConfig>,
    http: reqwest::Client,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("reloads", &self.live.is_some()).finish_non_exhaustive()
    }
}

impl Client {
    /// With settings that stay.
    pub(super) fn fixed(settings: ClientConfig) -> Result<Client, reqwest::Error> {
        Client::of(Arc::new(settings), None)
    }

    /// With those of files.
    pub(super) fn live(live: tls::client::Live) -> Result<Client, reqwest::Error> {
        Client::of(live.config(), Some(live))
    }

    fn of(settings: Arc<ClientConfig>, live: Option<tls::client::Live>) -> Result<Client, reqwest::Error> {
        let http = build(&settings)?;
        Ok(Client { live, current: Arc::new(Mutex::new(Current { settings, http })) })
    }

    /// For one request.
    pub(super) fn http(&self) -> reqwest::Client {
        // What is in it is replaced whole.
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(live) = &self.live else { return current.http.clone() };
        let settings = live.config();
        if !Arc::ptr_eq(&settings, &current.settings) {
            match build(&settings) {
                Ok(http) => current.http = http,
                Err(error) => {
                    let error = causes::chain(&error);
                    tracing::error!("controlPlaneTls: {error}; the last good files stay in use");
                }
            }
            // Not tried again before the files change again.
            current.settings = settings;
        }
        current.http.clone()
    }
}

fn build(settings: &ClientConfig) -> Result<reqwest::Client, reqwest::Error> {
    // Never by way of a proxy of the environment: the tutorial's `http_proxy` is a router.
    reqwest::Client::builder()
        .no_proxy()
        .tls_backend_preconfigured(settings.clone())
        .connect_timeout(CONNECTED_WITHIN)
        .redirect(reqwest::redirect::Policy::none())
        .build()
}
