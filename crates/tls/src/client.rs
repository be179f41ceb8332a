//! The `tls` section of clients: of a router's, and of everybody who talks to a control plane.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde::{Deserialize, Serialize};

use crate::reload::{Loaded, Reloader};
use crate::server::{own, roots};
use crate::{ALPN, Error, explain, suites};

/// The keys, as in Linkerd 1.7. Inert: files are read by [`Live::start`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// `false`: plain text, whatever an earlier section says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Any certificate is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_validation: Option<bool>,
    /// The name that the certificate must have, also sent as SNI. May hold captures: `{service}.example.org`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common_name: Option<String>,
    /// PEM files of trusted certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_certs: Option<Vec<PathBuf>>,
    /// One PEM file of trusted certificates. Without either: those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_certs_bundle: Option<PathBuf>,
    /// Our own certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuth>,
    /// `TLSv1.2`, `TLSv1.3`. Default: both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<String>>,
}

/// `clientAuth`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClientAuth {
    pub cert_path: PathBuf,
    pub key_path: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intermediate_certs_path: Option<PathBuf>,
}

/// Who says which name a certificate must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `commonName`, as in Linkerd: required where certificates are validated.
    CommonName,
    /// Whoever connects, for example by the host of a URL: `commonName` may replace it.
    Url,
}

/// A client's TLS as it is now: what [`Live::config`] gives is for one new connection.
#[derive(Clone)]
pub struct Live {
    current: Arc<ArcSwap<ClientConfig>>,
    common_name: Option<Arc<str>>,
}

impl Config {
    /// Whether it asks for TLS.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.enabled != Some(false)
    }

    /// What can be said without files.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, naming: Naming) -> Result<(), Error> {
        if !self.is_on() {
            return Ok(());
        }
        let unchecked = self.disable_validation == Some(true);
        if unchecked && self.client_auth.is_some() {
            let message = "makes no sense with `disableValidation`: nobody proves himself to a stranger. Take one out";
            return Err(Error::new("clientAuth", message));
        }
        if self.trust_certs.is_some() && self.trust_certs_bundle.is_some() {
            let message = "`trustCertsBundle` is given, too: take this one out, it is the older key";
            return Err(Error::new("trustCerts", message));
        }
        if self.trust_certs.as_ref().is_some_and(Vec::is_empty) {
            return Err(Error::new(
                "trustCerts",
                "must not be empty: take the key out to trust what the system trusts",
            ));
        }
        if !unchecked && self.common_name.is_none() && naming == Naming::CommonName {
            let message = "tls is configured with validation but `commonName` is not set";
            return Err(Error::new("commonName", message));
        }
        if let Some(name) = &self.common_name
            && !name.contains('{')
        {
            server_name(name)?;
        }
        suites::allowed(self.protocols.as_deref(), None).map(drop)
    }

    /// Relative files start at `base` from here on.
    #[must_use]
    pub fn absolute(self, base: &Path) -> Config {
        let join = |file: PathBuf| base.join(file);
        Config {
            trust_certs: self.trust_certs.map(|files| files.into_iter().map(join).collect()),
            trust_certs_bundle: self.trust_certs_bundle.map(join),
            client_auth: self.client_auth.map(|auth| ClientAuth {
                cert_path: join(auth.cert_path),
                key_path: join(auth.key_path),
                intermediate_certs_path: auth.intermediate_certs_path.map(join),
            }),
            ..self
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let auth = self.client_auth.iter().flat_map(|auth| {
            [Some(&auth.cert_path), Some(&auth.key_path), auth.intermediate_certs_path.as_ref()].into_iter().flatten()
        });
        let trusted = self.trust_certs.iter().flatten().chain(&self.trust_certs_bundle);
        trusted.chain(auth).cloned().collect()
    }

    /// The configuration as the files are now, for programs that end soon.
    ///
    /// # Errors
    /// The first thing that is wrong, by key below the section.
    pub fn once(&self, naming: Naming) -> Result<ClientConfig, Error> {
        self.check(naming)?;
        self.load().map(|loaded| loaded.value)
    }

    fn load(&self) -> Result<Loaded<ClientConfig>, Error> {
        let allowed = suites::allowed(self.protocols.as_deref(), None)?;
        let wrong = |error: rustls::Error| Error::new("", explain(&error));
        let builder = ClientConfig::builder_with_provider(allowed.provider.clone());
        let builder = builder.with_protocol_versions(&allowed.versions).map_err(wrong)?;
        let verifier: Arc<dyn ServerCertVerifier> = if self.disable_validation == Some(true) {
            Arc::new(Anybody(allowed.provider.clone()))
        } else {
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(self.trusted()?), allowed.provider.clone());
            verifier.build().map_err(|error| Error::new("trustCerts", error.to_string()))?
        };
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let (mut config, certificate) = match &self.client_auth {
            None => (builder.with_no_client_auth(), None),
            Some(auth) => {
                let intermediate = auth.intermediate_certs_path.as_deref();
                let own = own(&auth.cert_path, &auth.key_path, intermediate, &allowed.provider);
                let own = own.map_err(|error| error.under("clientAuth"))?;
                let certificate = own.cert.first().cloned();
                (builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))), certificate)
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Loaded { value: config, certificate })
    }

    fn trusted(&self) -> Result<RootCertStore, Error> {
        if let Some(bundle) = &self.trust_certs_bundle {
            return roots("trustCertsBundle", [bundle.as_path()]);
        }
        if let Some(files) = &self.trust_certs {
            let mut all = RootCertStore::empty();
            for (number, file) in files.iter().enumerate() {
                all.extend(roots(&format!("trustCerts[{number}]"), [file.as_path()])?.roots);
            }
            return Ok(all);
        }
        let found = rustls_native_certs::load_native_certs();
        let mut all = RootCertStore::empty();
        // Systems carry certificates that nobody can read any more.
        all.add_parsable_certificates(found.certs);
        if all.is_empty() {
            let message = "is missing, and this system trusts nobody: name the certificates to trust, \
                           or install the package ca-certificates (SSL_CERT_FILE names another bundle)";
            return Err(Error::new("trustCertsBundle", message));
        }
        Ok(all)
    }
}

impl Live {
    /// Reads the files, and again whenever they change. `at` is the section's key path in the document.
    ///
    /// # Errors
    /// The first thing that is wrong, by key below the section.
    pub fn start(config: &Config, naming: Naming, at: &str, reloader: &Reloader) -> Result<Live, Error> {
        config.check(naming)?;
        let common_name = config.common_name.as_deref().map(Arc::from);
        let config = config.clone();
        let current = reloader.keep(at, config.files(), move || config.load())?;
        Ok(Live { current, common_name })
    }

    /// For one new connection.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        self.current.load_full()
    }

    /// As in the section, with its captures as they stand.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("common_name", &self.common_name).finish_non_exhaustive()
    }
}

/// For HTTP clients that are never asked for `https://`: it trusts nobody, and reads no files.
#[must_use]
pub fn nobody() -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(crate::provider());
    let builder = match builder.with_safe_default_protocol_versions() {
        Ok(builder) => builder,
        Err(_) => unreachable!("the provider has cipher suites of both versions"),
    };
    builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}

/// A name to verify: a host or an address.
///
/// # Errors
/// At `commonName`: it is neither.
pub fn server_name(name: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| Error::new("commonName", format!("`{name}` is neither a host name nor an IP address")))
}

/// For a connection whose name nobody checks: no SNI is sent.
#[must_use]
pub fn nameless(address: IpAddr) -> ServerName<'static> {
    ServerName::IpAddress(address.into())
}

/// `disableValidation`: any certificate is good; that the other side has its key is still proved.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
