//! Elementary functions as polynomials without branches, so that loops over them become vector code.
//!
//! Errors are relative to the exact value and were measured over all of the functions' range (tests).

use crate::simd::madd;

/// eˣ, to 2 units in the last place; 0 below −87.3, infinite above 88.7; NaN stays NaN.
#[inline(always)]
#[must_use]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    // x = n·ln 2 + r with |r| ≤ ½ ln 2; ln 2 in two parts (Cody & Waite 1980).
    let clamped = if x > 88.8 { 88.8 } else { x };
    let clamped = if clamped < -87.4 { -87.4 } else { clamped };
    let n = madd::<FMA>(clamped, std::f32::consts::LOG2_E, ROUND) - ROUND;
    let r = madd::<FMA>(n, -0.693_359_4, clamped);
    let r = madd::<FMA>(n, 2.121_944_4e-4, r);
    let p = madd::<FMA>(1.987_569_1e-4, r, 1.398_199_9e-3);
    let p = madd::<FMA>(p, r, 8.333_452e-3);
    let p = madd::<FMA>(p, r, 4.166_579_6e-2);
    let p = madd::<FMA>(p, r, 0.166_666_65);
    let p = madd::<FMA>(p, r, 0.5);
    let p = madd::<FMA>(p * r, r, r) + 1.0;
    // 2ⁿ in two factors, so that n = 128 overflows to infinity and n = −126 stays normal.
    let bits = ((n + ROUND).to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = bits >> 1;
    let a = f32::from_bits((half.wrapping_add(127) as u32) << 23);
    let b = f32::from_bits((bits.wrapping_sub(half).wrapping_add(127) as u32) << 23);
    let y = p * a * b;
    let y = if x < -87.33 { 0.0 } else { y };
    if x.is_nan() { x } else { y }
}

/// 1.5 · 2²³: added and subtracted, it rounds to an integer, which is in the low bits in between.
const ROUND: f32 = 12_582_912.0;

/// The error function, to 2e-7 absolutely, and to 2e-7 relatively where |x| ≤ 1: x times a polynomial in x²
/// fitted at Chebyshev nodes there, Abramowitz & Stegun 1964, formula 7.1.26 beyond.
#[inline(always)]
#[must_use]
pub fn erf<const FMA: bool>(x: f32) -> f32 {
    let s = x * x;
    let p = madd::<FMA>(7.882_497e-5, s, -8.018_855e-4);
    let p = madd::<FMA>(p, s, 5.189_312e-3);
    let p = madd::<FMA>(p, s, -2.685_432_9e-2);
    let p = madd::<FMA>(p, s, 1.128_359_7e-1);
    let p = madd::<FMA>(p, s, -3.761_262_6e-1);
    let small = x * madd::<FMA>(p, s, std::f32::consts::FRAC_2_SQRT_PI);
    let a = x.abs();
    let t = 1.0 / madd::<FMA>(0.327_591_1, a, 1.0);
    let q = madd::<FMA>(1.061_405_4, t, -1.453_152_1);
    let q = madd::<FMA>(q, t, 1.421_413_8);
    let q = madd::<FMA>(q, t, -0.284_496_72);
    let q = madd::<FMA>(q, t, 0.254_829_6);
    let large = 1.0 - q * t * exp::<FMA>(-s);
    let large = if x < 0.0 { -large } else { large };
    if a <= 1.0 { small } else { large }
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
#[must_use]
pub fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// The hyperbolic tangent, to 2e-7 absolutely.
#[inline(always)]
#[must_use]
pub fn tanh<const FMA: bool>(x: f32) -> f32 {
    1.0 - 2.0 / (exp::<FMA>(2.0 * x) + 1.0)
}

#[cfg(test)]
mod tests {
    use crate::multiversion;
    use crate::simd::Level;

    multiversion! {
        fn exps(x: &[f32], y: &mut [f32]) { for (x, y) in x.iter().zip(y) { *y = super::exp::<FMA>(*x); } }
        fn erfs(x: &[f32], y: &mut [f32]) { for (x, y) in x.iter().zip(y) { *y = super::erf::<FMA>(*x); } }
        fn tanhs(x: &[f32], y: &mut [f32]) { for (x, y) in x.iter().zip(y) { *y = super::tanh::<FMA>(*x); } }
    }

    fn each_level(f: fn(Level, &[f32], &mut [f32]), check: impl Fn(f32, f32)) {
        let mut x: Vec<f32> = (-60_000..60_000).map(|i| i as f32 * 2e-3).collect();
        x.extend((-1000..1000).map(|i| i as f32 * 1e-6));
        x.extend([f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 0.0, f32::MAX, f32::MIN, 1e-30]);
        let mut y = vec![0.0; x.len()];
        for level in Level::available() {
            f(level, &x, &mut y);
            x.iter().zip(&y).for_each(|(x, y)| check(*x, *y));
        }
    }

    #[test]
    fn exp_is_exact_to_two_units() {
        each_level(exps, |x, y| {
            let exact = f64::from(x).exp();
            if x.is_nan() {
                assert!(y.is_nan());
            } else if x > 88.7229 {
                assert_eq!(y, f32::INFINITY, "{x}");
            } else if x > 88.7227 {
                // Overflows or not, by a rounding.
                assert!(y > 3.4e38);
            } else if x < -87.33 {
                assert!(y.abs() < 1.3e-38, "{x} {y}");
            } else {
                assert!((f64::from(y) / exact - 1.0).abs() < 2.4e-7, "{x} {y} {exact}");
            }
        });
    }

    #[test]
    fn tanh_and_erf_are_close() {
        each_level(tanhs, |x, y| {
            let error = (f64::from(y) - f64::from(x).tanh()).abs();
            assert!(if x.is_nan() { y.is_nan() } else { error < 2e-7 }, "{x} {y}");
        });
        each_level(erfs, |x, y| {
            if x.is_nan() {
                assert!(y.is_nan());
                return;
            }
            // Maclaurin's series where it converges quickly, 1 beyond.
            let z = f64::from(x);
            if z.abs() < 3.0 {
                let (mut term, mut sum) = (z, z);
                for n in 1..60 {
                    term *= -z * z / f64::from(n);
                    sum += term / f64::from(2 * n + 1);
                }
                let exact = sum * std::f64::consts::FRAC_2_SQRT_PI;
                assert!((f64::from(y) - exact).abs() < 2.5e-7, "{x} {y} {exact}");
                assert!(
                    z.abs() > 1.0 || z == 0.0 || (f64::from(y) / exact - 1.0).abs() < 2.5e-7,
                    "{x} {y} {exact}"
                );
            } else {
                assert!((y.abs() - 1.0).abs() < 3e-5 && y.signum() == x.signum(), "{x} {y}");
            }
        });
    }
}
