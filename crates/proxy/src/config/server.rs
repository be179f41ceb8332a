//! One of `servers:`, and socket options wherever they stand.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::identifier::is_header_name;
use super::part::{At, Plugin, Problems, given};
use crate::settings::{Forwarded, Labeler, Section, Server, Session, SocketOptions};

const DEFAULT_PORT: u16 = 4140;
const LABELER: Plugin = Plugin {
    what: "labeler",
    default: None,
    built: &["ip", "ip:port", "requestRandom", "connectionRandom", "router", "static"],
    not_built: &[],
};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Keys {
    ip: Option<IpAddr>,
    port: Option<u16>,
    /// Unused in the original too, where metrics are named by address.
    #[serde(rename = "label")]
    _label: Option<String>,
    max_concurrent_requests: Option<u64>,
    timeout_ms: Option<u64>,
    tls: Option<Value>,
    announce: Option<Vec<Value>>,
    clear_context: Option<bool>,
    server_session: Option<Value>,
    socket_options: Option<Value>,
    add_forwarded_header: Option<Value>,
    timestamp_header: Option<String>,
    max_call_depth: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ForwardedKeys {
    by: Option<Value>,
    #[serde(rename = "for")]
    client: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelKeys {
    label: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoKeys {}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SocketOptionsKeys {
    no_delay: Option<bool>,
    reuse_addr: Option<bool>,
    reuse_port: Option<bool>,
    read_timeout_ms: Option<u64>,
    write_timeout_ms: Option<u64>,
    keep_alive: Option<bool>,
    backlog: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SessionKeys {
    idle_time_ms: Option<u64>,
    life_time_ms: Option<u64>,
}

/// Whose socket options they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Server,
    Client,
    Admin,
}

pub(super) fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Server> {
    let keys = problems.read::<Keys>(at, value)?;
    let default = Server::default();
    problems.positive(at, "maxConcurrentRequests", keys.max_concurrent_requests);
    if let Some(name) = &keys.timestamp_header {
        is_header_name(&at.key("timestampHeader"), name, problems);
    }
    let forwarded = given(keys.add_forwarded_header.as_ref())
        .and_then(|value| forwarded(value, &at.key("addForwardedHeader"), problems));
    problems.positive(at, "timeoutMs", keys.timeout_ms);
    let session = given(keys.server_session.as_ref());
    let session = session.and_then(|value| self::session(value, &at.key("serverSession"), problems));
    if keys.announce.as_ref().is_some_and(|list| !list.is_empty()) {
        problems.add(&at.key("announce"), "not supported yet: there are no announcers here (ZooKeeper serversets)");
    }
    let socket = socket_options(keys.socket_options.as_ref(), at, Side::Server, problems);
    Some(Server {
        address: address(value, keys.ip, keys.port, DEFAULT_PORT),
        max_concurrent: keys.max_concurrent_requests.map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
        timeout: keys.timeout_ms.map(Duration::from_millis),
        session: session.unwrap_or_default(),
        socket: socket.unwrap_or_default(),
        clear_context: keys.clear_context.unwrap_or(default.clear_context),
        max_call_depth: keys
            .max_call_depth
            .map_or(default.max_call_depth, |depth| usize::try_from(depth).unwrap_or(usize::MAX)),
        timestamp_header: keys.timestamp_header,
        forwarded,
        head_timeout: default.head_timeout,
        tls: given(keys.tls.as_ref()).and_then(|value| tls(value, &at.key("tls"), problems)),
    })
}

/// `tls` of whatever listens. Its files are read later.
pub(super) fn tls(value: &Value, at: &At, problems: &mut Problems) -> Option<Section<tls::server::Config>> {
    let config = problems.read::<tls::server::Config>(at, value)?;
    if let Err(error) = config.check() {
        problems.add(&at.key(&error.key), error.message);
    }
    Some(Section { at: at.path().to_owned(), config })
}

/// `ip` and `port`. What is written and could not be read is nobody else's address.
pub(super) fn address(value: &Value, ip: Option<IpAddr>, port: Option<u16>, default: u16) -> SocketAddr {
    let is_broken =
        ip.is_none() && given(value.get("ip")).is_some() || port.is_none() && given(value.get("port")).is_some();
    let port = if is_broken { 0 } else { port.unwrap_or(default) };
    SocketAddr::new(ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port)
}

fn forwarded(value: &Value, at: &At, problems: &mut Problems) -> Option<Forwarded> {
    let keys = problems.read::<ForwardedKeys>(at, value)?;
    let mut side = |key: &str, value: Option<&Value>| match given(value) {
        Some(value) => labeler(value, &at.key(key), problems).unwrap_or_default(),
        None => Labeler::default(),
    };
    Some(Forwarded { by: side("by", keys.by.as_ref()), client: side("for", keys.client.as_ref()) })
}

fn labeler(value: &Value, at: &At, problems: &mut Problems) -> Option<Labeler> {
    let (kind, rest) = problems.kind(at, value, &LABELER)?;
    if kind == "static" {
        let keys = problems.read::<LabelKeys>(at, &rest)?;
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if keys.label.is_empty() || !keys.label.bytes().all(is_token) {
            let text = format!("`{}` may hold only letters, digits, `.`, `_` and `-` (RFC 7239 §6.3)", keys.label);
            problems.add(&at.key("label"), text);
        }
        return Some(Labeler::Static { label: keys.label });
    }
    problems.read::<NoKeys>(at, &rest)?;
    Some(match kind.as_str() {
        "ip" => Labeler::Ip,
        "ip:port" => Labeler::IpPort,
        "connectionRandom" => Labeler::ConnectionRandom,
        "router" => Labeler::Router,
        _ => Labeler::RequestRandom,
    })
}

/// `serverSession`, `clientSession`
pub(super) fn session(value: &Value, at: &At, problems: &mut Problems) -> Option<Session> {
    let keys = problems.read::<SessionKeys>(at, value)?;
    problems.positive(at, "idleTimeMs", keys.idle_time_ms);
    problems.positive(at, "lifeTimeMs", keys.life_time_ms);
    let time = |millis: Option<u64>| millis.map(Duration::from_millis);
    Some(Session { idle: time(keys.idle_time_ms), life: time(keys.life_time_ms) })
}

/// `socketOptions` of the part at `at`.
pub(super) fn socket_options(
    value: Option<&Value>,
    at: &At,
    side: Side,
    problems: &mut Problems,
) -> Option<SocketOptions> {
    let at = at.key("socketOptions");
    let keys = given(value).and_then(|value| problems.read::<SocketOptionsKeys>(&at, value))?;
    let default = SocketOptions::default();
    problems.positive(&at, "readTimeoutMs", keys.read_timeout_ms);
    problems.positive(&at, "writeTimeoutMs", keys.write_timeout_ms);
    match keys.backlog {
        Some(0) => problems.add(&at.key("backlog"), "must be greater than 0"),
        Some(_) if side == Side::Client => {
            problems.add(&at.key("backlog"), "means nothing for a client, which does not listen: leave it out");
        }
        _ => {}
    }
    Some(SocketOptions {
        no_delay: keys.no_delay.unwrap_or(default.no_delay),
        reuse_addr: keys.reuse_addr.unwrap_or(default.reuse_addr),
        reuse_port: keys.reuse_port.unwrap_or(default.reuse_port),
        read_timeout: keys.read_timeout_ms.map(Duration::from_millis),
        write_timeout: keys.write_timeout_ms.map(Duration::from_millis),
        keep_alive: keys.keep_alive,
        backlog: keys.backlog.map(|backlog| i32::try_from(backlog).unwrap_or(i32::MAX)),
    })
}
