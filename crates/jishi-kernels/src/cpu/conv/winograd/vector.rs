//! Vectors of `f32` with the instructions of a [`Level`](crate::simd::Level), and functions that are compiled for each.

use std::arch::x86_64::*;

use super::super::super::gemm::wide;
use super::GROUP;

/// A vector of `f32`, and the sizes of blocks that suit its registers and the caches of machines that have it.
///
/// Vectors are made by unsafe functions alone. So arithmetic is safe: where there is a value, there are the instructions.
/// Methods are inlined into [`kernels`], where these are switched on.
pub trait Vector: Copy {
    /// Values.
    const LANES: usize;
    /// Results that are computed together: the columns of a register tile.
    const PANEL: usize = 2 * Self::LANES;
    /// Most rows of a register tile.
    const ROWS: usize;
    /// Rows of a register tile of the gradient of the filters.
    const OUTER: usize;
    /// Frequencies of a block of tiles in the gradient of the filters, about.
    const BYTES: usize;

    /// Tiles that a task turns, at most, where there are many.
    fn block(inputs: usize) -> usize;

    /// # Safety
    /// The vector's instructions.
    unsafe fn zero() -> Self;

    /// # Safety
    /// The vector's instructions; `from` points to [`Self::LANES`] values.
    unsafe fn load(from: *const f32) -> Self;

    /// Zeros where `inside` is false: then nothing is read.
    ///
    /// # Safety
    /// As [`Self::load`], where `inside`.
    unsafe fn load_if(inside: bool, from: *const f32) -> Self;

    /// # Safety
    /// `to` points to [`Self::LANES`] values.
    unsafe fn store(self, to: *mut f32);

    /// Asks for the cache line of a value that is read soon, where that was measured to help.
    fn prefetch(from: *const f32);

    fn add(self, other: Self) -> Self;

    fn sub(self, other: Self) -> Self;

    /// `self · n`.
    fn times(self, n: f32) -> Self;

    /// `self + n · other`, rounded once.
    fn add_times(self, n: f32, other: Self) -> Self;

    /// `self − n · other`, rounded once.
    fn sub_times(self, n: f32, other: Self) -> Self;

    /// `out[i][lane] = data[places[lane] + i]` for `count` values `i`.
    ///
    /// # Safety
    /// The vector's instructions, and AVX-512 BW and VL for the wide one.
    unsafe fn gather(data: &[f32], places: &[usize; GROUP], count: usize, out: &mut [u32]);
}

impl Vector for __m512 {
    const LANES: usize = 16;
    const ROWS: usize = 14;
    const OUTER: usize = 8;
    const BYTES: usize = 1 << 20;

    fn block(_: usize) -> usize {
        2 * Self::ROWS
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: AVX-512 by this function's contract.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: by this function's contract.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_if(inside: bool, from: *const f32) -> Self {
        // SAFETY: masked-out places are not read; the others are inside by this function's contract.
        unsafe { _mm512_maskz_loadu_ps(if inside { u16::MAX } else { 0 }, from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: by this function's contract.
        unsafe { _mm512_storeu_ps(to, self) }
    }

    #[inline(always)]
    fn prefetch(_: *const f32) {}

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: where there is a value, there is AVX-512.
        unsafe { _mm512_add_ps(self, other) }
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_sub_ps(self, other) }
    }

    #[inline(always)]
    fn times(self, n: f32) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_mul_ps(self, _mm512_set1_ps(n)) }
    }

    #[inline(always)]
    fn add_times(self, n: f32, other: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_fmadd_ps(_mm512_set1_ps(n), other, self) }
    }

    #[inline(always)]
    fn sub_times(self, n: f32, other: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_fnmadd_ps(_mm512_set1_ps(n), other, self) }
    }

    unsafe fn gather(data: &[f32], places: &[usize; GROUP], count: usize, out: &mut [u32]) {
        // SAFETY: by this function's contract.
        unsafe { wide::gather_f32(data, places, count, GROUP, out) }
    }
}

impl Vector for __m256 {
    const LANES: usize = 8;
    const ROWS: usize = 6;
    const OUTER: usize = 6;
    const BYTES: usize = 1 << 20;

    /// As few as the second-level cache likes, but more where the filters, which each block reads, are large themselves.
    fn block(inputs: usize) -> usize {
        (inputs / 64).clamp(2, 4) * Self::ROWS
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: AVX2 by this function's contract.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: by this function's contract.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_if(inside: bool, from: *const f32) -> Self {
        static ZEROS: [f32; 8] = [0.0; 8];
        // SAFETY: the zeros are as many as a vector's values; `from` is inside by this function's contract.
        unsafe { _mm256_loadu_ps(if inside { from } else { ZEROS.as_ptr() }) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: by this function's contract.
        unsafe { _mm256_storeu_ps(to, self) }
    }

    #[inline(always)]
    fn prefetch(from: *const f32) {
        // SAFETY: every x86-64 has the instruction, and it reads nothing that the program sees, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: where there is a value, there are AVX2 and FMA.
        unsafe { _mm256_add_ps(self, other) }
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_sub_ps(self, other) }
    }

    #[inline(always)]
    fn times(self, n: f32) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_mul_ps(self, _mm256_set1_ps(n)) }
    }

    #[inline(always)]
    fn add_times(self, n: f32, other: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_fmadd_ps(_mm256_set1_ps(n), other, self) }
    }

    #[inline(always)]
    fn sub_times(self, n: f32, other: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_fnmadd_ps(_mm256_set1_ps(n), other, self) }
    }

    unsafe fn gather(data: &[f32], places: &[usize; GROUP], count: usize, out: &mut [u32]) {
        assert!(out.len() >= count * GROUP, "a panel that is too small");
        let end = data.len().checked_sub(count).expect("a run that is longer than its data");
        assert!(places.iter().all(|place| *place <= end), "a run outside of its data");
        // SAFETY: lengths were checked; AVX2 by this function's contract.
        unsafe { gather(data.as_ptr(), places, count, out.as_mut_ptr().cast()) }
    }
}

/// [`Vector::gather`] with AVX2: blocks of 8 × 8 values are turned in registers.
///
/// # Safety
/// AVX2; `data` points to `count` values from each place on, `out` to `[count, 16]`.
#[target_feature(enable = "avx2")]
unsafe fn gather(data: *const f32, places: &[usize; GROUP], count: usize, out: *mut f32) {
    let whole = count / 8 * 8;
    for lane in [0, 8] {
        for at in (0..whole).step_by(8) {
            let mut rows = [_mm256_setzero_ps(); 8];
            for (row, place) in rows.iter_mut().zip(&places[lane..]) {
                // SAFETY: inside of the run.
                *row = unsafe { _mm256_loadu_ps(data.add(place + at)) };
            }
            for (i, column) in turn(rows).iter().enumerate() {
                // SAFETY: inside of `out`.
                unsafe { _mm256_storeu_ps(out.add((at + i) * GROUP + lane), *column) };
            }
        }
    }
    for at in whole..count {
        for (lane, place) in places.iter().enumerate() {
            // SAFETY: inside of the run and of `out`.
            unsafe { *out.add(at * GROUP + lane) = *data.add(place + at) };
        }
    }
}

/// Rows of 8 values to columns.
#[inline]
#[target_feature(enable = "avx2")]
fn turn(r: [__m256; 8]) -> [__m256; 8] {
    // Instructions work on halves: `a` holds columns i and 4 + i of rows 0 to 3, `b` of rows 4 to 7.
    let low = |a: usize| _mm256_unpacklo_ps(r[a], r[a + 1]);
    let high = |a: usize| _mm256_unpackhi_ps(r[a], r[a + 1]);
    let four = |a: __m256, b: __m256| [_mm256_shuffle_ps::<0x44>(a, b), _mm256_shuffle_ps::<0xee>(a, b)];
    let ([a0, a1], [a2, a3]) = (four(low(0), low(2)), four(high(0), high(2)));
    let ([b0, b1], [b2, b3]) = (four(low(4), low(6)), four(high(4), high(6)));
    let first = |a, b| _mm256_permute2f128_ps::<0x20>(a, b);
    let second = |a, b| _mm256_permute2f128_ps::<0x31>(a, b);
    [
        first(a0, b0),
        first(a1, b1),
        first(a2, b2),
        first(a3, b3),
        second(a0, b0),
        second(a1, b1),
        second(a2, b2),
        second(a3, b3),
    ]
}

/// Declares functions over a [`Vector`], its type first, that are compiled with its instructions. Bodies must
/// consist of loops and of functions that are always inlined.
macro_rules! kernels {
    ($($(#[$meta:meta])* $vis:vis unsafe fn $name:ident<$vector:ident $(, const $n:ident)?>
        ($($arg:ident : $ty:ty),* $(,)?) $body:block)+) => {$(
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis unsafe fn $name<$vector: Vector $(, const $n: usize)?>($($arg: $ty),*) {
            #[inline(always)]
            unsafe fn body<$vector: Vector $(, const $n: usize)?>($($arg: $ty),*) $body
            #[target_feature(enable = "avx512f")]
            unsafe fn wide$(<const $n: usize>)?($($arg: $ty),*) {
                // SAFETY: by this function's contract.
                unsafe { body::<std::arch::x86_64::__m512 $(, $n)?>($($arg),*) }
            }
            #[target_feature(enable = "avx2,fma")]
            unsafe fn narrow$(<const $n: usize>)?($($arg: $ty),*) {
                // SAFETY: by this function's contract.
                unsafe { body::<std::arch::x86_64::__m256 $(, $n)?>($($arg),*) }
            }
            // SAFETY: by this function's contract; the number of lanes tells the vector.
            unsafe {
                match $vector::LANES {
                    16 => wide$(::<$n>)?($($arg),*),
                    _ => narrow$(::<$n>)?($($arg),*),
                }
            }
        }
    )+};
}
pub(super) use kernels;
