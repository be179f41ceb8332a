//! A pipeline file: what a deploy of one service does, as data.
//!
//! `examples/pipelines/hello_world.yaml` is the tutorial's. Texts may hold `{name}` for a parameter
//! or a fact of the deploy; what goes into a program's arguments is passed as it is, no shell sees it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct File {
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    /// In this order on the page.
    #[serde(default)]
    pub parameters: Vec<ParameterConfig>,
    /// Versions are `SERVICE-vN`.
    pub service: String,
    pub dtab: DtabConfig,
    pub source: SourceConfig,
    pub target: TargetConfig,
    pub test: TestConfig,
    pub steps: Vec<StepConfig>,
    #[serde(default)]
    pub limits: Limits,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ParameterConfig {
    pub name: String,
    #[serde(default)]
    pub default: String,
    #[serde(default)]
    pub description: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DtabConfig {
    /// `"{namerdNamespace}"`
    pub namespace: String,
    /// `/host/world`
    pub entry: String,
    /// Where versions live when no deploy is in flight: `/srv`.
    pub live: String,
    /// The same while one is: `/tmp`. Kept because readers of the tutorial's dtabs know it.
    pub marker: String,
}

/// `kind: git` or `kind: text`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", deny_unknown_fields, rename_all = "camelCase")]
pub enum SourceConfig {
    /// A file of a git repository, trimmed, becomes `{text}`.
    #[serde(rename_all = "camelCase")]
    Git {
        repository: String,
        branch: String,
        file: String,
        #[serde(default = "default_clone_seconds")]
        timeout_seconds: u64,
    },
}

fn default_clone_seconds() -> u64 {
    60
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", deny_unknown_fields, rename_all = "camelCase")]
pub enum TargetConfig {
    /// Processes on this machine, supervised by the pipeline server, named by files of `io.l5d.fs`.
    Process(ProcessTarget),
    /// Pods of a cluster, named by a Service of `io.l5d.k8s`.
    Kubernetes(KubernetesTarget),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ProcessTarget {
    pub instances: u32,
    /// The program and its arguments; `{switchyard}` is this server's own binary.
    pub argv: Vec<String>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Asked of each instance until it answers 2xx or 3xx.
    pub ready: ReadyConfig,
    /// How long an instance may go on with requests in flight after the routers left it.
    #[serde(default = "default_drain_seconds")]
    pub drain_seconds: u64,
    /// From SIGTERM to SIGKILL.
    #[serde(default = "default_grace_seconds")]
    pub grace_seconds: u64,
}

fn default_drain_seconds() -> u64 {
    5
}

fn default_grace_seconds() -> u64 {
    12
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ReadyConfig {
    /// `http://{address}/`
    pub url: String,
    #[serde(default = "default_ready_seconds")]
    pub timeout_seconds: u64,
}

fn default_ready_seconds() -> u64 {
    30
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct KubernetesTarget {
    /// Where the objects are, `"{k8sNamespace}"`. The namespace itself is somebody else's.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// `spec.replicas` of the one workload; without it what the manifest says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// What a version consists of: a workload, a Service that has the version's name, anything else.
    pub manifests: Manifests,
    #[serde(default)]
    pub ready: PodsReadyConfig,
    /// How long pods that the routers left may go on with requests in flight before they are deleted;
    /// then they have their own grace period.
    #[serde(default = "default_pods_drain_seconds")]
    pub drain_seconds: u64,
}

/// Objects of a cluster. Placeholders stand in their texts; nothing is ever replaced in YAML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a list of objects, or the path of a YAML file with them")]
pub enum Manifests {
    Objects(Vec<serde_json::Value>),
    /// Beside the pipeline file; it is read with it, so that none of these is left afterwards.
    File(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct PodsReadyConfig {
    /// From the first object to the last endpoint. Time without an answer of the API server does not count.
    pub timeout_seconds: u64,
    /// An image that cannot be had, or too few ready pods while a deploy rests on them, for this long is
    /// reason enough to go back.
    pub broken_seconds: u64,
}

impl Default for PodsReadyConfig {
    fn default() -> PodsReadyConfig {
        PodsReadyConfig { timeout_seconds: 300, broken_seconds: 30 }
    }
}

fn default_namespace() -> String {
    "default".to_owned()
}

fn default_pods_drain_seconds() -> u64 {
    10
}

/// The stage after `deploy`: one request through the frontend that only the new version may answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TestConfig {
    pub stage: String,
    /// `{frontend}/`
    pub url: String,
    /// What the answer must contain for one of the new instances: `{text} ({address})`.
    pub proof: String,
    #[serde(default = "default_requests")]
    pub requests: u32,
    #[serde(default)]
    pub gate: Option<GateConfig>,
}

fn default_requests() -> u32 {
    10
}

/// One shift of traffic: `weights: {new: 1, current: 9}`, or `failover: true` (all to the new
/// version, the current one stands by).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct StepConfig {
    pub stage: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightsConfig>,
    #[serde(default)]
    pub failover: bool,
    #[serde(default)]
    pub gate: Option<GateConfig>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsConfig {
    pub new: f64,
    pub current: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GateConfig {
    pub message: String,
    pub ok: String,
    /// Commands to try, shown as they are once the placeholders are filled in.
    #[serde(default)]
    pub commands: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Limits {
    /// How long a step waits until every router serves it.
    pub fleet_seconds: u64,
    /// How long a step goes on trying when the control plane does not answer; a revert never stops trying.
    pub control_plane_seconds: u64,
    /// The same for the API server of a cluster.
    pub cluster_seconds: u64,
    pub lease_seconds: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { fleet_seconds: 30, control_plane_seconds: 60, cluster_seconds: 300, lease_seconds: 60 }
    }
}
