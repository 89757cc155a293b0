//! What a training job tells: the JSON of `jishi train --json`, and the source of the model card.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jishi_data::Encoded;
use jishi_recipe::Recipe;
use jishi_tasks::{ClassOutputs, Evaluation, Measured, Predictions, TableHead};
use serde::{Deserialize, Serialize};

/// Metrics by name.
pub type Metrics = BTreeMap<String, f64>;

/// 95 % intervals by name: low and high.
pub type Intervals = BTreeMap<String, [f64; 2]>;

/// What a training job gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainReport {
    /// Name of the run.
    pub run: String,
    /// Folder of the run.
    pub path: PathBuf,
    /// `finished`, `stopped-early` or `interrupted`.
    pub status: String,
    /// Task of the recipe.
    pub task: String,
    /// Family of the model.
    pub family: String,
    /// Trainable numbers of the model.
    pub parameters: usize,
    /// Optimiser steps done.
    pub steps: usize,
    /// Epochs done.
    pub epochs: f64,
    /// Step of the weights that were kept, under early stopping.
    pub best_step: Option<usize>,
    /// Rows by split.
    pub rows: BTreeMap<String, u64>,
    /// Metrics by split; the mean over folds in a cross-validation.
    pub metrics: BTreeMap<String, Metrics>,
    /// 95 % bootstrap intervals by split; empty in a cross-validation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub intervals: BTreeMap<String, Intervals>,
    /// Standard deviation over folds, by split.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub spread: BTreeMap<String, Metrics>,
    /// The report of every fold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folds: Vec<TrainReport>,
    /// Wall time of the job.
    pub seconds: f64,
    /// Share of the time of training steps that went into making batches, over all resumes.
    #[serde(default)]
    pub data_share: Option<f64>,
    /// Peak memory of the process in bytes, where the system tells.
    pub peak_memory: Option<u64>,
}

/// Metrics of predictions with the mean loss, and their intervals: the one way to measure a split or a file.
#[must_use]
pub fn measure(
    recipe: &Recipe,
    head: &TableHead,
    predictions: &Predictions,
    loss: Option<f64>,
    rows: &Encoded,
) -> (Metrics, Intervals) {
    let mut metrics = head.metrics(predictions, rows);
    metrics.extend(loss.map(|l| ("loss".to_owned(), l)));
    let intervals = head.intervals(predictions, rows, recipe.evaluate.bootstrap, recipe.train.seed);
    (metrics, intervals)
}

/// Metrics of an evaluation with the loss, their intervals, and what classes were told.
#[must_use]
pub fn of_measured(measured: Measured) -> (Metrics, Intervals, Option<ClassOutputs>) {
    let Measured { evaluation: Evaluation { loss, mut metrics }, intervals, classes } = measured;
    metrics.insert("loss".into(), loss);
    (metrics, intervals, classes)
}

/// Mean and standard deviation (n − 1) of every metric over folds.
#[must_use]
pub fn over_folds(folds: &[Metrics]) -> (Metrics, Metrics) {
    let mut mean = Metrics::new();
    let mut spread = Metrics::new();
    let Some(first) = folds.first() else {
        return (mean, spread);
    };
    for name in first.keys() {
        let values: Vec<f64> = folds.iter().filter_map(|m| m.get(name).copied()).collect();
        let n = values.len() as f64;
        let m = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - m).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        mean.insert(name.clone(), m);
        spread.insert(name.clone(), variance.sqrt());
    }
    (mean, spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_give_mean_and_spread() {
        let fold = |v: f64| Metrics::from([("rmse".to_owned(), v)]);
        let (mean, spread) = over_folds(&[fold(1.0), fold(2.0), fold(3.0)]);
        assert_eq!(mean["rmse"], 2.0);
        assert_eq!(spread["rmse"], 1.0);
    }
}
