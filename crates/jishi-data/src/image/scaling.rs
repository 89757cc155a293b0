//! Scaling of pictures, as Pillow and torchvision do it: with the filter widened where a picture shrinks.

use jishi_recipe::{Augment, Fit, Image, Interpolation};
use serde::{Deserialize, Serialize};

use super::pictures::{OwnedPicture, Picture};

/// A picture that is cropped by chance is kept larger than the model's size by this.
const ROOM: f64 = 8.0 / 7.0;
/// Times that a picture's long side may be the short one's, where the whole picture is kept.
const LONGEST: f64 = 4.0;

/// How pictures are scaled while they are read: to what training needs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scaling {
    /// `[height, width]` of the model; `None`: pictures stay as they are.
    pub size: Option<[usize; 2]>,
    pub fit: Fit,
    pub room: Room,
    pub filter: Interpolation,
}

/// How much larger than the model's size a picture is scaled, of which the model sees the middle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Room {
    /// Not at all.
    #[default]
    None,
    /// A part of it is taken by chance: it is kept whole, and up to an eighth larger where it is large enough.
    ForChance,
    /// The size is this share of it, whatever its own size.
    Share(f64),
}

impl Scaling {
    pub(crate) fn of(image: &Image) -> Self {
        let chance = image.augment.iter().any(|augment| match augment {
            Augment::RandomResizedCrop(_) => true,
            Augment::RandomCrop(crop) => crop.padding == 0,
            _ => false,
        });
        let room = match image.crop_pct {
            Some(share) => Room::Share(share),
            None if chance => Room::ForChance,
            None => Room::None,
        };
        let size = image.size.map(jishi_recipe::Size::sides);
        let fit = if image.fit == Fit::Auto { Fit::Crop } else { image.fit };
        Self { size, fit, room, filter: image.interpolation }
    }

    /// Scales and crops a picture.
    pub(crate) fn apply(&self, picture: OwnedPicture) -> OwnedPicture {
        let Some(Plan { part, new, outside, cut }) = self.plan([picture.height, picture.width]) else {
            return picture;
        };
        let scaled = resize(picture.view(), part, new, self.filter);
        match (cut, outside) {
            (Some(size), _) => crop_middle(scaled.view(), size),
            (None, Some(outside)) => on_black(&scaled, outside),
            (None, None) => scaled,
        }
    }

    /// Where [`Self::apply`] puts what is on a picture of `[height, width]`.
    pub(crate) fn way(&self, size: [usize; 2]) -> Way {
        let Some(Plan { part, new, outside, cut }) = self.plan(size) else { return Way::NONE };
        let axis = |i: usize| {
            let factor = new[i] as f64 / part[2 + i];
            let shift = match (cut, outside) {
                (Some(cut), _) => -(middle(new[i], cut[i]) as f64),
                (None, Some(outside)) => middle(outside[i], new[i]) as f64,
                (None, None) => 0.0,
            };
            (factor, shift - part[i] * factor)
        };
        let ((fy, sy), (fx, sx)) = (axis(0), axis(1));
        Way { factor: [fx, fy], shift: [sx, sy] }
    }

    /// What is done to a picture of `[height, width]`; nothing, where it is as it should be.
    fn plan(&self, [picture_height, picture_width]: [usize; 2]) -> Option<Plan> {
        let size = self.size?;
        if [picture_height, picture_width] == size && !matches!(self.room, Room::Share(_)) {
            return None;
        }
        let [h, w] = size.map(|side| side as f64);
        let (height, width) = (picture_height as f64, picture_width as f64);
        let scale = |exact: f64| match self.room {
            Room::None => exact,
            // A picture that is smaller than the size is not made larger for chance.
            Room::ForChance => (exact * ROOM).min(exact.max(1.0)),
            Room::Share(share) => exact / share,
        };
        let whole = [0.0, 0.0, height, width];
        Some(match self.fit {
            Fit::Crop | Fit::Auto => {
                // What is much longer than the size is cut before it is scaled, or it would take all memory.
                let part = [height.min(width * LONGEST * h / w), width.min(height * LONGEST * w / h)];
                let scale = scale((h / part[0]).max(w / part[1]));
                // The long side is cut to whole pixels, as in torchvision; what rounding took from one is given back.
                let cut = |side: f64| (side * scale + 1e-6).floor();
                let new = [cut(part[0]).max(h), cut(part[1]).max(w)].map(|side| side as usize);
                let [top, left] = [(height - part[0]) / 2.0, (width - part[1]) / 2.0];
                let cut = (self.room == Room::None).then_some(size);
                Plan { part: [top, left, part[0], part[1]], new, outside: None, cut }
            }
            Fit::Stretch => {
                let keep = [scale(h / height) * height, scale(w / width) * width];
                Plan { part: whole, new: keep.map(|side| side.round() as usize), outside: None, cut: None }
            }
            Fit::Pad => {
                let inside = scale((h / height).min(w / width));
                let new = [height, width].map(|side| (side * inside).round().max(1.0));
                let grown = (new[0] / h).max(new[1] / w).max(1.0);
                let outside = [0, 1].map(|i| (size[i] as f64 * grown).round().max(new[i]) as usize);
                Plan { part: whole, new: new.map(|side| side as usize), outside: Some(outside), cut: None }
            }
        })
    }
}

/// How a picture is scaled and cropped.
struct Plan {
    /// The part of it that is taken: top, left, height and width.
    part: [f64; 4],
    /// `[height, width]` that the part is scaled to.
    new: [usize; 2],
    /// Black is put around it up to this size.
    outside: Option<[usize; 2]>,
    /// The middle of this size is kept.
    cut: Option<[usize; 2]>,
}

/// Where scaling and cropping put what is on a picture: each place times a factor and plus a shift, `[x, y]` in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Way {
    /// Across and down.
    pub factor: [f64; 2],
    /// Across and down.
    pub shift: [f64; 2],
}

impl Way {
    /// Nowhere.
    pub const NONE: Self = Self { factor: [1.0; 2], shift: [0.0; 2] };

    /// A box, `[left, top, right, bottom]`, where it is put.
    #[must_use]
    pub fn place(&self, place: [f64; 4]) -> [f64; 4] {
        std::array::from_fn(|i| place[i] * self.factor[i % 2] + self.shift[i % 2])
    }

    /// A box where it came from.
    #[must_use]
    pub fn back(&self, place: [f64; 4]) -> [f64; 4] {
        std::array::from_fn(|i| (place[i] - self.shift[i % 2]) / self.factor[i % 2])
    }
}

/// Where the middle part of `keep` of `all` pixels begins; half pixels go to the even side, as in Python.
pub(crate) fn middle(all: usize, keep: usize) -> usize {
    ((all - keep) as f64 / 2.0).round_ties_even() as usize
}

/// The middle of a picture that is at least of `size`.
fn crop_middle(picture: Picture, size: [usize; 2]) -> OwnedPicture {
    crop(picture, [middle(picture.height, size[0]), middle(picture.width, size[1])], size)
}

/// The part of a picture that is at `[top, left]` and of the size `[height, width]`.
pub(crate) fn crop(picture: Picture, [top, left]: [usize; 2], size: [usize; 2]) -> OwnedPicture {
    let ([height, width], channels) = (size, picture.channels);
    let rows = (top..top + height).flat_map(|y| {
        let at = (y * picture.width + left) * channels;
        &picture.pixels[at..at + width * channels]
    });
    OwnedPicture { height, width, channels, pixels: rows.copied().collect() }
}

/// The part `[top, left, height, width]` of a picture, scaled to `size` (`[height, width]`), to the last bit as Pillow 12 does
/// it: along rows first, rounded, and then along columns.
pub(crate) fn resize(
    picture: Picture,
    part: [f64; 4],
    size: [usize; 2],
    filter: Interpolation,
) -> OwnedPicture {
    let ([top, left, part_height, part_width], [height, width]) = (part, size);
    let shares = shares(picture.width, [left, part_width], width, filter);
    let mut narrow = vec![0; picture.height * width * picture.channels];
    match picture.channels {
        1 => along_rows::<1>(picture, &shares, &mut narrow),
        _ => along_rows::<3>(picture, &shares, &mut narrow),
    }
    let row = width * picture.channels;
    let mut pixels = Vec::with_capacity(height * row);
    let mut sums = vec![0; row];
    for Share { first, weights } in self::shares(picture.height, [top, part_height], height, filter) {
        sums.fill(HALF);
        for (weight, row) in weights.iter().zip(narrow[first * row..].chunks_exact(row)) {
            sums.iter_mut().zip(row).for_each(|(sum, pixel)| *sum += weight * i32::from(*pixel));
        }
        pixels.extend(sums.iter().map(|sum| (sum >> BITS).clamp(0, 255) as u8));
    }
    OwnedPicture { height, width, channels: picture.channels, pixels }
}

/// Weights are whole numbers of 2⁻²² each, as in Pillow.
const BITS: u32 = 22;
/// One half in such numbers.
const HALF: i32 = 1 << (BITS - 1);

/// What a pixel of the result is made of: pixels from `first` on.
struct Share {
    first: usize,
    weights: Vec<i32>,
}

/// The height of a filter at a distance in pixels of the result, or of the line where those are larger: a triangle that is
/// two pixels wide, or the cubic of Keys 1981 (eq. 15, a = −1/2), which is four wide.
fn height(filter: Interpolation, x: f64) -> f64 {
    let x = x.abs();
    match filter {
        Interpolation::Bilinear => (1.0 - x).max(0.0),
        Interpolation::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        Interpolation::Bicubic if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
        Interpolation::Bicubic => 0.0,
    }
}

/// What every of `out` pixels is made of, of the part `[from, length]` of a line of `all` pixels.
fn shares(all: usize, [from, length]: [f64; 2], out: usize, filter: Interpolation) -> Vec<Share> {
    let scale = length / out as f64;
    let stretch = scale.max(1.0);
    let reach = stretch * if filter == Interpolation::Bicubic { 2.0 } else { 1.0 };
    let share = |i: usize| {
        let center = from + (i as f64 + 0.5) * scale;
        let first = ((center - reach + 0.5).max(0.0) as usize).min(all - 1);
        let end = ((center + reach + 0.5) as usize).clamp(first + 1, all);
        // Not a division: the last bit would be another.
        let height = |x: usize| height(filter, (x as f64 - center + 0.5) * (1.0 / stretch));
        let sum: f64 = (first..end).map(height).sum();
        // Halves go away from zero.
        let whole = |x: usize| (height(x) / sum * f64::from(1 << BITS)).round() as i32;
        Share { first, weights: (first..end).map(whole).collect() }
    };
    (0..out).map(share).collect()
}

fn along_rows<const C: usize>(picture: Picture, shares: &[Share], out: &mut [u8]) {
    let rows = picture.pixels.chunks_exact(picture.width * C);
    for (row, out) in rows.zip(out.chunks_exact_mut(shares.len() * C)) {
        let row = row.as_chunks::<C>().0;
        for (Share { first, weights }, out) in shares.iter().zip(out.as_chunks_mut::<C>().0) {
            let mut sums = [HALF; C];
            for (weight, pixel) in weights.iter().zip(&row[*first..]) {
                for c in 0..C {
                    sums[c] += weight * i32::from(pixel[c]);
                }
            }
            *out = sums.map(|sum| (sum >> BITS).clamp(0, 255) as u8);
        }
    }
}

/// A picture in the middle of a black one.
fn on_black(picture: &OwnedPicture, [height, width]: [usize; 2]) -> OwnedPicture {
    let channels = picture.channels;
    let mut pixels = vec![0; height * width * channels];
    let (top, left) = (middle(height, picture.height), middle(width, picture.width));
    for (y, row) in picture.pixels.chunks_exact(picture.width * channels).enumerate() {
        let at = ((top + y) * width + left) * channels;
        pixels[at..at + row.len()].copy_from_slice(row);
    }
    OwnedPicture { height, width, channels, pixels }
}
