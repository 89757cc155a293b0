//! Metrics of predicted numbers.

use std::collections::BTreeMap;

/// RMSE, MAE, R² and MAPE of `predicted` against `actual`, both `[rows]`.
#[must_use]
pub fn regression(actual: &[f64], predicted: &[f64]) -> BTreeMap<String, f64> {
    weighted_regression(actual, predicted, &vec![1.0; actual.len()])
}

/// As [`regression`], with a weight for every row.
///
/// MAPE divides by at least 2⁻⁵², as scikit-learn does; R² of a constant target is 1 for a perfect prediction, else 0.
#[must_use]
pub fn weighted_regression(actual: &[f64], predicted: &[f64], weights: &[f64]) -> BTreeMap<String, f64> {
    let total: f64 = weights.iter().sum();
    let mean = actual.iter().zip(weights).map(|(y, w)| y * w).sum::<f64>() / total;
    let (mut squares, mut absolutes, mut shares, mut variance) = (0.0, 0.0, 0.0, 0.0);
    for ((y, p), w) in actual.iter().zip(predicted).zip(weights) {
        let d = y - p;
        squares += w * d * d;
        absolutes += w * d.abs();
        shares += w * d.abs() / y.abs().max(f64::EPSILON);
        variance += w * (y - mean).powi(2);
    }
    let r2 = match (variance, squares) {
        (0.0, 0.0) => 1.0,
        (0.0, _) => 0.0,
        _ => 1.0 - squares / variance,
    };
    [("rmse", (squares / total).sqrt()), ("mae", absolutes / total), ("r2", r2), ("mape", shares / total)]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}
