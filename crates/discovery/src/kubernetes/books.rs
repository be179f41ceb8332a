//! The books of one cluster: one watch for each namespace and kind of object that somebody reads.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use kubernetes::{
    Cluster, Resource, Watch,
    k8s_openapi::api::{
        core::v1::{Endpoints, Service as ServiceObject},
        discovery::v1::EndpointSlice,
    },
};
use naming::{Fed, Live, Shared};

use super::{
    backends::{AllBackends, Backends},
    book::Book,
    services::{Service, Services},
};

/// See the module's documentation. A watch ends a minute after its last reader: who asks again and again,
/// each time only once, must not make the cluster list all of a namespace each time.
pub(crate) struct Books {
    pub(crate) cluster: Cluster,
    backends: Shared<Arc<str>, (), Book<AllBackends>>,
    services: Shared<Arc<str>, (), Book<Services>>,
    open: Arc<AtomicUsize>,
    lingering: Arc<Lingering>,
}

/// Watches that were asked for lately, by kind and namespace.
type Lingering = Mutex<HashMap<(Kind, Arc<str>), (Live<()>, Instant)>>;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Backends,
    Services,
}

const LINGER: Duration = Duration::from_secs(60);

/// Watches of one process on one cluster: names that callers make up must not open more than that.
const MOST_OPEN: usize = 2000;

/// Counts a watch for as long as it lives.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: &Arc<AtomicUsize>) -> Open {
        count.fetch_add(1, Ordering::Relaxed);
        Open(count.clone())
    }

    fn is_too_many(&self) -> bool {
        self.0.load(Ordering::Relaxed) > MOST_OPEN
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Books {
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new(cluster: Cluster) -> Books {
        let lingering: Arc<Lingering> = Arc::default();
        let forgotten = Arc::downgrade(&lingering);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LINGER / 4).await;
                let Some(lingering) = forgotten.upgrade() else { return };
                let mut lingering = lingering.lock().unwrap_or_else(PoisonError::into_inner);
                lingering.retain(|_, (_, asked)| asked.elapsed() < LINGER);
            }
        });
        Books { cluster, backends: Shared::new(), services: Shared::new(), open: Arc::default(), lingering }
    }

    /// Both must be names that Kubernetes would accept (`is_name`).
    pub(crate) fn backends(&self, namespace: &str, service: &str) -> Live<Option<Arc<Backends>>> {
        let namespace: Arc<str> = namespace.into();
        let (cluster, name) = (self.cluster.clone(), namespace.clone());
        let (open, fed) = self.backends.get(namespace.clone(), |fed| {
            let counted = Open::new(&self.open);
            feed_backends(cluster, name, fed, counted)
        });
        self.linger(Kind::Backends, namespace, &open);
        fed.extra.read(service).keeping(Arc::new(open))
    }

    pub(crate) fn service(&self, namespace: &str, service: &str) -> Live<Option<Arc<Service>>> {
        let namespace: Arc<str> = namespace.into();
        let (cluster, name) = (self.cluster.clone(), namespace.clone());
        let (open, fed) = self.services.get(namespace.clone(), |fed| {
            let counted = Open::new(&self.open);
            feed_services(cluster, name, fed, counted)
        });
        self.linger(Kind::Services, namespace, &open);
        fed.extra.read(service).keeping(Arc::new(open))
    }

    fn linger(&self, kind: Kind, namespace: Arc<str>, open: &Live<()>) {
        // Each change to the table is one step: a panic elsewhere leaves it whole.
        let mut lingering = self.lingering.lock().unwrap_or_else(PoisonError::into_inner);
        lingering.insert((kind, namespace), (open.clone(), Instant::now()));
    }

    /// How the watches of a namespace do: backends, services.
    pub(crate) fn reports(&self, namespace: &str) -> serde_json::Value {
        let mut reports = serde_json::Map::new();
        let backends = self.backends.entries();
        if let Some((_, fed)) = backends.iter().find(|(name, _)| **name == *namespace) {
            reports.insert("endpoints".to_owned(), fed.extra.report.json());
        }
        let services = self.services.entries();
        if let Some((_, fed)) = services.iter().find(|(name, _)| **name == *namespace) {
            reports.insert("services".to_owned(), fed.extra.report.json());
        }
        serde_json::Value::Object(reports)
    }
}

fn too_many() -> Arc<str> {
    format!("more than {MOST_OPEN} watches on one cluster: names are looked up in too many namespaces").into()
}

/// Slices, if the cluster has them and lets us; else Endpoints.
async fn feed_backends(cluster: Cluster, namespace: Arc<str>, fed: Arc<Fed<(), Book<AllBackends>>>, open: Open) {
    let book = &fed.extra;
    if open.is_too_many() {
        return book.refuse(too_many());
    }
    let slices = Watch::new(&cluster, Resource::ENDPOINT_SLICES, &namespace, &book.report);
    let mut backoff = slices.backoff();
    loop {
        match slices.list::<EndpointSlice>().await {
            Ok(list) => return slices.follow(list, |event| book.change(|all| all.apply(event))).await,
            Err(error) if error.is_refusal() => {
                let endpoints = Watch::new(&cluster, Resource::ENDPOINTS, &namespace, &book.report);
                if let Ok(list) = endpoints.list::<Endpoints>().await {
                    tracing::warn!(%namespace, "using endpoints (deprecated): {error}");
                    let list = tokio::select! {
                        () = endpoints.follow(list, |event| book.change(|all| all.apply(event))) => return,
                        list = slices.wait_until_listed::<EndpointSlice>() => list,
                    };
                    tracing::info!(%namespace, "using slices now");
                    return slices.follow(list, |event| book.change(|all| all.apply(event))).await;
                }
                book.refuse(error.to_string().into());
            }
            Err(_) => {}
        }
        backoff.wait().await;
    }
}

async fn feed_services(cluster: Cluster, namespace: Arc<str>, fed: Arc<Fed<(), Book<Services>>>, open: Open) {
    let book = &fed.extra;
    if open.is_too_many() {
        return book.refuse(too_many());
    }
    let services = Watch::new(&cluster, Resource::SERVICES, &namespace, &book.report);
    let mut backoff = services.backoff();
    loop {
        match services.list::<ServiceObject>().await {
            Ok(list) => return services.follow(list, |event| book.change(|all| all.apply(event))).await,
            Err(error) if error.is_refusal() => book.refuse(error.to_string().into()),
            Err(_) => {}
        }
        backoff.wait().await;
    }
}
