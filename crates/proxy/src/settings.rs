//! What the data plane can be told: inert, typed, complete. What has no field here is not built.
//!
//! The config documents of Linkerd 1 are converted into this elsewhere; keys without a field here are
//! refused there, never ignored. Every default is the original's.

mod access_log;
mod transport;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use balance::{Backoff, BudgetConfig, Strategy, accrual};
use names::{Dtab, Path, PathMatcher};

pub use access_log::{AccessLog, Roll, RollError};
pub use transport::{Compression, Session, SocketOptions};

/// A whole data plane.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// In the order of the document; labels are unique.
    pub routers: Vec<Router>,
}

/// One entry of `routers:`, protocol `http`.
#[derive(Debug, Clone)]
pub struct Router {
    pub label: String,
    /// `dstPrefix`: stands before every identified name.
    pub dst_prefix: Path,
    /// `dtab`: the base dtab, to which a request's own is added.
    pub dtab: Dtab,
    /// `identifier`: tried in order, the first that identifies wins. Not empty.
    pub identifiers: Vec<Identifier>,
    /// `bindingTimeoutMs`: bounds name resolution, and getting a connection.
    pub binding_timeout: Duration,
    /// `bindingCache`
    pub binding_cache: BindingCache,
    /// `maxInitialLineKB`, `maxHeadersKB`, `maxErrResponseKB`
    pub limits: Limits,
    /// `streamAfterContentLengthKB` in bytes: a request body up to this length is read whole before it is
    /// sent, and can therefore be sent again.
    pub stream_after: u64,
    /// `streamingEnabled`; without it messages go on whole.
    pub streaming: bool,
    /// `compressionLevel`, other than 0.
    pub compression: Option<Compression>,
    /// `originator`: sets a gauge of this name.
    pub originator: bool,
    /// `httpAccessLog` and its companions
    pub access_log: Option<AccessLog>,
    /// Not empty; addresses are unique in the data plane.
    pub servers: Vec<Server>,
    /// `client`
    pub client: ByPrefix<Client>,
    /// `service`
    pub service: ByPrefix<Service>,
    /// `io.l5d.recentRequests`, the same for all routers.
    pub recent: Recent,
    /// `tracePropagator`
    pub trace_propagator: TracePropagator,
}

impl Router {
    /// All defaults, without servers.
    #[must_use]
    pub fn new(label: &str) -> Router {
        Router {
            label: label.to_owned(),
            dst_prefix: Path::from_labels(["svc"]).unwrap_or_else(Path::empty),
            dtab: Dtab::empty(),
            identifiers: vec![Identifier::default()],
            binding_timeout: Duration::from_secs(10),
            binding_cache: BindingCache::default(),
            limits: Limits::default(),
            stream_after: 5 * 1024,
            streaming: true,
            compression: None,
            originator: false,
            access_log: None,
            servers: Vec::new(),
            client: ByPrefix::default(),
            service: ByPrefix::default(),
            recent: Recent::default(),
            trace_propagator: TracePropagator::default(),
        }
    }
}

/// `tracePropagator`: in which headers a request's place in its trace comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TracePropagator {
    /// `io.l5d.default`: `l5d-ctx-trace`
    #[default]
    Linkerd,
    /// `io.l5d.zipkin`: B3, whose single header wins when it is read.
    Zipkin { write: B3 },
    /// `io.l5d.w3c`: `traceparent` and `tracestate`
    W3c,
}

/// Which headers of B3 are written; all are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum B3 {
    /// `x-b3-traceid` and its kin, as in Linkerd 1.7.
    #[default]
    Multi,
    /// `b3`
    Single,
    Both,
}

/// Which requests are remembered for the pages. Without the telemeter these defaults hold; the original
/// remembers none then.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recent {
    /// The share that is remembered, 0.0 to 1.0; failures and requests with a dtab of their own always are.
    /// Under load less is: a bounded number in each tenth of a second.
    pub sample_rate: f64,
    /// How many, at most.
    pub capacity: usize,
}

impl Default for Recent {
    fn default() -> Recent {
        Recent { sample_rate: 1.0, capacity: 200 }
    }
}

/// How a request gets its name, without `dstPrefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identifier {
    /// `io.l5d.header.token`: the header's value is one label. Header names in lower case.
    HeaderToken { header: String },
    /// `io.l5d.header`: the header's value is a path. Its default header is `l5d-name`.
    Header { header: String },
    /// `io.l5d.methodAndHost`: `/1.1/GET/host`; `uri` is `httpUriInDst`.
    MethodAndHost { uri: bool },
    /// `io.l5d.path`: the first `segments` (at least 1) of the URI, which `consume` takes away.
    Path { segments: usize, consume: bool },
    /// `io.l5d.static`
    Static { path: Path },
    /// `io.l5d.ingress`: rules that somebody else keeps.
    Ruled(Ruled),
}

impl Default for Identifier {
    fn default() -> Identifier {
        Identifier::HeaderToken { header: "Host".to_owned() }
    }
}

/// Rules that name requests by host and path.
pub trait RequestRules: Send + Sync {
    /// The labels of the name; `None`: no rule matches. `host` is what the request is for, `path` comes
    /// without the query. Called for each request: it must not wait.
    ///
    /// # Errors
    /// Why the rules are not known.
    fn name(&self, host: &[u8], path: &[u8]) -> Result<Option<[std::sync::Arc<str>; 3]>, String>;
}

/// The place of rules in an identifier: the document has their keys, whoever assembles the process reads
/// those and puts the rules in.
#[derive(Clone)]
pub struct Ruled {
    /// `routers[0].identifier`
    pub path: String,
    /// The keys besides `kind`.
    pub keys: serde_json::Value,
    rules: std::sync::Arc<std::sync::OnceLock<std::sync::Arc<dyn RequestRules>>>,
}

impl Ruled {
    pub fn new(path: String, keys: serde_json::Value) -> Ruled {
        Ruled { path, keys, rules: std::sync::Arc::default() }
    }

    /// Once; later calls change nothing.
    pub fn set(&self, rules: std::sync::Arc<dyn RequestRules>) {
        self.rules.get_or_init(|| rules);
    }

    pub(crate) fn rules(&self) -> Option<&dyn RequestRules> {
        self.rules.get().map(|rules| &**rules)
    }
}

impl std::fmt::Debug for Ruled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ruled({} {})", self.path, self.keys)
    }
}

impl PartialEq for Ruled {
    fn eq(&self, other: &Ruled) -> bool {
        self.path == other.path && self.keys == other.keys
    }
}

impl Eq for Ruled {}

/// `bindingCache`. Each worker has a cache of these limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindingCache {
    /// Names, each with the local dtab that came with it.
    pub paths: usize,
    /// Names whose tree is kept compiled; one that is not is compiled by its next request.
    pub trees: usize,
    /// Leaves of these trees: a name at a bound id.
    pub bounds: usize,
    /// Bound ids with their balancers and pools.
    pub clients: usize,
    /// What was idle for this long goes.
    pub idle_ttl: Duration,
}

impl Default for BindingCache {
    fn default() -> BindingCache {
        BindingCache { paths: 1000, trees: 1000, bounds: 1000, clients: 1000, idle_ttl: Duration::from_secs(600) }
    }
}

/// Bounds in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `maxInitialLineKB`
    pub line: usize,
    /// `maxHeadersKB`; also the longest `l5d-err`.
    pub headers: usize,
    /// `maxErrResponseKB`: the longest body of an answer of our own.
    pub error: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { line: 4 * 1024, headers: 8 * 1024, error: 5 * 1024 * 1024 }
    }
}

/// One entry of `servers:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Port 0 takes a free one, which [`crate::Running::servers`] tells.
    pub address: SocketAddr,
    /// `maxConcurrentRequests`: one more is refused at once. Counted over all workers.
    pub max_concurrent: Option<usize>,
    /// `timeoutMs`: a request with everything that is done for it.
    pub timeout: Option<Duration>,
    /// `serverSession`
    pub session: Session,
    /// `socketOptions`
    pub socket: SocketOptions,
    /// `clearContext`
    pub clear_context: bool,
    /// `maxCallDepth`: items in Via beyond which a request is taken for a loop.
    pub max_call_depth: usize,
    /// `timestampHeader`: this header gets the time of arrival in milliseconds.
    pub timestamp_header: Option<String>,
    /// `addForwardedHeader`
    pub forwarded: Option<Forwarded>,
    /// From a head's first byte to its last; then 408, and the connection closes. No key of the document.
    pub head_timeout: Duration,
    /// `tls`
    pub tls: Option<Section<tls::server::Config>>,
}

/// A section with its key path in the document, `routers[0].servers[0].tls`: its files are read at the start
/// and later, and what is wrong with them is told by that path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section<T> {
    pub at: String,
    pub config: T,
}

impl Default for Server {
    fn default() -> Server {
        Server {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4140),
            max_concurrent: None,
            timeout: None,
            session: Session::default(),
            socket: SocketOptions::default(),
            clear_context: false,
            max_call_depth: 1000,
            timestamp_header: None,
            forwarded: None,
            head_timeout: Duration::from_secs(60),
            tls: None,
        }
    }
}

/// `addForwardedHeader`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Forwarded {
    pub by: Labeler,
    pub client: Labeler,
}

/// What an address is called in `Forwarded`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Labeler {
    /// `ip`
    Ip,
    /// `ip:port`
    IpPort,
    /// `requestRandom`
    #[default]
    RequestRandom,
    /// `connectionRandom`
    ConnectionRandom,
    /// `router`: the router's label.
    Router,
    /// `static`
    Static { label: String },
}

/// Settings that depend on a name. All entries whose pattern matches apply, in order; of each key the
/// last that is set holds. `io.l5d.global` is one entry with the pattern `/`.
#[derive(Debug, Clone, PartialEq)]
pub struct ByPrefix<T> {
    pub entries: Vec<(PathMatcher, T)>,
}

impl<T> Default for ByPrefix<T> {
    fn default() -> Self {
        ByPrefix { entries: Vec::new() }
    }
}

impl<T> ByPrefix<T> {
    /// The same for every name.
    #[must_use]
    pub fn global(settings: T) -> ByPrefix<T> {
        ByPrefix { entries: vec![(PathMatcher::new("/"), settings)] }
    }

    /// Of the entries that match, the last for which `find` finds something: its number, that, and what the
    /// pattern captured.
    pub(crate) fn last<'a, R>(
        &'a self,
        path: &Path,
        find: impl Fn(&'a T) -> Option<R>,
    ) -> Option<(usize, R, BTreeMap<String, String>)> {
        self.entries.iter().enumerate().rev().find_map(|(number, (pattern, settings))| {
            let found = find(settings)?;
            Some((number, found, pattern.captures(path)?))
        })
    }

    pub(crate) fn matching(&self, path: &Path) -> impl Iterator<Item = &T> {
        self.entries.iter().filter(|(pattern, _)| pattern.captures(path).is_some()).map(|(_, settings)| settings)
    }
}

/// One `client` section, matched by the bound id. `None`: not mentioned.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Client {
    /// `loadBalancer`; default p2c.
    pub load_balancer: Option<LoadBalancer>,
    /// `hostConnectionPool`
    pub pool: Option<Pool>,
    /// `failureAccrual`; default five consecutive failures.
    pub accrual: Option<accrual::Config>,
    /// `requestAttemptTimeoutMs`; default none.
    pub attempt_timeout: Option<Duration>,
    /// `requeueBudget`
    pub requeue_budget: Option<BudgetConfig>,
    /// `tls`; with `enabled: false` it cancels an earlier one.
    pub tls: Option<Section<tls::client::Config>>,
    /// `forwardClientCert`: endpoints are told of callers' certificates.
    pub forward_client_cert: Option<bool>,
    /// `clientSession`
    pub session: Option<Session>,
    /// `socketOptions`
    pub socket: Option<SocketOptions>,
    /// `failFast`: an endpoint that takes no connection gets no request until it does.
    pub fail_fast: Option<bool>,
}

/// `loadBalancer`. Each worker has a balancer of its own, which knows its own requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadBalancer {
    /// Passed [`Strategy::check`].
    pub strategy: Strategy,
    /// `enableProbation`: endpoints that discovery took away stay while they are healthy.
    pub probation: bool,
}

impl Default for LoadBalancer {
    fn default() -> LoadBalancer {
        LoadBalancer { strategy: Strategy::P2C, probation: false }
    }
}

/// `hostConnectionPool`, for each endpoint. Without a section: no bound, and connections are kept until the
/// endpoint closes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pool {
    /// `minSize`: connections that are kept however long they are idle. Shared out among the workers.
    pub min: usize,
    /// `maxSize`: beyond it requests wait. Shared out among the workers, at least one for each.
    pub max: Option<usize>,
    /// `idleTimeMs`: others are closed after this long.
    pub idle: Option<Duration>,
    /// `maxWaiters`: beyond it requests fail. Shared out among the workers.
    pub max_waiters: Option<usize>,
}

/// One `service` section, matched by the logical name. `None`: not mentioned.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Service {
    /// `totalTimeoutMs`; default none.
    pub total_timeout: Option<Duration>,
    /// `retries.budget`
    pub retry_budget: Option<BudgetConfig>,
    /// `retries.backoff`; default none, retry at once.
    pub backoff: Option<Backoff>,
    /// `responseClassifier`; default [`Classifier::NonRetryable5xx`].
    pub classifier: Option<Classifier>,
}

/// `io.l5d.http.*`: which answers are failures, and which of those are tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Classifier {
    /// `nonRetryable5XX`
    #[default]
    NonRetryable5xx,
    /// `retryableRead5XX`: GET, HEAD, OPTIONS, TRACE.
    RetryableRead5xx,
    /// `retryableIdempotent5XX`: those, PUT and DELETE.
    RetryableIdempotent5xx,
    /// `retryableAll5XX`: those, POST and PATCH.
    RetryableAll5xx,
    /// `allSuccessful`: an answer is a success, whatever its status.
    AllSuccessful,
}
