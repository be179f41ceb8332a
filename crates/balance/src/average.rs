//! A moving average whose memory fades with distance.

/// Exponential: the past keeps weight e^(−Δ/window); the first sample is taken as it is.
#[derive(Debug, Clone)]
pub(crate) struct MovingAverage {
    window: f64,
    last: Option<(f64, f64)>,
}

impl MovingAverage {
    /// `window` in the unit of the positions that samples come at; with 0 the last sample is the average.
    pub(crate) fn new(window: f64) -> MovingAverage {
        MovingAverage { window, last: None }
    }

    pub(crate) fn reset(&mut self) {
        self.last = None;
    }

    /// 0 before the first sample.
    pub(crate) fn value(&self) -> f64 {
        self.last.map_or(0.0, |(_, value)| value)
    }

    pub(crate) fn update(&mut self, at: f64, sample: f64) -> f64 {
        let value = match self.last {
            None => sample,
            Some((then, value)) => {
                let past = if self.window > 0.0 { (-(at - then).max(0.0) / self.window).exp() } else { 0.0 };
                sample * (1.0 - past) + value * past
            }
        };
        self.last = Some((at, value));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_weighs_the_past_by_e_to_the_minus_delta_over_window() {
        let mut average = MovingAverage::new(10.0);
        assert_eq!(average.value(), 0.0);
        assert_eq!(average.update(0.0, 1.0), 1.0);
        assert_eq!(average.update(10.0, 0.0), (-1.0f64).exp());
        assert_eq!(average.value(), (-1.0f64).exp());
        assert_eq!(MovingAverage::new(0.0).update(1.0, 3.0), 3.0);
    }
}
