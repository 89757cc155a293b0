//! Initial weights: named distributions, drawn from the run's seed and the parameter's name.
//!
//! Every parameter has a random stream of its own, so adding a layer does not change the others.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use jishi_recipe::Init;

use crate::rng::{Rng, stream};

/// Where parameters are made: seed, initialiser, device, and the path in the model.
#[derive(Debug, Clone)]
pub struct Scope {
    seed: u64,
    init: Init,
    device: Device,
    path: String,
}

impl Scope {
    /// The scope of a whole model.
    #[must_use]
    pub fn new(seed: u64, init: Init, device: &Device) -> Self {
        Self { seed, init, device: device.clone(), path: String::new() }
    }

    /// The scope of a part of the model. Names are those of the weights file: `layers.0`.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self { path: self.join(name), ..self.clone() }
    }

    /// The device that parameters are made on.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A weight, from the model's initialiser.
    #[must_use]
    pub fn weight<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
        fan_in: usize,
        fan_out: usize,
    ) -> Param<Tensor<D>> {
        let mut rng = self.rng(name);
        let values = (0..count(shape)).map(draw(self.init, fan_in, fan_out, &mut rng)).collect();
        self.parameter(values, shape)
    }

    /// Values of a bias `[length]` of a layer with `fan_in` inputs: uniform for `torch`, else zero.
    #[must_use]
    pub fn bias_values(&self, name: &str, length: usize, fan_in: usize) -> Vec<f32> {
        match self.init {
            Init::Torch => {
                let mut rng = self.rng(name);
                (0..length).map(draw(Init::Torch, fan_in, length, &mut rng)).collect()
            }
            _ => vec![0.0; length],
        }
    }

    /// A bias: uniform for `torch`, else zero.
    #[must_use]
    pub fn bias<const D: usize>(&self, name: &str, shape: [usize; D], fan_in: usize) -> Param<Tensor<D>> {
        self.parameter(self.bias_values(name, count(shape), fan_in), shape)
    }

    /// Uniform in ±`bound`, whatever the model's initialiser: embeddings.
    #[must_use]
    pub fn uniform<const D: usize>(&self, name: &str, shape: [usize; D], bound: f32) -> Param<Tensor<D>> {
        let mut rng = self.rng(name);
        self.parameter((0..count(shape)).map(|_| (2.0 * rng.uniform() - 1.0) * bound).collect(), shape)
    }

    /// Normal with standard deviation `deviation`.
    #[must_use]
    pub fn normal<const D: usize>(&self, name: &str, shape: [usize; D], deviation: f32) -> Param<Tensor<D>> {
        let mut rng = self.rng(name);
        self.parameter((0..count(shape)).map(|_| rng.normal() * deviation).collect(), shape)
    }

    /// +1 or −1, with equal probability.
    #[must_use]
    pub fn signs<const D: usize>(&self, name: &str, shape: [usize; D]) -> Param<Tensor<D>> {
        let mut rng = self.rng(name);
        let sign = |_| if rng.next_u32() >> 31 == 0 { 1.0 } else { -1.0 };
        self.parameter((0..count(shape)).map(sign).collect(), shape)
    }

    /// A trainable parameter with these values.
    #[must_use]
    pub fn parameter<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Param<Tensor<D>> {
        Param::from_tensor(self.tensor(values, shape))
    }

    /// A trainable parameter with the same value everywhere.
    #[must_use]
    pub fn constant<const D: usize>(&self, value: f32, shape: [usize; D]) -> Param<Tensor<D>> {
        self.parameter(vec![value; count(shape)], shape)
    }

    /// A tensor that is saved with the weights and not trained.
    #[must_use]
    pub fn buffer<const D: usize>(&self, value: f32, shape: [usize; D]) -> Param<Tensor<D>> {
        Param::initialized(ParamId::new(), self.tensor(vec![value; count(shape)], shape))
    }

    fn tensor<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }

    fn join(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn rng(&self, name: &str) -> Rng {
        Rng::new(self.seed, stream(&format!("init {}", self.join(name)), 0))
    }
}

fn count<const D: usize>(shape: [usize; D]) -> usize {
    shape.iter().product()
}

/// Draws from a named initialiser (see [`Init`] for the distributions and their sources).
fn draw(init: Init, fan_in: usize, fan_out: usize, rng: &mut Rng) -> impl FnMut(usize) -> f32 {
    let (fan_in, fan_out) = (fan_in.max(1) as f64, fan_out.max(1) as f64);
    let (uniform, scale) = match init {
        Init::Torch => (true, 1.0 / fan_in.sqrt()),
        Init::XavierUniform => (true, (6.0 / (fan_in + fan_out)).sqrt()),
        Init::XavierNormal => (false, (2.0 / (fan_in + fan_out)).sqrt()),
        Init::KaimingUniform => (true, (6.0 / fan_in).sqrt()),
        Init::KaimingNormal => (false, (2.0 / fan_in).sqrt()),
        Init::Normal => (false, 0.02),
        Init::Zeros => (true, 0.0),
    };
    let scale = scale as f32;
    move |_| if uniform { (2.0 * rng.uniform() - 1.0) * scale } else { rng.normal() * scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(init: Init, seed: u64, name: &str) -> Vec<f32> {
        let scope = Scope::new(seed, init, &Device::flex()).child("layer");
        scope.weight(name, [100, 300], 100, 300).val().into_data().try_to_vec::<f32>().expect("f32")
    }

    #[test]
    fn distributions_have_the_named_spread() {
        let deviation =
            |v: &[f32]| (v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / v.len() as f64).sqrt();
        let largest = |v: &[f32]| v.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        for (init, bound) in
            [(Init::Torch, 0.1), (Init::XavierUniform, 0.122_474_5), (Init::KaimingUniform, 0.244_948_98)]
        {
            let v = values(init, 1, "weight");
            assert!(largest(&v) <= bound && largest(&v) > bound * 0.99, "{init:?}");
            assert!((deviation(&v) / (f64::from(bound) / 3f64.sqrt()) - 1.0).abs() < 0.02, "{init:?}");
        }
        for (init, expected) in
            [(Init::XavierNormal, 0.070_71), (Init::KaimingNormal, 0.141_42), (Init::Normal, 0.02)]
        {
            assert!((deviation(&values(init, 1, "weight")) / expected - 1.0).abs() < 0.02, "{init:?}");
        }
        assert_eq!(largest(&values(Init::Zeros, 1, "weight")), 0.0);
    }

    #[test]
    fn values_depend_on_seed_and_name() {
        assert_eq!(values(Init::Torch, 1, "a"), values(Init::Torch, 1, "a"));
        assert_ne!(values(Init::Torch, 1, "a"), values(Init::Torch, 2, "a"));
        assert_ne!(values(Init::Torch, 1, "a"), values(Init::Torch, 1, "b"));
    }

    #[test]
    fn biases_are_zero_but_for_torch() {
        let scope = |init| Scope::new(1, init, &Device::flex());
        assert!(scope(Init::KaimingNormal).bias_values("bias", 8, 4).iter().all(|b| *b == 0.0));
        let torch = scope(Init::Torch).bias_values("bias", 8, 4);
        assert!(torch.iter().all(|b| *b != 0.0 && b.abs() <= 0.5));
    }
}
