//! Rotary positions.

use std::sync::Arc;

use burn::tensor::Tensor;
use burn_flex::FlexTensor;

use super::custom::{Differentiable, Values, apply, is_ours, tensor};
use crate::cpu::rotary::{Direction, Positions, Rotary};
use crate::simd::Level;

/// Turns `heads` heads, which are `start` values into each row, by the angles of their positions: those of the
/// first row is `offset` (Su et al. 2021). The other values stay as they are.
///
/// # Shapes
/// - `x` and output: `[batch, length, width]`, such as packed queries, keys and values
///
/// # Panics
/// Where the heads are not inside of a row, or there are no angles of a position.
#[must_use]
pub fn rotary(x: Tensor<3>, rotary: &Arc<Rotary>, place: [usize; 2], offset: usize) -> Tensor<3> {
    if !is_ours(&x) {
        return composed::rotary(x, rotary, place, offset);
    }
    apply(vec![x.into_dispatch()], |inputs, keep| {
        let x = inputs.into_iter().map(Values::new).next().expect("one tensor");
        let positions = Positions { length: x.shape()[1], offset };
        let turn = Turn { rotary: Arc::clone(rotary), place, positions };
        (turn.run(Direction::Forward, &x), keep.then_some(turn))
    })
}

#[derive(Debug, Clone)]
struct Turn {
    rotary: Arc<Rotary>,
    place: [usize; 2],
    positions: Positions,
}

impl Turn {
    fn run(&self, direction: Direction, x: &Values) -> FlexTensor {
        let width = x.shape()[2];
        let y = self.rotary.applied(Level::best(), direction, x.get(), width, self.place, self.positions);
        tensor(y, x.shape())
    }
}

impl Differentiable for Turn {
    const NAMES: [&'static str; 2] = ["rotary", "rotary backward"];

    fn backward(self, gradient: FlexTensor, _: &[bool]) -> Vec<Option<FlexTensor>> {
        vec![Some(self.run(Direction::Backward, &Values::new(gradient)))]
    }
}

/// The same operation of Burn's own.
pub mod composed {
    use burn::tensor::{Tensor, TensorData};

    use crate::cpu::rotary::{Layout, Rotary};

    /// See [`super::rotary`].
    #[must_use]
    pub fn rotary(x: Tensor<3>, rotary: &Rotary, [start, heads]: [usize; 2], offset: usize) -> Tensor<3> {
        let [batch, length, width] = x.dims();
        let (head, dim) = (rotary.head(), rotary.dim());
        let (pairs, end) = (dim / 2, start + heads * head);
        let [cos, sin] = rotary.angles(offset, length).map(|angles| {
            let data = TensorData::new(angles.to_vec(), [1, length, 1, pairs]);
            Tensor::<4>::from_data(data, &x.device())
        });
        let part = |from: usize, to: usize| x.clone().slice([0..batch, 0..length, from..to]);
        let turned = part(start, end).reshape([batch, length, heads, head]);
        let values = |from: usize, to: usize| turned.clone().slice([0..batch, 0..length, 0..heads, from..to]);
        let [a, b] = match rotary.layout() {
            Layout::Half => [values(0, pairs), values(pairs, dim)],
            Layout::Interleaved => [0, 1].map(|i| {
                let all = values(0, dim).reshape([batch, length, heads, pairs, 2]);
                let one = all.slice([0..batch, 0..length, 0..heads, 0..pairs, i..i + 1]);
                one.reshape([batch, length, heads, pairs])
            }),
        };
        let c = a.clone() * cos.clone() - b.clone() * sin.clone();
        let d = b * cos + a * sin;
        let mut turned = match rotary.layout() {
            Layout::Half => Tensor::cat(vec![c, d], 3),
            Layout::Interleaved => {
                let pair = [c, d].map(|t| t.reshape([batch, length, heads, pairs, 1]));
                Tensor::cat(pair.to_vec(), 4).reshape([batch, length, heads, dim])
            }
        };
        if dim < head {
            turned = Tensor::cat(vec![turned, values(dim, head)], 3);
        }
        let mut parts = vec![turned.reshape([batch, length, heads * head])];
        if start > 0 {
            parts.insert(0, part(0, start));
        }
        if end < width {
            parts.push(part(end, width));
        }
        Tensor::cat(parts, 2)
    }
}
