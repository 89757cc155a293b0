//! Detectors as graphs: `pixel_values` `[batch, channels, height, width]` to `boxes` `[batch, places, 4]`, left, top, right
//! and bottom in pixels of the input, cut at its edges, and `scores` `[batch, places, classes]`, 0 to 1. Which of several
//! boxes on one object is kept is left to the caller: runtimes differ in what they can do with the operator for it, and
//! all of them have a function. `nms` of the metadata is the overlap of boxes of a class from which the surest is kept.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use jishi_data::text::labels::Labels;
use jishi_hub::onnx::{self, Attribute, Dim, Graph, Kind};
use jishi_kernels::Activation;
use jishi_models::detection::{Backbone, Output, SsdConfig, YoloConfig, ssd, yolo};
use jishi_models::{Context, Detector, DetectorConfig, NamedTensor, export_weights};
use jishi_recipe::Problem;

use super::layers::{Builder, TOKENS};
use super::{Proof, describe, image, numbers};
use crate::error::TrainError;
use crate::job::finish::same_golden;
use crate::job::vision::AtWork;
use crate::job::vision::detection::DetectionPredictor;

/// Writes a detector.
///
/// # Errors
/// As [`super::export`].
pub(super) fn export(dir: &Path, out: &Path, device: &Device) -> Result<(), TrainError> {
    let known = DetectionPredictor::load(dir, device)?;
    same_golden("the model package", dir, &known.golden()?, known.package().golden_outputs())?;
    let (package, model) = (known.package(), known.model());
    let pipeline = &package.pipeline;
    let x = image::golden(package, device)?;
    let proof = Proof { inputs: vec![image::pixels(x.clone())], outputs: outputs(model, x) };
    let (config, tensors) = (model.config(), export_weights(model));
    let places = Places::of(&config);
    let mut graph = graph(&config, &tensors, &places)?;
    describe(&mut graph, package.recipe.task, pipeline.labels.as_ref());
    graph.metadata.insert("nms".into(), config.nms().to_string());
    let mut written = pipeline.config.clone();
    if let Some(labels) = &pipeline.labels {
        // Of a classifier it would say that an image has many.
        Labels { many: false, ..labels.clone() }.put_into(&mut written);
    }
    let about = image::about(written, &pipeline.preparation, &mut graph);
    image::write(out, &about, &graph, &proof)
}

/// What the model gives for images.
fn outputs(model: &Detector, x: Tensor<4>) -> Vec<onnx::Output> {
    let config = model.config();
    let Output { classes, boxes } = model.forward(x, &mut Context::evaluation());
    let images = classes.dims()[0];
    let values = |x: Tensor<3>| -> Vec<f32> { x.into_data().iter::<f32>().collect() };
    let (classes, boxes) = (values(classes), values(boxes));
    let (of_classes, of_boxes) = (classes.len() / images.max(1), boxes.len() / images.max(1));
    let (mut scores, mut places) = (Vec::new(), Vec::new());
    for (classes, boxes) in classes.chunks_exact(of_classes).zip(boxes.chunks_exact(of_boxes)) {
        let (of_image, found) = config.scored(classes, boxes);
        scores.extend(of_image);
        places.extend(found.into_iter().flat_map(|place| config.inside(place)));
    }
    let tensor = |values: Vec<f32>, last: usize| {
        let data = TensorData::new(values, [images, config.places(), last]);
        Tensor::<3>::from_data(data, &Device::flex())
    };
    let n = config.classes();
    vec![numbers("boxes", tensor(places, 4)), numbers("scores", tensor(scores, n))]
}

/// Numbers of a detector's places, which follow from its sizes: `[places, 4]` or `[places, 2]`.
struct Places {
    /// Middles: of a YOLO for each of the four sides, of an SSD across and down.
    middles: Vec<f32>,
    /// What the numbers of a place are multiplied by to be pixels: of a YOLO with a minus for left and top.
    steps: Vec<f32>,
    /// Half of the sides of an SSD's anchors.
    halves: Vec<f32>,
    /// Edges of the image: width, height, width, height.
    edges: [f32; 4],
}

impl Places {
    fn of(config: &DetectorConfig) -> Self {
        let [height, width, _] = config.shape();
        let edges = [width, height, width, height].map(|side| side as f32);
        let mut new = Self { middles: Vec::new(), steps: Vec::new(), halves: Vec::new(), edges };
        match config {
            DetectorConfig::Yolo(config) => {
                for ([x, y], stride) in yolo::points(config) {
                    new.middles.extend([x, y, x, y]);
                    new.steps.extend([-stride, -stride, stride, stride]);
                }
            }
            DetectorConfig::Ssd(config) => {
                for [left, top, right, bottom] in ssd::anchors(config) {
                    let (w, h) = (right - left, bottom - top);
                    new.middles.extend([(left + right) / 2.0, (top + bottom) / 2.0]);
                    new.steps.extend([w, h].map(|side| side * ssd::VARIANCES[0]));
                    new.halves.extend([w / 2.0, h / 2.0]);
                }
            }
        }
        new
    }

    /// How many there are, where each has so many values.
    fn count(&self, values: usize) -> usize {
        self.middles.len() / values
    }
}

fn graph<'a>(
    config: &DetectorConfig,
    tensors: &'a [NamedTensor],
    places: &'a Places,
) -> Result<Graph<'a>, Problem> {
    let family = match config {
        DetectorConfig::Yolo(_) => "yolo",
        DetectorConfig::Ssd(_) => "ssd",
    };
    let mut b = Builder::new(family, tensors);
    let x = b.graph.input("pixel_values", Kind::F32, &image::planes(config.shape()));
    let (boxes, scores) = match config {
        DetectorConfig::Yolo(config) => yolo_graph(&mut b, config, &x, places)?,
        DetectorConfig::Ssd(config) => ssd_graph(&mut b, config, &x, places)?,
    };
    // What is beyond the edge can't be seen.
    let boxes = b.with("Max", &boxes, 0.0);
    let edges = b.graph.numbers(&places.edges);
    let boxes = b.two("Min", &boxes, &edges);
    let axes = |last: usize| [TOKENS[0], Dim::Fixed(config.places()), Dim::Fixed(last)];
    b.output("boxes", &boxes, &axes(4));
    b.output("scores", &scores, &axes(config.classes()));
    Ok(b.graph)
}

impl Builder<'_> {
    /// A convolution, its norm and ReLU.
    fn conv_norm(&mut self, x: &str, name: &str, stride: usize) -> Result<String, Problem> {
        let x = self.before_relu(x, name, stride)?;
        Ok(self.one("Relu", &x))
    }

    /// A convolution, its norm and SiLU.
    fn smooth(&mut self, x: &str, name: &str) -> Result<String, Problem> {
        let x = self.before_relu(x, name, 1)?;
        Ok(self.activated(Activation::Silu, &x))
    }

    fn before_relu(&mut self, x: &str, name: &str, stride: usize) -> Result<String, Problem> {
        let x = self.same_size(x, &format!("{name}.conv"), stride)?;
        self.channel_norm(&x, &format!("{name}.norm"))
    }

    /// A convolution that keeps the size of planes where `stride` is 1.
    fn same_size(&mut self, x: &str, name: &str, stride: usize) -> Result<String, Problem> {
        let kernel = self.shape(&format!("{name}.weight")).and_then(|shape| shape.last()).copied();
        self.convolution(x, name, stride, kernel.unwrap_or_default() / 2)
    }

    /// Planes side by side.
    fn side_by_side(&mut self, planes: &[&str]) -> String {
        self.graph.node("Concat", planes, &[("axis", Attribute::Int(1))])
    }

    /// Rows of levels, one level after another.
    fn rows_of_levels(&mut self, levels: &[String]) -> String {
        let levels: Vec<&str> = levels.iter().map(String::as_str).collect();
        self.side_by_side(&levels)
    }

    /// Half of the channels go through `blocks`, the others past them.
    fn cross_stage(&mut self, x: &str, name: &str, blocks: usize, residual: bool) -> Result<String, Problem> {
        self.graph.scope(name);
        let past = self.conv_norm(x, &format!("{name}.past"), 1)?;
        let mut x = self.conv_norm(x, &format!("{name}.through"), 1)?;
        for block in 0..blocks {
            let y = self.conv_norm(&x, &format!("{name}.blocks.{block}.0"), 1)?;
            let mut y = self.before_relu(&y, &format!("{name}.blocks.{block}.1"), 1)?;
            if residual {
                y = self.two("Add", &y, &x);
            }
            x = self.one("Relu", &y);
        }
        let both = self.side_by_side(&[&x, &past]);
        self.conv_norm(&both, &format!("{name}.join"), 1)
    }
}

/// See [`jishi_models::detection::yolo`].
fn yolo_graph<'a>(
    b: &mut Builder<'a>,
    config: &YoloConfig,
    x: &str,
    places: &'a Places,
) -> Result<(String, String), Problem> {
    let depth = config.depth;
    b.graph.scope("stem");
    let mut x = b.conv_norm(x, "stem", 2)?;
    let mut levels = Vec::new();
    for (i, blocks) in [depth, 2 * depth, 2 * depth, depth].into_iter().enumerate() {
        b.graph.scope(&format!("stages.{i}"));
        x = b.conv_norm(&x, &format!("stages.{i}.0"), 2)?;
        x = b.cross_stage(&x, &format!("stages.{i}.1"), blocks, true)?;
        levels.push(x.clone());
    }
    b.graph.scope("pyramid");
    let mut around = vec![b.conv_norm(&x, "pyramid.narrow", 1)?];
    for i in 0..3 {
        let wider = b.max_pool(&around[i].clone(), 5, 1, 2);
        around.push(wider);
    }
    let around = b.rows_of_levels(&around);
    let top = b.conv_norm(&around, "pyramid.join", 1)?;
    let join = |b: &mut Builder<'_>, first: &str, second: &str, name: &str| {
        let both = b.side_by_side(&[first, second]);
        b.cross_stage(&both, name, depth, false)
    };
    let larger = b.doubled(&top);
    let middle = join(b, &larger, &levels[2], "down.0")?;
    let larger = b.doubled(&middle);
    let low = join(b, &larger, &levels[1], "down.1")?;
    let halved = b.conv_norm(&low, "up.0.0", 2)?;
    let middle = join(b, &halved, &middle, "up.0.1")?;
    let halved = b.conv_norm(&middle, "up.1.0", 2)?;
    let top = join(b, &halved, &top, "up.1.1")?;
    let [height, width, _] = config.shape;
    let (mut classes, mut boxes) = (Vec::new(), Vec::new());
    for (i, (x, stride)) in [low, middle, top].iter().zip(yolo::STRIDES).enumerate() {
        let rows = (height / stride) * (width / stride);
        b.graph.scope(&format!("heads.{i}"));
        for (branch, all, values) in
            [("classes", &mut classes, config.classes), ("boxes", &mut boxes, 4 * yolo::BINS)]
        {
            let at = format!("heads.{i}.{branch}");
            let y = b.smooth(x, &format!("{at}.0"))?;
            let y = b.smooth(&y, &format!("{at}.1"))?;
            let y = b.same_size(&y, &format!("{at}.2"), 1)?;
            all.push(b.listed(&y, rows, values));
        }
    }
    b.graph.scope("places");
    let scores = b.rows_of_levels(&classes);
    let scores = b.one("Sigmoid", &scores);
    let boxes = b.rows_of_levels(&boxes); // [batch, places, 4 · bins]
    let boxes = b.reshaped(&boxes, &[4, yolo::BINS as i64]);
    let shares = b.graph.node("Softmax", &[&boxes], &[("axis", Attribute::Int(-1))]);
    let bins: Vec<f32> = (0..yolo::BINS).map(|bin| bin as f32).collect();
    let bins = b.graph.numbers(&bins);
    let weighted = b.two("Mul", &shares, &bins);
    let last = b.graph.integers(&[-1]);
    let distances = b.graph.node("ReduceSum", &[&weighted, &last], &[("keepdims", Attribute::Int(0))]);
    let shape = [places.count(4), 4];
    let steps = b.graph.weights("steps", &shape, &places.steps)?;
    let middles = b.graph.weights("middles", &shape, &places.middles)?;
    let pixels = b.two("Mul", &distances, &steps);
    Ok((b.two("Add", &middles, &pixels), scores))
}

/// See [`jishi_models::detection::ssd`].
fn ssd_graph<'a>(
    b: &mut Builder<'a>,
    config: &SsdConfig,
    x: &str,
    places: &'a Places,
) -> Result<(String, String), Problem> {
    let pools = config.backbone == Backbone::Vgg;
    let ssd::Convolutions { stages, extra } = config.convolutions();
    let mut x = x.to_owned();
    let mut group = |b: &mut Builder<'_>, layers: &[ssd::Layer], name: String, pool: bool| {
        b.graph.scope(&name);
        if pool {
            x = b.max_pool(&x, 2, 2, 0);
        }
        for (i, (_, _, stride)) in layers.iter().enumerate() {
            x = b.conv_norm(&x, &format!("{name}.{i}"), *stride)?;
        }
        Ok::<_, Problem>(x.clone())
    };
    let mut levels = Vec::new();
    for (i, layers) in stages.iter().enumerate() {
        levels = vec![group(b, layers, format!("stages.{i}"), pools && i > 0)?];
    }
    for (i, layers) in extra.iter().enumerate() {
        levels.push(group(b, layers, format!("extra.{i}"), pools && i == 0)?);
    }
    let (mut classes, mut boxes) = (Vec::new(), Vec::new());
    for (i, (x, [height, width])) in levels.iter().zip(config.levels()).enumerate() {
        for (name, all, values) in [("classes", &mut classes, config.classes + 1), ("boxes", &mut boxes, 4)] {
            let name = format!("{name}.{i}");
            b.graph.scope(&name);
            let y = b.same_size(x, &name, 1)?;
            all.push(b.listed(&y, height * width * ssd::ANCHORS, values));
        }
    }
    b.graph.scope("places");
    let classes = b.rows_of_levels(&classes);
    let shares = b.graph.node("Softmax", &[&classes], &[("axis", Attribute::Int(-1))]);
    let [_, scores] = b.split(&shares, [1, config.classes as i64]); // the first is that of nothing
    let boxes = b.rows_of_levels(&boxes);
    let [middles, sides] = b.split(&boxes, [2, 2]); // [batch, places, 2]
    let shape = [places.count(2), 2];
    let steps = b.graph.weights("steps", &shape, &places.steps)?;
    let middles_of = b.graph.weights("middles", &shape, &places.middles)?;
    let halves = b.graph.weights("halves", &shape, &places.halves)?;
    let middles = b.two("Mul", &middles, &steps);
    let middles = b.two("Add", &middles, &middles_of);
    let sides = b.with("Mul", &sides, ssd::VARIANCES[1]);
    let sides = b.with("Max", &sides, -ssd::LARGEST);
    let sides = b.with("Min", &sides, ssd::LARGEST);
    let sides = b.one("Exp", &sides);
    let sides = b.two("Mul", &sides, &halves);
    let first = b.two("Sub", &middles, &sides);
    let last = b.two("Add", &middles, &sides);
    Ok((b.graph.node("Concat", &[&first, &last], &[("axis", Attribute::Int(-1))]), scores))
}
