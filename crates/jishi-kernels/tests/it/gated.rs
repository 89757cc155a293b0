use burn::tensor::Tensor;
use jishi_kernels::Activation;
use jishi_kernels::ops;

use crate::compare;

#[test]
fn gates_are_their_twins() {
    for activation in [Activation::Silu, Activation::Gelu, Activation::Identity] {
        for (batch, time, width) in [(1, 1, 1), (2, 3, 5), (3, 40, 170)] {
            compare!(
                format!("{activation:?} gate {batch} × {time} × {width}"),
                2e-5,
                [gate: [batch, time, width], x: [batch, time, width]],
                |gate: Tensor<3>, x| ops::gated(gate, x, activation),
                |gate: Tensor<3>, x| ops::composed::gated(gate, x, activation)
            );
        }
    }
}
