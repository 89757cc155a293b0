//! Intervals by the bootstrap (Efron & Tibshirani 1993, chapter 13: percentile intervals).

use std::collections::BTreeMap;

use jishi_models::Rng;
use jishi_models::rng::stream;

/// 95 % percentile intervals of every metric over `resamples` draws of `rows` rows with replacement.
///
/// `metrics` gets the number of times that each row was drawn. A metric that is not finite in some draw, as the
/// AUROC of one class alone, is left out of that draw.
pub fn intervals(
    rows: usize,
    resamples: usize,
    seed: u64,
    metrics: impl Fn(&[f64]) -> BTreeMap<String, f64>,
) -> BTreeMap<String, [f64; 2]> {
    let mut rng = Rng::new(seed, stream("bootstrap", 0));
    let mut draws: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut counts = vec![0.0; rows];
    for _ in 0..resamples {
        counts.fill(0.0);
        for _ in 0..rows {
            counts[rng.below(rows as u64) as usize] += 1.0;
        }
        for (name, value) in metrics(&counts) {
            if value.is_finite() {
                draws.entry(name).or_default().push(value);
            }
        }
    }
    draws
        .into_iter()
        .map(|(name, mut values)| {
            values.sort_by(f64::total_cmp);
            (name, [quantile(&values, 0.025), quantile(&values, 0.975)])
        })
        .collect()
}

/// Linear between order statistics, as numpy's default.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (low, share) = (at.floor() as usize, at.fract());
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + (sorted[high] - sorted[low]) * share
}
