//! Failure accrual: when an endpoint counts as dead, and how it comes back.
//!
//! ```text
//!          n-th failure            wait over            a request goes out
//!  Alive ───────────────▶ Dead ──────────────▶ ProbeOpen ───────────────▶ ProbeClosed
//!    ▲                     ▲                       ▲                        │ │  │
//!    │                     └───────── it fails ────┼────────────────────────┘ │  │
//!    │                                             └────── it is ignored ─────┘  │
//!    └──────────────────────────────── it succeeds ──────────────────────────────┘
//! ```
//! Dead and ProbeClosed are Busy to the balancer. Accrual only steers: a request that reaches a dead
//! endpoint is still sent.

use crate::average::MovingAverage;
use crate::backoff::{Backoff, Backoffs};
use crate::random::Random;
use crate::window::WindowedSum;

/// Requests that a windowed success rate needs before it judges.
const WINDOW_MIN_REQUESTS: i64 = 5;
const MILLI: u64 = 1_000_000;

/// Which endpoints are marked dead, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    pub policy: Policy,
    pub backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Policy {
    /// `io.l5d.consecutiveFailures`
    ConsecutiveFailures { failures: u32 },
    /// `io.l5d.successRate`: a moving average over about `requests` requests falls below the rate.
    SuccessRate { success_rate: f64, requests: u32 },
    /// `io.l5d.successRateWindowed`: a moving average over about `window` nanoseconds falls below the rate.
    SuccessRateWindowed { success_rate: f64, window: u64 },
    /// `none`
    None,
}

impl Config {
    /// Whether an endpoint that never failed has nothing to learn from a success.
    pub(crate) fn is_calm(&self) -> bool {
        self.policy.is_calm()
    }
}

impl Policy {
    /// Successes count for nothing but against failures before them.
    fn is_calm(self) -> bool {
        match self {
            Policy::ConsecutiveFailures { .. } | Policy::None => true,
            Policy::SuccessRate { .. } | Policy::SuccessRateWindowed { .. } => false,
        }
    }
}

impl Default for Config {
    /// Five consecutive failures; 5 s to 300 s.
    fn default() -> Config {
        Config { policy: Policy::ConsecutiveFailures { failures: 5 }, backoff: Backoff::ACCRUAL }
    }
}

/// How a request ended, as the service's classifier sees it. Failing to connect is a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure,
    /// Says nothing about the endpoint (the client went away).
    Ignored,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Alive,
    /// Until this time.
    Dead(u64),
    ProbeOpen,
    ProbeClosed,
}

/// The state of one endpoint.
#[derive(Debug, Clone)]
pub struct Accrual {
    policy: Policy,
    backoffs: Backoffs,
    state: State,
    consecutive: u32,
    rate: MovingAverage,
    /// Requests since revival.
    samples: u64,
    revived: u64,
    recent: WindowedSum,
}

impl Accrual {
    pub fn new(config: &Config, now: u64) -> Accrual {
        let (rate_window, recent_window) = match config.policy {
            Policy::SuccessRate { requests, .. } => (f64::from(requests), 1),
            Policy::SuccessRateWindowed { window, .. } => ((window / MILLI) as f64, window),
            Policy::ConsecutiveFailures { .. } | Policy::None => (0.0, 1),
        };
        Accrual {
            policy: config.policy,
            backoffs: config.backoff.start(),
            state: State::Alive,
            consecutive: 0,
            rate: MovingAverage::new(rate_window),
            samples: 0,
            revived: now,
            recent: WindowedSum::new(recent_window),
        }
    }

    /// The state as of the last event; [`Accrual::advance`] first if time has passed.
    pub fn state(&self) -> State {
        self.state
    }

    /// A dead endpoint whose wait is over may be probed.
    pub fn advance(&mut self, now: u64) {
        if let State::Dead(until) = self.state
            && now >= until
        {
            self.state = State::ProbeOpen;
        }
    }

    /// Whether the balancer should prefer others.
    pub fn is_busy(&self) -> bool {
        matches!(self.state, State::Dead(_) | State::ProbeClosed)
    }

    /// Neither a success nor an ignored request would change anything, and it is as good as new.
    pub(crate) fn is_calm(&self) -> bool {
        self.state == State::Alive && self.consecutive == 0 && self.policy.is_calm()
    }

    /// A request goes out; returns whether it is a probe.
    pub fn dispatched(&mut self) -> bool {
        let probe = self.state == State::ProbeOpen;
        if probe {
            self.state = State::ProbeClosed;
        }
        probe
    }

    /// A request ended.
    pub fn ended(&mut self, outcome: Outcome, now: u64, random: &mut impl Random) {
        match (outcome, self.state) {
            (Outcome::Ignored, State::ProbeClosed) => self.state = State::ProbeOpen,
            (Outcome::Ignored, _) => {}
            (Outcome::Success, State::ProbeClosed) => {
                self.revive(now);
                self.succeeded(now);
            }
            (Outcome::Success, _) => self.succeeded(now),
            (Outcome::Failure, State::Alive | State::ProbeClosed) => {
                if self.failed(now) {
                    self.state = State::Dead(now.saturating_add(self.backoffs.next_wait(random)));
                } else if self.state == State::ProbeClosed {
                    // The policy is not sure yet: probe again.
                    self.state = State::ProbeOpen;
                }
            }
            // Already dead: requests that were under way when it died change nothing.
            (Outcome::Failure, State::Dead(_) | State::ProbeOpen) => {}
        }
    }

    fn revive(&mut self, now: u64) {
        self.state = State::Alive;
        self.backoffs.reset();
        self.consecutive = 0;
        self.samples = 0;
        self.rate.reset();
        self.revived = now;
    }

    fn succeeded(&mut self, now: u64) {
        match self.policy {
            Policy::ConsecutiveFailures { .. } => self.consecutive = 0,
            Policy::SuccessRate { .. } | Policy::SuccessRateWindowed { .. } => {
                self.average(1.0, now);
            }
            Policy::None => {}
        }
    }

    /// Whether this failure marks the endpoint dead.
    fn failed(&mut self, now: u64) -> bool {
        match self.policy {
            Policy::ConsecutiveFailures { failures } => {
                self.consecutive = self.consecutive.saturating_add(1);
                self.consecutive >= failures
            }
            Policy::SuccessRate { success_rate, requests } => {
                let rate = self.average(0.0, now);
                self.samples >= u64::from(requests) && rate < success_rate
            }
            Policy::SuccessRateWindowed { success_rate, window } => {
                let rate = self.average(0.0, now);
                let long_enough = now.saturating_sub(self.revived) >= window;
                long_enough && self.recent.sum(now) >= WINDOW_MIN_REQUESTS && rate < success_rate
            }
            Policy::None => false,
        }
    }

    fn average(&mut self, sample: f64, now: u64) -> f64 {
        self.samples += 1;
        if matches!(self.policy, Policy::SuccessRateWindowed { .. }) {
            self.recent.add(1, now);
            self.rate.update((now / MILLI) as f64, sample)
        } else {
            self.rate.update(self.samples as f64, sample)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000 * MILLI;

    fn accrual(policy: Policy) -> Accrual {
        Accrual::new(&Config { policy, backoff: Backoff::ACCRUAL }, 0)
    }

    fn run(accrual: &mut Accrual, outcomes: &[Outcome], now: u64) {
        outcomes.iter().for_each(|outcome| accrual.ended(*outcome, now, &mut || 0));
    }

    use Outcome::{Failure as F, Ignored as I, Success as S};

    #[test]
    fn the_nth_consecutive_failure_kills_and_a_success_resets_the_count() {
        let cases: [(&[Outcome], bool); 4] = [
            (&[F, F, F, F], false),
            (&[F, F, F, F, F], true),
            (&[F, F, F, F, S, F], false),
            (&[F, F, F, F, I, F], true),
        ];
        for (outcomes, dead) in cases {
            let mut accrual = Accrual::new(&Config::default(), 0);
            run(&mut accrual, outcomes, SECOND);
            assert_eq!(accrual.state() == State::Dead(6 * SECOND), dead, "{outcomes:?}");
        }
    }

    #[test]
    fn a_probe_decides_and_a_failed_one_waits_longer() {
        let mut accrual = accrual(Policy::ConsecutiveFailures { failures: 1 });
        run(&mut accrual, &[F], 0);
        let mut now = 0;
        for wait in [5, 5, 10, 20] {
            assert_eq!(accrual.state(), State::Dead(now + wait * SECOND));
            accrual.advance(now + wait * SECOND - 1);
            assert!(accrual.is_busy());
            now += wait * SECOND;
            accrual.advance(now);
            assert_eq!(accrual.state(), State::ProbeOpen);
            assert!(!accrual.is_busy());
            assert!(accrual.dispatched());
            assert!(accrual.is_busy() && !accrual.dispatched());
            run(&mut accrual, &[I], now);
            assert_eq!(accrual.state(), State::ProbeOpen, "an interrupted probe decides nothing");
            accrual.dispatched();
            run(&mut accrual, &[F], now);
        }
        accrual.advance(now + 40 * SECOND);
        accrual.dispatched();
        run(&mut accrual, &[S], now + 40 * SECOND);
        assert_eq!(accrual.state(), State::Alive);
        run(&mut accrual, &[F], now + 41 * SECOND);
        assert_eq!(accrual.state(), State::Dead(now + 46 * SECOND), "the backoff began anew");
    }

    #[test]
    fn a_success_rate_judges_after_enough_requests_and_only_on_a_failure() {
        let mut accrual = accrual(Policy::SuccessRate { success_rate: 0.8, requests: 5 });
        run(&mut accrual, &[F, F, F, F], 0);
        assert_eq!(accrual.state(), State::Alive);
        run(&mut accrual, &[S], 0);
        assert_eq!(accrual.state(), State::Alive);
        run(&mut accrual, &[F], 0);
        assert!(accrual.is_busy());
    }

    #[test]
    fn a_windowed_success_rate_needs_a_whole_window_and_five_requests_in_it() {
        let policy = Policy::SuccessRateWindowed { success_rate: 0.8, window: 10 * SECOND };
        let mut early = accrual(policy);
        run(&mut early, &[F; 20], 9 * SECOND);
        assert_eq!(early.state(), State::Alive);
        run(&mut early, &[F], 10 * SECOND);
        assert!(early.is_busy());
        let mut few = accrual(policy);
        run(&mut few, &[F; 4], 30 * SECOND);
        assert_eq!(few.state(), State::Alive);
        run(&mut few, &[F], 30 * SECOND);
        assert!(few.is_busy());
    }

    #[test]
    fn none_never_kills() {
        let mut accrual = accrual(Policy::None);
        run(&mut accrual, &[F; 1000], 0);
        assert_eq!(accrual.state(), State::Alive);
    }
}
