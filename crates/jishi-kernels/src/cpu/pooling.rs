//! Pooling of images, NHWC, with PyTorch's semantics: windows are cut at the image's border.

use crate::multiversion;
use crate::simd::Level;
use crate::threads::{SharedMut, parallel, parallel_chunks};

/// The shape of a pooling. Pairs are height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool2d {
    /// Images.
    pub batch: usize,
    /// Size of an image.
    pub input: [usize; 2],
    /// Size of the result.
    pub output: [usize; 2],
    /// Channels.
    pub channels: usize,
    /// Size of a window.
    pub kernel: [usize; 2],
    /// Pixels from one window to the next.
    pub stride: [usize; 2],
    /// Pixels outside the image that windows cover on each side.
    pub padding: [usize; 2],
    /// Pixels from one value of a window to the next.
    pub dilation: [usize; 2],
}

impl Pool2d {
    /// Values of the images.
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.batch * self.input[0] * self.input[1] * self.channels
    }

    /// Values of the result.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.batch * self.output[0] * self.output[1] * self.channels
    }

    /// The pixel along one axis that window `at` reads at `tap`, if it is inside.
    #[inline(always)]
    fn source(&self, axis: usize, at: usize, tap: usize) -> Option<usize> {
        let place = (at * self.stride[axis] + tap * self.dilation[axis]).checked_sub(self.padding[axis])?;
        (place < self.input[axis]).then_some(place)
    }

    /// By how much an average divides: the window, cut at the image with its padding, or at the image alone.
    #[inline(always)]
    fn divisor(&self, y: usize, x: usize, count_padding: bool) -> f32 {
        let along = |axis: usize, at: usize| {
            if count_padding {
                let reach = self.input[axis] + 2 * self.padding[axis];
                let inside = |tap: &usize| at * self.stride[axis] + tap * self.dilation[axis] < reach;
                (0..self.kernel[axis]).filter(inside).count()
            } else {
                (0..self.kernel[axis]).filter(|tap| self.source(axis, at, *tap).is_some()).count()
            }
        };
        (along(0, y) * along(1, x)) as f32
    }
}

/// The largest value of each window and the pixel of its image where it is; NaN is the largest.
///
/// # Shapes
/// - `x`: `[batch, height, width, channels]`
/// - `y`, `places`: `[batch, output height, output width, channels]`
pub fn max_pool2d(level: Level, pool: &Pool2d, x: &[f32], y: &mut [f32], places: &mut [u32]) {
    assert!(
        x.len() == pool.input_len() && y.len() == pool.output_len() && places.len() == y.len(),
        "values of a pooling"
    );
    let line = (pool.output[1] * pool.channels).max(1);
    let shared = SharedMut::new(places);
    parallel_chunks(y, line, |row, y| {
        // SAFETY: one row, one task.
        let places = unsafe { shared.slice(row * line, y.len()) };
        max_row(level, pool, row, x, y, places);
    });
}

/// The gradient of the images of [`max_pool2d`].
pub fn max_pool2d_backward(pool: &Pool2d, dy: &[f32], places: &[u32], dx: &mut [f32]) {
    assert!(
        dx.len() == pool.input_len() && dy.len() == pool.output_len() && places.len() == dy.len(),
        "values of a pooling"
    );
    let channels = pool.channels.max(1);
    let (from, to) = (pool.output[0] * pool.output[1] * channels, pool.input[0] * pool.input[1] * channels);
    parallel_chunks(dx, to.max(1), |image, dx| {
        dx.fill(0.0);
        let (dy, places) = (&dy[image * from..][..from], &places[image * from..][..from]);
        for (dy, places) in dy.chunks_exact(channels).zip(places.chunks_exact(channels)) {
            for (channel, (dy, place)) in dy.iter().zip(places).enumerate() {
                dx[*place as usize * channels + channel] += dy;
            }
        }
    });
}

/// The mean of each window; `count_padding` says whether pixels in the padding count as zeros.
///
/// # Shapes
/// - `x`: `[batch, height, width, channels]`
/// - `y`: `[batch, output height, output width, channels]`
pub fn average_pool2d(level: Level, pool: &Pool2d, count_padding: bool, x: &[f32], y: &mut [f32]) {
    assert!(x.len() == pool.input_len() && y.len() == pool.output_len(), "values of a pooling");
    let line = (pool.output[1] * pool.channels).max(1);
    parallel_chunks(y, line, |row, y| average_row(level, pool, count_padding, row, x, y));
}

/// The gradient of the images of [`average_pool2d`].
pub fn average_pool2d_backward(level: Level, pool: &Pool2d, count_padding: bool, dy: &[f32], dx: &mut [f32]) {
    assert!(dx.len() == pool.input_len() && dy.len() == pool.output_len(), "values of a pooling");
    let (from, to) =
        (pool.output[0] * pool.output[1] * pool.channels, pool.input[0] * pool.input[1] * pool.channels);
    parallel_chunks(dx, to.max(1), |image, dx| {
        average_backward_image(level, pool, count_padding, &dy[image * from..][..from], dx);
    });
}

/// The mean over all pixels of each image.
///
/// # Shapes
/// - `x`: `[batch, pixels, channels]`
/// - `y`: `[batch, channels]`
pub fn global_average(level: Level, channels: usize, x: &[f32], y: &mut [f32]) {
    let images = y.len() / channels.max(1);
    let size = x.len() / images.max(1);
    parallel_chunks(y, channels.max(1), |image, y| mean_rows(level, &x[image * size..][..size], y));
}

/// The gradient of the images of [`global_average`].
pub fn global_average_backward(channels: usize, dy: &[f32], dx: &mut [f32]) {
    let images = dy.len() / channels.max(1);
    let size = dx.len() / images.max(1);
    let share = channels as f32 / size.max(1) as f32;
    let shared = SharedMut::new(dx);
    parallel(images, |image| {
        // SAFETY: one image, one task.
        let dx = unsafe { shared.slice(image * size, size) };
        let dy = &dy[image * channels..][..channels];
        for dx in dx.chunks_exact_mut(channels.max(1)) {
            for (dx, dy) in dx.iter_mut().zip(dy) {
                *dx = dy * share;
            }
        }
    });
}

multiversion! {
    fn max_row(pool: &Pool2d, row: usize, x: &[f32], y: &mut [f32], places: &mut [u32]) {
        let (image, at_y, channels) = (row / pool.output[0], row % pool.output[0], pool.channels);
        for (at_x, (y, places)) in y.chunks_exact_mut(channels).zip(places.chunks_exact_mut(channels)).enumerate() {
            let mut first = true;
            for tap in 0..pool.kernel[0] * pool.kernel[1] {
                let Some(from_y) = pool.source(0, at_y, tap / pool.kernel[1]) else { continue };
                let Some(from_x) = pool.source(1, at_x, tap % pool.kernel[1]) else { continue };
                let pixel = from_y * pool.input[1] + from_x;
                let x = &x[(image * pool.input[0] * pool.input[1] + pixel) * channels..][..channels];
                if first {
                    y.copy_from_slice(x);
                    places.fill(pixel as u32);
                    first = false;
                } else {
                    for ((y, place), x) in y.iter_mut().zip(places.iter_mut()).zip(x) {
                        let larger = *x > *y || x.is_nan();
                        *y = if larger { *x } else { *y };
                        *place = if larger { pixel as u32 } else { *place };
                    }
                }
            }
            if first {
                // A window that sees no pixel.
                y.fill(f32::NEG_INFINITY);
                places.fill(0);
            }
        }
    }

    fn average_row(pool: &Pool2d, count_padding: bool, row: usize, x: &[f32], y: &mut [f32]) {
        let (image, at_y, channels) = (row / pool.output[0], row % pool.output[0], pool.channels);
        for (at_x, y) in y.chunks_exact_mut(channels).enumerate() {
            y.fill(0.0);
            for tap in 0..pool.kernel[0] * pool.kernel[1] {
                let Some(from_y) = pool.source(0, at_y, tap / pool.kernel[1]) else { continue };
                let Some(from_x) = pool.source(1, at_x, tap % pool.kernel[1]) else { continue };
                let pixel = (image * pool.input[0] + from_y) * pool.input[1] + from_x;
                for (y, x) in y.iter_mut().zip(&x[pixel * channels..][..channels]) {
                    *y += x;
                }
            }
            let divisor = pool.divisor(at_y, at_x, count_padding);
            for y in y.iter_mut() {
                *y /= divisor;
            }
        }
    }

    fn average_backward_image(pool: &Pool2d, count_padding: bool, dy: &[f32], dx: &mut [f32]) {
        let channels = pool.channels;
        dx.fill(0.0);
        for (position, dy) in dy.chunks_exact(channels).enumerate() {
            let (at_y, at_x) = (position / pool.output[1], position % pool.output[1]);
            let share = 1.0 / pool.divisor(at_y, at_x, count_padding);
            for tap in 0..pool.kernel[0] * pool.kernel[1] {
                let Some(to_y) = pool.source(0, at_y, tap / pool.kernel[1]) else { continue };
                let Some(to_x) = pool.source(1, at_x, tap % pool.kernel[1]) else { continue };
                let dx = &mut dx[(to_y * pool.input[1] + to_x) * channels..][..channels];
                for (dx, dy) in dx.iter_mut().zip(dy) {
                    *dx += dy * share;
                }
            }
        }
    }

    fn mean_rows(x: &[f32], y: &mut [f32]) {
        let channels = y.len();
        y.fill(0.0);
        for x in x.chunks_exact(channels) {
            for (y, x) in y.iter_mut().zip(x) {
                *y += x;
            }
        }
        let rows = (x.len() / channels) as f32;
        for y in y.iter_mut() {
            *y /= rows;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 1021) as f32 / 512.0 - 1.0).collect()
    }

    fn pool(
        input: [usize; 2],
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
    ) -> Pool2d {
        let size = |i: usize| (input[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) / stride[i] + 1;
        Pool2d {
            batch: 2,
            input,
            output: [size(0), size(1)],
            channels: 19,
            kernel,
            stride,
            padding,
            dilation,
        }
    }

    fn pools() -> Vec<Pool2d> {
        vec![
            pool([8, 8], [2, 2], [2, 2], [0, 0], [1, 1]),
            pool([9, 7], [3, 3], [2, 2], [1, 1], [1, 1]),
            pool([6, 11], [3, 2], [1, 3], [1, 1], [1, 2]),
            pool([1, 1], [1, 1], [1, 1], [0, 0], [1, 1]),
        ]
    }

    /// Calls `f(image, output pixel, input pixel)` for what windows see.
    fn windows(p: &Pool2d, mut f: impl FnMut(usize, usize)) {
        for row in 0..p.batch * p.output[0] * p.output[1] {
            let (image, y, x) =
                (row / p.output[1] / p.output[0], row / p.output[1] % p.output[0], row % p.output[1]);
            for ky in 0..p.kernel[0] {
                for kx in 0..p.kernel[1] {
                    let py = (y * p.stride[0] + ky * p.dilation[0]) as isize - p.padding[0] as isize;
                    let px = (x * p.stride[1] + kx * p.dilation[1]) as isize - p.padding[1] as isize;
                    if py >= 0 && px >= 0 && (py as usize) < p.input[0] && (px as usize) < p.input[1] {
                        f(row, (image * p.input[0] + py as usize) * p.input[1] + px as usize);
                    }
                }
            }
        }
    }

    #[test]
    fn the_largest_value_is_found_and_gets_the_gradient() {
        for p in pools() {
            let (x, dy) = (numbers(p.input_len(), 1), numbers(p.output_len(), 2));
            let c = p.channels;
            let mut expected = vec![(f32::NEG_INFINITY, 0); p.output_len()];
            windows(&p, |to, from| {
                for channel in 0..c {
                    let best = &mut expected[to * c + channel];
                    if x[from * c + channel] > best.0 {
                        *best = (x[from * c + channel], from * c + channel);
                    }
                }
            });
            let mut expected_dx = vec![0.0; p.input_len()];
            expected.iter().zip(&dy).for_each(|((_, place), dy)| expected_dx[*place] += dy);
            for level in Level::available() {
                let (mut y, mut places) = (vec![9.0; p.output_len()], vec![0; p.output_len()]);
                max_pool2d(level, &p, &x, &mut y, &mut places);
                assert!(y.iter().zip(&expected).all(|(y, e)| *y == e.0), "{p:?}");
                let mut dx = vec![9.0; p.input_len()];
                max_pool2d_backward(&p, &dy, &places, &mut dx);
                assert_eq!(dx, expected_dx, "{p:?}");
            }
        }
    }

    #[test]
    fn averages_and_their_gradients_are_right() {
        for p in pools() {
            let (x, dy) = (numbers(p.input_len(), 1), numbers(p.output_len(), 2));
            let c = p.channels;
            for count_padding in [false, true] {
                let mut sizes = vec![0.0; p.output_len() / c];
                windows(&p, |to, _| sizes[to] += 1.0);
                if count_padding {
                    sizes.fill((p.kernel[0] * p.kernel[1]) as f32);
                }
                let (mut expected, mut expected_dx) = (vec![0.0; p.output_len()], vec![0.0; p.input_len()]);
                windows(&p, |to, from| {
                    for channel in 0..c {
                        expected[to * c + channel] += x[from * c + channel] / sizes[to];
                        expected_dx[from * c + channel] += dy[to * c + channel] / sizes[to];
                    }
                });
                for level in Level::available() {
                    let (mut y, mut dx) = (vec![9.0; p.output_len()], vec![9.0; p.input_len()]);
                    average_pool2d(level, &p, count_padding, &x, &mut y);
                    average_pool2d_backward(level, &p, count_padding, &dy, &mut dx);
                    assert!(y.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{p:?}");
                    assert!(dx.iter().zip(&expected_dx).all(|(a, b)| (a - b).abs() < 1e-5), "{p:?}");
                }
            }
        }
    }

    #[test]
    fn whole_images_are_averaged() {
        let (x, dy) = (numbers(3 * 20 * 7, 1), numbers(3 * 7, 2));
        for level in Level::available() {
            let (mut y, mut dx) = (vec![9.0; 21], vec![9.0; x.len()]);
            global_average(level, 7, &x, &mut y);
            global_average_backward(7, &dy, &mut dx);
            for i in 0..21 {
                let mean = (0..20).map(|p| x[(i / 7 * 20 + p) * 7 + i % 7]).sum::<f32>() / 20.0;
                assert!((y[i] - mean).abs() < 1e-5);
                assert!((0..20).all(|p| (dx[(i / 7 * 20 + p) * 7 + i % 7] - dy[i] / 20.0).abs() < 1e-6));
            }
        }
    }

    #[test]
    fn nan_is_the_largest() {
        let p = pool([4, 4], [2, 2], [2, 2], [0, 0], [1, 1]);
        let mut x = numbers(p.input_len(), 1);
        x[p.channels + 3] = f32::NAN;
        let (mut y, mut places) = (vec![0.0; p.output_len()], vec![0; p.output_len()]);
        max_pool2d(Level::best(), &p, &x, &mut y, &mut places);
        assert!(y[3].is_nan() && places[3] == 1 && y.iter().filter(|v| v.is_nan()).count() == 1);
    }
}
