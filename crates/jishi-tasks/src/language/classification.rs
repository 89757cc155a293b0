//! `text-classification`: one label a text, or many, from an encoder's first position (Devlin et al. 2019, §4.1).

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use jishi_data::text::labels::Labels;
use jishi_data::text::tokenizer::Tokenizer;
use jishi_models::{BertInput, Context, EncoderModel, LanguageConfig, LanguageModel, LayerRates};
use jishi_recipe::{Precision, Recipe, TaskName};
use serde_json::{Map, Value};

use crate::language::texts::{EncoderTokens, Texts};
use crate::language::{ClassOutputs, LanguageTask, Measured, text_of};
use crate::losses::{Loss, class_target};
use crate::metrics;
use crate::registry::{self, TaskInfo};
use crate::table::class_weights;
use crate::task::{Direction, Evaluation, SplitName, Task, TaskError};

/// Texts with the labels of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelledTexts {
    /// Their tokens.
    pub texts: Texts,
    /// The classes of each, `[texts]`; exactly one where a text has one label.
    pub classes: Vec<Vec<u32>>,
}

/// Classification of texts.
#[derive(Debug)]
pub struct ClassificationTask {
    info: &'static TaskInfo,
    splits: [Option<LabelledTexts>; 3],
    labels: Labels,
    tokenizer: Arc<Tokenizer>,
    special: EncoderTokens,
    length: usize,
    /// `[classes]`
    class_weights: Vec<f32>,
    label_smoothing: f64,
    batch: usize,
    precision: Precision,
    rates: LayerRates,
    device: Device,
}

/// Texts on their way to the model.
#[derive(Debug, Clone)]
pub struct ClassificationBatch {
    input: BertInput,
    /// `[texts, classes]`
    target: Tensor<2>,
    weight: f64,
}

impl ClassificationTask {
    /// The task of a recipe over its splits. `length`: tokens of a text at most.
    ///
    /// # Errors
    /// A tokenizer that is not for encoders; class weights that don't fit the labels.
    pub fn new(
        recipe: &Recipe,
        tokenizer: &Arc<Tokenizer>,
        labels: &Labels,
        length: usize,
        splits: [Option<LabelledTexts>; 3],
        device: &Device,
    ) -> Result<Self, TaskError> {
        let loss = &recipe.train.loss;
        let special = EncoderTokens::of(tokenizer).map_err(|p| TaskError::Bad(p.into()))?;
        Ok(Self {
            info: registry::task(TaskName::TextClassification),
            class_weights: class_weights(&loss.class_weights, &labels.names, &labels.counts)?,
            label_smoothing: loss.label_smoothing,
            splits,
            labels: labels.clone(),
            tokenizer: Arc::clone(tokenizer),
            special,
            length,
            batch: recipe.evaluate.batch,
            precision: recipe.train.precision,
            rates: LayerRates::of(recipe),
            device: device.clone(),
        })
    }

    /// `wide`: positions; as many as the longest needs where it is none.
    fn gather(&self, split: &LabelledTexts, rows: &[u32], wide: Option<usize>) -> ClassificationBatch {
        // Constants need no tape.
        let device = self.device.clone().inner();
        let input = split.texts.input(rows, wide, self.special.pad, &device);
        let classes = rows.iter().map(|r| split.classes[*r as usize].as_slice());
        let (target, weight) = self.target(classes);
        ClassificationBatch { input, target: Tensor::from_data(target, &device), weight }
    }

    /// Targets of texts, `[texts, classes]`, and the sum of their weights.
    fn target<'a>(&self, classes: impl Iterator<Item = &'a [u32]>) -> (TensorData, f64) {
        let n = self.labels.names.len();
        if self.labels.many {
            let (low, high) = (self.label_smoothing / 2.0, 1.0 - self.label_smoothing / 2.0);
            let mut values = Vec::new();
            for of_text in classes {
                values.extend((0..n as u32).map(|c| if of_text.contains(&c) { high } else { low } as f32));
            }
            let texts = values.len() / n;
            return (TensorData::new(values, [texts, n]), texts as f64);
        }
        let first: Vec<u32> = classes.map(|c| c[0]).collect();
        let weight = first.iter().map(|c| f64::from(self.class_weights[*c as usize])).sum();
        (class_target(&first, &self.class_weights, self.label_smoothing), weight)
    }

    /// Sum over texts, `[1]`; of many labels, of each text's mean over labels.
    fn sum(&self, logits: Tensor<2>, target: Tensor<2>) -> Tensor<1> {
        if !self.labels.many {
            return Loss::CrossEntropy.sum(logits, target, None);
        }
        let n = self.labels.names.len();
        let device = self.device.clone().inner();
        let weights = Tensor::from_data(TensorData::new(self.class_weights.clone(), [1, n]), &device);
        Loss::BinaryCrossEntropy.sum(logits, target, Some(weights)) / n as f64
    }

    /// Probabilities of every text's labels, row-major `[texts, classes]`.
    ///
    /// # Errors
    /// [`TaskError::NonFinite`] where one is NaN or infinite.
    pub fn predict(&self, model: &EncoderModel, texts: &Texts) -> Result<Vec<f64>, TaskError> {
        self.each_batch(model, texts, |_, _| {})
    }

    fn each_batch(
        &self,
        model: &EncoderModel,
        texts: &Texts,
        mut seen: impl FnMut(&[u32], Tensor<2>),
    ) -> Result<Vec<f64>, TaskError> {
        let (n, model, device) = (self.labels.names.len(), model.valid(), self.device.clone().inner());
        let mut values = vec![0.0; texts.len() * n];
        for rows in texts.batches(self.batch) {
            let input = texts.input(&rows, None, self.special.pad, &device);
            let mut context = Context::evaluation().with_precision(self.precision);
            let logits = model.class_logits(input, &mut context);
            seen(&rows, logits.clone());
            let logits = logits.into_data().try_to_vec::<f32>().expect("models give f32");
            for (row, logits) in rows.iter().zip(logits.chunks_exact(n)) {
                let row = *row as usize;
                if let Some(bad) = logits.iter().find(|l| !l.is_finite()) {
                    return Err(TaskError::NonFinite { found: f64::from(*bad), row });
                }
                probabilities(logits, self.labels.many, &mut values[row * n..][..n]);
            }
        }
        Ok(values)
    }

    /// The labels of a text from its probabilities, as a file shows them: many are joined by `|`.
    #[must_use]
    pub fn label(&self, probabilities: &[f64]) -> String {
        let chosen = chosen(probabilities, self.labels.many);
        let names: Vec<&str> = chosen.iter().map(|c| self.labels.names[*c as usize].as_str()).collect();
        names.join("|")
    }

    /// The labels.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Loss and metrics over texts, with intervals from `resamples` draws.
    ///
    /// # Errors
    /// As [`ClassificationTask::predict`].
    pub fn measure_texts(
        &self,
        model: &EncoderModel,
        split: &LabelledTexts,
        resamples: usize,
        seed: u64,
    ) -> Result<Measured, TaskError> {
        let (mut sum, mut weight) = (0.0, 0.0);
        let values = self.each_batch(model, &split.texts, |rows, logits| {
            let batch = self.gather(split, rows, None);
            sum += f64::from(self.sum(logits, batch.target).into_scalar::<f32>());
            weight += batch.weight;
        })?;
        let (n, many) = (self.labels.names.len(), self.labels.many);
        let found: Vec<Vec<u32>> = values.chunks_exact(n).map(|row| chosen(row, many)).collect();
        let scores = |weights: &[f64]| scores(&split.classes, &found, n, weights);
        let metrics = scores(&vec![1.0; found.len()]);
        let intervals = metrics::intervals(found.len(), resamples, seed, scores);
        let classes = (!many).then(|| ClassOutputs {
            names: self.labels.names.clone(),
            actual: split.classes.iter().map(|c| c[0]).collect(),
            probabilities: values,
        });
        Ok(Measured { evaluation: Evaluation { loss: sum / weight, metrics }, intervals, classes })
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

impl Task for ClassificationTask {
    type Model = EncoderModel;
    type Batch = ClassificationBatch;

    fn rows(&self, split: SplitName) -> usize {
        self.splits[split as usize].as_ref().map_or(0, |s| s.texts.len())
    }

    fn batch(&self, rows: &[u32]) -> ClassificationBatch {
        let train = self.splits[SplitName::Train as usize].as_ref();
        self.gather(train.expect("the loop asks for rows that are there"), rows, None)
    }

    fn parts(&self, rows: &[u32], most: usize, _: &dyn Fn(usize) -> Context) -> Vec<ClassificationBatch> {
        let train = self.splits[SplitName::Train as usize].as_ref();
        let train = train.expect("the loop asks for rows that are there");
        let wide = train.texts.longest(rows);
        rows.chunks(most).map(|part| self.gather(train, part, Some(wide))).collect()
    }

    fn weight(&self, batch: &ClassificationBatch) -> f64 {
        batch.weight
    }

    fn loss(&self, model: &EncoderModel, batch: &ClassificationBatch, context: &mut Context) -> Tensor<1> {
        self.sum(model.class_logits(batch.input.clone(), context), batch.target.clone())
    }

    fn evaluate(&self, model: &EncoderModel, split: SplitName) -> Result<Evaluation, TaskError> {
        Ok(self.report(model, split, 0, 0)?.evaluation)
    }

    fn learning_rate_scale(&self, name: &str, names: &[&str]) -> f64 {
        self.rates.scale(name, names)
    }

    fn direction(&self, metric: &str) -> Direction {
        self.info.direction(metric)
    }
}

impl LanguageTask for ClassificationTask {
    fn primary_metric(&self) -> &'static str {
        self.info.primary_metric
    }

    fn does(&self) -> String {
        let names: Vec<&str> = self.labels.names.iter().take(20).map(String::as_str).collect();
        let more = self.labels.names.len().saturating_sub(names.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let what =
            if self.labels.many { "the labels of a text, any number" } else { "the label of a text, one" };
        format!("tells {what} of {}{more}", names.join(", "))
    }

    fn config(&self, model: &EncoderModel) -> Value {
        let mut config = model.config().to_hf();
        let names = || self.labels.names.iter().enumerate();
        config["id2label"] = names().map(|(i, name)| (i.to_string(), Value::from(name.as_str()))).collect();
        config["label2id"] = names().map(|(i, name)| (name.clone(), Value::from(i))).collect();
        if self.labels.many {
            config["problem_type"] = "multi_label_classification".into();
        }
        config
    }

    /// The probabilities of each text.
    fn golden(
        &self,
        model: &EncoderModel,
        inputs: &[Map<String, Value>],
    ) -> Result<Vec<Vec<f64>>, TaskError> {
        let mut texts = Texts::default();
        for row in inputs {
            let around = self.special.around(&self.tokenizer, text_of(row, "text"), self.length);
            texts.push(&around.map_err(|p| TaskError::Bad(p.into()))?.0);
        }
        let values = self.predict(model, &texts)?;
        Ok(values.chunks_exact(self.labels.names.len()).map(<[f64]>::to_vec).collect())
    }

    fn report(
        &self,
        model: &EncoderModel,
        split: SplitName,
        resamples: usize,
        seed: u64,
    ) -> Result<Measured, TaskError> {
        match &self.splits[split as usize] {
            Some(texts) => self.measure_texts(model, texts, resamples, seed),
            None => Ok(Measured::from(Evaluation { loss: f64::NAN, metrics: BTreeMap::new() })),
        }
    }
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
