//! Batch normalisation over rows `[rows, channels]` (Ioffe & Szegedy 2015), with a residual sum and ReLU in the same
//! pass. An image NHWC is `batch · height · width` rows.
//!
//! Means and variances are taken chunk by chunk, each in two passes over rows that are still in the cache, and merged
//! in `f64` in the order of chunks (Chan et al. 1979): no cancellation, the same result on any number of threads.

use std::marker::PhantomData;

use crate::multiversion;
use crate::simd::{Level, madd};
use crate::threads::{SharedMut, parallel};

/// Values of a chunk of rows, about.
const CHUNK: usize = 1 << 15;

/// Mean and biased variance of each channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// `[channels]`
    pub mean: Vec<f32>,
    /// `[channels]`, divided by the number of rows
    pub variance: Vec<f32>,
}

/// What is applied to normalised rows: `y = (x − mean) / √(variance + eps) · weight + bias`, plus a residual, through ReLU.
#[derive(Debug, Clone, Copy)]
pub struct Affine<'a> {
    /// `[channels]`
    pub weight: &'a [f32],
    /// `[channels]`
    pub bias: &'a [f32],
    /// Added to the variance.
    pub eps: f32,
    /// Whether negative results become zero.
    pub relu: bool,
}

/// The gradients of a batch normalisation.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// `[channels]`
    pub weight: Vec<f32>,
    /// `[channels]`
    pub bias: Vec<f32>,
}

/// Rows of a chunk.
fn rows_of_chunk(channels: usize) -> usize {
    (CHUNK / channels.max(1)).max(1)
}

/// Mean and variance over the rows.
///
/// # Shapes
/// - `x`: `[rows, channels]`
#[must_use]
pub fn moments(level: Level, x: &[f32], channels: usize) -> Moments {
    let rows = x.len() / channels.max(1);
    let step = rows_of_chunk(channels);
    let chunks = rows.div_ceil(step);
    let mut parts = vec![0.0f32; chunks * 2 * channels];
    let shared = SharedMut::new(&mut parts);
    parallel(chunks, |chunk| {
        // SAFETY: one chunk, one task.
        let (mean, squares) =
            unsafe { shared.slice(chunk * 2 * channels, 2 * channels) }.split_at_mut(channels);
        let count = step.min(rows - chunk * step);
        chunk_moments(level, &x[chunk * step * channels..][..count * channels], mean, squares);
    });
    let (mut mean, mut squares) = (vec![0.0f64; channels], vec![0.0f64; channels]);
    let mut before = 0.0;
    for (chunk, part) in parts.chunks_exact((2 * channels).max(1)).enumerate() {
        let count = step.min(rows - chunk * step) as f64;
        let share = count / (before + count);
        for c in 0..channels {
            let distance = f64::from(part[c]) - mean[c];
            mean[c] += distance * share;
            squares[c] += f64::from(part[channels + c]) + distance * distance * before * share;
        }
        before += count;
    }
    let variance = squares.iter().map(|s| (s / before.max(1.0)) as f32).collect();
    Moments { mean: mean.iter().map(|m| *m as f32).collect(), variance }
}

/// The normalised rows: in training with [`moments`] of `x`, else with running statistics.
///
/// # Shapes
/// - `x`, `residual`, `y`: `[rows, channels]`
pub fn normalize(
    level: Level,
    affine: &Affine<'_>,
    moments: &Moments,
    x: &[f32],
    residual: Option<&[f32]>,
    y: &mut [f32],
) {
    let channels = affine.weight.len();
    let scale = scales(affine, moments);
    let step = rows_of_chunk(channels) * channels;
    let shared = SharedMut::new(y);
    assert!(residual.is_none_or(|r| r.len() == x.len()), "a residual of another shape");
    parallel(x.len().div_ceil(step.max(1)), |chunk| {
        let start = chunk * step;
        let len = step.min(x.len() - start);
        // SAFETY: one chunk, one task.
        let y = unsafe { shared.slice(start, len) };
        let x = &x[start..][..len];
        match residual {
            None => normalize_chunk(level, x, &moments.mean, &scale, affine.bias, affine.relu, y),
            Some(residual) => {
                let residual = &residual[start..][..len];
                normalize_sum_chunk(level, x, residual, &moments.mean, &scale, affine.bias, affine.relu, y);
            }
        }
    });
}

fn scales(affine: &Affine<'_>, moments: &Moments) -> Vec<f32> {
    let scale = |(w, v): (&f32, &f32)| w * (1.0 / (f64::from(*v) + f64::from(affine.eps)).sqrt()) as f32;
    affine.weight.iter().zip(&moments.variance).map(scale).collect()
}

/// Where the gradient comes from and what is known of the forward pass.
#[derive(Debug, Clone, Copy)]
pub struct Backward<'a> {
    /// `[rows, channels]`
    pub x: &'a [f32],
    /// `[rows, channels]`
    pub dy: &'a [f32],
    /// The result, where a residual was added before ReLU: `[rows, channels]`. Else it is not needed.
    pub y: Option<&'a [f32]>,
    /// Whether the moments are those of `x`, so that the gradient goes through them; else they are constants.
    pub training: bool,
}

/// The gradients of [`normalize`]. Without ReLU, a residual's gradient is `dy`.
///
/// # Shapes
/// - `dx`: `[rows, channels]`, if it is asked for
/// - `dresidual`: `[rows, channels]`, if it is asked for: the gradient past ReLU
pub fn backward(
    level: Level,
    affine: &Affine<'_>,
    moments: &Moments,
    pass: &Backward<'_>,
    dx: Option<&mut [f32]>,
    dresidual: Option<&mut [f32]>,
) -> Gradients {
    match (affine.relu, pass.y) {
        (false, _) => backward_by::<Open>(level, affine, moments, pass, dx, dresidual),
        (true, None) => backward_by::<FromInput>(level, affine, moments, pass, dx, dresidual),
        (true, Some(_)) => backward_by::<FromResult>(level, affine, moments, pass, dx, dresidual),
    }
}

fn backward_by<G: Gate>(
    level: Level,
    affine: &Affine<'_>,
    moments: &Moments,
    pass: &Backward<'_>,
    dx: Option<&mut [f32]>,
    dresidual: Option<&mut [f32]>,
) -> Gradients {
    let Backward { x, dy, y, training } = *pass;
    let y = y.filter(|_| G::NEEDS_RESULT).unwrap_or(x);
    let channels = affine.weight.len();
    let (rows, step) = (x.len() / channels.max(1), rows_of_chunk(channels) * channels);
    assert!(dy.len() == x.len() && y.len() == x.len(), "gradients of another shape");
    let scale = scales(affine, moments);
    let chunks = x.len().div_ceil(step.max(1));
    let part = |chunk: usize| chunk * step..((chunk + 1) * step).min(x.len());
    let known = |chunk| Known {
        x: &x[part(chunk)],
        dy: &dy[part(chunk)],
        y: &y[part(chunk)],
        mean: &moments.mean,
        scale: &scale,
        bias: affine.bias,
    };
    let masked = dresidual.map(SharedMut::new);
    let mut parts = vec![0.0f32; chunks * 2 * channels];
    let shared = SharedMut::new(&mut parts);
    parallel(chunks, |chunk| {
        let range = part(chunk);
        // SAFETY: one chunk, one task.
        let (sums, masked) = unsafe {
            let masked = masked.as_ref().map(|masked| masked.slice(range.start, range.len()));
            (shared.slice(chunk * 2 * channels, 2 * channels), masked.unwrap_or_default())
        };
        let (bias, weight) = sums.split_at_mut(channels);
        if masked.is_empty() {
            sums_chunk(level, PhantomData::<G>, &known(chunk), bias, weight);
        } else {
            masked_sums_chunk(level, PhantomData::<G>, &known(chunk), masked, bias, weight);
        }
    });
    let mut sums = vec![0.0f64; 2 * channels];
    for part in parts.chunks_exact((2 * channels).max(1)) {
        for (sum, value) in sums.iter_mut().zip(part) {
            *sum += f64::from(*value);
        }
    }
    let (bias, weight) = sums.split_at(channels);
    let inverse: Vec<f64> =
        moments.variance.iter().map(|v| 1.0 / (f64::from(*v) + f64::from(affine.eps)).sqrt()).collect();
    if let Some(dx) = dx {
        let share = if training { 1.0 / rows.max(1) as f64 } else { 0.0 };
        let shift: Vec<f32> = bias.iter().map(|b| (b * share) as f32).collect();
        let slope: Vec<f32> = weight.iter().zip(&inverse).map(|(w, i)| (w * i * i * share) as f32).collect();
        let out = SharedMut::new(dx);
        parallel(chunks, |chunk| {
            let range = part(chunk);
            // SAFETY: one chunk, one task; what a task wrote to `masked` is only read now.
            let (out, masked) = unsafe {
                let masked = masked.as_ref().map(|masked| &*masked.slice(range.start, range.len()));
                (out.slice(range.start, range.len()), masked)
            };
            match masked {
                Some(dy) => input_chunk(
                    level,
                    PhantomData::<Open>,
                    &Known { dy, ..known(chunk) },
                    &shift,
                    &slope,
                    out,
                ),
                None => input_chunk(level, PhantomData::<G>, &known(chunk), &shift, &slope, out),
            }
        });
    }
    Gradients {
        bias: bias.iter().map(|s| *s as f32).collect(),
        weight: weight.iter().zip(&inverse).map(|(s, i)| (s * i) as f32).collect(),
    }
}

/// What a chunk of the backward pass reads.
struct Known<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    y: &'a [f32],
    mean: &'a [f32],
    scale: &'a [f32],
    bias: &'a [f32],
}

/// How a gradient passes ReLU.
trait Gate {
    const NEEDS_RESULT: bool = false;

    /// The gradient before ReLU. `normed` is what forward computed before ReLU if there was no residual, `y` its result.
    fn pass(dy: f32, normed: f32, y: f32) -> f32;
}

/// No ReLU.
struct Open;

impl Gate for Open {
    #[inline(always)]
    fn pass(dy: f32, _: f32, _: f32) -> f32 {
        dy
    }
}

/// ReLU of the normalised value.
struct FromInput;

impl Gate for FromInput {
    #[inline(always)]
    fn pass(dy: f32, normed: f32, _: f32) -> f32 {
        if normed <= 0.0 { 0.0 } else { dy }
    }
}

/// ReLU of a sum, whose result is known.
struct FromResult;

impl Gate for FromResult {
    const NEEDS_RESULT: bool = true;

    #[inline(always)]
    fn pass(dy: f32, _: f32, y: f32) -> f32 {
        if y <= 0.0 { 0.0 } else { dy }
    }
}

/// NaN stays NaN.
#[inline(always)]
fn relu(x: f32) -> f32 {
    if x <= 0.0 { 0.0 } else { x }
}

multiversion! {
    fn chunk_moments(x: &[f32], mean: &mut [f32], squares: &mut [f32]) {
        let channels = mean.len();
        mean.fill(0.0);
        squares.fill(0.0);
        // Distances from the first row, so that what is far from zero loses nothing.
        let first = &x[..channels];
        for x in x.chunks_exact(channels) {
            for ((m, x), f) in mean.iter_mut().zip(x).zip(first) {
                *m += x - f;
            }
        }
        let share = 1.0 / (x.len() / channels) as f32;
        for (m, f) in mean.iter_mut().zip(first) {
            *m = madd::<FMA>(*m, share, *f);
        }
        for x in x.chunks_exact(channels) {
            for ((s, x), m) in squares.iter_mut().zip(x).zip(&*mean) {
                let d = x - m;
                *s = madd::<FMA>(d, d, *s);
            }
        }
    }

    fn normalize_chunk(x: &[f32], mean: &[f32], scale: &[f32], bias: &[f32], rectify: bool, y: &mut [f32]) {
        let channels = mean.len();
        let (scale, bias) = (&scale[..channels], &bias[..channels]);
        let floor = if rectify { 0.0 } else { f32::NEG_INFINITY };
        for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
            for c in 0..channels {
                let v = madd::<FMA>(x[c] - mean[c], scale[c], bias[c]);
                y[c] = if v <= floor { floor } else { v };
            }
        }
    }

    fn normalize_sum_chunk(
        x: &[f32], residual: &[f32], mean: &[f32], scale: &[f32], bias: &[f32], rectify: bool, y: &mut [f32],
    ) {
        let channels = mean.len();
        let (scale, bias) = (&scale[..channels], &bias[..channels]);
        let rows = x.chunks_exact(channels).zip(residual.chunks_exact(channels));
        if rectify {
            for ((x, r), y) in rows.zip(y.chunks_exact_mut(channels)) {
                for c in 0..channels {
                    y[c] = relu(madd::<FMA>(x[c] - mean[c], scale[c], bias[c]) + r[c]);
                }
            }
        } else {
            for ((x, r), y) in rows.zip(y.chunks_exact_mut(channels)) {
                for c in 0..channels {
                    y[c] = madd::<FMA>(x[c] - mean[c], scale[c], bias[c]) + r[c];
                }
            }
        }
    }

    fn sums_chunk<G: Gate>(_gate: PhantomData<G>, known: &Known, bias_sums: &mut [f32], weight_sums: &mut [f32]) {
        let channels = bias_sums.len();
        let (mean, scale, bias) = (&known.mean[..channels], &known.scale[..channels], &known.bias[..channels]);
        let weight_sums = &mut weight_sums[..channels];
        let rows = known.x.chunks_exact(channels).zip(known.dy.chunks_exact(channels));
        for ((x, dy), y) in rows.zip(known.y.chunks_exact(channels)) {
            for c in 0..channels {
                let d = x[c] - mean[c];
                let g = G::pass(dy[c], madd::<FMA>(d, scale[c], bias[c]), y[c]);
                bias_sums[c] += g;
                weight_sums[c] = madd::<FMA>(g, d, weight_sums[c]);
            }
        }
    }

    fn masked_sums_chunk<G: Gate>(_gate: PhantomData<G>, known: &Known, masked: &mut [f32], bias_sums: &mut [f32], weight_sums: &mut [f32],
    ) {
        let channels = bias_sums.len();
        let (mean, scale, bias) = (&known.mean[..channels], &known.scale[..channels], &known.bias[..channels]);
        let weight_sums = &mut weight_sums[..channels];
        let rows = known.x.chunks_exact(channels).zip(known.dy.chunks_exact(channels));
        let rows = rows.zip(known.y.chunks_exact(channels));
        for (((x, dy), y), masked) in rows.zip(masked.chunks_exact_mut(channels)) {
            for c in 0..channels {
                let d = x[c] - mean[c];
                let g = G::pass(dy[c], madd::<FMA>(d, scale[c], bias[c]), y[c]);
                masked[c] = g;
                bias_sums[c] += g;
                weight_sums[c] = madd::<FMA>(g, d, weight_sums[c]);
            }
        }
    }

    fn input_chunk<G: Gate>(_gate: PhantomData<G>, known: &Known, shift: &[f32], slope: &[f32], dx: &mut [f32]) {
        let channels = shift.len();
        let (mean, scale, bias) = (&known.mean[..channels], &known.scale[..channels], &known.bias[..channels]);
        let slope = &slope[..channels];
        let rows = known.x.chunks_exact(channels).zip(known.dy.chunks_exact(channels));
        let rows = rows.zip(known.y.chunks_exact(channels));
        for (((x, dy), y), dx) in rows.zip(dx.chunks_exact_mut(channels)) {
            for c in 0..channels {
                let d = x[c] - mean[c];
                let g = G::pass(dy[c], madd::<FMA>(d, scale[c], bias[c]), y[c]);
                dx[c] = madd::<FMA>(-d, slope[c], g - shift[c]) * scale[c];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::buffer;

    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 1021) as f32 / 512.0 - 1.0).collect()
    }

    fn close(found: &[f32], expected: &[f64], what: &str) {
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            assert!((f64::from(*f) - e).abs() <= 2e-5 * (1.0 + e.abs()), "{what}: {i} is {f}, not {e}");
        }
    }

    #[test]
    fn values_and_gradients_are_right() {
        for (rows, channels) in [(1, 3), (7, 5), (300, 64), (3000, 33), (20, 512)] {
            let n = rows * channels;
            let (x, residual, dy) = (numbers(n, 1), numbers(n, 2), numbers(n, 3));
            let (weight, bias) = (numbers(channels, 4), numbers(channels, 5));
            for (level, relu, sum, training) in Level::available()
                .into_iter()
                .flat_map(|level| (0..8).map(move |i| (level, i & 1 == 1, i & 2 == 2, i & 4 == 4)))
            {
                let what = format!("{rows} {channels} {level:?} relu {relu} sum {sum} training {training}");
                let found = moments(level, &x, channels);
                let at = |c: usize| (0..rows).map(move |r| r * channels + c);
                let mean: Vec<f64> = (0..channels)
                    .map(|c| at(c).map(|i| f64::from(x[i])).sum::<f64>() / rows as f64)
                    .collect();
                let variance =
                    |c: usize| at(c).map(|i| (f64::from(x[i]) - mean[c]).powi(2)).sum::<f64>() / rows as f64;
                let variance: Vec<f64> = (0..channels).map(variance).collect();
                close(&found.mean, &mean, &what);
                close(&found.variance, &variance, &what);
                // Well away from zero, so that one row has a gradient that can be compared.
                let eps = 0.1;
                let affine = Affine { weight: &weight, bias: &bias, eps, relu };
                let mut y = buffer::<f32>(n);
                normalize(level, &affine, &found, &x, sum.then_some(&residual[..]), &mut y);
                let (mut expected_y, mut expected_dx, mut g) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
                let (mut dw, mut db) = (vec![0.0; channels], vec![0.0; channels]);
                for c in 0..channels {
                    let inverse = 1.0 / (variance[c] + f64::from(eps)).sqrt();
                    let normed = |i: usize| (f64::from(x[i]) - mean[c]) * inverse;
                    for i in at(c) {
                        let v = normed(i) * f64::from(weight[c])
                            + f64::from(bias[c])
                            + if sum { f64::from(residual[i]) } else { 0.0 };
                        expected_y[i] = if relu { v.max(0.0) } else { v };
                        // Where rounding decides the sign, take what was found.
                        g[i] = if relu && y[i] <= 0.0 { 0.0 } else { f64::from(dy[i]) };
                        dw[c] += g[i] * normed(i);
                        db[c] += g[i];
                    }
                    for i in at(c) {
                        let through = if training { (db[c] + normed(i) * dw[c]) / rows as f64 } else { 0.0 };
                        expected_dx[i] = (g[i] - through) * inverse * f64::from(weight[c]);
                    }
                }
                close(&y, &expected_y, &what);
                let pass = Backward { x: &x, dy: &dy, y: sum.then_some(&y[..]), training };
                let (mut dx, mut dresidual) = (buffer::<f32>(n), buffer::<f32>(n));
                let found_gradients =
                    backward(level, &affine, &found, &pass, Some(&mut dx), sum.then_some(&mut dresidual[..]));
                close(&dx, &expected_dx, &what);
                close(&found_gradients.weight, &dw, &what);
                close(&found_gradients.bias, &db, &what);
                if sum {
                    close(&dresidual, &g, &what);
                }
            }
        }
    }

    #[test]
    fn a_small_spread_far_from_zero_is_seen() {
        let x: Vec<f32> = (0..80_000).map(|i| 10_000.0 + (i / 2 % 3) as f32).collect();
        for level in Level::available() {
            let found = moments(level, &x, 2);
            assert!((found.variance[0] - 2.0 / 3.0).abs() < 1e-3, "{:?}", found.variance);
        }
    }

    #[test]
    fn nan_spreads() {
        let level = Level::best();
        let x = [1.0, f32::NAN, 2.0, 3.0];
        let found = moments(level, &x, 2);
        let mut y = [0.0; 4];
        let affine = Affine { weight: &[1.0; 2], bias: &[0.0; 2], eps: 1e-5, relu: true };
        normalize(level, &affine, &found, &x, None, &mut y);
        assert!(y[1].is_nan() && y[3].is_nan() && y[0] == 0.0);
    }
}
