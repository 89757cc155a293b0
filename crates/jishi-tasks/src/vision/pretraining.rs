//! What tasks that learn from images without labels have in common.

use burn::tensor::{Device, Tensor};
use jishi_data::image::OwnedPicture;
use jishi_models::Context;
use jishi_recipe::Recipe;

use crate::task::{Evaluation, SplitName, Task, TaskError};
use crate::vision::Images;

/// Seed of what is drawn in an evaluation, so that all evaluations of a model see the same.
const EVALUATION: u64 = 0x6a69_7368_6921;

/// Images, split.
#[derive(Debug, Clone)]
pub struct UnlabelledImages {
    /// The images.
    pub images: Images,
    /// Images of each split.
    pub rows: [Vec<u32>; 3],
}

impl UnlabelledImages {
    /// Some training images, changed at random as a whole batch, in parts of at most `most` images.
    ///
    /// # Shapes
    /// - output: `[images, height, width, channels]` each
    pub(crate) fn parts(&self, rows: &[u32], most: usize, pass: &Context, device: &Device) -> Vec<Tensor<4>> {
        let train = &self.rows[SplitName::Train as usize];
        let rows: Vec<u32> = rows.iter().map(|row| train[*row as usize]).collect();
        let values = self.images.changed(&rows, pass);
        // Constants need no tape.
        let device = device.clone().inner();
        let parts = values.chunks(most * self.images.size());
        parts.map(|values| self.images.tensor(values.to_vec(), &device)).collect()
    }
}

/// A task that learns from images without labels, and whose model afterwards gives vectors of images.
pub trait ImagePretraining: Task + Sized {
    /// The task of a recipe; without data where a trained model is at work.
    fn new(recipe: &Recipe, data: Option<UnlabelledImages>, device: &Device) -> Self;

    /// Its data.
    fn data(&self) -> Option<&UnlabelledImages>;

    /// The metric that is shown first.
    fn primary_metric(&self) -> &'static str;

    /// What the task does, as the end of the sentence "A model of the family … that".
    fn does(&self) -> String;

    /// Loss and metrics over some images.
    ///
    /// # Errors
    /// [`TaskError::NonFinite`] where a value is NaN or infinite.
    fn measure(&self, model: &Self::Model, images: &Images, rows: &[u32]) -> Result<Evaluation, TaskError>;

    /// Vectors of images, row-major `[rows, features]`, and how many values each has.
    ///
    /// # Errors
    /// As [`Self::measure`].
    fn embed(
        &self,
        model: &Self::Model,
        images: &Images,
        rows: &[u32],
    ) -> Result<(Vec<f32>, usize), TaskError>;

    /// Pictures that show what the model does with some images: a few of each, with a caption. Nothing where there is
    /// nothing to see.
    ///
    /// # Errors
    /// As [`Self::measure`].
    fn shown(
        &self,
        _model: &Self::Model,
        _images: &Images,
        _rows: &[u32],
    ) -> Result<Vec<Vec<(OwnedPicture, &'static str)>>, TaskError> {
        Ok(Vec::new())
    }
}

/// What is drawn for the rows of an evaluation that begin with this one.
pub(crate) fn pass(first: usize) -> Context {
    Context::training(EVALUATION, 0, first)
}

/// Values of rows of so many values each, all of them finite. `first`: the number of the first row.
pub(crate) fn finite(values: &[f32], width: usize, first: usize) -> Result<(), TaskError> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(at) => {
            Err(TaskError::NonFinite { found: f64::from(values[at]), row: first + at / width.max(1) })
        }
        None => Ok(()),
    }
}
