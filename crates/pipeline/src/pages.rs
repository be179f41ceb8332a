//! The pages of the pipeline server, beside its API.
//!
//! They show what the API answers and order through the same handle; a form's answer is a redirect to
//! the deploy, so that a reload repeats nothing.

use std::collections::BTreeMap;

use admin::pipeline::{BuildPage, DeployPage, ListPage, Refused};
use admin::{Count, Links, MissingPage, Part, Shell, web};
use axum::Router;
use axum::extract::{Form, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api;
use crate::deploys::Deploys;
use crate::problem::Problem;

/// How many deploys the first page has.
const LIST: usize = 200;
/// Name parts of a form: `p.gitBranch` is the parameter `gitBranch`.
const PARAMETER: &str = "p.";

type Fields = Vec<(String, String)>;

/// Routes of all pages; they ask and order through the same handle as the API.
pub(crate) fn pages(deploys: Deploys) -> Router {
    Router::new()
        .route("/", get(list))
        .route("/pipelines/{name}/build", get(build).post(start))
        .route("/deploys/{id}", get(one))
        .route("/deploys/{id}/approve", post(approve))
        .route("/deploys/{id}/abort", post(abort))
        .route("/deploys/{id}/retry", post(retry))
        .fallback(missing)
        .with_state(deploys)
        .merge(admin::assets())
}

fn shell(deploys: &Deploys, headers: &HeaderMap) -> Shell {
    let links = &deploys.config().links;
    let links = Links { pipeline: None, router: links.router.clone(), control: links.control.clone() };
    let mut shell = Shell::new(Part::Pipeline, "pipeline", headers, links);
    shell.count = count(&deploys.list(LIST, None));
    shell
}

/// What needs a person: broken ones before those that wait.
fn count(deploys: &[api::Deploy]) -> Option<Count> {
    let number = |state: api::DeployState| deploys.iter().filter(|deploy| deploy.state == state).count();
    let (failed, waiting) = (number(api::DeployState::Failed), number(api::DeployState::Waiting));
    let what = |number: usize, one: &str, many: &str| if number == 1 { one.to_owned() } else { many.to_owned() };
    match (failed, waiting) {
        (0, 0) => None,
        (0, number) => {
            let what = what(number, "deploy waits for a person", "deploys wait for a person");
            Some(Count { number, what, is_bad: false })
        }
        (number, _) => {
            let what = what(number, "deploy needs a person", "deploys need a person");
            Some(Count { number, what, is_bad: true })
        }
    }
}

/// What the API answers, as the pages read it.
fn seen<T: Serialize, V: DeserializeOwned>(answer: &T) -> Result<V, Problem> {
    let read = serde_json::to_value(answer).and_then(serde_json::from_value);
    read.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("a page cannot show this: {error}")))
}

/// A problem as a page.
fn problem(deploys: &Deploys, headers: &HeaderMap, title: &str, problem: &Problem) -> Response {
    let page =
        MissingPage { shell: shell(deploys, headers), title: title.to_owned(), what: problem.answer.error.clone() };
    web::page(problem.status, &page)
}

/// Whatever is asked for below `/api/` is answered as the API does.
async fn missing(State(deploys): State<Deploys>, headers: HeaderMap, uri: axum::http::Uri) -> Response {
    let answer = Problem::new(StatusCode::NOT_FOUND, format!("there is no {}", uri.path()));
    if uri.path().starts_with("/api/") {
        return answer.into_response();
    }
    problem(&deploys, &headers, "There is no such page", &answer)
}

async fn list(State(deploys): State<Deploys>, headers: HeaderMap) -> Response {
    let shown = async {
        let pipelines = seen(&deploys.pipelines().await)?;
        Ok(ListPage { shell: shell(&deploys, &headers), pipelines, deploys: seen(&deploys.list(LIST, None))? })
    };
    match shown.await {
        Ok(page) => web::page(StatusCode::OK, &page),
        Err(error) => problem(&deploys, &headers, "This page cannot be shown", &error),
    }
}

/// The form; `?again=ID` takes the values of that deploy.
async fn build(
    State(deploys): State<Deploys>,
    Path(name): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let again = query.get("again").and_then(|id| deploys.get(id).ok()).filter(|deploy| deploy.pipeline == name);
    let values = again.map(|deploy| deploy.parameters).unwrap_or_default();
    match form(&deploys, &headers, &name, &values).await {
        Ok(page) => web::page(StatusCode::OK, &page),
        Err(error) => problem(&deploys, &headers, "There is no such pipeline", &error),
    }
}

async fn form(
    deploys: &Deploys,
    headers: &HeaderMap,
    name: &str,
    values: &BTreeMap<String, String>,
) -> Result<BuildPage, Problem> {
    let pipelines = deploys.pipelines().await;
    let pipeline = pipelines.into_iter().find(|pipeline| pipeline.name == name).ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, format!("There is no pipeline {name:?}; the first page lists them."))
    })?;
    let holder = pipeline.holder.as_ref().and_then(|id| deploys.get(id).ok());
    let mut page = BuildPage::new(shell(deploys, headers), seen(&pipeline)?, |name| values.get(name).cloned());
    page.holder = holder.map(|holder| seen(&holder)).transpose()?;
    Ok(page)
}

async fn start(
    State(deploys): State<Deploys>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Response {
    if let Err(refused) = web::own_form(&headers) {
        return refused;
    }
    let parameters = fields
        .iter()
        .filter_map(|(field, value)| Some((field.strip_prefix(PARAMETER)?.to_owned(), value.clone())))
        .collect::<BTreeMap<_, _>>();
    let (actor, reason) = (field(&fields, "actor"), field(&fields, "reason"));
    let request = api::StartDeploy {
        pipeline: name.clone(),
        parameters: parameters.clone(),
        actor: actor.clone(),
        reason: reason.clone(),
    };
    let refused = match deploys.start(request).await {
        Ok(id) => return web::see_other(&format!("/deploys/{id}")),
        Err(refused) => refused,
    };
    // The form again, with what was typed and why it was refused.
    let mut page = match form(&deploys, &headers, &name, &parameters).await {
        Ok(page) => page,
        Err(error) => return problem(&deploys, &headers, "There is no such pipeline", &error),
    };
    page.actor = actor.unwrap_or_default();
    page.reason = reason.unwrap_or_default();
    let wrong = refused.answer.field.clone().unwrap_or_default();
    match page.fields.iter_mut().find(|field| field.name == wrong) {
        Some(field) => field.error = Some(refused.answer.error.clone()),
        None => page.error = Some(refused.answer.error.clone()),
    }
    web::page(refused.status, &page)
}

async fn one(State(deploys): State<Deploys>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    match deploy_page(&deploys, &headers, &id) {
        Ok(page) => web::page(StatusCode::OK, &page),
        Err(error) => problem(&deploys, &headers, "There is no such deploy", &error),
    }
}

fn deploy_page(deploys: &Deploys, headers: &HeaderMap, id: &str) -> Result<DeployPage, Problem> {
    let events = deploys.slot(id)?.story().events.clone();
    let deploy = seen(&deploys.get(id)?)?;
    Ok(DeployPage { shell: shell(deploys, headers), deploy, events: seen(&events)?, refused: None })
}

async fn approve(
    State(deploys): State<Deploys>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Response {
    if let Err(refused) = web::own_form(&headers) {
        return refused;
    }
    let decided = deploys.approve(&id, decision(&fields)).await;
    answered(&deploys, &headers, &id, decided)
}

async fn abort(
    State(deploys): State<Deploys>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Response {
    if let Err(refused) = web::own_form(&headers) {
        return refused;
    }
    let decision = api::Decision { stage: None, ..decision(&fields) };
    let decided = deploys.abort(&id, decision).await;
    answered(&deploys, &headers, &id, decided)
}

async fn retry(State(deploys): State<Deploys>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Err(refused) = web::own_form(&headers) {
        return refused;
    }
    let decided = deploys.retry(&id).await;
    answered(&deploys, &headers, &id, decided)
}

/// Back to the deploy; a decision that came too late is told on it, with the status of the API.
fn answered(deploys: &Deploys, headers: &HeaderMap, id: &str, decided: Result<api::Deploy, Problem>) -> Response {
    let refused = match decided {
        Ok(deploy) => return web::see_other(&format!("/deploys/{}", deploy.id)),
        Err(refused) => refused,
    };
    match deploy_page(deploys, headers, id) {
        Ok(mut page) => {
            page.refused = Some(Refused { what: refused.answer.error.clone() });
            web::page(refused.status, &page)
        }
        Err(error) => problem(deploys, headers, "There is no such deploy", &error),
    }
}

fn decision(fields: &Fields) -> api::Decision {
    api::Decision { actor: field(fields, "actor"), reason: field(fields, "reason"), stage: field(fields, "stage") }
}

/// What was typed, if it was something.
fn field(fields: &Fields, name: &str) -> Option<String> {
    let value = fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.trim())?;
    (!value.is_empty()).then(|| value.to_owned())
}
