//! Certificates and keys in PEM files.

use std::io;
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::Error;

/// A certificate file is never larger; a larger one is another file by mistake.
const MOST: u64 = 16 * 1024 * 1024;

fn read(key: &str, file: &Path) -> Result<Vec<u8>, Error> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => {
            Error::file(key, file, "there is no such file: mend the path, or put the file there first")
        }
        io::ErrorKind::PermissionDenied => {
            Error::file(key, file, "may not be read by this user: mend its owner or mode, and those of its directories")
        }
        _ => Error::file(key, file, format!("cannot be read: {error}")),
    };
    let about = std::fs::metadata(file).map_err(failed)?;
    if about.is_dir() {
        return Err(Error::file(key, file, "is a directory: name a PEM file in it"));
    }
    if about.len() > MOST {
        return Err(Error::file(key, file, format!("has {} bytes, which is no certificate file", about.len())));
    }
    std::fs::read(file).map_err(failed)
}

/// All certificates of a file, in its order; at least one.
///
/// # Errors
/// Below `key`: a file that cannot be read, or has none.
pub fn certificates(key: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bytes = read(key, file)?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| Error::file(key, file, format!("is no proper PEM: {error}")))?;
    if found.is_empty() {
        let instead = match PrivateKeyDer::from_pem_slice(&bytes) {
            Ok(_) => "holds a private key and no certificate: are two paths exchanged?",
            Err(_) => {
                "holds no certificate: it needs a block `-----BEGIN CERTIFICATE-----` (convert DER with `openssl x509 -inform der`)"
            }
        };
        return Err(Error::file(key, file, instead));
    }
    Ok(found)
}

/// The private key of a file: PKCS#8, PKCS#1 (RSA) or SEC1 (EC), not encrypted.
///
/// # Errors
/// Below `key`: a file that cannot be read, or has none.
pub fn private_key(key: &str, file: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let bytes = read(key, file)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let text = String::from_utf8_lossy(&bytes);
        let message = if text.contains("ENCRYPTED") {
            "the key is encrypted, and nobody is there to ask for the password: decrypt it with `openssl pkcs8`"
                .to_owned()
        } else if text.contains("BEGIN CERTIFICATE") {
            "holds a certificate and no private key: are two paths exchanged?".to_owned()
        } else {
            match error {
                pem::Error::NoItemsFound => {
                    "holds no private key: it needs a block `-----BEGIN PRIVATE KEY-----` (PKCS#8)".to_owned()
                }
                error => format!("is no proper PEM: {error}"),
            }
        };
        Error::file(key, file, message)
    })
}
