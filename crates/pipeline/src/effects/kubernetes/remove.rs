//! Takes a version away: what the labels find, drained, deleted, and waited for until it is gone.

use std::collections::BTreeSet;
use std::time::Duration;

use kubernetes::Dependents;
use rollout::{Level, Outcome};
use serde_json::Value;
use tokio::time::Instant;

use super::{Found, Place, annotation, core, label, name, owner};
use crate::cluster::trouble;
use crate::manifests::{Gvk, MANAGED_BY, OWNER, SWITCHYARD, VERSION};

const LOOK: Duration = Duration::from_millis(300);
/// What the cluster may need besides the pods' own grace period.
const SLACK: Duration = Duration::from_secs(60);

pub(in crate::effects) async fn remove(place: &Place<'_>, version: &str) -> Result<Outcome, String> {
    let labels = format!("{MANAGED_BY}={SWITCHYARD},{VERSION}={version}");
    let (ours, others) = split(place, version, place.owned(&labels).await?);
    if ours.is_empty() && left(place, version, &others).await?.is_empty() {
        return Ok(Outcome::Done { detail: nothing(place, version, &others).await? });
    }
    if ours.iter().any(|found| serves(&found.object)) {
        drain(place, version).await;
    }
    let shown: Vec<String> = ours.iter().map(shown).collect();
    let mut deleted = BTreeSet::new();
    let began = Instant::now();
    let mut limit = SLACK;
    loop {
        let (ours, others) = split(place, version, place.owned(&labels).await?);
        for Found { kind, object } in &ours {
            let uid = object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
            if object.pointer("/metadata/deletionTimestamp").is_some() || !deleted.insert(uid.to_owned()) {
                continue;
            }
            let is_workload = Gvk::of(object).is_some_and(|gvk| gvk.workload().is_some());
            // Its pods go before it: when it is gone, nothing runs.
            let dependents = if is_workload { Dependents::First } else { Dependents::Later };
            place
                .patience
                .ask(async || {
                    let deleted = place.objects.delete(kind, name(object), uid, dependents).await;
                    deleted.map_err(|error| trouble(&error))
                })
                .await?;
        }
        let left = left(place, version, &others).await?;
        if ours.is_empty() && left.is_empty() {
            let detail = match shown.len() {
                0 => format!("{version}: the last of its pods have ended"),
                _ => format!("{version} is taken away: {}", shown.join(", ")),
            };
            return Ok(Outcome::Done { detail });
        }
        limit = limit.max(SLACK + grace(&left));
        let waits: Vec<String> =
            ours.iter().map(self::shown).chain(left.iter().map(|pod| format!("Pod {}", name(pod)))).collect();
        let text = format!("not gone yet: {}", waits.join(", "));
        if began.elapsed() >= limit {
            return Err(format!("{version}: after {} s {text}", limit.as_secs()));
        }
        place.job.slot.update_doing(|doing| doing.trouble = Some(text));
        tokio::time::sleep(LOOK).await;
    }
}

/// What may be taken away, and what another deploy made under the same name: of its own version a deploy
/// takes only what it made itself; a version that it replaces, or that was left behind, is anybody's.
fn split(place: &Place<'_>, version: &str, found: Vec<Found>) -> (Vec<Found>, Vec<Found>) {
    let facts = &place.job.story.deploy.facts;
    let is_swept = facts.leftovers.iter().any(|left| left == version);
    let is_own = facts.new.as_deref() == Some(version) && !is_swept;
    let owner = place.job.owner();
    found.into_iter().partition(|found| !is_own || annotation(&found.object, OWNER) == Some(&owner))
}

/// Whether it has pods that may have requests in flight.
fn serves(object: &Value) -> bool {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    number("/status/readyReplicas") + number("/status/numberReady") > 0
}

/// No router sends anything new by now; what is under way gets this long, and then the pods' grace period.
async fn drain(place: &Place<'_>, version: &str) {
    let seconds = place.target.drain_seconds;
    if seconds > 0 {
        place.job.slot.update_doing(|doing| {
            doing.trouble = Some(format!("requests that {version} still has in flight get {seconds} s"));
        });
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

/// Pods that carry the version's label, a deleted workload's among them. Where another deploy has one of
/// the same name, nobody can tell whose they are.
async fn left(place: &Place<'_>, version: &str, others: &[Found]) -> Result<Vec<Value>, String> {
    if !others.is_empty() {
        return Ok(Vec::new());
    }
    let labels = format!("{MANAGED_BY}={SWITCHYARD},{VERSION}={version}");
    let kind = core("Pod", "pods");
    place.patience.ask(async || place.objects.list(&kind, &labels, "").await.map_err(|error| trouble(&error))).await
}

fn grace(pods: &[Value]) -> Duration {
    let seconds = |pod: &Value| pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_u64);
    Duration::from_secs(pods.iter().filter_map(seconds).max().unwrap_or(0))
}

fn shown(found: &Found) -> String {
    format!("{} {}", found.kind.kind, name(&found.object))
}

/// There is nothing of ours: says so, and what is there all the same.
async fn nothing(place: &Place<'_>, version: &str, others: &[Found]) -> Result<String, String> {
    if !others.is_empty() {
        let others: Vec<String> =
            others.iter().map(|found| format!("{} ({})", shown(found), owner(&found.object))).collect();
        return Ok(format!(
            "{version} was gone already; left as it is, because another made it: {}",
            others.join(", ")
        ));
    }
    let mut named = Vec::new();
    for found in place.owned("").await? {
        if name(&found.object) == version && label(&found.object, VERSION).is_none() {
            named.push(format!("{} {version}", found.kind.kind));
        }
    }
    if named.is_empty() {
        return Ok(format!("{version} was gone already"));
    }
    let (namespace, named) = (place.namespace(), named.join(", "));
    let text = format!(
        "{version} was left running: {named} in namespace {namespace} without the labels {MANAGED_BY}={SWITCHYARD} and \
         {VERSION}={version}. Nothing names it any more; take it away by hand, or label the next one"
    );
    place.remark(Level::Warning, text.clone()).await;
    Ok(text)
}
