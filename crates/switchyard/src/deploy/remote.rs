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
    #[serde(default)]
    pub commands: Vec<GateCommand>,
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// A command to try before answering.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GateCommand {
    pub command: String,
    pub expect: Option<String>,
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

/// Who does it, and why.
#[derive(clap::Args, Clone, Debug)]
pub struct Person {
    /// Who does it, for the record.
    #[arg(long, env = "USER", default_value = "-", value_name = "NAME")]
    pub actor: String,
    /// Why, for the record.
    #[arg(short = 'm', long, default_value = "", value_name = "TEXT")]
    pub reason: String,
}

impl Person {
    fn reason(&self) -> Option<&str> {
        Some(self.reason.as_str()).filter(|reason| !reason.is_empty())
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
    pub fn new(base: Url, trust: &web::Trust) -> anyhow::Result<Pipeline> {
        let http = web::client(&base, trust)?;
        Ok(Pipeline { base, http })
    }

    fn url(&self, rest: &str) -> Url {
        let mut url = self.base.clone();
        let path = self.base.path().trim_end_matches('/');
        url.set_path(&format!("{path}/api/1/deploys{rest}"));
        url
    }

    pub async fn start(&self, pipeline: &str, parameters: Map<String, Value>, by: &Person) -> anyhow::Result<String> {
        let body = serde_json::json!({
            "pipeline": pipeline,
            "parameters": parameters,
            "actor": by.actor,
            "reason": by.reason(),
        });
        let response = self.send(self.http.post(self.url("")).json(&body)).await?;
        let answer: Value = json(expect(response).await?).await?;
        answer["id"].as_str().map(str::to_owned).context("the answer has no id")
    }

    pub async fn list(&self) -> anyhow::Result<Vec<Deploy>> {
        json(expect(self.send(self.http.get(self.url(""))).await?).await?).await
    }

    pub async fn get(&self, id: &str) -> anyhow::Result<Deploy> {
        json(expect(self.send(self.http.get(self.url(&format!("/{id}")))).await?).await?).await
    }

    /// `stage` is the one whose gate was looked at: another gate is not answered by mistake.
    pub async fn decide(&self, id: &str, verb: &str, by: &Person, stage: Option<&str>) -> anyhow::Result<()> {
        let mut body = serde_json::json!({ "actor": by.actor, "reason": by.reason() });
        if let Some(stage) = stage.filter(|_| verb == "approve") {
            body["stage"] = stage.into();
        }
        let request = self.http.post(self.url(&format!("/{id}/{verb}"))).json(&body);
        expect(self.send(request).await?).await.map(drop)
    }

    /// Has a failed deploy try again now; 409 when it has not failed.
    pub async fn retry(&self, id: &str) -> anyhow::Result<Deploy> {
        json(expect(self.send(self.http.post(self.url(&format!("/{id}/retry")))).await?).await?).await
    }

    pub async fn log(&self, id: &str) -> anyhow::Result<String> {
        let response = expect(self.send(self.http.get(self.url(&format!("/{id}/log")))).await?).await?;
        response.text().await.context("the log broke off")
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Response> {
        let request = request.build()?;
        let url = request.url().clone();
        self.http.execute(request).await.map_err(|error| {
            let reason = causes::chain(&error.without_url());
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
    let message = if said.is_empty() { format!("unexpected response: {status}") } else { crate::output::safe(&said) };
    Err(Failure::error(exit, message))
}

async fn json<T: serde::de::DeserializeOwned>(response: Response) -> anyhow::Result<T> {
    let text = response.text().await.context("the answer broke off")?;
    serde_json::from_str(&text).context("the answer is not what this API answers")
}
