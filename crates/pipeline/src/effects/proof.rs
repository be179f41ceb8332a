//! The test of the new version: requests through the frontend that only it may answer.
//!
//! The override ends in `| !`: where the new version is not there, the request fails. Each answer
//! must hold the proof of one of the new instances, and each instance must have answered.

use std::collections::BTreeMap;
use std::time::Duration;

use rollout::Outcome;
use tokio::time::Instant;

use super::{Job, target};
use causes::chain;

/// From the registration until every router has heard of it.
const SETTLES: Duration = Duration::from_secs(10);
/// Wrong answers that may come after the first right one: workers learn one after the other.
const LATE: u32 = 3;
const ONE_ANSWER: Duration = Duration::from_secs(5);
const MOST_BYTES: usize = 1024 * 1024;
/// Chance decides which instance answers: enough draws that none is missed by chance.
const DRAWS_PER_INSTANCE: u32 = 40;

pub(super) async fn test(job: &Job, version: &str) -> Result<Outcome, String> {
    let plan = &job.story.deploy.plan;
    let dtab = format!("{} => {}/{version} | !", plan.entry, plan.marker);
    let test = &job.story.head.file.test;
    let values = job.story.values(&job.deploys.config().frontend);
    let fill = |error: crate::template::TemplateError| error.to_string();
    let url = values.fill(&test.url).map_err(fill)?;
    let mut proofs = BTreeMap::new();
    for target::Instance { name, address, port } in target::instances(job, version).await? {
        let port = port.map(|port| port.to_string()).unwrap_or_default();
        let more = [("address", address.as_str()), ("port", &port), ("name", &name)];
        // The names that only argv has are known here too, so that one proof fits all texts.
        let values = values.with(&more).with(&[("switchyard", &job.deploys.switchyard().display().to_string())]);
        proofs.insert(values.fill(&test.proof).map_err(fill)?, address);
    }
    if proofs.is_empty() {
        return Err(format!("{version} has no instances to ask"));
    }
    // Each request on a connection of its own: each may meet another worker.
    let http = reqwest::Client::builder()
        .no_proxy()
        // The router's own address is plain.
        .tls_backend_preconfigured(tls::client::nobody())
        .pool_max_idle_per_host(0)
        .timeout(ONE_ANSWER)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| chain(&error))?;
    let wanted = test.requests;
    let most = wanted.max(DRAWS_PER_INSTANCE * proofs.len() as u32);
    let (began, mut late) = (Instant::now(), 0);
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    let mut in_a_row = 0;
    loop {
        let answer = ask(&http, &url, &dtab).await;
        let proven = answer.as_ref().ok().and_then(|body| proofs.iter().find(|(proof, _)| body.contains(*proof)));
        let Some((_, address)) = proven else {
            let what = match answer {
                Ok(body) => format!("an answer came from somebody else, or without the proof: {}", short(&body)),
                Err(why) => why,
            };
            if !seen.is_empty() {
                late += 1;
            }
            if late > LATE || began.elapsed() > SETTLES {
                return Err(format!("{url} with l5d-dtab: {dtab} does not reach {version} as it should: {what}"));
            }
            in_a_row = 0;
            job.slot.update_doing(|doing| {
                doing.trouble = Some(what);
                doing.attempt += 1;
            });
            tokio::time::sleep(Duration::from_millis(50) * 2_u32.pow(late)).await;
            continue;
        };
        *seen.entry(address).or_default() += 1;
        in_a_row += 1;
        if in_a_row >= wanted && seen.len() == proofs.len() {
            let shown: Vec<String> = seen.iter().map(|(address, count)| format!("{address} ({count})")).collect();
            return Ok(Outcome::Done {
                detail: format!("{version} itself answered {in_a_row} requests in a row: {}", shown.join(", ")),
            });
        }
        if in_a_row >= most {
            let missing: Vec<&str> =
                proofs.values().map(String::as_str).filter(|address| !seen.contains_key(address)).collect();
            return Err(format!(
                "after {in_a_row} requests with l5d-dtab: {dtab} no answer came from {}",
                missing.join(", ")
            ));
        }
    }
}

async fn ask(http: &reqwest::Client, url: &str, dtab: &str) -> Result<String, String> {
    let response = http.get(url).header("l5d-dtab", dtab).send().await;
    let mut response = response.map_err(|error| chain(&error))?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| chain(&error))? {
        body.extend_from_slice(&chunk);
        if body.len() > MOST_BYTES {
            return Err("an answer is larger than 1 MiB".to_owned());
        }
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    match status == reqwest::StatusCode::OK {
        true => Ok(body),
        false => Err(format!("an answer is {status}: {}", short(&body))),
    }
}

fn short(body: &str) -> String {
    let text = body.trim();
    match text.char_indices().nth(300) {
        Some((at, _)) => format!("{:?}…", &text[..at]),
        None => format!("{text:?}"),
    }
}
