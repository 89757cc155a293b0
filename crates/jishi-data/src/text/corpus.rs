//! The documents that a recipe means: read once to check, count and split them, and then again, split by split.

mod part;

use jishi_recipe::{BadRows, Deduplicate, Problem, Problems, Split, SplitBy, Text};

pub use self::part::PartDocuments;
use super::cache::CacheKey;
use super::dedupe::Seen;
use super::documents::{BadRow, Columns, Document, Documents, Target};
use super::statistics::{Counter, Statistics};
use super::tokenizer::Tokenizer;
use crate::error::DataError;
use crate::ledger::{Action, Ledger};
use crate::source::{ReadOptions, Source};
use crate::split::split_documents;

/// Problems of rows that are shown one by one.
const SHOWN: usize = 20;

/// A split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// To learn from.
    Train,
    /// To watch while learning.
    Validation,
    /// To test on at the end.
    Test,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// Its name in the ledger.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// What is read, and how.
#[derive(Debug, Clone)]
pub struct CorpusOptions {
    /// How files are read.
    pub read: ReadOptions,
    /// What of them is text.
    pub text: Text,
    /// Column of labels or of translations.
    pub target: Option<String>,
    /// How documents are split. A running text is cut in three pieces in order, whatever `by` says.
    pub split: Split,
}

/// Documents that were checked and split. What is in memory is a byte a document; the documents are read again.
#[derive(Debug)]
pub struct Corpus {
    sources: Vec<Source>,
    options: CorpusOptions,
    columns: Columns,
    assignment: Assignment,
    /// What became of every document.
    pub ledger: Ledger,
    /// Figures of the documents that are used.
    pub statistics: Statistics,
}

#[derive(Debug)]
enum Assignment {
    /// The part of every document in the order of the input; `None`: dropped.
    Documents(Vec<Option<Part>>),
    /// Characters of a running text where the parts end.
    Stream([u64; 3]),
}

impl Corpus {
    /// Reads all documents once.
    ///
    /// # Errors
    /// What is wrong with the files; no document that can be used; a split that would be empty.
    pub fn open(sources: &[Source], options: CorpusOptions) -> Result<Self, DataError> {
        let split = &options.split;
        if split.folds.is_some() {
            return Err(Problem::new("documents can't be split into folds")
                .help("leave out `data.split.folds`")
                .into());
        }
        let by_column = matches!(split.by, SplitBy::Group | SplitBy::Time | SplitBy::Column);
        let column = if by_column { split.column.as_deref() } else { None };
        let columns = Columns::of(&options.text, options.target.as_deref(), column);
        let documents = Documents::open(sources, &options.read, &columns, options.text.document)?;
        let new = Self {
            sources: sources.to_vec(),
            assignment: Assignment::Documents(Vec::new()),
            ledger: Ledger::default(),
            statistics: Statistics::default(),
            columns,
            options,
        };
        if documents.is_stream() { new.stream(documents) } else { new.documents_once(documents) }
    }

    fn stream(mut self, mut documents: Documents) -> Result<Self, DataError> {
        if self.options.text.deduplicate != Deduplicate::None {
            return Err(Problem::new("a running text has no documents to deduplicate")
                .help("set `data.text.document` to \"file\", \"paragraph\" or \"line\"")
                .into());
        }
        let mut counter = Counter::default();
        let mut total = 0;
        let mut blank = true;
        while let Some(pieces) = documents.next_batch()? {
            for piece in pieces {
                total += counter.push([piece.text.as_str()].into_iter(), piece.continues);
                blank &= piece.text.trim().is_empty();
            }
        }
        if blank {
            return Err(no_text(&documents.files, "they are empty").into());
        }
        let split = &self.options.split;
        for (share, name) in [(split.validation, "validation"), (split.test, "test")] {
            if !(0.0..1.0).contains(&share) {
                let message = format!("the {name} share is {share}, but it must be at least 0 and below 1");
                return Err(Problem::new(message).into());
            }
        }
        // As nanoGPT cuts: the training part is rounded down.
        let until = |share: f64| ((total as f64 * share) as u64).min(total);
        let ends = [until(1.0 - split.validation - split.test), until(1.0 - split.test), total];
        let sizes = [ends[0], ends[1].saturating_sub(ends[0]), total - ends[1]];
        for (part, (size, share)) in
            Part::ALL.into_iter().zip(sizes.into_iter().zip([1.0, split.validation, split.test]))
        {
            if size == 0 && share > 0.0 {
                return Err(Problem::new(format!(
                    "the {} split would be empty: the text has {total} characters",
                    part.name()
                ))
                .help("use more text, or change the shares of `validation` and `test`")
                .into());
            }
        }
        self.ledger.rows_read = documents.files.len() as u64;
        for file in &documents.files {
            let entry = self.ledger.entry(Action::Used, "one running text", None, None, file);
            self.ledger.push(entry, 1);
        }
        self.statistics = counter.finish();
        self.statistics.splits =
            Part::ALL.iter().zip(sizes).map(|(p, n)| (p.name().to_owned(), u64::from(n > 0))).collect();
        self.assignment = Assignment::Stream(ends);
        Ok(self)
    }

    fn documents_once(mut self, mut documents: Documents) -> Result<Self, DataError> {
        let split = self.options.split.clone();
        let mut seen = Seen::new(self.options.text.deduplicate);
        let mut counter = Counter::default();
        let mut parts: Vec<Option<Part>> = Vec::new();
        let mut places: Vec<(u32, u64)> = Vec::new();
        let mut used: Vec<usize> = Vec::new();
        let mut keys: Vec<Option<String>> = Vec::new();
        while let Some(batch) = documents.next_batch()? {
            let first = parts.len();
            self.ledger.rows_read += batch.len() as u64;
            parts.resize(first + batch.len(), None);
            let mut good = Vec::with_capacity(batch.len());
            let mut numbers = Vec::with_capacity(batch.len());
            for (document, number) in batch.into_iter().zip(first..) {
                match self.why_not(&document) {
                    Some(reason) => {
                        let file = &documents.files[document.file];
                        self.ledger.drop_row(reason, None, file, document.line);
                    }
                    None => {
                        good.push(document);
                        numbers.push(number);
                    }
                }
            }
            let again = seen.check(&good);
            for ((document, number), again) in good.into_iter().zip(numbers).zip(again) {
                if again {
                    let file = &documents.files[document.file];
                    self.ledger.drop_row(seen.reason(), None, file, document.line);
                    continue;
                }
                counter.push(texts_of(&document), false);
                places.push((document.file as u32, document.line));
                used.push(number);
                match split.by {
                    SplitBy::Random => {}
                    SplitBy::Stratified => keys.push(document.target.map(|t| match t {
                        Target::Text(text) => text,
                        Target::List(list) => list.join("|"),
                    })),
                    _ => keys.push(document.split),
                }
            }
        }
        self.bad_rows(&documents)?;
        if used.is_empty() {
            let why = match self.ledger.rows_read {
                0 => "there are no documents".to_owned(),
                n => format!("all {n} documents were dropped, most because: {}", self.main_reason()),
            };
            return Err(no_text(&documents.files, &why).into());
        }
        let place = |i: usize, problem: Problem| {
            let (file, line) = places[i];
            problem.file(&documents.files[file as usize]).line(line)
        };
        let splits = split_documents(&split, used.len(), &keys, place)?;
        let mut part_of: Vec<Part> = vec![Part::Train; used.len()];
        for (part, rows) in [(Part::Validation, &splits.validation), (Part::Test, &splits.test)] {
            rows.iter().for_each(|&i| part_of[i as usize] = part);
        }
        self.statistics = counter.finish();
        let mut open: [Option<(u32, usize)>; 3] = [None; 3];
        for ((&number, &part), &(file, line)) in used.iter().zip(&part_of).zip(&places) {
            parts[number] = Some(part);
            let entry = match open[part as usize] {
                Some((of, entry)) if of == file => entry,
                _ => {
                    let path = &documents.files[file as usize];
                    self.ledger.entry(Action::Used, "split", None, Some(part.name()), path)
                }
            };
            open[part as usize] = Some((file, entry));
            self.ledger.push(entry, line);
            *self.statistics.splits.entry(part.name().into()).or_default() += 1;
        }
        self.assignment = Assignment::Documents(parts);
        Ok(self)
    }

    /// Why a document can't be used.
    fn why_not(&self, document: &Document) -> Option<&'static str> {
        let text = &self.options.text;
        if text.messages.is_some() {
            if !document.messages.iter().any(|m| m.role == "assistant" && !m.content.trim().is_empty()) {
                return Some("no answer of an assistant");
            }
        } else if document.text.trim().is_empty() {
            return Some("empty");
        }
        if text.rejected.is_some() && document.rejected.as_ref().is_none_or(|t| t.trim().is_empty()) {
            return Some("no rejected answer");
        }
        if self.options.target.is_some() && document.target.is_none() {
            return Some("no target");
        }
        // Of what is learned: a label or a prompt makes no text longer.
        let learned = document.messages.iter().map(|m| &m.content).chain([&document.text]);
        let characters: usize = learned.map(|text| text.chars().count()).sum();
        (characters < text.min_characters).then_some("fewer characters than `min_characters`")
    }

    /// Rows that can't be read: an error, or dropped.
    fn bad_rows(&mut self, documents: &Documents) -> Result<(), Problems> {
        let path = |bad: &BadRow| &documents.files[bad.file];
        self.ledger.rows_read += documents.bad.len() as u64;
        if self.options.read.bad_rows == BadRows::Drop {
            documents.bad.iter().for_each(|bad| self.ledger.drop_row(bad.reason, None, path(bad), bad.line));
            return Ok(());
        }
        let shown = documents.bad.iter().take(SHOWN);
        let mut problems: Vec<Problem> =
            shown.map(|bad| Problem::new(bad.message.clone()).file(path(bad)).line(bad.line)).collect();
        if !problems.is_empty() {
            problems.push(
                Problem::new(format!("{} of {} rows can't be read", documents.bad.len(), self.ledger.rows_read))
                    .help("correct them, or set `bad_rows = \"drop\"` in `[data]` to leave them out and have them listed in the ledger"),
            );
        }
        Problems(problems).into_result()
    }

    fn main_reason(&self) -> String {
        let reasons = self.ledger.summary().drop_reasons;
        reasons.into_iter().max_by_key(|(_, n)| *n).map(|(reason, _)| reason).unwrap_or_default()
    }

    /// Whether it is one running text.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        matches!(self.assignment, Assignment::Stream(_))
    }

    /// Number of documents of a part; a running text is one.
    #[must_use]
    pub fn count(&self, part: Part) -> usize {
        self.statistics.splits.get(part.name()).map_or(0, |&n| n as usize)
    }

    /// The options that it was opened with.
    #[must_use]
    pub fn options(&self) -> &CorpusOptions {
        &self.options
    }

    /// The sources that it reads.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The key of a part's tokens: of the files' content, the options, the split and the tokenizer. `more`: what else
    /// the tokens depend on, such as the source of a chat template.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn cache_key(&self, part: Part, tokenizer: &Tokenizer, more: &[u8]) -> Result<CacheKey, DataError> {
        let CorpusOptions { read, text, target, split } = &self.options;
        let options = serde_json::json!({
            "format": read.format, "delimiter": read.delimiter, "bad_rows": read.bad_rows,
            "text": text, "target": target, "split": split, "part": part.name(),
        });
        CacheKey::of(&self.sources, &[options.to_string().as_bytes(), &tokenizer.to_json(), more])
    }

    /// Reads the documents of a part, in the order of the input, in batches.
    ///
    /// # Errors
    /// As [`Documents::open`].
    pub fn documents(&self, part: Part) -> Result<PartDocuments<'_>, DataError> {
        let text = self.options.text.document;
        let documents = Documents::open(&self.sources, &self.options.read, &self.columns, text)?;
        Ok(PartDocuments::new(self, part, documents))
    }

    /// Texts of at most `most` documents of a part, evenly spread, to train a tokenizer on. A running text comes whole.
    ///
    /// # Errors
    /// As [`Documents::open`].
    pub fn texts(
        &self,
        part: Part,
        most: usize,
    ) -> Result<impl Iterator<Item = Result<String, DataError>>, DataError> {
        let count = self.count(part);
        let (most, stream) = (most.max(1), self.is_stream());
        let mut number = 0;
        // Document i is taken where i · most / count reaches a new whole number.
        let mut taken = move |_: &Document| {
            let i = number;
            number += 1;
            stream || count <= most || i * most / count != (i + 1) * most / count
        };
        Ok(self.documents(part)?.flat_map(move |batch| -> Vec<Result<String, DataError>> {
            match batch {
                Ok(documents) => documents
                    .into_iter()
                    .filter(|d| taken(d))
                    .flat_map(|d| texts_of(&d).map(|t| Ok(t.to_owned())).collect::<Vec<_>>())
                    .collect(),
                Err(error) => vec![Err(error)],
            }
        }))
    }
}

fn no_text(files: &[std::path::PathBuf], why: &str) -> Problem {
    let problem = Problem::new(format!("the files hold no text to learn from: {why}"))
        .help("check `data.source`, `data.text.column` and `data.text.min_characters`");
    match files.first() {
        Some(file) => problem.file(file),
        None => problem,
    }
}

/// All texts of a document.
fn texts_of(document: &Document) -> impl Iterator<Item = &str> {
    let target = match &document.target {
        // A translation is text; a label hardly adds to it.
        Some(Target::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    let messages = document.messages.iter().map(|m| m.content.as_str());
    let text = Some(document.text.as_str()).filter(|t| !t.is_empty());
    document
        .prompt
        .as_deref()
        .into_iter()
        .chain(messages)
        .chain(text)
        .chain(target)
        .chain(document.rejected.as_deref())
}

#[cfg(test)]
mod tests;
