//! Metrics of predicted probabilities.

use std::collections::BTreeMap;

use crate::metrics::curves::{Ranking, bins};

/// Counts of actual against predicted classes, weighted.
#[derive(Debug, Clone, PartialEq)]
pub struct Confusion {
    /// Number of classes.
    pub classes: usize,
    /// `[actual, predicted]`, row-major.
    pub counts: Vec<f64>,
}

impl Confusion {
    /// Counts the most probable class of every row; of equals, the first.
    ///
    /// `probabilities` is row-major `[rows, classes]`.
    #[must_use]
    pub fn new(actual: &[u32], probabilities: &[f64], classes: usize, weights: &[f64]) -> Self {
        let mut counts = vec![0.0; classes * classes];
        for ((row, class), w) in probabilities.chunks_exact(classes).zip(actual).zip(weights) {
            counts[*class as usize * classes + most_probable(row)] += w;
        }
        Self { classes, counts }
    }

    fn hits(&self, class: usize) -> f64 {
        self.counts[class * self.classes + class]
    }

    /// Rows of a class.
    fn actual(&self, class: usize) -> f64 {
        self.counts[class * self.classes..][..self.classes].iter().sum()
    }

    /// Rows that were given a class.
    fn predicted(&self, class: usize) -> f64 {
        self.counts.iter().skip(class).step_by(self.classes).sum()
    }

    /// Precision, recall and F1 of a class; 0 where it was never predicted, or is not there.
    fn scores(&self, class: usize) -> [f64; 3] {
        let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
        let (hits, actual, predicted) = (self.hits(class), self.actual(class), self.predicted(class));
        [ratio(hits, predicted), ratio(hits, actual), ratio(2.0 * hits, actual + predicted)]
    }
}

/// The most probable class of a row; of equals, the first.
#[must_use]
pub fn most_probable(row: &[f64]) -> usize {
    let mut best = 0;
    for (i, p) in row.iter().enumerate() {
        if *p > row[best] {
            best = i;
        }
    }
    best
}

/// All metrics of a classification. `probabilities` is row-major `[rows, classes]`.
#[must_use]
pub fn classification(actual: &[u32], probabilities: &[f64], classes: usize) -> BTreeMap<String, f64> {
    let rankings = Ranking::of_classes(actual, probabilities, classes);
    weighted_classification(actual, probabilities, classes, &rankings, &vec![1.0; actual.len()])
}

/// As [`classification`], with a weight for every row. `rankings` sorts the rows once for many resamples.
#[must_use]
pub fn weighted_classification(
    actual: &[u32],
    probabilities: &[f64],
    classes: usize,
    rankings: &[Ranking],
    weights: &[f64],
) -> BTreeMap<String, f64> {
    let confusion = Confusion::new(actual, probabilities, classes, weights);
    let total: f64 = weights.iter().sum();
    let mut out = BTreeMap::new();
    let mut put = |name: &str, value: f64| {
        out.insert(name.to_owned(), value);
    };
    put("accuracy", (0..classes).map(|c| confusion.hits(c)).sum::<f64>() / total);

    let scores: Vec<[f64; 3]> = (0..classes).map(|c| confusion.scores(c)).collect();
    let present = |c: usize| confusion.actual(c) > 0.0 || confusion.predicted(c) > 0.0;
    let shown = (0..classes).filter(|c| present(*c)).count().max(1) as f64;
    for (i, name) in ["precision", "recall", "f1"].into_iter().enumerate() {
        let macro_mean = (0..classes).filter(|c| present(*c)).map(|c| scores[c][i]).sum::<f64>() / shown;
        put(&format!("{name}_macro"), macro_mean);
        let weighted = (0..classes).map(|c| scores[c][i] * confusion.actual(c)).sum::<f64>() / total;
        put(&format!("{name}_weighted"), weighted);
        if classes == 2 {
            put(name, scores[1][i]);
        }
    }
    put("auroc", mean_over(rankings, |r| r.auroc(weights)));
    put("auprc", mean_over(rankings, |r| r.average_precision(weights)));
    put("log_loss", log_loss(actual, probabilities, classes, weights));
    put("ece", calibration_error(actual, probabilities, classes, weights));
    out
}

/// Mean over the classes that have rows with and without them; NaN where none has.
fn mean_over(rankings: &[Ranking], metric: impl Fn(&Ranking) -> Option<f64>) -> f64 {
    let values: Vec<f64> = rankings.iter().filter_map(metric).collect();
    values.iter().sum::<f64>() / values.len() as f64
}

fn log_loss(actual: &[u32], probabilities: &[f64], classes: usize, weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    let loss = |(row, class): (&[f64], &u32)| {
        let sum: f64 = row.iter().sum();
        // Probabilities are cut at the rounding of f64, as scikit-learn does.
        -(row[*class as usize] / sum).clamp(f64::EPSILON, 1.0 - f64::EPSILON).ln()
    };
    let rows = probabilities.chunks_exact(classes).zip(actual);
    rows.map(loss).zip(weights).map(|(l, w)| l * w).sum::<f64>() / total
}

/// Expected calibration error (Guo et al. 2017, equation 3): 15 bins of equal width of the top class's probability.
/// `probabilities` is row-major `[rows, classes]`.
#[must_use]
pub fn calibration_error(actual: &[u32], probabilities: &[f64], classes: usize, weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    let rows = probabilities.chunks_exact(classes).zip(actual).zip(weights).map(|((row, class), w)| {
        let top = most_probable(row);
        (row[top], top == *class as usize, *w)
    });
    bins(rows, 15).iter().map(|b| (b.mean_probability - b.share).abs() * b.weight / total).sum()
}
