//! The feed-forward pair of a Transformer: `activation(x · w1 + b1) · w2 + b2 + residual` (Vaswani et al. 2017, §3.3).
//!
//! A task takes a few rows through both layers, so that the values in between, which are the widest of the whole
//! model, stay in its cache; the backward pass computes them again from those before the activation.

use super::activation::{Activation, for_each_activation};
use super::gemm::{
    Change, Packed, Part, Precision, Sink, Source, Store, Strided, Value, gemm_packed, pack_columns,
    packed_words,
};
use super::linear::{Gradients, Kept, KeptMut, Lanes, Matrix, column_sums, weight_gradient};
use crate::memory::{buffer, prefetch, with_scratch, with_scratch_f32};
use crate::multiversion;
use crate::simd::Level;
use crate::threads::{SharedMut, parallel};

/// Rows a task: whole tiles, and few enough that the hidden values stay in a cache.
fn rows_a_task(level: Level, precision: Precision) -> usize {
    56_usize.next_multiple_of(super::gemm::tile_rows(level, precision))
}

/// Sizes of a feed-forward pair.
#[derive(Debug, Clone, Copy)]
pub struct FeedForwardShape {
    /// Rows of the input.
    pub rows: usize,
    /// Width of the input and the output.
    pub width: usize,
    /// Width in between.
    pub hidden: usize,
}

/// Gradients of a feed-forward pair.
#[derive(Debug)]
pub struct FeedForwardGradients {
    /// Of the first layer; `x` is that of the pair's input.
    pub first: Gradients,
    /// Of the second layer, without `x`.
    pub second: Gradients,
}

/// Parameters of a feed-forward pair.
#[derive(Debug, Clone, Copy)]
pub struct Parameters<'a> {
    /// `[width, hidden]`
    pub w1: &'a [f32],
    /// `[hidden]`
    pub b1: &'a [f32],
    /// `[hidden, width]`
    pub w2: &'a [f32],
    /// `[width]`
    pub b2: &'a [f32],
}

/// A matrix as the right factor of products, packed by all threads.
fn packed<R>(
    level: Level,
    precision: Precision,
    [lanes, height]: [usize; 2],
    source: &(impl Source + Copy),
    f: impl FnOnce(Packed<'_>) -> R,
) -> R {
    let panel = super::gemm::panel_columns(level, precision);
    let panel_words = packed_words(level, precision, panel, height);
    with_scratch(packed_words(level, precision, lanes, height), |words| {
        let shared = SharedMut::new(words);
        parallel(lanes.div_ceil(panel), |task| {
            // SAFETY: one panel, one task.
            let out = unsafe { shared.slice(task * panel_words, panel_words) };
            let part = super::gemm::Shifted { source: *source, lanes: task * panel };
            pack_columns(level, precision, panel.min(lanes - task * panel), height, &part, out);
        });
        f(Packed::new(words, height))
    })
}

/// The output `[rows, width]` and, where asked for, the values before the activation.
#[allow(clippy::too_many_arguments)]
#[must_use]
pub fn forward(
    level: Level,
    precision: Precision,
    shape: FeedForwardShape,
    activation: Activation,
    x: Matrix<'_>,
    parameters: Parameters<'_>,
    residual: &[f32],
    keep: bool,
) -> (Vec<f32>, Option<Kept>) {
    let FeedForwardShape { rows, width, hidden } = shape;
    let Parameters { w1, b1, w2, b2 } = parameters;
    let mut y = buffer(rows * width);
    let mut z = keep.then(|| Kept::buffer(precision, rows * hidden));
    let kept = z.as_mut().map(KeptMut::new);
    let out = SharedMut::new(&mut y);
    packed(level, precision, [hidden, width], &Strided::columns(w1, hidden), |w1| {
        packed(level, precision, [width, hidden], &Strided::columns(w2, width), |w2| {
            let most = rows_a_task(level, precision);
            parallel(rows.div_ceil(most), |task| {
                let (row, count) = (task * most, most.min(rows - task * most));
                with_scratch_f32(count * hidden, |h| {
                    let a = x.part(row * width..(row + count) * width).rows(width);
                    let z = kept.as_ref().map(|z| (z, row));
                    let sink = Hidden { h: SharedMut::new(h), z, bias: b1, activation, columns: hidden };
                    gemm_packed(level, precision, [count, hidden, width], &a, w1, &sink);
                    let sink = Output { y: &out, row, bias: b2, residual, columns: width };
                    gemm_packed(
                        level,
                        precision,
                        [count, width, hidden],
                        &Strided::rows(h, hidden),
                        w2,
                        &sink,
                    );
                });
            });
        });
    });
    (y, z)
}

/// Hidden values of a task's rows.
struct Hidden<'a> {
    h: SharedMut<'a, f32>,
    /// Where the values before the activation go, and the task's first row there.
    z: Option<(&'a KeptMut<'a>, usize)>,
    bias: &'a [f32],
    activation: Activation,
    columns: usize,
}

impl Sink for Hidden<'_> {
    #[inline(always)]
    unsafe fn take<const FMA: bool, const W: usize>(
        &self,
        row: usize,
        column: usize,
        mut part: Part<'_, W>,
        first: bool,
        last: bool,
    ) {
        let place = row * self.columns + column;
        // SAFETY: places are disjoint by this function's contract.
        let out = unsafe { self.h.slice(place, part.count) };
        if !first {
            part.add(out);
        }
        if last {
            part.add(&self.bias[column..]);
            if let Some((z, from)) = self.z {
                // SAFETY: rows of different tasks do not overlap, nor do places of one.
                unsafe { z.put(from * self.columns + place, &part) };
            }
            let activation = self.activation;
            for_each_activation!(activation, |a| for v in part.values.iter_mut() {
                *v = a.value::<FMA>(*v);
            });
        }
        part.write(out);
    }
}

/// The output's rows of a task, from row `row` on.
struct Output<'a> {
    y: &'a SharedMut<'a, f32>,
    row: usize,
    bias: &'a [f32],
    residual: &'a [f32],
    columns: usize,
}

impl Sink for Output<'_> {
    #[inline(always)]
    unsafe fn take<const FMA: bool, const W: usize>(
        &self,
        row: usize,
        column: usize,
        mut part: Part<'_, W>,
        first: bool,
        last: bool,
    ) {
        let at = (self.row + row) * self.columns + column;
        // SAFETY: rows of different tasks do not overlap, nor do places of one.
        let out = unsafe { self.y.slice(at, part.count) };
        if !first {
            part.add(out);
        }
        if last {
            part.add(&self.bias[column..]);
            part.add(&self.residual[at..]);
        }
        part.write(out);
    }

    #[inline(always)]
    fn expect(&self, row: usize, column: usize) {
        prefetch(self.residual, (self.row + row) * self.columns + column);
    }
}

/// Gradients from `dy`, the kept input and the kept values before the activation.
#[allow(clippy::too_many_arguments)]
#[must_use]
pub fn backward(
    level: Level,
    precision: Precision,
    shape: FeedForwardShape,
    activation: Activation,
    x: Matrix<'_>,
    z: Matrix<'_>,
    w1: &[f32],
    w2: &[f32],
    dy: &[f32],
    [wants_x, wants_w1, wants_w2]: [bool; 3],
) -> FeedForwardGradients {
    let FeedForwardShape { rows, width, hidden } = shape;
    let most = rows_a_task(level, precision);
    let tasks = rows.div_ceil(most);
    let mut dz = Kept::buffer(precision, rows * hidden);
    let mut dx = wants_x.then(|| buffer(rows * width));
    let mut partial = vec![0.0f32; tasks.max(1) * hidden];
    {
        let kept = KeptMut::new(&mut dz);
        let dx = dx.as_mut().map(|dx| SharedMut::new(dx));
        let sums = SharedMut::new(&mut partial);
        packed(level, precision, [hidden, width], &Strided::rows(w2, width), |w2| {
            packed(level, precision, [width, hidden], &Strided::rows(w1, hidden), |w1| {
                parallel(tasks, |task| {
                    let (row, count) = (task * most, most.min(rows - task * most));
                    with_scratch_f32(count * hidden, |block| {
                        let z = z.part(row * hidden..(row + count) * hidden);
                        let a = Strided::rows(&dy[row * width..], width);
                        let sink = Slopes { dz: SharedMut::new(block), z, activation, columns: hidden };
                        gemm_packed(level, precision, [count, hidden, width], &a, w2, &sink);
                        // SAFETY: rows and sums of different tasks do not overlap.
                        let sums = unsafe { sums.slice(task * hidden, hidden) };
                        // SAFETY: as above.
                        let set = |at: usize, values: &[f32]| unsafe { kept.set(row * hidden + at, values) };
                        add_and_keep(level, block, sums, set);
                        if let Some(dx) = &dx {
                            // SAFETY: as above.
                            let rows = unsafe { dx.slice(row * width, count * width) };
                            let a = Strided::rows(block, hidden);
                            gemm_packed(
                                level,
                                precision,
                                [count, width, hidden],
                                &a,
                                w1,
                                &Store::new(rows, width),
                            );
                        }
                    });
                });
            });
        });
    }
    let mut db1 = partial[..hidden].to_vec();
    for part in partial.chunks_exact(hidden.max(1)).skip(1) {
        db1.iter_mut().zip(part).for_each(|(sum, p)| *sum += p);
    }
    let hidden_values = Activated { matrix: z.columns(hidden), activation };
    let dw2 = wants_w2
        .then(|| weight_gradient(level, precision, [rows, hidden, width], &hidden_values, Matrix::F32(dy)));
    let dw1 = wants_w1
        .then(|| weight_gradient(level, precision, [rows, width, hidden], &x.columns(width), dz.matrix()));
    FeedForwardGradients {
        first: Gradients { x: dx, weight: dw1, bias: Some(db1) },
        second: Gradients { x: None, weight: dw2, bias: Some(column_sums(level, dy, width)) },
    }
}

/// Multiplies the gradient of the hidden values with the activation's slope as tiles come.
struct Slopes<'a> {
    dz: SharedMut<'a, f32>,
    z: Matrix<'a>,
    activation: Activation,
    columns: usize,
}

/// Times the slope of an activation.
struct Slope<const FMA: bool>(Activation);

impl<const FMA: bool, T: Value> Change<f32, T> for Slope<FMA> {
    #[inline(always)]
    fn change(&self, value: &mut f32, other: T) {
        *value *= self.0.slope::<FMA>(other.widen());
    }
}

impl Sink for Slopes<'_> {
    #[inline(always)]
    unsafe fn take<const FMA: bool, const W: usize>(
        &self,
        row: usize,
        column: usize,
        mut part: Part<'_, W>,
        first: bool,
        last: bool,
    ) {
        let at = row * self.columns + column;
        // SAFETY: places are disjoint by this function's contract.
        let out = unsafe { self.dz.slice(at, part.count) };
        if !first {
            part.add(out);
        }
        if last {
            let activation = self.activation;
            match self.z {
                Matrix::F32(z) => {
                    for_each_activation!(activation, |a| part.with(&z[at..], Slope::<FMA>(a)));
                }
                Matrix::Bf16(z) => {
                    for_each_activation!(activation, |a| part.with(&z[at..], Slope::<FMA>(a)));
                }
            }
        }
        part.write(out);
    }

    #[inline(always)]
    fn expect(&self, row: usize, column: usize) {
        let at = row * self.columns + column;
        match self.z {
            Matrix::F32(z) => prefetch(z, at),
            Matrix::Bf16(z) => prefetch(z, at),
        }
    }
}

multiversion! {
    /// Adds rows to their column sums and keeps them.
    fn add_and_keep<K: Fn(usize, &[f32])>(rows: &[f32], sums: &mut [f32], keep: K) {
        let n = sums.len();
        for (i, row) in rows.chunks_exact(n.max(1)).enumerate() {
            for (s, v) in sums.iter_mut().zip(row) {
                *s += v;
            }
            keep(i * n, row);
        }
    }

    fn activate(activation: Activation, values: &mut [f32]) {
        for_each_activation!(activation, |a| for v in values.iter_mut() {
            *v = a.value::<FMA>(*v);
        });
    }
}

/// Lanes of a matrix with an activation applied while they are packed.
struct Activated<'a> {
    matrix: Lanes<'a>,
    activation: Activation,
}

impl Source for Activated<'_> {
    fn pack(
        &self,
        level: Level,
        lane: usize,
        lanes: usize,
        width: usize,
        from: usize,
        height: usize,
        out: &mut [f32],
    ) {
        self.matrix.pack(level, lane, lanes, width, from, height, out);
        // Every activation here maps the zeros of the padding to zero.
        activate(level, self.activation, &mut out[..width * height]);
    }
}
