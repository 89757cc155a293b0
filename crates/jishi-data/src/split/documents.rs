//! Splits of documents, which are rows of no table: the value that the split goes by is a text.

use std::collections::HashMap;

use jishi_recipe::{Problem, Problems, Split, SplitBy};

use super::{Keys, Sizes, Splits, empty, group, random, random_folds, stratified, time};
use crate::DataError;
use crate::read::value::{parse_date, parse_number};

/// Splits `n` documents. `keys`: of each, the class (`stratified`) or the value of the split's column; empty for
/// `random`. `place` names the file and line of a document in problems.
pub(crate) fn split_documents(
    split: &Split,
    n: usize,
    keys: &[Option<String>],
    place: impl Fn(usize, Problem) -> Problem,
) -> Result<Splits, DataError> {
    let all: Vec<u32> = (0..n as u32).collect();
    if split.by == SplitBy::Random {
        return Ok(random(&all, Sizes::new(split, n)?, split.seed));
    }
    let keys = filled(n, keys, &place)?;
    Ok(match split.by {
        SplitBy::Random => random(&all, Sizes::new(split, n)?, split.seed),
        SplitBy::Stratified => {
            let sizes = Sizes::new(split, n)?;
            let (classes, names) = numbered(&keys);
            classes.fit_in(&[("validation", sizes.validation), ("test", sizes.test)])?;
            have(&classes, &names, sizes.splits())?;
            stratified::split(&classes, sizes, split.seed).rows(&all)
        }
        SplitBy::Group => group::split(&numbered(&keys).0, Sizes::new(split, n)?, split.seed)?.rows(&all),
        SplitBy::Time => {
            let (order, ties) = in_time(&keys, &place)?;
            time::split(&order, &ties, Sizes::new(split, n)?)?
        }
        SplitBy::Column => {
            let mut splits = Splits::default();
            for (i, key) in keys.iter().enumerate() {
                match *key {
                    "train" => splits.train.push(i as u32),
                    "validation" => splits.validation.push(i as u32),
                    "test" => splits.test.push(i as u32),
                    other => {
                        return Err(place(i, Problem::new(format!("the split's column holds `{other}`")))
                            .help("it must hold `train`, `validation` or `test`")
                            .into());
                    }
                }
            }
            if splits.train.is_empty() {
                return Err(empty("training", n).into());
            }
            splits
        }
    })
}

/// The folds of a cross-validation of `n` documents, see [`super::folds`]; `keys` and `place` as of
/// [`split_documents`].
pub(crate) fn fold_documents(
    split: &Split,
    n: usize,
    keys: &[Option<String>],
    place: impl Fn(usize, Problem) -> Problem,
) -> Result<Vec<Splits>, DataError> {
    let k = split.folds.unwrap_or(0);
    if k < 2 || n < k {
        let message = format!("a cross-validation needs at least 2 folds and as many rows, not {k} of {n}");
        return Err(Problem::new(message).help("use fewer folds or more data").into());
    }
    let validation = Sizes::new(&Split { test: 0.0, ..split.clone() }, n)?.validation;
    if validation + n.div_ceil(k) >= n {
        return Err(empty("training", n).into());
    }
    let all: Vec<u32> = (0..n as u32).collect();
    let cut = match split.by {
        SplitBy::Random => random_folds(n, k, validation, split.seed),
        SplitBy::Stratified => {
            let keys = filled(n, keys, &place)?;
            let (classes, names) = numbered(&keys);
            classes.fit_in(&[("validation", validation)])?;
            have(&classes, &names, if validation > 0 && k == 2 { 4 } else { k })?;
            stratified::folds(&classes, k, validation, split.seed)
        }
        SplitBy::Group => group::folds(&numbered(&filled(n, keys, &place)?).0, k, validation, split.seed)?,
        SplitBy::Time => {
            let (order, ties) = in_time(&filled(n, keys, &place)?, &place)?;
            return time::folds(&order, &ties, k, split.validation);
        }
        SplitBy::Column => {
            return Err(Problem::new("rows that a column assigns to splits cannot be folded")
                .help("leave out `folds`, or split by `random`, `stratified`, `group` or `time`")
                .into());
        }
    };
    Ok(cut.into_iter().map(|fold| fold.rows(&all)).collect())
}

/// The keys, none of which may be missing.
fn filled<'a>(
    n: usize,
    keys: &'a [Option<String>],
    place: &impl Fn(usize, Problem) -> Problem,
) -> Result<Vec<&'a str>, Problem> {
    if keys.len() != n {
        return Err(Problem::new("this split needs a column to go by")
            .help("add `column = \"NAME\"` to `data.split`, or split by `random`"));
    }
    if let Some(i) = keys.iter().position(Option::is_none) {
        return Err(place(i, Problem::new("the value that the split goes by is missing here"))
            .help("fill it in, or split by `random`"));
    }
    Ok(keys.iter().flatten().map(String::as_str).collect())
}

/// Every class must have at least `needed` documents.
fn have(classes: &Keys, names: &[&str], needed: usize) -> Result<(), Problems> {
    let few = names.iter().zip(&classes.counts).filter(|(_, count)| **count < needed);
    let problems = few.take(20).map(|(name, count)| {
        Problem::new(format!("label `{name}` has {count} rows, but a stratified split needs {needed} here"))
            .help("drop or merge rare labels, or split by `random`")
    });
    Problems(problems.collect()).into_result()
}

/// Documents in the order of time, and which of them are at the time of the one before.
fn in_time(
    keys: &[&str],
    place: &impl Fn(usize, Problem) -> Problem,
) -> Result<(Vec<u32>, Vec<bool>), Problem> {
    let mut times = Vec::with_capacity(keys.len());
    for (i, key) in keys.iter().enumerate() {
        let moment = parse_date(key.as_bytes(), true).or_else(|| parse_number(key).map(time::ordered));
        let moment = moment.ok_or_else(|| {
            place(i, Problem::new(format!("a split by time goes by a date or a number, found `{key}`")))
                .help("write dates as 2024-01-31, or split by another column")
        })?;
        times.push((moment, i as u32));
    }
    times.sort_unstable();
    let ties = (0..times.len()).map(|i| i > 0 && times[i].0 == times[i - 1].0).collect();
    Ok((times.into_iter().map(|(_, i)| i).collect(), ties))
}

/// The values by number, in the order of first appearance.
fn numbered<'a>(keys: &[&'a str]) -> (Keys, Vec<&'a str>) {
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    let mut names = Vec::new();
    let mut found =
        Keys { column: 0, of: Vec::with_capacity(keys.len()), keys: Vec::new(), counts: Vec::new() };
    for &key in keys {
        let number = *numbers.entry(key).or_insert_with(|| {
            names.push(key);
            found.counts.push(0);
            names.len() as u32 - 1
        });
        found.counts[number as usize] += 1;
        found.of.push(number);
    }
    (found, names)
}
