//! The control plane as the pipeline sees it: dtabs, leases, the fleet. One request each, no retries.

mod client;

use std::time::Duration;

use client::Client;
use names::Dtab;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use url::Url;

use crate::api::Laggard;

/// One answer may take this long, on top of what it was asked to wait.
const LIMIT: Duration = Duration::from_secs(5);
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// The key of the document.
const SECTION: &str = "controlPlaneTls";

#[derive(Clone, Debug)]
pub(crate) struct Control {
    base: Url,
    client: Client,
}

/// Why there is no answer to build on.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Trouble {
    /// It may be different the next time.
    #[error("{0}")]
    Passing(String),
    /// It will not.
    #[error("{0}")]
    Lasting(String),
}

/// A key of the document that makes no sense.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BadKey {
    pub key: String,
    pub message: String,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Put {
    Written(String),
    /// Somebody wrote in between.
    Stale,
    /// The namespace is not there.
    Gone,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Fleet {
    /// This many routers follow the namespace, and each serves the version.
    Serves(u64),
    Lags(Vec<Laggard>),
    /// No such namespace, or no such version of it.
    Unknown,
}

/// `GET /api/1/leases`, one element.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Lease {
    #[serde(default)]
    pub namespace: String,
    #[serde(default)]
    pub entry: String,
    pub owner: String,
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub expires: Option<String>,
}

impl Lease {
    /// Whether it still counts.
    pub fn holds(&self) -> bool {
        let expires = self.expires.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        expires.is_none_or(|expires| expires > jiff::Timestamp::now())
    }
}

/// Who writes, and why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signed<'a> {
    pub author: &'a str,
    pub comment: &'a str,
}

/// Who wants a lease, for how long, and why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim<'a> {
    pub owner: &'a str,
    pub seconds: u64,
    pub reason: &'a str,
}

/// How to speak to the control plane. Files are read now: a pipeline server is restarted for new ones.
fn checked<'a>(
    base: &Url,
    secured: Option<&'a tls::client::Config>,
) -> Result<Option<&'a tls::client::Config>, tls::Error> {
    let wrong = |key: &str, message: &str| Err(tls::Error { key: key.to_owned(), message: message.to_owned() });
    match secured {
        Some(_) if base.scheme() != "https" => wrong("", "makes no sense with an http:// controlPlane: write https://"),
        Some(tls) if !tls.is_on() => wrong("enabled", "the URL says whether there is TLS: take the key out"),
        Some(tls) if tls.common_name.is_some() => {
            wrong("commonName", "the certificate must be for the host of controlPlane: take the key out")
        }
        secured => Ok(secured),
    }
}

impl Control {
    /// # Errors
    /// What is wrong, by the document's key.
    pub fn new(base: &str, secured: Option<&tls::client::Config>, reloader: &tls::Reloader) -> Result<Control, BadKey> {
        let wrong = |message: String| BadKey { key: "controlPlane".to_owned(), message };
        let base =
            Url::parse(base).map_err(|error| wrong(format!("{base:?}: {error}; write http://127.0.0.1:4180")))?;
        if base.cannot_be_a_base() || !["http", "https"].contains(&base.scheme()) {
            return Err(wrong(format!("{base}: must be an http URL, such as http://127.0.0.1:4180")));
        }
        let bad_section = |error: tls::Error| {
            let error = error.under(SECTION);
            BadKey { key: error.key, message: error.message }
        };
        let built = match checked(&base, secured).map_err(bad_section)? {
            Some(section) => {
                let live = tls::client::Live::start(section, tls::client::Naming::Url, SECTION, reloader);
                Client::live(live.map_err(bad_section)?)
            }
            None if base.scheme() == "https" => {
                let system = tls::client::Config::default().once(tls::client::Naming::Url);
                Client::fixed(system.map_err(bad_section)?)
            }
            None => Client::fixed(tls::client::nobody()),
        };
        let client = built.map_err(|error| wrong(causes::chain(&error)))?;
        Ok(Control { base, client })
    }

    /// For people.
    pub fn shown(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "1"]).extend(segments);
        }
        self.client.http().request(method, url).timeout(LIMIT)
    }

    /// The dtab with every digit, and its version; `None` if there is no such namespace.
    pub async fn dtab(&self, namespace: &str) -> Result<Option<(Dtab, String)>, Trouble> {
        let request = self.request(Method::GET, &["dtabs", namespace]).query(&[("exact", "true")]);
        let response = send(request.header("accept", "application/dtab")).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = expect(response, StatusCode::OK).await?;
        let version = etag(&response).ok_or_else(|| Trouble::Lasting("its answer has no ETag".to_owned()))?;
        let text = text(response).await?;
        let dtab = Dtab::read(&text)
            .map_err(|error| Trouble::Lasting(format!("its dtab {namespace} cannot be read: {error}")))?;
        Ok(Some((dtab, version)))
    }

    pub async fn namespaces(&self) -> Result<Vec<String>, Trouble> {
        let response = send(self.request(Method::GET, &["dtabs"]).header("accept", "application/json")).await?;
        json(expect(response, StatusCode::OK).await?).await
    }

    /// Writes if nobody wrote since `version`.
    pub async fn put(&self, namespace: &str, dtab: &Dtab, version: &str, signed: Signed<'_>) -> Result<Put, Trouble> {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let request = self
            .request(Method::PUT, &["dtabs", namespace])
            .header("content-type", "application/dtab")
            .header("if-match", version)
            .header("l5d-author", encode(signed.author))
            .header("l5d-comment", encode(signed.comment))
            .body(dtab.show_exact());
        let response = send(request).await?;
        match response.status() {
            StatusCode::PRECONDITION_FAILED => return Ok(Put::Stale),
            StatusCode::NOT_FOUND => return Ok(Put::Gone),
            _ => {}
        }
        let response = expect(response, StatusCode::NO_CONTENT).await?;
        // Without it nobody could wait for this version; the next read tells it.
        let version = etag(&response);
        version.map(Put::Written).ok_or_else(|| Trouble::Passing("its answer to the write has no ETag".to_owned()))
    }

    /// Waits up to `wait` until each live router serves `version`.
    pub async fn fleet(&self, namespace: &str, version: &str, wait: Duration) -> Result<Fleet, Trouble> {
        let wait_text = format!("{}ms", wait.as_millis());
        let request = self
            .request(Method::GET, &["dtabs", namespace, "fleet"])
            .query(&[("version", version), ("wait", &wait_text)])
            .timeout(wait + LIMIT);
        let response = send(request).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(Fleet::Unknown),
            StatusCode::GATEWAY_TIMEOUT => {
                let answer: Lagging = json(response).await?;
                Ok(Fleet::Lags(answer.laggards))
            }
            _ => {
                let answer: Serving = json(expect(response, StatusCode::OK).await?).await?;
                Ok(Fleet::Serves(answer.routers))
            }
        }
    }

    pub async fn leases(&self) -> Result<Vec<Lease>, Trouble> {
        let response = send(self.request(Method::GET, &["leases"])).await?;
        json(expect(response, StatusCode::OK).await?).await
    }

    /// Takes it or renews it; `Err` inside is the lease of whoever holds it.
    pub async fn take_lease(
        &self,
        namespace: &str,
        entry: &str,
        claim: Claim<'_>,
    ) -> Result<Result<Lease, Lease>, Trouble> {
        let Claim { owner, seconds, reason } = claim;
        let body = serde_json::json!({ "owner": owner, "seconds": seconds, "reason": reason });
        let request = self.request(Method::PUT, &["leases", namespace]).query(&[("entry", entry)]).json(&body);
        let response = send(request).await?;
        if response.status() == StatusCode::CONFLICT {
            let answer: Held = json(response).await?;
            return Ok(Err(answer.lease));
        }
        let response = match response.status() {
            StatusCode::CREATED => response,
            _ => expect(response, StatusCode::OK).await?,
        };
        json(response).await.map(Ok)
    }

    /// Well if there is none, or somebody else's.
    pub async fn release_lease(&self, namespace: &str, entry: &str, owner: &str) -> Result<(), Trouble> {
        let request = self.request(Method::DELETE, &["leases", namespace]).query(&[("entry", entry), ("owner", owner)]);
        let response = send(request).await?;
        if response.status() == StatusCode::CONFLICT {
            return Ok(());
        }
        expect(response, StatusCode::NO_CONTENT).await.map(drop)
    }
}

#[derive(Deserialize)]
struct Serving {
    routers: u64,
}

#[derive(Deserialize)]
struct Lagging {
    laggards: Vec<Laggard>,
}

#[derive(Deserialize)]
struct Held {
    lease: Lease,
}

async fn send(request: RequestBuilder) -> Result<Response, Trouble> {
    request.send().await.map_err(|error| Trouble::Passing(causes::chain(&error)))
}

fn etag(response: &Response) -> Option<String> {
    let text = response.headers().get("etag")?.to_str().ok()?;
    Some(text.trim_matches('"').to_owned()).filter(|text| !text.is_empty())
}

async fn expect(response: Response, wanted: StatusCode) -> Result<Response, Trouble> {
    let (status, url) = (response.status(), response.url().clone());
    if status == wanted {
        return Ok(response);
    }
    let said = text(response).await.unwrap_or_default();
    let said = serde_json::from_str::<crate::api::ErrorAnswer>(&said).map_or(said, |answer| answer.error);
    let said: String = said.trim().chars().take(500).collect();
    let shown = format!("{url} answers {status} {said}").trim_end().to_owned();
    match status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT {
        true => Err(Trouble::Passing(shown)),
        false => Err(Trouble::Lasting(shown)),
    }
}

async fn text(response: Response) -> Result<String, Trouble> {
    let bytes = body(response).await?;
    String::from_utf8(bytes).map_err(|_| Trouble::Lasting("its answer is not UTF-8".to_owned()))
}

async fn json<T: serde::de::DeserializeOwned>(response: Response) -> Result<T, Trouble> {
    let url = response.url().clone();
    let bytes = body(response).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Trouble::Lasting(format!("{url}: the answer is not a Switchyard control plane's: {error}")))
}

async fn body(mut response: Response) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Trouble::Passing(causes::chain(&error)))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MOST_BYTES {
            return Err(Trouble::Lasting("its answer is too large".to_owned()));
        }
    }
    Ok(bytes)
}
