//! From Burn's gradients to weights updated in place.
//!
//! Burn hands gradients out by parameter. [`collect`] takes them in the model's visiting order without
//! copying; [`apply`] gives each parameter's memory to the optimiser, which writes it in place.

use burn::backend::Flex;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};
use burn_flex::FlexTensor;

use crate::optimizer::Optimizer;

/// Gradients of the trainable parameters, in visiting order; `None` where a parameter took no part.
pub type Collected = Vec<Option<FlexTensor>>;

/// Takes the gradients of `model`'s trainable parameters out of `gradients`, adding to those of earlier micro-batches.
pub fn collect<M: Module>(model: &M, gradients: &mut Gradients, into: &mut Collected) {
    let first = into.is_empty();
    model.visit(&mut Collector { gradients, into, index: 0, first });
}

struct Collector<'a> {
    gradients: &'a mut Gradients,
    into: &'a mut Collected,
    index: usize,
    first: bool,
}

impl ModuleVisitor for Collector<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let gradient = param.grad_remove(self.gradients).map(|g| flex(g).to_contiguous());
        if self.first {
            self.into.push(gradient);
        } else if let Some(g) = gradient {
            let slot = &mut self.into[self.index];
            match slot {
                Some(sum) => add(sum, &g),
                None => *slot = Some(g),
            }
        }
        self.index += 1;
    }
}

fn add(sum: &mut FlexTensor, other: &FlexTensor) {
    let other = values(other);
    for (a, b) in sum.storage_mut::<f32>().iter_mut().zip(other) {
        *a += b;
    }
}

/// Euclidean norm over all gradients together, in `f64`.
pub fn global_norm(gradients: &Collected) -> f64 {
    gradients
        .iter()
        .flatten()
        .map(|g| values(g).iter().map(|v| f64::from(*v).powi(2)).sum::<f64>())
        .sum::<f64>()
        .sqrt()
}

/// What clipping multiplies gradients of this norm with: PyTorch's `clip_grad_norm_` adds 1e-6 to the norm and never scales up.
#[must_use]
pub fn clip_factor(norm: f64, limit: f64) -> f64 {
    (limit / (norm + 1e-6)).min(1.0)
}

/// Updates every trainable parameter of `model`, and its moving average where there is one.
///
/// `factor` multiplies the learning rate, `scale` the gradients.
pub fn apply<M: Module>(
    model: M,
    gradients: &Collected,
    optimizer: &mut Optimizer,
    factor: f64,
    scale: f32,
    average: Option<&mut Average>,
) -> M {
    optimizer.begin_step();
    model.map(&mut Updater { gradients, optimizer, factor, scale, average, index: 0 })
}

struct Updater<'a> {
    gradients: &'a Collected,
    optimizer: &'a mut Optimizer,
    factor: f64,
    scale: f32,
    average: Option<&'a mut Average>,
    index: usize,
}

impl ModuleMapper for Updater<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !param.is_require_grad() {
            return param;
        }
        let index = self.index;
        self.index += 1;
        let Some(gradient) = &self.gradients[index] else {
            return param;
        };
        let (id, tensor, mapper) = param.consume();
        let mut weights = flex(tensor.inner());
        if !weights.is_contiguous() {
            weights = weights.to_contiguous();
        }
        let memory = weights.storage_mut::<f32>();
        self.optimizer.update(index, self.factor, self.scale, memory, values(gradient));
        if let Some(average) = &mut self.average {
            average.update(index, memory);
        }
        let tensor = Tensor::from_primitive::<Flex>(weights).autodiff().require_grad();
        Param::from_mapped_value(id, tensor, mapper)
    }
}

/// Exponential moving average of the weights: `average = decay · average + (1 − decay) · weights`.
#[derive(Debug, Clone, PartialEq)]
pub struct Average {
    decay: f64,
    updates: u64,
    values: Vec<Vec<f32>>,
}

impl Average {
    /// Starts at the given weights, in visiting order.
    #[must_use]
    pub fn new(decay: f64, values: Vec<Vec<f32>>) -> Self {
        Self { decay, updates: 0, values }
    }

    /// The averaged weights, in visiting order.
    #[must_use]
    pub fn values(&self) -> &[Vec<f32>] {
        &self.values
    }

    /// Takes back averaged weights from a checkpoint; `steps` optimiser updates were done.
    pub fn restore(&mut self, steps: u64, values: Vec<Vec<f32>>) {
        self.updates = steps * values.len() as u64;
        self.values = values;
    }

    fn update(&mut self, index: usize, weights: &[f32]) {
        // A young average follows quickly, so that it does not remember the initial weights:
        // decay = min(decay, (1 + t) / (10 + t)), as in TensorFlow's ExponentialMovingAverage.
        let t = (self.updates / self.values.len() as u64) as f64;
        let take = (1.0 - self.decay.min((1.0 + t) / (10.0 + t))) as f32;
        for (a, w) in self.values[index].iter_mut().zip(weights) {
            *a += (w - *a) * take;
        }
        self.updates += 1;
    }
}

fn flex<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    tensor
        .try_into_primitive::<Flex>()
        .expect("training runs on the CPU backend, which `jishi` checks at start")
}

fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("gradients are contiguous f32, which `collect` sees to")
}
