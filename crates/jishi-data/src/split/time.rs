//! Splits by time: the earliest rows train, the latest test.

use jishi_recipe::{ColumnType, Problem};

use super::{Sizes, Splits, missing_value};
use crate::rows::by_chunk;
use crate::{DataError, Table};

/// The usable rows in order of time (rows of the same time as in the table), and for every position
/// whether its time is that of the position before.
pub(super) fn order(
    table: &Table,
    column: usize,
    usable: &[u32],
) -> Result<(Vec<u32>, Vec<bool>), DataError> {
    use arrow_array::Array;
    let info = &table.columns[column];
    let mut times: Vec<(i64, u32)> = Vec::with_capacity(usable.len());
    let mut missing = Vec::new();
    for (chunk, rows) in by_chunk(table, usable) {
        for &row in rows {
            let at = row as usize - chunk.first_row;
            let time = match info.kind {
                ColumnType::Date => {
                    let dates = chunk.dates(column);
                    dates.is_valid(at).then(|| dates.value(at))
                }
                ColumnType::Number => {
                    let numbers = chunk.numbers(column);
                    numbers.is_valid(at).then(|| ordered(numbers.value(at)))
                }
                ColumnType::Category | ColumnType::Boolean => {
                    return Err(Problem::new(format!(
                        "a split by time goes by a date or a number, but column `{}` holds {}",
                        info.name,
                        if info.kind == ColumnType::Boolean { "true and false" } else { "text" },
                    ))
                    .file(&table.files[table.file_of(row as usize)])
                    .line(chunk.lines().value(at))
                    .help("write dates as 2024-01-31, or split by another column")
                    .into());
                }
            };
            match time {
                Some(time) => times.push((time, row)),
                None => missing.push((row, chunk.lines().value(at))),
            }
        }
    }
    if let Some(&(row, line)) = missing.first() {
        return Err(missing_value(table, column, "time", row, line, missing.len()).into());
    }
    times.sort_unstable();
    let ties = (0..times.len()).map(|i| i > 0 && times[i].0 == times[i - 1].0).collect();
    Ok((times.into_iter().map(|(_, row)| row).collect(), ties))
}

/// A whole number that sorts as the number does.
pub(super) fn ordered(x: f64) -> i64 {
    let bits = (x + 0.0).to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// Cuts the ordered rows in three; rows of the same time stay together.
pub(super) fn split(order: &[u32], ties: &[bool], sizes: Sizes) -> Result<Splits, DataError> {
    let n = order.len();
    let mut first_test = n;
    if sizes.test > 0 {
        // With a validation split to come, leave it room.
        let least = 1 + usize::from(sizes.validation > 0);
        first_test = cut_near(ties, n - sizes.test, least, n).ok_or_else(|| same_time("test"))?;
    }
    let mut first_validation = first_test;
    if sizes.validation > 0 {
        let near = first_test.saturating_sub(sizes.validation);
        first_validation = cut_near(ties, near, 1, first_test).ok_or_else(|| same_time("validation"))?;
    }
    Ok(Splits {
        train: order[..first_validation].to_vec(),
        validation: order[first_validation..first_test].to_vec(),
        test: order[first_test..].to_vec(),
    })
}

/// Forward-chaining folds: the rows are cut in k + 1 parts of time; fold i tests on part i + 1 and
/// trains on all before it, the end of which validates.
pub(super) fn folds(
    order: &[u32],
    ties: &[bool],
    k: usize,
    validation: f64,
) -> Result<Vec<Splits>, DataError> {
    let n = order.len();
    let size = n / (k + 1);
    if size == 0 {
        return Err(Problem::new(format!(
            "{k} folds by time need at least {} rows, but {n} can be used",
            k + 1
        ))
        .help("use fewer folds or more data")
        .into());
    }
    let mut starts = vec![0];
    for fold in 0..k {
        let least = starts[fold] + 1;
        let start = cut_near(ties, n - (k - fold) * size, least, n).ok_or_else(|| same_time("test"))?;
        starts.push(start);
    }
    starts.push(n);
    (1..=k)
        .map(|fold| {
            let (start, end) = (starts[fold], starts[fold + 1]);
            let held = (validation * end as f64).round() as usize;
            let sizes = Sizes { train: start.saturating_sub(held), validation: held, test: end - start };
            if validation > 0.0 && (held == 0 || sizes.train == 0) {
                return Err(super::empty("validation or training", end)
                    .help(format!(
                        "fold {fold} of {k} by time is too small: use fewer folds or a smaller share"
                    ))
                    .into());
            }
            let before = split(&order[..start], &ties[..start], Sizes { test: 0, ..sizes })?;
            Ok(Splits { test: order[start..end].to_vec(), ..before })
        })
        .collect()
}

/// The cut in `least..end` that is nearest to `near` and separates two different times; the earlier of
/// two.
fn cut_near(ties: &[bool], near: usize, least: usize, end: usize) -> Option<usize> {
    let near = near.clamp(least, end);
    let before = (least..=near).rev().find(|&i| i < end && !ties[i]);
    let after = (near..end).find(|&i| !ties[i]);
    match (before, after) {
        (Some(b), Some(a)) => Some(if near - b <= a - near { b } else { a }),
        (b, a) => b.or(a),
    }
}

fn same_time(which: &str) -> Problem {
    Problem::new(format!("the {which} split would be empty: too many rows have the same time"))
        .help("rows of the same time stay together; split by a finer column, or by `random`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_order() {
        let sorted = [f64::MIN, -2.5, -1e-300, 0.0, 1e-300, 3.0, f64::MAX];
        assert!(sorted.windows(2).all(|w| ordered(w[0]) < ordered(w[1])));
        assert_eq!(ordered(-0.0), ordered(0.0));
    }

    #[test]
    fn cuts_fall_between_different_times() {
        //           0      1      2     3     4      5
        let ties = [false, false, true, true, false, true];
        assert_eq!(cut_near(&ties, 2, 1, 6), Some(1));
        assert_eq!(cut_near(&ties, 3, 1, 6), Some(4));
        assert_eq!(cut_near(&ties, 2, 2, 6), Some(4));
        assert_eq!(cut_near(&ties, 5, 5, 6), None);
    }
}
