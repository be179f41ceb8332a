//! `tracePropagator`

use serde::Deserialize;
use serde_json::Value;

use super::part::{At, Plugin, Problems};
use crate::settings::{B3, TracePropagator};

const LINKERD: &str = "io.l5d.default";
const ZIPKIN: &str = "io.l5d.zipkin";
const W3C: &str = "io.l5d.w3c";
const TRACE_PROPAGATOR: Plugin =
    Plugin { what: "trace propagator", default: None, built: &[LINKERD, ZIPKIN, W3C], not_built: &[] };

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ZipkinKeys {
    b3: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoKeys {}

pub(super) fn read(value: &Value, at: &At, problems: &mut Problems) -> TracePropagator {
    one(value, at, problems).unwrap_or_default()
}

fn one(value: &Value, at: &At, problems: &mut Problems) -> Option<TracePropagator> {
    let (kind, rest) = problems.kind(at, value, &TRACE_PROPAGATOR)?;
    if kind == ZIPKIN {
        let keys = problems.read::<ZipkinKeys>(at, &rest)?;
        let write = match keys.b3.as_deref() {
            None | Some("multi") => B3::Multi,
            Some("single") => B3::Single,
            Some("both") => B3::Both,
            Some(other) => {
                problems.add(&at.key("b3"), format!("`{other}` is not known: use `multi`, `single` or `both`"));
                return None;
            }
        };
        return Some(TracePropagator::Zipkin { write });
    }
    problems.read::<NoKeys>(at, &rest)?;
    Some(if kind == W3C { TracePropagator::W3c } else { TracePropagator::Linkerd })
}
