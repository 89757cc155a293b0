//! Convolution of each channel with a filter of its own: plain loops over channels.

use super::Conv2d;
use crate::memory::buffer;
use crate::multiversion;
use crate::simd::{Level, madd};
use crate::threads::parallel_chunks;

/// Filters as `[taps, channels]`.
fn turned(conv: &Conv2d, weight: &[f32]) -> Vec<f32> {
    let (taps, channels) = (conv.taps(), conv.channels);
    let mut out = buffer::<f32>(taps * channels);
    for tap in 0..taps {
        for channel in 0..channels {
            out[tap * channels + channel] = weight[channel * taps + tap];
        }
    }
    out
}

pub fn forward(level: Level, conv: &Conv2d, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    let weight = turned(conv, weight);
    let line = conv.output[1] * conv.channels;
    parallel_chunks(y, line.max(1), |row, y| forward_row(level, conv, row, x, &weight, bias, y));
}

pub fn backward_input(
    level: Level,
    conv: &Conv2d,
    dy: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    dx: &mut [f32],
) {
    let weight = turned(conv, weight);
    let line = conv.input[1] * conv.channels;
    parallel_chunks(dx, line.max(1), |row, dx| backward_row(level, conv, row, dy, &weight, bias, dx));
}

pub fn backward_weight(level: Level, conv: &Conv2d, x: &[f32], dy: &[f32], dweight: &mut [f32]) {
    // Rows of the result in at most 64 parts, whose sums are added in order.
    let rows = conv.batch * conv.output[0];
    let part = rows.div_ceil(64).max(1);
    let size = conv.weight_len();
    let mut sums = vec![0.0; rows.div_ceil(part) * size];
    parallel_chunks(&mut sums, size.max(1), |task, sums| {
        for row in task * part..((task + 1) * part).min(rows) {
            weight_row(level, conv, row, x, dy, sums);
        }
    });
    dweight.fill(0.0);
    for sums in sums.chunks_exact(size.max(1)) {
        for tap in 0..conv.taps() {
            for channel in 0..conv.channels {
                dweight[channel * conv.taps() + tap] += sums[tap * conv.channels + channel];
            }
        }
    }
}

/// The pixel that output position `at` reads for `tap`, if it is inside.
#[inline(always)]
fn source(conv: &Conv2d, axis: usize, at: usize, tap: usize) -> Option<usize> {
    let place = (at * conv.stride[axis] + tap * conv.dilation[axis]).checked_sub(conv.padding[axis])?;
    (place < conv.input[axis]).then_some(place)
}

/// The output position that reads pixel `at` for `tap`, if there is one.
#[inline(always)]
fn target(conv: &Conv2d, axis: usize, at: usize, tap: usize) -> Option<usize> {
    let place = (at + conv.padding[axis]).checked_sub(tap * conv.dilation[axis])?;
    let position = place / conv.stride[axis];
    (place.is_multiple_of(conv.stride[axis]) && position < conv.output[axis]).then_some(position)
}

/// `values` or zeros.
#[inline(always)]
fn start(out: &mut [f32], bias: Option<&[f32]>) {
    match bias {
        Some(bias) => out.copy_from_slice(bias),
        None => out.fill(0.0),
    }
}

multiversion! {
    fn forward_row(conv: &Conv2d, row: usize, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
        let (image, at_y, channels) = (row / conv.output[0], row % conv.output[0], conv.channels);
        for (at_x, y) in y.chunks_exact_mut(channels).enumerate() {
            start(y, bias);
            for tap in 0..conv.kernel[0] * conv.kernel[1] {
                let Some(from_y) = source(conv, 0, at_y, tap / conv.kernel[1]) else { continue };
                let Some(from_x) = source(conv, 1, at_x, tap % conv.kernel[1]) else { continue };
                let pixel = (image * conv.input[0] + from_y) * conv.input[1] + from_x;
                let (x, weight) = (&x[pixel * channels..][..channels], &weight[tap * channels..][..channels]);
                for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                    *y = madd::<FMA>(*x, *w, *y);
                }
            }
        }
    }

    fn backward_row(conv: &Conv2d, row: usize, dy: &[f32], weight: &[f32], bias: Option<&[f32]>, dx: &mut [f32]) {
        let (image, at_y, channels) = (row / conv.input[0], row % conv.input[0], conv.channels);
        for (at_x, dx) in dx.chunks_exact_mut(channels).enumerate() {
            start(dx, bias);
            for tap in 0..conv.kernel[0] * conv.kernel[1] {
                let Some(from_y) = target(conv, 0, at_y, tap / conv.kernel[1]) else { continue };
                let Some(from_x) = target(conv, 1, at_x, tap % conv.kernel[1]) else { continue };
                let pixel = (image * conv.output[0] + from_y) * conv.output[1] + from_x;
                let (dy, weight) = (&dy[pixel * channels..][..channels], &weight[tap * channels..][..channels]);
                for ((dx, dy), w) in dx.iter_mut().zip(dy).zip(weight) {
                    *dx = madd::<FMA>(*dy, *w, *dx);
                }
            }
        }
    }

    /// Adds what one row of the result gives to `sums[tap][channel]`.
    fn weight_row(conv: &Conv2d, row: usize, x: &[f32], dy: &[f32], sums: &mut [f32]) {
        let (image, at_y, channels) = (row / conv.output[0], row % conv.output[0], conv.channels);
        for (tap, sums) in sums.chunks_exact_mut(channels).enumerate() {
            let Some(from_y) = source(conv, 0, at_y, tap / conv.kernel[1]) else { continue };
            for at_x in 0..conv.output[1] {
                let Some(from_x) = source(conv, 1, at_x, tap % conv.kernel[1]) else { continue };
                let pixel = (image * conv.input[0] + from_y) * conv.input[1] + from_x;
                let (x, dy) = (&x[pixel * channels..][..channels], &dy[(row * conv.output[1] + at_x) * channels..][..channels]);
                for ((s, x), dy) in sums.iter_mut().zip(x).zip(dy) {
                    *s = madd::<FMA>(*x, *dy, *s);
                }
            }
        }
    }
}
