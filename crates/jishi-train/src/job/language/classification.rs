//! `text-classification`: from a recipe to texts with labels and a model to train.

use std::path::Path;

use burn::tensor::Device;
use jishi_data::text::corpus::Part;
use jishi_data::text::documents::{Document, Target};
use jishi_data::text::labels::Labels;
use jishi_data::text::tokenizer::Tokenizer;
use jishi_models::bert::BertHead;
use jishi_models::{EncoderModel, LanguageConfig};
use jishi_recipe::Recipe;
use jishi_tasks::language::ClassificationTask;
use jishi_tasks::language::classification::LabelledTexts;
use jishi_tasks::language::texts::EncoderTokens;

use super::TextPipeline;
use super::beginning::Beginning;
use super::examples::{Made, examples, needs_documents, note};
use super::finish::{Prepared, golden};
use super::source::TextSource;
use crate::error::TrainError;

/// Reads and tokenises the texts of a recipe, and finds their labels.
///
/// # Errors
/// Everything that is wrong with the data and the model.
pub fn prepare(
    recipe: &Recipe,
    base: &Path,
    device: &Device,
) -> Result<Prepared<ClassificationTask>, TrainError> {
    let mut source = TextSource::read(recipe, base)?;
    needs_documents(&source, recipe.task.name())?;
    let labels = Labels::fit(&source.corpus, 1)?;
    let head = BertHead::Classification { classes: labels.names.len() };
    let Beginning { tokenizer, config, length, start } =
        Beginning::<EncoderModel>::encoder(recipe, &source, base, head)?;
    let mut splits = [None, None, None];
    let mut tokens = 0;
    for (split, part) in splits.iter_mut().zip(Part::ALL) {
        let Some(texts) = labelled(&mut source, part, &tokenizer, &labels, length)? else { continue };
        tokens += texts.texts.tokens() as u64;
        *split = Some(texts);
    }
    let golden = golden(&source)?;
    let task = ClassificationTask::new(recipe, &tokenizer, &labels, length, splits, device)?;
    let pipeline = TextPipeline { config: config.to_hf(), length, labels: Some(labels), reference: None };
    Prepared::new(task, tokenizer, pipeline, source, tokens, golden, start)
}

/// The texts of a part with their classes; none where there is no text. The ledger gets those that are too long.
///
/// # Errors
/// A label that is not known, with its place; a text that the tokenizer has no tokens for.
pub fn labelled(
    source: &mut TextSource,
    part: Part,
    tokenizer: &Tokenizer,
    labels: &Labels,
    length: usize,
) -> Result<Option<LabelledTexts>, TrainError> {
    let special = EncoderTokens::of(tokenizer)?;
    let none = Target::List(Vec::new());
    let (found, odd) = examples(source, part, length, |document: &Document| {
        let classes = labels.classes(document.target.as_ref().unwrap_or(&none))?;
        let (tokens, cut) = special.around(tokenizer, &document.text, length)?;
        Ok(Made::of(((tokens, classes), cut)))
    })?;
    note(source, part, &odd);
    let mut examples = LabelledTexts::default();
    for (tokens, classes) in found {
        examples.texts.push(&tokens);
        examples.classes.push(classes);
    }
    Ok((!examples.classes.is_empty()).then_some(examples))
}
