//! Pictures from a generator.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use jishi_data::image::{OwnedPicture, Preparation};
use jishi_models::{Context, Generator, Rng, rng};
use jishi_recipe::Precision;

use crate::task::TaskError;

/// Pictures that are made at a time. Always as many, so that a picture does not depend on how many were asked for.
const BLOCK: usize = 64;
/// Black pixels between the pictures of a grid.
const GAP: usize = 2;

/// A generator at work.
#[derive(Debug)]
pub struct Maker {
    generator: Generator,
    latent: usize,
    preparation: Preparation,
    precision: Precision,
    device: Device,
}

impl Maker {
    /// A generator that makes pictures of `latent` numbers, which are what `preparation` makes of real ones.
    #[must_use]
    pub fn new(
        generator: &Generator,
        latent: usize,
        preparation: &Preparation,
        precision: Precision,
        device: &Device,
    ) -> Self {
        Self {
            generator: generator.valid(),
            latent,
            preparation: preparation.clone(),
            precision,
            device: device.clone().inner(),
        }
    }

    /// The numbers that pictures of a seed are made from, standard normal, `[count, latent]`: each depends on the seed and
    /// its own number alone.
    #[must_use]
    pub fn latents(&self, seed: u64, numbers: std::ops::Range<usize>) -> Vec<f32> {
        let mut values = Vec::with_capacity(numbers.len() * self.latent);
        for i in numbers {
            let mut rng = Rng::new(seed, rng::stream("latent", i as u64));
            values.extend((0..self.latent).map(|_| rng.normal()));
        }
        values
    }

    /// What the generator gives for latents, `[count, height, width, channels]` with values from −1 to 1.
    ///
    /// # Errors
    /// [`TaskError::NonFinite`] where it gives no numbers.
    pub fn values(&self, latents: &[f32]) -> Result<Vec<f32>, TaskError> {
        let size: usize = self.preparation.shape().iter().product();
        let mut values = Vec::with_capacity(latents.len() / self.latent.max(1) * size);
        for part in latents.chunks(BLOCK * self.latent) {
            let mut whole = part.to_vec();
            whole.resize(BLOCK * self.latent, 0.0);
            let noise = Tensor::from_data(TensorData::new(whole, [BLOCK, self.latent]), &self.device);
            let mut context = Context::evaluation().with_precision(self.precision);
            let made = self.generator.forward(noise, &mut context); // [BLOCK, height, width, channels]
            let made = made.into_data().try_to_vec::<f32>().expect("models give f32");
            let made = &made[..part.len() / self.latent * size];
            if let Some(i) = made.iter().position(|v| !v.is_finite()) {
                let row = (values.len() + i) / size;
                return Err(TaskError::NonFinite { found: f64::from(made[i]), row });
            }
            values.extend_from_slice(made);
        }
        Ok(values)
    }

    /// Pictures of latents.
    ///
    /// # Errors
    /// As [`Self::values`].
    pub fn pictures(&self, latents: &[f32]) -> Result<Vec<OwnedPicture>, TaskError> {
        let size: usize = self.preparation.shape().iter().product();
        Ok(self.values(latents)?.chunks_exact(size).map(|values| self.preparation.picture(values)).collect())
    }

    /// The first pictures of a seed.
    ///
    /// # Errors
    /// As [`Self::values`].
    pub fn of_seed(&self, seed: u64, count: usize) -> Result<Vec<OwnedPicture>, TaskError> {
        self.pictures(&self.latents(seed, 0..count))
    }

    /// Rows of `steps` pictures, each from one picture of a seed to the next: along the great circle through both latents
    /// (White 2016, "Sampling Generative Networks", §2.1), where latents are as far from 0 as those that were trained on.
    ///
    /// # Errors
    /// As [`Self::values`].
    pub fn between(&self, seed: u64, rows: usize, steps: usize) -> Result<Vec<OwnedPicture>, TaskError> {
        let mut latents = Vec::new();
        for row in 0..rows {
            let both = self.latents(seed, 2 * row..2 * row + 2);
            let (a, b) = both.split_at(self.latent);
            for step in 0..steps {
                latents.extend(along(a, b, step as f32 / (steps - 1).max(1) as f32));
            }
        }
        self.pictures(&latents)
    }
}

/// A share of the way from `a` to `b`, on the great circle.
fn along(a: &[f32], b: &[f32], share: f32) -> Vec<f32> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f32::MIN_POSITIVE);
    let angle = cosine.clamp(-1.0, 1.0).acos();
    let (from, to) = match angle.sin() {
        // Both point the same way, or opposite ways.
        sine if sine < 1e-4 => (1.0 - share, share),
        sine => (((1.0 - share) * angle).sin() / sine, (share * angle).sin() / sine),
    };
    a.iter().zip(b).map(|(a, b)| from * a + to * b).collect()
}

/// Pictures of one size in a grid with as many rows as columns, or one row less.
#[must_use]
pub fn square(pictures: &[OwnedPicture]) -> OwnedPicture {
    grid(pictures, (pictures.len() as f64).sqrt().ceil() as usize)
}

/// Pictures of one size side by side, `columns` in a row.
#[must_use]
pub fn grid(pictures: &[OwnedPicture], columns: usize) -> OwnedPicture {
    let [height, width, channels] = pictures.first().map_or([0, 0, 1], |p| [p.height, p.width, p.channels]);
    let columns = columns.clamp(1, pictures.len().max(1));
    let rows = pictures.len().div_ceil(columns);
    let room = |count: usize, side: usize| count * (side + GAP) + GAP;
    let (all_height, all_width) = (room(rows, height), room(columns, width));
    let mut pixels = vec![0; all_height * all_width * channels];
    for (i, picture) in pictures.iter().enumerate() {
        let (top, left) = (room(i / columns, height), room(i % columns, width));
        for (y, row) in picture.pixels.chunks_exact(width * channels).enumerate() {
            let at = ((top + y) * all_width + left) * channels;
            pixels[at..at + row.len()].copy_from_slice(row);
        }
    }
    OwnedPicture { height: all_height, width: all_width, channels, pixels }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_holds_every_picture_at_its_place() {
        let picture = |value: u8| OwnedPicture { height: 2, width: 3, channels: 1, pixels: vec![value; 6] };
        let grid = grid(&[picture(10), picture(20), picture(30)], 2);
        assert_eq!((grid.height, grid.width), (2 * 4 + 2, 2 * 5 + 2));
        let at = |y: usize, x: usize| grid.pixels[y * grid.width + x];
        assert_eq!(
            [at(0, 0), at(2, 2), at(3, 4), at(2, 5), at(2, 7), at(6, 2), at(6, 7)],
            [0, 10, 10, 0, 20, 30, 0]
        );
    }

    #[test]
    fn the_way_between_latents_keeps_their_length() {
        let (a, b) = ([3.0, 0.0, 0.0], [0.0, 3.0, 0.0]);
        for share in [0.0, 0.3, 1.0] {
            let point = along(&a, &b, share);
            assert!((point.iter().map(|v| v * v).sum::<f32>().sqrt() - 3.0).abs() < 1e-5);
        }
        assert_eq!(along(&a, &b, 0.0), a);
        assert_eq!(along(&a, &a, 0.5), a);
    }
}
