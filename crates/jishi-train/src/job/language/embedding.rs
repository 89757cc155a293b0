//! `text-embedding`: from a recipe to pairs of texts and a model to train.

use std::path::Path;

use burn::tensor::Device;
use jishi_data::text::corpus::Part;
use jishi_data::text::documents::Document;
use jishi_data::text::tokenizer::Tokenizer;
use jishi_data::write::Values;
use jishi_models::bert::BertHead;
use jishi_models::{EncoderModel, LanguageConfig};
use jishi_recipe::Recipe;
use jishi_tasks::language::EmbeddingTask;
use jishi_tasks::language::embedding::PairedTexts;
use jishi_tasks::language::texts::EncoderTokens;

use super::TextPipeline;
use super::beginning::Beginning;
use super::examples::{Made, examples, needs_documents, note, target_text};
use super::finish::{Prepared, golden};
use super::source::TextSource;
use crate::error::TrainError;

/// Reads and tokenises the pairs of a recipe.
///
/// # Errors
/// Everything that is wrong with the data and the model.
pub fn prepare(recipe: &Recipe, base: &Path, device: &Device) -> Result<Prepared<EmbeddingTask>, TrainError> {
    let mut source = TextSource::read(recipe, base)?;
    needs_documents(&source, recipe.task.name())?;
    let Beginning { tokenizer, config, length, start } =
        Beginning::<EncoderModel>::encoder(recipe, &source, base, BertHead::Embedding)?;
    let mut splits = [None, None, None];
    let mut tokens = 0;
    for (split, part) in splits.iter_mut().zip(Part::ALL) {
        let Some(pairs) = pairs(&mut source, part, &tokenizer, length)? else { continue };
        tokens += (pairs.first.tokens() + pairs.second.tokens()) as u64;
        *split = Some(pairs);
    }
    let golden = golden(&source)?;
    let pipeline = TextPipeline { config: config.to_hf(), length, labels: None, reference: None };
    let task = EmbeddingTask::new(recipe, &tokenizer, length, splits, device)?;
    Prepared::new(task, tokenizer, pipeline, source, tokens, golden, start)
}

/// The pairs of a part; none where there is no pair. The ledger gets those of which a text is too long or missing.
///
/// # Errors
/// A second text that is a list, with its place; a text that the tokenizer has no tokens for.
pub fn pairs(
    source: &mut TextSource,
    part: Part,
    tokenizer: &Tokenizer,
    length: usize,
) -> Result<Option<PairedTexts>, TrainError> {
    let special = EncoderTokens::of(tokenizer)?;
    let (found, odd) = examples(source, part, length, |document: &Document| {
        let Some(second) = target_text(document)? else { return Ok(Made::Nothing("empty target")) };
        let (first, cut) = special.around(tokenizer, &document.text, length)?;
        let (second, also) = special.around(tokenizer, second, length)?;
        Ok(Made::of(((first, second), cut || also)))
    })?;
    note(source, part, &odd);
    let mut pairs = PairedTexts::default();
    for (first, second) in found {
        pairs.first.push(&first);
        pairs.second.push(&second);
    }
    Ok((!pairs.first.is_empty()).then_some(pairs))
}

/// Vectors as a column of a file.
#[must_use]
pub fn columns(values: &[f32], width: usize) -> Vec<(String, Values)> {
    let vectors = values.chunks_exact(width.max(1)).map(|v| v.iter().map(|x| f64::from(*x)).collect());
    vec![("embedding".to_owned(), Values::Vectors(vectors.collect()))]
}
