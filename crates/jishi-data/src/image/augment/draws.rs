//! Random values from uniform words.

/// A source of uniform words.
pub(in crate::image) struct Draws<'a>(pub &'a mut dyn FnMut() -> u32);

impl Draws<'_> {
    /// Uniform in 0 ≤ x < 1.
    pub(in crate::image) fn unit(&mut self) -> f64 {
        f64::from((self.0)()) / 4_294_967_296.0
    }

    /// Uniform from `low` to `high`.
    pub(in crate::image) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A whole number in `0..n`; 0 where `n` is 0. Its bias is below n / 2³².
    pub(in crate::image) fn below(&mut self, n: usize) -> usize {
        ((u64::from((self.0)()) * n as u64) >> 32) as usize
    }

    /// Standard normal (Box & Muller 1958).
    pub(in crate::image) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * ((f64::from((self.0)()) + 0.5) / 4_294_967_296.0).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Gamma with the shape `alpha` and scale 1 (Marsaglia & Tsang 2000).
    fn gamma(&mut self, alpha: f64) -> f64 {
        if alpha < 1.0 {
            let more = self.gamma(alpha + 1.0);
            return more * (1.0 - self.unit()).powf(1.0 / alpha);
        }
        let d = alpha - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            let u = 1.0 - self.unit();
            if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// Beta with both shapes `alpha`.
    pub(in crate::image) fn beta(&mut self, alpha: f64) -> f64 {
        let (a, b) = (self.gamma(alpha), self.gamma(alpha));
        if a + b > 0.0 { a / (a + b) } else { 0.5 }
    }
}
