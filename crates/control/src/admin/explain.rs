//! `/dtab/delegator.json`: explains a name under the dtab that is sent along. As in the original, the
//! stored dtab plays no part: a page's edits are tried before they are written.

use axum::{
    extract::{Request, State},
    response::Response,
};

use super::Shared;
use crate::api;

pub(super) async fn answer(State(context): State<Shared>, request: Request) -> Response {
    api::explain_sent(&context.control, request).await
}
