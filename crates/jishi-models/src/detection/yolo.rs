//! YOLO (Redmon et al. 2016, "You Only Look Once") as it is without anchors: a backbone of cross-stage blocks (Wang et al.
//! 2020), levels joined from above and from below (Lin et al. 2017, "Feature Pyramid Networks"; Liu et al. 2018, "PANet"), a
//! head that tells classes and boxes apart (Ge et al. 2021, "YOLOX"), boxes as distributions over distances (Li et al. 2020,
//! "Generalized Focal Loss"), task-aligned assignment (Feng et al. 2021, "TOOD") and complete overlap as the loss of boxes
//! (Zheng et al. 2020). Activations are ReLU, which is part of the norm before it here, and SiLU in the head.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use jishi_recipe::networks::YoloModel;
use jishi_recipe::{Init, Problems};
use serde::{Deserialize, Serialize};

use super::assign::{Assigned, task_aligned};
use super::boxes::Rect;
use super::dual::complete_overlap;
use super::levels::{sigmoid, softmax};
use super::parts::{ConvNorm, CrossStage, Pyramid, joined, last};
use super::{Loss, Output, Truth};
use crate::context::Context;
use crate::gan::layers::doubled;
use crate::init::Scope;
use crate::layers::conv::Conv;
use crate::reference::sizes;

/// Pixels from one place of a level to the next.
pub const STRIDES: [usize; 3] = [8, 16, 32];
/// Distances, in places of a level, that the side of a box is a distribution over.
pub const BINS: usize = 16;
/// Weights of the three parts of the loss: classes, overlap, distances.
const WEIGHTS: [f64; 3] = [0.5, 7.5, 1.5];
/// Score that a new head gives to everything.
const RARE: f32 = 0.01;

/// Sizes of a YOLO.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct YoloConfig {
    /// `[height, width, channels]` of an image.
    pub shape: [usize; 3],
    /// Channels of the first convolution; levels have 4, 8 and 16 times as many.
    pub width: usize,
    /// Blocks of the first stage; the two stages in the middle have twice as many.
    pub depth: usize,
    /// Classes.
    pub classes: usize,
    /// Boxes of a class that overlap a surer one by more than this are left out.
    pub nms: f64,
}

impl YoloConfig {
    /// The sizes of a recipe.
    #[must_use]
    pub fn from_recipe(model: &YoloModel, shape: [usize; 3], classes: usize) -> Self {
        Self { shape, width: model.width(), depth: model.depth(), classes, nms: model.nms }
    }

    /// That these are the sizes of a model.
    ///
    /// # Errors
    /// Names all sizes that make no model.
    pub fn check(&self) -> Result<(), Problems> {
        let [height, width, channels] = self.shape;
        let largest = STRIDES[2];
        let fits = |side: usize| side > 0 && side.is_multiple_of(largest);
        sizes(&[
            (
                fits(height) && fits(width),
                format!(
                    "a YOLO takes images whose sides are multiples of {largest}, and these have {height} × {width}"
                ),
                "for example: size = 320 in [image]",
            ),
            (channels > 0, "images have no channels".into(), "1 for grey, 3 for colours"),
            (
                self.width > 0 && self.width.is_multiple_of(4),
                format!("`model.width` is {}", self.width),
                "16 is usual",
            ),
            (self.depth > 0, "`model.depth` is 0".into(), "1 is usual"),
            (self.classes > 0, "a detector of no classes".into(), "the data needs at least one"),
        ])
    }

    fn widths(&self) -> [usize; 3] {
        [4 * self.width, 8 * self.width, 16 * self.width]
    }
}

/// Middles of all places in pixels and the stride of their level, level after level, row after row.
#[must_use]
pub fn points(config: &YoloConfig) -> Vec<([f32; 2], f32)> {
    let [height, width, _] = config.shape;
    let mut points = Vec::new();
    for stride in STRIDES {
        for y in 0..height / stride {
            for x in 0..width / stride {
                let at = |i: usize| (i as f32 + 0.5) * stride as f32;
                points.push(([at(x), at(y)], stride as f32));
            }
        }
    }
    points
}

/// A YOLO.
#[derive(Module, Debug)]
pub struct Yolo {
    stem: ConvNorm,
    stages: Vec<(ConvNorm, CrossStage)>,
    pyramid: Pyramid,
    /// From the top level down: into the middle one, and into the lowest.
    down: Vec<CrossStage>,
    /// And up again: a convolution with stride 2, and what joins.
    up: Vec<(ConvNorm, CrossStage)>,
    heads: Vec<Head>,
    #[module(skip)]
    config: YoloConfig,
}

/// What tells classes and boxes of a level.
#[derive(Module, Debug)]
struct Head {
    classes: (ConvNorm, ConvNorm, Conv),
    boxes: (ConvNorm, ConvNorm, Conv),
}

impl Head {
    fn init(scope: &Scope, inputs: usize, width: usize, classes: usize) -> Self {
        let branch = |name: &str, outputs: usize, bias: f32| {
            let scope = scope.child(name);
            let first = ConvNorm::init(&scope.child("0"), inputs, width, 3, 1);
            let second = ConvNorm::init(&scope.child("1"), width, width, 3, 1);
            (first, second, last(&scope.child("2"), width, outputs, 1, bias))
        };
        Self {
            classes: branch("classes", classes, (RARE / (1.0 - RARE)).ln()),
            boxes: branch("boxes", 4 * BINS, 0.0),
        }
    }
}

impl Yolo {
    /// A model with initial weights from `seed`: of convolutions, normal (He et al. 2015).
    #[must_use]
    pub fn init(config: &YoloConfig, seed: u64, device: &Device) -> Self {
        let scope = Scope::new(seed, Init::Torch, device);
        let (w, d) = (config.width, config.depth);
        let [low, middle, top] = config.widths();
        let stage = |i: usize, inputs: usize, outputs: usize, blocks: usize| {
            let at = scope.child(&format!("stages.{i}"));
            let half = ConvNorm::init(&at.child("0"), inputs, outputs, 3, 2);
            (half, CrossStage::init(&at.child("1"), [outputs, outputs], blocks, true))
        };
        let join = |name: &str, inputs: usize, outputs: usize| {
            CrossStage::init(&scope.child(name), [inputs, outputs], d, false)
        };
        let up = |i: usize, inputs: usize, outputs: usize| {
            let half = ConvNorm::init(&scope.child(&format!("up.{i}.0")), inputs, inputs, 3, 2);
            (half, join(&format!("up.{i}.1"), inputs + outputs, outputs))
        };
        let head = |i: usize, inputs: usize| {
            Head::init(&scope.child(&format!("heads.{i}")), inputs, low, config.classes)
        };
        Self {
            stem: ConvNorm::init(&scope.child("stem"), config.shape[2], w, 3, 2),
            stages: vec![
                stage(0, w, 2 * w, d),
                stage(1, 2 * w, low, 2 * d),
                stage(2, low, middle, 2 * d),
                stage(3, middle, top, d),
            ],
            pyramid: Pyramid::init(&scope.child("pyramid"), top),
            down: vec![join("down.0", top + middle, middle), join("down.1", middle + low, low)],
            up: vec![up(0, low, middle), up(1, middle, top)],
            heads: vec![head(0, low), head(1, middle), head(2, top)],
            config: config.clone(),
        }
    }

    /// Its sizes.
    #[must_use]
    pub fn config(&self) -> &YoloConfig {
        &self.config
    }

    /// # Shapes
    /// - input: `[batch, height, width, channels]`
    /// - output: logits `[batch, places, classes]` and `[batch, places, 4 · 16]`
    pub fn forward(&self, x: Tensor<4>, context: &mut Context) -> Output {
        let mut x = self.stem.forward(x, context);
        let mut levels = Vec::with_capacity(4);
        for (half, block) in &self.stages {
            x = half.forward(x, context);
            x = block.forward(x, context);
            levels.push(x.clone());
        }
        let top = self.pyramid.forward(x, context);
        let join = |block: &CrossStage, a: Tensor<4>, b: Tensor<4>, context: &mut Context| {
            block.forward(Tensor::cat(vec![a, b], 3), context)
        };
        let middle = join(&self.down[0], doubled(top.clone()), levels[2].clone(), context);
        let low = join(&self.down[1], doubled(middle.clone()), levels[1].clone(), context);
        let halved = self.up[0].0.forward(low.clone(), context);
        let middle = join(&self.up[0].1, halved, middle, context);
        let halved = self.up[1].0.forward(middle.clone(), context);
        let top = join(&self.up[1].1, halved, top, context);
        let (mut classes, mut boxes) = (Vec::new(), Vec::new());
        for (head, x) in self.heads.iter().zip([low, middle, top]) {
            let branch = |(first, second, last): &(ConvNorm, ConvNorm, Conv), context: &mut Context| {
                let y = first.smooth(x.clone(), context);
                let y = second.smooth(y, context);
                last.forward(y, context)
            };
            classes.push(branch(&head.classes, context));
            boxes.push(branch(&head.boxes, context));
        }
        Output { classes: joined(classes, self.config.classes), boxes: joined(boxes, 4 * BINS) }
    }
}

/// Shares of the distances of a place's sides, `[4, BINS]`, and the mean distances.
fn distances(numbers: &[f32]) -> ([[f32; BINS]; 4], [f32; 4]) {
    let (mut shares, mut means) = ([[0.0; BINS]; 4], [0.0; 4]);
    for (side, logits) in numbers.chunks_exact(BINS).enumerate() {
        softmax(logits, &mut shares[side]);
        means[side] = shares[side].iter().enumerate().map(|(bin, share)| bin as f32 * share).sum();
    }
    (shares, means)
}

fn box_at([x, y]: [f32; 2], stride: f32, [left, top, right, bottom]: [f32; 4]) -> Rect {
    [x - left * stride, y - top * stride, x + right * stride, y + bottom * stride]
}

/// Distances of a box's sides from a point in strides, as far as they can be told.
#[must_use]
pub fn encode([x, y]: [f32; 2], stride: f32, place: Rect) -> [f32; 4] {
    let [left, top, right, bottom] = place;
    let most = BINS as f32 - 1.01;
    [x - left, y - top, right - x, bottom - y].map(|side| (side / stride).clamp(0.0, most))
}

/// Scores and boxes of an image, see [`super::DetectorConfig::scored`].
#[must_use]
pub fn scored(config: &YoloConfig, classes: &[f32], boxes: &[f32]) -> (Vec<f32>, Vec<Rect>) {
    let places = points(config).into_iter().zip(boxes.chunks_exact(4 * BINS));
    let boxes = places.map(|((point, stride), numbers)| box_at(point, stride, distances(numbers).1));
    (classes.iter().map(|x| sigmoid(*x)).collect(), boxes.collect())
}

/// The loss of a batch: binary cross-entropy of the scores to learn, `1 − complete overlap` and cross-entropy of the
/// distances of the places that find an object, by their scores; over the sum of all scores, times the images.
///
/// # Shapes
/// - `classes`: `[images, places, classes]`, `boxes`: `[images, places, 4 · 16]`
///
/// # Panics
/// Where there are not as many lists of objects as images.
#[must_use]
pub fn loss(config: &YoloConfig, classes: &[f32], boxes: &[f32], truths: &[Vec<Truth>]) -> Loss {
    let (points, n) = (points(config), config.classes);
    let middles: Vec<[f32; 2]> = points.iter().map(|(point, _)| *point).collect();
    let (of_classes, of_boxes) = (points.len() * n, points.len() * 4 * BINS);
    assert_eq!(classes.len(), truths.len() * of_classes, "a list of objects for each image");
    let images = classes.chunks_exact(of_classes).zip(boxes.chunks_exact(of_boxes)).zip(truths);
    let assigned: Vec<_> = images
        .map(|((classes, boxes), truths)| {
            if truths.is_empty() {
                return Vec::new();
            }
            let (scores, places) = scored(config, classes, boxes);
            task_aligned(&middles, &scores, &places, n, truths)
        })
        .collect();
    loss_of(config, classes, boxes, truths, &assigned)
}

/// The loss, where it is known which places find which object.
pub(super) fn loss_of(
    config: &YoloConfig,
    classes: &[f32],
    boxes: &[f32],
    truths: &[Vec<Truth>],
    assigned: &[Vec<Assigned>],
) -> Loss {
    let (points, n) = (points(config), config.classes);
    let (of_classes, of_boxes) = (points.len() * n, points.len() * 4 * BINS);
    let images = classes.chunks_exact(of_classes).zip(boxes.chunks_exact(of_boxes)).zip(truths);
    let sum: f64 = assigned.iter().flatten().map(|a| f64::from(a.score)).sum();
    let whole = truths.len() as f64 / sum.max(1.0);
    let mut loss = Loss { value: 0.0, classes: vec![0.0; classes.len()], boxes: vec![0.0; boxes.len()] };
    let outs = loss.classes.chunks_exact_mut(of_classes).zip(loss.boxes.chunks_exact_mut(of_boxes));
    let mut value = 0.0;
    for ((((logits, numbers), truths), assigned), (to_classes, to_boxes)) in images.zip(assigned).zip(outs) {
        // Of every place as if it found nothing.
        let weight = WEIGHTS[0] * whole;
        for (logit, out) in logits.iter().zip(to_classes.iter_mut()) {
            let score = sigmoid(*logit);
            value += weight * softplus(f64::from(*logit));
            *out = (weight * f64::from(score)) as f32;
        }
        for a in assigned {
            let truth = &truths[a.truth];
            let at = a.place * n + truth.class;
            value -= weight * f64::from(a.score) * f64::from(logits[at]);
            to_classes[at] -= (weight * f64::from(a.score)) as f32;
            let (range, scale) = (a.place * 4 * BINS..(a.place + 1) * 4 * BINS, f64::from(a.score) * whole);
            value += scale
                * of_box(points[a.place], &numbers[range.clone()], truth.place, scale, &mut to_boxes[range]);
        }
    }
    loss.value = value;
    loss
}

/// `ln(1 + exp(x))`.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The loss of a place's box; its gradient times `scale` is added to `out`.
fn of_box(at: ([f32; 2], f32), numbers: &[f32], truth: Rect, scale: f64, out: &mut [f32]) -> f64 {
    of_box_with(at, numbers, truth, None, scale, out)
}

/// The same with a weight of the shapes in place of that which the overlap gives.
pub(super) fn of_box_with(
    (point, stride): ([f32; 2], f32),
    numbers: &[f32],
    truth: Rect,
    shapes: Option<f64>,
    scale: f64,
    out: &mut [f32],
) -> f64 {
    let (shares, means) = distances(numbers);
    let place = box_at(point, stride, means).map(f64::from);
    let (overlap, _) = complete_overlap(place, truth.map(f64::from), shapes);
    let mut value = WEIGHTS[1] * (1.0 - overlap.value);
    let targets = encode(point, stride, truth);
    for side in 0..4 {
        // Left and top move the other way.
        let sign = if side < 2 { -1.0 } else { 1.0 };
        let slope = -WEIGHTS[1] * overlap.slopes[side] * sign * f64::from(stride);
        let (low, share) = (targets[side].floor() as usize, f64::from(targets[side].fract()));
        let logits = &numbers[side * BINS..(side + 1) * BINS];
        let mut unused = [0.0; BINS];
        let log_sum = f64::from(softmax(logits, &mut unused));
        let missed = |bin: usize| log_sum - f64::from(logits[bin]);
        value += WEIGHTS[2] / 4.0 * ((1.0 - share) * missed(low) + share * missed(low + 1));
        for bin in 0..BINS {
            let p = f64::from(shares[side][bin]);
            let expected = if bin == low {
                1.0 - share
            } else if bin == low + 1 {
                share
            } else {
                0.0
            };
            let of_mean = p * (bin as f64 - f64::from(means[side])) * slope;
            let of_shares = WEIGHTS[2] / 4.0 * (p - expected);
            out[side * BINS + bin] += (scale * (of_mean + of_shares)) as f32;
        }
    }
    value
}
