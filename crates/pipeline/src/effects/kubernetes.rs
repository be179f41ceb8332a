//! The target `kubernetes`: objects of a cluster, made of the pipeline file's manifests.
//!
//! ```text
//! start:  render ─▶ claim (create) and apply each ─▶ workloads roll out ─▶ endpoints have the pods
//! remove: what the labels find ─▶ drain ─▶ delete, dependents first ─▶ wait until all is gone
//! ```
//!
//! What is ours is told by labels (`l5d.io/version`), whose by an annotation (`l5d.io/owner`), never by name
//! or order. While the API server is away everything waits for it, as long as `limits.clusterSeconds` say.

mod apply;
mod ready;
mod remove;
mod rest;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kubernetes::{Kind, Objects};
use rollout::{Level, Outcome};
use serde_json::Value;

use super::Job;
use super::target::{Instance, Present};
use crate::cluster::{Cluster, trouble};
use crate::control::Trouble;
use crate::file::{KubernetesTarget, Manifests};
use crate::manifests::{self, ENTRY, Gvk, KINDS, MANAGED_BY, Maker, OWNER, Object, SERVICE, SWITCHYARD, VERSION};
use crate::patience::Patience;
use crate::pods::{self, Pod};

pub(super) use remove::remove;
pub(super) use rest::watch;

/// What can carry a version, besides what the file names.
const USUAL: [(&str, &str); 6] = [
    ("v1", "Service"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "ReplicaSet"),
    ("v1", "ReplicationController"),
];

/// One deploy's part of the cluster.
pub(super) struct Place<'a> {
    job: &'a Job,
    target: &'a KubernetesTarget,
    manifests: &'a [Value],
    cluster: &'a Cluster,
    objects: Objects,
    patience: Patience,
}

/// An object with its kind.
struct Found {
    kind: Kind,
    object: Value,
}

impl<'a> Place<'a> {
    pub fn of(job: &'a Job, target: &'a KubernetesTarget) -> Result<Place<'a>, String> {
        let Manifests::Objects(manifests) = &target.manifests else {
            return Err("target.manifests: the file was not read".to_owned());
        };
        let namespace = job.story.cluster_namespace().ok_or("target.namespace cannot be filled")?;
        let cluster = job.deploys.cluster()?;
        let limit = Duration::from_secs(job.story.head.file.limits.cluster_seconds);
        let patience = Patience::new(job.slot.clone(), (!job.is_patient()).then_some(limit));
        Ok(Place { job, target, manifests, cluster, objects: cluster.objects(&namespace), patience })
    }

    fn namespace(&self) -> &str {
        self.objects.namespace()
    }

    fn service(&self) -> &str {
        &self.job.story.deploy.plan.service
    }

    /// As objects are marked with it: by which control plane, namespace and entry a version is reached.
    fn entry(&self) -> String {
        let control = self.job.deploys.control().shown();
        format!("{control} {} {}", self.job.namespace(), self.job.entry())
    }

    fn render(&self, version: &str) -> Result<Vec<Object>, String> {
        let (owner, entry) = (self.job.owner(), self.entry());
        let maker = Maker {
            namespace: self.namespace(),
            service: self.service(),
            version,
            pipeline: &self.job.story.head.file.name,
            deploy: self.job.story.id(),
            owner: &owner,
            entry: &entry,
            replicas: self.target.replicas,
        };
        let values = self.job.story.values(&self.job.deploys.config().frontend);
        manifests::render(self.manifests, &maker, &values)
    }

    /// How the cluster serves it.
    async fn kind(&self, gvk: &Gvk) -> Result<Option<Kind>, String> {
        self.patience.ask(async || self.objects.kind(&gvk.api, &gvk.kind).await.map_err(|error| trouble(&error))).await
    }

    async fn known(&self, gvk: &Gvk) -> Result<Kind, String> {
        let kind = self.kind(gvk).await?;
        let kind = kind.ok_or_else(|| format!("the cluster knows no {} {}", gvk.api, gvk.kind))?;
        match kind.is_namespaced {
            true => Ok(kind),
            false => Err(format!(
                "{} is the cluster's, not a namespace's: no version can have one of its own; make it by hand",
                gvk.shown()
            )),
        }
    }

    /// The pods of a version, as they are now.
    async fn pods(&self, version: &str) -> Result<Vec<Pod>, Trouble> {
        let kind = core("Pod", "pods");
        let listed = self.objects.list(&kind, &format!("{VERSION}={version}"), "").await;
        let listed = listed.map_err(|error| trouble(&error))?;
        let read = listed.into_iter().filter_map(|object| serde_json::from_value(object).ok());
        Ok(read.filter_map(|pod| pods::pod(&pod)).collect())
    }

    /// Everything that `labels` select: of the kinds of the file, the usual ones, and those that the
    /// objects themselves name. What the file does not name and the role does not allow is not looked at.
    async fn owned(&self, labels: &str) -> Result<Vec<Found>, String> {
        let own: BTreeSet<Gvk> = self.manifests.iter().filter_map(Gvk::of).collect();
        let mut wanted: Vec<Gvk> = own.iter().cloned().collect();
        wanted.extend(USUAL.iter().map(|(api, kind)| Gvk::new(api, kind)).filter(|usual| !own.contains(usual)));
        let usual = own.len()..wanted.len();
        let (mut found, mut next) = (Vec::new(), 0);
        while let Some(gvk) = wanted.get(next).cloned() {
            let is_usual = usual.contains(&next);
            next += 1;
            let Some(kind) = self.kind(&gvk).await?.filter(|kind| kind.is_namespaced) else { continue };
            let listed = self.patience.ask(async || match self.objects.list(&kind, labels, "").await {
                Err(error) if is_usual && error.code() == Some(403) => {
                    tracing::info!("{error}; taken for none, because the pipeline file names none");
                    Ok(Vec::new())
                }
                listed => listed.map_err(|error| trouble(&error)),
            });
            for object in listed.await? {
                let kinds = annotation(&object, KINDS).filter(|_| label(&object, SERVICE) == Some(self.service()));
                let kinds: Vec<Gvk> = kinds.unwrap_or_default().split(',').filter_map(Gvk::read).collect();
                for other in kinds {
                    if !wanted.contains(&other) {
                        wanted.push(other);
                    }
                }
                found.push(Found { kind: kind.clone(), object });
            }
        }
        Ok(found)
    }

    /// The addresses that routers find behind a Service, with the pods' names.
    async fn endpoints(&self, service: &str) -> Result<BTreeMap<String, Option<String>>, Trouble> {
        let kind = Kind {
            api: "discovery.k8s.io/v1".to_owned(),
            kind: "EndpointSlice".to_owned(),
            plural: "endpointslices".to_owned(),
            is_namespaced: true,
        };
        let labels = format!("kubernetes.io/service-name={service}");
        let slices = self.objects.list(&kind, &labels, "").await.map_err(|error| trouble(&error))?;
        let endpoints = slices.iter().filter_map(|slice| slice.get("endpoints")?.as_array()).flatten();
        let mut addresses = BTreeMap::new();
        for endpoint in endpoints {
            if endpoint.pointer("/conditions/ready").and_then(Value::as_bool) == Some(false) {
                continue;
            }
            let pod = endpoint.pointer("/targetRef/name").and_then(Value::as_str).map(str::to_owned);
            for address in endpoint.get("addresses").and_then(Value::as_array).into_iter().flatten() {
                addresses.extend(address.as_str().map(|address| (address.to_owned(), pod.clone())));
            }
        }
        Ok(addresses)
    }

    /// A line of the deploy's log.
    async fn remark(&self, level: Level, text: String) {
        self.job.remark(level, text).await;
    }
}

fn core(kind: &str, plural: &str) -> Kind {
    Kind { api: "v1".to_owned(), kind: kind.to_owned(), plural: plural.to_owned(), is_namespaced: true }
}

fn name(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("labels")?.get(key)?.as_str()
}

fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("annotations")?.get(key)?.as_str()
}

/// Whose an object is, for people.
fn owner(object: &Value) -> String {
    match (label(object, MANAGED_BY), annotation(object, OWNER)) {
        (Some(SWITCHYARD), Some(owner)) => owner.to_owned(),
        (Some(SWITCHYARD), None) => "no deploy's".to_owned(),
        (Some(other), _) => format!("managed by {other}"),
        (None, _) => format!("without the label {MANAGED_BY}"),
    }
}

/// Versions by label, whatever their names, and names that look like versions, whatever their labels.
pub(super) async fn present(place: &Place<'_>) -> Result<Present, String> {
    let service = place.service();
    let entry = place.entry();
    let mut present = Present::default();
    for Found { object, .. } in place.owned("").await? {
        let is_ours = label(&object, MANAGED_BY) == Some(SWITCHYARD) && label(&object, SERVICE) == Some(service);
        match label(&object, VERSION).filter(|_| is_ours) {
            Some(version) => {
                present.versions.insert(version.to_owned());
                // The lease on the entry is ours: whoever else made it for this entry is dead.
                if annotation(&object, ENTRY) == Some(&entry) {
                    present.leftovers.insert(version.to_owned());
                }
            }
            None => drop(present.versions.insert(name(&object).to_owned())),
        }
    }
    Ok(present)
}

pub(super) async fn start(place: &Place<'_>, version: &str) -> Result<Outcome, String> {
    let rendered = place.render(version)?;
    for object in &rendered {
        apply::apply(place, version, object).await?;
    }
    let made: Vec<String> = rendered.iter().map(|object| format!("{} {}", object.gvk.kind, object.name)).collect();
    place.remark(Level::Info, format!("in namespace {}: {}", place.namespace(), made.join(", "))).await;
    let pods = ready::wait(place, version, &rendered).await?;
    let addresses: Vec<&str> = pods.iter().filter_map(|pod| pod.address.as_deref()).collect();
    Ok(Outcome::Done { detail: format!("{version} is ready, and its Service has the pods: {}", addresses.join(", ")) })
}

/// The pods behind the version's Service.
pub(super) async fn instances(place: &Place<'_>, version: &str) -> Result<Vec<Instance>, String> {
    let pods = place.patience.ask(async || place.pods(version).await).await?;
    let endpoints = place.patience.ask(async || place.endpoints(version).await).await?;
    let names: BTreeSet<&str> = endpoints.values().flatten().map(String::as_str).collect();
    let behind = pods.into_iter().filter(|pod| pod.is_ready && !pod.is_ending && names.contains(pod.name.as_str()));
    let instances = behind.filter_map(|pod| Some(Instance { name: pod.name, address: pod.address?, port: None }));
    Ok(instances.collect())
}
