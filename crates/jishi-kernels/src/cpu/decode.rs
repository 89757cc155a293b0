//! Attention of new positions over the keys and values of those before (Vaswani et al. 2017; Pope et al. 2022,
//! "Efficiently Scaling Transformer Inference", for the cache), with query heads that share a key head
//! (Ainslie et al. 2023).
//!
//! The cache has the layout of [`matvec`](super::matvec): keys are a matrix `[head_dim, positions]` and values a
//! matrix `[positions, head_dim]`, each in panels. So scores and results are products of a few rows with a
//! packed matrix that grows.

use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::activation::{Activation, gated_values};
use super::gemm::round_bits;
use super::matvec::{Line, PANEL, dot};
use crate::math::exp;
use crate::memory::with_scratch_f32;
use crate::multiversion;
use crate::simd::Level;

/// Query rows that one pass over the cache serves.
const ROWS: usize = 4;

/// Keys and values of one layer: as many positions as the context, allocated once.
///
/// Heads have locks, as tasks take a head each; nobody waits for one.
#[derive(Debug)]
pub struct KvCache {
    heads: Vec<RwLock<HeadCache>>,
}

impl KvCache {
    /// An empty cache. With `half`, keys and values are rounded to bfloat16.
    #[must_use]
    pub fn new(heads: usize, head_dim: usize, context: usize, half: bool) -> Self {
        let steps = |n: usize| if half { n.div_ceil(2) } else { n };
        let lines = |n| vec![Line([0; PANEL]); n];
        let head = || HeadCache {
            head_dim,
            context,
            half,
            keys: lines(context.div_ceil(PANEL) * steps(head_dim)),
            values: lines(head_dim.div_ceil(PANEL) * steps(context)),
        };
        Self { heads: (0..heads).map(|_| RwLock::new(head())).collect() }
    }

    /// A head, to put positions into.
    ///
    /// # Panics
    /// When there is no such head, or a task panicked with it.
    pub fn write(&self, head: usize) -> RwLockWriteGuard<'_, HeadCache> {
        self.heads[head].write().expect("no task panicked with this head")
    }

    /// A head, to attend to.
    ///
    /// # Panics
    /// As [`write`](Self::write).
    pub fn read(&self, head: usize) -> RwLockReadGuard<'_, HeadCache> {
        self.heads[head].read().expect("no task panicked with this head")
    }

    /// Takes the first positions of another cache of as many heads, which may have another context.
    ///
    /// # Panics
    /// When the caches are of different heads, or one of them does not hold so many positions.
    pub fn copy_from(&mut self, other: &Self, positions: usize) {
        assert_eq!(self.heads.len(), other.heads.len(), "caches of different heads");
        for (head, mine) in self.heads.iter_mut().enumerate() {
            mine.get_mut().expect("no task panicked with this head").copy_from(&other.read(head), positions);
        }
    }

    /// Its memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        (0..self.heads.len()).map(|head| self.read(head).bytes()).sum()
    }
}

/// Keys and values of one head of one layer.
#[derive(Debug)]
pub struct HeadCache {
    head_dim: usize,
    context: usize,
    /// Whether they are rounded to bfloat16.
    half: bool,
    /// `[panel of positions][step of the head's values]`
    keys: Vec<Line>,
    /// `[panel of the head's values][step of positions]`
    values: Vec<Line>,
}

impl HeadCache {
    fn bytes(&self) -> usize {
        size_of_val(self.keys.as_slice()) + size_of_val(self.values.as_slice())
    }

    fn copy_from(&mut self, other: &Self, positions: usize) {
        assert!(
            self.head_dim == other.head_dim && self.half == other.half,
            "a head of another kind of cache"
        );
        assert!(positions <= self.context.min(other.context), "{positions} positions do not fit");
        let steps = |n: usize| if self.half { n.div_ceil(2) } else { n };
        let keys = positions.div_ceil(PANEL) * steps(self.head_dim);
        self.keys[..keys].copy_from_slice(&other.keys[..keys]);
        let (mine, others, taken) = (steps(self.context), steps(other.context), steps(positions));
        for panel in 0..self.head_dim.div_ceil(PANEL) {
            self.values[panel * mine..][..taken].copy_from_slice(&other.values[panel * others..][..taken]);
        }
    }

    /// Puts a key and a value at a position. Positions are filled in order; one that is filled again hides those after
    /// it.
    ///
    /// # Panics
    /// When the position is beyond the context, or the lengths are not the head's.
    pub fn put(&mut self, position: usize, key: &[f32], value: &[f32]) {
        assert!(position < self.context, "position {position} of {}", self.context);
        assert!(
            key.len() == self.head_dim && value.len() == self.head_dim,
            "a key or value of another length"
        );
        let (panel, column) = (position / PANEL, position % PANEL);
        if self.half {
            let steps = self.head_dim.div_ceil(2);
            for (line, pair) in self.keys[panel * steps..][..steps].iter_mut().zip(key.chunks(2)) {
                let high = pair.get(1).map_or(0, |k| round_bits(*k));
                line.0[column] = round_bits(pair[0]) | high << 16;
            }
            let steps = self.context.div_ceil(2);
            for (panel, value) in value.chunks(PANEL).enumerate() {
                let line = &mut self.values[panel * steps + position / 2].0;
                for (word, v) in line.iter_mut().zip(value) {
                    // The next position's half is cleared, so that nothing old is read with it.
                    let bits = round_bits(*v);
                    *word = if position.is_multiple_of(2) { bits } else { *word & 0xffff | bits << 16 };
                }
            }
        } else {
            let steps = self.head_dim;
            for (line, k) in self.keys[panel * steps..][..steps].iter_mut().zip(key) {
                line.0[column] = k.to_bits();
            }
            for (panel, value) in value.chunks(PANEL).enumerate() {
                let line = &mut self.values[panel * self.context + position].0;
                for (word, v) in line.iter_mut().zip(value) {
                    *word = v.to_bits();
                }
            }
        }
    }

    /// `softmax(scale · q · keysᵀ) · values` for each row of queries, over the first positions of the cache.
    ///
    /// # Shapes
    /// - `queries`: rows of `head_dim` values, a row each `stride` values: the heads of a group, or positions of a head
    /// - `counts`: how many positions each row sees, at least one
    /// - `out`: rows of `head_dim` values, a row each `out_stride` values
    ///
    /// # Panics
    /// When lengths do not fit.
    #[allow(clippy::too_many_arguments)]
    pub fn attend(
        &self,
        level: Level,
        queries: &[f32],
        stride: usize,
        counts: &[usize],
        scale: f32,
        out: &mut [f32],
        out_stride: usize,
    ) {
        let dim = self.head_dim;
        let padded = dim.next_multiple_of(2);
        for (group, counts) in counts.chunks(ROWS).enumerate() {
            let longest = counts.iter().copied().max().unwrap_or(0);
            assert!(longest <= self.context && !counts.contains(&0), "rows see positions of the cache");
            let panels = longest.div_ceil(PANEL);
            let length = panels * PANEL;
            with_scratch_f32(counts.len() * (length + padded), |scratch| {
                let (scores, q) = scratch.split_at_mut(counts.len() * length);
                for (r, q) in q.chunks_exact_mut(padded).enumerate() {
                    q[..dim].copy_from_slice(&queries[(group * ROWS + r) * stride..][..dim]);
                    q[dim..].fill(0.0);
                }
                let mut sums = [[0.0; PANEL]; ROWS];
                let sums = &mut sums[..counts.len()];
                let steps = if self.half { dim.div_ceil(2) } else { dim };
                for (panel, keys) in self.keys.chunks_exact(steps.max(1)).take(panels).enumerate() {
                    dot(level, self.half, keys, q, padded, sums);
                    for (r, sums) in sums.iter().enumerate() {
                        scores[r * length + panel * PANEL..][..PANEL].copy_from_slice(sums);
                    }
                }
                let mut inverse = [0.0; ROWS];
                for ((scores, count), inverse) in
                    scores.chunks_exact_mut(length).zip(counts).zip(&mut inverse)
                {
                    let (seen, hidden) = scores.split_at_mut(*count);
                    *inverse = softmax(level, seen, scale);
                    hidden.fill(0.0);
                }
                let all = if self.half { self.context.div_ceil(2) } else { self.context };
                let seen = if self.half { longest.div_ceil(2) } else { longest };
                for (panel, values) in self.values.chunks_exact(all.max(1)).enumerate() {
                    dot(level, self.half, &values[..seen], scores, length, sums);
                    let width = PANEL.min(dim - panel * PANEL);
                    for (r, sums) in sums.iter().enumerate() {
                        let out = &mut out[(group * ROWS + r) * out_stride + panel * PANEL..][..width];
                        out.iter_mut().zip(sums).for_each(|(o, s)| *o = s * inverse[r]);
                    }
                }
            });
        }
    }
}

/// `activation(gate) · value` (Shazeer 2020, "GLU Variants Improve Transformer") for each row of `inner` gates and
/// as many values after them, on the calling thread.
///
/// # Shapes
/// - `first`: `[rows, 2 · inner]`
/// - `out`: `[rows, inner]`
pub fn let_through(level: Level, first: &[f32], out: &mut [f32], inner: usize, activation: Activation) {
    for (first, out) in first.chunks_exact(2 * inner).zip(out.chunks_exact_mut(inner)) {
        let (gates, values) = first.split_at(inner);
        gated_values(level, activation, gates, values, out);
    }
}

multiversion! {
    /// Scores to `exp(scale · (score − largest))`; returns one over their sum.
    fn softmax(scores: &mut [f32], scale: f32) -> f32 {
        const LANES: usize = 16;
        let mut largest = [f32::NEG_INFINITY; LANES];
        for scores in scores.chunks(LANES) {
            for (l, s) in largest.iter_mut().zip(scores) {
                *l = if *s > *l { *s } else { *l };
            }
        }
        let largest = largest.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
        let mut sums = [0.0f32; LANES];
        let (whole, rest) = scores.as_chunks_mut::<LANES>();
        for scores in whole {
            for (sum, s) in sums.iter_mut().zip(scores) {
                *s = exp::<FMA>(scale * (*s - largest));
                *sum += *s;
            }
        }
        for (sum, s) in sums.iter_mut().zip(rest) {
            *s = exp::<FMA>(scale * (*s - largest));
            *sum += *s;
        }
        1.0 / sums.iter().sum::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(seed: usize) -> f32 {
        let h = (seed as u32).wrapping_mul(2_654_435_761);
        let h = (h ^ h >> 15).wrapping_mul(2_246_822_519);
        (h >> 8) as f32 / 8_388_608.0 - 1.0
    }

    #[test]
    fn attention_over_the_cache_is_attention() {
        for (dim, group, context) in [(64, 1, 256), (8, 3, 70), (80, 2, 65), (5, 6, 130)] {
            for half in [false, true] {
                let round = |x: f32| if half { half::bf16::from_f32(x).to_f32() } else { x };
                let cache = KvCache::new(2, dim, context, half);
                let key = |head: usize, t: usize, d: usize| round(number(head * 7 + t * 1000 + d));
                let value =
                    |head: usize, t: usize, d: usize| round(number(head * 7 + t * 1000 + d + 500_000));
                for t in 0..context {
                    for head in 0..2 {
                        let k: Vec<f32> = (0..dim).map(|d| key(head, t, d)).collect();
                        let v: Vec<f32> = (0..dim).map(|d| value(head, t, d)).collect();
                        cache.write(head).put(t, &k, &v);
                    }
                }
                let stride = dim + 3;
                let q: Vec<f32> = (0..group * stride).map(|i| 3.0 * number(i + 900_000)).collect();
                let scale = 1.0 / (dim as f32).sqrt();
                for n in [1, 2, 63, 64, 65] {
                    let counts: Vec<usize> = (0..group).map(|r| (n + r).min(context)).collect();
                    for level in Level::available() {
                        for head in 0..2 {
                            let mut out = vec![0.0; group * dim];
                            cache.read(head).attend(level, &q, stride, &counts, scale, &mut out, dim);
                            for (r, n) in counts.iter().enumerate() {
                                let weights: Vec<f64> = (0..*n)
                                    .map(|t| {
                                        let dot: f64 = (0..dim)
                                            .map(|d| {
                                                f64::from(q[r * stride + d]) * f64::from(key(head, t, d))
                                            })
                                            .sum();
                                        (dot * f64::from(scale)).exp()
                                    })
                                    .collect();
                                let total: f64 = weights.iter().sum();
                                for d in 0..dim {
                                    let e: f64 = weights
                                        .iter()
                                        .enumerate()
                                        .map(|(t, w)| w * f64::from(value(head, t, d)))
                                        .sum::<f64>()
                                        / total;
                                    let found = f64::from(out[r * dim + d]);
                                    assert!(
                                        (found - e).abs() < 1e-5,
                                        "{dim} {half} {level:?} {n}: {found}, not {e}"
                                    );
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_copy_attends_as_the_original() {
        for half in [false, true] {
            let (dim, positions) = (70, 67);
            let original = KvCache::new(2, dim, 90, half);
            for (t, head) in (0..80).flat_map(|t| [(t, 0), (t, 1)]) {
                let row = |seed: usize| (0..dim).map(|d| number(seed + t * 100 + d)).collect::<Vec<f32>>();
                original.write(head).put(t, &row(head), &row(head + 50_000));
            }
            for context in [positions, 200] {
                let mut copy = KvCache::new(2, dim, context, half);
                copy.copy_from(&original, positions);
                let q: Vec<f32> = (0..dim).map(|d| number(d + 70)).collect();
                for head in 0..2 {
                    let attend = |cache: &KvCache| {
                        let mut out = vec![0.0; dim];
                        cache.read(head).attend(Level::best(), &q, dim, &[positions], 0.3, &mut out, dim);
                        out
                    };
                    assert_eq!(attend(&copy), attend(&original));
                }
            }
        }
    }

    #[test]
    fn gates_let_values_through() {
        let (rows, inner) = (3, 21);
        let first: Vec<f32> = (0..rows * 2 * inner).map(|i| 4.0 * number(i)).collect();
        for level in Level::available() {
            let mut out = vec![0.0; rows * inner];
            let_through(level, &first, &mut out, inner, Activation::Silu);
            for (at, found) in out.iter().enumerate() {
                let (row, i) = (at / inner, at % inner);
                let gate = f64::from(first[row * 2 * inner + i]);
                let e = gate / (1.0 + (-gate).exp()) * f64::from(first[row * 2 * inner + inner + i]);
                assert!((f64::from(*found) - e).abs() < 1e-5, "{level:?} {at}: {found}, not {e}");
            }
        }
    }

    #[test]
    fn what_was_there_before_is_not_read() {
        let cache = KvCache::new(1, 4, 8, true);
        let mut head = cache.write(0);
        for t in 0..8 {
            head.put(t, &[f32::NAN; 4], &[f32::NAN; 4]);
        }
        for t in 0..3 {
            head.put(t, &[1.0; 4], &[2.0; 4]);
            let mut out = [0.0; 4];
            head.attend(Level::best(), &[1.0; 4], 4, &[t + 1], 1.0, &mut out, 4);
            assert_eq!(out, [2.0; 4]);
        }
    }
}
