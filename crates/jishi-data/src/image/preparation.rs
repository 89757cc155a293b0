//! From a picture to what a model takes. It is fitted on the training split alone, and is a part of the model's package:
//! what is predicted goes the same way as what was trained.

use jishi_recipe::{Channels, Fit, Image, Interpolation, Normalize, Problem, Size};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::decode::decode;
use super::pictures::{OwnedPicture, Picture, Pictures};
use super::scaling::{Room, Scaling, Way, middle};

/// Mean and standard deviation of ImageNet's red, green and blue, where white is 1.
pub const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// How pictures become numbers: size, colours, mean and standard deviation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preparation {
    /// `[height, width]` that the model sees.
    size: [usize; 2],
    channels: Channels,
    fit: Fit,
    /// Pictures are kept larger than the size, of which the model sees the middle.
    #[serde(default)]
    room: Room,
    #[serde(default)]
    interpolation: Interpolation,
    /// `[channels]`, where white is 1.
    mean: Vec<f32>,
    /// `[channels]`
    std: Vec<f32>,
}

impl Preparation {
    /// The preparation that a recipe asks for. Figures are those of the `train` rows of `pictures`, which were read as the
    /// same recipe says; `name` tells what a picture is called in problems.
    ///
    /// # Errors
    /// Pictures of different sizes, where the recipe names none.
    pub fn fit<'a>(
        image: &Image,
        pictures: &Pictures,
        train: &[u32],
        name: impl Fn(usize) -> &'a str,
    ) -> Result<Self, Problem> {
        let size = match image.size {
            Some(size) => size.sides(),
            None => same_size(pictures, name)?,
        };
        let channels = image.channels;
        let of_imagenet = |values: [f32; 3]| match channels {
            Channels::Rgb => values.to_vec(),
            // Grey is a sum of the colours, and so is its mean. Its deviation is about theirs.
            Channels::Gray => vec![(values[0] * 299.0 + values[1] * 587.0 + values[2] * 114.0) / 1000.0],
        };
        let (mean, std) = match image.normalize.unwrap_or_default() {
            Normalize::None => (vec![0.0; channels.count()], vec![1.0; channels.count()]),
            Normalize::Half => (vec![0.5; channels.count()], vec![0.5; channels.count()]),
            Normalize::Imagenet => (of_imagenet(IMAGENET.0), of_imagenet(IMAGENET.1)),
            Normalize::Dataset => moments(pictures, train),
        };
        let Scaling { fit, room, filter: interpolation, .. } = Scaling::of(image);
        Ok(Self { size, channels, fit, room, interpolation, mean, std })
    }

    /// A preparation with known figures, for a model from elsewhere: `image` names a size, mean and standard deviation are
    /// of values where white is 1, `[channels]` each.
    ///
    /// # Errors
    /// No size or one of 0, or figures that are not one a channel.
    pub fn with(image: &Image, mean: Vec<f32>, std: Vec<f32>) -> Result<Self, Problem> {
        let size = image.size.map_or([0, 0], Size::sides);
        let Scaling { fit, room, filter: interpolation, .. } = Scaling::of(image);
        let new = Self { size, channels: image.channels, fit, room, interpolation, mean, std };
        new.check().map(|()| new)
    }

    /// What a recipe says of a preparation: all but its figures.
    #[must_use]
    pub fn image(&self) -> Image {
        Image {
            size: Some(Size::Sides(self.size)),
            channels: self.channels,
            fit: self.fit,
            crop_pct: if let Room::Share(share) = self.room { Some(share) } else { None },
            interpolation: self.interpolation,
            ..Image::default()
        }
    }

    /// The same with another mean and deviation, `[channels]` each, where white is 1.
    ///
    /// # Errors
    /// Figures that are not one a channel.
    pub fn figures(self, mean: &[f32], std: &[f32]) -> Result<Self, Problem> {
        let new = Self { mean: mean.to_vec(), std: std.to_vec(), ..self };
        new.check().map(|()| new)
    }

    /// Whether it makes sense: it may come from a file.
    ///
    /// # Errors
    /// A size of 0 or beyond reason, or figures that are not one a channel.
    pub fn check(&self) -> Result<(), Problem> {
        let n = self.channels.count();
        let sides = self.size.iter().all(|side| (1..=16_384).contains(side));
        let figures = self.mean.len() == n
            && self.std.len() == n
            && self.mean.iter().all(|m| m.is_finite())
            && self.std.iter().all(|s| s.is_finite() && *s > 0.0);
        let share = !matches!(self.room, Room::Share(share) if !(0.1..=1.0).contains(&share));
        if sides && figures && share {
            return Ok(());
        }
        Err(Problem::new(format!(
            "the preparation of pictures makes no sense: size {:?}, {n} channels, mean {:?}, deviation {:?}",
            self.size, self.mean, self.std
        )))
    }

    /// `[height, width, channels]` of what [`Self::apply`] makes.
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        [self.size[0], self.size[1], self.channels.count()]
    }

    /// Colours.
    #[must_use]
    pub fn channels(&self) -> Channels {
        self.channels
    }

    /// Mean of each channel, where white is 1, `[channels]`.
    #[must_use]
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Standard deviation of each channel, where white is 1, `[channels]`.
    #[must_use]
    pub fn std(&self) -> &[f32] {
        &self.std
    }

    /// The picture that a file's bytes hold, scaled as training pictures were when they were read.
    ///
    /// # Errors
    /// What is no picture, damaged, cut short or too large.
    pub fn decode(&self, bytes: &[u8]) -> Result<OwnedPicture, Problem> {
        Ok(self.decode_sized(bytes)?.0)
    }

    /// As [`Self::decode`], with the picture's `[height, width]` before it was scaled.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_sized(&self, bytes: &[u8]) -> Result<(OwnedPicture, [usize; 2]), Problem> {
        let picture = decode(bytes, self.channels).map_err(|bad| Problem::new(bad.message))?;
        let size = [picture.height, picture.width];
        Ok((self.scaling().apply(picture), size))
    }

    /// Where what is on a picture of `[height, width]` is in what the model sees of it. Only of a preparation that sees all
    /// of what was read: for boxes, see [`super::for_boxes`].
    #[must_use]
    pub fn way(&self, size: [usize; 2]) -> Way {
        self.scaling().way(size)
    }

    pub(crate) fn scaling(&self) -> Scaling {
        Scaling { size: Some(self.size), fit: self.fit, room: self.room, filter: self.interpolation }
    }

    /// Factor and summand that take a value of 0 to 255 to what the model sees, by channel.
    pub(super) fn line(&self, channel: usize) -> [f32; 2] {
        [1.0 / (255.0 * self.std[channel]), -self.mean[channel] / self.std[channel]]
    }

    /// Writes what the model sees, `[height, width, channels]`: the middle of the picture, less the mean, by the
    /// deviation. A picture that is smaller than the size is scaled first.
    ///
    /// # Panics
    /// Where `out` has another length, or the picture another number of channels.
    pub fn apply(&self, picture: Picture<'_>, out: &mut [f32]) {
        let [height, width] = self.size;
        if picture.height < height || picture.width < width {
            let scaled = Scaling { room: Room::None, ..self.scaling() }.apply(picture.to_owned());
            return self.apply(scaled.view(), out);
        }
        let (top, left) = (middle(picture.height, height), middle(picture.width, width));
        assert_eq!(out.len(), height * width * self.channels.count(), "room for one picture");
        match self.channels {
            Channels::Gray => self.rows::<1>(picture, top, left, out),
            Channels::Rgb => self.rows::<3>(picture, top, left, out),
        }
    }

    fn rows<const C: usize>(&self, picture: Picture, top: usize, left: usize, out: &mut [f32]) {
        assert_eq!(picture.channels, C, "a picture with the channels of the model");
        let width = self.size[1];
        let lines: [[f32; 2]; C] = std::array::from_fn(|c| self.line(c));
        for (y, out) in out.chunks_exact_mut(width * C).enumerate() {
            let at = ((top + y) * picture.width + left) * C;
            let row = picture.pixels[at..at + width * C].as_chunks::<C>().0;
            for (out, pixel) in out.as_chunks_mut::<C>().0.iter_mut().zip(row) {
                for c in 0..C {
                    out[c] = f32::from(pixel[c]) * lines[c][0] + lines[c][1];
                }
            }
        }
    }

    /// What the model sees of several pictures, `[rows, height, width, channels]`, on all cores.
    ///
    /// # Panics
    /// Where `out` has another length, or a row is no picture.
    pub fn batch(&self, pictures: &Pictures, rows: &[u32], out: &mut [f32]) {
        let [height, width, channels] = self.shape();
        assert_eq!(out.len(), rows.len() * height * width * channels, "room for the pictures");
        out.par_chunks_exact_mut(height * width * channels)
            .zip(rows)
            .for_each(|(out, &row)| self.apply(pictures.get(row as usize), out));
    }

    /// The picture that a model sees as `values`, `[height, width, channels]`; what is beyond black and white is cut.
    #[must_use]
    pub fn picture(&self, values: &[f32]) -> OwnedPicture {
        let [height, width, channels] = self.shape();
        let pixels = values.iter().enumerate().map(|(i, value)| {
            let c = i % channels;
            ((value * self.std[c] + self.mean[c]) * 255.0).round().clamp(0.0, 255.0) as u8
        });
        OwnedPicture { height, width, channels, pixels: pixels.collect() }
    }
}

/// The size of all pictures.
fn same_size<'a>(pictures: &Pictures, name: impl Fn(usize) -> &'a str) -> Result<[usize; 2], Problem> {
    let first = if pictures.is_empty() { [1, 1] } else { pictures.size(0) };
    match (1..pictures.len()).find(|&i| pictures.size(i) != first) {
        None => Ok(first),
        Some(i) => {
            let [[h, w], [other_h, other_w]] = [first, pictures.size(i)];
            Err(Problem::new(format!(
                "the pictures are of different sizes: `{}` has {h} × {w} pixels, `{}` {other_h} × {other_w} (height × width)",
                name(0),
                name(i)
            ))
            .help("say which size the model is to see, for example `size = 64` in `[image]`"))
        }
    }
}

/// Mean and standard deviation of each channel over all pixels of pictures, where white is 1.
fn moments(pictures: &Pictures, rows: &[u32]) -> (Vec<f32>, Vec<f32>) {
    let channels = pictures.channels();
    // Whole numbers: the sum does not depend on the order.
    let (sums, n) = rows
        .par_iter()
        .map(|&row| {
            let picture = pictures.get(row as usize);
            let mut sums = [[0u64; 2]; 3];
            for pixel in picture.pixels.chunks_exact(channels) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    sum[0] += u64::from(value);
                    sum[1] += u64::from(value) * u64::from(value);
                }
            }
            (sums, (picture.height * picture.width) as u64)
        })
        .reduce(
            || ([[0; 2]; 3], 0),
            |(a, n), (b, m)| ([0, 1, 2].map(|c| [0, 1].map(|i| a[c][i] + b[c][i])), n + m),
        );
    let n = n.max(1) as f64;
    let mean = |c: usize| sums[c][0] as f64 / n;
    let std = |c: usize| {
        let variance = sums[c][1] as f64 / n - mean(c).powi(2);
        // A colour that never changes is only shifted.
        if variance > 1e-9 { variance.sqrt() } else { 255.0 }
    };
    let unit = |of: &dyn Fn(usize) -> f64| (0..channels).map(|c| (of(c) / 255.0) as f32).collect();
    (unit(&mean), unit(&std))
}
