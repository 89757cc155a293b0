//! Rows of a table by number.

use std::sync::Arc;

use burn::tensor::{Int, Tensor};
use burn_flex::FlexTensor;

use super::custom::{Differentiable, Values, apply, indices, is_ours, tensor};
use crate::cpu::embedding::{self, Positions};
use crate::simd::Level;

/// Row `tokens[b, t]` of `table`; where a second table and an offset are given, row `offset + t` of it is added.
///
/// # Shapes
/// - `table`: `[rows, width]`, `tokens`: `[batch, length]`, the table of positions: `[positions, width]`
/// - output: `[batch, length, width]`
///
/// # Panics
/// Where a token or a position is not in its table.
#[must_use]
pub fn embedding(
    table: Tensor<2>,
    tokens: Tensor<2, Int>,
    positions: Option<(Tensor<2>, usize)>,
) -> Tensor<3> {
    if !is_ours(&table) {
        return composed::embedding(table, tokens, positions);
    }
    let [batch, length] = tokens.dims();
    let tokens: Arc<[u32]> = indices(tokens).into();
    let mut inputs = vec![table.into_dispatch()];
    let offset = positions.map(|(table, offset)| {
        inputs.push(table.into_dispatch());
        offset
    });
    apply(inputs, |inputs, keep| {
        let mut inputs = inputs.into_iter().map(Values::new);
        let table = inputs.next().expect("a table");
        let second = inputs.next();
        let place = offset.map(|offset| Positions { length, offset });
        let positions = second.as_ref().map(Values::get).zip(place);
        let [rows, width] = dims(&table);
        let y = embedding::forward(Level::best(), table.get(), width, &tokens, positions);
        let positions = second.as_ref().map(|table| dims(table)[0]).zip(place);
        let kept = keep.then(|| Embedding { rows, width, tokens: Arc::clone(&tokens), positions });
        (tensor(y, [batch, length, width]), kept)
    })
}

fn dims(table: &Values) -> [usize; 2] {
    let shape = table.shape();
    [shape[0], shape[1]]
}

#[derive(Debug, Clone)]
struct Embedding {
    rows: usize,
    width: usize,
    tokens: Arc<[u32]>,
    /// Rows of the table of positions, and which were used.
    positions: Option<(usize, Positions)>,
}

impl Differentiable for Embedding {
    const NAMES: [&'static str; 2] = ["embedding", "embedding backward"];

    fn backward(self, gradient: FlexTensor, wanted: &[bool]) -> Vec<Option<FlexTensor>> {
        let Self { rows, width, tokens, positions } = self;
        let level = Level::best();
        let dy = Values::new(gradient);
        let table = wanted[0]
            .then(|| tensor(embedding::backward(level, rows, width, &tokens, dy.get()), [rows, width]));
        let positions = positions.filter(|_| wanted[1]).map(|(rows, place)| {
            tensor(embedding::positions_backward(level, rows, width, place, dy.get()), [rows, width])
        });
        vec![table, positions]
    }
}

/// The same operation of Burn's own.
pub mod composed {
    use burn::tensor::{Int, Tensor, module};

    /// See [`super::embedding`].
    #[must_use]
    pub fn embedding(
        table: Tensor<2>,
        tokens: Tensor<2, Int>,
        positions: Option<(Tensor<2>, usize)>,
    ) -> Tensor<3> {
        let length = tokens.dims()[1];
        let y = module::embedding(table, tokens);
        match positions {
            Some((table, offset)) => {
                let width = table.dims()[1];
                y + table.slice([offset..offset + length, 0..width]).unsqueeze()
            }
            None => y,
        }
    }
}
