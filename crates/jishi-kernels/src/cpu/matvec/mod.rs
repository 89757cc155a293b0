//! Products of a few rows with a large matrix, as generating a token needs them: `y[rows, out] = x[rows, in] · W`.
//!
//! Each weight is used once a row, so the time is that of reading the weights. They are packed once, in the order
//! in which they are read, and as small as wanted: see [`Format`] for what each costs in accuracy. One
//! layout serves all levels: panels of [`PANEL`] columns; in a panel, steps; in a step, one word for
//! each column, which holds one `f32`, two bfloat16 or four bytes that follow each other along the inputs.

mod activations;
mod blocks;
mod dot;
mod int8;
mod joined;
mod quant;

use super::activation::{Activation, for_each_activation};
use super::gemm::round_bits;
pub use super::linear::Epilogue;
pub use activations::Activations;
pub use blocks::{BlockKind, unpack_blocks};
use blocks::{QUANT, Quantised};
pub(super) use dot::dot;
pub use joined::Joined;

use crate::multiversion;
use quant::{Words, widen};

use crate::simd::Level;
use crate::threads::{SharedMut, parallel};

/// Columns of a panel.
pub const PANEL: usize = 64;
/// Inputs that share a scale in [`Format::Int8`].
pub const BLOCK: usize = 128;
/// Rows that one pass over a panel serves.
const ROWS: usize = 4;

/// One word of each column of a panel.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Line(pub [u32; PANEL]);

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Format {
    /// As they are; the error is that of `f32` sums.
    #[default]
    F32,
    /// Rounded to bfloat16, each to 2⁻⁹ of itself. Activations stay `f32`: widening a weight takes less time than
    /// reading it.
    Bf16,
    /// Whole numbers in ±127 with one scale a column and [`BLOCK`] inputs: each weight to 1/254 of the largest of
    /// its block. Activations are rounded too, to 1/65534 of the largest of their block, which adds nothing that
    /// shows; sums are exact in 32 bits.
    Int8,
    /// Whole numbers of 8 bits around zero with a scale of 16 bits a column and 32 inputs, as in GGUF files.
    /// Activations are rounded to 1/254 of the largest of their 32.
    Q8_0,
    /// As `Q8_0`, with numbers from a least value up, of which there is one a column and 32 inputs.
    Q8_1,
    /// As `Q8_0`, with numbers of 4 bits.
    Q4_0,
    /// As `Q8_1`, with numbers of 4 bits.
    Q4_1,
}

impl Format {
    /// Inputs that a word holds.
    #[must_use]
    pub fn inputs_a_word(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 => 2,
            Self::Int8 | Self::Q8_0 | Self::Q8_1 => 4,
            Self::Q4_0 | Self::Q4_1 => 8,
        }
    }

    /// Whether weights are blocks of 32, as in GGUF files.
    #[must_use]
    pub fn is_blocks(self) -> bool {
        self.words().is_some()
    }

    fn mask(self) -> u32 {
        if self.inputs_a_word() == 8 { 15 } else { 255 }
    }

    /// What is subtracted from a number of a block.
    pub(super) fn zero(self) -> i32 {
        self.words().map_or(0, |w| w.zero)
    }

    fn words(self) -> Option<Words> {
        match self {
            Self::F32 | Self::Bf16 | Self::Int8 => None,
            Self::Q8_0 => Some(Words { nibbles: false, least: false, zero: 128 }),
            Self::Q8_1 => Some(Words { nibbles: false, least: true, zero: 0 }),
            Self::Q4_0 => Some(Words { nibbles: true, least: false, zero: 8 }),
            Self::Q4_1 => Some(Words { nibbles: true, least: true, zero: 0 }),
        }
    }

    /// Words of a column.
    fn steps(self, inputs: usize) -> usize {
        let whole = if self.is_blocks() { inputs.next_multiple_of(QUANT) } else { inputs };
        whole.div_ceil(self.inputs_a_word())
    }

    /// Name in figures.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Q8_0 => "q8_0",
            Self::Q8_1 => "q8_1",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
        }
    }
}

/// A matrix `[in, out]`, packed.
#[derive(Debug, Clone)]
pub struct PackedWeight {
    format: Format,
    inputs: usize,
    outputs: usize,
    /// `[panel][step]`
    lines: Vec<Line>,
    /// `[panel][block]`, of [`Format::Int8`].
    scales: Vec<[f32; PANEL]>,
    /// `[panel][block][scale, least value]`, of formats of blocks.
    halves: Vec<[u16; PANEL]>,
}

impl PackedWeight {
    /// Packs a matrix whose value for input `i` and output `o` is `value(i, o)`.
    #[must_use]
    pub fn new(
        format: Format,
        inputs: usize,
        outputs: usize,
        value: impl Fn(usize, usize) -> f32 + Sync,
    ) -> Self {
        if format.is_blocks() {
            return Self::quantised(format, inputs, outputs, |block, o| {
                Quantised::of(format, |i| {
                    let i = block * QUANT + i;
                    if i < inputs { value(i, o) } else { 0.0 }
                })
            });
        }
        let (steps, blocks) = (format.steps(inputs), Self::blocks(format, inputs));
        let panels = outputs.div_ceil(PANEL);
        let mut lines = vec![Line([0; PANEL]); panels * steps];
        let mut scales = vec![[0.0; PANEL]; panels * blocks];
        let (shared, shared_scales) = (SharedMut::new(&mut lines), SharedMut::new(&mut scales));
        parallel(panels, |panel| {
            // SAFETY: one panel, one task.
            let (lines, scales) =
                unsafe { (shared.slice(panel * steps, steps), shared_scales.slice(panel * blocks, blocks)) };
            let first = panel * PANEL;
            let used = PANEL.min(outputs - first);
            match format {
                Format::F32 => {
                    for (i, line) in lines.iter_mut().enumerate() {
                        (0..used).for_each(|c| line.0[c] = value(i, first + c).to_bits());
                    }
                }
                Format::Bf16 => {
                    for (i, line) in lines.iter_mut().enumerate() {
                        for (c, word) in line.0[..used].iter_mut().enumerate() {
                            let at = |i| if i < inputs { round_bits(value(i, first + c)) } else { 0 };
                            *word = at(2 * i) | at(2 * i + 1) << 16;
                        }
                    }
                }
                Format::Int8 => {
                    for (block, scales) in scales.iter_mut().enumerate() {
                        let range = block * BLOCK..((block + 1) * BLOCK).min(inputs);
                        for (c, scale) in scales[..used].iter_mut().enumerate() {
                            let at = |i| value(i, first + c);
                            let largest = range.clone().map(|i| at(i).abs()).fold(0.0, f32::max);
                            *scale = largest / 127.0;
                            let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
                            for i in range.clone() {
                                let byte = (at(i) * inverse).round() as i8;
                                lines[i / 4].0[c] |= u32::from(byte.cast_unsigned()) << int8::byte(i);
                            }
                        }
                    }
                }
                Format::Q8_0 | Format::Q8_1 | Format::Q4_0 | Format::Q4_1 => {}
            }
        });
        Self { format, inputs, outputs, lines, scales, halves: Vec::new() }
    }

    /// Packs columns of blocks: some of the inputs of each of `columns`, which hold a GGUF file's bytes of whole rows.
    /// The format is that of the kind.
    ///
    /// # Panics
    /// When the range is not made of whole blocks of 32, or a column does not hold it.
    #[must_use]
    pub fn from_blocks(kind: BlockKind, inputs: std::ops::Range<usize>, columns: &[&[u8]]) -> Self {
        assert!(
            inputs.start.is_multiple_of(QUANT) && inputs.len().is_multiple_of(QUANT),
            "inputs {inputs:?} are no whole blocks"
        );
        let bytes = inputs.end.div_ceil(kind.values()) * kind.bytes();
        assert!(columns.iter().all(|c| c.len() >= bytes), "columns that are too short");
        let first = inputs.start / QUANT;
        Self::quantised(kind.format(), inputs.len(), columns.len(), |block, o| {
            Quantised::read(kind, columns[o], first + block)
        })
    }

    fn quantised(
        format: Format,
        inputs: usize,
        outputs: usize,
        block_of: impl Fn(usize, usize) -> Quantised + Sync,
    ) -> Self {
        let Some(words) = format.words() else { unreachable!("only called for formats of blocks") };
        let (steps, blocks, panels) = (format.steps(inputs), inputs.div_ceil(QUANT), outputs.div_ceil(PANEL));
        let mut lines = vec![Line([0; PANEL]); panels * steps];
        let mut halves = vec![[0u16; PANEL]; panels * blocks * words.scales()];
        let (shared, shared_halves) = (SharedMut::new(&mut lines), SharedMut::new(&mut halves));
        let half = |x: f32| half::f16::from_f32(x).to_bits();
        parallel(panels, |panel| {
            let a_panel = blocks * words.scales();
            // SAFETY: one panel, one task.
            let (lines, halves) = unsafe {
                (shared.slice(panel * steps, steps), shared_halves.slice(panel * a_panel, a_panel))
            };
            let first = panel * PANEL;
            for (c, output) in (first..outputs.min(first + PANEL)).enumerate() {
                for (block, halves) in halves.chunks_exact_mut(words.scales()).enumerate() {
                    let found = block_of(block, output);
                    for (half_of, value) in halves.iter_mut().zip([found.scale, found.least]) {
                        half_of[c] = half(value);
                    }
                    for (i, number) in found.numbers.into_iter().enumerate() {
                        let (step, shift) = place(format, block * QUANT + i);
                        lines[step].0[c] |= u32::from(number) << shift;
                    }
                }
            }
        });
        Self { format, inputs, outputs, lines, scales: Vec::new(), halves }
    }

    /// Packs a row-major `[in, out]`.
    ///
    /// # Panics
    /// When `values` has another length.
    #[must_use]
    pub fn from_rows(format: Format, inputs: usize, outputs: usize, values: &[f32]) -> Self {
        assert_eq!(values.len(), inputs * outputs, "values of a matrix of {inputs} by {outputs}");
        Self::new(format, inputs, outputs, |i, o| values[i * outputs + o])
    }

    /// Packs a row-major `[out, in]`.
    ///
    /// # Panics
    /// When `values` has another length.
    #[must_use]
    pub fn from_columns(format: Format, inputs: usize, outputs: usize, values: &[f32]) -> Self {
        assert_eq!(values.len(), inputs * outputs, "values of a matrix of {outputs} by {inputs}");
        Self::new(format, inputs, outputs, |i, o| values[o * inputs + i])
    }

    fn blocks(format: Format, inputs: usize) -> usize {
        if format == Format::Int8 { inputs.div_ceil(BLOCK) } else { 0 }
    }

    fn steps(&self) -> usize {
        self.format.steps(self.inputs)
    }

    /// How its weights are stored.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Rows of the matrix.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Columns of the matrix.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Groups of [`PANEL`] columns.
    #[must_use]
    pub fn panels(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    /// Bytes that a product reads.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(self.lines.as_slice())
            + size_of_val(self.scales.as_slice())
            + size_of_val(self.halves.as_slice())
    }

    /// Reads all of it and does nothing else: what a product would cost if arithmetic were free.
    #[must_use]
    pub fn read(&self, level: Level) -> u32 {
        read_lines(level, &self.lines)
    }

    /// The value for an input and an output, as it is stored.
    #[must_use]
    pub fn value(&self, input: usize, output: usize) -> f32 {
        let (panel, column) = (output / PANEL, output % PANEL);
        let (step, shift) = place(self.format, input);
        let word = self.lines[panel * self.steps() + step].0[column];
        match self.format {
            Format::F32 => f32::from_bits(word),
            Format::Bf16 => f32::from_bits(word >> shift << 16),
            Format::Int8 => {
                let scale =
                    self.scales[panel * Self::blocks(self.format, self.inputs) + input / BLOCK][column];
                f32::from((word >> shift) as u8 as i8) * scale
            }
            Format::Q8_0 | Format::Q8_1 | Format::Q4_0 | Format::Q4_1 => {
                let number = (word >> shift & self.format.mask()).cast_signed() - self.format.zero();
                let (scale, least) = self.block_scales(panel, input / QUANT);
                number as f32 * widen(scale[column]) + least.map_or(0.0, |l| widen(l[column]))
            }
        }
    }

    /// Scales and, where there are any, least values of a block, of each column of a panel.
    fn block_scales(&self, panel: usize, block: usize) -> (&[u16; PANEL], Option<&[u16; PANEL]>) {
        let (blocks, least) = (self.inputs.div_ceil(QUANT), self.format.words().is_some_and(|w| w.least));
        let at = (panel * blocks + block) * if least { 2 } else { 1 };
        (&self.halves[at], least.then(|| &self.halves[at + 1]))
    }

    /// Adds the products of some rows, from an input of their own on, with a panel of blocks.
    fn add_blocks(
        &self,
        level: Level,
        x: &Activations,
        [row, from]: [usize; 2],
        panel: usize,
        sums: &mut [[f32; PANEL]],
    ) {
        let Some(words) = self.format.words() else { unreachable!("only called for formats of blocks") };
        let (steps, blocks) = (self.steps(), self.inputs.div_ceil(QUANT));
        let a_panel = blocks * words.scales();
        let rows = x.quant_rows(row, from);
        let lines = &self.lines[panel * steps..][..steps];
        quant::dot(level, words, lines, &self.halves[panel * a_panel..][..a_panel], rows, sums);
    }

    /// Columns of one panel for all rows of `x`: `out[row · stride + column]`, `column` from the panel's first.
    /// The epilogue's slices are those of the whole product.
    ///
    /// # Panics
    /// When `x` was made for another number of inputs.
    #[allow(clippy::too_many_arguments)]
    fn panel(
        &self,
        level: Level,
        x: &Activations,
        panel: usize,
        epilogue: &Epilogue<'_>,
        mut store: impl FnMut(usize, &[f32]),
    ) {
        assert_eq!(x.inputs, self.inputs, "activations for another matrix");
        let steps = self.steps();
        let lines = &self.lines[panel * steps..][..steps];
        let mut sums = [[0.0; PANEL]; ROWS];
        let first = panel * PANEL;
        let used = PANEL.min(self.outputs - first);
        for row in (0..x.rows).step_by(ROWS) {
            let rows = ROWS.min(x.rows - row);
            let sums = &mut sums[..rows];
            match self.format {
                Format::F32 | Format::Bf16 => {
                    dot(
                        level,
                        self.format == Format::Bf16,
                        lines,
                        &x.values[row * x.stride..],
                        x.stride,
                        sums,
                    );
                }
                Format::Int8 => {
                    let blocks = Self::blocks(self.format, self.inputs);
                    let scales = &self.scales[panel * blocks..][..blocks];
                    let (whole, whole_scales) = (&x.whole[row * x.stride..], &x.scales[row * blocks..]);
                    int8::dot(level, lines, scales, whole, x.stride, whole_scales, sums);
                }
                Format::Q8_0 | Format::Q8_1 | Format::Q4_0 | Format::Q4_1 => {
                    sums.fill([0.0; PANEL]);
                    self.add_blocks(level, x, [row, 0], panel, sums);
                }
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let sums = &mut sums[..used];
                let residual = epilogue.residual.map(|y| &y[(row + r) * self.outputs + first..][..used]);
                finish(
                    level,
                    sums,
                    epilogue.bias.map(|b| &b[first..][..used]),
                    epilogue.activation,
                    residual,
                );
                store(row + r, sums);
            }
        }
    }

    /// The product on the calling thread, for use inside of a task: `out` is `[rows, out]`.
    ///
    /// # Panics
    /// When lengths do not fit.
    pub fn multiply(&self, level: Level, x: &Activations, epilogue: &Epilogue<'_>, out: &mut [f32]) {
        self.multiply_panels(level, x, 0..self.panels(), epilogue, &SharedMut::new(out));
    }

    /// [`multiply`](Self::multiply) with a row of results each `stride` values, so that several matrices write beside
    /// each other.
    ///
    /// # Panics
    /// When lengths do not fit.
    pub fn multiply_strided(
        &self,
        level: Level,
        x: &Activations,
        epilogue: &Epilogue<'_>,
        out: &mut [f32],
        stride: usize,
    ) {
        for panel in 0..self.panels() {
            self.panel(level, x, panel, epilogue, |row, values| {
                out[row * stride + panel * PANEL..][..values.len()].copy_from_slice(values);
            });
        }
    }

    /// All values of an output, one for each input, as they are stored: an entry of a table that is packed as an
    /// output layer.
    ///
    /// # Panics
    /// When there is no such output, or `out` is not as long as there are inputs.
    pub fn column(&self, output: usize, out: &mut [f32]) {
        assert!(output < self.outputs && out.len() == self.inputs, "column {output} of {}", self.outputs);
        let (panel, column, steps) = (output / PANEL, output % PANEL, self.steps());
        let lines = &self.lines[panel * steps..][..steps];
        match self.format {
            Format::F32 => {
                for (out, line) in out.iter_mut().zip(lines) {
                    *out = f32::from_bits(line.0[column]);
                }
            }
            Format::Bf16 => {
                for (out, line) in out.chunks_mut(2).zip(lines) {
                    let word = line.0[column];
                    for (out, bits) in out.iter_mut().zip([word << 16, word & 0xffff_0000]) {
                        *out = f32::from_bits(bits);
                    }
                }
            }
            _ => {
                for (input, out) in out.iter_mut().enumerate() {
                    *out = self.value(input, output);
                }
            }
        }
    }

    /// Some panels of the product, on the calling thread: their columns of `out`, `[rows, out]`, are written.
    ///
    /// # Panics
    /// When lengths do not fit.
    pub fn multiply_panels(
        &self,
        level: Level,
        x: &Activations,
        panels: std::ops::Range<usize>,
        epilogue: &Epilogue<'_>,
        out: &SharedMut<'_, f32>,
    ) {
        for panel in panels {
            self.panel(level, x, panel, epilogue, |row, values| {
                // SAFETY: tasks take different panels, so that these parts do not overlap.
                let out = unsafe { out.slice(row * self.outputs + panel * PANEL, values.len()) };
                out.copy_from_slice(values);
            });
        }
    }
}

/// The step of an input in its column, and the lowest bit of its number there.
#[inline(always)]
fn place(format: Format, input: usize) -> (usize, u32) {
    match format {
        Format::F32 => (input, 0),
        Format::Bf16 => (input / 2, 16 * (input % 2) as u32),
        Format::Int8 => (input / 4, int8::byte(input)),
        Format::Q8_0 | Format::Q8_1 => (input / 4, 8 * (input % 4) as u32),
        Format::Q4_0 | Format::Q4_1 => (input / 8, 8 * (input % 4) as u32 + (input % 8) as u32 / 4 * 4),
    }
}

/// `activation(x · weight + bias) + residual` for a few rows, on all threads.
///
/// # Shapes
/// - `x`: `[rows, in]`, prepared for the weight's format
/// - `out`: `[rows, out]`
pub fn forward(
    level: Level,
    weight: &PackedWeight,
    x: &Activations,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let panels = weight.panels();
    // Tasks of about 64 KiB at least.
    let group = ((1 << 16) / (weight.steps() * size_of::<Line>()).max(1)).max(1);
    let shared = SharedMut::new(out);
    parallel(panels.div_ceil(group), |task| {
        let range = task * group..((task + 1) * group).min(panels);
        weight.multiply_panels(level, x, range, epilogue, &shared);
    });
}

multiversion! {
    fn finish(
        y: &mut [f32],
        bias: Option<&[f32]>,
        activation: Activation,
        residual: Option<&[f32]>,
    ) {
        if let Some(bias) = bias {
            for (y, b) in y.iter_mut().zip(bias) {
                *y += b;
            }
        }
        for_each_activation!(activation, |a| for y in y.iter_mut() {
            *y = a.value::<FMA>(*y);
        });
        if let Some(residual) = residual {
            for (y, r) in y.iter_mut().zip(residual) {
                *y += r;
            }
        }
    }

    fn read_lines(lines: &[Line]) -> u32 {
        let mut sums = [[0u32; PANEL]; 2];
        let mut pairs = lines.chunks_exact(2);
        for pair in pairs.by_ref() {
            for (sum, line) in sums.iter_mut().zip(pair) {
                for (s, w) in sum.iter_mut().zip(&line.0) {
                    *s ^= w;
                }
            }
        }
        for line in pairs.remainder() {
            for (s, w) in sums[0].iter_mut().zip(&line.0) {
                *s ^= w;
            }
        }
        sums.iter().flatten().fold(0, |a, b| a ^ b)
    }
}

#[cfg(test)]
mod tests;
