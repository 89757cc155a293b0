//! Convolution with 3 × 3 filters and stride 1 by minimal filtering, F(4 × 4, 3 × 3) (Winograd 1980; Lavin & Gray 2016, "Fast
//! Algorithms for Convolutional Neural Networks"): tiles of 6 × 6 pixels and filters are turned into 36 frequencies, of
//! which each is a product of matrices of its own, and 4 × 4 results come back. That takes a quarter of the
//! multiplications. The gradient of the filters is the same algorithm turned around.
//!
//! Sums are in `f32`, whatever the precision: this is faster than products of bfloat16 over patches. It
//! loses about a digit to plain sums of `f32`: measured over three shapes (tests), errors over the root mean square of the
//! results were at most 6e-5 and typically 4e-6, those of plain sums 3e-6 and 4e-7. Infinite values become NaN, and NaN
//! spreads, within a tile of 6 × 6 pixels.
//!
//! Where there are many tiles, a task turns a block of them and multiplies it with filters that were turned before. Where
//! there are few, tiles are turned before and a task turns the filters of a panel of results. Either way what a task
//! works on stays in its cache.
//!
//! The code is written once over a [`Vector`]. Every value is computed by the same operations in the same order, fused
//! alike, whatever the vector's width; the sizes of blocks differ, but what is summed over them is summed in order. So AVX2
//! and AVX-512 give the same bits.

mod products;
mod transforms;
mod turn;
mod vector;

use std::arch::x86_64::{__m256, __m512};

use products::{multiply, sum_tiles};
use turn::{Filters, finish_filters, finish_tile, turn_gradients, turn_pixels};
use vector::Vector;

use super::Conv2d;
use crate::memory::{buffer, with_scratch_f32};
use crate::simd::Level;
use crate::threads::{SharedMut, parallel};

/// Frequencies of a tile.
const F: usize = 36;
/// Channels that lie beside each other in memory: a cache line of them.
const GROUP: usize = 16;
/// Up to so many tiles are few.
const FEW: usize = 128;

/// Values from one frequency to the next where each has `values`: an odd number of cache lines, or the 36 frequencies
/// of a tile would share one set of the cache.
const fn apart(values: usize) -> usize {
    if (values / GROUP).is_multiple_of(2) { values + GROUP } else { values }
}

/// Whether this is how to compute it. That does not depend on the batch, or an image would get other numbers alone than
/// beside others. With AVX2 each of the three passes took between a third and two thirds of the time of
/// products over patches, from 16 channels and one image of 12 × 12 to 512 channels and two of 7 × 7.
pub fn pays(level: Level, conv: &Conv2d) -> bool {
    let panel = match level {
        Level::Plain => return false,
        Level::Avx2 => __m256::PANEL,
        Level::Avx512 | Level::Avx512Bf16 => __m512::PANEL,
    };
    let tiles = conv.output[0].div_ceil(4) * conv.output[1].div_ceil(4);
    conv.kernel == [3, 3]
        && conv.stride == [1, 1]
        && conv.dilation == [1, 1]
        && conv.groups == 1
        && conv.padding.iter().all(|p| *p <= 2)
        && conv.channels > 0
        && conv.channels.is_multiple_of(panel)
        && conv.outputs > 0
        && conv.outputs.is_multiple_of(panel)
        && 2 * conv.output[0] * conv.output[1] >= 16 * tiles
        && conv.output == [conv.input[0] + 2 * conv.padding[0] - 2, conv.input[1] + 2 * conv.padding[1] - 2]
}

/// `y = x ∗ weight + bias`, at a level at which it [`pays`].
pub fn forward(level: Level, conv: &Conv2d, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    let tiles = Tiles::new(conv.batch, conv.output, conv.input, conv.padding, conv.channels);
    let filters = Filters { weight, inputs: conv.channels, outputs: conv.outputs, turned: false };
    run(level, &tiles, &filters, x, bias, y);
}

/// `dx = dy ∗ᵀ weight + bias`: the convolution of `dy` with turned filters.
pub fn backward_input(
    level: Level,
    conv: &Conv2d,
    dy: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    dx: &mut [f32],
) {
    let padding = conv.padding.map(|p| 2 - p);
    let tiles = Tiles::new(conv.batch, conv.input, conv.output, padding, conv.outputs);
    let filters = Filters { weight, inputs: conv.outputs, outputs: conv.channels, turned: true };
    run(level, &tiles, &filters, dy, bias, dx);
}

/// `dweight`, summed over blocks of tiles in order.
pub fn backward_weight(level: Level, conv: &Conv2d, x: &[f32], dy: &[f32], dweight: &mut [f32]) {
    // SAFETY: a level is only ever one that `Level::available` found on this machine.
    unsafe {
        match level {
            Level::Plain => unreachable!("`pays` says no"),
            Level::Avx2 => sum_gradients::<__m256>(conv, x, dy, dweight),
            Level::Avx512 | Level::Avx512Bf16 => sum_gradients::<__m512>(conv, x, dy, dweight),
        }
    }
}

fn run(level: Level, tiles: &Tiles, filters: &Filters<'_>, x: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    // SAFETY: a level is only ever one that `Level::available` found on this machine.
    unsafe {
        match level {
            Level::Plain => unreachable!("`pays` says no"),
            Level::Avx2 => convolve::<__m256>(tiles, filters, x, bias, y),
            Level::Avx512 | Level::Avx512Bf16 => convolve::<__m512>(tiles, filters, x, bias, y),
        }
    }
}

/// The tiles of a batch of images.
#[derive(Clone, Copy)]
struct Tiles {
    /// Rows and columns of tiles in an image.
    grid: [usize; 2],
    count: usize,
    /// Of the result.
    output: [usize; 2],
    /// Of the images that are read.
    input: [usize; 2],
    padding: [usize; 2],
    channels: usize,
}

/// No pixel.
const OUTSIDE: usize = usize::MAX;

impl Tiles {
    fn new(
        batch: usize,
        output: [usize; 2],
        input: [usize; 2],
        padding: [usize; 2],
        channels: usize,
    ) -> Self {
        let grid = output.map(|n| n.div_ceil(4));
        Self { grid, count: batch * grid[0] * grid[1], output, input, padding, channels }
    }

    fn place(&self, tile: usize) -> [usize; 3] {
        let (row, x) = (tile / self.grid[1], tile % self.grid[1]);
        [row / self.grid[0], 4 * (row % self.grid[0]), 4 * x]
    }

    /// Pixels of the images that a tile reads, in units of pixels.
    fn read(&self, tile: usize) -> [usize; F] {
        let [image, y, x] = self.place(tile);
        std::array::from_fn(|i| {
            // Negative numbers become large ones.
            let y = (y + i / 6).wrapping_sub(self.padding[0]);
            let x = (x + i % 6).wrapping_sub(self.padding[1]);
            if y < self.input[0] && x < self.input[1] {
                (image * self.input[0] + y) * self.input[1] + x
            } else {
                OUTSIDE
            }
        })
    }

    /// Pixels of the result that a tile computes.
    fn written(&self, tile: usize) -> [usize; 16] {
        let [image, y, x] = self.place(tile);
        std::array::from_fn(|i| {
            let (y, x) = (y + i / 4, x + i % 4);
            if y < self.output[0] && x < self.output[1] {
                (image * self.output[0] + y) * self.output[1] + x
            } else {
                OUTSIDE
            }
        })
    }
}

/// A convolution by tiles.
///
/// # Safety
/// The vector's instructions, and AVX-512 BW and VL for the wide one.
unsafe fn convolve<V: Vector>(
    tiles: &Tiles,
    filters: &Filters<'_>,
    x: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let (inputs, outputs) = (filters.inputs, filters.outputs);
    let panels = outputs / V::PANEL;
    let y = SharedMut::new(y);
    let finish = |m: &[f32], first: usize, count: usize, panel: usize| {
        for i in 0..count {
            let (m, step, channel) = (&m[i * V::PANEL..], apart(count * V::PANEL), panel * V::PANEL);
            // SAFETY: instructions by this function's contract; tiles and panels are a task's own.
            unsafe { finish_tile::<V>(m, step, bias, channel, &tiles.written(first + i), outputs, &y) };
        }
    };
    // Frequencies of `count` tiles: `[36, inputs / 16, count, 16]`.
    let turn = |tile: usize, i: usize, count: usize, out: &SharedMut<'_, f32>| {
        let step = apart(inputs * count);
        // SAFETY: instructions by this function's contract; one tile, one task.
        unsafe {
            turn_pixels::<V>(tiles, tile, x, out, |c, f| {
                f * step + (c / GROUP * count + i) * GROUP + c % GROUP
            });
        }
    };
    let size = F * apart(inputs * V::PANEL);
    if tiles.count <= FEW {
        let count = tiles.count;
        let mut turned = buffer::<f32>(F * apart(inputs * count));
        let shared = SharedMut::new(&mut turned);
        parallel(count, |tile| turn(tile, tile, count, &shared));
        parallel(panels, |panel| {
            with_scratch_f32(size, |u| {
                let shared = SharedMut::new(u);
                for input in (0..inputs).step_by(GROUP) {
                    // SAFETY: instructions by this function's contract; the scratch space is this task's.
                    unsafe { filters.transform::<V>(panel * V::PANEL, input, &shared, 0) };
                }
                with_scratch_f32(F * apart(count * V::PANEL), |m| {
                    // SAFETY: instructions by this function's contract.
                    unsafe { multiply::<V>(&turned, u, inputs, count, m) };
                    finish(m, 0, count, panel);
                });
            });
        });
        return;
    }
    let mut u = buffer::<f32>(panels * size);
    let shared = SharedMut::new(&mut u);
    parallel(panels * (inputs / GROUP), |task| {
        let (panel, group) = (task / (inputs / GROUP), task % (inputs / GROUP));
        // SAFETY: instructions by this function's contract; one panel and group, one task.
        unsafe { filters.transform::<V>(panel * V::PANEL, group * GROUP, &shared, panel * size) };
    });
    let blocks = tiles.count.div_ceil(V::block(inputs));
    let block = tiles.count.div_ceil(blocks);
    parallel(tiles.count.div_ceil(block), |task| {
        let first = task * block;
        let count = block.min(tiles.count - first);
        with_scratch_f32(F * apart(inputs * count), |turned| {
            let shared = SharedMut::new(turned);
            for i in 0..count {
                turn(first + i, i, count, &shared);
            }
            with_scratch_f32(F * apart(count * V::PANEL), |m| {
                for panel in 0..panels {
                    // SAFETY: instructions by this function's contract.
                    unsafe { multiply::<V>(turned, &u[panel * size..][..size], inputs, count, m) };
                    finish(m, first, count, panel);
                }
            });
        });
    });
}

/// The gradient of the filters.
///
/// # Safety
/// The vector's instructions.
unsafe fn sum_gradients<V: Vector>(conv: &Conv2d, x: &[f32], dy: &[f32], dweight: &mut [f32]) {
    let tiles = Tiles::new(conv.batch, conv.output, conv.input, conv.padding, conv.channels);
    let (inputs, outputs) = (conv.channels, conv.outputs);
    let (groups, panels) = (inputs / GROUP, outputs / V::PANEL);
    // As many tiles at once as a second-level cache holds, so that sums are not read too often.
    let step =
        if tiles.count <= FEW { FEW } else { (V::BYTES / (4 * F * (inputs + outputs))).clamp(32, FEW) };
    let most = step.min(tiles.count);
    let (mut pixels, mut gradients) =
        (buffer::<f32>(groups * F * apart(most * GROUP)), buffer::<f32>(panels * F * apart(most * V::PANEL)));
    let (sum, part) = (apart(GROUP * V::PANEL), F * apart(GROUP * V::PANEL));
    let single = tiles.count <= FEW;
    let mut sums = if single { Vec::new() } else { buffer::<f32>(groups * panels * part) };
    let out = SharedMut::new(dweight);
    for first in (0..tiles.count).step_by(step) {
        let count = step.min(tiles.count - first);
        let (step_x, step_dy) = (apart(count * GROUP), apart(count * V::PANEL));
        let (shared, shared_dy) = (SharedMut::new(&mut pixels), SharedMut::new(&mut gradients));
        parallel(count, |i| {
            // SAFETY: instructions by this function's contract; one tile, one task.
            unsafe {
                turn_pixels::<V>(&tiles, first + i, x, &shared, |c, f| {
                    (c / GROUP * F + f) * step_x + i * GROUP + c % GROUP
                });
                turn_gradients::<V>(&tiles, first + i, dy, outputs, &shared_dy, |c, f| {
                    (c / V::PANEL * F + f) * step_dy + i * V::PANEL + c % V::PANEL
                });
            }
        });
        let shared = SharedMut::new(&mut sums);
        let (pixels, gradients) = (&pixels[..], &gradients[..]);
        let last = first + count == tiles.count;
        let work = |task: usize, sums: &mut [f32]| {
            let (group, panel) = (task / panels, task % panels);
            for f in 0..F {
                let a = &pixels[(group * F + f) * step_x..][..count * GROUP];
                let b = &gradients[(panel * F + f) * step_dy..][..count * V::PANEL];
                let c = &mut sums[f * sum..][..GROUP * V::PANEL];
                // SAFETY: instructions by this function's contract.
                unsafe { sum_tiles::<V>(count, a, b, c, first > 0) };
            }
            if last {
                // SAFETY: instructions by this function's contract; one group and panel, one task.
                unsafe { finish_filters::<V>(sums, group, panel, inputs, &out) };
            }
        };
        parallel(groups * panels, |task| {
            if single {
                with_scratch_f32(part, |sums| work(task, sums));
            } else {
                // SAFETY: one part, one task.
                work(task, unsafe { shared.slice(task * part, part) });
            }
        });
    }
}
