//! Optimisers with PyTorch's semantics, as passes over flat `f32` slices.
//!
//! Each update reads a parameter's gradient once and writes the parameter and its state in place, so
//! that a step touches memory as little as it can. Scalars are computed in `f64` and rounded once, as
//! PyTorch does; trajectories are checked against stored PyTorch ones in `tests/optimizers.rs`.

use burn::tensor::{Device, Tensor, TensorData};
use jishi_recipe::{Adam, AdamW, Muon, Optimizer as Config, Rmsprop, Sgd};

/// Name and shape of a trainable parameter, in the order in which the model visits them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Path of the parameter, as in the weights file: `layers.0.weight`.
    pub name: String,
    /// Shape; matrices are `[in, out]`.
    pub shape: Vec<usize>,
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

    /// Starts an update: [`Optimizer::update`] follows once for every parameter.
    pub fn begin_step(&mut self) {
        self.steps += 1;
    }

    /// Updates parameter `index` in place.
    ///
    /// `factor` multiplies the recipe's learning rate (schedule); `scale` multiplies the gradient
    /// (one over the batch's weight, clipping).
    ///
    /// # Panics
    /// Where the slices' lengths differ from the parameter's: a bug of the caller.
    pub fn update(&mut self, index: usize, factor: f64, scale: f32, value: &mut [f32], grad: &[f32]) {
        let parameter = &self.parameters[index];
        let slot = &mut self.slots[index];
        assert_eq!(value.len(), grad.len(), "gradient of {} has another size", parameter.name);
        let steps = self.steps;
        match &self.config {
            Config::Sgd(c) => sgd(c, parameter, factor, scale, value, grad, slot, steps == 1),
            Config::Rmsprop(c) => rmsprop(c, parameter, factor, scale, value, grad, slot),
            Config::Adam(Adam { learning_rate, betas, eps, weight_decay, decay_all }) => {
                let decay = if parameter.decays(*decay_all) { *weight_decay } else { 0.0 };
                let h = AdamStep::new(learning_rate * factor, *betas, *eps, steps);
                h.apply(scale, decay as f32, 1.0, value, grad, slot);
            }
            Config::Adamw(AdamW { learning_rate, betas, eps, weight_decay, decay_all }) => {
                let lr = learning_rate * factor;
                let decay = if parameter.decays(*decay_all) { *weight_decay } else { 0.0 };
                let h = AdamStep::new(lr, *betas, *eps, steps);
                h.apply(scale, 0.0, (1.0 - lr * decay) as f32, value, grad, slot);
            }
            Config::Muon(c) => {
                if parameter.is_matrix() {
                    muon(c, &parameter.shape, factor, scale, value, grad, &mut slot.first);
                } else {
                    let lr = c.adamw_learning_rate * factor;
                    let decay = if parameter.decays(c.decay_all) { c.weight_decay } else { 0.0 };
                    let h = AdamStep::new(lr, c.adamw_betas, 1e-8, steps);
                    h.apply(scale, 0.0, (1.0 - lr * decay) as f32, value, grad, slot);
                }
            }
        }
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

#[allow(clippy::too_many_arguments)]
fn sgd(
    c: &Sgd,
    p: &Parameter,
    factor: f64,
    scale: f32,
    value: &mut [f32],
    grad: &[f32],
    slot: &mut Slot,
    first: bool,
) {
    let lr = (c.learning_rate * factor) as f32;
    let decay = if p.decays(c.decay_all) { c.weight_decay as f32 } else { 0.0 };
    if c.momentum == 0.0 {
        for (w, g) in value.iter_mut().zip(grad) {
            *w -= lr * (g * scale + decay * *w);
        }
        return;
    }
    let momentum = c.momentum as f32;
    // PyTorch starts the buffer as the first gradient itself, without dampening.
    let (keep, take) = if first { (0.0, 1.0) } else { (momentum, 1.0 - c.dampening as f32) };
    for ((w, g), b) in value.iter_mut().zip(grad).zip(&mut slot.first) {
        let d = g * scale + decay * *w;
        *b = keep * *b + take * d;
        *w -= lr * if c.nesterov { d + momentum * *b } else { *b };
    }
}

fn rmsprop(
    c: &Rmsprop,
    p: &Parameter,
    factor: f64,
    scale: f32,
    value: &mut [f32],
    grad: &[f32],
    slot: &mut Slot,
) {
    let lr = (c.learning_rate * factor) as f32;
    let decay = if p.decays(c.decay_all) { c.weight_decay as f32 } else { 0.0 };
    let (alpha, rest, eps, momentum) =
        (c.alpha as f32, (1.0 - c.alpha) as f32, c.eps as f32, c.momentum as f32);
    for i in 0..value.len() {
        let d = grad[i] * scale + decay * value[i];
        let square = alpha * slot.first[i] + rest * d * d;
        slot.first[i] = square;
        let denominator = if c.centered {
            let mean = slot.third[i] + rest * (d - slot.third[i]);
            slot.third[i] = mean;
            (square - mean * mean).sqrt() + eps
        } else {
            square.sqrt() + eps
        };
        if momentum == 0.0 {
            value[i] -= lr * d / denominator;
        } else {
            slot.second[i] = momentum * slot.second[i] + d / denominator;
            value[i] -= lr * slot.second[i];
        }
    }
}

/// Scalars of one Adam update (Kingma & Ba 2015, Algorithm 1).
struct AdamStep {
    step_size: f32,
    root_correction: f32,
    eps: f32,
    beta2: f32,
    rest1: f32,
    rest2: f32,
}

impl AdamStep {
    fn new(lr: f64, [beta1, beta2]: [f64; 2], eps: f64, steps: u64) -> Self {
        let correction = |beta: f64| 1.0 - beta.powf(steps as f64);
        Self {
            step_size: (lr / correction(beta1)) as f32,
            root_correction: correction(beta2).sqrt() as f32,
            eps: eps as f32,
            beta2: beta2 as f32,
            rest1: (1.0 - beta1) as f32,
            rest2: (1.0 - beta2) as f32,
        }
    }

    /// `decay` is added to the gradient (Adam); `shrink` multiplies the weights first (AdamW).
    fn apply(&self, scale: f32, decay: f32, shrink: f32, value: &mut [f32], grad: &[f32], slot: &mut Slot) {
        let n = value.len();
        let (grad, first, second) = (&grad[..n], &mut slot.first[..n], &mut slot.second[..n]);
        for i in 0..n {
            let w = value[i] * shrink;
            let g = grad[i] * scale + decay * w;
            let m = first[i] + (g - first[i]) * self.rest1;
            let v = second[i] * self.beta2 + g * g * self.rest2;
            first[i] = m;
            second[i] = v;
            value[i] = w - self.step_size * m / (v.sqrt() / self.root_correction + self.eps);
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
