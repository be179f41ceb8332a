//! `/admin/metrics.json` as a function of the query, `/admin/metrics/prometheus` as one of `Accept`, for any HTTP
//! server to send.

use serde_json::{Value as Json, json};

use crate::openmetrics::{OPENMETRICS_TYPE, accepts_openmetrics};
use crate::prometheus::PROMETHEUS_TYPE;
use crate::snapshot::Snapshot;

/// What to answer; the content type is `application/json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// Parameters: `pretty=1` or `true` (indented), `tree=1` (nested), `q=a/b` (the subtree below these
/// elements; splits on `/`, so it cannot address an element that contains one, as in the original).
///
/// Keys of a `q` answer are relative to the subtree.
pub fn metrics_json<'a>(snapshot: &Snapshot, parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> Answer {
    let (mut pretty, mut tree, mut subtree) = (false, false, None);
    for (name, value) in parameters {
        match name {
            "pretty" => pretty = is_on(value),
            "tree" => tree = is_on(value),
            "q" if !value.is_empty() => subtree = Some(value),
            _ => {}
        }
    }
    let chosen = match subtree {
        None => snapshot.clone(),
        Some(query) => {
            let elements = query.split('/').filter(|element| !element.is_empty()).collect::<Vec<_>>();
            match snapshot.subtree(&elements) {
                Some(subtree) => subtree,
                None => {
                    // With the original's blank.
                    let body = format!("{{\"error\": {}}}", json!(format!("No such subtree: {query}")));
                    return Answer { status: 404, body };
                }
            }
        }
    };
    let mut values = Json::Object(if tree { chosen.to_tree() } else { chosen.to_flat() });
    let body = if pretty {
        values.sort_all_objects();
        format!("{values:#}")
    } else {
        values.to_string()
    };
    Answer { status: 200, body }
}

/// Content type and text for a scraper: Prometheus' text, or OpenMetrics for who prefers that by one of its `Accept`
/// headers. `prefix` is put before every name.
pub fn scraped<'a>(
    snapshot: &Snapshot,
    prefix: &str,
    mut accept: impl Iterator<Item = &'a str>,
) -> (&'static str, String) {
    if accept.any(accepts_openmetrics) {
        (OPENMETRICS_TYPE, snapshot.to_openmetrics(prefix))
    } else {
        (PROMETHEUS_TYPE, snapshot.to_prometheus(prefix))
    }
}

fn is_on(value: &str) -> bool {
    matches!(value, "1" | "true")
}
