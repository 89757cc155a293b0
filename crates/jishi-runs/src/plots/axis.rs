//! Axes: ranges, ticks and their labels.

use crate::table::thousands;

/// An axis: a range of numbers and where it is marked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub min: f64,
    pub max: f64,
    pub log: bool,
    /// Values and labels, rising.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis from round number to round number around the range, with about `count` ticks.
    pub fn around(min: f64, max: f64, count: usize) -> Self {
        let (min, max) = widen(min, max);
        let step = step(max - min, count);
        let (first, last) = ((min / step + 1e-9).floor(), (max / step - 1e-9).ceil());
        Self::of(first * step, last * step, step)
    }

    /// An axis over exactly the range, with ticks at round numbers in it.
    pub fn exact(min: f64, max: f64, count: usize) -> Self {
        let (min, max) = widen(min, max);
        Self::of(min, max, step(max - min, count))
    }

    /// An axis of whole numbers (epochs, steps).
    pub fn whole(min: f64, max: f64, count: usize) -> Self {
        let (min, max) = widen(min, max);
        Self::of(min, max, step(max - min, count).max(1.0))
    }

    fn of(min: f64, max: f64, step: f64) -> Self {
        let first = (min / step - 1e-9).ceil() as i64;
        let last = (max / step + 1e-9).floor() as i64;
        let values: Vec<f64> = (first..=last.min(first + 100)).map(|i| i as f64 * step).collect();
        let unit = Unit::of(min.abs().max(max.abs()), step);
        let ticks = values.into_iter().map(|v| (v, unit.label(v))).collect();
        Self { min, max, log: false, ticks }
    }

    /// A logarithmic axis around a range of positive numbers.
    pub fn log(min: f64, max: f64) -> Self {
        let (low, high) = (min.log10(), max.log10());
        let decades = high - low;
        let factors: &[f64] = match decades {
            d if d < 1.2 => &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
            d if d < 3.5 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let every = (decades / 8.0).ceil().max(1.0) as i32;
        let mut ticks = Vec::new();
        for exponent in (low.floor() as i32)..=(high.ceil() as i32) {
            if exponent.rem_euclid(every) != 0 {
                continue;
            }
            for factor in factors {
                let value = factor * 10f64.powi(exponent);
                if value >= min * 0.999 && value <= max * 1.001 {
                    ticks.push((value, short(value)));
                }
            }
        }
        Self { min, max, log: true, ticks }
    }

    /// Where a value is between the ends: 0 to 1.
    pub fn share(&self, value: f64) -> f32 {
        let at = |v: f64| if self.log { v.max(f64::MIN_POSITIVE).ln() } else { v };
        ((at(value) - at(self.min)) / (at(self.max) - at(self.min))) as f32
    }
}

/// Makes an empty range, or one that is none, into one that can be drawn.
fn widen(min: f64, max: f64) -> (f64, f64) {
    if !(min.is_finite() && max.is_finite() && min <= max) {
        return (0.0, 1.0);
    }
    // Numbers that differ by less than their rounding are one number.
    if max - min <= 1e-9 * max.abs().max(min.abs()) {
        let half = if min == 0.0 { 1.0 } else { min.abs() * 0.1 };
        return (min - half, max + half);
    }
    (min, max)
}

/// A round step (1, 2, 2.5 or 5 times a power of ten) that cuts `range` into about `count` parts.
fn step(range: f64, count: usize) -> f64 {
    let rough = range / count.max(1) as f64;
    let power = 10f64.powi(rough.log10().floor() as i32);
    let factor = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|f| f * power >= rough * 0.999).unwrap_or(10.0);
    factor * power
}

/// How the numbers of an axis are written.
struct Unit {
    divisor: f64,
    suffix: &'static str,
    decimals: usize,
}

impl Unit {
    fn of(size: f64, step: f64) -> Self {
        let (divisor, suffix) = match size {
            s if !(1e-4..1e15).contains(&s) => return Self { divisor: 0.0, suffix: "", decimals: 0 },
            s if s >= 1e12 => (1e12, "T"),
            s if s >= 1e9 => (1e9, "B"),
            s if s >= 1e6 => (1e6, "M"),
            s if s >= 1e4 => (1e3, "k"),
            _ => (1.0, ""),
        };
        let step = step / divisor;
        let decimals = (0..9).find(|d| {
            let scaled = step * 10f64.powi(*d);
            (scaled - scaled.round()).abs() < 1e-6 * scaled
        });
        Self { divisor, suffix, decimals: decimals.unwrap_or(9) as usize }
    }

    fn label(&self, value: f64) -> String {
        if value == 0.0 {
            return "0".into();
        }
        if self.divisor == 0.0 {
            return format!("{value:.1e}");
        }
        let text = thousands(&format!("{:.*}", self.decimals, value / self.divisor)) + self.suffix;
        text.replace('-', "−")
    }
}

/// A single number, short: `0.05`, `200`, `5k`, `1e-6`.
pub(super) fn short(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e15).contains(&size) {
        return format!("{value:e}");
    }
    let (divisor, suffix) = match size {
        s if s >= 1e12 => (1e12, "T"),
        s if s >= 1e9 => (1e9, "B"),
        s if s >= 1e6 => (1e6, "M"),
        s if s >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let text = format!("{:.4}", value / divisor);
    thousands(text.trim_end_matches('0').trim_end_matches('.')) + suffix
}

/// Smallest and largest finite number.
pub(super) fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|v| v.is_finite()).fold(None, |range, v| match range {
        None => Some((v, v)),
        Some((low, high)) => Some((low.min(v), high.max(v))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, l)| l.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_read_well() {
        assert_eq!(labels(&Axis::around(0.03, 0.97, 5)), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(
            labels(&Axis::around(34_900.0, 611_000.0, 6)),
            ["0k", "100k", "200k", "300k", "400k", "500k", "600k", "700k"].map(|l| if l == "0k" {
                "0"
            } else {
                l
            })
        );
        assert_eq!(labels(&Axis::around(-1200.0, 900.0, 4)), ["−2,000", "−1,000", "0", "1,000"]);
        assert_eq!(labels(&Axis::whole(1.0, 4.0, 8)), ["1", "2", "3", "4"]);
        assert_eq!(labels(&Axis::exact(0.0, 2.5e6, 5)), ["0", "0.5M", "1.0M", "1.5M", "2.0M", "2.5M"]);
        assert_eq!(
            labels(&Axis::log(0.02, 30.0)),
            ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2", "5", "10", "20"]
        );
        assert_eq!(labels(&Axis::log(1e-7, 1e3)).first(), Some(&"1e-6"));
    }

    #[test]
    fn odd_ranges_give_an_axis_too() {
        for (min, max) in
            [(5.0, 5.0), (0.0, 0.0), (f64::NAN, 1.0), (1.0, f64::INFINITY), (-3.0, -3.0), (1e300, 1e301)]
        {
            let axis = Axis::around(min, max, 5);
            assert!(axis.min < axis.max && axis.ticks.len() >= 2, "{min} {max}: {axis:?}");
        }
        let axis = Axis::around(0.0, 10.0, 5);
        assert!((axis.share(2.5) - 0.25).abs() < 1e-6);
        let axis = Axis::log(0.01, 100.0);
        assert!((axis.share(1.0) - 0.5).abs() < 1e-6);
    }
}
