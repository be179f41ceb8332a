//! Takes a version away: what the labels find, drained, deleted, and waited for until it is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kubernetes::Dependents;
use rollout::{Level, Outcome};
use serde_json::Value;
use tokio::time::Instant;

use super::{Found, Place, USUAL, annotation, core, label, name, owner};
use crate::cluster::trouble;
use crate::manifests::{Gvk, MANAGED_BY, OWNER, SWITCHYARD, VERSION};

const LOOK: Duration = Duration::from_millis(300);
/// What the cluster may need besides the pods' own grace period.
const SLACK: Duration = Duration::from_secs(60);

pub(in crate::effects) async fn remove(place: &Place<'_>, version: &str) -> Result<Outcome, String> {
    let labels = format!("{MANAGED_BY}={SWITCHYARD},{VERSION}={version}");
    let (ours, others) = split(place, version, place.owned(&labels).await?);
    if ours.is_empty() {
        return Ok(Outcome::Done { detail: nothing(version, &others) + &unmarked(place, version).await? });
    }
    if ours.iter().any(|found| serves(&found.object)) {
        drain(place, version).await;
    }
    let shown: Vec<String> = ours.iter().map(shown).collect();
    let mut deleted = BTreeSet::new();
    let began = Instant::now();
    let mut limit = SLACK;
    loop {
        let found = place.owned(&labels).await?;
        let made: Vec<Value> = found.iter().map(|found| found.object.clone()).collect();
        let (ours, _) = split(place, version, found);
        let left = pods(place, version).await?;
        let orphans = match ours.is_empty() {
            true => orphans(place, made.iter().chain(&left)).await?,
            false => Vec::new(),
        };
        if ours.is_empty() && orphans.is_empty() {
            let detail = format!("{version} is taken away: {}", shown.join(", "));
            return Ok(Outcome::Done { detail: detail + &unmarked(place, version).await? });
        }
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
        limit = limit.max(SLACK + grace(&left));
        let pods = left.iter().filter(|_| orphans.is_empty()).map(|pod| format!("Pod {}", name(pod)));
        let waits: Vec<String> = ours.iter().map(self::shown).chain(orphans.iter().cloned()).chain(pods).collect();
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
    // What a workload made goes with it.
    let found = found.into_iter().filter(|found| controller(&found.object).is_none());
    found.partition(|found| !is_own || annotation(&found.object, OWNER) == Some(&owner))
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

/// Who made an object, and takes it away.
fn controller(object: &Value) -> Option<&Value> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    owners.iter().find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true))
}

/// Those whose workload is gone before them: a cluster whose collector was away may do it in that order. What
/// another workload keeps, which is not ours, is none.
async fn orphans(place: &Place<'_>, objects: impl Iterator<Item = &Value>) -> Result<Vec<String>, String> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut gone: BTreeMap<String, bool> = BTreeMap::new();
    let mut orphans = Vec::new();
    for object in objects {
        let Some(owner) = controller(object) else { continue };
        let uid = text(owner, "uid");
        if !gone.contains_key(&uid) {
            let gvk = Gvk::new(&text(owner, "apiVersion"), &text(owner, "kind"));
            let found = named(place, &gvk, &text(owner, "name")).await?;
            let is = |found: Value| found.pointer("/metadata/uid").and_then(Value::as_str) == Some(&uid);
            gone.insert(uid.clone(), !found.is_none_or(is));
        }
        if gone.get(&uid) == Some(&true) {
            orphans.push(name(object).to_owned());
        }
    }
    Ok(orphans)
}

/// The object of this name, `null` if there is none; `None`: the role does not let us know.
async fn named(place: &Place<'_>, gvk: &Gvk, name: &str) -> Result<Option<Value>, String> {
    let Some(kind) = place.kind(gvk).await? else { return Ok(Some(Value::Null)) };
    let fields = format!("metadata.name={name}");
    let listed = place.patience.ask(async || match place.objects.list(&kind, "", &fields).await {
        Err(error) if error.code() == Some(403) => Ok(None),
        listed => listed.map(Some).map_err(|error| trouble(&error)),
    });
    Ok(listed.await?.map(|found| found.into_iter().next().unwrap_or(Value::Null)))
}

/// Pods that carry the version's label: what a workload that is being deleted waits for.
async fn pods(place: &Place<'_>, version: &str) -> Result<Vec<Value>, String> {
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

/// There is nothing of ours; another deploy may have what is called so.
fn nothing(version: &str, others: &[Found]) -> String {
    let others: Vec<String> =
        others.iter().map(|found| format!("{} ({})", shown(found), owner(&found.object))).collect();
    match others.is_empty() {
        true => format!("{version} was gone already"),
        false => {
            format!("{version} was gone already; left as it is, because another made it: {}", others.join(", "))
        }
    }
}

/// What has the version's name and not its labels is nobody's to take away; says so.
async fn unmarked(place: &Place<'_>, version: &str) -> Result<String, String> {
    let mut left = Vec::new();
    for (api, kind) in USUAL {
        let found = named(place, &Gvk::new(api, kind), version).await?;
        if found.is_some_and(|object| !object.is_null() && label(&object, VERSION).is_none()) {
            left.push(format!("{kind} {version}"));
        }
    }
    if left.is_empty() {
        return Ok(String::new());
    }
    let (namespace, left) = (place.namespace(), left.join(", "));
    let text = format!(
        "{left} in namespace {namespace} was left running, without the labels {MANAGED_BY}={SWITCHYARD} and \
         {VERSION}={version}: take it away by hand, and label the next one"
    );
    place.remark(Level::Warning, text.clone()).await;
    Ok(format!("; {text}"))
}
