//! The pages of the control plane: what its endpoints answer, and forms that write as they do.
//!
//! A write is compare-and-set against what its author saw, is waited for a few seconds, and answers with
//! a redirect; which routers serve it is shown, live, on the page it leads to.

mod forms;

use std::sync::Arc;

use admin::control::{DtabPage, Fleet, FleetPage, Lease, Namespace, NamespacesPage, Notice, Revision};
use admin::explain::{Asked, Choice, Entry, Explained, Node};
use admin::{Count, Links, MissingPage, Part, Shell, web};
use axum::Router;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use names::{Dtab, Path};
use naming::json;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use store::Version;

use crate::{
    Control,
    api::{lease_json, revision_json},
};

/// Revisions on a page; the endpoint has all.
const HISTORY: usize = 30;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Pages {
    control: Control,
    links: Links,
}

/// Mounted on the admin server, behind its security. `control` has everything that pages show.
pub(crate) fn router(control: Control, links: Links) -> Router {
    Router::new()
        .route("/", get(namespaces))
        .route("/fleet", get(fleet))
        .route("/new", get(forms::new).post(forms::create))
        .route("/dtab/{namespace}", get(dtab))
        .route("/dtab/{namespace}/explain", get(explain))
        .route("/dtab/{namespace}/edit", get(forms::edit).post(forms::write))
        .route("/dtab/{namespace}/undo", post(forms::undo))
        .with_state(Pages { control, links })
        .merge(admin::assets())
}

/// Why there is no page.
enum Trouble {
    NoNamespace(String),
    Store(store::Error),
    Shown(String),
}

impl From<store::Error> for Trouble {
    fn from(error: store::Error) -> Trouble {
        Trouble::Store(error)
    }
}

impl Pages {
    fn shell(&self, headers: &HeaderMap) -> Result<Shell, Trouble> {
        let behind = self.fleet()?.behind();
        let what = if behind == 1 { "router behind" } else { "routers behind" };
        let mut shell = Shell::new(Part::Control, "namerd", headers, self.links.clone());
        shell.count = (behind > 0).then(|| Count { number: behind, what: what.to_owned(), is_bad: false });
        Ok(shell)
    }

    fn fleet(&self) -> Result<Fleet, Trouble> {
        seen(self.control.fleet())
    }

    async fn leases(&self) -> Result<Vec<Lease>, Trouble> {
        self.control.leases().await?.iter().map(|lease| seen(lease_json(lease))).collect()
    }

    async fn leases_of(&self, namespace: &str) -> Result<Vec<Lease>, Trouble> {
        let mut leases = self.leases().await?;
        leases.retain(|lease| lease.namespace == namespace);
        Ok(leases)
    }

    /// Newest first, and whether there are more.
    async fn history(&self, namespace: &str, limit: usize) -> Result<(Vec<Arc<store::Revision>>, bool), Trouble> {
        let unknown = || Trouble::NoNamespace(namespace.to_owned());
        let mut history = self.control.history(namespace, limit + 1).await?.ok_or_else(unknown)?;
        let has_more = history.len() > limit;
        history.truncate(limit);
        Ok((history, has_more))
    }

    fn trouble(&self, headers: &HeaderMap, trouble: &Trouble) -> Response {
        let (status, title, what) = match trouble {
            Trouble::NoNamespace(name) => (
                StatusCode::NOT_FOUND,
                "There is no such namespace",
                format!("There never was a namespace {name}. The first page lists those that exist."),
            ),
            Trouble::Store(error) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "The store does not answer", causes::chain(error))
            }
            Trouble::Shown(why) => (StatusCode::INTERNAL_SERVER_ERROR, "This page cannot be shown", why.clone()),
        };
        let shell = Shell::new(Part::Control, "namerd", headers, self.links.clone());
        web::page(status, &MissingPage { shell, title: title.to_owned(), what })
    }

    async fn dtab_page(&self, headers: &HeaderMap, namespace: &str) -> Result<DtabPage, Trouble> {
        let (history, has_more) = self.history(namespace, HISTORY).await?;
        let asked = asked(namespace, &history, &ExplainQuery::default());
        Ok(DtabPage {
            shell: self.shell(headers)?,
            namespace: namespace.to_owned(),
            history: history.iter().map(|revision| shown(revision)).collect::<Result<_, _>>()?,
            has_more,
            fleet: self.fleet()?,
            leases: self.leases_of(namespace).await?,
            asked,
            is_explain: false,
            notice: None,
        })
    }

    /// The page with what a form could not do.
    async fn refused(&self, headers: &HeaderMap, namespace: &str, status: StatusCode, what: String) -> Response {
        match self.dtab_page(headers, namespace).await {
            Ok(mut page) => {
                page.notice = Some(Notice { what, is_bad: true });
                web::page(status, &page)
            }
            Err(trouble) => self.trouble(headers, &trouble),
        }
    }
}

/// What an endpoint answers, as a page reads it. The two are tested together.
fn seen<T: DeserializeOwned>(answer: serde_json::Value) -> Result<T, Trouble> {
    serde_json::from_value(answer).map_err(|error| Trouble::Shown(error.to_string()))
}

fn shown(revision: &store::Revision) -> Result<Revision, Trouble> {
    let mut shown = seen::<Revision>(revision_json(revision))?;
    shown.entries = entries(&revision.dtab);
    Ok(shown)
}

fn entries(dtab: &Dtab) -> Vec<Entry> {
    let entry = |dentry: &names::Dentry| Entry {
        prefix: dentry.prefix.to_string(),
        dst: dentry.dst.to_string(),
        exact: Some(dentry.dst.show_exact()),
    };
    dtab.entries().iter().map(entry).collect()
}

async fn namespaces(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    let page = async {
        let mut namespaces = Vec::new();
        for current in pages.control.namespaces() {
            let name = current.namespace.to_string();
            let (history, _) = pages.history(&name, 2).await?;
            let before = history.get(1).map(|before| shown(before)).transpose()?;
            namespaces.push(Namespace { name, current: shown(&current)?, before });
        }
        let store = pages.control.store_kind();
        Ok(NamespacesPage {
            shell: pages.shell(&headers)?,
            namespaces,
            fleet: pages.fleet()?,
            leases: pages.leases().await?,
            store: store.to_owned(),
            is_durable: store != "io.l5d.inMemory",
        })
    };
    match page.await {
        Ok(page) => web::page(StatusCode::OK, &page),
        Err(trouble) => pages.trouble(&headers, &trouble),
    }
}

async fn fleet(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    let page = pages.shell(&headers).and_then(|shell| Ok(FleetPage { shell, fleet: pages.fleet()? }));
    match page {
        Ok(page) => web::page(StatusCode::OK, &page),
        Err(trouble) => pages.trouble(&headers, &trouble),
    }
}

#[derive(Deserialize)]
struct DtabQuery {
    /// The version that a form of ours has just written.
    wrote: Option<String>,
}

async fn dtab(
    State(pages): State<Pages>,
    UrlPath(namespace): UrlPath<String>,
    Query(query): Query<DtabQuery>,
    headers: HeaderMap,
) -> Response {
    match pages.dtab_page(&headers, &namespace).await {
        Ok(mut page) => {
            let wrote = query.wrote.filter(|wrote| page.history.iter().any(|revision| revision.version == *wrote));
            page.notice = wrote.map(|version| Notice {
                what: format!(
                    "Version {version} is written. The line above says which routers serve it: each says so itself."
                ),
                is_bad: false,
            });
            web::page(StatusCode::OK, &page)
        }
        Err(trouble) => pages.trouble(&headers, &trouble),
    }
}

#[derive(Deserialize, Default)]
struct ExplainQuery {
    #[serde(default)]
    path: String,
    #[serde(default)]
    dtab: String,
    /// An earlier version; empty is now.
    #[serde(default)]
    at: String,
}

fn asked(namespace: &str, history: &[Arc<store::Revision>], query: &ExplainQuery) -> Asked {
    let segment = web::segment;
    let version = |revision: &Arc<store::Revision>| {
        let version = revision.version.to_string();
        let time = revision.time.strftime("%-d %b %H:%M:%S UTC");
        (version.clone(), format!("{version}, {time}"))
    };
    let now = (String::new(), "now".to_owned());
    let earlier = history.iter().skip(1).filter(|revision| revision.exists()).map(version);
    let mut endpoint = format!("/api/1/delegate/{}?path={}", segment(namespace), segment(&query.path));
    if !query.dtab.is_empty() {
        endpoint.push_str(&format!("&dtab={}", segment(&query.dtab)));
    }
    Asked {
        action: format!("/dtab/{}/explain", segment(namespace)),
        path: query.path.clone(),
        dtab: query.dtab.clone(),
        choice: Some(Choice {
            name: "at",
            label: "As it was at",
            values: std::iter::once(now).chain(earlier).collect(),
            chosen: query.at.clone(),
        }),
        // An earlier version is asked for by its text, for which there is no one address.
        endpoint: if query.path.is_empty() || !query.at.is_empty() { String::new() } else { endpoint },
        answer: None,
    }
}

async fn explain(
    State(pages): State<Pages>,
    UrlPath(namespace): UrlPath<String>,
    Query(query): Query<ExplainQuery>,
    headers: HeaderMap,
) -> Response {
    let page = async {
        let mut page = pages.dtab_page(&headers, &namespace).await?;
        let (history, _) = pages.history(&namespace, HISTORY).await?;
        page.asked = asked(&namespace, &history, &query);
        page.is_explain = true;
        let (dtab, at) = match Version::decode(&query.at).ok().flatten().filter(|_| !query.at.is_empty()) {
            None => (history.first().map(|current| current.dtab.clone()).unwrap_or_else(Dtab::empty), None),
            Some(version) => match pages.control.revision(&namespace, version).await? {
                Some(revision) => (revision.dtab.clone(), Some(revision)),
                None => (Dtab::empty(), None),
            },
        };
        if let Some(revision) = &at {
            // The table below shows what was evaluated, not what is now.
            page.history.insert(0, shown(revision)?);
        }
        if !query.path.is_empty() {
            let at = at.is_some().then_some(&dtab);
            let tree = explained(&pages.control, &namespace, at, &query).await;
            page.asked.answer = Some(tree.map(|(tree, local)| Explained::new(&tree, &entries(&dtab), &local)));
        }
        Ok(page)
    };
    match page.await {
        Ok(page) => web::page(StatusCode::OK, &page),
        Err(trouble) => pages.trouble(&headers, &trouble),
    }
}

/// The tree, under the stored dtab or the one of then, and the entries that were brought along.
async fn explained(
    control: &Control,
    namespace: &str,
    then: Option<&Dtab>,
    query: &ExplainQuery,
) -> Result<(Node, Vec<Entry>), String> {
    let path = Path::read(&query.path).map_err(|error| format!("{} is not a path: {error}", query.path))?;
    let local = Dtab::read(&query.dtab).map_err(|error| format!("{} is not a dtab: {error}", query.dtab))?;
    let (namespace, under) = match then {
        Some(then) => (None, then.concat(&local)),
        None => (Some(namespace), local.clone()),
    };
    let tree = control.explain(namespace, &under, &path).await.map_err(|error| error.to_string())?;
    let tree = serde_json::from_value(json::value(&json::explain(&tree))).map_err(|error| error.to_string())?;
    Ok((tree, entries(&local)))
}
