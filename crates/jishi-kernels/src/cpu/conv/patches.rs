//! Patches of images as factors of a product ("im2col", Chellapilla et al. 2006), read where they are.

use super::super::gemm::{Source, pack_then_pair};
#[cfg(target_arch = "x86_64")]
use super::super::gemm::{avx2, wide};
use crate::memory::as_words;
use crate::multiversion;
use crate::simd::Level;

/// No pixel: a place in the padding.
pub const OUTSIDE: usize = usize::MAX;

/// Most lanes of a tile.
const LANES: usize = 64;
/// Positions whose places are looked up together; even, so that pairs stay together.
const POSITIONS: usize = 256;

/// Patches around the positions of a grid over NHWC images: lanes are positions `(image, y, x)`, a lane's values are
/// `(tap, channel)`.
#[derive(Debug, Clone)]
pub struct Patches<'a> {
    /// `[batch, size.0, size.1, channels]`
    pub data: &'a [f32],
    /// Height and width of an image.
    pub size: [usize; 2],
    /// Channels of a pixel.
    pub channels: usize,
    /// The channels that are read: from the first, how many.
    pub run: [usize; 2],
    /// Height and width of the grid.
    pub grid: [usize; 2],
    /// Pixels from one position of the grid to the next.
    pub stride: [usize; 2],
    /// Pixels from a position to those that are read.
    pub taps: Vec<[isize; 2]>,
}

/// A position of the grid: where its image starts, and its pixel.
#[derive(Clone, Copy, Default)]
struct Position {
    image: usize,
    y: isize,
    x: isize,
}

impl Patches<'_> {
    fn position(&self, index: usize) -> Position {
        let (row, x) = (index / self.grid[1], index % self.grid[1]);
        let (image, y) = (row / self.grid[0], row % self.grid[0]);
        Position {
            image: image * self.size[0] * self.size[1] * self.channels + self.run[0],
            y: (y * self.stride[0]).cast_signed(),
            x: (x * self.stride[1]).cast_signed(),
        }
    }

    /// Where the first channel of a tap is, or [`OUTSIDE`].
    #[inline(always)]
    fn place(&self, position: &Position, tap: [isize; 2]) -> usize {
        // Negative numbers become large ones.
        let y = (position.y + tap[0]).cast_unsigned();
        let x = (position.x + tap[1]).cast_unsigned();
        if y < self.size[0] && x < self.size[1] {
            position.image + (y * self.size[1] + x) * self.channels
        } else {
            OUTSIDE
        }
    }

    /// Calls `f(i, places, count)` for each run of values within a tap: value `i` of the part on, `count` values, which
    /// lie from `places` on.
    fn runs(
        &self,
        [lane, lanes]: [usize; 2],
        [from, height]: [usize; 2],
        mut f: impl FnMut(usize, &[usize], usize),
    ) {
        assert!(lanes <= LANES, "a tile that is too wide");
        let mut positions = [Position::default(); LANES];
        for (i, position) in positions[..lanes].iter_mut().enumerate() {
            *position = self.position(lane + i);
        }
        let mut places = [OUTSIDE; LANES];
        let mut done = 0;
        while done < height {
            let (tap, channel) = ((from + done) / self.run[1], (from + done) % self.run[1]);
            let count = (self.run[1] - channel).min(height - done);
            for (place, position) in places[..lanes].iter_mut().zip(&positions) {
                let start = self.place(position, self.taps[tap]);
                *place = if start == OUTSIDE { OUTSIDE } else { start + channel };
            }
            f(done, &places[..lanes], count);
            done += count;
        }
    }
}

impl Source for Patches<'_> {
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
        self.runs([lane, lanes], [from, height], |i, places, count| {
            let out = &mut out[i * width..][..count * width];
            #[cfg(target_arch = "x86_64")]
            if level >= Level::Avx2 {
                // SAFETY: the level has these instructions.
                unsafe {
                    if level >= Level::Avx512 {
                        wide::gather_f32(self.data, places, count, width, as_words(out));
                    } else {
                        avx2::gather(self.data, places, count, width, out);
                    }
                }
                return;
            }
            gather(level, self.data, places, count, width, out);
        });
    }

    fn pack_pairs(
        &self,
        level: Level,
        lane: usize,
        lanes: usize,
        width: usize,
        from: usize,
        height: usize,
        out: &mut [u32],
    ) {
        #[cfg(target_arch = "x86_64")]
        if level >= Level::Avx512Bf16 && self.run[1].is_multiple_of(2) {
            self.runs([lane, lanes], [from, height], |i, places, count| {
                let out = &mut out[i / 2 * width..][..count.div_ceil(2) * width];
                // SAFETY: the level has these instructions.
                unsafe { wide::gather_pairs(self.data, places, count, width, out) };
            });
            return;
        }
        pack_then_pair(self, level, lane, lanes, width, from, height, out);
    }
}

/// [`Patches`] turned: lanes are `(tap, channel)`, a lane's values are positions.
#[derive(Debug, Clone)]
pub struct Turned<'a>(pub Patches<'a>);

impl Turned<'_> {
    /// Calls `f(first lane, positions' first, places, lanes)` for each block of positions and of lanes within a tap.
    fn blocks(
        &self,
        [lane, lanes]: [usize; 2],
        [from, height]: [usize; 2],
        mut f: impl FnMut(usize, usize, &[usize], usize),
    ) {
        let patches = &self.0;
        let mut positions = [Position::default(); POSITIONS];
        let mut places = [OUTSIDE; POSITIONS];
        for start in (0..height).step_by(POSITIONS) {
            let count = POSITIONS.min(height - start);
            let [step_y, step_x] = patches.stride.map(usize::cast_signed);
            let end = (patches.grid[1] * patches.stride[1]).cast_signed();
            let mut position = patches.position(from + start);
            for (i, p) in positions[..count].iter_mut().enumerate() {
                *p = position;
                position.x += step_x;
                if position.x == end {
                    position.x = 0;
                    position.y += step_y;
                    if position.y == (patches.grid[0] * patches.stride[0]).cast_signed() {
                        position = patches.position(from + start + i + 1);
                    }
                }
            }
            let mut done = 0;
            while done < lanes {
                let (tap, channel) = ((lane + done) / patches.run[1], (lane + done) % patches.run[1]);
                let run = (patches.run[1] - channel).min(lanes - done);
                for (place, position) in places[..count].iter_mut().zip(&positions) {
                    let start = patches.place(position, patches.taps[tap]);
                    *place = if start == OUTSIDE { OUTSIDE } else { start + channel };
                }
                f(done, start, &places[..count], run);
                done += run;
            }
        }
    }
}

impl Source for Turned<'_> {
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
        if lanes < width {
            out[..width * height].fill(0.0);
        }
        self.blocks([lane, lanes], [from, height], |first, start, places, run| {
            let out = &mut out[start * width + first..];
            #[cfg(target_arch = "x86_64")]
            if level >= Level::Avx512 {
                // SAFETY: the level has these instructions.
                unsafe { wide::copy_runs_f32(self.0.data, places, run, width, as_words(out)) };
                return;
            }
            copy_runs(level, self.0.data, places, run, width, out);
        });
    }

    fn pack_pairs(
        &self,
        level: Level,
        lane: usize,
        lanes: usize,
        width: usize,
        from: usize,
        height: usize,
        out: &mut [u32],
    ) {
        #[cfg(target_arch = "x86_64")]
        if level >= Level::Avx512Bf16 {
            if lanes < width {
                out[..width * height.div_ceil(2)].fill(0);
            }
            self.blocks([lane, lanes], [from, height], |first, start, places, run| {
                let out = &mut out[start / 2 * width + first..];
                // SAFETY: the level has these instructions.
                unsafe { wide::copy_runs_pairs(self.0.data, places, run, width, out) };
            });
            return;
        }
        pack_then_pair(self, level, lane, lanes, width, from, height, out);
    }
}

multiversion! {
    /// `out[i][lane] = data[places[lane] + i]`, zeros outside and for lanes up to `width`.
    fn gather(data: &[f32], places: &[usize], count: usize, width: usize, out: &mut [f32]) {
        for (lane, place) in places.iter().enumerate() {
            if *place == OUTSIDE {
                for i in 0..count {
                    out[i * width + lane] = 0.0;
                }
            } else {
                for (i, v) in data[*place..][..count].iter().enumerate() {
                    out[i * width + lane] = *v;
                }
            }
        }
        if places.len() < width {
            for out in out.chunks_exact_mut(width) {
                out[places.len()..].fill(0.0);
            }
        }
    }

    /// `out[i][..run] = data[places[i]..][..run]`, zeros outside.
    fn copy_runs(data: &[f32], places: &[usize], run: usize, width: usize, out: &mut [f32]) {
        // Runs as wide as a tile are a few vectors; a run of any length is a call.
        match run {
            6 => copy_runs_of(data, places, 6, width, out),
            16 => copy_runs_of(data, places, 16, width, out),
            _ => copy_runs_of(data, places, run, width, out),
        }
    }
}

#[inline(always)]
fn copy_runs_of(data: &[f32], places: &[usize], run: usize, width: usize, out: &mut [f32]) {
    for (i, place) in places.iter().enumerate() {
        let out = &mut out[i * width..][..run];
        if *place == OUTSIDE {
            out.fill(0.0);
        } else {
            out.copy_from_slice(&data[*place..][..run]);
        }
    }
}
