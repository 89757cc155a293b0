//! Scaled dot-product attention.

use std::sync::Arc;

use burn::tensor::{Bool, Int, Tensor};
use burn_flex::FlexTensor;

use super::custom::{Differentiable, Values, apply, indices, is_ours, tensor};
use crate::cpu::attention::{self, Dropout, Place, Shape, Targets, View};
use crate::cpu::gemm::Precision;
use crate::memory::buffer;
use crate::simd::Level;
use crate::threads::SharedMut;

/// How an attention is computed.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Whether query i sees keys up to i + keys − queries alone.
    pub causal: bool,
    /// `[batch, keys]`: true where a key is seen at all. A query that sees none gets zeros.
    pub mask: Option<Tensor<2, Bool>>,
    /// `[batch, queries]`: the first key that a query sees, so that documents of a packed sequence do not see each
    /// other.
    pub starts: Option<Tensor<2, Int>>,
    /// Zeroes shares of attention.
    pub dropout: Option<Dropout>,
    /// How products are computed.
    pub precision: Precision,
}

impl Attention {
    /// Full attention with this many heads.
    #[must_use]
    pub fn new(heads: usize) -> Self {
        Self {
            heads,
            kv_heads: heads,
            causal: false,
            mask: None,
            starts: None,
            dropout: None,
            precision: Precision::F32,
        }
    }

    /// Only earlier positions are seen.
    #[must_use]
    pub fn causal(self) -> Self {
        Self { causal: true, ..self }
    }

    fn start_values(&self) -> Option<Arc<[u32]>> {
        self.starts.as_ref().map(|starts| indices(starts.clone()).into())
    }

    fn mask_values(&self) -> Option<Arc<[bool]>> {
        self.mask.as_ref().map(|mask| mask.clone().into_data().iter::<bool>().collect())
    }
}

/// Attention of queries over keys and values: softmax(q · kᵀ / √dim) · v for every head.
///
/// # Shapes
/// - `q`: `[batch, queries, heads · dim]`
/// - `k`, `v`: `[batch, keys, kv_heads · dim]`
/// - output: `[batch, queries, heads · dim]`
///
/// # Panics
/// Where the widths do not fit the heads: a bug of the model.
#[must_use]
pub fn attention(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, with: &Attention) -> Tensor<3> {
    let ([batch, queries, width], [_, keys, kv_width]) = (q.dims(), k.dims());
    let shape = shape_of(with, batch, queries, keys, width);
    assert_eq!(kv_width, shape.kv_heads * shape.dim, "keys of {kv_width} values for {shape:?}");
    if !is_ours(&q) {
        return composed::attention(q, k, v, with);
    }
    let places = [
        Place::rows(0, queries, width, shape.dim),
        Place::rows(0, keys, kv_width, shape.dim),
        Place::rows(0, keys, kv_width, shape.dim),
    ];
    run(vec![q.into_dispatch(), k.into_dispatch(), v.into_dispatch()], shape, places, with)
}

/// [`attention`] of a sequence over itself, from one tensor of queries, keys and values, as one product makes it.
///
/// # Shapes
/// - `qkv`: `[batch, time, (heads + 2 · kv_heads) · dim]`: all query heads, then key heads, then value heads
/// - output: `[batch, time, heads · dim]`
///
/// # Panics
/// Where the width does not fit the heads: a bug of the model.
#[must_use]
pub fn self_attention(qkv: Tensor<3>, with: &Attention) -> Tensor<3> {
    let [batch, time, row] = qkv.dims();
    let parts = with.heads + 2 * with.kv_heads;
    assert_eq!(row % parts, 0, "{row} values for {parts} heads");
    let dim = row / parts;
    let shape = shape_of(with, batch, time, time, with.heads * dim);
    if !is_ours(&qkv) {
        return composed::self_attention(qkv, with);
    }
    let place = |offset| Place::rows(offset, time, row, dim);
    let places = [place(0), place(with.heads * dim), place((with.heads + with.kv_heads) * dim)];
    run(vec![qkv.into_dispatch()], shape, places, with)
}

fn shape_of(with: &Attention, batch: usize, queries: usize, keys: usize, width: usize) -> Shape {
    let Attention { heads, kv_heads, .. } = *with;
    assert!(heads > 0 && width.is_multiple_of(heads), "{width} values for {heads} heads");
    if let Some(starts) = &with.starts {
        assert_eq!(starts.dims(), [batch, queries], "starts of other queries");
    }
    if let Some(mask) = &with.mask {
        assert_eq!(mask.dims(), [batch, keys], "a mask of other keys");
    }
    assert!(kv_heads > 0 && heads.is_multiple_of(kv_heads), "{heads} query heads share {kv_heads} key heads");
    Shape { batch, heads, kv_heads, queries, keys, dim: width / heads }
}

/// One tensor holds queries, keys and values, or each has its own.
fn run(
    inputs: Vec<burn::backend::DispatchTensor>,
    shape: Shape,
    places: [Place; 3],
    with: &Attention,
) -> Tensor<3> {
    let options = Options {
        scale: 1.0 / (shape.dim as f32).sqrt(),
        causal: with.causal,
        mask: with.mask_values(),
        starts: with.start_values(),
        dropout: with.dropout,
        precision: with.precision,
    };
    apply(inputs, |inputs, keep| {
        let inputs: Vec<Values> = inputs.into_iter().map(Values::new).collect();
        let [q, k, v] = views(&inputs, places);
        let (y, logs) = attention::forward(Level::best(), shape, q, k, v, options.borrow());
        let y = tensor(y, [shape.batch, shape.queries, shape.heads * shape.dim]);
        let kept = keep.then(|| AttentionStep { inputs, logs: Arc::new(logs), shape, places, options });
        (y, kept)
    })
}

#[derive(Debug, Clone)]
struct Options {
    scale: f32,
    causal: bool,
    mask: Option<Arc<[bool]>>,
    starts: Option<Arc<[u32]>>,
    dropout: Option<Dropout>,
    precision: Precision,
}

impl Options {
    fn borrow(&self) -> attention::Options<'_> {
        attention::Options {
            scale: self.scale,
            causal: self.causal,
            mask: self.mask.as_deref(),
            starts: self.starts.as_deref(),
            dropout: self.dropout,
            precision: self.precision,
        }
    }
}

fn views(inputs: &[Values], places: [Place; 3]) -> [View<'_>; 3] {
    std::array::from_fn(|i| View { data: inputs[i.min(inputs.len() - 1)].get(), place: places[i] })
}

#[derive(Debug, Clone)]
struct AttentionStep {
    inputs: Vec<Values>,
    logs: Arc<Vec<f32>>,
    shape: Shape,
    places: [Place; 3],
    options: Options,
}

impl Differentiable for AttentionStep {
    const NAMES: [&'static str; 2] = ["attention", "attention backward"];

    fn backward(self, gradient: FlexTensor, _: &[bool]) -> Vec<Option<FlexTensor>> {
        let Self { inputs, logs, shape, places, options } = self;
        let dy = Values::new(gradient);
        let [q, k, v] = views(&inputs, places);
        let mut outputs: Vec<Vec<f32>> = inputs
            .iter()
            .map(|x| if shape.keys == 0 { vec![0.0; x.get().len()] } else { buffer(x.get().len()) })
            .collect();
        {
            let shared: Vec<SharedMut<'_, f32>> = outputs.iter_mut().map(|o| SharedMut::new(o)).collect();
            let target = |i: usize| (&shared[i.min(shared.len() - 1)], places[i]);
            let targets = Targets { q: target(0), k: target(1), v: target(2) };
            let options = options.borrow();
            attention::backward(Level::best(), shape, q, k, v, options, &logs, dy.get(), &targets);
        }
        outputs.into_iter().zip(&inputs).map(|(o, x)| Some(tensor(o, x.shape()))).collect()
    }
}

/// The same operations of Burn's own.
pub mod composed {
    use burn::tensor::activation::softmax;
    use burn::tensor::{Bool, DType, Device, Tensor, TensorData};

    use super::{Attention, Precision};

    /// See [`super::attention`].
    #[must_use]
    pub fn attention(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, with: &Attention) -> Tensor<3> {
        let ([batch, queries, width], [_, keys, _]) = (q.dims(), k.dims());
        let Attention { heads, kv_heads, .. } = *with;
        let dim = width / heads;
        let rounded = |x: Tensor<3>| match with.precision {
            Precision::F32 => x,
            Precision::Bf16 => x.cast(DType::BF16).cast(DType::F32),
        };
        // [batch, heads, time, dim]; a key head is repeated for the query heads that share it.
        let split = |x: Tensor<3>, time: usize, own: usize| {
            let x: Tensor<4> = rounded(x).reshape([batch, time, own, dim]).swap_dims(1, 2);
            let x: Tensor<5> = x.reshape([batch, own, 1, time, dim]);
            x.expand([batch, own, heads / own, time, dim]).reshape([batch, heads, time, dim])
        };
        let (q, k, v) = (split(q, queries, heads), split(k, keys, kv_heads), split(v, keys, kv_heads));
        let scores: Tensor<4> = q.matmul(k.swap_dims(2, 3)) / (dim as f64).sqrt();
        let device = scores.device().inner();
        let hidden = hidden(with, batch, queries, keys, &device);
        let shares = softmax(scores.mask_fill(hidden.clone(), -1e30), 3).mask_fill(hidden, 0.0);
        let shares = match with.dropout {
            Some(dropout) => {
                let rows = batch * heads * queries;
                let factors: Vec<f32> = (0..rows)
                    .flat_map(|row| (0..keys).map(move |key| dropout.factor(row as u32, key as u32)))
                    .collect();
                let data = TensorData::new(factors, [batch, heads, queries, keys]);
                shares * Tensor::<4>::from_data(data, &device)
            }
            None => shares,
        };
        shares.matmul(v).swap_dims(1, 2).reshape([batch, queries, width])
    }

    /// True where a key is not seen, `[batch, heads, queries, keys]`.
    fn hidden(
        with: &Attention,
        batch: usize,
        queries: usize,
        keys: usize,
        device: &Device,
    ) -> Tensor<4, Bool> {
        let (mask, starts) = (with.mask_values(), with.start_values());
        let mut hidden = Vec::with_capacity(batch * queries * keys);
        for b in 0..batch {
            for i in 0..queries {
                for j in 0..keys {
                    let later = with.causal && j + queries > i + keys;
                    let earlier = starts.as_ref().is_some_and(|s| j < s[b * queries + i] as usize);
                    hidden.push(later || earlier || mask.as_ref().is_some_and(|m| !m[b * keys + j]));
                }
            }
        }
        let hidden = Tensor::<4, Bool>::from_data(TensorData::new(hidden, [batch, 1, queries, keys]), device);
        hidden.expand([batch, with.heads, queries, keys])
    }

    /// See [`super::self_attention`].
    #[must_use]
    pub fn self_attention(qkv: Tensor<3>, with: &Attention) -> Tensor<3> {
        let width = qkv.dims()[2];
        let dim = width / (with.heads + 2 * with.kv_heads);
        let part = |from: usize, heads: usize| qkv.clone().narrow(2, from * dim, heads * dim);
        let (q, k) = (part(0, with.heads), part(with.heads, with.kv_heads));
        attention(q, k, part(with.heads + with.kv_heads, with.kv_heads), with)
    }
}
