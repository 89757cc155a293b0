//! `translation`: from a recipe to pairs of texts and a model to train.

use std::path::Path;

use burn::tensor::Device;
use jishi_data::text::corpus::Part;
use jishi_data::text::documents::Document;
use jishi_data::text::tokenizer::{SpecialSet, Tokenizer};
use jishi_data::write::Values;
use jishi_models::{EncoderDecoderConfig, Seq2SeqModel};
use jishi_recipe::{Model, Recipe};
use jishi_tasks::language::TranslationTask;
use jishi_tasks::language::translation::{TextPairs, special_tokens};

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
pub fn prepare(
    recipe: &Recipe,
    base: &Path,
    device: &Device,
) -> Result<Prepared<TranslationTask>, TrainError> {
    let mut source = TextSource::read(recipe, base)?;
    needs_documents(&source, recipe.task.name())?;
    let sizes = |model: &Model, tokenizer: &Tokenizer| match model {
        Model::EncoderDecoder(model) => {
            let special = special_tokens(tokenizer);
            Some(special.map_err(Into::into).and_then(|special| {
                EncoderDecoderConfig::from_recipe(model, tokenizer.vocabulary(), special)
            }))
        }
        _ => None,
    };
    let Beginning { tokenizer, config, length, start } =
        Beginning::<Seq2SeqModel>::of(recipe, &source, base, SpecialSet::Translation, sizes, |_| ())?;
    let mut splits = [None, None, None];
    let mut tokens = 0;
    for (split, part) in splits.iter_mut().zip(Part::ALL) {
        let scored = part != Part::Train;
        let Some(pairs) = pairs(&mut source, part, &tokenizer, length, scored)? else { continue };
        tokens += pairs.tokens() as u64;
        *split = Some(pairs);
    }
    let golden = golden(&source)?;
    let special = [config.start, config.end, config.pad];
    let pipeline = TextPipeline { config: config.to_hf(), length, labels: None, reference: None };
    let task = TranslationTask::new(recipe, &tokenizer, special, length, splits, device);
    Prepared::new(task, tokenizer, pipeline, source, tokens, golden, start)
}

/// Pairs of a part, each text cut at `length` tokens with the one that ends it; none where there is no pair. The ledger
/// gets those of which a text is too long or missing. `scored`: translations will be compared with the targets.
///
/// # Errors
/// A target that is a list, with its place; a text that the tokenizer has no tokens for.
pub fn pairs(
    source: &mut TextSource,
    part: Part,
    tokenizer: &Tokenizer,
    length: usize,
    scored: bool,
) -> Result<Option<TextPairs>, TrainError> {
    let [_, end, _] = special_tokens(tokenizer)?;
    let ended = |text: &str| {
        let mut tokens = tokenizer.encode(text)?;
        let cut = tokens.len() + 1 > length;
        tokens.truncate(length.saturating_sub(1));
        tokens.push(end);
        Ok::<_, jishi_recipe::Problem>((tokens, cut))
    };
    let (found, odd) = examples(source, part, length, |document: &Document| {
        let Some(target) = target_text(document)? else { return Ok(Made::Nothing("empty target")) };
        let (first, cut) = ended(&document.text)?;
        let (second, also) = ended(target)?;
        let reference = scored.then(|| target.to_owned());
        Ok(Made::of(((first, second, reference), cut || also)))
    })?;
    note(source, part, &odd);
    let mut pairs = TextPairs::default();
    for (first, second, reference) in found {
        pairs.push(&first, &second, reference.as_deref());
    }
    Ok((!pairs.is_empty()).then_some(pairs))
}

/// Translations as a column of a file.
#[must_use]
pub fn columns(written: Vec<String>) -> Vec<(String, Values)> {
    vec![("prediction".to_owned(), Values::Words(written))]
}
