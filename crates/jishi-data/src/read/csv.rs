//! Comma-separated values (RFC 4180): fields are found eight bytes at a time, then parsed column by column.

use std::borrow::Cow;
use std::collections::HashSet;

use jishi_recipe::Problem;

use super::Stop;
use super::assemble::{Assembler, BadLine, Block};
use super::bytes::{Blocks, Content, MAX_FIELD, RawBlock};
use super::column::{Cells, Expect, Writing, parse_column, unquote};
use super::text::{check_utf8, drive};
use super::value::MissingValues;

/// Most columns of a header.
const MAX_COLUMNS: usize = 100_000;
/// Marks the end of a quoted field in [`Fields::ends`].
const QUOTED: u32 = 1 << 31;

/// Reads a CSV file into `table`.
pub(crate) fn read(
    content: Content,
    delimiter: u8,
    missing: &MissingValues,
    table: &mut Assembler,
) -> Result<(), Stop> {
    let mut blocks = Blocks::new(content, Some(delimiter));
    let (names, first) = header(&mut blocks, delimiter)?;
    let places = table.set_header(&names)?;
    let parse = |raw: &RawBlock, expect: &Vec<Expect>| {
        let text = check_utf8(raw)?;
        let fields = Fields::find(text, delimiter, names.len(), raw.first_line)?;
        let columns =
            places.iter().zip(expect).map(|(&place, &expect)| parse_column(&fields, place, expect, missing));
        Ok(Block { columns: columns.collect(), lines: fields.lines, names: None, bad_lines: fields.ragged })
    };
    drive(first, &mut blocks, table, |t| t.expectations(), parse)
}

/// The column names of a CSV file, and what follows them in its first block.
pub(crate) fn header(blocks: &mut Blocks, delimiter: u8) -> Result<(Vec<String>, RawBlock), Stop> {
    let empty = || {
        Problem::new("the file is empty")
            .help("expected a header line with the column names, then one row a line")
    };
    let mut first = blocks.next()?.ok_or_else(empty)?;
    let text = check_utf8(&first)?;
    let blank = text.len() - text.trim_start_matches(['\r', '\n']).len();
    if blank == text.len() {
        return Err(empty().into());
    }
    let line = first.first_line + newlines(&text.as_bytes()[..blank]);
    let (fields, end) = first_record(&text[blank..], delimiter);
    if end == text.len() - blank && !text.ends_with('\n') && fields.iter().any(|f| f.contains('\r')) {
        return Err(Problem::new("lines end in a carriage return alone")
            .line(line)
            .help("convert the line ends: `tr '\\r' '\\n' < FILE > NEW`")
            .into());
    }
    let names: Vec<String> = fields.iter().map(|f| f.trim_matches([' ', '\t']).to_string()).collect();
    check_names(&names, Some(line))?;
    first.first_line = line + newlines(&text.as_bytes()[blank..blank + end]);
    first.bytes.drain(..blank + end);
    Ok((names, first))
}

fn newlines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// Refuses a header with names that are empty or given twice, or with too many.
pub(crate) fn check_names(names: &[String], line: Option<u64>) -> Result<(), Stop> {
    if names.len() > MAX_COLUMNS {
        let message = format!("the header has {} columns; at most {MAX_COLUMNS} can be read", names.len());
        let mut problem = Problem::new(message).help("is the separator right? set `delimiter` in `[data]`");
        problem.line = line;
        return Err(problem.into());
    }
    let mut seen = HashSet::new();
    let mut twice = Vec::new();
    let mut empty = Vec::new();
    for (i, name) in names.iter().enumerate() {
        if name.is_empty() {
            empty.push((i + 1).to_string());
        } else if !seen.insert(name) && !twice.contains(&name) {
            twice.push(name);
        }
    }
    let mut problems = Vec::new();
    if !twice.is_empty() {
        let names: Vec<String> = twice.iter().take(10).map(|n| format!("`{n}`")).collect();
        let message =
            format!("column names must differ; more than one column is called {}", names.join(", "));
        problems.push(Problem::new(message).help("rename the columns in the header line"));
    }
    if !empty.is_empty() {
        let message = format!(
            "every column needs a name; column {} of the header has none",
            empty[..empty.len().min(10)].join(", ")
        );
        problems.push(Problem::new(message).help("name it in the header line, or take the column out"));
    }
    problems.iter_mut().for_each(|p| p.line = line);
    if problems.is_empty() { Ok(()) } else { Err(Stop::Many(problems)) }
}

/// The fields of the first record, and the bytes that it takes.
fn first_record(text: &str, delimiter: u8) -> (Vec<Cow<'_, str>>, usize) {
    let bytes = text.as_bytes();
    let mut fields = Vec::new();
    let mut start = 0;
    loop {
        let quoted = bytes.get(start) == Some(&b'"');
        let after = if quoted { close_quote(bytes, start).unwrap_or(bytes.len()) } else { start };
        let end = memchr::memchr2(delimiter, b'\n', &bytes[after..]).map_or(bytes.len(), |n| after + n);
        let last = bytes.get(end) != Some(&delimiter);
        let mut raw = &text[start..end];
        if last {
            raw = raw.strip_suffix('\r').unwrap_or(raw);
        }
        fields.push(if quoted { unquote(raw) } else { raw.into() });
        if last {
            return (fields, (end + 1).min(bytes.len()));
        }
        start = end + 1;
    }
}

/// Index after the quote that closes the field that begins with the quote at `open`.
fn close_quote(bytes: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    loop {
        let quote = at + memchr::memchr(b'"', &bytes[at..])?;
        if bytes.get(quote + 1) != Some(&b'"') {
            return Some(quote + 1);
        }
        at = quote + 2;
    }
}

/// Where the fields of a block are.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    text: &'a str,
    columns: usize,
    /// End of every field, row by row, with [`QUOTED`].
    ends: Vec<u32>,
    /// Start of every row.
    starts: Vec<u32>,
    /// Line of every row.
    pub lines: Vec<u64>,
    /// Rows with a wrong number of fields.
    pub ragged: Vec<BadLine>,
}

impl Cells for Fields<'_> {
    fn rows(&self) -> usize {
        self.starts.len()
    }

    #[inline]
    fn cell(&self, row: usize, column: usize) -> (&str, Writing) {
        let i = row * self.columns + column;
        let start = if column == 0 { self.starts[row] } else { (self.ends[i - 1] & !QUOTED) + 1 };
        let end = self.ends[i];
        let raw = &self.text[start as usize..(end & !QUOTED) as usize];
        (raw, if end & QUOTED == 0 { Writing::Plain } else { Writing::CsvQuoted })
    }
}

/// Repeats a byte eight times.
const fn eight(byte: u8) -> u64 {
    byte as u64 * 0x0101_0101_0101_0101
}

/// The high bit of every byte of `word` that equals the byte of `pattern`; exact (Warren, Hacker's Delight, 6-1).
#[inline]
fn equal(word: u64, pattern: u64) -> u64 {
    const LOW: u64 = eight(0x7f);
    let x = word ^ pattern;
    !(((x & LOW) + LOW) | x | LOW)
}

/// Eight bytes from `at`, zeros after the end.
#[inline]
fn word_at(bytes: &[u8], at: usize) -> u64 {
    if let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        return u64::from_le_bytes(*word);
    }
    let rest = &bytes[at..];
    let mut word = [0; 8];
    word[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(word)
}

/// A scan over a block.
struct Scan<'a> {
    fields: Fields<'a>,
    line: u64,
    row_line: u64,
    row_start: usize,
    field_start: usize,
    /// Fields of the row so far.
    count: usize,
    quoted: u32,
    long_field: Option<u64>,
}

impl<'a> Fields<'a> {
    /// Finds the fields of a block that ends with a record. Blank lines are no rows.
    pub(crate) fn find(
        text: &'a str,
        delimiter: u8,
        columns: usize,
        first_line: u64,
    ) -> Result<Self, Problem> {
        let bytes = text.as_bytes();
        let guess = bytes.len() / 6;
        let fields = Fields {
            text,
            columns,
            ends: Vec::with_capacity(guess),
            starts: Vec::with_capacity(guess / columns),
            lines: Vec::with_capacity(guess / columns),
            ragged: Vec::new(),
        };
        let mut scan = Scan {
            fields,
            line: first_line,
            row_line: first_line,
            row_start: 0,
            field_start: 0,
            count: 0,
            quoted: 0,
            long_field: None,
        };
        let (delimiters, breaks, quotes) = (eight(delimiter), eight(b'\n'), eight(b'"'));
        let mut at = 0;
        'words: while at < bytes.len() {
            let word = word_at(bytes, at);
            let mut hits = equal(word, delimiters) | equal(word, breaks) | equal(word, quotes);
            while hits != 0 {
                let i = at + hits.trailing_zeros() as usize / 8;
                hits &= hits - 1;
                match bytes.get(i) {
                    Some(b'\n') => {
                        scan.end_row(i);
                        scan.begin_row(i + 1);
                    }
                    Some(b'"') => {
                        // A quote inside an unquoted field is a character like others.
                        if i == scan.field_start {
                            scan.quoted = QUOTED;
                            let end = close_quote(bytes, i).unwrap_or(bytes.len());
                            scan.line += newlines(&bytes[i..end]);
                            at = end;
                            continue 'words;
                        }
                    }
                    Some(_) => scan.end_field(i),
                    None => break 'words,
                }
            }
            at += 8;
        }
        if scan.row_start < bytes.len() {
            scan.end_row(bytes.len());
        }
        match scan.long_field {
            Some(line) => Err(Problem::new("a field is longer than 16 MiB")
                .line(line)
                .help("is a quote or a line break missing?")),
            None => Ok(scan.fields),
        }
    }
}

impl Scan<'_> {
    #[inline]
    fn end_field(&mut self, end: usize) {
        if end - self.field_start > MAX_FIELD {
            self.long_field.get_or_insert(self.row_line);
        }
        self.fields.ends.push(end as u32 | self.quoted);
        self.field_start = end + 1;
        self.count += 1;
        self.quoted = 0;
    }

    #[inline]
    fn end_row(&mut self, line_end: usize) {
        let mut end = line_end;
        if end > self.field_start && self.fields.text.as_bytes()[end - 1] == b'\r' {
            end -= 1;
        }
        if end == self.row_start {
            return;
        }
        self.end_field(end);
        let columns = self.fields.columns;
        if self.count == columns {
            self.fields.starts.push(self.row_start as u32);
            self.fields.lines.push(self.row_line);
            return;
        }
        self.fields.ends.truncate(self.fields.starts.len() * columns);
        let plural = if self.count == 1 { "" } else { "s" };
        self.fields.ragged.push(BadLine {
            line: self.row_line,
            place: None,
            reason: "a wrong number of fields",
            message: format!(
                "expected {columns} fields as in the header, found {} field{plural}",
                self.count
            ),
        });
    }

    #[inline]
    fn begin_row(&mut self, start: usize) {
        self.line += 1;
        self.row_line = self.line;
        self.row_start = start;
        self.field_start = start;
        self.count = 0;
        self.quoted = 0;
    }
}
