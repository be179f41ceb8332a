//! What a certificate says: its names and times, and `x-forwarded-client-cert`.

use std::fmt::Write;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::x509::X509Name;

/// What pages and logs tell of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// As RFC 2253 writes it: `CN=web,O=Example`.
    pub subject: String,
    pub issuer: String,
    /// DNS names and addresses.
    pub names: Vec<String>,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
}

impl Certificate {
    /// `None`: it cannot be read.
    #[must_use]
    pub fn of(der: &CertificateDer<'_>) -> Option<Certificate> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let names = alternatives(&parsed).into_iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes),
            GeneralName::URI(uri) => Some(uri.to_owned()),
            _ => None,
        });
        Some(Certificate {
            subject: distinguished(parsed.subject()),
            issuer: distinguished(parsed.issuer()),
            names: names.collect(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
        })
    }

    /// `2026-11-26T21:00:00Z`
    #[must_use]
    pub fn ends(&self) -> String {
        jiff::Timestamp::from_second(self.not_after)
            .map_or_else(|_| self.not_after.to_string(), |time| time.to_string())
    }
}

fn alternatives<'a>(parsed: &X509Certificate<'a>) -> Vec<GeneralName<'a>> {
    let found = parsed.subject_alternative_name().ok().flatten();
    found.map(|extension| extension.value.general_names.clone()).unwrap_or_default()
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(four).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|sixteen| std::net::Ipv6Addr::from(sixteen).to_string())
}

/// The value of `x-forwarded-client-cert` as Linkerd 1.7 writes it: `Hash=` (SHA-256 of the DER form, in
/// upper-case hexadecimal digits), `SAN=` for URIs and `DNS=` for names in the certificate's order, and
/// `Subject="…"` (RFC 2253).
#[must_use]
pub fn forwarded(der: &CertificateDer<'_>) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, der);
    let mut value = String::from("Hash=");
    for byte in hash.as_ref() {
        let _ = write!(value, "{byte:02X}");
    }
    let Ok((_, parsed)) = X509Certificate::from_der(der) else { return value };
    for name in alternatives(&parsed) {
        let (key, text) = match name {
            GeneralName::URI(uri) => ("SAN", uri),
            GeneralName::DNSName(name) => ("DNS", name),
            _ => continue,
        };
        // A name that breaks the list, or the header, is no name: it is left out rather than believed.
        if text.bytes().all(|byte| byte.is_ascii_graphic() && !b";,\"\\".contains(&byte)) {
            let _ = write!(value, ";{key}={text}");
        }
    }
    let subject = distinguished(parsed.subject());
    if !subject.is_empty() {
        // RFC 2253 has put a backslash before each quote.
        let plain = |c: char| if c.is_ascii() && !c.is_ascii_control() { c } else { '?' };
        let safe: String = subject.chars().map(plain).collect();
        let _ = write!(value, ";Subject=\"{safe}\"");
    }
    value
}

/// RFC 2253: the most specific part first; keywords where it has them, else the OID.
fn distinguished(name: &X509Name<'_>) -> String {
    let sets: Vec<String> = name
        .iter_rdn()
        .map(|set| {
            let parts: Vec<String> = set
                .iter()
                .map(|part| {
                    let oid = part.attr_type().to_id_string();
                    match (keyword(&oid), part.as_str()) {
                        (Some(keyword), Ok(text)) => format!("{keyword}={}", escaped(text)),
                        (_, _) => {
                            let value = part.attr_value();
                            let mut hex = format!("{oid}=#");
                            // Primitive values have a tag and a length of one byte each below 128 bytes.
                            let tag = value.header.tag().0;
                            let _ = write!(hex, "{tag:02x}{:02x}", value.data.len());
                            for byte in value.data {
                                let _ = write!(hex, "{byte:02x}");
                            }
                            hex
                        }
                    }
                })
                .collect();
            parts.join("+")
        })
        .collect();
    sets.into_iter().rev().collect::<Vec<_>>().join(",")
}

fn keyword(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.6" => "C",
        "2.5.4.9" => "STREET",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        _ => return None,
    })
}

/// RFC 2253 §2.4.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, character) in text.chars().enumerate() {
        let special = matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';')
            || at == 0 && matches!(character, '#' | ' ')
            || at == last && character == ' ';
        if special {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
