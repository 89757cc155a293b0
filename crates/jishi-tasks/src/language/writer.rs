//! Texts that a decoder writes for the prompts of a recipe.

use std::ops::ControlFlow;
use std::sync::Arc;

use jishi_data::text::tokenizer::Tokenizer;
use jishi_models::generate::{DecoderText, GenerateOptions, Generation, TokenTable, generate};
use jishi_models::{Decoder, ModelError};
use jishi_recipe::Generate;

use crate::task::Sample;

/// Writes with a tokenizer and the settings of a recipe.
#[derive(Debug, Clone)]
pub struct Writer {
    tokenizer: Arc<Tokenizer>,
    table: Arc<TokenTable>,
    prompts: Vec<String>,
    options: GenerateOptions,
}

impl Writer {
    /// A writer; the same seed writes the same.
    #[must_use]
    pub fn new(tokenizer: Arc<Tokenizer>, recipe: &Generate, seed: u64) -> Self {
        let table = token_table(&tokenizer);
        let mut options = GenerateOptions::from(recipe);
        options.sampling.seed = seed;
        options.stop_tokens = tokenizer.ends();
        Self { tokenizer, table, prompts: recipe.prompts.clone(), options }
    }

    /// Prompts of the recipe.
    #[must_use]
    pub fn prompts(&self) -> &[String] {
        &self.prompts
    }

    /// What the decoder writes for every prompt.
    ///
    /// # Errors
    /// A prompt that does not fit into the model's context.
    pub fn samples(&self, decoder: &Decoder) -> Result<Vec<Sample>, ModelError> {
        let mut samples = Vec::new();
        for prompt in &self.prompts {
            let tokens = prompt_tokens(&self.tokenizer, prompt)?;
            let generation =
                Generation::new(self.options.clone(), &tokens, Some(Arc::clone(&self.table)), None)?;
            let mut sequence = decoder.sequence();
            let mut text = DecoderText { decoder, sequence: &mut sequence };
            let written = generate(&mut text, &tokens, generation, &mut |_| ControlFlow::Continue(()))?;
            samples.push(Sample { prompt: prompt.clone(), text: written.text, continues: true });
        }
        Ok(samples)
    }
}

/// The bytes of every token's text, none of special ones: what a generation shows and stops at.
#[must_use]
pub fn token_table(tokenizer: &Tokenizer) -> Arc<TokenTable> {
    let bytes = |id: u32| tokenizer.token_bytes(id).unwrap_or_default();
    Arc::new(TokenTable::new((0..tokenizer.vocabulary() as u32).map(bytes)))
}

/// A prompt as the model reads it: after the token that begins a text, where there is one and the model has learned
/// it. An empty prompt is the token that begins or ends a text.
///
/// # Errors
/// A text that has no tokens, where there is no such token either.
pub fn prompt_tokens(tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<u32>, ModelError> {
    let encoded = tokenizer.encode_single(prompt).map_err(|problem| ModelError::Bad(problem.into()))?;
    let mut tokens = encoded.ids;
    // A token that ends a text has no place before what goes on.
    if tokens.last() == tokenizer.special.eos.as_ref() && encoded.special.last() == Some(&true) {
        tokens.pop();
    }
    if tokens.is_empty() {
        tokens.extend(tokenizer.special.bos.or(tokenizer.special.eos));
    }
    if tokens.is_empty() {
        let problem = jishi_recipe::Problem::new("the prompt is empty").help("give at least one character");
        return Err(ModelError::Bad(problem.into()));
    }
    Ok(tokens)
}
