//! Models of tables: their outputs in the target's own unit or as probabilities, and how a row is encoded.
//!
//! The graph begins where the fitted preprocessing ends. What that does is in the file's metadata, as JSON:
//! - `numbers`: for every number `{column, part, fill, scaler}`. `part` is `value`, `missing` (1 where there is none,
//!   else 0), or a part of a date (`fill`: microseconds since 1970). A missing value is `fill` first; then it is scaled;
//! - `categories`: for every column `{column, values, missing}`. A value's code is its place in `values` from 1, that of
//!   another 0, that of a missing one `missing`;
//! - `missing_values`: texts that stand for a missing value, besides an empty one;
//! - `classes`: names of the probabilities.

use std::path::Path;

use burn::tensor::Device;
use jishi_data::pipeline::{Encoding, Feature, Pipeline, Scaler, Target};
use jishi_hub::onnx::{Attribute, Graph, Input, Kind, Numbers, Output};
use jishi_models::NamedTensor;
use jishi_recipe::{MissingCategory, Precision, Problem};
use jishi_runs::Package;
use serde_json::{Value, json};

use super::layers::{Builder, of_rows};
use super::{Proof, publish, rows};
use crate::error::TrainError;
use crate::job::finish::same_golden;
use crate::job::predict::{Predictor, outputs};
use crate::trainer::named_tensors;

/// Writes the model of a package of a table.
///
/// # Errors
/// As [`super::export`].
pub(super) fn export(dir: &Path, out: &Path, device: &Device) -> Result<(), TrainError> {
    let mut package = Package::load(dir)?;
    let golden = package.manifest.golden.clone();
    let predictor = Predictor::new(package.clone(), dir, device)?;
    let found = outputs(&predictor.predict_rows(&golden.inputs)?);
    same_golden("the model package", dir, &found, &golden.outputs)?;
    // The file computes in 32 bits, whatever the model was trained in.
    package.manifest.recipe["train"]["precision"] = json!(Precision::F32);
    let predictor = Predictor::new(package, dir, device)?;
    let encoded = predictor.encode_rows(&golden.inputs)?;
    let all: Vec<u32> = (0..encoded.rows as u32).collect();
    let (mut numbers, mut codes) = (Vec::new(), Vec::new());
    encoded.gather(&all, &mut numbers, &mut codes);
    let codes = codes.into_iter().map(i64::from).collect();
    let inputs = [
        ("numbers", encoded.numbers, Numbers::F32(numbers)),
        ("categories", encoded.categories, Numbers::I64(codes)),
    ];
    let input = |(name, width, values): (&str, usize, Numbers)| Input {
        name: name.into(),
        shape: vec![encoded.rows, width],
        values,
    };
    let expected = outputs(&predictor.predict(&encoded)?.0);
    let width = predictor.pipeline.classes().len().max(1);
    let output = Output {
        name: output_name(&predictor.pipeline).into(),
        shape: vec![encoded.rows, width],
        values: expected.iter().flatten().map(|x| *x as f32).collect(),
    };
    let proof = Proof {
        inputs: inputs.into_iter().filter(|(_, width, _)| *width > 0).map(input).collect(),
        outputs: vec![output],
    };
    let tensors = named_tensors(predictor.package.weights.tensors.clone());
    publish(out, &graph(&predictor, &tensors)?, &proof)
}

fn output_name(pipeline: &Pipeline) -> &'static str {
    if pipeline.classes().is_empty() { "prediction" } else { "probabilities" }
}

fn graph<'a>(predictor: &Predictor, tensors: &'a [NamedTensor]) -> Result<Graph<'a>, Problem> {
    let Predictor { recipe, pipeline, .. } = predictor;
    let shape = predictor.head().model_shape();
    let (mut b, output) = rows::outputs(&recipe.model, shape, tensors)?;
    let classes = pipeline.classes();
    let mut y = match pipeline.target() {
        Target::Number { .. } => output,
        Target::Class { .. } if shape.outputs == 1 => b.one("Sigmoid", &output),
        Target::Class { .. } => b.graph.node("Softmax", &[&output], &[("axis", Attribute::Int(-1))]),
    };
    if b.shape("output.weight").is_some_and(|shape| shape.len() == 3) {
        let over = [("axes", Attribute::Ints(vec![0])), ("keepdims", Attribute::Int(0))];
        y = b.graph.node("ReduceMean", &[&y], &over); // [batch, outputs]
    }
    y = match pipeline.target() {
        Target::Number { scaler, .. } => unscaled(&mut b, scaler, &y),
        Target::Class { .. } if shape.outputs == 1 => {
            let one = b.graph.number(1.0);
            let other = b.two("Sub", &one, &y);
            b.joined(&[&other, &y])
        }
        Target::Class { .. } => y,
    };
    b.graph.output(output_name(pipeline), &y, Kind::F32, &of_rows(classes.len().max(1)));
    let numbers: Vec<Value> = pipeline.features().iter().flat_map(numbers_of).collect();
    let categories: Vec<Value> = pipeline.features().iter().filter_map(codes_of).collect();
    let about = [
        ("task", json!(recipe.task)),
        ("target", json!(pipeline.target().column())),
        ("numbers", numbers.into()),
        ("categories", categories.into()),
        ("missing_values", pipeline.read_options(false).missing_values.into()),
        ("classes", json!(classes)),
    ];
    for (key, value) in about {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        b.graph.metadata.insert(key.into(), text);
    }
    Ok(b.graph)
}

/// The target's own unit, as [`Scaler::unscale`].
fn unscaled(b: &mut Builder<'_>, scaler: &Scaler, z: &str) -> String {
    let mut line = |z: &str, slope: f64, from: f64| {
        let y = b.with("Mul", z, slope as f32);
        b.with("Add", &y, from as f32)
    };
    match scaler {
        Scaler::None {} => z.into(),
        Scaler::Standard { mean, deviation } => line(z, *deviation, *mean),
        Scaler::MinMax { min, max } if max > min => line(z, max - min, *min),
        Scaler::MinMax { min, .. } => line(z, 1.0, *min),
        Scaler::Robust { median, range } => line(z, *range, *median),
        Scaler::Log { mean, deviation } => {
            let log = line(z, *deviation, *mean);
            let size = b.one("Abs", &log);
            let size = b.one("Exp", &size);
            let size = b.with("Sub", &size, 1.0);
            let sign = b.one("Sign", &log);
            b.two("Mul", &size, &sign)
        }
        Scaler::Quantile { quantiles } => {
            // The normal distribution's share below z, and the value that the share of training rows lies below.
            let share = b.with("Mul", z, std::f32::consts::FRAC_1_SQRT_2);
            let share = b.one("Erf", &share);
            let steps = (quantiles.len() - 1) as f32;
            let place = b.with("Add", &share, 1.0);
            let place = b.with("Mul", &place, 0.5 * steps);
            let from = b.one("Floor", &place);
            let from = b.with("Min", &from, steps - 1.0);
            let part = b.two("Sub", &place, &from);
            // The type of 64-bit integers is 7 in `onnx.proto`.
            let from = b.graph.node("Cast", &[&from], &[("to", Attribute::Int(7))]);
            let values = |step: &mut dyn FnMut(usize) -> f64| -> Vec<f32> {
                (0..quantiles.len() - 1).map(|i| step(i) as f32).collect()
            };
            let low = b.graph.numbers(&values(&mut |i| quantiles[i]));
            let step = b.graph.numbers(&values(&mut |i| quantiles[i + 1] - quantiles[i]));
            let low = b.two("Gather", &low, &from);
            let step = b.two("Gather", &step, &from);
            let more = b.two("Mul", &part, &step);
            b.two("Add", &low, &more)
        }
    }
}

/// How the numbers of a column come about.
fn numbers_of(feature: &Feature) -> Vec<Value> {
    let column = &feature.column;
    let (mut numbers, indicator) = match &feature.encoding {
        Encoding::Number { fill, value, indicator, .. } => {
            let number = |slot| json!({ "column": column, "part": "value", "fill": fill, "scaler": slot });
            (value.iter().map(|slot| number(&slot.scaler)).collect::<Vec<_>>(), *indicator)
        }
        Encoding::Date { fill, parts, indicator, .. } => {
            let number = |(part, slot): &(
                jishi_data::pipeline::date::DatePart,
                jishi_data::pipeline::Slot,
            )| {
                json!({ "column": column, "part": part.name(), "fill": fill, "scaler": slot.scaler })
            };
            (parts.iter().map(number).collect(), *indicator)
        }
        Encoding::Category { .. } => return Vec::new(),
    };
    if indicator {
        numbers.push(json!({ "column": column, "part": "missing", "fill": null, "scaler": null }));
    }
    numbers
}

/// How the code of a column of categories comes about.
fn codes_of(feature: &Feature) -> Option<Value> {
    let Encoding::Category { missing, values, own_missing, .. } = &feature.encoding else { return None };
    let missing = match missing {
        MissingCategory::Own if *own_missing => values.len() + 1,
        MissingCategory::MostFrequent if !values.is_empty() => 1,
        _ => 0,
    };
    Some(json!({ "column": feature.column, "values": values, "missing": missing }))
}
