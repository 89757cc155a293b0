//! `dpo`: direct preference optimisation (Rafailov et al. 2023, equation 7). A model learns to give a chosen answer more of
//! its probability than a rejected one, both measured against a reference: the model that training begins with.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use jishi_data::text::tokenizer::Tokenizer;
use jishi_models::{CausalModel, Context};
use jishi_recipe::{Precision, Recipe, TaskName};
use serde_json::{Map, Value};

use crate::language::texts::{self, Texts, padded};
use crate::language::{CausalTask, LanguageTask, Measured, Writer};
use crate::losses::Loss;
use crate::metrics::intervals;
use crate::registry::{self, TaskInfo};
use crate::task::{Direction, Evaluation, Sample, SplitName, Task, TaskError};

/// Answers to prompts, in pairs: a chosen and a rejected one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerPairs {
    /// Prompt and answer of each: chosen, rejected, chosen, …
    answers: Texts,
    /// Tokens of each pair's prompt.
    prompts: Vec<usize>,
}

impl AnswerPairs {
    /// Adds a pair. `chosen` and `rejected` begin with the `prompt` tokens of the prompt.
    ///
    /// # Panics
    /// Without a prompt, or where an answer has no token: nothing could be predicted, or from nothing.
    pub fn push(&mut self, prompt: usize, chosen: &[u32], rejected: &[u32]) {
        assert!(0 < prompt && prompt < chosen.len().min(rejected.len()), "a prompt and two answers");
        self.answers.push(chosen);
        self.answers.push(rejected);
        self.prompts.push(prompt);
    }

    /// Number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.prompts.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prompts.is_empty()
    }

    /// Tokens of both answers of all pairs, with their prompts.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.answers.tokens()
    }

    /// Chosen and rejected answer of a pair, each after its prompt.
    fn both(&self, pair: usize) -> [&[u32]; 2] {
        [self.answers.get(2 * pair), self.answers.get(2 * pair + 1)]
    }

    /// Tokens that a model reads of the longer answer of a pair: nothing follows the last.
    fn read(&self, pair: usize) -> usize {
        let [chosen, rejected] = self.both(pair);
        chosen.len().max(rejected.len()) - 1
    }

    /// Pairs on their way to a model, filled up to `wide` tokens, or to the longest.
    fn input(&self, pairs: &[u32], wide: Option<usize>, device: &Device) -> AnswerInput {
        let both = || pairs.iter().flat_map(|pair| self.both(*pair as usize));
        let read: Vec<&[u32]> = both().map(|text| &text[..text.len() - 1]).collect();
        // What fills up comes after all that counts, and is seen by nothing that does.
        let tokens = padded(&read, wide, 0, device).tokens;
        let [_, time] = tokens.dims();
        let (mut places, mut targets, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
        for (row, text) in both().enumerate() {
            let prompt = self.prompts[pairs[row / 2] as usize];
            places.extend((prompt..text.len()).map(|at| (row * time + at - 1) as i32));
            targets.extend(text[prompt..].iter().map(|token| *token as i32));
            lengths.push(text.len() - prompt);
        }
        let mut owners = vec![0.0_f32; lengths.len() * places.len()];
        let mut first = 0;
        for (row, length) in lengths.iter().enumerate() {
            owners[row * places.len() + first..][..*length].fill(1.0);
            first += length;
        }
        let list = |values: Vec<i32>| {
            let count = values.len();
            Tensor::<1, Int>::from_data(TensorData::new(values, [count]), device)
        };
        let shape = [lengths.len(), places.len()];
        AnswerInput {
            tokens,
            places: list(places),
            targets: list(targets),
            owners: Tensor::from_data(TensorData::new(owners, shape), device),
        }
    }
}

/// Answers as a model reads them.
#[derive(Debug, Clone)]
struct AnswerInput {
    /// `[2 · pairs, time]`
    tokens: Tensor<2, Int>,
    /// Where a token of an answer is predicted, `[predicted]`
    places: Tensor<1, Int>,
    /// The token there, `[predicted]`
    targets: Tensor<1, Int>,
    /// 1 where it is of that answer, `[2 · pairs, predicted]`
    owners: Tensor<2>,
}

impl AnswerInput {
    /// Log-probabilities of chosen and rejected answers: sums over their tokens, `[pairs, 2]`.
    fn log_probabilities(self, model: &CausalModel, context: &mut Context) -> Tensor<2> {
        let each = model.log_probabilities_at(self.tokens, self.places, self.targets, context);
        let [rows, predicted] = self.owners.dims();
        self.owners.matmul(each.reshape([predicted, 1])).reshape([rows / 2, 2])
    }
}

/// Pairs, and what the reference model says of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Preferences {
    pairs: AnswerPairs,
    /// Log-probabilities of the chosen and the rejected answer of each pair.
    reference: Vec<[f32; 2]>,
}

impl Preferences {
    /// Number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

/// Pairs of a batch.
#[derive(Debug, Clone)]
pub struct PreferenceBatch {
    input: AnswerInput,
    /// How much likelier the reference finds chosen answers, in logarithms, `[pairs, 1]`
    reference: Tensor<2>,
    pairs: usize,
}

/// Learning from preferences.
#[derive(Debug)]
pub struct DpoTask {
    info: &'static TaskInfo,
    splits: [Option<Preferences>; 3],
    beta: f64,
    label_smoothing: f64,
    /// Pairs of a forward pass in evaluation.
    batch: usize,
    precision: Precision,
    device: Device,
    /// What the model is besides: one that continues texts.
    causal: CausalTask,
}

impl DpoTask {
    /// The task of a recipe, without data.
    #[must_use]
    pub fn new(recipe: &Recipe, tokenizer: &Arc<Tokenizer>, writer: Option<Writer>, device: &Device) -> Self {
        Self {
            info: registry::task(TaskName::Dpo),
            splits: [None, None, None],
            beta: recipe.train.loss.beta,
            label_smoothing: recipe.train.loss.label_smoothing,
            batch: recipe.evaluate.batch,
            precision: recipe.train.precision,
            device: device.clone(),
            causal: CausalTask::new(recipe, tokenizer, [None, None, None], writer, device),
        }
    }

    /// With pairs to learn from and to watch.
    #[must_use]
    pub fn with_splits(self, splits: [Option<Preferences>; 3]) -> Self {
        Self { splits, ..self }
    }

    /// Pairs, compared with a reference model.
    ///
    /// # Errors
    /// As [`DpoTask::log_probabilities`].
    pub fn against(&self, reference: &CausalModel, pairs: AnswerPairs) -> Result<Preferences, TaskError> {
        let reference = self.log_probabilities(reference, &pairs)?;
        Ok(Preferences { pairs, reference })
    }

    /// Log-probabilities of the chosen and the rejected answer of each pair.
    ///
    /// # Errors
    /// [`TaskError::NonFinite`] where one is NaN or infinite.
    pub fn log_probabilities(
        &self,
        model: &CausalModel,
        pairs: &AnswerPairs,
    ) -> Result<Vec<[f32; 2]>, TaskError> {
        let (model, device) = (model.valid(), self.device.clone().inner());
        // Both answers are in memory at a time.
        let lengths: Vec<usize> = (0..pairs.len()).map(|pair| 2 * pairs.read(pair)).collect();
        let mut found = vec![[0.0; 2]; pairs.len()];
        for rows in texts::batches(&lengths, self.batch) {
            let mut context = Context::evaluation().with_precision(self.precision);
            let sums = pairs.input(&rows, None, &device).log_probabilities(&model, &mut context);
            let sums = sums.into_data().try_to_vec::<f32>().expect("models give f32");
            for (row, sums) in rows.iter().zip(sums.chunks_exact(2)) {
                let row = *row as usize;
                if let Some(bad) = sums.iter().find(|sum| !sum.is_finite()) {
                    return Err(TaskError::NonFinite { found: f64::from(*bad), row });
                }
                found[row].copy_from_slice(sums);
            }
        }
        Ok(found)
    }

    /// Loss and metrics over pairs, with intervals from `resamples` draws.
    ///
    /// # Errors
    /// As [`DpoTask::log_probabilities`].
    pub fn measure(
        &self,
        model: &CausalModel,
        split: &Preferences,
        resamples: usize,
        seed: u64,
    ) -> Result<Measured, TaskError> {
        let found = self.log_probabilities(model, &split.pairs)?;
        let reward = |policy: f32, reference: f32| self.beta * (f64::from(policy) - f64::from(reference));
        let pairs = found.iter().zip(&split.reference);
        let rewards: Vec<[f64; 2]> = pairs.map(|(p, r)| [0, 1].map(|i| reward(p[i], r[i]))).collect();
        let loss = rewards.iter().map(|[c, r]| loss_of(c - r, self.label_smoothing)).sum::<f64>();
        let scores = |weights: &[f64]| scores(&rewards, weights);
        Ok(Measured {
            evaluation: Evaluation {
                loss: loss / rewards.len().max(1) as f64,
                metrics: scores(&vec![1.0; rewards.len()]),
            },
            intervals: intervals(rewards.len(), resamples, seed, scores),
            classes: None,
        })
    }

    fn train_split(&self) -> &Preferences {
        self.splits[SplitName::Train as usize].as_ref().expect("the loop asks for rows that are there")
    }

    fn gather(&self, rows: &[u32], wide: Option<usize>) -> PreferenceBatch {
        let split = self.train_split();
        // Constants need no tape.
        let device = self.device.clone().inner();
        let reference: Vec<f32> = rows
            .iter()
            .map(|row| {
                let [chosen, rejected] = split.reference[*row as usize];
                chosen - rejected
            })
            .collect();
        PreferenceBatch {
            input: split.pairs.input(rows, wide, &device),
            reference: Tensor::from_data(TensorData::new(reference, [rows.len(), 1]), &device),
            pairs: rows.len(),
        }
    }
}

/// Loss of a margin of rewards: equation 7, with a chance that the pair is the wrong way round (Mitchell 2023, equation
/// 2).
fn loss_of(margin: f64, smoothing: f64) -> f64 {
    // −ln σ(m) = ln(1 + e^−m), which overflows for no m in this form.
    let minus_log_sigmoid = |m: f64| (-m.abs()).exp().ln_1p() + (-m).max(0.0);
    (1.0 - smoothing) * minus_log_sigmoid(margin) + smoothing * minus_log_sigmoid(-margin)
}

/// Metrics of the rewards of chosen and rejected answers, with a weight for each pair.
fn scores(rewards: &[[f64; 2]], weights: &[f64]) -> BTreeMap<String, f64> {
    let total: f64 = weights.iter().sum();
    let mean = |of: &dyn Fn(f64, f64) -> f64| {
        let sum: f64 = rewards.iter().zip(weights).map(|([c, r], weight)| of(*c, *r) * weight).sum();
        sum / total
    };
    // A model that is still its reference has no opinion: not one that is always wrong.
    let right = |c: f64, r: f64| if c == r { 0.5 } else { f64::from(u8::from(c > r)) };
    BTreeMap::from([
        ("accuracy".to_owned(), mean(&right)),
        ("margin".to_owned(), mean(&|c, r| c - r)),
        ("chosen_reward".to_owned(), mean(&|c, _| c)),
    ])
}

impl Task for DpoTask {
    type Model = CausalModel;
    type Batch = PreferenceBatch;

    fn rows(&self, split: SplitName) -> usize {
        self.splits[split as usize].as_ref().map_or(0, Preferences::len)
    }

    fn batch(&self, rows: &[u32]) -> PreferenceBatch {
        self.gather(rows, None)
    }

    fn parts(&self, rows: &[u32], most: usize, _: &dyn Fn(usize) -> Context) -> Vec<PreferenceBatch> {
        let pairs = &self.train_split().pairs;
        let wide = rows.iter().map(|row| pairs.read(*row as usize)).max();
        rows.chunks(most).map(|part| self.gather(part, wide)).collect()
    }

    fn weight(&self, batch: &PreferenceBatch) -> f64 {
        batch.pairs as f64
    }

    fn loss(&self, model: &CausalModel, batch: &PreferenceBatch, context: &mut Context) -> Tensor<1> {
        let PreferenceBatch { input, reference, pairs } = batch.clone();
        context.spread(2);
        let sums = input.log_probabilities(model, context);
        let [chosen, rejected] = [0, 1].map(|answer| sums.clone().narrow(1, answer, 1));
        let margins = (chosen - rejected - reference) * self.beta;
        // The margin is the logit of the chosen answer's being the better one (Bradley & Terry 1952).
        let target = Tensor::full([pairs, 1], 1.0 - self.label_smoothing, &self.device.clone().inner());
        Loss::BinaryCrossEntropy.sum(margins, target, None)
    }

    fn evaluate(&self, model: &CausalModel, split: SplitName) -> Result<Evaluation, TaskError> {
        Ok(self.report(model, split, 0, 0)?.evaluation)
    }

    fn samples(&self, model: &CausalModel) -> Result<Vec<Sample>, TaskError> {
        self.causal.samples(model)
    }

    fn learning_rate_scale(&self, name: &str, names: &[&str]) -> f64 {
        self.causal.learning_rate_scale(name, names)
    }

    fn direction(&self, metric: &str) -> Direction {
        self.info.direction(metric)
    }
}

impl LanguageTask for DpoTask {
    fn primary_metric(&self) -> &'static str {
        self.info.primary_metric
    }

    fn does(&self) -> String {
        "predicts the next token of a text, and writes answers like those that were preferred".into()
    }

    /// The mean loss of each text, as of any model that predicts the next token.
    fn golden(&self, model: &CausalModel, inputs: &[Map<String, Value>]) -> Result<Vec<Vec<f64>>, TaskError> {
        self.causal.golden(model, inputs)
    }

    fn report(
        &self,
        model: &CausalModel,
        split: SplitName,
        resamples: usize,
        seed: u64,
    ) -> Result<Measured, TaskError> {
        match &self.splits[split as usize] {
            Some(preferences) => self.measure(model, preferences, resamples, seed),
            None => Ok(Evaluation { loss: f64::NAN, metrics: BTreeMap::new() }.into()),
        }
    }
}
