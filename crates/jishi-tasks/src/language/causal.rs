//! `causal-lm`: the next token of a text (Radford et al. 2018), and instruction tuning, where the answer's tokens alone
//! are learned.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use jishi_data::text::tokenizer::Tokenizer;
use jishi_data::text::windows::{IGNORE, WindowBatch, Windows};
use jishi_kernels::cpu::cross_entropy::Options;
use jishi_models::generate::TokenTable;
use jishi_models::{CausalModel, Context, LayerRates};
use jishi_recipe::{Precision, Recipe, TaskName};
use serde_json::{Map, Value};

use crate::language::writer::{prompt_tokens, token_table};
use crate::language::{LanguageTask, NOTHING, Writer, indices, text_of};
use crate::registry::{self, TaskInfo};
use crate::task::{Direction, Evaluation, Sample, SplitName, Task, TaskError};

/// Tokens of a forward pass in evaluation, about.
const TOKENS: usize = 1 << 14;

/// Next-token prediction over windows of a text.
#[derive(Debug)]
pub struct CausalTask {
    info: &'static TaskInfo,
    splits: [Option<Windows>; 3],
    /// The text of every token.
    table: Arc<TokenTable>,
    /// Windows of a forward pass in evaluation.
    batch: usize,
    label_smoothing: f32,
    precision: Precision,
    device: Device,
    rates: LayerRates,
    writer: Option<Writer>,
    tokenizer: Arc<Tokenizer>,
    scratch: RefCell<WindowBatch>,
}

/// Windows on their way to the model.
#[derive(Debug, Clone)]
pub struct CausalBatch {
    /// `[windows, length]`
    inputs: Tensor<2, Int>,
    /// `[windows · length]`; [`IGNORE`] where nothing is learned
    targets: Tensor<1, Int>,
    /// First position that each may see, `[windows, length]`; none where windows are of one document.
    starts: Option<Tensor<2, Int>>,
    learned: usize,
}

impl CausalTask {
    /// The task of a recipe over windows of its splits.
    #[must_use]
    pub fn new(
        recipe: &Recipe,
        tokenizer: &Arc<Tokenizer>,
        splits: [Option<Windows>; 3],
        writer: Option<Writer>,
        device: &Device,
    ) -> Self {
        let length = splits.iter().flatten().map(Windows::length).max().unwrap_or(1);
        Self {
            info: registry::task(TaskName::CausalLm),
            table: token_table(tokenizer),
            batch: (TOKENS / length).clamp(1, recipe.evaluate.batch.max(1)),
            label_smoothing: recipe.train.loss.label_smoothing as f32,
            precision: recipe.train.precision,
            device: device.clone(),
            rates: LayerRates::of(recipe),
            writer,
            tokenizer: Arc::clone(tokenizer),
            splits,
            scratch: RefCell::default(),
        }
    }

    fn options(&self, label_smoothing: f32) -> Options {
        Options { label_smoothing, ignore_index: Some(NOTHING) }
    }

    fn gather(&self, split: &Windows, rows: impl Iterator<Item = usize>) -> CausalBatch {
        let mut scratch = self.scratch.borrow_mut();
        let rows: Vec<usize> = rows.collect();
        split.gather(&rows, &mut scratch);
        let shape = [rows.len(), split.length()];
        // Constants need no tape.
        let device = self.device.clone().inner();
        let apart = scratch.starts.iter().any(|s| *s != 0);
        let table =
            |values: &[u32]| Tensor::<2, Int>::from_data(TensorData::new(indices(values), shape), &device);
        CausalBatch {
            inputs: table(&scratch.inputs),
            targets: Tensor::from_data(
                TensorData::new(indices(&scratch.targets), [shape[0] * shape[1]]),
                &device,
            ),
            starts: apart.then(|| table(&scratch.starts)),
            learned: scratch.learned(),
        }
    }

    fn sum(
        &self,
        model: &CausalModel,
        batch: &CausalBatch,
        smoothing: f32,
        context: &mut Context,
    ) -> Tensor<1> {
        let CausalBatch { inputs, targets, starts, .. } = batch.clone();
        model.loss(inputs, starts, targets, self.options(smoothing), context)
    }

    /// Loss and metrics over windows.
    ///
    /// # Errors
    /// A loss that is not finite.
    pub fn measure(&self, model: &CausalModel, split: &Windows) -> Result<Evaluation, TaskError> {
        let model = model.valid();
        let (mut sum, mut learned, mut bytes) = (0.0, 0, 0_u64);
        for first in (0..split.len()).step_by(self.batch) {
            let batch = self.gather(split, first..(first + self.batch).min(split.len()));
            let mut context = Context::evaluation().with_precision(self.precision);
            let loss = f64::from(self.sum(&model, &batch, 0.0, &mut context).into_scalar::<f32>());
            if !loss.is_finite() {
                return Err(TaskError::NonFinite { found: loss, row: first });
            }
            sum += loss;
            learned += batch.learned;
            let scratch = self.scratch.borrow();
            bytes += scratch.targets.iter().map(|t| self.table.bytes(*t).len() as u64).sum::<u64>();
        }
        let loss = sum / learned.max(1) as f64;
        let mut metrics = BTreeMap::from([("perplexity".to_owned(), loss.exp())]);
        metrics.insert("bits_per_byte".into(), sum / std::f64::consts::LN_2 / bytes.max(1) as f64);
        Ok(Evaluation { loss, metrics })
    }
}

impl Task for CausalTask {
    type Model = CausalModel;
    type Batch = CausalBatch;

    fn rows(&self, split: SplitName) -> usize {
        self.splits[split as usize].as_ref().map_or(0, Windows::len)
    }

    fn batch(&self, rows: &[u32]) -> CausalBatch {
        let train = self.splits[SplitName::Train as usize].as_ref();
        let train = train.expect("the loop asks for rows that are there");
        self.gather(train, rows.iter().map(|r| *r as usize))
    }

    fn weight(&self, batch: &CausalBatch) -> f64 {
        batch.learned as f64
    }

    fn loss(&self, model: &CausalModel, batch: &CausalBatch, context: &mut Context) -> Tensor<1> {
        self.sum(model, batch, self.label_smoothing, context)
    }

    fn evaluate(&self, model: &CausalModel, split: SplitName) -> Result<Evaluation, TaskError> {
        match &self.splits[split as usize] {
            Some(windows) => self.measure(model, windows),
            None => Ok(Evaluation { loss: f64::NAN, metrics: BTreeMap::new() }),
        }
    }

    fn samples(&self, model: &CausalModel) -> Result<Vec<Sample>, TaskError> {
        let Some(writer) = self.writer.as_ref().filter(|w| !w.prompts().is_empty()) else {
            return Ok(Vec::new());
        };
        let decoder = model.decoder(jishi_kernels::cpu::matvec::Format::F32)?;
        Ok(writer.samples(&decoder)?)
    }

    fn learning_rate_scale(&self, name: &str, names: &[&str]) -> f64 {
        self.rates.scale(name, names)
    }

    fn direction(&self, metric: &str) -> Direction {
        self.info.direction(metric)
    }
}

impl LanguageTask for CausalTask {
    fn primary_metric(&self) -> &'static str {
        self.info.primary_metric
    }

    fn does(&self) -> String {
        "predicts the next token of a text, and so writes texts".into()
    }

    /// The mean loss of each text.
    fn golden(&self, model: &CausalModel, inputs: &[Map<String, Value>]) -> Result<Vec<Vec<f64>>, TaskError> {
        let model = model.valid();
        let device = self.device.clone().inner();
        let mut losses = Vec::new();
        for row in inputs {
            let mut tokens = prompt_tokens(&self.tokenizer, text_of(row, "text"))?;
            tokens.truncate(model.context() + 1);
            let n = tokens.len().saturating_sub(1).max(1);
            let inputs = Tensor::<2, Int>::from_data(TensorData::new(indices(&tokens[..n]), [1, n]), &device);
            let mut targets = tokens[1..].to_vec();
            targets.resize(n, IGNORE);
            let targets = Tensor::<1, Int>::from_data(TensorData::new(indices(&targets), [n]), &device);
            let mut context = Context::evaluation().with_precision(self.precision);
            let loss = model.loss(inputs, None, targets, self.options(0.0), &mut context);
            losses.push(vec![f64::from(loss.into_scalar::<f32>()) / n as f64]);
        }
        Ok(losses)
    }
}
