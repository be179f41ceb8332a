//! Stores in a real cluster.

#![allow(clippy::unwrap_used, dead_code)]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use kubernetes::{Clusters, Connection, Patience};
use store::Kubernetes;
use testkit::kube::{ControlPlane, control_plane};

/// The control plane with the definition of dtabs, as it is shipped.
pub fn cluster() -> &'static ControlPlane {
    static DEFINED: OnceLock<()> = OnceLock::new();
    let cluster = control_plane();
    DEFINED.get_or_init(|| define(cluster));
    cluster
}

pub fn define(cluster: &ControlPlane) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/k8s/dtabs.yml");
    cluster.kubectl(&["apply", "-f", file.to_str().unwrap()], "");
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/dtabs.l5d.io"], "");
}

/// A new namespace of the cluster.
pub fn namespace() -> String {
    cluster().namespace("store")
}

pub fn admin() -> PathBuf {
    cluster().kubeconfig()
}

/// A replica: a store with a client of its own.
pub async fn open(namespace: &str, kubeconfig: PathBuf) -> Kubernetes {
    let patience = Patience { backoff: (Duration::from_millis(20), Duration::from_millis(200)), ..Patience::default() };
    let clusters = Clusters::patient([], Path::new("/nowhere"), patience);
    let connection = Connection { kubeconfig: Some(kubeconfig), ..Connection::default() };
    let cluster = clusters.get(&connection).unwrap();
    Kubernetes::open(cluster, namespace).await.unwrap()
}
