//! Scaled dot-product attention (Vaswani et al. 2017, §3.2.1), with grouped query heads (Ainslie et al. 2023).
//!
//! The scores of a block of queries are in a core's cache and nowhere else; the backward pass computes them
//! again from the kept logarithm of each row's sum (Dao et al. 2022, "FlashAttention", algorithms 1 and 4, with
//! whole rows of keys instead of an online softmax: a row fits).

use std::ops::Range;

use super::gemm::{
    Packed, Precision, Store, Strided, gemm_packed, pack_columns, packed_words, panel_columns,
};
use crate::math::exp;
use crate::memory::{as_f32, buffer, with_scratch};
use crate::multiversion;
use crate::simd::{Level, largest, sum_by};
use crate::threads::{SharedMut, parallel};

/// Sizes of an attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Sequences.
    pub batch: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Positions of queries.
    pub queries: usize,
    /// Positions of keys and values.
    pub keys: usize,
    /// Values a head.
    pub dim: usize,
}

/// Where the values of a head are: value `d` of head `h` at position `t` of sequence `b` is
/// `offset + b · batch + t · row + h · head + d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Of the first value.
    pub offset: usize,
    /// From a sequence to the next.
    pub batch: usize,
    /// From a position to the next.
    pub row: usize,
    /// From a head to the next.
    pub head: usize,
}

impl Place {
    /// `[batch, time, heads · dim]`, each row `row` wide, heads from `offset` on.
    #[must_use]
    pub fn rows(offset: usize, time: usize, row: usize, dim: usize) -> Self {
        Self { offset, batch: time * row, row, head: dim }
    }

    fn at(&self, batch: usize, time: usize, head: usize) -> usize {
        self.offset + batch * self.batch + time * self.row + head * self.head
    }
}

/// Queries, keys or values in memory.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// All values.
    pub data: &'a [f32],
    /// Where they are.
    pub place: Place,
}

impl<'a> View<'a> {
    fn head(&self, batch: usize, time: usize, head: usize) -> &'a [f32] {
        &self.data[self.place.at(batch, time, head)..]
    }
}

/// Which keys a query sees, and how.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Multiplies the scores; 1/√dim is usual.
    pub scale: f32,
    /// Query i sees keys up to i + keys − queries.
    pub causal: bool,
    /// `[batch, keys]`: keys that are seen at all.
    pub mask: Option<&'a [bool]>,
    /// `[batch, queries]`: the first key that a query sees.
    pub starts: Option<&'a [u32]>,
    /// Zeroes shares of attention.
    pub dropout: Option<Dropout>,
    /// How products are computed.
    pub precision: Precision,
}

/// Dropout as a function of a place: no mask is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Probability of zero, from 0 to below 1.
    pub rate: f32,
    /// Chooses the mask.
    pub seed: u64,
    /// Added to the numbers of rows: a part of a batch has the masks that the whole would have.
    pub first: u32,
}

impl Dropout {
    /// What multiplies the share of key `key` in row `row`, which counts sequences, heads and queries.
    #[inline(always)]
    #[must_use]
    pub fn factor(&self, row: u32, key: u32) -> f32 {
        let row = row.wrapping_add(self.first);
        // Two rounds of a 32-bit mixer over the place and the seed (Wellons 2018, "lowbias32").
        let mut x = key.wrapping_mul(0x9e37_79b9) ^ self.seed as u32;
        x = mix(x ^ row.rotate_left(16));
        x = mix(x.wrapping_add(row) ^ (self.seed >> 32) as u32);
        let threshold = (self.rate * 16_777_216.0) as u32;
        if x >> 8 < threshold { 0.0 } else { 1.0 / (1.0 - self.rate) }
    }
}

#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ x >> 16
}

/// Queries whose scores are in cache together: whole tiles of 14, of 6 and of 4 rows, nearly.
const BLOCK: usize = 84;

/// A key and value head of a sequence, and a range of blocks of queries.
struct Task {
    batch: usize,
    kv_head: usize,
    blocks: Range<usize>,
}

fn tasks(shape: &Shape) -> (usize, impl Fn(usize) -> Task + use<>) {
    let Shape { batch, kv_heads, queries, .. } = *shape;
    let blocks = queries.div_ceil(BLOCK);
    // Few heads are cut by blocks of queries, so that there is work for many threads.
    let cuts = 16usize.div_ceil((batch * kv_heads).max(1)).clamp(1, blocks.max(1));
    let each = blocks.div_ceil(cuts);
    let task = move |task: usize| {
        let (group, cut) = (task / cuts, task % cuts);
        let blocks = (cut * each).min(blocks)..((cut + 1) * each).min(blocks);
        Task { batch: group / kv_heads, kv_head: group % kv_heads, blocks }
    };
    (batch * kv_heads * cuts, task)
}

/// Attention, and for every row the logarithm of its sum of exponentials. A row that sees no key gives zeros.
///
/// # Shapes
/// - output: `[batch, queries, heads · dim]`, logarithms: `[batch, heads, queries]`
#[must_use]
pub fn forward(
    level: Level,
    shape: Shape,
    q: View<'_>,
    k: View<'_>,
    v: View<'_>,
    options: Options<'_>,
) -> (Vec<f32>, Vec<f32>) {
    let Shape { batch, heads, kv_heads, queries, keys, dim } = shape;
    let width = heads * dim;
    let mut out = buffer(batch * queries * width);
    let mut logs = buffer(batch * heads * queries);
    if keys == 0 || dim == 0 {
        out.fill(0.0);
        logs.fill(f32::INFINITY);
        return (out, logs);
    }
    let (shared_out, shared_logs) = (SharedMut::new(&mut out), SharedMut::new(&mut logs));
    let precision = options.precision;
    let stride = keys.next_multiple_of(32);
    let panel = panel_columns(level, precision);
    let sizes = [
        packed_words(level, precision, keys, dim),
        packed_words(level, precision, dim, keys),
        BLOCK * stride,
        BLOCK * dim,
    ];
    let (count, task) = tasks(&shape);
    parallel(count, |index| {
        let Task { batch, kv_head, blocks } = task(index);
        with_scratch(sizes.iter().sum(), |words| {
            let [packed_k, packed_v, scores, rows] = split(words, sizes);
            let (scores, rows) = (as_f32(scores), as_f32(rows));
            let columns = Strided::rows(k.head(batch, 0, kv_head), k.place.row);
            pack_columns(level, precision, keys, dim, &columns, packed_k);
            let columns = Strided::columns(v.head(batch, 0, kv_head), v.place.row);
            pack_columns(level, precision, dim, keys, &columns, packed_v);
            let packed_k = Packed::new(packed_k, dim);
            let packed_v = Packed::new(packed_v, keys);
            let mask = options.mask.map(|m| &m[batch * keys..][..keys]);
            let starts = options.starts.map(|s| &s[batch * queries..][..queries]);
            for head in kv_head * (heads / kv_heads)..(kv_head + 1) * (heads / kv_heads) {
                for block in blocks.clone() {
                    let first = block * BLOCK;
                    let count = BLOCK.min(queries - first);
                    let row = (batch * heads + head) * queries + first;
                    let see = Sight { options: &options, mask, starts, first, queries, keys, row, stride };
                    let range = see.keys_of_block(count, panel);
                    let (from, seen) = (range.start, range.len());
                    let a = Strided::rows(q.head(batch, first, head), q.place.row);
                    gemm_packed(
                        level,
                        precision,
                        [count, seen, dim],
                        &a,
                        packed_k.skip_panels(level, precision, from / panel),
                        &Store::new(&mut scores[from..], stride),
                    );
                    // SAFETY: rows of different tasks do not overlap.
                    let logs = unsafe { shared_logs.slice(row, count) };
                    let mut scales = [0.0; BLOCK];
                    softmax(level, scores, &see, range, logs, &mut scales[..count]);
                    let a = Strided::rows(&scores[from..], stride);
                    let b = packed_v.skip(from);
                    gemm_packed(level, precision, [count, dim, seen], &a, b, &Store::new(rows, dim));
                    for (i, (values, scale)) in rows.chunks_exact(dim).zip(&scales[..count]).enumerate() {
                        let at = ((batch * queries) + first + i) * width + head * dim;
                        // SAFETY: rows and heads of different tasks do not overlap.
                        let out = unsafe { shared_out.slice(at, dim) };
                        out.iter_mut().zip(values).for_each(|(o, v)| *o = v * scale);
                    }
                }
            }
        });
    });
    (out, logs)
}

/// What rows of a block see.
struct Sight<'a> {
    options: &'a Options<'a>,
    mask: Option<&'a [bool]>,
    starts: Option<&'a [u32]>,
    first: usize,
    queries: usize,
    keys: usize,
    /// Number of the block's first row, over sequences, heads and queries.
    row: usize,
    stride: usize,
}

impl Sight<'_> {
    /// Keys that row `i` of the block may see.
    #[inline(always)]
    fn keys_of(&self, i: usize) -> usize {
        if self.options.causal {
            (self.first + i + 1 + self.keys).saturating_sub(self.queries).min(self.keys)
        } else {
            self.keys
        }
    }

    /// Keys that row `i` of the block, which sees keys of `block`, may see.
    #[inline(always)]
    fn range_of(&self, i: usize, block: &Range<usize>) -> Range<usize> {
        let start = self.starts.map_or(0, |s| s[self.first + i] as usize).clamp(block.start, block.end);
        start..self.keys_of(i).clamp(start, block.end)
    }

    /// Keys that some row of the block may see: from the start of a panel to an even number where there are as many,
    /// since products take pairs.
    fn keys_of_block(&self, count: usize, panel: usize) -> Range<usize> {
        let end = self.keys_of(count - 1).next_multiple_of(2).min(self.keys);
        let starts = self.starts.map(|s| s[self.first..][..count].iter().min());
        let start = starts.flatten().map_or(0, |s| end.min(*s as usize));
        start / panel * panel..end
    }
}

multiversion! {
    /// Scores become exponentials, zero where nothing is seen; `scales` are one over their sums.
    fn softmax(scores: &mut [f32], see: &Sight<'_>, block: Range<usize>, logs: &mut [f32], scales: &mut [f32]) {
        for (i, (log, scale)) in logs.iter_mut().zip(scales).enumerate() {
            let row = &mut scores[i * see.stride..];
            let range = see.range_of(i, &block);
            row[block.start..range.start].fill(0.0);
            row[range.end..block.end].fill(0.0);
            let row = &mut row[range.clone()];
            let factor = see.options.scale;
            if let Some(mask) = see.mask {
                for (v, seen) in row.iter_mut().zip(&mask[range.clone()]) {
                    *v = if *seen { *v * factor } else { f32::NEG_INFINITY };
                }
            } else {
                for v in row.iter_mut() {
                    *v *= factor;
                }
            }
            let maximum = largest(row);
            if maximum == f32::NEG_INFINITY && !row.iter().any(|v| v.is_nan()) {
                row.fill(0.0);
                (*log, *scale) = (f32::INFINITY, 0.0);
                continue;
            }
            for v in row.iter_mut() {
                *v = exp::<FMA>(*v - maximum);
            }
            let sum = sum_by(row.len(), |j| row[j]);
            *log = maximum + sum.ln();
            *scale = 1.0 / sum;
            if let Some(dropout) = see.options.dropout {
                let number = (see.row + i) as u32;
                for (v, key) in row.iter_mut().zip(range) {
                    *v *= dropout.factor(number, key as u32);
                }
            }
        }
    }

    /// From scores and the gradient of shares to shares (`scores`, as dropout left them) and the gradient of
    /// scores before they were scaled (`gradient`).
    fn softmax_backward(
        scores: &mut [f32],
        gradient: &mut [f32],
        see: &Sight<'_>,
        block: Range<usize>,
        logs: &[f32],
    ) {
        for (i, log) in logs.iter().enumerate() {
            let row = &mut scores[i * see.stride..];
            let slope = &mut gradient[i * see.stride..];
            let range = see.range_of(i, &block);
            for values in [&mut *row, &mut *slope] {
                values[block.start..range.start].fill(0.0);
                values[range.end..block.end].fill(0.0);
            }
            let (row, slope) = (&mut row[range.clone()], &mut slope[range.clone()]);
            let factor = see.options.scale;
            if let Some(mask) = see.mask {
                for (v, seen) in row.iter_mut().zip(&mask[range.clone()]) {
                    *v = if *seen { exp::<FMA>(*v * factor - log) } else { 0.0 };
                }
            } else {
                for v in row.iter_mut() {
                    *v = exp::<FMA>(*v * factor - log);
                }
            }
            if *log == f32::INFINITY {
                row.fill(0.0);
            }
            if let Some(dropout) = see.options.dropout {
                let number = (see.row + i) as u32;
                for (d, key) in slope.iter_mut().zip(range.clone()) {
                    *d *= dropout.factor(number, key as u32);
                }
            }
            let along = sum_by(row.len(), |j| row[j] * slope[j]);
            for (d, p) in slope.iter_mut().zip(&*row) {
                *d = (*d - along) * p * factor;
            }
            if let Some(dropout) = see.options.dropout {
                let number = (see.row + i) as u32;
                for (p, key) in row.iter_mut().zip(range) {
                    *p *= dropout.factor(number, key as u32);
                }
            }
        }
    }
}

/// Where the gradients of queries, keys and values go; every value that a place names is set.
#[derive(Debug)]
pub struct Targets<'a> {
    /// Of the queries.
    pub q: (&'a SharedMut<'a, f32>, Place),
    /// Of the keys.
    pub k: (&'a SharedMut<'a, f32>, Place),
    /// Of the values.
    pub v: (&'a SharedMut<'a, f32>, Place),
}

/// Gradients of queries, keys and values from that of the output, `[batch, queries, heads · dim]`, and the logarithms that
/// [`forward`] gave.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    level: Level,
    shape: Shape,
    q: View<'_>,
    k: View<'_>,
    v: View<'_>,
    options: Options<'_>,
    logs: &[f32],
    gradient: &[f32],
    targets: &Targets<'_>,
) {
    let Shape { batch, heads, kv_heads, queries, keys, dim } = shape;
    let width = heads * dim;
    if keys == 0 || dim == 0 {
        return;
    }
    let precision = options.precision;
    let stride = keys.next_multiple_of(32);
    let panel = panel_columns(level, precision);
    let sizes = [
        packed_words(level, precision, keys, dim),
        packed_words(level, precision, keys, dim),
        packed_words(level, precision, dim, keys),
        packed_words(level, precision, dim, BLOCK),
        packed_words(level, precision, dim, BLOCK),
        BLOCK * stride,
        BLOCK * stride,
        BLOCK * dim,
        keys * dim,
        keys * dim,
    ];
    parallel(batch * kv_heads, |index| {
        let (batch, kv_head) = (index / kv_heads, index % kv_heads);
        with_scratch(sizes.iter().sum(), |words| {
            let [scores_k, scores_v, packed_k, packed_q, packed_dy, scores, slopes, rows, dk, dv] =
                split(words, sizes);
            let [scores, slopes, rows, dk, dv] = [scores, slopes, rows, dk, dv].map(as_f32);
            dk.fill(0.0);
            dv.fill(0.0);
            let lanes = Strided::rows(k.head(batch, 0, kv_head), k.place.row);
            pack_columns(level, precision, keys, dim, &lanes, scores_k);
            let lanes = Strided::rows(v.head(batch, 0, kv_head), v.place.row);
            pack_columns(level, precision, keys, dim, &lanes, scores_v);
            let lanes = Strided::columns(k.head(batch, 0, kv_head), k.place.row);
            pack_columns(level, precision, dim, keys, &lanes, packed_k);
            let (scores_k, scores_v) = (Packed::new(scores_k, dim), Packed::new(scores_v, dim));
            let packed_k = Packed::new(packed_k, keys);
            let mask = options.mask.map(|m| &m[batch * keys..][..keys]);
            let starts = options.starts.map(|s| &s[batch * queries..][..queries]);
            for head in kv_head * (heads / kv_heads)..(kv_head + 1) * (heads / kv_heads) {
                for first in (0..queries).step_by(BLOCK) {
                    let count = BLOCK.min(queries - first);
                    let row = (batch * heads + head) * queries + first;
                    let see = Sight { options: &options, mask, starts, first, queries, keys, row, stride };
                    let range = see.keys_of_block(count, panel);
                    let (from, seen) = (range.start, range.len());
                    let q_rows = q.head(batch, first, head);
                    let dy = &gradient[(batch * queries + first) * width + head * dim..];
                    let a = Strided::rows(q_rows, q.place.row);
                    gemm_packed(
                        level,
                        precision,
                        [count, seen, dim],
                        &a,
                        scores_k.skip_panels(level, precision, from / panel),
                        &Store::new(&mut scores[from..], stride),
                    );
                    let a = Strided::rows(dy, width);
                    gemm_packed(
                        level,
                        precision,
                        [count, seen, dim],
                        &a,
                        scores_v.skip_panels(level, precision, from / panel),
                        &Store::new(&mut slopes[from..], stride),
                    );
                    softmax_backward(level, scores, slopes, &see, range, &logs[row..row + count]);
                    // dV += Pᵀ · dY
                    pack_columns(level, precision, dim, count, &Strided::columns(dy, width), packed_dy);
                    let b = Packed::new(packed_dy, count);
                    let a = Strided::columns(&scores[from..], stride);
                    let sink = Store::adding(&mut dv[from * dim..], dim);
                    gemm_packed(level, precision, [seen, dim, count], &a, b, &sink);
                    // dK += dSᵀ · Q
                    pack_columns(
                        level,
                        precision,
                        dim,
                        count,
                        &Strided::columns(q_rows, q.place.row),
                        packed_q,
                    );
                    let b = Packed::new(packed_q, count);
                    let a = Strided::columns(&slopes[from..], stride);
                    let sink = Store::adding(&mut dk[from * dim..], dim);
                    gemm_packed(level, precision, [seen, dim, count], &a, b, &sink);
                    // dQ = dS · K
                    let a = Strided::rows(&slopes[from..], stride);
                    let b = packed_k.skip(from);
                    gemm_packed(level, precision, [count, dim, seen], &a, b, &Store::new(rows, dim));
                    put(&targets.q, batch, first, head, &rows[..count * dim], dim);
                }
            }
            put(&targets.k, batch, 0, kv_head, dk, dim);
            put(&targets.v, batch, 0, kv_head, dv, dim);
        });
    });
}

/// Writes rows of one head to their places.
fn put(
    (out, place): &(&SharedMut<'_, f32>, Place),
    batch: usize,
    first: usize,
    head: usize,
    rows: &[f32],
    dim: usize,
) {
    for (i, row) in rows.chunks_exact(dim.max(1)).enumerate() {
        // SAFETY: each place is written by the one task that has its sequence and head.
        unsafe { out.slice(place.at(batch, first + i, head), dim) }.copy_from_slice(row);
    }
}

/// Cuts scratch space into parts of these sizes.
fn split<const N: usize>(words: &mut [u32], sizes: [usize; N]) -> [&mut [u32]; N] {
    let mut rest = words;
    sizes.map(|size| {
        let (part, tail) = std::mem::take(&mut rest).split_at_mut(size);
        rest = tail;
        part
    })
}
