//! Rows of signed bytes times a panel of blocks of unsigned ones, with exact sums in 32 bits in a block.
//!
//! A weight is `scale · (number − zero) + least`, so a block's share of a product is
//! `x_scale · (scale · (Σ number · x − zero · Σ x) + least · Σ x)`: the sums of a row's blocks are made once.

use super::blocks::QUANT;
use super::{Line, PANEL};
use crate::multiversion;
use crate::simd::{Level, madd};

/// How a panel's words are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// A word has eight numbers of four bits, the low halves of its bytes first, or four of eight bits.
    pub nibbles: bool,
    /// Whether each block has a least value after its scale.
    pub least: bool,
    /// What is subtracted from each number.
    pub zero: i32,
}

impl Words {
    /// Lines of a block.
    pub fn lines(self) -> usize {
        if self.nibbles { 4 } else { 8 }
    }

    /// Lines of scales of a block.
    pub fn scales(self) -> usize {
        if self.least { 2 } else { 1 }
    }
}

/// Rows as whole numbers, from some block on.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// `[rows, stride]`
    pub x: &'a [i8],
    pub stride: usize,
    /// Of each block, `[rows, blocks]`.
    pub scales: &'a [f32],
    /// Sums of each block's numbers, `[rows, blocks]`.
    pub sums: &'a [i32],
    pub blocks: usize,
}

multiversion! {
    /// Rounds a row to whole numbers in ±127, with one scale for each block of 32, as llama.cpp does.
    pub(super) fn quantise(x: &[f32], bytes: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
        for (((x, bytes), scale), sum) in x.chunks(QUANT).zip(bytes.chunks_exact_mut(QUANT)).zip(scales).zip(sums) {
            let mut block = [0.0f32; QUANT];
            block[..x.len()].copy_from_slice(x);
            let (mut largest, mut nothing) = ([0.0f32; 16], [0.0f32; 16]);
            for x in block.chunks_exact(16) {
                for ((l, n), x) in largest.iter_mut().zip(&mut nothing).zip(x) {
                    let a = x.abs();
                    *l = if a > *l { a } else { *l };
                    *n += x * 0.0;
                }
            }
            let largest = largest.iter().fold(0.0f32, |a, b| a.max(*b));
            // Zero, or NaN where a value is not finite.
            *scale = largest / 127.0 + nothing.iter().sum::<f32>();
            let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
            let mut whole = [0i32; QUANT];
            for (w, x) in whole.iter_mut().zip(&block) {
                // To nearest even, by the magic number 1.5 · 2²³.
                let rounded = x * inverse + 12_582_912.0;
                *w = rounded.to_bits().wrapping_sub(12_582_912.0f32.to_bits()).cast_signed();
            }
            for (b, w) in bytes.iter_mut().zip(&whole) {
                *b = *w as i8;
            }
            *sum = bytes.iter().map(|b| i32::from(*b)).sum();
        }
    }
}

/// Adds the products of as many rows as there are `sums` with a panel to them.
///
/// # Panics
/// When slices are too short for the panel, or there are more than four rows.
pub fn dot(
    level: Level,
    words: Words,
    lines: &[Line],
    scales: &[[u16; PANEL]],
    x: Rows<'_>,
    sums: &mut [[f32; PANEL]],
) {
    let (rows, blocks) = (sums.len(), lines.len() / words.lines());
    if rows == 0 || blocks == 0 {
        return;
    }
    assert!(
        lines.len() == blocks * words.lines()
            && scales.len() == blocks * words.scales()
            && x.x.len() >= (rows - 1) * x.stride + blocks * QUANT
            && x.scales.len() >= (rows - 1) * x.blocks + blocks
            && x.sums.len() >= (rows - 1) * x.blocks + blocks,
        "rows that are too short"
    );
    #[cfg(target_arch = "x86_64")]
    macro_rules! rows {
        ($f:ident, $nibbles:literal, $least:literal) => {
            // SAFETY: the level has these instructions; lengths were checked.
            unsafe {
                match rows {
                    1 => x86::$f::<1, 4, $nibbles, $least>(words, lines, scales, x, sums),
                    2 => x86::$f::<2, 4, $nibbles, $least>(words, lines, scales, x, sums),
                    3 => x86::$f::<3, 2, $nibbles, $least>(words, lines, scales, x, sums),
                    4 => x86::$f::<4, 2, $nibbles, $least>(words, lines, scales, x, sums),
                    _ => panic!("more rows than a pass serves"),
                }
            }
        };
        ($f:ident) => {
            match (words.nibbles, words.least) {
                (false, false) => rows!($f, false, false),
                (false, true) => rows!($f, false, true),
                (true, false) => rows!($f, true, false),
                (true, true) => rows!($f, true, true),
            }
        };
    }
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Bf16 => rows!(vnni),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Avx2 => rows!(avx2),
        _ => {
            for (r, sums) in sums.iter_mut().enumerate() {
                plain(level, words, lines, scales, x, r, sums);
            }
        }
    }
}

/// A finite number of 16 bits, by one shift and one product, which compilers make vectors of.
#[inline(always)]
pub fn widen(half: u16) -> f32 {
    let magnitude = f32::from_bits(u32::from(half & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    f32::from_bits(magnitude.to_bits() | u32::from(half & 0x8000) << 16)
}

multiversion! {
    fn plain(words: Words, lines: &[Line], scales: &[[u16; PANEL]], x: Rows<'_>, row: usize, sums: &mut [f32; PANEL]) {
        for (block, lines) in lines.chunks_exact(words.lines()).enumerate() {
            let numbers = &x.x[row * x.stride + block * QUANT..][..QUANT];
            let (x_scale, x_sum) = (x.scales[row * x.blocks + block], x.sums[row * x.blocks + block]);
            let mut whole = [-words.zero * x_sum; PANEL];
            if words.nibbles {
                for (Line(w), x) in lines.iter().zip(numbers.chunks_exact(8)) {
                    for i in 0..4 {
                        let (low, high) = (i32::from(x[i]), i32::from(x[i + 4]));
                        for (sum, w) in whole.iter_mut().zip(w) {
                            let byte = *w >> (8 * i);
                            *sum += (byte & 15) as i32 * low + (byte >> 4 & 15) as i32 * high;
                        }
                    }
                }
            } else {
                for (Line(w), x) in lines.iter().zip(numbers.chunks_exact(4)) {
                    for (i, x) in x.iter().enumerate() {
                        for (sum, w) in whole.iter_mut().zip(w) {
                            *sum += (*w >> (8 * i) & 255) as i32 * i32::from(*x);
                        }
                    }
                }
            }
            let scales = &scales[block * words.scales()..][..words.scales()];
            for ((sum, whole), scale) in sums.iter_mut().zip(&whole).zip(&scales[0]) {
                *sum = madd::<FMA>(*whole as f32, widen(*scale) * x_scale, *sum);
            }
            if words.least {
                for (sum, least) in sums.iter_mut().zip(&scales[1]) {
                    *sum = madd::<FMA>(widen(*least), x_sum as f32 * x_scale, *sum);
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(clippy::needless_range_loop)]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Line, PANEL, QUANT, Rows, Words, widen};

    /// Four numbers of a row as one word.
    ///
    /// # Safety
    /// They can be read.
    #[inline(always)]
    unsafe fn four(x: *const i8) -> i32 {
        // SAFETY: by this function's contract.
        unsafe { x.cast::<i32>().read_unaligned() }
    }

    /// `V` vectors of 16 columns at a time, so that the sums of `R` rows stay in registers.
    ///
    /// # Safety
    /// AVX-512 F, BW, VNNI; lengths as in [`dot`](super::dot), `R` rows.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub unsafe fn vnni<const R: usize, const V: usize, const NIBBLES: bool, const LEAST: bool>(
        words: Words,
        lines: &[Line],
        scales: &[[u16; PANEL]],
        x: Rows<'_>,
        sums: &mut [[f32; PANEL]],
    ) {
        let low_half = _mm512_set1_epi8(15);
        let (a_block, a_scale) = (if NIBBLES { 4 } else { 8 }, if LEAST { 2 } else { 1 });
        for from in (0..PANEL).step_by(16 * V) {
            let mut total = [[_mm512_setzero_ps(); V]; R];
            for r in 0..R {
                for v in 0..V {
                    // SAFETY: inside of the row of sums.
                    total[r][v] = unsafe { _mm512_loadu_ps(sums[r].as_ptr().add(from + 16 * v)) };
                }
            }
            for (block, lines) in lines.chunks_exact(a_block).enumerate() {
                let mut whole = [[_mm512_setzero_si512(); V]; R];
                for r in 0..R {
                    // SAFETY: inside of the row's sums, by this function's contract.
                    let sum = unsafe { *x.sums.get_unchecked(r * x.blocks + block) };
                    whole[r] = [_mm512_set1_epi32(-words.zero * sum); V];
                }
                for (i, line) in lines.iter().enumerate() {
                    for v in 0..V {
                        // SAFETY: inside of the line.
                        let bytes = unsafe { _mm512_load_si512(line.0.as_ptr().add(from + 16 * v).cast()) };
                        for r in 0..R {
                            // SAFETY: inside of the row, by this function's contract.
                            let x = unsafe { x.x.as_ptr().add(r * x.stride + block * QUANT) };
                            if NIBBLES {
                                let low = _mm512_and_si512(bytes, low_half);
                                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), low_half);
                                // SAFETY: as above.
                                let (a, b) = unsafe { (four(x.add(8 * i)), four(x.add(8 * i + 4))) };
                                whole[r][v] = _mm512_dpbusd_epi32(whole[r][v], low, _mm512_set1_epi32(a));
                                whole[r][v] = _mm512_dpbusd_epi32(whole[r][v], high, _mm512_set1_epi32(b));
                            } else {
                                // SAFETY: as above.
                                let x = _mm512_set1_epi32(unsafe { four(x.add(4 * i)) });
                                whole[r][v] = _mm512_dpbusd_epi32(whole[r][v], bytes, x);
                            }
                        }
                    }
                }
                for v in 0..V {
                    let line = |s: usize| {
                        // SAFETY: inside of the line of scales.
                        _mm512_cvtph_ps(unsafe {
                            _mm256_loadu_si256(scales[block * a_scale + s].as_ptr().add(from + 16 * v).cast())
                        })
                    };
                    let scale = line(0);
                    for r in 0..R {
                        // SAFETY: inside of the row's scales, by this function's contract.
                        let x_scale = unsafe { *x.scales.get_unchecked(r * x.blocks + block) };
                        let both = _mm512_mul_ps(scale, _mm512_set1_ps(x_scale));
                        total[r][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole[r][v]), both, total[r][v]);
                        if LEAST {
                            // SAFETY: as above.
                            let sum = unsafe { *x.sums.get_unchecked(r * x.blocks + block) };
                            let x_sum = _mm512_set1_ps(sum as f32 * x_scale);
                            total[r][v] = _mm512_fmadd_ps(line(1), x_sum, total[r][v]);
                        }
                    }
                }
            }
            for r in 0..R {
                for v in 0..V {
                    // SAFETY: inside of the row of sums.
                    unsafe { _mm512_storeu_ps(sums[r].as_mut_ptr().add(from + 16 * v), total[r][v]) };
                }
            }
        }
    }

    /// Bytes 0 and 2 of each word, and bytes 1 and 3, are numbers of 16 bits after a mask or a shift, as are those of
    /// the row. Products of bytes would not fit into sums of 16 bits.
    ///
    /// # Safety
    /// AVX2 and FMA; lengths as in [`dot`](super::dot), `R` rows.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2<const R: usize, const V: usize, const NIBBLES: bool, const LEAST: bool>(
        words: Words,
        lines: &[Line],
        scales: &[[u16; PANEL]],
        x: Rows<'_>,
        sums: &mut [[f32; PANEL]],
    ) {
        let (even, low_half) = (_mm256_set1_epi16(255), _mm256_set1_epi8(15));
        let (a_block, a_scale) = (if NIBBLES { 4 } else { 8 }, if LEAST { 2 } else { 1 });
        let add = |sum: __m256i, bytes: __m256i, x: __m256i| {
            let low = _mm256_madd_epi16(
                _mm256_and_si256(bytes, even),
                _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x)),
            );
            let high = _mm256_madd_epi16(_mm256_srli_epi16::<8>(bytes), _mm256_srai_epi16::<8>(x));
            _mm256_add_epi32(sum, _mm256_add_epi32(low, high))
        };
        for from in (0..PANEL).step_by(8 * V) {
            let mut total = [[_mm256_setzero_ps(); V]; R];
            for r in 0..R {
                for v in 0..V {
                    // SAFETY: inside of the row of sums.
                    total[r][v] = unsafe { _mm256_loadu_ps(sums[r].as_ptr().add(from + 8 * v)) };
                }
            }
            for (block, lines) in lines.chunks_exact(a_block).enumerate() {
                let mut whole = [[_mm256_setzero_si256(); V]; R];
                for r in 0..R {
                    whole[r] = [_mm256_set1_epi32(-words.zero * x.sums[r * x.blocks + block]); V];
                }
                for (i, line) in lines.iter().enumerate() {
                    for v in 0..V {
                        // SAFETY: inside of the line.
                        let bytes = unsafe { _mm256_load_si256(line.0.as_ptr().add(from + 8 * v).cast()) };
                        for r in 0..R {
                            // SAFETY: inside of the row, by this function's contract.
                            let x = unsafe { x.x.as_ptr().add(r * x.stride + block * QUANT) };
                            if NIBBLES {
                                let low = _mm256_and_si256(bytes, low_half);
                                let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), low_half);
                                // SAFETY: as above.
                                let (a, b) = unsafe { (four(x.add(8 * i)), four(x.add(8 * i + 4))) };
                                whole[r][v] = add(whole[r][v], low, _mm256_set1_epi32(a));
                                whole[r][v] = add(whole[r][v], high, _mm256_set1_epi32(b));
                            } else {
                                // SAFETY: as above.
                                let x = _mm256_set1_epi32(unsafe { four(x.add(4 * i)) });
                                whole[r][v] = add(whole[r][v], bytes, x);
                            }
                        }
                    }
                }
                for v in 0..V {
                    let line = |s: usize| {
                        let wide: [f32; 8] =
                            std::array::from_fn(|c| widen(scales[block * a_scale + s][from + 8 * v + c]));
                        // SAFETY: eight values that are there.
                        unsafe { _mm256_loadu_ps(wide.as_ptr()) }
                    };
                    let scale = line(0);
                    for r in 0..R {
                        let x_scale = x.scales[r * x.blocks + block];
                        let both = _mm256_mul_ps(scale, _mm256_set1_ps(x_scale));
                        total[r][v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole[r][v]), both, total[r][v]);
                        if LEAST {
                            let x_sum = _mm256_set1_ps(x.sums[r * x.blocks + block] as f32 * x_scale);
                            total[r][v] = _mm256_fmadd_ps(line(1), x_sum, total[r][v]);
                        }
                    }
                }
            }
            for r in 0..R {
                for v in 0..V {
                    // SAFETY: inside of the row of sums.
                    unsafe { _mm256_storeu_ps(sums[r].as_mut_ptr().add(from + 8 * v), total[r][v]) };
                }
            }
        }
    }
}
