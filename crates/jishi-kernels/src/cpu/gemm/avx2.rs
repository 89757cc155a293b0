//! Packing of strided matrices with AVX2: 8 lanes of 8 values are turned in registers.

use std::arch::x86_64::*;

use super::pack::Value;
use super::wide::{OUTSIDE, Part, check_runs};

/// Lanes that are turned together, and values of each.
const SIDE: usize = 8;

/// Packs lanes that are contiguous in themselves: `out[height][width]`.
///
/// # Safety
/// AVX2.
#[target_feature(enable = "avx2")]
pub unsafe fn turn<T: Value>(part: &Part<'_, T>, out: &mut [f32]) {
    part.check(part.height, out.len());
    // SAFETY: `check` saw that the part is inside its data and the panel.
    unsafe {
        turn_lanes([part.height, part.lanes, part.width], out, |lane, at, count| {
            load(part.data.as_ptr().add(lane * part.lane_stride + at), count)
        });
    }
}

/// Packs lanes that start at `places`, or are zero where the place is `usize::MAX`: `out[count][width]`.
///
/// # Safety
/// AVX2.
#[target_feature(enable = "avx2")]
pub unsafe fn gather(data: &[f32], places: &[usize], count: usize, width: usize, out: &mut [f32]) {
    check_runs(data, places, count);
    assert!(out.len() >= count * width && places.len() <= width, "a panel that is too small");
    // SAFETY: runs are inside the data and the panel takes them.
    unsafe {
        turn_lanes([count, places.len(), width], out, |lane, at, count| match places[lane] {
            OUTSIDE => _mm256_setzero_ps(),
            place => load(data.as_ptr().add(place + at), count),
        });
    }
}

/// # Safety
/// AVX2; `out` holds `height · width` values; `load(lane, at, count)` gives values `at..at + count` of a lane.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn turn_lanes(
    [height, lanes, width]: [usize; 3],
    out: &mut [f32],
    load: impl Fn(usize, usize, usize) -> __m256,
) {
    for first in (0..width).step_by(SIDE) {
        let used = lanes.saturating_sub(first).min(SIDE);
        let columns = (width - first).min(SIDE);
        for at in (0..height).step_by(SIDE) {
            let count = (height - at).min(SIDE);
            let mut rows = [_mm256_setzero_ps(); SIDE];
            for (r, row) in rows.iter_mut().enumerate() {
                if r < used {
                    *row = load(first + r, at, count);
                }
            }
            for (i, row) in turn_block(&rows).iter().enumerate() {
                if i < count {
                    // SAFETY: `columns` values of row `at + i` are inside of `out`, by this function's contract.
                    unsafe { store(*row, out.as_mut_ptr().add((at + i) * width + first), columns) };
                }
            }
        }
    }
}

/// `count` values, and zeros up to 8.
///
/// # Safety
/// AVX2; `count` values can be read.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load<T: Value>(from: *const T, count: usize) -> __m256 {
    // SAFETY: by this function's contract.
    unsafe {
        if count < SIDE {
            let mut values = [0.0f32; SIDE];
            for (i, v) in values.iter_mut().enumerate().take(count) {
                *v = from.add(i).read().widen();
            }
            _mm256_loadu_ps(values.as_ptr())
        } else if T::IS_BF16 {
            let half = _mm_loadu_si128(from.cast());
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(half)))
        } else {
            _mm256_loadu_ps(from.cast())
        }
    }
}

/// The first `count` values. (A masked store takes tens of cycles on AMD's processors.)
///
/// # Safety
/// AVX2; `count` values can be written.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store(row: __m256, to: *mut f32, count: usize) {
    // SAFETY: by this function's contract.
    unsafe {
        match count {
            SIDE => _mm256_storeu_ps(to, row),
            6 => {
                _mm_storeu_ps(to, _mm256_castps256_ps128(row));
                _mm_storel_epi64(to.add(4).cast(), _mm256_extracti128_si256::<1>(_mm256_castps_si256(row)));
            }
            _ => {
                let mut values = [0.0f32; SIDE];
                _mm256_storeu_ps(values.as_mut_ptr(), row);
                to.copy_from_nonoverlapping(values.as_ptr(), count.min(SIDE));
            }
        }
    }
}

/// Rows of 8 values to columns.
#[inline]
#[target_feature(enable = "avx2")]
fn turn_block(rows: &[__m256; SIDE]) -> [__m256; SIDE] {
    let mut pairs = *rows;
    for i in 0..4 {
        pairs[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    let mut fours = pairs;
    for i in 0..2 {
        let [a, b, c, d] = [pairs[4 * i], pairs[4 * i + 1], pairs[4 * i + 2], pairs[4 * i + 3]];
        fours[4 * i] = _mm256_shuffle_ps::<0x44>(a, c);
        fours[4 * i + 1] = _mm256_shuffle_ps::<0xee>(a, c);
        fours[4 * i + 2] = _mm256_shuffle_ps::<0x44>(b, d);
        fours[4 * i + 3] = _mm256_shuffle_ps::<0xee>(b, d);
    }
    // Each half of fours[4i + j] holds column 4h + j of rows 4i..4i + 4.
    let mut out = fours;
    for j in 0..4 {
        out[j] = _mm256_permute2f128_ps::<0x20>(fours[j], fours[4 + j]);
        out[4 + j] = _mm256_permute2f128_ps::<0x31>(fours[j], fours[4 + j]);
    }
    out
}
