//! `httpAccessLog` and its companions.

use std::path::PathBuf;

use serde_json::Value;

use super::part::{At, Problems, given};
use crate::access_log::stream_of;
use crate::settings::{AccessLog, Roll};

/// The four keys as they stand in the document.
pub(super) struct Keys<'a> {
    pub(super) path: Option<&'a Value>,
    pub(super) roll: Option<&'a Value>,
    pub(super) append: Option<&'a Value>,
    pub(super) keep: Option<&'a Value>,
}

const PATH: &str = "httpAccessLog";
const ROLL: &str = "httpAccessLogRollPolicy";
const APPEND: &str = "httpAccessLogAppend";
const KEEP: &str = "httpAccessLogRotateCount";

pub(super) fn read(keys: &Keys<'_>, at: &At, problems: &mut Problems) -> Option<AccessLog> {
    let wrong = |problems: &mut Problems, key, what: &str, value: &Value| {
        problems.add(&at.key(key), format!("expected {what}, not `{value}`"));
    };
    let mut roll = Roll::default();
    match given(keys.roll) {
        None => {}
        Some(Value::String(text)) => roll = problems.note(&at.key(ROLL), text.parse()).unwrap_or_default(),
        Some(other) => wrong(problems, ROLL, "a policy such as `daily`", other),
    }
    let mut append = true;
    match given(keys.append) {
        None => {}
        Some(Value::Bool(value)) => append = *value,
        Some(other) => wrong(problems, APPEND, "true or false", other),
    }
    let mut keep = None;
    match given(keys.keep) {
        None => {}
        Some(value) => match value.as_i64() {
            Some(-1) => {}
            Some(count @ 0..) => keep = usize::try_from(count).ok(),
            _ => wrong(problems, KEEP, "how many rolled files are kept, or -1 for all", value),
        },
    }
    let path = match given(keys.path) {
        Some(Value::String(path)) if !path.is_empty() => PathBuf::from(path),
        Some(other) => {
            wrong(problems, PATH, "the path of a file", other);
            return None;
        }
        None => {
            for (key, value) in [(ROLL, keys.roll), (APPEND, keys.append), (KEEP, keys.keep)] {
                if given(value).is_some() {
                    problems.add(&at.key(key), "means nothing without `httpAccessLog`");
                }
            }
            return None;
        }
    };
    if stream_of(&path).is_some() && roll != Roll::Never {
        problems.add(&at.key(ROLL), format!("`{}` cannot be set aside: leave the policy out", path.display()));
    }
    Some(AccessLog { path, roll, append, keep })
}
