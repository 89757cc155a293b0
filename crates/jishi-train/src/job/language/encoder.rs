//! What tasks on encoders have in common: the model to begin with, and texts as its tokens.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use jishi_data::text::corpus::Part;
use jishi_data::text::documents::{Columns, Document, Documents};
use jishi_data::text::tokenizer::{SpecialSet, Tokenizer};
use jishi_data::{Action, ReadOptions, Source};
use jishi_models::bert::{BertConfig, BertHead};
use jishi_models::language::{EncoderConfig, EncoderModel};
use jishi_recipe::{DocumentUnit, Model, Overlong, Problem, Recipe};

use super::finish::Start;
use super::source::TextSource;
use crate::error::TrainError;

/// What training begins with: a tokenizer, and a model that may be new or trained before.
pub struct Beginning {
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Its sizes, with the head of the task.
    pub config: EncoderConfig,
    /// Tokens of an example at most.
    pub length: usize,
    /// Makes the model.
    pub start: Start<EncoderModel>,
}

impl Beginning {
    /// That of a recipe. The one place that knows where encoders come from.
    ///
    /// # Errors
    /// A family that is no encoder; sizes that make no model; a `text.max_length` beyond the context.
    pub fn of(recipe: &Recipe, source: &TextSource, base: &Path, head: BertHead) -> Result<Self, TrainError> {
        let Model::Bert(model) = &recipe.model else {
            let family = recipe.model.family();
            let problem =
                Problem::new(format!("a model of family `{family}` can't be trained for this task"));
            return Err(problem.help("the family that can: bert").into());
        };
        let tokenizer = Arc::new(source.tokenizer(recipe, SpecialSet::Encoder, base)?);
        let config = EncoderConfig::Bert(BertConfig::from_recipe(model, tokenizer.vocabulary(), head)?);
        let length = source.text.max_length.unwrap_or(config.context());
        if length > config.context() {
            let message =
                format!("`text.max_length` is {length}, and the model's context {}", config.context());
            return Err(Problem::new(message).help("make it smaller, or leave it out").into());
        }
        let (sizes, seed) = (config.clone(), recipe.train.seed);
        let start = move |device: &Device| Ok(EncoderModel::init(&sizes, seed, device));
        Ok(Self { tokenizer, config, length, start: Box::new(start) })
    }
}

/// Refuses one running text, where a task needs documents.
///
/// # Errors
/// One running text.
pub fn needs_documents(source: &TextSource, task: &str) -> Result<(), TrainError> {
    if !source.corpus.is_stream() {
        return Ok(());
    }
    let problem = Problem::new(format!("{task} needs documents, and the files are one running text"));
    Err(problem.help("read CSV, JSONL or Parquet files, or set `text.document`").into())
}

/// A document that is longer than fits.
pub struct Long {
    file: PathBuf,
    line: u64,
}

/// What is made of the documents of a part, and those that are too long. `encode` gives a document and whether it has
/// lost its end; a document that is too long and that the recipe drops is left out.
///
/// # Errors
/// Those of `encode`, with the document's place; a document that is too long where the recipe asks to stop.
pub fn encode<T>(
    source: &TextSource,
    part: Part,
    length: usize,
    encode: impl Fn(&Document) -> Result<(T, bool), Problem>,
) -> Result<(Vec<T>, Vec<Long>), TrainError> {
    let mut found = Vec::new();
    let mut long = Vec::new();
    let mut documents = source.corpus.documents(part)?;
    while let Some(batch) = documents.next() {
        for document in batch? {
            let file = &documents.files()[document.file];
            let (example, cut) = encode(&document).map_err(|p| p.file(file).line(document.line))?;
            if cut {
                if source.text.overlong == Overlong::Error {
                    let problem = Problem::new(format!("this document has more than {length} tokens"));
                    let problem = problem.file(file).line(document.line);
                    let help = "shorten it, raise `text.max_length`, or set `text.overlong` to \"truncate\" or \"drop\"";
                    return Err(problem.help(help).into());
                }
                long.push(Long { file: file.clone(), line: document.line });
                if source.text.overlong == Overlong::Drop {
                    continue;
                }
            }
            found.push(example);
        }
    }
    Ok((found, long))
}

/// Puts documents that are too long into the ledger.
pub fn note(source: &mut TextSource, part: Part, length: usize, long: &[Long]) {
    let column = source.text.column.clone();
    let ledger = &mut source.corpus.ledger;
    let reason = format!("more than {length} tokens");
    for Long { file, line } in long {
        if source.text.overlong == Overlong::Drop {
            ledger.drop_used(&reason, Some(&column), part.name(), file, *line);
        } else {
            let entry = ledger.entry(
                Action::Changed,
                &format!("{reason}: lost its end"),
                Some(&column),
                Some(part.name()),
                file,
            );
            ledger.push(entry, *line);
        }
    }
}

/// The texts of a file to predict, in order. A plain text file has one a line, where the recipe has a running text.
///
/// # Errors
/// A file that can't be read; a column that is missing; rows without text.
pub fn texts(recipe: &Recipe, file: &Path) -> Result<Vec<String>, TrainError> {
    let text = recipe.text.clone().unwrap_or_default();
    let unit = if text.document == DocumentUnit::Stream { DocumentUnit::Line } else { text.document };
    let mut options = ReadOptions::from_recipe(&recipe.data)?;
    // The file to predict may be of another format than that of training.
    options.format = jishi_recipe::Format::Auto;
    let columns = Columns::of(&text, None, None);
    let mut documents = Documents::open(&[Source::File(file.to_owned())], &options, &columns, unit)?;
    let mut texts = Vec::new();
    while let Some(batch) = documents.next_batch()? {
        for document in batch {
            if document.text.trim().is_empty() {
                let problem = Problem::new("this row has no text").file(file).line(document.line);
                return Err(problem.help("fill it in, or leave the row out").into());
            }
            texts.push(document.text);
        }
    }
    if let Some(bad) = documents.bad.first() {
        return Err(Problem::new(bad.message.clone()).file(file).line(bad.line).into());
    }
    if texts.is_empty() {
        return Err(Problem::new("there is no text to predict").file(file).into());
    }
    Ok(texts)
}
