//! The control plane's HTTP API as a client sees it. Texts of errors are `namerctl`'s.

use std::time::Duration;

use anyhow::Context;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::header::{ACCEPT, CONTENT_TYPE, ETAG, IF_MATCH};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::exit::{Exit, Failure};
use crate::web;

/// One entry as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    #[serde(default)]
    pub prefix: String,
    #[serde(default)]
    pub dst: String,
}

/// A dtab and the version it was read at (empty: the server told none).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionedDtab {
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub dtab: Vec<Entry>,
}

/// One line of a history.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Revision {
    pub version: String,
    pub time: String,
    pub author: String,
    pub comment: Option<String>,
    pub action: String,
    pub dtab: String,
}

/// Whether weights come with the original's two decimals or with every digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    Original,
    Exact,
}

/// The body of a write.
#[derive(Clone, Debug)]
pub struct Body {
    pub content_type: &'static str,
    pub text: String,
}

pub const DTAB: &str = "application/dtab";
pub const JSON: &str = "application/json";

/// Who writes, why, and whether to wait for the routers.
#[derive(Clone, Debug, Default)]
pub struct Note {
    pub author: Option<String>,
    pub comment: Option<String>,
    pub wait: Option<Duration>,
}

/// What a write came to.
#[derive(Debug)]
pub struct Written {
    pub version: Option<String>,
    /// How many routers serve it; only after a wait.
    pub fleet: Option<u64>,
    /// Routers that do not serve it yet; the write stands.
    pub laggards: Option<serde_json::Value>,
}

pub struct ControlPlane {
    base: Url,
    http: reqwest::Client,
}

/// What a header value may not hold as it is; the API decodes it again.
const HEADER: &AsciiSet = &CONTROLS.add(b'%');

impl ControlPlane {
    pub fn new(base: Url, trust: &web::Trust) -> anyhow::Result<ControlPlane> {
        let http = web::client(&base, trust)?;
        Ok(ControlPlane { base, http })
    }

    /// `base` + `api/1/…`; the path of the base is kept.
    pub fn url(&self, rest: &str) -> Url {
        let mut url = self.base.clone();
        let path = self.base.path().trim_end_matches('/');
        url.set_path(&format!("{path}/api/1/{rest}"));
        url
    }

    pub async fn list(&self) -> anyhow::Result<Vec<String>> {
        let response = self.send(self.http.get(self.url("dtabs")).header(ACCEPT, JSON)).await?;
        json(expect(response, &[StatusCode::OK]).await?).await
    }

    pub async fn get(&self, namespace: &str, weights: Weights) -> anyhow::Result<VersionedDtab> {
        let mut request = self.http.get(self.url(&format!("dtabs/{namespace}"))).header(ACCEPT, JSON);
        if weights == Weights::Exact {
            request = request.query(&[("exact", "true")]);
        }
        self.read_dtab(request).await
    }

    /// An earlier version, by its text.
    pub async fn get_revision(&self, namespace: &str, version: &str) -> anyhow::Result<VersionedDtab> {
        let request = self
            .http
            .get(self.url(&format!("dtabs/{namespace}")))
            .header(ACCEPT, JSON)
            .query(&[("version", version), ("exact", "true")]);
        let mut dtab = self.read_dtab(request).await?;
        if dtab.version.is_empty() {
            dtab.version = version.to_owned();
        }
        Ok(dtab)
    }

    async fn read_dtab(&self, request: RequestBuilder) -> anyhow::Result<VersionedDtab> {
        let response = expect_found(self.send(request).await?, &[StatusCode::OK]).await?;
        let version = etag(&response).unwrap_or_default();
        let dtab: Option<Vec<Entry>> = json(response).await?;
        Ok(VersionedDtab { version, dtab: dtab.unwrap_or_default() })
    }

    /// Newest first, at most so many.
    pub async fn history(&self, namespace: &str, limit: usize) -> anyhow::Result<Vec<Revision>> {
        let request = self.http.get(self.url(&format!("dtabs/{namespace}/history"))).query(&[("limit", limit)]);
        json(expect_found(self.send(request).await?, &[StatusCode::OK]).await?).await
    }

    pub async fn explain(&self, namespace: &str, path: &str, dtab: &str) -> anyhow::Result<serde_json::Value> {
        let request =
            self.http.get(self.url(&format!("delegate/{namespace}"))).query(&[("path", path), ("dtab", dtab)]);
        json(expect_found(self.send(request).await?, &[StatusCode::OK]).await?).await
    }

    pub async fn create(&self, namespace: &str, body: Body, note: &Note) -> anyhow::Result<Written> {
        let request = self.write(Method::POST, namespace, note).header(CONTENT_TYPE, body.content_type).body(body.text);
        // The original's CLI knows no 404 here: a namespace that is not there is the point.
        written(self.send(request).await?, Missing::IsUnexpected).await
    }

    /// Unconditional without a version.
    pub async fn update(
        &self,
        namespace: &str,
        version: Option<&str>,
        body: Body,
        note: &Note,
    ) -> anyhow::Result<Written> {
        let mut request =
            self.write(Method::PUT, namespace, note).header(CONTENT_TYPE, body.content_type).body(body.text);
        if let Some(version) = version {
            request = request.header(IF_MATCH, version);
        }
        written(self.send(request).await?, Missing::IsNotFound).await
    }

    pub async fn delete(&self, namespace: &str, note: &Note) -> anyhow::Result<Written> {
        written(self.send(self.write(Method::DELETE, namespace, note)).await?, Missing::IsNotFound).await
    }

    fn write(&self, method: Method, namespace: &str, note: &Note) -> RequestBuilder {
        let mut request = self.http.request(method, self.url(&format!("dtabs/{namespace}")));
        for (name, value) in [("l5d-author", &note.author), ("l5d-comment", &note.comment)] {
            if let Some(value) = value {
                request = request.header(name, utf8_percent_encode(value, HEADER).to_string());
            }
        }
        if let Some(wait) = note.wait {
            request = request.query(&[("wait", format!("{}ms", wait.as_millis()))]);
        }
        request
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let request = request.build()?;
        let (method, url) = (request.method().to_string(), request.url().clone());
        let mut verb = method.to_lowercase();
        verb[..1].make_ascii_uppercase();
        self.http.execute(request).await.map_err(|error| {
            let error = error.without_url();
            Failure::error(Exit::Failed, format!("{verb} \"{url}\": {}", causes::chain(&error)))
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    IsNotFound,
    IsUnexpected,
}

const WRITTEN: &[StatusCode] = &[StatusCode::OK, StatusCode::CREATED, StatusCode::NO_CONTENT];

async fn written(response: Response, missing: Missing) -> anyhow::Result<Written> {
    let lags = response.status() == StatusCode::GATEWAY_TIMEOUT;
    if lags {
        let answer: serde_json::Value = json(response).await?;
        let version = answer["version"].as_str().map(str::to_owned);
        return Ok(Written { version, fleet: None, laggards: Some(answer["laggards"].clone()) });
    }
    let response = match missing {
        Missing::IsNotFound => expect_found(response, WRITTEN).await?,
        Missing::IsUnexpected => expect(response, WRITTEN).await?,
    };
    let fleet = response.headers().get("l5d-fleet").and_then(|value| value.to_str().ok()?.parse().ok());
    // A create has no ETag in the original, nor here for clients that know only that.
    let version = etag(&response).or_else(|| Some(response.headers().get("l5d-version")?.to_str().ok()?.to_owned()));
    Ok(Written { version, fleet, laggards: None })
}

fn etag(response: &Response) -> Option<String> {
    let value = response.headers().get(ETAG)?.to_str().ok()?;
    Some(value.trim_matches('"').to_owned())
}

async fn expect_found(response: Response, wanted: &[StatusCode]) -> anyhow::Result<Response> {
    if response.status() == StatusCode::NOT_FOUND {
        let path = response.url().path();
        let what = path.split_once("/api/1/").map_or(path, |(_, what)| what).to_owned();
        return Err(Failure::with_detail(
            Exit::Failed,
            "resource was not found by ID or name",
            Some(format!("{what}: no such namespace, or none with this version")),
        ));
    }
    expect(response, wanted).await
}

/// The answer, or `unexpected response: 409 Conflict` with what the server said about it.
async fn expect(response: Response, wanted: &[StatusCode]) -> anyhow::Result<Response> {
    let status = response.status();
    if wanted.contains(&status) {
        return Ok(response);
    }
    let exit = match status {
        StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => Exit::Conflict,
        StatusCode::BAD_REQUEST => Exit::Usage,
        _ => Exit::Failed,
    };
    let said = response.text().await.unwrap_or_default();
    let said = serde_json::from_str::<serde_json::Value>(&said)
        .ok()
        .and_then(|value| Some(value.get("error")?.as_str()?.to_owned()))
        .unwrap_or(said);
    let said = Some(said.trim().to_owned()).filter(|said| !said.is_empty()).or_else(|| {
        let why = match status {
            StatusCode::CONFLICT => "this namespace exists already; `switchyard dtab update` replaces its dtab",
            StatusCode::PRECONDITION_FAILED => "it was changed since this version; get it again, then write",
            _ => return None,
        };
        Some(why.to_owned())
    });
    Err(Failure::with_detail(exit, format!("unexpected response: {status}"), said))
}

async fn json<T: serde::de::DeserializeOwned>(response: Response) -> anyhow::Result<T> {
    let text = response.text().await.context("the answer broke off")?;
    serde_json::from_str(&text).context("the answer is not what this API answers")
}
