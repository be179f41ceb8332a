//! How far a workload is: what its status says, as numbers. Pure.

use serde_json::Value;

use crate::manifests::Workload;
use crate::pods::words;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Progress {
    pub wanted: u64,
    pub ready: u64,
    /// All that are wanted are there, of this version of the object, and ready.
    pub is_done: bool,
    /// Its pods cannot be made: quota, admission.
    pub trouble: Option<String>,
    /// It gave up.
    pub failed: Option<String>,
}

pub(super) fn progress(workload: Workload, object: &Value) -> Progress {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let is_seen = number("/status/observedGeneration") >= number("/metadata/generation");
    let replicas = object.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
    let (wanted, ready, updated) = match workload {
        Workload::Deployment => (replicas, number("/status/availableReplicas"), number("/status/updatedReplicas")),
        Workload::StatefulSet => (replicas, number("/status/readyReplicas"), number("/status/updatedReplicas")),
        Workload::ReplicaSet | Workload::ReplicationController => {
            (replicas, number("/status/availableReplicas"), replicas)
        }
        Workload::DaemonSet => (
            number("/status/desiredNumberScheduled"),
            number("/status/numberAvailable"),
            number("/status/updatedNumberScheduled"),
        ),
    };
    let none_old = workload != Workload::Deployment || number("/status/replicas") <= updated;
    let trouble = condition(object, "ReplicaFailure", "True");
    let failed = condition(object, "Progressing", "False")
        .filter(|text| workload == Workload::Deployment && text.starts_with("ProgressDeadlineExceeded"));
    let is_done = is_seen && wanted > 0 && ready >= wanted && updated >= wanted && none_old;
    Progress { wanted, ready, is_done, trouble, failed }
}

/// `Reason: message` of a condition that has this status.
fn condition(object: &Value, kind: &str, status: &str) -> Option<String> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let text = |condition: &Value, key: &str| condition.get(key).and_then(Value::as_str).map(str::to_owned);
    let found = conditions.iter().find(|condition| {
        text(condition, "type").as_deref() == Some(kind) && text(condition, "status").as_deref() == Some(status)
    })?;
    Some(words(text(found, "reason").as_deref(), text(found, "message").as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rollout_is_done_when_all_of_it_is() {
        let deployment = |generation: u64, status: Value| json!({"metadata": {"generation": generation}, "spec": {"replicas": 2}, "status": status});
        let done = json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
        let cases = [
            (Workload::Deployment, deployment(1, done.clone()), true),
            (Workload::Deployment, deployment(2, done), false),
            (Workload::Deployment, deployment(1, json!({})), false),
            (
                Workload::Deployment,
                deployment(
                    1,
                    json!({"observedGeneration": 1, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 2}),
                ),
                false,
            ),
            (
                Workload::ReplicationController,
                deployment(1, json!({"observedGeneration": 1, "availableReplicas": 2})),
                true,
            ),
            (Workload::ReplicaSet, deployment(1, json!({"observedGeneration": 1, "availableReplicas": 1})), false),
            (
                Workload::StatefulSet,
                deployment(1, json!({"observedGeneration": 1, "readyReplicas": 2, "updatedReplicas": 2})),
                true,
            ),
            // No node yet is not all nodes.
            (Workload::DaemonSet, json!({"status": {"desiredNumberScheduled": 0}}), false),
            (
                Workload::DaemonSet,
                json!({"status": {"desiredNumberScheduled": 1, "numberAvailable": 1, "updatedNumberScheduled": 1}}),
                true,
            ),
        ];
        for (workload, object, expected) in cases {
            assert_eq!(progress(workload, &object).is_done, expected, "{workload:?} {object}");
        }
    }

    #[test]
    fn what_a_workload_says_of_its_troubles_is_told() {
        let object = json!({"status": {"conditions": [
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"},
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"},
        ]}});
        let progress = progress(Workload::Deployment, &object);
        assert_eq!(progress.trouble.as_deref(), Some("FailedCreate: exceeded quota"));
        assert_eq!(progress.failed.as_deref(), Some("ProgressDeadlineExceeded: timed out"));
    }
}
