//! Numbers that know their slopes along the four sides of a box: exact derivatives of a loss of boxes.

use std::ops::{Add, Div, Mul, Sub};

/// A value and its slopes along left, top, right and bottom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Dual {
    pub value: f64,
    pub slopes: [f64; 4],
}

impl Dual {
    pub(super) const fn constant(value: f64) -> Self {
        Self { value, slopes: [0.0; 4] }
    }

    /// The sides of a box.
    pub(super) fn sides(place: [f64; 4]) -> [Self; 4] {
        std::array::from_fn(|i| {
            let mut slopes = [0.0; 4];
            slopes[i] = 1.0;
            Self { value: place[i], slopes }
        })
    }

    fn map(self, value: f64, slope: f64) -> Self {
        Self { value, slopes: self.slopes.map(|s| s * slope) }
    }

    pub(super) fn max(self, other: Self) -> Self {
        if self.value >= other.value { self } else { other }
    }

    pub(super) fn min(self, other: Self) -> Self {
        if self.value <= other.value { self } else { other }
    }

    pub(super) fn atan(self) -> Self {
        self.map(self.value.atan(), 1.0 / (1.0 + self.value * self.value))
    }

    pub(super) fn square(self) -> Self {
        self * self
    }
}

impl Add for Dual {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let slopes = std::array::from_fn(|i| self.slopes[i] + other.slopes[i]);
        Self { value: self.value + other.value, slopes }
    }
}

impl Sub for Dual {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + other * Self::constant(-1.0)
    }
}

impl Mul for Dual {
    type Output = Self;
    #[expect(clippy::suspicious_arithmetic_impl, reason = "the rule of products")]
    fn mul(self, other: Self) -> Self {
        let slopes = std::array::from_fn(|i| self.slopes[i] * other.value + self.value * other.slopes[i]);
        Self { value: self.value * other.value, slopes }
    }
}

impl Div for Dual {
    type Output = Self;
    #[expect(clippy::suspicious_arithmetic_impl, reason = "the rule of quotients")]
    fn div(self, other: Self) -> Self {
        let value = self.value / other.value;
        let slopes = std::array::from_fn(|i| (self.slopes[i] - value * other.slopes[i]) / other.value);
        Self { value, slopes }
    }
}

/// Complete intersection over union (Zheng et al. 2020, "Distance-IoU Loss", eq. 10 and 11): the overlap, less the distance
/// of the middles, less the difference of the shapes. As there, the weight of the shapes counts as a constant; a given
/// `weight` takes its place.
pub(super) fn complete_overlap(place: [f64; 4], truth: [f64; 4], weight: Option<f64>) -> (Dual, f64) {
    const EPS: f64 = 1e-7;
    let constant = Dual::constant;
    let [left, top, right, bottom] = Dual::sides(place);
    let [tl, tt, tr, tb] = truth.map(constant);
    let zero = constant(0.0);
    let (width, height) = ((right - left).max(constant(EPS)), (bottom - top).max(constant(EPS)));
    let (true_width, true_height) = (tr - tl, (tb - tt).max(constant(EPS)));
    let both_w = (right.min(tr) - left.max(tl)).max(zero);
    let both_h = (bottom.min(tb) - top.max(tt)).max(zero);
    let both = both_w * both_h;
    let iou = both / (width * height + true_width * true_height - both + constant(EPS));
    let (around_w, around_h) = (right.max(tr) - left.min(tl), bottom.max(tb) - top.min(tt));
    let diagonal = around_w.square() + around_h.square() + constant(EPS);
    let quarter = constant(0.25);
    let apart = ((left + right - tl - tr).square() + (top + bottom - tt - tb).square()) * quarter / diagonal;
    let angle = (true_width / true_height).atan() - (width / height).atan();
    let shape = angle.square() * constant(4.0 / std::f64::consts::PI.powi(2));
    let weight = weight.unwrap_or_else(|| shape.value / (1.0 - iou.value + shape.value + EPS));
    (iou - apart - shape * constant(weight), weight)
}
