//! Convolution and transposed convolution of images, NHWC.

use burn::tensor::Tensor;
use burn_flex::FlexTensor;

use super::custom::{Differentiable, Values, apply, is_ours, tensor};
use crate::cpu::conv::{self, Conv2d};
use crate::cpu::gemm::Precision;
use crate::cpu::linear::column_sums;
use crate::memory::buffer;
use crate::simd::Level;

/// How a filter moves over an image. Pairs are height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvOptions {
    /// Pixels from one filter position to the next.
    pub stride: [usize; 2],
    /// Zeros on each side.
    pub padding: [usize; 2],
    /// Pixels from one value of a filter to the next.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Rows and columns that a transposed convolution adds at the end.
    pub output_padding: [usize; 2],
    /// How products are computed.
    pub precision: Precision,
}

impl Default for ConvOptions {
    fn default() -> Self {
        let precision = Precision::default();
        Self {
            stride: [1; 2],
            padding: [0; 2],
            dilation: [1; 2],
            groups: 1,
            output_padding: [0; 2],
            precision,
        }
    }
}

/// `x ∗ weight + bias`.
///
/// # Shapes
/// - `x`: `[batch, height, width, in]`
/// - `weight`: `[out, in / groups, kernel height, kernel width]`, `bias`: `[out]`
/// - output: `[batch, output height, output width, out]`
///
/// # Panics
/// When shapes do not fit together, or the filter does not fit into the image.
#[must_use]
pub fn conv2d(x: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>, options: ConvOptions) -> Tensor<4> {
    if !is_ours(&x) {
        return composed::conv2d(x, weight, bias, options);
    }
    let [batch, height, width, channels] = x.dims();
    let [outputs, per_group, kernel_height, kernel_width] = weight.dims();
    let ConvOptions { stride, padding, dilation, groups, precision, .. } = options;
    assert_eq!(channels, per_group * groups, "channels of the images and of the filters");
    let (input, kernel) = ([height, width], [kernel_height, kernel_width]);
    let output = Conv2d::output_size(input, kernel, stride, padding, dilation);
    let output = output.expect("a filter that fits into the image");
    let conv = Conv2d { batch, input, output, channels, outputs, kernel, stride, padding, dilation, groups };
    run(x, weight, bias, conv, precision, false)
}

/// Transposed convolution: `x ∗ᵀ weight + bias`.
///
/// # Shapes
/// - `x`: `[batch, height, width, in]`
/// - `weight`: `[in, out / groups, kernel height, kernel width]`, `bias`: `[out]`
/// - output: `[batch, output height, output width, out]`
///
/// # Panics
/// When shapes do not fit together, or nothing is left of the result.
#[must_use]
pub fn conv_transpose2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions,
) -> Tensor<4> {
    if !is_ours(&x) {
        return composed::conv_transpose2d(x, weight, bias, options);
    }
    let [batch, height, width, inputs] = x.dims();
    let [from, per_group, kernel_height, kernel_width] = weight.dims();
    let ConvOptions { stride, padding, dilation, groups, output_padding, precision } = options;
    assert_eq!(from, inputs, "channels of the images and of the filters");
    let (output, kernel) = ([height, width], [kernel_height, kernel_width]);
    let input = Conv2d::transposed_size(output, kernel, stride, padding, output_padding, dilation);
    let input = input.expect("a result that is not empty");
    let (channels, outputs) = (per_group * groups, inputs);
    let conv = Conv2d { batch, input, output, channels, outputs, kernel, stride, padding, dilation, groups };
    run(x, weight, bias, conv, precision, true)
}

fn run(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    conv: Conv2d,
    precision: Precision,
    transposed: bool,
) -> Tensor<4> {
    let mut inputs = vec![x.into_dispatch(), weight.into_dispatch()];
    inputs.extend(bias.map(Tensor::into_dispatch));
    apply(inputs, |inputs, keep| {
        let mut inputs = inputs.into_iter().map(Values::new);
        let mut next = || inputs.next().expect("two or three tensors");
        let (x, weight) = (next(), next());
        let bias = inputs.next();
        let has_bias = bias.is_some();
        let bias = bias.as_ref().map(Values::get);
        let level = Level::best();
        let step = ConvStep { x, weight, conv, precision, has_bias, transposed };
        let (x, weight) = (step.x.get(), step.weight.get());
        let y = if transposed {
            let mut y = buffer(conv.input_len());
            conv::conv_transpose2d(level, precision, &conv, x, weight, bias, &mut y);
            tensor(y, [conv.batch, conv.input[0], conv.input[1], conv.channels])
        } else {
            let mut y = buffer(conv.output_len());
            conv::conv2d(level, precision, &conv, x, weight, bias, &mut y);
            tensor(y, [conv.batch, conv.output[0], conv.output[1], conv.outputs])
        };
        (y, keep.then_some(step))
    })
}

#[derive(Debug, Clone)]
struct ConvStep {
    x: Values,
    weight: Values,
    conv: Conv2d,
    precision: Precision,
    has_bias: bool,
    transposed: bool,
}

impl Differentiable for ConvStep {
    const NAMES: [&'static str; 2] = ["convolution", "convolution backward"];

    fn backward(self, gradient: FlexTensor, wanted: &[bool]) -> Vec<Option<FlexTensor>> {
        let Self { x, weight, conv, precision, has_bias, transposed } = self;
        let level = Level::best();
        let dy = Values::new(gradient);
        let dx = wanted[0].then(|| {
            crate::profile::time("convolution backward: input", || {
                let mut dx = buffer(x.get().len());
                if transposed {
                    conv::conv2d(level, precision, &conv, dy.get(), weight.get(), None, &mut dx);
                } else {
                    conv::conv2d_backward_input(level, precision, &conv, dy.get(), weight.get(), &mut dx);
                }
                tensor(dx, x.shape())
            })
        });
        let dweight = wanted[1].then(|| {
            crate::profile::time("convolution backward: weight", || {
                let mut dweight = buffer(conv.weight_len());
                let (images, result) = if transposed { (&dy, &x) } else { (&x, &dy) };
                conv::conv2d_backward_weight(
                    level,
                    precision,
                    &conv,
                    images.get(),
                    result.get(),
                    &mut dweight,
                );
                tensor(dweight, weight.shape())
            })
        });
        let mut gradients = vec![dx, dweight];
        if has_bias {
            let channels = if transposed { conv.channels } else { conv.outputs };
            let sums = wanted[2].then(|| column_sums(level, dy.get(), channels));
            gradients.push(sums.map(|sums| tensor(sums, [channels])));
        }
        gradients
    }
}

/// The same operations of Burn's own.
pub mod composed {
    use burn::tensor::{DType, Tensor, module, ops};

    use super::{ConvOptions, Precision};

    /// NHWC to NCHW.
    pub(crate) fn channels_first(x: Tensor<4>) -> Tensor<4> {
        x.permute([0, 3, 1, 2])
    }

    /// NCHW to NHWC.
    pub(crate) fn channels_last(x: Tensor<4>) -> Tensor<4> {
        x.permute([0, 2, 3, 1])
    }

    fn rounded(x: Tensor<4>, precision: Precision) -> Tensor<4> {
        match precision {
            Precision::F32 => x,
            Precision::Bf16 => x.cast(DType::BF16).cast(DType::F32),
        }
    }

    /// See [`super::conv2d`].
    #[must_use]
    pub fn conv2d(
        x: Tensor<4>,
        weight: Tensor<4>,
        bias: Option<Tensor<1>>,
        options: ConvOptions,
    ) -> Tensor<4> {
        let ConvOptions { stride, padding, dilation, groups, precision, .. } = options;
        let (x, weight) = (rounded(x, precision), rounded(weight, precision));
        let options = ops::ConvOptions::new(stride, padding, dilation, groups);
        channels_last(module::conv2d(channels_first(x), weight, bias, options))
    }

    /// See [`super::conv_transpose2d`].
    #[must_use]
    pub fn conv_transpose2d(
        x: Tensor<4>,
        weight: Tensor<4>,
        bias: Option<Tensor<1>>,
        options: ConvOptions,
    ) -> Tensor<4> {
        let ConvOptions { stride, padding, dilation, groups, output_padding, precision } = options;
        let (x, weight) = (rounded(x, precision), rounded(weight, precision));
        let options = ops::ConvTransposeOptions::new(stride, padding, output_padding, dilation, groups);
        channels_last(module::conv_transpose2d(channels_first(x), weight, bias, options))
    }
}
