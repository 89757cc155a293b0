//! `text-embedding`: from a recipe to pairs of texts and a model to train.

use std::path::Path;

use burn::tensor::Device;
use jishi_data::text::corpus::Part;
use jishi_data::text::documents::{Document, Target};
use jishi_data::text::tokenizer::Tokenizer;
use jishi_data::write::Values;
use jishi_models::bert::BertHead;
use jishi_recipe::{Problem, Recipe};
use jishi_tasks::language::EmbeddingTask;
use jishi_tasks::language::embedding::PairedTexts;
use jishi_tasks::language::texts::EncoderTokens;

use super::TextPipeline;
use super::encoder::{Beginning, Long, encode, needs_documents, note};
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
        Beginning::of(recipe, &source, base, BertHead::Embedding)?;
    let mut splits = [None, None, None];
    let mut tokens = 0;
    for (split, part) in splits.iter_mut().zip(Part::ALL) {
        let Some((pairs, long)) = examples(&source, part, &tokenizer, length)? else { continue };
        note(&mut source, part, length, &long);
        tokens += (pairs.first.tokens() + pairs.second.tokens()) as u64;
        *split = Some(pairs);
    }
    let golden = golden(&source)?;
    let pipeline = TextPipeline { config: config.to_hf(), length, labels: None };
    let task = EmbeddingTask::new(recipe, &tokenizer, length, splits, device)?;
    Prepared::new(task, tokenizer, pipeline, source, tokens, golden, start)
}

/// The pairs of a part, and those of which a text is too long; none where there is no pair.
///
/// # Errors
/// A second text that is empty or a list, with its place; a text that the tokenizer has no tokens for.
pub fn examples(
    source: &TextSource,
    part: Part,
    tokenizer: &Tokenizer,
    length: usize,
) -> Result<Option<(PairedTexts, Vec<Long>)>, TrainError> {
    let special = EncoderTokens::of(tokenizer)?;
    let (found, long) = encode(source, part, length, |document: &Document| {
        let second = match &document.target {
            Some(Target::Text(text)) if !text.trim().is_empty() => text,
            Some(Target::List(_)) => {
                return Err(Problem::new("expected a text in `data.target`, found a list")
                    .help("name a column of texts"));
            }
            _ => return Err(Problem::new("the second text of this pair is empty").help("fill it in")),
        };
        let (first, cut) = special.around(tokenizer, &document.text, length)?;
        let (second, also) = special.around(tokenizer, second, length)?;
        Ok(((first, second), cut || also))
    })?;
    let mut pairs = PairedTexts::default();
    for (first, second) in found {
        pairs.first.push(&first);
        pairs.second.push(&second);
    }
    Ok((!pairs.first.is_empty()).then_some((pairs, long)))
}

/// Vectors as a column of a file.
#[must_use]
pub fn columns(values: &[f32], width: usize) -> Vec<(String, Values)> {
    let vectors = values.chunks_exact(width.max(1)).map(|v| v.iter().map(|x| f64::from(*x)).collect());
    vec![("embedding".to_owned(), Values::Vectors(vectors.collect()))]
}
