//! Who stands behind the services of a namespace: EndpointSlices (or Endpoints, on clusters or for roles
//! that have no slices), merged by service.
//!
//! Ready endpoints count. Where a service has none that are ready, those that are terminating and still
//! serve do, as for kube-proxy. A pod with an address of each family counts once, by IPv4.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use kubernetes::{
    Event,
    k8s_openapi::api::{
        core::v1::{self as core, Endpoints},
        discovery::v1::EndpointSlice,
    },
};
use naming::{Endpoint, Meta};

use super::book::{Catalogue, Touched};

/// All slices of one service, in the order of their names.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Backends {
    parts: Vec<Arc<Part>>,
}

/// Endpoints with the same ports: one slice, or one subset.
#[derive(Debug, PartialEq)]
pub(crate) struct Part {
    labels: BTreeMap<String, String>,
    ports: Vec<Port>,
    members: Vec<Member>,
}

/// A TCP port; its name is the service port's, empty where that has none.
#[derive(Debug, PartialEq)]
struct Port {
    name: String,
    number: u16,
}

#[derive(Debug, PartialEq)]
struct Member {
    ip: IpAddr,
    readiness: Readiness,
    meta: Arc<Meta>,
    /// The pod's UID, where it is a pod.
    pod: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Readiness {
    Ready,
    /// Terminating, but still serving.
    Leaving,
    No,
}

/// Only objects that carry this label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Label {
    pub(crate) key: Arc<str>,
    pub(crate) value: Arc<str>,
}

impl Part {
    fn is_chosen(&self, label: Option<&Label>) -> bool {
        label.is_none_or(|label| self.labels.get(&*label.key).is_some_and(|value| **value == *label.value))
    }

    fn port(&self, name: &str) -> Option<u16> {
        self.ports.iter().find(|port| port.name == name).map(|port| port.number)
    }
}

impl Backends {
    /// Whether any slice has a port of this name.
    pub(crate) fn has_port(&self, name: &str, label: Option<&Label>) -> bool {
        self.parts.iter().any(|part| part.is_chosen(label) && part.port(name).is_some())
    }

    /// The endpoints at the port of this name, whatever number it has in each slice.
    pub(crate) fn at_name(&self, name: &str, label: Option<&Label>) -> Vec<Endpoint> {
        self.at(label, |part| part.port(name))
    }

    /// All endpoints, at this number.
    pub(crate) fn at_number(&self, number: u16, label: Option<&Label>) -> Vec<Endpoint> {
        self.at(label, |_| Some(number))
    }

    fn at(&self, label: Option<&Label>, port: impl Fn(&Part) -> Option<u16>) -> Vec<Endpoint> {
        let parts: Vec<(&Part, u16)> = self
            .parts
            .iter()
            .filter(|part| part.is_chosen(label))
            .filter_map(|part| Some((&**part, port(part)?)))
            .collect();
        let ready = chosen(&parts, Readiness::Ready);
        if ready.is_empty() { chosen(&parts, Readiness::Leaving) } else { ready }
    }
}

fn chosen(parts: &[(&Part, u16)], readiness: Readiness) -> Vec<Endpoint> {
    let members = || {
        let members = parts.iter().flat_map(|(part, port)| part.members.iter().map(move |member| (member, *port)));
        members.filter(move |(member, _)| member.readiness == readiness)
    };
    // Pods that are there with IPv4, of which an IPv6 address would be a second one.
    let has_both = members().any(|(member, _)| member.ip.is_ipv6()) && members().any(|(member, _)| member.ip.is_ipv4());
    let twins: HashSet<&str> = match has_both {
        true => members().filter(|(member, _)| member.ip.is_ipv4()).filter_map(|(m, _)| m.pod.as_deref()).collect(),
        false => HashSet::new(),
    };
    let is_twin = |member: &Member| member.ip.is_ipv6() && member.pod.as_deref().is_some_and(|pod| twins.contains(pod));
    members()
        .filter(|(member, _)| !is_twin(member))
        .map(|(member, port)| Endpoint {
            addr: SocketAddr::new(member.ip, port),
            weight: 1.0,
            meta: member.meta.clone(),
        })
        .collect()
}

/// Parts by the name of the object that they come from.
type Slices = BTreeMap<Arc<str>, Vec<Arc<Part>>>;

/// The slices of a namespace, by service.
#[derive(Default)]
pub(crate) struct AllBackends {
    services: HashMap<Arc<str>, Slices>,
    nodes: HashMap<String, Arc<Meta>>,
}

impl Catalogue for AllBackends {
    type Value = Backends;

    fn value(&self, name: &str) -> Option<Arc<Backends>> {
        let slices = self.services.get(name)?;
        Some(Arc::new(Backends { parts: slices.values().flatten().cloned().collect() }))
    }
}

const SERVICE: &str = "kubernetes.io/service-name";

/// Something that parts are made of.
pub(crate) trait Slice {
    /// The service and the object's own name; `None` where it belongs to no service.
    fn names(&self) -> Option<(Arc<str>, Arc<str>)>;

    fn parts(self, nodes: &mut HashMap<String, Arc<Meta>>) -> Vec<Arc<Part>>;
}

impl AllBackends {
    pub(crate) fn apply<S: Slice>(&mut self, event: Event<S>) -> Touched {
        match event {
            Event::All(slices, _) => {
                self.services.clear();
                slices.into_iter().for_each(|slice| {
                    self.put(slice);
                });
                Touched::All
            }
            Event::Put(slice) => self.put(slice).map_or(Touched::Nobody, Touched::One),
            Event::Gone(slice) => {
                let Some((service, name)) = slice.names() else { return Touched::Nobody };
                if let Some(slices) = self.services.get_mut(&service) {
                    slices.remove(&name);
                    if slices.is_empty() {
                        self.services.remove(&service);
                    }
                }
                Touched::One(service)
            }
        }
    }

    fn put<S: Slice>(&mut self, slice: S) -> Option<Arc<str>> {
        let (service, name) = slice.names()?;
        let parts = slice.parts(&mut self.nodes);
        self.services.entry(service.clone()).or_default().insert(name, parts);
        Some(service)
    }
}

fn meta_of(node: Option<String>, nodes: &mut HashMap<String, Arc<Meta>>) -> Arc<Meta> {
    let Some(node) = node else { return Arc::default() };
    if let Some(meta) = nodes.get(&node) {
        return meta.clone();
    }
    let meta = Arc::new(Meta::from([("nodeName".to_owned(), node.clone().into())]));
    nodes.insert(node, meta.clone());
    meta
}

fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol.eq_ignore_ascii_case("TCP"))
}

impl Slice for EndpointSlice {
    fn names(&self) -> Option<(Arc<str>, Arc<str>)> {
        let service = self.metadata.labels.as_ref()?.get(SERVICE)?;
        Some((service.as_str().into(), self.metadata.name.as_deref()?.into()))
    }

    fn parts(self, nodes: &mut HashMap<String, Arc<Meta>>) -> Vec<Arc<Part>> {
        let port = |port: kubernetes::k8s_openapi::api::discovery::v1::EndpointPort| {
            let number = u16::try_from(port.port?).ok()?;
            is_tcp(port.protocol.as_deref()).then(|| Port { name: port.name.unwrap_or_default(), number })
        };
        let member = |endpoint: kubernetes::k8s_openapi::api::discovery::v1::Endpoint| {
            let conditions = endpoint.conditions.unwrap_or_default();
            let ready = conditions.ready.unwrap_or(true);
            let readiness = match (ready, conditions.serving.unwrap_or(ready), conditions.terminating) {
                (true, ..) => Readiness::Ready,
                (false, true, Some(true)) => Readiness::Leaving,
                _ => Readiness::No,
            };
            // Of several addresses each is as good as the first. Slices of host names (FQDN) have none.
            let ip = endpoint.addresses.first()?.parse().ok()?;
            let pod = endpoint.target_ref.filter(|target| target.kind.as_deref() == Some("Pod"));
            Some(Member {
                ip,
                readiness,
                meta: meta_of(endpoint.node_name, nodes),
                pod: pod.and_then(|target| target.uid),
            })
        };
        vec![Arc::new(Part {
            labels: self.metadata.labels.unwrap_or_default(),
            ports: self.ports.unwrap_or_default().into_iter().filter_map(port).collect(),
            members: self.endpoints.into_iter().filter_map(member).collect(),
        })]
    }
}

impl Slice for Endpoints {
    fn names(&self) -> Option<(Arc<str>, Arc<str>)> {
        let name: Arc<str> = self.metadata.name.as_deref()?.into();
        Some((name.clone(), name))
    }

    fn parts(self, nodes: &mut HashMap<String, Arc<Meta>>) -> Vec<Arc<Part>> {
        let labels = self.metadata.labels.unwrap_or_default();
        let port = |port: core::EndpointPort| {
            let number = u16::try_from(port.port).ok()?;
            is_tcp(port.protocol.as_deref()).then(|| Port { name: port.name.unwrap_or_default(), number })
        };
        let mut member = |address: core::EndpointAddress, readiness| {
            let ip = address.ip.parse().ok()?;
            let pod = address.target_ref.filter(|target| target.kind.as_deref() == Some("Pod"));
            Some(Member {
                ip,
                readiness,
                meta: meta_of(address.node_name, nodes),
                pod: pod.and_then(|target| target.uid),
            })
        };
        let mut part = |subset: core::EndpointSubset| {
            let mut members: Vec<_> = subset
                .addresses
                .unwrap_or_default()
                .into_iter()
                .filter_map(|address| member(address, Readiness::Ready))
                .collect();
            let unready = subset.not_ready_addresses.unwrap_or_default().into_iter();
            members.extend(unready.filter_map(|address| member(address, Readiness::No)));
            let ports = subset.ports.unwrap_or_default().into_iter().filter_map(port).collect();
            Arc::new(Part { labels: labels.clone(), ports, members })
        };
        self.subsets.unwrap_or_default().into_iter().map(&mut part).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(name: &str, slice: Value) -> EndpointSlice {
        let mut whole = json!({
            "metadata": { "name": name, "labels": { SERVICE: "web", "track": name } },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "port": 80 }],
        });
        slice.as_object().unwrap().iter().for_each(|(key, value)| whole[key] = value.clone());
        serde_json::from_value(whole).unwrap()
    }

    #[track_caller]
    fn check<S: Slice>(slices: Vec<S>, port: &str, label: Option<&str>, expected: &[&str]) {
        let mut all = AllBackends::default();
        all.apply(Event::All(slices, String::new()));
        let backends = all.value("web").unwrap_or_default();
        let label = label.map(|value| Label { key: "track".into(), value: value.into() });
        let mut found: Vec<_> =
            backends.at_name(port, label.as_ref()).iter().map(|endpoint| endpoint.addr.to_string()).collect();
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn slices_are_merged_each_with_its_own_port() {
        let slices = || {
            let one =
                json!({ "endpoints": [{ "addresses": ["10.0.0.1", "10.9.9.9"] }, { "addresses": ["10.0.0.2"] }] });
            let two = json!({
                "endpoints": [{ "addresses": ["10.0.0.3"] }],
                "ports": [{ "name": "http", "port": 81 }, { "name": "dns", "port": 53, "protocol": "UDP" }],
            });
            vec![slice("a", one), slice("b", two)]
        };
        check(slices(), "http", None, &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:81"]);
        check(slices(), "http", Some("b"), &["10.0.0.3:81"]);
        check(slices(), "http", Some("c"), &[]);
        check(slices(), "dns", None, &[]);
    }

    #[test]
    fn conditions_decide_and_leaving_endpoints_serve_where_none_is_ready() {
        let endpoint = |ip: &str, conditions: Value| json!({ "addresses": [ip], "conditions": conditions });
        let leaving = endpoint("10.0.0.1", json!({ "ready": false, "serving": true, "terminating": true }));
        let dead = endpoint("10.0.0.2", json!({ "ready": false, "serving": false, "terminating": true }));
        let starting = endpoint("10.0.0.3", json!({ "ready": false }));
        let unknown = endpoint("10.0.0.4", json!({}));
        check(
            vec![slice("a", json!({ "endpoints": [leaving, dead, starting, unknown] }))],
            "http",
            None,
            &["10.0.0.4:80"],
        );
        check(vec![slice("a", json!({ "endpoints": [leaving, dead, starting] }))], "http", None, &["10.0.0.1:80"]);
        check(vec![slice("a", json!({ "endpoints": [dead, starting] }))], "http", None, &[]);
    }

    #[test]
    fn a_pod_of_both_families_counts_once() {
        let pod = |ip: &str, uid: &str| json!({ "endpoints": [{ "addresses": [ip], "targetRef": { "kind": "Pod", "uid": uid } }] });
        let slices = vec![
            slice("a", pod("10.0.0.1", "x")),
            slice("b", pod("fd00::1", "x")),
            slice("c", pod("fd00::2", "y")),
            slice("d", json!({ "endpoints": [{ "addresses": ["fd00::3"] }] })),
        ];
        check(slices, "http", None, &["10.0.0.1:80", "[fd00::2]:80", "[fd00::3]:80"]);
    }

    #[test]
    fn endpoints_of_old_clusters_read_alike() {
        let endpoints = json!({
            "metadata": { "name": "web", "labels": { "track": "a" } },
            "subsets": [
                { "addresses": [{ "ip": "10.0.0.1", "nodeName": "n" }], "notReadyAddresses": [{ "ip": "10.0.0.2" }],
                  "ports": [{ "name": "http", "port": 80 }] },
                { "addresses": [{ "ip": "10.0.0.3" }], "ports": [{ "name": "http", "port": 81 }] },
                { "addresses": null, "ports": null },
            ],
        });
        let endpoints: Endpoints = serde_json::from_value(endpoints).unwrap();
        check(vec![endpoints.clone()], "http", Some("a"), &["10.0.0.1:80", "10.0.0.3:81"]);
        let mut all = AllBackends::default();
        all.apply(Event::All(vec![endpoints], String::new()));
        let first = all.value("web").unwrap().at_name("http", None).remove(0);
        assert_eq!(first.meta["nodeName"], "n");
    }
}
