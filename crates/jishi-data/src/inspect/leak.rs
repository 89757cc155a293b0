//! Columns that say what the target is: a copy of it, something computed from it, or known only after it.

use std::collections::HashMap;

use arrow_array::Array;
use jishi_recipe::{ColumnType, TaskName};
use rayon::prelude::*;

use super::{ColumnReport, FEW_ROWS, Suspect, Suspicion, each_number};
use crate::table::{CHUNK_ROWS, Table};

/// A correlation beyond this is suspicious.
const CORRELATION: f64 = 0.99;
/// Rows that a value must stand for on average, so that its group says more than the row itself.
const ROWS_A_GROUP: usize = 5;

/// The columns that predict the target almost perfectly.
pub(super) fn leaks(
    table: &Table,
    target: usize,
    task: TaskName,
    reports: &[ColumnReport],
    step: usize,
) -> Vec<Suspicion> {
    let wanted = values(table, target, step);
    let is_number = |c: usize| matches!(reports[c].kind, ColumnType::Number | ColumnType::Date);
    let check = |c: usize| {
        if c == target || table.rows < FEW_ROWS || reports[c].distinct < 2 {
            return None;
        }
        let pairs: Vec<(f64, f64)> = values(table, c, step)
            .into_iter()
            .zip(&wanted)
            .map(|(x, &y)| (x, y))
            .filter(|(x, y)| !x.is_nan() && !y.is_nan())
            .collect();
        if pairs.len() < FEW_ROWS {
            return None;
        }
        let message = if is_number(c) && is_number(target) && task == TaskName::Regression {
            let (pearson, spearman) = (correlation(&pairs), correlation(&ranks(&pairs)));
            let strongest =
                if pearson.abs() >= spearman.abs() { ("Pearson", pearson) } else { ("Spearman", spearman) };
            (strongest.1.abs() > CORRELATION)
                .then(|| format!("its {} correlation with the target is {:.4}", strongest.0, strongest.1))
        } else if task == TaskName::Regression {
            explained(&pairs)
                .filter(|share| *share > CORRELATION)
                .map(|share| format!("its values explain {:.1} % of the target's variance", share * 100.0))
        } else {
            predicted(&pairs)
                .map(|share| format!("its value alone tells the class in {:.1} % of the rows", share * 100.0))
        };
        message.map(|m| Suspicion {
            column: reports[c].name.clone(),
            why: Suspect::LeaksTarget,
            message: format!("may leak the target: {m}"),
        })
    };
    (0..reports.len()).into_par_iter().filter_map(check).collect()
}

/// Values of a column as numbers (categories: their codes), NaN for missing; every `step`-th row.
fn values(table: &Table, column: usize, step: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(table.rows.div_ceil(step));
    if matches!(table.columns[column].kind, ColumnType::Number | ColumnType::Date) {
        each_number(table, column, step, |x| out.push(x));
        return out;
    }
    let mut row = 0;
    while row < table.rows {
        let chunk = table.chunk(row / CHUNK_ROWS);
        let codes = chunk.codes(column);
        while row < chunk.first_row + chunk.rows {
            let r = row - chunk.first_row;
            out.push(if codes.is_valid(r) { f64::from(codes.value(r)) } else { f64::NAN });
            row += step;
        }
    }
    out
}

/// Pearson's correlation; 0 where one side is constant.
fn correlation(pairs: &[(f64, f64)]) -> f64 {
    let n = pairs.len() as f64;
    let (mx, my) = (pairs.iter().map(|p| p.0).sum::<f64>() / n, pairs.iter().map(|p| p.1).sum::<f64>() / n);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in pairs {
        xx += (x - mx) * (x - mx);
        yy += (y - my) * (y - my);
        xy += (x - mx) * (y - my);
    }
    if xx > 0.0 && yy > 0.0 { xy / (xx * yy).sqrt() } else { 0.0 }
}

/// The pairs' ranks; equal values share the mean of theirs. Their correlation is Spearman's.
fn ranks(pairs: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let rank = |value: &dyn Fn(usize) -> f64| {
        let mut order: Vec<usize> = (0..pairs.len()).collect();
        order.sort_unstable_by(|&a, &b| value(a).total_cmp(&value(b)));
        let mut ranks = vec![0.0; order.len()];
        let mut start = 0;
        while start < order.len() {
            let equal = order[start..].iter().take_while(|&&i| value(i) == value(order[start])).count();
            order[start..start + equal]
                .iter()
                .for_each(|&i| ranks[i] = start as f64 + (equal - 1) as f64 / 2.0);
            start += equal;
        }
        ranks
    };
    rank(&|i| pairs[i].0).into_iter().zip(rank(&|i| pairs[i].1)).collect()
}

/// Share of the second values' variance between the groups of equal first values, adjusted for the number of groups
/// (as adjusted R²); `None` where groups are too small.
fn explained(pairs: &[(f64, f64)]) -> Option<f64> {
    let mut groups: HashMap<u64, (f64, f64)> = HashMap::new();
    for (x, y) in pairs {
        let group = groups.entry(x.to_bits()).or_default();
        *group = (group.0 + 1.0, group.1 + y);
    }
    if groups.len() * ROWS_A_GROUP > pairs.len() {
        return None;
    }
    let n = pairs.len() as f64;
    let mean = pairs.iter().map(|p| p.1).sum::<f64>() / n;
    let total: f64 = pairs.iter().map(|(_, y)| (y - mean) * (y - mean)).sum();
    let within: f64 = pairs
        .iter()
        .map(|(x, y)| {
            let (count, sum) = groups[&x.to_bits()];
            (y - sum / count) * (y - sum / count)
        })
        .sum();
    (total > 0.0).then(|| 1.0 - within / total * (n - 1.0) / (n - groups.len() as f64))
}

/// Share of the rows whose class is the most frequent one of their group of equal first values, where that is nearly
/// all of them and far better than naming the most frequent class.
fn predicted(pairs: &[(f64, f64)]) -> Option<f64> {
    let mut counts: HashMap<(u64, u64), u64> = HashMap::new();
    let mut classes: HashMap<u64, u64> = HashMap::new();
    for (x, y) in pairs {
        *counts.entry((x.to_bits(), y.to_bits())).or_default() += 1;
        *classes.entry(y.to_bits()).or_default() += 1;
    }
    let mut best: HashMap<u64, u64> = HashMap::new();
    for (&(x, _), &n) in &counts {
        let best = best.entry(x).or_default();
        *best = n.max(*best);
    }
    if best.len() * ROWS_A_GROUP > pairs.len() {
        return None;
    }
    let n = pairs.len() as f64;
    let share = best.values().sum::<u64>() as f64 / n;
    let most_frequent = classes.values().max().copied().unwrap_or(0) as f64 / n;
    (share > CORRELATION && 1.0 - share <= 0.1 * (1.0 - most_frequent) && most_frequent < 1.0)
        .then_some(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlations() {
        let pairs = [(1.0, 1.0), (2.0, 4.0), (3.0, 9.0), (4.0, 16.0), (4.0, 25.0)];
        // Python: statistics.correlation of the values, and of their ranks with ties averaged
        assert!((correlation(&pairs) - 0.912_152_755_1).abs() < 1e-9);
        assert!((correlation(&ranks(&pairs)) - 0.974_68).abs() < 1e-5);
        assert_eq!(correlation(&[(1.0, 2.0), (1.0, 3.0)]), 0.0);
    }
}
