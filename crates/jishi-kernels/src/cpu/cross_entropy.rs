//! Softmax cross-entropy over class indices, alone and together with the layer that makes the logits.

use super::gemm::{Precision, Store, Strided, gemm};
use super::linear::Matrix;
use crate::math::exp;
use crate::memory::{buffer, with_scratch_f32};
use crate::multiversion;
use crate::simd::{Level, largest, sum_by};
use crate::threads::{SharedMut, parallel};

/// What counts and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Share of the target that is spread over all classes (Szegedy et al. 2016, §7).
    pub label_smoothing: f32,
    /// Rows with this target have no loss.
    pub ignore_index: Option<u32>,
}

/// Rows a task.
const ROWS: usize = 32;

/// Sum of the rows' losses, its gradient by the logits, and the rows that count.
///
/// # Shapes
/// - `logits` and the gradient: `[rows, classes]`, `targets`: `[rows]`
///
/// # Panics
/// When a target that counts is no class: the message names it.
#[must_use]
pub fn cross_entropy(
    level: Level,
    logits: &[f32],
    targets: &[u32],
    classes: usize,
    options: Options,
) -> (f32, Vec<f32>, usize) {
    check(targets, classes, options);
    let rows = targets.len();
    let mut gradient = buffer(rows * classes);
    let mut losses = vec![0.0f32; rows.div_ceil(ROWS)];
    let (out, sums) = (SharedMut::new(&mut gradient), SharedMut::new(&mut losses));
    parallel(rows.div_ceil(ROWS), |task| {
        let (row, count) = (task * ROWS, ROWS.min(rows - task * ROWS));
        // SAFETY: rows of different tasks do not overlap.
        let (gradient, loss) = unsafe { (out.slice(row * classes, count * classes), sums.slice(task, 1)) };
        gradient.copy_from_slice(&logits[row * classes..][..count * classes]);
        loss[0] = rows_in_place(level, gradient, &targets[row..row + count], classes, options);
    });
    (total(&losses), gradient, counted(targets, options))
}

/// Loss and gradients of `cross_entropy(x · weight)`: the logits are never in memory all at once (as in Wijmans
/// et al. 2025, "Cut Your Losses in Large-Vocabulary Language Models", by blocks of rows).
#[derive(Debug)]
pub struct Fused {
    /// Sum of the rows' losses.
    pub loss: f32,
    /// `[rows, width]`
    pub dx: Vec<f32>,
    /// Of the weight, in its own layout; empty where it is not wanted.
    pub dweight: Vec<f32>,
    /// Rows that count.
    pub counted: usize,
}

/// How the weight lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `[width, classes]`
    InOut,
    /// `[classes, width]`, as a table of embeddings
    OutIn,
}

/// Rows whose logits are in memory together.
const BLOCK: usize = 512;

/// See [`Fused`].
///
/// # Shapes
/// - `x`: `[rows, width]`, `weight`: `[width, classes]` or turned, `targets`: `[rows]`
///
/// # Panics
/// When a target that counts is no class: the message names it.
#[must_use]
#[allow(clippy::too_many_arguments)]
pub fn linear_cross_entropy(
    level: Level,
    precision: Precision,
    x: Matrix<'_>,
    weight: &[f32],
    layout: Layout,
    targets: &[u32],
    [width, classes]: [usize; 2],
    options: Options,
    wants_weight: bool,
) -> Fused {
    check(targets, classes, options);
    let rows = targets.len();
    let mut dx = buffer(rows * width);
    let mut dweight = buffer(if wants_weight { width * classes } else { 0 });
    if rows == 0 {
        dweight.fill(0.0);
    }
    let mut loss = 0.0f64;
    with_scratch_f32(BLOCK.min(rows) * classes, |logits| {
        for (block, targets) in targets.chunks(BLOCK).enumerate() {
            let (row, count) = (block * BLOCK, targets.len());
            let logits = &mut logits[..count * classes];
            let range = row * width..(row + count) * width;
            let x = x.part(range.clone());
            let w = match layout {
                Layout::InOut => Strided::columns(weight, classes),
                Layout::OutIn => Strided::rows(weight, width),
            };
            let sink = Store::new(logits, classes);
            gemm(level, precision, [count, classes, width], &x.rows(width), &w, &sink);
            let mut losses = vec![0.0f32; count.div_ceil(ROWS)];
            let (out, sums) = (SharedMut::new(logits), SharedMut::new(&mut losses));
            parallel(count.div_ceil(ROWS), |task| {
                let (row, count) = (task * ROWS, ROWS.min(count - task * ROWS));
                // SAFETY: rows of different tasks do not overlap.
                let (logits, loss) =
                    unsafe { (out.slice(row * classes, count * classes), sums.slice(task, 1)) };
                loss[0] = rows_in_place(level, logits, &targets[row..row + count], classes, options);
            });
            loss += f64::from(total(&losses));
            let dlogits: &[f32] = logits;
            let w = match layout {
                Layout::InOut => Strided::rows(weight, classes),
                Layout::OutIn => Strided::columns(weight, width),
            };
            let sink = Store::new(&mut dx[range.clone()], width);
            gemm(level, precision, [count, width, classes], &Strided::rows(dlogits, classes), &w, &sink);
            if !wants_weight {
                continue;
            }
            let (a, b) = (x.columns(width), Strided::columns(dlogits, classes));
            match layout {
                Layout::InOut => {
                    let sink = accumulate(&mut dweight, classes, block);
                    gemm(level, precision, [width, classes, count], &a, &b, &sink);
                }
                Layout::OutIn => {
                    let sink = accumulate(&mut dweight, width, block);
                    gemm(level, precision, [classes, width, count], &b, &a, &sink);
                }
            }
        }
    });
    Fused { loss: loss as f32, dx, dweight, counted: counted(targets, options) }
}

/// The first block sets the gradient of the weight, the others add to it.
fn accumulate(out: &mut [f32], stride: usize, block: usize) -> Store<'_> {
    if block == 0 { Store::new(out, stride) } else { Store::adding(out, stride) }
}

fn check(targets: &[u32], classes: usize, options: Options) {
    for (row, target) in targets.iter().enumerate() {
        let counts = Some(*target) != options.ignore_index;
        assert!(
            !counts || (*target as usize) < classes,
            "target {target} of row {row} is none of {classes} classes"
        );
    }
}

fn counted(targets: &[u32], options: Options) -> usize {
    targets.iter().filter(|t| Some(**t) != options.ignore_index).count()
}

fn total(losses: &[f32]) -> f32 {
    losses.iter().map(|l| f64::from(*l)).sum::<f64>() as f32
}

multiversion! {
    /// Logits become their gradient; returns the sum of the losses.
    fn rows_in_place(logits: &mut [f32], targets: &[u32], classes: usize, options: Options) -> f32 {
        let mut sum = 0.0f64;
        let smoothing = options.label_smoothing;
        let spread = smoothing / classes as f32;
        for (row, target) in logits.chunks_exact_mut(classes.max(1)).zip(targets) {
            if Some(*target) == options.ignore_index {
                row.fill(0.0);
                continue;
            }
            let hit = row[*target as usize];
            let mean = if smoothing > 0.0 { sum_by(classes, |i| row[i]) / classes as f32 } else { 0.0 };
            let maximum = largest(row);
            for v in row.iter_mut() {
                *v = exp::<FMA>(*v - maximum);
            }
            let partition = sum_by(classes, |i| row[i]);
            let log_partition = maximum + partition.ln();
            let loss = log_partition - (1.0 - smoothing) * hit - smoothing * mean;
            sum += f64::from(loss);
            let scale = 1.0 / partition;
            for v in row.iter_mut() {
                *v = *v * scale - spread;
            }
            row[*target as usize] -= 1.0 - smoothing;
        }
        sum as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 300.0 - 1.7).collect()
    }

    /// Loss of one row in `f64`, by its definition.
    fn exact(row: &[f64], target: usize, smoothing: f64) -> f64 {
        let partition: f64 = row.iter().map(|v| v.exp()).sum();
        let log = |i: usize| row[i] - partition.ln();
        let mean = (0..row.len()).map(log).sum::<f64>() / row.len() as f64;
        -(1.0 - smoothing) * log(target) - smoothing * mean
    }

    #[test]
    fn losses_and_gradients_are_those_of_the_definition() {
        for (rows, classes) in [(1, 1), (3, 2), (40, 33), (33, 100), (2, 1000)] {
            let logits = numbers(rows * classes, 1);
            let mut targets: Vec<u32> = (0..rows).map(|r| (r * 7 % classes) as u32).collect();
            targets[rows / 2] = u32::MAX;
            for (level, smoothing) in Level::available().into_iter().flat_map(|l| [(l, 0.0), (l, 0.2)]) {
                let options = Options { label_smoothing: smoothing, ignore_index: Some(u32::MAX) };
                let (loss, gradient, counted) = cross_entropy(level, &logits, &targets, classes, options);
                assert_eq!(counted, rows - 1);
                let wide: Vec<f64> = logits.iter().map(|v| f64::from(*v)).collect();
                let row_loss = |r: usize, wide: &[f64]| match targets[r] {
                    u32::MAX => 0.0,
                    t => exact(&wide[r * classes..][..classes], t as usize, f64::from(smoothing)),
                };
                let expected: f64 = (0..rows).map(|r| row_loss(r, &wide)).sum();
                assert!(
                    (f64::from(loss) - expected).abs() < 1e-5 * (expected.abs() + 1.0),
                    "{loss} {expected}"
                );
                for i in (0..rows * classes).step_by(13) {
                    let mut moved = wide.clone();
                    moved[i] += 1e-5;
                    let slope = (row_loss(i / classes, &moved) - row_loss(i / classes, &wide)) / 1e-5;
                    assert!((f64::from(gradient[i]) - slope).abs() < 2e-5, "{} {slope}", gradient[i]);
                }
            }
        }
    }

    #[test]
    fn large_logits_do_not_overflow_and_nan_shows() {
        for level in Level::available() {
            let (loss, gradient, _) =
                cross_entropy(level, &[1e30, -1e30, 3e38, 0.0], &[0, 1], 2, Options::default());
            assert!(loss > 1e38 && gradient.iter().all(|g| g.is_finite()), "{loss} {gradient:?}");
            let (loss, ..) = cross_entropy(level, &[1.0, f32::NAN], &[0], 2, Options::default());
            assert!(loss.is_nan());
        }
    }

    #[test]
    #[should_panic(expected = "target 5 of row 1 is none of 3 classes")]
    fn a_target_that_is_no_class_is_named() {
        let _ = cross_entropy(Level::best(), &[0.0; 6], &[1, 5], 3, Options::default());
    }

    #[test]
    fn together_with_the_layer_it_is_the_same() {
        for (rows, width, classes) in [(3, 4, 5), (700, 16, 70), (1030, 33, 9)] {
            let (x, weight) = (numbers(rows * width, 1), numbers(width * classes, 2));
            let mut turned = vec![0.0; weight.len()];
            for i in 0..width {
                for j in 0..classes {
                    turned[j * width + i] = weight[i * classes + j];
                }
            }
            let targets: Vec<u32> = (0..rows).map(|r| (r * 7 % classes) as u32).collect();
            let (level, options) = (Level::best(), Options { label_smoothing: 0.1, ignore_index: Some(1) });
            let mut logits = vec![0.0; rows * classes];
            let f32 = Precision::F32;
            let b = Strided::columns(&weight, classes);
            gemm(
                level,
                f32,
                [rows, classes, width],
                &Strided::rows(&x, width),
                &b,
                &Store::new(&mut logits, classes),
            );
            let (loss, dlogits, counted) = cross_entropy(level, &logits, &targets, classes, options);
            let mut dweight = vec![0.0; width * classes];
            let (a, b) = (Strided::columns(&x, width), Strided::columns(&dlogits, classes));
            gemm(level, f32, [width, classes, rows], &a, &b, &Store::new(&mut dweight, classes));
            for (layout, w) in [(Layout::InOut, &weight), (Layout::OutIn, &turned)] {
                let dims = [width, classes];
                let found = linear_cross_entropy(
                    level,
                    f32,
                    Matrix::F32(&x),
                    w,
                    layout,
                    &targets,
                    dims,
                    options,
                    true,
                );
                assert_eq!(found.counted, counted);
                assert!((found.loss - loss).abs() < 1e-5 * loss, "{} {loss}", found.loss);
                for i in 0..width {
                    for j in 0..classes {
                        let at = if layout == Layout::InOut { i * classes + j } else { j * width + i };
                        let (f, e) = (found.dweight[at], dweight[i * classes + j]);
                        assert!((f - e).abs() < 1e-3, "{layout:?} {f} {e}");
                    }
                }
                assert!(found.dx.iter().all(|v| v.is_finite()));
            }
        }
    }
}
