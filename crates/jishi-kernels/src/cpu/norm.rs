//! Layer normalisation (Ba et al. 2016) and RMS normalisation (Zhang & Sennrich 2019) over the last axis.

use crate::memory::buffer;
use crate::multiversion;
use crate::simd::{LANES, Level, madd, sum_by};
use crate::threads::{SharedMut, parallel};

/// Rows a task; each task adds up its own gradient of the weight.
const ROWS: usize = 64;

/// What the backward pass needs of a row: its mean (0 for RMS) and one over its deviation.
pub type Statistics = Vec<[f32; 2]>;

/// `weight · (x − mean) / √(variance + eps) + bias` for each row of `width` values; without a bias it is the RMS
/// norm, `weight · x / √(mean(x²) + eps)`.
#[must_use]
pub fn forward(
    level: Level,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
) -> (Vec<f32>, Statistics) {
    let width = weight.len();
    let rows = x.len() / width.max(1);
    let (mut y, mut statistics) = (buffer(x.len()), vec![[0.0; 2]; rows]);
    let (out, stats) = (SharedMut::new(&mut y), SharedMut::new(&mut statistics));
    parallel(rows.div_ceil(ROWS), |task| {
        let (row, count) = (task * ROWS, ROWS.min(rows - task * ROWS));
        // SAFETY: rows of different tasks do not overlap.
        let (y, stats) = unsafe { (out.slice(row * width, count * width), stats.slice(row, count)) };
        forward_rows(level, &x[row * width..][..count * width], weight, bias, eps, y, stats);
    });
    (y, statistics)
}

/// Gradients of `x`, `weight` and, where there is one, `bias`.
#[must_use]
pub fn backward(
    level: Level,
    x: &[f32],
    statistics: &[[f32; 2]],
    weight: &[f32],
    centred: bool,
    dy: &[f32],
) -> (Vec<f32>, Vec<f32>, Option<Vec<f32>>) {
    let width = weight.len();
    let rows = statistics.len();
    let tasks = rows.div_ceil(ROWS);
    let mut dx = buffer(x.len());
    let mut partial = vec![0.0f32; tasks * 2 * width];
    let (out, sums) = (SharedMut::new(&mut dx), SharedMut::new(&mut partial));
    parallel(tasks, |task| {
        let (row, count) = (task * ROWS, ROWS.min(rows - task * ROWS));
        let range = row * width..(row + count) * width;
        // SAFETY: rows and sums of different tasks do not overlap.
        let (dx, sums) =
            unsafe { (out.slice(range.start, range.len()), sums.slice(task * 2 * width, 2 * width)) };
        let (dweight, dbias) = sums.split_at_mut(width);
        let stats = &statistics[row..row + count];
        backward_rows(level, &x[range.clone()], stats, weight, centred, &dy[range], dx, dweight, dbias);
    });
    let mut total = vec![0.0f32; 2 * width];
    for part in partial.chunks_exact((2 * width).max(1)) {
        total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
    }
    let dbias = centred.then(|| total[width..].to_vec());
    total.truncate(width);
    (dx, total, dbias)
}

multiversion! {
    /// Rows of [`forward`], on the calling thread.
    pub fn forward_rows(x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32, y: &mut [f32], stats: &mut [[f32; 2]]) {
        let n = weight.len();
        for ((x, y), stats) in x.chunks_exact(n.max(1)).zip(y.chunks_exact_mut(n.max(1))).zip(stats) {
            let (x, y) = (&x[..n], &mut y[..n]);
            let mean = if bias.is_some() { sum_by(n, |i| x[i]) / n as f32 } else { 0.0 };
            let square = sum_by(n, |i| (x[i] - mean) * (x[i] - mean)) / n as f32;
            let scale = 1.0 / (square + eps).sqrt();
            *stats = [mean, scale];
            match bias {
                Some(bias) => {
                    let bias = &bias[..n];
                    for i in 0..n {
                        y[i] = madd::<FMA>((x[i] - mean) * scale, weight[i], bias[i]);
                    }
                }
                None => {
                    for i in 0..n {
                        y[i] = x[i] * scale * weight[i];
                    }
                }
            }
        }
    }

    fn backward_rows(
        x: &[f32],
        stats: &[[f32; 2]],
        weight: &[f32],
        centred: bool,
        dy: &[f32],
        dx: &mut [f32],
        dweight: &mut [f32],
        dbias: &mut [f32],
    ) {
        let n = weight.len();
        let (dweight, dbias) = (&mut dweight[..n], &mut dbias[..n]);
        for (row, [mean, scale]) in stats.iter().enumerate() {
            let (x, dy, dx) = (&x[row * n..][..n], &dy[row * n..][..n], &mut dx[row * n..][..n]);
            // Sums over the row of g and g · x̂, where g = dy · weight.
            let (mut plain, mut along) = ([0.0f32; LANES], [0.0f32; LANES]);
            let whole = n / LANES * LANES;
            for start in (0..whole).step_by(LANES) {
                for lane in 0..LANES {
                    let i = start + lane;
                    let hat = (x[i] - mean) * scale;
                    let g = dy[i] * weight[i];
                    plain[lane] += g;
                    along[lane] = madd::<FMA>(g, hat, along[lane]);
                    dweight[i] = madd::<FMA>(dy[i], hat, dweight[i]);
                    dbias[i] += dy[i];
                }
            }
            let (mut plain, mut along): (f32, f32) = (plain.iter().sum(), along.iter().sum());
            for i in whole..n {
                let hat = (x[i] - mean) * scale;
                let g = dy[i] * weight[i];
                plain += g;
                along += g * hat;
                dweight[i] += dy[i] * hat;
                dbias[i] += dy[i];
            }
            let (plain, along) = (if centred { plain / n as f32 } else { 0.0 }, along / n as f32);
            for i in 0..n {
                let hat = (x[i] - mean) * scale;
                dx[i] = scale * (dy[i] * weight[i] - plain - hat * along);
            }
        }
    }
}
