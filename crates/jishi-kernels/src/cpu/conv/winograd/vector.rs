//! Vectors of `f32` with the instructions of a [`Level`](crate::simd::Level), and functions that are compiled for each.

use std::arch::x86_64::*;

use super::super::super::gemm::{avx2, wide};
use super::GROUP;
use crate::memory::as_f32;

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
        // SAFETY: by this function's contract.
        unsafe { avx2::gather(data, places, count, GROUP, as_f32(out)) }
    }
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
