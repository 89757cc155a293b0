//! Statistics of one column: moments in one pass, quantiles from at most a million values.

/// Most values that quantiles are computed from; longer columns are sampled.
pub(super) const SAMPLE: usize = 1_000_000;

/// Count, mean, spread and range of a stream of numbers.
///
/// Parts are joined as Chan, Golub & LeVeque (1979) do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments {
    pub count: f64,
    pub mean: f64,
    /// Sum of squared distances from the mean.
    pub squares: f64,
    pub min: f64,
    pub max: f64,
}

impl Moments {
    pub const EMPTY: Self =
        Self { count: 0.0, mean: 0.0, squares: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY };

    /// `count` times the same value.
    pub fn of(value: f64, count: u64) -> Self {
        if count == 0 {
            return Self::EMPTY;
        }
        Self { count: count as f64, mean: value, squares: 0.0, min: value, max: value }
    }

    /// Of all values: the mean first, then the distances from it.
    pub fn of_slice(values: &[f64]) -> Self {
        let mut all = Self { count: values.len() as f64, ..Self::EMPTY };
        if values.is_empty() {
            return all;
        }
        all.mean = values.iter().sum::<f64>() / all.count;
        for &v in values {
            all.squares += (v - all.mean) * (v - all.mean);
            all.min = all.min.min(v);
            all.max = all.max.max(v);
        }
        all
    }

    pub fn merge(self, other: Self) -> Self {
        if self.count == 0.0 {
            return other;
        }
        if other.count == 0.0 {
            return self;
        }
        let count = self.count + other.count;
        let distance = other.mean - self.mean;
        Self {
            count,
            mean: self.mean + distance * other.count / count,
            squares: self.squares + other.squares + distance * distance * self.count * other.count / count,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    /// Standard deviation of the whole (no degree of freedom taken off), or 1 where the values differ
    /// by no more than rounding: the rule of scikit-learn's `StandardScaler`.
    pub fn deviation(&self) -> f64 {
        let variance = self.squares / self.count;
        let noise = self.count * f64::EPSILON * variance + (self.count * self.mean * f64::EPSILON).powi(2);
        if variance.is_finite() && variance <= noise { 1.0 } else { variance.sqrt() }
    }

    pub fn is_constant(&self) -> bool {
        self.count == 0.0 || self.min >= self.max
    }
}

/// Which of `n` rows, in order, quantiles are computed from: all of them up to [`SAMPLE`], else one
/// of each block of equal length, at a place that no period in the data can agree with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sampler {
    stride: usize,
}

impl Sampler {
    pub fn new(n: usize) -> Self {
        Self { stride: n.div_ceil(SAMPLE).max(1) }
    }

    pub fn takes(&self, position: usize) -> bool {
        if self.stride == 1 {
            return true;
        }
        let block = (position / self.stride) as u64;
        position % self.stride == (mix(block) % self.stride as u64) as usize
    }
}

/// SplitMix64's finaliser (Steele, Lea & Flood 2014).
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The median; `None` of nothing. Reorders the values.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let middle = values.len() / 2;
    let odd = values.len() % 2 == 1;
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if odd {
        return Some(upper);
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some(lower + (upper - lower) / 2.0)
}

/// The quantile `part / parts` of sorted values, between two of them on a straight line (Hyndman & Fan
/// 1996, type 7, numpy's default). The rank is a ratio of whole numbers, so that no rounding moves the
/// quantile of a run of equal values off them. `sorted` holds at least one value.
pub(super) fn quantile(sorted: &[f64], part: usize, parts: usize) -> f64 {
    let rank = part as u64 * (sorted.len() as u64 - 1);
    let parts = parts as u64;
    between(sorted, (rank / parts) as usize, (rank % parts) as f64 / parts as f64)
}

/// The value that lies at a share (0 to 1) of sorted values, on a straight line between two of them.
pub(super) fn at_share(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    between(sorted, place.floor() as usize, place.fract())
}

fn between(sorted: &[f64], low: usize, fraction: f64) -> f64 {
    let (a, b) = (sorted[low], sorted[(low + 1).min(sorted.len() - 1)]);
    (a + (b - a) * fraction).clamp(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_moments_are_those_of_all() {
        let values = [3.0, -1.0, 4.0, 1.0, -5.0, 9.0, 2.5, 2.5];
        let all = Moments::of_slice(&values);
        let left = Moments::of_slice(&values[..3]);
        let merged = left
            .merge(Moments::of_slice(&values[3..6]))
            .merge(Moments::of(2.5, 2))
            .merge(Moments::of(0.0, 0));
        assert!((merged.mean - all.mean).abs() < 1e-12 && (merged.squares - all.squares).abs() < 1e-12);
        assert_eq!((merged.min, merged.max, merged.count), (-5.0, 9.0, 8.0));
    }

    #[test]
    fn rounding_noise_is_no_spread() {
        let values: Vec<f64> = (0..1000).map(|i| 1e9 + f64::from(i % 2) * 1e-7).collect();
        assert_eq!(Moments::of_slice(&values).deviation(), 1.0);
    }

    #[test]
    fn medians() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [2.0]), Some(2.0));
        assert_eq!(median(&mut [9.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(&mut [9.0, 1.0, 3.0, 4.0]), Some(3.5));
    }

    #[test]
    fn quantiles_of_ties_are_exact() {
        let sorted: Vec<f64> = (0..400).map(|i| f64::from(i / 57) * 0.1).collect();
        assert!((0..400).all(|i| quantile(&sorted, i, 399) == sorted[i]));
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 3, 4), 3.0);
        assert_eq!((at_share(&[1.0, 2.0, 4.0], 0.75), at_share(&[1.0, 2.0], 1.0)), (3.0, 2.0));
    }

    #[test]
    fn sampler_takes_one_of_each_block() {
        let all = Sampler::new(SAMPLE);
        assert!((0..1000).all(|i| all.takes(i)));
        let n = 5 * SAMPLE / 2;
        let sampler = Sampler::new(n);
        let taken: Vec<usize> = (0..30_000).filter(|&i| sampler.takes(i)).collect();
        assert_eq!(taken.len(), 10_000);
        assert!(taken.iter().enumerate().all(|(block, &i)| i / 3 == block));
        assert!((0..3).all(|rest| taken.iter().filter(|&&i| i % 3 == rest).count() > 3000));
    }
}
