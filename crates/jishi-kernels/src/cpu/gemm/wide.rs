//! Packing of strided matrices with AVX-512: 16 lanes of 16 words are turned in registers.

use std::arch::x86_64::*;

use super::pack::Value;

/// A strided matrix and the part of it that is packed; see [`Source::pack`](super::Source::pack).
#[derive(Clone, Copy)]
pub struct Part<'a, T> {
    /// Starts at the part's first value.
    pub data: &'a [T],
    pub lane_stride: usize,
    pub step: usize,
    pub lanes: usize,
    pub width: usize,
    pub height: usize,
}

impl<T: Value> Part<'_, T> {
    /// Whether `out` takes `words` words a lane, and the data hold every value of the part.
    fn check(&self, words: usize, out: &[u32]) {
        assert!(out.len() >= words * self.width && self.lanes <= self.width, "a panel that is too small");
        if self.lanes > 0 && self.height > 0 {
            let last = (self.lanes - 1) * self.lane_stride + (self.height - 1) * self.step;
            assert!(last < self.data.len(), "a matrix that is too small");
        }
    }

    /// Values of one lane, 16 from `at` on, as `f32`.
    ///
    /// # Safety
    /// AVX-512; the lane is one of the part's, and `mask` has no bit for values beyond `height`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn along(&self, lane: usize, at: usize, mask: u32) -> __m512 {
        // SAFETY: masked-out places are not read; the others are inside, by this function's contract.
        unsafe {
            let start = self.data.as_ptr().wrapping_add(lane * self.lane_stride + at);
            if T::IS_BF16 {
                let half = _mm256_maskz_loadu_epi16(mask as u16, start.cast());
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)))
            } else {
                _mm512_maskz_loadu_ps(mask as u16, start.cast())
            }
        }
    }
}

fn bits(count: usize) -> u32 {
    if count >= 32 { u32::MAX } else { (1 << count) - 1 }
}

/// Rows of 16 words to columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn turn(rows: &mut [__m512i; 16]) {
    let r = *rows;
    let mut s = r;
    for i in 0..8 {
        s[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        s[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    let mut t = s;
    for i in 0..4 {
        t[4 * i] = _mm512_unpacklo_epi64(s[4 * i], s[4 * i + 2]);
        t[4 * i + 1] = _mm512_unpackhi_epi64(s[4 * i], s[4 * i + 2]);
        t[4 * i + 2] = _mm512_unpacklo_epi64(s[4 * i + 1], s[4 * i + 3]);
        t[4 * i + 3] = _mm512_unpackhi_epi64(s[4 * i + 1], s[4 * i + 3]);
    }
    // Each quarter of t[4i + j] holds column 4q + j of rows 4i..4i + 4.
    for j in 0..4 {
        let low = _mm512_shuffle_i32x4::<0x88>(t[j], t[4 + j]);
        let high = _mm512_shuffle_i32x4::<0xdd>(t[j], t[4 + j]);
        let low2 = _mm512_shuffle_i32x4::<0x88>(t[8 + j], t[12 + j]);
        let high2 = _mm512_shuffle_i32x4::<0xdd>(t[8 + j], t[12 + j]);
        rows[j] = _mm512_shuffle_i32x4::<0x88>(low, low2);
        rows[4 + j] = _mm512_shuffle_i32x4::<0x88>(high, high2);
        rows[8 + j] = _mm512_shuffle_i32x4::<0xdd>(low, low2);
        rows[12 + j] = _mm512_shuffle_i32x4::<0xdd>(high, high2);
    }
}

/// Packs lanes that are contiguous in themselves: words `[height][width]` of `f32`.
///
/// # Safety
/// AVX-512 F, BW, VL.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub unsafe fn turn_f32<T: Value>(part: &Part<'_, T>, out: &mut [u32]) {
    part.check(part.height, out);
    // SAFETY: `check` saw that the part is inside its data and the panel.
    unsafe {
        turn_words(part.height, part.lanes, part.width, out, |lane, at, words| {
            _mm512_castps_si512(part.along(lane, at, bits(words)))
        });
    }
}

/// Packs lanes that are contiguous in themselves as pairs of bfloat16: words `[height / 2][width]`.
///
/// # Safety
/// AVX-512 F, BW, VL, BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub unsafe fn turn_pairs<T: Value>(part: &Part<'_, T>, out: &mut [u32]) {
    let words = part.height.div_ceil(2);
    part.check(words, out);
    // SAFETY: `check` saw that the part is inside its data and the panel.
    unsafe {
        turn_words(words, part.lanes, part.width, out, |lane, at, words| {
            let (at, count) = (2 * at, (2 * words).min(part.height - 2 * at));
            if T::IS_BF16 {
                let start = part.data.as_ptr().wrapping_add(lane * part.lane_stride + at);
                return _mm512_maskz_loadu_epi16(bits(count), start.cast());
            }
            let low = part.along(lane, at, bits(count.min(16)));
            let high = part.along(lane, at + 16, bits(count.saturating_sub(16)));
            std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
        });
    }
}

/// # Safety
/// AVX-512 F, BW, VL; `out` holds `words · width` words; `load(lane, at, count)` gives words `at..at + count` of a lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn turn_words(
    words: usize,
    lanes: usize,
    width: usize,
    out: &mut [u32],
    load: impl Fn(usize, usize, usize) -> __m512i,
) {
    for first in (0..width).step_by(16) {
        let used = lanes.saturating_sub(first).min(16);
        let mask = bits((width - first).min(16)) as u16;
        for at in (0..words).step_by(16) {
            let count = (words - at).min(16);
            let mut rows = [_mm512_setzero_si512(); 16];
            for (r, row) in rows.iter_mut().enumerate() {
                if r < used {
                    *row = load(first + r, at, count);
                }
            }
            turn(&mut rows);
            for (i, row) in rows.iter().enumerate() {
                if i < count {
                    // SAFETY: inside of `out`, by this function's contract and the mask.
                    unsafe {
                        let place = out.as_mut_ptr().add((at + i) * width + first);
                        _mm512_mask_storeu_epi32(place.cast(), mask, *row);
                    }
                }
            }
        }
    }
}

/// Packs lanes that are contiguous beside each other as pairs of bfloat16: words `[height / 2][width]`.
///
/// # Safety
/// AVX-512 F, BW, VL, BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub unsafe fn copy_pairs<T: Value>(part: &Part<'_, T>, out: &mut [u32]) {
    let words = part.height.div_ceil(2);
    part.check(words, out);
    // Takes bfloat16 i of the lower half and of the upper half in turn.
    let weave = {
        let low = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        _mm512_or_si512(low, _mm512_slli_epi32::<16>(_mm512_add_epi32(low, _mm512_set1_epi32(16))))
    };
    for at in 0..words {
        let odd = 2 * at + 1 < part.height;
        for first in (0..part.width).step_by(16) {
            let used = bits(part.lanes.saturating_sub(first).min(16)) as u16;
            let mask = bits((part.width - first).min(16)) as u16;
            let start = part.data.as_ptr().wrapping_add(2 * at * part.step + first);
            let next = start.wrapping_add(part.step);
            let used_next = if odd { used } else { 0 };
            // SAFETY: masked-out places are not touched; the others are inside, as `check` saw.
            unsafe {
                let both = if T::IS_BF16 {
                    let low = _mm256_maskz_loadu_epi16(used, start.cast());
                    let high = _mm256_maskz_loadu_epi16(used_next, next.cast());
                    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
                } else {
                    let low = _mm512_maskz_loadu_ps(used, start.cast());
                    let high = _mm512_maskz_loadu_ps(used_next, next.cast());
                    std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
                };
                let place = out.as_mut_ptr().add(at * part.width + first);
                _mm512_mask_storeu_epi32(place.cast(), mask, _mm512_permutexvar_epi16(weave, both));
            }
        }
    }
}
