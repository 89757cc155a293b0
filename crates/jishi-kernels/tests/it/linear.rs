use burn::tensor::Tensor;
use jishi_kernels::ops::{self, Linear};
use jishi_kernels::{Activation, Precision};

use crate::{close, compare, parameter, values};

const ACTIVATIONS: [Activation; 5] =
    [Activation::Identity, Activation::Relu, Activation::Gelu, Activation::GeluTanh, Activation::Silu];

/// bfloat16 has 8 bits: the twin rounds gradients at other places.
fn tolerance(precision: Precision) -> f32 {
    match precision {
        Precision::F32 => 3e-5,
        Precision::Bf16 => 2e-2,
    }
}

#[test]
fn linear_layers_are_their_twins() {
    for precision in [Precision::F32, Precision::Bf16] {
        for (i, (batch, time, inputs, outputs)) in
            [(1, 1, 1, 1), (2, 3, 5, 7), (3, 70, 64, 96), (1, 2, 400, 33), (4, 1, 9, 130)]
                .into_iter()
                .enumerate()
        {
            let activation = ACTIVATIONS[i];
            let what = format!("{precision:?} linear {batch} × {time} × {inputs} → {outputs} {activation:?}");
            let with = move |bias, residual| Linear { bias, activation, residual, precision };
            compare!(
                what,
                tolerance(precision),
                [x: [batch, time, inputs], w: [inputs, outputs], b: [outputs], r: [batch, time, outputs]],
                |x: Tensor<3>, w, b, r| ops::linear(x, w, with(Some(b), Some(r))),
                |x: Tensor<3>, w, b, r| ops::composed::linear(x, w, with(Some(b), Some(r)))
            );
            compare!(
                what,
                tolerance(precision),
                [x: [batch, time, inputs], w: [inputs, outputs]],
                |x: Tensor<3>, w| ops::linear(x, w, with(None, None)),
                |x: Tensor<3>, w| ops::composed::linear(x, w, with(None, None))
            );
        }
    }
}

#[test]
fn feed_forward_pairs_are_their_twins() {
    for precision in [Precision::F32, Precision::Bf16] {
        for activation in ACTIVATIONS {
            for (rows, width, hidden) in [(1, 1, 1), (7, 5, 11), (130, 33, 70), (40, 64, 800)] {
                let what = format!("{precision:?} feed-forward {rows} × {width} × {hidden} {activation:?}");
                compare!(
                    what,
                    tolerance(precision),
                    [x: [rows, width], w1: [width, hidden], b1: [hidden], w2: [hidden, width], b2: [width], r: [rows, width]],
                    |x: Tensor<2>, w1, b1, w2, b2, r| ops::feed_forward(x, [w1, w2], [b1, b2], r, activation, precision),
                    |x: Tensor<2>, w1, b1, w2, b2, r| ops::composed::feed_forward(x, [w1, w2], [b1, b2], r, activation, precision)
                );
            }
        }
    }
}

#[test]
fn outside_of_training_no_tape_is_needed() {
    let (x, w, b) = (parameter([3, 4], 1), parameter([4, 5], 2), parameter([5], 3));
    let with = |b| Linear { bias: Some(b), activation: Activation::Gelu, ..Linear::default() };
    let taped = values(ops::linear(x.clone(), w.clone(), with(b.clone())));
    let plain = ops::linear(x.inner(), w.inner(), with(b.inner()));
    close(&plain.into_data().try_to_vec::<f32>().expect("f32"), &taped, 0.0, "without a tape");
}

#[test]
fn a_constant_input_gets_no_gradient_and_a_frozen_weight_neither() {
    let (x, w) = (parameter([3, 4], 1), parameter([4, 5], 2));
    let y = ops::linear(x.clone().detach(), w.clone(), Linear::default());
    let mut gradients = y.sum().backward();
    assert!(w.grad_remove(&mut gradients).is_some());
    let y = ops::linear(x.clone(), w.detach(), Linear::default());
    let mut gradients = y.sum().backward();
    assert!(x.grad_remove(&mut gradients).is_some());
}
