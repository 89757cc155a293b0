//! Which rows can be used: policies for missing values that drop rows or stop, and checks of the target.

use std::collections::BTreeMap;

use arrow_array::Array;
use arrow_buffer::NullBuffer;
use jishi_recipe::{
    ColumnType, Data, MissingCategory, MissingNumber, MissingTarget, Problem, Problems, TaskName,
};
use rayon::prelude::*;

use super::columns::Roles;
use super::target;
use crate::ledger::{Action, Ledger};
use crate::rows::listed;
use crate::table::Chunk;
use crate::{DataError, Table};

/// Lines of bad rows that one problem lists.
const LISTED: usize = 10;

/// The rows that can be learned from, ascending: every row but those that the policies for missing values
/// drop. What they drop goes to `ledger`, beside what the reader dropped.
///
/// # Errors
/// [`DataError::Bad`] with every problem of the columns and the target: names that the data lacks, a target
/// of the wrong type, values missing where the policy is `error`; more rows dropped (by the reader and here) than `max_dropped` allows; no row left.
pub fn usable_rows(
    table: &Table,
    data: &Data,
    task: TaskName,
    ledger: &mut Ledger,
) -> Result<Vec<u32>, DataError> {
    let roles = Roles::new(table, data)?;
    target::check_type(table, roles.target, task)?;
    let mut rules = vec![Rule::target(roles.target, data.missing.target)];
    for &column in &roles.features {
        let missing = match table.columns[column].kind {
            ColumnType::Number | ColumnType::Date => OnMissing::of_number(data.missing.number),
            ColumnType::Category | ColumnType::Boolean => OnMissing::of_category(data.missing.category),
        };
        rules.push(Rule { column, missing, target: false });
    }
    let scanned = scan(table, &rules)?;
    let kept = scanned.record(table, &rules, ledger);
    let before = table.ledger.count(Action::Dropped);
    let dropped = before + (table.rows - kept.len()) as u64;
    let all = table.ledger.rows_read.max(table.rows as u64 + before);
    let share = dropped as f64 / all.max(1) as f64;
    if share > data.max_dropped {
        let mut reasons: BTreeMap<String, u64> = table.ledger.summary().drop_reasons;
        for (rule, rows) in scanned.dropped_by_rule(rules.len()) {
            *reasons.entry(rules[rule].reason(table)).or_default() += rows;
        }
        let reasons: Vec<String> = reasons.into_iter().map(|(why, rows)| format!("{why}: {rows}")).collect();
        return Err(Problem::new(format!(
            "{dropped} of {all} rows would be dropped ({:.1} %), but `data.max_dropped` allows {:.1} %: {}",
            100.0 * share,
            100.0 * data.max_dropped,
            listed(&reasons, 8),
        ))
        .help("mend the data, choose another policy under `data.missing`, or raise `data.max_dropped`")
        .into());
    }
    if kept.is_empty() {
        return Err(Problem::new("no row is left to learn from")
            .help("the ledger says why each was dropped; choose another policy under `data.missing`")
            .into());
    }
    Ok(kept)
}

/// What to do with a missing value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnMissing {
    Keep,
    Drop,
    Error,
}

impl OnMissing {
    pub fn of_number(policy: MissingNumber) -> Self {
        match policy {
            MissingNumber::Drop => Self::Drop,
            MissingNumber::Error => Self::Error,
            MissingNumber::Median | MissingNumber::Mean | MissingNumber::Zero => Self::Keep,
        }
    }

    pub fn of_category(policy: MissingCategory) -> Self {
        match policy {
            MissingCategory::Drop => Self::Drop,
            MissingCategory::Error => Self::Error,
            MissingCategory::Own | MissingCategory::MostFrequent => Self::Keep,
        }
    }
}

/// What a row must have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    pub column: usize,
    pub missing: OnMissing,
    pub target: bool,
}

impl Rule {
    pub fn target(column: usize, policy: MissingTarget) -> Self {
        let missing = match policy {
            MissingTarget::Error => OnMissing::Error,
            MissingTarget::Drop => OnMissing::Drop,
        };
        Self { column, missing, target: true }
    }

    fn reason(&self, table: &Table) -> String {
        let what = if self.target { "missing target" } else { "missing value" };
        format!("{what} in `{}`", table.columns[self.column].name)
    }
}

/// Rows that the rules keep, and those that they drop.
pub(super) struct Scanned {
    kept: Vec<u32>,
    /// Row, line and rule of every dropped row, ascending.
    dropped: Vec<(u32, u64, u32)>,
}

impl Scanned {
    /// Writes the dropped rows into the ledger and gives the kept ones.
    pub fn record(&self, table: &Table, rules: &[Rule], ledger: &mut Ledger) -> Vec<u32> {
        let reasons: Vec<String> = rules.iter().map(|r| r.reason(table)).collect();
        for &(row, line, rule) in &self.dropped {
            let file = &table.files[table.file_of(row as usize)];
            let column = &table.columns[rules[rule as usize].column].name;
            ledger.drop_row(&reasons[rule as usize], Some(column), file, line);
        }
        self.kept.clone()
    }

    fn dropped_by_rule(&self, rules: usize) -> Vec<(usize, u64)> {
        let mut rows = vec![0; rules];
        for (_, _, rule) in &self.dropped {
            rows[*rule as usize] += 1;
        }
        rows.into_iter().enumerate().filter(|(_, n)| *n > 0).collect()
    }
}

/// Bad rows of one kind: how many, and the first few.
#[derive(Default)]
struct Bad {
    count: usize,
    first: Vec<(u32, u64)>,
}

impl Bad {
    fn push(&mut self, row: u32, line: u64) {
        self.count += 1;
        if self.first.len() < LISTED {
            self.first.push((row, line));
        }
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.first.extend(other.first);
        self.first.truncate(LISTED);
    }
}

#[derive(Default)]
struct Part {
    kept: Vec<u32>,
    dropped: Vec<(u32, u64, u32)>,
    /// By rule.
    bad: BTreeMap<usize, Bad>,
}

/// Applies the rules to every row.
pub(super) fn scan(table: &Table, rules: &[Rule]) -> Result<Scanned, DataError> {
    let strict = |r: &Rule| r.missing != OnMissing::Keep && table.columns[r.column].missing > 0;
    if !rules.iter().any(strict) {
        return Ok(Scanned { kept: (0..table.rows as u32).collect(), dropped: Vec::new() });
    }
    let parts: Vec<Part> = (0..table.chunks())
        .into_par_iter()
        .map(|i| scan_chunk(table, &table.chunk(i), rules, &strict))
        .collect();
    let mut all = Part::default();
    for part in parts {
        all.kept.extend(part.kept);
        all.dropped.extend(part.dropped);
        for (key, bad) in part.bad {
            all.bad.entry(key).or_default().merge(bad);
        }
    }
    let problems = all.bad.into_iter().map(|(rule, bad)| describe(table, &rules[rule], &bad));
    Problems(problems.collect()).into_result()?;
    Ok(Scanned { kept: all.kept, dropped: all.dropped })
}

fn scan_chunk(table: &Table, chunk: &Chunk, rules: &[Rule], strict: &impl Fn(&Rule) -> bool) -> Part {
    let mut part = Part::default();
    // For every row the first rule that drops it, if any.
    let mut dropped_by = vec![u32::MAX; chunk.rows];
    let lines = chunk.lines();
    for (number, rule) in rules.iter().enumerate() {
        let missing =
            strict(rule).then(|| nulls(chunk, rule.column, table.columns[rule.column].kind)).flatten();
        if let Some(nulls) = missing {
            for at in (0..chunk.rows).filter(|&at| nulls.is_null(at)) {
                match rule.missing {
                    OnMissing::Drop if dropped_by[at] == u32::MAX => dropped_by[at] = number as u32,
                    OnMissing::Error => {
                        let bad = part.bad.entry(number).or_default();
                        bad.push((chunk.first_row + at) as u32, lines.value(at));
                    }
                    OnMissing::Drop | OnMissing::Keep => {}
                }
            }
        }
    }
    for (at, &rule) in dropped_by.iter().enumerate() {
        let row = (chunk.first_row + at) as u32;
        if rule == u32::MAX {
            part.kept.push(row);
        } else {
            part.dropped.push((row, lines.value(at), rule));
        }
    }
    part
}

/// Which values of a column are missing; `None` where none is.
pub(super) fn nulls(chunk: &Chunk, column: usize, kind: ColumnType) -> Option<NullBuffer> {
    match kind {
        ColumnType::Number => chunk.numbers(column).nulls().cloned(),
        ColumnType::Category | ColumnType::Boolean => chunk.codes(column).nulls().cloned(),
        ColumnType::Date => chunk.dates(column).nulls().cloned(),
    }
}

fn describe(table: &Table, rule: &Rule, bad: &Bad) -> Problem {
    let name = &table.columns[rule.column].name;
    let what = if rule.target { "target" } else { "column" };
    let lines: Vec<u64> = bad.first.iter().map(|(_, line)| *line).collect();
    let mut listed = listed(&lines, LISTED);
    if bad.count > lines.len() {
        listed.push_str(&format!(" and {} more", bad.count - lines.len()));
    }
    let (rows, line) =
        if bad.count == 1 { ("1 row".into(), "line") } else { (format!("{} rows", bad.count), "lines") };
    let help = match (rule.target, table.columns[rule.column].kind) {
        (true, _) => "mend these rows, or set `data.missing.target = \"drop\"`",
        (false, ColumnType::Number | ColumnType::Date) => {
            "mend these rows, or set `data.missing.number` to `median`, `mean`, `zero` or `drop`"
        }
        (false, ColumnType::Category | ColumnType::Boolean) => {
            "mend these rows, or set `data.missing.category` to `own`, `most-frequent` or `drop`"
        }
    };
    let mut problem =
        Problem::new(format!("{what} `{name}` is missing in {rows} ({line} {listed})")).help(help);
    if let Some(&(row, line)) = bad.first.first() {
        problem = problem.file(&table.files[table.file_of(row as usize)]).line(line);
    }
    problem
}
