//! Blocks of quantised numbers, bit for bit as GGML reads and writes them.
//!
//! A block holds 32 or 256 values as small integers, with one or two half-precision scales. Layouts:
//! <https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h>.

use half::{bf16, f16};

use crate::dtype::Dtype;

/// Reads `bytes`, whole blocks of type `dtype`, as `f32`. Trailing bytes of a block that is cut off are ignored.
#[must_use]
pub fn to_f32(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    let blocks = bytes.len() / dtype.block_bytes();
    let mut out = vec![0.0; blocks * dtype.block()];
    match dtype {
        Dtype::F64 => plain(bytes, &mut out, |x| f64::from_le_bytes(x) as f32),
        Dtype::F32 => plain(bytes, &mut out, f32::from_le_bytes),
        Dtype::F16 => plain(bytes, &mut out, |x| f16::from_le_bytes(x).to_f32()),
        Dtype::BF16 => plain(bytes, &mut out, |x| bf16::from_le_bytes(x).to_f32()),
        Dtype::I64 => plain(bytes, &mut out, |x| i64::from_le_bytes(x) as f32),
        Dtype::I32 => plain(bytes, &mut out, |x| i32::from_le_bytes(x) as f32),
        Dtype::I16 => plain(bytes, &mut out, |x| f32::from(i16::from_le_bytes(x))),
        Dtype::I8 => plain(bytes, &mut out, |x| f32::from(i8::from_le_bytes(x))),
        Dtype::U8 | Dtype::Bool => plain(bytes, &mut out, |x: [u8; 1]| f32::from(x[0])),
        Dtype::Q4_0 => blocks_of(bytes, &mut out, q4_0),
        Dtype::Q4_1 => blocks_of(bytes, &mut out, q4_1),
        Dtype::Q5_0 => blocks_of(bytes, &mut out, q5_0),
        Dtype::Q5_1 => blocks_of(bytes, &mut out, q5_1),
        Dtype::Q8_0 => blocks_of(bytes, &mut out, q8_0),
        Dtype::Q4_K => blocks_of(bytes, &mut out, q4_k),
        Dtype::Q5_K => blocks_of(bytes, &mut out, q5_k),
        Dtype::Q6_K => blocks_of(bytes, &mut out, q6_k),
    }
    out
}

/// Quantises to [`Dtype::Q8_0`]. Values past the last whole block of 32 are left out.
#[must_use]
pub fn to_q8_0(values: &[f32]) -> Vec<u8> {
    let (blocks, _) = values.as_chunks::<32>();
    let mut out = Vec::with_capacity(blocks.len() * 34);
    for block in blocks {
        let scale = block.iter().fold(0f32, |m, x| m.max(x.abs())) / 127.0;
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        out.extend_from_slice(&f16::from_f32(scale).to_le_bytes());
        // `round` is away from zero at halves, as in the reference.
        out.extend(block.iter().map(|x| ((x * inverse).round() as i8) as u8));
    }
    out
}

fn plain<const N: usize>(bytes: &[u8], out: &mut [f32], read: impl Fn([u8; N]) -> f32) {
    let (values, _) = bytes.as_chunks::<N>();
    for (value, out) in values.iter().zip(out) {
        *out = read(*value);
    }
}

fn blocks_of<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    out: &mut [f32],
    read: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let (outs, _) = out.as_chunks_mut::<VALUES>();
    for (block, out) in blocks.iter().zip(outs) {
        read(block, out);
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Low halves of 16 bytes, then their high halves.
fn nibbles(bytes: &[u8], i: usize) -> u8 {
    if i < 16 { bytes[i] & 0xf } else { bytes[i - 16] >> 4 }
}

/// Bit `i` of four bytes, as the fifth bit of a value.
fn fifth(bytes: &[u8], i: usize) -> u8 {
    (bytes[i / 8] >> (i % 8) & 1) << 4
}

fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (i, out) in out.iter_mut().enumerate() {
        *out = d * f32::from(nibbles(&block[2..], i) as i8 - 8);
    }
}

fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for (i, out) in out.iter_mut().enumerate() {
        *out = d * f32::from(nibbles(&block[4..], i)) + m;
    }
}

fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (i, out) in out.iter_mut().enumerate() {
        *out = d * f32::from((nibbles(&block[6..], i) | fifth(&block[2..], i)) as i8 - 16);
    }
}

fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for (i, out) in out.iter_mut().enumerate() {
        *out = d * f32::from(nibbles(&block[8..], i) | fifth(&block[4..], i)) + m;
    }
}

fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (q, out) in block[2..].iter().zip(out) {
        *out = f32::from(*q as i8) * d;
    }
}

/// Scale and minimum of eight groups of 32 values, six bits each, in twelve bytes.
fn scale_min(packed: &[u8], group: usize) -> (f32, f32) {
    let (scale, min) = if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let low = packed[group + 4];
        (low & 0xf | packed[group - 4] >> 6 << 4, low >> 4 | packed[group] >> 6 << 4)
    };
    (f32::from(scale), f32::from(min))
}

fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, min) = (half_at(block, 0), half_at(block, 2));
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, least) = scale_min(&block[4..16], group);
        let (scale, least) = (d * scale, min * least);
        let quants = &block[16 + group / 2 * 32..];
        for (out, q) in out.iter_mut().zip(quants) {
            *out = scale * f32::from(q >> (group % 2 * 4) & 0xf) - least;
        }
    }
}

fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, min) = (half_at(block, 0), half_at(block, 2));
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, least) = scale_min(&block[4..16], group);
        let (scale, least) = (d * scale, min * least);
        let quants = &block[48 + group / 2 * 32..];
        for ((out, q), high) in out.iter_mut().zip(quants).zip(&block[16..48]) {
            let q = q >> (group % 2 * 4) & 0xf | (high >> group & 1) << 4;
            *out = scale * f32::from(q) - least;
        }
    }
}

fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half_at(block, 208);
    for (i, out) in out.iter_mut().enumerate() {
        // Halves of 128 values; in each, 64 bytes of low bits serve twice and 32 bytes of high bits four times.
        let (half, within) = (i / 128, i % 128);
        let low = block[half * 64 + within % 64] >> (within / 64 * 4) & 0xf;
        let high = block[128 + half * 32 + within % 32] >> (within / 32 * 2) & 3;
        let scale = f32::from(block[192 + i / 16] as i8);
        *out = d * scale * f32::from((low | high << 4) as i8 - 32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random blocks and what the reference (`gguf.quants`) makes of them: `tests/fixtures/quants.py`.
    const FIXTURE: &[u8] = include_bytes!("../tests/fixtures/quants.bin");
    const KINDS: [Dtype; 9] = [
        Dtype::Q4_0,
        Dtype::Q4_1,
        Dtype::Q5_0,
        Dtype::Q5_1,
        Dtype::Q8_0,
        Dtype::Q4_K,
        Dtype::Q5_K,
        Dtype::Q6_K,
        Dtype::BF16,
    ];

    #[test]
    fn every_kind_is_read_bit_for_bit_as_by_the_reference() {
        let mut rest = FIXTURE;
        for kind in KINDS {
            let blocks = 512 / kind.block();
            let (bytes, after) = rest.split_at(blocks * kind.block_bytes());
            let (expected, after) = after.split_at(512 * 4);
            let expected = to_f32(Dtype::F32, expected);
            for (i, (a, b)) in to_f32(kind, bytes).iter().zip(&expected).enumerate() {
                assert_eq!(a.to_bits(), b.to_bits(), "{kind:?} value {i}: {a} and {b}");
            }
            rest = after;
        }
        let (values, theirs) = rest.split_at(512 * 4);
        assert_eq!(to_q8_0(&to_f32(Dtype::F32, values)), theirs);
    }

    #[test]
    fn q8_0_is_close_to_what_it_was() {
        let values: Vec<f32> = (0..64).map(|i| (i as f32).sin() * if i < 32 { 1.0 } else { 0.0 }).collect();
        let back = to_f32(Dtype::Q8_0, &to_q8_0(&values));
        for (a, b) in values.iter().zip(back) {
            assert!((a - b).abs() <= 1.0 / 254.0 + 1e-3, "{a} {b}");
        }
    }
}
