//! The pods of one namespace that are ours, followed: what runs, and what is wrong with what does not.
//!
//! One watch for all deploys into a namespace, as long as one of them is under way. Loss of the watch
//! keeps what was known, and `trouble` says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kubernetes::k8s_openapi::api::core::v1 as core;
use kubernetes::{Cluster, Event, Report, Resource, Watch};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::manifests::{MANAGED_BY, SWITCHYARD, VERSION};

const PODS: Resource = Resource::new("", "v1", "pods");
/// Of a message that a container or a node wrote.
const LONGEST_WORDS: usize = 400;

/// What a deploy wants to know of a pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pod {
    pub name: String,
    pub version: String,
    pub labels: BTreeMap<String, String>,
    /// Its IP, once it has one.
    pub address: Option<String>,
    pub is_ready: bool,
    /// Told to end.
    pub is_ending: bool,
    /// Of the container that was restarted most often.
    pub restarts: u32,
    pub fault: Option<Fault>,
}

/// Why a pod does not run as it should.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub kind: FaultKind,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// Waiting will not help.
    Never,
    /// The image cannot be had, or the container cannot be made of it: once in a while that passes.
    Made,
    /// A container ended, and is started again.
    Ends,
    /// No node has room; one may come.
    Placed,
    /// The cluster took it away, or it ended as a whole.
    Lost,
}

/// See the module's documentation. Dropping it ends the watch.
pub(crate) struct Pods {
    known: Arc<Known>,
    report: Arc<Report>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Known {
    pods: Mutex<BTreeMap<String, Pod>>,
    changed: watch::Sender<u64>,
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pods {
    pub fn follow(cluster: &Cluster, namespace: &str) -> Arc<Pods> {
        let (known, report) = (Arc::new(Known::default()), Arc::new(Report::default()));
        let watch = Watch::new(cluster, PODS, namespace, &report).selecting(&format!("{MANAGED_BY}={SWITCHYARD}"));
        let told = known.clone();
        let task = tokio::spawn(async move {
            let mut backoff = watch.backoff();
            let list = loop {
                match watch.list::<core::Pod>().await {
                    Ok(list) => break list,
                    // The report has it, and the log.
                    Err(_) => backoff.wait().await,
                }
            };
            watch.follow(list, |event| told.hear(event)).await;
        });
        Arc::new(Pods { known, report, task })
    }

    /// Of one version, by name.
    pub fn of(&self, version: &str) -> Vec<Pod> {
        self.known.lock().values().filter(|pod| pod.version == version).cloned().collect()
    }

    /// Why what is known may not be true any more; also before anything is.
    pub fn trouble(&self) -> Option<String> {
        match (self.report.trouble(), self.report.age()) {
            (Some(trouble), _) => Some(trouble.to_string()),
            (None, None) => Some("the cluster was not heard yet".to_owned()),
            (None, Some(_)) => None,
        }
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.known.changed.subscribe()
    }
}

impl Known {
    /// Each change is one step.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Pod>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, event: Event<core::Pod>) {
        match event {
            Event::All(pods, _) => {
                let pods = pods.iter().filter_map(pod).map(|pod| (pod.name.clone(), pod)).collect();
                *self.lock() = pods;
            }
            Event::Put(told) => {
                if let Some(pod) = pod(&told) {
                    self.lock().insert(pod.name.clone(), pod);
                }
            }
            Event::Gone(told) => {
                self.lock().remove(told.metadata.name.as_deref().unwrap_or_default());
            }
        }
        self.changed.send_modify(|count| *count += 1);
    }
}

/// `None` for one without a name or version, which is not ours.
pub(crate) fn pod(pod: &core::Pod) -> Option<Pod> {
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let is_true = |kind: &str| {
        status.conditions.iter().flatten().any(|condition| condition.type_ == kind && condition.status == "True")
    };
    Some(Pod {
        name: pod.metadata.name.clone()?,
        version: labels.get(VERSION)?.clone(),
        labels,
        is_ready: is_true("Ready"),
        is_ending: pod.metadata.deletion_timestamp.is_some(),
        restarts: containers(&status).map(|one| u32::try_from(one.restart_count).unwrap_or(0)).max().unwrap_or(0),
        fault: fault(&status),
        address: status.pod_ip,
    })
}

fn containers(status: &core::PodStatus) -> impl Iterator<Item = &core::ContainerStatus> {
    status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
}

/// The first thing that is wrong; what is only under way is none.
fn fault(status: &core::PodStatus) -> Option<Fault> {
    if status.phase.as_deref() == Some("Failed") {
        let why = words(status.reason.as_deref(), status.message.as_deref());
        let ended = containers(status).find_map(ended).unwrap_or_default();
        let why = if why.is_empty() { ended } else { why };
        return Some(Fault { kind: FaultKind::Lost, text: format!("it has failed: {why}") });
    }
    let unplaced = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(unplaced) = unplaced {
        let why = words(unplaced.reason.as_deref(), unplaced.message.as_deref());
        return Some(Fault { kind: FaultKind::Placed, text: format!("no node takes it: {why}") });
    }
    containers(status).find_map(fault_of)
}

fn fault_of(container: &core::ContainerStatus) -> Option<Fault> {
    let name = &container.name;
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    let reason = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
    let message = waiting.and_then(|waiting| waiting.message.as_deref());
    let why = || words(Some(reason), message);
    let image = || format!("container {name}: image {}: {}", container.image, why());
    Some(match reason {
        "InvalidImageName" => Fault { kind: FaultKind::Never, text: image() },
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "ImageInspectError" | "RegistryUnavailable" => {
            Fault { kind: FaultKind::Made, text: image() }
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            Fault { kind: FaultKind::Made, text: format!("container {name}: {}", why()) }
        }
        _ => {
            if reason != "CrashLoopBackOff" && !went_wrong(container) {
                return None;
            }
            let times = match container.restart_count {
                0 => String::new(),
                1 => " (restarted once)".to_owned(),
                many => format!(" (restarted {many} times)"),
            };
            let ended = ended(container).unwrap_or_else(why);
            Fault { kind: FaultKind::Ends, text: format!("container {name} ended{times}: {ended}") }
        }
    })
}

/// Ended, and not as an init container that is done.
fn went_wrong(container: &core::ContainerStatus) -> bool {
    let terminated = container.state.as_ref().and_then(|state| state.terminated.as_ref());
    terminated.is_some_and(|terminated| terminated.exit_code != 0)
}

/// How a container ended the last time: `exit code 2 (Error): cannot listen on :7777`.
fn ended(container: &core::ContainerStatus) -> Option<String> {
    let terminated = |state: &Option<core::ContainerState>| state.as_ref().and_then(|state| state.terminated.clone());
    let last = terminated(&container.state).or_else(|| terminated(&container.last_state))?;
    let how = match last.signal {
        Some(signal) if signal > 0 => format!("signal {signal}"),
        _ => format!("exit code {}", last.exit_code),
    };
    let reason = last.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let message = words(None, last.message.as_deref());
    let message = if message.is_empty() { message } else { format!(": {message}") };
    Some(format!("{how}{reason}{message}"))
}

/// `Reason: message`, in one line; of a long message its two ends.
pub(crate) fn words(reason: Option<&str>, message: Option<&str>) -> String {
    let message: Vec<&str> = message.unwrap_or_default().split_whitespace().collect();
    let message = message.join(" ");
    let count = message.chars().count();
    let message = match count > LONGEST_WORDS {
        true => {
            let begin: String = message.chars().take(LONGEST_WORDS / 2).collect();
            let end: String = message.chars().skip(count - LONGEST_WORDS / 2).collect();
            format!("{begin} … {end}")
        }
        false => message,
    };
    match reason.filter(|reason| !reason.is_empty()) {
        Some(reason) if message.is_empty() => reason.to_owned(),
        Some(reason) => format!("{reason}: {message}"),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: serde_json::Value, expected: Option<(FaultKind, &str)>) {
        let told = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "world-v2-a", "labels": {"l5d.io/version": "world-v2"}},
            "status": status,
        }));
        let found = pod(&told.unwrap()).unwrap().fault;
        let shown = found.as_ref().map(|fault| (fault.kind, fault.text.as_str()));
        assert_eq!(shown, expected, "{status:#}");
    }

    fn container(state: serde_json::Value, restarts: u32) -> serde_json::Value {
        serde_json::json!({"containerStatuses": [
            {"name": "web", "image": "web:2", "imageID": "", "ready": false, "restartCount": restarts, "state": state,
             "lastState": {"terminated": {"exitCode": 2, "reason": "Error", "message": "cannot\n listen\n"}}}
        ]})
    }

    #[test]
    fn what_is_wrong_with_a_pod_is_told_in_a_line() {
        use serde_json::json;
        check(json!({}), None);
        check(container(json!({"waiting": {"reason": "ContainerCreating"}}), 0), None);
        check(container(json!({"running": {}}), 7), None);
        check(
            container(json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling"}}), 0),
            Some((FaultKind::Made, "container web: image web:2: ImagePullBackOff: Back-off pulling")),
        );
        check(
            container(json!({"waiting": {"reason": "InvalidImageName"}}), 0),
            Some((FaultKind::Never, "container web: image web:2: InvalidImageName")),
        );
        check(
            container(json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}}), 3),
            Some((FaultKind::Ends, "container web ended (restarted 3 times): exit code 2 (Error): cannot listen")),
        );
        check(
            container(json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}), 0),
            Some((FaultKind::Ends, "container web ended: exit code 137 (OOMKilled)")),
        );
        check(container(json!({"terminated": {"exitCode": 0, "reason": "Completed"}}), 0), None);
        check(
            json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}),
            Some((FaultKind::Lost, "it has failed: Evicted: low on memory")),
        );
        check(
            json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/1 nodes are available"}]}),
            Some((FaultKind::Placed, "no node takes it: Unschedulable: 0/1 nodes are available")),
        );
        let long = "x".repeat(1000);
        assert_eq!(words(None, Some(&long)).chars().count(), LONGEST_WORDS + 3);
    }
}
