//! Makes one object: claimed by creating it, brought up to date by server-side apply.
//!
//! A claim fails where the name is taken, so nothing is ever merged into somebody else's object; an object
//! that this deploy made before it was interrupted is found by its owner and applied once more.

use serde_json::{Value, json};

use super::{Place, annotation, label, owner};
use crate::cluster::{MANAGER, trouble};
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
            let revision = found.pointer("/metadata/resourceVersion").filter(|_| is_untouched(&found));
            let applied = match (body.get_mut("metadata"), revision) {
                (Some(metadata), Some(revision)) => {
                    metadata["resourceVersion"] = revision.clone();
                    objects.apply_over(&kind, &object.name, &body).await
                }
                _ => objects.apply(&kind, &object.name, &body).await,
            };
            match applied {
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

/// Whether nobody but us has set anything besides metadata and status, which controllers write.
fn is_untouched(found: &Value) -> bool {
    let entries = found.pointer("/metadata/managedFields").and_then(Value::as_array);
    let is_foreign = |entry: &Value| {
        let fields = entry.get("fieldsV1").and_then(Value::as_object);
        let sets = fields.is_some_and(|fields| fields.keys().any(|key| key != "f:metadata" && key != "f:status"));
        sets && entry.get("manager").and_then(Value::as_str) != Some(MANAGER)
    };
    entries.is_some_and(|entries| !entries.iter().any(is_foreign))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_untouched_until_somebody_else_sets_what_it_is() {
        let check = |entries: Value, expected| {
            let found = json!({ "metadata": { "managedFields": entries } });
            assert_eq!(is_untouched(&found), expected, "{found}");
        };
        let ours = json!({ "manager": MANAGER, "operation": "Update", "fieldsV1": { "f:metadata": {}, "f:spec": {} } });
        let controller =
            json!({ "manager": "kube-controller-manager", "fieldsV1": { "f:metadata": {}, "f:status": {} } });
        let person = json!({ "manager": "kubectl-edit", "fieldsV1": { "f:spec": { "f:replicas": {} } } });
        check(json!([ours]), true);
        check(json!([ours, controller]), true);
        check(json!([ours, controller, person]), false);
        assert!(!is_untouched(&json!({ "metadata": {} })), "a server that tells nothing");
    }
}
