//! A DTab object and the revision that it is.
//!
//! ```yaml
//! apiVersion: l5d.io/v1alpha1
//! kind: DTab
//! metadata:
//!   name: internal
//!   annotations:
//!     l5d.io/revision: '{"author":"alice","time":…,"action":"update","dtab":"/svc=>/host"}'
//!     l5d.io/history: '[{"version":41,…},…]'
//! dentries: [{prefix: /svc, dst: /host}]
//! ```
//!
//! The annotations say who wrote what is there and what was there before. Where the entries are not
//! those of the annotation somebody else has written since (`kubectl edit`, an old Namerd): then the
//! API server's own record of field managers tells the author and the time.

use std::sync::Arc;

use jiff::Timestamp;
use kube::core::DynamicObject;
use names::{Dentry, Dtab, NameTree, Path, Prefix};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Action, Revision, Version, revision::to_millis};

pub(super) const GROUP_VERSION: &str = "l5d.io/v1alpha1";
pub(super) const KIND: &str = "DTab";
/// Who writes, for the API server.
pub(super) const MANAGER: &str = "switchyard";
const REVISION: &str = "l5d.io/revision";
const HISTORY: &str = "l5d.io/history";
/// For `kubectl get dtabs`.
const AUTHOR: &str = "l5d.io/author";
/// All annotations of an object may be 256 KiB.
const MOST_HISTORY_BYTES: usize = 96 * 1024;
const MOST_HISTORY: usize = 50;

/// A revision as an annotation holds it.
#[derive(Clone, Serialize, Deserialize)]
struct Noted {
    /// Only in the history: an object cannot know its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    author: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    /// Milliseconds since 1970.
    time: i64,
    action: String,
    dtab: String,
}

impl Noted {
    fn of(revision: &Revision) -> Noted {
        Noted {
            version: Some(revision.version.number()),
            author: revision.author.to_string(),
            comment: revision.comment.as_ref().map(ToString::to_string),
            time: revision.time.as_millisecond(),
            action: revision.action.to_string(),
            dtab: revision.dtab.show_exact(),
        }
    }

    fn revision(&self, namespace: &str, version: Version) -> Option<Revision> {
        Some(Revision {
            namespace: namespace.into(),
            version,
            time: Timestamp::from_millisecond(self.time).ok()?,
            author: self.author.as_str().into(),
            comment: self.comment.as_deref().map(Arc::from),
            action: self.action.parse().ok()?,
            dtab: Dtab::read(&self.dtab).ok()?,
        })
    }
}

pub(super) fn name(object: &DynamicObject) -> &str {
    object.metadata.name.as_deref().unwrap_or_default()
}

/// The resource version, which every write makes larger.
pub(super) fn version(object: &DynamicObject) -> Option<Version> {
    version_of(object.metadata.resource_version.as_deref()?)
}

pub(super) fn version_of(text: &str) -> Option<Version> {
    text.parse().ok().map(Version::from_number)
}

/// What the object is now; the error says what is wrong with it.
pub(super) fn revision(object: &DynamicObject) -> Result<Revision, String> {
    let version = version(object).ok_or("its resourceVersion is no number")?;
    let dtab = entries(object.data.get("dentries").unwrap_or(&Value::Null))?;
    let noted = annotation::<Noted>(object, REVISION).and_then(|noted| noted.revision(name(object), version));
    if let Some(revision) = noted.filter(|revision| revision.dtab == dtab) {
        return Ok(revision);
    }
    let managers = object.metadata.managed_fields.iter().flatten();
    // What we write carries its annotation; this is another's.
    let managers = managers.filter(|manager| manager.manager.as_deref() != Some(MANAGER));
    let last = managers.filter_map(|manager| Some((manager.time.as_ref()?.0, manager.manager.clone()))).max();
    let created = object.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let (time, author) = last.map_or((created, None), |(time, author)| (Some(time), author));
    let time = time.and_then(|time| Timestamp::from_millisecond(time.as_millisecond()).ok());
    let is_new = object.metadata.generation == Some(1);
    Ok(Revision {
        namespace: name(object).into(),
        version,
        time: to_millis(time.unwrap_or(Timestamp::UNIX_EPOCH)),
        author: author.as_deref().unwrap_or("-").into(),
        comment: None,
        action: if is_new { Action::Create } else { Action::Update },
        dtab,
    })
}

/// The revisions before, as far as the object remembers, newest first.
pub(super) fn history(object: &DynamicObject) -> Vec<Revision> {
    let noted = annotation::<Vec<Noted>>(object, HISTORY).unwrap_or_default();
    let revision = |noted: Noted| noted.revision(name(object), Version::from_number(noted.version?));
    noted.into_iter().filter_map(revision).collect()
}

fn annotation<T: serde::de::DeserializeOwned>(object: &DynamicObject, key: &str) -> Option<T> {
    serde_json::from_str(object.metadata.annotations.as_ref()?.get(key)?).ok()
}

fn entries(dentries: &Value) -> Result<Dtab, String> {
    if dentries.is_null() {
        return Ok(Dtab::empty());
    }
    let list = dentries.as_array().ok_or("dentries is no list")?;
    let entry = |(number, entry): (usize, &Value)| {
        let text = |key: &str| {
            entry.get(key).and_then(Value::as_str).ok_or_else(|| format!("dentries[{number}] has no text {key}"))
        };
        let (prefix, dst) = (text("prefix")?, text("dst")?);
        let at =
            |key: &str, given: &str, why: &dyn std::fmt::Display| format!("dentries[{number}].{key} `{given}`: {why}");
        Ok(Dentry {
            prefix: Prefix::read(prefix).map_err(|error| at("prefix", prefix, &error))?,
            dst: NameTree::<Path>::read(dst).map_err(|error| at("dst", dst, &error))?,
        })
    };
    Ok(Dtab::new(list.iter().enumerate().map(entry).collect::<Result<_, String>>()?))
}

/// The object that a revision is written as. `live` is what is there now: what is not ours in it stays.
/// `before` are the revisions before, newest first.
pub(super) fn written(
    live: Option<DynamicObject>,
    revision: &Revision,
    before: &[Arc<Revision>],
) -> Result<DynamicObject, serde_json::Error> {
    let mut object = live.unwrap_or_else(|| DynamicObject {
        types: Some(kube::core::TypeMeta { api_version: GROUP_VERSION.to_owned(), kind: KIND.to_owned() }),
        metadata: kube::core::ObjectMeta { name: Some(revision.namespace.to_string()), ..Default::default() },
        data: json!({}),
    });
    let dentries: Vec<Value> = revision
        .dtab
        .entries()
        .iter()
        .map(|entry| json!({ "prefix": entry.prefix.to_string(), "dst": entry.dst.show_exact() }))
        .collect();
    match object.data.as_object_mut() {
        Some(data) => data.insert("dentries".to_owned(), dentries.into()),
        None => {
            object.data = json!({ "dentries": dentries });
            None
        }
    };
    let annotations = object.metadata.annotations.get_or_insert_default();
    let noted = Noted { version: None, ..Noted::of(revision) };
    annotations.insert(REVISION.to_owned(), serde_json::to_string(&noted)?);
    annotations.insert(AUTHOR.to_owned(), revision.author.to_string());
    let mut bytes = 0;
    let mut history = Vec::new();
    for noted in before.iter().take(MOST_HISTORY).map(|revision| Noted::of(revision)) {
        bytes += serde_json::to_string(&noted)?.len();
        if bytes > MOST_HISTORY_BYTES {
            break;
        }
        history.push(noted);
    }
    annotations.insert(HISTORY.to_owned(), serde_json::to_string(&history)?);
    Ok(object)
}
