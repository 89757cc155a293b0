//! Pooling of images, NHWC.

use std::sync::Arc;

use burn::tensor::Tensor;
use burn_flex::FlexTensor;

use super::custom::{Differentiable, Values, apply, is_ours, tensor};
use crate::cpu::conv::Conv2d;
use crate::cpu::pooling::{self, Pool2d};
use crate::memory::buffer;
use crate::simd::Level;

/// How a window moves over an image. Pairs are height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolOptions {
    /// Size of a window.
    pub kernel: [usize; 2],
    /// Pixels from one window to the next.
    pub stride: [usize; 2],
    /// Pixels outside the image that windows cover on each side.
    pub padding: [usize; 2],
}

fn pool(x: &Tensor<4>, options: PoolOptions) -> Pool2d {
    let PoolOptions { kernel, stride, padding } = options;
    let [batch, height, width, channels] = x.dims();
    let (input, dilation) = ([height, width], [1, 1]);
    let output = Conv2d::output_size(input, kernel, stride, padding, dilation);
    let output = output.expect("a window that fits into the image");
    Pool2d { batch, input, output, channels, kernel, stride, padding, dilation }
}

/// The largest value of each window; NaN is the largest.
///
/// # Shapes
/// - `x`: `[batch, height, width, channels]`
/// - output: `[batch, output height, output width, channels]`
///
/// # Panics
/// When the window does not fit into the image.
#[must_use]
pub fn max_pool2d(x: Tensor<4>, options: PoolOptions) -> Tensor<4> {
    if !is_ours(&x) {
        return composed::max_pool2d(x, options);
    }
    let pool = pool(&x, options);
    apply(vec![x.into_dispatch()], |inputs, keep| {
        let x = Values::new(inputs.into_iter().next().expect("one tensor"));
        let (mut y, mut places) = (buffer::<f32>(pool.output_len()), buffer::<u32>(pool.output_len()));
        pooling::max_pool2d(Level::best(), &pool, x.get(), &mut y, &mut places);
        let kind = Kind::Max(Arc::new(places));
        (
            tensor(y, [pool.batch, pool.output[0], pool.output[1], pool.channels]),
            keep.then_some(PoolStep { pool, kind }),
        )
    })
}

/// The mean of each window; `count_padding` says whether pixels in the padding count as zeros.
///
/// # Shapes
/// As [`max_pool2d`].
///
/// # Panics
/// When the window does not fit into the image.
#[must_use]
pub fn average_pool2d(x: Tensor<4>, options: PoolOptions, count_padding: bool) -> Tensor<4> {
    if !is_ours(&x) {
        return composed::average_pool2d(x, options, count_padding);
    }
    let pool = pool(&x, options);
    apply(vec![x.into_dispatch()], |inputs, keep| {
        let x = Values::new(inputs.into_iter().next().expect("one tensor"));
        let mut y = buffer::<f32>(pool.output_len());
        pooling::average_pool2d(Level::best(), &pool, count_padding, x.get(), &mut y);
        let kind = Kind::Average { count_padding };
        (
            tensor(y, [pool.batch, pool.output[0], pool.output[1], pool.channels]),
            keep.then_some(PoolStep { pool, kind }),
        )
    })
}

/// The mean over all pixels of each image.
///
/// # Shapes
/// - `x`: `[batch, height, width, channels]`
/// - output: `[batch, channels]`
#[must_use]
pub fn global_average(x: Tensor<4>) -> Tensor<2> {
    if !is_ours(&x) {
        return composed::global_average(x);
    }
    let [batch, height, width, channels] = x.dims();
    apply(vec![x.into_dispatch()], |inputs, keep| {
        let x = Values::new(inputs.into_iter().next().expect("one tensor"));
        let mut y = buffer::<f32>(batch * channels);
        pooling::global_average(Level::best(), channels, x.get(), &mut y);
        (tensor(y, [batch, channels]), keep.then_some(GlobalStep { shape: [batch, height, width, channels] }))
    })
}

#[derive(Debug, Clone)]
enum Kind {
    Max(Arc<Vec<u32>>),
    Average { count_padding: bool },
}

#[derive(Debug, Clone)]
struct PoolStep {
    pool: Pool2d,
    kind: Kind,
}

impl Differentiable for PoolStep {
    const NAMES: [&'static str; 2] = ["pooling", "pooling backward"];

    fn backward(self, gradient: FlexTensor, _: &[bool]) -> Vec<Option<FlexTensor>> {
        let Self { pool, kind } = self;
        let dy = Values::new(gradient);
        let mut dx = buffer(pool.input_len());
        match kind {
            Kind::Max(places) => pooling::max_pool2d_backward(&pool, dy.get(), &places, &mut dx),
            Kind::Average { count_padding } => {
                pooling::average_pool2d_backward(Level::best(), &pool, count_padding, dy.get(), &mut dx);
            }
        }
        vec![Some(tensor(dx, [pool.batch, pool.input[0], pool.input[1], pool.channels]))]
    }
}

#[derive(Debug, Clone)]
struct GlobalStep {
    shape: [usize; 4],
}

impl Differentiable for GlobalStep {
    const NAMES: [&'static str; 2] = ["pooling", "pooling backward"];

    fn backward(self, gradient: FlexTensor, _: &[bool]) -> Vec<Option<FlexTensor>> {
        let dy = Values::new(gradient);
        let mut dx = buffer(self.shape.iter().product());
        pooling::global_average_backward(self.shape[3], dy.get(), &mut dx);
        vec![Some(tensor(dx, self.shape))]
    }
}

/// The same operations of Burn's own.
pub mod composed {
    use burn::tensor::{Tensor, module, ops};

    use super::PoolOptions;
    use crate::ops::conv::composed::{channels_first, channels_last};

    /// See [`super::max_pool2d`].
    #[must_use]
    pub fn max_pool2d(x: Tensor<4>, options: PoolOptions) -> Tensor<4> {
        let PoolOptions { kernel, stride, padding } = options;
        let options = ops::MaxPoolOptions::new(kernel).with_stride(stride).with_padding(padding);
        channels_last(module::max_pool2d(channels_first(x), options))
    }

    /// See [`super::average_pool2d`].
    #[must_use]
    pub fn average_pool2d(x: Tensor<4>, options: PoolOptions, count_padding: bool) -> Tensor<4> {
        let PoolOptions { kernel, stride, padding } = options;
        let options = ops::AvgPoolOptions::new(kernel)
            .with_stride(stride)
            .with_padding(padding)
            .with_count_include_pad(count_padding);
        channels_last(module::avg_pool2d(channels_first(x), options))
    }

    /// See [`super::global_average`].
    #[must_use]
    pub fn global_average(x: Tensor<4>) -> Tensor<2> {
        let [batch, _, _, channels] = x.dims();
        x.mean_dim(1).mean_dim(2).reshape([batch, channels])
    }
}
