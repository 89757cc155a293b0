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
    /// Whether `room` is enough for `words` words a lane, and the data hold every value of the part.
    pub(super) fn check(&self, words: usize, room: usize) {
        assert!(room >= words * self.width && self.lanes <= self.width, "a panel that is too small");
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
    part.check(part.height, out.len());
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
    part.check(words, out.len());
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
    part.check(words, out.len());
    let weave = weave();
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

/// No value: see [`gather_f32`].
pub(super) const OUTSIDE: usize = usize::MAX;

/// Whether every run is inside the data.
pub(super) fn check_runs(data: &[f32], places: &[usize], count: usize) {
    let end = data.len().checked_sub(count).expect("a run that is longer than its data");
    assert!(places.iter().all(|place| *place <= end || *place == OUTSIDE), "a run outside of its data");
}

/// `data[place + at..]`, up to 16 values.
///
/// # Safety
/// AVX-512 F; the places that `mask` names are inside the data, or `place` is [`OUTSIDE`].
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_run(data: &[f32], place: usize, at: usize, mask: u32) -> __m512 {
    let (start, mask) =
        if place == OUTSIDE { (data.as_ptr(), 0) } else { (data.as_ptr().wrapping_add(place + at), mask) };
    // SAFETY: masked-out places are not read; the others are inside, by this function's contract.
    unsafe { _mm512_maskz_loadu_ps(mask as u16, start) }
}

/// Packs lanes that start at `places`, or are zero where the place is `usize::MAX`: words `[count][width]`.
///
/// # Safety
/// AVX-512 F, BW, VL.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub unsafe fn gather_f32(data: &[f32], places: &[usize], count: usize, width: usize, out: &mut [u32]) {
    check_runs(data, places, count);
    assert!(out.len() >= count * width && places.len() <= width, "a panel that is too small");
    // SAFETY: runs are inside the data and the panel takes them.
    unsafe {
        turn_words(count, places.len(), width, out, |lane, at, words| {
            _mm512_castps_si512(load_run(data, places[lane], at, bits(words)))
        });
    }
}

/// [`gather_f32`] as pairs of bfloat16: words `[count / 2][width]`.
///
/// # Safety
/// AVX-512 F, BW, VL, BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub unsafe fn gather_pairs(data: &[f32], places: &[usize], count: usize, width: usize, out: &mut [u32]) {
    check_runs(data, places, count);
    let words = count.div_ceil(2);
    assert!(out.len() >= words * width && places.len() <= width, "a panel that is too small");
    // SAFETY: runs are inside the data and the panel takes them.
    unsafe {
        turn_words(words, places.len(), width, out, |lane, at, words| {
            let (at, values) = (2 * at, (2 * words).min(count - 2 * at));
            let low = load_run(data, places[lane], at, bits(values.min(16)));
            let high = load_run(data, places[lane], at + 16, bits(values.saturating_sub(16)));
            std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
        });
    }
}

/// Copies runs of `run` values from `places` (zeros where the place is `usize::MAX`) to `out[i][..run]`, `width` words
/// apart.
///
/// # Safety
/// AVX-512 F.
#[target_feature(enable = "avx512f")]
pub unsafe fn copy_runs_f32(data: &[f32], places: &[usize], run: usize, width: usize, out: &mut [u32]) {
    check_runs(data, places, run);
    let Some(last) = places.len().checked_sub(1) else { return };
    assert!(run <= width && out.len() >= last * width + run, "a panel that is too small");
    for at in (0..run).step_by(16) {
        let mask = bits((run - at).min(16));
        for (i, place) in places.iter().enumerate() {
            // SAFETY: runs are inside the data and the panel takes them.
            unsafe {
                let values = load_run(data, *place, at, mask);
                let out = out.as_mut_ptr().add(i * width + at);
                _mm512_mask_storeu_ps(out.cast(), mask as u16, values);
            }
        }
    }
}

/// [`copy_runs_f32`] as pairs of bfloat16: runs 2i and 2i + 1 go to `out[i][..run]`.
///
/// # Safety
/// AVX-512 F, BW, BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub unsafe fn copy_runs_pairs(data: &[f32], places: &[usize], run: usize, width: usize, out: &mut [u32]) {
    check_runs(data, places, run);
    let Some(last) = places.len().div_ceil(2).checked_sub(1) else { return };
    assert!(run <= width && out.len() >= last * width + run, "a panel that is too small");
    let weave = weave();
    for at in (0..run).step_by(16) {
        let mask = bits((run - at).min(16));
        for (i, pair) in places.chunks(2).enumerate() {
            // SAFETY: runs are inside the data and the panel takes them.
            unsafe {
                let low = load_run(data, pair[0], at, mask);
                let high = load_run(data, pair.get(1).copied().unwrap_or(OUTSIDE), at, mask);
                let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
                let out = out.as_mut_ptr().add(i * width + at);
                _mm512_mask_storeu_epi32(out.cast(), mask as u16, _mm512_permutexvar_epi16(weave, both));
            }
        }
    }
}

/// Takes bfloat16 i of the lower half and of the upper half in turn.
#[inline]
#[target_feature(enable = "avx512f")]
fn weave() -> __m512i {
    let low = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    _mm512_or_si512(low, _mm512_slli_epi32::<16>(_mm512_add_epi32(low, _mm512_set1_epi32(16))))
}
