//! Endpoints that come and go one by one: the same balancer as one that was told the whole set, and no work
//! that grows with the set.

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use balance::{Aperture, Balancer, BalancerConfig, Outcome, Strategy, accrual};
use common::Seeded;
use proptest::prelude::*;

const STRATEGIES: [Strategy; 5] = [
    Strategy::P2C,
    Strategy::EWMA,
    Strategy::Heap,
    Strategy::RoundRobin,
    Strategy::Aperture(Aperture {
        max_effort: Strategy::MAX_EFFORT,
        window: 5_000_000_000,
        low: 0.5,
        high: 2.0,
        min: 1,
    }),
];

fn balancer(strategy: Strategy) -> Balancer<u32> {
    let config = BalancerConfig { strategy, probation: false, seed: 7 };
    Balancer::with(config, accrual::Config::default())
}

/// What does not depend on how a balancer came to its set.
fn shown(balancer: &mut Balancer<u32>) -> (BTreeMap<u32, (u64, String)>, String) {
    let endpoints = balancer.endpoints(0).into_iter();
    let endpoints = endpoints.map(|shown| (shown.key, (shown.weight.to_bits(), format!("{:?}", shown.status))));
    let counts = balancer.counts(0);
    let levels = (counts.size, counts.available, counts.busy, counts.closed, counts.load);
    let weights = (counts.weight_classes, counts.busy_weight_classes, format!("{:.9}", counts.mean_weight));
    (endpoints.collect(), format!("{levels:?} {weights:?} {}", counts.aperture))
}

proptest! {
    #[test]
    fn changes_one_by_one_lead_where_the_whole_set_leads(
        changes in prop::collection::vec((0u32..40, prop::option::of(0u32..4)), 1..150), which in 0usize..5, seed: u64,
    ) {
        let (mut step_by_step, mut random) = (balancer(STRATEGIES[which]), Seeded(seed));
        let mut set = BTreeMap::new();
        for (key, weight) in changes {
            match weight {
                Some(weight) => {
                    let is_new = set.insert(key, f64::from(weight)).is_none();
                    prop_assert_eq!(step_by_step.put(key, f64::from(weight), 0), is_new);
                }
                None => {
                    let was_there = set.remove(&key).map(|_| key);
                    prop_assert_eq!(step_by_step.take(&key), was_there);
                }
            }
            step_by_step.settle();
            // Requests in between change nothing of it.
            if let Some(pick) = step_by_step.pick(0, &mut random) {
                prop_assert!(set.contains_key(step_by_step.key(&pick).expect("present")));
                step_by_step.release(pick, Outcome::Success, 0, &mut random);
            }
        }
        let mut at_once = balancer(STRATEGIES[which]);
        at_once.update(set.iter().map(|(key, weight)| (*key, *weight)), 0);
        prop_assert_eq!(shown(&mut step_by_step), shown(&mut at_once));
        // An aperture of one lets in the same endpoint, whatever came and went before.
        if let Strategy::Aperture(_) = STRATEGIES[which] && step_by_step.counts(0).weight_classes == 1 {
            let (one, other) = (step_by_step.pick(0, &mut random), at_once.pick(0, &mut random));
            let one = one.and_then(|pick| step_by_step.key(&pick).copied());
            prop_assert_eq!(one, other.and_then(|pick| at_once.key(&pick).copied()));
        }
    }
}

/// Every kind, with a hundred thousand endpoints: no single call takes long. The bound is generous, because
/// this is not an optimised build and the machine may be busy; work over the whole set would exceed it.
#[test]
fn no_call_looks_at_a_whole_large_set() {
    for strategy in STRATEGIES {
        let (mut balancer, mut random) = (balancer(strategy), Seeded(1));
        (0..100_000).for_each(|key| assert!(balancer.put(key, 1.0 + f64::from(key % 3), 0)));
        balancer.settle();
        let mut times = Vec::new();
        for round in 0..200u32 {
            let began = Instant::now();
            assert_eq!(balancer.take(&round), Some(round));
            assert!(balancer.put(100_000 + round, 2.0, 0));
            balancer.settle();
            let pick = balancer.pick(0, &mut random).expect("endpoints");
            balancer.release(pick, Outcome::Failure, 0, &mut random);
            assert_eq!(balancer.counts(0).size, 100_000);
            times.push(began.elapsed());
        }
        times.sort();
        assert!(times[100] < Duration::from_micros(500), "{strategy:?}: {:?}", times[100]);
    }
}
