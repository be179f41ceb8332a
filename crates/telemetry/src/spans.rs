//! Which requests are sampled.

use std::sync::OnceLock;

/// Whether a trace belongs to the share of `rate` (0.0 to 1.0) that this process samples, as in finagle: all
/// spans of a trace or none, and who samples less samples a part of what others do.
#[must_use]
pub fn is_sampled(trace: u64, rate: f64) -> bool {
    // One salt per process, so that processes sample different traces.
    static SALT: OnceLock<u64> = OnceLock::new();
    let salt = SALT.get_or_init(|| fastrand::u64(..));
    (((trace ^ salt) as i64).unsigned_abs() % 10_000) < (rate * 10_000.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_one_and_zero_decide_for_every_trace() {
        for trace in [0, 1, u64::MAX, i64::MIN as u64, 12345] {
            assert!(is_sampled(trace, 1.0));
            assert!(!is_sampled(trace, 0.0));
        }
        let some = (0..100_000).filter(|_| is_sampled(fastrand::u64(..), 0.1)).count();
        // 10,000 are expected; ten standard deviations either way.
        assert!((9_000..11_000).contains(&some), "{some}");
    }
}
