//! What the pages write: an edit, a new namespace, an earlier version put back.

use std::sync::Arc;
use std::time::Duration;

use admin::control::{Checked, EditPage};
use admin::diff::Diff;
use admin::web;
use axum::extract::{Form, Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use names::Dtab;
use serde::Deserialize;
use store::{Change, Error, Note, Revision, Version};

use super::{Pages, Trouble, entries};
use crate::Control;

/// How long a form waits for the fleet before the page shows how far it is.
const WAIT: Duration = Duration::from_secs(5);

/// What an edit sends.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Draft {
    namespace: String,
    base: String,
    draft: String,
    author: String,
    comment: String,
    step: String,
}

/// What "Put back" sends.
#[derive(Deserialize)]
pub(super) struct Undo {
    to: String,
    base: String,
    #[serde(default)]
    author: String,
}

pub(super) async fn new(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    match page(&pages, &headers, None, &Draft::default()) {
        Ok(page) => web::page(StatusCode::OK, &page),
        Err(trouble) => pages.trouble(&headers, &trouble),
    }
}

pub(super) async fn edit(
    State(pages): State<Pages>,
    UrlPath(namespace): UrlPath<String>,
    headers: HeaderMap,
) -> Response {
    let made = async {
        let (history, _) = pages.history(&namespace, 1).await?;
        let current = history.first().ok_or_else(|| Trouble::NoNamespace(namespace.clone()))?;
        let draft = Draft { base: base(current), draft: lines(&current.dtab), ..Draft::default() };
        page(&pages, &headers, Some(&namespace), &draft)
    };
    match made.await {
        Ok(page) => web::page(StatusCode::OK, &page),
        Err(trouble) => pages.trouble(&headers, &trouble),
    }
}

/// The version that a write replaces; nothing of a namespace that is deleted.
fn base(revision: &Revision) -> String {
    if revision.exists() { revision.version.to_string() } else { String::new() }
}

/// An entry a line, with every digit of its weights.
fn lines(dtab: &Dtab) -> String {
    let line = |entry: &names::Dentry| {
        let destination = admin::format::destination(&entry.dst.show_exact());
        format!("{} => {destination} ;\n", entry.prefix)
    };
    dtab.entries().iter().map(line).collect()
}

fn page(pages: &Pages, headers: &HeaderMap, namespace: Option<&str>, draft: &Draft) -> Result<EditPage, Trouble> {
    Ok(EditPage {
        shell: pages.shell(headers)?,
        namespace: namespace.unwrap_or(&draft.namespace).to_owned(),
        is_new: namespace.is_none(),
        base: draft.base.clone(),
        draft: draft.draft.replace("\r\n", "\n"),
        author: draft.author.clone(),
        comment: draft.comment.clone(),
        error: None,
        checked: None,
        overtaken: None,
    })
}

pub(super) async fn create(State(pages): State<Pages>, headers: HeaderMap, Form(draft): Form<Draft>) -> Response {
    if let Err(refused) = web::own_form(&headers) {
        return refused;
    }
    let name = draft.namespace.trim().to_owned();
    answer(&pages, &headers, None, &name, &draft).await.unwrap_or_else(|trouble| pages.trouble(&headers, &trouble))
}

pub(super) async fn write(
    State(pages): State<Pages>,
    UrlPath(namespace): UrlPath<String>,
    headers: HeaderMap,
    Form(draft): Form<Draft>,
) -> Response {
    if let Err(refused) = web::own_form(&headers) {
        return refused;
    }
    let answered = answer(&pages, &headers, Some(&namespace), &namespace, &draft).await;
    answered.unwrap_or_else(|trouble| pages.trouble(&headers, &trouble))
}

/// Shows what a draft would do, or does it. `existing` is the namespace that is edited.
async fn answer(
    pages: &Pages,
    headers: &HeaderMap,
    existing: Option<&str>,
    name: &str,
    draft: &Draft,
) -> Result<Response, Trouble> {
    let mut page = page(pages, headers, existing, draft)?;
    if name.is_empty() {
        page.error = Some("A namespace needs a name.".to_owned());
        return Ok(web::page(StatusCode::BAD_REQUEST, &page));
    }
    let dtab = match Dtab::read(&draft.draft) {
        Ok(dtab) => dtab,
        Err(error) => {
            page.error = Some(format!("This is not a dtab: {error}"));
            return Ok(web::page(StatusCode::BAD_REQUEST, &page));
        }
    };
    let current = pages.control.current(name);
    let before = current.as_ref().map(|current| entries(&current.dtab)).unwrap_or_default();
    let diff = Diff::of(&before, &entries(&dtab));
    let touched = diff.prefixes().map(str::to_owned).collect::<Vec<_>>();
    let mut leases = pages.leases_of(name).await?;
    leases.retain(|lease| touched.contains(&lease.entry));
    page.checked = Some(Checked { diff: diff.boxed(), leases });
    if draft.step != "write" {
        return Ok(web::page(StatusCode::OK, &page));
    }
    let change = match (existing, draft.base.is_empty()) {
        (Some(_), false) => Change::Update(dtab, versions(&draft.base)),
        _ => Change::Create(dtab),
    };
    let refused = match pages.control.write(name, change, note(&draft.author, &draft.comment)).await {
        Ok(revision) => return Ok(written(&pages.control, &revision).await),
        Err(refused) => refused,
    };
    match refused {
        Error::VersionMismatch | Error::DoesNotExist(_) | Error::AlreadyExists(_) if existing.is_some() => {
            overtaken(pages, name, draft, &mut page).await?;
            Ok(web::page(StatusCode::CONFLICT, &page))
        }
        Error::AlreadyExists(_) => {
            page.error = Some(format!("There is a namespace {name} already: edit that one."));
            Ok(web::page(StatusCode::CONFLICT, &page))
        }
        other => {
            page.error = Some(causes::chain(&other));
            Ok(web::page(StatusCode::INTERNAL_SERVER_ERROR, &page))
        }
    }
}

/// Somebody wrote between the look and the write: shows what, and lets the draft begin from there.
async fn overtaken(pages: &Pages, name: &str, draft: &Draft, page: &mut EditPage) -> Result<(), Trouble> {
    let (history, _) = pages.history(name, 1).await?;
    let Some(now) = history.first() else { return Ok(()) };
    let seen = match versions(&draft.base).first() {
        Some(version) => pages.control.revision(name, *version).await?,
        None => None,
    };
    let before = seen.map(|seen| entries(&seen.dtab)).unwrap_or_default();
    let after = if now.exists() { entries(&now.dtab) } else { Vec::new() };
    page.overtaken = Some((format!("version {} by {}", now.version, now.author), Diff::of(&before, &after)));
    page.base = base(now);
    Ok(())
}

/// An earlier version's text as a new version.
pub(super) async fn undo(
    State(pages): State<Pages>,
    UrlPath(namespace): UrlPath<String>,
    headers: HeaderMap,
    Form(undo): Form<Undo>,
) -> Response {
    if let Err(refused) = web::own_form(&headers) {
        return refused;
    }
    let revision = match versions(&undo.to).first() {
        Some(version) => pages.control.revision(&namespace, *version).await,
        None => Ok(None),
    };
    let revision = match revision {
        Ok(Some(revision)) if revision.exists() => revision,
        Ok(_) => {
            let what = format!("There is no version {} to put back.", undo.to);
            return pages.refused(&headers, &namespace, StatusCode::NOT_FOUND, what).await;
        }
        Err(error) => return pages.trouble(&headers, &error.into()),
    };
    let change = match pages.control.current(&namespace) {
        Some(_) => Change::Update(revision.dtab.clone(), versions(&undo.base)),
        None => Change::Create(revision.dtab.clone()),
    };
    let comment = format!("put back version {}", revision.version);
    match pages.control.write(&namespace, change, note(&undo.author, &comment)).await {
        Ok(revision) => written(&pages.control, &revision).await,
        Err(Error::VersionMismatch | Error::AlreadyExists(_) | Error::DoesNotExist(_)) => {
            let what = "Somebody else wrote meanwhile, so nothing was put back. The history shows what; look again.";
            pages.refused(&headers, &namespace, StatusCode::CONFLICT, what.to_owned()).await
        }
        Err(error) => pages.trouble(&headers, &error.into()),
    }
}

fn versions(text: &str) -> Vec<Version> {
    Version::decode(text).ok().flatten().into_iter().collect()
}

fn note(author: &str, comment: &str) -> Note {
    let said = |text: &str| Some(text.trim()).filter(|text| !text.is_empty()).map(Arc::<str>::from);
    Note { author: said(author).unwrap_or_else(|| "-".into()), comment: said(comment), time: jiff::Timestamp::now() }
}

/// Waits a little for the fleet; the page tells who is behind, whichever way the wait ended.
async fn written(control: &Control, revision: &Revision) -> Response {
    if let Err(laggards) = control.inner.fleet.wait(&revision.namespace, revision.version, WAIT).await {
        tracing::info!(namespace = %revision.namespace, version = %revision.version, behind = laggards.len(), "not everywhere yet");
    }
    let namespace = web::segment(&revision.namespace);
    web::see_other(&format!("/dtab/{namespace}?wrote={}", web::segment(&revision.version.to_string())))
}
