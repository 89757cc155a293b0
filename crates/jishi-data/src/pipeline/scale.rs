//! Scalings of numbers, with their inverse.

use jishi_recipe::Scaling;
use serde::{Deserialize, Serialize};

use super::normal;
use super::stats::{Moments, at_share, quantile};

/// Most quantiles that a quantile scaling keeps.
const QUANTILES: usize = 1000;
/// Shares nearer than this to 0 and 1 are clipped, so that quantile scaling stays within ±5.2.
const EDGE: f64 = 1e-7;

/// A fitted scaling: `scale` maps a value to the model's unit, `unscale` back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Scaler {
    /// x
    None {},
    /// (x − mean) / deviation
    Standard {
        /// Mean of the training rows.
        mean: f64,
        /// Their standard deviation (population), or 1 where it is zero.
        deviation: f64,
    },
    /// (x − min) / (max − min)
    MinMax {
        /// Smallest training value.
        min: f64,
        /// Largest training value.
        max: f64,
    },
    /// (x − median) / range
    Robust {
        /// Median of the training rows.
        median: f64,
        /// Their interquartile range, or 1 where it is zero.
        range: f64,
    },
    /// Φ⁻¹(F(x)) with F the empirical distribution of the training rows.
    Quantile {
        /// Values of F⁻¹ at equally spaced shares from 0 to 1.
        quantiles: Vec<f64>,
    },
    /// (sign(x)·ln(1+|x|) − mean) / deviation
    Log {
        /// Mean of the logarithms of the training rows.
        mean: f64,
        /// Their standard deviation (population), or 1 where it is zero.
        deviation: f64,
    },
}

/// sign(x)·ln(1+|x|)
pub(super) fn signed_log(x: f64) -> f64 {
    x.abs().ln_1p().copysign(x)
}

impl Scaler {
    /// Whether fitting needs the sorted values and not only their moments.
    pub(super) fn needs_order(scaling: Scaling) -> bool {
        matches!(scaling, Scaling::Robust | Scaling::Quantile)
    }

    /// Fits to the training values: their moments, the moments of their [`signed_log`], and the values
    /// sorted (used where [`Self::needs_order`] says so). There is at least one value.
    pub(super) fn fit(scaling: Scaling, moments: &Moments, logs: &Moments, sorted: &[f64]) -> Self {
        match scaling {
            Scaling::None => Self::None {},
            Scaling::Standard => Self::Standard { mean: moments.mean, deviation: moments.deviation() },
            Scaling::MinMax => Self::MinMax { min: moments.min, max: moments.max },
            Scaling::Robust => {
                let range = quantile(sorted, 3, 4) - quantile(sorted, 1, 4);
                Self::Robust { median: quantile(sorted, 1, 2), range: if range > 0.0 { range } else { 1.0 } }
            }
            Scaling::Quantile => {
                let n = sorted.len().clamp(2, QUANTILES);
                Self::Quantile { quantiles: (0..n).map(|i| quantile(sorted, i, n - 1)).collect() }
            }
            Scaling::Log => Self::Log { mean: logs.mean, deviation: logs.deviation() },
        }
    }

    /// To the model's unit.
    #[must_use]
    pub fn scale(&self, x: f64) -> f64 {
        match self {
            Self::None {} => x,
            Self::Standard { mean, deviation } => (x - mean) / deviation,
            Self::MinMax { min, max } => {
                if max > min {
                    (x - min) / (max - min)
                } else {
                    x - min
                }
            }
            Self::Robust { median, range } => (x - median) / range,
            Self::Quantile { quantiles } => {
                let share = share_below(quantiles, x);
                let end = -normal::quantile(EDGE);
                normal::quantile(share).clamp(-end, end)
            }
            Self::Log { mean, deviation } => (signed_log(x) - mean) / deviation,
        }
    }

    /// Back to the column's own unit. A quantile scaling gives no value outside the training range.
    #[must_use]
    pub fn unscale(&self, z: f64) -> f64 {
        match self {
            Self::None {} => z,
            Self::Standard { mean, deviation } => z * deviation + mean,
            Self::MinMax { min, max } => {
                if max > min {
                    z * (max - min) + min
                } else {
                    z + min
                }
            }
            Self::Robust { median, range } => z * range + median,
            Self::Quantile { quantiles } => value_at(quantiles, normal::cdf(z)),
            Self::Log { mean, deviation } => {
                // The largest logarithm whose inverse is still finite is a little below 710.
                let log = (z * deviation + mean).clamp(-709.0, 709.0);
                log.abs().exp_m1().copysign(log)
            }
        }
    }

    /// What is wrong with parameters that were read from a file.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let sound = match self {
            Self::None {} => true,
            Self::Standard { mean, deviation } | Self::Log { mean, deviation } => {
                mean.is_finite() && deviation.is_finite() && *deviation > 0.0
            }
            Self::MinMax { min, max } => min.is_finite() && (max - min).is_finite() && max >= min,
            Self::Robust { median, range } => median.is_finite() && range.is_finite() && *range > 0.0,
            Self::Quantile { quantiles } => {
                if quantiles.len() < 2 || quantiles.len() > QUANTILES {
                    return Err("a quantile scaling holds 2 to 1000 quantiles");
                }
                quantiles.iter().all(|q| q.is_finite()) && quantiles.is_sorted()
            }
        };
        if sound {
            Ok(())
        } else {
            Err("a scaling holds a number that is not finite, not positive or out of order")
        }
    }
}

/// The share of the training rows below `x`: the middle of the lowest and the highest where equal
/// values make a step, as scikit-learn's `QuantileTransformer`.
fn share_below(quantiles: &[f64], x: f64) -> f64 {
    let n = quantiles.len();
    if x <= quantiles[0] {
        return 0.0;
    }
    if x >= quantiles[n - 1] {
        return 1.0;
    }
    let step = 1.0 / (n - 1) as f64;
    // Both are within 1..n: x lies strictly between the first and the last quantile.
    let above = quantiles.partition_point(|&q| q <= x);
    let from = quantiles.partition_point(|&q| q < x);
    let on_line = |i: usize| {
        let (a, b) = (quantiles[i - 1], quantiles[i]);
        ((i - 1) as f64 + (x - a) / (b - a)) * step
    };
    0.5 * (on_line(above) + on_line(from))
}

/// The value that a share of the training rows lies below.
fn value_at(quantiles: &[f64], share: f64) -> f64 {
    if share <= EDGE {
        return quantiles[0];
    }
    if share >= 1.0 - EDGE {
        return quantiles[quantiles.len() - 1];
    }
    at_share(quantiles, share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(scaling: Scaling, values: &[f64]) -> Scaler {
        let logs: Vec<f64> = values.iter().map(|&v| signed_log(v)).collect();
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Scaler::fit(scaling, &Moments::of_slice(values), &Moments::of_slice(&logs), &sorted)
    }

    const ALL: [Scaling; 6] =
        [Scaling::None, Scaling::Standard, Scaling::MinMax, Scaling::Robust, Scaling::Quantile, Scaling::Log];

    #[test]
    fn unscale_inverts_scale() {
        let values = [-4.0, 0.0, 0.5, 3.0, 8.0, 1e4];
        for scaling in ALL {
            let scaler = fit(scaling, &values);
            for v in values {
                let back = scaler.unscale(scaler.scale(v));
                assert!((back - v).abs() < 1e-8 * (1.0 + v.abs()), "{scaling:?}: {v} came back as {back}");
            }
            assert_eq!(scaler.check(), Ok(()));
        }
    }

    #[test]
    fn a_constant_scales_to_zero() {
        for scaling in [Scaling::Standard, Scaling::MinMax, Scaling::Robust, Scaling::Log] {
            assert_eq!(fit(scaling, &[7.0; 5]).scale(7.0), 0.0, "{scaling:?}");
        }
    }

    #[test]
    fn far_values_stay_finite() {
        let scaler = fit(Scaling::Quantile, &[1.0, 2.0, 3.0]);
        assert!((scaler.scale(1e300) - 5.199_337_582).abs() < 1e-6);
        assert!((scaler.scale(-1e300) + 5.199_337_582).abs() < 1e-6);
        assert_eq!(scaler.unscale(40.0), 3.0);
        assert!(fit(Scaling::Log, &[1.0, 2.0]).unscale(1e9).is_finite());
    }

    #[test]
    fn unsound_parameters_are_refused() {
        for scaler in [
            Scaler::Standard { mean: 0.0, deviation: 0.0 },
            Scaler::Log { mean: f64::NAN, deviation: 1.0 },
            Scaler::MinMax { min: 2.0, max: 1.0 },
            Scaler::MinMax { min: -f64::MAX, max: f64::MAX },
            Scaler::Robust { median: 0.0, range: -1.0 },
            Scaler::Quantile { quantiles: vec![1.0] },
            Scaler::Quantile { quantiles: vec![2.0, 1.0] },
        ] {
            assert!(scaler.check().is_err(), "{scaler:?}");
        }
    }
}
