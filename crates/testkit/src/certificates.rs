//! Certificates for tests: an authority, and what it issues, as PEM texts and files.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub pem: String,
}

/// What a certificate is to say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'a> {
    /// The subject's CN.
    pub name: &'a str,
    /// DNS names, addresses, and URIs with a scheme.
    pub names: &'a [&'a str],
    pub is_expired: bool,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Issued {
    pub certificate: String,
    /// PKCS#8
    pub key: String,
}

/// Files of an [`Issued`].
#[derive(Clone, Debug)]
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    #[must_use]
    pub fn new(name: &str) -> Authority {
        let mut parameters = named(name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let pem = parameters.self_signed(&key).expect("a certificate").pem();
        Authority { issuer: Issuer::new(parameters, key), pem }
    }

    /// A certificate for servers and clients.
    #[must_use]
    pub fn issue(&self, wish: &Wish<'_>) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters(wish).signed_by(&key, &self.issuer).expect("a certificate");
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// For a server of this name.
    #[must_use]
    pub fn server(&self, name: &str) -> Issued {
        self.issue(&Wish { name, names: &[name], ..Wish::default() })
    }

    /// Writes its certificate to a file of this name.
    pub fn write(&self, directory: &Path, name: &str) -> PathBuf {
        let file = directory.join(name);
        std::fs::write(&file, &self.pem).expect("written");
        file
    }
}

impl Issued {
    /// Signed by itself.
    #[must_use]
    pub fn by_itself(wish: &Wish<'_>) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters(wish).self_signed(&key).expect("a certificate");
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// Writes `NAME.pem` and `NAME.key`; files that are there are replaced, each at once.
    pub fn write(&self, directory: &Path, name: &str) -> Files {
        let files =
            Files { certificate: directory.join(format!("{name}.pem")), key: directory.join(format!("{name}.key")) };
        for (file, text) in [(&files.certificate, &self.certificate), (&files.key, &self.key)] {
            let fresh = file.with_extension("new");
            std::fs::write(&fresh, text).expect("written");
            std::fs::rename(&fresh, file).expect("renamed");
        }
        files
    }
}

fn named(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::OrganizationName, "Example");
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

fn parameters(wish: &Wish<'_>) -> CertificateParams {
    let mut parameters = named(wish.name);
    parameters.subject_alt_names = wish.names.iter().map(|name| alternative(name)).collect();
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    if wish.is_expired {
        parameters.not_before = date_time_ymd(2020, 1, 1);
        parameters.not_after = date_time_ymd(2021, 1, 1);
    }
    parameters
}

fn alternative(name: &str) -> SanType {
    if let Ok(address) = name.parse() {
        return SanType::IpAddress(address);
    }
    let text = name.try_into().expect("ASCII");
    if name.contains("://") { SanType::URI(text) } else { SanType::DnsName(text) }
}
