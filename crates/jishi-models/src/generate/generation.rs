//! One text while it is made: what is chosen after each step of a model, and when it ends.

use std::sync::Arc;

use jishi_recipe::{Generate, Problem};

use super::constraint::Constraint;
use super::sampling::{LogProbability, Sampler, SamplingOptions, log_probability};
use super::stop::Shown;
use super::tokens::TokenTable;
use crate::error::ModelError;

/// How a text is continued.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Tokens at most.
    pub max_tokens: usize,
    /// Tokens that end the text and are not part of it.
    pub stop_tokens: Vec<u32>,
    /// Strings that end the text and are not part of it. They need a [`TokenTable`].
    pub stop: Vec<String>,
    /// How tokens are chosen.
    pub sampling: SamplingOptions,
    /// Gives the log-probability of each token, and of so many most likely ones.
    pub log_probabilities: Option<usize>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self::from(&Generate::default())
    }
}

impl From<&Generate> for GenerateOptions {
    fn from(options: &Generate) -> Self {
        Self {
            max_tokens: options.max_tokens,
            stop_tokens: Vec::new(),
            stop: Vec::new(),
            sampling: options.into(),
            log_probabilities: None,
        }
    }
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Finish {
    /// A stop token or a stop string, or a constraint that is complete.
    Stop,
    /// As many tokens as were wanted.
    Length,
    /// The model's context is full.
    Context,
    /// Whoever listens wanted no more.
    Cancelled,
}

impl Finish {
    /// Name in results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Context => "context",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What became known in a step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Piece {
    /// The token; none when the text ended without one.
    pub token: Option<u32>,
    /// Text that can be shown now: characters are whole, and what may begin a stop string is held back.
    pub text: String,
    /// Where it was asked for.
    pub log_probability: Option<LogProbability>,
}

/// A text that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// Tokens after the prompt, without a stop token.
    pub tokens: Vec<u32>,
    /// The text, where there is a table of tokens.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// Of each token, where it was asked for.
    pub log_probabilities: Vec<LogProbability>,
}

/// A text while it is made. It takes logits and gives tokens, and does not know the model: a loop over one text
/// ([`generate`](super::generate())) and a server that steps many together use it alike.
#[derive(Debug)]
pub struct Generation {
    options: GenerateOptions,
    sampler: Sampler,
    table: Option<Arc<TokenTable>>,
    constraint: Option<Constraint>,
    /// With the prompt's.
    tokens: Vec<u32>,
    prompt: usize,
    shown: Shown,
    text: String,
    log_probabilities: Vec<LogProbability>,
    finish: Option<Finish>,
}

impl Generation {
    /// What follows a prompt. The table is needed for text and stop strings.
    ///
    /// # Errors
    /// When options make no sense, or stop strings have no table.
    pub fn new(
        options: GenerateOptions,
        prompt: &[u32],
        table: Option<Arc<TokenTable>>,
        constraint: Option<Constraint>,
    ) -> Result<Self, ModelError> {
        if table.is_none() && !options.stop.is_empty() {
            return Err(ModelError::Bad(Problem::new("stop strings need the text of tokens").into()));
        }
        let finish = (options.max_tokens == 0).then_some(Finish::Length);
        Ok(Self {
            sampler: Sampler::new(options.sampling.clone())?,
            shown: Shown::new(&options.stop),
            options,
            table,
            constraint,
            tokens: prompt.to_vec(),
            prompt: prompt.len(),
            text: String::new(),
            log_probabilities: Vec::new(),
            finish,
        })
    }

    /// Tokens after the prompt so far.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens[self.prompt..]
    }

    /// Why it ended, if it did.
    #[must_use]
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// Chooses the next token by the logits after the last one. Once it has ended ([`finish`](Self::finish)), nothing
    /// more is chosen.
    ///
    /// # Errors
    /// When no token has a finite logit, or no token of the vocabulary continues the constraint.
    pub fn next(&mut self, logits: &[f32]) -> Result<Piece, ModelError> {
        if self.finish.is_some() {
            return Ok(Piece::default());
        }
        let index = (self.tokens.len() - self.prompt) as u64;
        let allowed = match &mut self.constraint {
            Some(constraint) => {
                let allowed = constraint.allowed(&self.options.stop_tokens, logits.len());
                if allowed.count() == 0 && constraint.complete() {
                    return Ok(self.end(Finish::Stop));
                }
                Some(allowed)
            }
            None => None,
        };
        let chosen = self.sampler.choose(logits, &self.tokens, index, allowed.as_deref());
        let Some(token) = chosen else {
            let message = if allowed.is_some_and(|allowed| allowed.count() == 0) {
                "no token of the vocabulary continues what the constraint allows"
            } else {
                "the model gives no finite logit"
            };
            return Err(ModelError::Bad(Problem::new(message).into()));
        };
        if self.options.stop_tokens.contains(&token) {
            return Ok(self.end(Finish::Stop));
        }
        self.tokens.push(token);
        if let Some(constraint) = &mut self.constraint {
            constraint.advance(token);
        }
        let log_probability = self.options.log_probabilities.map(|top| log_probability(logits, token, top));
        self.log_probabilities.extend(log_probability.clone());
        let mut piece = Piece { token: Some(token), text: String::new(), log_probability };
        if let Some(table) = &self.table {
            piece.text = self.shown.push(table.bytes(token));
            self.text.push_str(&piece.text);
        }
        let full = self.tokens.len() - self.prompt == self.options.max_tokens;
        if self.shown.stopped() {
            self.finish = Some(Finish::Stop);
        } else if full {
            piece.text.push_str(&self.end(Finish::Length).text);
        }
        Ok(piece)
    }

    /// Ends the text; gives what was held back. Nothing happens if it has ended.
    pub fn end(&mut self, finish: Finish) -> Piece {
        if self.finish.is_some() {
            return Piece::default();
        }
        self.finish = Some(finish);
        let text = self.shown.rest();
        self.text.push_str(&text);
        Piece { text, ..Piece::default() }
    }

    /// The text as it is; one that has not ended was cancelled.
    #[must_use]
    pub fn into_generated(mut self) -> Generated {
        self.end(Finish::Cancelled);
        Generated {
            tokens: self.tokens.split_off(self.prompt),
            text: self.text,
            finish: self.finish.unwrap_or(Finish::Cancelled),
            log_probabilities: self.log_probabilities,
        }
    }
}
