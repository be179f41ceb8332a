//! Spans as OTLP's, with what HTTP has an attribute for under OpenTelemetry's names.

use std::time::Duration;

use bytes::Bytes;

use super::proto::{self, Event, ExportTraces, KeyValue, ResourceSpans, ScopeSpans, Status, Value};
use super::{Config, attribute, scope, text};
use crate::export::delivery::{Protocol, Undelivered};
use crate::export::http::Http;
use crate::spans::{Fact, Side, Span};

const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const ERROR: i32 = 2;
/// `traceparent`'s bit.
const SAMPLED: u32 = 1;

pub(in crate::export) struct Traces {
    config: Config,
    http: Http,
}

impl Traces {
    pub(in crate::export) fn new(config: &Config) -> Traces {
        Traces { http: config.http("/v1/traces"), config: config.clone() }
    }
}

impl Protocol for Traces {
    fn encode(&self, spans: &[&Span]) -> Bytes {
        let spans = spans.iter().map(|span| encoded(span)).collect();
        let scope_spans = vec![ScopeSpans { scope: Some(scope()), spans }];
        let resource_spans = vec![ResourceSpans { resource: Some(self.config.resource()), scope_spans }];
        self.config.encode(&self.http, &ExportTraces { resource_spans })
    }

    async fn send(&mut self, body: Bytes) -> Result<u64, Undelivered> {
        let answer = self.http.post(body).await?;
        Ok(self.config.rejected(&answer))
    }

    fn limit(&self) -> Duration {
        self.config.timeout
    }
}

fn encoded(span: &Span) -> proto::Span {
    let trace_id = [span.trace_high.to_be_bytes(), span.trace.to_be_bytes()].concat();
    let error = span.error.as_ref().map(|message| Status { message: message.clone(), code: ERROR });
    proto::Span {
        trace_id,
        span_id: span.id.to_be_bytes().to_vec(),
        trace_state: span.state.clone().unwrap_or_default(),
        parent_span_id: span.parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
        name: span.name.clone(),
        kind: match span.side {
            Side::Server => SERVER,
            Side::Client => CLIENT,
        },
        start_time_unix_nano: span.start,
        end_time_unix_nano: span.start.saturating_add(span.nanos),
        attributes: attributes(span),
        events: span.events.iter().map(|event| Event { time_unix_nano: event.at, name: event.name.clone() }).collect(),
        status: error,
        flags: SAMPLED,
    }
}

fn attributes(span: &Span) -> Vec<KeyValue> {
    let mut attributes = Vec::with_capacity(span.facts.len() + 4);
    for (name, fact) in &span.facts {
        match (*name, fact) {
            ("http.uri", fact) => uri(&fact.shown(), &mut attributes),
            ("http.req.version", fact) => {
                let shown = fact.shown();
                attributes.push(text("network.protocol.version", shown.strip_prefix("HTTP/").unwrap_or(&shown)));
            }
            ("http.req.host", fact) if span.side == Side::Server => authority(&fact.shown(), &mut attributes),
            (name, fact) => attributes.push(attribute(semantic(name), value(fact))),
        }
    }
    if let Some(remote) = span.remote {
        attributes.push(text("network.peer.address", &remote.ip().to_canonical().to_string()));
        attributes.push(attribute("network.peer.port", Value::IntValue(remote.port().into())));
        if span.side == Side::Client {
            attributes.push(text("server.address", &remote.ip().to_canonical().to_string()));
            attributes.push(attribute("server.port", Value::IntValue(remote.port().into())));
        }
    }
    match span.side {
        Side::Client => attributes.push(text("peer.service", &span.service)),
        Side::Server => attributes.push(text("l5d.server", &span.service)),
    }
    attributes
}

/// OpenTelemetry's name for one of the original's.
fn semantic(name: &'static str) -> &'static str {
    match name {
        "http.req.method" => "http.request.method",
        "http.req.host" => "http.request.header.host",
        "http.req.content-type" => "http.request.header.content-type",
        "http.req.content-length" => "http.request.body.size",
        "http.rsp.status" => "http.response.status_code",
        "http.rsp.content-type" => "http.response.header.content-type",
        "http.rsp.content-length" => "http.response.body.size",
        other => other,
    }
}

fn value(fact: &Fact) -> Value {
    match fact {
        Fact::Text(text) => Value::StringValue(text.clone()),
        Fact::Shared(text) => Value::StringValue(text.as_ref().to_owned()),
        Fact::Number(number) => Value::IntValue(*number),
        Fact::Real(number) => Value::DoubleValue(*number),
    }
}

fn uri(uri: &str, attributes: &mut Vec<KeyValue>) {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    attributes.push(text("url.path", path));
    if !query.is_empty() {
        attributes.push(text("url.query", query));
    }
    attributes.push(text("url.scheme", "http"));
}

/// Where the client thinks that it is.
fn authority(host: &str, attributes: &mut Vec<KeyValue>) {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port.parse::<u16>().ok()),
        _ => (host, None),
    };
    attributes.push(text("server.address", name));
    if let Some(port) = port {
        attributes.push(attribute("server.port", Value::IntValue(port.into())));
    }
}
