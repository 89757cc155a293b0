//! JSON lines: one object a line; a key is a column, a missing key or `null` is a missing value.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use jishi_recipe::Problem;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Stop;
use super::assemble::{Assembler, BadLine, Block};
use super::bytes::{Blocks, Content, RawBlock};
use super::column::{Cells, Expect, Writing, parse_column};
use super::text::{check_utf8, drive};
use super::value::MissingValues;
use crate::source::ReadOptions;

/// Most different keys.
const MAX_COLUMNS: usize = 100_000;

/// Reads a JSON lines file into `table`.
pub(crate) fn read(
    content: Content,
    options: &ReadOptions,
    missing: &MissingValues,
    table: &mut Assembler,
) -> Result<(), Stop> {
    let mut blocks = Blocks::new(content, None);
    let first = first(&mut blocks)?;
    let parse = |raw: &RawBlock, known: &HashMap<String, Expect>| {
        let objects = Objects::find(check_utf8(raw)?, raw.first_line)?;
        let columns = objects.names.iter().enumerate().map(|(i, name)| {
            let expect = known.get(name).copied().unwrap_or_else(|| expect_new(name, options));
            parse_column(&objects, i, expect, missing)
        });
        Ok(Block {
            columns: columns.collect(),
            names: Some(objects.names),
            lines: objects.lines,
            bad_lines: objects.bad,
        })
    };
    drive(first, &mut blocks, table, |t| t.expectations_by_name(), parse)
}

/// The keys in the first part of a file.
pub(crate) fn header(content: Content) -> Result<Vec<String>, Stop> {
    let first = first(&mut Blocks::new(content, None))?;
    Ok(Objects::find(check_utf8(&first)?, first.first_line)?.names)
}

fn first(blocks: &mut Blocks) -> Result<RawBlock, Stop> {
    let empty = || {
        Problem::new("the file is empty")
            .help("expected one JSON object a line, such as {\"rooms\": 3, \"price\": 215000}")
    };
    Ok(blocks.next()?.ok_or_else(empty)?)
}

/// What is expected of a column that no block before had.
fn expect_new(name: &str, options: &ReadOptions) -> Expect {
    if options.only.as_ref().is_some_and(|only| !only.iter().any(|o| o == name)) {
        return Expect::Skip;
    }
    options.types.get(name).map_or(Expect::Seems(None), |&kind| Expect::Is(kind))
}

/// The values of a block of objects.
struct Objects<'a> {
    text: &'a str,
    names: Vec<String>,
    index: HashMap<String, usize>,
    /// Start and end of the values of every column; equal for null. Shorter than `lines` where the last rows lack the key.
    spans: Vec<Vec<(u32, u32)>>,
    lines: Vec<u64>,
    bad: Vec<BadLine>,
}

impl Cells for Objects<'_> {
    fn rows(&self) -> usize {
        self.lines.len()
    }

    fn cell(&self, row: usize, column: usize) -> (&str, Writing) {
        let (start, end) = self.spans[column].get(row).copied().unwrap_or((0, 0));
        let raw = &self.text[start as usize..end as usize];
        (raw, if raw.starts_with('"') { Writing::JsonString } else { Writing::Plain })
    }
}

impl<'a> Objects<'a> {
    fn find(text: &'a str, first_line: u64) -> Result<Self, Problem> {
        let mut new = Self {
            text,
            names: Vec::new(),
            index: HashMap::new(),
            spans: Vec::new(),
            lines: Vec::new(),
            bad: Vec::new(),
        };
        for (line, number) in text.split('\n').zip(first_line..) {
            if line.bytes().all(|b| b.is_ascii_whitespace()) {
                continue;
            }
            let object = match serde_json::from_str::<Object>(line) {
                Ok(object) => object,
                Err(error) => {
                    new.bad.push(not_an_object(&error, number));
                    continue;
                }
            };
            let names_before = new.names.len();
            match new.push(&object) {
                Ok(()) => new.lines.push(number),
                Err((reason, message)) => {
                    new.take_back(names_before);
                    new.bad.push(BadLine { line: number, place: None, reason, message });
                }
            }
            if new.names.len() > MAX_COLUMNS {
                return Err(Problem::new(format!("there are more than {MAX_COLUMNS} different keys"))
                    .line(number)
                    .help("expected the same keys in every line"));
            }
        }
        Ok(new)
    }

    /// Adds a row.
    fn push(&mut self, object: &Object<'a>) -> Result<(), (&'static str, String)> {
        let row = self.lines.len();
        for (i, (key, raw)) in object.0.iter().enumerate() {
            // Mostly, keys come in the same order in every line.
            let column = match self.names.get(i) {
                Some(name) if name == key => i,
                _ => self.column(key),
            };
            let raw = raw.get();
            if raw.starts_with(['{', '[']) {
                let message =
                    format!("expected a number, text, true, false or null for `{key}`, found a nested value");
                return Err(("a nested value", message));
            }
            let spans = &mut self.spans[column];
            if spans.len() > row {
                return Err(("a key given twice", format!("the key `{key}` is given twice")));
            }
            spans.resize(row, (0, 0));
            let start = raw.as_ptr() as usize - self.text.as_ptr() as usize;
            spans.push(if raw == "null" { (0, 0) } else { (start as u32, (start + raw.len()) as u32) });
        }
        Ok(())
    }

    fn column(&mut self, key: &str) -> usize {
        if let Some(&column) = self.index.get(key) {
            return column;
        }
        self.index.insert(key.into(), self.names.len());
        self.names.push(key.into());
        self.spans.push(Vec::new());
        self.names.len() - 1
    }

    /// Undoes the row that was being added.
    fn take_back(&mut self, names: usize) {
        for name in self.names.drain(names..) {
            self.index.remove(&name);
        }
        self.spans.truncate(names);
        for spans in &mut self.spans {
            spans.truncate(self.lines.len());
        }
    }
}

pub(crate) fn not_an_object(error: &serde_json::Error, line: u64) -> BadLine {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    BadLine {
        line,
        place: Some(error.column().max(1) as u64),
        reason: "not a JSON object",
        message: format!("expected one JSON object: {what}"),
    }
}

/// Keys and values of a line, as they are written.
pub(crate) struct Object<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(Key(key)) = map.next_key()? {
                    if key.is_empty() {
                        return Err(A::Error::custom("a key is empty"));
                    }
                    pairs.push((key, map.next_value()?));
                }
                Ok(Object(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}
