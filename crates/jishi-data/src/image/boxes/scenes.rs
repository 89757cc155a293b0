//! Pictures with boxes on their way to a model: changed at random, boxes and all.

use std::sync::Arc;

use rayon::prelude::*;

use super::super::augment::Augmentation;
use super::super::augment::draws::Draws;
use super::super::pictures::Pictures;
use super::super::preparation::Preparation;
use super::Object;

/// Share of a box that has to be left inside of a changed picture for it to count as one.
const LEFT: f64 = 0.25;
/// Pixels that a side of it must have.
const LEAST: f64 = 2.0;

/// Pictures with boxes, and the random changes of training.
#[derive(Debug, Clone)]
pub struct Scenes {
    /// The pictures as they were read.
    pub pictures: Arc<Pictures>,
    /// `[height, width]` of each before it was scaled.
    pub sizes: Vec<[usize; 2]>,
    /// The boxes of each, in pixels of the picture before it was scaled.
    pub objects: Vec<Vec<Object>>,
    /// Size, colours and scale.
    pub preparation: Preparation,
    /// Random changes in training.
    pub augmentation: Augmentation,
    /// Probability that a training picture is put together of four.
    pub mosaic: f64,
}

/// What a model sees of a picture in training.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// `[height, width, channels]`
    pub values: Vec<f32>,
    /// Boxes in pixels of it.
    pub objects: Vec<Object>,
}

impl Scenes {
    /// The boxes of a picture as prediction sees it.
    ///
    /// # Panics
    /// Where there is no such picture.
    #[must_use]
    pub fn plain(&self, row: usize) -> Vec<Object> {
        let way = self.preparation.way(self.sizes[row]);
        self.kept(&self.objects[row], |place| way.place(place))
    }

    /// A training picture, changed at random. `others` are those that a mosaic may take from.
    ///
    /// # Panics
    /// Where there is no such picture.
    pub fn changed(&self, row: u32, others: &[u32], draw: &mut dyn FnMut() -> u32) -> Scene {
        if self.mosaic == 0.0 || others.is_empty() || Draws(draw).unit() >= self.mosaic {
            return self.single(row, draw);
        }
        let [height, width, channels] = self.preparation.shape();
        let mut draws = Draws(draw);
        let middle = [height, width].map(|side| {
            (draws.between(0.25, 0.75) * side as f64).round().clamp(1.0, side as f64 - 1.0) as usize
        });
        let mut whole = Scene { values: vec![0.0; height * width * channels], objects: Vec::new() };
        for quarter in 0..4 {
            let row = if quarter == 0 { row } else { others[Draws(draw).below(others.len())] };
            let scene = self.single(row, draw);
            // The corner of each that is nearest to the middle lies on it.
            let (low, right) = (quarter / 2, quarter % 2);
            let (rows, from_y) = span(low, middle[0], height);
            let (columns, from_x) = span(right, middle[1], width);
            for y in rows.clone() {
                let to = (y * width + columns.start) * channels;
                let from = ((y + from_y - rows.start) * width + from_x) * channels;
                let length = columns.len() * channels;
                whole.values[to..to + length].copy_from_slice(&scene.values[from..from + length]);
            }
            let bounds = [columns.start, rows.start, columns.end, rows.end].map(|v| v as f64);
            let shift = [columns.start as f64 - from_x as f64, rows.start as f64 - from_y as f64];
            let moved = |p: [f64; 4]| [p[0] + shift[0], p[1] + shift[1], p[2] + shift[0], p[3] + shift[1]];
            whole.objects.extend(kept(&scene.objects, bounds, moved));
        }
        whole
    }

    fn single(&self, row: u32, draw: &mut dyn FnMut() -> u32) -> Scene {
        let mut values = vec![0.0; self.preparation.shape().iter().product()];
        let row = row as usize;
        let moved = self.augmentation.apply(self.pictures.get(row), draw, &mut values);
        let way = self.preparation.way(self.sizes[row]);
        let objects = self.kept(&self.objects[row], |place| moved.place(way.place(place)));
        Scene { values, objects }
    }

    /// [`Self::changed`] for several pictures on all cores. `draws` gives the random numbers of a place in the batch.
    ///
    /// # Panics
    /// Where a row is no picture.
    pub fn batch<D: FnMut() -> u32>(
        &self,
        rows: &[u32],
        others: &[u32],
        draws: impl Fn(usize) -> D + Sync,
    ) -> Vec<Scene> {
        rows.par_iter().enumerate().map(|(i, row)| self.changed(*row, others, &mut draws(i))).collect()
    }

    fn kept(&self, objects: &[Object], moved: impl Fn([f64; 4]) -> [f64; 4]) -> Vec<Object> {
        let [height, width, _] = self.preparation.shape();
        kept(objects, [0.0, 0.0, width as f64, height as f64], moved)
    }
}

/// Places of a quarter along an axis, and where what it shows begins in its picture.
fn span(second: usize, middle: usize, side: usize) -> (std::ops::Range<usize>, usize) {
    if second == 0 { (0..middle, side - middle) } else { (middle..side, 0) }
}

/// Boxes where they have moved to, cut at `bounds`; those of which too little is left are left out.
fn kept(objects: &[Object], bounds: [f64; 4], moved: impl Fn([f64; 4]) -> [f64; 4]) -> Vec<Object> {
    let area = |[left, top, right, bottom]: [f64; 4]| (right - left).max(0.0) * (bottom - top).max(0.0);
    let one = |object: &Object| {
        let whole = moved(object.place);
        let place = [
            whole[0].max(bounds[0]),
            whole[1].max(bounds[1]),
            whole[2].min(bounds[2]),
            whole[3].min(bounds[3]),
        ];
        let sides = [place[2] - place[0], place[3] - place[1]];
        // A box that is small in itself is learned as it is.
        let least = [whole[2] - whole[0], whole[3] - whole[1]].map(|side| side.min(LEAST));
        let enough = area(place) >= LEFT * area(whole) && sides[0] >= least[0] && sides[1] >= least[1];
        (enough && area(place) > 0.0).then_some(Object { place, ..*object })
    };
    objects.iter().filter_map(one).collect()
}
