//! Makes one object: claimed by creating it, brought up to date by server-side apply.
//!
//! A claim fails where the name is taken, so nothing is ever merged into somebody else's object; an object
//! that this deploy made before it was interrupted is found by its owner and applied once more.

use serde_json::{Value, json};

use super::{Place, annotation, label, owner};
use crate::cluster::trouble;
use crate::control::Trouble;
use crate::manifests::{MANAGED_BY, OWNER, Object, SWITCHYARD, VERSION};

pub(super) async fn apply(place: &Place<'_>, version: &str, object: &Object) -> Result<(), String> {
    let kind = place.known(&object.gvk).await?;
    let objects = &place.objects;
    let passing = |error: kubernetes::Error| trouble(&error);
    place
        .patience
        .ask(async || {
            let found = match objects.get(&kind, &object.name).await.map_err(passing)? {
                Some(found) => found,
                None => match objects.create(&kind, &object.body).await {
                    Ok(made) => made,
                    // Somebody was quicker: look whose it is.
                    Err(error) if error.code() == Some(409) => return Err(Trouble::Passing(error.to_string())),
                    Err(error) => return Err(of(object, &error)),
                },
            };
            own(place, version, object, &found)?;
            let mut body = object.body.clone();
            // Not another object that took its name in the meantime.
            if let (Some(metadata), Some(uid)) = (body.get_mut("metadata"), found.pointer("/metadata/uid")) {
                metadata["uid"] = json!(uid);
            }
            match objects.apply(&kind, &object.name, &body).await {
                Ok(_) => Ok(()),
                Err(error) if error.code() == Some(409) && error.to_string().contains("conflict with") => {
                    Err(Trouble::Lasting(format!(
                        "{} {}: somebody else changed what the manifest says: {error}",
                        object.gvk.kind, object.name
                    )))
                }
                Err(error) if error.code() == Some(409) => Err(Trouble::Passing(error.to_string())),
                Err(error) => Err(of(object, &error)),
            }
        })
        .await
}

/// The same trouble, with the object's name.
fn of(object: &Object, error: &kubernetes::Error) -> Trouble {
    let named = |text: String| format!("{} {}: {text}", object.gvk.kind, object.name);
    match trouble(error) {
        Trouble::Passing(text) => Trouble::Passing(named(text)),
        Trouble::Lasting(text) => Trouble::Lasting(named(text)),
    }
}

fn own(place: &Place<'_>, version: &str, object: &Object, found: &Value) -> Result<(), Trouble> {
    let is_ours = label(found, MANAGED_BY) == Some(SWITCHYARD)
        && label(found, VERSION) == Some(version)
        && annotation(found, OWNER) == Some(&place.job.owner());
    let named = format!("{} {} in namespace {}", object.gvk.kind, object.name, place.namespace());
    if !is_ours {
        return Err(Trouble::Lasting(format!(
            "{named} is there already and not this deploy's ({}): it was left as it is. Take it away, or give it another name",
            owner(found)
        )));
    }
    match found.pointer("/metadata/deletionTimestamp") {
        Some(_) => Err(Trouble::Passing(format!("{named} is being deleted"))),
        None => Ok(()),
    }
}
