//! Detectors: models that tell where the objects of an image are, and what they are.
//!
//! A detector looks at a fixed list of places ([`DetectorConfig::places`]). For each it gives logits of the classes and
//! numbers for a box. What the numbers mean, which places are to find which object, and the loss are a family's own:
//! [`yolo`] and [`ssd`]. Losses and their gradients are found together, in plain code; the tape sees one sum.

pub mod assign;
pub mod boxes;
mod dual;
mod levels;
mod parts;
pub mod ssd;
#[cfg(test)]
mod tests;
pub mod yolo;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use jishi_recipe::{Model, Problem, Problems};
use serde::{Deserialize, Serialize};

pub use boxes::{Found, Rect, overlap};
pub use ssd::{Backbone, Ssd, SsdConfig};
pub use yolo::{Yolo, YoloConfig};

use crate::context::Context;

/// Sizes of a detector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "model_type", rename_all = "kebab-case")]
pub enum DetectorConfig {
    /// YOLO.
    Yolo(YoloConfig),
    /// SSD.
    Ssd(SsdConfig),
}

/// A detector.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
#[derive(Module, Debug)]
pub enum Detector {
    /// YOLO.
    Yolo(Yolo),
    /// SSD.
    Ssd(Ssd),
}

/// What a detector gives for a batch.
#[derive(Debug, Clone)]
pub struct Output {
    /// Logits of the classes at every place, `[batch, places, scores]`.
    pub classes: Tensor<3>,
    /// Numbers for a box at every place, `[batch, places, numbers]`.
    pub boxes: Tensor<3>,
}

/// An object that is to be found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Truth {
    /// Its class.
    pub class: usize,
    /// Left, top, right and bottom, in pixels of what the model sees.
    pub place: Rect,
}

/// The loss of a batch and its gradients.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// Mean over the batch's objects, times its images.
    pub value: f64,
    /// Of the logits, as long as they are.
    pub classes: Vec<f32>,
    /// Of the numbers for boxes, as long as they are.
    pub boxes: Vec<f32>,
}

impl DetectorConfig {
    /// The sizes of a recipe's model of images of a shape, `[height, width, channels]`.
    ///
    /// # Errors
    /// Names all sizes that make no model. A family that finds nothing is one.
    pub fn from_recipe(model: &Model, shape: [usize; 3], classes: usize) -> Result<Self, Problems> {
        let config = match model {
            Model::Yolo(model) => Self::Yolo(YoloConfig::from_recipe(model, shape, classes)),
            Model::Ssd(model) => Self::Ssd(SsdConfig::from_recipe(model, shape, classes)),
            other => {
                let message = format!("`model.family` is \"{}\", which is no detector", other.family());
                return Err(Problem::new(message).help("yolo and ssd are").into());
            }
        };
        config.check().map(|()| config)
    }

    /// That these are the sizes of a model.
    ///
    /// # Errors
    /// Names all sizes that make no model.
    pub fn check(&self) -> Result<(), Problems> {
        match self {
            Self::Yolo(config) => config.check(),
            Self::Ssd(config) => config.check(),
        }
    }

    /// Classes that it tells.
    #[must_use]
    pub fn classes(&self) -> usize {
        match self {
            Self::Yolo(config) => config.classes,
            Self::Ssd(config) => config.classes,
        }
    }

    /// `[height, width, channels]` of an image.
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        match self {
            Self::Yolo(config) => config.shape,
            Self::Ssd(config) => config.shape,
        }
    }

    /// Boxes of a class that overlap a surer one by more than this are left out.
    #[must_use]
    pub fn nms(&self) -> f64 {
        match self {
            Self::Yolo(config) => config.nms,
            Self::Ssd(config) => config.nms,
        }
    }

    /// How many places there are.
    #[must_use]
    pub fn places(&self) -> usize {
        match self {
            Self::Yolo(config) => yolo::points(config).len(),
            Self::Ssd(config) => ssd::anchors(config).len(),
        }
    }

    /// Scores of an image's classes at every place, `[places, classes]`, and the boxes there in pixels. `classes` and
    /// `boxes` are what the model gives for it.
    #[must_use]
    pub fn scored(&self, classes: &[f32], boxes: &[f32]) -> (Vec<f32>, Vec<Rect>) {
        match self {
            Self::Yolo(config) => yolo::scored(config, classes, boxes),
            Self::Ssd(config) => ssd::scored(config, classes, boxes),
        }
    }

    /// The part of a box that is on the image: what is beyond its edge can't be seen.
    #[must_use]
    pub fn inside(&self, place: Rect) -> Rect {
        let [height, width, _] = self.shape();
        let edge = [width as f32, height as f32];
        std::array::from_fn(|i| place[i].clamp(0.0, edge[i % 2]))
    }

    /// The objects of an image, the surest first: at most `most`, with scores of at least `least`; of boxes of a class that
    /// overlap, the surest.
    #[must_use]
    pub fn find(&self, classes: &[f32], boxes: &[f32], least: f32, most: usize) -> Vec<Found> {
        let (scores, places) = self.scored(classes, boxes);
        let n = self.classes();
        let mut found = Vec::new();
        for (place, scores) in places.into_iter().zip(scores.chunks_exact(n)) {
            let place = self.inside(place);
            let sure = scores.iter().enumerate().filter(|(_, score)| **score >= least);
            found.extend(sure.map(|(class, score)| Found { class, score: *score, place }));
        }
        boxes::suppress(found, self.nms() as f32, most)
    }
}

impl Detector {
    /// A model with initial weights from `seed`.
    #[must_use]
    pub fn init(config: &DetectorConfig, seed: u64, device: &Device) -> Self {
        match config {
            DetectorConfig::Yolo(config) => Self::Yolo(Yolo::init(config, seed, device)),
            DetectorConfig::Ssd(config) => Self::Ssd(Ssd::init(config, seed, device)),
        }
    }

    /// Its sizes.
    #[must_use]
    pub fn config(&self) -> DetectorConfig {
        match self {
            Self::Yolo(model) => DetectorConfig::Yolo(model.config().clone()),
            Self::Ssd(model) => DetectorConfig::Ssd(model.config().clone()),
        }
    }

    /// # Shapes
    /// - input: `[batch, height, width, channels]`
    /// - output: `[batch, places, ..]` each
    pub fn forward(&self, x: Tensor<4>, context: &mut Context) -> Output {
        match self {
            Self::Yolo(model) => model.forward(x, context),
            Self::Ssd(model) => model.forward(x, context),
        }
    }

    /// The loss of a batch, `[1]`: the mean over its objects, times its images.
    ///
    /// # Panics
    /// Where there are not as many lists of objects as images.
    #[must_use]
    pub fn loss(&self, output: Output, truths: &[Vec<Truth>]) -> Tensor<1> {
        let Output { classes, boxes } = output;
        let values = |x: &Tensor<3>| {
            let x = if x.is_autodiff() { x.clone().inner() } else { x.clone() };
            x.into_data().try_to_vec::<f32>().expect("models give f32")
        };
        let (logits, numbers) = (values(&classes), values(&boxes));
        let loss = match self {
            Self::Yolo(model) => yolo::loss(model.config(), &logits, &numbers, truths),
            Self::Ssd(model) => ssd::loss(model.config(), &logits, &numbers, truths),
        };
        with_gradients(classes, loss.classes, &logits, boxes, loss.boxes, &numbers, loss.value)
    }
}

/// A number that is `value` and has these gradients.
fn with_gradients(
    classes: Tensor<3>,
    of_classes: Vec<f32>,
    logits: &[f32],
    boxes: Tensor<3>,
    of_boxes: Vec<f32>,
    numbers: &[f32],
    value: f64,
) -> Tensor<1> {
    let product =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    let rest = value - product(&of_classes, logits) - product(&of_boxes, numbers);
    let device = classes.device().inner();
    let constant = |values: Vec<f32>, like: &Tensor<3>| -> Tensor<3> {
        Tensor::from_data(TensorData::new(values, like.dims()), &device)
    };
    let (of_classes, of_boxes) = (constant(of_classes, &classes), constant(of_boxes, &boxes));
    (classes * of_classes).sum() + (boxes * of_boxes).sum() + rest
}
