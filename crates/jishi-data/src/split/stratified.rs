//! Splits in which every class has the share that it has in the whole.

use super::{Cut, Keys, Sizes, fold_seed, without};
use crate::mt19937::RandomState;

/// Splits positions by class. Every class has a row for every split.
pub(super) fn split(classes: &Keys, sizes: Sizes, seed: u32) -> Cut {
    let n = classes.of.len();
    let order = RandomState::new(seed).permutation(n as u32);
    // A row of every class is kept back for each split that is still to be filled.
    let later = 1 + usize::from(sizes.validation > 0);
    let test_quota = allocate(&classes.counts, sizes.test, later);
    let left: Vec<usize> = classes.counts.iter().zip(&test_quota).map(|(c, t)| c - t).collect();
    let validation_quota = allocate(&left, sizes.validation, 1);
    let (test, rest) = take(order, &classes.of, test_quota);
    let (train, validation) = take_last(rest, &classes.of, validation_quota);
    Cut { train, validation, test }
}

/// Folds of positions, all in ascending order. Every class has a row for every fold, and is in each one's
/// test split.
pub(super) fn folds(classes: &Keys, k: usize, validation: usize, seed: u32) -> Vec<Cut> {
    let n = classes.of.len();
    // Rows are dealt like cards, class by class, each class going on at the fold where the last one
    // stopped: folds differ by one row at most, in total and in every class.
    let order = RandomState::new(seed).permutation(n as u32);
    let mut next = Vec::with_capacity(classes.counts.len());
    let mut dealt = 0;
    for count in &classes.counts {
        next.push(dealt % k);
        dealt += count;
    }
    let mut tests: Vec<Vec<u32>> = vec![Vec::new(); k];
    for position in order {
        let fold = &mut next[classes.of[position as usize] as usize];
        tests[*fold].push(position);
        *fold = (*fold + 1) % k;
    }
    let cut = tests.into_iter().enumerate().map(|(fold, test)| {
        let mut left = classes.counts.clone();
        for &p in &test {
            left[classes.of[p as usize] as usize] -= 1;
        }
        let rest = without(n, &test);
        let shuffled = RandomState::new(fold_seed(seed, fold)).permutation(rest.len() as u32);
        let shuffled = shuffled.into_iter().map(|p| rest[p as usize]).collect();
        let quota = allocate(&left, validation, 1);
        let (train, held) = take_last(shuffled, &classes.of, quota);
        let mut cut = Cut { train, validation: held, test };
        cut.sort();
        cut
    });
    cut.collect()
}

/// Shares `size` rows out over classes in proportion to their rows: whole parts first, then one row each
/// to the largest remainders (Hamilton's method). Where there are rows enough, every class gets at least
/// one and keeps at least `kept`.
fn allocate(counts: &[usize], size: usize, kept: usize) -> Vec<usize> {
    let all: usize = counts.iter().sum();
    if size == 0 || all == 0 {
        return vec![0; counts.len()];
    }
    let exact = |c: usize| counts[c] as u128 * size as u128;
    let mut quota: Vec<usize> = (0..counts.len()).map(|c| (exact(c) / all as u128) as usize).collect();
    let mut by_remainder: Vec<usize> = (0..counts.len()).collect();
    by_remainder.sort_by_key(|&c| (std::cmp::Reverse(exact(c) % all as u128), c));
    let mut over = size - quota.iter().sum::<usize>();
    for &c in &by_remainder {
        if over == 0 {
            break;
        }
        quota[c] += 1;
        over -= 1;
    }
    // Move single rows so that no class is left out and none is used up: from the class that has the
    // most to give to the one in need.
    let room = |c: usize, quota: &[usize]| (counts[c] - quota[c]).saturating_sub(kept);
    for c in 0..counts.len() {
        while counts[c] - quota[c] < kept && quota[c] > 1 {
            let Some(other) =
                (0..counts.len()).filter(|&o| room(o, &quota) > 0).max_by_key(|&o| room(o, &quota))
            else {
                break;
            };
            quota[c] -= 1;
            quota[other] += 1;
        }
        if quota[c] == 0 && counts[c] > kept {
            let giver = (0..counts.len()).filter(|&o| quota[o] > 1).max_by_key(|&o| quota[o]);
            if let Some(giver) = giver {
                quota[giver] -= 1;
                quota[c] += 1;
            }
        }
    }
    quota
}

/// Takes from the front of `order` as many rows of every class as its quota says: (taken, left).
fn take(order: Vec<u32>, class: &[u32], mut quota: Vec<usize>) -> (Vec<u32>, Vec<u32>) {
    order.into_iter().partition(|&p| {
        let quota = &mut quota[class[p as usize] as usize];
        let takes = *quota > 0;
        *quota -= usize::from(takes);
        takes
    })
}

/// The same from the back: (left, taken), both in the order that they had.
fn take_last(mut order: Vec<u32>, class: &[u32], quota: Vec<usize>) -> (Vec<u32>, Vec<u32>) {
    order.reverse();
    let (mut taken, mut left) = take(order, class, quota);
    taken.reverse();
    left.reverse();
    (left, taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocation_is_proportional_and_leaves_nobody_out() {
        assert_eq!(allocate(&[50, 30, 20], 10, 1), [5, 3, 2]);
        assert_eq!(allocate(&[357, 212], 114, 1), [72, 42]);
        // By share the rare class would get none.
        assert_eq!(allocate(&[98, 2], 10, 1), [9, 1]);
        assert_eq!(allocate(&[10, 10], 0, 1), [0, 0]);
    }
}
