//! The endpoints of one client on one worker: a balancer that follows the live addresses.
//!
//! ```text
//!  discovery ──▶ Live<Addr> ──▶ differences ──▶ put, put, … then take, take, …   in steps of 200 µs
//! ```
//! What changed is applied in steps, between which the worker serves requests: a set of a hundred thousand
//! endpoints holds nobody up. What is new comes before anything goes, so that a set that is replaced is
//! never empty on the way. If discovery publishes meanwhile, the newest set follows when the way is done.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::net::SocketAddr;
use std::rc::Rc;

use balance::{Balancer, BalancerConfig, accrual};
use naming::{Difference, Differences, Endpoints, Meta};

use crate::limits::Limits;
use crate::pool::{Bounds, Endpoint, Idle};

/// Endpoints that are looked at between two looks at the clock.
const LOOKS: usize = 64;
/// Addresses that a text shows.
const SHOWN: usize = 100;

pub(crate) struct Cluster {
    pub balancer: Balancer<Key>,
    bounds: Bounds,
    limits: Option<Rc<Limits>>,
    /// Of the set, and of those endpoints that have one of their own.
    common_authority: Option<Rc<str>>,
    authorities: Authorities,
    pub idle: Rc<Idle>,
    /// What the balancer holds, or will hold at the end of the way.
    set: Endpoints,
    /// What discovery published last, if that is not `set`.
    newest: Option<Endpoints>,
    way: Option<Way>,
}

/// The way from one set to another.
struct Way {
    differences: Differences,
    is_compared: bool,
    /// What goes, once all that is new has come.
    leaving: Vec<SocketAddr>,
}

impl Cluster {
    pub(crate) fn new(
        config: BalancerConfig,
        accrual: accrual::Config,
        bounds: Bounds,
        limits: Option<Rc<Limits>>,
    ) -> Cluster {
        Cluster {
            balancer: Balancer::with(config, accrual),
            bounds,
            limits,
            common_authority: None,
            authorities: Authorities::default(),
            idle: Rc::default(),
            set: Endpoints::default(),
            newest: None,
            way: None,
        }
    }

    /// Discovery published this; [`Cluster::step`] takes it over. `common`: the Host that all of them want.
    pub(crate) fn follow(&mut self, endpoints: Endpoints, common: Option<Rc<str>>) {
        self.newest = Some(endpoints);
        self.common_authority = common;
    }

    pub(crate) fn has_authorities(&self) -> bool {
        self.common_authority.is_some() || !self.authorities.is_empty()
    }

    /// The Host that an endpoint wants.
    pub(crate) fn authority(&self, address: SocketAddr) -> Option<Rc<str>> {
        self.authorities.get(address).or(self.common_authority.as_ref()).cloned()
    }

    /// Whether a set is being taken over.
    pub(crate) fn is_on_its_way(&self) -> bool {
        self.way.is_some()
    }

    /// Goes on until the turn is over; whether the balancer holds the newest set now.
    pub(crate) fn step(&mut self, is_over: impl Fn() -> bool, now: u64) -> bool {
        loop {
            let Some(way) = &mut self.way else {
                let Some(newest) = self.newest.take() else { return true };
                self.begin(newest, now);
                continue;
            };
            let is_done = way.go_on(&mut self.balancer, &mut self.authorities, now);
            if is_done {
                self.way = None;
            }
            if is_over() || (is_done && self.newest.is_none()) {
                self.balancer.settle();
                return is_done && self.newest.is_none();
            }
        }
    }

    fn begin(&mut self, newest: Endpoints, now: u64) {
        self.balancer.begin_update(now);
        let old = std::mem::replace(&mut self.set, newest.clone());
        let differences = Differences::new(old, newest);
        self.way = Some(Way { differences, is_compared: false, leaving: Vec::new() });
    }

    /// The endpoint behind a key of the balancer.
    #[inline]
    pub(crate) fn endpoint(&self, key: &Key) -> Rc<Endpoint> {
        key.endpoint.get_or_init(|| Endpoint::new(key.address, self.bounds, self.limits.clone(), &self.idle)).clone()
    }

    /// For texts: in order, the first hundred.
    pub(crate) fn shown(&self) -> String {
        let mut addresses = self.balancer.keys().map(|key| key.address).take(SHOWN).collect::<Vec<_>>();
        addresses.sort();
        let mut text = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let more = self.balancer.len() - addresses.len();
        if more > 0 {
            text.push_str(&format!(", and {more} more"));
        }
        text
    }
}

/// What endpoints want as Host, in parts that do not all grow at once: one table of a hundred thousand would take
/// milliseconds to grow.
#[derive(Default)]
struct Authorities {
    /// None as long as nobody wants any.
    parts: Vec<HashMap<SocketAddr, Rc<str>>>,
    hasher: RandomState,
}

impl Authorities {
    const PARTS: usize = 64;

    fn is_empty(&self) -> bool {
        self.parts.iter().all(HashMap::is_empty)
    }

    fn get(&self, address: SocketAddr) -> Option<&Rc<str>> {
        self.parts.get(self.part_of(address))?.get(&address)
    }

    fn insert(&mut self, address: SocketAddr, authority: Rc<str>) {
        if self.parts.is_empty() {
            self.parts.resize_with(Self::PARTS, HashMap::new);
        }
        let part = self.part_of(address);
        self.parts[part].insert(address, authority);
    }

    fn remove(&mut self, address: SocketAddr) {
        let part = self.part_of(address);
        if let Some(part) = self.parts.get_mut(part) {
            part.remove(&address);
        }
    }

    fn part_of(&self, address: SocketAddr) -> usize {
        if self.parts.is_empty() { 0 } else { self.hasher.hash_one(address) as usize % Self::PARTS }
    }
}

/// `authority` in metadata.
pub(crate) fn authority(meta: &Meta) -> Option<Rc<str>> {
    meta.get("authority").and_then(serde_json::Value::as_str).map(Rc::from)
}

impl Way {
    /// A little further; whether that was the end.
    fn go_on(&mut self, balancer: &mut Balancer<Key>, authorities: &mut Authorities, now: u64) -> bool {
        if !self.is_compared {
            let leaving = &mut self.leaving;
            self.is_compared = self.differences.step(LOOKS, |difference| match difference {
                Difference::Put(endpoint) => {
                    balancer.put(Key::new(endpoint.addr), endpoint.weight, now);
                    match authority(&endpoint.meta) {
                        Some(authority) => authorities.insert(endpoint.addr, authority),
                        None => authorities.remove(endpoint.addr),
                    }
                }
                Difference::Gone(address) => leaving.push(address),
            });
        }
        if self.is_compared {
            for _ in 0..LOOKS {
                let Some(address) = self.leaving.pop() else { return true };
                if let Some(key) = balancer.take(&Key::new(address)) {
                    key.remove();
                }
                authorities.remove(address);
            }
        }
        false
    }
}

/// An endpoint as the balancer knows it: by its address. Its connections come with the first request.
#[derive(Clone)]
pub(crate) struct Key {
    pub address: SocketAddr,
    endpoint: OnceCell<Rc<Endpoint>>,
}

impl Key {
    fn new(address: SocketAddr) -> Key {
        Key { address, endpoint: OnceCell::new() }
    }

    /// Discovery took it away.
    pub(crate) fn remove(&self) {
        if let Some(endpoint) = self.endpoint.get() {
            endpoint.remove();
        }
    }

    /// Nobody will need its connections for a while.
    pub(crate) fn rest(&self) {
        if let Some(endpoint) = self.endpoint.get() {
            endpoint.rest();
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.address == other.address
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;

    fn set(numbers: std::ops::Range<u32>) -> Endpoints {
        let endpoint = |number: u32| naming::Endpoint {
            addr: (std::net::Ipv4Addr::from(number), 80).into(),
            weight: 1.0,
            meta: Arc::default(),
        };
        numbers.map(endpoint).collect()
    }

    fn cluster() -> Cluster {
        let bounds = Bounds::new(&<_>::default(), <_>::default(), 0, 1);
        Cluster::new(BalancerConfig::default(), accrual::Config::default(), bounds, None)
    }

    fn held(cluster: &Cluster) -> BTreeSet<SocketAddr> {
        cluster.balancer.keys().map(|key| key.address).collect()
    }

    fn addresses(set: &Endpoints) -> BTreeSet<SocketAddr> {
        set.iter().map(|endpoint| endpoint.addr).collect()
    }

    #[test]
    fn a_large_set_is_taken_over_in_small_steps_and_is_never_empty_on_the_way() {
        let mut cluster = cluster();
        let (first, second, third) = (set(0..10_000), set(20_000..30_000), set(25_000..25_003));
        cluster.follow(first.clone(), None);
        let (mut steps, mut sizes) = (0, Vec::new());
        while !cluster.step(|| true, 0) {
            steps += 1;
            sizes.push(cluster.balancer.len());
        }
        assert!(steps >= 10_000 / LOOKS && sizes.iter().all(|size| *size > 0), "{steps}");
        assert_eq!(held(&cluster), addresses(&first));

        cluster.follow(second, None);
        assert!(!cluster.step(|| true, 0) && cluster.is_on_its_way());
        // Discovery does not wait for us.
        cluster.follow(third.clone(), None);
        let (mut smallest, mut largest_step, mut before) = (usize::MAX, 0, cluster.balancer.len());
        while !cluster.step(|| true, 0) {
            let now = cluster.balancer.len();
            smallest = smallest.min(now);
            largest_step = largest_step.max(now.abs_diff(before));
            before = now;
        }
        assert!(smallest >= 3 && largest_step <= 2 * LOOKS, "{smallest} {largest_step}");
        assert_eq!(held(&cluster), addresses(&third));
        assert_eq!(cluster.shown(), "0.0.97.168:80, 0.0.97.169:80, 0.0.97.170:80");
    }

    #[test]
    fn a_text_shows_a_hundred_addresses_at_most() {
        let mut cluster = cluster();
        cluster.follow(set(0..150), None);
        assert!(cluster.step(|| false, 0));
        assert!(cluster.shown().ends_with(", and 50 more") && cluster.shown().matches(":80").count() == 100);
    }
}
