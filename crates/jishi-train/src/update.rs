//! From Burn's gradients to weights updated in place.
//!
//! Burn hands gradients out by parameter. [`collect`] takes them in the model's visiting order without
//! copying; [`apply`] gives the memory of all parameters to the optimiser, which writes it in place.

use std::ptr::NonNull;

use burn::backend::Flex;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};
use burn_flex::FlexTensor;
use jishi_kernels::Level;
use jishi_kernels::cpu::optimizer as kernels;

use crate::optimizer::{Optimizer, Target};

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
                Some(sum) => kernels::accumulate(Level::best(), sum.storage_mut(), values(&g)),
                None => *slot = Some(g),
            }
        }
        self.index += 1;
    }
}

/// Euclidean norm over all gradients together, in `f64`.
#[must_use]
pub fn global_norm(gradients: &Collected) -> f64 {
    let slices: Vec<&[f32]> = gradients.iter().flatten().map(values).collect();
    kernels::global_norm(Level::best(), &slices)
}

/// What clipping multiplies gradients of this norm with: PyTorch's `clip_grad_norm_` adds 1e-6 to the norm and never scales up.
#[must_use]
pub fn clip_factor(norm: f64, limit: f64) -> f64 {
    (limit / (norm + 1e-6)).min(1.0)
}

/// Updates every trainable parameter of `model` that has a gradient, and its moving average where there is one. The step
/// of both has begun.
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
    let mut opener = Opener { gradients, memory: Vec::with_capacity(gradients.len()) };
    let model = model.map(&mut opener);
    let mut average = average.map(Average::followers);
    let targets = opener.memory.into_iter().zip(gradients).map(|(memory, gradient)| {
        let average = average.as_mut().and_then(Iterator::next);
        let (Memory { pointer, len }, gradient) = (memory?, values(gradient.as_ref()?));
        // SAFETY: the memory is on the heap and belongs to one tensor of `model`, whose only handle is here:
        // nothing reads, moves or frees it before the updates are done.
        let value = unsafe { std::slice::from_raw_parts_mut(pointer.as_ptr(), len) };
        Some(Target { value, gradient, average })
    });
    optimizer.update_all(factor, scale, targets);
    model
}

/// Where a parameter's weights are.
struct Memory {
    pointer: NonNull<f32>,
    len: usize,
}

/// Makes sure that each parameter with a gradient has memory of its own, and notes where it is, so that all
/// parameters can be updated together.
struct Opener<'a> {
    gradients: &'a Collected,
    memory: Vec<Option<Memory>>,
}

impl ModuleMapper for Opener<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !param.is_require_grad() {
            return param;
        }
        if self.gradients[self.memory.len()].is_none() {
            self.memory.push(None);
            return param;
        }
        let (id, tensor, mapper) = param.consume();
        let mut weights = flex(tensor.inner());
        if !weights.is_contiguous() {
            weights = weights.to_contiguous();
        }
        let memory = weights.storage_mut::<f32>();
        self.memory.push(Some(Memory { len: memory.len(), pointer: NonNull::from(memory).cast() }));
        let tensor = Tensor::from_primitive::<Flex>(weights).autodiff().require_grad();
        Param::from_mapped_value(id, tensor, mapper)
    }
}

/// Exponential moving average of the weights: `average = decay · average + (1 − decay) · weights`.
#[derive(Debug, Clone, PartialEq)]
pub struct Average {
    decay: f64,
    steps: u64,
    values: Vec<Vec<f32>>,
}

impl Average {
    /// Starts at the given weights, in visiting order.
    #[must_use]
    pub fn new(decay: f64, values: Vec<Vec<f32>>) -> Self {
        Self { decay, steps: 0, values }
    }

    /// The averaged weights, in visiting order.
    #[must_use]
    pub fn values(&self) -> &[Vec<f32>] {
        &self.values
    }

    /// Takes back averaged weights from a checkpoint; `steps` optimiser updates were done.
    pub fn restore(&mut self, steps: u64, values: Vec<Vec<f32>>) {
        self.steps = steps;
        self.values = values;
    }

    /// Starts a step: [`apply`] follows.
    pub fn begin_step(&mut self) {
        self.steps += 1;
    }

    /// What follows each parameter in this step.
    fn followers(&mut self) -> impl Iterator<Item = kernels::Average<'_>> {
        // A young average follows quickly, so that it does not remember the initial weights:
        // decay = min(decay, (1 + t) / (10 + t)), as in TensorFlow's ExponentialMovingAverage.
        let t = (self.steps - 1) as f64;
        let take = (1.0 - self.decay.min((1.0 + t) / (10.0 + t))) as f32;
        self.values.iter_mut().map(move |values| kernels::Average { values, take })
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
