//! Beam search as Hugging Face's `generate` does it (`_beam_search`, version 4.57), so that both find the same texts.

use jishi_recipe::{Generate, Problem};

use crate::decoder::{Decoder, Sequence};
use crate::error::ModelError;

/// A model that continues several texts, which have grown from one.
pub trait Hypotheses {
    /// Tokens.
    fn vocabulary(&self) -> usize;

    /// Tokens that a text can still take.
    fn room(&self) -> usize;

    /// Makes the texts anew: each is the `parents[i]`-th of those before, followed by `tokens[i]`. Gives the logits
    /// after each, `[texts, vocabulary]`.
    ///
    /// # Errors
    /// When a token is not of the vocabulary, or the context is full.
    fn extend(&mut self, parents: &[usize], tokens: &[u32]) -> Result<Vec<f32>, ModelError>;
}

/// Texts of a decoder.
#[derive(Debug)]
pub struct DecoderTexts<'a> {
    decoder: &'a Decoder,
    sequences: Vec<Sequence>,
}

impl<'a> DecoderTexts<'a> {
    /// From one text, which was made by this decoder.
    #[must_use]
    pub fn new(decoder: &'a Decoder, sequence: Sequence) -> Self {
        Self { decoder, sequences: vec![sequence] }
    }
}

impl Hypotheses for DecoderTexts<'_> {
    fn vocabulary(&self) -> usize {
        self.decoder.config().vocabulary
    }

    fn room(&self) -> usize {
        let taken = self.sequences.iter().map(Sequence::position).max().unwrap_or(0);
        self.decoder.config().context.saturating_sub(taken)
    }

    fn extend(&mut self, parents: &[usize], tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        // The last text that goes on from a parent takes its memory, others get a copy.
        let mut before: Vec<Option<Sequence>> = self.sequences.drain(..).map(Some).collect();
        for (i, parent) in parents.iter().enumerate() {
            let sequence = if parents[i + 1..].contains(parent) {
                before[*parent].as_ref().map(|s| self.decoder.fork(s))
            } else {
                before[*parent].take()
            };
            self.sequences.extend(sequence);
        }
        self.decoder.step_many(&mut self.sequences.iter_mut().collect::<Vec<_>>(), tokens)?;
        Ok(self.sequences.iter().flat_map(|s| s.logits().iter().copied()).collect())
    }
}

/// When a search with enough finished texts ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EarlyStopping {
    /// When the best text that goes on would not be better if it ended now.
    #[default]
    Heuristic,
    /// At once.
    Always,
    /// When no text that goes on can become better.
    Never,
}

/// How beams are searched.
#[derive(Debug, Clone, PartialEq)]
pub struct BeamOptions {
    /// Texts that are kept.
    pub beams: usize,
    /// Tokens at most.
    pub max_tokens: usize,
    /// Tokens that end a text.
    pub stop_tokens: Vec<u32>,
    /// A text's log-probability is divided by its length to the power of this.
    pub length_penalty: f64,
    /// When the search ends.
    pub early_stopping: EarlyStopping,
}

impl Default for BeamOptions {
    fn default() -> Self {
        Self {
            beams: 4,
            max_tokens: 100,
            stop_tokens: Vec::new(),
            length_penalty: 1.0,
            early_stopping: EarlyStopping::Heuristic,
        }
    }
}

impl From<&Generate> for BeamOptions {
    fn from(options: &Generate) -> Self {
        Self { beams: options.beams, max_tokens: options.max_tokens, ..Self::default() }
    }
}

/// A text that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Beam {
    /// Tokens after the prompt, with the stop token where it ended with one.
    pub tokens: Vec<u32>,
    /// Its log-probability, divided as the length penalty says.
    pub score: f64,
}

/// What stands for a score that is never chosen.
const NEVER: f64 = -1e9;

#[derive(Debug, Clone)]
struct Candidate {
    parent: usize,
    tokens: Vec<u32>,
    score: f64,
    ended: bool,
}

/// The best texts after a prompt, the best first: as many as there are beams.
///
/// `first` are the logits after the prompt, `[vocabulary]`; `texts` holds it.
///
/// # Errors
/// When there are no beams, no room for a token, or the model fails.
pub fn beam_search(
    texts: &mut dyn Hypotheses,
    first: &[f32],
    options: &BeamOptions,
) -> Result<Vec<Beam>, ModelError> {
    let (beams, vocabulary) = (options.beams, texts.vocabulary());
    // The last token is not taken by the model.
    let most = options.max_tokens.min(texts.room() + 1);
    if beams == 0 || most == 0 || first.len() != vocabulary {
        let problem =
            Problem::new("a beam search needs beams, room for a token, and the logits of the prompt");
        return Err(ModelError::Bad(problem.into()));
    }
    let wanted = 2.max(1 + options.stop_tokens.len()) * beams;
    let divisor = |length: usize| (length as f64).powf(options.length_penalty);
    let mut running = vec![Candidate { parent: 0, tokens: Vec::new(), score: 0.0, ended: false }];
    let mut finished: Vec<(Beam, bool)> = vec![(Beam { tokens: Vec::new(), score: NEVER }, false); beams];
    let (mut logits, mut improvable) = (first.to_vec(), true);
    for length in 1.. {
        let mut next = continuations(&running, &logits, vocabulary, wanted);
        for candidate in &mut next {
            let last = candidate.tokens.last();
            candidate.ended = length >= most || last.is_some_and(|t| options.stop_tokens.contains(t));
        }
        let full = options.early_stopping == EarlyStopping::Always && finished.iter().all(|f| f.1);
        let ended = next.iter().take(beams).filter(|c| c.ended && !full && improvable);
        finished.extend(
            ended.map(|c| (Beam { tokens: c.tokens.clone(), score: c.score / divisor(length) }, true)),
        );
        // Stable, so that of equal ones the first stays, as it does there.
        finished.sort_by(|a, b| b.0.score.total_cmp(&a.0.score));
        finished.truncate(beams);
        let all_ended = next.iter().all(|c| c.ended);
        running = next.into_iter().filter(|c| !c.ended).take(beams).collect();
        if all_ended || running.is_empty() {
            break;
        }
        let reach = match options.early_stopping {
            EarlyStopping::Never if options.length_penalty > 0.0 => options.max_tokens,
            _ => length,
        };
        let best = running[0].score / divisor(reach);
        let worst = finished.last().map_or(NEVER, |f| f.0.score);
        improvable &= finished.iter().any(|f| !f.1) || best > worst;
        let closed = options.early_stopping == EarlyStopping::Always && finished.iter().all(|f| f.1);
        if !improvable || closed {
            break;
        }
        let parents: Vec<usize> = running.iter().map(|c| c.parent).collect();
        let tokens: Vec<u32> = running.iter().filter_map(|c| c.tokens.last().copied()).collect();
        logits = texts.extend(&parents, &tokens)?;
    }
    Ok(finished.into_iter().filter(|f| f.1).map(|f| f.0).collect())
}

/// The `wanted` best continuations of texts by a token, the best first.
fn continuations(running: &[Candidate], logits: &[f32], vocabulary: usize, wanted: usize) -> Vec<Candidate> {
    let mut best: Vec<(f64, usize, u32)> = Vec::new();
    for (parent, (text, logits)) in running.iter().zip(logits.chunks_exact(vocabulary)).enumerate() {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|l| f64::from(l - largest).exp()).sum();
        let base = text.score - sum.ln();
        let from = best.len();
        best.extend(
            logits.iter().enumerate().map(|(t, l)| (base + f64::from(l - largest), parent, t as u32)),
        );
        let own = &mut best[from..];
        if own.len() > wanted {
            own.select_nth_unstable_by(wanted - 1, falling);
            best.truncate(from + wanted);
        }
    }
    best.sort_unstable_by(falling);
    best.truncate(wanted);
    best.into_iter()
        .map(|(score, parent, token)| {
            let mut tokens = running[parent].tokens.clone();
            tokens.push(token);
            Candidate { parent, tokens, score, ended: false }
        })
        .collect()
}

fn falling(a: &(f64, usize, u32), b: &(f64, usize, u32)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2))
}
