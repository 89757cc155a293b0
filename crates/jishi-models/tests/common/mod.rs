//! What the tests of models share.

#![allow(dead_code, reason = "each test binary uses a part")]

mod numbers;

pub use numbers::numbers;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use jishi_models::{NamedTensor, export_weights, import_weights};
use serde_json::Value;

/// The values of a tensor.
pub fn values<const D: usize>(t: Tensor<D>) -> Vec<f32> {
    t.inner().into_data().try_to_vec::<f32>().expect("f32")
}

/// Gradients by the order in which the model visits parameters.
pub fn gradients<M: Module>(model: &M, loss: Tensor<1>) -> Vec<Option<Vec<f32>>> {
    struct Visitor(Gradients, Vec<Option<Vec<f32>>>);
    impl ModuleVisitor for Visitor {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1.push(param.grad_remove(&mut self.0).map(values));
        }
    }
    let mut visitor = Visitor(loss.backward(), Vec::new());
    model.visit(&mut visitor);
    visitor.1
}

/// That values are close; the largest difference.
pub fn close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) -> f32 {
    assert_eq!(found.len(), expected.len(), "{what}");
    let mut largest = 0.0f32;
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let error = (f - e).abs();
        assert!(error <= tolerance * e.abs().max(1.0), "{what}[{i}]: {f}, expected {e}");
        largest = largest.max(error);
    }
    largest
}

/// Weights large enough that every part of the model matters.
pub fn shaken<M: Module>(model: M) -> M {
    let mut weights = export_weights(&model);
    let mut rng = jishi_models::Rng::new(5, 1);
    for tensor in weights.iter_mut().filter(|t| t.trainable) {
        tensor.data.iter_mut().for_each(|v| *v += 0.3 * rng.normal());
    }
    import_weights(model, &weights).expect("the same names")
}

/// Central differences of a loss for a random direction in every tensor that is trained.
pub fn check_gradients<M: Module>(name: &str, model: &M, loss: impl Fn(&M) -> Tensor<1>) {
    let tensors = export_weights(model);
    let found = gradients(model, loss(model));
    let mut rng = jishi_models::Rng::new(3, 0);
    for (i, tensor) in tensors.iter().enumerate().filter(|(_, t)| t.trainable) {
        let direction: Vec<f32> = tensor.data.iter().map(|_| rng.normal()).collect();
        let length = direction.iter().map(|d| d * d).sum::<f32>().sqrt();
        let at = |step: f32| {
            let mut moved = tensors.clone();
            for (w, d) in moved[i].data.iter_mut().zip(&direction) {
                *w += step * d / length;
            }
            let model = import_weights(model.clone(), &moved).expect("the same model");
            f64::from(loss(&model).into_scalar::<f32>())
        };
        let gradient = found[i].as_ref().unwrap_or_else(|| panic!("{name}: {} has no gradient", tensor.name));
        let expected = gradient.iter().zip(&direction).map(|(g, d)| f64::from(g * d / length)).sum::<f64>();
        let near = |m: f64| (m - expected).abs() <= 2e-3 + 3e-2 * expected.abs();
        // Where many values are close to a kink, as behind ReLU, the smallest step is right.
        let measured = [1e-2, 3e-3, 1e-3, 3e-4].map(|step| (at(step) - at(-step)) / f64::from(2.0 * step));
        // Where one is at a kink, but for rounding, the gradient is the slope of one of its sides.
        let (here, step) = (at(0.0), 1e-3);
        let sides = [at(step) - here, here - at(-step)].map(|rise| rise / f64::from(step));
        assert!(
            measured.into_iter().chain(sides).any(near),
            "{name}: {} {measured:?}, on its sides {sides:?}, expected {expected}",
            tensor.name
        );
    }
}

/// A training step of our own, so that the tests of this crate need no other.
pub struct Adam {
    step: i32,
    decay: f32,
    moments: Vec<(Vec<f32>, Vec<f32>)>,
}

impl Default for Adam {
    fn default() -> Self {
        Self::with_decay(1.0)
    }
}

impl Adam {
    /// Every step is so many times as long as the one before.
    pub fn with_decay(decay: f32) -> Self {
        Self { step: 0, decay, moments: Vec::new() }
    }

    pub fn step<M: Module>(&mut self, model: M, gradients: Vec<Option<Vec<f32>>>) -> M {
        struct Mapper<'a>(&'a mut Adam, std::vec::IntoIter<Option<Vec<f32>>>, usize);
        impl ModuleMapper for Mapper<'_> {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let (gradient, index) = (self.1.next().flatten(), self.2);
                self.2 += 1;
                let Some(gradient) = gradient else { return param };
                let (step, rate) = (self.0.step, 0.03 * self.0.decay.powi(self.0.step));
                let (first, second) = &mut self.0.moments[index];
                first.resize(gradient.len(), 0.0);
                second.resize(gradient.len(), 0.0);
                param.map(|old| {
                    let mut weights = values(old.clone());
                    for (i, g) in gradient.iter().enumerate() {
                        first[i] = 0.9 * first[i] + 0.1 * g;
                        second[i] = 0.99 * second[i] + 0.01 * g * g;
                        let m = first[i] / (1.0 - 0.9f32.powi(step));
                        let v = second[i] / (1.0 - 0.99f32.powi(step));
                        weights[i] -= rate * m / (v.sqrt() + 1e-8);
                    }
                    Tensor::from_data(TensorData::new(weights, old.dims()), &old.device()).require_grad()
                })
            }
        }
        self.step += 1;
        self.moments.resize(gradients.len(), (Vec::new(), Vec::new()));
        model.map(&mut Mapper(self, gradients.into_iter(), 0))
    }
}

// The formulas of fixtures/image.py.

/// `[rows, height, width, channels]`
pub fn images(rows: usize, [height, width]: [usize; 2], channels: usize) -> Tensor<4> {
    let values = numbers("input", rows * channels * height * width);
    let shape = [rows, channels, height, width];
    Tensor::<4>::from_data(TensorData::new(values, shape), &Device::flex()).permute([0, 2, 3, 1])
}

/// A checkpoint's tensor by the script's formula.
pub fn formula(name: &str, shape: Vec<usize>) -> NamedTensor {
    let mut data = numbers(name, shape.iter().product());
    let fan_in: usize = shape.iter().skip(1).product();
    let (start, scale) = match shape.len() {
        _ if name.ends_with("running_var") => (1.0, 0.5),
        1 if name.ends_with("weight") => (1.0, 0.25),
        0 | 1 => (0.0, 0.125),
        _ => (0.0, (6.0 / fan_in as f64).sqrt() as f32),
    };
    data.iter_mut().for_each(|v| *v = start + scale * *v);
    NamedTensor { name: name.into(), shape, data, trainable: true }
}

pub fn list(value: &Value) -> Vec<usize> {
    let sizes = value.as_array().expect("a list").iter();
    sizes.map(|n| n.as_u64().expect("a size") as usize).collect()
}
