//! Host names, resolved live by the system's resolver.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use naming::{Addr, Fed, Live, Shared, State};

use crate::address_set::plain;

/// The original's interval.
const EVERY: Duration = Duration::from_secs(5);

/// How long an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Keep {
    /// Asked again every five seconds.
    Refreshed,
    /// The first answer is kept for ever.
    Forever,
}

/// One resolver for a process; equal names share their lookups.
pub(crate) struct Dns {
    shared: Shared<(String, u16, Keep), Addr>,
}

impl Dns {
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new() -> Dns {
        Dns { shared: Shared::new() }
    }

    /// The addresses of `host`, live. An empty host is the loopback, as `localhost` is.
    pub(crate) fn addr(&self, host: &str, port: i32, keep: Keep) -> Live<Addr> {
        let Ok(port) = u16::try_from(port) else {
            return Live::constant(Addr::Failed(format!("port out of range:{port}").into()));
        };
        if host.is_empty() || host == "localhost" {
            return Live::constant(plain([(IpAddr::from(Ipv4Addr::LOCALHOST), port).into()]));
        }
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Live::constant(plain([(ip, port).into()]));
        }
        if host.contains(':') {
            return Live::constant(Addr::Failed(format!("not a host: {host}").into()));
        }
        let name = host.to_owned();
        let feed = move |fed| keep_resolved(name, port, keep, fed);
        self.shared.get((host.to_owned(), port, keep), feed).0
    }
}

/// A lookup that gets no answer keeps what was known; only an answer, also "no such host", changes it.
async fn keep_resolved(host: String, port: u16, keep: Keep, fed: Arc<Fed<Addr, ()>>) {
    loop {
        let known = matches!(fed.value.get(), State::Ok(Addr::Bound { .. }));
        match tokio::net::lookup_host((host.as_str(), port)).await {
            Ok(addresses) => {
                fed.value.publish(State::Ok(plain(addresses)));
                if keep == Keep::Forever {
                    return;
                }
            }
            Err(error) if is_temporary(&error) && known => {
                tracing::warn!(host, %error, "keeping the last addresses");
            }
            Err(error) if is_lookup_failure(&error) => fed.value.set(State::Ok(Addr::Neg)),
            Err(error) if known => tracing::warn!(host, %error, "keeping the last addresses"),
            Err(error) => fed.value.set(State::Ok(Addr::Failed(error.to_string().into()))),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// The resolver answered, or gave up; the standard library tells only by text.
fn is_lookup_failure(error: &io::Error) -> bool {
    error.to_string().contains("failed to lookup address information")
}

/// No answer, which says nothing about the host.
fn is_temporary(error: &io::Error) -> bool {
    let text = error.to_string();
    text.contains("Temporary failure") || text.contains("Try again")
}
