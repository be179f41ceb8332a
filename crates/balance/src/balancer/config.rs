//! Which balancer, with which numbers: the kinds of `loadBalancer`, defaults as in the original.

use thiserror::Error;

const SECOND: u64 = 1_000_000_000;

/// How one endpoint is chosen among those of a weight. Times in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Strategy {
    /// `p2c`: of two random endpoints the healthier, then the one with fewer requests outstanding.
    P2c {
        /// Pairs tried for an open endpoint before the first open one is taken that there is.
        max_effort: u32,
    },
    /// `ewma`: as `p2c`, but by latency, of which peaks are remembered and fade away.
    Ewma {
        max_effort: u32,
        /// `decayTimeMs`: what is left of a peak after this long is 1/e.
        decay: u64,
    },
    /// `aperture`: `p2c` over so many endpoints that each has enough to do.
    Aperture(Aperture),
    /// `heap`: the one with the fewest requests outstanding, exactly.
    Heap,
    /// `roundRobin`: one after the other. Its `maxEffort` has nothing to say here: the endpoints that are
    /// open are known at every moment, so the first try finds one.
    RoundRobin,
}

/// The keys of `aperture`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aperture {
    pub max_effort: u32,
    /// `smoothWindowMs`: the load that decides is an average over about this long.
    pub window: u64,
    /// `lowLoad`: at so few requests outstanding per endpoint the aperture closes by one.
    pub low: f64,
    /// `highLoad`: at so many it opens by one.
    pub high: f64,
    /// `minAperture`
    pub min: u32,
}

impl Default for Aperture {
    fn default() -> Aperture {
        Aperture { max_effort: Strategy::MAX_EFFORT, window: 5 * SECOND, low: 0.5, high: 2.0, min: 1 }
    }
}

impl Aperture {
    /// The bounds for one of `parts` equal parts of the load, when all parts choose from one aperture: a
    /// worker that sees an eighth of the requests widens at an eighth of the load.
    #[must_use]
    pub fn share(self, parts: usize) -> Aperture {
        let parts = parts.max(1) as f64;
        Aperture { low: self.low / parts, high: self.high / parts, ..self }
    }

    /// What lies outside and is idle for this long need not keep its connections.
    pub(super) fn idle_time(&self) -> u64 {
        self.window.saturating_mul(10)
    }
}

/// A number out of bounds, by its key in documents.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum StrategyError {
    #[error("maxEffort must be greater than 0")]
    MaxEffort,
    #[error("decayTimeMs must be greater than 0")]
    DecayTime,
    #[error("smoothWindowMs must be greater than 0")]
    SmoothWindow,
    #[error("minAperture must be greater than 0")]
    MinAperture,
    #[error("lowLoad ({low}) must not be negative, and be less than highLoad ({high})")]
    LoadBand { low: f64, high: f64 },
}

impl Strategy {
    pub const MAX_EFFORT: u32 = 5;

    /// `p2c` with the original's numbers.
    pub const P2C: Strategy = Strategy::P2c { max_effort: Strategy::MAX_EFFORT };

    /// `ewma` with the original's numbers.
    pub const EWMA: Strategy = Strategy::Ewma { max_effort: Strategy::MAX_EFFORT, decay: 10 * SECOND };

    /// The last element of the gauge `loadbalancer/algorithm/…`.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self {
            Strategy::P2c { .. } => "p2c_least_loaded",
            Strategy::Ewma { .. } => "p2c_peak_ewma",
            Strategy::Aperture(_) => "aperture_least_loaded",
            Strategy::Heap => "heap_least_loaded",
            Strategy::RoundRobin => "round_robin",
        }
    }

    pub(super) fn max_effort(&self) -> u32 {
        match self {
            Strategy::P2c { max_effort } | Strategy::Ewma { max_effort, .. } => *max_effort,
            Strategy::Aperture(aperture) => aperture.max_effort,
            Strategy::Heap | Strategy::RoundRobin => 1,
        }
    }

    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// The first one that does not.
    pub fn check(&self) -> Result<(), StrategyError> {
        match *self {
            Strategy::P2c { max_effort: 0 } | Strategy::Ewma { max_effort: 0, .. } => Err(StrategyError::MaxEffort),
            Strategy::Ewma { decay: 0, .. } => Err(StrategyError::DecayTime),
            Strategy::Aperture(Aperture { max_effort, window, low, high, min }) => match () {
                () if max_effort == 0 => Err(StrategyError::MaxEffort),
                () if window == 0 => Err(StrategyError::SmoothWindow),
                () if min == 0 => Err(StrategyError::MinAperture),
                () if !(low >= 0.0 && low < high) => Err(StrategyError::LoadBand { low, high }),
                () => Ok(()),
            },
            Strategy::P2c { .. } | Strategy::Ewma { .. } | Strategy::Heap | Strategy::RoundRobin => Ok(()),
        }
    }
}

/// A `loadBalancer` section.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BalancerConfig {
    pub strategy: Strategy,
    /// `enableProbation`: endpoints that discovery took away stay while they are healthy.
    pub probation: bool,
    /// Orders the endpoints of an aperture. Balancers with the same number agree on the order, so those of
    /// one process share an aperture if they share it; processes should differ.
    pub seed: u64,
}

impl Default for BalancerConfig {
    /// p2c.
    fn default() -> BalancerConfig {
        BalancerConfig { strategy: Strategy::P2C, probation: false, seed: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_originals_numbers_pass_and_nonsense_does_not() {
        let good = [Strategy::P2C, Strategy::EWMA, Strategy::Aperture(Aperture::default()), Strategy::Heap];
        for strategy in good.into_iter().chain([Strategy::RoundRobin]) {
            assert_eq!(strategy.check(), Ok(()), "{strategy:?}");
        }
        let aperture = Aperture::default();
        let bad = [
            (Strategy::P2c { max_effort: 0 }, "maxEffort must be greater than 0"),
            (Strategy::Ewma { max_effort: 5, decay: 0 }, "decayTimeMs must be greater than 0"),
            (Strategy::Aperture(Aperture { window: 0, ..aperture }), "smoothWindowMs must be greater than 0"),
            (Strategy::Aperture(Aperture { min: 0, ..aperture }), "minAperture must be greater than 0"),
            (
                Strategy::Aperture(Aperture { low: 2.0, ..aperture }),
                "lowLoad (2) must not be negative, and be less than highLoad (2)",
            ),
            (
                Strategy::Aperture(Aperture { low: f64::NAN, ..aperture }),
                "lowLoad (NaN) must not be negative, and be less than highLoad (2)",
            ),
        ];
        for (strategy, text) in bad {
            assert_eq!(strategy.check().expect_err("nonsense").to_string(), text);
        }
    }

    #[test]
    fn a_workers_part_of_the_load_moves_the_aperture_as_the_whole_would() {
        let part = Aperture::default().share(4);
        assert_eq!((part.low, part.high, part.min), (0.125, 0.5, 1));
    }
}
