//! POST to a collector over plain HTTP/1.1, with kept connections.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::delivery::{Again, Undelivered, causes, short};

/// No answer of a collector is longer.
const ANSWER: usize = 64 * 1024;
const AGENT: &str = concat!("switchyard/", env!("CARGO_PKG_VERSION"));

pub(super) struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    uri: Result<Uri, String>,
    headers: HeaderMap,
    gzip: bool,
}

impl Http {
    /// Whoever configured `uri` has checked it; what cannot be one is told with every request.
    pub(super) fn new(uri: &str, content_type: &'static str, gzip: bool) -> Http {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        if gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Http {
            client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build_http(),
            uri: uri.parse().map_err(|error| format!("{uri}: {error}")),
            headers,
            gzip,
        }
    }

    pub(super) fn with(mut self, headers: &HeaderMap) -> Http {
        self.headers.extend(headers.clone());
        self
    }

    /// What is sent of a body.
    pub(super) fn pack(&self, body: Vec<u8>) -> Bytes {
        if !self.gzip {
            return body.into();
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let packed = encoder.write_all(&body).and_then(|()| encoder.finish());
        // Writing to memory cannot fail.
        packed.unwrap_or_default().into()
    }

    /// The answer's body, if the collector took it.
    pub(super) async fn post(&self, body: Bytes) -> Result<Bytes, Undelivered> {
        let uri = self.uri.clone().map_err(|text| Undelivered { text, again: Again::Never })?;
        let mut request = Request::post(uri).body(Full::new(body)).map_err(Undelivered::later)?;
        request.headers_mut().extend(self.headers.clone());
        let answer = self.client.request(request).await.map_err(|error| Undelivered::later(causes(&error)))?;
        let status = answer.status();
        let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = Limited::new(answer.into_body(), ANSWER).collect().await;
        let body = body.map_err(|error| Undelivered::later(causes(&*error)))?.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        let again = match status {
            // What OTLP calls retryable.
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                after.map_or(Again::Later, |seconds| Again::In(Duration::from_secs(seconds)))
            }
            _ => Again::Never,
        };
        let said = short(&String::from_utf8_lossy(&body));
        let text = if said.is_empty() { format!("{status}") } else { format!("{status}: {said}") };
        Err(Undelivered { text, again })
    }
}
