//! Scaling of pictures, as Pillow and torchvision do it: bilinear, with the filter widened where a picture shrinks.

use fast_image_resize::images::{Image as Target, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use jishi_recipe::{Augment, Fit, Image};
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
    /// A part of it is taken by chance: it is kept whole, and up to an eighth larger.
    pub room: bool,
}

impl Scaling {
    pub(crate) fn of(image: &Image) -> Self {
        let room = image.augment.iter().any(|augment| match augment {
            Augment::RandomResizedCrop(_) => true,
            Augment::RandomCrop(crop) => crop.padding == 0,
            _ => false,
        });
        Self { size: image.size.map(jishi_recipe::Size::sides), fit: image.fit, room }
    }

    /// Scales and crops a picture.
    pub(crate) fn apply(&self, picture: OwnedPicture) -> OwnedPicture {
        let Some(size) = self.size else { return picture };
        if [picture.height, picture.width] == size {
            return picture;
        }
        let [h, w] = size.map(|side| side as f64);
        let (height, width) = (picture.height as f64, picture.width as f64);
        let view = picture.view();
        // A picture that is smaller than the size is not made larger for room.
        let scale = |exact: f64| if self.room { (exact * ROOM).min(exact.max(1.0)) } else { exact };
        match self.fit {
            Fit::Crop => {
                // What is much longer than the size is cut before it is scaled, or it would take all memory.
                let part = [height.min(width * LONGEST * h / w), width.min(height * LONGEST * w / h)];
                let scale = scale((h / part[0]).max(w / part[1]));
                let new = [(part[0] * scale).round().max(h), (part[1] * scale).round().max(w)];
                let [top, left] = [(height - part[0]) / 2.0, (width - part[1]) / 2.0];
                let scaled = resize(view, [top, left, part[0], part[1]], new.map(|side| side as usize));
                if self.room { scaled } else { crop_middle(scaled.view(), size) }
            }
            Fit::Stretch => {
                let keep = [scale(h / height) * height, scale(w / width) * width];
                resize(view, [0.0, 0.0, height, width], keep.map(|side| side.round() as usize))
            }
            Fit::Pad => {
                let inside = scale((h / height).min(w / width));
                let new = [height, width].map(|side| (side * inside).round().max(1.0));
                let grown = (new[0] / h).max(new[1] / w).max(1.0);
                let outside = [0, 1].map(|i| (size[i] as f64 * grown).round().max(new[i]) as usize);
                let scaled = resize(view, [0.0, 0.0, height, width], new.map(|side| side as usize));
                on_black(&scaled, outside)
            }
        }
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

/// The part `[top, left, height, width]` of a picture, scaled to `size` (`[height, width]`).
pub(crate) fn resize(picture: Picture, part: [f64; 4], size: [usize; 2]) -> OwnedPicture {
    let [height, width] = size;
    let pixel = if picture.channels == 1 { PixelType::U8 } else { PixelType::U8x3 };
    let mut target = Target::new(width as u32, height as u32, pixel);
    let [top, left, part_height, part_width] = part;
    // Rounding must not lead out of the picture.
    let part_height = part_height.min(picture.height as f64 - top);
    let part_width = part_width.min(picture.width as f64 - left);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(
        left,
        top,
        part_width,
        part_height,
    );
    thread_local! {
        static RESIZER: std::cell::RefCell<Resizer> = std::cell::RefCell::new(Resizer::new());
    }
    let source = ImageRef::new(picture.width as u32, picture.height as u32, picture.pixels, pixel);
    let done = source.map_err(|e| e.to_string()).and_then(|source| {
        RESIZER.with_borrow_mut(|r| r.resize(&source, &mut target, &options).map_err(|e| e.to_string()))
    });
    if let Err(error) = done {
        // The part is inside of the picture and the pixels are as many as they should be.
        unreachable!("a picture of {} x {} can't be scaled: {error}", picture.height, picture.width);
    }
    OwnedPicture { height, width, channels: picture.channels, pixels: target.into_vec() }
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
