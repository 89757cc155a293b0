//! `translation`: a text for a text, with an encoder-decoder (Vaswani et al. 2017) that is shown the target's tokens
//! before each (teacher forcing).
//!
//! Loss, perplexity and accuracy are those of all target tokens, the one that ends a text included. BLEU and chrF are of
//! greedy output: of all pairs of a split, but of [`WATCHED`] pairs, evenly spread, of the validation split.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use jishi_data::text::tokenizer::Tokenizer;
use jishi_kernels::cpu::cross_entropy::Options;
use jishi_kernels::ops;
use jishi_models::generate::{BeamOptions, Translator};
use jishi_models::{Context, LayerRates, Pairs, Seq2SeqModel};
use jishi_recipe::{Precision, Problem, Recipe, TaskName};
use serde_json::{Map, Value};

use crate::language::{LanguageTask, NOTHING, text_of};
use crate::metrics::translation::{Words, bleu, chrf};
use crate::registry::{self, TaskInfo};
use crate::task::{Direction, Evaluation, Sample, SplitName, Task, TaskError};

/// Target tokens of a forward pass in evaluation, about: its logits are all in memory.
const TOKENS: usize = 1 << 11;
/// Texts that are translated together.
const TOGETHER: usize = 64;
/// Validation pairs that are translated, at most.
pub const WATCHED: usize = 200;

/// How a translation is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search {
    /// Keeps this many hypotheses; 1: takes the most likely token each time.
    pub beams: usize,
    /// Tokens of a translation at most; the model's context is a limit too.
    pub max_tokens: usize,
}

/// Texts with their translations, as tokens.
#[derive(Debug, Clone, Default)]
pub struct TextPairs {
    sources: Ragged,
    targets: Ragged,
    /// The targets as they were written; empty where nothing is scored.
    references: Vec<String>,
}

/// Rows of tokens of different lengths.
#[derive(Debug, Clone, Default)]
struct Ragged {
    tokens: Vec<u32>,
    ends: Vec<usize>,
}

impl Ragged {
    fn push(&mut self, row: &[u32]) {
        self.tokens.extend_from_slice(row);
        self.ends.push(self.tokens.len());
    }

    fn row(&self, i: usize) -> &[u32] {
        let start = i.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.tokens[start..self.ends[i]]
    }
}

impl TextPairs {
    /// Adds a pair, each with the token that ends it. `reference`: the target as it was written, where it is scored.
    pub fn push(&mut self, source: &[u32], target: &[u32], reference: Option<&str>) {
        self.sources.push(source);
        self.targets.push(target);
        self.references.extend(reference.map(str::to_owned));
    }

    /// Number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sources.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of both sides.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.sources.tokens.len() + self.targets.tokens.len()
    }
}

/// The tokens that an encoder-decoder needs: start of a target, end of a text, padding. A tokenizer without a token that
/// begins a text starts targets with padding, as Marian does.
///
/// # Errors
/// A tokenizer without an end or padding.
pub fn special_tokens(tokenizer: &Tokenizer) -> Result<[u32; 3], Problem> {
    let special = tokenizer.special;
    match (special.eos, special.pad) {
        (Some(end), Some(pad)) => Ok([special.bos.unwrap_or(pad), end, pad]),
        (end, _) => {
            let lacks = if end.is_none() { "ends a text" } else { "pads" };
            Err(Problem::new(format!("the tokenizer has no token that {lacks}"))
                .help("leave out `tokenizer.from` to train one that has"))
        }
    }
}

/// Translation of texts.
#[derive(Debug)]
pub struct TranslationTask {
    info: &'static TaskInfo,
    splits: [Option<TextPairs>; 3],
    tokenizer: Arc<Tokenizer>,
    /// Start, end, padding.
    special: [u32; 3],
    /// Tokens of a text at most, its end included.
    length: usize,
    search: Search,
    prompts: Vec<String>,
    label_smoothing: f32,
    precision: Precision,
    rates: LayerRates,
    device: Device,
}

/// Pairs on their way to the model.
#[derive(Debug, Clone)]
pub struct TranslationBatch {
    pairs: Pairs,
    /// `[batch · target time]`; [`NOTHING`] where there is padding
    targets: Tensor<1, Int>,
    learned: usize,
}

impl TranslationTask {
    /// The task of a recipe over pairs of its splits, texts cut at `length` tokens. `special`: the model's start, end
    /// and padding.
    #[must_use]
    pub fn new(
        recipe: &Recipe,
        tokenizer: &Arc<Tokenizer>,
        special: [u32; 3],
        length: usize,
        splits: [Option<TextPairs>; 3],
        device: &Device,
    ) -> Self {
        let generate = recipe.generate.clone().unwrap_or_default();
        Self {
            info: registry::task(TaskName::Translation),
            splits,
            special,
            tokenizer: Arc::clone(tokenizer),
            length,
            search: Search { beams: generate.beams, max_tokens: generate.max_tokens },
            prompts: generate.prompts,
            label_smoothing: recipe.train.loss.label_smoothing as f32,
            precision: recipe.train.precision,
            rates: LayerRates::of(recipe),
            device: device.clone(),
        }
    }

    /// How the recipe asks for translations.
    #[must_use]
    pub fn search(&self) -> Search {
        self.search
    }

    /// Tokens of a text as the model reads it: cut where it is too long, and ended.
    ///
    /// # Errors
    /// A text that the tokenizer has no tokens for.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>, Problem> {
        let mut tokens = self.tokenizer.encode(text)?;
        tokens.truncate(self.length - 1);
        tokens.push(self.special[1]);
        Ok(tokens)
    }

    /// Pairs, padded to these lengths.
    fn padded(&self, pairs: &TextPairs, rows: &[usize], [source, target]: [usize; 2]) -> TranslationBatch {
        let [start, _, pad] = self.special;
        let (mut sources, mut there, mut inputs, mut targets) = (vec![], vec![], vec![], vec![]);
        let mut learned = 0;
        for &row in rows {
            let (from, to) = (pairs.sources.row(row), pairs.targets.row(row));
            let filled = |tokens: &[u32], time: usize, with: u32| {
                let padding = std::iter::repeat_n(with as i32, time - tokens.len());
                tokens.iter().map(|t| *t as i32).chain(padding).collect::<Vec<_>>()
            };
            sources.extend(filled(from, source, pad));
            there.extend((0..source).map(|i| i < from.len()));
            inputs.push(start as i32);
            inputs.extend(filled(&to[..to.len() - 1], target - 1, pad));
            targets.extend(filled(to, target, NOTHING));
            learned += to.len();
        }
        // Constants need no tape.
        let device = self.device.clone().inner();
        let n = rows.len();
        let table = |values: Vec<i32>, time: usize| {
            Tensor::<2, Int>::from_data(TensorData::new(values, [n, time]), &device)
        };
        TranslationBatch {
            pairs: Pairs {
                source: table(sources, source),
                mask: Some(Tensor::<2, Bool>::from_data(TensorData::new(there, [n, source]), &device)),
                target: table(inputs, target),
            },
            targets: Tensor::from_data(TensorData::new(targets, [n * target]), &device),
            learned,
        }
    }

    fn train_split(&self) -> &TextPairs {
        let train = self.splits[SplitName::Train as usize].as_ref();
        train.expect("the loop asks for rows that are there")
    }

    fn sum(
        &self,
        model: &Seq2SeqModel,
        batch: &TranslationBatch,
        smoothing: f32,
        context: &mut Context,
    ) -> Tensor<1> {
        model.loss(batch.pairs.clone(), batch.targets.clone(), options(smoothing), context)
    }

    /// Loss and metrics over pairs; BLEU and chrF over at most `watched` of them, evenly spread.
    ///
    /// # Errors
    /// A loss that is not finite.
    pub fn measure(
        &self,
        model: &Seq2SeqModel,
        pairs: &TextPairs,
        watched: Option<usize>,
    ) -> Result<Evaluation, TaskError> {
        let model = model.valid();
        let (mut sum, mut learned, mut right) = (0.0, 0, 0);
        // Pairs of like length have little padding.
        let order = by_length(pairs.len(), |i| (pairs.targets.row(i).len(), pairs.sources.row(i).len()));
        for rows in runs(&order, |i| pairs.targets.row(i).len()) {
            let batch = self.padded(pairs, rows, longest(pairs, rows));
            let mut context = Context::evaluation().with_precision(self.precision);
            let logits = model.logits(batch.pairs, &mut context);
            let [n, time, vocabulary] = logits.dims();
            let logits = logits.reshape([n * time, vocabulary]);
            let loss = ops::cross_entropy(logits.clone(), batch.targets, options(0.0));
            let loss = f64::from(loss.into_scalar::<f32>());
            if !loss.is_finite() {
                return Err(TaskError::NonFinite { found: loss, row: rows[0] });
            }
            sum += loss;
            learned += batch.learned;
            let logits = logits.into_data().try_to_vec::<f32>().unwrap_or_default();
            for (row, logits) in rows.iter().zip(logits.chunks_exact(time * vocabulary)) {
                let target = pairs.targets.row(*row);
                let positions = target.iter().zip(logits.chunks_exact(vocabulary));
                right += positions.filter(|(t, logits)| is_largest(logits, **t as usize)).count();
            }
        }
        let loss = sum / learned.max(1) as f64;
        let mut metrics = BTreeMap::from([("perplexity".to_owned(), loss.exp())]);
        metrics.insert("accuracy".into(), right as f64 / learned.max(1) as f64);

        let scored: Vec<usize> = match watched {
            Some(most) if most < pairs.len() => (0..most).map(|i| i * pairs.len() / most).collect(),
            _ => (0..pairs.len()).collect(),
        };
        let sources: Vec<&[u32]> = scored.iter().map(|i| pairs.sources.row(*i)).collect();
        let written = self.greedy(&model, &sources, self.search.max_tokens)?;
        let references: Vec<String> = scored.iter().map(|i| pairs.references[*i].clone()).collect();
        metrics.insert("bleu".into(), bleu(&written, &references, Words::of(&references)));
        metrics.insert("chrf".into(), chrf(&written, &references));
        Ok(Evaluation { loss, metrics })
    }

    /// Translations of texts, in their order. That of a blank text is empty.
    ///
    /// # Errors
    /// A text that the tokenizer has no tokens for; a model whose output is not finite.
    pub fn translate(
        &self,
        model: &Seq2SeqModel,
        texts: &[String],
        search: Search,
    ) -> Result<Vec<String>, TaskError> {
        let model = model.valid();
        let sources: Result<Vec<Vec<u32>>, Problem> = texts.iter().map(|t| self.tokens(t)).collect();
        // Of nothing, nothing.
        let (rows, sources): (Vec<usize>, Vec<Vec<u32>>) = sources
            .map_err(|problem| TaskError::Bad(problem.into()))?
            .into_iter()
            .enumerate()
            .filter(|(row, _)| !texts[*row].trim().is_empty())
            .unzip();
        let mut written = vec![String::new(); texts.len()];
        let found = if search.beams > 1 {
            self.best(&model, &sources, search)?
        } else {
            let sources: Vec<&[u32]> = sources.iter().map(Vec::as_slice).collect();
            self.greedy(&model, &sources, search.max_tokens)?
        };
        rows.into_iter().zip(found).for_each(|(row, text)| written[row] = text);
        Ok(written)
    }

    fn best(
        &self,
        model: &Seq2SeqModel,
        sources: &[Vec<u32>],
        Search { beams, max_tokens }: Search,
    ) -> Result<Vec<String>, TaskError> {
        let device = self.device.clone().inner();
        let translator = Translator { model, device: &device, precision: self.precision };
        let options = BeamOptions { beams, max_tokens, ..BeamOptions::default() };
        let mut written = Vec::new();
        for source in sources {
            let best = translator.beams(source, &options)?.into_iter().next();
            written.push(self.tokenizer.decode(&best.map(|b| b.tokens).unwrap_or_default()));
        }
        Ok(written)
    }

    fn greedy(
        &self,
        model: &Seq2SeqModel,
        sources: &[&[u32]],
        most: usize,
    ) -> Result<Vec<String>, TaskError> {
        let device = self.device.clone().inner();
        let translator = Translator { model, device: &device, precision: self.precision };
        let mut written = vec![String::new(); sources.len()];
        let order = by_length(sources.len(), |i| (sources[i].len(), 0));
        for rows in order.chunks(TOGETHER) {
            let group: Vec<&[u32]> = rows.iter().map(|i| sources[*i]).collect();
            for (row, tokens) in rows.iter().zip(translator.greedy(&group, most)?) {
                written[*row] = self.tokenizer.decode(&tokens);
            }
        }
        Ok(written)
    }
}

fn options(label_smoothing: f32) -> Options {
    Options { label_smoothing, ignore_index: Some(NOTHING) }
}

/// Lengths of the longest source and target of some rows.
fn longest(pairs: &TextPairs, rows: &[usize]) -> [usize; 2] {
    [&pairs.sources, &pairs.targets].map(|side| rows.iter().map(|i| side.row(*i).len()).max().unwrap_or(0))
}

/// Rows from short to long; those of a length in their order.
fn by_length(n: usize, length: impl Fn(usize) -> (usize, usize)) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|i| length(*i));
    order
}

/// Rows, sorted by length, in runs of about [`TOKENS`] tokens.
fn runs(order: &[usize], length: impl Fn(usize) -> usize) -> Vec<&[usize]> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (at, row) in order.iter().enumerate() {
        match ranges.last_mut() {
            Some(range) if (at + 1 - range.start) * length(*row) <= TOKENS => range.end = at + 1,
            _ => ranges.push(at..at + 1),
        }
    }
    ranges.into_iter().map(|range| &order[range]).collect()
}

/// Whether a class has the largest logit; of equal ones, the first.
fn is_largest(logits: &[f32], class: usize) -> bool {
    let value = logits[class];
    logits[..class].iter().all(|l| *l < value) && logits[class + 1..].iter().all(|l| *l <= value)
}

impl Task for TranslationTask {
    type Model = Seq2SeqModel;
    type Batch = TranslationBatch;

    fn rows(&self, split: SplitName) -> usize {
        self.splits[split as usize].as_ref().map_or(0, TextPairs::len)
    }

    fn batch(&self, rows: &[u32]) -> TranslationBatch {
        let rows: Vec<usize> = rows.iter().map(|r| *r as usize).collect();
        self.padded(self.train_split(), &rows, longest(self.train_split(), &rows))
    }

    fn parts(&self, rows: &[u32], most: usize, _: &dyn Fn(usize) -> Context) -> Vec<TranslationBatch> {
        let rows: Vec<usize> = rows.iter().map(|r| *r as usize).collect();
        let times = longest(self.train_split(), &rows);
        rows.chunks(most).map(|part| self.padded(self.train_split(), part, times)).collect()
    }

    fn weight(&self, batch: &TranslationBatch) -> f64 {
        batch.learned as f64
    }

    fn loss(&self, model: &Seq2SeqModel, batch: &TranslationBatch, context: &mut Context) -> Tensor<1> {
        self.sum(model, batch, self.label_smoothing, context)
    }

    fn evaluate(&self, model: &Seq2SeqModel, split: SplitName) -> Result<Evaluation, TaskError> {
        let watched = (split == SplitName::Validation).then_some(WATCHED);
        match &self.splits[split as usize] {
            Some(pairs) => self.measure(model, pairs, watched),
            None => Ok(Evaluation { loss: f64::NAN, metrics: BTreeMap::new() }),
        }
    }

    fn samples(&self, model: &Seq2SeqModel) -> Result<Vec<Sample>, TaskError> {
        let written = self.translate(model, &self.prompts, self.search)?;
        let samples = self.prompts.iter().zip(written);
        Ok(samples.map(|(prompt, text)| Sample { prompt: prompt.clone(), text, continues: false }).collect())
    }

    fn learning_rate_scale(&self, name: &str, names: &[&str]) -> f64 {
        self.rates.scale(name, names)
    }

    fn direction(&self, metric: &str) -> Direction {
        self.info.direction(metric)
    }
}

impl LanguageTask for TranslationTask {
    fn primary_metric(&self) -> &'static str {
        self.info.primary_metric
    }

    fn does(&self) -> String {
        "writes a text for a text".into()
    }

    /// The mean loss of each text as its own translation: a number that neither a tie nor a limit of output changes.
    fn golden(
        &self,
        model: &Seq2SeqModel,
        inputs: &[Map<String, Value>],
    ) -> Result<Vec<Vec<f64>>, TaskError> {
        let model = model.valid();
        let mut losses = Vec::new();
        for row in inputs {
            let tokens =
                self.tokens(text_of(row, "text")).map_err(|problem| TaskError::Bad(problem.into()))?;
            let mut pair = TextPairs::default();
            pair.push(&tokens, &tokens, None);
            let batch = self.padded(&pair, &[0], [tokens.len(); 2]);
            let mut context = Context::evaluation().with_precision(self.precision);
            let loss = self.sum(&model, &batch, 0.0, &mut context);
            losses.push(vec![f64::from(loss.into_scalar::<f32>()) / batch.learned as f64]);
        }
        Ok(losses)
    }
}
