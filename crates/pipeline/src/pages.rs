//! The pages of the pipeline server, beside its API.

use axum::Router;

use crate::deploys::Deploys;

/// Routes of all pages; they ask and order through the same handle as the API.
pub(crate) fn pages(deploys: Deploys) -> Router {
    Router::new().with_state(deploys)
}
