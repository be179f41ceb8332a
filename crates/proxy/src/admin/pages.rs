//! The router's pages: its overview, why a request went where it went, how a name is bound.
//!
//! They are made of what the endpoints answer, so whatever a page shows, curl shows.

use ::admin::explain::{Asked, Choice, Entry, ExplainPage, Explained, Node};
use ::admin::router::{OverviewPage, RequestPage};
use ::admin::{Links, MissingPage, Part, Shell, web};
use axum::Router;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use names::{Dtab, Path};
use naming::State as Known;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::overview::Columns;
use super::{Context, RouterSource, Shared, delegator, overview, requests};

/// More are in the endpoint.
const REQUESTS: usize = 100;
/// Services of a router on its page; more are in the endpoint.
const SERVICES: usize = 200;
/// With more routers than this in one process, only the chosen one has its ten minutes.
const SPARKS: usize = 40;

/// All pages and their files.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/", get(overview_page))
        .route("/requests/{id}", get(request_page))
        .route("/delegator", get(explain_page))
        .merge(::admin::assets())
}

fn shell(context: &Context, headers: &HeaderMap) -> Shell {
    // The document was read when the process began: what is not there was refused or left out.
    let links = serde_json::from_value::<Option<Links>>(context.sources.config["admin"]["links"].clone());
    Shell::new(Part::Router, "router", headers, links.ok().flatten().unwrap_or_default())
}

fn missing(context: &Context, headers: &HeaderMap, title: &str, what: &str) -> Response {
    let shell = shell(context, headers);
    web::page(StatusCode::NOT_FOUND, &MissingPage { shell, title: title.to_owned(), what: what.to_owned() })
}

/// What an endpoint answers, as a page reads it. The two are tested together.
fn seen<T: DeserializeOwned>(answer: Value) -> Result<T, String> {
    serde_json::from_value(answer).map_err(|error| format!("a page cannot show this: {error}"))
}

#[derive(Deserialize)]
struct OverviewQuery {
    router: Option<String>,
    filter: Option<String>,
}

async fn overview_page(
    State(context): State<Shared>,
    Query(query): Query<OverviewQuery>,
    headers: HeaderMap,
) -> Response {
    let first = context.sources.routers.first().map(|router| router.label.clone()).unwrap_or_default();
    let chosen = query.router.unwrap_or(first);
    if context.router(&chosen).is_none() {
        return missing(&context, &headers, "There is no such router", &format!("No router is called {chosen}."));
    }
    let known = ["failed", "overridden", "slow"];
    let filter = query.filter.filter(|filter| known.contains(&filter.as_str()));
    let has_sparks = context.sources.routers.len() <= SPARKS;
    let columns = |label: &str| match (label == chosen, has_sparks) {
        (true, _) => Columns::All,
        (false, true) => Columns::Servers,
        (false, false) => Columns::None,
    };
    let overview = seen(overview::document(&context, None, SERVICES, columns));
    let requests = seen(requests::recent(&context, &chosen, filter.as_deref(), REQUESTS));
    match overview.and_then(|overview| Ok((overview, requests?))) {
        Ok((overview, requests)) => {
            let filter = filter.unwrap_or_default();
            let page = OverviewPage { shell: shell(&context, &headers), overview, chosen, requests, filter };
            web::page(StatusCode::OK, &page)
        }
        Err(why) => broken(&context, &headers, &why),
    }
}

fn broken(context: &Context, headers: &HeaderMap, why: &str) -> Response {
    tracing::error!(why, "a page cannot show what its endpoint answers");
    let title = "This page cannot be shown".to_owned();
    let page = MissingPage { shell: shell(context, headers), title, what: why.to_owned() };
    web::page(StatusCode::INTERNAL_SERVER_ERROR, &page)
}

async fn request_page(State(context): State<Shared>, UrlPath(id): UrlPath<String>, headers: HeaderMap) -> Response {
    let Some(mut why) = requests::why_document(&context, &id).await else {
        let what = "Only a sample of the last requests is remembered; this one is forgotten, or never was.";
        return missing(&context, &headers, "There is no such request", what);
    };
    let explained = match why["explained"].take() {
        Value::Null => Err(why["explainError"].as_str().unwrap_or("its name was not explained").to_owned()),
        tree => seen::<Node>(tree),
    };
    let version_now = why["dtabVersionNow"].as_str().map(str::to_owned);
    let request = match seen::<::admin::router::Request>(why) {
        Ok(request) => request,
        Err(why) => return broken(&context, &headers, &why),
    };
    let namespace = context.router(&request.router).and_then(namespace);
    let overrides = Dtab::read(&request.local_dtab).map(|dtab| entries(&dtab)).unwrap_or_default();
    let shell = shell(&context, &headers);
    let page = RequestPage { shell, request, version_now, namespace, explained, overrides };
    web::page(StatusCode::OK, &page)
}

#[derive(Deserialize)]
struct ExplainQuery {
    #[serde(default)]
    router: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    dtab: String,
}

async fn explain_page(
    State(context): State<Shared>,
    Query(query): Query<ExplainQuery>,
    headers: HeaderMap,
) -> Response {
    let first = context.sources.routers.first().map(|router| router.label.clone()).unwrap_or_default();
    let label = if context.router(&query.router).is_some() { query.router } else { first };
    let answer = match (context.router(&label), query.path.is_empty()) {
        (Some(router), false) => Some(explained(router, &query.path, &query.dtab).await),
        _ => None,
    };
    let segment = web::segment;
    let mut endpoint = format!("/delegator.json?namespace={}&path={}", segment(&label), segment(&query.path));
    if let Some((under, _)) = answer.as_ref().filter(|(under, _)| !under.is_empty()) {
        endpoint.push_str(&format!("&dtab={}", segment(&under.show_exact())));
    }
    let values = context.sources.routers.iter().map(|router| (router.label.clone(), router.label.clone()));
    let asked = Asked {
        action: "/delegator".to_owned(),
        endpoint: if answer.is_some() { endpoint } else { String::new() },
        path: query.path,
        dtab: query.dtab,
        choice: Some(Choice { name: "router", label: "Router", values: values.collect(), chosen: label.clone() }),
        answer: answer.map(|(_, answer)| answer),
    };
    let crumbs = vec![("Routers".to_owned(), "/".to_owned()), (label.clone(), format!("/?router={}", segment(&label)))];
    web::page(StatusCode::OK, &ExplainPage { shell: shell(&context, &headers), crumbs, asked })
}

/// As a request that brings `dtab` would be bound, and under which dtab that is.
async fn explained(router: &RouterSource, path: &str, dtab: &str) -> (Dtab, Result<Explained, String>) {
    let read = || {
        let path = Path::read(path).map_err(|error| format!("{path} is not a path: {error}"))?;
        let own = Dtab::read(dtab).map_err(|error| format!("{dtab} is not a dtab: {error}"))?;
        Ok((path, own))
    };
    let (path, own) = match read() {
        Ok(read) => read,
        Err(why) => return (Dtab::empty(), Err(why)),
    };
    let under = router.dtab.concat(&own);
    let tree = delegator::explain(&*router.interpreter, &under, &path).await.and_then(seen);
    let explained = tree.map(|tree| Explained::new(&tree, &entries(&router.dtab), &entries(&own)));
    (under, explained)
}

fn entries(dtab: &Dtab) -> Vec<Entry> {
    let entry = |dentry: &names::Dentry| Entry {
        prefix: dentry.prefix.to_string(),
        dst: dentry.dst.to_string(),
        exact: Some(dentry.dst.show_exact()),
    };
    dtab.entries().iter().map(entry).collect()
}

fn namespace(router: &RouterSource) -> Option<String> {
    match router.interpreter.served().get() {
        Known::Ok(served) => served.namespace.map(|namespace| namespace.to_string()),
        Known::Pending | Known::Failed(_) => None,
    }
}
