//! How a cluster is reached, and the clusters of one process.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::{Error, Patience, Problem, Report, Resource, Totals};

/// The keys of a document that say where a cluster's API is. All may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Connection {
    /// A `kubectl proxy`, spoken to without TLS; `localhost` where only the port is given.
    pub host: Option<String>,
    /// 8001 where only the host is given.
    pub port: Option<u16>,
    /// A kubeconfig file.
    pub kubeconfig: Option<PathBuf>,
    /// One of its contexts; by default the one that it names as current.
    pub context: Option<String>,
}

/// Keys that contradict each other, or name what is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConnectionError {
    /// `host`, `kubeconfig`, `context`.
    pub key: &'static str,
    pub message: String,
}

/// What the keys come to in this process's environment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Source {
    /// `pod`: where we are one, and the address is a sidecar's.
    Plain {
        host: String,
        port: u16,
        pod: Option<Pod>,
    },
    Files {
        files: Vec<PathBuf>,
        context: Option<String>,
    },
    InCluster(Pod),
}

/// The API server as a pod finds it, and the directory of its service account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pod {
    host: String,
    port: u16,
    directory: PathBuf,
}

/// Where a pod finds its service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// As old documents name the `kubectl proxy` in the same pod.
const SIDECAR: (&[&str], u16) = (&["localhost", "127.0.0.1", "::1"], 8001);

/// The clusters that a process is connected to, one client each. Cheap to clone.
#[derive(Clone)]
pub struct Clusters {
    inner: Arc<ClustersInner>,
}

struct ClustersInner {
    environment: BTreeMap<String, String>,
    service_account: PathBuf,
    patience: Patience,
    clusters: Mutex<HashMap<Source, Cluster>>,
    reports: Mutex<Vec<Weak<Report>>>,
}

/// One cluster. Cheap to clone; clones share the client.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<ClusterInner>,
}

struct ClusterInner {
    source: Source,
    clusters: Weak<ClustersInner>,
    patience: Patience,
    client: tokio::sync::Mutex<Option<kube::Client>>,
}

impl Default for Clusters {
    fn default() -> Clusters {
        Clusters::new([])
    }
}

impl Clusters {
    /// `environment` is the process's: it says whether this is a pod, and where kubeconfig files are.
    pub fn new(environment: impl IntoIterator<Item = (String, String)>) -> Clusters {
        Clusters::patient(environment, Path::new(SERVICE_ACCOUNT), Patience::default())
    }

    /// The same with another directory for the service account, and other time limits: for tests.
    #[doc(hidden)]
    pub fn patient(
        environment: impl IntoIterator<Item = (String, String)>,
        service_account: &Path,
        patience: Patience,
    ) -> Clusters {
        Clusters {
            inner: Arc::new(ClustersInner {
                environment: environment.into_iter().collect(),
                service_account: service_account.to_owned(),
                patience,
                clusters: Mutex::default(),
                reports: Mutex::default(),
            }),
        }
    }

    /// A variable of the environment that is set and not empty.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.inner.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether anybody asked for a cluster: without one there is nothing to tell of.
    pub fn are_used(&self) -> bool {
        !lock(&self.inner.clusters).is_empty()
    }

    /// The cluster that these keys stand for; equal keys get the same one. Does not connect yet.
    ///
    /// # Errors
    /// Where the keys contradict each other, or a file that they name cannot be read.
    pub fn get(&self, connection: &Connection) -> Result<Cluster, ConnectionError> {
        let source = self.source(connection)?;
        if let Source::Files { files, context } = &source {
            check_files(files, context.as_deref())?;
        }
        let mut clusters = lock(&self.inner.clusters);
        let cluster = clusters.entry(source.clone()).or_insert_with(|| Cluster {
            inner: Arc::new(ClusterInner {
                source,
                clusters: Arc::downgrade(&self.inner),
                patience: self.inner.patience.clone(),
                client: tokio::sync::Mutex::default(),
            }),
        });
        Ok(cluster.clone())
    }

    /// Sums over all watches that run.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        let reports: Vec<_> = lock(&self.inner.reports).iter().filter_map(Weak::upgrade).collect();
        reports.iter().for_each(|report| report.add_to(&mut totals));
        totals
    }

    fn source(&self, connection: &Connection) -> Result<Source, ConnectionError> {
        let Connection { host, port, kubeconfig, context } = connection;
        let pod = self.variable("KUBERNETES_SERVICE_HOST").map(|host| Pod {
            host: host.to_owned(),
            port: self.variable("KUBERNETES_SERVICE_PORT").and_then(|port| port.parse().ok()).unwrap_or(443),
            directory: self.inner.service_account.clone(),
        });
        let plain = |pod: Option<Pod>| {
            let (host, port) = (host.clone().unwrap_or_else(|| "localhost".to_owned()), port.unwrap_or(SIDECAR.1));
            let is_sidecar = SIDECAR.0.contains(&host.as_str()) && port == SIDECAR.1;
            Source::Plain { host, port, pod: pod.filter(|_| is_sidecar) }
        };
        let wants_file = kubeconfig.is_some() || context.is_some();
        if host.is_some() || port.is_some() {
            if wants_file {
                let message = "`host` and `port` name a kubectl proxy, `kubeconfig` and `context` a cluster: \
                               leave one of the two out";
                return Err(ConnectionError { key: "host", message: message.to_owned() });
            }
            return Ok(plain(pod));
        }
        if let Some(pod) = pod.filter(|_| !wants_file) {
            return Ok(Source::InCluster(pod));
        }
        let files = match (kubeconfig, self.variable("KUBECONFIG")) {
            (Some(file), _) => vec![file.clone()],
            (None, Some(list)) => std::env::split_paths(list).filter(|file| !file.as_os_str().is_empty()).collect(),
            (None, None) if wants_file => {
                let home = self.variable("HOME").unwrap_or("/");
                vec![Path::new(home).join(".kube/config")]
            }
            (None, None) => return Ok(plain(None)),
        };
        Ok(Source::Files { files, context: context.clone() })
    }
}

/// Says at the start what can be said without the cluster.
fn check_files(files: &[PathBuf], context: Option<&str>) -> Result<(), ConnectionError> {
    let read = merged(files).map_err(|message| ConnectionError { key: "kubeconfig", message })?;
    let known = |name: &str| read.contexts.iter().any(|context| context.name == name);
    match context {
        Some(name) if !known(name) => {
            let all: Vec<&str> = read.contexts.iter().map(|context| context.name.as_str()).collect();
            let message = format!("the kubeconfig has no context `{name}`, only: {}", all.join(", "));
            Err(ConnectionError { key: "context", message })
        }
        _ => Ok(()),
    }
}

fn merged(files: &[PathBuf]) -> Result<Kubeconfig, String> {
    files.iter().try_fold(Kubeconfig::default(), |merged, file| {
        let at = |error: &dyn std::error::Error| format!("cannot read the kubeconfig `{}`: {error}", file.display());
        let next = Kubeconfig::read_from(file).map_err(|error| at(&error))?;
        merged.merge(next).map_err(|error| at(&error))
    })
}

impl Cluster {
    /// `localhost:8001`, the files, or `the pod's service account`: for people.
    pub fn shown(&self) -> String {
        match &self.inner.source {
            Source::Plain { host, port, .. } => format!("{host}:{port}"),
            Source::Files { files, context } => {
                let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
                let context = context.as_ref().map(|context| format!(" (context {context})")).unwrap_or_default();
                format!("{}{context}", files.join(":"))
            }
            Source::InCluster(Pod { host, port, .. }) => format!("{host}:{port} by the pod's service account"),
        }
    }

    pub(crate) fn patience(&self) -> &Patience {
        &self.inner.patience
    }

    /// Puts a report among those that `Clusters::totals` sums up.
    pub(crate) fn enlist(&self, report: &Arc<Report>) {
        let Some(clusters) = self.inner.clusters.upgrade() else { return };
        let mut reports = lock(&clusters.reports);
        reports.retain(|report| report.strong_count() > 0);
        reports.push(Arc::downgrade(report));
    }

    /// The client, made at the first use and after `forget`.
    ///
    /// # Errors
    /// Files that cannot be read, keys and certificates that make no sense.
    pub async fn client(&self) -> Result<kube::Client, String> {
        let mut client = self.inner.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let mut config = self.config().await?;
        config.connect_timeout = Some(CONNECT_WITHIN);
        config.default_retry = false;
        let made = kube::Client::try_from(config).map_err(|error| error.to_string())?;
        *client = Some(made.clone());
        Ok(made)
    }

    /// One request, with verb, resource and namespace told where it fails. Credentials that are refused
    /// are read again for the next one.
    ///
    /// # Errors
    /// As the server or the connection has it, or `Silent`.
    pub async fn call<T>(
        &self,
        verb: &'static str,
        resource: Resource,
        namespace: &str,
        within: Duration,
        send: impl AsyncFnOnce(kube::Client) -> Result<T, kube::Error>,
    ) -> Result<T, Error> {
        self.ask(verb, &resource.shown(), namespace, within, send).await
    }

    /// The same for a resource that is known by name only.
    pub(crate) async fn ask<T>(
        &self,
        verb: &'static str,
        resource: &str,
        namespace: &str,
        within: Duration,
        send: impl AsyncFnOnce(kube::Client) -> Result<T, kube::Error>,
    ) -> Result<T, Error> {
        let failed = |problem| Error { verb, resource: resource.into(), namespace: namespace.into(), problem };
        let client = self.client().await.map_err(|why| failed(Problem::Transport(why)))?;
        let error = match tokio::time::timeout(within, send(client)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => failed(Problem::of(&error, self.hint())),
            Err(_) => failed(Problem::Silent(within)),
        };
        if error.code() == Some(401) {
            self.forget().await;
        }
        Err(error)
    }

    /// After credentials were refused: the next client is made of what the files then say.
    async fn forget(&self) {
        *self.inner.client.lock().await = None;
    }

    /// What to say besides when nobody answers.
    fn hint(&self) -> &'static str {
        match self.inner.source {
            Source::Plain { .. } => {
                " (`host` and `port` name a kubectl proxy; in a pod without one leave both out, and the service account is used)"
            }
            Source::Files { .. } | Source::InCluster(_) => "",
        }
    }

    async fn config(&self) -> Result<kube::Config, String> {
        match &self.inner.source {
            Source::Plain { host, port, pod } => match pod {
                Some(pod) if pod.has_account() && is_refused(host, *port).await => {
                    tracing::warn!(
                        "nobody listens on {host}:{port}, where `kubectl proxy` would: using the pod's service account"
                    );
                    pod.config()
                }
                _ => Ok(kube::Config::new(uri("http", host, *port)?)),
            },
            Source::Files { files, context } => {
                let options = KubeConfigOptions { context: context.clone(), cluster: None, user: None };
                let made = kube::Config::from_custom_kubeconfig(merged(files)?, &options).await;
                made.map_err(|error| format!("the kubeconfig cannot be used: {error}"))
            }
            Source::InCluster(pod) => pod.config(),
        }
    }
}

impl Pod {
    fn files(&self) -> [PathBuf; 2] {
        ["token", "ca.crt"].map(|name| self.directory.join(name))
    }

    fn has_account(&self) -> bool {
        self.files().iter().all(|file| file.exists())
    }

    fn config(&self) -> Result<kube::Config, String> {
        let [token, authority] = self.files();
        for file in [&token, &authority] {
            std::fs::metadata(file)
                .map_err(|error| format!("the pod has no service account: cannot read {}: {error}", file.display()))?;
        }
        let mut config = kube::Config::new(uri("https", &self.host, self.port)?);
        // Both files are read again while the client lives, so that their rotation is followed.
        config.root_cert_file = Some(authority);
        config.auth_info.token_file = Some(token.display().to_string());
        Ok(config)
    }
}

/// Whether nobody listens there. A proxy that is there is used, whatever it answers.
async fn is_refused(host: &str, port: u16) -> bool {
    match tokio::time::timeout(CONNECT_WITHIN, tokio::net::TcpStream::connect((host, port))).await {
        Ok(Err(error)) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        Ok(Ok(_)) | Err(_) => false,
    }
}

fn uri(scheme: &str, host: &str, port: u16) -> Result<http::Uri, String> {
    let host = if host.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() };
    let text = format!("{scheme}://{host}:{port}");
    text.parse().map_err(|error| format!("`{text}` is no address: {error}"))
}

/// Each change to these tables is one step: a panic elsewhere leaves them whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(environment: &[(&str, &str)], connection: Connection, expected: &str) {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let clusters = Clusters::new(environment);
        let found = match clusters.source(&connection) {
            Ok(Source::Plain { host, port, pod }) => {
                format!("plain {host} {port}{}", if pod.is_some() { " or the pod" } else { "" })
            }
            Ok(Source::Files { files, context }) => format!("files {files:?} {context:?}"),
            Ok(Source::InCluster(Pod { host, port, .. })) => format!("pod {host} {port}"),
            Err(error) => format!("{}: {error}", error.key),
        };
        assert_eq!(found, expected, "{connection:?}");
    }

    #[test]
    fn keys_win_over_the_pod_and_the_pod_over_kubeconfig() {
        let pod =
            [("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("KUBERNETES_SERVICE_PORT", "6443"), ("KUBECONFIG", "a:b")];
        let host = |host: &str| Connection { host: Some(host.to_owned()), ..Connection::default() };
        let context = || Connection { context: Some("x".to_owned()), ..Connection::default() };
        check(&[], Connection::default(), "plain localhost 8001");
        check(&pod, host("api"), "plain api 8001");
        check(&pod, Connection { port: Some(1), ..Connection::default() }, "plain localhost 1");
        check(&pod, host("localhost"), "plain localhost 8001 or the pod");
        check(&pod, Connection { port: Some(8001), ..host("127.0.0.1") }, "plain 127.0.0.1 8001 or the pod");
        check(&[], host("localhost"), "plain localhost 8001");
        check(&pod, Connection::default(), "pod 10.96.0.1 6443");
        check(&pod[..1], Connection::default(), "pod 10.96.0.1 443");
        check(&pod[2..], Connection::default(), "files [\"a\", \"b\"] None");
        check(&pod, context(), "files [\"a\", \"b\"] Some(\"x\")");
        check(&[("HOME", "/home/a")], context(), "files [\"/home/a/.kube/config\"] Some(\"x\")");
        check(
            &[],
            Connection { context: Some("x".to_owned()), ..host("api") },
            "host: `host` and `port` name a kubectl proxy, `kubeconfig` and `context` a cluster: leave one of the two out",
        );
    }

    #[test]
    fn a_kubeconfig_that_is_not_there_is_named() {
        let connection = Connection { kubeconfig: Some("/nowhere/config".into()), ..Connection::default() };
        let error = Clusters::default().get(&connection).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.starts_with("cannot read the kubeconfig `/nowhere/config`: "), "{error}");
    }
}
