use burn::tensor::{Device, Int, Tensor, TensorData};
use jishi_kernels::Precision;
use jishi_kernels::cpu::cross_entropy::{Layout, Options};
use jishi_kernels::ops;

use crate::compare;

fn targets(rows: usize, classes: usize) -> Tensor<1, Int> {
    let targets: Vec<i64> = (0..rows).map(|r| (r * 7 % classes) as i64).collect();
    Tensor::from_data(TensorData::new(targets, [rows]), &Device::flex())
}

#[test]
fn cross_entropies_are_their_twins() {
    for (rows, width, classes) in [(1, 1, 1), (5, 3, 7), (70, 20, 130), (600, 8, 33)] {
        for options in [Options::default(), Options { label_smoothing: 0.1, ignore_index: Some(0) }] {
            compare!(
                format!("cross-entropy {rows} × {classes}"),
                2e-5,
                [logits: [rows, classes]],
                |logits| ops::cross_entropy(logits, targets(rows, classes), options) * 3.0,
                |logits| ops::composed::cross_entropy(logits, targets(rows, classes), options) * 3.0
            );
            for (layout, precision) in [
                (Layout::InOut, Precision::F32),
                (Layout::OutIn, Precision::F32),
                (Layout::InOut, Precision::Bf16),
                (Layout::OutIn, Precision::Bf16),
            ] {
                let tolerance = if precision == Precision::F32 { 2e-5 } else { 2e-2 };
                let shape = if layout == Layout::InOut { [width, classes] } else { [classes, width] };
                compare!(
                    format!("{precision:?} {layout:?} layer and cross-entropy {rows} × {width} × {classes}"),
                    tolerance,
                    [x: [rows, width], w: shape],
                    |x, w| ops::linear_cross_entropy(x, w, layout, targets(rows, classes), options, precision) * 0.5,
                    |x, w| ops::composed::linear_cross_entropy(x, w, layout, targets(rows, classes), options, precision) * 0.5
                );
            }
        }
    }
}
