//! `masked-lm`: from a recipe to windows of tokens and a model to train, and texts with a gap.

use std::path::Path;

use burn::tensor::Device;
use jishi_data::text::corpus::Part;
use jishi_data::text::documents::Document;
use jishi_data::text::tokenizer::Tokenizer;
use jishi_data::write::Values;
use jishi_models::bert::BertHead;
use jishi_models::{EncoderModel, LanguageConfig};
use jishi_recipe::{Problem, Recipe};
use jishi_tasks::language::MaskedTask;
use jishi_tasks::language::texts::{EncoderTokens, Texts};

use super::TextPipeline;
use super::beginning::Beginning;
use super::examples::{Made, examples, note};
use super::finish::{Prepared, golden};
use super::source::TextSource;
use crate::error::TrainError;

/// Tokens that are shown for a gap.
const SHOWN: usize = 5;

/// Reads, tokenises and cuts the text of a recipe.
///
/// # Errors
/// Everything that is wrong with the data and the model.
pub fn prepare(recipe: &Recipe, base: &Path, device: &Device) -> Result<Prepared<MaskedTask>, TrainError> {
    let mut source = TextSource::read(recipe, base)?;
    let Beginning { tokenizer, config, length, start } =
        Beginning::<EncoderModel>::encoder(recipe, &source, base, BertHead::MaskedLm)?;
    if length < 3 {
        let problem =
            Problem::new(format!("{length} tokens have no room for one between `[CLS]` and `[SEP]`"));
        return Err(problem.help("raise `model.context` or `text.max_length`").into());
    }
    let mut splits = [None, None, None];
    let mut tokens = 0;
    for (split, part) in splits.iter_mut().zip(Part::ALL) {
        let Some(texts) = windows(&mut source, part, &tokenizer, length)? else { continue };
        tokens += texts.tokens() as u64;
        *split = Some(texts);
    }
    let golden = golden(&source)?;
    let pipeline = TextPipeline { config: config.to_hf(), length, labels: None, reference: None };
    let task = MaskedTask::new(recipe, &tokenizer, length, splits, device)?;
    Prepared::new(task, tokenizer, pipeline, source, tokens, golden, start)
}

/// Windows of a part, `[CLS] … [SEP]`: documents after each other with `[SEP]` between them, or one document each;
/// none where the part has no documents. The ledger gets those that are too long.
///
/// # Errors
/// A text that the tokenizer has no tokens for.
pub fn windows(
    source: &mut TextSource,
    part: Part,
    tokenizer: &Tokenizer,
    length: usize,
) -> Result<Option<Texts>, TrainError> {
    if source.corpus.count(part) == 0 {
        return Ok(None);
    }
    let special = EncoderTokens::of(tokenizer)?;
    let mut windows = Texts::default();
    if !source.text.pack && !source.corpus.is_stream() {
        let around = |document: &Document| special.around(tokenizer, &document.text, length).map(Made::of);
        let (found, odd) = examples(source, part, length, around)?;
        note(source, part, &odd);
        found.iter().for_each(|tokens| windows.push(tokens));
        return Ok((!windows.is_empty()).then_some(windows));
    }
    let (found, _) = examples(source, part, length, |document| {
        Ok(Made::Whole((tokenizer.encode(&document.text)?, document.continues)))
    })?;
    let mut window = vec![special.cls];
    let mut close = |window: &mut Vec<u32>| {
        if window.len() > 1 {
            window.push(special.sep);
            windows.push(window);
        }
        window.truncate(1);
    };
    for (tokens, continues) in found {
        // The window's last place is for the token that ends it.
        if !continues && window.len() > 1 && window.len() + 1 < length {
            window.push(special.sep);
        }
        for token in tokens {
            if window.len() + 1 == length {
                close(&mut window);
            }
            window.push(token);
        }
    }
    close(&mut window);
    Ok((!windows.is_empty()).then_some(windows))
}

/// What fits into the gaps of texts, a row a gap: the text's number and the gap's, from 1, the text with the most likely
/// token in every gap, and the most likely tokens with their probabilities.
///
/// # Errors
/// A text without a gap, or of more tokens than fit, with its number.
pub fn columns(
    task: &MaskedTask,
    model: &EncoderModel,
    tokenizer: &Tokenizer,
    texts: &[String],
) -> Result<Vec<(String, Values)>, TrainError> {
    let mask = tokenizer.special.mask.and_then(|id| tokenizer.token(id)).unwrap_or_default();
    let (mut rows, mut gaps, mut filled) = (Vec::new(), Vec::new(), Vec::new());
    let (mut tokens, mut probabilities) = (vec![Vec::new(); SHOWN], vec![Vec::new(); SHOWN]);
    for (number, text) in texts.iter().enumerate() {
        let found = task
            .fill(model, text, SHOWN)
            .map_err(|error| TrainError::from(Problem::new(format!("text {}: {error}", number + 1))))?;
        let word = |id: u32| tokenizer.decode(&[id]).trim().trim_start_matches("##").to_owned();
        let mut whole = text.clone();
        for gap in &found {
            whole = whole.replacen(&mask, &word(gap[0].0), 1);
        }
        for (gap, likely) in found.iter().enumerate() {
            rows.push((number + 1) as f64);
            gaps.push((gap + 1) as f64);
            filled.push(whole.clone());
            for place in 0..SHOWN {
                let (id, probability) = likely.get(place).copied().unzip();
                tokens[place].push(id.map(word).unwrap_or_default());
                probabilities[place].push(probability.unwrap_or(f64::NAN));
            }
        }
    }
    let mut columns = vec![
        ("text".to_owned(), Values::Numbers(rows)),
        ("gap".to_owned(), Values::Numbers(gaps)),
        ("prediction".to_owned(), Values::Words(filled)),
    ];
    for (place, (tokens, probabilities)) in tokens.into_iter().zip(probabilities).enumerate() {
        columns.push((format!("token_{}", place + 1), Values::Words(tokens)));
        columns.push((format!("probability_{}", place + 1), Values::Numbers(probabilities)));
    }
    Ok(columns)
}
