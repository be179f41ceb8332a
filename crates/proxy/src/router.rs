//! One router on one worker: its cache of bound names, its services and its clients.
//!
//! ```text
//!  key (bytes that identify the request, its own dtab) ──▶ Name ──▶ Live tree ──▶ Route ──▶ Leaf ──▶ Client
//! ```
//! On a hit nothing is parsed and nothing is allocated. A tree that changed is compiled by the first
//! request that comes after it, so that every request uses the newest one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use http1::RequestHead;
use names::{Dtab, Path, PathMatcher};
use naming::{Bound, Interpreter};
use telemetry::{Counter, Gauge};

use crate::access_log::{Lines, Sender};
use crate::client::Client;
use crate::context;
use crate::directory::{Directory, Ring};
use crate::failure::{Failure, Kind};
use crate::gather::SHORT;
use crate::housekeeping::Turn;
use crate::metrics::{Forget, Scope};
use crate::name::Name;
use crate::secrets::Secrets;
use crate::service::Service;
use crate::settings;
use crate::spans::Told;
use crate::stream::{self, Secured};
use crate::worker::Worker;

/// Names, services or clients between two looks at the clock when house is kept.
const PART: usize = 256;
/// Clients that are maintained between two.
const FEW: usize = 16;

pub(crate) struct Router {
    pub settings: Arc<settings::Router>,
    pub interpreter: Arc<dyn Interpreter>,
    pub worker: Rc<Worker>,
    pub ring: Ring,
    /// What all its spans tell; `None`: nobody takes any.
    pub told: Option<Told>,
    secrets: Arc<Secrets>,
    /// Answers up to this length wait until they are whole.
    pub short: u64,
    /// `httpAccessLog`
    pub log: Option<Lines>,
    directory: Directory,
    names: RefCell<HashMap<Box<[u8]>, Rc<Name>>>,
    services: RefCell<HashMap<String, Weak<Service>>>,
    clients: RefCell<HashMap<Path, Rc<Client>>>,
    /// Held, so that it is shown.
    _originator: Option<Gauge>,
    scope: Scope,
    paths_cache: Cache,
    clients_cache: Cache,
    // Behind everything that counts.
    forget: Forget,
}

/// Counters of one cache.
struct Cache {
    misses: Counter,
    evicts: Counter,
    expires: Counter,
    oneshots: Counter,
}

impl Cache {
    fn new(scope: &Scope, name: &str) -> Cache {
        let counter = |what: &str| scope.counter(&["bindcache", name, what]);
        Cache {
            misses: counter("misses"),
            evicts: counter("evicts"),
            expires: counter("expires"),
            oneshots: counter("oneshots"),
        }
    }
}

impl Router {
    /// `before` had the same label until now; what it remembers of requests stays.
    pub(crate) fn new(
        worker: &Rc<Worker>,
        settings: Arc<settings::Router>,
        interpreter: Arc<dyn Interpreter>,
        directory: Directory,
        secrets: Arc<Secrets>,
        log: Option<Sender>,
        before: Option<&Router>,
    ) -> Rc<Router> {
        let scope = Scope::new(&worker.shard, &["rt", &settings.label]);
        let originator = (settings.originator && worker.number == 0).then(|| scope.gauge(&["originator"]));
        originator.iter().for_each(|gauge| gauge.set(1.0));
        Rc::new(Router {
            paths_cache: Cache::new(&scope, "path"),
            clients_cache: Cache::new(&scope, "client"),
            forget: Forget::new(&scope),
            secrets,
            ring: before.map_or_else(|| directory.ring(), |before| before.ring.clone()),
            told: worker.tracing.as_ref().map(|_| Told::new(&settings)),
            _originator: originator,
            short: settings.stream_after.min(SHORT),
            log: log.map(Lines::new),
            worker: worker.clone(),
            settings,
            interpreter,
            directory,
            names: RefCell::default(),
            services: RefCell::default(),
            clients: RefCell::default(),
            scope,
        })
    }

    /// There is no such router any more: with its last connection its metrics go.
    pub(crate) fn leave(&self) {
        self.forget.want();
    }

    /// The name that a key stands for: `key[..end]` is what identifier number `identifier` found, the
    /// rest are the request's own dtabs.
    #[inline]
    pub(crate) fn name(
        &self,
        key: &[u8],
        identifier: usize,
        end: usize,
        head: &RequestHead,
        bytes: &[u8],
    ) -> Result<Rc<Name>, Failure> {
        if let Some(name) = self.names.borrow().get(key) {
            return Ok(name.clone());
        }
        self.bind(key, identifier, end, head, bytes)
    }

    fn bind(
        &self,
        key: &[u8],
        identifier: usize,
        end: usize,
        head: &RequestHead,
        bytes: &[u8],
    ) -> Result<Rc<Name>, Failure> {
        // The first byte of the key is the identifier's number.
        let identifier = &self.settings.identifiers[identifier];
        // A header that is no path is an answer of its identifier, anything else its exception, as in the original.
        let kind =
            if let settings::Identifier::Header { .. } = identifier { Kind::Unidentified } else { Kind::Identifier };
        let suffix = identifier.name(&key[1..end]).map_err(|why| Failure::new(kind, why))?;
        let local = if end == key.len() {
            Dtab::empty()
        } else {
            context::dtab(head, bytes).map_err(|error| Failure::new(Kind::Dtab, error.message))?
        };
        self.paths_cache.misses.inc();
        let path = self.settings.dst_prefix.concat(&suffix);
        let under = self.settings.dtab.concat(&local);
        let live = self.interpreter.bind(&under, &path);
        let name = Rc::new(Name::new(self.service(&path), local, under, live));
        let mut names = self.names.borrow_mut();
        if names.len() >= self.settings.binding_cache.paths.max(1) {
            let idle = names.iter().filter(|(_, name)| Rc::strong_count(name) == 1);
            let Some(oldest) = idle.min_by_key(|(_, name)| name.used.get()).map(|(key, _)| key.clone()) else {
                self.paths_cache.oneshots.inc();
                return Ok(name);
            };
            self.paths_cache.evicts.inc();
            let evicted = names.remove(&oldest);
            self.forget(evicted);
        }
        names.insert(key.into(), name.clone());
        Ok(name)
    }

    fn service(&self, name: &Path) -> Rc<Service> {
        let shown = name.show();
        let mut services = self.services.borrow_mut();
        if let Some(service) = services.get(&shown).and_then(Weak::upgrade) {
            return service;
        }
        let matching = self.settings.service.matching(name);
        let settings = matching.fold(settings::Service::default(), settings::Service::overridden);
        let scope = self.scope.below(&["service", shown.trim_start_matches('/')]);
        let service = Rc::new(Service::new(scope, name, settings));
        services.insert(shown, Rc::downgrade(&service));
        service
    }

    /// The client of a bound id, which follows its addresses from here.
    pub(crate) fn client(&self, bound: &Bound) -> Rc<Client> {
        let now = self.worker.coarse_now();
        let mut clients = self.clients.borrow_mut();
        if let Some(client) = clients.get(&bound.id) {
            client.follow(&bound.addr, now);
            return client.clone();
        }
        self.clients_cache.misses.inc();
        let matching = self.settings.client.matching(&bound.id);
        let settings = matching.fold(settings::Client::default(), settings::Client::overridden);
        let scope = self.client_scope(&bound.id);
        let secured = self.secured(&bound.id, &scope);
        let client = Client::new(&self.worker, scope, bound, settings, secured, &self.directory);
        if clients.len() >= self.settings.binding_cache.clients.max(1) {
            let idle = clients.iter().filter(|(_, client)| Rc::strong_count(client) == 1);
            let Some(oldest) = idle.min_by_key(|(_, client)| client.used.get()).map(|(id, _)| id.clone()) else {
                self.clients_cache.oneshots.inc();
                return client;
            };
            self.clients_cache.evicts.inc();
            clients.remove(&oldest);
            self.client_scope(&oldest).prune();
        }
        clients.insert(bound.id.clone(), client.clone());
        client
    }

    /// How the connections of a client are encrypted: by the last `tls` section that matches its id.
    fn secured(&self, id: &Path, scope: &Scope) -> Option<Secured> {
        let (number, _, captures) = self.settings.client.last(id, |client| client.tls.as_ref())?;
        let live = self.secrets.clients.get(number)?.clone()?;
        let name = live.common_name().map(|name| PathMatcher::substitute(name, &captures));
        let name = name.map(|name| tls::client::server_name(&name));
        Some(Secured { live, name, metrics: stream::Metrics::new(scope) })
    }

    fn client_scope(&self, id: &Path) -> Scope {
        self.scope.below(&["client", id.show().trim_start_matches('/')])
    }

    /// Drops a name, and with its last name its service's metrics, those at clients included: a client lives on,
    /// and a stranger may invent names for it.
    fn forget(&self, name: Option<Rc<Name>>) {
        let Some(name) = name else { return };
        let (service, scope) = (name.service.name.clone(), name.service.scope.clone());
        let at_clients = name.scopes_at_clients();
        drop(name);
        at_clients.iter().for_each(Scope::prune);
        let mut services = self.services.borrow_mut();
        if services.get(&service).is_some_and(|service| service.strong_count() == 0) {
            services.remove(&service);
            scope.prune();
        }
    }

    /// Every second or so: what was idle too long goes, gauges are set. In turns, because there may be tens of
    /// thousands of names and clients.
    pub(crate) async fn maintain(&self, now: u64) {
        let ttl = self.settings.binding_cache.idle_ttl.as_nanos() as u64;
        let turn = Turn::new(&self.worker);
        let (mut at, mut many) = (0, self.names.borrow().len());
        while at < many {
            let expired = self.expire_names(at, |used| now.saturating_sub(used) >= ttl);
            at += PART - expired;
            many -= expired;
            turn.pause().await;
        }
        let (mut at, mut many) = (0, self.clients.borrow().len());
        while at < many {
            let expired = self.expire_clients(at, |used| now.saturating_sub(used) >= ttl);
            at += PART - expired;
            many -= expired;
            turn.pause().await;
        }
        let mut at = 0;
        while at < self.services.borrow().len() {
            let part =
                self.services.borrow().values().skip(at).take(PART).filter_map(Weak::upgrade).collect::<Vec<_>>();
            part.iter().for_each(|service| service.maintain(now));
            drop(part);
            at += PART;
            turn.pause().await;
        }
        let mut at = 0;
        while at < self.clients.borrow().len() {
            let part = self.clients.borrow().values().skip(at).take(FEW).cloned().collect::<Vec<_>>();
            part.iter().for_each(|client| client.maintain(now));
            drop(part);
            at += FEW;
            turn.pause().await;
        }
    }

    /// Looks at a part of the names; how many of them went.
    fn expire_names(&self, at: usize, is_old: impl Fn(u64) -> bool) -> usize {
        let mut expired = Vec::new();
        {
            let mut names = self.names.borrow_mut();
            let part = names.iter().skip(at).take(PART);
            let old = part.filter(|(_, name)| Rc::strong_count(name) == 1 && is_old(name.used.get()));
            // The last remaining entry of a cache does not expire.
            let most = names.len().saturating_sub(1);
            let old = old.map(|(key, _)| key.clone()).take(most).collect::<Vec<_>>();
            expired.extend(old.iter().filter_map(|key| names.remove(key)));
        }
        let many = expired.len();
        for name in expired {
            self.paths_cache.expires.inc();
            self.forget(Some(name));
        }
        many
    }

    /// Looks at a part of the clients; how many of them went.
    fn expire_clients(&self, at: usize, is_old: impl Fn(u64) -> bool) -> usize {
        let mut clients = self.clients.borrow_mut();
        let part = clients.iter().skip(at).take(PART);
        let old = part.filter(|(_, client)| Rc::strong_count(client) == 1 && is_old(client.used.get()));
        let most = clients.len().saturating_sub(1);
        let old = old.map(|(id, _)| id.clone()).take(most).collect::<Vec<_>>();
        for id in &old {
            clients.remove(id);
            self.clients_cache.expires.inc();
            self.client_scope(id).prune();
        }
        old.len()
    }
}
