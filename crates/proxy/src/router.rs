//! One router on one worker: its cache of bound names, its services and its clients.
//!
//! ```text
//!  key (bytes that identify the request, its own dtab) ──▶ Name ──▶ Live tree ──▶ Route ──▶ Leaf ──▶ Client
//! ```
//! On a hit nothing is parsed and nothing is allocated. A tree that changed is compiled by the first
//! request that comes after it, so that every request uses the newest one.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use http1::RequestHead;
use names::{Dtab, Path, PathMatcher};
use naming::{Bound, Interpreter};
use telemetry::{Counter, Gauge};

use crate::access_log::{Lines, Sender};
use crate::cache::{Cache, Room};
use crate::client::Client;
use crate::context;
use crate::directory::{Directory, Ring};
use crate::failure::{self, Failure, Kind};
use crate::gather::SHORT;
use crate::housekeeping::Turn;
use crate::metrics::{Forget, Scope};
use crate::name::{Leaf, Name};
use crate::secrets::Secrets;
use crate::service::Service;
use crate::settings;
use crate::spans::Told;
use crate::stream::{self, Secured};
use crate::trees::Trees;
use crate::worker::Worker;

mod relief;

/// Names, services or clients that are taken from their tables at a time when house is kept.
const PART: usize = 128;

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
    names: RefCell<Cache<Rc<[u8]>, Name>>,
    trees: RefCell<Trees>,
    services: RefCell<HashMap<String, Weak<Service>>>,
    /// The same, to be gone through in parts; those that are gone leave when they are found.
    service_ring: RefCell<Vec<Weak<Service>>>,
    clients: RefCell<Cache<Path, Client>>,
    /// Where the next look for idle connections begins.
    relieved: Cell<usize>,
    /// The base dtab as answers for names that are not bound show it.
    shown_dtab: OnceCell<Box<str>>,
    /// Held, so that it is shown.
    _originator: Option<Gauge>,
    scope: Scope,
    counts: Counts,
    // Behind everything that counts.
    forget: Forget,
}

/// Of the four caches of the original.
struct Counts {
    paths: Count,
    trees: Count,
    bounds: Count,
    clients: Count,
}

/// Counters of one cache.
struct Count {
    misses: Counter,
    evicts: Counter,
    expires: Counter,
    oneshots: Counter,
}

impl Count {
    fn new(scope: &Scope, name: &str) -> Count {
        let counter = |what: &str| scope.counter(&["bindcache", name, what]);
        Count {
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
            counts: Counts {
                paths: Count::new(&scope, "path"),
                trees: Count::new(&scope, "tree"),
                bounds: Count::new(&scope, "bound"),
                clients: Count::new(&scope, "client"),
            },
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
            trees: RefCell::default(),
            services: RefCell::default(),
            service_ring: RefCell::default(),
            clients: RefCell::default(),
            relieved: Cell::new(0),
            shown_dtab: OnceCell::new(),
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
        self.counts.paths.misses.inc();
        let path = self.settings.dst_prefix.concat(&suffix);
        let under = self.settings.dtab.concat(&local);
        let live = self.interpreter.bind(&under, &path);
        let name = Name::new(self.service(&path), local, under, live);
        let room = self.names.borrow_mut().make_room(self.settings.binding_cache.paths);
        match room {
            Room::Free => {}
            Room::Evicted(_, evicted) => {
                self.counts.paths.evicts.inc();
                self.forget(evicted);
            }
            Room::None => {
                self.counts.paths.oneshots.inc();
                return Ok(name);
            }
        }
        self.names.borrow_mut().insert(key.into(), name.clone());
        Ok(name)
    }

    /// A name compiled its tree: to so many leaves, and so many of them new.
    pub(crate) fn compiled(&self, name: &Name, leaves: usize, new: usize) {
        let counts = &self.counts;
        counts.trees.misses.inc();
        counts.bounds.misses.add(new as u64);
        let mut trees = self.trees.borrow_mut();
        trees.note(name, leaves);
        let most = &self.settings.binding_cache;
        // Two for each that comes: in time all that are too many go.
        for _ in 0..2 {
            if !trees.is_above(most.trees, most.bounds) {
                return;
            }
            match trees.take_oldest(name) {
                Ok((Some(oldest), leaves)) => {
                    counts.trees.evicts.inc();
                    counts.bounds.evicts.add(leaves as u64);
                    self.suggest_clients(&oldest.leaves());
                    oldest.take_apart();
                }
                Ok((None, _)) => {}
                Err(()) => {
                    counts.trees.oneshots.inc();
                    counts.bounds.oneshots.add(leaves as u64);
                    return;
                }
            }
        }
    }

    /// Leaves go: with them perhaps what holds their clients.
    fn suggest_clients(&self, leaves: &[Rc<Leaf>]) {
        let mut clients = self.clients.borrow_mut();
        leaves.iter().for_each(|leaf| clients.suggest(leaf.client.path.clone()));
    }

    /// The answer for a name that leads nowhere.
    pub(crate) fn unbound(&self, name: &Name) -> Failure {
        let base = self.shown_dtab.get_or_init(|| failure::shown(&self.settings.dtab).into());
        Failure::unbound(&name.service.name, base, &name.local)
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
        self.service_ring.borrow_mut().push(Rc::downgrade(&service));
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
        self.counts.clients.misses.inc();
        let matching = self.settings.client.matching(&bound.id);
        let settings = matching.fold(settings::Client::default(), settings::Client::overridden);
        let scope = self.client_scope(&bound.id);
        let secured = self.secured(&bound.id, &scope);
        let client = Client::new(&self.worker, scope, bound, settings, secured, &self.directory);
        match clients.make_room(self.settings.binding_cache.clients) {
            Room::Free => {}
            Room::Evicted(id, _) => {
                self.counts.clients.evicts.inc();
                self.client_scope(&id).prune();
            }
            Room::None => {
                self.counts.clients.oneshots.inc();
                return client;
            }
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
    fn forget(&self, name: Rc<Name>) {
        let (service, scope) = (name.service.name.clone(), name.service.scope.clone());
        let leaves = name.leaves();
        self.suggest_clients(&leaves);
        let at_clients = leaves.iter().map(|leaf| leaf.requests.scope.clone()).collect::<Vec<_>>();
        drop((name, leaves));
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
        let turn = Turn::new(&self.worker, "what is idle, and gauges");
        let is_old = |used: u64| now.saturating_sub(used) >= ttl;
        // From behind: what goes is replaced by the last, which was looked at.
        let mut at = self.names.borrow().len();
        while at > 0 {
            let from = at.saturating_sub(PART);
            let expired = self.names.borrow_mut().expire(from..at, |name| is_old(name.used.get()));
            for (_, name) in expired {
                self.counts.paths.expires.inc();
                let leaves = name.leaves();
                self.counts.trees.expires.add(u64::from(name.is_compiled()));
                self.counts.bounds.expires.add(leaves.len() as u64);
                drop(leaves);
                self.forget(name);
                turn.pause().await;
            }
            at = from;
            turn.pause().await;
        }
        let mut at = self.clients.borrow().len();
        while at > 0 {
            let from = at.saturating_sub(PART);
            let expired = self.clients.borrow_mut().expire(from..at, |client| is_old(client.used.get()));
            for (id, client) in expired {
                drop(client);
                self.counts.clients.expires.inc();
                self.client_scope(&id).prune();
                turn.pause().await;
            }
            at = from;
            turn.pause().await;
        }
        let mut at = 0;
        while at < self.service_ring.borrow().len() {
            // Not held while others have their turn: whoever drops the last one has its metrics forgotten.
            let service = self.service_ring.borrow().get(at).and_then(Weak::upgrade);
            match service {
                Some(service) => {
                    service.maintain(now);
                    at += 1;
                }
                // Another one takes its place.
                None => drop(self.service_ring.borrow_mut().swap_remove(at)),
            }
            turn.pause().await;
        }
        let mut at = 0;
        while at < self.clients.borrow().len() {
            let part = self.clients.borrow().part(at..at + PART).map(Rc::downgrade).collect::<Vec<_>>();
            for client in part {
                let idle = client.upgrade().map(|client| client.maintain(now));
                if let Some(idle) = idle {
                    idle.sweep(now, &turn).await;
                }
                turn.pause().await;
            }
            at += PART;
        }
    }
}
