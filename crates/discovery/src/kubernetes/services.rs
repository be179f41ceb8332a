//! The services of a namespace, as far as names need them: ports, and where the outside reaches them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use kubernetes::{
    Event,
    k8s_openapi::{api::core::v1::Service as Object, apimachinery::pkg::util::intstr::IntOrString},
};

use super::book::{Catalogue, Touched};

#[derive(Debug, PartialEq)]
pub(crate) struct Service {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) ports: Vec<ServicePort>,
    /// Hosts or addresses of the load balancer, in order.
    pub(crate) ingress: Vec<String>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct ServicePort {
    /// Empty where it has none.
    pub(crate) name: String,
    pub(crate) number: u16,
    pub(crate) target: Target,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    Number(u16),
    Name(String),
}

impl Service {
    pub(crate) fn numbered(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number)
    }

    pub(crate) fn named(&self, name: &str) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.name == name)
    }
}

#[derive(Default)]
pub(crate) struct Services {
    services: HashMap<String, Arc<Service>>,
}

impl Catalogue for Services {
    type Value = Service;

    fn value(&self, name: &str) -> Option<Arc<Service>> {
        self.services.get(name).cloned()
    }
}

impl Services {
    pub(crate) fn apply(&mut self, event: Event<Object>) -> Touched {
        match event {
            Event::All(objects, _) => {
                self.services = objects.into_iter().filter_map(service).collect();
                Touched::All
            }
            Event::Put(object) => {
                let Some((name, service)) = service(object) else { return Touched::Nobody };
                self.services.insert(name.clone(), service);
                Touched::One(name.into())
            }
            Event::Gone(object) => {
                let name = object.metadata.name.unwrap_or_default();
                self.services.remove(&name);
                Touched::One(name.into())
            }
        }
    }
}

fn service(object: Object) -> Option<(String, Arc<Service>)> {
    let port = |port: kubernetes::k8s_openapi::api::core::v1::ServicePort| {
        let number = u16::try_from(port.port).ok()?;
        let target = match port.target_port {
            // 0 stands for "not given".
            None | Some(IntOrString::Int(0)) => Target::Number(number),
            Some(IntOrString::Int(target)) => Target::Number(u16::try_from(target).ok()?),
            Some(IntOrString::String(name)) => Target::Name(name),
        };
        let is_tcp = port.protocol.is_none_or(|protocol| protocol == "TCP");
        is_tcp.then(|| ServicePort { name: port.name.unwrap_or_default(), number, target })
    };
    let ports = object.spec?.ports.unwrap_or_default().into_iter().filter_map(port).collect();
    let balancer = object.status.and_then(|status| status.load_balancer).and_then(|balancer| balancer.ingress);
    let ingress = balancer.unwrap_or_default().into_iter();
    let ingress = ingress.filter_map(|ingress| ingress.hostname.filter(|host| !host.is_empty()).or(ingress.ip));
    let labels = object.metadata.labels.unwrap_or_default();
    Some((object.metadata.name?, Arc::new(Service { labels, ports, ingress: ingress.collect() })))
}
