//! Where a random change has moved what is on a picture.

use super::affine::Map;
use crate::image::scaling::Way;

/// The way from places of a picture as it was read to places of what the model sees of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moved {
    /// To the part that was taken of the picture.
    pub(super) crop: Way,
    /// From places of the result back to those of the part, from the middle.
    pub(super) back: Map,
    /// `[height, width]` of the result.
    pub(super) size: [usize; 2],
}

impl Moved {
    /// A box, `[left, top, right, bottom]`, where it is now: the smallest upright one around its corners, which may go
    /// beyond the picture.
    #[must_use]
    pub fn place(&self, place: [f64; 4]) -> [f64; 4] {
        let [left, top, right, bottom] = self.crop.place(place);
        let [a, b, c, d, e, f] = self.back.0;
        let determinant = a * e - b * d;
        let [height, width] = self.size.map(|side| side as f64 / 2.0);
        let forward = |[x, y]: [f64; 2]| {
            let (x, y) = (x - width - c, y - height - f);
            [(e * x - b * y) / determinant + width, (a * y - d * x) / determinant + height]
        };
        let corners = [[left, top], [right, top], [right, bottom], [left, bottom]].map(forward);
        let least = |axis: usize| corners.iter().map(|p| p[axis]).fold(f64::INFINITY, f64::min);
        let most = |axis: usize| corners.iter().map(|p| p[axis]).fold(f64::NEG_INFINITY, f64::max);
        [least(0), least(1), most(0), most(1)]
    }
}
