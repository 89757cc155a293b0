//! Packed matrices that are one, for many rows.

use super::super::gemm::Source;
use super::quant::widen;
use super::*;

/// Matrices that are one: beside each other (columns of one follow those of the one before), or over each other
/// (inputs do). As the second factor of [`gemm`](super::gemm::gemm), for many rows.
#[derive(Debug, Clone)]
pub struct Joined<'a> {
    pub(super) parts: Vec<&'a PackedWeight>,
    pub(super) beside: bool,
}

impl<'a> Joined<'a> {
    /// All with the same inputs.
    #[must_use]
    pub fn beside(parts: Vec<&'a PackedWeight>) -> Self {
        Self { parts, beside: true }
    }

    /// All with the same outputs.
    #[must_use]
    pub fn over(parts: Vec<&'a PackedWeight>) -> Self {
        Self { parts, beside: false }
    }
}

/// What a task of a product with many rows multiplies.
struct Column<'a> {
    /// Matrices with their first input.
    parts: Vec<(&'a PackedWeight, usize)>,
    panel: usize,
    /// The panel's first column in the product.
    first: usize,
}

/// Rows that a task of a product with many takes.
const MANY: usize = 64;

impl Joined<'_> {
    /// `activation(x · weight + bias) + residual` for many rows, on all threads, where all matrices are in formats of
    /// blocks: sums are those of [`forward`], in the same order where the matrices are beside each other.
    ///
    /// # Shapes
    /// - `x`: `[rows, in]`, prepared for such a format and, by [`Activations::set_blocks`], for [`Joined::parts`]
    /// - `out`: `[rows, out]`
    ///
    /// # Panics
    /// When a matrix is in another format, or lengths do not fit.
    pub fn forward_blocks(&self, level: Level, x: &Activations, epilogue: &Epilogue<'_>, out: &mut [f32]) {
        let mut panels: Vec<Column<'_>> = Vec::new();
        let (mut inputs, mut outputs) = (0, 0);
        if self.beside {
            for part in &self.parts {
                panels.extend((0..part.panels()).map(|panel| Column {
                    parts: vec![(*part, 0)],
                    panel,
                    first: outputs + panel * PANEL,
                }));
                (inputs, outputs) = (part.inputs, outputs + part.outputs);
            }
        } else if let Some(first) = self.parts.first() {
            let mut parts = Vec::new();
            for part in &self.parts {
                parts.push((*part, inputs));
                inputs += part.inputs.next_multiple_of(QUANT);
            }
            outputs = first.outputs;
            panels.extend((0..first.panels()).map(|panel| Column {
                parts: parts.clone(),
                panel,
                first: panel * PANEL,
            }));
        }
        assert!(
            x.stride == inputs.next_multiple_of(QUANT) && out.len() == x.rows * outputs,
            "activations for another matrix"
        );
        let chunks = x.rows.div_ceil(MANY);
        let shared = SharedMut::new(out);
        parallel(panels.len() * chunks, |task| {
            let Column { parts, panel, first: column } = &panels[task / chunks];
            let used = PANEL.min(parts[0].0.outputs - panel * PANEL);
            let from = task % chunks * MANY;
            for row in (from..(from + MANY).min(x.rows)).step_by(ROWS) {
                let mut sums = [[0.0; PANEL]; ROWS];
                let sums = &mut sums[..ROWS.min(x.rows - row)];
                for (part, input) in parts {
                    part.add_blocks(level, x, [row, *input], *panel, sums);
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let at = (row + r) * outputs + column;
                    let bias = epilogue.bias.map(|b| &b[*column..][..used]);
                    let residual = epilogue.residual.map(|y| &y[at..][..used]);
                    finish(level, &mut sums[..used], bias, epilogue.activation, residual);
                    // SAFETY: tasks take different panels or rows, so that these parts do not overlap.
                    unsafe { shared.slice(at, used) }.copy_from_slice(&sums[..used]);
                }
            }
        });
    }
}

impl Joined<'_> {
    /// Inputs of matrices over each other, or all inputs.
    #[must_use]
    pub fn parts(&self) -> Vec<usize> {
        let some = if self.beside { 1 } else { self.parts.len() };
        self.parts.iter().take(some).map(|p| p.inputs).collect()
    }
}

impl Source for Joined<'_> {
    fn pack(
        &self,
        level: Level,
        lane: usize,
        lanes: usize,
        width: usize,
        from: usize,
        height: usize,
        out: &mut [f32],
    ) {
        if lanes < width {
            for out in out.chunks_exact_mut(width).take(height) {
                out[lanes..].fill(0.0);
            }
        }
        let mut start = 0;
        for part in &self.parts {
            let (size, wanted, count) =
                if self.beside { (part.outputs, lane, lanes) } else { (part.inputs, from, height) };
            let (low, high) = (wanted.max(start), (wanted + count).min(start + size));
            if low < high {
                let n = high - low;
                if self.beside {
                    unpack(level, part, low - start, n, from, height, out, width, low - lane);
                } else {
                    let out = &mut out[(low - from) * width..];
                    unpack(level, part, lane, lanes, low - start, n, out, width, 0);
                }
            }
            start += size;
        }
    }
}

multiversion! {
    /// Values `from..from + height` of columns `column..column + count` to `out[height][width]`, from column `at` on.
    fn unpack(
        weight: &PackedWeight,
        column: usize,
        count: usize,
        from: usize,
        height: usize,
        out: &mut [f32],
        width: usize,
        at: usize,
    ) {
        let (steps, blocks) = (weight.steps(), PackedWeight::blocks(weight.format, weight.inputs));
        let mut done = 0;
        while done < count {
            let (panel, first) = ((column + done) / PANEL, (column + done) % PANEL);
            let n = (PANEL - first).min(count - done);
            for i in 0..height {
                let input = from + i;
                let out = &mut out[i * width + at + done..][..n];
                let line = |a_word: usize| &weight.lines[panel * steps + input / a_word].0[first..][..n];
                match weight.format {
                    Format::F32 => {
                        for (o, w) in out.iter_mut().zip(line(1)) {
                            *o = f32::from_bits(*w);
                        }
                    }
                    Format::Bf16 => {
                        let shift = 16 * (input % 2) as u32;
                        for (o, w) in out.iter_mut().zip(line(2)) {
                            *o = f32::from_bits(*w >> shift << 16);
                        }
                    }
                    Format::Int8 => {
                        let shift = int8::byte(input);
                        let scales = &weight.scales[panel * blocks + input / BLOCK][first..][..n];
                        for ((o, w), s) in out.iter_mut().zip(line(4)).zip(scales) {
                            *o = ((*w >> shift << 24).cast_signed() >> 24) as f32 * s;
                        }
                    }
                    Format::Q8_0 | Format::Q8_1 | Format::Q4_0 | Format::Q4_1 => {
                        let (_, shift) = place(weight.format, input);
                        let (mask, zero) = (weight.format.mask(), weight.format.zero());
                        let (scales, least) = weight.block_scales(panel, input / QUANT);
                        let words = line(weight.format.inputs_a_word());
                        for ((o, w), s) in out.iter_mut().zip(words).zip(&scales[first..][..n]) {
                            *o = ((*w >> shift & mask).cast_signed() - zero) as f32 * widen(*s);
                        }
                        if let Some(least) = least {
                            for (o, l) in out.iter_mut().zip(&least[first..][..n]) {
                                *o += widen(*l);
                            }
                        }
                    }
                }
            }
            done += n;
        }
    }
}
