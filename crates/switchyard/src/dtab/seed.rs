//! What the tutorial's `namerctl` job does: creates the namespaces that are not there yet.

use super::remote::{Body, ControlPlane, DTAB, Note, Weights};
use crate::exit::{Exit, Failure};

/// Creates each namespace unless it exists; the names of those created.
pub async fn seed(base: &str, namespaces: &[(&str, &str)]) -> anyhow::Result<Vec<String>> {
    let control_plane = ControlPlane::new(base.parse()?, &crate::web::Trust::default())?;
    let note =
        Note { author: Some("demo".to_owned()), comment: Some("the tutorial's first dtab".to_owned()), wait: None };
    let mut created = Vec::new();
    for (namespace, dtab) in namespaces {
        let body = Body { content_type: DTAB, text: (*dtab).to_owned() };
        match control_plane.create(namespace, body, &note).await {
            Ok(_) => created.push((*namespace).to_owned()),
            Err(error) if is_conflict(&error) => {
                control_plane.get(namespace, Weights::Exact).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(created)
}

fn is_conflict(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| failure.exit == Exit::Conflict)
}
