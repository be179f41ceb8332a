//! The balancer against §5.6 of the reference, with a seeded source so that sums are exact.

mod common;

use std::collections::{BTreeMap, HashMap};

use balance::{Backoff, Balancer, Change, Outcome, Pick, Status, accrual};
use common::Seeded;

const SECOND: u64 = 1_000_000_000;

fn balancer(endpoints: &[(u32, f64)]) -> Balancer<u32> {
    let mut balancer = Balancer::new(accrual::Config {
        policy: accrual::Policy::ConsecutiveFailures { failures: 1 },
        backoff: Backoff::ACCRUAL,
    });
    balancer.update(endpoints.iter().copied(), 0);
    balancer
}

fn pick(balancer: &mut Balancer<u32>, now: u64, random: &mut Seeded) -> (u32, Pick) {
    let pick = balancer.pick(now, random).expect("endpoints");
    (*balancer.key(&pick).expect("present"), pick)
}

#[test]
fn no_endpoints_no_pick() {
    assert_eq!(balancer(&[]).pick(0, &mut Seeded(1)), None);
    let mut emptied = balancer(&[(1, 1.0)]);
    emptied.update([], 0);
    assert_eq!(emptied.pick(0, &mut Seeded(1)), None);
}

#[test]
fn outstanding_requests_spread_evenly() {
    let mut balancer = balancer(&[(1, 1.0), (2, 1.0), (3, 1.0)]);
    let mut random = Seeded(7);
    let mut held = Vec::new();
    for _ in 0..300 {
        held.push(balancer.pick(0, &mut random).expect("endpoints"));
    }
    for endpoint in balancer.endpoints(0) {
        assert!((97..=103).contains(&endpoint.outstanding), "{endpoint:?}");
    }
    for pick in held {
        balancer.release(pick, Outcome::Success, 0, &mut random);
    }
    assert_eq!(balancer.counts(0).load, 0);
}

#[test]
fn idle_endpoints_are_drawn_uniformly_and_classes_by_weight_and_size() {
    type Case = (&'static [(u32, f64)], &'static [f64]);
    let cases: [Case; 2] =
        [(&[(0, 1.0), (1, 1.0), (2, 1.0)], &[1.0, 1.0, 1.0]), (&[(0, 3.0), (1, 1.0), (2, 1.0)], &[3.0, 1.0, 1.0])];
    for (endpoints, shares) in cases {
        let mut balancer = balancer(endpoints);
        let mut random = Seeded(42);
        let mut counts = BTreeMap::<u32, f64>::new();
        for _ in 0..30_000 {
            let (key, pick) = pick(&mut balancer, 0, &mut random);
            *counts.entry(key).or_default() += 1.0;
            balancer.release(pick, Outcome::Success, 0, &mut random);
        }
        for (key, share) in shares.iter().enumerate() {
            let expected = 30_000.0 * share / shares.iter().sum::<f64>();
            let difference = (counts[&(key as u32)] - expected).abs();
            // Five standard deviations of a binomial.
            assert!(difference < 5.0 * expected.sqrt(), "{counts:?}");
        }
    }
}

#[test]
fn a_dead_endpoint_is_avoided_probed_once_and_comes_back() {
    let mut balancer = balancer(&[(1, 1.0), (2, 1.0)]);
    let mut random = Seeded(3);
    let mut picks = HashMap::from([pick(&mut balancer, 0, &mut random), pick(&mut balancer, 0, &mut random)]);
    assert_eq!(picks.len(), 2, "the second request goes to the idle endpoint");
    let died = balancer.release(picks.remove(&1).expect("picked"), Outcome::Failure, 0, &mut random);
    assert_eq!(died, Some(Change::Died(5 * SECOND)));
    for _ in 0..50 {
        assert_eq!(pick(&mut balancer, SECOND, &mut random).0, 2);
    }
    assert_eq!(balancer.counts(SECOND).available, 1);
    let (probed, probe) = pick(&mut balancer, 5 * SECOND, &mut random);
    assert_eq!(probed, 1, "fewer outstanding, and open again");
    for _ in 0..50 {
        assert_eq!(pick(&mut balancer, 5 * SECOND, &mut random).0, 2, "one probe at a time");
    }
    let revived = balancer.release(probe, Outcome::Success, 6 * SECOND, &mut random);
    assert_eq!(revived, Some(Change::Revived));
    let counts = balancer.counts(6 * SECOND);
    assert_eq!((counts.removals, counts.probes, counts.revivals, counts.removed_for_ms), (1, 1, 1, 5000));
}

#[test]
fn a_lone_dead_endpoint_still_gets_requests() {
    let mut balancer = balancer(&[(1, 1.0)]);
    let mut random = Seeded(3);
    let (_, first) = pick(&mut balancer, 0, &mut random);
    balancer.release(first, Outcome::Failure, 0, &mut random);
    assert_eq!(balancer.status(1), Status::Busy);
    assert_eq!(pick(&mut balancer, 1, &mut random).0, 1);
}

#[test]
fn a_class_with_no_open_endpoint_is_skipped() {
    let mut balancer = balancer(&[(1, 100.0), (2, 1.0)]);
    let mut random = Seeded(9);
    balancer.set_connection(&1, Status::Closed);
    for _ in 0..50 {
        assert_eq!(pick(&mut balancer, 0, &mut random).0, 2);
    }
    let counts = balancer.counts(0);
    assert_eq!((counts.weight_classes, counts.busy_weight_classes, counts.closed), (2, 1, 1));
    assert_eq!(counts.mean_weight, 50.5);
}

#[test]
fn an_update_keeps_the_state_of_what_stays() {
    let mut balancer = balancer(&[(1, 1.0), (2, 1.0)]);
    let mut random = Seeded(5);
    let mut picks = HashMap::from([pick(&mut balancer, 0, &mut random), pick(&mut balancer, 0, &mut random)]);
    balancer.release(picks.remove(&1).expect("picked"), Outcome::Failure, 0, &mut random);
    let update = balancer.update([(1, 2.0), (3, 1.0)], 1);
    assert_eq!((update.added, update.removed), (vec![3], vec![2]));
    let kept = balancer.endpoints(1).into_iter().find(|endpoint| endpoint.key == 1).expect("kept");
    assert_eq!((kept.status, kept.weight, kept.picks), (Status::Busy, 2.0, 1));
    let gone = picks.remove(&2).expect("picked");
    assert_eq!(balancer.key(&gone), None);
    assert_eq!(balancer.release(gone, Outcome::Failure, 1, &mut random), None, "harmless");
    assert_eq!(balancer.counts(1).load, 0);
}
