//! Random changes of training pictures, named and done as in torchvision, on the way to what a model takes.
//!
//! Random numbers come from the caller, so that the same seed, step and row give the same picture whatever else happens.
//! Crops, flips, turns and other affine maps that come before changes of colour are one pass over the pixels, together
//! with normalising; a picture that is only cropped and flipped is copied.

mod affine;
mod colour;
pub(super) mod draws;
mod mix;
mod moved;
mod rand_augment;

use jishi_recipe::{Augment, Channels, Image, Padding, RandomErasing, RandomResizedCrop};
use rayon::prelude::*;

use self::affine::{Map, sample};
use self::draws::Draws;
pub use self::mix::Mix;
pub use self::moved::Moved;
use super::pictures::{OwnedPicture, Picture, Pictures};
use super::preparation::Preparation;
use super::scaling::{Room, Scaling, Way, middle, resize};

/// The random changes that a recipe asks for.
#[derive(Debug, Clone)]
pub struct Augmentation {
    preparation: Preparation,
    /// Made first, wherever it is in the recipe's list.
    crop: Option<Augment>,
    steps: Vec<Augment>,
    mixup: f64,
    cutmix: f64,
}

/// What is done to a picture on its way; `C` is the number of channels.
struct Work<'a, const C: usize> {
    /// `[height, width]`
    size: [usize; 2],
    frame: Frame<'a>,
    flips: [bool; 2],
    /// From places in the result to those in the frame.
    map: Option<Map>,
    /// All of them, and all that comes after the picture is drawn.
    back: Map,
    /// The result holds the picture, where white is 1; before, it is still in the frame.
    drawn: bool,
    out: &'a mut [f32],
}

/// A part of a picture, all of it inside.
struct Frame<'a> {
    pixels: &'a [u8],
    /// Values from a row to the next.
    stride: usize,
    /// Where the first value is.
    start: usize,
}

impl Augmentation {
    /// The changes of `image`, for pictures that are prepared by `preparation`.
    #[must_use]
    pub fn new(image: &Image, preparation: &Preparation) -> Self {
        let is_crop =
            |augment: &&Augment| matches!(augment, Augment::RandomCrop(_) | Augment::RandomResizedCrop(_));
        Self {
            preparation: preparation.clone(),
            crop: image.augment.iter().find(is_crop).cloned(),
            steps: image.augment.iter().filter(|augment| !is_crop(augment)).cloned().collect(),
            mixup: image.mixup,
            cutmix: image.cutmix,
        }
    }

    /// `[height, width, channels]` of what [`Self::apply`] makes.
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        self.preparation.shape()
    }

    /// Changes a picture and writes what the model sees of it, `[height, width, channels]`. `draw` gives uniform words.
    /// What comes back tells where things on the picture have gone.
    ///
    /// # Panics
    /// Where `out` has another length, or the picture another number of channels.
    pub fn apply(&self, picture: Picture<'_>, draw: &mut dyn FnMut() -> u32, out: &mut [f32]) -> Moved {
        let [height, width, channels] = self.shape();
        assert_eq!(out.len(), height * width * channels, "room for one picture");
        assert_eq!(picture.channels, channels, "a picture with the channels of the model");
        match self.preparation.channels() {
            Channels::Gray => self.apply_to::<1>(picture, Draws(draw), out),
            Channels::Rgb => self.apply_to::<3>(picture, Draws(draw), out),
        }
    }

    /// [`Self::apply`] for several pictures on all cores, `[rows, height, width, channels]`. `draws` gives the random
    /// numbers of a place in the batch.
    ///
    /// # Panics
    /// Where `out` has another length, or a row is no picture.
    pub fn batch<D: FnMut() -> u32>(
        &self,
        pictures: &Pictures,
        rows: &[u32],
        draws: impl Fn(usize) -> D + Sync,
        out: &mut [f32],
    ) {
        let size: usize = self.shape().iter().product();
        assert_eq!(out.len(), rows.len() * size, "room for the pictures");
        out.par_chunks_exact_mut(size).zip(rows).enumerate().for_each(|(i, (out, &row))| {
            self.apply(pictures.get(row as usize), &mut draws(i), out);
        });
    }

    /// How the pictures of a batch are mixed with each other.
    pub fn mix(&self, draw: &mut dyn FnMut() -> u32) -> Mix {
        let [height, width, _] = self.shape();
        Mix::draw(self.mixup, self.cutmix, [height, width], &mut Draws(draw))
    }

    fn apply_to<const C: usize>(&self, picture: Picture, mut draws: Draws, out: &mut [f32]) -> Moved {
        let [height, width, _] = self.shape();
        let lines: [[f32; 2]; C] = std::array::from_fn(|c| self.preparation.line(c));
        let (owned, crop) = self.cropped(picture, &mut draws);
        let (view, top, left) = match &owned {
            Cropped::Owned(picture) => (picture.view(), 0, 0),
            Cropped::At(top, left) => (picture, *top, *left),
        };
        let stride = view.width * C;
        let frame = Frame { pixels: view.pixels, stride, start: top * stride + left * C };
        let size = [height, width];
        let mut work =
            Work::<C> { size, frame, flips: [false; 2], map: None, back: Map::NONE, drawn: false, out };
        for step in &self.steps {
            self.step(step, &mut work, &mut draws);
        }
        let moved = Moved { crop, back: work.back, size };
        if !work.drawn {
            work.draw(lines);
            return moved;
        }
        for pixel in work.out.as_chunks_mut::<C>().0 {
            for c in 0..C {
                pixel[c] = pixel[c] * 255.0 * lines[c][0] + lines[c][1];
            }
        }
        moved
    }

    /// The part of the picture that the model is to see, before all else, and the way to it.
    fn cropped(&self, picture: Picture, draws: &mut Draws) -> (Cropped, Way) {
        let [height, width, _] = self.shape();
        match &self.crop {
            Some(Augment::RandomResizedCrop(crop)) => {
                let part = part(crop, picture, draws).map(|x| x as f64);
                let filter = self.preparation.scaling().filter;
                let factor = [width as f64 / part[3], height as f64 / part[2]];
                let way = Way { factor, shift: [-part[1] * factor[0], -part[0] * factor[1]] };
                (Cropped::Owned(resize(picture, part, [height, width], filter)), way)
            }
            Some(Augment::RandomCrop(crop)) => {
                let padding = crop.padding as isize;
                let mut place = |side: usize, size: usize| {
                    let room = side as isize + 2 * padding - size as isize;
                    if room >= 0 {
                        draws.below(room as usize + 1) as isize - padding
                    } else {
                        room / 2 - padding
                    }
                };
                let (top, left) = (place(picture.height, height), place(picture.width, width));
                let way = Way { shift: [-(left as f64), -(top as f64)], ..Way::NONE };
                let inside = |at: isize, size: usize, side: usize| at >= 0 && at as usize + size <= side;
                if inside(top, height, picture.height) && inside(left, width, picture.width) {
                    return (Cropped::At(top as usize, left as usize), way);
                }
                (Cropped::Owned(padded(picture, [top, left], [height, width], crop.mode)), way)
            }
            _ if picture.height < height || picture.width < width => {
                let scaling = Scaling { room: Room::None, ..self.preparation.scaling() };
                let way = scaling.way([picture.height, picture.width]);
                (Cropped::Owned(scaling.apply(picture.to_owned())), way)
            }
            _ => {
                let (top, left) = (middle(picture.height, height), middle(picture.width, width));
                let way = Way { shift: [-(left as f64), -(top as f64)], ..Way::NONE };
                (Cropped::At(top, left), way)
            }
        }
    }

    fn step<const C: usize>(&self, step: &Augment, work: &mut Work<'_, C>, draws: &mut Draws) {
        let size = work.size;
        match step {
            Augment::HorizontalFlip(flip) => {
                if draws.unit() < flip.p {
                    work.flip(1);
                }
            }
            Augment::VerticalFlip(flip) => {
                if draws.unit() < flip.p {
                    work.flip(0);
                }
            }
            Augment::Rotate(rotate) => {
                let angle = draws.between(-rotate.degrees, rotate.degrees);
                work.map(Map::affine(angle, [0.0; 2], 1.0, [0.0; 2]));
            }
            Augment::Affine(affine) => {
                let angle = draws.between(-affine.degrees, affine.degrees);
                let mut shift = |side: usize| {
                    let most = affine.translate * side as f64;
                    if most > 0.0 { draws.between(-most, most).round() } else { 0.0 }
                };
                let shift = [shift(size[1]), shift(size[0])];
                let scale = draws.between(affine.scale[0], affine.scale[1]);
                let shear = draws.between(-affine.shear, affine.shear);
                work.map(Map::affine(angle, shift, scale, [shear, 0.0]));
            }
            Augment::ColorJitter(jitter) => colour::jitter(work.colours(), jitter, draws),
            Augment::RandAugment(rand) => rand_augment::apply(work, rand, draws),
            Augment::RandomErasing(erasing) => {
                let mean: [f32; C] = std::array::from_fn(|c| self.preparation.mean()[c]);
                erase(work, erasing, mean, draws);
            }
            Augment::GaussianNoise(noise) => {
                for value in work.colours().as_flattened_mut() {
                    *value = (*value + draws.normal() as f32 * noise.deviation as f32).clamp(0.0, 1.0);
                }
            }
            Augment::Blur(blur) => {
                let sigma = draws.between(blur.sigma[0], blur.sigma[1]);
                if draws.unit() < blur.p {
                    colour::blur(work.colours(), size, sigma);
                }
            }
            Augment::Grayscale(gray) => {
                if draws.unit() < gray.p {
                    colour::grayscale(work.colours());
                }
            }
            // Made before all else.
            Augment::RandomCrop(_) | Augment::RandomResizedCrop(_) => {}
        }
    }
}

enum Cropped {
    Owned(OwnedPicture),
    /// Of the picture itself, at this row and column.
    At(usize, usize),
}

/// `[top, left, height, width]` of a part of random area and shape; after ten that do not fit, the largest in the middle.
fn part(crop: &RandomResizedCrop, picture: Picture, draws: &mut Draws) -> [usize; 4] {
    let (height, width) = (picture.height as f64, picture.width as f64);
    let [least, greatest] = crop.ratio.map(f64::ln);
    for _ in 0..10 {
        let area = height * width * draws.between(crop.scale[0], crop.scale[1]);
        let ratio = draws.between(least, greatest).exp();
        let (w, h) = ((area * ratio).sqrt().round() as usize, (area / ratio).sqrt().round() as usize);
        if (1..=picture.width).contains(&w) && (1..=picture.height).contains(&h) {
            return [draws.below(picture.height - h + 1), draws.below(picture.width - w + 1), h, w];
        }
    }
    let ratio = (width / height).clamp(crop.ratio[0], crop.ratio[1]);
    let (h, w) = (height.min(width / ratio).round().max(1.0), width.min(height * ratio).round().max(1.0));
    let (h, w) = (h as usize, w as usize);
    [(picture.height - h) / 2, (picture.width - w) / 2, h, w]
}

/// The part at `[top, left]` of a picture that goes beyond its edge.
fn padded(
    picture: Picture,
    [top, left]: [isize; 2],
    [height, width]: [usize; 2],
    mode: Padding,
) -> OwnedPicture {
    let channels = picture.channels;
    let mut pixels = vec![0; height * width * channels];
    let source = |at: isize, side: usize| match mode {
        Padding::Zero => (0..side as isize).contains(&at).then_some(at as usize),
        Padding::Reflect => {
            let last = side as isize - 1;
            Some((last - (last - at.abs()).abs()).clamp(0, last) as usize)
        }
    };
    for (y, row) in pixels.chunks_exact_mut(width * channels).enumerate() {
        let Some(from_y) = source(top + y as isize, picture.height) else { continue };
        let from = &picture.pixels[from_y * picture.width * channels..][..picture.width * channels];
        // Most of a row is in one piece.
        let first = left.clamp(0, picture.width as isize) as usize;
        let end = (left + width as isize).clamp(0, picture.width as isize) as usize;
        let at = (first as isize - left) as usize;
        if first < end {
            row[at * channels..(at + end - first) * channels]
                .copy_from_slice(&from[first * channels..end * channels]);
        }
        for x in (0..at.min(width)).chain(at + end.saturating_sub(first)..width) {
            if let Some(from_x) = source(left + x as isize, picture.width) {
                let pixel = &from[from_x * channels..][..channels];
                row[x * channels..][..channels].copy_from_slice(pixel);
            }
        }
    }
    OwnedPicture { height, width, channels, pixels }
}

/// Fills a rectangle with the mean colour.
fn erase<const C: usize>(work: &mut Work<'_, C>, erasing: &RandomErasing, mean: [f32; C], draws: &mut Draws) {
    if draws.unit() >= erasing.p {
        return;
    }
    let [height, width] = work.size;
    let [least, greatest] = erasing.ratio.map(f64::ln);
    for _ in 0..10 {
        let area = (height * width) as f64 * draws.between(erasing.scale[0], erasing.scale[1]);
        let ratio = draws.between(least, greatest).exp();
        let (h, w) = ((area * ratio).sqrt().round() as usize, (area / ratio).sqrt().round() as usize);
        if h < height && w < width {
            let (top, left) = (draws.below(height - h + 1), draws.below(width - w + 1));
            for row in work.colours().chunks_exact_mut(width).skip(top).take(h) {
                row[left..left + w].fill(mean);
            }
            return;
        }
    }
}

impl<const C: usize> Work<'_, C> {
    /// Mirrors along an axis: 0 up and down, 1 left and right.
    fn flip(&mut self, axis: usize) {
        match (&mut self.map, self.drawn) {
            (None, false) => {
                self.flips[axis] ^= true;
                self.back = Map::flip(axis).then(self.back);
            }
            _ => self.map(Map::flip(axis)),
        }
    }

    /// Moves pixels by a map from places in the result to places before.
    fn map(&mut self, map: Map) {
        self.back = map.then(self.back);
        if !self.drawn {
            // Flips that came before are part of the way.
            let before = self.map.take().unwrap_or_else(|| {
                let flips = std::mem::take(&mut self.flips);
                (0..2).filter(|&axis| flips[axis]).fold(Map::NONE, |map, axis| map.then(Map::flip(axis)))
            });
            self.map = Some(map.then(before));
            return;
        }
        let copy = self.out.to_vec();
        let [_, width] = self.size;
        sample::<C, f32>(&copy, width * C, self.size, map, [[1.0, 0.0]; C], self.out);
    }

    /// The picture's colours, where white is 1: `[height · width, channels]`.
    fn colours(&mut self) -> &mut [[f32; C]] {
        if !self.drawn {
            self.draw([[1.0 / 255.0, 0.0]; C]);
            self.drawn = true;
        }
        self.out.as_chunks_mut::<C>().0
    }

    /// Writes what is in the frame, each channel times a factor and plus a summand.
    fn draw(&mut self, lines: [[f32; 2]; C]) {
        let [height, width] = self.size;
        let frame = &self.frame;
        if let Some(map) = self.map {
            let pixels = &frame.pixels[frame.start..];
            return sample::<C, u8>(pixels, frame.stride, self.size, map, lines, self.out);
        }
        let [up_down, left_right] = self.flips;
        for (y, out) in self.out.chunks_exact_mut(width * C).enumerate() {
            let y = if up_down { height - 1 - y } else { y };
            let row = frame.pixels[frame.start + y * frame.stride..][..width * C].as_chunks::<C>().0;
            let out = out.as_chunks_mut::<C>().0;
            let put = |out: &mut [f32; C], pixel: &[u8; C]| {
                for c in 0..C {
                    out[c] = f32::from(pixel[c]) * lines[c][0] + lines[c][1];
                }
            };
            match left_right {
                true => out.iter_mut().zip(row.iter().rev()).for_each(|(out, pixel)| put(out, pixel)),
                false => out.iter_mut().zip(row).for_each(|(out, pixel)| put(out, pixel)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
