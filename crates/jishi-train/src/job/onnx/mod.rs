//! `jishi export --format onnx`: trained models as graphs of standard operators, which many runtimes run.
//!
//! A family is one file with a function that makes its [`Graph`] from sizes and tensors with [`layers::Builder`]. A file
//! is written by [`publish`] alone, which computes with it, by `tract`, what our own model gave.

mod bert;
mod detector;
mod generator;
mod gpt2;
mod image;
mod layers;
mod llama;
mod planes;
mod rows;
mod table;
mod text;

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use jishi_data::text::labels::Labels;
use jishi_hub::onnx::{self, Graph, Input, Output};
use jishi_hub::{About, HubError, folder};
use jishi_recipe::{Domain, Problem, TaskName};
use serde_json::json;

use crate::error::TrainError;
use crate::job::transfer::{domain, is_new};

/// How far a number may be from what our own model gives, beside the largest of them.
const TOLERANCE: f32 = 1e-4;

/// Writes the model of a package as an ONNX file, with what is needed to use it in the same folder, and checks that the
/// file gives what the model gives.
///
/// # Errors
/// A damaged package; a model without a graph of fixed operators; files that are there already; a file that computes
/// something else.
pub fn export(package: &Path, out: &Path, device: &Device) -> Result<(), TrainError> {
    is_new(out)?;
    match domain(package)? {
        Domain::Texts => text::export(package, out, device),
        Domain::Tables => table::export(package, out, device),
        Domain::Images => image::export(package, out, device),
    }
}

fn no_graph(package: &Path, what: &str, help: &str) -> Problem {
    Problem::new(format!("a model of {what} can't be written as ONNX")).file(package).help(help)
}

/// The folder of an ONNX file, where nothing of what is written beside it is yet.
///
/// # Errors
/// A file that is there.
fn beside<'a>(out: &'a Path, about: &About) -> Result<&'a Path, Problem> {
    let folder = jishi_runs::fs::parent(out);
    let Some(name) = folder::names(about).into_iter().find(|name| folder.join(name).exists()) else {
        return Ok(folder);
    };
    let message = format!("{name} would be written beside the ONNX file, and there already is one");
    let help = "name a file in a folder of its own, `--out FOLDER/model.onnx`";
    Err(Problem::new(message).file(folder.join(name)).help(help))
}

/// Says in the file what its model is for.
fn describe(graph: &mut Graph<'_>, task: TaskName, labels: Option<&Labels>) {
    graph.metadata.insert("task".into(), task.name().into());
    if let Some(labels) = labels {
        graph.metadata.insert("labels".into(), json!(labels.names).to_string());
    }
}

/// A tensor as what an output has to be.
fn numbers<const D: usize>(name: &str, values: Tensor<D>) -> Output {
    let shape = values.dims().to_vec();
    Output { name: name.into(), shape, values: values.into_data().iter::<f32>().collect() }
}

/// What a file is checked with: inputs, and what our own model gives for them.
pub struct Proof {
    /// Values of all inputs, in the graph's order.
    pub inputs: Vec<Input>,
    /// Values of all outputs, in the graph's order.
    pub outputs: Vec<Output>,
}

/// Writes a graph as a file, whose folder is made where it is not there, and computes with it. A file that gives other
/// outputs is removed.
///
/// # Errors
/// A model that is too large for the format; outputs that differ; the system's errors.
pub fn publish(out: &Path, graph: &Graph<'_>, proof: &Proof) -> Result<(), TrainError> {
    let folder = jishi_runs::fs::parent(out);
    fs::create_dir_all(folder).map_err(|e| HubError::io(folder, e))?;
    onnx::write(out, graph)?;
    let checked = onnx::run(out, &proof.inputs)
        .map_err(TrainError::from)
        .and_then(|found| Ok(same(out, &found, &proof.outputs)?));
    if checked.is_err() {
        fs::remove_file(out).map_err(|e| HubError::io(out, e))?;
    }
    checked
}

fn same(out: &Path, found: &[Output], expected: &[Output]) -> Result<(), Problem> {
    let wrong = |what: String| {
        let problem = Problem::new(format!("what was exported gives {what}")).file(out);
        Err(problem.help("this is an error in Jishi: please report it"))
    };
    let named = |outputs: &[Output]| -> Vec<_> {
        outputs.iter().map(|o| (o.name.clone(), o.shape.clone())).collect()
    };
    if named(found) != named(expected) {
        return wrong(format!("the outputs {:?} where {:?} are expected", named(found), named(expected)));
    }
    for (f, e) in found.iter().zip(expected) {
        let largest = e.values.iter().fold(1.0_f32, |most, x| most.max(x.abs()));
        // Nothing is near what is no number.
        let near = |(f, e): (&f32, &f32)| (f - e).abs() <= TOLERANCE * largest;
        if f.values.len() != e.values.len() {
            return wrong(format!(
                "{} values for `{}` where {} are expected",
                f.values.len(),
                f.name,
                e.values.len()
            ));
        }
        if let Some(i) = f.values.iter().zip(&e.values).position(|pair| !near(pair)) {
            let (name, f, e) = (&f.name, f.values[i], e.values[i]);
            return wrong(format!("{f} as value {i} of `{name}` where {e} is expected"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use jishi_hub::onnx::{Dim, Kind, Numbers};

    use super::*;

    fn output(values: &[f32]) -> Vec<Output> {
        vec![Output { name: "logits".into(), shape: vec![1, values.len()], values: values.to_vec() }]
    }

    #[test]
    fn outputs_that_differ_are_refused() {
        let differs =
            |found: &[f32], expected: &[f32]| same(Path::new("m.onnx"), &output(found), &output(expected));
        assert!(differs(&[1.0, 2.0], &[1.0, 2.0001]).is_ok());
        // Rounding grows with the numbers that are summed.
        assert!(differs(&[0.0, 100.0], &[0.005, 100.0]).is_ok());
        let said = differs(&[1.0, 2.0], &[1.0, 2.1]).unwrap_err().to_string();
        assert!(said.contains("2 as value 1 of `logits` where 2.1 is expected"), "{said}");
        assert!(differs(&[f32::NAN], &[f32::NAN]).is_err());
        assert!(differs(&[1.0], &[1.0, 1.0]).unwrap_err().to_string().contains("[1, 2]"));
    }

    #[test]
    fn a_file_that_computes_something_else_does_not_stay() {
        let dir = tempfile::tempdir().expect("a folder");
        let out = dir.path().join("new/model.onnx");
        let mut graph = Graph::new("double");
        let x = graph.input("x", Kind::F32, &[Dim::Named("batch")]);
        let y = graph.node("Add", &[&x, &x], &[]);
        graph.output("y", &y, Kind::F32, &[Dim::Named("batch")]);
        let proof = |y: f32| Proof {
            inputs: vec![Input { name: "x".into(), shape: vec![1], values: Numbers::F32(vec![2.0]) }],
            outputs: vec![Output { name: "y".into(), shape: vec![1], values: vec![y] }],
        };
        let said = publish(&out, &graph, &proof(5.0)).expect_err("4 is no 5").to_string();
        assert!(said.contains("4 as value 0 of `y` where 5 is expected"), "{said}");
        assert!(!out.exists());
        publish(&out, &graph, &proof(4.0)).expect("a sound file");
        assert!(out.exists());
    }
}
