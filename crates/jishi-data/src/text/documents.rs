//! Documents of text files and tables, in the order of the input, a block at a time.

use std::path::PathBuf;

use jishi_recipe::{DocumentUnit, Format, Problem, Problems, Text};
use serde::{Deserialize, Serialize};

use super::plain::Plain;
use super::rows::{CsvRows, JsonRows, ParquetRows};
use crate::error::DataError;
use crate::read::bytes::{Compression, Content, format_of};
use crate::read::{Stop, delimiter_of, parquet_input, record};
use crate::source::{ReadOptions, Source};

/// A document: a row of a table, or a part of a text file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// The text to learn; empty where a conversation takes its place.
    pub text: String,
    /// What comes before the text and is not learned.
    pub prompt: Option<String>,
    /// The answer that was rejected.
    pub rejected: Option<String>,
    /// A conversation.
    pub messages: Vec<Message>,
    /// Labels, or the text that the text is to become.
    pub target: Option<Target>,
    /// Value of the column that the split goes by.
    pub split: Option<String>,
    /// Index of its file in [`Documents::files`].
    pub file: usize,
    /// Line where it starts, from 1 (row number from 1 for Parquet).
    pub line: u64,
    /// It goes on where the document before ended: both are parts of one running text.
    pub continues: bool,
}

impl Document {
    /// Prompt and text as what a user says and the assistant answers.
    #[must_use]
    pub fn into_conversation(mut self) -> Self {
        let message = |role: &str, content: String| Message { role: role.into(), content };
        let asked = message("user", self.prompt.take().unwrap_or_default());
        self.messages = vec![asked, message("assistant", std::mem::take(&mut self.text))];
        self
    }
}

/// A turn of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// Value of the target column.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// One text.
    Text(String),
    /// A list of them.
    List(Vec<String>),
}

/// What a column of a table is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// [`Document::text`].
    Text,
    /// [`Document::prompt`].
    Prompt,
    /// [`Document::rejected`].
    Rejected,
    /// [`Document::messages`].
    Messages,
    /// [`Document::target`].
    Target,
    /// [`Document::split`].
    Split,
}

/// The columns that are read from tables. Plain text files have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns(pub Vec<(Role, String)>);

impl Columns {
    /// The columns that a recipe names. `target` is the column of labels or translations, `split` the column that
    /// the split goes by.
    #[must_use]
    pub fn of(text: &Text, target: Option<&str>, split: Option<&str>) -> Self {
        let mut columns = Vec::new();
        let mut add = |role, name: Option<&str>| columns.extend(name.map(|n| (role, n.to_owned())));
        // A conversation takes the place of the text.
        add(Role::Text, text.messages.is_none().then_some(text.column.as_str()));
        add(Role::Prompt, text.prompt.as_deref());
        add(Role::Rejected, text.rejected.as_deref());
        add(Role::Messages, text.messages.as_deref());
        add(Role::Target, target);
        add(Role::Split, split);
        Self(columns)
    }
}

/// A row that can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// Index in [`Documents::files`].
    pub file: usize,
    /// Line, from 1.
    pub line: u64,
    /// Why, in words that are the same for all such rows.
    pub reason: &'static str,
    /// What exactly.
    pub message: String,
}

/// What a block of input holds.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub documents: Vec<Document>,
    /// Line, reason and message of rows that can't be read.
    pub bad: Vec<(u64, &'static str, String)>,
}

/// Reads documents block by block: what is in memory is a block, not a file.
pub struct Documents {
    /// The files, in order.
    pub files: Vec<PathBuf>,
    /// Rows so far that can't be read.
    pub bad: Vec<BadRow>,
    sources: Vec<Source>,
    options: ReadOptions,
    columns: Columns,
    unit: DocumentUnit,
    /// Number of sources that were opened.
    opened: usize,
    current: Option<Reader>,
    /// A running text has begun.
    running: bool,
}

enum Reader {
    Plain(Plain),
    Csv(CsvRows),
    Json(JsonRows),
    Parquet(ParquetRows),
}

impl std::fmt::Debug for Documents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Documents").field("files", &self.files).field("opened", &self.opened).finish()
    }
}

/// The format of a source of text; `None` for plain text. A file whose name does not say that it is a table is plain.
fn table_format(source: &Source, options: &ReadOptions) -> Result<(Option<Format>, Compression), Problem> {
    match format_of(source, options) {
        Ok((format, compression)) => Ok((Some(format), compression)),
        // The one problem that it can have: an ending that is no table's.
        Err(_) => {
            let forced = ReadOptions { format: Format::Csv, ..options.clone() };
            Ok((None, format_of(source, &forced)?.1))
        }
    }
}

impl Documents {
    /// Documents of `sources`.
    ///
    /// # Errors
    /// No source, or text files that are one running text together with tables.
    pub fn open(
        sources: &[Source],
        options: &ReadOptions,
        columns: &Columns,
        unit: DocumentUnit,
    ) -> Result<Self, DataError> {
        if sources.is_empty() {
            return Err(Problem::new("there is no file to read")
                .help("name at least one in `source`")
                .into());
        }
        let new = Self {
            files: sources.iter().map(Source::path).collect(),
            bad: Vec::new(),
            sources: sources.to_vec(),
            options: options.clone(),
            columns: columns.clone(),
            unit,
            opened: 0,
            current: None,
            running: false,
        };
        let mut tables = Vec::new();
        for source in sources {
            tables.push(table_format(source, options)?.0.is_some());
        }
        let mixed = tables.iter().any(|t| *t) && !tables.iter().all(|t| *t);
        if mixed && unit == DocumentUnit::Stream {
            return Err(Problem::new("a running text (`document = \"stream\"`) can't be mixed with tables")
                .help("set `data.text.document` to \"file\", \"paragraph\" or \"line\"")
                .into());
        }
        if let (Some(plain), Some((_, name))) =
            (tables.iter().position(|t| !t), columns.0.iter().find(|(role, _)| *role != Role::Text))
        {
            return Err(Problem::new(format!("plain text files have no column `{name}`"))
                .file(&new.files[plain])
                .help("read CSV, JSONL or Parquet files, or leave the column out of the recipe")
                .into());
        }
        Ok(new)
    }

    /// Whether all documents are parts of one running text.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.unit == DocumentUnit::Stream
            && self.sources.iter().all(|s| matches!(table_format(s, &self.options), Ok((None, _))))
    }

    /// The next documents, in the order of the input; `None` at the end. A batch may be empty.
    ///
    /// # Errors
    /// Text that is not UTF-8, a column that is missing, a damaged file, a failing disk.
    pub fn next_batch(&mut self) -> Result<Option<Vec<Document>>, DataError> {
        loop {
            if self.current.is_none() {
                let Some(source) = self.sources.get(self.opened).cloned() else { return Ok(None) };
                self.opened += 1;
                self.current = Some(self.checked(self.reader(&source))?);
            }
            let batch = match &mut self.current {
                Some(Reader::Plain(reader)) => reader.next(),
                Some(Reader::Csv(reader)) => reader.next(),
                Some(Reader::Json(reader)) => reader.next(),
                Some(Reader::Parquet(reader)) => reader.next(),
                None => Ok(None),
            };
            let Some(batch) = self.checked(batch)? else {
                self.current = None;
                continue;
            };
            let file = self.opened - 1;
            self.bad.extend(batch.bad.into_iter().map(|(line, reason, message)| BadRow {
                file,
                line,
                reason,
                message,
            }));
            let mut documents = batch.documents;
            let stream = self.unit == DocumentUnit::Stream && matches!(self.current, Some(Reader::Plain(_)));
            for document in &mut documents {
                document.file = file;
                if stream {
                    document.continues = self.running;
                    self.running = true;
                }
            }
            return Ok(Some(documents));
        }
    }

    fn reader(&self, source: &Source) -> Result<Reader, Stop> {
        let (format, compression) = table_format(source, &self.options)?;
        let columns = &self.columns;
        Ok(match format {
            None => Reader::Plain(Plain::new(Content::open(source, compression)?, self.unit)),
            Some(Format::Parquet) => {
                Reader::Parquet(ParquetRows::new(parquet_input(source, compression)?, columns)?)
            }
            Some(Format::Jsonl) => Reader::Json(JsonRows::new(Content::open(source, compression)?, columns)),
            Some(format) => {
                let delimiter = delimiter_of(format, &self.options);
                Reader::Csv(CsvRows::new(Content::open(source, compression)?, delimiter, columns)?)
            }
        })
    }

    /// Names the file in what went wrong.
    fn checked<T>(&self, result: Result<T, Stop>) -> Result<T, DataError> {
        let path = &self.files[self.opened.saturating_sub(1)];
        let mut value = None;
        let mut problems = Vec::new();
        record(result.map(|v| value = Some(v)), path, &mut problems)?;
        value.ok_or_else(|| Problems(problems).into())
    }
}

impl Iterator for Documents {
    type Item = Result<Vec<Document>, DataError>;

    /// As [`Documents::next_batch`].
    fn next(&mut self) -> Option<Self::Item> {
        self.next_batch().transpose()
    }
}
