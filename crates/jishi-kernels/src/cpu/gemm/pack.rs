//! What a product reads its factors from.

use half::bf16;

#[cfg(target_arch = "x86_64")]
use super::{avx2, wide};
use crate::memory::{Number, as_words, prefetch, with_scratch_f32, words_of};
use crate::multiversion;
use crate::simd::Level;

/// A number that is read as `f32`.
pub trait Value: Number {
    /// Whether it is a bfloat16; else it is an `f32`.
    const IS_BF16: bool;

    /// Its value.
    fn widen(self) -> f32;

    /// These values where they are `f32`.
    fn as_f32(values: &[Self]) -> Option<&[f32]>;
}

impl Value for f32 {
    const IS_BF16: bool = false;

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn as_f32(values: &[Self]) -> Option<&[f32]> {
        Some(values)
    }
}

impl Value for bf16 {
    const IS_BF16: bool = true;

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn as_f32(_: &[Self]) -> Option<&[f32]> {
        None
    }
}

/// One factor of a product as lanes: the rows of A, or the columns of B. A lane has `k` values.
pub trait Source: Sync {
    /// Writes values `from..from + height` of lanes `lane..lane + lanes` to `out[height][width]`, lanes beside each other,
    /// and zeros for lanes up to `width`.
    #[allow(clippy::too_many_arguments)]
    fn pack(
        &self,
        level: Level,
        lane: usize,
        lanes: usize,
        width: usize,
        from: usize,
        height: usize,
        out: &mut [f32],
    );

    /// Whether all values are bfloat16, so that rounding to it changes none.
    fn is_bf16(&self) -> bool {
        false
    }

    /// The lanes from `lane` on, from value `from` on, where they are `f32` in memory: they can be multiplied where they are.
    fn in_place(&self, _lane: usize, _from: usize) -> Option<Left<'_>> {
        None
    }

    /// The same as pairs of bfloat16, `out[height / 2][width]`: the even value in the lower half of a word.
    #[allow(clippy::too_many_arguments)]
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
        pack_then_pair(self, level, lane, lanes, width, from, height, out);
    }
}

/// Lanes of A as a tile reads them: word `i` of lane `l` is `words[l · lane_stride + i · step]`.
#[derive(Debug, Clone, Copy)]
pub struct Left<'a> {
    pub(super) words: &'a [u32],
    pub(super) lane_stride: usize,
    pub(super) step: usize,
}

impl<'a> Left<'a> {
    /// A panel of `rows` lanes.
    pub(super) fn packed(words: &'a [u32], rows: usize) -> Self {
        Self { words, lane_stride: 1, step: rows }
    }

    /// Without the first `lanes` lanes.
    pub(super) fn skip(self, lanes: usize) -> Self {
        Self { words: &self.words[lanes * self.lane_stride..], ..self }
    }
}

/// [`Source::pack_pairs`] by way of `f32`.
#[allow(clippy::too_many_arguments)]
pub(in crate::cpu) fn pack_then_pair(
    source: &(impl Source + ?Sized),
    level: Level,
    lane: usize,
    lanes: usize,
    width: usize,
    from: usize,
    height: usize,
    out: &mut [u32],
) {
    with_scratch_f32(width * height, |values| {
        source.pack(level, lane, lanes, width, from, height, values);
        pair(level, values, width, height, out);
    });
}

/// A matrix in memory: value `i` of lane `l` is `data[l · lane_stride + i · step]`.
#[derive(Debug, Clone, Copy)]
pub struct Strided<'a, T = f32> {
    data: &'a [T],
    lane_stride: usize,
    step: usize,
}

impl<'a, T: Value> Strided<'a, T> {
    /// Rows of a row-major matrix as lanes: A as it is, or B transposed.
    #[must_use]
    pub fn rows(data: &'a [T], stride: usize) -> Self {
        Self { data, lane_stride: stride, step: 1 }
    }

    /// Columns of a row-major matrix as lanes: B as it is, or A transposed.
    #[must_use]
    pub fn columns(data: &'a [T], stride: usize) -> Self {
        Self { data, lane_stride: 1, step: stride }
    }
}

impl<T: Value> Strided<'_, T> {
    fn from(&self, lane: usize, from: usize) -> &[T] {
        &self.data[lane * self.lane_stride + from * self.step..]
    }
}

impl<T: Value> Source for Strided<'_, T> {
    fn is_bf16(&self) -> bool {
        T::IS_BF16
    }

    fn in_place(&self, lane: usize, from: usize) -> Option<Left<'_>> {
        let words = words_of(T::as_f32(self.from(lane, from))?);
        Some(Left { words, lane_stride: self.lane_stride, step: self.step })
    }

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
        let data = self.from(lane, from);
        #[cfg(target_arch = "x86_64")]
        if self.step == 1 && level >= Level::Avx2 {
            let part = wide::Part { data, lane_stride: self.lane_stride, step: 1, lanes, width, height };
            // SAFETY: the level has these instructions.
            unsafe {
                if level >= Level::Avx512 {
                    wide::turn_f32(&part, as_words(out));
                } else {
                    avx2::turn(&part, out);
                }
            }
            return;
        }
        if self.step == 1 {
            transpose(level, data, self.lane_stride, lanes, width, height, out);
        } else {
            copy(level, data, self.step, lanes, width, height, out);
        }
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
        if level >= Level::Avx512Bf16 && (self.step == 1 || self.lane_stride == 1) {
            let (data, lane_stride, step) = (self.from(lane, from), self.lane_stride, self.step);
            let part = wide::Part { data, lane_stride, step, lanes, width, height };
            // SAFETY: the level has these instructions.
            unsafe {
                if step == 1 {
                    wide::turn_pairs(&part, out);
                } else {
                    wide::copy_pairs(&part, out);
                }
            }
            return;
        }
        pack_then_pair(self, level, lane, lanes, width, from, height, out);
    }
}

/// The lanes of a source from `lanes` on.
#[derive(Debug, Clone, Copy)]
pub struct Shifted<S> {
    /// All lanes.
    pub source: S,
    /// How many are skipped.
    pub lanes: usize,
}

impl<S: Source> Source for Shifted<S> {
    fn is_bf16(&self) -> bool {
        self.source.is_bf16()
    }

    fn in_place(&self, lane: usize, from: usize) -> Option<Left<'_>> {
        self.source.in_place(self.lanes + lane, from)
    }

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
        self.source.pack(level, self.lanes + lane, lanes, width, from, height, out);
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
        self.source.pack_pairs(level, self.lanes + lane, lanes, width, from, height, out);
    }
}

multiversion! {
    /// Lanes are contiguous over each other: rows of `out` are copied.
    fn copy<T: Value>(data: &[T], step: usize, lanes: usize, width: usize, height: usize, out: &mut [f32]) {
        if lanes == width {
            // Rows of the tiles' widths are a few vectors; a row of any length is a call.
            match width {
                6 => return copy_rows::<6, T>(data, step, height, out),
                14 => return copy_rows::<14, T>(data, step, height, out),
                16 => return copy_rows::<16, T>(data, step, height, out),
                32 => return copy_rows::<32, T>(data, step, height, out),
                _ => {}
            }
        }
        for (i, out) in out.chunks_exact_mut(width).take(height).enumerate() {
            for (o, v) in out[..lanes].iter_mut().zip(&data[i * step..][..lanes]) {
                *o = v.widen();
            }
            out[lanes..].fill(0.0);
        }
    }

    /// Lanes are contiguous in themselves: blocks of 16 values are turned.
    fn transpose<T: Value>(data: &[T], stride: usize, lanes: usize, width: usize, height: usize, out: &mut [f32]) {
        const STEP: usize = 16;
        let whole = height / STEP * STEP;
        for start in (0..whole).step_by(STEP) {
            let out = &mut out[start * width..][..STEP * width];
            for lane in 0..lanes {
                let values: &[T; STEP] =
                    data[lane * stride + start..][..STEP].try_into().expect("a slice of this length");
                for (i, v) in values.iter().enumerate() {
                    out[i * width + lane] = v.widen();
                }
            }
        }
        for lane in 0..lanes {
            for i in whole..height {
                out[i * width + lane] = data[lane * stride + i].widen();
            }
        }
        if lanes < width {
            for out in out.chunks_exact_mut(width).take(height) {
                out[lanes..].fill(0.0);
            }
        }
    }

    /// Rows of `values[height][width]` in pairs, as bfloat16: word `[pair][lane]` holds the even row below the odd one.
    pub fn pair(values: &[f32], width: usize, height: usize, out: &mut [u32]) {
        for (i, out) in out.chunks_exact_mut(width).take(height.div_ceil(2)).enumerate() {
            let even = &values[2 * i * width..][..width];
            if 2 * i + 1 < height {
                let odd = &values[(2 * i + 1) * width..][..width];
                for ((o, e), d) in out.iter_mut().zip(even).zip(odd) {
                    *o = round_bits(*e) | round_bits(*d) << 16;
                }
            } else {
                for (o, e) in out.iter_mut().zip(even) {
                    *o = round_bits(*e);
                }
            }
        }
    }
}

/// Rows that are asked for ahead: each is on another line, often on another page, where the processor foresees nothing.
const AHEAD: usize = 8;

#[inline(always)]
fn copy_rows<const WIDTH: usize, T: Value>(data: &[T], step: usize, height: usize, out: &mut [f32]) {
    for (i, out) in out.as_chunks_mut::<WIDTH>().0.iter_mut().take(height).enumerate() {
        prefetch(data, (i + AHEAD) * step);
        let row: &[T; WIDTH] = data[i * step..][..WIDTH].try_into().expect("a slice of this length");
        for (o, v) in out.iter_mut().zip(row) {
            *o = v.widen();
        }
    }
}

/// The upper half of an `f32`, rounded to nearest even; NaN stays NaN.
#[inline(always)]
pub fn round_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if x.is_nan() { bits >> 16 | 0x40 } else { rounded }
}
