//! Optimisers with PyTorch's semantics: what a recipe says becomes scalars of the kernels' updates.
//!
//! The arithmetic is that of [`jishi_kernels::cpu::optimizer`], but for Muon's. Scalars are computed in `f64` and
//! rounded once, as PyTorch does; trajectories are checked against stored PyTorch ones in `tests/it/optimizers.rs`.

use burn::tensor::{Device, Tensor, TensorData};
use jishi_kernels::Level;
use jishi_kernels::cpu::optimizer::{self as kernels, Average, Rule, Update};
use jishi_recipe::{Muon, Optimizer as Config};

/// Name and shape of a trainable parameter, in the order in which the model visits them.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Path of the parameter, as in the weights file: `layers.0.weight`.
    pub name: String,
    /// Shape; matrices are `[in, out]`.
    pub shape: Vec<usize>,
    /// Multiplies its learning rate.
    pub rate: f64,
    /// It is updated in one of so many steps, the last of them.
    pub every: u64,
}

impl Parameter {
    /// Whether weight decay applies: weights of layers decay; biases, norms, embeddings and the scales of an
    /// ensemble's members (which have rank 2 too) do not, unless `decay_all`.
    #[must_use]
    pub fn decays(&self, decay_all: bool) -> bool {
        decay_all || self.is_layer_weight()
    }

    fn is_layer_weight(&self) -> bool {
        self.shape.len() >= 2 && self.name.ends_with("weight") && !self.name.contains("embed")
    }

    fn is_matrix(&self) -> bool {
        self.is_layer_weight() && self.shape.len() == 2
    }
}

/// A parameter's memory in an update.
#[derive(Debug)]
pub struct Target<'a> {
    /// The weights, which the update writes.
    pub value: &'a mut [f32],
    /// Their gradient.
    pub gradient: &'a [f32],
    /// An average that follows the weights.
    pub average: Option<Average<'a>>,
}

/// A tensor of an optimiser's state: name, shape, values.
pub type StateTensor = (String, Vec<usize>, Vec<f32>);

/// State tensors of one parameter. Empty where the optimiser does not use them.
#[derive(Debug, Clone, Default, PartialEq)]
struct Slot {
    first: Vec<f32>,
    second: Vec<f32>,
    third: Vec<f32>,
}

const SLOT_NAMES: [&str; 3] = ["first", "second", "third"];

/// An optimiser and its state.
#[derive(Debug, Clone)]
pub struct Optimizer {
    config: Config,
    parameters: Vec<Parameter>,
    slots: Vec<Slot>,
    /// Updates done so far.
    steps: u64,
}

impl Optimizer {
    /// A new optimiser for these parameters, with zero state.
    #[must_use]
    pub fn new(config: &Config, parameters: Vec<Parameter>) -> Self {
        let slots = parameters
            .iter()
            .map(|p| {
                let n = p.shape.iter().product();
                let zeros = |used: bool| if used { vec![0.0; n] } else { Vec::new() };
                let [a, b, c] = match config {
                    Config::Sgd(c) => [c.momentum != 0.0, false, false],
                    Config::Rmsprop(c) => [true, c.momentum != 0.0, c.centered],
                    Config::Adam(_) | Config::Adamw(_) => [true, true, false],
                    Config::Muon(_) => [true, !p.is_matrix(), false],
                };
                Slot { first: zeros(a), second: zeros(b), third: zeros(c) }
            })
            .collect();
        Self { config: config.clone(), parameters, slots, steps: 0 }
    }

    /// The learning rate of the recipe, which schedules multiply.
    #[must_use]
    pub fn learning_rate(&self) -> f64 {
        base_learning_rate(&self.config)
    }

    /// The parameters in order.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Bytes of state that this optimiser keeps.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        self.slots.iter().map(|s| 4 * (s.first.len() + s.second.len() + s.third.len())).sum()
    }

    /// Starts an update: [`Optimizer::update_all`] follows.
    pub fn begin_step(&mut self) {
        self.steps += 1;
    }

    /// Updates parameter `index` in place, as [`Optimizer::update_all`] does.
    ///
    /// # Panics
    /// Where the slices' lengths differ from the parameter's: a bug of the caller.
    pub fn update(&mut self, index: usize, factor: f64, scale: f32, value: &mut [f32], gradient: &[f32]) {
        let target = Target { value, gradient, average: None };
        self.update_all(factor, scale, (0..index).map(|_| None).chain([Some(target)]));
    }

    /// Updates parameters in place, together on all threads: `targets` holds the first parameters in order, `None`
    /// where one took no part.
    ///
    /// `factor` multiplies the recipe's learning rate (schedule); `scale` multiplies the gradient
    /// (one over the batch's weight, clipping).
    ///
    /// # Panics
    /// Where the slices' lengths differ from the parameter's: a bug of the caller.
    pub fn update_all<'a>(
        &'a mut self,
        factor: f64,
        scale: f32,
        targets: impl IntoIterator<Item = Option<Target<'a>>>,
    ) {
        let level = Level::best();
        let mut updates = Vec::with_capacity(self.parameters.len());
        for ((parameter, slot), target) in self.parameters.iter().zip(&mut self.slots).zip(targets) {
            let Some(Target { value, gradient, average }) = target else { continue };
            assert_eq!(value.len(), gradient.len(), "gradient of {} has another size", parameter.name);
            if let (Config::Muon(c), true) = (&self.config, parameter.is_matrix()) {
                muon(c, &parameter.shape, factor * parameter.rate, scale, value, gradient, &mut slot.first);
                if let Some(average) = average {
                    kernels::follow(level, average.take, average.values, value);
                }
                continue;
            }
            let rule = rule(&self.config, parameter, factor * parameter.rate, self.steps / parameter.every);
            let state = [&mut slot.first[..], &mut slot.second, &mut slot.third];
            updates.push(Update { rule, scale, value, gradient, state, average });
        }
        kernels::apply(level, updates);
    }

    /// The number of updates done, and the state as named tensors.
    #[must_use]
    pub fn export(&self) -> (u64, Vec<StateTensor>) {
        let mut out = Vec::new();
        for (p, s) in self.parameters.iter().zip(&self.slots) {
            for (name, data) in SLOT_NAMES.iter().zip([&s.first, &s.second, &s.third]) {
                if !data.is_empty() {
                    out.push((format!("{}.{name}", p.name), p.shape.clone(), data.clone()));
                }
            }
        }
        (self.steps, out)
    }

    /// Takes back what [`Optimizer::export`] gave.
    ///
    /// # Errors
    /// The name of the first tensor that is missing or has another size.
    pub fn import(
        &mut self,
        steps: u64,
        mut tensor: impl FnMut(&str) -> Option<Vec<f32>>,
    ) -> Result<(), String> {
        for (p, s) in self.parameters.iter().zip(&mut self.slots) {
            for (name, data) in SLOT_NAMES.iter().zip([&mut s.first, &mut s.second, &mut s.third]) {
                if data.is_empty() {
                    continue;
                }
                let full = format!("{}.{name}", p.name);
                match tensor(&full) {
                    Some(v) if v.len() == data.len() => *data = v,
                    _ => return Err(full),
                }
            }
        }
        self.steps = steps;
        Ok(())
    }
}

/// The learning rate that a recipe names.
#[must_use]
pub fn base_learning_rate(config: &Config) -> f64 {
    match config {
        Config::Sgd(c) => c.learning_rate,
        Config::Rmsprop(c) => c.learning_rate,
        Config::Adam(c) => c.learning_rate,
        Config::Adamw(c) => c.learning_rate,
        Config::Muon(c) => c.learning_rate,
    }
}

/// The scalars of a parameter's update. Muon's parameters that are not matrices are updated by AdamW.
fn rule(config: &Config, parameter: &Parameter, factor: f64, steps: u64) -> Rule {
    let decay = |weight: f64, all: bool| if parameter.decays(all) { weight } else { 0.0 };
    match config {
        Config::Sgd(c) => Rule::Sgd(kernels::Sgd {
            rate: (c.learning_rate * factor) as f32,
            decay: decay(c.weight_decay, c.decay_all) as f32,
            momentum: c.momentum as f32,
            dampening: c.dampening as f32,
            nesterov: c.nesterov,
            first: steps == 1,
        }),
        Config::Rmsprop(c) => Rule::RmsProp(kernels::RmsProp {
            rate: (c.learning_rate * factor) as f32,
            decay: decay(c.weight_decay, c.decay_all) as f32,
            alpha: c.alpha as f32,
            rest: (1.0 - c.alpha) as f32,
            eps: c.eps as f32,
            momentum: c.momentum as f32,
            centred: c.centered,
        }),
        Config::Adam(c) => {
            let decay = decay(c.weight_decay, c.decay_all);
            Rule::Adam(kernels::Adam::new(c.learning_rate * factor, c.betas, c.eps, decay, 0.0, steps))
        }
        Config::Adamw(c) => {
            let decay = decay(c.weight_decay, c.decay_all);
            Rule::Adam(kernels::Adam::new(c.learning_rate * factor, c.betas, c.eps, 0.0, decay, steps))
        }
        Config::Muon(c) => {
            let (rate, decay) = (c.adamw_learning_rate * factor, decay(c.weight_decay, c.decay_all));
            Rule::Adam(kernels::Adam::new(rate, c.adamw_betas, 1e-8, 0.0, decay, steps))
        }
    }
}

/// Coefficients of the quintic Newton–Schulz iteration (Jordan et al. 2024).
const NEWTON_SCHULZ: [f32; 3] = [3.4445, -4.775, 2.0315];

/// One Muon update of a matrix `[in, out]`.
fn muon(
    c: &Muon,
    shape: &[usize],
    factor: f64,
    scale: f32,
    value: &mut [f32],
    grad: &[f32],
    momentum: &mut [f32],
) {
    let lr = c.learning_rate * factor;
    let (rows, columns) = (shape[0], shape[1]);
    let keep = c.momentum as f32;
    let mut update = vec![0.0; value.len()];
    for ((m, g), u) in momentum.iter_mut().zip(grad).zip(&mut update) {
        let g = g * scale;
        *m += (g - *m) * (1.0 - keep);
        *u = if c.nesterov { g + (*m - g) * keep } else { *m };
    }
    let update = orthogonalise(update, rows, columns, c.ns_steps);
    // PyTorch stores [out, in] and scales by √max(1, out / in).
    let lr_matrix = (lr * (columns as f64 / rows as f64).max(1.0).sqrt()) as f32;
    let shrink = (1.0 - lr * c.weight_decay) as f32;
    for (w, u) in value.iter_mut().zip(&update) {
        *w = *w * shrink - lr_matrix * u;
    }
}

/// The nearest orthogonal matrix to `x` `[rows, columns]`, by Newton–Schulz steps in `f32`.
fn orthogonalise(x: Vec<f32>, rows: usize, columns: usize, steps: usize) -> Vec<f32> {
    let device = Device::flex();
    let norm = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(1e-7) as f32;
    let x = Tensor::<2>::from_data(TensorData::new(x, [rows, columns]), &device) / norm;
    let wide = rows <= columns;
    let mut x = if wide { x } else { x.transpose() };
    let [a, b, c] = NEWTON_SCHULZ;
    for _ in 0..steps {
        let gram = x.clone().matmul(x.clone().transpose()); // [short, short]
        let polynomial = gram.clone() * b + gram.clone().matmul(gram) * c;
        x = x.clone() * a + polynomial.matmul(x);
    }
    let x = if wide { x } else { x.transpose() };
    x.into_data().try_to_vec::<f32>().expect("the matrix was made as f32")
}
