//! The HTTP client of the command line, and the runtime it lives in.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use url::{Host, Url};

use crate::exit::{Exit, Failure};

/// Whom an `https://` server must be, and who we are.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Trust {
    /// Certificates that may have signed an https server's, in PEM [default: those of the system].
    #[arg(long, global = true, env = "SWITCHYARD_CACERT", value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Our own certificate for an https server, in PEM.
    #[arg(long, global = true, env = "SWITCHYARD_CERT", value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, global = true, env = "SWITCHYARD_KEY", value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

impl Trust {
    /// From the environment alone, for command lines that have no options for it.
    pub fn of_the_environment() -> anyhow::Result<Trust> {
        let file = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let trust =
            Trust { cacert: file("SWITCHYARD_CACERT"), cert: file("SWITCHYARD_CERT"), key: file("SWITCHYARD_KEY") };
        if trust.cert.is_some() != trust.key.is_some() {
            return Err(Failure::error(Exit::Usage, "SWITCHYARD_CERT and SWITCHYARD_KEY: set both, or neither"));
        }
        Ok(trust)
    }

    /// Files are read only for a server that needs them.
    fn settings(&self, base: &Url) -> anyhow::Result<tls::rustls::ClientConfig> {
        if base.scheme() != "https" {
            return Ok(tls::client::nobody());
        }
        let auth = self.cert.clone().zip(self.key.clone());
        let config = tls::client::Config {
            trust_certs_bundle: self.cacert.clone(),
            client_auth: auth.map(|(cert_path, key_path)| tls::client::ClientAuth {
                cert_path,
                key_path,
                intermediate_certs_path: None,
            }),
            ..tls::client::Config::default()
        };
        config.once(tls::client::Naming::Url).map_err(|error| {
            let option = match error.key.as_str() {
                "trustCertsBundle" => "--cacert (SWITCHYARD_CACERT)",
                "clientAuth.certPath" => "--cert (SWITCHYARD_CERT)",
                "clientAuth.keyPath" => "--key (SWITCHYARD_KEY)",
                other => other,
            };
            Failure::error(Exit::Usage, format!("{option}: {}", error.message))
        })
    }
}

/// A client for `base`. Proxies of the environment are used as everywhere, but never for this
/// machine: the tutorial sets `http_proxy`, and a router must not be asked about itself.
pub fn client(base: &Url, trust: &Trust) -> anyhow::Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(trust.settings(base)?)
        .connect_timeout(Duration::from_secs(5))
        .user_agent(concat!("switchyard/", env!("CARGO_PKG_VERSION")));
    if is_this_machine(base) {
        builder = builder.no_proxy();
    }
    builder.build().context("cannot set up the HTTP client")
}

/// The value of an option that is a server's URL.
pub fn address(option: &str, text: &str) -> anyhow::Result<Url> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err(Failure::error(Exit::Usage, format!("{option} {text}: not a URL such as http://127.0.0.1:4180"))),
    }
}

/// `localhost` and loopback addresses.
pub fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// Runs a command's future to its end, on this thread.
pub fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(future)
}

/// Lets `| head` end us quietly, as it ends every other command. Not for servers.
pub fn die_of_broken_pipes() {
    // SAFETY: called before any thread is started; the default action has no handler to race with.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}
