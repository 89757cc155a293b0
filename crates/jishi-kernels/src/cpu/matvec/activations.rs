//! Rows of inputs, rounded as the weights' format wants them.

use super::blocks::QUANT;
use super::{BLOCK, Format, int8, quant};
use crate::simd::Level;
use crate::threads::{SharedMut, parallel};

/// Rows of inputs as a product reads them. The memory is kept from one use to the next.
#[derive(Debug, Clone, Default)]
pub struct Activations {
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) stride: usize,
    /// `[rows, stride]`, zeros after the inputs.
    pub(super) values: Vec<f32>,
    /// The same as whole numbers in ±32767, for [`Format::Int8`].
    pub(super) whole: Vec<i16>,
    /// `[rows, blocks]`
    pub(super) scales: Vec<f32>,
    /// The same as whole numbers in ±127, for formats of blocks.
    bytes: Vec<i8>,
    /// Their sums, `[rows, blocks]`.
    sums: Vec<i32>,
}

impl Activations {
    /// Takes `rows` rows from `x`, `[rows, inputs]`, for weights of a format. After the first use with as many
    /// rows and inputs nothing is allocated.
    pub fn set(&mut self, level: Level, format: Format, rows: usize, x: &[f32]) {
        let inputs = x.len() / rows.max(1);
        (self.rows, self.inputs, self.stride) = (rows, inputs, inputs.next_multiple_of(4));
        if format.is_blocks() {
            self.set_blocks(level, rows, x, &[inputs]);
        } else if format == Format::Int8 {
            let blocks = inputs.div_ceil(BLOCK);
            self.whole.resize(rows * self.stride, 0);
            self.scales.resize(rows * blocks, 0.0);
            for (row, x) in x.chunks_exact(inputs.max(1)).enumerate() {
                let whole = &mut self.whole[row * self.stride..][..self.stride];
                whole[inputs..].fill(0);
                int8::quantise(level, x, whole, &mut self.scales[row * blocks..][..blocks]);
            }
        } else {
            self.values.resize(rows * self.stride, 0.0);
            for (out, x) in
                self.values.chunks_exact_mut(self.stride.max(1)).zip(x.chunks_exact(inputs.max(1)))
            {
                out[..inputs].copy_from_slice(x);
                out[inputs..].fill(0.0);
            }
        }
    }
}

/// Tasks of many rows, at most.
const TASKS: usize = 16;

impl Activations {
    /// [`set`](Self::set) for formats of blocks and matrices over each other: no block holds inputs of two of `parts`,
    /// which are the matrices' inputs.
    ///
    /// # Panics
    /// When the parts are not a row together.
    pub fn set_blocks(&mut self, level: Level, rows: usize, x: &[f32], parts: &[usize]) {
        let inputs = parts.iter().sum::<usize>();
        assert_eq!(x.len(), rows * inputs, "{rows} rows of {inputs} values");
        let blocks = parts.iter().map(|p| p.div_ceil(QUANT)).sum::<usize>();
        (self.rows, self.inputs, self.stride) = (rows, inputs, blocks * QUANT);
        self.bytes.resize(rows * self.stride, 0);
        self.scales.resize(rows * blocks, 0.0);
        self.sums.resize(rows * blocks, 0);
        let bytes = SharedMut::new(&mut self.bytes);
        let (scales, sums) = (SharedMut::new(&mut self.scales), SharedMut::new(&mut self.sums));
        let group = rows.div_ceil(TASKS).max(1);
        parallel(rows.div_ceil(group), |task| {
            for row in task * group..((task + 1) * group).min(rows) {
                let (mut input, mut block) = (row * inputs, row * blocks);
                for part in parts {
                    let some = part.div_ceil(QUANT);
                    // SAFETY: rows of different tasks do not overlap.
                    let (bytes, scales, sums) = unsafe {
                        (
                            bytes.slice(block * QUANT, some * QUANT),
                            scales.slice(block, some),
                            sums.slice(block, some),
                        )
                    };
                    quant::quantise(level, &x[input..][..*part], bytes, scales, sums);
                    (input, block) = (input + part, block + some);
                }
            }
        });
    }

    /// Whole numbers of rows from `row` on, from an input on that begins a block.
    pub(super) fn quant_rows(&self, row: usize, from: usize) -> quant::Rows<'_> {
        let (blocks, first) = (self.stride / QUANT, from / QUANT);
        quant::Rows {
            x: &self.bytes[row * self.stride + from..],
            stride: self.stride,
            scales: &self.scales[row * blocks + first..],
            sums: &self.sums[row * blocks + first..],
            blocks,
        }
    }
}
