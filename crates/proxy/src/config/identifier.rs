//! `identifier`: one, or a list that is tried in order.

use names::Path;
use serde::Deserialize;
use serde_json::Value;

use super::part::{At, Plugin, Problems};
use crate::settings::{Identifier, Ruled};

const IDENTIFIER: Plugin = Plugin {
    what: "identifier",
    default: None,
    built: &[
        "io.l5d.header.token",
        "io.l5d.header",
        "io.l5d.methodAndHost",
        "io.l5d.path",
        "io.l5d.static",
        "io.l5d.ingress",
    ],
    not_built: &["io.l5d.k8s.istio", "io.l5d.k8s.istio-ingress"],
};

const MOST: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderKeys {
    header: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct MethodAndHostKeys {
    http_uri_in_dst: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PathKeys {
    segments: Option<u64>,
    consume: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StaticKeys {
    path: String,
}

pub(super) fn read(value: &Value, at: &At, problems: &mut Problems) -> Vec<Identifier> {
    match value {
        Value::Array(list) if list.is_empty() => {
            problems.add(at, "an empty list identifies nothing: leave the key out for `io.l5d.header.token`");
            Vec::new()
        }
        // The binding cache's keys have one byte for the identifier.
        Value::Array(list) if list.len() > MOST => {
            problems.add(at, format!("{} of them: there may be {MOST}", list.len()));
            Vec::new()
        }
        Value::Array(list) => {
            list.iter().enumerate().filter_map(|(number, value)| one(value, &at.nth(number), problems)).collect()
        }
        value => one(value, at, problems).into_iter().collect(),
    }
}

fn one(value: &Value, at: &At, problems: &mut Problems) -> Option<Identifier> {
    let (kind, rest) = problems.kind(at, value, &IDENTIFIER)?;
    Some(match kind.as_str() {
        "io.l5d.header.token" => Identifier::HeaderToken { header: header(&rest, "Host", at, problems)? },
        "io.l5d.header" => Identifier::Header { header: header(&rest, "l5d-name", at, problems)? },
        "io.l5d.methodAndHost" => {
            let keys = problems.read::<MethodAndHostKeys>(at, &rest)?;
            Identifier::MethodAndHost { uri: keys.http_uri_in_dst.unwrap_or(false) }
        }
        "io.l5d.path" => {
            let keys = problems.read::<PathKeys>(at, &rest)?;
            problems.positive(at, "segments", keys.segments);
            let segments = usize::try_from(keys.segments.unwrap_or(1)).unwrap_or(usize::MAX);
            Identifier::Path { segments, consume: keys.consume.unwrap_or(false) }
        }
        "io.l5d.ingress" => Identifier::Ruled(Ruled::new(at.path().to_owned(), rest)),
        _ => {
            let keys = problems.read::<StaticKeys>(at, &rest)?;
            Identifier::Static { path: problems.note(&at.key("path"), Path::read(&keys.path))? }
        }
    })
}

fn header(rest: &Value, default: &str, at: &At, problems: &mut Problems) -> Option<String> {
    let keys = problems.read::<HeaderKeys>(at, rest)?;
    let name = keys.header.as_deref().unwrap_or(default);
    is_header_name(&at.key("header"), name, problems).then(|| name.to_owned())
}

/// Whether a header may be called so (RFC 9110 §5.1); if not, that is noted.
pub(super) fn is_header_name(at: &At, name: &str, problems: &mut Problems) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let good = !name.is_empty() && name.bytes().all(is_token);
    if !good {
        problems.add(at, format!("`{name}` is not the name of a header"));
    }
    good
}
