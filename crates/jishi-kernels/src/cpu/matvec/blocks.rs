//! Weights in blocks of 32 inputs as GGUF files have them: whole numbers with a 16-bit scale, and a least value in
//! some kinds. The layouts are those of llama.cpp's `ggml-quants`.

use half::f16;

use super::Format;

/// Inputs of a block.
pub const QUANT: usize = 32;

/// A kind of block of a GGUF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockKind {
    /// 32 values of 4 bits and a scale.
    Q4_0,
    /// 32 values of 4 bits, a scale and a least value.
    Q4_1,
    /// 32 values of 5 bits and a scale.
    Q5_0,
    /// 32 values of 5 bits, a scale and a least value.
    Q5_1,
    /// 32 values of 8 bits and a scale.
    Q8_0,
    /// 8 times 32 values of 4 bits, whose scales and least values are numbers of 6 bits.
    Q4K,
    /// As `Q4K` with 5 bits.
    Q5K,
    /// 16 times 16 values of 6 bits, whose scales are numbers of 8 bits.
    Q6K,
}

impl BlockKind {
    /// Values of a block.
    #[must_use]
    pub fn values(self) -> usize {
        match self {
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
            _ => 32,
        }
    }

    /// Bytes of a block.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// How its values are packed. All but two keep their whole numbers, and of those with scales of scales (`Q4K`,
    /// `Q5K`) the products are rounded to 16 bits, to 2⁻¹¹ of themselves; `Q6K` is rounded to `Q8_0`.
    #[must_use]
    pub fn format(self) -> Format {
        match self {
            Self::Q4_0 => Format::Q4_0,
            Self::Q4_1 | Self::Q4K => Format::Q4_1,
            Self::Q5_0 | Self::Q8_0 | Self::Q6K => Format::Q8_0,
            Self::Q5_1 | Self::Q5K => Format::Q8_1,
        }
    }
}

/// 32 weights: `scale · (number − zero) + least`, where the format gives the zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantised {
    pub numbers: [u8; QUANT],
    pub scale: f32,
    pub least: f32,
}

impl Quantised {
    /// The `index`-th 32 values of a row of blocks, as numbers of [`BlockKind::format`]. Scales are not yet rounded.
    pub fn read(kind: BlockKind, row: &[u8], index: usize) -> Self {
        let (a_block, part) = (kind.values() / QUANT, index % (kind.values() / QUANT));
        let block = &row[index / a_block * kind.bytes()..][..kind.bytes()];
        let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
        // Value `i` of 4 bits, of bytes whose high halves follow their low ones.
        let nibble = |from: usize, i: usize| block[from + i % 16] >> (4 * (i / 16)) & 15;
        let bit = |from: usize, i: usize| block[from + i / 8] >> (i % 8) & 1;
        let numbers = |f: &dyn Fn(usize) -> u8| std::array::from_fn(f);
        match kind {
            BlockKind::Q4_0 => Self { numbers: numbers(&|i| nibble(2, i)), scale: half(0), least: 0.0 },
            BlockKind::Q4_1 => Self { numbers: numbers(&|i| nibble(4, i)), scale: half(0), least: half(2) },
            BlockKind::Q5_0 => {
                // 16 below, as the zero of 8 bits is 128 above.
                let number = |i| (nibble(6, i) | bit(2, i) << 4) + (128 - 16);
                Self { numbers: numbers(&number), scale: half(0), least: 0.0 }
            }
            BlockKind::Q5_1 => {
                let number = |i| nibble(8, i) | bit(4, i) << 4;
                Self { numbers: numbers(&number), scale: half(0), least: half(2) }
            }
            BlockKind::Q8_0 => Self { numbers: numbers(&|i| block[2 + i] ^ 128), scale: half(0), least: 0.0 },
            BlockKind::Q4K | BlockKind::Q5K => {
                let six = &block[4..16];
                let (scale, least) = if part < 4 {
                    (six[part] & 63, six[part + 4] & 63)
                } else {
                    let low = six[part + 4];
                    (low & 15 | six[part - 4] >> 6 << 4, low >> 4 | six[part] >> 6 << 4)
                };
                let low = if kind == BlockKind::Q4K { 16 } else { 48 };
                let number = |i: usize| {
                    let nibble = block[low + part / 2 * 32 + i] >> (4 * (part % 2)) & 15;
                    let fifth = if kind == BlockKind::Q5K { block[16 + i] >> part & 1 } else { 0 };
                    nibble | fifth << 4
                };
                let (scale, least) = (half(0) * f32::from(scale), -half(2) * f32::from(least));
                Self { numbers: numbers(&number), scale, least }
            }
            BlockKind::Q6K => {
                let (values, scale) = six_bits(block, part, half(208));
                Self::of(Format::Q8_0, |i| scale[i / 16] * values[i])
            }
        }
    }

    /// Rounds values to numbers of a format.
    pub fn of(format: Format, value: impl Fn(usize) -> f32) -> Self {
        let values: [f32; QUANT] = std::array::from_fn(value);
        let (low, high) = values.iter().fold((0.0f32, 0.0f32), |(l, h), v| (l.min(*v), h.max(*v)));
        let largest = high.max(-low);
        let (scale, least, zero, most) = match format {
            Format::Q8_0 => (largest / 127.0, 0.0, 128.0, 255.0),
            // One number more lies below the zero than above.
            Format::Q4_0 => (if high > -low { high / -8.0 } else { low / -8.0 }, 0.0, 8.0, 15.0),
            Format::Q4_1 => ((high - low) / 15.0, low, 0.0, 15.0),
            _ => ((high - low) / 255.0, low, 0.0, 255.0),
        };
        let round = |x: f32| f16::from_f32(x).to_f32();
        let (scale, least) = (round(scale), round(least));
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        let numbers = values.map(|v| ((v - least) * inverse + zero).round().clamp(0.0, most) as u8);
        Self { numbers, scale, least }
    }
}

/// Values of a part of a `Q6K` block, and the scales of its halves.
fn six_bits(block: &[u8], part: usize, scale: f32) -> ([f32; QUANT], [f32; 2]) {
    let (half, quarter) = (part / 4, part % 4);
    let low = &block[64 * half + 32 * (quarter % 2)..][..32];
    let high = &block[128 + 32 * half..][..32];
    let value = |i: usize| {
        let number = low[i] >> (4 * (quarter / 2)) & 15 | (high[i] >> (2 * quarter) & 3) << 4;
        f32::from(number) - 32.0
    };
    let scales = [0, 1].map(|h| scale * f32::from(block[192 + 8 * half + 2 * quarter + h].cast_signed()));
    (std::array::from_fn(value), scales)
}

/// The values of a row of blocks.
///
/// # Panics
/// When the row is not made of whole blocks, or `out` has another length.
pub fn unpack_blocks(kind: BlockKind, row: &[u8], out: &mut [f32]) {
    assert!(
        row.len().is_multiple_of(kind.bytes()) && row.len() / kind.bytes() * kind.values() == out.len(),
        "{} bytes are no {} values of {kind:?}",
        row.len(),
        out.len()
    );
    for (index, out) in out.chunks_exact_mut(QUANT).enumerate() {
        if kind == BlockKind::Q6K {
            let block = &row[index / 8 * kind.bytes()..][..kind.bytes()];
            let scale = f16::from_le_bytes([block[208], block[209]]).to_f32();
            let (values, scales) = six_bits(block, index % 8, scale);
            for (i, (out, v)) in out.iter_mut().zip(values).enumerate() {
                *out = scales[i / 16] * v;
            }
        } else {
            let block = Quantised::read(kind, row, index);
            let zero = kind.format().zero();
            for (out, n) in out.iter_mut().zip(block.numbers) {
                *out = (i32::from(n) - zero) as f32 * block.scale + block.least;
            }
        }
    }
}
