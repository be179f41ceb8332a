//! Names of protocols and cipher suites, as the JVM and IANA write them.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

use crate::{Error, provider};

const PROTOCOLS: &[(&str, &SupportedProtocolVersion)] =
    &[("TLSv1.2", &rustls::version::TLS12), ("TLSv1.3", &rustls::version::TLS13)];

/// What a section allows.
pub(crate) struct Allowed {
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
}

/// `TLS_AES_128_GCM_SHA256`: rustls calls it `TLS13_AES_…`.
fn shown(suite: SupportedCipherSuite) -> String {
    let name = format!("{:?}", suite.suite());
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name,
    }
}

/// From `protocols` and `ciphers`; without them, all that there is.
pub(crate) fn allowed(protocols: Option<&[String]>, ciphers: Option<&[String]>) -> Result<Allowed, Error> {
    let mut provider = provider();
    let versions = match protocols {
        None => PROTOCOLS.iter().map(|(_, version)| *version).collect(),
        Some(names) => names.iter().enumerate().map(version).collect::<Result<Vec<_>, _>>()?,
    };
    if versions.is_empty() {
        return Err(Error::new("protocols", "must not be empty: take the key out, or list TLSv1.2 and TLSv1.3"));
    }
    if let Some(names) = ciphers {
        if names.is_empty() {
            return Err(Error::new("ciphers", "must not be empty: take the key out to allow all that there are"));
        }
        let all = provider.cipher_suites.clone();
        let find = |(number, name): (usize, &String)| {
            all.iter().copied().find(|suite| shown(*suite) == *name).ok_or_else(|| {
                let known = all.iter().map(|suite| shown(*suite)).collect::<Vec<_>>().join(", ");
                Error::new(format!("ciphers[{number}]"), format!("`{name}` is not supported: use some of {known}"))
            })
        };
        let suites = names.iter().enumerate().map(find).collect::<Result<Vec<_>, _>>()?;
        if !suites.iter().any(|suite| versions.contains(&suite.version())) {
            return Err(Error::new("ciphers", "none of them belongs to one of the protocols that are allowed"));
        }
        Arc::make_mut(&mut provider).cipher_suites = suites;
    }
    Ok(Allowed { provider, versions })
}

fn version((number, name): (usize, &String)) -> Result<&'static SupportedProtocolVersion, Error> {
    let found = PROTOCOLS.iter().find(|(known, _)| known == name);
    found.map(|(_, version)| *version).ok_or_else(|| {
        let why = match name.as_str() {
            "SSLv2Hello" | "SSLv3" | "TLSv1" | "TLSv1.0" | "TLSv1.1" => "is broken, and not supported",
            _ => "is no protocol that is known",
        };
        Error::new(format!("protocols[{number}]"), format!("`{name}` {why}: use TLSv1.2, TLSv1.3 or both"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(protocols: &[&str], ciphers: &[&str], expected: Result<(usize, usize), &str>) {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (protocols, ciphers) = (owned(protocols), owned(ciphers));
        let found = allowed(Some(&protocols), Some(&ciphers));
        let found = found.map(|allowed| (allowed.versions.len(), allowed.provider.cipher_suites.len()));
        assert_eq!(found.map_err(|error| error.to_string()), expected.map_err(str::to_owned));
    }

    #[test]
    fn names_are_those_of_the_jvm() {
        check(&["TLSv1.2"], &["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"], Ok((1, 1)));
        check(&["TLSv1.2", "TLSv1.3"], &["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"], Ok((2, 2)));
        check(
            &["TLSv1.1"],
            &["TLS_AES_256_GCM_SHA384"],
            Err("protocols[0]: `TLSv1.1` is broken, and not supported: use TLSv1.2, TLSv1.3 or both"),
        );
        check(
            &["TLSv1.3"],
            &["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
            Err("ciphers: none of them belongs to one of the protocols that are allowed"),
        );
        let known = "TLS_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256, TLS_CHACHA20_POLY1305_SHA256, \
                     TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, \
                     TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, \
                     TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256";
        let text = format!("ciphers[0]: `TLS_RSA_WITH_AES_128_CBC_SHA` is not supported: use some of {known}");
        check(&["TLSv1.2"], &["TLS_RSA_WITH_AES_128_CBC_SHA"], Err(&text));
    }
}
