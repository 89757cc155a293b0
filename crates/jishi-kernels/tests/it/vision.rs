use burn::tensor::{Device, Tensor, TensorData};
use jishi_kernels::Precision;
use jishi_kernels::ops::{self, BatchNorm, ConvOptions, PoolOptions};

use crate::{close, compare, numbers, values};

fn options(stride: [usize; 2], padding: [usize; 2], dilation: [usize; 2], groups: usize) -> ConvOptions {
    ConvOptions { stride, padding, dilation, groups, ..ConvOptions::default() }
}

#[test]
fn convolutions_are_their_twins() {
    for (batch, size, [inputs, outputs], kernel, with) in [
        (2, [8, 9], [3, 16], [3, 3], options([1, 1], [1, 1], [1, 1], 1)),
        (2, [9, 8], [16, 32], [3, 3], options([1, 1], [1, 1], [1, 1], 1)),
        (3, [8, 8], [16, 8], [3, 3], options([2, 2], [1, 1], [1, 1], 1)),
        (1, [7, 6], [8, 8], [1, 1], options([2, 2], [0, 0], [1, 1], 1)),
        (2, [9, 11], [6, 4], [3, 2], options([1, 2], [2, 1], [2, 1], 2)),
        (2, [6, 5], [10, 10], [3, 3], options([1, 1], [1, 1], [1, 1], 10)),
    ] {
        compare!(
            format!("convolution {size:?} {inputs} {outputs} {with:?}"),
            5e-5,
            [x: [batch, size[0], size[1], inputs], w: [outputs, inputs / with.groups, kernel[0], kernel[1]], b: [outputs]],
            |x, w, b| ops::conv2d(x, w, Some(b), with),
            |x, w, b| ops::composed::conv2d(x, w, Some(b), with)
        );
        let with = ConvOptions { output_padding: with.stride.map(|s| s - 1), ..with };
        compare!(
            format!("transposed convolution {size:?} {inputs} {outputs} {with:?}"),
            5e-5,
            [x: [batch, size[0], size[1], inputs], w: [inputs, outputs / with.groups, kernel[0], kernel[1]], b: [outputs]],
            |x, w, b| ops::conv_transpose2d(x, w, Some(b), with),
            |x, w, b| ops::composed::conv_transpose2d(x, w, Some(b), with)
        );
    }
}

#[test]
fn rounded_convolutions_are_near_their_twins() {
    for stride in [1, 2] {
        let with = options([stride; 2], [1, 1], [1, 1], 1);
        let with = ConvOptions { precision: Precision::Bf16, ..with };
        compare!(
            format!("convolution in bfloat16 {with:?}"),
            2e-2,
            [x: [2, 8, 8, 16], w: [32, 16, 3, 3]],
            |x, w| ops::conv2d(x, w, None, with),
            |x, w| ops::composed::conv2d(x, w, None, with)
        );
    }
}

#[test]
fn batch_norms_are_their_twins() {
    for (relu, sum) in [(false, false), (true, false), (false, true), (true, true)] {
        let with = |residual: Tensor<4>| BatchNorm { residual: sum.then_some(residual), relu, eps: 1e-5 };
        compare!(
            format!("batch norm, relu {relu}, residual {sum}"),
            5e-5,
            [x: [3, 5, 4, 17], w: [17], b: [17], r: [3, 5, 4, 17]],
            |x, w, b, r| ops::batch_norm_train(x, w, b, with(r)).output,
            |x, w, b, r| ops::composed::batch_norm_train(x, w, b, with(r)).output
        );
        let constant = |seed| {
            let values = numbers(17, seed, 0.5).into_iter().map(|v| v + 1.0).collect();
            Tensor::<1>::from_data(TensorData::new(values, [17]), &Device::flex())
        };
        let given = || [constant(5), constant(6)];
        let traced = || given().map(|t| Tensor::from_data(t.into_data(), &Device::flex().autodiff()));
        compare!(
            format!("batch norm with given statistics, relu {relu}, residual {sum}"),
            5e-5,
            [x: [3, 5, 4, 17], w: [17], b: [17], r: [3, 5, 4, 17]],
            |x, w, b, r| ops::batch_norm(x, w, b, given(), with(r)),
            |x, w, b, r| ops::composed::batch_norm(x, w, b, traced(), with(r))
        );
    }
    let x = crate::parameter([40, 6], 1);
    let (w, b) = (crate::parameter([6], 2), crate::parameter([6], 3));
    let with = || BatchNorm { residual: None, relu: false, eps: 1e-5 };
    let found = ops::batch_norm_train(x.clone(), w.clone(), b.clone(), with());
    let twin = ops::composed::batch_norm_train(x, w, b, with());
    let plain = |x: Tensor<1>| x.into_data().try_to_vec::<f32>().expect("f32");
    close(&values(found.output), &values(twin.output), 1e-5, "rows");
    close(&plain(found.mean), &plain(twin.mean), 1e-5, "mean");
    close(&plain(found.variance), &plain(twin.variance), 1e-5, "variance");
}

#[test]
fn poolings_are_their_twins() {
    for (kernel, stride, padding) in
        [([2, 2], [2, 2], [0, 0]), ([3, 3], [2, 2], [1, 1]), ([3, 2], [1, 2], [1, 0])]
    {
        let with = PoolOptions { kernel, stride, padding };
        let what = format!("{with:?}");
        compare!(what, 1e-5, [x: [2, 8, 7, 5]], |x| ops::max_pool2d(x, with), |x| ops::composed::max_pool2d(x, with));
        for count in [false, true] {
            compare!(
                format!("{what} {count}"),
                1e-5,
                [x: [2, 8, 7, 5]],
                |x| ops::average_pool2d(x, with, count),
                |x| ops::composed::average_pool2d(x, with, count)
            );
        }
    }
    compare!("global average", 1e-5, [x: [2, 8, 7, 5]], ops::global_average, ops::composed::global_average);
}
