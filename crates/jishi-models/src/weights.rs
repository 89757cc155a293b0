//! Weights in and out of a model, by name.
//!
//! Names are paths of fields and indices: `layers.0.weight`. Parameters are trainable, buffers (running
//! statistics) are not; both travel.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use jishi_recipe::{Problem, Problems};

use crate::error::ModelError;

/// A tensor of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// Path in the model.
    pub name: String,
    /// Shape; matrices are `[in, out]`.
    pub shape: Vec<usize>,
    /// Values, row-major.
    pub data: Vec<f32>,
    /// Whether training updates it.
    pub trainable: bool,
}

/// All tensors of a model, in the order in which the model visits them.
#[must_use]
pub fn export_weights<M: Module>(model: &M) -> Vec<NamedTensor> {
    let mut exporter = Exporter::default();
    // Outside training no tensor asks for gradients; `train` restores which ones do.
    model.clone().train().visit(&mut exporter);
    exporter.tensors
}

/// Names of all tensors of a model, in the order in which the model visits them.
#[must_use]
pub fn names<M: Module>(model: &M) -> Vec<String> {
    let mut shapes = Shapes::default();
    model.visit(&mut shapes);
    shapes.shapes.into_iter().map(|(name, _)| name).collect()
}

/// Puts tensors into a model of the same structure.
///
/// # Errors
/// Names every tensor that is missing, unknown, double or of another shape.
pub fn import_weights<M: Module>(model: M, tensors: &[NamedTensor]) -> Result<M, ModelError> {
    let mut shapes = Shapes::default();
    model.visit(&mut shapes);
    let mut given = BTreeMap::new();
    let mut problems = Vec::new();
    for tensor in tensors {
        if tensor.shape.iter().product::<usize>() != tensor.data.len() {
            problems.push(Problem::new(format!(
                "tensor `{}` of shape {:?} holds {} values",
                tensor.name,
                tensor.shape,
                tensor.data.len()
            )));
        }
        if given.insert(tensor.name.as_str(), tensor).is_some() {
            problems.push(Problem::new(format!("tensor `{}` is there twice", tensor.name)));
        }
    }
    let expected: BTreeSet<&str> = shapes.shapes.iter().map(|(name, _)| name.as_str()).collect();
    for (name, shape) in &shapes.shapes {
        match given.get(name.as_str()) {
            None => problems.push(Problem::new(format!("tensor `{name}` of shape {shape:?} is missing"))),
            Some(found) if found.shape != *shape => problems.push(Problem::new(format!(
                "tensor `{name}` should have shape {shape:?} and has {:?}",
                found.shape
            ))),
            Some(_) => {}
        }
    }
    for name in given.keys().filter(|name| !expected.contains(*name)) {
        problems.push(Problem::new(format!("tensor `{name}` is not part of this model")));
    }
    Problems(problems).into_result()?;
    Ok(model.map(&mut Importer { path: Path::default(), given }))
}

/// The path of the visited module. Variants of enums are no part of it.
#[derive(Debug, Default)]
pub(crate) struct Path(Vec<String>);

impl Path {
    pub(crate) fn enter(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.push(name.to_owned());
        }
    }

    pub(crate) fn exit(&mut self, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.pop();
        }
    }

    pub(crate) fn name(&self) -> String {
        self.0.join(".")
    }
}

#[derive(Default)]
struct Exporter {
    path: Path,
    tensors: Vec<NamedTensor>,
}

impl ModuleVisitor for Exporter {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let trainable = value.is_require_grad();
        let shape = value.dims().to_vec();
        let data = value.inner().into_data().try_to_vec::<f32>().expect("parameters are made as f32");
        self.tensors.push(NamedTensor { name: self.path.name(), shape, data, trainable });
    }
}

#[derive(Default)]
struct Shapes {
    path: Path,
    shapes: Vec<(String, Vec<usize>)>,
}

impl ModuleVisitor for Shapes {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.shapes.push((self.path.name(), param.val().dims().to_vec()));
    }
}

struct Importer<'a> {
    path: Path,
    given: BTreeMap<&'a str, &'a NamedTensor>,
}

impl ModuleMapper for Importer<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(given) = self.given.get(self.path.name().as_str()) else {
            return param;
        };
        param.map(|old| {
            let data = TensorData::new(given.data.clone(), old.dims());
            let trainable = old.is_require_grad();
            Tensor::from_data(data, &old.device()).set_require_grad(trainable)
        })
    }
}
