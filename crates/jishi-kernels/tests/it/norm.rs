use burn::tensor::Tensor;
use jishi_kernels::ops;

use crate::compare;

#[test]
fn norms_are_their_twins() {
    for (batch, time, width) in [(1, 1, 1), (2, 3, 5), (3, 70, 64), (1, 2, 33), (5, 40, 129)] {
        let what = format!("layer norm of {batch} × {time} × {width}");
        // One value has no deviation: the twin divides rounding errors there.
        let tolerance = if width == 1 { 1e-2 } else { 2e-5 };
        compare!(
            what,
            tolerance,
            [x: [batch, time, width], weight: [width], bias: [width]],
            |x: Tensor<3>, w, b| ops::layer_norm(x, w, b, 1e-5),
            |x: Tensor<3>, w, b| ops::composed::layer_norm(x, w, b, 1e-5)
        );
        let what = format!("RMS norm of {batch} × {time} × {width}");
        compare!(
            what,
            2e-5,
            [x: [batch, time, width], weight: [width]],
            |x: Tensor<3>, w| ops::rms_norm(x, w, 1e-6),
            |x: Tensor<3>, w| ops::composed::rms_norm(x, w, 1e-6)
        );
    }
}

#[test]
fn a_turned_input_is_read_right() {
    compare!(
        "layer norm of a turned input",
        2e-5,
        [x: [4, 9, 6], weight: [9], bias: [9]],
        |x: Tensor<3>, w, b| ops::layer_norm(x.swap_dims(1, 2), w, b, 1e-5),
        |x: Tensor<3>, w, b| ops::composed::layer_norm(x.swap_dims(1, 2), w, b, 1e-5)
    );
}
