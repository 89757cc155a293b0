//! `jishi data inspect`: types, ranges, missing shares, suspicious columns, duplicates, and what the target suggests.
//!
//! Means, ranges and counts are those of all rows. Quartiles, numbers of distinct numbers and correlations are those of
//! [`SAMPLE`] evenly spaced rows where there are more, so that memory stays bounded.

mod leak;
pub(crate) mod render;

use std::path::PathBuf;

use arrow_array::Array;
use jishi_recipe::{ColumnType, TaskName};
use rayon::prelude::*;
use serde::Serialize;

use crate::ledger::Action;
use crate::table::{CHUNK_ROWS, Column, OVERFLOW, Table};

/// Most rows that quartiles, distinct numbers and correlations are taken from.
pub const SAMPLE: usize = 1_000_000;
/// Most distinct whole numbers of a target that is taken for classes.
const MAX_INTEGER_CLASSES: u64 = 20;
/// Share of missing values above which a column is suspicious.
const NEARLY_ALL: f64 = 0.95;
/// Fewer rows say nothing about what is id-like or leaks.
const FEW_ROWS: usize = 20;

/// What a table looks like.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// The files.
    pub files: Vec<PathBuf>,
    /// Rows that can be used.
    pub rows: u64,
    /// Rows that could not be read and were left out.
    pub dropped: u64,
    /// Every column.
    pub columns: Vec<ColumnReport>,
    /// Columns that deserve a look, and why.
    pub suspicious: Vec<Suspicion>,
    /// Rows that repeat an earlier one.
    pub duplicates: Duplicates,
    /// What the target suggests, where one was named and is there.
    pub target: Option<TargetReport>,
}

/// What a column looks like.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnReport {
    /// Name.
    pub name: String,
    /// Type.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// Rows without a value.
    pub missing: u64,
    /// `missing` by all rows, 0 to 1.
    pub missing_share: f64,
    /// Number of different values.
    pub distinct: u64,
    /// There are more: `distinct` was counted in a sample, or the dictionary is full.
    pub at_least: bool,
    /// Figures of a number column.
    pub numbers: Option<NumberReport>,
    /// First and last moment of a date column, ISO 8601.
    pub dates: Option<(String, String)>,
    /// Most frequent categories and their rows, at most ten.
    pub top: Vec<(String, u64)>,
}

/// Figures of a number column.
#[derive(Debug, Clone, Serialize)]
pub struct NumberReport {
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation (n − 1).
    pub std: f64,
    /// First quartile, linearly interpolated.
    pub q1: f64,
    /// Median.
    pub median: f64,
    /// Third quartile.
    pub q3: f64,
    /// Skewness: third central moment by the 3/2 power of the second.
    pub skewness: f64,
    /// All values are whole.
    pub integers: bool,
}

/// Why a column is suspicious.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suspect {
    /// One value in all rows, or none.
    Constant,
    /// A different value in every row, as a number or name of the row has.
    IdLike,
    /// Hardly any values.
    NearlyAllMissing,
    /// It says (almost) what the target is.
    LeaksTarget,
    /// The same as another column.
    Duplicate,
}

/// A suspicious column.
#[derive(Debug, Clone, Serialize)]
pub struct Suspicion {
    /// The column.
    pub column: String,
    /// Why, as a word.
    pub why: Suspect,
    /// Why, in a sentence.
    pub message: String,
}

/// Rows that repeat an earlier one in all columns.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Duplicates {
    /// How many.
    pub rows: u64,
    /// The first few: where the row is, and where the row is that it repeats.
    pub examples: Vec<DuplicateRow>,
}

/// A row that repeats an earlier one.
#[derive(Debug, Clone, Serialize)]
pub struct DuplicateRow {
    /// File of the row.
    pub file: PathBuf,
    /// Line of the row.
    pub line: u64,
    /// File of the row that it repeats.
    pub first_file: PathBuf,
    /// Line of the row that it repeats.
    pub first_line: u64,
}

/// What a target suggests.
#[derive(Debug, Clone, Serialize)]
pub struct TargetReport {
    /// The column.
    pub name: String,
    /// Recommended task: classification for categories, booleans, and at most 20 distinct whole numbers.
    pub task: TaskName,
    /// Rows without a target.
    pub missing: u64,
    /// Classification: the classes and their rows, the most frequent first, at most 100.
    pub classes: Vec<(String, u64)>,
    /// Regression: the skewness.
    pub skewness: Option<f64>,
}

/// Inspects a table; with a `target`, also what predicts it too well. A target that the table lacks is left out.
#[must_use]
pub fn inspect(table: &Table, target: Option<&str>) -> Inspection {
    let step = table.rows.div_ceil(SAMPLE).max(1);
    let columns: Vec<ColumnReport> =
        (0..table.columns.len()).into_par_iter().map(|c| report(table, c, step)).collect();
    let target = target.and_then(|name| table.column_index(name));
    let target_report = target.map(|t| target_report(table, t, &columns[t]));
    let mut suspicious = Vec::new();
    for (c, report) in columns.iter().enumerate() {
        if let Some((why, message)) = suspect(table, c, report, Some(c) == target) {
            suspicious.push(Suspicion { column: report.name.clone(), why, message });
        }
    }
    if let (Some(t), Some(report)) = (target, &target_report) {
        suspicious.extend(leak::leaks(table, t, report.task, &columns, step));
    }
    suspicious.extend(duplicate_columns(table, &columns));
    Inspection {
        files: table.files.clone(),
        rows: table.rows as u64,
        dropped: table.ledger.count(Action::Dropped),
        columns,
        suspicious,
        duplicates: duplicate_rows(table),
        target: target_report,
    }
}

/// Calls `f` with the values of a number or date column, NaN for missing, in row order; every `step`-th row.
fn each_number(table: &Table, column: usize, step: usize, mut f: impl FnMut(f64)) {
    let mut row = 0;
    while row < table.rows {
        let chunk = table.chunk(row / CHUNK_ROWS);
        let end = chunk.first_row + chunk.rows;
        for r in (row..end).step_by(step).map(|r| r - chunk.first_row) {
            f(match table.columns[column].kind {
                ColumnType::Number => {
                    Some(chunk.numbers(column)).filter(|a| a.is_valid(r)).map_or(f64::NAN, |a| a.value(r))
                }
                _ => Some(chunk.dates(column))
                    .filter(|a| a.is_valid(r))
                    .map_or(f64::NAN, |a| a.value(r) as f64),
            });
        }
        row += (end - row).div_ceil(step) * step;
    }
}

/// Rows of every code, and of [`OVERFLOW`] at the end.
fn count_codes(table: &Table, column: usize) -> Vec<u64> {
    let size = table.columns[column].categories.len();
    let mut counts = vec![0; size + 1];
    for i in 0..table.chunks() {
        let chunk = table.chunk(i);
        for code in chunk.codes(column).iter().flatten() {
            counts[(code as usize).min(size)] += 1;
        }
    }
    counts
}

fn report(table: &Table, column: usize, step: usize) -> ColumnReport {
    let Column { name, kind, missing, overflow, categories } = &table.columns[column];
    let mut report = ColumnReport {
        name: name.clone(),
        kind: *kind,
        missing: *missing,
        missing_share: *missing as f64 / table.rows as f64,
        distinct: 0,
        at_least: *overflow,
        numbers: None,
        dates: None,
        top: Vec::new(),
    };
    match kind {
        ColumnType::Category | ColumnType::Boolean => {
            let counts = count_codes(table, column);
            let mut order: Vec<usize> = (0..categories.len()).filter(|&c| counts[c] > 0).collect();
            report.distinct = order.len() as u64;
            order.sort_by_key(|&c| (std::cmp::Reverse(counts[c]), c));
            report.top = order.into_iter().take(10).map(|c| (categories[c].clone(), counts[c])).collect();
        }
        ColumnType::Number | ColumnType::Date => {
            let mut sample = Vec::with_capacity(table.rows.div_ceil(step));
            each_number(table, column, step, |x| sample.push(x));
            sample.retain(|x| !x.is_nan());
            sample.sort_unstable_by(f64::total_cmp);
            let figures = number_report(table, column, &sample);
            sample.dedup();
            report.distinct = sample.len() as u64;
            report.at_least = step > 1;
            match (kind, figures) {
                (ColumnType::Date, Some(f)) => report.dates = Some((moment(f.min), moment(f.max))),
                (_, figures) => report.numbers = figures,
            }
        }
    }
    report
}

fn moment(micros: f64) -> String {
    jiff::Timestamp::from_microsecond(micros as i64).map_or_else(|_| micros.to_string(), |t| t.to_string())
}

/// Figures of all values; quartiles of the sorted sample.
fn number_report(table: &Table, column: usize, sorted: &[f64]) -> Option<NumberReport> {
    let (mut n, mut sum, mut min, mut max, mut integers) =
        (0u64, 0.0, f64::INFINITY, f64::NEG_INFINITY, true);
    each_number(table, column, 1, |x| {
        if !x.is_nan() {
            n += 1;
            sum += x;
            min = min.min(x);
            max = max.max(x);
            integers &= x.fract() == 0.0;
        }
    });
    if n == 0 || sorted.is_empty() {
        return None;
    }
    let mean = sum / n as f64;
    let (mut second, mut third) = (0.0, 0.0);
    each_number(table, column, 1, |x| {
        if !x.is_nan() {
            let d = x - mean;
            second += d * d;
            third += d * d * d;
        }
    });
    let variance = second / n as f64;
    let quantile = |q: f64| {
        let at = q * (sorted.len() - 1) as f64;
        let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
        low + (high - low) * at.fract()
    };
    Some(NumberReport {
        min,
        max,
        mean,
        std: if n > 1 { (second / (n - 1) as f64).sqrt() } else { 0.0 },
        q1: quantile(0.25),
        median: quantile(0.5),
        q3: quantile(0.75),
        skewness: if variance > 0.0 { third / n as f64 / variance.powf(1.5) } else { 0.0 },
        integers,
    })
}

fn target_report(table: &Table, column: usize, report: &ColumnReport) -> TargetReport {
    let mut new = TargetReport {
        name: report.name.clone(),
        task: TaskName::Classification,
        missing: report.missing,
        classes: Vec::new(),
        skewness: None,
    };
    match (report.kind, &report.numbers) {
        (ColumnType::Category | ColumnType::Boolean, _) => {
            let counts = count_codes(table, column);
            new.classes = table.columns[column]
                .categories
                .iter()
                .cloned()
                .zip(counts)
                .filter(|(_, n)| *n > 0)
                .collect();
        }
        (_, Some(numbers))
            if numbers.integers && report.distinct <= MAX_INTEGER_CLASSES && !report.at_least =>
        {
            let mut counts: Vec<(f64, u64)> = Vec::new();
            each_number(table, column, 1, |x| match counts.iter_mut().find(|(v, _)| *v == x) {
                Some((_, n)) => *n += 1,
                None if x.is_nan() => {}
                None => counts.push((x, 1)),
            });
            counts.sort_by(|a, b| a.0.total_cmp(&b.0));
            new.classes = counts.into_iter().map(|(v, n)| (v.to_string(), n)).collect();
        }
        (_, numbers) => {
            new.task = TaskName::Regression;
            new.skewness = numbers.as_ref().map(|n| n.skewness);
        }
    }
    // Stable: equally frequent classes stay in their order.
    new.classes.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    new.classes.truncate(100);
    new
}

/// What is suspicious about a column by itself.
fn suspect(
    table: &Table,
    column: usize,
    report: &ColumnReport,
    is_target: bool,
) -> Option<(Suspect, String)> {
    let there = table.rows as u64 - report.missing;
    if there == 0 {
        return Some((Suspect::Constant, "has no value in any row".into()));
    }
    if report.distinct == 1 && !report.at_least && report.missing == 0 {
        return Some((Suspect::Constant, "has the same value in every row".into()));
    }
    if report.missing_share >= NEARLY_ALL {
        return Some((
            Suspect::NearlyAllMissing,
            format!("is missing in {:.1} % of the rows", report.missing_share * 100.0),
        ));
    }
    if is_target || table.rows < FEW_ROWS || report.missing > 0 {
        return None;
    }
    let unique = report.distinct == there || report.at_least && report.kind == ColumnType::Category;
    let id_like = match (report.kind, &report.numbers) {
        (ColumnType::Category, _) => unique,
        (ColumnType::Number, Some(n)) if n.integers => {
            // A measure in whole units may be unique by chance; a running number fills its range, or is called an id.
            let name = report.name.to_lowercase();
            let called_id = name == "id"
                || ["_id", "-id", " id", "uuid"].iter().any(|e| name.ends_with(e))
                || name == "index";
            let dense = n.max - n.min < 2.0 * table.rows as f64;
            let sampled = report.at_least
                && report.distinct as usize == table.rows.div_ceil(table.rows.div_ceil(SAMPLE));
            (unique || sampled) && (called_id || dense || grows(table, column))
        }
        _ => false,
    };
    id_like.then(|| {
        (
            Suspect::IdLike,
            "has a different value in every row, as an id has; it can't help on new rows".into(),
        )
    })
}

/// Whether every value is larger than the one before.
fn grows(table: &Table, column: usize) -> bool {
    let (mut last, mut grows) = (f64::NEG_INFINITY, true);
    each_number(table, column, 1, |x| {
        grows &= x > last;
        last = x;
    });
    grows
}

/// A good mixer of 64 bits (the finaliser of SplitMix64, Steele et al. 2014).
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A hash of every category of a column.
fn category_hashes(column: &Column) -> Vec<u64> {
    let hash = |value: &String| value.bytes().fold(0x9e37_79b9_7f4a_7c15, |h, b| mix(h ^ u64::from(b)));
    column.categories.iter().map(hash).collect()
}

/// Calls `f` with every row of a chunk and the hash of its value; `None` where the dictionary does not know the value.
fn each_hash(
    table: &Table,
    chunk: usize,
    column: usize,
    hashes: &[u64],
    mut f: impl FnMut(usize, Option<u64>),
) {
    let chunk = table.chunk(chunk);
    for r in 0..chunk.rows {
        let hash = match table.columns[column].kind {
            // Zero and minus zero are one value.
            ColumnType::Number => Some(chunk.numbers(column))
                .filter(|a| a.is_valid(r))
                .map(|a| Some((a.value(r) + 0.0).to_bits())),
            ColumnType::Date => {
                Some(chunk.dates(column)).filter(|a| a.is_valid(r)).map(|a| Some(a.value(r) as u64))
            }
            _ => Some(chunk.codes(column)).filter(|a| a.is_valid(r)).map(|a| match a.value(r) {
                OVERFLOW => None,
                code => Some(hashes[code as usize]),
            }),
        };
        f(r, hash.unwrap_or(Some(0x6d69_7373_696e_6721)));
    }
}

/// Rows that repeat an earlier one, by 64-bit hashes: 16 bytes a row.
fn duplicate_rows(table: &Table) -> Duplicates {
    let dictionaries: Vec<Vec<u64>> = table.columns.iter().map(category_hashes).collect();
    let chunk_hashes = |i: usize| {
        let rows = CHUNK_ROWS.min(table.rows - i * CHUNK_ROWS);
        let mut hashes = vec![0u64; rows];
        let mut unknown = vec![false; rows];
        for (c, dictionary) in dictionaries.iter().enumerate() {
            each_hash(table, i, c, dictionary, |r, hash| {
                unknown[r] |= hash.is_none();
                hashes[r] = mix(hashes[r].wrapping_add(0x9e37_79b9_7f4a_7c15) ^ mix(hash.unwrap_or(0)));
            });
        }
        // A row with a value that the dictionary has no room for can't be compared.
        for r in (0..rows).filter(|&r| unknown[r]) {
            hashes[r] = mix(hashes[r] ^ (i * CHUNK_ROWS + r) as u64);
        }
        hashes
    };
    let mut hashes = Vec::with_capacity(table.rows);
    for first in (0..table.chunks()).step_by(8) {
        let part: Vec<Vec<u64>> =
            (first..table.chunks().min(first + 8)).into_par_iter().map(chunk_hashes).collect();
        hashes.extend(part.into_iter().flatten());
    }
    let mut sorted = hashes.clone();
    sorted.par_sort_unstable();
    let rows = sorted.windows(2).filter(|w| w[0] == w[1]).count() as u64;
    let mut examples = Vec::new();
    if rows > 0 {
        // By place in `sorted`: the hash was met before.
        let mut met = vec![false; sorted.len()];
        for (row, &hash) in hashes.iter().enumerate() {
            if examples.len() == 5 {
                break;
            }
            let place = sorted.partition_point(|&h| h < hash);
            if !std::mem::replace(&mut met[place], true) {
                continue;
            }
            let Some(first) = hashes[..row].iter().position(|&h| h == hash) else { continue };
            let ((file, line), (first_file, first_line)) = (table.origin(row), table.origin(first));
            examples.push(DuplicateRow {
                file: table.files[file].clone(),
                line,
                first_file: table.files[first_file].clone(),
                first_line,
            });
        }
    }
    Duplicates { rows, examples }
}

/// Columns with the same values as an earlier one.
fn duplicate_columns(table: &Table, reports: &[ColumnReport]) -> Vec<Suspicion> {
    let hash = |c: usize| {
        let dictionary = category_hashes(&table.columns[c]);
        let mut all = Some(0u64);
        for i in 0..table.chunks() {
            each_hash(table, i, c, &dictionary, |_, hash| {
                all =
                    all.zip(hash).map(|(all, hash)| mix(all.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ mix(hash)));
            });
        }
        all
    };
    let hashes: Vec<Option<u64>> = (0..table.columns.len()).into_par_iter().map(hash).collect();
    let mut found = Vec::new();
    for c in (0..hashes.len()).filter(|&c| hashes[c].is_some() && reports[c].distinct > 1) {
        let same = |&o: &usize| hashes[o] == hashes[c] && reports[o].kind == reports[c].kind;
        if let Some(other) = (0..c).find(same) {
            found.push(Suspicion {
                column: reports[c].name.clone(),
                why: Suspect::Duplicate,
                message: format!("is the same as `{}` in every row", reports[other].name),
            });
        }
    }
    found
}
