use super::*;
use crate::cpu::gemm::{Precision, Store, Strided, gemm};

const FORMATS: [Format; 7] =
    [Format::F32, Format::Bf16, Format::Int8, Format::Q8_0, Format::Q8_1, Format::Q4_0, Format::Q4_1];

fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n)
        .map(|i| {
            let h = (i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed as u32 * 40_503);
            let h = (h ^ h >> 15).wrapping_mul(2_246_822_519);
            (h >> 8) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

/// Products with the weights as they are stored.
fn naive(weight: &PackedWeight, x: &[f32]) -> Vec<f64> {
    let stored: Vec<f32> = (0..weight.inputs() * weight.outputs())
        .map(|at| weight.value(at / weight.outputs(), at % weight.outputs()))
        .collect();
    let mut y = Vec::new();
    for x in x.chunks_exact(weight.inputs()) {
        for o in 0..weight.outputs() {
            let terms = x
                .iter()
                .enumerate()
                .map(|(i, x)| f64::from(*x) * f64::from(stored[i * weight.outputs() + o]));
            y.push(terms.sum());
        }
    }
    y
}

const SHAPES: [[usize; 3]; 10] = [
    [1, 1, 1],
    [1, 384, 192],
    [1, 129, 65],
    [2, 127, 64],
    [3, 130, 63],
    [4, 5, 200],
    [5, 258, 70],
    [8, 64, 64],
    [15, 33, 10],
    [16, 96, 130],
];

#[test]
fn products_are_right_at_every_level_and_in_every_format() {
    for [rows, inputs, outputs] in SHAPES {
        let (x, w) = (numbers(rows * inputs, 1), numbers(inputs * outputs, 2));
        let (bias, residual) = (numbers(outputs, 3), numbers(rows * outputs, 4));
        for format in FORMATS {
            let weight = PackedWeight::from_rows(format, inputs, outputs, &w);
            let expected = naive(&weight, &x);
            for level in Level::available() {
                let mut prepared = Activations::default();
                prepared.set(level, format, rows, &x);
                let mut y = vec![9.0; rows * outputs];
                forward(level, &weight, &prepared, &Epilogue::default(), &mut y);
                let rounding = match format {
                    Format::F32 | Format::Bf16 => 1e-6,
                    Format::Int8 => 1.0 / 65_534.0,
                    // Of each activation; the error of a sum of independent ones grows with its root.
                    _ => 1.0 / 254.0 / (inputs as f64).sqrt().max(4.0) * 4.0,
                };
                let slack = rounding * (inputs as f64 + 4.0);
                for (at, (y, e)) in y.iter().zip(&expected).enumerate() {
                    let what = format!("{rows}x{inputs}x{outputs} {format:?} {level:?} {at}");
                    assert!((f64::from(*y) - e).abs() < slack, "{what}: {y}, not {e}");
                }
                let epilogue =
                    Epilogue { bias: Some(&bias), activation: Activation::Silu, residual: Some(&residual) };
                forward(level, &weight, &prepared, &epilogue, &mut y);
                for (at, (y, e)) in y.iter().zip(&expected).enumerate() {
                    let z = e + f64::from(bias[at % outputs]);
                    let e = z / (1.0 + (-z).exp()) + f64::from(residual[at]);
                    assert!(
                        (f64::from(*y) - e).abs() < 2.0 * slack,
                        "{format:?} {level:?} {at}: {y}, not {e}"
                    );
                }
            }
        }
    }
}

#[test]
fn stored_weights_are_as_close_as_their_format_says() {
    let (inputs, outputs) = (300, 70);
    let w = numbers(inputs * outputs, 5);
    for format in FORMATS {
        let rows = PackedWeight::from_rows(format, inputs, outputs, &w);
        let columns = PackedWeight::new(format, inputs, outputs, |i, o| w[i * outputs + o]);
        for i in 0..inputs {
            for o in 0..outputs {
                let (exact, stored) = (w[i * outputs + o], rows.value(i, o));
                assert_eq!(stored, columns.value(i, o));
                let bound = match format {
                    Format::F32 => 0.0,
                    Format::Bf16 => exact.abs() / 256.0,
                    // The largest of a block is below 1.
                    Format::Int8 => 1.0 / 253.0,
                    // The scale is rounded too.
                    Format::Q8_0 | Format::Q8_1 => 1.0 / 253.0 + 1.0 / 1024.0,
                    Format::Q4_0 | Format::Q4_1 => 1.0 / 7.0,
                };
                assert!((exact - stored).abs() <= bound, "{format:?}: {exact} is {stored}");
            }
        }
    }
}

#[test]
fn whole_numbers_are_the_same_at_every_level() {
    let (inputs, outputs) = (200, 64);
    // Every block has the largest number, so that all scales are 1 and nothing is rounded.
    let w =
        |i: usize| if (i / outputs).is_multiple_of(64) { -127.0 } else { ((i * 37) % 255) as f32 - 127.0 };
    let w: Vec<f32> = (0..inputs * outputs).map(w).collect();
    let x: Vec<f32> = (0..inputs).map(|i| if i % 64 == 0 { 32_767.0 } else { (i % 77) as f32 }).collect();
    let weight = PackedWeight::from_rows(Format::Int8, inputs, outputs, &w);
    let expected = naive(&weight, &x);
    for level in Level::available() {
        let mut prepared = Activations::default();
        prepared.set(level, Format::Int8, 1, &x);
        let mut y = vec![0.0; outputs];
        forward(level, &weight, &prepared, &Epilogue::default(), &mut y);
        for (y, e) in y.iter().zip(&expected) {
            assert!((f64::from(*y) - e).abs() <= e.abs() * 1e-6 + 1e-3, "{level:?}: {y}, not {e}");
        }
    }
}

#[test]
fn zeros_and_nan_go_through() {
    for level in Level::available() {
        for format in FORMATS {
            let weight = PackedWeight::from_rows(format, 6, 3, &[0.0; 18]);
            let mut prepared = Activations::default();
            prepared.set(level, format, 1, &[0.0; 6]);
            let mut y = [1.0; 3];
            forward(level, &weight, &prepared, &Epilogue::default(), &mut y);
            assert_eq!(y, [0.0; 3]);
            prepared.set(level, format, 1, &[0.0, 1.0, f32::NAN, 0.0, 0.0, 0.0]);
            forward(level, &weight, &prepared, &Epilogue::default(), &mut y);
            assert!(y.iter().all(|y| y.is_nan()), "{format:?} {level:?}: {y:?}");
        }
    }
}

#[test]
fn joined_matrices_are_one_for_many_rows() {
    let (rows, inputs, widths) = (33, 70, [100, 64, 7]);
    let outputs: usize = widths.iter().sum();
    let (x, w) = (numbers(rows * inputs, 1), numbers(inputs * outputs, 2));
    for format in FORMATS {
        let mut start = 0;
        let beside: Vec<PackedWeight> = widths
            .iter()
            .map(|width| {
                let from = start;
                start += width;
                PackedWeight::new(format, inputs, *width, |i, o| w[i * outputs + from + o])
            })
            .collect();
        let heights = [30, 25, 15];
        let mut start = 0;
        let over: Vec<PackedWeight> = heights
            .iter()
            .map(|height| {
                let from = start;
                start += height;
                PackedWeight::new(format, *height, outputs, |i, o| w[(from + i) * outputs + o])
            })
            .collect();
        for level in Level::available() {
            for joined in [Joined::beside(beside.iter().collect()), Joined::over(over.iter().collect())] {
                let mut y = vec![0.0; rows * outputs];
                let a = Strided::rows(&x, inputs);
                gemm(
                    level,
                    Precision::F32,
                    [rows, outputs, inputs],
                    &a,
                    &joined,
                    &Store::new(&mut y, outputs),
                );
                let value = |i: usize, o: usize| {
                    let (parts, mut at) = (&joined.parts, if joined.beside { o } else { i });
                    for part in parts {
                        let size = if joined.beside { part.outputs() } else { part.inputs() };
                        if at < size {
                            return if joined.beside { part.value(i, at) } else { part.value(at, o) };
                        }
                        at -= size;
                    }
                    unreachable!("a place outside of the matrix")
                };
                for row in 0..rows {
                    for o in 0..outputs {
                        let e: f64 = (0..inputs)
                            .map(|i| f64::from(x[row * inputs + i]) * f64::from(value(i, o)))
                            .sum();
                        let found = f64::from(y[row * outputs + o]);
                        assert!((found - e).abs() < 1e-4, "{format:?} {level:?} {row} {o}: {found}, not {e}");
                    }
                }
            }
        }
    }
}

/// A GGUF file's bytes of `values` values whose scales are numbers of a sensible size.
fn raw(kind: BlockKind, values: usize, seed: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..values / kind.values() * kind.bytes())
        .map(|i| ((i + seed) as u32).wrapping_mul(2_654_435_761).rotate_left(11).to_le_bytes()[1])
        .collect();
    for block in bytes.chunks_exact_mut(kind.bytes()) {
        let places: &[usize] = match kind {
            BlockKind::Q4_0 | BlockKind::Q5_0 | BlockKind::Q8_0 => &[0],
            BlockKind::Q6K => &[208],
            _ => &[0, 2],
        };
        for at in places {
            // 2⁻⁹ to 2⁻⁸
            block[at + 1] = 0x18 | block[at + 1] & 3;
        }
    }
    bytes
}

const KINDS: [BlockKind; 8] = [
    BlockKind::Q4_0,
    BlockKind::Q4_1,
    BlockKind::Q5_0,
    BlockKind::Q5_1,
    BlockKind::Q8_0,
    BlockKind::Q4K,
    BlockKind::Q5K,
    BlockKind::Q6K,
];

#[test]
fn blocks_keep_their_values() {
    for kind in KINDS {
        let (inputs, outputs) = (512, 70);
        let columns: Vec<Vec<u8>> = (0..outputs).map(|o| raw(kind, inputs, 1000 * o)).collect();
        let columns: Vec<&[u8]> = columns.iter().map(Vec::as_slice).collect();
        for range in [0..inputs, 96..480] {
            let weight = PackedWeight::from_blocks(kind, range.clone(), &columns);
            assert_eq!((weight.format(), weight.inputs()), (kind.format(), range.len()));
            for (o, column) in columns.iter().enumerate() {
                let mut values = vec![0.0; inputs];
                unpack_blocks(kind, column, &mut values);
                let largest = values.iter().fold(0f32, |a, b| a.max(b.abs()));
                let bound = match kind {
                    BlockKind::Q4K | BlockKind::Q5K => 2f32.powi(-10),
                    BlockKind::Q6K => 1.0 / 200.0,
                    _ => 0.0,
                };
                for (i, exact) in range.clone().zip(&values[range.clone()]) {
                    let found = weight.value(i - range.start, o);
                    assert!((found - exact).abs() <= bound * largest, "{kind:?} {i}: {found}, not {exact}");
                }
            }
        }
    }
}

#[test]
fn products_with_blocks_are_those_of_rounded_rows() {
    // What the kernel computes, in `f64`: with rounded activations there is nothing left but the rounding of sums.
    for kind in KINDS {
        let (inputs, outputs, rows) = (512, 70, 7);
        let columns: Vec<Vec<u8>> = (0..outputs).map(|o| raw(kind, inputs, 1000 * o)).collect();
        let columns: Vec<&[u8]> = columns.iter().map(Vec::as_slice).collect();
        let weight = PackedWeight::from_blocks(kind, 0..inputs, &columns);
        let x = numbers(rows * inputs, 3);
        let rounded: Vec<f32> = x
            .chunks(QUANT)
            .flat_map(|x| {
                let scale = x.iter().fold(0f32, |a, b| a.max(b.abs())) / 127.0;
                x.iter().map(move |x| (x / scale).round_ties_even() * scale)
            })
            .collect();
        let expected = naive(&weight, &rounded);
        let largest = expected.iter().fold(0f64, |a, b| a.max(b.abs()));
        for level in Level::available() {
            let mut prepared = Activations::default();
            prepared.set(level, weight.format(), rows, &x);
            let mut y = vec![0.0; rows * outputs];
            forward(level, &weight, &prepared, &Epilogue::default(), &mut y);
            for (y, e) in y.iter().zip(&expected) {
                let error = (f64::from(*y) - e).abs() / largest;
                assert!(error < 1e-5, "{kind:?} {level:?}: {y}, not {e}");
            }
        }
    }
}

#[test]
fn rows_are_the_same_alone_and_together_where_sums_are_exact() {
    let (inputs, outputs, rows) = (160, 70, 7);
    let (w, x) = (numbers(inputs * outputs, 1), numbers(rows * inputs, 2));
    for format in [Format::Int8, Format::Q8_0, Format::Q8_1, Format::Q4_0, Format::Q4_1] {
        let weight = PackedWeight::from_rows(format, inputs, outputs, &w);
        for level in Level::available() {
            let mut prepared = Activations::default();
            prepared.set(level, format, rows, &x);
            let mut together = vec![0.0; rows * outputs];
            forward(level, &weight, &prepared, &Epilogue::default(), &mut together);
            for (x, together) in x.chunks_exact(inputs).zip(together.chunks_exact(outputs)) {
                prepared.set(level, format, 1, x);
                let mut alone = vec![0.0; outputs];
                forward(level, &weight, &prepared, &Epilogue::default(), &mut alone);
                assert_eq!(alone, together, "{format:?} {level:?}");
            }
        }
    }
}

#[test]
fn joined_blocks_are_multiplied_as_one_matrix() {
    let (inputs, outputs, rows) = (160, 150, 70);
    let (w, x) = (numbers(inputs * outputs, 1), numbers(rows * inputs, 2));
    let (bias, residual) = (numbers(outputs, 3), numbers(rows * outputs, 4));
    for format in [Format::Q8_0, Format::Q4_1] {
        let whole = PackedWeight::from_rows(format, inputs, outputs, &w);
        let part = |i0: usize, i1: usize, o0: usize, o1: usize| {
            PackedWeight::new(format, i1 - i0, o1 - o0, |i, o| w[(i0 + i) * outputs + o0 + o])
        };
        let beside = [part(0, inputs, 0, 100), part(0, inputs, 100, outputs)];
        let over = [part(0, 32, 0, outputs), part(32, 128, 0, outputs), part(128, inputs, 0, outputs)];
        let epilogue =
            Epilogue { bias: Some(&bias), activation: Activation::Silu, residual: Some(&residual) };
        for level in Level::available() {
            let mut prepared = Activations::default();
            prepared.set(level, format, rows, &x);
            let mut expected = vec![0.0; rows * outputs];
            forward(level, &whole, &prepared, &epilogue, &mut expected);
            for joined in [Joined::beside(beside.iter().collect()), Joined::over(over.iter().collect())] {
                let mut found = vec![0.0; rows * outputs];
                joined.forward_blocks(level, &prepared, &epilogue, &mut found);
                assert_eq!(found, expected, "{format:?} {level:?}");
            }
            // Parts that are no whole blocks: each rounds its inputs alone.
            let cut = [part(0, 50, 0, outputs), part(50, inputs, 0, outputs)];
            let joined = Joined::over(cut.iter().collect());
            prepared.set_blocks(level, rows, &x, &joined.parts());
            let mut found = vec![0.0; rows * outputs];
            joined.forward_blocks(level, &prepared, &Epilogue::default(), &mut found);
            let mut sum = vec![0.0; rows * outputs];
            for (weight, range) in cut.iter().zip([0..50, 50..inputs]) {
                let x: Vec<f32> = x.chunks_exact(inputs).flat_map(|x| x[range.clone()].to_vec()).collect();
                let mut alone = vec![0.0; rows * outputs];
                prepared.set(level, format, rows, &x);
                forward(level, weight, &prepared, &Epilogue::default(), &mut alone);
                sum.iter_mut().zip(alone).for_each(|(s, a)| *s += a);
            }
            for (found, sum) in found.iter().zip(&sum) {
                assert!((found - sum).abs() < 1e-4, "{format:?} {level:?}: {found}, not {sum}");
            }
        }
    }
}

#[test]
fn blocks_are_read_as_the_reference_implementation_does() {
    let bytes = |hex: &str| -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
        (0..hex.len()).step_by(2).map(digit).collect()
    };
    let mut kinds = 0;
    for line in include_str!("../../../tests/fixtures/blocks.txt").lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let name = fields[0].replace("_K", "K");
        let kind = KINDS.into_iter().find(|kind| format!("{kind:?}") == name).expect("a kind");
        let expected: Vec<f32> =
            bytes(fields[2]).as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
        let mut found = vec![0.0; expected.len()];
        unpack_blocks(kind, &bytes(fields[1]), &mut found);
        for (found, expected) in found.iter().zip(&expected) {
            let close = (found - expected).abs() <= expected.abs() * 1e-6 + 1e-7;
            assert!(close, "{kind:?}: {found}, not {expected}");
        }
        kinds += 1;
    }
    assert_eq!(kinds, KINDS.len());
}
