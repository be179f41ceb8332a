//! Admission by refusals: a client whose endpoints refuse most of what they get sends them less.
//!
//! ```text
//!  share accepted (EMA over 2 min)   1.0 ........ 0.5 ........ 0.25 .. 0.125 .. 0
//!  share that is dropped here        0   ........ 0   ........ 0.5 ... 0.75 ... 0.75
//! ```
//! Behaviour: finagle's `NackAdmissionFilter`. Below a rate of requests nothing is held against anybody,
//! and a quarter always gets through, so that recovery is noticed. Until the first refusal the average is
//! one whatever happens, so that nobody needs to keep one of these before.

use crate::average::MovingAverage;
use crate::random::Random;
use crate::window::WindowedSum;

const SECOND: u64 = 1_000_000_000;
const WINDOW: u64 = 120 * SECOND;
/// Of the requests at least this share must be accepted.
const THRESHOLD: f64 = 0.5;
const MOST_DROPPED: f64 = 0.75;
/// So near to one that forgetting it makes no difference.
const RECOVERED: f64 = 0.999;

/// What a client knows of its endpoints' refusals. Times are nanoseconds on any monotonic clock.
#[derive(Debug, Clone)]
pub struct Admission {
    accepted: MovingAverage,
    requests: WindowedSum,
    least: i64,
    /// When one was refused last.
    refused: u64,
}

impl Admission {
    /// With the first refusal. Below `least` requests in the last second every answer counts as accepted.
    #[must_use]
    pub fn new(least: u32, now: u64) -> Admission {
        let mut accepted = MovingAverage::new(WINDOW as f64);
        accepted.update(now as f64, 1.0);
        Admission { accepted, requests: WindowedSum::new(SECOND), least: least.into(), refused: now }
    }

    /// Whether a request goes out; every request is asked about.
    pub fn admits(&mut self, now: u64, random: &mut impl Random) -> bool {
        self.requests.add(1, now);
        let accepted = self.share();
        accepted >= THRESHOLD || random.unit() >= MOST_DROPPED.min(1.0 - accepted / (1.0 - THRESHOLD))
    }

    /// What became of a request that went out.
    pub fn answered(&mut self, refused: bool, now: u64) {
        if refused {
            self.refused = now;
        }
        let counts = refused && self.requests.sum(now) >= self.least;
        self.accepted.update(now as f64, if counts { 0.0 } else { 1.0 });
    }

    /// The share that was accepted lately, 0 to 1.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.accepted.value()
    }

    /// Nothing was refused lately, and nothing is held against the endpoints: it can be forgotten.
    #[must_use]
    pub fn is_forgettable(&self, now: u64) -> bool {
        self.share() >= RECOVERED && now.saturating_sub(self.refused) >= WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `per_second` requests for so many seconds from `start`, and counts those that went out.
    fn drive(admission: &mut Admission, start: u64, seconds: u64, per_second: u64, refused: bool) -> (u64, u64) {
        let mut state = 7_u64;
        // Spread over all bits by Fibonacci hashing: even enough for shares.
        let mut random = || {
            state = state.wrapping_add(1);
            state.wrapping_mul(0x9E37_79B9_7F4A_7C15)
        };
        let (mut sent, mut all) = (0, 0);
        for n in 0..seconds * per_second {
            let now = start + n * SECOND / per_second;
            all += 1;
            if admission.admits(now, &mut random) {
                sent += 1;
                admission.answered(refused, now);
            }
        }
        (sent, all)
    }

    #[test]
    fn few_requests_are_never_dropped() {
        let mut admission = Admission::new(5, 0);
        assert_eq!(drive(&mut admission, 0, 600, 4, true), (2400, 2400));
        assert_eq!(admission.share(), 1.0);
    }

    #[test]
    fn nothing_is_dropped_while_half_is_accepted() {
        let mut admission = Admission::new(5, 0);
        // e^(−t/120) falls to a half after 83 s.
        assert_eq!(drive(&mut admission, 0, 83, 20, true), (1660, 1660));
        assert!(admission.share() < 0.51, "{}", admission.share());
    }

    #[test]
    fn a_cluster_that_refuses_everything_still_gets_a_quarter() {
        let mut admission = Admission::new(5, 0);
        drive(&mut admission, 0, 600, 100, true);
        let (sent, all) = drive(&mut admission, 600 * SECOND, 100, 100, true);
        let share = sent as f64 / all as f64;
        assert!((0.22..0.28).contains(&share), "{share}");
    }

    #[test]
    fn between_a_half_and_an_eighth_the_share_dropped_is_one_less_twice_the_share_accepted() {
        let mut admission = Admission::new(1, 0);
        admission.requests.add(1, 0);
        let at = (WINDOW as f64 * -(0.25_f64.ln())) as u64;
        admission.requests.add(1, at);
        admission.answered(true, at);
        assert!((admission.share() - 0.25).abs() < 1e-9);
        let (low, high) = (1_u64 << 62, 3_u64 << 62);
        assert!(!admission.admits(at, &mut || low), "0.25 is less than 0.5");
        assert!(admission.admits(at, &mut || high), "0.75 is not");
    }

    #[test]
    fn what_is_accepted_again_is_forgiven() {
        let mut admission = Admission::new(5, 0);
        drive(&mut admission, 0, 300, 100, true);
        assert!(!admission.is_forgettable(300 * SECOND) && admission.share() < 0.2);
        drive(&mut admission, 300 * SECOND, 900, 100, false);
        assert!(admission.is_forgettable(1200 * SECOND), "{}", admission.share());
    }
}
