//! Blocks, parsed in parallel, become a table: types joined, dictionaries merged, bad rows taken out, rows cut into
//! chunks. Blocks come in the order of the input, so nothing depends on how it was cut or on the number of threads.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, UInt32Array, UInt64Array};
use arrow_buffer::NullBuffer;
use foldhash::fast::FixedState;
use jishi_recipe::{BadRows, ColumnType, Problem, Problems};
use rayon::prelude::*;

use super::column::{BadValue, BlockColumn, Dictionary, Expect, NO_CODE, NO_DATE, NO_NUMBER, Values};
use crate::cache::StoreWriter;
use crate::error::DataError;
use crate::ledger::Ledger;
use crate::source::ReadOptions;
use crate::table::{CHUNK_ROWS, Column, OVERFLOW, Table, stored_as};

/// Most distinct values of a column's dictionary.
const MAX_CATEGORIES: usize = 1_000_000;
/// Most bytes of text of a column's dictionary.
const MAX_CATEGORY_BYTES: usize = 64 << 20;
/// Bad rows that are shown.
const SHOWN: usize = 10;

/// A part of a file, parsed.
#[derive(Debug, Default)]
pub(crate) struct Block {
    /// Line of every row.
    pub lines: Vec<u64>,
    /// The columns: those of the table, or those of `names`.
    pub columns: Vec<BlockColumn>,
    /// Names of `columns`, where a block brings its own (JSON lines).
    pub names: Option<Vec<String>>,
    /// Lines that are no rows, in order.
    pub bad_lines: Vec<BadLine>,
}

/// A line that can't be a row.
#[derive(Debug)]
pub(crate) struct BadLine {
    pub line: u64,
    /// Place in the line, from 1.
    pub place: Option<u64>,
    /// In words that are the same for all such lines.
    pub reason: &'static str,
    /// What exactly.
    pub message: String,
}

/// What a pass over the input ends with.
pub(crate) enum Pass {
    /// The table.
    Done(Box<Table>),
    /// The columns' types turned out differently than the first rows said: read again with these.
    Again(Vec<(String, ColumnType)>),
}

/// A table that grows.
pub(crate) struct Assembler<'a> {
    options: &'a ReadOptions,
    columns: Vec<Growing>,
    /// Name → index in `columns`.
    index: HashMap<String, usize>,
    header: Vec<String>,
    in_header: HashSet<String>,
    only: Option<HashSet<&'a str>>,
    /// Rows not yet in a chunk.
    lines: Vec<u64>,
    /// Rows kept.
    rows: usize,
    chunks: usize,
    store: StoreWriter,
    again: bool,
    ledger: Ledger,
    bad: Vec<Problem>,
    files: Vec<PathBuf>,
    file_rows: Vec<usize>,
}

/// A column that grows.
struct Growing {
    name: String,
    /// What the values so far read as.
    kind: Option<ColumnType>,
    /// The type can't change.
    settled: bool,
    pending: Pending,
    codes: HashMap<String, u32, FixedState>,
    text_bytes: usize,
    missing: u64,
    overflow: bool,
}

/// Values not yet in a chunk.
enum Pending {
    Missing(usize),
    Numbers(Vec<f64>),
    Codes(Vec<u32>),
    Dates(Vec<i64>),
}

impl<'a> Assembler<'a> {
    /// A table to be; `settled` are the columns and types of an earlier pass.
    pub(crate) fn new(options: &'a ReadOptions, settled: &[(String, ColumnType)]) -> Self {
        let mut new = Self {
            options,
            columns: Vec::new(),
            index: HashMap::new(),
            header: Vec::new(),
            in_header: HashSet::new(),
            only: options.only.as_ref().map(|only| only.iter().map(String::as_str).collect()),
            lines: Vec::new(),
            rows: 0,
            chunks: 0,
            store: StoreWriter::new(options.memory_limit, options.cache_dir.as_deref()),
            again: false,
            ledger: Ledger::default(),
            bad: Vec::new(),
            files: Vec::new(),
            file_rows: Vec::new(),
        };
        for (name, kind) in settled {
            new.add(Growing::new(name, Some(*kind), 0));
        }
        new
    }

    /// Begins a file.
    pub(crate) fn begin_file(&mut self, path: &Path) {
        self.files.push(path.into());
        self.file_rows.push(self.rows);
    }

    /// Sets or checks the columns of a file whose header names them all. Returns, for every column of the table, its
    /// index in `names`.
    pub(crate) fn set_header(&mut self, names: &[String]) -> Result<Vec<usize>, Problem> {
        if self.header.is_empty() {
            for name in names {
                self.see(name);
                self.column(name);
            }
        }
        let given: HashSet<&String> = names.iter().collect();
        let unknown: Vec<&String> = names.iter().filter(|n| !self.in_header.contains(*n)).collect();
        let absent: Vec<&String> = self.header.iter().filter(|n| !given.contains(n)).collect();
        if !unknown.is_empty() || !absent.is_empty() {
            let list = |names: &[&String]| {
                let shown: Vec<String> = names.iter().take(SHOWN).map(|n| format!("`{n}`")).collect();
                let more = names.len() - shown.len();
                shown.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
            };
            let mut what = Vec::new();
            if !absent.is_empty() {
                what.push(format!("lacks {}", list(&absent)));
            }
            if !unknown.is_empty() {
                what.push(format!("has {} in addition", list(&unknown)));
            }
            return Err(Problem::new(format!(
                "expected the columns of {}; this file {}",
                self.files[0].display(),
                what.join(" and ")
            ))
            .help("files that are read together need the same columns, in any order"));
        }
        let place: HashMap<&str, usize> = names.iter().enumerate().map(|(i, n)| (n.as_str(), i)).collect();
        Ok(self.columns.iter().filter_map(|c| place.get(c.name.as_str()).copied()).collect())
    }

    /// Index of a column, added where there is none; `None` where it is not read.
    fn column(&mut self, name: &str) -> Option<usize> {
        if let Some(&i) = self.index.get(name) {
            return Some(i);
        }
        if !self.wanted(name) {
            return None;
        }
        // Chunks that are written lack the column.
        self.again |= self.chunks > 0;
        Some(self.add(Growing::new(name, self.options.types.get(name).copied(), self.lines.len())))
    }

    fn add(&mut self, column: Growing) -> usize {
        self.index.insert(column.name.clone(), self.columns.len());
        self.columns.push(column);
        self.columns.len() - 1
    }

    /// Notes the name of a column, read or not.
    fn see(&mut self, name: &str) {
        if self.in_header.insert(name.into()) {
            self.header.push(name.into());
        }
    }

    /// Whether a column is to be read.
    pub(crate) fn wanted(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(name))
    }

    /// What is known about the type of every column.
    pub(crate) fn expectations(&self) -> Vec<Expect> {
        self.columns.iter().map(Growing::expectation).collect()
    }

    /// [`Assembler::expectations`] by name.
    pub(crate) fn expectations_by_name(&self) -> HashMap<String, Expect> {
        self.columns.iter().map(|c| (c.name.clone(), c.expectation())).collect()
    }

    /// Adds blocks of the current file, in order.
    pub(crate) fn merge(&mut self, blocks: &[Block]) -> Result<(), DataError> {
        // places[b][c]: where column c of the table is in block b.
        let mut places: Vec<Vec<Option<usize>>> = Vec::with_capacity(blocks.len());
        for block in blocks {
            let place = match &block.names {
                None => (0..block.columns.len()).map(Some).collect(),
                Some(names) => self.place(names),
            };
            for (column, place) in self.columns.iter_mut().zip(&place) {
                if let Some(place) = place {
                    self.again |= column.join(&block.columns[*place].values, self.chunks > 0);
                }
            }
            self.ledger.rows_read += (block.lines.len() + block.bad_lines.len()) as u64;
            places.push(place);
        }
        if self.again {
            // This pass only finds the types now.
            return Ok(());
        }
        let kept: Vec<Vec<Range<usize>>> =
            blocks.iter().zip(&places).map(|(b, p)| self.take_bad(b, p)).collect();
        self.columns.par_iter_mut().enumerate().for_each(|(i, column)| {
            for ((block, place), kept) in blocks.iter().zip(&places).zip(&kept) {
                column.append(place.get(i).copied().flatten().map(|p| &block.columns[p].values), kept);
            }
        });
        for (block, kept) in blocks.iter().zip(&kept) {
            for range in kept {
                self.lines.extend_from_slice(&block.lines[range.clone()]);
                self.rows += range.len();
            }
        }
        while self.lines.len() >= CHUNK_ROWS {
            self.write_chunk(CHUNK_ROWS)?;
        }
        Ok(())
    }

    /// Where the table's columns are in a block with its own columns, which may add some to the table.
    fn place(&mut self, names: &[String]) -> Vec<Option<usize>> {
        let mut place = vec![None; self.columns.len()];
        for (i, name) in names.iter().enumerate() {
            self.see(name);
            if let Some(column) = self.column(name) {
                place.resize(self.columns.len(), None);
                place[column] = Some(i);
            }
        }
        place
    }

    /// Puts the bad rows of a block on record. Returns the rows to keep.
    fn take_bad(&mut self, block: &Block, place: &[Option<usize>]) -> Vec<Range<usize>> {
        let mut cells = Vec::new();
        for (column, place) in place.iter().enumerate() {
            let Some(place) = place else { continue };
            cells.extend(block.columns[*place].bad.iter().map(|bad| (bad.row, column, bad)));
        }
        cells.sort_unstable_by_key(|(row, column, _)| (*row, *column));
        let file = self.files.last().cloned().unwrap_or_default();
        let mut bad_lines = block.bad_lines.iter().peekable();
        let mut kept = Vec::new();
        let mut next = 0;
        for (row, column, bad) in cells {
            let line = block.lines[row];
            while let Some(bad) = bad_lines.next_if(|b| b.line < line) {
                self.record_line(bad, &file);
            }
            let name = self.columns[column].name.clone();
            if self.bad.len() < SHOWN {
                let found = bad.text.as_deref().unwrap_or_default();
                let expected = match bad.why {
                    BadValue::NotA(ColumnType::Number) => "expected a number",
                    BadValue::NotA(ColumnType::Boolean) => "expected true or false",
                    BadValue::NotA(ColumnType::Date) => "expected a date such as 2024-12-31",
                    BadValue::NotA(ColumnType::Category) => "expected a category",
                    BadValue::Infinite | BadValue::NotANumber => "expected a finite number",
                };
                let message = format!("column `{name}`: {expected}, found {found:?}");
                self.bad.push(Problem::new(message).file(&file).line(line));
            }
            // A row is dropped once, whatever else is wrong with it.
            if row >= next {
                self.ledger.drop_row(bad.why.reason(), Some(&name), &file, line);
                kept.push(next..row);
                next = row + 1;
            }
        }
        for bad in bad_lines {
            self.record_line(bad, &file);
        }
        kept.push(next..block.lines.len());
        kept
    }

    fn record_line(&mut self, bad: &BadLine, file: &Path) {
        if self.bad.len() < SHOWN {
            let mut problem = Problem::new(bad.message.clone()).file(file).line(bad.line);
            problem.column = bad.place;
            self.bad.push(problem);
        }
        self.ledger.drop_row(bad.reason, None, file, bad.line);
    }

    fn write_chunk(&mut self, rows: usize) -> Result<(), DataError> {
        let mut arrays: Vec<ArrayRef> = self.columns.par_iter_mut().map(|c| c.take(rows)).collect();
        arrays.push(Arc::new(UInt64Array::from(cut(&mut self.lines, rows))));
        self.chunks += 1;
        self.store.push(arrays)
    }

    /// The rows that can't be read, where that is an error: the first few, and how many there are.
    pub(crate) fn bad_rows(&mut self) -> Vec<Problem> {
        if self.again || self.options.bad_rows == BadRows::Drop {
            return Vec::new();
        }
        let mut problems = std::mem::take(&mut self.bad);
        let rows = self.ledger.entries.iter().map(|e| e.rows).sum::<u64>();
        if rows > 0 {
            let of = self.ledger.rows_read;
            let shown = if problems.len() as u64 >= rows { "" } else { "; the first are above" };
            problems.push(
                Problem::new(format!("{rows} of {of} rows can't be read{shown}"))
                    .help("correct them, or set `bad_rows = \"drop\"` in `[data]` to leave them out and have them listed in the ledger"),
            );
        }
        problems
    }

    /// Ends the pass.
    pub(crate) fn finish(mut self) -> Result<Pass, DataError> {
        if self.again {
            let kind = |c: &Growing| (c.name.clone(), c.kind.unwrap_or(ColumnType::Category));
            return Ok(Pass::Again(self.columns.iter().map(kind).collect()));
        }
        let bad = self.bad_rows();
        if !bad.is_empty() {
            return Err(Problems(bad).into());
        }
        if self.rows == 0 {
            let problem = match self.ledger.rows_read {
                0 if self.header.is_empty() => {
                    Problem::new("found no data").help("expected one JSON object a line")
                }
                0 => {
                    Problem::new("found a header, but no rows").help("the first row follows the header line")
                }
                n => Problem::new(format!("none of the {n} rows can be read"))
                    .help("see them with `bad_rows = \"error\"`"),
            };
            let problem = match self.files.first() {
                Some(file) => problem.file(file),
                None => problem,
            };
            return Err(problem.into());
        }
        if !self.lines.is_empty() {
            self.write_chunk(self.lines.len())?;
        }
        Ok(Pass::Done(Box::new(Table {
            columns: self.columns.into_iter().map(Growing::finish).collect(),
            rows: self.rows,
            files: self.files,
            ledger: self.ledger,
            header: self.header,
            file_rows: self.file_rows,
            store: self.store.finish()?,
        })))
    }
}

/// The first `n` values, taken out.
fn cut<T: Copy>(values: &mut Vec<T>, n: usize) -> Vec<T> {
    let first = values[..n].to_vec();
    values.drain(..n);
    first
}

impl Growing {
    fn new(name: &str, settled: Option<ColumnType>, missing: usize) -> Self {
        Self {
            name: name.into(),
            kind: settled,
            settled: settled.is_some(),
            pending: Pending::Missing(missing),
            codes: HashMap::with_hasher(FixedState::with_seed(0)),
            text_bytes: 0,
            missing: 0,
            overflow: false,
        }
    }

    fn expectation(&self) -> Expect {
        match self.kind {
            Some(kind) if self.settled => Expect::Is(kind),
            kind => Expect::Seems(kind),
        }
    }

    /// Joins the type with that of more values. Returns whether values that were taken over must be read again.
    fn join(&mut self, values: &Values, written: bool) -> bool {
        let new = match values {
            Values::Missing => return false,
            Values::Number(_) => ColumnType::Number,
            Values::Boolean(_) => ColumnType::Boolean,
            Values::Category(..) => ColumnType::Category,
            Values::Date(_) => ColumnType::Date,
        };
        match self.kind {
            Some(kind) if kind == new => false,
            Some(_) => {
                self.kind = Some(ColumnType::Category);
                true
            }
            None => {
                self.kind = Some(new);
                // Chunks without a value were written as codes.
                written && stored_as(new) != stored_as(ColumnType::Category)
            }
        }
    }

    /// Adds the rows `kept` of a block; without values they are missing.
    fn append(&mut self, values: Option<&Values>, kept: &[Range<usize>]) {
        self.settle_pending();
        let rows: usize = kept.iter().map(Range::len).sum();
        match (&mut self.pending, values) {
            (Pending::Numbers(out), Some(Values::Number(v))) => {
                kept.iter().for_each(|r| out.extend_from_slice(&v[r.clone()]))
            }
            (Pending::Dates(out), Some(Values::Date(v))) => {
                kept.iter().for_each(|r| out.extend_from_slice(&v[r.clone()]))
            }
            (Pending::Codes(out), Some(Values::Boolean(v))) => {
                kept.iter().for_each(|r| out.extend_from_slice(&v[r.clone()]))
            }
            (Pending::Codes(_), Some(Values::Category(v, dictionary))) => {
                self.append_categories(v, dictionary, kept)
            }
            (Pending::Missing(n), _) => *n += rows,
            (Pending::Numbers(out), _) => out.resize(out.len() + rows, NO_NUMBER),
            (Pending::Codes(out), _) => out.resize(out.len() + rows, NO_CODE),
            (Pending::Dates(out), _) => out.resize(out.len() + rows, NO_DATE),
        }
    }

    /// Gives the pending values their type once it is known.
    fn settle_pending(&mut self) {
        let Pending::Missing(n) = self.pending else { return };
        self.pending = match self.kind {
            None => return,
            Some(ColumnType::Number) => Pending::Numbers(vec![NO_NUMBER; n]),
            Some(ColumnType::Category | ColumnType::Boolean) => Pending::Codes(vec![NO_CODE; n]),
            Some(ColumnType::Date) => Pending::Dates(vec![NO_DATE; n]),
        };
    }

    fn append_categories(&mut self, codes: &[u32], dictionary: &Dictionary, kept: &[Range<usize>]) {
        const UNSEEN: u32 = NO_CODE - 1;
        let mut map = vec![UNSEEN; dictionary.len()];
        let mut out = match std::mem::replace(&mut self.pending, Pending::Missing(0)) {
            Pending::Codes(out) => out,
            _ => Vec::new(),
        };
        for &code in kept.iter().flat_map(|r| &codes[r.clone()]) {
            out.push(match code {
                NO_CODE => NO_CODE,
                code => {
                    let slot = &mut map[code as usize];
                    if *slot == UNSEEN {
                        *slot = self.code_of(dictionary.get(code));
                    }
                    *slot
                }
            });
        }
        self.pending = Pending::Codes(out);
    }

    /// The table's code of a category, new where there is room.
    fn code_of(&mut self, value: &str) -> u32 {
        if let Some(&code) = self.codes.get(value) {
            return code;
        }
        if self.overflow
            || self.codes.len() >= MAX_CATEGORIES
            || self.text_bytes + value.len() > MAX_CATEGORY_BYTES
        {
            self.overflow = true;
            return OVERFLOW;
        }
        self.text_bytes += value.len();
        let code = self.codes.len() as u32;
        self.codes.insert(value.into(), code);
        code
    }

    /// The first `rows` pending values as an array.
    fn take(&mut self, rows: usize) -> ArrayRef {
        self.settle_pending();
        let array: ArrayRef = match &mut self.pending {
            Pending::Missing(n) => {
                *n -= rows;
                Arc::new(UInt32Array::new_null(rows))
            }
            Pending::Numbers(v) => {
                let v = cut(v, rows);
                let nulls = nulls(&v, |x| !x.is_nan());
                Arc::new(Float64Array::new(v.into(), nulls))
            }
            Pending::Codes(v) => {
                let v = cut(v, rows);
                let nulls = nulls(&v, |x| *x != NO_CODE);
                Arc::new(UInt32Array::new(v.into(), nulls))
            }
            Pending::Dates(v) => {
                let v = cut(v, rows);
                let nulls = nulls(&v, |x| *x != NO_DATE);
                Arc::new(Int64Array::new(v.into(), nulls))
            }
        };
        self.missing += array.null_count() as u64;
        array
    }

    fn finish(self) -> Column {
        let kind = self.kind.unwrap_or(ColumnType::Category);
        let categories = match kind {
            ColumnType::Boolean => vec!["false".into(), "true".into()],
            _ => {
                let mut values = vec![String::new(); self.codes.len()];
                for (value, code) in self.codes {
                    values[code as usize] = value;
                }
                values
            }
        };
        Column { name: self.name, kind, categories, missing: self.missing, overflow: self.overflow }
    }
}

/// Which values are there; `None` where all are.
fn nulls<T>(values: &[T], is_there: impl Fn(&T) -> bool) -> Option<NullBuffer> {
    if values.iter().all(&is_there) {
        return None;
    }
    Some(values.iter().map(is_there).collect::<Vec<bool>>().into())
}
