//! Zipkin's v2 JSON.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Config, LIMIT, micros};
use crate::export::delivery::{Protocol, Undelivered};
use crate::export::http::Http;
use crate::spans::{Side, Span};

pub(in crate::export) struct Json {
    http: Http,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    trace_id: String,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<String>,
    kind: &'static str,
    name: &'a str,
    timestamp: u64,
    duration: u64,
    local_endpoint: Endpoint<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_endpoint: Option<Endpoint<'a>>,
    annotations: Vec<Annotation<'a>>,
    tags: Map<String, Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    debug: bool,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Endpoint<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    service_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv4: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv6: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
}

#[derive(Serialize)]
struct Annotation<'a> {
    timestamp: u64,
    value: &'a str,
}

impl Json {
    pub(in crate::export) fn new(config: &Config) -> Json {
        Json { http: Http::new(&config.target(), "application/json", false) }
    }
}

impl Protocol for Json {
    fn encode(&self, spans: &[&Span]) -> Bytes {
        let shown = spans.iter().map(|span| shown(span)).collect::<Vec<_>>();
        // Texts and numbers always have a JSON.
        self.http.pack(serde_json::to_vec(&shown).unwrap_or_default())
    }

    async fn send(&mut self, body: Bytes) -> Result<u64, Undelivered> {
        self.http.post(body).await.map(|_| 0)
    }

    fn limit(&self) -> Duration {
        LIMIT
    }
}

fn shown(span: &Span) -> Shown<'_> {
    let high = if span.trace_high == 0 { String::new() } else { format!("{:016x}", span.trace_high) };
    let facts = span.facts.iter().map(|(name, fact)| ((*name).to_owned(), Value::from(fact.shown())));
    let error = span.error.iter().map(|error| ("error".to_owned(), Value::from(error.as_str())));
    Shown {
        trace_id: format!("{high}{:016x}", span.trace),
        id: format!("{:016x}", span.id),
        parent_id: span.parent.map(|parent| format!("{parent:016x}")),
        kind: match span.side {
            Side::Server => "SERVER",
            Side::Client => "CLIENT",
        },
        name: &span.name,
        timestamp: micros(span.start),
        // Zipkin takes 0 for unknown.
        duration: micros(span.nanos).max(1),
        local_endpoint: endpoint(Some(&span.service), span.local),
        remote_endpoint: span.remote.map(|remote| endpoint(None, Some(remote))),
        annotations: span
            .events
            .iter()
            .map(|event| Annotation { timestamp: micros(event.at), value: &event.name })
            .collect(),
        tags: facts.chain(error).collect(),
        debug: span.is_debug,
    }
}

fn endpoint(service_name: Option<&str>, address: Option<SocketAddr>) -> Endpoint<'_> {
    let port = address.map(|address| address.port());
    match address.map(|address| address.ip().to_canonical()) {
        Some(ip) if ip.is_ipv4() => Endpoint { service_name, ipv4: Some(ip.to_string()), ipv6: None, port },
        ip => Endpoint { service_name, ipv4: None, ipv6: ip.map(|ip| ip.to_string()), port },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tracelog::tests::span;

    #[test]
    fn a_span_is_zipkins() {
        let expected = serde_json::json!({
            "traceId": "0000000000000abc", "id": "0000000000000002", "parentId": "0000000000000001",
            "kind": "CLIENT", "name": "GET", "timestamp": 1_700_000_000_000_000_u64, "duration": 1500,
            "localEndpoint": {"serviceName": "#/io.l5d.fs/web", "ipv4": "127.0.0.1", "port": 4140},
            "remoteEndpoint": {"ipv6": "::1", "port": 8080},
            "annotations": [{"timestamp": 1_700_000_000_000_200_u64, "value": "finagle.retry"}],
            "tags": {"http.req.method": "GET", "http.uri": "/a?b=c", "http.rsp.status": "503", "l5d.success": "0.0",
                     "error": "no \"answer\""},
        });
        assert_eq!(serde_json::to_value(shown(&span())).expect("JSON"), expected);
        let root = Span { trace_high: 9, parent: None, is_debug: true, ..span() };
        let root = serde_json::to_value(shown(&root)).expect("JSON");
        assert_eq!(root["traceId"], "00000000000000090000000000000abc");
        assert_eq!((root.get("parentId"), &root["debug"]), (None, &Value::from(true)));
    }
}
