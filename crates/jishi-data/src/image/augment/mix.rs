//! MixUp (Zhang et al. 2018) and CutMix (Yun et al. 2019): pictures of a batch mixed with each other, and their targets.
//!
//! The first is mixed with the last, the second with the last but one, and so on; both keep the same share of themselves.
//! In an odd batch the one in the middle stays as it is.

use super::draws::Draws;

/// How the pictures of a batch are mixed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mix {
    /// Not at all.
    None,
    /// Every value is a share of the picture's own and the rest of its partner's.
    MixUp {
        /// Share of the picture itself.
        share: f32,
    },
    /// A rectangle is its partner's.
    CutMix {
        /// Share of the picture itself: of its pixels.
        share: f32,
        /// `[top, left, height, width]`
        rectangle: [usize; 4],
    },
}

impl Mix {
    /// Draws how a batch of pictures of `[height, width]` is mixed. `mixup` and `cutmix` are α of the Beta distribution
    /// of the share; where both are above 0, a fair coin chooses.
    pub(super) fn draw(mixup: f64, cutmix: f64, [height, width]: [usize; 2], draws: &mut Draws) -> Self {
        let cut = match (mixup > 0.0, cutmix > 0.0) {
            (false, false) => return Self::None,
            (true, true) => draws.below(2) == 1,
            (_, cut) => cut,
        };
        let share = draws.beta(if cut { cutmix } else { mixup });
        if !cut {
            return Self::MixUp { share: share as f32 };
        }
        // A rectangle of the picture's shape around a random place, cut at the edge.
        let half = (1.0 - share).sqrt() * 0.5;
        let side = |draws: &mut Draws, side: usize| {
            let (middle, half) = (draws.below(side), (half * side as f64) as usize);
            let (first, end) = (middle.saturating_sub(half), (middle + half).min(side));
            (first, end - first)
        };
        let ((top, h), (left, w)) = (side(draws, height), side(draws, width));
        let share = 1.0 - (h * w) as f64 / (height * width) as f64;
        Self::CutMix { share: share as f32, rectangle: [top, left, h, w] }
    }

    /// Mixes pictures, `[rows, height, width, channels]`; `shape` is `[height, width, channels]`.
    ///
    /// # Panics
    /// Where the values are not whole pictures, or the rectangle is not in them.
    pub fn pictures(&self, values: &mut [f32], [height, width, channels]: [usize; 3]) {
        let size = height * width * channels;
        assert!(values.len().is_multiple_of(size), "whole pictures");
        match *self {
            Self::None => {}
            Self::MixUp { share } => pairs(values, size, |a, b| blend(a, b, share)),
            Self::CutMix { rectangle: [top, left, h, w], .. } => pairs(values, size, |a, b| {
                for y in top..top + h {
                    let at = (y * width + left) * channels;
                    a[at..at + w * channels].swap_with_slice(&mut b[at..at + w * channels]);
                }
            }),
        }
    }

    /// Mixes targets in the same way, `[rows, classes]`.
    ///
    /// # Panics
    /// Where the values are not whole rows.
    pub fn targets(&self, values: &mut [f32], classes: usize) {
        assert!(values.len().is_multiple_of(classes), "whole rows");
        match *self {
            Self::None => {}
            Self::MixUp { share } | Self::CutMix { share, .. } => {
                pairs(values, classes, |a, b| blend(a, b, share));
            }
        }
    }
}

/// Does something with the first and the last row, the second and the last but one, and so on.
fn pairs(values: &mut [f32], size: usize, mut with: impl FnMut(&mut [f32], &mut [f32])) {
    let rows = values.len() / size;
    for i in 0..rows / 2 {
        let (front, back) = values.split_at_mut((rows - 1 - i) * size);
        with(&mut front[i * size..(i + 1) * size], &mut back[..size]);
    }
}

fn blend(a: &mut [f32], b: &mut [f32], share: f32) {
    for (a, b) in a.iter_mut().zip(b) {
        (*a, *b) = (share * *a + (1.0 - share) * *b, share * *b + (1.0 - share) * *a);
    }
}
