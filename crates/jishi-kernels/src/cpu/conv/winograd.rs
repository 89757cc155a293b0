//! Convolution with 3 × 3 filters and stride 1 by minimal filtering, F(4 × 4, 3 × 3) (Winograd 1980; Lavin & Gray 2016, "Fast
//! Algorithms for Convolutional Neural Networks"): tiles of 6 × 6 pixels and filters are turned into 36 frequencies, of
//! which each is a product of matrices of its own, and 4 × 4 results come back. That takes a quarter of the
//! multiplications. The gradient of the filters is the same algorithm turned around.
//!
//! Sums are in `f32`, whatever the precision: with AVX-512 this is faster than products of bfloat16 over patches. It
//! loses about a digit to plain sums of `f32`: measured over three shapes (tests), errors over the root mean square of the
//! results were at most 6e-5 and typically 4e-6, those of plain sums 3e-6 and 4e-7. Infinite values become NaN, and NaN
//! spreads, within a tile of 6 × 6 pixels.
//!
//! Where there are many tiles, a task turns a block of them and multiplies it with filters that were turned before. Where
//! there are few, tiles are turned before and a task turns the filters of 32 results. Either way what a task
//! works on stays in its cache.

use std::arch::x86_64::*;

use super::super::gemm::wide;
use super::Conv2d;
use crate::memory::{buffer, with_scratch_f32};
use crate::simd::Level;
use crate::threads::{SharedMut, parallel};

/// Frequencies of a tile.
const F: usize = 36;
/// Channels of a vector.
const V: usize = 16;
/// Results that are computed together.
const PANEL: usize = 32;
/// Most rows of a register tile.
const ROWS: usize = 14;
/// Tiles that a task turns, at most, where there are many.
const BLOCK: usize = 2 * ROWS;
/// Up to so many tiles are few.
const FEW: usize = 128;

/// Frequencies of a block of tiles in the gradient of the filters, about.
const BYTES: usize = 1 << 20;

/// Values of a frequency of 16 × 32 filters, padded as [`apart`] says.
const SUMS: usize = V * PANEL + V;

/// Values from one frequency to the next where each has `values`: an odd number of cache lines, or the 36 frequencies
/// of a tile would share one set of the cache.
const fn apart(values: usize) -> usize {
    if (values / V).is_multiple_of(2) { values + V } else { values }
}

/// Whether this is how to compute it.
pub fn pays(level: Level, conv: &Conv2d) -> bool {
    let tiles = conv.output[0].div_ceil(4) * conv.output[1].div_ceil(4);
    level >= Level::Avx512
        && conv.kernel == [3, 3]
        && conv.stride == [1, 1]
        && conv.dilation == [1, 1]
        && conv.groups == 1
        && conv.padding.iter().all(|p| *p <= 2)
        && conv.channels > 0
        && conv.channels.is_multiple_of(PANEL)
        && conv.outputs > 0
        && conv.outputs.is_multiple_of(PANEL)
        && conv.batch * tiles >= 8
        && 2 * conv.output[0] * conv.output[1] >= 16 * tiles
        && conv.output == [conv.input[0] + 2 * conv.padding[0] - 2, conv.input[1] + 2 * conv.padding[1] - 2]
}

/// `y = x ∗ weight + bias`.
pub fn forward(conv: &Conv2d, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    let tiles = Tiles::new(conv.batch, conv.output, conv.input, conv.padding, conv.channels);
    let filters = Filters { weight, inputs: conv.channels, outputs: conv.outputs, turned: false };
    run(&tiles, &filters, x, bias, y);
}

/// `dx = dy ∗ᵀ weight + bias`: the convolution of `dy` with turned filters.
pub fn backward_input(conv: &Conv2d, dy: &[f32], weight: &[f32], bias: Option<&[f32]>, dx: &mut [f32]) {
    let padding = conv.padding.map(|p| 2 - p);
    let tiles = Tiles::new(conv.batch, conv.input, conv.output, padding, conv.outputs);
    let filters = Filters { weight, inputs: conv.outputs, outputs: conv.channels, turned: true };
    run(&tiles, &filters, dy, bias, dx);
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

/// Six values of an array. (`array::from_fn` would be a call: it has no vector instructions.)
macro_rules! six {
    ($values:ident, $at:expr, $step:literal) => {
        [
            $values[$at],
            $values[$at + $step],
            $values[$at + 2 * $step],
            $values[$at + 3 * $step],
            $values[$at + 4 * $step],
            $values[$at + 5 * $step],
        ]
    };
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

/// Filters as PyTorch has them, read as `[tap][input][output]`.
struct Filters<'a> {
    weight: &'a [f32],
    inputs: usize,
    outputs: usize,
    /// Whether inputs and outputs are swapped in memory and taps reversed.
    turned: bool,
}

impl Filters<'_> {
    /// Frequencies of 32 filters from `output` on: `out[frequency][input][32]`, 16 inputs of them.
    fn transform(&self, output: usize, input: usize, out: &SharedMut<'_, f32>, start: usize) {
        // Taps of 16 inputs, 16 outputs beside each other: `[input][tap][output]`.
        let mut taps = [0u32; V * 9 * V];
        for half in [0, V] {
            let first = output + half;
            // SAFETY: AVX-512 by `pays`.
            unsafe {
                if self.turned {
                    for (i, taps) in taps.chunks_exact_mut(9 * V).enumerate() {
                        let at = ((input + i) * self.outputs + first) * 9;
                        let places: [usize; V] = std::array::from_fn(|lane| at + lane * 9);
                        wide::gather_f32(self.weight, &places, 9, V, taps);
                    }
                } else {
                    let place = |lane| ((first + lane) * self.inputs + input) * 9;
                    let places: [usize; V] = std::array::from_fn(place);
                    wide::gather_f32(self.weight, &places, V * 9, V, &mut taps);
                }
                for i in 0..V {
                    let start = start + (input + i) * PANEL + half;
                    self.turn(&taps[i * 9 * V..][..9 * V], out, start);
                }
            }
        }
    }

    /// # Safety
    /// AVX-512 F; the places in `out` are this call's own.
    #[target_feature(enable = "avx512f")]
    unsafe fn turn(&self, taps: &[u32], out: &SharedMut<'_, f32>, start: usize) {
        assert_eq!(taps.len(), 9 * V, "taps of 16 filters");
        let mut values = [_mm512_setzero_ps(); 9];
        for (tap, value) in values.iter_mut().enumerate() {
            let tap = if self.turned { 8 - tap } else { tap };
            // SAFETY: inside of `taps`.
            *value = unsafe { _mm512_loadu_ps(taps.as_ptr().add(tap * V).cast()) };
        }
        for (f, value) in filter_frequencies(&values).iter().enumerate() {
            // SAFETY: by this function's contract.
            unsafe {
                let out = out.slice(start + f * apart(self.inputs * PANEL), V);
                _mm512_storeu_ps(out.as_mut_ptr(), *value);
            }
        }
    }
}

/// `G · filter · Gᵀ`.
#[inline]
#[target_feature(enable = "avx512f")]
fn filter_frequencies(g: &[__m512; 9]) -> [__m512; F] {
    let mut rows = [_mm512_setzero_ps(); 18]; // [6][3]
    for x in 0..3 {
        let column = filter_line([g[x], g[3 + x], g[6 + x]]);
        for (y, value) in column.iter().enumerate() {
            rows[y * 3 + x] = *value;
        }
    }
    let mut out = [_mm512_setzero_ps(); F];
    for y in 0..6 {
        out[y * 6..][..6].copy_from_slice(&filter_line([rows[y * 3], rows[y * 3 + 1], rows[y * 3 + 2]]));
    }
    out
}

#[inline]
#[target_feature(enable = "avx512f")]
fn filter_line([a, b, c]: [__m512; 3]) -> [__m512; 6] {
    let times = |x, n: f32| _mm512_mul_ps(x, _mm512_set1_ps(n));
    let outer = times(_mm512_add_ps(a, c), -1.0 / 6.0);
    let inner = times(b, -1.0 / 6.0);
    let wide = _mm512_fmadd_ps(a, _mm512_set1_ps(1.0 / 24.0), times(c, 1.0 / 6.0));
    let middle = times(b, 1.0 / 12.0);
    [
        times(a, 0.25),
        _mm512_add_ps(outer, inner),
        _mm512_sub_ps(outer, inner),
        _mm512_add_ps(wide, middle),
        _mm512_sub_ps(wide, middle),
        c,
    ]
}

/// `Gᵀ · frequencies · G`.
#[inline]
#[target_feature(enable = "avx512f")]
fn filter_gradient(m: &[__m512; F]) -> [__m512; 9] {
    let mut rows = [_mm512_setzero_ps(); 18]; // [3][6]
    for x in 0..6 {
        let column = filter_gradient_line(six!(m, x, 6));
        for (y, value) in column.iter().enumerate() {
            rows[y * 6 + x] = *value;
        }
    }
    let mut out = [_mm512_setzero_ps(); 9];
    for y in 0..3 {
        out[y * 3..][..3].copy_from_slice(&filter_gradient_line(six!(rows, y * 6, 1)));
    }
    out
}

#[inline]
#[target_feature(enable = "avx512f")]
fn filter_gradient_line(m: [__m512; 6]) -> [__m512; 3] {
    let times = |x, n: f32| _mm512_mul_ps(x, _mm512_set1_ps(n));
    let (sum1, sum2) = (_mm512_add_ps(m[1], m[2]), _mm512_add_ps(m[3], m[4]));
    let (gap1, gap2) = (_mm512_sub_ps(m[1], m[2]), _mm512_sub_ps(m[3], m[4]));
    let sixth = times(sum1, -1.0 / 6.0);
    [
        _mm512_fmadd_ps(m[0], _mm512_set1_ps(0.25), _mm512_fmadd_ps(sum2, _mm512_set1_ps(1.0 / 24.0), sixth)),
        _mm512_fmadd_ps(gap2, _mm512_set1_ps(1.0 / 12.0), times(gap1, -1.0 / 6.0)),
        _mm512_add_ps(m[5], _mm512_fmadd_ps(sum2, _mm512_set1_ps(1.0 / 6.0), sixth)),
    ]
}

/// `Bᵀ · pixels · B`.
#[inline]
#[target_feature(enable = "avx512f")]
fn pixel_frequencies(d: &mut [__m512; F]) {
    for y in 0..6 {
        let line = pixel_line(six!(d, y * 6, 1));
        d[y * 6..][..6].copy_from_slice(&line);
    }
    for x in 0..6 {
        let line = pixel_line(six!(d, x, 6));
        for (y, value) in line.iter().enumerate() {
            d[y * 6 + x] = *value;
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn pixel_line(d: [__m512; 6]) -> [__m512; 6] {
    let (four, five, two) = (_mm512_set1_ps(4.0), _mm512_set1_ps(5.0), _mm512_set1_ps(2.0));
    let even = _mm512_fnmadd_ps(four, d[2], d[4]);
    let odd = _mm512_fnmadd_ps(four, d[1], d[3]);
    let near = _mm512_sub_ps(d[4], d[2]);
    let gap = _mm512_sub_ps(d[3], d[1]);
    [
        _mm512_fmadd_ps(four, d[0], _mm512_fnmadd_ps(five, d[2], d[4])),
        _mm512_add_ps(even, odd),
        _mm512_sub_ps(even, odd),
        _mm512_fmadd_ps(two, gap, near),
        _mm512_fnmadd_ps(two, gap, near),
        _mm512_fmadd_ps(four, d[1], _mm512_fnmadd_ps(five, d[3], d[5])),
    ]
}

/// `Aᵀ · frequencies · A`.
#[inline]
#[target_feature(enable = "avx512f")]
fn results(m: &[__m512; F]) -> [__m512; 16] {
    let mut rows = [_mm512_setzero_ps(); 24]; // [4][6]
    for x in 0..6 {
        let line = result_line(six!(m, x, 6));
        for (y, value) in line.iter().enumerate() {
            rows[y * 6 + x] = *value;
        }
    }
    let mut out = [_mm512_setzero_ps(); 16];
    for y in 0..4 {
        out[y * 4..][..4].copy_from_slice(&result_line(six!(rows, y * 6, 1)));
    }
    out
}

#[inline]
#[target_feature(enable = "avx512f")]
fn result_line(m: [__m512; 6]) -> [__m512; 4] {
    let (sum1, sum2) = (_mm512_add_ps(m[1], m[2]), _mm512_add_ps(m[3], m[4]));
    let (gap1, gap2) = (_mm512_sub_ps(m[1], m[2]), _mm512_sub_ps(m[3], m[4]));
    [
        _mm512_add_ps(m[0], _mm512_add_ps(sum1, sum2)),
        _mm512_fmadd_ps(gap2, _mm512_set1_ps(2.0), gap1),
        _mm512_fmadd_ps(sum2, _mm512_set1_ps(4.0), sum1),
        _mm512_add_ps(m[5], _mm512_fmadd_ps(gap2, _mm512_set1_ps(8.0), gap1)),
    ]
}

/// `A · gradients · Aᵀ`.
#[inline]
#[target_feature(enable = "avx512f")]
fn gradient_frequencies(g: &[__m512; 16]) -> [__m512; F] {
    let mut rows = [_mm512_setzero_ps(); 24]; // [6][4]
    for x in 0..4 {
        let line = gradient_line([g[x], g[4 + x], g[8 + x], g[12 + x]]);
        for (y, value) in line.iter().enumerate() {
            rows[y * 4 + x] = *value;
        }
    }
    let mut out = [_mm512_setzero_ps(); F];
    for y in 0..6 {
        out[y * 6..][..6].copy_from_slice(&gradient_line([
            rows[y * 4],
            rows[y * 4 + 1],
            rows[y * 4 + 2],
            rows[y * 4 + 3],
        ]));
    }
    out
}

#[inline]
#[target_feature(enable = "avx512f")]
fn gradient_line(y: [__m512; 4]) -> [__m512; 6] {
    let (four, two, eight) = (_mm512_set1_ps(4.0), _mm512_set1_ps(2.0), _mm512_set1_ps(8.0));
    let (even, odd) = (_mm512_add_ps(y[0], y[2]), _mm512_add_ps(y[1], y[3]));
    let even2 = _mm512_fmadd_ps(four, y[2], y[0]);
    let odd2 = _mm512_fmadd_ps(eight, y[3], _mm512_mul_ps(two, y[1]));
    [
        y[0],
        _mm512_add_ps(even, odd),
        _mm512_sub_ps(even, odd),
        _mm512_add_ps(even2, odd2),
        _mm512_sub_ps(even2, odd2),
        y[3],
    ]
}

/// Channels `channel..channel + 16` of some pixels.
///
/// # Safety
/// AVX-512 F; pixels are inside `data` or [`OUTSIDE`], and so are their channels.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load<const N: usize>(
    data: &[f32],
    pixels: &[usize; N],
    channels: usize,
    channel: usize,
) -> [__m512; N] {
    let mut out = [_mm512_setzero_ps(); N];
    for (value, pixel) in out.iter_mut().zip(pixels) {
        let (at, mask) = if *pixel == OUTSIDE { (0, 0) } else { (pixel * channels + channel, u16::MAX) };
        // SAFETY: masked-out places are not read; the others are inside by this function's contract.
        *value = unsafe { _mm512_maskz_loadu_ps(mask, data.as_ptr().wrapping_add(at)) };
    }
    out
}

/// Frequencies of one tile's pixels: vector `f` of channel group `g` goes to `out[place(g, f)..]`.
///
/// # Safety
/// AVX-512 F; the places are this call's own.
#[target_feature(enable = "avx512f")]
unsafe fn turn_pixels(
    tiles: &Tiles,
    tile: usize,
    x: &[f32],
    out: &SharedMut<'_, f32>,
    place: impl Fn(usize, usize) -> usize,
) {
    let pixels = tiles.read(tile);
    for group in 0..tiles.channels / V {
        // SAFETY: pixels are inside the images; places by this function's contract.
        unsafe {
            let mut d = load(x, &pixels, tiles.channels, group * V);
            pixel_frequencies(&mut d);
            for (f, value) in d.iter().enumerate() {
                _mm512_storeu_ps(out.slice(place(group, f), V).as_mut_ptr(), *value);
            }
        }
    }
}

/// A convolution by tiles.
fn run(tiles: &Tiles, filters: &Filters<'_>, x: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    let (inputs, outputs) = (filters.inputs, filters.outputs);
    let panels = outputs / PANEL;
    let y = SharedMut::new(y);
    let finish = |m: &[f32], first: usize, count: usize, panel: usize| {
        for i in 0..count {
            let pixels = tiles.written(first + i);
            for half in [0, V] {
                let channel = panel * PANEL + half;
                // SAFETY: AVX-512 by `pays`; `m` holds 36 · `count` rows of 32; tiles and panels are a task's own.
                unsafe {
                    finish_tile(
                        &m[i * PANEL + half..],
                        apart(count * PANEL),
                        bias,
                        channel,
                        &pixels,
                        outputs,
                        &y,
                    )
                };
            }
        }
    };
    if tiles.count <= FEW {
        let count = tiles.count;
        let mut turned = buffer::<f32>(F * apart(inputs * count));
        let shared = SharedMut::new(&mut turned);
        parallel(count, |tile| {
            // SAFETY: AVX-512 by `pays`; one tile, one task.
            unsafe {
                turn_pixels(tiles, tile, x, &shared, |g, f| {
                    f * apart(inputs * count) + (g * count + tile) * V
                })
            };
        });
        parallel(panels, |panel| {
            with_scratch_f32(F * apart(inputs * PANEL), |u| {
                let shared = SharedMut::new(u);
                for input in (0..inputs).step_by(V) {
                    filters.transform(panel * PANEL, input, &shared, 0);
                }
                with_scratch_f32(F * apart(count * PANEL), |m| {
                    multiply(&turned, u, inputs, count, m);
                    finish(m, 0, count, panel);
                });
            });
        });
        return;
    }
    let size = F * apart(inputs * PANEL);
    let mut u = buffer::<f32>(panels * size);
    let shared = SharedMut::new(&mut u);
    parallel(panels * (inputs / V), |task| {
        let (panel, group) = (task / (inputs / V), task % (inputs / V));
        filters.transform(panel * PANEL, group * V, &shared, panel * size);
    });
    let blocks = tiles.count.div_ceil(BLOCK);
    let block = tiles.count.div_ceil(blocks);
    parallel(tiles.count.div_ceil(block), |task| {
        let first = task * block;
        let count = block.min(tiles.count - first);
        with_scratch_f32(F * apart(inputs * count), |turned| {
            let shared = SharedMut::new(turned);
            for i in 0..count {
                // SAFETY: AVX-512 by `pays`; the scratch space is this task's.
                unsafe {
                    turn_pixels(tiles, first + i, x, &shared, |g, f| {
                        f * apart(inputs * count) + (g * count + i) * V
                    });
                }
            }
            with_scratch_f32(F * apart(count * PANEL), |m| {
                for panel in 0..panels {
                    multiply(turned, &u[panel * size..][..size], inputs, count, m);
                    finish(m, first, count, panel);
                }
            });
        });
    });
}

/// # Safety
/// AVX-512 F; `m` holds 36 vectors, `step` values apart; the pixels' channels from `channel` on are this call's own.
#[target_feature(enable = "avx512f")]
unsafe fn finish_tile(
    m: &[f32],
    step: usize,
    bias: Option<&[f32]>,
    channel: usize,
    pixels: &[usize; 16],
    channels: usize,
    y: &SharedMut<'_, f32>,
) {
    assert!(m.len() >= (F - 1) * step + V, "frequencies of a tile");
    let mut values = [_mm512_setzero_ps(); F];
    // SAFETY: inside of `m`; places by this function's contract.
    unsafe {
        for (f, value) in values.iter_mut().enumerate() {
            *value = _mm512_loadu_ps(m.as_ptr().add(f * step));
        }
        let bias = bias.map_or(_mm512_setzero_ps(), |bias| _mm512_loadu_ps(bias[channel..][..V].as_ptr()));
        for (value, pixel) in results(&values).iter().zip(pixels) {
            if *pixel != OUTSIDE {
                let out = y.slice(pixel * channels + channel, V);
                _mm512_storeu_ps(out.as_mut_ptr(), _mm512_add_ps(*value, bias));
            }
        }
    }
}

/// `m[f][tile][32] = turned[f][tile] · u[f]` for each frequency.
///
/// # Shapes
/// - `turned`: `[36, inputs / 16, count, 16]`, `u`: `[36, inputs, 32]`, `m`: `[36, count, 32]`
fn multiply(turned: &[f32], u: &[f32], inputs: usize, count: usize, m: &mut [f32]) {
    let [step_a, step_b, step_c] = [inputs * count, inputs * PANEL, count * PANEL].map(apart);
    assert!(turned.len() == F * step_a && u.len() == F * step_b && m.len() == F * step_c);
    let rows = count.div_ceil(count.div_ceil(ROWS));
    for f in 0..F {
        let (a, b) = (&turned[f * step_a..], &u[f * step_b..]);
        for row in (0..count).step_by(rows) {
            let c = &mut m[f * step_c + row * PANEL..];
            macro_rules! of {
                ($($n:literal)+) => {
                    match rows.min(count - row) {
                        // SAFETY: AVX-512 by `pays`; lengths were checked.
                        $($n => unsafe { tile::<$n>(inputs / V, count, a[row * V..].as_ptr(), b.as_ptr(), c.as_mut_ptr()) },)+
                        _ => unreachable!("at most {ROWS} rows"),
                    }
                };
            }
            of!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
        }
    }
}

/// `R` × 32 sums.
///
/// # Safety
/// AVX-512 F; `a` points to `groups` blocks `[count, 16]` of which the first `R` rows are read, `b` to `[16 · groups, 32]`,
/// `c` to `[R, 32]`.
#[target_feature(enable = "avx512f")]
unsafe fn tile<const R: usize>(groups: usize, count: usize, a: *const f32, b: *const f32, c: *mut f32) {
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    let (mut a, mut b) = (a, b);
    // SAFETY: inside of what the caller promises; pointers beyond the last block are not read.
    unsafe {
        for _ in 0..groups {
            for i in 0..V {
                let (b0, b1) = (_mm512_loadu_ps(b), _mm512_loadu_ps(b.add(V)));
                for (r, sum) in sums.iter_mut().enumerate() {
                    let a = _mm512_set1_ps(*a.add(r * V + i));
                    sum[0] = _mm512_fmadd_ps(a, b0, sum[0]);
                    sum[1] = _mm512_fmadd_ps(a, b1, sum[1]);
                }
                b = b.add(PANEL);
            }
            a = a.wrapping_add(count * V);
        }
        for (r, sum) in sums.iter().enumerate() {
            _mm512_storeu_ps(c.add(r * PANEL), sum[0]);
            _mm512_storeu_ps(c.add(r * PANEL + V), sum[1]);
        }
    }
}

/// `dweight`, summed over blocks of tiles in order.
pub fn backward_weight(conv: &Conv2d, x: &[f32], dy: &[f32], dweight: &mut [f32]) {
    let tiles = Tiles::new(conv.batch, conv.output, conv.input, conv.padding, conv.channels);
    let (inputs, outputs) = (conv.channels, conv.outputs);
    let (groups, panels) = (inputs / V, outputs / PANEL);
    // As many tiles at once as a second-level cache holds, so that sums are not read too often.
    let step = if tiles.count <= FEW { FEW } else { (BYTES / (4 * F * (inputs + outputs))).clamp(32, FEW) };
    let most = step.min(tiles.count);
    let (mut pixels, mut gradients) =
        (buffer::<f32>(groups * F * apart(most * V)), buffer::<f32>(panels * F * apart(most * PANEL)));
    let part = F * SUMS;
    let single = tiles.count <= FEW;
    let mut sums = if single { Vec::new() } else { buffer::<f32>(groups * panels * part) };
    let out = SharedMut::new(dweight);
    for first in (0..tiles.count).step_by(step) {
        let count = step.min(tiles.count - first);
        let (shared, shared_dy) = (SharedMut::new(&mut pixels), SharedMut::new(&mut gradients));
        parallel(count, |i| {
            // SAFETY: AVX-512 by `pays`; one tile, one task.
            unsafe {
                turn_pixels(&tiles, first + i, x, &shared, |g, f| (g * F + f) * apart(count * V) + i * V);
                turn_gradients(&tiles, first + i, dy, outputs, &shared_dy, |g, f| {
                    (g / 2 * F + f) * apart(count * PANEL) + i * PANEL + g % 2 * V
                });
            }
        });
        let shared = SharedMut::new(&mut sums);
        let (pixels, gradients) = (&pixels[..], &gradients[..]);
        let last = first + count == tiles.count;
        let work = |task: usize, sums: &mut [f32]| {
            let (group, panel) = (task / panels, task % panels);
            for f in 0..F {
                let a = &pixels[(group * F + f) * apart(count * V)..][..count * V];
                let b = &gradients[(panel * F + f) * apart(count * PANEL)..][..count * PANEL];
                let c = &mut sums[f * SUMS..][..V * PANEL];
                for half in [0, 8] {
                    // SAFETY: AVX-512 by `pays`; the slices have the lengths that are read.
                    unsafe {
                        let c = c[half * PANEL..].as_mut_ptr();
                        outer(count, a.as_ptr().add(half), b.as_ptr(), c, first > 0);
                    }
                }
            }
            if last {
                // SAFETY: AVX-512 by `pays`; one group and panel, one task.
                unsafe { finish_filters(sums, group, panel, inputs, &out) };
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

/// Frequencies of one tile's gradients.
///
/// # Safety
/// As [`turn_pixels`].
#[target_feature(enable = "avx512f")]
unsafe fn turn_gradients(
    tiles: &Tiles,
    tile: usize,
    dy: &[f32],
    channels: usize,
    out: &SharedMut<'_, f32>,
    place: impl Fn(usize, usize) -> usize,
) {
    let pixels = tiles.written(tile);
    for group in 0..channels / V {
        // SAFETY: pixels are inside the result; places by this function's contract.
        unsafe {
            let found = gradient_frequencies(&load(dy, &pixels, channels, group * V));
            for (f, value) in found.iter().enumerate() {
                _mm512_storeu_ps(out.slice(place(group, f), V).as_mut_ptr(), *value);
            }
        }
    }
}

/// 8 × 32 sums over tiles: `c[lane] (+)= Σ a[tile][lane] · b[tile]`.
///
/// # Safety
/// AVX-512 F; `a` points to `count` rows of 16 of which 8 values are read, `b` to `[count, 32]`, `c` to `[8, 32]`.
#[target_feature(enable = "avx512f")]
unsafe fn outer(count: usize, a: *const f32, b: *const f32, c: *mut f32, add: bool) {
    let mut sums = [[_mm512_setzero_ps(); 2]; 8];
    // SAFETY: inside of what the caller promises.
    unsafe {
        if add {
            for (r, sum) in sums.iter_mut().enumerate() {
                *sum = [_mm512_loadu_ps(c.add(r * PANEL)), _mm512_loadu_ps(c.add(r * PANEL + V))];
            }
        }
        for i in 0..count {
            let (b0, b1) = (_mm512_loadu_ps(b.add(i * PANEL)), _mm512_loadu_ps(b.add(i * PANEL + V)));
            for (r, sum) in sums.iter_mut().enumerate() {
                let a = _mm512_set1_ps(*a.add(i * V + r));
                sum[0] = _mm512_fmadd_ps(a, b0, sum[0]);
                sum[1] = _mm512_fmadd_ps(a, b1, sum[1]);
            }
        }
        for (r, sum) in sums.iter().enumerate() {
            _mm512_storeu_ps(c.add(r * PANEL), sum[0]);
            _mm512_storeu_ps(c.add(r * PANEL + V), sum[1]);
        }
    }
}

/// Filters of 16 inputs and 32 outputs from their frequencies `sums[36][16 · 32, padded]`.
///
/// # Safety
/// AVX-512 F; this group and panel are this call's own.
#[target_feature(enable = "avx512f")]
unsafe fn finish_filters(sums: &[f32], group: usize, panel: usize, inputs: usize, out: &SharedMut<'_, f32>) {
    assert_eq!(sums.len(), F * SUMS, "frequencies of filters");
    let mut values = [0.0f32; V * 9 * PANEL]; // [input][tap][output]
    for input in 0..V {
        for half in [0, V] {
            let mut m = [_mm512_setzero_ps(); F];
            // SAFETY: inside of `sums` and `values`.
            unsafe {
                for (f, value) in m.iter_mut().enumerate() {
                    *value = _mm512_loadu_ps(sums.as_ptr().add(f * SUMS + input * PANEL + half));
                }
                for (tap, value) in filter_gradient(&m).iter().enumerate() {
                    _mm512_storeu_ps(values.as_mut_ptr().add((input * 9 + tap) * PANEL + half), *value);
                }
            }
        }
    }
    for output in 0..PANEL {
        // SAFETY: by this function's contract.
        let out = unsafe { out.slice(((panel * PANEL + output) * inputs + group * V) * 9, V * 9) };
        for (i, value) in out.iter_mut().enumerate() {
            *value = values[i * PANEL + output];
        }
    }
}
