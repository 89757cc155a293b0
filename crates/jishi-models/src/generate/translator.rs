//! Texts that an encoder-decoder writes for other texts: many at once with the most likely token, or one with beams.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use jishi_recipe::{Precision, Problem};

use super::beam::{Beam, BeamOptions, Hypotheses, beam_search};
use crate::context::Context;
use crate::encoder_decoder::{DecodeState, EncoderDecoder};
use crate::error::ModelError;

/// An encoder-decoder at work.
#[derive(Debug)]
pub struct Translator<'a> {
    /// The weights, on a device without autodiff.
    pub model: &'a EncoderDecoder,
    /// Where they are.
    pub device: &'a Device,
    /// Of matrix products.
    pub precision: Precision,
}

impl Translator<'_> {
    /// The target of each source by taking the most likely token each time, without the token that ends it. Padding is
    /// never written. A source is encoded with others, padded to the longest of them.
    ///
    /// # Errors
    /// A source that is empty or longer than the context; logits that are not finite.
    pub fn greedy(&self, sources: &[&[u32]], most: usize) -> Result<Vec<Vec<u32>>, ModelError> {
        let mut targets: Vec<Vec<u32>> = vec![Vec::new(); sources.len()];
        let most = most.min(self.model.config().context);
        if sources.is_empty() || most == 0 {
            return Ok(targets);
        }
        let mut state = self.begin(sources)?;
        let mut open: Vec<usize> = (0..sources.len()).collect();
        let mut last = vec![self.model.config().start; sources.len()];
        for _ in 0..most {
            let logits = self.step(&mut state, &last)?;
            let next = logits.chunks_exact(self.model.config().vocabulary).map(most_likely);
            let next: Vec<Option<u32>> = next.map(|t| t.filter(|t| *t != self.model.config().end)).collect();
            let going: Vec<usize> = (0..open.len()).filter(|i| next[*i].is_some()).collect();
            if going.is_empty() {
                break;
            }
            last = next.into_iter().flatten().collect();
            // A text that has ended costs as much as one that goes on.
            if going.len() < open.len() {
                state = state.select(&self.rows(&going));
                open = going.into_iter().map(|i| open[i]).collect();
            }
            for (row, token) in open.iter().zip(&last) {
                targets[*row].push(*token);
            }
        }
        Ok(targets)
    }

    /// The best targets of a source, the best first; [`BeamOptions::stop_tokens`] is the token that ends a text,
    /// whatever is given.
    ///
    /// # Errors
    /// As [`Translator::greedy`] and [`beam_search`].
    pub fn beams(&self, source: &[u32], options: &BeamOptions) -> Result<Vec<Beam>, ModelError> {
        let config = self.model.config();
        let mut state = self.begin(&[source])?;
        let first = self.step(&mut state, &[config.start])?;
        let options = BeamOptions { stop_tokens: vec![config.end], ..options.clone() };
        let mut found = beam_search(&mut Texts { translator: self, state }, &first, &options)?;
        for beam in &mut found {
            beam.tokens.retain(|t| *t != config.end);
        }
        Ok(found)
    }

    fn begin(&self, sources: &[&[u32]]) -> Result<DecodeState, ModelError> {
        let config = self.model.config();
        let time = sources.iter().map(|s| s.len()).max().unwrap_or(0);
        if time > config.context || sources.iter().any(|s| s.is_empty()) {
            let message = format!("expected texts of 1 to {} tokens, found one of {time}", config.context);
            return Err(ModelError::Bad(Problem::new(message).help("shorten the text").into()));
        }
        let (mut ids, mut there) = (Vec::new(), Vec::new());
        for source in sources {
            let padding = time - source.len();
            ids.extend(
                source.iter().map(|t| *t as i32).chain(std::iter::repeat_n(config.pad as i32, padding)),
            );
            there.extend((0..time).map(|i| i < source.len()));
        }
        let shape = [sources.len(), time];
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, shape), self.device);
        let mask = Tensor::<2, Bool>::from_data(TensorData::new(there, shape), self.device);
        let mut context = self.context();
        let memory = self.model.encode(ids, Some(&mask), &mut context); // [batch, time, width]
        Ok(self.model.begin(memory, Some(mask), &mut context))
    }

    /// Logits after one more token a row, `[batch, vocabulary]`.
    fn step(&self, state: &mut DecodeState, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        let logits = self.model.step(self.rows(tokens), state, &mut self.context());
        let vocabulary = self.model.config().vocabulary;
        let mut logits = logits.into_data().try_to_vec::<f32>().unwrap_or_default();
        if logits.len() != tokens.len() * vocabulary || logits.iter().any(|l| !l.is_finite()) {
            let problem = Problem::new("the model gives logits that are not finite");
            return Err(ModelError::Bad(problem.help("its weights are too large, or damaged").into()));
        }
        let pad = self.model.config().pad as usize;
        logits.chunks_exact_mut(vocabulary).for_each(|row| row[pad] = f32::NEG_INFINITY);
        Ok(logits)
    }

    fn rows<T: Copy + TryInto<i32>>(&self, values: &[T]) -> Tensor<1, Int> {
        // Tokens and rows are far below 2³¹.
        let values: Vec<i32> = values.iter().map(|v| (*v).try_into().unwrap_or(i32::MAX)).collect();
        let shape = [values.len()];
        Tensor::from_data(TensorData::new(values, shape), self.device)
    }

    fn context(&self) -> Context {
        Context::evaluation().with_precision(self.precision)
    }
}

/// The first of the most likely tokens.
fn most_likely(logits: &[f32]) -> Option<u32> {
    let best = logits.iter().enumerate().reduce(|a, b| if b.1 > a.1 { b } else { a });
    best.map(|(token, _)| token as u32)
}

/// Targets of one source.
struct Texts<'a> {
    translator: &'a Translator<'a>,
    state: DecodeState,
}

impl Hypotheses for Texts<'_> {
    fn vocabulary(&self) -> usize {
        self.translator.model.config().vocabulary
    }

    fn room(&self) -> usize {
        self.translator.model.config().context.saturating_sub(self.state.position())
    }

    fn extend(&mut self, parents: &[usize], tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        self.state = self.state.select(&self.translator.rows(parents));
        self.translator.step(&mut self.state, tokens)
    }
}
