//! Splits that a column of the data assigns.

use std::collections::BTreeMap;

use jishi_recipe::{Problem, Problems};

use super::{Splits, empty};
use crate::rows::{by_chunk, key, key_text};
use crate::{DataError, Table};

/// Rows by the value of a column: `train`, `validation` or `test`.
pub(super) fn split(table: &Table, column: usize, usable: &[u32]) -> Result<Splits, DataError> {
    let info = &table.columns[column];
    let mut splits = Splits::default();
    // Wrong value → its first row and line, and how many rows have it.
    let mut wrong: BTreeMap<Option<u64>, (u32, u64, usize)> = BTreeMap::new();
    // Every distinct value is put into words once.
    let mut known: BTreeMap<u64, usize> = BTreeMap::new();
    for (chunk, rows) in by_chunk(table, usable) {
        for &row in rows {
            let at = row as usize - chunk.first_row;
            let key = key(&chunk, column, info.kind, at);
            let which = key.map_or(3, |k| {
                *known.entry(k).or_insert_with(|| match key_text(table, column, k).as_str() {
                    "train" => 0,
                    "validation" => 1,
                    "test" => 2,
                    _ => 3,
                })
            });
            match which {
                0 => splits.train.push(row),
                1 => splits.validation.push(row),
                2 => splits.test.push(row),
                _ => wrong.entry(key).or_insert((row, chunk.lines().value(at), 0)).2 += 1,
            }
        }
    }
    let mut wrong: Vec<_> = wrong.into_iter().collect();
    wrong.sort_by_key(|(_, (row, ..))| *row);
    let problems = wrong.into_iter().take(20).map(|(key, (row, line, count))| {
        let value = key.map_or_else(|| "nothing".into(), |k| format!("`{}`", key_text(table, column, k)));
        let times = if count == 1 { String::new() } else { format!(" ({count} rows, first here)") };
        Problem::new(format!("column `{}` assigns rows to splits, but holds {value}{times}", info.name))
            .file(&table.files[table.file_of(row as usize)])
            .line(line)
            .help("it must hold `train`, `validation` or `test`")
    });
    Problems(problems.collect()).into_result()?;
    if splits.train.is_empty() {
        return Err(empty("training", usable.len())
            .help(format!("no row of `{}` says `train`", info.name))
            .into());
    }
    Ok(splits)
}
