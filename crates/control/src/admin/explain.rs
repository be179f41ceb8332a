//! `/dtab/delegator.json`: explains a name under the dtab that is sent along. As in the original, the
//! stored dtab plays no part: a page's edits are tried before they are written. `/delegator.json`, as
//! routers have it: under the stored dtab of `namespace`, with what is sent along on top.

use axum::{
    extract::{Request, State},
    response::Response,
};

use super::Shared;
use crate::api;

pub(super) async fn answer(State(context): State<Shared>, request: Request) -> Response {
    api::explain_sent(&context.control, request).await
}

pub(super) async fn stored(State(context): State<Shared>, request: Request) -> Response {
    api::explain_stored(&context.control, request).await
}
