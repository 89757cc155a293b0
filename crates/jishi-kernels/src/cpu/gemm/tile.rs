//! Register tiles: the product of a panel of A (`rows` lanes) and a panel of B (`columns` lanes).
//!
//! Panels are words. In `f32`, word `[i][lane]` is value i of a lane; in bfloat16, values 2i and 2i + 1.

use super::Precision;
use super::pack::Source;
use crate::memory::as_f32;
use crate::simd::Level;

/// The shape of a tile and what multiplies it.
#[derive(Debug, Clone, Copy)]
pub struct Tile {
    pub rows: usize,
    pub columns: usize,
    paired: bool,
    kernel: Kernel,
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
    /// bfloat16 factors where no instruction multiplies them: widened again, in pairs.
    PlainPaired,
}

/// The sums of the largest tile.
#[repr(C, align(64))]
pub struct Sums([f32; 14 * 32]);

impl Sums {
    #[inline(always)]
    pub fn new() -> Self {
        Self([0.0; 14 * 32])
    }

    #[inline(always)]
    pub fn values(&mut self, len: usize) -> &mut [f32] {
        &mut self.0[..len]
    }
}

impl Tile {
    pub fn of(level: Level, precision: Precision) -> Self {
        let tile = |rows, columns, paired, kernel| Self { rows, columns, paired, kernel };
        match (precision, level) {
            #[cfg(target_arch = "x86_64")]
            (Precision::F32, Level::Avx512 | Level::Avx512Bf16) => tile(14, 32, false, Kernel::Avx512),
            #[cfg(target_arch = "x86_64")]
            (Precision::F32, Level::Avx2) => tile(6, 16, false, Kernel::Avx2),
            (Precision::F32, _) => tile(4, 16, false, Kernel::Plain),
            #[cfg(target_arch = "x86_64")]
            (Precision::Bf16, Level::Avx512Bf16) => tile(14, 32, true, Kernel::Avx512Bf16),
            (Precision::Bf16, _) => tile(4, 16, true, Kernel::PlainPaired),
        }
    }

    /// Words of one lane.
    #[inline]
    pub fn words(&self, k: usize) -> usize {
        if self.paired { k.div_ceil(2) } else { k }
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
        if self.paired {
            source.pack_pairs(level, lane, lanes, width, from, height, out);
        } else {
            source.pack(level, lane, lanes, width, from, height, as_f32(out));
        }
    }

    /// `sums[rows][columns]` = the product of two panels of the same height.
    #[inline]
    pub fn multiply(&self, a: &[u32], b: &[u32], sums: &mut [f32]) {
        let height = a.len() / self.rows;
        assert!(
            a.len() == height * self.rows
                && b.len() == height * self.columns
                && sums.len() == self.rows * self.columns,
            "panels of different heights"
        );
        match self.kernel {
            Kernel::Plain => plain(height, a, b, sums),
            Kernel::PlainPaired => plain_paired(height, a, b, sums),
            // SAFETY: a tile of this kind is made only for a level that has the instructions; lengths were checked.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { avx2(height, a.as_ptr(), b.as_ptr(), sums.as_mut_ptr()) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => unsafe { avx512(height, a.as_ptr(), b.as_ptr(), sums.as_mut_ptr()) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Bf16 => unsafe { avx512_bf16(height, a.as_ptr(), b.as_ptr(), sums.as_mut_ptr()) },
        }
    }
}

/// 4 × 16 in vectors of any width.
fn plain(height: usize, a: &[u32], b: &[u32], out: &mut [f32]) {
    let mut sums = [[0.0f32; 16]; 4];
    for i in 0..height {
        let b: &[u32; 16] = b[i * 16..][..16].try_into().expect("sixteen words");
        let a: &[u32; 4] = a[i * 4..][..4].try_into().expect("four words");
        for (row, a) in sums.iter_mut().zip(a) {
            let a = f32::from_bits(*a);
            for (s, b) in row.iter_mut().zip(b) {
                *s += a * f32::from_bits(*b);
            }
        }
    }
    for (out, row) in out.chunks_exact_mut(16).zip(&sums) {
        out.copy_from_slice(row);
    }
}

/// 4 × 16 of pairs of bfloat16.
fn plain_paired(height: usize, a: &[u32], b: &[u32], out: &mut [f32]) {
    let low = |word: u32| f32::from_bits(word << 16);
    let high = |word: u32| f32::from_bits(word & 0xffff_0000);
    let mut sums = [[0.0f32; 16]; 4];
    for i in 0..height {
        let b: &[u32; 16] = b[i * 16..][..16].try_into().expect("sixteen words");
        let a: &[u32; 4] = a[i * 4..][..4].try_into().expect("four words");
        for (row, a) in sums.iter_mut().zip(a) {
            for (s, b) in row.iter_mut().zip(b) {
                *s += low(*a) * low(*b) + high(*a) * high(*b);
            }
        }
    }
    for (out, row) in out.chunks_exact_mut(16).zip(&sums) {
        out.copy_from_slice(row);
    }
}

/// 6 × 16: twelve sums, two vectors of B, one value of A.
///
/// # Safety
/// `a`, `b` and `out` point to `6 · height`, `16 · height` and `96` words.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(height: usize, a: *const u32, b: *const u32, out: *mut f32) {
    use std::arch::x86_64::*;
    let (a, b) = (a.cast::<f32>(), b.cast::<f32>());
    let mut sums = [[_mm256_setzero_ps(); 2]; 6];
    // SAFETY: every access is inside of the lengths that the caller promises.
    unsafe {
        for i in 0..height {
            let (b0, b1) = (_mm256_loadu_ps(b.add(i * 16)), _mm256_loadu_ps(b.add(i * 16 + 8)));
            for (r, sum) in sums.iter_mut().enumerate() {
                let a = _mm256_broadcast_ss(&*a.add(i * 6 + r));
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
