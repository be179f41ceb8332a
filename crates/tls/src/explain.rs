//! What went wrong on a connection, for people: which check failed, with both sides of it.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// One line, without the names of our types.
#[must_use]
pub fn explain(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::NoCertificatesPresented => "no certificate was presented".to_owned(),
        Error::AlertReceived(alert) => format!("the other side refused: {}", self::alert(*alert)),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => "the other side does not speak TLS".to_owned(),
        Error::NoApplicationProtocol => "no protocol in common (ALPN): only http/1.1 is spoken here".to_owned(),
        Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => "no cipher suite in common".to_owned(),
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic,
        ) => "no protocol version in common".to_owned(),
        other => other.to_string(),
    }
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired => "the certificate has expired".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("the certificate has expired on {}", time(not_after.as_secs()))
        }
        CertificateError::NotValidYet => "the certificate is not valid yet".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("the certificate is not valid before {}", time(not_before.as_secs()))
        }
        CertificateError::UnknownIssuer => {
            "the certificate's issuer is unknown: none of the trusted certificates has signed it".to_owned()
        }
        CertificateError::NotValidForName => "the certificate is for another name".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let presented: Vec<String> = presented.iter().map(|name| plain(name)).collect();
            let presented = match presented.as_slice() {
                [] => "no name at all (a subject's CN is no name: it needs a subjectAltName)".to_owned(),
                names => names.join(", "),
            };
            format!("the certificate is not for {}: it is for {presented}", expected.to_str())
        }
        CertificateError::BadSignature => "the certificate's signature is wrong".to_owned(),
        CertificateError::BadEncoding => "the certificate cannot be read".to_owned(),
        CertificateError::Revoked => "the certificate was revoked".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the certificate is not made for this use (extendedKeyUsage)".to_owned()
        }
        other => format!("the certificate was not accepted: {other}"),
    }
}

/// `DnsName("a.b")` → `a.b`
fn plain(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.map_or(name, |inner| inner.trim_matches('"')).to_owned()
}

fn time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(|| seconds.to_string(), |time| time.to_string())
}

fn alert(alert: AlertDescription) -> String {
    let said = match alert {
        AlertDescription::UnknownCA => "it does not know the issuer of our certificate",
        AlertDescription::CertificateExpired => "our certificate has expired",
        AlertDescription::CertificateRequired => "it wants a client certificate (clientAuth)",
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate => "it does not accept our certificate",
        AlertDescription::UnrecognisedName => "it does not know the name that we asked for (SNI)",
        AlertDescription::HandshakeFailure => "nothing in common (cipher suites, or a certificate that it wants)",
        AlertDescription::ProtocolVersion => "no protocol version in common",
        AlertDescription::NoApplicationProtocol => "no protocol in common (ALPN): only http/1.1 is spoken here",
        _ => return format!("alert {alert:?}"),
    };
    format!("{said} (alert {alert:?})")
}
