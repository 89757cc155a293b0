//! What a forward pass needs besides its input: training or not, precision, dropout, running statistics.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{Tensor, TensorData};
use jishi_kernels::cpu::attention::Dropout;
use jishi_kernels::{Precision, ops};

use crate::rng::{Rng, stream};

/// The state of one forward pass.
///
/// Dropout is a function of the seed, the step, the row's place in the whole batch and the number of the
/// dropout layer: a resumed run draws the same masks, and so does a batch that is split into parts.
#[derive(Debug, Clone)]
pub struct Context {
    training: bool,
    precision: Precision,
    seed: u64,
    step: u64,
    first_row: usize,
    calls: u64,
    recompute: bool,
    updates: HashMap<ParamId, Tensor<1>>,
}

impl Context {
    /// The context of a training pass over rows `first_row..` of the batch of step `step`.
    #[must_use]
    pub fn training(seed: u64, step: u64, first_row: usize) -> Self {
        Self { training: true, seed, step, first_row, ..Self::evaluation() }
    }

    /// The context of an evaluation pass: no dropout, running statistics are used and not updated.
    #[must_use]
    pub fn evaluation() -> Self {
        Self {
            training: false,
            precision: Precision::F32,
            seed: 0,
            step: 0,
            first_row: 0,
            calls: 0,
            recompute: false,
            updates: HashMap::new(),
        }
    }

    /// With the precision of a recipe; without it, `f32`.
    #[must_use]
    pub fn with_precision(mut self, precision: jishi_recipe::Precision) -> Self {
        self.precision = match precision {
            jishi_recipe::Precision::F32 => Precision::F32,
            jishi_recipe::Precision::Bf16 => Precision::Bf16,
        };
        self
    }

    /// In training, blocks of language models keep their input alone and run forward again in the backward pass: memory
    /// for time.
    #[must_use]
    pub fn with_recomputation(self, recompute: bool) -> Self {
        Self { recompute, ..self }
    }

    /// A block of a model: `forward(block, x)`, with what recomputation needs where it is asked for. A block may draw
    /// dropout, and has no running statistics.
    ///
    /// # Shapes
    /// - input and output: `[batch, time, width]`
    pub fn block<M: Module + 'static>(
        &mut self,
        block: &M,
        x: Tensor<3>,
        forward: impl Fn(&M, Tensor<3>, &mut Self) -> Tensor<3> + Send + 'static,
    ) -> Tensor<3> {
        if !(self.recompute && self.training) {
            return forward(block, x, self);
        }
        let (before, calls) = (self.clone(), Arc::new(AtomicU64::new(0)));
        let drawn = Arc::clone(&calls);
        let y = ops::recomputed(block, x, move |block: &M, x| {
            // Every run draws the same masks.
            let mut context = before.clone();
            let y = forward(block, x, &mut context);
            drawn.store(context.calls, Ordering::Relaxed);
            y
        });
        self.calls = calls.load(Ordering::Relaxed);
        y
    }

    /// How matrix products are computed.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Whether this is a training pass.
    #[must_use]
    pub fn is_training(&self) -> bool {
        self.training
    }

    /// Dropout (Srivastava et al. 2014): in training each value is zero with probability `rate`, the others
    /// grow by `1 / (1 − rate)`.
    ///
    /// # Shapes
    /// - input and output: `[members · batch, ..]`, member after member
    pub fn dropout<const D: usize>(&mut self, x: Tensor<D>, rate: f64, members: usize) -> Tensor<D> {
        if !self.training || rate == 0.0 {
            return x;
        }
        let shape = x.dims();
        let mask = self.mask(shape[0], shape[1..].iter().product(), rate, members);
        let mask = Tensor::from_data(TensorData::new(mask, shape), &x.device().inner());
        x * mask
    }

    /// Stochastic depth (Huang et al. 2016): in training what a block adds to an example is zero with probability
    /// `rate`, that of the others grows by `1 / (1 − rate)`.
    ///
    /// # Shapes
    /// - input and output: `[batch, ..]`
    pub fn drop_path<const D: usize>(&mut self, x: Tensor<D>, rate: f64) -> Tensor<D> {
        if !self.drops(rate) {
            return x;
        }
        let mut shape = [1; D];
        shape[0] = x.dims()[0];
        let mask = TensorData::new(self.mask(shape[0], 1, rate, 1), shape);
        let device = x.device().inner();
        x * Tensor::from_data(mask, &device)
    }

    /// Whether values are dropped at this rate.
    #[must_use]
    pub fn drops(&self, rate: f64) -> bool {
        self.training && rate > 0.0
    }

    /// Dropout of the shares of an attention with `rows` rows, over heads and queries, a sequence.
    pub fn attention_dropout(&mut self, rate: f64, rows: usize) -> Option<Dropout> {
        if !self.drops(rate) {
            return None;
        }
        let stream = stream("attention dropout", self.step) ^ stream("call", self.calls);
        self.calls += 1;
        let mut rng = Rng::new(self.seed, stream);
        let seed = u64::from(rng.next_u32()) << 32 | u64::from(rng.next_u32());
        Some(Dropout { rate: rate as f32, seed, first: (self.first_row * rows) as u32 })
    }

    fn mask(&mut self, rows: usize, width: usize, rate: f64, members: usize) -> Vec<f32> {
        let mut rng = Rng::new(self.seed, stream("dropout", self.step) ^ stream("call", self.calls));
        self.calls += 1;
        let threshold = (rate * 4_294_967_296.0) as u32;
        let keep = (1.0 / (1.0 - rate)) as f32;
        let blocks = width.div_ceil(4) as u64;
        let batch = rows / members;
        let mut mask = Vec::with_capacity(rows * width);
        for row in 0..rows {
            // The row's place in the whole batch, not in this part of it.
            let place = (self.first_row + row % batch) * members + row / batch;
            rng.seek(place as u64 * blocks);
            mask.extend((0..width).map(|_| if rng.next_u32() < threshold { 0.0 } else { keep }));
        }
        mask
    }

    /// Random numbers of a use of randomness for a row of this pass: the same whether the batch comes whole or in parts.
    #[must_use]
    pub fn stream(&self, name: &str, row: usize) -> Rng {
        Rng::new(self.seed, stream(name, self.step) ^ stream("row", (self.first_row + row) as u64))
    }

    /// For a batch each of whose examples is `each` rows of the model's input, one after another: dropout then draws the
    /// same masks whether the batch comes whole or in parts.
    pub fn spread(&mut self, each: usize) {
        self.first_row *= each;
    }

    /// Notes a new value of a running statistic.
    pub fn update(&mut self, id: ParamId, value: Tensor<1>) {
        self.updates.insert(id, value);
    }

    /// Whether running statistics have new values.
    #[must_use]
    pub fn has_updates(&self) -> bool {
        !self.updates.is_empty()
    }

    /// Writes the new running statistics into the model.
    #[must_use]
    pub fn apply_updates<M: Module>(self, model: M) -> M {
        model.map(&mut Updater(self.updates))
    }
}

struct Updater(HashMap<ParamId, Tensor<1>>);

impl ModuleMapper for Updater {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.remove(&param.id) {
            Some(value) => param.map(|old| {
                let shape = old.dims();
                let value = value.reshape(shape);
                if old.is_autodiff() { value.autodiff() } else { value }
            }),
            None => param,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn mask(context: &mut Context, rows: usize, members: usize) -> Vec<f32> {
        let ones = Tensor::<2>::ones([rows * members, 10], &Device::flex());
        context.dropout(ones, 0.25, members).into_data().try_to_vec::<f32>().expect("f32")
    }

    #[test]
    fn dropout_keeps_the_mean_and_the_rate() {
        let values = mask(&mut Context::training(1, 2, 0), 5_000, 1);
        let zeros = values.iter().filter(|v| **v == 0.0).count() as f64 / values.len() as f64;
        assert!((zeros - 0.25).abs() < 0.01);
        assert!((values.iter().sum::<f32>() / values.len() as f32 - 1.0).abs() < 0.01);
    }

    #[test]
    fn evaluation_drops_nothing() {
        assert!(mask(&mut Context::evaluation(), 100, 1).iter().all(|v| *v == 1.0));
    }

    #[test]
    fn masks_differ_by_step_seed_and_call() {
        let first = mask(&mut Context::training(1, 2, 0), 50, 1);
        assert_eq!(first, mask(&mut Context::training(1, 2, 0), 50, 1));
        assert_ne!(first, mask(&mut Context::training(1, 3, 0), 50, 1));
        assert_ne!(first, mask(&mut Context::training(2, 2, 0), 50, 1));
        let mut context = Context::training(1, 2, 0);
        assert_ne!(mask(&mut context, 50, 1), mask(&mut context, 50, 1));
    }

    #[test]
    fn parts_of_a_batch_draw_the_masks_of_the_whole() {
        for members in [1, 3] {
            let whole = mask(&mut Context::training(1, 2, 0), 8, members);
            let parts: Vec<Vec<f32>> =
                [0, 4].map(|first| mask(&mut Context::training(1, 2, first), 4, members)).to_vec();
            for member in 0..members {
                let of = |values: &[f32], rows: usize| values[member * rows * 10..][..rows * 10].to_vec();
                assert_eq!(of(&whole, 8), [of(&parts[0], 4), of(&parts[1], 4)].concat());
            }
        }
    }

    #[test]
    fn parts_of_a_batch_of_pairs_draw_the_masks_of_the_whole() {
        let pairs = |first: usize, count: usize| {
            let mut context = Context::training(1, 2, first);
            context.spread(2);
            mask(&mut context, 2 * count, 1)
        };
        assert_eq!(pairs(0, 6), [pairs(0, 2), pairs(2, 4)].concat());
    }
}
