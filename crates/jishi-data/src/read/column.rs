//! The values of one column in one block of input: from text to numbers, codes and moments.

use std::borrow::Cow;
use std::collections::HashMap;

use foldhash::fast::FixedState;
use jishi_recipe::ColumnType;

use super::value::{MissingValues, classify, parse_boolean, parse_date, parse_number};

/// Stands for a missing number; no number that is kept is NaN.
pub(crate) const NO_NUMBER: f64 = f64::NAN;
/// Stands for a missing category or truth value.
pub(crate) const NO_CODE: u32 = u32::MAX - 1;
/// Stands for a missing date; no year that can be written comes near it.
pub(crate) const NO_DATE: i64 = i64::MIN;

/// The values of a column in a block, `[rows]`.
#[derive(Debug, Clone)]
pub(crate) enum Values {
    /// Nothing but missing values.
    Missing,
    Number(Vec<f64>),
    Boolean(Vec<u32>),
    Category(Vec<u32>, Dictionary),
    Date(Vec<i64>),
}

/// The categories of a block, by code, in the order of first appearance. A category may have several codes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dictionary {
    text: String,
    ends: Vec<usize>,
}

impl Dictionary {
    pub(crate) fn push(&mut self, value: &str) -> u32 {
        self.text.push_str(value);
        self.ends.push(self.text.len());
        self.ends.len() as u32 - 1
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, code: u32) -> &str {
        let code = code as usize;
        let start = if code == 0 { 0 } else { self.ends[code - 1] };
        &self.text[start..self.ends[code]]
    }
}

/// A value that does not fit its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadCell {
    /// Row in the block.
    pub row: usize,
    /// What was expected.
    pub why: BadValue,
    /// The text, shortened; only for the first few of a block.
    pub text: Option<String>,
}

/// Why a value does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadValue {
    /// It is not of the column's type.
    NotA(ColumnType),
    /// It is infinite.
    Infinite,
    /// It is "nan", which the user does not list as missing.
    NotANumber,
}

impl BadValue {
    /// In words, for the ledger.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::NotA(ColumnType::Number) => "not a number",
            Self::NotA(ColumnType::Boolean) => "not a boolean",
            Self::NotA(ColumnType::Date) => "not a date",
            Self::NotA(ColumnType::Category) => "not a category",
            Self::Infinite => "an infinite value",
            Self::NotANumber => "a NaN that is not listed in `missing_values`",
        }
    }
}

/// A column of a block.
#[derive(Debug, Clone)]
pub(crate) struct BlockColumn {
    pub values: Values,
    pub bad: Vec<BadCell>,
}

/// What is known about the type of a column before a block is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// The column is not read.
    Skip,
    /// The type is settled: a value that does not fit is bad.
    Is(ColumnType),
    /// Earlier blocks read as this: a value that does not fit makes the column a category.
    Seems(Option<ColumnType>),
}

/// How a cell is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writing {
    /// As it is.
    Plain,
    /// In quotes, as in RFC 4180.
    CsvQuoted,
    /// A JSON string, with its quotes. It never reads as a number.
    JsonString,
}

/// The text of a block, by row and column.
pub(crate) trait Cells {
    fn rows(&self) -> usize;
    /// The text of a cell as it is written. An empty cell is missing.
    fn cell(&self, row: usize, column: usize) -> (&str, Writing);
}

/// The text that a cell means.
pub(crate) fn decode(raw: &str, writing: Writing) -> Cow<'_, str> {
    match writing {
        Writing::Plain => raw.into(),
        Writing::CsvQuoted => unquote(raw),
        Writing::JsonString => match raw.get(1..raw.len().max(2) - 1) {
            Some(inner) if !inner.contains('\\') => inner.into(),
            // The line was parsed as JSON before.
            _ => serde_json::from_str::<String>(raw).unwrap_or_default().into(),
        },
    }
}

/// A quoted field without its quotes. What follows the closing quote is taken as it is.
pub(crate) fn unquote(raw: &str) -> Cow<'_, str> {
    let inner = &raw[1..];
    let Some(end) = memchr::memchr(b'"', inner.as_bytes()) else { return inner.into() };
    if end + 1 == inner.len() {
        return inner[..end].into();
    }
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(quote) = memchr::memchr(b'"', rest.as_bytes()) {
        out.push_str(&rest[..quote]);
        rest = &rest[quote + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                out.push('"');
                rest = after;
            }
            None => break,
        }
    }
    out.push_str(rest);
    out.into()
}

/// Bad cells whose text is kept, a block and column.
const TEXTS: usize = 10;

struct Parser<'a, C> {
    cells: &'a C,
    column: usize,
    missing: &'a MissingValues,
    /// A value that does not fit is bad; otherwise it ends the parsing.
    strict: bool,
    bad: Vec<BadCell>,
}

/// Parses a column of a block.
pub(crate) fn parse_column(
    cells: &impl Cells,
    column: usize,
    expect: Expect,
    missing: &MissingValues,
) -> BlockColumn {
    let mut parser = Parser { cells, column, missing, strict: true, bad: Vec::new() };
    let values = match expect {
        Expect::Skip => Some(Values::Missing),
        Expect::Is(kind) => parser.parse(kind),
        Expect::Seems(kind) => {
            parser.strict = false;
            match kind.or_else(|| parser.first_class()) {
                None => Some(Values::Missing),
                Some(kind) => parser.parse(kind),
            }
        }
    };
    let values = values.unwrap_or_else(|| {
        parser.bad.clear();
        parser.categories()
    });
    BlockColumn { values: all_missing(values), bad: parser.bad }
}

/// A column without a value says nothing about its type.
fn all_missing(values: Values) -> Values {
    match &values {
        Values::Number(v) if v.iter().all(|x| x.is_nan()) => Values::Missing,
        Values::Boolean(v) | Values::Category(v, _) if v.iter().all(|&x| x == NO_CODE) => Values::Missing,
        Values::Date(v) if v.iter().all(|&x| x == NO_DATE) => Values::Missing,
        _ => values,
    }
}

impl<C: Cells> Parser<'_, C> {
    /// The type of the first value.
    fn first_class(&self) -> Option<ColumnType> {
        (0..self.cells.rows()).find_map(|row| {
            let (raw, writing) = self.cells.cell(row, self.column);
            let text = decode(raw, writing);
            if self.missing.contains(text.as_bytes()) {
                return None;
            }
            Some(class(&text, writing))
        })
    }

    /// `None` where a value does not fit a type that is not settled.
    fn parse(&mut self, kind: ColumnType) -> Option<Values> {
        match kind {
            ColumnType::Number => self.numbers().map(Values::Number),
            ColumnType::Boolean => {
                let strict = self.strict;
                let parse = |t: &str| parse_boolean(t.as_bytes(), strict).map(u32::from);
                self.simple(kind, NO_CODE, parse).map(Values::Boolean)
            }
            ColumnType::Date => {
                let strict = self.strict;
                self.simple(kind, NO_DATE, |t| parse_date(t.as_bytes(), strict)).map(Values::Date)
            }
            ColumnType::Category => Some(self.categories()),
        }
    }

    fn numbers(&mut self) -> Option<Vec<f64>> {
        let ambiguous = self.missing.ambiguous();
        let mut out = Vec::with_capacity(self.cells.rows());
        for row in 0..self.cells.rows() {
            let (raw, writing) = self.cells.cell(row, self.column);
            let fast = if writing == Writing::Plain && !ambiguous { parse_number(raw) } else { None };
            out.push(match fast {
                Some(value) if value.is_finite() => value,
                _ => self.number(row, raw, writing)?,
            });
        }
        Some(out)
    }

    /// A number that is not as numbers usually are.
    #[cold]
    fn number(&mut self, row: usize, raw: &str, writing: Writing) -> Option<f64> {
        let text = decode(raw, writing);
        if self.missing.contains(text.as_bytes()) {
            return Some(NO_NUMBER);
        }
        let why = match parse_number(&text) {
            Some(_) if !self.strict && writing == Writing::JsonString => return None,
            Some(value) if value.is_finite() => return Some(value),
            Some(value) if value.is_nan() => BadValue::NotANumber,
            Some(_) => BadValue::Infinite,
            None if self.strict => BadValue::NotA(ColumnType::Number),
            None => return None,
        };
        self.push_bad(row, why, &text);
        // The row is dropped. It must not look as if the column had no value at all.
        Some(0.0)
    }

    fn simple<T: Copy>(
        &mut self,
        kind: ColumnType,
        none: T,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let ambiguous = self.missing.ambiguous();
        let mut out = Vec::with_capacity(self.cells.rows());
        for row in 0..self.cells.rows() {
            let (raw, writing) = self.cells.cell(row, self.column);
            let text = decode(raw, writing);
            let value = match parse(&text) {
                Some(_) if ambiguous && self.missing.contains(text.as_bytes()) => none,
                Some(value) => value,
                None if self.missing.contains(text.as_bytes()) => none,
                None if self.strict => {
                    self.push_bad(row, BadValue::NotA(kind), &text);
                    none
                }
                None => return None,
            };
            out.push(value);
        }
        Some(out)
    }

    fn categories(&self) -> Values {
        let mut dictionary = Dictionary::default();
        // By the text as it is written, so that only new values are decoded.
        let mut codes_of: HashMap<(&str, bool), u32, FixedState> =
            HashMap::with_hasher(FixedState::with_seed(0));
        let mut codes = Vec::with_capacity(self.cells.rows());
        for row in 0..self.cells.rows() {
            let (raw, writing) = self.cells.cell(row, self.column);
            let code = *codes_of.entry((raw, writing == Writing::Plain)).or_insert_with(|| {
                let text = decode(raw, writing);
                if self.missing.contains(text.as_bytes()) { NO_CODE } else { dictionary.push(&text) }
            });
            codes.push(code);
        }
        Values::Category(codes, dictionary)
    }

    fn push_bad(&mut self, row: usize, why: BadValue, text: &str) {
        let text = (self.bad.len() < TEXTS).then(|| shorten(text));
        self.bad.push(BadCell { row, why, text });
    }
}

/// The type that a cell reads as.
fn class(text: &str, writing: Writing) -> ColumnType {
    match classify(text) {
        ColumnType::Number if writing == Writing::JsonString => ColumnType::Category,
        kind => kind,
    }
}

/// A value as messages show it.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}
