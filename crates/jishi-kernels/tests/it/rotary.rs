use std::sync::Arc;

use burn::tensor::Tensor;
use jishi_kernels::cpu::rotary::{Layout, Llama3, Rotary};
use jishi_kernels::ops;

use crate::compare;

#[test]
fn rotary_positions_are_their_twin() {
    let scaling = Llama3 { factor: 8.0, low: 1.0, high: 4.0, context: 32.0 };
    for layout in [Layout::Half, Layout::Interleaved] {
        for (head, dim, heads, start, rest, batch, length, offset) in [
            (2, 2, 1, 0, 0, 1, 1, 0),
            (8, 8, 3, 0, 24, 2, 5, 7),
            (10, 6, 2, 4, 3, 3, 40, 2),
            (64, 64, 4, 0, 128, 2, 33, 0),
        ] {
            let width = start + heads * head + rest;
            let what = format!("{layout:?} rotary {heads} × {head} of {batch} × {length} × {width}");
            let factors = scaling.factors(dim, 10_000.0);
            let rotary =
                Arc::new(Rotary::new([head, dim], layout, 10_000.0, Some(&factors), offset + length));
            compare!(
                what,
                1e-6,
                [x: [batch, length, width]],
                |x: Tensor<3>| ops::rotary(x, &rotary, [start, heads], offset),
                |x: Tensor<3>| ops::composed::rotary(x, &rotary, [start, heads], offset)
            );
        }
    }
}
