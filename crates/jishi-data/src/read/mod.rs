//! Reads tables: CSV, TSV, JSON lines and Parquet, plain or compressed, into typed columns.
//!
//! Types are inferred optimistically: the first rows say what a column looks like, and the rest is parsed as that. When
//! a later value disagrees, the rest of the pass only finds the types, and a second pass reads with them, so that the
//! result is the same as if all values had been seen before.

mod assemble;
pub(crate) mod bytes;
pub(crate) mod column;
pub(crate) mod csv;
pub(crate) mod jsonl;
pub(crate) mod parquet;
pub(crate) mod text;
pub(crate) mod value;

use std::io;
use std::path::Path;

use jishi_recipe::{ColumnType, Format, Problem, Problems};

use self::assemble::{Assembler, Pass};
use self::bytes::{Blocks, Compression, Content, format_of};
use self::value::MissingValues;
use crate::error::DataError;
use crate::source::{ReadOptions, Source};
use crate::table::Table;

/// Why the reading of a file ended early.
pub(crate) enum Stop {
    /// The file is bad.
    Bad(Problem),
    /// In several ways.
    Many(Vec<Problem>),
    /// It could not be read.
    Failed(io::Error),
    /// The table could not be written.
    Data(DataError),
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Bad(problem)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Reads sources into one table; files after the first need the same columns, in any order.
///
/// # Errors
/// [`DataError::Bad`] with everything that is wrong with the files; [`DataError::Io`] where reading or the cache file
/// fails.
pub fn read(sources: &[Source], options: &ReadOptions) -> Result<Table, DataError> {
    if sources.is_empty() {
        return Err(Problem::new("there is no file to read").help("name at least one in `source`").into());
    }
    let missing = MissingValues::new(&options.missing_values);
    let mut settled: Vec<(String, ColumnType)> = Vec::new();
    loop {
        let mut table = Assembler::new(options, &settled);
        let mut problems = Vec::new();
        for source in sources {
            let path = source.path();
            table.begin_file(&path);
            let result = read_one(source, options, &missing, &mut table);
            record(result, &path, &mut problems)?;
        }
        if !problems.is_empty() {
            problems.extend(table.bad_rows());
            return Err(Problems(problems).into());
        }
        match table.finish()? {
            Pass::Done(table) => return Ok(*table),
            Pass::Again(types) => settled = types,
        }
    }
}

/// The column names of sources, without reading their rows (JSON lines: the keys of the first 1,000 lines or so).
///
/// # Errors
/// As [`read`], for what comes before the rows.
pub fn header(sources: &[Source], options: &ReadOptions) -> Result<Vec<String>, DataError> {
    let mut problems = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for source in sources {
        let mut found = Vec::new();
        record(header_of(source, options).map(|h| found = h), &source.path(), &mut problems)?;
        for name in found {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    Problems(problems).into_result()?;
    Ok(names)
}

/// Collects what is wrong with the file at `path`; passes on what is not the file's fault.
pub(crate) fn record(
    result: Result<(), Stop>,
    path: &Path,
    problems: &mut Vec<Problem>,
) -> Result<(), DataError> {
    let found = match result {
        Ok(()) => return Ok(()),
        Err(Stop::Bad(problem)) => vec![problem],
        Err(Stop::Many(problems)) => problems,
        Err(Stop::Failed(error)) => return Err(DataError::io(path, error)),
        Err(Stop::Data(error)) => return Err(error),
    };
    problems.extend(found.into_iter().map(|p| if p.file.is_none() { p.file(path) } else { p }));
    Ok(())
}

pub(crate) fn delimiter_of(format: Format, options: &ReadOptions) -> u8 {
    options.delimiter.unwrap_or(if format == Format::Tsv { b'\t' } else { b',' })
}

fn read_one(
    source: &Source,
    options: &ReadOptions,
    missing: &MissingValues,
    table: &mut Assembler,
) -> Result<(), Stop> {
    let (format, compression) = format_of(source, options)?;
    match format {
        Format::Parquet => parquet::read(parquet_input(source, compression)?, missing, table),
        Format::Jsonl => jsonl::read(Content::open(source, compression)?, options, missing, table),
        _ => csv::read(Content::open(source, compression)?, delimiter_of(format, options), missing, table),
    }
}

fn header_of(source: &Source, options: &ReadOptions) -> Result<Vec<String>, Stop> {
    let (format, compression) = format_of(source, options)?;
    match format {
        Format::Parquet => parquet::header(parquet_input(source, compression)?),
        Format::Jsonl => jsonl::header(Content::open(source, compression)?),
        _ => {
            let delimiter = delimiter_of(format, options);
            let mut blocks = Blocks::new(Content::open(source, compression)?, Some(delimiter));
            csv::header(&mut blocks, delimiter).map(|(names, _)| names)
        }
    }
}

pub(crate) fn parquet_input(source: &Source, compression: Compression) -> Result<parquet::Input, Stop> {
    if compression != Compression::None {
        return Err(Problem::new("expected a plain Parquet file, found one in a .gz or .zst file")
            .help("decompress it first; Parquet compresses its columns itself")
            .into());
    }
    parquet::Input::open(source)
}
