//! Every strategy against §5.6 of the reference, and all of them against what they share.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use balance::{Aperture, Backoff, Balancer, BalancerConfig, Outcome, Pick, Status, Strategy, accrual};
use common::Seeded;
use proptest::prelude::*;
use proptest::strategy::Strategy as _;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;

const STRATEGIES: [Strategy; 5] = [
    Strategy::P2C,
    Strategy::EWMA,
    Strategy::Aperture(Aperture { max_effort: 5, window: 5 * SECOND, low: 0.5, high: 2.0, min: 1 }),
    Strategy::Heap,
    Strategy::RoundRobin,
];

fn with(config: BalancerConfig, endpoints: impl IntoIterator<Item = u32>) -> Balancer<u32> {
    let accrual = accrual::Config {
        policy: accrual::Policy::ConsecutiveFailures { failures: 1 },
        backoff: Backoff::Constant { nanos: 5 * SECOND },
    };
    let mut balancer = Balancer::with(config, accrual);
    balancer.update(endpoints.into_iter().map(|key| (key, 1.0)), 0);
    balancer
}

fn balancer(strategy: Strategy, endpoints: impl IntoIterator<Item = u32>) -> Balancer<u32> {
    with(BalancerConfig { strategy, ..BalancerConfig::default() }, endpoints)
}

#[track_caller]
fn pick(balancer: &mut Balancer<u32>, now: u64, random: &mut Seeded) -> (u32, Pick) {
    let pick = balancer.pick(now, random).expect("endpoints");
    (*balancer.key(&pick).expect("present"), pick)
}

/// Picks and gives back at once.
fn touch(balancer: &mut Balancer<u32>, now: u64, random: &mut Seeded) -> u32 {
    let (key, pick) = pick(balancer, now, random);
    balancer.release(pick, Outcome::Success, now, random);
    key
}

/// Marks an endpoint dead by a failure.
fn kill(balancer: &mut Balancer<u32>, victim: u32, now: u64, random: &mut Seeded) {
    let mut held = Vec::new();
    loop {
        let (key, pick) = pick(balancer, now, random);
        if key == victim {
            balancer.release(pick, Outcome::Failure, now, random);
            break;
        }
        held.push(pick);
        assert!(held.len() < 10_000, "{victim} is never picked");
    }
    for pick in held {
        balancer.release(pick, Outcome::Ignored, now, random);
    }
}

#[test]
fn each_strategy_names_its_algorithm_as_the_original_does() {
    let names = STRATEGIES.map(|strategy| strategy.algorithm());
    let expected = ["p2c_least_loaded", "p2c_peak_ewma", "aperture_least_loaded", "heap_least_loaded", "round_robin"];
    assert_eq!(names, expected);
}

#[test]
fn round_robin_goes_round_in_the_order_of_discovery() {
    let mut balancer = balancer(Strategy::RoundRobin, [7, 3, 9, 1]);
    let mut random = Seeded(1);
    let round = (0..12).map(|_| touch(&mut balancer, 0, &mut random)).collect::<Vec<_>>();
    let start = round[0];
    let order = [7, 3, 9, 1].into_iter().cycle().skip_while(|key| *key != start).take(12);
    assert_eq!(round, order.collect::<Vec<_>>());
}

#[test]
fn round_robin_leaves_out_the_dead_and_takes_them_back() {
    let mut balancer = balancer(Strategy::RoundRobin, [0, 1, 2, 3]);
    let mut random = Seeded(1);
    kill(&mut balancer, 2, 0, &mut random);
    let seen = (0..9).map(|_| touch(&mut balancer, 0, &mut random)).collect::<Vec<_>>();
    let counts = seen.iter().fold(BTreeMap::<u32, u32>::new(), |mut counts, key| {
        *counts.entry(*key).or_default() += 1;
        counts
    });
    assert_eq!(counts, BTreeMap::from([(0, 3), (1, 3), (3, 3)]), "{seen:?}");
    let seen = (0..8).map(|_| touch(&mut balancer, 5 * SECOND, &mut random)).collect::<Vec<_>>();
    let start = seen[0];
    let order = [0, 1, 2, 3].into_iter().cycle().skip_while(|key| *key != start).take(8);
    assert_eq!(seen, order.collect::<Vec<_>>(), "the probe succeeded");
}

#[test]
fn round_robin_with_nobody_open_asks_everybody() {
    let mut balancer = balancer(Strategy::RoundRobin, [0, 1, 2]);
    let mut random = Seeded(4);
    (0..3).for_each(|key| balancer.set_connection(&key, Status::Busy));
    let seen = (0..3).map(|_| touch(&mut balancer, 0, &mut random)).collect::<BTreeSet<_>>();
    assert_eq!(seen, BTreeSet::from([0, 1, 2]));
}

#[test]
fn a_heap_spreads_idle_requests_over_all() {
    let mut balancer = balancer(Strategy::Heap, 0..10);
    let mut random = Seeded(2);
    let mut counts = BTreeMap::<u32, u32>::new();
    for _ in 0..10_000 {
        *counts.entry(touch(&mut balancer, 0, &mut random)).or_default() += 1;
    }
    assert!(counts.len() == 10 && counts.values().all(|count| (700..1300).contains(count)), "{counts:?}");
}

#[test]
fn ewma_avoids_a_slow_endpoint_and_comes_back() {
    let mut balancer = balancer(Strategy::EWMA, [0, 1, 2]);
    let mut random = Seeded(5);
    let mut now = 0;
    // One request after the other for ten seconds: how many did the first endpoint get?
    let mut share = |slow: u64, balancer: &mut Balancer<u32>| {
        let (mut first, mut all, until) = (0.0, 0.0, now + 10 * SECOND);
        while now < until {
            let (key, pick) = pick(balancer, now, &mut random);
            now += if key == 0 { slow } else { 10 * MILLI };
            balancer.release(pick, Outcome::Success, now, &mut random);
            first += f64::from(u8::from(key == 0));
            all += 1.0;
        }
        first / all
    };
    let healthy = share(10 * MILLI, &mut balancer);
    assert!((0.25..0.42).contains(&healthy), "{healthy}");
    let slow = share(1000 * MILLI, &mut balancer);
    assert!(slow < 0.01, "{slow}");
    // The peak fades by e every ten seconds; after some of them it is looked at again.
    let recovering = (0..6).map(|_| share(10 * MILLI, &mut balancer)).collect::<Vec<_>>();
    let last = recovering[5];
    assert!((0.25..0.42).contains(&last), "{recovering:?}");
}

#[test]
fn ewma_counts_a_request_that_hangs() {
    let mut balancer = balancer(Strategy::EWMA, [0, 1]);
    let mut random = Seeded(6);
    // Both have a history; then one request hangs.
    for _ in 0..20 {
        let (_, pick) = pick(&mut balancer, 0, &mut random);
        balancer.release(pick, Outcome::Success, 5 * MILLI, &mut random);
    }
    let (hanging, held) = pick(&mut balancer, 5 * MILLI, &mut random);
    for _ in 0..20 {
        let (key, pick) = pick(&mut balancer, 5 * MILLI, &mut random);
        assert_ne!(key, hanging);
        balancer.release(pick, Outcome::Success, 10 * MILLI, &mut random);
    }
    balancer.release(held, Outcome::Success, 10 * MILLI, &mut random);
}

fn aperture(min: u32) -> Strategy {
    Strategy::Aperture(Aperture { min, ..Aperture::default() })
}

/// Who is asked, at one moment, by a thousand requests that end at once.
fn asked(balancer: &mut Balancer<u32>, now: u64, random: &mut Seeded) -> BTreeSet<u32> {
    let mut keys = BTreeSet::new();
    // At one moment the average load does not move, so the aperture does not change.
    for _ in 0..1000 {
        keys.insert(touch(balancer, now, random));
    }
    keys
}

#[test]
fn an_aperture_opens_under_load_and_closes_when_it_is_gone() {
    let mut balancer = balancer(aperture(1), 0..20);
    let mut random = Seeded(7);
    assert_eq!(balancer.counts(0).aperture, 1);
    let mut held = Vec::new();
    let mut now = 0;
    // Thirteen requests at a time.
    let mut sizes = Vec::new();
    for _ in 0..24 * 40 {
        held.push(balancer.pick(now, &mut random).expect("endpoints"));
        now += SECOND / 24;
        if held.len() > 13 {
            balancer.release(held.remove(0), Outcome::Success, now, &mut random);
        }
        sizes.push(balancer.counts(now).aperture);
    }
    let widest = balancer.counts(now);
    // At 7 endpoints each has less than the 2 that would widen it.
    assert_eq!(widest.aperture, 7, "{sizes:?}");
    assert!((12.5..13.5).contains(&widest.offered_load), "{widest:?}");
    assert_eq!((widest.widened, widest.narrowed), (6, 0));
    for pick in held {
        balancer.release(pick, Outcome::Success, now, &mut random);
    }
    for _ in 0..200 {
        now += SECOND;
        touch(&mut balancer, now, &mut random);
    }
    let counts = balancer.counts(now);
    // The original's average takes the load after an event for the time before it, so requests that come one
    // by one look like one that never ends: half of it each is not less than the 0.5 that would narrow.
    assert_eq!((counts.aperture, counts.narrowed), (2, 5));
}

#[test]
fn an_aperture_keeps_its_minimum_and_its_members_from_balancer_to_balancer() {
    let config = |seed| BalancerConfig { strategy: aperture(3), seed, ..BalancerConfig::default() };
    let mut random = Seeded(8);
    let first = asked(&mut with(config(1), 0..50), 0, &mut random);
    assert_eq!(first.len(), 3);
    assert_eq!(asked(&mut with(config(1), (0..50).rev()), 0, &mut random), first, "whatever the order of discovery");
    let others = (2..30).map(|seed| asked(&mut with(config(seed), 0..50), 0, &mut random)).collect::<Vec<_>>();
    let all = others.iter().flatten().collect::<BTreeSet<_>>();
    assert!(all.len() > 35, "processes differ: {all:?}");
    let mut few = with(config(1), 0..2);
    assert_eq!(asked(&mut few, 0, &mut random).len(), 2, "no more than there are");
}

#[test]
fn an_aperture_takes_in_others_for_those_that_die() {
    let mut balancer = balancer(aperture(2), 0..10);
    let mut random = Seeded(9);
    let before = asked(&mut balancer, 0, &mut random);
    let victim = *before.first().expect("two");
    kill(&mut balancer, victim, 0, &mut random);
    let during = asked(&mut balancer, 0, &mut random);
    assert_eq!(during.len(), 2);
    assert_eq!(during.intersection(&before).count(), 1, "{before:?} {during:?}");
    assert_eq!(asked(&mut balancer, 5 * SECOND, &mut random), before, "back to the order that was");
}

#[test]
fn what_is_outside_an_aperture_is_told_once_it_was_idle_for_ten_windows() {
    let mut balancer = balancer(aperture(1), 0..4);
    let mut random = Seeded(10);
    let inside = asked(&mut balancer, 0, &mut random);
    assert!(balancer.maintain(500 * SECOND).idle.is_empty(), "others were never used");
    let first = *inside.first().expect("one");
    balancer.set_connection(&first, Status::Busy);
    let outside = *asked(&mut balancer, 500 * SECOND, &mut random).first().expect("another");
    balancer.set_connection(&first, Status::Open);
    let (_, held) = pick(&mut balancer, 500 * SECOND, &mut random);
    assert!(balancer.maintain(549 * SECOND).idle.is_empty());
    assert_eq!(balancer.maintain(550 * SECOND).idle, [outside]);
    assert!(balancer.maintain(600 * SECOND).idle.is_empty(), "once");
    assert_eq!(balancer.counts(600 * SECOND).expired, 1);
    balancer.release(held, Outcome::Success, 600 * SECOND, &mut random);
}

#[test]
fn on_probation_an_endpoint_stays_until_it_is_no_longer_healthy() {
    for strategy in STRATEGIES {
        let config = BalancerConfig { strategy, probation: true, seed: 0 };
        let mut balancer = with(config, [0, 1, 2, 3]);
        let mut random = Seeded(11);
        balancer.set_connection(&3, Status::Closed);
        let update = balancer.update([(0, 1.0)], 0);
        assert_eq!(update.removed, [3], "was not healthy");
        assert_eq!(balancer.len(), 3);
        let on_probation = balancer.endpoints(0).into_iter().filter(|endpoint| endpoint.on_probation);
        assert_eq!(on_probation.map(|endpoint| endpoint.key).collect::<BTreeSet<_>>(), BTreeSet::from([1, 2]));
        assert!(balancer.maintain(0).removed.is_empty());
        balancer.set_connection(&1, Status::Busy);
        assert_eq!(balancer.maintain(0).removed, [1], "{strategy:?}");
        balancer.update([(0, 1.0), (2, 1.0)], 0);
        balancer.set_connection(&2, Status::Busy);
        assert!(balancer.maintain(0).removed.is_empty(), "named again");
        assert_eq!(balancer.update([(0, 1.0)], 0).removed, [2]);
        assert_eq!(balancer.counts(0).removes, 3);
        assert_eq!(touch(&mut balancer, 0, &mut random), 0);
    }
}

#[test]
fn classes_are_drawn_by_weight_and_size_whatever_the_strategy() {
    for strategy in STRATEGIES {
        let mut balancer = balancer(strategy, []);
        balancer.update([(0, 3.0), (1, 1.0), (2, 1.0), (3, 0.0), (4, f64::NAN)], 0);
        let mut random = Seeded(12);
        let mut heavy = 0.0;
        for _ in 0..10_000 {
            let key = touch(&mut balancer, 0, &mut random);
            assert!(key < 3, "no weight, no requests");
            heavy += f64::from(u8::from(key == 0));
        }
        // Five standard deviations of a binomial.
        assert!((heavy - 6000.0f64).abs() < 5.0 * 49.0, "{strategy:?}: {heavy}");
    }
}

#[test]
fn classes_without_any_weight_are_drawn_alike() {
    let mut balancer = balancer(Strategy::P2C, []);
    balancer.update([(0, 0.0), (1, -3.0)], 0);
    let mut random = Seeded(13);
    let seen = (0..100).map(|_| touch(&mut balancer, 0, &mut random)).collect::<BTreeSet<_>>();
    assert_eq!((seen.len(), balancer.counts(0).weight_classes), (2, 1));
}

#[test]
fn a_weight_that_changes_leaves_no_class_behind() {
    for strategy in STRATEGIES {
        let mut balancer = balancer(strategy, 0..3);
        let mut random = Seeded(14);
        let (key, held) = pick(&mut balancer, 0, &mut random);
        for round in 1..100u32 {
            balancer.update((0..3).map(|key| (key, f64::from(round) + f64::from(key % 2))), 0);
            assert_eq!(balancer.counts(0).weight_classes, 2);
        }
        assert_eq!(balancer.key(&held), Some(&key));
        balancer.release(held, Outcome::Success, 0, &mut random);
        assert_eq!((balancer.counts(0).load, balancer.counts(0).mean_weight), (0, 99.0 + 1.0 / 3.0));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Update(HashSet<u32>),
    Connection(u32, Status),
    Pick,
    Release(usize, Outcome),
    Wait(u64),
    Maintain,
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    let outcome = prop_oneof![Just(Outcome::Success), Just(Outcome::Failure), Just(Outcome::Ignored)];
    let status = prop_oneof![Just(Status::Open), Just(Status::Busy), Just(Status::Closed)];
    prop_oneof![
        1 => prop::collection::hash_set(0u32..12, 0..8).prop_map(Step::Update),
        1 => (0u32..12, status).prop_map(|(key, status)| Step::Connection(key, status)),
        8 => Just(Step::Pick),
        5 => (any::<usize>(), outcome).prop_map(|(which, outcome)| Step::Release(which, outcome)),
        1 => (0u64..20).prop_map(Step::Wait),
        1 => Just(Step::Maintain),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_an_open_endpoint_is_picked_if_there_is_one_and_sums_agree(
        steps in prop::collection::vec(step(), 1..200), seed: u64, which in 0usize..5, probation: bool, weights in 1u32..4,
    ) {
        let strategy = STRATEGIES[which];
        let mut balancer = with(BalancerConfig { strategy, probation, seed }, [0, 1]);
        let mut random = Seeded(seed);
        let mut present = HashSet::from([0, 1]);
        let (mut held, mut now) = (Vec::<(u32, Pick)>::new(), 0);
        for step in steps {
            match step {
                Step::Update(keys) => {
                    let before = balancer.endpoints(now);
                    let update = balancer.update(keys.iter().map(|key| (*key, f64::from(key % weights))), now);
                    let stays = |key: &u32| keys.contains(key) || probation && before.iter().any(|endpoint| {
                        endpoint.key == *key && endpoint.status == Status::Open
                    });
                    let expected = keys.iter().chain(&present).filter(|key| stays(key)).copied().collect::<HashSet<_>>();
                    prop_assert_eq!(update.added.len(), keys.difference(&present).count());
                    prop_assert_eq!(update.removed.len(), present.difference(&expected).count());
                    present = expected;
                    held.retain(|(key, _)| present.contains(key));
                }
                Step::Connection(key, status) => balancer.set_connection(&key, status),
                Step::Pick => {
                    let before = balancer.endpoints(now);
                    let best = before.iter().map(|endpoint| endpoint.status).min();
                    match balancer.pick(now, &mut random) {
                        None => prop_assert!(present.is_empty()),
                        Some(pick) => {
                            let key = *balancer.key(&pick).expect("present");
                            prop_assert!(present.contains(&key));
                            let chosen = before.iter().find(|endpoint| endpoint.key == key).expect("present");
                            prop_assert!(best != Some(Status::Open) || chosen.status == Status::Open, "{:?}", before);
                            if strategy == Strategy::Heap {
                                let rivals = before.iter().filter(|rival| rival.weight == chosen.weight);
                                let least = rivals.map(|rival| (rival.status, rival.outstanding)).min();
                                prop_assert_eq!(least, Some((chosen.status, chosen.outstanding)));
                            }
                            held.push((key, pick));
                        }
                    }
                }
                Step::Release(which, outcome) => if !held.is_empty() {
                    let (_, pick) = held.swap_remove(which % held.len());
                    balancer.release(pick, outcome, now, &mut random);
                },
                Step::Wait(seconds) => now += seconds * SECOND,
                Step::Maintain => {
                    let maintenance = balancer.maintain(now);
                    for key in &maintenance.removed {
                        prop_assert!(probation && present.remove(key));
                    }
                    held.retain(|(key, _)| present.contains(key));
                    prop_assert!(maintenance.idle.iter().all(|key| present.contains(key)));
                }
            }
            let counts = balancer.counts(now);
            prop_assert_eq!(counts.size, present.len());
            prop_assert_eq!(counts.available + counts.busy + counts.closed, present.len());
            prop_assert_eq!(counts.load, held.len() as u64);
            let endpoints = balancer.endpoints(now);
            let open = endpoints.iter().filter(|endpoint| endpoint.status == Status::Open).count();
            prop_assert_eq!(open, counts.available);
            let classes = endpoints.iter().map(|endpoint| endpoint.weight.to_bits()).collect::<HashSet<_>>().len();
            prop_assert_eq!(counts.weight_classes, classes);
            if let Strategy::Aperture(_) = strategy {
                prop_assert!(counts.aperture >= classes && counts.aperture <= present.len());
            } else {
                prop_assert_eq!(counts.aperture, 0);
            }
            let status = endpoints.iter().map(|endpoint| endpoint.status).min().unwrap_or(Status::Closed);
            prop_assert_eq!(balancer.status(now), status);
        }
    }

    #[test]
    fn round_robin_visits_each_open_endpoint_once_a_round_through_any_change(
        count in 1u32..12, changes in prop::collection::vec((0u32..12, any::<bool>(), 0usize..20), 0..20), seed: u64,
    ) {
        let mut balancer = balancer(Strategy::RoundRobin, 0..count);
        let mut random = Seeded(seed);
        for (key, open, picks) in changes {
            for _ in 0..picks {
                touch(&mut balancer, 0, &mut random);
            }
            balancer.set_connection(&key, if open { Status::Open } else { Status::Busy });
            let endpoints = balancer.endpoints(0).into_iter();
            let healthy = endpoints.filter(|endpoint| endpoint.status == Status::Open);
            let healthy = healthy.map(|endpoint| endpoint.key).collect::<BTreeSet<_>>();
            if !healthy.is_empty() {
                let seen = (0..healthy.len()).map(|_| touch(&mut balancer, 0, &mut random)).collect::<BTreeSet<_>>();
                prop_assert_eq!(seen, healthy);
            }
        }
    }
}
