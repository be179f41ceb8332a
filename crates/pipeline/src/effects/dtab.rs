//! Effects on the dtab and the fleet: look, compare and set, wait.

use std::collections::BTreeSet;
use std::time::Duration;

use names::Dtab;
use rollout::{Found, Outcome};
use tokio::time::Instant;

use super::{Job, target};
use crate::control::{Fleet, Put, Signed, Trouble};
use crate::entry::{self, Entry};

/// One question to the fleet; between two of them the laggards are shown.
const FLEET_WAIT: Duration = Duration::from_secs(1);
/// How long routers that were there may take to come back after the control plane was restarted: as
/// long as the control plane itself remembers one that went away.
const FLEET_RETURNS: Duration = Duration::from_secs(10);
/// A 412 costs one read; a store in which somebody writes without pause is trouble of its own.
const STALE: &str = "somebody else keeps writing the dtab";

/// Reads the entry and what exists. Changes nothing.
pub(super) async fn inspect(job: &Job) -> Result<Outcome, String> {
    let (namespace, entry) = (job.namespace(), job.entry());
    let control = job.deploys.control();
    let all = dtabs(job).await?;
    let Some((_, dtab, _)) = all.iter().find(|(name, ..)| name == namespace) else {
        let exists: Vec<&str> = all.iter().map(|(name, ..)| name.as_str()).collect();
        let exists = if exists.is_empty() { "none".to_owned() } else { exists.join(", ") };
        return Err(format!("there is no namespace {namespace}; {} has: {exists}", control.shown()));
    };
    let dst = match entry::find(dtab, entry) {
        Entry::One(tree) => tree.show_exact(),
        Entry::None => {
            return Err(format!("the dtab {namespace} has no entry {entry}; add {entry} => PATH-OF-A-VERSION"));
        }
        Entry::Many(all) => {
            return Err(format!(
                "the dtab {namespace} has the entry {entry} more than once: {entry} => {all} . Leave one"
            ));
        }
    };
    let service = &job.story.deploy.plan.service;
    let is_version = |name: &String| rollout::number(service, name).is_some();
    let named: BTreeSet<String> =
        all.iter().flat_map(|(_, dtab, _)| entry::all_labels(dtab)).filter(is_version).collect();
    let found = target::present(job).await?;
    let present: BTreeSet<String> = found.versions.into_iter().filter(is_version).collect();
    let others = job.deploys.versions_in_flight(job.story.id());
    let left: BTreeSet<String> = job.deploys.left_behind(service).into_iter().chain(found.leftovers).collect();
    let leftovers: Vec<String> = left
        .into_iter()
        .filter(|version| present.contains(version) && !named.contains(version) && !others.contains(version))
        .collect();
    let existing: BTreeSet<String> =
        named.into_iter().chain(present).chain(others.into_iter().filter(is_version)).collect();
    Ok(Outcome::Inspected(Found { dst, existing: existing.into_iter().collect(), leftovers }))
}

/// All namespaces with dtab and version.
async fn dtabs(job: &Job) -> Result<Vec<(String, Dtab, String)>, String> {
    let (control, patience) = (job.deploys.control(), job.patience());
    let mut all = Vec::new();
    for name in patience.ask(|| control.namespaces()).await? {
        // One that was deleted in between names nothing.
        if let Some((dtab, version)) = patience.ask(|| control.dtab(&name)).await? {
            all.push((name, dtab, version));
        }
    }
    Ok(all)
}

/// Compare and set of the one entry; what others do to other entries is kept.
pub(super) async fn write(job: &Job, expected: &[String], dst: &str, fence: bool) -> Result<Outcome, String> {
    let (namespace, entry) = (job.namespace(), job.entry());
    let (control, patience) = (job.deploys.control(), job.patience());
    let author = format!("deploy {} ({})", job.story.id(), job.story.head.actor);
    let comment = comment(job, dst);
    let signed = Signed { author: &author, comment: &comment };
    let mut tries = patience.begin();
    loop {
        let Some((dtab, version)) = patience.ask(|| control.dtab(namespace)).await? else {
            return Ok(Outcome::Foreign { found: None });
        };
        let found = match entry::find(&dtab, entry) {
            Entry::None => return Ok(Outcome::Foreign { found: None }),
            Entry::Many(all) => return Ok(Outcome::Foreign { found: Some(all) }),
            Entry::One(tree) => tree,
        };
        let is_done = entry::is(found, dst);
        if is_done && !fence {
            return Ok(Outcome::Written { version });
        }
        if !is_done && !expected.iter().any(|text| entry::is(found, text)) {
            return Ok(Outcome::Foreign { found: Some(found.show_exact()) });
        }
        let next = entry::with(&dtab, entry, dst).ok_or_else(|| format!("{entry} => {dst} is no entry"))?;
        match control.put(namespace, &next, &version, signed).await {
            Ok(Put::Written(version)) => return Ok(Outcome::Written { version }),
            // Read again: it may have been ours, of an attempt whose answer was lost.
            Ok(Put::Stale) => tries.again(STALE).await?,
            Ok(Put::Gone) => return Ok(Outcome::Foreign { found: None }),
            Err(Trouble::Passing(why)) => tries.again(&why).await?,
            Err(Trouble::Lasting(why)) => return Err(why),
        }
    }
}

fn comment(job: &Job, dst: &str) -> String {
    let deploy = &job.story.deploy;
    let stage = match deploy.is_reverting() {
        true => "revert",
        false => deploy.stage().map_or("deploy", |stage| deploy.stages[stage].name.as_str()),
    };
    format!("{}: {stage}: {} => {dst}", job.story.head.file.name, job.entry())
}

/// Waits until each live router serves this version.
pub(super) async fn await_fleet(job: &Job, version: &str) -> Result<Outcome, String> {
    match served(job, job.namespace(), version).await? {
        Some(detail) => Ok(Outcome::Done { detail }),
        None => Err(format!("the control plane does not know version {version} of {} any more", job.namespace())),
    }
}

/// Who serves it, once all do; `None` if there is no such version.
async fn served(job: &Job, namespace: &str, version: &str) -> Result<Option<String>, String> {
    let limit = Duration::from_secs(job.story.head.file.limits.fleet_seconds);
    let (control, patience, began) = (job.deploys.control(), job.patience(), Instant::now());
    let mut few_since: Option<Instant> = None;
    loop {
        match patience.ask(|| control.fleet(namespace, version, FLEET_WAIT)).await? {
            Fleet::Unknown => return Ok(None),
            Fleet::Serves(routers) => {
                let wanted = job.deploys.fleet_expected(namespace);
                let since = few_since.get_or_insert_with(Instant::now);
                if routers >= wanted || since.elapsed() >= FLEET_RETURNS {
                    job.deploys.see_fleet(namespace, routers);
                    job.slot.update_doing(|doing| doing.laggards.clear());
                    return Ok(Some(match routers {
                        0 => format!("no router follows {namespace}"),
                        1 => format!("the one router that follows {namespace} serves version {version}"),
                        many => format!("all {many} routers that follow {namespace} serve version {version}"),
                    }));
                }
                job.slot.update_doing(|doing| {
                    doing.trouble = Some(format!(
                        "{routers} of {wanted} routers follow {namespace}; the others get {} s to come back",
                        FLEET_RETURNS.as_secs()
                    ));
                });
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Fleet::Lags(laggards) => {
                few_since = None;
                let shown: Vec<String> =
                    laggards.iter().map(|lag| format!("{} of {}", lag.router, lag.process)).collect();
                let trouble = format!("not yet served by {}", shown.join(", "));
                if !job.is_patient() && began.elapsed() >= limit {
                    return Err(format!("version {version} of {namespace} is {trouble} after {} s", limit.as_secs()));
                }
                job.slot.update_doing(|doing| {
                    doing.laggards = laggards;
                    doing.trouble = Some(trouble);
                    doing.attempt += 1;
                });
            }
        }
    }
}

/// Waits until neither a dtab nor a live router can send a request to `unused`.
pub(super) async fn settle(job: &Job, unused: &str) -> Result<Outcome, String> {
    let (control, patience) = (job.deploys.control(), job.patience());
    loop {
        if let Some((entry, dst)) = user(job, unused).await? {
            return Ok(Outcome::StillUsed { entry, dst });
        }
        let Some((_, version)) = patience.ask(|| control.dtab(job.namespace())).await? else {
            return Ok(Outcome::Done { detail: format!("the namespace {} is gone", job.namespace()) });
        };
        // The version that was looked at is served: nobody holds an older one. Then a last look, because
        // it may have changed in the meantime.
        if served(job, job.namespace(), &version).await?.is_none() {
            continue;
        }
        return Ok(match user(job, unused).await? {
            Some((entry, dst)) => Outcome::StillUsed { entry, dst },
            None => Outcome::Done { detail: format!("no router can send a request to {unused} any more") },
        });
    }
}

/// Which entry of any namespace names this version.
pub(super) async fn user(job: &Job, version: &str) -> Result<Option<(String, String)>, String> {
    for (namespace, dtab, _) in dtabs(job).await? {
        if let Some((entry, dst)) = entry::user_of(&dtab, version) {
            let entry = if namespace == job.namespace() { entry } else { format!("{namespace}: {entry}") };
            return Ok(Some((entry, dst)));
        }
    }
    Ok(None)
}
