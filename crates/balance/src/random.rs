//! Where randomness comes from: any source of 64 uniform bits, so that tests are exact.

/// A source of uniform 64-bit numbers. Closures are sources: `&mut || generator.u64(..)`.
pub trait Random {
    fn bits(&mut self) -> u64;

    /// Uniform in `[0, 1)`.
    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `0..bound`; 0 if `bound` is 0. Bias is below `bound / 2^64`.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }
}

impl<F: FnMut() -> u64> Random for F {
    fn bits(&mut self) -> u64 {
        self()
    }
}
