//! `text-embedding`: texts of a pair get vectors that are close, and others' are far: InfoNCE over the pairs of a batch
//! (van den Oord et al. 2018, equation 4), in both directions, on means of an encoder's positions (Reimers & Gurevych
//! 2019, §3).

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};
use jishi_data::text::tokenizer::Tokenizer;
use jishi_models::{BertInput, Context, EncoderModel, LayerRates};
use jishi_recipe::{Precision, Recipe, TaskName};
use serde_json::{Map, Value};

use crate::language::texts::{EncoderTokens, Texts};
use crate::language::{LanguageTask, text_of};
use crate::metrics::retrieval::retrieval;
use crate::registry::{self, TaskInfo};
use crate::task::{Direction, Evaluation, SplitName, Task, TaskError};

/// Similarities are divided by it, where the recipe says nothing.
const TEMPERATURE: f64 = 0.05;

/// Pairs of texts: the first and the second of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PairedTexts {
    /// First texts.
    pub first: Texts,
    /// Second texts, as many.
    pub second: Texts,
}

/// Vectors for texts.
#[derive(Debug)]
pub struct EmbeddingTask {
    info: &'static TaskInfo,
    splits: [Option<PairedTexts>; 3],
    tokenizer: Arc<Tokenizer>,
    special: EncoderTokens,
    length: usize,
    /// Pairs of a batch of training: those that a loss compares.
    compared: usize,
    temperature: f64,
    batch: usize,
    precision: Precision,
    rates: LayerRates,
    device: Device,
}

/// Pairs on their way to the model.
#[derive(Debug, Clone)]
pub struct PairBatch {
    first: BertInput,
    second: BertInput,
    pairs: usize,
}

impl EmbeddingTask {
    /// The task of a recipe over its splits. `length`: tokens of a text at most.
    ///
    /// # Errors
    /// A tokenizer that is not for encoders.
    pub fn new(
        recipe: &Recipe,
        tokenizer: &Arc<Tokenizer>,
        length: usize,
        splits: [Option<PairedTexts>; 3],
        device: &Device,
    ) -> Result<Self, TaskError> {
        Ok(Self {
            info: registry::task(TaskName::TextEmbedding),
            splits,
            tokenizer: Arc::clone(tokenizer),
            special: EncoderTokens::of(tokenizer).map_err(|p| TaskError::Bad(p.into()))?,
            length,
            compared: recipe.train.batch,
            temperature: recipe.train.loss.temperature.unwrap_or(TEMPERATURE),
            batch: recipe.evaluate.batch,
            precision: recipe.train.precision,
            rates: LayerRates::of(recipe),
            device: device.clone(),
        })
    }

    /// The vectors of texts, row-major `[texts, width]`, each of length 1, and the width.
    ///
    /// # Errors
    /// [`TaskError::NonFinite`] where a value is NaN or infinite.
    pub fn embed(&self, model: &EncoderModel, texts: &Texts) -> Result<(Vec<f32>, usize), TaskError> {
        let (model, device) = (model.valid(), self.device.clone().inner());
        let (mut values, mut width) = (Vec::new(), 0);
        for rows in texts.batches(self.batch) {
            let input = texts.input(&rows, None, self.special.pad, &device);
            let vectors = model.embed(input, &mut Context::evaluation().with_precision(self.precision));
            width = vectors.dims()[1];
            values.resize(texts.len() * width, 0.0);
            let vectors = vectors.into_data().try_to_vec::<f32>().expect("models give f32");
            for (row, vector) in rows.iter().zip(vectors.chunks_exact(width)) {
                if let Some(bad) = vector.iter().find(|v| !v.is_finite()) {
                    return Err(TaskError::NonFinite { found: f64::from(*bad), row: *row as usize });
                }
                values[*row as usize * width..][..width].copy_from_slice(vector);
            }
        }
        Ok((values, width))
    }

    /// Loss and metrics over pairs: the second text of each is looked for among those of all.
    ///
    /// # Errors
    /// As [`EmbeddingTask::embed`].
    pub fn measure(&self, model: &EncoderModel, pairs: &PairedTexts) -> Result<Evaluation, TaskError> {
        let (first, width) = self.embed(model, &pairs.first)?;
        let (second, _) = self.embed(model, &pairs.second)?;
        let (count, device) = (pairs.first.len(), self.device.clone().inner());
        let table = |values: &[f32]| {
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), [values.len() / width, width]), &device)
        };
        let mut loss = 0.0;
        for (a, b) in first.chunks(self.compared * width).zip(second.chunks(self.compared * width)) {
            loss += f64::from(contrast(table(a), table(b), self.temperature).into_scalar::<f32>());
        }
        let metrics = retrieval(&first, &second, width, &device);
        Ok(Evaluation { loss: loss / count as f64, metrics })
    }
}

/// Sum over pairs of the mean of both directions' cross-entropies, `[1]`.
///
/// # Shapes
/// - first, second: `[pairs, width]`, rows of length 1
fn contrast(first: Tensor<2>, second: Tensor<2>, temperature: f64) -> Tensor<1> {
    let [pairs, _] = first.dims();
    let scores = first.matmul(second.transpose()) / temperature; // [pairs, pairs]
    let own = Tensor::<2>::eye(pairs, &scores.device().inner());
    let forth = log_softmax(scores.clone(), 1) * own.clone();
    let back = log_softmax(scores, 0) * own;
    (forth + back).sum() * -0.5
}

impl Task for EmbeddingTask {
    type Model = EncoderModel;
    type Batch = PairBatch;

    fn rows(&self, split: SplitName) -> usize {
        self.splits[split as usize].as_ref().map_or(0, |s| s.first.len())
    }

    fn batch(&self, rows: &[u32]) -> PairBatch {
        let train = self.splits[SplitName::Train as usize].as_ref();
        let train = train.expect("the loop asks for rows that are there");
        // Constants need no tape.
        let device = self.device.clone().inner();
        let input = |texts: &Texts| texts.input(rows, None, self.special.pad, &device);
        PairBatch { first: input(&train.first), second: input(&train.second), pairs: rows.len() }
    }

    fn weight(&self, batch: &PairBatch) -> f64 {
        batch.pairs as f64
    }

    fn loss(&self, model: &EncoderModel, batch: &PairBatch, context: &mut Context) -> Tensor<1> {
        let first = model.embed(batch.first.clone(), context);
        contrast(first, model.embed(batch.second.clone(), context), self.temperature)
    }

    fn evaluate(&self, model: &EncoderModel, split: SplitName) -> Result<Evaluation, TaskError> {
        match &self.splits[split as usize] {
            Some(pairs) => self.measure(model, pairs),
            None => Ok(Evaluation { loss: f64::NAN, metrics: BTreeMap::new() }),
        }
    }

    fn learning_rate_scale(&self, name: &str, names: &[&str]) -> f64 {
        self.rates.scale(name, names)
    }

    fn direction(&self, metric: &str) -> Direction {
        self.info.direction(metric)
    }
}

impl LanguageTask for EmbeddingTask {
    fn primary_metric(&self) -> &'static str {
        self.info.primary_metric
    }

    fn does(&self) -> String {
        "gives texts of like meaning vectors that are close to each other".into()
    }

    /// The vector of each text.
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
        let (values, width) = self.embed(model, &texts)?;
        Ok(values.chunks_exact(width.max(1)).map(|v| v.iter().map(|x| f64::from(*x)).collect()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_is_the_mean_of_both_directions() {
        let device = Device::flex();
        let table = |v: [f32; 4]| Tensor::<2>::from_data(TensorData::new(v.to_vec(), [2, 2]), &device);
        // Scores: 20·[[1, 0], [0.6, 0.8]].
        let loss = contrast(table([1.0, 0.0, 0.6, 0.8]), table([1.0, 0.0, 0.0, 1.0]), 0.05);
        let cross = |own: f64, other: f64| ((other - own).exp() + 1.0).ln();
        let expected = 0.5 * (cross(20.0, 0.0) + cross(16.0, 12.0) + cross(20.0, 12.0) + cross(16.0, 0.0));
        assert!((f64::from(loss.into_scalar::<f32>()) - expected).abs() < 1e-5);
    }
}
