//! Plays the one node of a cluster that has none: binds pods, gives them addresses and readiness, or the
//! troubles that a version is to have; lets deleted ones go. Also what routers would see: endpoints.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::http::Request;
use kubernetes::{Clusters, Connection};
use serde_json::{Value, json};
use testkit::kube::ControlPlane;

/// What becomes of the pods of a version.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Play {
    #[default]
    Run,
    NoImage,
    Crash,
    /// Runs, and its probe fails.
    Unready,
}

#[derive(Clone)]
pub struct Node {
    namespace: String,
    inside: Arc<Mutex<Inside>>,
    /// Ends the player with the yard that has it.
    is_over: Arc<AtomicBool>,
}

#[derive(Default)]
struct Inside {
    plays: BTreeMap<String, Play>,
    /// Service → addresses that are ready.
    endpoints: BTreeMap<String, Vec<String>>,
    /// Address → what it answers.
    texts: BTreeMap<String, String>,
    addresses: u8,
    /// Pods that were seen, in order.
    pods: Vec<String>,
}

impl Node {
    pub fn start(cluster: &ControlPlane, namespace: &str) -> Node {
        let node = Node { namespace: namespace.to_owned(), inside: Arc::default(), is_over: Arc::default() };
        let (player, kubeconfig) = (node.clone(), cluster.kubeconfig());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(player.play_for_ever(kubeconfig));
        });
        node
    }

    pub fn stop(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// From now on.
    pub fn play(&self, version: &str, play: Play) {
        self.inside().plays.insert(version.to_owned(), play);
    }

    pub fn endpoints(&self, service: &str) -> Option<Vec<String>> {
        self.inside().endpoints.get(service).cloned()
    }

    /// What the pod at this address answers.
    pub fn answer(&self, address: &str) -> Option<String> {
        self.inside().texts.get(address).cloned()
    }

    pub fn pods(&self) -> Vec<String> {
        self.inside().pods.clone()
    }

    async fn play_for_ever(self, kubeconfig: PathBuf) {
        let connection = Connection { kubeconfig: Some(kubeconfig), ..Connection::default() };
        let cluster = Clusters::default().get(&connection).unwrap();
        while !self.is_over.load(Ordering::Relaxed) {
            // The API server may be dead: a test's doing.
            if let Ok(client) = cluster.client().await {
                let _ = self.play_once(&client).await;
            }
            tokio::time::sleep(Duration::from_millis(80)).await;
        }
    }

    async fn play_once(&self, client: &kubernetes::kube::Client) -> Result<(), kubernetes::kube::Error> {
        let at = |rest: &str| format!("/api/v1/namespaces/{}/{rest}", self.namespace);
        let pods = send(client, "GET", &at("pods"), Value::Null).await?;
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        for pod in &pods {
            let name = pod["metadata"]["name"].as_str().unwrap();
            if pod["metadata"]["deletionTimestamp"].is_string() {
                send(client, "DELETE", &at(&format!("pods/{name}")), json!({"gracePeriodSeconds": 0})).await?;
                continue;
            }
            if pod["spec"]["nodeName"].is_null() {
                let target = json!({"apiVersion": "v1", "kind": "Node", "name": "played"});
                let binding =
                    json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target});
                send(client, "POST", &at(&format!("pods/{name}/binding")), binding).await?;
            }
            if self.is_unready(pod) {
                let involved = json!({"kind": "Pod", "namespace": self.namespace, "name": name});
                let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": format!("{name}.probe")},
                    "involvedObject": involved, "type": "Warning", "reason": "Unhealthy",
                    "message": "Readiness probe failed: connection refused", "lastTimestamp": "2026-01-01T00:00:00Z"});
                // It is there from the last round.
                let _ = send(client, "POST", &at("events"), event).await;
            }
            if let Some(status) = self.status(pod) {
                send(client, "PATCH", &at(&format!("pods/{name}/status")), json!({ "status": status })).await?;
            }
        }
        self.inside().pods = pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect();
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", self.namespace);
        let slices = send(client, "GET", &path, Value::Null).await?;
        let mut endpoints: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for slice in slices["items"].as_array().into_iter().flatten() {
            let service = slice["metadata"]["labels"]["kubernetes.io/service-name"].as_str().unwrap_or_default();
            let of = endpoints.entry(service.to_owned()).or_default();
            let ready =
                slice["endpoints"].as_array().into_iter().flatten().filter(|one| one["conditions"]["ready"] == true);
            of.extend(ready.map(|one| one["addresses"][0].as_str().unwrap().to_owned()));
        }
        self.inside().endpoints = endpoints;
        Ok(())
    }

    fn is_unready(&self, pod: &Value) -> bool {
        let version = pod["metadata"]["labels"]["l5d.io/version"].as_str().unwrap_or_default();
        self.inside().plays.get(version) == Some(&Play::Unready)
    }

    /// What its status becomes, if that is another one.
    fn status(&self, pod: &Value) -> Option<Value> {
        let mut inside = self.inside();
        let version = pod["metadata"]["labels"]["l5d.io/version"].as_str().unwrap_or_default();
        let play = inside.plays.get(version).copied().unwrap_or_default();
        let address = match pod["status"]["podIP"].as_str() {
            Some(address) => address.to_owned(),
            None => {
                inside.addresses += 1;
                format!("10.1.0.{}", inside.addresses)
            }
        };
        let container = &pod["spec"]["containers"][0];
        let text = container["env"].as_array().into_iter().flatten().find(|one| one["name"] == "TEXT");
        let text = expanded(text.and_then(|one| one["value"].as_str()).unwrap_or_default(), &address);
        inside.texts.insert(address.clone(), format!("{text} ({address})"));
        let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0);
        let terminated = json!({"terminated": {"exitCode": 2, "reason": "Error", "message": "no configuration found"}});
        let (is_ready, restarts, state, last) = match play {
            Play::Run => (true, restarts, json!({"running": {}}), json!({})),
            Play::Unready => (false, restarts, json!({"running": {}}), json!({})),
            Play::NoImage => {
                let waiting = json!({"reason": "ImagePullBackOff", "message": "Back-off pulling image \"web:none\""});
                (false, 0, json!({ "waiting": waiting }), json!({}))
            }
            Play::Crash => {
                let waiting = json!({"reason": "CrashLoopBackOff", "message": "back-off 10s"});
                (false, (restarts + 1).min(5), json!({ "waiting": waiting }), terminated)
            }
        };
        let ready = if is_ready { "True" } else { "False" };
        let containers = json!([{"name": container["name"], "image": container["image"], "imageID": "", "ready": is_ready,
            "restartCount": restarts, "state": state, "lastState": last}]);
        let status = json!({"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "containerStatuses": containers,
            "conditions": [{"type": "Ready", "status": ready}, {"type": "PodScheduled", "status": "True"}]});
        let same = pod["status"]["containerStatuses"] == status["containerStatuses"]
            && pod["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|one| one["type"] == "Ready" && one["status"] == ready);
        (!same).then_some(status)
    }
}

/// As the kubelet does it: `$(NAME)` is a variable, `$$` a dollar.
fn expanded(text: &str, address: &str) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at..];
        let (taken, value) = match rest {
            rest if rest.starts_with("$$") => (2, "$"),
            rest if rest.starts_with("$(POD_IP)") => (9, address),
            _ => (1, "$"),
        };
        expanded.push_str(value);
        rest = &rest[taken..];
    }
    expanded + rest
}

async fn send(
    client: &kubernetes::kube::Client,
    method: &str,
    path: &str,
    body: Value,
) -> Result<Value, kubernetes::kube::Error> {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request::builder().method(method).uri(path).header("content-type", kind).body(body).unwrap();
    tokio::time::timeout(Duration::from_secs(5), client.request(request)).await.unwrap_or(Ok(Value::Null))
}
