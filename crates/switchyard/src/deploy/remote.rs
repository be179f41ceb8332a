//! The pipeline server's API as a client sees it.

use anyhow::Context;
use reqwest::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use crate::exit::{Exit, Failure};
use crate::web;

/// A deploy; keys that this version does not know are kept for `-o json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Deploy {
    pub id: String,
    pub pipeline: String,
    #[serde(default)]
    pub parameters: Map<String, Value>,
    pub state: String,
    pub stage: Option<String>,
    pub gate: Option<Gate>,
    #[serde(default)]
    pub stages: Vec<Stage>,
    #[serde(default)]
    pub version: Version,
    pub reason: Option<String>,
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Gate {
    pub message: String,
    pub ok: String,
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stage {
    pub name: String,
    pub state: String,
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Version {
    pub current: Option<String>,
    pub new: Option<String>,
}

impl Deploy {
    /// Whether nothing more will happen.
    pub fn is_over(&self) -> bool {
        matches!(self.state.as_str(), "succeeded" | "reverted" | "failed")
    }
}

pub struct Pipeline {
    base: Url,
    http: reqwest::Client,
}

/// Nobody answers; a server that is being restarted will.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {reason}")]
pub struct Unreachable {
    url: Url,
    reason: String,
}

impl Pipeline {
    pub fn new(base: Url) -> anyhow::Result<Pipeline> {
        let http = web::client(&base)?;
        Ok(Pipeline { base, http })
    }

    fn url(&self, rest: &str) -> Url {
        let mut url = self.base.clone();
        let path = self.base.path().trim_end_matches('/');
        url.set_path(&format!("{path}/api/1/deploys{rest}"));
        url
    }

    pub async fn start(
        &self,
        pipeline: &str,
        parameters: Map<String, Value>,
    ) -> anyhow::Result<String> {
        let body = serde_json::json!({ "pipeline": pipeline, "parameters": parameters });
        let response = self.send(self.http.post(self.url("")).json(&body)).await?;
        let answer: Value = json(expect(response).await?).await?;
        answer["id"]
            .as_str()
            .map(str::to_owned)
            .context("the answer has no id")
    }

    pub async fn list(&self) -> anyhow::Result<Vec<Deploy>> {
        json(expect(self.send(self.http.get(self.url(""))).await?).await?).await
    }

    pub async fn get(&self, id: &str) -> anyhow::Result<Deploy> {
        json(
            expect(
                self.send(self.http.get(self.url(&format!("/{id}"))))
                    .await?,
            )
            .await?,
        )
        .await
    }

    pub async fn decide(
        &self,
        id: &str,
        verb: &str,
        actor: &str,
        reason: &str,
    ) -> anyhow::Result<()> {
        let body = serde_json::json!({ "actor": actor, "reason": reason });
        let request = self
            .http
            .post(self.url(&format!("/{id}/{verb}")))
            .json(&body);
        expect(self.send(request).await?).await.map(drop)
    }

    pub async fn log(&self, id: &str) -> anyhow::Result<String> {
        let response = expect(
            self.send(self.http.get(self.url(&format!("/{id}/log"))))
                .await?,
        )
        .await?;
        response.text().await.context("the log broke off")
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Response> {
        let request = request.build()?;
        let url = request.url().clone();
        self.http.execute(request).await.map_err(|error| {
            let reason = web::chain(&error.without_url());
            Unreachable { url, reason }.into()
        })
    }
}

async fn expect(response: Response) -> anyhow::Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let exit = match status {
        StatusCode::BAD_REQUEST => Exit::Usage,
        StatusCode::CONFLICT => Exit::Conflict,
        _ => Exit::Failed,
    };
    let text = response.text().await.unwrap_or_default();
    let said = serde_json::from_str::<Value>(&text)
        .ok()
        .and_then(|value| Some(value.get("error")?.as_str()?.to_owned()))
        .unwrap_or_else(|| text.trim().to_owned());
    let message = if said.is_empty() {
        format!("unexpected response: {status}")
    } else {
        crate::output::safe(&said)
    };
    Err(Failure::new(exit, message))
}

async fn json<T: serde::de::DeserializeOwned>(response: Response) -> anyhow::Result<T> {
    let text = response.text().await.context("the answer broke off")?;
    serde_json::from_str(&text).context("the answer is not what this API answers")
}
