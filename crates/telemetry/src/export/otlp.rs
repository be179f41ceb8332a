//! `io.l5d.otlp`, a kind of ours: traces and metrics to an OpenTelemetry collector, over HTTP.

pub(super) mod metrics;
mod proto;
pub(super) mod traces;

use std::time::Duration;

use bytes::Bytes;
use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use serde::Serialize;

use super::http::Http;
use proto::{AnyValue, KeyValue, Resource, Scope};

/// The keys of `io.l5d.otlp`.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Passed [`check_endpoint`]; `/v1/traces` and `/v1/metrics` are put behind it.
    pub endpoint: String,
    pub encoding: Encoding,
    /// Passed [`check_header`].
    pub headers: Vec<(String, String)>,
    pub gzip: bool,
    /// A collector takes a request within this time.
    pub timeout: Duration,
    pub traces: bool,
    /// Of traces: 0.0 to 1.0.
    pub sample_rate: f64,
    pub metrics: bool,
    pub metrics_interval: Duration,
    /// Attributes of the resource; `service.name` is `linkerd` unless it is here.
    pub resource: Vec<(String, String)>,
}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// `http/protobuf`
    #[default]
    Protobuf,
    /// `http/json`
    Json,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            endpoint: "http://127.0.0.1:4318".to_owned(),
            encoding: Encoding::Protobuf,
            headers: Vec::new(),
            gzip: false,
            timeout: Duration::from_secs(10),
            traces: true,
            sample_rate: 1.0,
            metrics: true,
            metrics_interval: Duration::from_secs(60),
            resource: Vec::new(),
        }
    }
}

/// Whether a text can be an endpoint.
///
/// # Errors
/// What is wrong with it.
pub fn check_endpoint(text: &str) -> Result<(), String> {
    let uri = text.parse::<Uri>().map_err(|error| format!("`{text}` is no URL: {error}"))?;
    match (uri.scheme_str(), uri.query()) {
        (Some("http"), None) if uri.host().is_some_and(|host| !host.is_empty()) => Ok(()),
        (Some("https"), _) => Err(format!(
            "`{text}`: TLS to a collector is not supported: run an OpenTelemetry collector beside the router, and send \
             to it with `http://`"
        )),
        _ => Err(format!("`{text}` is no endpoint: use `http://HOST:PORT`, a path may follow")),
    }
}

/// Whether a header can be sent.
///
/// # Errors
/// What is wrong with it.
pub fn check_header(name: &str, value: &str) -> Result<(), String> {
    header(name, value).map(drop).ok_or_else(|| format!("`{name}: {value}` is no header"))
}

fn header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((name.parse().ok()?, value.parse().ok()?))
}

impl Config {
    fn http(&self, path: &str) -> Http {
        let kind = match self.encoding {
            Encoding::Protobuf => "application/x-protobuf",
            Encoding::Json => "application/json",
        };
        let headers = self.headers.iter().filter_map(|(name, value)| header(name, value)).collect::<HeaderMap>();
        Http::new(&format!("{}{path}", self.endpoint.trim_end_matches('/')), kind, self.gzip).with(&headers)
    }

    fn encode(&self, http: &Http, message: &(impl Message + Serialize)) -> Bytes {
        http.pack(match self.encoding {
            Encoding::Protobuf => message.encode_to_vec(),
            // Texts and numbers always have a JSON.
            Encoding::Json => serde_json::to_vec(message).unwrap_or_default(),
        })
    }

    fn resource(&self) -> Resource {
        let named = self.resource.iter().any(|(name, _)| name == "service.name");
        let default = (!named).then(|| text("service.name", "linkerd"));
        let own = self.resource.iter().map(|(name, value)| text(name, value));
        Resource { attributes: default.into_iter().chain(own).collect() }
    }

    /// How many items an answer says were rejected. One that cannot be read says nothing, as a gateway's might.
    fn rejected(&self, answer: &[u8]) -> u64 {
        let rejected = match self.encoding {
            Encoding::Protobuf => proto::Answer::decode(answer).ok().and_then(|answer| answer.partial_success),
            Encoding::Json => {
                serde_json::from_slice(answer).ok().and_then(|answer: proto::Answer| answer.partial_success)
            }
        };
        rejected.and_then(|partial| u64::try_from(partial.rejected).ok()).unwrap_or(0)
    }
}

fn scope() -> Scope {
    Scope { name: "switchyard".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
}

fn attribute(key: &str, value: proto::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, proto::Value::StringValue(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_http_url_without_a_query() {
        for good in ["http://127.0.0.1:4318", "http://[::1]:4318/", "http://otel/prefix"] {
            assert_eq!(check_endpoint(good), Ok(()));
        }
        for bad in ["", "localhost:4318", "/x", "ftp://a", "https://a", "http://a?b=c", "http://a b"] {
            assert!(check_endpoint(bad).is_err(), "{bad}");
        }
        assert!(check_header("authorization", "Bearer x").is_ok());
        assert!(check_header("a b", "c").is_err() && check_header("a", "c\nd").is_err());
    }
}
