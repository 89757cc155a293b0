//! From documents to examples of a task, and what becomes of those that are none.

use std::path::{Path, PathBuf};

use jishi_data::text::corpus::Part;
use jishi_data::text::documents::{Columns, Document, Documents, Target};
use jishi_data::{Action, ReadOptions, Source};
use jishi_recipe::{DocumentUnit, Overlong, Problem, Recipe};
use rayon::prelude::*;

use super::source::TextSource;
use crate::error::TrainError;

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

/// What a task makes of a document.
pub enum Made<T> {
    /// An example.
    Whole(T),
    /// An example of a document that is longer than fits, without its end.
    Cut(T),
    /// A document that is longer than fits, and whose beginning alone is no example.
    Long,
    /// Nothing, for this reason.
    Nothing(&'static str),
}

impl<T> Made<T> {
    /// An example, and whether it has lost its end.
    pub fn of((example, cut): (T, bool)) -> Self {
        if cut { Self::Cut(example) } else { Self::Whole(example) }
    }
}

/// A document that is not used as it is.
pub struct Odd {
    file: PathBuf,
    line: u64,
    action: Action,
    reason: String,
}

/// The examples of a part, in the order of its documents, and the documents that are not used as they are: longer than
/// `length` tokens, or of no use.
///
/// # Errors
/// Those of `make`, with the document's place; a document that is too long where the recipe asks to stop.
pub fn examples<T: Send>(
    source: &TextSource,
    part: Part,
    length: usize,
    make: impl Fn(&Document) -> Result<Made<T>, Problem> + Sync,
) -> Result<(Vec<T>, Vec<Odd>), TrainError> {
    let (mut found, mut odd) = (Vec::new(), Vec::new());
    let mut documents = source.corpus.documents(part)?;
    while let Some(batch) = documents.next() {
        let batch = batch?;
        let made: Vec<_> = batch.par_iter().map(&make).collect();
        for (document, made) in batch.iter().zip(made) {
            let file = &documents.files()[document.file];
            let about = |action, reason| Odd { file: file.clone(), line: document.line, action, reason };
            let long = || format!("more than {length} tokens");
            match made.map_err(|p| p.file(file).line(document.line))? {
                Made::Whole(example) => found.push(example),
                Made::Nothing(reason) => odd.push(about(Action::Dropped, reason.to_owned())),
                made @ (Made::Cut(_) | Made::Long) => match source.text.overlong {
                    Overlong::Error => {
                        let problem = Problem::new(format!("this document has {}", long()));
                        let problem = problem.file(file).line(document.line);
                        let help = "shorten it, raise `text.max_length`, or set `text.overlong` to \"truncate\" or \"drop\"";
                        return Err(problem.help(help).into());
                    }
                    Overlong::Drop => odd.push(about(Action::Dropped, long())),
                    Overlong::Truncate => match made {
                        Made::Cut(example) => {
                            odd.push(about(Action::Changed, long() + ": lost its end"));
                            found.push(example);
                        }
                        _ => odd.push(about(Action::Dropped, long() + " before its answer")),
                    },
                },
            }
        }
    }
    Ok((found, odd))
}

/// Puts documents that are not used as they are into the ledger.
pub fn note(source: &mut TextSource, part: Part, odd: &[Odd]) {
    let column = source.text.column.clone();
    let ledger = &mut source.corpus.ledger;
    for Odd { file, line, action, reason } in odd {
        if *action == Action::Dropped {
            ledger.drop_used(reason, Some(&column), part.name(), file, *line);
        } else {
            let entry = ledger.entry(*action, reason, Some(&column), Some(part.name()), file);
            ledger.push(entry, *line);
        }
    }
}

/// The target of a document, where it is one text that is not blank.
///
/// # Errors
/// A list.
pub fn target_text(document: &Document) -> Result<Option<&str>, Problem> {
    match &document.target {
        Some(Target::Text(text)) => Ok(Some(text.as_str()).filter(|t| !t.trim().is_empty())),
        Some(Target::List(_)) => {
            Err(Problem::new("expected a text in `data.target`, found a list").help("name a column of texts"))
        }
        None => Ok(None),
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
            // What is written for nothing is nothing; what would be predicted for it is unclear.
            if document.text.trim().is_empty() && !recipe.task.writes_text() {
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
