//! Splits that keep the rows of a group together.

use jishi_recipe::Problem;

use super::{Cut, Keys, Sizes, fold_seed};
use crate::mt19937::RandomState;

/// Splits whole groups: the largest first, each to the split that misses most rows.
pub(super) fn split(groups: &Keys, sizes: Sizes, seed: u32) -> Result<Cut, Problem> {
    let wanted = [sizes.train, sizes.validation, sizes.test];
    if groups.counts.len() < sizes.splits() {
        return Err(too_few(groups.counts.len(), sizes.splits(), "splits"));
    }
    let all: Vec<u32> = (0..groups.counts.len() as u32).collect();
    let part = assign(groups, &all, &wanted, seed);
    let mut cut = Cut::default();
    for (position, &group) in groups.of.iter().enumerate() {
        match part[group as usize] {
            0 => cut.train.push(position as u32),
            1 => cut.validation.push(position as u32),
            _ => cut.test.push(position as u32),
        }
    }
    Ok(cut)
}

/// Folds of whole groups, as equal as the groups allow.
pub(super) fn folds(groups: &Keys, k: usize, validation: usize, seed: u32) -> Result<Vec<Cut>, Problem> {
    let (n, count) = (groups.of.len(), groups.counts.len());
    if count < k {
        return Err(too_few(count, k, "folds"));
    }
    let all: Vec<u32> = (0..count as u32).collect();
    let equal: Vec<usize> = (0..k).map(|fold| n / k + usize::from(fold < n % k)).collect();
    let fold_of = assign(groups, &all, &equal, seed);
    (0..k)
        .map(|fold| {
            let rest: Vec<u32> = all.iter().copied().filter(|&g| fold_of[g as usize] != fold).collect();
            let rows: usize = rest.iter().map(|&g| groups.counts[g as usize]).sum();
            let mut part = vec![0; count];
            if validation > 0 {
                if rest.len() < 2 {
                    return Err(too_few(count, k + 1, "folds with a validation split"));
                }
                let wanted = [rows.saturating_sub(validation), validation];
                part = assign(groups, &rest, &wanted, fold_seed(seed, fold));
            }
            let mut cut = Cut::default();
            for (position, &group) in groups.of.iter().enumerate() {
                let to = match (fold_of[group as usize] == fold, part[group as usize]) {
                    (true, _) => &mut cut.test,
                    (false, 0) => &mut cut.train,
                    (false, _) => &mut cut.validation,
                };
                to.push(position as u32);
            }
            Ok(cut)
        })
        .collect()
}

/// The part of every group of `members` (others stay 0): largest groups first, equal ones in shuffled
/// order, each to the part that misses most rows; the last groups go to parts that are still empty.
fn assign(groups: &Keys, members: &[u32], wanted: &[usize], seed: u32) -> Vec<usize> {
    let shuffled = RandomState::new(seed).permutation(members.len() as u32);
    let mut order: Vec<u32> = shuffled.into_iter().map(|m| members[m as usize]).collect();
    order.sort_by_key(|&g| std::cmp::Reverse(groups.counts[g as usize]));
    let mut missing: Vec<i64> = wanted.iter().map(|&w| w as i64).collect();
    let mut filled: Vec<bool> = wanted.iter().map(|&w| w == 0).collect();
    let mut part = vec![0; groups.counts.len()];
    for (done, &group) in order.iter().enumerate() {
        let empty = filled.iter().filter(|f| !**f).count();
        let only_empty = order.len() - done <= empty;
        let open = |p: &usize| wanted[*p] > 0 && (!only_empty || !filled[*p]);
        // The first of equals: `max_by_key` alone would take the last.
        let best = (0..wanted.len()).filter(open).rev().max_by_key(|&p| missing[p]).unwrap_or(0);
        missing[best] -= groups.counts[group as usize] as i64;
        filled[best] = true;
        part[group as usize] = best;
    }
    part
}

fn too_few(groups: usize, parts: usize, what: &str) -> Problem {
    Problem::new(format!("{parts} {what} need at least {parts} groups, but there are {groups}"))
        .help("use fewer folds or splits, or split by another column")
}
