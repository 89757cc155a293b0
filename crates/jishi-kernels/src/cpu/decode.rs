//! Attention of new positions over the keys and values of those before (Vaswani et al. 2017; Pope et al. 2022,
//! "Efficiently Scaling Transformer Inference", for the cache), with query heads that share a key head
//! (Ainslie et al. 2023).
//!
//! The cache has the layout of [`matvec`](super::matvec): keys are a matrix `[head_dim, positions]` and values a
//! matrix `[positions, head_dim]`, each in panels. So scores and results are products of a few rows with a
//! packed matrix that grows. It grows by pages of [`PAGE`] positions (Kwon et al. 2023, "Efficient Memory Management for
//! Large Language Model Serving with PagedAttention"): texts that begin alike share the pages of what they have in
//! common, and a page is copied when one of them writes to it.

use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::activation::{Activation, gated_values};
use super::gemm::round_bits;
use super::matvec::{Line, PANEL, dot};
use crate::math::exp;
use crate::memory::with_scratch_f32;
use crate::multiversion;
use crate::simd::Level;

/// Query rows that one pass over the cache serves.
const ROWS: usize = 4;

/// Positions of a page: those of a panel of keys.
pub const PAGE: usize = PANEL;

/// Keys and values of one layer, in pages.
///
/// Heads have locks, as tasks take a head each; nobody waits for one.
#[derive(Debug)]
pub struct KvCache {
    heads: Vec<RwLock<HeadCache>>,
}

impl KvCache {
    /// An empty cache. With `half`, keys and values are rounded to bfloat16.
    #[must_use]
    pub fn new(heads: usize, head_dim: usize, half: bool) -> Self {
        let head = || HeadCache { head_dim, half, pages: Vec::new() };
        Self { heads: (0..heads).map(|_| RwLock::new(head())).collect() }
    }

    /// Bytes of a page of a cache.
    #[must_use]
    pub fn page_bytes(heads: usize, head_dim: usize, half: bool) -> usize {
        heads * Page::bytes(head_dim, half)
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

    /// Another cache of the first positions, with the same pages until one of the two writes to them.
    ///
    /// # Panics
    /// When the cache does not hold so many positions.
    #[must_use]
    pub fn fork(&self, positions: usize) -> Self {
        let head = |head| RwLock::new(self.read(head).fork(positions));
        Self { heads: (0..self.heads.len()).map(head).collect() }
    }

    /// Lets pages go that are beyond the first positions and of other caches too. Own ones stay, to be filled again.
    ///
    /// # Panics
    /// When a task panicked with a head.
    pub fn rewind(&mut self, positions: usize) {
        for head in &mut self.heads {
            head.get_mut().expect("no task panicked with this head").rewind(positions);
        }
    }

    /// Memory of its pages, in bytes, of those too that it shares.
    #[must_use]
    pub fn bytes(&self) -> usize {
        (0..self.heads.len()).map(|head| self.read(head).bytes()).sum()
    }
}

/// Keys and values of one head of one layer.
#[derive(Debug)]
pub struct HeadCache {
    head_dim: usize,
    /// Whether they are rounded to bfloat16.
    half: bool,
    pages: Vec<Arc<Page>>,
}

/// [`PAGE`] positions of a head.
#[derive(Debug, Clone)]
struct Page {
    /// `[step of the head's values]`
    keys: Vec<Line>,
    /// `[panel of the head's values][step of positions]`
    values: Vec<Line>,
}

impl Page {
    /// Lines of its keys and values.
    fn lines(head_dim: usize, half: bool) -> [usize; 2] {
        let steps = |n: usize| if half { n.div_ceil(2) } else { n };
        [steps(head_dim), head_dim.div_ceil(PANEL) * steps(PAGE)]
    }

    fn bytes(head_dim: usize, half: bool) -> usize {
        Self::lines(head_dim, half).iter().sum::<usize>() * size_of::<Line>()
    }

    fn new(head_dim: usize, half: bool) -> Self {
        let [keys, values] = Self::lines(head_dim, half).map(|n| vec![Line([0; PANEL]); n]);
        Self { keys, values }
    }
}

impl HeadCache {
    fn bytes(&self) -> usize {
        self.pages.len() * Page::bytes(self.head_dim, self.half)
    }

    fn fork(&self, positions: usize) -> Self {
        let pages = self.pages[..positions.div_ceil(PAGE)].to_vec();
        Self { pages, ..*self }
    }

    fn rewind(&mut self, positions: usize) {
        let beyond = positions.div_ceil(PAGE);
        if self.pages.iter().skip(beyond).any(|page| Arc::strong_count(page) > 1) {
            self.pages.truncate(beyond);
        }
    }

    /// The page of a position, which is this cache's own from now on.
    fn own(&mut self, position: usize) -> &mut Page {
        let (at, inside) = (position / PAGE, position % PAGE);
        let fresh = || Arc::new(Page::new(self.head_dim, self.half));
        assert!(at <= self.pages.len(), "position {position} after {} pages", self.pages.len());
        if at == self.pages.len() {
            self.pages.push(fresh());
        } else if inside == 0 && Arc::strong_count(&self.pages[at]) > 1 {
            // Nothing of it is kept: no need to copy it.
            self.pages[at] = fresh();
        }
        Arc::make_mut(&mut self.pages[at])
    }

    /// Puts a key and a value at a position. Positions are filled in order; one that is filled again hides those after
    /// it.
    ///
    /// # Panics
    /// When a page before the position was never begun, or the lengths are not the head's.
    pub fn put(&mut self, position: usize, key: &[f32], value: &[f32]) {
        assert!(
            key.len() == self.head_dim && value.len() == self.head_dim,
            "a key or value of another length"
        );
        let half = self.half;
        let page = self.own(position);
        let column = position % PAGE;
        if half {
            for (line, pair) in page.keys.iter_mut().zip(key.chunks(2)) {
                let high = pair.get(1).map_or(0, |k| round_bits(*k));
                line.0[column] = round_bits(pair[0]) | high << 16;
            }
            for (lines, value) in page.values.chunks_exact_mut(PAGE / 2).zip(value.chunks(PANEL)) {
                for (word, v) in lines[column / 2].0.iter_mut().zip(value) {
                    // The next position's half is cleared, so that nothing old is read with it.
                    let bits = round_bits(*v);
                    *word = if column.is_multiple_of(2) { bits } else { *word & 0xffff | bits << 16 };
                }
            }
        } else {
            for (line, k) in page.keys.iter_mut().zip(key) {
                line.0[column] = k.to_bits();
            }
            for (lines, value) in page.values.chunks_exact_mut(PAGE).zip(value.chunks(PANEL)) {
                for (word, v) in lines[column].0.iter_mut().zip(value) {
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
            let pages = longest.div_ceil(PAGE);
            assert!(pages <= self.pages.len() && !counts.contains(&0), "rows see positions of the cache");
            let length = pages * PAGE;
            let wide = dim.next_multiple_of(PANEL);
            with_scratch_f32(counts.len() * (length + padded + wide), |scratch| {
                let (scores, rest) = scratch.split_at_mut(counts.len() * length);
                let (q, results) = rest.split_at_mut(counts.len() * padded);
                for (r, q) in q.chunks_exact_mut(padded).enumerate() {
                    q[..dim].copy_from_slice(&queries[(group * ROWS + r) * stride..][..dim]);
                    q[dim..].fill(0.0);
                }
                let mut sums = [[0.0; PANEL]; ROWS];
                let sums = &mut sums[..counts.len()];
                for (at, page) in self.pages[..pages].iter().enumerate() {
                    dot(level, self.half, &page.keys, q, padded, sums);
                    for (r, sums) in sums.iter().enumerate() {
                        scores[r * length + at * PAGE..][..PAGE].copy_from_slice(sums);
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
                results.fill(0.0);
                let steps = |n: usize| if self.half { n.div_ceil(2) } else { n };
                for (at, page) in self.pages[..pages].iter().enumerate() {
                    let seen = steps(PAGE.min(longest - at * PAGE));
                    for (panel, values) in page.values.chunks_exact(steps(PAGE)).enumerate() {
                        dot(level, self.half, &values[..seen], &scores[at * PAGE..], length, sums);
                        for (r, sums) in sums.iter().enumerate() {
                            let result = &mut results[r * wide + panel * PANEL..][..PANEL];
                            result.iter_mut().zip(sums).for_each(|(o, s)| *o += s);
                        }
                    }
                }
                for (r, inverse) in inverse[..counts.len()].iter().enumerate() {
                    let out = &mut out[(group * ROWS + r) * out_stride..][..dim];
                    out.iter_mut().zip(&results[r * wide..]).for_each(|(o, s)| *o = s * inverse);
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
                let cache = KvCache::new(2, dim, half);
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
    fn a_fork_shares_pages_until_one_writes() {
        for half in [false, true] {
            let (dim, heads) = (70, 2);
            let mut original = KvCache::new(heads, dim, half);
            let put = |cache: &KvCache, t: usize, seed: usize| {
                for head in 0..heads {
                    let row = |seed: usize| {
                        (0..dim).map(|d| number(seed + t * 100 + head * 7 + d)).collect::<Vec<f32>>()
                    };
                    cache.write(head).put(t, &row(seed), &row(seed + 50_000));
                }
            };
            (0..200).for_each(|t| put(&original, t, 0));
            let q: Vec<f32> = (0..dim).map(|d| number(d + 70)).collect();
            let attend = |cache: &KvCache, head: usize, positions: usize| {
                let mut out = vec![0.0; dim];
                cache.read(head).attend(Level::best(), &q, dim, &[positions], 0.3, &mut out, dim);
                out
            };
            let page = KvCache::page_bytes(heads, dim, half);
            assert_eq!(original.bytes(), 4 * page);
            // In the middle of a page, at the start of one, at the end of the last.
            for positions in [67, 128, 200] {
                let fork = original.fork(positions);
                assert_eq!(fork.bytes(), positions.div_ceil(PAGE) * page);
                let before = [attend(&original, 0, 200), attend(&original, 1, 200)];
                (positions..positions + 70).for_each(|t| put(&fork, t, 900));
                let alone = KvCache::new(heads, dim, half);
                (0..positions).for_each(|t| put(&alone, t, 0));
                (positions..positions + 70).for_each(|t| put(&alone, t, 900));
                for (head, before) in before.iter().enumerate() {
                    assert_eq!(attend(&original, head, 200), *before, "a fork writes to its own pages");
                    for seen in [positions, positions + 1, positions + 70] {
                        assert_eq!(attend(&fork, head, seen), attend(&alone, head, seen));
                    }
                }
            }
            // Pages of others are let go, own ones are kept to be filled again.
            let other = original.fork(200);
            original.rewind(70);
            assert_eq!((original.bytes(), other.bytes()), (2 * page, 4 * page));
            drop(other);
            (70..200).for_each(|t| put(&original, t, 0));
            original.rewind(70);
            assert_eq!(original.bytes(), 4 * page);
        }
    }

    #[test]
    #[should_panic(expected = "position 64 after 0 pages")]
    fn pages_are_begun_in_order() {
        KvCache::new(1, 4, true).write(0).put(64, &[1.0; 4], &[1.0; 4]);
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
        let cache = KvCache::new(1, 4, true);
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
