//! Splits of documents, which are rows of no table: the value that the split goes by is a text.

use std::collections::HashMap;

use jishi_recipe::{Problem, Problems, Split, SplitBy};

use super::{Keys, Sizes, Splits, empty, group, random, stratified, time};
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
    if keys.len() != n {
        return Err(Problem::new("this split needs a column to go by")
            .help("add `column = \"NAME\"` to `data.split`, or split by `random`")
            .into());
    }
    if let Some(i) = keys.iter().position(Option::is_none) {
        return Err(place(i, Problem::new("the value that the split goes by is missing here"))
            .help("fill it in, or split by `random`")
            .into());
    }
    let keys: Vec<&str> = keys.iter().flatten().map(String::as_str).collect();
    Ok(match split.by {
        SplitBy::Random => random(&all, Sizes::new(split, n)?, split.seed),
        SplitBy::Stratified => {
            let sizes = Sizes::new(split, n)?;
            let (classes, names) = numbered(&keys);
            classes.fit_in(&[("validation", sizes.validation), ("test", sizes.test)])?;
            let few = names.iter().zip(&classes.counts).filter(|(_, count)| **count < sizes.splits());
            let problems: Vec<Problem> = few
                .take(20)
                .map(|(name, count)| {
                    Problem::new(format!(
                        "label `{name}` has {count} documents, but a stratified split needs {} here",
                        sizes.splits()
                    ))
                    .help("drop or merge rare labels, or split by `random`")
                })
                .collect();
            Problems(problems).into_result()?;
            stratified::split(&classes, sizes, split.seed).rows(&all)
        }
        SplitBy::Group => group::split(&numbered(&keys).0, Sizes::new(split, n)?, split.seed)?.rows(&all),
        SplitBy::Time => {
            let mut times = Vec::with_capacity(n);
            for (i, key) in keys.iter().enumerate() {
                let moment =
                    parse_date(key.as_bytes(), true).or_else(|| parse_number(key).map(time::ordered));
                let moment = moment.ok_or_else(|| {
                    place(
                        i,
                        Problem::new(format!("a split by time goes by a date or a number, found `{key}`")),
                    )
                    .help("write dates as 2024-01-31, or split by another column")
                })?;
                times.push((moment, i as u32));
            }
            times.sort_unstable();
            let ties: Vec<bool> = (0..n).map(|i| i > 0 && times[i].0 == times[i - 1].0).collect();
            let order: Vec<u32> = times.into_iter().map(|(_, i)| i).collect();
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
