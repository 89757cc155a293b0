//! The pictures of a run, from its log and its predictions.

use jishi_runs::log::Record;
use jishi_runs::plots::{self, Calibration, CalibrationBin, Confusion, RunCurve, Scene, ScoreCurve};
use jishi_tasks::Predictions;
use jishi_tasks::metrics::curves::{Ranking, bins};
use jishi_tasks::metrics::{self};

use jishi_data::Encoded;

/// Bins of the calibration plot.
const CALIBRATION_BINS: usize = 10;

/// Classes whose curves share one plot.
const MAX_CURVES: usize = 6;

/// A picture: its file name without ending, its title, and what to draw.
pub struct Picture {
    /// File name without ending.
    pub name: &'static str,
    /// Title in the model card.
    pub title: &'static str,
    /// What to draw.
    pub scene: Scene,
}

/// Curves of a run from its metric log: training losses averaged between validations, and validation losses, over epochs.
#[must_use]
pub fn curve(name: &str, log: &[Record], best_step: Option<u64>) -> RunCurve {
    let loss = |r: &Record| r.values.get("loss").copied().filter(|l| l.is_finite());
    let points = |split: &str| -> Vec<[f64; 2]> {
        log.iter().filter(|r| r.split == split).filter_map(|r| Some([r.epoch, loss(r)?])).collect()
    };
    let validation = points("validation");
    let mut train = points("train");
    if !validation.is_empty() {
        train = averaged(&train, &validation);
    }
    let best = best_step.and_then(|step| {
        let record = log.iter().find(|r| r.split == "validation" && r.step == step)?;
        Some([record.epoch, loss(record)?])
    });
    RunCurve { name: name.to_owned(), train, validation, best }
}

/// One training point for every validation: the mean of the points since the last.
fn averaged(train: &[[f64; 2]], validation: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let mut rest = train;
    let mut out = Vec::new();
    for [epoch, _] in validation {
        let count = rest.partition_point(|p| p[0] <= *epoch);
        let (these, later) = rest.split_at(count);
        rest = later;
        if !these.is_empty() {
            out.push([*epoch, these.iter().map(|p| p[1]).sum::<f64>() / these.len() as f64]);
        }
    }
    out
}

/// Pictures of predictions against the targets of `rows`, the `split` of the run.
#[must_use]
pub fn evaluation(target: &str, split: &str, rows: &Encoded, predictions: &Predictions) -> Vec<Picture> {
    let note = format!("{split} split, {} rows", rows.rows);
    match predictions {
        Predictions::Numbers(predicted) => {
            let data = plots::Predictions { target, note: &note, actual: rows.target_raw(), predicted };
            vec![
                Picture {
                    name: "predicted-vs-actual",
                    title: "Predicted against actual",
                    scene: plots::predicted_vs_actual(&data),
                },
                Picture { name: "residuals", title: "Residuals", scene: plots::residuals(&data) },
            ]
        }
        Predictions::Probabilities { classes, values } => {
            of_classes(&note, classes, rows.target_class(), values)
        }
    }
}

/// Pictures of the probabilities of classes, row-major `[rows, classes]`, against the `actual` ones.
#[must_use]
pub fn of_classes(note: &str, classes: &[String], actual: &[u32], values: &[f64]) -> Vec<Picture> {
    let n = classes.len();
    let weights = vec![1.0; actual.len()];
    let rankings = Ranking::of_classes(actual, values, n);
    let names: Vec<&String> = if n == 2 { vec![&classes[1]] } else { classes.iter().collect() };
    let pairs = |points: Vec<metrics::curves::Point>| points.into_iter().map(|p| [p.x, p.y]).collect();
    let (mut roc, mut pr) = (Vec::new(), Vec::new());
    for (ranking, name) in rankings.iter().zip(names).take(MAX_CURVES) {
        let (Some(area), Some(precision)) = (ranking.auroc(&weights), ranking.average_precision(&weights))
        else {
            continue;
        };
        roc.push(ScoreCurve { class: name.clone(), points: pairs(ranking.roc()), value: area });
        pr.push(ScoreCurve {
            class: name.clone(),
            points: pairs(ranking.precision_recall()),
            value: precision,
        });
    }
    let confusion = metrics::Confusion::new(actual, values, n, &weights);
    let counts: Vec<Vec<u64>> =
        confusion.counts.chunks_exact(n).map(|row| row.iter().map(|c| *c as u64).collect()).collect();
    let positives = actual.iter().filter(|c| **c == 1).count() as f64;
    let prevalence = (n == 2).then(|| positives / actual.len().max(1) as f64);
    let mut pictures = vec![Picture {
        name: "confusion-matrix",
        title: "Confusion matrix",
        scene: plots::confusion_matrix(&Confusion { classes, counts: &counts }),
    }];
    if !roc.is_empty() {
        pictures.push(Picture { name: "roc", title: "ROC curve", scene: plots::roc(&roc) });
        pictures.push(Picture {
            name: "pr",
            title: "Precision–recall curve",
            scene: plots::pr(&pr, prevalence),
        });
    }
    let bins = calibration_bins(actual, values, n);
    pictures.push(Picture {
        name: "calibration",
        title: "Calibration",
        scene: plots::calibration(&Calibration { note, bins: &bins }),
    });
    pictures
}

/// Of two classes the second's probability, else the most probable class's.
fn calibration_bins(actual: &[u32], values: &[f64], n: usize) -> Vec<CalibrationBin> {
    let rows = values.chunks_exact(n).zip(actual).map(|(row, class)| {
        let of = if n == 2 { 1 } else { metrics::most_probable(row) };
        (row[of], *class as usize == of, 1.0)
    });
    let width = 1.0 / CALIBRATION_BINS as f64;
    bins(rows, CALIBRATION_BINS)
        .into_iter()
        .map(|bin| {
            let from = ((bin.mean_probability / width).ceil() - 1.0).max(0.0) * width;
            CalibrationBin {
                from,
                to: from + width,
                predicted: bin.mean_probability,
                observed: bin.share,
                count: bin.weight as u64,
            }
        })
        .collect()
}
