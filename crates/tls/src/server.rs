//! The `tls` section of servers: routers', admin ports' and the control plane's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use serde::{Deserialize, Serialize};

use crate::reload::{Loaded, Reloader};
use crate::{ALPN, Error, explain, pem, suites};

/// The keys, as in Linkerd 1.7. Inert: files are read by [`Live::start`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// PEM: the server's certificate; may be followed by the intermediate ones.
    pub cert_path: PathBuf,
    /// PEM: its key; PKCS#8, PKCS#1 or SEC1.
    pub key_path: PathBuf,
    /// PEM: certificates between the server's and one that clients trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intermediate_certs_path: Option<PathBuf>,
    /// PEM: who may have signed clients' certificates. With it clients are asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_cert_path: Option<PathBuf>,
    /// `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`, … Default: all that there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ciphers: Option<Vec<String>>,
    /// Clients without a certificate are refused.
    #[serde(default)]
    pub require_client_auth: bool,
    /// `TLSv1.2`, `TLSv1.3`. Default: both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<String>>,
}

/// A server's TLS as it is now: what [`Live::config`] gives is for one new connection.
#[derive(Clone)]
pub struct Live {
    current: Arc<ArcSwap<ServerConfig>>,
}

impl Config {
    /// What can be said without files.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), Error> {
        if self.require_client_auth && self.ca_cert_path.is_none() {
            let message = "is missing: `requireClientAuth` needs to know who may have signed clients' certificates";
            return Err(Error::new("caCertPath", message));
        }
        suites::allowed(self.protocols.as_deref(), self.ciphers.as_deref()).map(drop)
    }

    /// Relative files start at `base` from here on.
    #[must_use]
    pub fn absolute(self, base: &Path) -> Config {
        let join = |file: PathBuf| base.join(file);
        Config {
            cert_path: join(self.cert_path),
            key_path: join(self.key_path),
            intermediate_certs_path: self.intermediate_certs_path.map(join),
            ca_cert_path: self.ca_cert_path.map(join),
            ..self
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let optional = [&self.intermediate_certs_path, &self.ca_cert_path];
        let files = [&self.cert_path, &self.key_path].into_iter().chain(optional.into_iter().flatten());
        files.cloned().collect()
    }

    fn load(&self) -> Result<Loaded<ServerConfig>, Error> {
        self.check()?;
        let allowed = suites::allowed(self.protocols.as_deref(), self.ciphers.as_deref())?;
        let own = own(&self.cert_path, &self.key_path, self.intermediate_certs_path.as_deref(), &allowed.provider)?;
        let certificate = own.cert.first().cloned();
        let wrong = |error: rustls::Error| Error::new("", explain(&error));
        let builder = ServerConfig::builder_with_provider(allowed.provider.clone());
        let builder = builder.with_protocol_versions(&allowed.versions).map_err(wrong)?;
        let builder = match &self.ca_cert_path {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let roots = roots("caCertPath", [file.as_path()])?;
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), allowed.provider);
                let verifier = if self.require_client_auth { verifier } else { verifier.allow_unauthenticated() };
                let verifier = verifier.build().map_err(|error| Error::file("caCertPath", file, error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Loaded { value: config, certificate })
    }
}

impl Live {
    /// Reads the files, and again whenever they change. `at` is the section's key path in the document.
    ///
    /// # Errors
    /// The first thing that is wrong, by key below the section.
    pub fn start(config: &Config, at: &str, reloader: &Reloader) -> Result<Live, Error> {
        let config = config.clone();
        let current = reloader.keep(at, config.files(), move || config.load())?;
        Ok(Live { current })
    }

    /// For one new connection.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

/// A certificate with its chain and key, which belong together.
pub(crate) fn own(
    cert_path: &Path,
    key_path: &Path,
    intermediate: Option<&Path>,
    provider: &rustls::crypto::CryptoProvider,
) -> Result<CertifiedKey, Error> {
    let mut chain = pem::certificates("certPath", cert_path)?;
    if let Some(file) = intermediate {
        chain.extend(pem::certificates("intermediateCertsPath", file)?);
    }
    let key = pem::private_key("keyPath", key_path)?;
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|error| Error::file("keyPath", key_path, format!("the key cannot be used: {error}")))?;
    let own = CertifiedKey::new(chain, key);
    match own.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(own),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let message = format!("does not belong to the certificate in {}", cert_path.display());
            Err(Error::file("keyPath", key_path, message))
        }
        Err(error) => Err(Error::file("certPath", cert_path, explain(&error))),
    }
}

/// The certificates of these files as roots of trust.
pub(crate) fn roots<'a>(key: &str, files: impl IntoIterator<Item = &'a Path>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for file in files {
        for certificate in pem::certificates(key, file)? {
            roots.add(certificate).map_err(|error| Error::file(key, file, explain(&error)))?;
        }
    }
    Ok(roots)
}
