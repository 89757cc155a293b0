//! `masked-lm`: tokens that were hidden from a text, the pre-training of BERT (Devlin et al. 2019, §3.1): of 15 % of the
//! tokens, 80 % become `[MASK]`, 10 % another token, 10 % stay.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use jishi_data::text::tokenizer::Tokenizer;
use jishi_kernels::cpu::cross_entropy::Options;
use jishi_models::rng::stream;
use jishi_models::{BertInput, Context, EncoderModel, LayerRates, Rng};
use jishi_recipe::{Precision, Problem, Recipe, TaskName};
use serde_json::{Map, Value};

use crate::language::texts::{EncoderTokens, Texts, padded};
use crate::language::{LanguageTask, text_of};
use crate::registry::{self, TaskInfo};
use crate::task::{Direction, Evaluation, SplitName, Task, TaskError};

/// Share of the tokens that are hidden.
const HIDDEN: f64 = 0.15;

/// Tokens that were hidden from texts.
#[derive(Debug)]
pub struct MaskedTask {
    info: &'static TaskInfo,
    splits: [Option<Texts>; 3],
    masker: Masker,
    tokenizer: Arc<Tokenizer>,
    special: EncoderTokens,
    length: usize,
    batch: usize,
    seed: u64,
    label_smoothing: f32,
    precision: Precision,
    rates: LayerRates,
    device: Device,
}

/// Hides tokens.
#[derive(Debug)]
struct Masker {
    mask: u32,
    /// Tokens that may be hidden and that may take the place of one.
    ordinary: Vec<u32>,
    /// Whether a token is special, `[vocabulary]`.
    special: Vec<bool>,
    /// Whether a token goes on with the word before it, `[vocabulary]`; none where words are not hidden whole.
    continues: Option<Vec<bool>>,
}

/// A text of which tokens are hidden: as the model sees it, and places and tokens of what was hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hidden {
    seen: Vec<u32>,
    places: Vec<usize>,
    tokens: Vec<u32>,
}

/// Texts on their way to the model.
#[derive(Debug, Clone)]
pub struct MaskedBatch {
    input: BertInput,
    /// `[hidden]`, each `row · time + position`
    places: Tensor<1, Int>,
    /// `[hidden]`
    targets: Tensor<1, Int>,
    hidden: Vec<u32>,
}

impl Masker {
    fn new(tokenizer: &Tokenizer, whole_words: bool) -> Result<Self, Problem> {
        let mask = tokenizer.special.mask.ok_or_else(|| {
            Problem::new("the tokenizer has no `[MASK]`")
                .help("leave `tokenizer.from` out to train one, or take one that was made for a BERT")
        })?;
        let ids = 0..tokenizer.vocabulary() as u32;
        let special: Vec<bool> = ids.clone().map(|id| tokenizer.is_special(id)).collect();
        let continues = if whole_words { Some(continuations(tokenizer)?) } else { None };
        Ok(Self { mask, ordinary: ids.filter(|id| !special[*id as usize]).collect(), special, continues })
    }

    /// The words of a text, or its tokens: places that are hidden together.
    fn words(&self, tokens: &[u32]) -> Vec<Vec<usize>> {
        let mut words: Vec<Vec<usize>> = Vec::new();
        let mut open = false;
        for (place, token) in tokens.iter().enumerate() {
            if self.special[*token as usize] {
                open = false;
                continue;
            }
            let goes_on = open && self.continues.as_ref().is_some_and(|c| c[*token as usize]);
            match words.last_mut().filter(|_| goes_on) {
                Some(word) => word.push(place),
                None => words.push(vec![place]),
            }
            open = true;
        }
        words
    }

    /// Hides 15 % of the tokens, at least one where there is any; a word goes beyond that rather than being cut.
    fn hide(&self, tokens: &[u32], rng: &mut Rng) -> Hidden {
        let mut words = self.words(tokens);
        let count: usize = words.iter().map(Vec::len).sum();
        let wanted = ((count as f64 * HIDDEN).round() as usize).max(1);
        let mut places = Vec::new();
        let mut first = 0;
        while places.len() < wanted && first < words.len() {
            let drawn = first + rng.below((words.len() - first) as u64) as usize;
            words.swap(first, drawn);
            places.extend_from_slice(&words[first]);
            first += 1;
        }
        places.sort_unstable();
        let mut seen = tokens.to_vec();
        for place in &places {
            match rng.below(10) {
                0..8 => seen[*place] = self.mask,
                8 if !self.ordinary.is_empty() => {
                    seen[*place] = self.ordinary[rng.below(self.ordinary.len() as u64) as usize];
                }
                _ => {}
            }
        }
        let hidden = places.iter().map(|p| tokens[*p]).collect();
        Hidden { seen, places, tokens: hidden }
    }
}

/// Whether each token goes on with the word before it.
fn continuations(tokenizer: &Tokenizer) -> Result<Vec<bool>, Problem> {
    let names: Vec<String> =
        (0..tokenizer.vocabulary() as u32).map(|id| tokenizer.token(id).unwrap_or_default()).collect();
    if names.iter().any(|name| name.starts_with("##")) {
        return Ok(names.iter().map(|name| name.starts_with("##")).collect());
    }
    if names.iter().any(|name| name.starts_with(['Ġ', '▁', ' '])) {
        let begins = |name: &String| {
            name.starts_with(['Ġ', '▁', ' ']) || name.starts_with(|c: char| c.is_ascii_punctuation())
        };
        return Ok(names.iter().map(|name| !begins(name)).collect());
    }
    Err(Problem::new("`text.whole_words` needs a tokenizer that tells where words begin")
        .help("set `tokenizer.kind` to \"wordpiece\", \"bpe\" or \"unigram\", or leave `whole_words` out"))
}

impl MaskedTask {
    /// The task of a recipe over texts with `[CLS]` and `[SEP]`, of at most `length` tokens.
    ///
    /// # Errors
    /// A tokenizer that is not for encoders.
    pub fn new(
        recipe: &Recipe,
        tokenizer: &Arc<Tokenizer>,
        length: usize,
        splits: [Option<Texts>; 3],
        device: &Device,
    ) -> Result<Self, TaskError> {
        let bad = |p: Problem| TaskError::Bad(p.into());
        let whole_words = recipe.text.as_ref().is_some_and(|t| t.whole_words);
        Ok(Self {
            info: registry::task(TaskName::MaskedLm),
            splits,
            masker: Masker::new(tokenizer, whole_words).map_err(bad)?,
            special: EncoderTokens::of(tokenizer).map_err(bad)?,
            tokenizer: Arc::clone(tokenizer),
            length,
            batch: recipe.evaluate.batch,
            seed: recipe.train.seed,
            label_smoothing: recipe.train.loss.label_smoothing as f32,
            precision: recipe.train.precision,
            rates: LayerRates::of(recipe),
            device: device.clone(),
        })
    }

    fn options(&self) -> Options {
        Options { label_smoothing: self.label_smoothing, ignore_index: None }
    }

    fn ints(&self, values: &[u32]) -> Tensor<1, Int> {
        let values: Vec<i32> = values.iter().map(|v| *v as i32).collect();
        let shape = [values.len()];
        Tensor::from_data(TensorData::new(values, shape), &self.device.clone().inner())
    }

    /// `wide`: positions; as many as the longest needs where it is none.
    fn gather(
        &self,
        texts: &Texts,
        rows: &[u32],
        wide: Option<usize>,
        mut rng: impl FnMut(usize, u32) -> Rng,
    ) -> MaskedBatch {
        let each = rows.iter().enumerate();
        let hidden: Vec<Hidden> =
            each.map(|(i, row)| self.masker.hide(texts.get(*row as usize), &mut rng(i, *row))).collect();
        let seen: Vec<&[u32]> = hidden.iter().map(|h| h.seen.as_slice()).collect();
        let input = padded(&seen, wide, self.special.pad, &self.device.clone().inner());
        let [_, time] = input.tokens.dims();
        let (mut places, mut tokens) = (Vec::new(), Vec::new());
        for (row, hidden) in hidden.iter().enumerate() {
            places.extend(hidden.places.iter().map(|p| (row * time + p) as u32));
            tokens.extend_from_slice(&hidden.tokens);
        }
        MaskedBatch { input, places: self.ints(&places), targets: self.ints(&tokens), hidden: tokens }
    }

    /// Logits of what was hidden, row-major `[hidden, vocabulary]`.
    fn logits(&self, model: &EncoderModel, batch: &MaskedBatch) -> Result<Vec<f32>, TaskError> {
        let mut context = Context::evaluation().with_precision(self.precision);
        let logits = model.logits_at(batch.input.clone(), batch.places.clone(), &mut context);
        let logits = logits.into_data().try_to_vec::<f32>().expect("models give f32");
        match logits.iter().find(|l| !l.is_finite()) {
            Some(bad) => Err(TaskError::NonFinite { found: f64::from(*bad), row: 0 }),
            None => Ok(logits),
        }
    }

    /// Loss and metrics over texts: the same tokens are hidden every time.
    ///
    /// # Errors
    /// [`TaskError::NonFinite`] where a logit is NaN or infinite.
    pub fn measure(&self, model: &EncoderModel, texts: &Texts) -> Result<Evaluation, TaskError> {
        let model = model.valid();
        let (mut sum, mut hits, mut count) = (0.0, 0, 0_usize);
        for rows in texts.batches(self.batch) {
            let fixed = |_, row: u32| Rng::new(self.seed, stream("hidden", u64::from(row)));
            let batch = self.gather(texts, &rows, None, fixed);
            if batch.hidden.is_empty() {
                continue;
            }
            let logits = self.logits(&model, &batch)?;
            let vocabulary = logits.len() / batch.hidden.len();
            for (row, token) in logits.chunks_exact(vocabulary).zip(&batch.hidden) {
                sum += log_sum(row) - f64::from(row[*token as usize]);
                hits += usize::from(best(row, 1)[0] == *token);
            }
            count += batch.hidden.len();
        }
        let loss = sum / count.max(1) as f64;
        let accuracy = hits as f64 / count.max(1) as f64;
        let metrics = [("perplexity".to_owned(), loss.exp()), ("accuracy".to_owned(), accuracy)];
        Ok(Evaluation { loss, metrics: BTreeMap::from(metrics) })
    }

    /// The most likely tokens for every `[MASK]` of a text, with their probabilities: `[masks, most]`.
    ///
    /// # Errors
    /// A text without `[MASK]`, or of more tokens than fit.
    pub fn fill(
        &self,
        model: &EncoderModel,
        text: &str,
        most: usize,
    ) -> Result<Vec<Vec<(u32, f64)>>, TaskError> {
        let bad = |p: Problem| TaskError::Bad(p.into());
        let (tokens, cut) = self.special.around(&self.tokenizer, text, self.length).map_err(bad)?;
        if cut {
            let problem = Problem::new(format!("this text has more than {} tokens", self.length));
            return Err(bad(problem.help("shorten it")));
        }
        let places: Vec<u32> =
            (0u32..).zip(&tokens).filter(|(_, t)| **t == self.masker.mask).map(|(p, _)| p).collect();
        if places.is_empty() {
            let name = self.tokenizer.token(self.masker.mask).unwrap_or_default();
            let problem = Problem::new(format!("this text has no `{name}` to fill in"));
            return Err(bad(problem.help(format!("write `{name}` where a word is missing"))));
        }
        let batch = MaskedBatch {
            input: padded(&[&tokens], None, self.special.pad, &self.device.clone().inner()),
            targets: self.ints(&places),
            places: self.ints(&places),
            hidden: places.clone(),
        };
        let logits = self.logits(&model.valid(), &batch)?;
        let rows = logits.chunks_exact(logits.len() / places.len());
        Ok(rows
            .map(|row| {
                let sum = log_sum(row);
                let probability = |id: u32| (f64::from(row[id as usize]) - sum).exp();
                best(row, most).into_iter().map(|id| (id, probability(id))).collect()
            })
            .collect())
    }
}

fn log_sum(row: &[f32]) -> f64 {
    let highest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    row.iter().map(|l| (f64::from(*l) - highest).exp()).sum::<f64>().ln() + highest
}

/// The places of the highest values, the highest first; of equals, the first.
fn best(row: &[f32], most: usize) -> Vec<u32> {
    let mut found: Vec<u32> = Vec::with_capacity(most + 1);
    for (i, value) in row.iter().enumerate() {
        if found.len() == most && found.last().is_some_and(|last| *value <= row[*last as usize]) {
            continue;
        }
        let at = found.partition_point(|f| row[*f as usize] >= *value);
        found.insert(at, i as u32);
        found.truncate(most);
    }
    found
}

impl Task for MaskedTask {
    type Model = EncoderModel;
    type Batch = MaskedBatch;

    fn rows(&self, split: SplitName) -> usize {
        self.splits[split as usize].as_ref().map_or(0, Texts::len)
    }

    fn batch(&self, rows: &[u32]) -> MaskedBatch {
        let pass = |_| Context::evaluation();
        self.parts(rows, rows.len().max(1), &pass).swap_remove(0)
    }

    fn parts(&self, rows: &[u32], most: usize, pass: &dyn Fn(usize) -> Context) -> Vec<MaskedBatch> {
        let train = self.splits[SplitName::Train as usize].as_ref();
        let train = train.expect("the loop asks for rows that are there");
        let wide = Some(train.longest(rows));
        let parts = rows.chunks(most).enumerate();
        parts
            .map(|(part, rows)| {
                let context = pass(part * most);
                self.gather(train, rows, wide, |i, _| context.stream("hidden", i))
            })
            .collect()
    }

    fn weight(&self, batch: &MaskedBatch) -> f64 {
        batch.hidden.len() as f64
    }

    fn loss(&self, model: &EncoderModel, batch: &MaskedBatch, context: &mut Context) -> Tensor<1> {
        let MaskedBatch { input, places, targets, .. } = batch.clone();
        model.loss_at(input, places, targets, self.options(), context)
    }

    fn evaluate(&self, model: &EncoderModel, split: SplitName) -> Result<Evaluation, TaskError> {
        match &self.splits[split as usize] {
            Some(texts) => self.measure(model, texts),
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

impl LanguageTask for MaskedTask {
    fn primary_metric(&self) -> &'static str {
        self.info.primary_metric
    }

    fn does(&self) -> String {
        "fills in tokens that are hidden from a text; others are fine-tuned from it".into()
    }

    /// The mean loss of tokens that are hidden from each text.
    fn golden(
        &self,
        model: &EncoderModel,
        inputs: &[Map<String, Value>],
    ) -> Result<Vec<Vec<f64>>, TaskError> {
        let mut losses = Vec::new();
        for row in inputs {
            let around = self.special.around(&self.tokenizer, text_of(row, "text"), self.length);
            let mut texts = Texts::default();
            texts.push(&around.map_err(|p| TaskError::Bad(p.into()))?.0);
            losses.push(vec![self.measure(model, &texts)?.loss]);
        }
        Ok(losses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masker(continues: Option<Vec<bool>>) -> Masker {
        let special = (0..1000).map(|id| id < 5).collect();
        Masker { mask: 4, ordinary: (5..1000).collect(), special, continues }
    }

    #[test]
    fn shares_are_those_of_the_paper() {
        let tokens: Vec<u32> = (0..2000).map(|i| if i % 100 == 0 { 2 } else { 5 + i % 900 }).collect();
        let hidden = masker(None).hide(&tokens, &mut Rng::new(1, 2));
        assert_eq!(hidden.places.len(), 297);
        assert!(hidden.places.iter().zip(&hidden.tokens).all(|(p, t)| tokens[*p] == *t && *t >= 5));
        let share = |of: &dyn Fn(usize) -> bool| {
            hidden.places.iter().filter(|p| of(**p)).count() as f64 / hidden.places.len() as f64
        };
        assert!((share(&|p| hidden.seen[p] == 4) - 0.8).abs() < 0.07);
        assert!((share(&|p| hidden.seen[p] == tokens[p]) - 0.1).abs() < 0.05);
        let others = (0..tokens.len()).filter(|p| !hidden.places.contains(p));
        assert!(others.into_iter().all(|p| hidden.seen[p] == tokens[p]));
        assert_eq!(masker(None).hide(&[2, 3], &mut Rng::new(1, 2)).places, [0usize; 0]);
        assert_eq!(masker(None).hide(&[2, 9, 3], &mut Rng::new(1, 2)).places, [1]);
    }

    #[test]
    fn words_are_hidden_whole() {
        // Odd tokens go on with the word before them.
        let masker = masker(Some((0..1000).map(|id| id % 2 == 1).collect()));
        let tokens = [2, 10, 11, 13, 20, 21, 30, 40, 41, 3];
        assert_eq!(masker.words(&tokens), [vec![1, 2, 3], vec![4, 5], vec![6], vec![7, 8]]);
        for seed in 0..20 {
            let places = masker.hide(&tokens, &mut Rng::new(seed, 0)).places;
            assert!(masker.words(&tokens).contains(&places), "{places:?}");
        }
    }

    #[test]
    fn the_best_come_first() {
        assert_eq!(best(&[1.0, 3.0, 2.0, 3.0, 0.0], 3), [1, 3, 2]);
        assert!((log_sum(&[0.0, 0.0]) - 2f64.ln()).abs() < 1e-12);
    }
}
