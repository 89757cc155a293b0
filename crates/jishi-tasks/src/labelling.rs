//! What tasks that tell labels have in common, whatever they are labels of: targets, loss, probabilities, metrics.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use jishi_data::text::labels::Labels;
use jishi_data::write::Values;
use jishi_recipe::Recipe;

use crate::losses::{Loss, class_target};
use crate::metrics;
use crate::table::class_weights;
use crate::task::TaskError;

/// Labels, one or many an example, and how they are learned.
#[derive(Debug, Clone)]
pub struct LabelHead {
    labels: Labels,
    /// `[classes]`
    class_weights: Vec<f32>,
    label_smoothing: f64,
}

/// Rows of targets on their way to the loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    /// Row-major `[examples, classes]`; of one label an example, times the weight of its class.
    pub values: Vec<f32>,
    /// The sum of the examples' weights.
    pub weight: f64,
}

impl LabelHead {
    /// The labels of a recipe's data.
    ///
    /// # Errors
    /// Class weights that don't fit the labels.
    pub fn new(recipe: &Recipe, labels: &Labels) -> Result<Self, TaskError> {
        let loss = &recipe.train.loss;
        Ok(Self {
            class_weights: class_weights(&loss.class_weights, &labels.names, &labels.counts)?,
            label_smoothing: loss.label_smoothing,
            labels: labels.clone(),
        })
    }

    /// The labels.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// How many labels there are.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.labels.names.len()
    }

    /// Targets of examples with these classes.
    pub fn targets<'a>(&self, classes: impl Iterator<Item = &'a [u32]>) -> Targets {
        if self.labels.many {
            let (low, high) = (self.label_smoothing / 2.0, 1.0 - self.label_smoothing / 2.0);
            let (mut values, mut examples) = (Vec::new(), 0);
            for of_example in classes {
                let all = 0..self.classes() as u32;
                values.extend(all.map(|c| if of_example.contains(&c) { high } else { low } as f32));
                examples += 1;
            }
            return Targets { values, weight: f64::from(examples) };
        }
        let first: Vec<u32> = classes.map(|c| c[0]).collect();
        let weight = first.iter().map(|c| f64::from(self.class_weights[*c as usize])).sum();
        let data = class_target(&first, &self.class_weights, self.label_smoothing);
        Targets { values: data.try_to_vec().expect("targets are f32"), weight }
    }

    /// Targets as a tensor `[examples, classes]`.
    #[must_use]
    pub fn tensor(&self, targets: Vec<f32>, device: &Device) -> Tensor<2> {
        let shape = [targets.len() / self.classes(), self.classes()];
        Tensor::from_data(TensorData::new(targets, shape), device)
    }

    /// Sum of the losses of examples, `[1]`; of many labels, of each example's mean over labels.
    ///
    /// # Shapes
    /// - logits and target: `[examples, classes]`
    #[must_use]
    pub fn sum(&self, logits: Tensor<2>, target: Tensor<2>) -> Tensor<1> {
        if !self.labels.many {
            return Loss::CrossEntropy.sum(logits, target, None);
        }
        let n = self.classes();
        let data = TensorData::new(self.class_weights.clone(), [1, n]);
        let weights = Tensor::from_data(data, &target.device());
        Loss::BinaryCrossEntropy.sum(logits, target, Some(weights)) / n as f64
    }

    /// Appends the probabilities of examples with these logits, row-major `[examples, classes]`.
    ///
    /// # Errors
    /// [`TaskError::NonFinite`] where a logit is NaN or infinite: `row` is that of the first example.
    pub fn probabilities(&self, logits: &[f32], row: usize, out: &mut [f64]) -> Result<(), TaskError> {
        let n = self.classes();
        for (i, (logits, out)) in logits.chunks_exact(n).zip(out.chunks_exact_mut(n)).enumerate() {
            if let Some(bad) = logits.iter().find(|l| !l.is_finite()) {
                return Err(TaskError::NonFinite { found: f64::from(*bad), row: row + i });
            }
            probabilities(logits, self.labels.many, out);
        }
        Ok(())
    }

    /// The labels of an example from its probabilities, as a file shows them: many are joined by `|`.
    #[must_use]
    pub fn label(&self, probabilities: &[f64]) -> String {
        let chosen = chosen(probabilities, self.labels.many);
        let names: Vec<&str> = chosen.iter().map(|c| self.labels.names[*c as usize].as_str()).collect();
        names.join("|")
    }

    /// Probabilities `[examples, classes]` as columns of a file: `prediction`, and `probability_LABEL` of every label.
    #[must_use]
    pub fn columns(&self, probabilities: &[f64]) -> Vec<(String, Values)> {
        let n = self.classes();
        let predictions = probabilities.chunks_exact(n).map(|row| self.label(row)).collect();
        let mut columns = vec![("prediction".to_owned(), Values::Words(predictions))];
        for (i, name) in self.labels.names.iter().enumerate() {
            let of_label = probabilities.iter().skip(i).step_by(n).copied().collect();
            columns.push((format!("probability_{name}"), Values::Numbers(of_label)));
        }
        columns
    }

    /// The first labels, for a sentence about the model.
    #[must_use]
    pub fn listed(&self) -> String {
        let names: Vec<&str> = self.labels.names.iter().take(20).map(String::as_str).collect();
        let more = self.labels.names.len().saturating_sub(names.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}", names.join(", "))
    }

    /// Metrics of probabilities `[examples, classes]` against the actual classes, with 95 % intervals from `resamples`
    /// draws.
    #[must_use]
    pub fn measure(
        &self,
        actual: &[Vec<u32>],
        probabilities: &[f64],
        resamples: usize,
        seed: u64,
    ) -> (BTreeMap<String, f64>, BTreeMap<String, [f64; 2]>) {
        let (n, many) = (self.classes(), self.labels.many);
        let found: Vec<Vec<u32>> = probabilities.chunks_exact(n).map(|row| chosen(row, many)).collect();
        let scores = |weights: &[f64]| scores(actual, &found, n, weights);
        let metrics = scores(&vec![1.0; found.len()]);
        (metrics, metrics::intervals(found.len(), resamples, seed, scores))
    }

    /// Share of examples whose class is among the five most probable; of equals, the first.
    #[must_use]
    pub fn top5(&self, actual: &[Vec<u32>], probabilities: &[f64]) -> f64 {
        let rows = probabilities.chunks_exact(self.classes()).zip(actual);
        let among = |(row, classes): (&[f64], &Vec<u32>)| {
            classes.first().is_some_and(|class| {
                let (class, own) = (*class as usize, row[*class as usize]);
                let before = row.iter().enumerate().filter(|(i, p)| **p > own || (**p == own && *i < class));
                before.count() < 5
            })
        };
        rows.filter(|row| among(*row)).count() as f64 / actual.len().max(1) as f64
    }
}

fn probabilities(logits: &[f32], many: bool, out: &mut [f64]) {
    if many {
        out.iter_mut().zip(logits).for_each(|(p, z)| *p = 1.0 / (1.0 + (-f64::from(*z)).exp()));
        return;
    }
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    out.iter_mut().zip(logits).for_each(|(p, z)| *p = f64::from(z - highest).exp());
    let sum: f64 = out.iter().sum();
    out.iter_mut().for_each(|p| *p /= sum);
}

/// The most probable class, or of many labels those of a probability of one half and more.
fn chosen(probabilities: &[f64], many: bool) -> Vec<u32> {
    if many {
        let likely = probabilities.iter().zip(0u32..).filter(|(p, _)| **p >= 0.5);
        return likely.map(|(_, class)| class).collect();
    }
    vec![metrics::most_probable(probabilities) as u32]
}

/// The metrics of found against actual classes, with a weight for each text. Labels that are nowhere do not count in means.
fn scores(actual: &[Vec<u32>], found: &[Vec<u32>], labels: usize, weights: &[f64]) -> BTreeMap<String, f64> {
    let mut counts = vec![[0.0; 3]; labels];
    let (mut exact, mut total) = (0.0, 0.0);
    for ((actual, found), weight) in actual.iter().zip(found).zip(weights) {
        total += weight;
        exact += if actual == found { *weight } else { 0.0 };
        for class in actual {
            counts[*class as usize][0] += weight;
            if found.contains(class) {
                counts[*class as usize][2] += weight;
            }
        }
        found.iter().for_each(|class| counts[*class as usize][1] += weight);
    }
    let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
    let shown: Vec<&[f64; 3]> = counts.iter().filter(|[a, f, _]| *a > 0.0 || *f > 0.0).collect();
    let mean =
        |of: &dyn Fn(&[f64; 3]) -> f64| shown.iter().map(|c| of(c)).sum::<f64>() / shown.len().max(1) as f64;
    let all = counts.iter().fold([0.0; 3], |sum, c| [0, 1, 2].map(|i| sum[i] + c[i]));
    let f1 = |[actual, found, hits]: &[f64; 3]| ratio(2.0 * hits, actual + found);
    BTreeMap::from([
        ("accuracy".to_owned(), exact / total),
        ("precision_macro".to_owned(), mean(&|[_, found, hits]| ratio(*hits, *found))),
        ("recall_macro".to_owned(), mean(&|[actual, _, hits]| ratio(*hits, *actual))),
        ("f1_macro".to_owned(), mean(&f1)),
        ("f1_micro".to_owned(), f1(&all)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_of_many_labels() {
        let actual = [vec![0, 1], vec![1], vec![], vec![2]];
        let found = [vec![0, 1], vec![0], vec![], vec![1]];
        let metrics = scores(&actual, &found, 4, &[1.0; 4]);
        assert_eq!(metrics["accuracy"], 0.5);
        // Label 0: 1 of 1 found, 1 of 2 right; label 1: 1 of 2, 1 of 2; label 2: none; label 3 is nowhere.
        assert!((metrics["recall_macro"] - (1.0 + 0.5 + 0.0) / 3.0).abs() < 1e-12);
        assert!((metrics["precision_macro"] - (0.5 + 0.5 + 0.0) / 3.0).abs() < 1e-12);
        assert!((metrics["f1_micro"] - 4.0 / 8.0).abs() < 1e-12);
        let twice = scores(&actual, &found, 4, &[2.0, 0.0, 0.0, 0.0]);
        assert_eq!((twice["accuracy"], twice["f1_macro"]), (1.0, 1.0));
    }

    #[test]
    fn probabilities_are_those_of_softmax_and_sigmoid() {
        let mut out = [0.0; 2];
        probabilities(&[0.0, 3f32.ln()], false, &mut out);
        assert!((out[1] - 0.75).abs() < 1e-6 && (out[0] + out[1] - 1.0).abs() < 1e-12);
        probabilities(&[0.0, 3f32.ln()], true, &mut out);
        assert!((out[0] - 0.5).abs() < 1e-12 && (out[1] - 0.75).abs() < 1e-6);
        assert_eq!(chosen(&out, true), [0, 1]);
    }
}
