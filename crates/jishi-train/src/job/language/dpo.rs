//! `dpo`: from a recipe to pairs of answers, what the reference model says of them, and a model to train.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use jishi_data::text::corpus::Part;
use jishi_data::text::documents::{Document, Message};
use jishi_data::text::tokenizer::{SpecialSet, Tokenizer};
use jishi_models::{CausalConfig, CausalModel, LanguageConfig, ModelError};
use jishi_recipe::{Model, Problem, Recipe};
use jishi_tasks::language::dpo::AnswerPairs;
use jishi_tasks::language::writer::prompt_tokens;
use jishi_tasks::language::{DpoTask, LanguageTask, Writer};
use serde_json::{Map, Value};

use super::beginning::Beginning;
use super::examples::{Made, examples, needs_documents, note};
use super::finish::{Prepared, golden};
use super::pretrained::Pretrained;
use super::source::TextSource;
use super::{Compared, TextPipeline};
use crate::error::TrainError;
use crate::job::finish::differ;

/// Reads and tokenises the pairs of a recipe, and asks the model that training begins with for the probabilities of all
/// answers: it is the reference, and what it says does not change. A resumed run asks again and is told the same.
///
/// # Errors
/// Everything that is wrong with the data and the model.
pub fn prepare(recipe: &Recipe, base: &Path, device: &Device) -> Result<Prepared<DpoTask>, TrainError> {
    let mut source = TextSource::read(recipe, base)?;
    needs_documents(&source, recipe.task.name())?;
    let special = if source.talks() { SpecialSet::Chat } else { SpecialSet::Causal };
    let Beginning { tokenizer, config, length, start } =
        Beginning::<CausalModel>::of(recipe, &source, base, special, |_, _| None, |_| ())?;
    let writer = recipe.generate.as_ref().map(|g| Writer::new(Arc::clone(&tokenizer), g, recipe.train.seed));
    let task = DpoTask::new(recipe, &tokenizer, writer, device);
    let reference = start(device)?;
    let mut splits = [None, None, None];
    let mut tokens = 0;
    for (split, part) in splits.iter_mut().zip(Part::ALL) {
        let Some(pairs) = pairs(&mut source, part, &tokenizer, length)? else { continue };
        tokens += pairs.tokens() as u64;
        *split = Some(task.against(&reference, pairs)?);
    }
    if splits[0].is_none() {
        let problem =
            Problem::new("there is no pair to learn from: every document of the training split is left out");
        return Err(problem
            .help("give pairs of two answers that differ, and that fit into the model's context")
            .into());
    }
    let inputs = golden(&source)?;
    let compared = match place(recipe, base) {
        Some(from) => Some(Compared { from, golden: task.golden(&reference, &inputs)? }),
        None => None,
    };
    let pipeline = TextPipeline { config: config.to_hf(), length, labels: None, reference: compared };
    Prepared::new(task.with_splits(splits), tokenizer, pipeline, source, tokens, inputs, start)
}

/// The pairs of a part; none where there is no pair. The ledger gets those that are too long, or of no use.
///
/// # Errors
/// A text that the tokenizer has no tokens for, with its place.
pub fn pairs(
    source: &mut TextSource,
    part: Part,
    tokenizer: &Tokenizer,
    length: usize,
) -> Result<Option<AnswerPairs>, TrainError> {
    let template = source.template(tokenizer)?;
    let (found, odd) = examples(source, part, length, |document: &Document| {
        let Some(rejected) = &document.rejected else { return Ok(Made::Nothing("no rejected answer")) };
        // As the model will be asked.
        let asked = document.prompt.as_deref().unwrap_or_default();
        let prompt = match &template {
            Some(template) => {
                let message = Message { role: "user".into(), content: asked.into() };
                template.prompt(&[message], tokenizer)?
            }
            None => prompt_tokens(tokenizer, asked).map_err(problem)?,
        };
        if prompt.len() >= length {
            return Ok(Made::Long);
        }
        let answered = |answer: &str| {
            let mut tokens = prompt.clone();
            tokens.extend(tokenizer.encode(answer)?);
            tokens.extend(tokenizer.special.eos);
            let cut = tokens.len() > length;
            tokens.truncate(length);
            Ok::<_, Problem>((tokens, cut))
        };
        let ((chosen, cut), (rejected, also)) = (answered(&document.text)?, answered(rejected)?);
        if chosen == rejected {
            return Ok(Made::Nothing("the chosen and the rejected answer are the same"));
        }
        if prompt.len() >= chosen.len().min(rejected.len()) {
            return Ok(Made::Nothing("an answer without tokens"));
        }
        Ok(Made::of(((prompt.len(), chosen, rejected), cut || also)))
    })?;
    note(source, part, &odd);
    let mut pairs = AnswerPairs::default();
    for (prompt, chosen, rejected) in found {
        pairs.push(prompt, &chosen, &rejected);
    }
    Ok((!pairs.is_empty()).then_some(pairs))
}

/// The reference of a package, whose golden texts are `inputs`.
///
/// # Errors
/// A model that is not there any more, or not as it was: of other sizes, or damaged.
pub fn reference(
    task: &DpoTask,
    recipe: &Recipe,
    compared: Option<&Compared>,
    inputs: &[Map<String, Value>],
    device: &Device,
) -> Result<CausalModel, TrainError> {
    let (Model::Pretrained(model), Some(Compared { from, golden })) = (&recipe.model, compared) else {
        let problem = Problem::new("the package does not say which model its answers are compared with");
        return Err(problem.help("train or fetch the model again").into());
    };
    let found = Pretrained::read(from, Path::new(""), &mut |line| eprintln!("{line}"))?;
    let reference = found.begin(&CausalConfig::from_hf(&found.config)?, model, recipe.train.seed, device)?;
    let found = task.golden(&reference, inputs)?;
    if found.len() != golden.len() || found.iter().zip(golden).any(|(f, g)| differ(f, g)) {
        let problem =
            Problem::new("the model that answers are compared with has changed since this one was trained");
        return Err(problem.file(from).help("put back the one that was there, or train again").into());
    }
    Ok(reference)
}

/// Where the reference is, seen from where the program runs rather than from the recipe, which a package is without.
fn place(recipe: &Recipe, base: &Path) -> Option<String> {
    let Model::Pretrained(model) = &recipe.model else { return None };
    let elsewhere = model.from.starts_with("hf:") || model.from.starts_with("package:");
    Some(if elsewhere { model.from.clone() } else { base.join(&model.from).to_string_lossy().into_owned() })
}

fn problem(error: ModelError) -> Problem {
    match error {
        ModelError::Bad(mut problems) if !problems.0.is_empty() => problems.0.swap_remove(0),
        other => Problem::new(other.to_string()),
    }
}
