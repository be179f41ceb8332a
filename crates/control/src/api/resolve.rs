//! `bind`, `addr`, `resolve`, `bound-names`: names to trees and addresses, once or as a stream.

use std::sync::Arc;

use axum::{body::Body, http::StatusCode, response::Response};
use names::{Dtab, NameTree, Path};
use naming::{Addr, Bound, BoundTree, Interpreter, Live, State, json};

use super::{
    Call,
    answers::{self, JSON, answer, bad_request, text_error},
    body::parameters,
    query::Query,
    stream::stream,
    tree_watch::TreeWatch,
};
use crate::Control;

/// The tree of `path` under the namespace's dtab, with the request's on top.
pub(super) async fn bind(control: &Control, namespace: &str, call: &Call, body: Body) -> Response {
    let (query, dtab, path) = match asked(call, body).await {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    let space = control.space(namespace);
    let tree = space.interpreter.bind(&dtab, &path).keeping(space);
    give(control, &query, None, tree, |tree| Ok(json::text(&json::bound_tree(tree)))).await
}

/// The addresses of a bound id; the namespace says nothing.
pub(super) async fn addr(control: &Control, call: &Call, body: Body) -> Response {
    let query = match parameters(call, body).await {
        Ok(query) => query,
        Err(refused) => return refused,
    };
    let id = match query.path() {
        Ok(path) => without_transformers(&path),
        Err(text) => return bad_request(text),
    };
    let tree = control.inner.bare.bind(&Dtab::empty(), &id);
    give(control, &query, None, tree, move |tree| {
        let addr = match tree {
            NameTree::Leaf(bound) => bound.addr.get(),
            NameTree::Empty => State::Ok(Addr::Bound { endpoints: naming::Endpoints::default(), meta: Arc::default() }),
            NameTree::Neg => State::Ok(Addr::Neg),
            NameTree::Fail => return Err("name tree failed".into()),
            NameTree::Alt(_) | NameTree::Union(_) => return Err(format!("{id} is not a concrete bound id").into()),
        };
        Ok(json::text(&json::addr(&addr)))
    })
    .await
}

/// The addresses of one leaf of a name's tree.
pub(super) async fn resolve(control: &Control, namespace: &str, call: &Call, body: Body) -> Response {
    let (query, dtab, path) = match asked(call, body).await {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    let space = control.space(namespace);
    let tree = space.interpreter.bind(&dtab, &path).keeping(space);
    // Drawn again only when the tree has changed.
    let mut drawn: Option<(BoundTree, Option<Bound>)> = None;
    give(control, &query, Some(JSON), tree, move |tree| {
        if drawn.as_ref().is_none_or(|(old, _)| old != tree) {
            drawn = Some((tree.clone(), draw(tree)));
        }
        let leaf = drawn.as_ref().and_then(|(_, leaf)| leaf.as_ref());
        let addr = leaf.map_or(State::Ok(Addr::Neg), |leaf| leaf.addr.get());
        Ok(json::text(&json::addr(&addr)))
    })
    .await
}

/// Ids that namers can list. Where there are none this is `[]`; the original's `[""]` names nothing.
pub(super) fn bound_names(control: &Control, call: &Call) -> Response {
    let mut names = control.inner.bound_names.clone();
    let show = |state: State<Arc<[Path]>>| {
        let names: Vec<String> = state.ok().iter().flat_map(|names| names.iter()).map(Path::show).collect();
        serde_json::json!(names).to_string()
    };
    if !call.query.flag("watch") {
        return answers::json(show(names.take()) + "\n");
    }
    stream(control, Some(JSON), async move |mut lines| {
        loop {
            lines.update(show(names.take())).await?;
            names.next_change().await;
        }
    })
}

/// Query, extra dtab and name of a request.
async fn asked(call: &Call, body: Body) -> Result<(Query, Dtab, Path), Response> {
    let query = parameters(call, body).await?;
    let path = query.path().map_err(bad_request)?;
    let dtab = query.dtab().map_err(bad_request)?;
    Ok((query, dtab, path))
}

/// Gives a tree as `show` renders it, as soon as it is known; with `watch`, each time it changes.
async fn give(
    control: &Control,
    query: &Query,
    content_type: Option<&'static str>,
    tree: Live<BoundTree>,
    mut show: impl FnMut(&BoundTree) -> Result<String, Arc<str>> + Send + 'static,
) -> Response {
    let mut watch = TreeWatch::new(tree);
    if !query.flag("watch") {
        return match watch.settled().await.and_then(|tree| show(&tree)) {
            Ok(text) => answer(StatusCode::OK, content_type, text + "\n"),
            Err(why) => text_error(StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")),
        };
    }
    stream(control, content_type, async move |mut lines| {
        loop {
            match watch.settled().await.and_then(|tree| show(&tree)) {
                Ok(text) => lines.update(text).await?,
                // The original's way to say it: the status is long gone.
                Err(why) => return lines.write(&why).await,
            }
            watch.changed().await;
        }
    })
}

/// An id without what transformers put before it: from its first `#` or `$` on.
fn without_transformers(path: &Path) -> Path {
    let first = path.labels().first();
    if first.is_none_or(|label| &**label != b"%") {
        return path.clone();
    }
    let start = path.labels().iter().position(|label| matches!(&**label, b"#" | b"$"));
    path.drop_first(start.unwrap_or(path.len()))
}

/// A leaf: of alternates the first that has one, of a union one drawn by weight.
fn draw(tree: &BoundTree) -> Option<Bound> {
    match tree {
        NameTree::Leaf(bound) => Some(bound.clone()),
        NameTree::Alt(trees) => trees.iter().find_map(draw),
        NameTree::Union(branches) => {
            let total: f64 = branches.iter().map(|branch| branch.weight).sum();
            let mut at = fastrand::f64() * total;
            let drawn = branches.iter().find(|branch| {
                at -= branch.weight;
                at < 0.0
            });
            draw(&drawn.or(branches.last())?.tree)
        }
        NameTree::Neg | NameTree::Fail | NameTree::Empty => None,
    }
}
