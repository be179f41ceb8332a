//! Everything that a pipeline server with the target `kubernetes` needs around it: a namespace of a real
//! cluster with a played node, a control plane in memory, a frontend.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use testkit::http;
use testkit::kube::ControlPlane;
use testkit::until::until;

use super::control::FakeControl;
use super::node::Node;
use super::{LIMIT, Server, commit, frontend, make_repository, start_server};

pub struct Yard<'a> {
    pub cluster: &'a ControlPlane,
    pub directory: tempfile::TempDir,
    pub control: FakeControl,
    pub frontend: String,
    pub node: Node,
    /// Of the cluster.
    pub namespace: String,
    pub kubeconfig: PathBuf,
    pub pipeline: String,
}

impl<'a> Yard<'a> {
    /// With world-v1 as somebody made it by hand, labels and all.
    pub fn new(cluster: &'a ControlPlane) -> Yard<'a> {
        let directory = tempfile::Builder::new().prefix("switchyard-yard-").tempdir().unwrap();
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let namespace = format!("yard-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        // At one go: kubectl is what costs most in these tests.
        cluster.apply(&first(&namespace));
        let srv = format!("/srv=>/#/io.l5d.k8s/{namespace}/http");
        let control =
            FakeControl::start(&format!("{srv};/host=>/srv;/tmp=>/srv;/svc=>/host;/host/world=>/srv/world-v1"));
        let node = Node::start(cluster, &namespace);
        let frontend = frontend::start(control.clone(), directory.path(), Some(node.clone()));
        make_repository(&directory.path().join("repo"));
        let (kubeconfig, pipeline) = (cluster.kubeconfig(), PIPELINE.to_owned());
        let yard = Yard { cluster, directory, control, frontend, node, namespace, kubeconfig, pipeline };
        until("world-v1 serves", LIMIT, || match yard.node.endpoints("world-v1") {
            Some(addresses) if addresses.len() == 2 => Ok(()),
            other => Err(other),
        });
        yard
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn commit(&self, text: &str) {
        commit(&self.path("repo"), text);
    }

    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl(&[&["-n", &self.namespace], arguments].concat(), "")
    }

    #[track_caller]
    pub fn apply(&self, object: &Value) {
        let arguments = ["-n", &self.namespace, "apply", "-f", "-"];
        self.cluster.kubectl(&arguments, &object.to_string());
    }

    /// An object of the namespace.
    #[track_caller]
    pub fn get(&self, kind: &str, name: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", kind, name, "-o", "json", "--show-managed-fields"])).unwrap()
    }

    /// What is there of our kinds, as `kind/name`.
    pub fn there(&self) -> Vec<String> {
        let kinds = "deployments,replicationcontrollers,services,configmaps,pods";
        let names = self.kubectl(&["get", kinds, "-l", "l5d.io/version", "-o", "name"]);
        let mut names: Vec<String> = names.lines().map(|line| line.replace(".apps", "")).collect();
        names.sort();
        names
    }

    pub fn server(&self) -> Server {
        let file = self.path("hello_world.yaml");
        std::fs::write(&file, &self.pipeline).unwrap();
        start_server(&json!({
            "port": 0,
            "state": self.path("state"),
            "controlPlane": self.control.url(),
            "frontend": self.frontend,
            "kubernetes": {"kubeconfig": self.kubeconfig},
            "pipelines": [file],
            "defaults": {"hello_world": {"gitRepo": self.path("repo"), "k8sNamespace": self.namespace}},
        }))
    }

    pub fn entry(&self) -> String {
        self.control.entry("internal", "/host/world")
    }

    pub fn ask(&self) -> String {
        http::get(&self.frontend, &[]).text()
    }

    /// The dtab and the cluster say that nothing has changed.
    #[track_caller]
    pub fn is_as_before(&self) {
        assert_eq!(self.entry(), "/srv/world-v1");
        let there = self.there();
        assert!(there.iter().all(|name| name.contains("world-v1")) && there.len() == 4, "{there:?}");
        assert!(self.ask().contains(" first ("), "{}", self.ask());
        assert_eq!(self.control.leases(), [""; 0]);
    }

    /// A deploy that is reverted; its reason and its log.
    #[track_caller]
    pub fn reverted(&self) -> (String, String) {
        let server = self.server();
        let id = server.start(json!({}));
        let deploy = server.rests_at(&id, "reverted");
        (deploy["reason"].as_str().unwrap().to_owned(), server.log(&id))
    }
}

impl Drop for Yard<'_> {
    fn drop(&mut self) {
        self.node.stop();
    }
}

/// A namespace, the node, and a replication controller, as the tutorial had them.
fn first(namespace: &str) -> Value {
    let labels =
        json!({"app.kubernetes.io/managed-by": "switchyard", "l5d.io/service": "world", "l5d.io/version": "world-v1"});
    let container = json!({"name": "world", "image": "world:1", "env": [{"name": "TEXT", "value": "first"}]});
    let of = json!({"name": "world-v1", "namespace": namespace, "labels": labels});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "played"}},
        {"apiVersion": "v1", "kind": "ReplicationController", "metadata": of,
         "spec": {"replicas": 2, "selector": {"app": "world-v1"}, "template": {
            "metadata": {"labels": {"app": "world-v1", "app.kubernetes.io/managed-by": "switchyard", "l5d.io/version": "world-v1"}},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}}}},
        {"apiVersion": "v1", "kind": "Service", "metadata": of,
         "spec": {"selector": {"app": "world-v1"}, "ports": [{"name": "http", "port": 7778}]}},
    ]})
}

pub const PIPELINE: &str = r#"
name: hello_world
parameters:
  - name: gitRepo
  - name: k8sNamespace
service: world
dtab: { namespace: internal, entry: /host/world, live: /srv, marker: /tmp }
source: { kind: git, repository: "{gitRepo}", branch: master, file: world.txt, timeoutSeconds: 10 }
target:
  kind: kubernetes
  namespace: "{k8sNamespace}"
  replicas: 2
  ready: { timeoutSeconds: 30, brokenSeconds: 1 }
  drainSeconds: 1
  manifests:
  - apiVersion: apps/v1
    kind: Deployment
    metadata: { labels: { app: "{service}" } }
    spec:
      template:
        metadata: { labels: { app: "{service}" } }
        spec:
          terminationGracePeriodSeconds: 1
          containers:
          - name: world
            image: world:2
            env:
            - { name: TEXT, value: "{text}" }
            - { name: POD_IP, valueFrom: { fieldRef: { fieldPath: status.podIP } } }
            ports: [{ name: http, containerPort: 7778 }]
  - apiVersion: v1
    kind: Service
    metadata: { name: "{new}" }
    spec: { ports: [{ name: http, port: 7778 }] }
  - apiVersion: v1
    kind: ConfigMap
    metadata: { name: "{new}-more" }
    data: { text: "{text}" }
test:
  stage: integration testing
  url: "{frontend}/"
  proof: "{text} ({address})"
  requests: 5
  gate: { message: "Try {new} yourself.", ok: "Ok" }
steps:
  - stage: shift traffic (10%)
    weights: { new: 1, current: 9 }
    gate: { message: "Does {new} look right?", ok: "Ok" }
  - stage: shift traffic (100%)
    failover: true
    gate: { message: "Does everything look good on {new}?", ok: "Ok" }
limits: { fleetSeconds: 2, controlPlaneSeconds: 2, clusterSeconds: 30, leaseSeconds: 5 }
"#;
