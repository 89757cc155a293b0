//! Convolution and transposed convolution of images.
//!
//! Activations are NHWC, `[batch, height, width, channels]`; weights have PyTorch's order, `[out, in / groups, height, width]`,
//! and are turned inside. A convolution is a product of patches, read where they are, with the weights (Chellapilla et
//! al. 2006); 3 × 3 filters with stride 1 go through Winograd's minimal filtering in `f32`, which takes a quarter of the
//! multiplications.

mod depthwise;
mod patches;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod winograd;

use patches::{Patches, Turned};

use super::gemm::{Part, Precision, Sink, Store, Strided, gemm};
use crate::memory::buffer;
use crate::simd::Level;
use crate::threads::{SharedMut, parallel, parallel_chunks};

/// The shape of a convolution. Pairs are height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2d {
    /// Images.
    pub batch: usize,
    /// Size of an image.
    pub input: [usize; 2],
    /// Size of the result.
    pub output: [usize; 2],
    /// Channels of an image.
    pub channels: usize,
    /// Channels of the result.
    pub outputs: usize,
    /// Size of a filter.
    pub kernel: [usize; 2],
    /// Pixels from one filter position to the next.
    pub stride: [usize; 2],
    /// Zeros on each side.
    pub padding: [usize; 2],
    /// Pixels from one value of a filter to the next.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Conv2d {
    /// The size of a convolution's result, or nothing where the filter does not fit into the image.
    #[must_use]
    pub fn output_size(
        input: [usize; 2],
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
    ) -> Option<[usize; 2]> {
        let size = |i: usize| {
            let reach = dilation[i] * kernel[i].checked_sub(1)? + 1;
            Some((input[i] + 2 * padding[i]).checked_sub(reach)? / stride[i] + 1)
        };
        Some([size(0)?, size(1)?])
    }

    /// The size of a transposed convolution's result.
    #[must_use]
    pub fn transposed_size(
        input: [usize; 2],
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        output_padding: [usize; 2],
        dilation: [usize; 2],
    ) -> Option<[usize; 2]> {
        let size = |i: usize| {
            let reach = dilation[i] * kernel[i].checked_sub(1)? + 1;
            (stride[i] * input[i].checked_sub(1)? + reach + output_padding[i]).checked_sub(2 * padding[i])
        };
        Some([size(0)?, size(1)?])
    }

    /// Values of the images.
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.batch * self.input[0] * self.input[1] * self.channels
    }

    /// Values of the result.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.batch * self.output[0] * self.output[1] * self.outputs
    }

    /// Values of the filters.
    #[must_use]
    pub fn weight_len(&self) -> usize {
        self.outputs * self.inputs_of_group() * self.taps()
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    fn inputs_of_group(&self) -> usize {
        self.channels / self.groups
    }

    fn outputs_of_group(&self) -> usize {
        self.outputs / self.groups
    }

    /// The groups' weights have as many values; group `group` starts at this many times its number.
    fn weight_of_group(&self) -> usize {
        self.outputs_of_group() * self.inputs_of_group() * self.taps()
    }

    fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.channels && self.groups == self.outputs
    }

    fn check(&self, input: &[f32], weight: &[f32], output: &[f32]) {
        assert!(
            self.groups > 0
                && self.channels.is_multiple_of(self.groups)
                && self.outputs.is_multiple_of(self.groups)
                && self.stride.iter().chain(&self.dilation).all(|n| *n > 0),
            "a convolution whose groups, stride or dilation make no sense"
        );
        assert_eq!(input.len(), self.input_len(), "values of the images");
        assert_eq!(weight.len(), self.weight_len(), "values of the filters");
        assert_eq!(output.len(), self.output_len(), "values of the result");
    }

    /// What position 0 of the result reads for each tap of the filter.
    fn offsets(&self) -> Vec<[isize; 2]> {
        let along =
            |i: usize, tap: usize| (tap * self.dilation[i]).cast_signed() - self.padding[i].cast_signed();
        (0..self.taps()).map(|t| [along(0, t / self.kernel[1]), along(1, t % self.kernel[1])]).collect()
    }

    fn patches<'a>(&self, x: &'a [f32], group: usize) -> Patches<'a> {
        let run = self.inputs_of_group();
        Patches {
            data: x,
            size: self.input,
            channels: self.channels,
            run: [group * run, run],
            grid: self.output,
            stride: self.stride,
            taps: self.offsets(),
        }
    }
}

/// `y = x ∗ weight + bias`.
///
/// # Shapes
/// - `x`: `[batch, height, width, channels]`
/// - `weight`: `[outputs, channels / groups, kernel height, kernel width]`
/// - `bias`: `[outputs]`
/// - `y`: `[batch, output height, output width, outputs]`
pub fn conv2d(
    level: Level,
    precision: Precision,
    conv: &Conv2d,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    conv.check(x, weight, y);
    if conv.is_depthwise() {
        depthwise::forward(level, conv, x, weight, bias, y);
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if winograd::pays(level, conv) {
        winograd::forward(level, conv, x, weight, bias, y);
        return;
    }
    let (inputs, outputs) = (conv.inputs_of_group(), conv.outputs_of_group());
    let (rows, k) = (conv.batch * conv.output[0] * conv.output[1], conv.taps() * inputs);
    for group in 0..conv.groups {
        let weight = taps_first(weight, conv, group); // [outputs, taps, inputs]
        let sink = Rows::new(y, conv.outputs, group * outputs, bias, None);
        let (patches, filters) = (conv.patches(x, group), Strided::rows(&weight, k));
        gemm(level, precision, [rows, outputs, k], &patches, &filters, &sink);
    }
}

/// The gradient of the images: `dx = dy ∗ᵀ weight`, without the zeros that a stride puts between values of `dy`:
/// pixels of the same remainder by the stride are a convolution of their own (their phase).
///
/// # Shapes
/// As [`conv2d`].
pub fn conv2d_backward_input(
    level: Level,
    precision: Precision,
    conv: &Conv2d,
    dy: &[f32],
    weight: &[f32],
    dx: &mut [f32],
) {
    backward_input(level, precision, conv, dy, weight, None, dx);
}

fn backward_input(
    level: Level,
    precision: Precision,
    conv: &Conv2d,
    dy: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    dx: &mut [f32],
) {
    conv.check(dx, weight, dy);
    if conv.is_depthwise() {
        depthwise::backward_input(level, conv, dy, weight, bias, dx);
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if winograd::pays(level, conv) {
        winograd::backward_input(level, conv, dy, weight, bias, dx);
        return;
    }
    let (inputs, outputs) = (conv.inputs_of_group(), conv.outputs_of_group());
    let along = |i: usize| (0..conv.stride[i].min(conv.input[i])).map(move |start| phase(conv, i, start));
    for group in 0..conv.groups {
        for y in along(0) {
            for x in along(1) {
                let grid = [y.count, x.count];
                let taps = y
                    .taps
                    .iter()
                    .flat_map(|(ty, oy)| x.taps.iter().map(move |(tx, ox)| (*ty, *tx, *oy, *ox)));
                let taps: Vec<_> = taps.collect();
                let filters: Vec<usize> = taps.iter().map(|t| t.0 * conv.kernel[1] + t.1).collect();
                let weight = inputs_last(weight, conv, group, &filters); // [taps, outputs, inputs]
                let patches = Patches {
                    data: dy,
                    size: conv.output,
                    channels: conv.outputs,
                    run: [group * outputs, outputs],
                    grid,
                    stride: [1, 1],
                    taps: taps.iter().map(|t| [t.2, t.3]).collect(),
                };
                let spread =
                    Spread { grid, size: conv.input, first: [y.start, x.start], stride: conv.stride };
                let sink = Rows::new(dx, conv.channels, group * inputs, bias, Some(spread));
                let shape = [conv.batch * grid[0] * grid[1], inputs, taps.len() * outputs];
                gemm(level, precision, shape, &patches, &Strided::columns(&weight, inputs), &sink);
            }
        }
    }
}

/// Pixels `start`, `start + stride`, … along one axis.
struct Phase {
    start: usize,
    count: usize,
    /// Taps of the filter that reach them, and where the first pixel's value of `dy` is.
    taps: Vec<(usize, isize)>,
}

fn phase(conv: &Conv2d, axis: usize, start: usize) -> Phase {
    let (stride, padding) = (conv.stride[axis].cast_signed(), conv.padding[axis].cast_signed());
    let from = |tap: usize| start.cast_signed() + padding - (tap * conv.dilation[axis]).cast_signed();
    let taps = (0..conv.kernel[axis]).filter(|tap| from(*tap).rem_euclid(stride) == 0);
    let taps = taps.map(|tap| (tap, from(tap).div_euclid(stride))).collect();
    Phase { start, count: (conv.input[axis] - start).div_ceil(conv.stride[axis]), taps }
}

/// The gradient of the filters: `dweight = xᵀ · dy` over patches of `x`.
///
/// # Shapes
/// As [`conv2d`].
pub fn conv2d_backward_weight(
    level: Level,
    precision: Precision,
    conv: &Conv2d,
    x: &[f32],
    dy: &[f32],
    dweight: &mut [f32],
) {
    conv.check(x, dweight, dy);
    if conv.is_depthwise() {
        depthwise::backward_weight(level, conv, x, dy, dweight);
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if winograd::pays(level, conv) {
        winograd::backward_weight(level, conv, x, dy, dweight);
        return;
    }
    let (inputs, outputs) = (conv.inputs_of_group(), conv.outputs_of_group());
    let (positions, width) = (conv.batch * conv.output[0] * conv.output[1], conv.taps() * inputs);
    let mut found = buffer::<f32>(outputs * width); // [outputs, taps, inputs]
    for group in 0..conv.groups {
        let dy = Strided::columns(&dy[(group * outputs).min(dy.len())..], conv.outputs);
        let patches = Turned(conv.patches(x, group));
        let sink = Store::new(&mut found, width);
        gemm(level, precision, [outputs, width, positions], &dy, &patches, &sink);
        let dweight = &mut dweight[group * conv.weight_of_group()..][..conv.weight_of_group()];
        parallel_chunks(dweight, width.max(1), |output, dweight| {
            let found = &found[output * width..][..width];
            for (input, filter) in dweight.chunks_exact_mut(conv.taps()).enumerate() {
                for (tap, value) in filter.iter_mut().enumerate() {
                    *value = found[tap * inputs + input];
                }
            }
        });
    }
}

/// Transposed convolution: `y = x ∗ᵀ weight + bias`, the backward pass of the convolution `conv`, whose result is `x`
/// here and whose images are `y`. Its gradients are [`conv2d`] of `dy` for `x`, and [`conv2d_backward_weight`] with `dy` for the
/// images and `x` for the result.
///
/// # Shapes
/// - `x`: `[batch, conv.output.., conv.outputs]`
/// - `weight`: `[conv.outputs, conv.channels / groups, kernel height, kernel width]`
/// - `bias`: `[conv.channels]`
/// - `y`: `[batch, conv.input.., conv.channels]`
pub fn conv_transpose2d(
    level: Level,
    precision: Precision,
    conv: &Conv2d,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    backward_input(level, precision, conv, x, weight, bias, y);
}

/// A group's weights as `[outputs, taps, inputs]`.
fn taps_first(weight: &[f32], conv: &Conv2d, group: usize) -> Vec<f32> {
    let (inputs, taps) = (conv.inputs_of_group(), conv.taps());
    let size = conv.weight_of_group();
    let mut out = buffer::<f32>(size);
    let (width, weight) = (inputs * taps, &weight[group * size..][..size]);
    parallel_chunks(&mut out, width.max(1), |output, out| {
        let weight = &weight[output * width..][..width];
        for (tap, out) in out.chunks_exact_mut(inputs.max(1)).enumerate() {
            for (input, value) in out.iter_mut().enumerate() {
                *value = weight[input * taps + tap];
            }
        }
    });
    out
}

/// Some taps of a group's weights as `[taps, outputs, inputs]`.
fn inputs_last(weight: &[f32], conv: &Conv2d, group: usize, filters: &[usize]) -> Vec<f32> {
    let (inputs, outputs, taps) = (conv.inputs_of_group(), conv.outputs_of_group(), conv.taps());
    let weight = &weight[group * conv.weight_of_group()..][..conv.weight_of_group()];
    let mut out = buffer::<f32>(filters.len() * outputs * inputs);
    let shared = SharedMut::new(&mut out);
    parallel(outputs, |output| {
        let weight = &weight[output * inputs * taps..][..inputs * taps];
        for (i, tap) in filters.iter().enumerate() {
            // SAFETY: one output, one task.
            let out = unsafe { shared.slice((i * outputs + output) * inputs, inputs) };
            for (input, value) in out.iter_mut().enumerate() {
                *value = weight[input * taps + tap];
            }
        }
    });
    out
}

/// Which pixels of an image the rows of a product are: those of a grid with a stride.
#[derive(Debug, Clone, Copy)]
struct Spread {
    grid: [usize; 2],
    size: [usize; 2],
    first: [usize; 2],
    stride: [usize; 2],
}

/// Stores rows of a product plus a bias to pixels.
struct Rows<'a> {
    out: SharedMut<'a, f32>,
    channels: usize,
    /// The group's first channel.
    start: usize,
    bias: Option<&'a [f32]>,
    spread: Option<Spread>,
}

impl<'a> Rows<'a> {
    fn new(
        out: &'a mut [f32],
        channels: usize,
        start: usize,
        bias: Option<&'a [f32]>,
        spread: Option<Spread>,
    ) -> Self {
        let spread = spread.filter(|spread| spread.stride != [1, 1]);
        Self { out: SharedMut::new(out), channels, start, bias, spread }
    }
}

impl Sink for Rows<'_> {
    #[inline(always)]
    unsafe fn take<const FMA: bool, const W: usize>(
        &self,
        row: usize,
        column: usize,
        mut part: Part<'_, W>,
        first: bool,
        _: bool,
    ) {
        let pixel = match &self.spread {
            None => row,
            Some(Spread { grid, size, first, stride }) => {
                let (line, x) = (row / grid[1], row % grid[1]);
                let (image, y) = (line / grid[0], line % grid[0]);
                (image * size[0] + first[0] + y * stride[0]) * size[1] + first[1] + x * stride[1]
            }
        };
        let column = self.start + column;
        // SAFETY: places are disjoint by this function's contract, and so are groups and phases.
        let out = unsafe { self.out.slice(pixel * self.channels + column, part.count) };
        if !first {
            part.add(out);
        } else if let Some(bias) = self.bias {
            part.add(&bias[column..]);
        }
        part.write(out);
    }
}
