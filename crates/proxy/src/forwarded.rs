//! The `Forwarded` header (RFC 7239) that `addForwardedHeader` asks for.

use std::net::SocketAddr;

use http1::{RequestHead, TargetForm};

use crate::server::Server;
use crate::settings::{Forwarded, Labeler};

/// What stays the same on one connection.
#[derive(Default)]
pub(crate) struct Forwarder {
    by: Option<String>,
    client: Option<String>,
}

impl Forwarder {
    /// Appends the line.
    pub(crate) fn write(
        &mut self,
        settings: &Forwarded,
        server: &Server,
        peer: SocketAddr,
        head: &RequestHead,
        bytes: &[u8],
        extra: &mut Vec<u8>,
    ) {
        let by = label(&settings.by, server, server.settings.address, &mut self.by);
        let client = label(&settings.client, server, peer, &mut self.client);
        extra.extend_from_slice(format!("forwarded: by={by};for={client}").as_bytes());
        // Before the target is rewritten: the Host line as the client sent it.
        let host = head.first(bytes, http1::Known::Host).unwrap_or_default();
        if !host.is_empty() {
            extra.extend_from_slice(b";host=");
            quoted(host, extra);
        }
        if head.form == TargetForm::Absolute {
            let target = head.target(bytes);
            let scheme = &target[..target.iter().position(|byte| *byte == b':').unwrap_or(0)];
            extra.extend_from_slice(b";proto=");
            extra.extend_from_slice(scheme);
        }
        extra.extend_from_slice(b"\r\n");
    }
}

/// Hosts with a port or brackets are no tokens and stand in quotes (RFC 7239 §4).
pub(crate) fn quoted(host: &[u8], extra: &mut Vec<u8>) {
    let plain = host.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if plain {
        extra.extend_from_slice(host);
    } else {
        extra.push(b'"');
        extra.extend_from_slice(host);
        extra.push(b'"');
    }
}

fn label(labeler: &Labeler, server: &Server, address: SocketAddr, kept: &mut Option<String>) -> String {
    let known = !address.ip().is_unspecified();
    match labeler {
        Labeler::Router => obfuscated(&server.router.settings.label),
        Labeler::Static { label } => obfuscated(label),
        // Whatever else it would be called, as in the original.
        _ if !known => "unknown".to_owned(),
        Labeler::Ip => match address {
            SocketAddr::V4(v4) => v4.ip().to_string(),
            SocketAddr::V6(v6) => format!("\"[{}]\"", v6.ip()),
        },
        Labeler::IpPort => format!("\"{address}\""),
        Labeler::RequestRandom => random(),
        Labeler::ConnectionRandom => kept.get_or_insert_with(random).clone(),
    }
}

fn obfuscated(label: &str) -> String {
    if label.starts_with('_') { label.to_owned() } else { format!("_{label}") }
}

fn random() -> String {
    let letters = std::iter::repeat_with(fastrand::alphanumeric).take(6);
    std::iter::once('_').chain(letters).collect()
}
