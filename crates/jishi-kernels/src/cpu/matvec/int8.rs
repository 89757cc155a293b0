//! Rows of 16-bit whole numbers times a panel of bytes, with exact sums in 32 bits.
//!
//! A block's sum is at most 128 · 32767 · 127 < 2³¹. Every level computes the same whole numbers.

use super::{BLOCK, Line, PANEL};
use crate::multiversion;
use crate::simd::{Level, madd};

/// The lowest bit of an input's byte in its word: inputs 0 and 1 are in bytes 0 and 2, inputs 2 and 3 in bytes 1
/// and 3, so that two shifts widen all to 16 bits with the inputs of a pair beside each other.
#[inline(always)]
pub fn byte(input: usize) -> u32 {
    [0, 16, 8, 24][input % 4]
}

/// Steps of a block.
const STEPS: usize = BLOCK / 4;

multiversion! {
    /// Rounds a row to whole numbers in ±32767, with one scale for each block.
    pub(super) fn quantise(x: &[f32], whole: &mut [i16], scales: &mut [f32]) {
        for ((x, whole), scale) in x.chunks(BLOCK).zip(whole.chunks_mut(BLOCK)).zip(scales) {
            let (mut largest, mut nothing) = ([0.0f32; 16], [0.0f32; 16]);
            for x in x.chunks(16) {
                for ((l, n), x) in largest.iter_mut().zip(&mut nothing).zip(x) {
                    let a = x.abs();
                    *l = if a > *l { a } else { *l };
                    *n += x * 0.0;
                }
            }
            let largest = largest.iter().fold(0.0f32, |a, b| a.max(*b));
            // Zero, or NaN where a value is not finite.
            *scale = largest / 32_767.0 + nothing.iter().sum::<f32>();
            let inverse = if largest > 0.0 { 32_767.0 / largest } else { 0.0 };
            for (w, x) in whole.iter_mut().zip(x) {
                // To nearest even, by the magic number 1.5 · 2²³.
                let rounded = x * inverse + 12_582_912.0;
                *w = (rounded.to_bits().wrapping_sub(12_582_912.0f32.to_bits())) as i16;
            }
        }
    }
}

/// Sets `sums` to the products of as many rows with a panel.
///
/// # Panics
/// When slices are too short for the panel, or there are more than four rows.
pub fn dot(
    level: Level,
    lines: &[Line],
    scales: &[[f32; PANEL]],
    x: &[i16],
    stride: usize,
    x_scales: &[f32],
    sums: &mut [[f32; PANEL]],
) {
    let (rows, blocks) = (sums.len(), lines.len().div_ceil(STEPS));
    if rows == 0 {
        return;
    }
    assert!(
        scales.len() == blocks
            && x.len() >= (rows - 1) * stride + lines.len() * 4
            && x_scales.len() >= rows * blocks,
        "rows that are too short"
    );
    #[cfg(target_arch = "x86_64")]
    macro_rules! rows {
        ($f:ident) => {
            // SAFETY: the level has these instructions; lengths were checked.
            unsafe {
                match rows {
                    1 => x86::$f::<1>(lines, scales, x, stride, x_scales, sums),
                    2 => x86::$f::<2>(lines, scales, x, stride, x_scales, sums),
                    3 => x86::$f::<3>(lines, scales, x, stride, x_scales, sums),
                    4 => x86::$f::<4>(lines, scales, x, stride, x_scales, sums),
                    _ => panic!("more rows than a pass serves"),
                }
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
                plain(level, lines, scales, &x[r * stride..], &x_scales[r * blocks..], sums);
            }
        }
    }
}

multiversion! {
    fn plain(lines: &[Line], scales: &[[f32; PANEL]], x: &[i16], x_scales: &[f32], sums: &mut [f32; PANEL]) {
        *sums = [0.0; PANEL];
        for (block, lines) in lines.chunks(STEPS).enumerate() {
            let mut whole = [0i32; PANEL];
            for (Line(words), x) in lines.iter().zip(x[block * BLOCK..].chunks_exact(4)) {
                for (i, x) in x.iter().enumerate() {
                    let (shift, x) = (byte(i), i32::from(*x));
                    for (sum, w) in whole.iter_mut().zip(words) {
                        *sum += ((*w >> shift << 24).cast_signed() >> 24) * x;
                    }
                }
            }
            for ((sum, whole), scale) in sums.iter_mut().zip(&whole).zip(&scales[block]) {
                *sum = madd::<FMA>(*whole as f32, scale * x_scales[block], *sum);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(clippy::needless_range_loop)]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK, Line, PANEL, STEPS};

    /// Bytes 0 and 2 of each word, which hold two inputs that follow each other, are widened to 16 bits in place, as
    /// are bytes 1 and 3; each pair is multiplied with the row's pair and added to the word's sum.
    ///
    /// # Safety
    /// AVX-512 F, BW, VNNI; lengths as in [`dot`](super::dot), `R` rows.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub unsafe fn vnni<const R: usize>(
        lines: &[Line],
        scales: &[[f32; PANEL]],
        x: &[i16],
        stride: usize,
        x_scales: &[f32],
        sums: &mut [[f32; PANEL]],
    ) {
        const V: usize = PANEL / 16;
        let mut total = [[_mm512_setzero_ps(); V]; R];
        for (block, lines) in lines.chunks(STEPS).enumerate() {
            let (mut even, mut odd) = ([[_mm512_setzero_si512(); V]; R], [[_mm512_setzero_si512(); V]; 1]);
            for (i, line) in lines.iter().enumerate() {
                for v in 0..V {
                    // SAFETY: inside of the line.
                    let bytes = unsafe { _mm512_load_si512(line.0.as_ptr().add(16 * v).cast()) };
                    let low = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(bytes));
                    let high = _mm512_srai_epi16::<8>(bytes);
                    for r in 0..R {
                        // SAFETY: inside of the row, by this function's contract.
                        let (first, second) = unsafe {
                            let x = x.as_ptr().add(r * stride + block * BLOCK + 4 * i);
                            (_mm512_set1_epi32(pair(x)), _mm512_set1_epi32(pair(x.add(2))))
                        };
                        even[r][v] = _mm512_dpwssd_epi32(even[r][v], low, first);
                        if R == 1 {
                            odd[0][v] = _mm512_dpwssd_epi32(odd[0][v], high, second);
                        } else {
                            even[r][v] = _mm512_dpwssd_epi32(even[r][v], high, second);
                        }
                    }
                }
            }
            for r in 0..R {
                let x_scale = _mm512_set1_ps(x_scales[r * scales.len() + block]);
                for v in 0..V {
                    let mut whole = even[r][v];
                    if R == 1 {
                        whole = _mm512_add_epi32(whole, odd[0][v]);
                    }
                    // SAFETY: inside of the line of scales.
                    let scale = unsafe { _mm512_loadu_ps(scales[block].as_ptr().add(16 * v)) };
                    let scale = _mm512_mul_ps(scale, x_scale);
                    total[r][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), scale, total[r][v]);
                }
            }
        }
        for r in 0..R {
            for v in 0..V {
                // SAFETY: inside of the row of sums.
                unsafe { _mm512_storeu_ps(sums[r].as_mut_ptr().add(16 * v), total[r][v]) };
            }
        }
    }

    /// Two values of a row as one word.
    ///
    /// # Safety
    /// They can be read.
    #[inline(always)]
    unsafe fn pair(x: *const i16) -> i32 {
        // SAFETY: by this function's contract.
        unsafe { x.cast::<i32>().read_unaligned() }
    }

    /// [`vnni`] in 256 bits, a quarter of the panel at a time.
    ///
    /// # Safety
    /// AVX2 and FMA; lengths as in [`dot`](super::dot), `R` rows.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2<const R: usize>(
        lines: &[Line],
        scales: &[[f32; PANEL]],
        x: &[i16],
        stride: usize,
        x_scales: &[f32],
        sums: &mut [[f32; PANEL]],
    ) {
        const V: usize = 2;
        for quarter in 0..PANEL / 16 {
            let mut total = [[_mm256_setzero_ps(); V]; R];
            for (block, lines) in lines.chunks(STEPS).enumerate() {
                let mut whole = [[_mm256_setzero_si256(); V]; R];
                for (i, line) in lines.iter().enumerate() {
                    for v in 0..V {
                        // SAFETY: inside of the line.
                        let bytes =
                            unsafe { _mm256_load_si256(line.0.as_ptr().add(16 * quarter + 8 * v).cast()) };
                        let low = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes));
                        let high = _mm256_srai_epi16::<8>(bytes);
                        for r in 0..R {
                            // SAFETY: inside of the row, by this function's contract.
                            let (first, second) = unsafe {
                                let x = x.as_ptr().add(r * stride + block * BLOCK + 4 * i);
                                (_mm256_set1_epi32(pair(x)), _mm256_set1_epi32(pair(x.add(2))))
                            };
                            let low = _mm256_madd_epi16(low, first);
                            let high = _mm256_madd_epi16(high, second);
                            whole[r][v] = _mm256_add_epi32(whole[r][v], _mm256_add_epi32(low, high));
                        }
                    }
                }
                for r in 0..R {
                    let x_scale = _mm256_set1_ps(x_scales[r * scales.len() + block]);
                    for v in 0..V {
                        // SAFETY: inside of the line of scales.
                        let scale =
                            unsafe { _mm256_loadu_ps(scales[block].as_ptr().add(16 * quarter + 8 * v)) };
                        let scale = _mm256_mul_ps(scale, x_scale);
                        total[r][v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole[r][v]), scale, total[r][v]);
                    }
                }
            }
            for r in 0..R {
                for v in 0..V {
                    let at = 16 * quarter + 8 * v;
                    // SAFETY: inside of the row of sums.
                    unsafe { _mm256_storeu_ps(sums[r].as_mut_ptr().add(at), total[r][v]) };
                }
            }
        }
    }
}
