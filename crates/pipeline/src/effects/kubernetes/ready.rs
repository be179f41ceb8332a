//! Waits until a version is ready: workloads rolled out, and the pods behind its Services.
//!
//! Says on the way how far it is and what keeps it, and gives up early where waiting will not help. Time in
//! which the API server did not answer does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kubernetes::Kind;
use rollout::Level;
use serde_json::Value;
use tokio::time::Instant;

use super::workload::progress;
use super::{Place, core, trouble};
use crate::control::Trouble;
use crate::manifests::{Object, Workload};
use crate::pods::{FaultKind, Pod, words};

/// A container that was started again this often does not work.
pub(super) const CRASHES: u32 = 3;
/// Between two looks, where nothing is heard.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks at most, whatever is heard.
const SHORTEST: Duration = Duration::from_millis(100);
/// How often events are asked for.
const EVENTS: Duration = Duration::from_secs(3);

/// What was seen in one look.
struct Seen {
    pods: Vec<Pod>,
    wanted: u64,
    ready: u64,
    is_rolled_out: bool,
    trouble: Option<String>,
    failed: Option<String>,
    /// Services and the pods that they do not have yet; looked at last.
    missing: BTreeMap<String, Vec<String>>,
}

/// The ready pods, once everything is.
pub(super) async fn wait(place: &Place<'_>, version: &str, rendered: &[Object]) -> Result<Vec<Pod>, String> {
    let mut workloads = Vec::new();
    for object in rendered {
        if let Some(workload) = object.gvk.workload() {
            workloads.push((workload, place.known(&object.gvk).await?, object));
        }
    }
    let services: Vec<&Object> = rendered.iter().filter(|object| object.gvk.is_service()).collect();
    let mut waiting = Waiting::begin(place, version);
    let followed = place.cluster.pods(place.namespace());
    let mut changes = followed.changes();
    loop {
        let looked = Instant::now();
        changes.mark_unchanged();
        match look(place, version, &workloads, &services).await {
            Ok(seen) => {
                waiting.see().await;
                if seen.is_rolled_out && seen.missing.is_empty() {
                    waiting.log(&seen, None).await;
                    return Ok(seen.pods.into_iter().filter(|pod| pod.is_ready && !pod.is_ending).collect());
                }
                waiting.judge(&seen).await?;
            }
            Err(Trouble::Lasting(why)) => return Err(why),
            Err(Trouble::Passing(why)) => waiting.blind(&why)?,
        }
        tokio::time::sleep_until(looked + SHORTEST).await;
        // By time as well: not all that is looked at is followed.
        drop(tokio::time::timeout_at(looked + LOOK, changes.changed()).await);
    }
}

async fn look(
    place: &Place<'_>,
    version: &str,
    workloads: &[(Workload, Kind, &Object)],
    services: &[&Object],
) -> Result<Seen, Trouble> {
    let pods = place.pods(version).await?;
    let mut seen =
        Seen { pods, wanted: 0, ready: 0, is_rolled_out: true, trouble: None, failed: None, missing: BTreeMap::new() };
    for (workload, kind, object) in workloads {
        let named = format!("{} {}", object.gvk.kind, object.name);
        let found = place.objects.get(kind, &object.name).await.map_err(|error| trouble(&error))?;
        let found = found.ok_or_else(|| Trouble::Lasting(format!("{named} was deleted by somebody else")))?;
        let progress = progress(*workload, &found);
        seen.wanted += progress.wanted;
        seen.ready += progress.ready;
        seen.is_rolled_out &= progress.is_done;
        seen.trouble = seen.trouble.or(progress.trouble.map(|text| format!("{named}: {text}")));
        seen.failed = seen.failed.or(progress.failed.map(|text| format!("{named}: {text}")));
    }
    if seen.is_rolled_out {
        for service in services {
            look_at_service(place, service, &mut seen).await?;
        }
    }
    Ok(seen)
}

async fn look_at_service(place: &Place<'_>, service: &Object, seen: &mut Seen) -> Result<(), Trouble> {
    let Some(selector) = service.body.pointer("/spec/selector").and_then(Value::as_object) else { return Ok(()) };
    let selects =
        |pod: &&Pod| selector.iter().all(|(key, value)| pod.labels.get(key).map(String::as_str) == value.as_str());
    let pods: Vec<&Pod> = seen.pods.iter().filter(|pod| pod.is_ready && !pod.is_ending).filter(selects).collect();
    if pods.is_empty() {
        return Err(Trouble::Lasting(format!(
            "Service {} selects none of the pods: its selector asks for labels that the pods' template does not have",
            service.name
        )));
    }
    let endpoints = place.endpoints(&service.name).await?;
    let has = |pod: &&Pod| pod.address.as_ref().is_some_and(|address| endpoints.contains_key(address));
    let missing: Vec<String> = pods.into_iter().filter(|pod| !has(pod)).map(|pod| pod.name.clone()).collect();
    if !missing.is_empty() {
        seen.missing.insert(service.name.clone(), missing);
    }
    Ok(())
}

/// The state of waiting: how long for what.
struct Waiting<'a> {
    place: &'a Place<'a>,
    version: &'a str,
    timeout: Duration,
    /// Time in which the cluster was seen.
    waited: Duration,
    last_seen: Instant,
    is_blind: bool,
    /// Since when a pod cannot be made.
    unmade: BTreeMap<String, Instant>,
    /// What was said in the log.
    said: BTreeSet<String>,
    said_ready: u64,
    event: Option<(Instant, String, Option<String>)>,
}

impl<'a> Waiting<'a> {
    fn begin(place: &'a Place<'a>, version: &'a str) -> Waiting<'a> {
        Waiting {
            place,
            version,
            timeout: Duration::from_secs(place.target.ready.timeout_seconds),
            waited: Duration::ZERO,
            last_seen: Instant::now(),
            is_blind: false,
            unmade: BTreeMap::new(),
            said: BTreeSet::new(),
            said_ready: 0,
            event: None,
        }
    }

    /// The cluster did not answer.
    fn blind(&mut self, why: &str) -> Result<(), String> {
        self.is_blind = true;
        let limit = Duration::from_secs(self.place.job.story.head.file.limits.cluster_seconds);
        let since = self.last_seen.elapsed();
        if since >= limit {
            return Err(format!("{why} (tried for {} s)", since.as_secs()));
        }
        self.tell(format!("{why}; waiting for the cluster, {} s so far", since.as_secs()));
        Ok(())
    }

    fn tell(&self, text: String) {
        self.place.job.slot.update_doing(|doing| {
            if doing.trouble.as_ref() != Some(&text) {
                doing.attempt += 1;
            }
            doing.trouble = Some(text);
        });
    }

    /// The cluster answered.
    async fn see(&mut self) {
        let now = Instant::now();
        match self.is_blind {
            true => self.place.remark(Level::Info, "the cluster answers again".to_owned()).await,
            false => self.waited += now - self.last_seen,
        }
        self.is_blind = false;
        self.last_seen = now;
    }

    /// Not ready: says why, or gives up.
    async fn judge(&mut self, seen: &Seen) -> Result<(), String> {
        let now = Instant::now();
        let late = self.late(seen).await;
        let mut text = match seen.missing.iter().next() {
            Some((service, pods)) => format!(
                "{} of {} pods are ready; Service {service} has no endpoint yet for {}",
                seen.ready,
                seen.wanted,
                pods.join(", ")
            ),
            None => format!("{} of {} pods are ready", seen.ready.min(seen.wanted), seen.wanted),
        };
        if let Some(late) = late.as_ref().or(seen.trouble.as_ref()) {
            text = format!("{text}; {late}");
        }
        self.tell(text.clone());
        self.log(seen, late.as_ref().or(seen.trouble.as_ref())).await;
        if let Some(hopeless) = self.hopeless(seen, now) {
            return Err(format!("{} will not get ready: {hopeless}", self.version));
        }
        if self.waited >= self.timeout {
            return Err(format!("{} is not ready after {} s: {text}", self.version, self.timeout.as_secs()));
        }
        Ok(())
    }

    /// One more that is ready, and each reason once.
    async fn log(&mut self, seen: &Seen, why: Option<&String>) {
        if seen.ready > self.said_ready {
            self.said_ready = seen.ready;
            self.place.remark(Level::Info, format!("{} of {} pods are ready", seen.ready, seen.wanted)).await;
        }
        if let Some(why) = why.filter(|why| !self.said.contains(*why) && self.said.len() < 20) {
            self.said.insert(why.clone());
            self.place.remark(Level::Warning, why.clone()).await;
        }
    }

    /// The reason of one pod that is not ready: what it says itself, or what the events say of it.
    async fn late(&mut self, seen: &Seen) -> Option<String> {
        let mut late = seen.pods.iter().filter(|pod| !pod.is_ready && !pod.is_ending).collect::<Vec<_>>();
        late.sort_by_key(|pod| pod.fault.is_none());
        match late.first() {
            Some(Pod { name, fault: Some(fault), .. }) => Some(format!("{name}: {}", fault.text)),
            Some(Pod { name, .. }) => self.event(name).await.map(|event| format!("{name}: {event}")),
            None if seen.pods.len() < seen.wanted as usize && seen.trouble.is_none() => self.event(self.version).await,
            None => None,
        }
    }

    /// The newest warning about an object.
    async fn event(&mut self, name: &str) -> Option<String> {
        let asked = self.event.as_ref().filter(|(asked, of, _)| of == name && asked.elapsed() < EVENTS);
        if let Some((_, _, text)) = asked {
            return text.clone();
        }
        let fields = format!("involvedObject.name={name},type=Warning");
        let text = match self.place.objects.list(&core("Event", "events"), "", &fields).await {
            Ok(events) => {
                let text = |event: &Value, key: &str| event.get(key).and_then(Value::as_str).map(str::to_owned);
                let newest =
                    events.iter().max_by_key(|event| text(event, "lastTimestamp").or(text(event, "eventTime")));
                newest.map(|event| words(text(event, "reason").as_deref(), text(event, "message").as_deref()))
            }
            Err(error) => Some(format!("its events are not known: {error}")),
        };
        self.event = Some((Instant::now(), name.to_owned(), text.clone()));
        text
    }

    fn hopeless(&mut self, seen: &Seen, now: Instant) -> Option<String> {
        let broken = Duration::from_secs(self.place.target.ready.broken_seconds);
        let is_unmade = |pod: &Pod| pod.fault.as_ref().is_some_and(|fault| fault.kind == FaultKind::Made);
        self.unmade.retain(|name, _| seen.pods.iter().any(|pod| pod.name == *name && is_unmade(pod)));
        for pod in seen.pods.iter().filter(|pod| !pod.is_ending) {
            let Some(fault) = &pod.fault else { continue };
            let why = format!("{}: {}", pod.name, fault.text);
            match fault.kind {
                FaultKind::Never => return Some(why),
                FaultKind::Ends if pod.restarts >= CRASHES => return Some(why),
                FaultKind::Made => {
                    let since = *self.unmade.entry(pod.name.clone()).or_insert(now);
                    if now - since >= broken {
                        return Some(format!("{why} (for {} s)", broken.as_secs()));
                    }
                }
                FaultKind::Ends | FaultKind::Placed | FaultKind::Lost => {}
            }
        }
        seen.failed.clone()
    }
}
