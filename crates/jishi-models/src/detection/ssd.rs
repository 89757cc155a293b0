//! SSD (Liu et al. 2016, "SSD: Single Shot MultiBox Detector"): anchors of several shapes at every place of several levels,
//! classes with one more for nothing, and hard negatives. Every convolution of the backbone has a batch norm, and levels
//! are added until one is a single place, so that images may have any size. [`Backbone::Vgg`] is the paper's, with
//! plain convolutions in place of dilated ones; [`Backbone::Light`] has one or two convolutions a stage.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use jishi_kernels::ops::{self, PoolOptions};
use jishi_recipe::networks::{SsdBackbone, SsdModel};
use jishi_recipe::{Init, Problems};
use serde::{Deserialize, Serialize};

use super::assign::by_overlap;
use super::boxes::Rect;
use super::levels::softmax;
use super::parts::{ConvNorm, joined, last};
use super::{Loss, Output, Truth};
use crate::context::Context;
use crate::init::Scope;
use crate::layers::conv::Conv;
use crate::reference::sizes;

/// Most levels.
const LEVELS: usize = 6;
/// Pixels from one place of the first level to the next.
const STRIDE: usize = 8;
/// Width over height of the anchors of a place, besides a larger square.
const SHAPES: [f32; 5] = [1.0, 2.0, 0.5, 3.0, 1.0 / 3.0];
/// Anchors of a place.
pub const ANCHORS: usize = SHAPES.len() + 1;
/// What numbers for a box are divided by: middles, sides.
pub const VARIANCES: [f32; 2] = [0.1, 0.2];
/// Logarithm of the most that a side is scaled by: that of an untrained model may be anything.
pub const LARGEST: f32 = 8.0;
/// Places without an object that count for each with one.
const NEGATIVES: usize = 3;

/// What comes before the levels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backbone {
    /// One or two convolutions a stage.
    #[default]
    Light,
    /// VGG-16.
    Vgg,
}

/// Sizes of an SSD.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SsdConfig {
    /// `[height, width, channels]` of an image.
    pub shape: [usize; 3],
    /// What comes before the levels.
    pub backbone: Backbone,
    /// Channels of its first stage.
    pub width: usize,
    /// Classes.
    pub classes: usize,
    /// Boxes of a class that overlap a surer one by more than this are left out.
    pub nms: f64,
}

impl SsdConfig {
    /// The sizes of a recipe.
    #[must_use]
    pub fn from_recipe(model: &SsdModel, shape: [usize; 3], classes: usize) -> Self {
        let (backbone, usual) = match model.backbone {
            SsdBackbone::Light => (Backbone::Light, 24),
            SsdBackbone::Vgg => (Backbone::Vgg, 64),
        };
        Self { shape, backbone, width: model.width.unwrap_or(usual), classes, nms: model.nms }
    }

    /// That these are the sizes of a model.
    ///
    /// # Errors
    /// Names all sizes that make no model.
    pub fn check(&self) -> Result<(), Problems> {
        let [height, width, channels] = self.shape;
        sizes(&[
            (
                height.min(width) >= 2 * STRIDE,
                format!(
                    "an SSD takes images of at least {0} × {0} pixels, and these have {height} × {width}",
                    2 * STRIDE
                ),
                "for example: size = 300 in [image]",
            ),
            (channels > 0, "images have no channels".into(), "1 for grey, 3 for colours"),
            (self.width > 0, "`model.width` is 0".into(), "24 is usual"),
            (self.classes > 0, "a detector of no classes".into(), "the data needs at least one"),
        ])
    }

    /// `[height, width]` of every level.
    #[must_use]
    pub fn levels(&self) -> Vec<[usize; 2]> {
        let [height, width, _] = self.shape;
        let mut level = [height, width];
        for _ in 0..3 {
            level = level.map(|side| self.halved(side));
        }
        let mut levels = vec![level];
        while levels.len() < LEVELS && level.into_iter().min() > Some(1) {
            level =
                if levels.len() == 1 { level.map(|s| self.halved(s)) } else { level.map(|s| s.div_ceil(2)) };
            levels.push(level);
        }
        levels
    }

    /// The convolutions before the heads.
    #[must_use]
    pub fn convolutions(&self) -> Convolutions {
        let w = self.width;
        let (stages, second): (Vec<Vec<Layer>>, Vec<Layer>) = match self.backbone {
            Backbone::Light => (
                vec![vec![(w, 3, 2)], vec![(2 * w, 3, 2), (2 * w, 3, 1)], vec![(4 * w, 3, 2), (4 * w, 3, 1)]],
                vec![(8 * w, 3, 2), (8 * w, 3, 1)],
            ),
            Backbone::Vgg => (
                vec![
                    vec![(w, 3, 1); 2],
                    vec![(2 * w, 3, 1); 2],
                    vec![(4 * w, 3, 1); 3],
                    vec![(8 * w, 3, 1); 3],
                ],
                [vec![(8 * w, 3, 1); 3], vec![(16 * w, 3, 1), (16 * w, 1, 1)]].concat(),
            ),
        };
        let of_level = |level| if level == 1 { second.clone() } else { vec![(4 * w, 1, 1), (8 * w, 3, 2)] };
        Convolutions { stages, extra: (1..self.levels().len()).map(of_level).collect() }
    }

    /// A side after a stage of the backbone: a convolution with stride 2 rounds up, pooling down.
    fn halved(&self, side: usize) -> usize {
        if self.backbone == Backbone::Light { side.div_ceil(2) } else { side / 2 }
    }
}

/// The anchors of all places in pixels, level after level, row after row (§2.2, eq. 4). The first level has the scale 0.1 of
/// the image, the others 0.2 to 0.9.
#[must_use]
pub fn anchors(config: &SsdConfig) -> Vec<Rect> {
    let [height, width, _] = config.shape;
    let side = ((height * width) as f32).sqrt();
    let levels = config.levels();
    let scale = |level: usize| match level {
        0 => 0.1,
        level => 0.2 + 0.7 * (level - 1) as f32 / (levels.len().saturating_sub(2)).max(1) as f32,
    };
    let mut anchors = Vec::new();
    for (number, [rows, columns]) in levels.iter().copied().enumerate() {
        let (own, next) = (scale(number) * side, scale(number + 1) * side);
        let larger = (own * next).sqrt();
        let mut shapes: Vec<[f32; 2]> = SHAPES.map(|a| [own * a.sqrt(), own / a.sqrt()]).to_vec();
        shapes.push([larger, larger]);
        for y in 0..rows {
            for x in 0..columns {
                let middle = [
                    (x as f32 + 0.5) * width as f32 / columns as f32,
                    (y as f32 + 0.5) * height as f32 / rows as f32,
                ];
                anchors.extend(shapes.iter().map(|[w, h]| {
                    [middle[0] - w / 2.0, middle[1] - h / 2.0, middle[0] + w / 2.0, middle[1] + h / 2.0]
                }));
            }
        }
    }
    anchors
}

/// Channels, kernel and stride of a convolution.
pub type Layer = (usize, usize, usize);

/// The convolutions of an SSD before its heads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Convolutions {
    /// Of the stages up to the first level. With [`Backbone::Vgg`], pooling is before every stage but the first, and
    /// before the first of `extra`.
    pub stages: Vec<Vec<Layer>>,
    /// Of each level from the one before.
    pub extra: Vec<Vec<Layer>>,
}

/// An SSD.
#[derive(Module, Debug)]
pub struct Ssd {
    /// Convolutions of the stages up to the first level, each stage with pooling before it where it has no stride.
    stages: Vec<Vec<ConvNorm>>,
    /// Those between levels.
    extra: Vec<Vec<ConvNorm>>,
    classes: Vec<Conv>,
    boxes: Vec<Conv>,
    #[module(skip)]
    config: SsdConfig,
}

impl Ssd {
    /// A model with initial weights from `seed`: of convolutions, normal (He et al. 2015).
    #[must_use]
    pub fn init(config: &SsdConfig, seed: u64, device: &Device) -> Self {
        let scope = Scope::new(seed, Init::Torch, device);
        let w = config.width;
        let group = |name: String, mut inputs: usize, layers: &[Layer]| -> Vec<ConvNorm> {
            let layer = |(i, (outputs, kernel, stride)): (usize, &Layer)| {
                let at = scope.child(&format!("{name}.{i}"));
                ConvNorm::init(&at, std::mem::replace(&mut inputs, *outputs), *outputs, *kernel, *stride)
            };
            layers.iter().enumerate().map(layer).collect()
        };
        let Convolutions { stages, extra: levels } = config.convolutions();
        let outputs = |layers: &[Layer]| layers.last().map_or(w, |layer| layer.0);
        let mut inputs = config.shape[2];
        let mut made = Vec::new();
        for (i, layers) in stages.iter().enumerate() {
            made.push(group(format!("stages.{i}"), inputs, layers));
            inputs = outputs(layers);
        }
        let mut widths = vec![inputs];
        let mut extra = Vec::new();
        for (i, layers) in levels.iter().enumerate() {
            extra.push(group(format!("extra.{i}"), inputs, layers));
            inputs = outputs(layers);
            widths.push(inputs);
        }
        let head = |name: &str, values: usize| -> Vec<Conv> {
            let one = |(i, width): (usize, &usize)| {
                last(&scope.child(&format!("{name}.{i}")), *width, ANCHORS * values, 3, 0.0)
            };
            widths.iter().enumerate().map(one).collect()
        };
        Self {
            stages: made,
            extra,
            classes: head("classes", config.classes + 1),
            boxes: head("boxes", 4),
            config: config.clone(),
        }
    }

    /// Its sizes.
    #[must_use]
    pub fn config(&self) -> &SsdConfig {
        &self.config
    }

    /// # Shapes
    /// - input: `[batch, height, width, channels]`
    /// - output: logits `[batch, places, 1 + classes]`, the first of nothing, and `[batch, places, 4]`
    pub fn forward(&self, mut x: Tensor<4>, context: &mut Context) -> Output {
        let pools = self.config.backbone == Backbone::Vgg;
        let pool = |x| ops::max_pool2d(x, PoolOptions { kernel: [2; 2], stride: [2; 2], padding: [0; 2] });
        for (i, stage) in self.stages.iter().enumerate() {
            if pools && i > 0 {
                x = pool(x);
            }
            for layer in stage {
                x = layer.forward(x, context);
            }
        }
        let mut levels = vec![x.clone()];
        for (i, group) in self.extra.iter().enumerate() {
            if pools && i == 0 {
                x = pool(x);
            }
            for layer in group {
                x = layer.forward(x, context);
            }
            levels.push(x.clone());
        }
        let heads = |convs: &[Conv], context: &mut Context| -> Vec<Tensor<4>> {
            convs.iter().zip(&levels).map(|(conv, x)| conv.forward(x.clone(), context)).collect()
        };
        let classes = joined(heads(&self.classes, context), self.config.classes + 1);
        Output { classes, boxes: joined(heads(&self.boxes, context), 4) }
    }
}

fn middle_and_sides([left, top, right, bottom]: Rect) -> [f32; 4] {
    [(left + right) / 2.0, (top + bottom) / 2.0, right - left, bottom - top]
}

/// A box as numbers for an anchor (§2.2, eq. 2, by variances).
#[must_use]
pub fn encode(anchor: Rect, place: Rect) -> [f32; 4] {
    let ([x, y, w, h], [bx, by, bw, bh]) = (middle_and_sides(anchor), middle_and_sides(place));
    let [of_middle, of_sides] = VARIANCES;
    let least = 1e-3;
    [
        (bx - x) / w / of_middle,
        (by - y) / h / of_middle,
        (bw.max(least) / w).ln() / of_sides,
        (bh.max(least) / h).ln() / of_sides,
    ]
}

/// The box that numbers for an anchor mean.
#[must_use]
pub fn decode(anchor: Rect, numbers: [f32; 4]) -> Rect {
    let [x, y, w, h] = middle_and_sides(anchor);
    let [of_middle, of_sides] = VARIANCES;
    let side = |number: f32, side: f32| (number * of_sides).clamp(-LARGEST, LARGEST).exp() * side / 2.0;
    let (mx, my) = (x + numbers[0] * of_middle * w, y + numbers[1] * of_middle * h);
    let (half_w, half_h) = (side(numbers[2], w), side(numbers[3], h));
    [mx - half_w, my - half_h, mx + half_w, my + half_h]
}

/// Scores and boxes of an image, see [`super::DetectorConfig::scored`].
#[must_use]
pub fn scored(config: &SsdConfig, classes: &[f32], boxes: &[f32]) -> (Vec<f32>, Vec<Rect>) {
    let n = config.classes;
    let mut scores = Vec::with_capacity(classes.len());
    let mut shares = vec![0.0; n + 1];
    for logits in classes.chunks_exact(n + 1) {
        softmax(logits, &mut shares);
        scores.extend_from_slice(&shares[1..]);
    }
    let numbers = boxes.as_chunks::<4>().0.iter();
    (
        scores,
        anchors(config).into_iter().zip(numbers).map(|(anchor, numbers)| decode(anchor, *numbers)).collect(),
    )
}

/// The loss of a batch (§2.2, eq. 1): cross-entropy of matched anchors and of the three times as many others of an image
/// that are furthest from seeing nothing, and smooth L1 of the numbers of matched anchors; over the matched anchors, times
/// the images.
///
/// # Shapes
/// - `classes`: `[images, places, 1 + classes]`, `boxes`: `[images, places, 4]`
///
/// # Panics
/// Where there are not as many lists of objects as images.
#[must_use]
pub fn loss(config: &SsdConfig, classes: &[f32], boxes: &[f32], truths: &[Vec<Truth>]) -> Loss {
    let (anchors, n) = (anchors(config), config.classes + 1);
    let (of_classes, of_boxes) = (anchors.len() * n, anchors.len() * 4);
    assert_eq!(classes.len(), truths.len() * of_classes, "a list of objects for each image");
    let matched: Vec<Vec<Option<usize>>> = truths.iter().map(|truths| by_overlap(&anchors, truths)).collect();
    let count = matched.iter().flatten().flatten().count();
    let scale = truths.len() as f64 / count.max(1) as f64;
    let mut loss = Loss { value: 0.0, classes: vec![0.0; classes.len()], boxes: vec![0.0; boxes.len()] };
    let outs = loss.classes.chunks_exact_mut(of_classes).zip(loss.boxes.chunks_exact_mut(of_boxes));
    let images = classes.chunks_exact(of_classes).zip(boxes.chunks_exact(of_boxes)).zip(truths);
    let mut shares = vec![0.0; n];
    for ((((logits, numbers), truths), matched), (to_classes, to_boxes)) in images.zip(&matched).zip(outs) {
        let row = |place: usize| &logits[place * n..(place + 1) * n];
        let mut negatives: Vec<(f32, usize)> = Vec::new();
        let mut counted: Vec<(usize, usize)> = Vec::new();
        for (place, truth) in matched.iter().enumerate() {
            match truth {
                Some(truth) => counted.push((place, truths[*truth].class + 1)),
                None => negatives.push((softmax(row(place), &mut shares) - row(place)[0], place)),
            }
        }
        let most = NEGATIVES * counted.len().max(1);
        negatives.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        counted.extend(negatives.into_iter().take(most).map(|(_, place)| (place, 0)));
        for (place, class) in counted {
            let log_sum = softmax(row(place), &mut shares);
            loss.value += scale * f64::from(log_sum - row(place)[class]);
            for (c, share) in shares.iter().enumerate() {
                let expected = if c == class { 1.0 } else { 0.0 };
                to_classes[place * n + c] = (scale * f64::from(share - expected)) as f32;
            }
        }
        for (place, truth) in matched.iter().enumerate() {
            let Some(truth) = truth else { continue };
            let target = encode(anchors[place], truths[*truth].place);
            for (i, target) in target.into_iter().enumerate() {
                let off = f64::from(numbers[place * 4 + i] - target);
                let (value, slope) =
                    if off.abs() < 1.0 { (0.5 * off * off, off) } else { (off.abs() - 0.5, off.signum()) };
                loss.value += scale * value;
                to_boxes[place * 4 + i] = (scale * slope) as f32;
            }
        }
    }
    loss
}
