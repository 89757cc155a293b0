//! `causal-lm`: from a recipe to windows of tokens and a model to train.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use jishi_data::text::cache::Around;
use jishi_data::text::corpus::Part;
use jishi_data::text::tokenizer::{SpecialSet, Tokenizer};
use jishi_data::text::windows::Windows;
use jishi_models::{CausalConfig, CausalModel, LanguageConfig};
use jishi_recipe::{Model, Problem, Problems, Recipe};
use jishi_tasks::language::{CausalTask, Writer};

use super::TextPipeline;
use super::beginning::Beginning;
use super::finish::{Prepared, golden};
use super::source::TextSource;
use crate::error::TrainError;

/// Reads, tokenises and cuts the text of a recipe.
///
/// # Errors
/// Everything that is wrong with the data and the model.
pub fn prepare(recipe: &Recipe, base: &Path, device: &Device) -> Result<Prepared<CausalTask>, TrainError> {
    let source = TextSource::read(recipe, base)?;
    let seed = recipe.train.seed;
    let special = if source.talks() { SpecialSet::Chat } else { SpecialSet::Causal };
    let sizes = |model: &Model, tokenizer: &Tokenizer| match model {
        Model::Gpt2(model) => Some(CausalConfig::from_gpt2(model, tokenizer.vocabulary())),
        Model::Llama(model) => Some(CausalConfig::from_llama(model, tokenizer.vocabulary())),
        _ => None,
    };
    let Beginning { tokenizer, config, length, start } =
        Beginning::<CausalModel>::of(recipe, &source, base, special, sizes, |_| ())?;
    let mut splits = [None, None, None];
    for (split, part) in splits.iter_mut().zip(Part::ALL) {
        *split = windows(&source, part, &tokenizer, length)?;
    }
    let writer = recipe.generate.as_ref().map(|g| Writer::new(Arc::clone(&tokenizer), g, seed));
    let tokens = splits.iter().flatten().map(|w| w.tokens().len() as u64).sum();
    let golden = golden(&source)?;
    let pipeline = TextPipeline { config: config.to_hf(), length, labels: None, reference: None };
    let task = CausalTask::new(recipe, &tokenizer, splits, writer, device);
    Prepared::new(task, tokenizer, pipeline, source, tokens, golden, start)
}

/// Windows of a part; none where it has no documents.
///
/// # Errors
/// As [`TextSource::tokens`]; a text too short for a single window.
pub fn windows(
    source: &TextSource,
    part: Part,
    tokenizer: &Tokenizer,
    length: usize,
) -> Result<Option<Windows>, TrainError> {
    let (bos, eos) = if source.corpus.is_stream() { (None, None) } else { ends(tokenizer) };
    let template = source.template(tokenizer)?;
    let Some(tokens) = source.tokens(part, tokenizer, Around { bos, eos }, template.as_ref())? else {
        return Ok(None);
    };
    let pad = tokenizer.special.pad.or(tokenizer.special.eos).unwrap_or(0);
    let windows = if source.text.pack {
        Windows::packed(tokens, length, pad)
    } else {
        Windows::single(tokens, length, pad, source.text.overlong).map_err(Problems::from)?
    };
    if windows.is_empty() {
        let problem =
            Problem::new(format!("the {} split has no two tokens that follow each other", part.name()));
        return Err(TrainError::Bad(problem.help("use more text").into()));
    }
    Ok(Some(windows))
}

/// The tokens around a document: one that ends it, and one that begins it where the tokenizer puts it there itself.
fn ends(tokenizer: &Tokenizer) -> (Option<u32>, Option<u32>) {
    let special = tokenizer.special;
    let begins =
        tokenizer.encode_single("a").is_ok_and(|e| e.ids.first().copied() == special.bos && e.ids.len() > 1);
    (special.bos.filter(|_| begins), special.eos)
}
