//! Register tiles: the product of a panel of A (`rows` lanes) and a panel of B (`columns` lanes).
//!
//! Panels are words. Word `[i][lane]` is value i of a lane, or, where an instruction multiplies pairs of bfloat16, values
//! 2i and 2i + 1. Without such an instruction, factors are rounded to bfloat16 when they are packed, and multiplied as
//! `f32`: the same products, at the speed of `f32`.

use std::mem::MaybeUninit;

use super::Precision;
use super::pack::{Left, Source, round_bits};
use crate::memory::as_f32;
use crate::multiversion;
use crate::simd::Level;

/// The shape of a tile and what multiplies it.
#[derive(Debug, Clone, Copy)]
pub struct Tile {
    pub rows: usize,
    pub columns: usize,
    /// Words of k in a slice of a product, at most.
    pub slice: usize,
    /// Rows of A in a task's block, about: with a slice's words, what a second-level cache holds beside panels of B.
    pub block: usize,
    factors: Factors,
    kernel: Kernel,
}

/// What words of a panel hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Factors {
    F32,
    /// `f32` that was rounded to bfloat16.
    Rounded,
    /// Two bfloat16.
    Pairs,
}

#[derive(Debug, Clone, Copy)]
enum Kernel {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
}

/// The sums of the largest tile.
#[repr(C, align(64))]
pub struct Sums([MaybeUninit<f32>; 14 * 32]);

impl Sums {
    #[inline(always)]
    pub fn new() -> Self {
        Self([MaybeUninit::uninit(); 14 * 32])
    }
}

impl Tile {
    pub fn of(level: Level, precision: Precision) -> Self {
        let factors = match (precision, level) {
            (Precision::F32, _) => Factors::F32,
            (Precision::Bf16, Level::Avx512Bf16) => Factors::Pairs,
            (Precision::Bf16, _) => Factors::Rounded,
        };
        // Slices and blocks were measured on processors of 1 MiB (AVX-512) and 512 KiB (AVX2) of second-level cache.
        let tile = |[rows, columns]: [usize; 2], [slice, block]: [usize; 2], kernel| Self {
            rows,
            columns,
            slice,
            block,
            factors,
            kernel,
        };
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 if factors == Factors::Pairs => tile([14, 32], [384, 256], Kernel::Avx512Bf16),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Avx512Bf16 => tile([14, 32], [384, 256], Kernel::Avx512),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => tile([6, 16], [768, 72], Kernel::Avx2),
            _ => tile([4, 16], [384, 256], Kernel::Plain),
        }
    }

    /// Words of one lane.
    #[inline]
    pub fn words(&self, k: usize) -> usize {
        if self.factors == Factors::Pairs { k.div_ceil(2) } else { k }
    }

    #[allow(clippy::too_many_arguments)]
    pub fn pack(
        &self,
        level: Level,
        source: &impl Source,
        lane: usize,
        lanes: usize,
        width: usize,
        from: usize,
        height: usize,
        out: &mut [u32],
    ) {
        if self.factors == Factors::Pairs {
            source.pack_pairs(level, lane, lanes, width, from, height, out);
            return;
        }
        source.pack(level, lane, lanes, width, from, height, as_f32(out));
        if self.factors == Factors::Rounded && !source.is_bf16() {
            round_in_place(level, as_f32(out));
        }
    }

    /// Lanes of A that are multiplied where they are, without packing: where each is used by few panels of B.
    pub fn reads<'s>(&self, a: &'s impl Source, lane: usize, from: usize, panels: usize) -> Option<Left<'s>> {
        #[cfg(target_arch = "x86_64")]
        if self.factors == Factors::F32 && matches!(self.kernel, Kernel::Avx2) {
            return a
                .in_place(lane, from)
                .filter(|left| panels <= if left.step == 1 { ROWS_IN_PLACE } else { COLUMNS_IN_PLACE });
        }
        let _ = (a, lane, from, panels);
        None
    }

    /// `sums[rows][columns]`, of which the first `rows` rows are set: the product of lanes of A and a panel of B.
    #[inline]
    pub fn multiply<'s>(&self, rows: usize, a: Left<'_>, b: &[u32], sums: &'s mut Sums) -> &'s mut [f32] {
        let height = b.len() / self.columns;
        let end = |rows: usize| match height {
            0 => 0,
            _ => (rows - 1) * a.lane_stride + (height - 1) * a.step + 1,
        };
        let packed = a.lane_stride == 1 && a.step == self.rows;
        assert!(
            b.len() == height * self.columns
                && (1..=self.rows).contains(&rows)
                && end(rows) <= a.words.len()
                && self.rows * self.columns <= sums.0.len(),
            "panels of different heights"
        );
        let (words, b, out) = (a.words.as_ptr(), b.as_ptr(), sums.0.as_mut_ptr().cast::<f32>());
        let whole = || assert!(packed && end(self.rows) <= a.words.len(), "lanes that are not packed");
        // SAFETY: a tile of a kind is made only for a level that has its instructions; lengths were checked; each kernel
        // writes all of the rows that are given out.
        unsafe {
            match self.kernel {
                Kernel::Plain => {
                    whole();
                    plain(height, words, b, out);
                }
                #[cfg(target_arch = "x86_64")]
                Kernel::Avx2 => {
                    let kernel = match (a.lane_stride, a.step) {
                        (1, 6) => avx2_kernel::<PANEL>(rows),
                        (_, 1) => avx2_kernel::<ROWS>(rows),
                        _ => avx2_kernel::<COLUMNS>(rows),
                    };
                    assert!(a.lane_stride == 1 || a.step == 1, "lanes that are neither rows nor columns");
                    kernel(height, words.cast(), a.lane_stride.max(a.step), b.cast(), out);
                }
                #[cfg(target_arch = "x86_64")]
                Kernel::Avx512 => {
                    whole();
                    avx512(height, words, b, out);
                }
                #[cfg(target_arch = "x86_64")]
                Kernel::Avx512Bf16 => {
                    whole();
                    avx512_bf16(height, words, b, out);
                }
            }
            std::slice::from_raw_parts_mut(out, rows * self.columns)
        }
    }
}

/// Panels of B up to which lanes that are contiguous in themselves are read where they are. A panel of A is one stream that
/// starts at a line; making it takes about as long as multiplying it with one panel of B.
#[cfg(target_arch = "x86_64")]
const ROWS_IN_PLACE: usize = 16;
/// The same for lanes beside each other, of which every value comes from another line.
#[cfg(target_arch = "x86_64")]
const COLUMNS_IN_PLACE: usize = 2;

multiversion! {
    /// Rounds to bfloat16, and stays `f32`.
    fn round_in_place(values: &mut [f32]) {
        for v in values {
            *v = f32::from_bits(round_bits(*v) << 16);
        }
    }
}

/// 4 × 16 in vectors of any width.
///
/// # Safety
/// `a`, `b` and `out` point to `4 · height`, `16 · height` and `64` words.
unsafe fn plain(height: usize, a: *const u32, b: *const u32, out: *mut f32) {
    let mut sums = [[0.0f32; 16]; 4];
    // SAFETY: every access is inside of the lengths that the caller promises.
    unsafe {
        for i in 0..height {
            let (a, b) = (&*a.add(i * 4).cast::<[f32; 4]>(), &*b.add(i * 16).cast::<[f32; 16]>());
            for (row, a) in sums.iter_mut().zip(a) {
                for (s, b) in row.iter_mut().zip(b) {
                    *s += a * b;
                }
            }
        }
        out.cast::<[[f32; 16]; 4]>().write(sums);
    }
}

/// How lanes of A lie in memory, so that a kernel has constants for what does not change: a panel of six,
#[cfg(target_arch = "x86_64")]
const PANEL: u8 = 0;
/// lanes that are contiguous in themselves,
#[cfg(target_arch = "x86_64")]
const ROWS: u8 = 1;
/// or beside each other.
#[cfg(target_arch = "x86_64")]
const COLUMNS: u8 = 2;

#[cfg(target_arch = "x86_64")]
type Avx2Kernel = unsafe fn(usize, *const f32, usize, *const f32, *mut f32);

#[cfg(target_arch = "x86_64")]
fn avx2_kernel<const LANES: u8>(rows: usize) -> Avx2Kernel {
    match rows {
        1 => avx2::<1, LANES>,
        2 => avx2::<2, LANES>,
        3 => avx2::<3, LANES>,
        4 => avx2::<4, LANES>,
        5 => avx2::<5, LANES>,
        _ => avx2::<6, LANES>,
    }
}

/// `R` × 16, up to 6 × 16: twelve sums, two vectors of B, one value of A.
///
/// # Safety
/// `stride` is from a lane of A to the next ([`ROWS`]) or from a value to the next ([`COLUMNS`]), and all of `R` lanes of `height`
/// values can be read; `b` and `out` point to `16 · height` and `16 · R` values.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const R: usize, const LANES: u8>(
    height: usize,
    a: *const f32,
    stride: usize,
    b: *const f32,
    out: *mut f32,
) {
    use std::arch::x86_64::*;
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    let (lane_stride, step) = match LANES {
        PANEL => (1, 6),
        ROWS => (stride, 1),
        _ => (1, stride),
    };
    // SAFETY: every access is inside of the lengths that the caller promises.
    unsafe {
        let lanes: [*const f32; R] = std::array::from_fn(|r| a.add(r * lane_stride));
        for i in 0..height {
            let (b0, b1) = (_mm256_loadu_ps(b.add(i * 16)), _mm256_loadu_ps(b.add(i * 16 + 8)));
            for (sum, lane) in sums.iter_mut().zip(lanes) {
                let a = _mm256_broadcast_ss(&*lane.add(i * step));
                sum[0] = _mm256_fmadd_ps(a, b0, sum[0]);
                sum[1] = _mm256_fmadd_ps(a, b1, sum[1]);
            }
        }
        for (r, sum) in sums.iter().enumerate() {
            _mm256_storeu_ps(out.add(r * 16), sum[0]);
            _mm256_storeu_ps(out.add(r * 16 + 8), sum[1]);
        }
    }
}

/// 14 × 32: 28 sums, two vectors of B, values of A broadcast from memory.
///
/// # Safety
/// `a`, `b` and `out` point to `14 · height`, `32 · height` and `448` words.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(height: usize, a: *const u32, b: *const u32, out: *mut f32) {
    use std::arch::x86_64::*;
    let (a, b) = (a.cast::<f32>(), b.cast::<f32>());
    let mut sums = [[_mm512_setzero_ps(); 2]; 14];
    // SAFETY: every access is inside of the lengths that the caller promises.
    unsafe {
        for i in 0..height {
            let (b0, b1) = (_mm512_loadu_ps(b.add(i * 32)), _mm512_loadu_ps(b.add(i * 32 + 16)));
            for (r, sum) in sums.iter_mut().enumerate() {
                let a = _mm512_set1_ps(*a.add(i * 14 + r));
                sum[0] = _mm512_fmadd_ps(a, b0, sum[0]);
                sum[1] = _mm512_fmadd_ps(a, b1, sum[1]);
            }
        }
        for (r, sum) in sums.iter().enumerate() {
            _mm512_storeu_ps(out.add(r * 32), sum[0]);
            _mm512_storeu_ps(out.add(r * 32 + 16), sum[1]);
        }
    }
}

/// [`avx512`] with pairs of bfloat16.
///
/// # Safety
/// As there.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn avx512_bf16(height: usize, a: *const u32, b: *const u32, out: *mut f32) {
    use std::arch::x86_64::*;
    let mut sums = [[_mm512_setzero_ps(); 2]; 14];
    // SAFETY: every access is inside of the lengths that the caller promises; vectors of pairs and of words are
    // the same bits.
    unsafe {
        let pairs = |p: *const u32| std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(p.cast()));
        for i in 0..height {
            let (b0, b1) = (pairs(b.add(i * 32)), pairs(b.add(i * 32 + 16)));
            for (r, sum) in sums.iter_mut().enumerate() {
                let a = _mm512_set1_epi32((*a.add(i * 14 + r)).cast_signed());
                let a = std::mem::transmute::<__m512i, __m512bh>(a);
                sum[0] = _mm512_dpbf16_ps(sum[0], a, b0);
                sum[1] = _mm512_dpbf16_ps(sum[1], a, b1);
            }
        }
        for (r, sum) in sums.iter().enumerate() {
            _mm512_storeu_ps(out.add(r * 32), sum[0]);
            _mm512_storeu_ps(out.add(r * 32 + 16), sum[1]);
        }
    }
}
