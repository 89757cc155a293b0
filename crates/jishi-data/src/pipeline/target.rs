//! What is predicted: a number with its scaling, or one of several classes.

use std::collections::HashMap;

use arrow_array::Array;
use jishi_recipe::{ColumnType, Data, Domain, Problem, Scaling, TaskName};
use serde::{Deserialize, Serialize};

use super::scale::Scaler;
use super::stats::{Moments, Sampler};
use crate::rows::{by_chunk, key, key_text, number_text};
use crate::{DataError, OVERFLOW, Table};

/// Most classes of a classification.
pub(crate) const MAX_CLASSES: usize = 1000;

/// What is predicted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Target {
    /// A number.
    Number {
        /// The column's name.
        column: String,
        /// How it is scaled for the model.
        scaler: Scaler,
    },
    /// A class.
    Class {
        /// The column's name.
        column: String,
        /// The column's type.
        #[serde(rename = "type")]
        kind: ColumnType,
        /// The classes, sorted: by value where all are numbers, else by name.
        classes: Vec<String>,
    },
}

impl Target {
    /// The column's name.
    #[must_use]
    pub fn column(&self) -> &str {
        match self {
            Self::Number { column, .. } | Self::Class { column, .. } => column,
        }
    }

    /// The column's type.
    #[must_use]
    pub fn kind(&self) -> ColumnType {
        match self {
            Self::Number { .. } => ColumnType::Number,
            Self::Class { kind, .. } => *kind,
        }
    }

    /// A number in the model's unit; as it is where classes are predicted.
    #[must_use]
    pub fn scale(&self, y: f64) -> f64 {
        match self {
            Self::Number { scaler, .. } => scaler.scale(y),
            Self::Class { .. } => y,
        }
    }

    /// A number in its own unit; as it is where classes are predicted.
    #[must_use]
    pub fn unscale(&self, z: f64) -> f64 {
        match self {
            Self::Number { scaler, .. } => scaler.unscale(z),
            Self::Class { .. } => z,
        }
    }

    /// The classes; none where a number is predicted.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        match self {
            Self::Number { .. } => &[],
            Self::Class { classes, .. } => classes,
        }
    }

    /// Fits to the training rows (ascending).
    pub(super) fn fit(
        table: &Table,
        column: usize,
        train: &[u32],
        data: &Data,
        task: TaskName,
    ) -> Result<Self, DataError> {
        check_type(table, column, task)?;
        match task {
            TaskName::Regression => fit_number(table, column, train, data.scale.target),
            _ => fit_classes(table, column, train),
        }
    }
}

/// Whether a column can be the target of a task.
pub(super) fn check_type(table: &Table, column: usize, task: TaskName) -> Result<(), Problem> {
    let info = &table.columns[column];
    let name = &info.name;
    match (task, info.kind) {
        (TaskName::Regression, ColumnType::Number)
        | (TaskName::Classification, ColumnType::Number | ColumnType::Category | ColumnType::Boolean) => {
            Ok(())
        }
        (other, _) if other.domain() != Domain::Tables => {
            Err(Problem::new(format!("a table can't be prepared for {}", other.name())))
        }
        (_, ColumnType::Date) => Err(Problem::new(format!("the target, column `{name}`, holds dates"))
            .help("predict a number or a class; write durations as numbers")),
        (_, ColumnType::Boolean) => Err(Problem::new(format!(
            "a regression predicts a number, but column `{name}` holds true and false"
        ))
        .help("set `task = \"classification\"`")),
        (_, ColumnType::Category | ColumnType::Number) => Err(not_numbers(table, column)),
    }
}

/// The problem of a regression on text, at the first value that is no number.
fn not_numbers(table: &Table, column: usize) -> Problem {
    let info = &table.columns[column];
    let numeric: Vec<bool> = info.categories.iter().map(|c| c.trim().parse::<f64>().is_ok()).collect();
    let help = "mend these values or list them in `data.missing_values`, or set `task = \"classification\"`";
    for chunk in (0..table.chunks()).map(|i| table.chunk(i)) {
        let codes = chunk.codes(column);
        for at in (0..chunk.rows).filter(|&at| codes.is_valid(at)) {
            let code = codes.value(at);
            if numeric.get(code as usize).is_some_and(|&n| n) {
                continue;
            }
            let value = key_text(table, column, u64::from(code));
            return Problem::new(format!(
                "a regression predicts a number, but column `{}` holds text, first `{value}`",
                info.name
            ))
            .file(&table.files[table.file_of(chunk.first_row + at)])
            .line(chunk.lines().value(at))
            .help(help);
        }
    }
    Problem::new(format!("a regression predicts a number, but column `{}` is read as categories", info.name))
        .help(format!("leave `{}` out of `data.types`, or set `task = \"classification\"`", info.name))
}

fn fit_number(table: &Table, column: usize, train: &[u32], scaling: Scaling) -> Result<Target, DataError> {
    let (mut moments, mut logs) = (Moments::EMPTY, Moments::EMPTY);
    let mut sorted = Vec::new();
    let sampler = Sampler::new(train.len());
    let (mut values, mut position) = (Vec::new(), 0);
    for (chunk, rows) in by_chunk(table, train) {
        let numbers = chunk.numbers(column);
        values.clear();
        for &row in rows {
            let at = row as usize - chunk.first_row;
            if numbers.is_null(at) {
                return Err(no_target(table, column, row, chunk.lines().value(at)).into());
            }
            values.push(numbers.value(at));
            if sampler.takes(position) && Scaler::needs_order(scaling) {
                sorted.push(numbers.value(at));
            }
            position += 1;
        }
        moments = moments.merge(Moments::of_slice(&values));
        if scaling == Scaling::Log {
            values.iter_mut().for_each(|v| *v = super::scale::signed_log(*v));
            logs = logs.merge(Moments::of_slice(&values));
        }
    }
    let name = table.columns[column].name.clone();
    if moments.is_constant() {
        return Err(Problem::new(format!(
            "the target, column `{name}`, is {} in every training row: there is nothing to learn",
            number_text(moments.mean)
        ))
        .help("check that `data.target` names the right column")
        .into());
    }
    sorted.sort_unstable_by(f64::total_cmp);
    let scaler = Scaler::fit(scaling, &moments, &logs, &sorted);
    scaler.check().map_err(|_| super::fit::too_large(&name))?;
    Ok(Target::Number { column: name, scaler })
}

fn fit_classes(table: &Table, column: usize, train: &[u32]) -> Result<Target, DataError> {
    let info = &table.columns[column];
    // Key → training rows.
    let mut counts: HashMap<u64, usize> = HashMap::new();
    for (chunk, rows) in by_chunk(table, train) {
        for &row in rows {
            let at = row as usize - chunk.first_row;
            let Some(key) = key(&chunk, column, info.kind, at) else {
                return Err(no_target(table, column, row, chunk.lines().value(at)).into());
            };
            *counts.entry(key).or_default() += 1;
            if counts.len() > MAX_CLASSES || key == u64::from(OVERFLOW) && info.overflow {
                return Err(too_many(table, column).into());
            }
        }
    }
    let mut classes: Vec<String> = counts.keys().map(|&k| key_text(table, column, k)).collect();
    sort_classes(&mut classes);
    if let [only] = classes.as_slice() {
        return Err(Problem::new(format!(
            "a classification needs at least two classes, but column `{}` holds only `{only}` in the {} training rows",
            info.name,
            train.len()
        ))
        .help("check that `data.target` names the right column; a stratified split keeps rare classes in training")
        .into());
    }
    Ok(Target::Class { column: info.name.clone(), kind: info.kind, classes })
}

/// By value where every name is a number, else by name.
fn sort_classes(classes: &mut [String]) {
    let values: Option<Vec<f64>> = classes.iter().map(|c| c.trim().parse().ok()).collect();
    match values {
        Some(values) if values.iter().all(|v| v.is_finite()) => {
            let mut order: Vec<usize> = (0..classes.len()).collect();
            order.sort_by(|&a, &b| values[a].total_cmp(&values[b]).then_with(|| classes[a].cmp(&classes[b])));
            let sorted: Vec<String> = order.iter().map(|&i| classes[i].clone()).collect();
            classes.clone_from_slice(&sorted);
        }
        _ => classes.sort(),
    }
}

fn too_many(table: &Table, column: usize) -> Problem {
    let info = &table.columns[column];
    let problem = Problem::new(format!("column `{}` holds more than {MAX_CLASSES} classes", info.name));
    match info.kind {
        ColumnType::Number => problem.help("it holds numbers: set `task = \"regression\"`"),
        _ => problem.help("check that `data.target` names the right column; merge rare classes"),
    }
}

pub(super) fn no_target(table: &Table, column: usize, row: u32, line: u64) -> Problem {
    Problem::new(format!("the row has no target: column `{}` is empty", table.columns[column].name))
        .file(&table.files[table.file_of(row as usize)])
        .line(line)
        .help("fill it in, or set `data.missing.target = \"drop\"`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_sort_by_value_where_all_are_numbers() {
        let sorted = |names: &[&str]| {
            let mut classes: Vec<String> = names.iter().map(ToString::to_string).collect();
            sort_classes(&mut classes);
            classes
        };
        assert_eq!(sorted(&["10", "9", "-1"]), ["-1", "9", "10"]);
        assert_eq!(sorted(&["10", "9", "x"]), ["10", "9", "x"]);
        assert_eq!(sorted(&["true", "false"]), ["false", "true"]);
        assert_eq!(sorted(&["nan", "b", "a"]), ["a", "b", "nan"]);
    }
}
