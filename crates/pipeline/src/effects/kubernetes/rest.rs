//! Watches a version that a deploy rests on: says when it broke, and keeps quiet about what heals itself.
//!
//! A pod that is deleted, evicted or restarted once is replaced by the cluster, and that is no reason to go
//! back. Too few ready ones for long, none at all for a while, a container that ends again and again: are.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::ready::CRASHES;
use super::workload::progress;
use super::{Place, name, trouble};
use crate::control::Trouble;
use crate::manifests::{Gvk, VERSION};
use crate::pods::Pod;

const CRASHES_WITHIN: Duration = Duration::from_secs(300);
/// None at all is ready: nobody waits longer for that.
const NOBODY: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(200);

struct Numbers {
    wanted: u64,
    ready: u64,
    /// A workload that is not there any more.
    gone: Option<String>,
}

pub(in crate::effects) async fn watch(place: &Place<'_>, version: &str) -> String {
    let pods = place.cluster.pods(place.namespace());
    let mut changes = pods.changes();
    let mut crashes = Crashes::default();
    let mut few_since: Option<Instant> = None;
    let broken = Duration::from_secs(place.target.ready.broken_seconds);
    loop {
        let looked = Instant::now();
        changes.mark_unchanged();
        let known = pods.of(version);
        if let Some(why) = crashes.look(&known, looked) {
            return why;
        }
        match numbers(place, version).await {
            Ok(Numbers { gone: Some(gone), .. }) => return format!("{gone} was deleted by somebody else"),
            Ok(Numbers { wanted, ready, .. }) if ready < wanted => {
                let since = *few_since.get_or_insert(looked);
                let limit = if ready == 0 { broken.min(NOBODY) } else { broken };
                if since.elapsed() >= limit {
                    let late = known.iter().find(|pod| !pod.is_ready && pod.fault.is_some());
                    let fault = |pod: &Pod| pod.fault.as_ref().map(|fault| format!("; {}: {}", pod.name, fault.text));
                    let why = late.and_then(fault).unwrap_or_default();
                    return format!(
                        "only {ready} of {wanted} pods of {version} have been ready for {} s{why}",
                        limit.as_secs()
                    );
                }
            }
            Ok(_) => few_since = None,
            // What is not seen is not judged.
            Err(Trouble::Passing(why) | Trouble::Lasting(why)) => {
                few_since = None;
                tracing::warn!(deploy = place.job.story.id(), why, "cannot look at {version}");
                tokio::time::sleep(LOOK).await;
            }
        }
        tokio::time::sleep_until(looked + SHORTEST).await;
        drop(tokio::time::timeout_at(looked + LOOK, changes.changed()).await);
    }
}

/// Of all workloads of the file together.
async fn numbers(place: &Place<'_>, version: &str) -> Result<Numbers, Trouble> {
    let mut numbers = Numbers { wanted: 0, ready: 0, gone: None };
    let kinds: std::collections::BTreeSet<Gvk> = place.manifests.iter().filter_map(Gvk::of).collect();
    for gvk in kinds {
        let Some(workload) = gvk.workload() else { continue };
        let kind = place.objects.kind(&gvk.api, &gvk.kind).await.map_err(|error| trouble(&error))?;
        let kind = kind.ok_or_else(|| Trouble::Passing(format!("the cluster knows no {}", gvk.shown())))?;
        let found = place.objects.list(&kind, &format!("{VERSION}={version}"), "").await;
        let found = found.map_err(|error| trouble(&error))?;
        for object in &found {
            if object.pointer("/metadata/deletionTimestamp").is_some() {
                numbers.gone = Some(format!("{} {}", gvk.kind, name(object)));
            }
            let progress = progress(workload, object);
            numbers.wanted += progress.wanted;
            numbers.ready += progress.ready;
        }
        if found.is_empty() {
            numbers.gone = Some(format!("{} of {version}", gvk.kind));
        }
    }
    Ok(numbers)
}

/// How often which pod's containers were started again, and when.
#[derive(Default)]
struct Crashes {
    pods: BTreeMap<String, (u32, VecDeque<Instant>)>,
}

impl Crashes {
    fn look(&mut self, pods: &[Pod], now: Instant) -> Option<String> {
        self.pods.retain(|name, _| pods.iter().any(|pod| pod.name == *name));
        for pod in pods {
            let (before, ends) = self.pods.entry(pod.name.clone()).or_insert((pod.restarts, VecDeque::new()));
            for _ in *before..pod.restarts {
                ends.push_back(now);
            }
            *before = pod.restarts;
            ends.retain(|end| now - *end < CRASHES_WITHIN);
            if ends.len() >= CRASHES as usize {
                let why =
                    pod.fault.as_ref().map_or_else(|| "its container ended".to_owned(), |fault| fault.text.clone());
                return Some(format!("{} ends again and again: {why}", pod.name));
            }
        }
        None
    }
}
