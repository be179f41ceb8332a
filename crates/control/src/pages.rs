//! The pages of the control plane.

use axum::Router;

use crate::Control;

/// Mounted on the admin server, behind its security. `control` has everything that pages show.
pub(crate) fn router(control: Control) -> Router {
    Router::new().with_state(control)
}
