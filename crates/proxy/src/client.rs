//! A client: all that a worker keeps for one bound id. Its balancer follows the live addresses; its pools
//! hang on the endpoints.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use balance::{Admission, BalancerConfig, Budget, Change, Counts, Outcome, Pick, Status, Strategy};
use names::Path;
use naming::{Addr, Bound, Endpoints, Live, State};
use telemetry::{Counter, Gauge, Stat};
use tokio::task::{spawn_local, yield_now};

use crate::cache::Used;
use crate::cluster::{Cluster, Key, authority};
use crate::directory::{Directory, Entry};
use crate::housekeeping::Turn;
use crate::limits::Limits;
use crate::metrics::{Connections, Requests, Scope, Statuses};
use crate::pool::{Bounds, Endpoint, Idle};
use crate::settings;
use crate::stream::Secured;
use crate::worker::Worker;

/// Extra attempts at getting a connection for one request, which cost no budget (finagle's).
pub(crate) const CONNECT_REQUEUES: u32 = 25;
/// Requests per second below which refusals are not held against anybody (finagle's).
const LEAST_RATE: u32 = 5;

pub(crate) struct Client {
    /// `/#/io.l5d.fs/world-v1`
    pub id: String,
    /// The same as a path.
    pub path: Path,
    pub settings: settings::Client,
    pub metrics: Rc<Metrics>,
    /// Where it speaks TLS.
    pub secured: Option<Secured>,
    addr: RefCell<Live<Addr>>,
    known: RefCell<Known>,
    cluster: RefCell<Cluster>,
    budget: RefCell<Budget>,
    /// None where nothing is limited.
    pub limits: Option<Rc<Limits>>,
    /// What endpoints that refuse requests get less; none before the first refusal.
    admission: RefCell<Option<Admission>>,
    is_restrained: Cell<bool>,
    /// Some endpoint wants another Host than the client's.
    has_authorities: Cell<bool>,
    pub used: Cell<u64>,
    entry: Entry,
}

impl Used for Client {
    fn used(&self) -> u64 {
        self.used.get()
    }
}

/// What is known of the addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    Pending,
    Bound,
    /// Neg, failed, or an empty set: nobody to send to.
    None,
}

/// A client's cells.
pub(crate) struct Metrics {
    pub worker: Rc<Worker>,
    pub scope: Scope,
    pub requests: Requests,
    pub statuses: Statuses,
    pub connections: Connections,
    pub connect_latency: Stat,
    failed_connect_latency: Stat,
    failed_connects: [Counter; 2],
    pub cancelled_connects: Counter,
    pub waited: Counter,
    pub too_many_waiters: Counter,
    pub waiters: Gauge,
    pub requeues: Counter,
    pub requeues_each: Stat,
    pub budget_exhausted: Counter,
    pub request_limit: Counter,
    pub cannot_retry: Counter,
    pub not_open: Counter,
    pub marked_dead: Counter,
    pub marked_available: Counter,
    dropped: Counter,
    accepted: Gauge,
    levels: Levels,
}

/// What the maintenance tick sets.
struct Levels {
    size: Gauge,
    available: Gauge,
    busy: Gauge,
    closed: Gauge,
    load: Gauge,
    mean_weight: Gauge,
    weight_classes: Gauge,
    algorithm: Gauge,
    is_available: Gauge,
    budget: Gauge,
    pool_size: Gauge,
    pool_cached: Gauge,
    adds: Counter,
    removes: Counter,
    updates: Counter,
    rebuilds: Counter,
    max_effort_exhausted: Counter,
    busy_weight_classes: Counter,
    removals: Counter,
    revivals: Counter,
    probes: Counter,
    removed_for_ms: Counter,
    aperture: Option<Aperture>,
}

/// What the original tells of an aperture only.
struct Aperture {
    size: Gauge,
    offered_load: Gauge,
    widened: Counter,
    narrowed: Counter,
    expired: Counter,
}

impl Metrics {
    fn new(worker: &Rc<Worker>, scope: Scope, strategy: &Strategy) -> Metrics {
        let unavailable = "com.twitter.finagle.naming.buoyant.RichConnectionFailedException";
        Metrics {
            worker: worker.clone(),
            requests: Requests::new(&scope),
            statuses: Statuses::new(&scope),
            connections: Connections::new(&scope),
            connect_latency: scope.stat(&["connect_latency_ms"]),
            failed_connect_latency: scope.stat(&["failed_connect_latency_ms"]),
            failed_connects: [
                scope.counter(&["service_creation", "failures"]),
                scope.counter(&["service_creation", "failures", unavailable]),
            ],
            cancelled_connects: scope.counter(&["cancelled_connects"]),
            waited: scope.counter(&["pool_num_waited"]),
            too_many_waiters: scope.counter(&["pool_num_too_many_waiters"]),
            waiters: scope.gauge(&["pool_waiters"]),
            requeues: scope.counter(&["retries", "requeues"]),
            requeues_each: scope.stat(&["retries", "requeues_per_request"]),
            budget_exhausted: scope.counter(&["retries", "budget_exhausted"]),
            request_limit: scope.counter(&["retries", "request_limit"]),
            cannot_retry: scope.counter(&["retries", "cannot_retry"]),
            not_open: scope.counter(&["retries", "not_open"]),
            marked_dead: scope.counter(&["failfast", "marked_dead"]),
            marked_available: scope.counter(&["failfast", "marked_available"]),
            dropped: scope.counter(&["nack_admission_control", "dropped_requests"]),
            accepted: scope.gauge(&["nack_admission_control", "ema_value"]),
            levels: Levels::new(&scope, strategy),
            scope,
        }
    }

    pub(crate) fn connect_failed(&self, nanos: u64) {
        self.failed_connects.iter().for_each(Counter::inc);
        self.failed_connect_latency.record(nanos / 1_000_000);
    }
}

impl Levels {
    fn new(scope: &Scope, strategy: &Strategy) -> Levels {
        let balancer = scope.below(&["loadbalancer"]);
        let accrual = scope.below(&["failure_accrual"]);
        Levels {
            size: balancer.gauge(&["size"]),
            available: balancer.gauge(&["available"]),
            busy: balancer.gauge(&["busy"]),
            closed: balancer.gauge(&["closed"]),
            load: balancer.gauge(&["load"]),
            mean_weight: balancer.gauge(&["meanweight"]),
            weight_classes: balancer.gauge(&["num_weight_classes"]),
            algorithm: balancer.gauge(&["algorithm", strategy.algorithm()]),
            is_available: scope.gauge(&["available"]),
            budget: scope.gauge(&["retries", "budget"]),
            pool_size: scope.gauge(&["pool_size"]),
            pool_cached: scope.gauge(&["pool_cached"]),
            adds: balancer.counter(&["adds"]),
            removes: balancer.counter(&["removes"]),
            updates: balancer.counter(&["updates"]),
            rebuilds: balancer.counter(&["rebuilds"]),
            max_effort_exhausted: balancer.counter(&["max_effort_exhausted"]),
            busy_weight_classes: balancer.counter(&["busy_weight_classes"]),
            removals: accrual.counter(&["removals"]),
            revivals: accrual.counter(&["revivals"]),
            probes: accrual.counter(&["probes"]),
            removed_for_ms: accrual.counter(&["removed_for_ms"]),
            aperture: matches!(strategy, Strategy::Aperture(_)).then(|| Aperture {
                size: balancer.gauge(&["logical_aperture"]),
                offered_load: balancer.gauge(&["loadband", "offered_load_ema"]),
                widened: balancer.counter(&["loadband", "widen"]),
                narrowed: balancer.counter(&["loadband", "narrow"]),
                expired: balancer.counter(&["expired"]),
            }),
        }
    }

    /// Gauges of one path are summed over the workers that hold the client: what each sees alike is shared
    /// out.
    fn set(&self, counts: &Counts, holders: f64) {
        self.size.set(counts.size as f64 / holders);
        self.available.set(counts.available as f64 / holders);
        self.busy.set(counts.busy as f64 / holders);
        self.closed.set(counts.closed as f64 / holders);
        self.load.set(counts.load as f64);
        self.mean_weight.set(counts.mean_weight / holders);
        self.weight_classes.set(counts.weight_classes as f64 / holders);
        self.algorithm.set(1.0 / holders);
        self.is_available.set(f64::from(u8::from(counts.available > 0)) / holders);
        let catch_up = |counter: &Counter, total: u64| counter.add(total.saturating_sub(counter.value()));
        catch_up(&self.adds, counts.adds);
        catch_up(&self.removes, counts.removes);
        catch_up(&self.updates, counts.updates);
        catch_up(&self.rebuilds, counts.rebuilds);
        catch_up(&self.max_effort_exhausted, counts.max_effort_exhausted);
        catch_up(&self.busy_weight_classes, counts.busy_weight_classes as u64);
        catch_up(&self.removals, counts.removals);
        catch_up(&self.revivals, counts.revivals);
        catch_up(&self.probes, counts.probes);
        catch_up(&self.removed_for_ms, counts.removed_for_ms);
        if let Some(aperture) = &self.aperture {
            aperture.size.set(counts.aperture as f64 / holders);
            aperture.offered_load.set(counts.offered_load);
            catch_up(&aperture.widened, counts.widened);
            catch_up(&aperture.narrowed, counts.narrowed);
            catch_up(&aperture.expired, counts.expired);
        }
    }
}

/// An endpoint picked for one request. Dropped unreleased (the client went away), it says nothing about
/// the endpoint.
pub(crate) struct Picked {
    client: Rc<Client>,
    pub endpoint: Rc<Endpoint>,
    pick: Option<Pick>,
}

impl Picked {
    pub(crate) fn is_of(&self, client: &Rc<Client>) -> bool {
        Rc::ptr_eq(&self.client, client)
    }

    pub(crate) fn release(mut self, outcome: Outcome, now: u64) {
        self.end(outcome, now);
    }

    fn end(&mut self, outcome: Outcome, now: u64) {
        if let Some(pick) = self.pick.take() {
            let change =
                self.client.cluster.borrow_mut().balancer.release(pick, outcome, now, &mut || fastrand::u64(..));
            if let Some(change) = change {
                let (client, endpoint) = (&self.client.id, self.endpoint.address);
                match change {
                    Change::Died(nanoseconds) => {
                        let pause = std::time::Duration::from_nanos(nanoseconds);
                        tracing::info!(%client, %endpoint, "failure accrual: no requests to this endpoint for {pause:.1?}");
                    }
                    Change::Revived => tracing::info!(%client, %endpoint, "failure accrual: it answers again"),
                }
            }
        }
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        let now = self.client.metrics.worker.coarse_now();
        self.end(Outcome::Ignored, now);
    }
}

impl Client {
    pub(crate) fn new(
        worker: &Rc<Worker>,
        scope: Scope,
        bound: &Bound,
        settings: settings::Client,
        secured: Option<Secured>,
        directory: &Directory,
    ) -> Rc<Client> {
        let (shown, addr) = (bound.id.show(), bound.addr.clone());
        let pool = settings.pool.unwrap_or_default();
        let budget = Budget::new(&settings.requeue_budget.unwrap_or_default());
        let balancer = balancer(&settings.load_balancer.unwrap_or_default(), worker);
        let socket = settings.socket.unwrap_or_default();
        let limits = Limits::new(settings.session.unwrap_or_default(), socket, &scope);
        let bounds = Bounds::new(&pool, socket, worker.number, worker.workers);
        let accrual = settings.accrual.unwrap_or_default();
        let client = Rc::new(Client {
            metrics: Rc::new(Metrics::new(worker, scope, &balancer.strategy)),
            entry: directory.enter(&shown, addr.clone()),
            secured,
            id: shown,
            path: bound.id.clone(),
            addr: RefCell::new(addr),
            known: RefCell::new(Known::Pending),
            cluster: RefCell::new(Cluster::new(balancer, accrual, bounds, limits.clone())),
            budget: RefCell::new(budget.unwrap_or_else(|_| default_budget())),
            limits,
            admission: RefCell::default(),
            is_restrained: Cell::new(false),
            has_authorities: Cell::new(false),
            used: Cell::new(0),
            settings,
        });
        client.take_addr(worker.coarse_now());
        client
    }

    /// Follows another source of the same id's addresses.
    pub(crate) fn follow(self: &Rc<Client>, addr: &Live<Addr>, now: u64) {
        if self.addr.borrow().id() != addr.id() {
            *self.addr.borrow_mut() = addr.clone();
            self.entry.follow(addr);
            self.take_addr(now);
        }
    }

    /// Takes what discovery published since; one atomic load if that is nothing.
    #[inline]
    pub(crate) fn refresh(self: &Rc<Client>, now: u64) {
        if self.addr.borrow().has_changed() {
            self.take_addr(now);
        }
    }

    fn take_addr(self: &Rc<Client>, now: u64) {
        let state = self.addr.borrow_mut().take();
        let (endpoints, common) = match state {
            // Nothing is known of the new source yet: what was good is still good.
            State::Pending => return,
            State::Ok(Addr::Bound { endpoints, meta }) => (endpoints, authority(&meta)),
            State::Ok(Addr::Neg | Addr::Failed(_)) | State::Failed(_) => (Endpoints::default(), None),
        };
        let mut cluster = self.cluster.borrow_mut();
        cluster.follow(endpoints, common);
        self.has_authorities.set(cluster.has_authorities());
        let is_under_way = cluster.is_on_its_way();
        drop(cluster);
        // Small changes are made at once. Large ones go on between requests.
        if !is_under_way && !self.step(now) {
            let client = Rc::downgrade(self);
            spawn_local(async move {
                loop {
                    yield_now().await;
                    let Some(client) = client.upgrade() else { return };
                    if client.step(client.metrics.worker.now()) {
                        return;
                    }
                }
            });
        }
    }

    /// Takes over a part of what discovery published; whether that was all.
    fn step(&self, now: u64) -> bool {
        let mut cluster = self.cluster.borrow_mut();
        let turn = Turn::new(&self.metrics.worker, "taking over endpoints");
        let is_done = cluster.step(|| turn.is_over(), now);
        self.has_authorities.set(cluster.has_authorities());
        // Endpoints on probation count: they are there although discovery names none.
        if !cluster.balancer.is_empty() {
            *self.known.borrow_mut() = Known::Bound;
        } else if is_done {
            *self.known.borrow_mut() = Known::None;
        }
        if is_done {
            // Not only when house is kept: whoever looks at a new client sees its endpoints.
            let counts = cluster.balancer.counts(now);
            self.metrics.levels.set(&counts, self.holders());
        }
        is_done
    }

    /// Among so many the figures of one balancer are divided.
    fn holders(&self) -> f64 {
        self.entry.holders().max(1) as f64
    }

    pub(crate) fn known(&self) -> Known {
        self.known.borrow().clone()
    }

    /// The live addresses, to wait for.
    pub(crate) fn addr(&self) -> Live<Addr> {
        self.addr.borrow().clone()
    }

    /// The endpoint for one request; `None` if there is none.
    #[inline]
    pub(crate) fn pick(self: &Rc<Client>, now: u64) -> Option<Picked> {
        let mut cluster = self.cluster.borrow_mut();
        let pick = cluster.balancer.pick(now, &mut || fastrand::u64(..))?;
        let endpoint = cluster.balancer.key(&pick).map(|key| cluster.endpoint(key))?;
        Some(Picked { client: self.clone(), endpoint, pick: Some(pick) })
    }

    /// How often one request may try another connection after one that was refused. Where all endpoints count
    /// as dead, those that were restarted may be back already: each gets a few chances.
    pub(crate) fn connect_requeues(&self, now: u64) -> u32 {
        if self.is_open(now) {
            return CONNECT_REQUEUES;
        }
        match self.cluster.borrow().balancer.len() {
            0 | 1 => 0,
            several => u32::try_from(8 * several).unwrap_or(u32::MAX).min(CONNECT_REQUEUES),
        }
    }

    /// Whether any endpoint counts as healthy.
    pub(crate) fn is_open(&self, now: u64) -> bool {
        self.cluster.borrow_mut().balancer.status(now) == Status::Open
    }

    /// Its addresses, for texts; of many, some.
    pub(crate) fn addresses(&self) -> String {
        self.cluster.borrow().shown()
    }

    /// The Host that this endpoint wants, if it wants another than the client's.
    #[inline]
    pub(crate) fn authority(&self, endpoint: &Endpoint) -> Option<Rc<str>> {
        if self.has_authorities.get() { self.cluster.borrow().authority(endpoint.address) } else { None }
    }

    /// Whether some requests are not sent because most were refused.
    #[inline]
    pub(crate) fn is_restrained(&self) -> bool {
        self.is_restrained.get()
    }

    /// Whether one more request goes out.
    pub(crate) fn admits(&self, now: u64) -> bool {
        let mut admission = self.admission.borrow_mut();
        let admits = admission.as_mut().is_none_or(|admission| admission.admits(now, &mut || fastrand::u64(..)));
        if !admits {
            self.metrics.dropped.inc();
        }
        admits
    }

    /// What became of a request that went out, where that matters.
    pub(crate) fn answered(&self, refused: bool, now: u64) {
        let mut admission = self.admission.borrow_mut();
        if refused && admission.is_none() {
            let least = (LEAST_RATE / self.metrics.worker.workers as u32).max(1);
            *admission = Some(Admission::new(least, now));
            self.is_restrained.set(true);
        }
        if let Some(admission) = &mut *admission {
            admission.answered(refused, now);
        }
    }

    pub(crate) fn deposit(&self, now: u64) {
        self.budget.borrow_mut().deposit(now);
    }

    /// Requeues that one request may use now.
    pub(crate) fn requeue_limit(&self, now: u64) -> u64 {
        self.budget.borrow_mut().requeue_limit(now)
    }

    pub(crate) fn withdraw(&self, now: u64) -> bool {
        self.budget.borrow_mut().withdraw(now)
    }

    /// Closes so many idle connections, or about: how many it were.
    pub(crate) fn close_idle(&self, most: usize) -> usize {
        let idle = self.cluster.borrow().idle.clone();
        idle.close_some(most)
    }

    /// Every now and then: sets the gauges, and has closed what endpoints kept that nobody will need for a while.
    /// What is idle is to be [swept](Idle::sweep) then.
    pub(crate) fn maintain(self: &Rc<Client>, now: u64) -> Rc<Idle> {
        self.refresh(now);
        let mut cluster = self.cluster.borrow_mut();
        let found = cluster.balancer.maintain(now);
        found.idle.iter().for_each(Key::rest);
        found.removed.iter().for_each(Key::remove);
        if !found.removed.is_empty() && cluster.balancer.is_empty() {
            *self.known.borrow_mut() = Known::None;
        }
        let idle = cluster.idle.clone();
        let counts = cluster.balancer.counts(now);
        drop(cluster);
        let cached = idle.connections();
        let levels = &self.metrics.levels;
        let holders = self.holders();
        levels.set(&counts, holders);
        let mut admission = self.admission.borrow_mut();
        let accepted = admission.as_ref().map_or(1.0, Admission::share);
        self.metrics.accepted.set(accepted * 100.0 / holders);
        if admission.as_ref().is_some_and(|admission| admission.is_forgettable(now)) {
            *admission = None;
            self.is_restrained.set(false);
        }
        levels.budget.set(self.budget.borrow_mut().balance(now) as f64 / holders);
        levels.pool_cached.set(cached as f64);
        levels.pool_size.set(cached as f64 + counts.load as f64);
        idle
    }
}

/// Workers share the order of an aperture, and each its part of the load; so together they use the endpoints
/// that one balancer would use.
fn balancer(settings: &settings::LoadBalancer, worker: &Worker) -> BalancerConfig {
    let strategy = match settings.strategy {
        Strategy::Aperture(aperture) => Strategy::Aperture(aperture.share(worker.workers)),
        other => other,
    };
    BalancerConfig { strategy, probation: settings.probation, seed: worker.seed }
}

/// Settings come from a document that was checked; a budget out of bounds is the default one.
fn default_budget() -> Budget {
    Budget::new(&balance::BudgetConfig::default()).unwrap_or_else(|_| unreachable!("the default is in bounds"))
}

impl Drop for Client {
    fn drop(&mut self) {
        self.cluster.get_mut().idle.close();
    }
}
