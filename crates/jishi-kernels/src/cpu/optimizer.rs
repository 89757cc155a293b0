//! Updates of parameters in one pass, and the norm over all gradients.
//!
//! An update reads a parameter, its gradient and its state once and writes them in place. [`apply`] takes the
//! updates of all parameters together and cuts them into tasks of about equal size: large parameters are split,
//! small ones are put together. Products and sums are rounded one by one, as PyTorch does, so that the numbers
//! are the same on every [`Level`].

use crate::multiversion;
use crate::profile;
use crate::simd::Level;
use crate::threads::{SharedMut, parallel, parallel_chunks};

/// Numbers a task, about.
const TASK: usize = 32_768;

/// How a parameter is updated: an optimiser's scalars at this step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Stochastic gradient descent with momentum, as PyTorch has it (Sutskever et al. 2013).
    Sgd(Sgd),
    /// Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019).
    Adam(Adam),
    /// RMSprop (Hinton 2012), centred or not (Graves 2013).
    RmsProp(RmsProp),
}

/// Scalars of a step of gradient descent. State: the momentum, where there is any.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Learning rate.
    pub rate: f32,
    /// Weight decay, added to the gradient.
    pub decay: f32,
    /// What is kept of the momentum; 0 needs no state.
    pub momentum: f32,
    /// What is not taken of the gradient.
    pub dampening: f32,
    /// Nesterov's momentum.
    pub nesterov: bool,
    /// The first step, which starts the momentum as the gradient itself, without dampening.
    pub first: bool,
}

/// Scalars of a step of Adam. State: first and second moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    step_size: f32,
    root_correction: f32,
    eps: f32,
    beta2: f32,
    rest1: f32,
    rest2: f32,
    decay: f32,
    shrink: f32,
}

impl Adam {
    /// Step number `steps`, counted from 1. `decay` is added to the gradient (Adam), `decoupled` shrinks the
    /// weights first (AdamW).
    #[must_use]
    pub fn new(
        rate: f64,
        [beta1, beta2]: [f64; 2],
        eps: f64,
        decay: f64,
        decoupled: f64,
        steps: u64,
    ) -> Self {
        let correction = |beta: f64| 1.0 - beta.powf(steps as f64);
        Self {
            step_size: (rate / correction(beta1)) as f32,
            root_correction: correction(beta2).sqrt() as f32,
            eps: eps as f32,
            beta2: beta2 as f32,
            rest1: (1.0 - beta1) as f32,
            rest2: (1.0 - beta2) as f32,
            decay: decay as f32,
            shrink: (1.0 - rate * decoupled) as f32,
        }
    }
}

/// Scalars of a step of RMSprop. State: the mean square; the momentum, where there is any; the mean, where it
/// is centred.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmsProp {
    /// Learning rate.
    pub rate: f32,
    /// Weight decay, added to the gradient.
    pub decay: f32,
    /// What is kept of the mean square.
    pub alpha: f32,
    /// What is taken of the new square: 1 − `alpha`, rounded once.
    pub rest: f32,
    /// Added to the root.
    pub eps: f32,
    /// What is kept of the momentum; 0 needs no state.
    pub momentum: f32,
    /// Whether the variance is used in place of the mean square.
    pub centred: bool,
}

/// An exponential moving average that follows the weights: `average += (weights − average) · take`.
#[derive(Debug)]
pub struct Average<'a> {
    /// As many values as the parameter has.
    pub values: &'a mut [f32],
    /// What is taken of the new weights.
    pub take: f32,
}

/// One parameter's update: all slices have its length, those of state that its rule does not use are empty.
#[derive(Debug)]
pub struct Update<'a> {
    /// How.
    pub rule: Rule,
    /// Multiplies the gradient (one over the batch's weight, clipping).
    pub scale: f32,
    /// The weights.
    pub value: &'a mut [f32],
    /// Their gradient.
    pub gradient: &'a [f32],
    /// The optimiser's state.
    pub state: [&'a mut [f32]; 3],
    /// Follows the new weights.
    pub average: Option<Average<'a>>,
}

impl Update<'_> {
    /// # Panics
    /// Where a slice is too short or too long: a bug of the caller.
    fn check(&self) {
        let n = self.value.len();
        let used = match self.rule {
            Rule::Sgd(r) => [r.momentum != 0.0, false, false],
            Rule::Adam(_) => [true, true, false],
            Rule::RmsProp(r) => [true, r.momentum != 0.0, r.centred],
        };
        assert_eq!(self.gradient.len(), n, "a gradient has another size than its parameter");
        for (state, used) in self.state.iter().zip(used) {
            assert_eq!(state.len(), if used { n } else { 0 }, "an optimiser's state has another size");
        }
        if let Some(average) = &self.average {
            assert_eq!(average.values.len(), n, "an average has another size than its parameter");
        }
    }

    /// Cuts the first `n` numbers off.
    fn cut(&mut self, n: usize) -> Self {
        fn front<'b>(slice: &mut &'b mut [f32], n: usize) -> &'b mut [f32] {
            let (front, rest) = std::mem::take(slice).split_at_mut(n);
            *slice = rest;
            front
        }
        let (gradient, rest) = self.gradient.split_at(n);
        self.gradient = rest;
        let average = self.average.as_mut();
        Self {
            rule: self.rule,
            scale: self.scale,
            value: front(&mut self.value, n),
            gradient,
            state: self.state.each_mut().map(|s| if s.is_empty() { &mut [] } else { front(s, n) }),
            average: average.map(|a| Average { values: front(&mut a.values, n), take: a.take }),
        }
    }

    fn run(&mut self, level: Level) {
        let Self { rule, scale, value, gradient, state: [first, second, third], average } = self;
        match rule {
            Rule::Sgd(rule) => sgd(level, *rule, *scale, value, gradient, first),
            Rule::Adam(rule) => adam(level, *rule, *scale, value, gradient, first, second),
            Rule::RmsProp(rule) => rms_prop(level, *rule, *scale, value, gradient, first, second, third),
        }
        if let Some(average) = average {
            follow(level, average.take, average.values, value);
        }
    }
}

/// Does all updates, on all threads where there is enough to do.
///
/// # Panics
/// Where slices of an update differ in length.
pub fn apply(level: Level, updates: Vec<Update<'_>>) {
    profile::time("optimizer", || run(level, updates));
}

fn run(level: Level, mut updates: Vec<Update<'_>>) {
    updates.iter().for_each(Update::check);
    if updates.iter().map(|u| u.value.len()).sum::<usize>() <= TASK {
        updates.iter_mut().for_each(|u| u.run(level));
        return;
    }
    let mut pieces = Vec::with_capacity(updates.len());
    for mut update in updates {
        while update.value.len() > TASK {
            pieces.push(update.cut(TASK));
        }
        pieces.push(update);
    }
    let groups = group(pieces.iter().map(|p| p.value.len()));
    let shared = SharedMut::new(&mut pieces);
    parallel(groups.len() - 1, |task| {
        // SAFETY: groups do not overlap.
        let pieces = unsafe { shared.slice(groups[task], groups[task + 1] - groups[task]) };
        pieces.iter_mut().for_each(|p| p.run(level));
    });
}

/// Where tasks begin: neighbours are put together as long as they have at most [`TASK`] numbers together. The
/// last entry is the number of pieces.
fn group(lens: impl Iterator<Item = usize>) -> Vec<usize> {
    let (mut starts, mut sum, mut count) = (vec![0], 0, 0);
    for len in lens {
        if sum > 0 && sum + len > TASK {
            starts.push(count);
            sum = 0;
        }
        sum += len;
        count += 1;
    }
    starts.push(count);
    starts
}

/// The Euclidean norm over all gradients together.
///
/// Squares of `f32` are exact in `f64`; their sums are taken in an order that depends on the gradients' lengths
/// alone, so the norm is the same on every level and any number of threads.
#[must_use]
pub fn global_norm(level: Level, gradients: &[&[f32]]) -> f64 {
    profile::time("gradient norm", || norm(level, gradients))
}

fn norm(level: Level, gradients: &[&[f32]]) -> f64 {
    let pieces: Vec<&[f32]> = gradients.iter().flat_map(|g| g.chunks(TASK)).collect();
    let groups = group(pieces.iter().map(|p| p.len()));
    let mut sums = vec![0.0; groups.len() - 1];
    let shared = SharedMut::new(&mut sums);
    parallel(groups.len() - 1, |task| {
        let pieces = &pieces[groups[task]..groups[task + 1]];
        // SAFETY: one sum, one task.
        let sum = unsafe { shared.slice(task, 1) };
        sum[0] = pieces.iter().map(|p| square_sum(level, p)).sum();
    });
    sums.iter().sum::<f64>().sqrt()
}

/// `sum += values`, on all threads where there is enough to do.
///
/// # Panics
/// Where they differ in length.
pub fn accumulate(level: Level, sum: &mut [f32], values: &[f32]) {
    assert_eq!(sum.len(), values.len(), "a gradient has another size than the sum of earlier ones");
    parallel_chunks(sum, TASK, |task, sum| add(level, sum, &values[task * TASK..][..sum.len()]));
}

multiversion! {
    fn square_sum(x: &[f32]) -> f64 {
        let mut partial = [0.0f64; 32];
        let whole = x.chunks_exact(32);
        let rest: f64 = whole.remainder().iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
        for x in whole {
            for (p, v) in partial.iter_mut().zip(x) {
                *p += f64::from(*v) * f64::from(*v);
            }
        }
        let mut width = 16;
        while width > 0 {
            for lane in 0..width {
                partial[lane] += partial[lane + width];
            }
            width /= 2;
        }
        partial[0] + rest
    }

    fn sgd(rule: Sgd, scale: f32, value: &mut [f32], gradient: &[f32], momentum: &mut [f32]) {
        let Sgd { rate, decay, .. } = rule;
        if rule.momentum == 0.0 {
            for (w, g) in value.iter_mut().zip(gradient) {
                *w -= rate * (g * scale + decay * *w);
            }
            return;
        }
        let (keep, take) = if rule.first { (0.0, 1.0) } else { (rule.momentum, 1.0 - rule.dampening) };
        for ((w, g), b) in value.iter_mut().zip(gradient).zip(momentum) {
            let d = g * scale + decay * *w;
            *b = keep * *b + take * d;
            *w -= rate * if rule.nesterov { d + rule.momentum * *b } else { *b };
        }
    }

    fn adam(rule: Adam, scale: f32, value: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        let Adam { step_size, root_correction, eps, beta2, rest1, rest2, decay, shrink } = rule;
        for (((w, g), m), v) in value.iter_mut().zip(gradient).zip(first).zip(second) {
            let shrunk = *w * shrink;
            let g = g * scale + decay * shrunk;
            *m += (g - *m) * rest1;
            *v = *v * beta2 + g * g * rest2;
            *w = shrunk - step_size * *m / (v.sqrt() / root_correction + eps);
        }
    }

    fn rms_prop(
        rule: RmsProp,
        scale: f32,
        value: &mut [f32],
        gradient: &[f32],
        square: &mut [f32],
        momentum: &mut [f32],
        mean: &mut [f32],
    ) {
        let RmsProp { rate, decay, alpha, rest, eps, .. } = rule;
        let keep = rule.momentum;
        // The gradient with decay, and the mean square with it.
        let begin = |w: f32, g: f32, s: &mut f32| {
            let d = g * scale + decay * w;
            *s = alpha * *s + rest * d * d;
            d
        };
        let centre = |d: f32, s: f32, c: &mut f32| {
            *c += rest * (d - *c);
            (s - *c * *c).sqrt() + eps
        };
        let all = value.iter_mut().zip(gradient).zip(square);
        match (rule.centred, keep != 0.0) {
            (false, false) => for ((w, g), s) in all {
                let d = begin(*w, *g, s);
                *w -= rate * d / (s.sqrt() + eps);
            },
            (false, true) => for (((w, g), s), b) in all.zip(momentum) {
                let d = begin(*w, *g, s);
                *b = keep * *b + d / (s.sqrt() + eps);
                *w -= rate * *b;
            },
            (true, false) => for (((w, g), s), c) in all.zip(mean) {
                let d = begin(*w, *g, s);
                *w -= rate * d / centre(d, *s, c);
            },
            (true, true) => for ((((w, g), s), b), c) in all.zip(momentum).zip(mean) {
                let d = begin(*w, *g, s);
                *b = keep * *b + d / centre(d, *s, c);
                *w -= rate * *b;
            },
        }
    }

    /// `average += (values − average) · take`.
    pub fn follow(take: f32, average: &mut [f32], values: &[f32]) {
        for (a, w) in average.iter_mut().zip(values) {
            *a += (w - *a) * take;
        }
    }

    /// `sum += values`.
    pub fn add(sum: &mut [f32], values: &[f32]) {
        for (s, v) in sum.iter_mut().zip(values) {
            *s += v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    fn rules() -> Vec<Rule> {
        let sgd =
            Sgd { rate: 0.1, decay: 0.01, momentum: 0.9, dampening: 0.1, nesterov: false, first: false };
        let rms = RmsProp {
            rate: 0.1,
            decay: 0.01,
            alpha: 0.9,
            rest: 0.1,
            eps: 1e-8,
            momentum: 0.9,
            centred: false,
        };
        vec![
            Rule::Sgd(Sgd { momentum: 0.0, ..sgd }),
            Rule::Sgd(sgd),
            Rule::Sgd(Sgd { nesterov: true, dampening: 0.0, first: true, ..sgd }),
            Rule::Adam(Adam::new(1e-3, [0.9, 0.999], 1e-8, 0.1, 0.0, 3)),
            Rule::Adam(Adam::new(1e-3, [0.9, 0.95], 1e-8, 0.0, 0.1, 1)),
            Rule::RmsProp(RmsProp { momentum: 0.0, ..rms }),
            Rule::RmsProp(rms),
            Rule::RmsProp(RmsProp { momentum: 0.0, centred: true, ..rms }),
            Rule::RmsProp(RmsProp { centred: true, ..rms }),
        ]
    }

    #[derive(Clone, Debug, PartialEq)]
    struct Owned {
        value: Vec<f32>,
        gradient: Vec<f32>,
        state: [Vec<f32>; 3],
        average: Vec<f32>,
    }

    impl Owned {
        fn new(n: usize, rule: Rule, seed: u64) -> Self {
            let used = match rule {
                Rule::Sgd(r) => [r.momentum != 0.0, false, false],
                Rule::Adam(_) => [true, true, false],
                Rule::RmsProp(r) => [true, r.momentum != 0.0, r.centred],
            };
            // Means are near 0 and squares near 1, so that variances stay positive.
            let state = [(0.5, 0), (0.1, 1), (0.01, 2)].map(|(base, i)| {
                let values = numbers(if used[i] { n } else { 0 }, seed + 5 + i as u64);
                values.into_iter().map(|v| if i == 2 { base * v } else { base + 0.1 * v.abs() }).collect()
            });
            let [value, gradient, average] = [1, 2, 3].map(|i| numbers(n, seed + i));
            Self { value, gradient, state, average }
        }

        fn update(&mut self, rule: Rule) -> Update<'_> {
            Update {
                rule,
                scale: 0.5,
                value: &mut self.value,
                gradient: &self.gradient,
                state: self.state.each_mut().map(Vec::as_mut_slice),
                average: Some(Average { values: &mut self.average, take: 0.25 }),
            }
        }
    }

    #[test]
    fn splitting_threads_and_levels_do_not_change_a_bit() {
        let sizes = [5, TASK - 3, 0, 1, 2 * TASK + 17, 100, TASK, 33];
        for rule in rules() {
            let start: Vec<Owned> =
                sizes.iter().enumerate().map(|(i, n)| Owned::new(*n, rule, 100 * i as u64)).collect();
            let mut expected = start.clone();
            for owned in &mut expected {
                owned.update(rule).run(Level::Plain);
                assert!(owned.value.iter().chain(&owned.average).all(|v| v.is_finite()));
            }
            for level in Level::available() {
                let mut found = start.clone();
                apply(level, found.iter_mut().map(|o| o.update(rule)).collect());
                assert_eq!(found, expected, "{rule:?} {level:?}");
            }
        }
    }

    #[test]
    fn adam_takes_a_step_of_the_learning_rate_first() {
        let rule = Rule::Adam(Adam::new(0.1, [0.9, 0.999], 0.0, 0.0, 0.5, 1));
        let (mut value, mut m, mut v) = ([2.0, 2.0], [0.0; 2], [0.0; 2]);
        let update = Update {
            rule,
            scale: 3.0,
            value: &mut value,
            gradient: &[4.0, -0.1],
            state: [&mut m, &mut v, &mut []],
            average: None,
        };
        apply(Level::best(), vec![update]);
        // 2 · (1 − 0.1 · 0.5) ∓ 0.1
        assert!((value[0] - 1.8).abs() < 1e-6 && (value[1] - 2.0).abs() < 1e-6, "{value:?}");
    }

    #[test]
    fn the_norm_is_that_of_all_gradients() {
        let all = [numbers(7, 1), numbers(3 * TASK + 5, 2), vec![], numbers(TASK, 3), vec![1e20; 3]];
        for n in [0, 1, 2, 4, 5] {
            let slices: Vec<&[f32]> = all[..n].iter().map(Vec::as_slice).collect();
            let exact =
                slices.iter().flat_map(|s| s.iter()).map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            let norms: Vec<f64> =
                Level::available().into_iter().map(|level| global_norm(level, &slices)).collect();
            assert!((norms[0] - exact).abs() <= 1e-12 * exact, "{norms:?} {exact}");
            assert!(norms.iter().all(|n| n.to_bits() == norms[0].to_bits()), "{norms:?}");
        }
        assert!(global_norm(Level::best(), &[&[f32::NAN]]).is_nan());
    }

    #[test]
    #[should_panic(expected = "a gradient has another size than its parameter")]
    fn sizes_are_checked() {
        let rule = rules()[0];
        let (value, gradient) = (&mut [1.0, 2.0], &[1.0]);
        let state = [&mut [][..], &mut [], &mut []];
        apply(Level::best(), vec![Update { rule, scale: 1.0, value, gradient, state, average: None }]);
    }
}
