//! Numbers that the PyTorch peer makes too, so that both start from the same weights and data.

/// `n` numbers from 0 to below 1, from an integer hash of their place and a seed.
pub fn uniform(n: usize, seed: u32) -> Vec<f64> {
    let offset = seed.wrapping_mul(40_503).wrapping_mul(65_537).wrapping_add(12_345);
    (0..n as u32)
        .map(|i| {
            let mut h = i.wrapping_mul(2_654_435_761).wrapping_add(offset);
            h ^= h >> 15;
            h = h.wrapping_mul(2_246_822_519);
            h ^= h >> 13;
            f64::from(h) / 4_294_967_296.0
        })
        .collect()
}

/// `n` numbers in ±`bound`.
pub fn weights(n: usize, seed: u32, bound: f64) -> Vec<f32> {
    uniform(n, seed).into_iter().map(|u| ((u - 0.5) * 2.0 * bound) as f32).collect()
}

/// The same numbers as a matrix `[columns, rows]`, where the peer's is `[rows, columns]`.
pub fn turned_weights([rows, columns]: [usize; 2], seed: u32, bound: f64) -> Vec<f32> {
    let values = weights(rows * columns, seed, bound);
    let mut turned = vec![0.0; values.len()];
    for r in 0..rows {
        for c in 0..columns {
            turned[c * rows + r] = values[r * columns + c];
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_peers() {
        // Printed by bench/torch_peer.py's `u(3, 1)` and `u(2, 999)`.
        assert_eq!(
            uniform(3, 1),
            [0.265_840_651_700_273_16, 0.286_860_936_786_979_44, 0.432_905_041_612_684_7]
        );
        assert_eq!(uniform(2, 999), [0.777_234_065_812_081_1, 0.228_501_263_773_068_79]);
        assert_eq!(turned_weights([2, 3], 7, 1.0)[1], weights(6, 7, 1.0)[3]);
    }
}
