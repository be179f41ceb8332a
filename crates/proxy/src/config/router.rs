//! One of `routers:`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use names::{Dtab, Path};
use serde::Deserialize;
use serde_json::Value;

use super::Raw;
use super::part::{At, Problems, given};
use super::{access_log, by_prefix, identifier, server, trace_propagator};
use crate::settings::{BindingCache, Compression, Limits, Router, Server};

const PROTOCOL: &str = "http";
const OTHER_PROTOCOLS: &[&str] = &["h2", "thrift", "thriftmux", "mux"];
const KB: u64 = 1024;
/// Beyond a gigabyte a limit is none, and a multiplication may overflow.
const MOST_KB: u64 = 1024 * 1024;

/// The keys of protocol `http`. `Value`s are plugins and parts, read one by one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Keys {
    #[serde(rename = "protocol")]
    _protocol: String,
    label: Option<String>,
    servers: Option<Vec<Value>>,
    dtab: Option<String>,
    dst_prefix: Option<String>,
    client: Option<Value>,
    service: Option<Value>,
    /// Read by whoever knows its kinds.
    #[serde(rename = "interpreter")]
    _interpreter: Option<Value>,
    binding_timeout_ms: Option<u64>,
    binding_cache: Option<Value>,
    originator: Option<bool>,
    announcers: Option<Vec<Value>>,
    /// Accepted with every protocol; only experimental ones ask for it.
    #[serde(rename = "experimental")]
    _experimental: Option<bool>,
    identifier: Option<Value>,
    http_access_log: Option<Value>,
    http_access_log_roll_policy: Option<Value>,
    http_access_log_append: Option<Value>,
    http_access_log_rotate_count: Option<Value>,
    #[serde(rename = "maxHeadersKB")]
    max_headers_kb: Option<u64>,
    #[serde(rename = "maxInitialLineKB")]
    max_initial_line_kb: Option<u64>,
    #[serde(rename = "streamAfterContentLengthKB")]
    stream_after_content_length_kb: Option<u64>,
    streaming_enabled: Option<bool>,
    #[serde(rename = "maxErrResponseKB")]
    max_err_response_kb: Option<u64>,
    compression_level: Option<i64>,
    trace_propagator: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct BindingCacheKeys {
    paths: Option<u64>,
    trees: Option<u64>,
    bounds: Option<u64>,
    clients: Option<u64>,
    idle_ttl_secs: Option<u64>,
}

/// What a router's part says.
#[derive(Debug)]
pub(super) struct Read {
    /// Also of a router that cannot be read otherwise.
    pub(super) label: Option<String>,
    pub(super) interpreter: Option<Raw>,
    pub(super) settings: Option<Router>,
}

pub(super) fn read(value: &Value, at: &At, problems: &mut Problems) -> Read {
    let label = given(value.get("label")).or(value.get("protocol")).and_then(Value::as_str).map(str::to_owned);
    let interpreter = value.get("interpreter").or(Some(&Value::Null)).filter(|_| value.is_object());
    let mut read = Read { label, interpreter: interpreter.map(|value| interpreter_part(value, at)), settings: None };
    if !protocol(value, at, problems) {
        // Other protocols have other keys, and other interpreters of the same names.
        read.interpreter = None;
        return read;
    }
    if let Some(keys) = problems.read::<Keys>(at, value) {
        read.settings = Some(settings(&keys, at, problems));
    }
    read
}

/// `kind` is `default` where it is left out.
fn interpreter_part(value: &Value, at: &At) -> Raw {
    let mut value = value.clone();
    if value.is_null() {
        value = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(entries) = &mut value
        && given(entries.get("kind")).is_none()
    {
        entries.insert("kind".to_owned(), "default".into());
    }
    Raw { path: at.key("interpreter").path().to_owned(), value }
}

fn protocol(value: &Value, at: &At, problems: &mut Problems) -> bool {
    let Value::Object(entries) = value else {
        problems.add(at, format!("expected a mapping, not `{value}`: the keys of the router"));
        return false;
    };
    let key = at.key("protocol");
    match given(entries.get("protocol")) {
        None => problems.add(&key, format!("is missing: use `{PROTOCOL}`")),
        Some(Value::String(protocol)) if protocol == PROTOCOL => return true,
        Some(Value::String(protocol)) if OTHER_PROTOCOLS.contains(&protocol.as_str()) => {
            if protocol == "thriftmux" && entries.get("experimental") != Some(&Value::Bool(true)) {
                let text = format!(
                    "The {protocol} protocol is experimental and must be explicitly enabled by setting the \
                     `experimental' parameter to `true' on each router."
                );
                problems.add(&key, text);
            }
            problems.add(&key, format!("the protocol `{protocol}` is not supported yet: use `{PROTOCOL}`"));
        }
        Some(Value::String(protocol)) => problems.add(&key, format!("unknown protocol `{protocol}`: use `{PROTOCOL}`")),
        Some(other) => problems.add(&key, format!("expected a text, not `{other}`")),
    }
    false
}

fn settings(keys: &Keys, at: &At, problems: &mut Problems) -> Router {
    let mut router = Router::new(keys.label.as_deref().unwrap_or(PROTOCOL));
    if router.label.is_empty() {
        problems.add(&at.key("label"), "must not be empty");
    }
    if let Some(text) = &keys.dtab {
        router.dtab = problems.note(&at.key("dtab"), Dtab::read(text)).unwrap_or_else(Dtab::empty);
    }
    if let Some(text) = &keys.dst_prefix {
        router.dst_prefix = problems.note(&at.key("dstPrefix"), Path::read(text)).unwrap_or_else(Path::empty);
    }
    if let Some(millis) = keys.binding_timeout_ms {
        problems.positive(at, "bindingTimeoutMs", Some(millis));
        router.binding_timeout = Duration::from_millis(millis);
    }
    if let Some(value) = given(keys.binding_cache.as_ref()) {
        router.binding_cache = binding_cache(value, &at.key("bindingCache"), problems);
    }
    if let Some(value) = given(keys.identifier.as_ref()) {
        router.identifiers = identifier::read(value, &at.key("identifier"), problems);
    }
    if let Some(value) = given(keys.trace_propagator.as_ref()) {
        router.trace_propagator = trace_propagator::read(value, &at.key("tracePropagator"), problems);
    }
    router.client = by_prefix::clients(given(keys.client.as_ref()), &at.key("client"), problems);
    router.service = by_prefix::services(given(keys.service.as_ref()), &at.key("service"), problems);
    router.servers = servers(keys, at, &router.label, problems);
    router.limits = limits(keys, at, problems);
    streaming(keys, at, &mut router, problems);
    let log = access_log::Keys {
        path: keys.http_access_log.as_ref(),
        roll: keys.http_access_log_roll_policy.as_ref(),
        append: keys.http_access_log_append.as_ref(),
        keep: keys.http_access_log_rotate_count.as_ref(),
    };
    router.access_log = access_log::read(&log, at, problems);
    others(keys, at, &mut router, problems);
    router
}

fn servers(keys: &Keys, at: &At, label: &str, problems: &mut Problems) -> Vec<Server> {
    let list = keys.servers.as_deref().unwrap_or_default();
    if list.is_empty() {
        problems.add(&at.key("servers"), format!("router '{label}' has no servers"));
    }
    let at = at.key("servers");
    // One that is broken keeps its place, so that the others keep their numbers, and takes nobody's port.
    let broken = || Server { address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), ..Server::default() };
    let read = |(n, value)| server::read(value, &at.nth(n), problems).unwrap_or_else(broken);
    list.iter().enumerate().map(read).collect()
}

fn limits(keys: &Keys, at: &At, problems: &mut Problems) -> Limits {
    let mut bytes = |key: &str, given: Option<u64>, default: usize| {
        let Some(kb) = given else { return default };
        if kb == 0 || kb > MOST_KB {
            problems.add(&at.key(key), format!("must be between 1 and {MOST_KB}, not {kb}"));
        }
        usize::try_from(kb.saturating_mul(KB)).unwrap_or(usize::MAX)
    };
    let default = Limits::default();
    Limits {
        line: bytes("maxInitialLineKB", keys.max_initial_line_kb, default.line),
        headers: bytes("maxHeadersKB", keys.max_headers_kb, default.headers),
        error: bytes("maxErrResponseKB", keys.max_err_response_kb, default.error),
    }
}

fn streaming(keys: &Keys, at: &At, router: &mut Router, problems: &mut Problems) {
    if let Some(kb) = keys.stream_after_content_length_kb {
        let key = at.key("streamAfterContentLengthKB");
        if keys.streaming_enabled == Some(false) {
            problems.add(&key, "makes no sense with `streamingEnabled: false`: leave one of them out");
        }
        if kb > MOST_KB {
            problems.add(&key, format!("must be at most {MOST_KB}, not {kb}"));
        }
        router.stream_after = kb.saturating_mul(KB);
    }
    router.streaming = keys.streaming_enabled.unwrap_or(true);
}

fn binding_cache(value: &Value, at: &At, problems: &mut Problems) -> BindingCache {
    let default = BindingCache::default();
    let Some(keys) = problems.read::<BindingCacheKeys>(at, value) else { return default };
    let mut size = |key: &str, given: Option<u64>, default: usize| {
        problems.positive(at, key, given);
        given.map_or(default, |size| usize::try_from(size).unwrap_or(usize::MAX))
    };
    let cache = BindingCache {
        paths: size("paths", keys.paths, default.paths),
        trees: size("trees", keys.trees, default.trees),
        bounds: size("bounds", keys.bounds, default.bounds),
        clients: size("clients", keys.clients, default.clients),
        idle_ttl: keys.idle_ttl_secs.map_or(default.idle_ttl, Duration::from_secs),
    };
    problems.positive(at, "idleTtlSecs", keys.idle_ttl_secs);
    cache
}

/// Keys of which one value is built, or one meaning.
fn others(keys: &Keys, at: &At, router: &mut Router, problems: &mut Problems) {
    router.originator = keys.originator.unwrap_or(false);
    if keys.announcers.as_ref().is_some_and(|list| !list.is_empty()) {
        problems.add(&at.key("announcers"), "not supported yet: there are none here (ZooKeeper serversets)");
    }
    match keys.compression_level {
        None | Some(0) => {}
        Some(-1) => router.compression = Some(Compression::Textual),
        Some(level @ 1..=9) => router.compression = Some(Compression::All(level as u8)),
        Some(level) => {
            let text = format!("must be from 1 to 9, 0 for none, or -1 for text only, not {level}");
            problems.add(&at.key("compressionLevel"), text);
        }
    }
}
