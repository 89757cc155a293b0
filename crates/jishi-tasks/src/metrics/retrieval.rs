//! Whether things that belong together are found by their vectors.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};

/// Vectors that are compared with all others at a time.
const COMPARED: usize = 256;

/// Shares of pairs whose second is the nearest of all seconds (`recall_at_1`) and among the ten nearest (`recall_at_10`),
/// and the mean of one over its rank (`mrr`: Voorhees 1999), by cosine. Equals come before, so that equal vectors are no
/// success.
///
/// # Shapes
/// - first, second: row-major `[pairs, width]`, rows of length 1
#[must_use]
pub fn retrieval(first: &[f32], second: &[f32], width: usize, device: &Device) -> BTreeMap<String, f64> {
    let table = |values: &[f32]| {
        Tensor::<2>::from_data(TensorData::new(values.to_vec(), [values.len() / width.max(1), width]), device)
    };
    let count = first.len() / width.max(1);
    let all = table(second).transpose();
    let mut ranks = Vec::with_capacity(count);
    for (i, part) in first.chunks(COMPARED * width.max(1)).enumerate() {
        let scores = table(part).matmul(all.clone()).into_data(); // [compared, pairs]
        let scores = scores.try_to_vec::<f32>().expect("products of f32 are f32");
        let rows = scores.chunks_exact(count.max(1)).enumerate();
        ranks.extend(rows.map(|(row, scores)| rank(scores, i * COMPARED + row)));
    }
    let mean = |of: &dyn Fn(usize) -> f64| ranks.iter().map(|r| of(*r)).sum::<f64>() / count.max(1) as f64;
    let within = |most: usize| mean(&|rank| f64::from(u8::from(rank <= most)));
    BTreeMap::from([
        ("recall_at_1".to_owned(), within(1)),
        ("recall_at_10".to_owned(), within(10)),
        ("mrr".to_owned(), mean(&|rank| 1.0 / rank as f64)),
    ])
}

/// Place of an entry among all by falling score, from 1; it comes after its equals.
fn rank(scores: &[f32], own: usize) -> usize {
    scores.iter().filter(|s| **s >= scores[own]).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_equals_before() {
        assert_eq!(rank(&[0.1, 0.9, 0.5], 1), 1);
        assert_eq!(rank(&[0.1, 0.9, 0.5], 0), 3);
        assert_eq!(rank(&[0.5, 0.5, 0.5], 2), 3);
    }

    #[test]
    fn pairs_are_looked_for_among_all_seconds() {
        let first = [1.0, 0.0, 0.0, 1.0, 0.6, 0.8];
        let second = [1.0, 0.0, 0.0, -1.0, 0.8, 0.6];
        // The second of the second pair is the last of three, that of the third the first.
        let found = retrieval(&first, &second, 2, &Device::flex());
        let expected = [2.0 / 3.0, 1.0, (1.0 + 1.0 / 3.0 + 1.0) / 3.0];
        for (name, expected) in ["recall_at_1", "recall_at_10", "mrr"].into_iter().zip(expected) {
            assert!((found[name] - expected).abs() < 1e-12, "{name}: {}", found[name]);
        }
    }
}
