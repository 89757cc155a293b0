//! Which vector instructions a kernel uses, chosen at run time.
//!
//! A kernel is one plain Rust body that [`multiversion!`](crate::multiversion) compiles once for each
//! [`Level`]; the compiler vectorises it. Matrix products have hand-written tiles instead.

use std::sync::OnceLock;

/// Vector instructions, from those that every machine has to the widest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// What the target guarantees: SSE2 on x86-64, NEON on AArch64.
    Plain,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, VL, BW, DQ.
    Avx512,
    /// AVX-512 with dot products of bfloat16 and of bytes.
    Avx512Bf16,
}

impl Level {
    /// All levels that this machine can run, the widest last.
    #[must_use]
    pub fn available() -> Vec<Self> {
        [Self::Plain, Self::Avx2, Self::Avx512, Self::Avx512Bf16]
            .into_iter()
            .filter(|level| *level <= detect())
            .collect()
    }

    /// The level that kernels use: the widest of this machine, or a lower one that `JISHI_SIMD` asks for
    /// (`plain`, `avx2`, `avx512`), so that one machine can reproduce another's numbers.
    #[must_use]
    pub fn best() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| {
            let wanted = match std::env::var("JISHI_SIMD").as_deref() {
                Ok("plain") => Self::Plain,
                Ok("avx2") => Self::Avx2,
                Ok("avx512") => Self::Avx512,
                _ => Self::Avx512Bf16,
            };
            wanted.min(detect())
        })
    }

    /// Name in logs and figures.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain if cfg!(target_arch = "aarch64") => "neon",
            Self::Plain => "plain",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512-bf16",
        }
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn detect() -> Level {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = avx2
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq");
    let bf16 = avx512 && is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512vnni");
    match (avx2, avx512, bf16) {
        (_, _, true) => Level::Avx512Bf16,
        (_, true, _) => Level::Avx512,
        (true, ..) => Level::Avx2,
        _ => Level::Plain,
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn detect() -> Level {
    Level::Plain
}

/// `a · b + c`, rounded once where the level has fused multiply–add.
#[inline(always)]
#[must_use]
pub fn madd<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Independent partial sums of a reduction: as many as two of the widest vectors hold.
pub const LANES: usize = 32;

/// Sum of `f(i)` for `i` in `0..n`, in a fixed order of partial sums.
#[inline(always)]
pub fn sum_by(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut partial = [0.0f32; LANES];
    let whole = n / LANES * LANES;
    let mut base = 0;
    while base < whole {
        for (lane, p) in partial.iter_mut().enumerate() {
            *p += f(base + lane);
        }
        base += LANES;
    }
    for (lane, p) in partial.iter_mut().enumerate().take(n - whole) {
        *p += f(whole + lane);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            partial[lane] += partial[lane + width];
        }
        width /= 2;
    }
    partial[0]
}

/// The largest of the values that are numbers; minus infinity where there are none.
#[inline(always)]
#[must_use]
pub fn largest(values: &[f32]) -> f32 {
    let mut partial = [f32::NEG_INFINITY; LANES];
    for chunk in values.chunks(LANES) {
        for (m, v) in partial.iter_mut().zip(chunk) {
            *m = if *v > *m { *v } else { *m };
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            if partial[lane + width] > partial[lane] {
                partial[lane] = partial[lane + width];
            }
        }
        width /= 2;
    }
    partial[0]
}

/// Declares a kernel that is compiled once for each [`Level`]: the function takes the level first. In the body,
/// the constant `FMA` says whether [`madd`] fuses; the body must consist of loops, not of calls that are
/// not inlined.
#[macro_export]
macro_rules! multiversion {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident $(<$($generic:ident : $bound:path),+>)?
        ($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block)+) => {$(
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name $(<$($generic: $bound),+>)? (level: $crate::simd::Level, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::extra_unused_type_parameters)]
            fn body<const FMA: bool, $($($generic: $bound),+)?>($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
            fn avx512 $(<$($generic: $bound),+>)? ($($arg: $ty),*) $(-> $ret)? {
                body::<true, $($($generic),+)?>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2 $(<$($generic: $bound),+>)? ($($arg: $ty),*) $(-> $ret)? {
                body::<true, $($($generic),+)?>($($arg),*)
            }
            match level {
                // SAFETY: a level is only ever one that `Level::available` found on this machine.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Level::Avx512 | $crate::simd::Level::Avx512Bf16 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Level::Avx2 => unsafe { avx2($($arg),*) },
                _ => body::<{ cfg!(target_arch = "aarch64") }, $($($generic),+)?>($($arg),*),
            }
        }
    )+};
}
