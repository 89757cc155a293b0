//! Text from a model that gives logits: sampling, stop strings, beam search, constrained output.
//!
//! Nothing here knows a model: [`NextTokenLogits`] continues one text, [`Hypotheses`] continues several that have
//! grown from one. Both are implemented for a [`Decoder`]; a [`Translator`] writes with an encoder-decoder.

pub mod beam;
pub mod constraint;
mod generation;
pub mod sampling;
mod stop;
#[cfg(test)]
mod tests;
mod tokens;
pub mod translator;

use std::ops::ControlFlow;

pub use beam::{Beam, BeamOptions, DecoderTexts, EarlyStopping, Hypotheses, beam_search};
pub use constraint::{Constraint, Grammar, Vocabulary};
pub use generation::{Finish, GenerateOptions, Generated, Generation, Piece};
pub use sampling::{LogProbability, Sampler, SamplingOptions, log_probability};
pub use stop::Shown;
pub use tokens::{TokenSet, TokenTable};
pub use translator::Translator;

use crate::decoder::{Decoder, Sequence};
use crate::error::ModelError;

/// A model that continues a text.
pub trait NextTokenLogits {
    /// Tokens that the text can still take.
    fn room(&self) -> usize;

    /// Takes tokens that follow those before; gives the logits of the one after them, `[vocabulary]`.
    ///
    /// # Errors
    /// When there are none, they are not of the vocabulary, or do not fit into the context.
    fn take(&mut self, tokens: &[u32]) -> Result<&[f32], ModelError>;
}

/// A decoder with a text.
#[derive(Debug)]
pub struct DecoderText<'a> {
    /// The weights.
    pub decoder: &'a Decoder,
    /// The text so far.
    pub sequence: &'a mut Sequence,
}

impl NextTokenLogits for DecoderText<'_> {
    fn room(&self) -> usize {
        self.decoder.config().context.saturating_sub(self.sequence.position())
    }

    fn take(&mut self, tokens: &[u32]) -> Result<&[f32], ModelError> {
        self.decoder.prefill(self.sequence, tokens)
    }
}

/// Continues a text until it ends. `listen` hears each piece and says whether to go on.
///
/// # Errors
/// When the model refuses the prompt, or [`Generation::next`] fails.
pub fn generate(
    model: &mut dyn NextTokenLogits,
    prompt: &[u32],
    mut generation: Generation,
    listen: &mut dyn FnMut(&Piece) -> ControlFlow<()>,
) -> Result<Generated, ModelError> {
    let mut last = [0u32];
    let mut tokens: &[u32] = prompt;
    while generation.finish().is_none() {
        let piece = if model.room() < tokens.len() && tokens.len() == 1 && !generation.tokens().is_empty() {
            generation.end(Finish::Context)
        } else {
            generation.next(model.take(tokens)?)?
        };
        if let Some(token) = piece.token {
            last = [token];
        }
        tokens = &last;
        if listen(&piece).is_break() {
            generation.end(Finish::Cancelled);
        }
    }
    Ok(generation.into_generated())
}
