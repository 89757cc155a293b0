//! Which rows train, which validate and which test.
//!
//! Every split is a function of the table, the recipe and the seed. `random` splits are those of
//! scikit-learn's `train_test_split` and `KFold` for the same seed.

mod assigned;
mod documents;
mod group;
mod stratified;
mod time;

use std::collections::HashMap;

pub(crate) use self::documents::{fold_documents, split_documents};

use jishi_recipe::{Problem, Problems, Split, SplitBy};

use crate::ledger::{Action, Ledger};
use crate::mt19937::RandomState;
use crate::pipeline::{MAX_CLASSES, find_column};
use crate::rows::{by_chunk, key, key_text};
use crate::{DataError, Table};

/// Row numbers of a table, in the order in which they are to be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Splits {
    /// Rows to fit on.
    pub train: Vec<u32>,
    /// Rows to watch while training.
    pub validation: Vec<u32>,
    /// Rows to test on at the end.
    pub test: Vec<u32>,
}

impl Splits {
    /// The splits with their names, as the ledger has them.
    pub fn named(&self) -> [(&'static str, &[u32]); 3] {
        [("train", &self.train), ("validation", &self.validation), ("test", &self.test)]
    }

    /// Writes every row into the ledger as used, with its split.
    pub fn record(&self, table: &Table, ledger: &mut Ledger) {
        for (name, rows) in self.named() {
            let mut sorted = rows.to_vec();
            sorted.sort_unstable();
            let mut entry = None;
            for (chunk, rows) in by_chunk(table, &sorted) {
                let lines = chunk.lines();
                for &row in rows {
                    let file = table.file_of(row as usize);
                    let index = match entry {
                        Some((f, index)) if f == file => index,
                        _ => ledger.entry(Action::Used, "split", None, Some(name), &table.files[file]),
                    };
                    entry = Some((file, index));
                    ledger.push(index, lines.value(row as usize - chunk.first_row));
                }
            }
        }
    }
}

/// Splits the `usable` rows (ascending) into training, validation and test rows.
///
/// The test split holds ⌈test·n⌉ rows and validation round(validation·n), with n the number of usable
/// rows; `group` and `time` splits come as near as whole groups and ties allow.
///
/// # Errors
/// [`DataError::Bad`] where the shares leave a split empty, or the column of the split does not fit.
pub fn split(table: &Table, split: &Split, target: &str, usable: &[u32]) -> Result<Splits, DataError> {
    let sizes = || Sizes::new(split, usable.len());
    Ok(match split.by {
        SplitBy::Random => random(usable, sizes()?, split.seed),
        SplitBy::Stratified => {
            let sizes = sizes()?;
            let classes = Keys::of_target(table, target, usable)?;
            classes.fit_in(&[("validation", sizes.validation), ("test", sizes.test)])?;
            classes.have(sizes.splits(), table)?;
            stratified::split(&classes, sizes, split.seed).rows(usable)
        }
        SplitBy::Group => {
            let groups = Keys::of_column(table, split_column(table, split)?, usable, "group")?;
            group::split(&groups, sizes()?, split.seed)?.rows(usable)
        }
        SplitBy::Time => {
            let (order, ties) = time::order(table, split_column(table, split)?, usable)?;
            time::split(&order, &ties, sizes()?)?
        }
        SplitBy::Column => assigned::split(table, split_column(table, split)?, usable)?,
    })
}

/// The folds of a cross-validation: every usable row (ascending) is in the test split of exactly one
/// fold, and validation is cut from the rest. `time` splits chain forward instead: fold i trains on the
/// rows before its test rows.
///
/// # Errors
/// [`DataError::Bad`] where there are too few rows, groups or rows of a class, or the split cannot be
/// folded.
pub fn folds(table: &Table, split: &Split, target: &str, usable: &[u32]) -> Result<Vec<Splits>, DataError> {
    let k = split.folds.unwrap_or(0);
    let n = usable.len();
    if k < 2 {
        return Err(Problem::new(format!("a cross-validation needs at least 2 folds, not {k}")).into());
    }
    if n < k {
        return Err(Problem::new(format!("{k} folds need at least {k} rows, but {n} can be used"))
            .help("use fewer folds or more data")
            .into());
    }
    // Rows to validate on in every fold; there is at least one left to train on.
    let validation = || {
        let validation = Sizes::new(&Split { test: 0.0, ..split.clone() }, n)?.validation;
        if validation + n.div_ceil(k) < n {
            Ok(validation)
        } else {
            Err(Problems::from(empty("training", n)))
        }
    };
    let cut = match split.by {
        SplitBy::Random => random_folds(n, k, validation()?, split.seed),
        SplitBy::Stratified => {
            let validation = validation()?;
            let classes = Keys::of_target(table, target, usable)?;
            classes.fit_in(&[("validation", validation)])?;
            // With two folds half of a class is in the test split, and the other half has to be two rows.
            classes.have(if validation > 0 && k == 2 { 4 } else { k }, table)?;
            stratified::folds(&classes, k, validation, split.seed)
        }
        SplitBy::Group => {
            let groups = Keys::of_column(table, split_column(table, split)?, usable, "group")?;
            group::folds(&groups, k, validation()?, split.seed)?
        }
        SplitBy::Time => {
            let (order, ties) = time::order(table, split_column(table, split)?, usable)?;
            return time::folds(&order, &ties, k, share(split.validation, "validation")?);
        }
        SplitBy::Column => {
            return Err(Problem::new("rows that a column assigns to splits cannot be folded")
                .help("leave out `folds`, or split by `random`, `stratified`, `group` or `time`")
                .into());
        }
    };
    if cut.iter().any(|fold| fold.train.is_empty()) {
        return Err(empty("training", n).into());
    }
    Ok(cut.into_iter().map(|fold| fold.rows(usable)).collect())
}

/// Number of rows in every split.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    train: usize,
    validation: usize,
    test: usize,
}

impl Sizes {
    fn new(split: &Split, n: usize) -> Result<Self, Problems> {
        let (v, t) = (share(split.validation, "validation")?, share(split.test, "test")?);
        let validation = (v * n as f64).round() as usize;
        let test = (t * n as f64).ceil() as usize;
        let mut problems = Vec::new();
        if v > 0.0 && validation == 0 {
            problems.push(empty("validation", n));
        }
        match n.checked_sub(validation + test) {
            Some(train) if train > 0 && problems.is_empty() => Ok(Self { train, validation, test }),
            Some(train) if train > 0 => Err(Problems(problems)),
            _ => {
                problems.push(empty("training", n));
                Err(Problems(problems))
            }
        }
    }

    /// Number of splits that are not empty.
    fn splits(self) -> usize {
        1 + usize::from(self.validation > 0) + usize::from(self.test > 0)
    }
}

fn share(share: f64, name: &str) -> Result<f64, Problems> {
    if (0.0..1.0).contains(&share) {
        Ok(share)
    } else {
        Err(Problem::new(format!("the {name} share is {share}, but it must be at least 0 and below 1"))
            .into())
    }
}

fn empty(which: &str, n: usize) -> Problem {
    Problem::new(format!(
        "the {which} split would be empty: {n} {} can be used",
        if n == 1 { "row" } else { "rows" }
    ))
    .help("use more rows, or change the shares of `validation` and `test`")
}

/// Splits as positions in the usable rows.
#[derive(Debug, Default)]
struct Cut {
    train: Vec<u32>,
    validation: Vec<u32>,
    test: Vec<u32>,
}

impl Cut {
    fn rows(self, usable: &[u32]) -> Splits {
        let rows = |positions: Vec<u32>| positions.into_iter().map(|p| usable[p as usize]).collect();
        Splits { train: rows(self.train), validation: rows(self.validation), test: rows(self.test) }
    }

    fn sort(&mut self) {
        self.train.sort_unstable();
        self.validation.sort_unstable();
        self.test.sort_unstable();
    }
}

/// scikit-learn's `train_test_split(shuffle=True)`; then the end of the training rows validates, as
/// Keras's `validation_split` takes it.
fn random(usable: &[u32], sizes: Sizes, seed: u32) -> Splits {
    let order = RandomState::new(seed).permutation(usable.len() as u32);
    let (test, rest) = order.split_at(sizes.test);
    let (train, validation) = rest.split_at(sizes.train);
    Cut { train: train.to_vec(), validation: validation.to_vec(), test: test.to_vec() }.rows(usable)
}

/// scikit-learn's `KFold(shuffle=True)`, all splits in ascending order.
fn random_folds(n: usize, k: usize, validation: usize, seed: u32) -> Vec<Cut> {
    let order = RandomState::new(seed).permutation(n as u32);
    let mut start = 0;
    (0..k)
        .map(|fold| {
            let end = start + n / k + usize::from(fold < n % k);
            let mut test = order[start..end].to_vec();
            test.sort_unstable();
            start = end;
            let rest = without(n, &test);
            let shuffled = RandomState::new(fold_seed(seed, fold)).permutation(rest.len() as u32);
            let pick = |places: &[u32]| places.iter().map(|&p| rest[p as usize]).collect();
            let (train, held) = shuffled.split_at(rest.len() - validation);
            let mut cut = Cut { train: pick(train), validation: pick(held), test };
            cut.sort();
            cut
        })
        .collect()
}

/// Seed of the shuffle that cuts a fold's validation rows.
fn fold_seed(seed: u32, fold: usize) -> u32 {
    seed.wrapping_add(1).wrapping_add(fold as u32)
}

/// The positions `0..n` that are not in `taken`, ascending.
fn without(n: usize, taken: &[u32]) -> Vec<u32> {
    let mut free = vec![true; n];
    for &p in taken {
        free[p as usize] = false;
    }
    (0..n as u32).filter(|&p| free[p as usize]).collect()
}

/// The column that the split goes by.
fn split_column(table: &Table, split: &Split) -> Result<usize, Problem> {
    let by = match split.by {
        SplitBy::Random => "random",
        SplitBy::Stratified => "stratified",
        SplitBy::Group => "group",
        SplitBy::Time => "time",
        SplitBy::Column => "column",
    };
    let Some(name) = &split.column else {
        return Err(Problem::new(format!("a split by `{by}` needs the name of a column"))
            .help("add `column = \"NAME\"` to `data.split`"));
    };
    find_column(table, name, "data.split.column")
}

/// Which distinct value of a column every usable row has.
struct Keys {
    column: usize,
    /// Number of the value for every usable row: in the order of first appearance.
    of: Vec<u32>,
    /// The values' keys, by number.
    keys: Vec<u64>,
    /// Rows with each value, by number.
    counts: Vec<usize>,
}

impl Keys {
    fn of_target(table: &Table, target: &str, usable: &[u32]) -> Result<Self, DataError> {
        let column = find_column(table, target, "data.target")?;
        let found = Self::of_column(table, column, usable, "class")?;
        let classes = found.counts.len();
        if classes > MAX_CLASSES {
            return Err(Problem::new(format!(
                "column `{target}` has {classes} distinct values: too many classes"
            ))
            .help("stratified splits are for classification; split by `random`")
            .into());
        }
        Ok(found)
    }

    /// `what` names the values in messages: class, group.
    fn of_column(table: &Table, column: usize, usable: &[u32], what: &str) -> Result<Self, DataError> {
        let info = &table.columns[column];
        let mut numbers: HashMap<u64, u32> = HashMap::new();
        let mut found =
            Self { column, of: Vec::with_capacity(usable.len()), keys: Vec::new(), counts: Vec::new() };
        let mut missing = Vec::new();
        for (chunk, rows) in by_chunk(table, usable) {
            for &row in rows {
                let at = row as usize - chunk.first_row;
                let Some(key) = key(&chunk, column, info.kind, at) else {
                    missing.push((row, chunk.lines().value(at)));
                    continue;
                };
                let number = *numbers.entry(key).or_insert_with(|| {
                    found.keys.push(key);
                    found.counts.push(0);
                    found.keys.len() as u32 - 1
                });
                found.counts[number as usize] += 1;
                found.of.push(number);
            }
        }
        let mut problems = Vec::new();
        if let Some(&(row, line)) = missing.first() {
            problems.push(missing_value(table, column, what, row, line, missing.len()));
        }
        if info.overflow {
            problems.push(
                Problem::new(format!("column `{}` has too many distinct values to be a {what}", info.name))
                    .help("split by another column"),
            );
        }
        Problems(problems).into_result()?;
        Ok(found)
    }

    /// Every class needs a row in each split that is to have rows.
    fn fit_in(&self, sizes: &[(&str, usize)]) -> Result<(), Problems> {
        let classes = self.counts.len();
        let small = sizes.iter().filter(|(_, size)| *size > 0 && *size < classes).map(|(name, size)| {
            Problem::new(format!(
                "the {name} split of {size} rows cannot hold a row of every one of {classes} classes"
            ))
            .help(format!("raise the share of `{name}`, or split by `random`"))
        });
        Problems(small.collect()).into_result()
    }

    /// Every class must have at least `needed` rows.
    fn have(&self, needed: usize, table: &Table) -> Result<(), Problems> {
        let name = &table.columns[self.column].name;
        let few = (0..self.counts.len()).filter(|&c| self.counts[c] < needed).map(|c| {
            let (class, rows) = (key_text(table, self.column, self.keys[c]), self.counts[c]);
            let rows = if rows == 1 { "1 row".into() } else { format!("{rows} rows") };
            Problem::new(format!(
                "class `{class}` of column `{name}` has {rows}, but a stratified split needs {needed} here"
            ))
            .help("drop or merge rare classes, use fewer folds, or split by `random`")
        });
        Problems(few.take(20).collect()).into_result()
    }
}

fn missing_value(table: &Table, column: usize, what: &str, row: u32, line: u64, count: usize) -> Problem {
    let rows = if count == 1 { "row has".into() } else { format!("{count} rows have") };
    Problem::new(format!("{rows} no {what}: column `{}` is empty there", table.columns[column].name))
        .file(&table.files[table.file_of(row as usize)])
        .line(line)
        .help("fill the column in, or remove these rows")
}
