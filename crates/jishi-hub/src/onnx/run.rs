//! Reading a file back and computing with it, by an implementation of ONNX that is not ours.

use std::path::Path;

use jishi_recipe::Problem;
use tract_onnx::prelude::*;

use crate::error::HubError;

/// Values of an input.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub values: Numbers,
}

/// Numbers of an input.
#[derive(Debug, Clone, PartialEq)]
pub enum Numbers {
    /// 32-bit floating point.
    F32(Vec<f32>),
    /// 64-bit integers.
    I64(Vec<i64>),
}

/// Values of an output.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub values: Vec<f32>,
}

/// Reads a file with `tract` and computes its outputs.
///
/// # Errors
/// A [`Problem`] for a file that `tract` can't read or run, and for inputs that are not those of the file.
pub fn run(path: &Path, inputs: &[Input]) -> Result<Vec<Output>, HubError> {
    let bad = |what: &str, error: &dyn std::fmt::Display| {
        // The whole chain of causes, on one line.
        let error = format!("{error:#}").replace('\n', "; ");
        HubError::from(Problem::new(format!("`tract` {what} this ONNX file: {error}")).file(path))
    };
    let model = tract_onnx::onnx().model_for_path(path).map_err(|e| bad("can't read", &e))?;
    let outlets = model.input_outlets().map_err(|e| bad("can't read", &e))?;
    let expected: Vec<&str> = outlets.iter().map(|outlet| model.node(outlet.node).name.as_str()).collect();
    let found: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    if expected != found {
        let message = format!("expected values for the inputs {expected:?}, found them for {found:?}");
        return Err(Problem::new(message).file(path).into());
    }
    let outlets = model.output_outlets().map_err(|e| bad("can't read", &e))?;
    let names: Vec<String> = outlets.iter().map(|outlet| model.node(outlet.node).name.clone()).collect();
    let mut values = TVec::new();
    for Input { shape, values: numbers, .. } in inputs {
        let tensor = match numbers {
            Numbers::F32(values) => Tensor::from_shape(shape, values),
            Numbers::I64(values) => Tensor::from_shape(shape, values),
        };
        let tensor = tensor.map_err(|e| bad("can't take inputs for", &e))?;
        values.push(TValue::from(tensor));
    }
    let plan = model.into_optimized().and_then(IntoRunnable::into_runnable);
    let computed = plan.and_then(|plan| plan.run(values)).map_err(|e| bad("can't run", &e))?;
    names
        .into_iter()
        .zip(&computed)
        .map(|(name, value)| {
            let plain = value.try_as_plain_ram().map_err(|e| bad("can't give outputs of", &e))?;
            let values = plain.as_slice::<f32>().map_err(|e| bad("can't give outputs of", &e))?.to_vec();
            Ok(Output { name, shape: value.shape().to_vec(), values })
        })
        .collect()
}
