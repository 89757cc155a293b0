//! The standard normal distribution, to double precision: what quantile scaling maps to.

/// P(Z ≤ x) for a standard normal Z.
pub(super) fn cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x / std::f64::consts::SQRT_2)
}

/// The x with P(Z ≤ x) = p; ∓∞ at 0 and 1. Wichura (1988), algorithm AS 241 (PPND16), relative
/// error about 1e-16.
pub(super) fn quantile(p: f64) -> f64 {
    if p <= 0.0 {
        return f64::NEG_INFINITY;
    }
    if p >= 1.0 {
        return f64::INFINITY;
    }
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        return q * horner(&CENTRE_TOP, r) / horner(&CENTRE_BOTTOM, r);
    }
    let tail = (-p.min(1.0 - p).ln()).sqrt();
    let x = if tail <= 5.0 {
        let r = tail - 1.6;
        horner(&MIDDLE_TOP, r) / horner(&MIDDLE_BOTTOM, r)
    } else {
        let r = tail - 5.0;
        horner(&FAR_TOP, r) / horner(&FAR_BOTTOM, r)
    };
    if q < 0.0 { -x } else { x }
}

/// A polynomial with its lowest coefficient first.
fn horner(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

const CENTRE_TOP: [f64; 8] = [
    3.387_132_872_796_366_5,
    1.331_416_678_917_843_8e2,
    1.971_590_950_306_551_3e3,
    1.373_169_376_550_946e4,
    4.592_195_393_154_987e4,
    6.726_577_092_700_87e4,
    3.343_057_558_358_813e4,
    2.509_080_928_730_122_7e3,
];
const CENTRE_BOTTOM: [f64; 8] = [
    1.0,
    4.231_333_070_160_091e1,
    6.871_870_074_920_579e2,
    5.394_196_021_424_751e3,
    2.121_379_430_158_659_7e4,
    3.930_789_580_009_271e4,
    2.872_908_573_572_194_3e4,
    5.226_495_278_852_854e3,
];
const MIDDLE_TOP: [f64; 8] = [
    1.423_437_110_749_683_5,
    4.630_337_846_156_546,
    5.769_497_221_460_691,
    3.647_848_324_763_204_5,
    1.270_458_252_452_368_4,
    2.417_807_251_774_506e-1,
    2.272_384_498_926_918_4e-2,
    7.745_450_142_783_414e-4,
];
const MIDDLE_BOTTOM: [f64; 8] = [
    1.0,
    2.053_191_626_637_759,
    1.676_384_830_183_803_8,
    6.897_673_349_851e-1,
    1.481_039_764_274_800_8e-1,
    1.519_866_656_361_645_7e-2,
    5.475_938_084_995_345e-4,
    1.050_750_071_644_416_9e-9,
];
const FAR_TOP: [f64; 8] = [
    6.657_904_643_501_103,
    5.463_784_911_164_114,
    1.784_826_539_917_291_3,
    2.965_605_718_285_048_7e-1,
    2.653_218_952_657_612_4e-2,
    1.242_660_947_388_078_4e-3,
    2.711_555_568_743_487_6e-5,
    2.010_334_399_292_288_1e-7,
];
const FAR_BOTTOM: [f64; 8] = [
    1.0,
    5.998_322_065_558_88e-1,
    1.369_298_809_227_358e-1,
    1.487_536_129_085_061_5e-2,
    7.868_691_311_456_133e-4,
    1.846_318_317_510_054_8e-5,
    1.421_511_758_316_446e-7,
    2.044_263_103_389_939_8e-15,
];

#[cfg(test)]
mod tests {
    use super::*;

    // scipy.stats.norm.ppf
    #[test]
    fn quantiles_are_scipys() {
        for (p, x) in PPF {
            assert!((quantile(p) - x).abs() < 1e-12 * x.abs().max(1.0), "{p}: {} != {x}", quantile(p));
            // Near 1 the shares themselves are rounded.
            assert!(p < 1e-3 || (quantile(1.0 - p) + x).abs() < 1e-12, "{p}");
        }
        assert_eq!(quantile(0.0), f64::NEG_INFINITY);
        assert_eq!(quantile(1.0), f64::INFINITY);
    }

    #[test]
    fn quantile_inverts_cdf() {
        for i in -80..=80 {
            let x = f64::from(i) / 16.0;
            assert!((quantile(cdf(x)) - x).abs() < 1e-9, "{x}");
        }
    }

    const PPF: [(f64, f64); 7] = [
        (1e-12, -7.034483825301131),
        (1e-07, -5.1993375821928165),
        (0.001, -3.090232306167813),
        (0.02, -2.053748910631823),
        (0.1, -1.2815515655446004),
        (0.3, -0.5244005127080409),
        (0.5, 0.0),
    ];
}
