//! Rows times a panel of `f32` or bfloat16, with sums in `f32`.

use super::{Line, PANEL};
use crate::multiversion;
use crate::simd::{Level, madd};

/// Sets `sums` to the products of as many rows of `x` (`[row][stride]`) with a panel. With `pairs` a word holds two
/// inputs. Rows must hold values, zeros at least, up to the panel's last step.
///
/// # Panics
/// When `x` is too short, or there are more than four rows.
pub fn dot(level: Level, pairs: bool, lines: &[Line], x: &[f32], stride: usize, sums: &mut [[f32; PANEL]]) {
    match sums {
        [] => {}
        [one] => rows_1(level, pairs, lines, x, stride, std::array::from_mut(one)),
        [a, b] => {
            let mut both = [[0.0; PANEL]; 2];
            rows_2(level, pairs, lines, x, stride, &mut both);
            [*a, *b] = both;
        }
        [a, b, c] => {
            let mut three = [[0.0; PANEL]; 3];
            rows_3(level, pairs, lines, x, stride, &mut three);
            [*a, *b, *c] = three;
        }
        [a, b, c, d] => {
            let mut four = [[0.0; PANEL]; 4];
            rows_4(level, pairs, lines, x, stride, &mut four);
            [*a, *b, *c, *d] = four;
        }
        _ => panic!("more rows than a pass serves"),
    }
}

multiversion! {
    fn rows_1(pairs: bool, lines: &[Line], x: &[f32], stride: usize, sums: &mut [[f32; PANEL]; 1]) {
        rows::<FMA, 1>(pairs, lines, x, stride, sums);
    }

    fn rows_2(pairs: bool, lines: &[Line], x: &[f32], stride: usize, sums: &mut [[f32; PANEL]; 2]) {
        rows::<FMA, 2>(pairs, lines, x, stride, sums);
    }

    fn rows_3(pairs: bool, lines: &[Line], x: &[f32], stride: usize, sums: &mut [[f32; PANEL]; 3]) {
        rows::<FMA, 3>(pairs, lines, x, stride, sums);
    }

    fn rows_4(pairs: bool, lines: &[Line], x: &[f32], stride: usize, sums: &mut [[f32; PANEL]; 4]) {
        rows::<FMA, 4>(pairs, lines, x, stride, sums);
    }
}

#[inline(always)]
fn rows<const FMA: bool, const R: usize>(
    pairs: bool,
    lines: &[Line],
    x: &[f32],
    stride: usize,
    sums: &mut [[f32; PANEL]; R],
) {
    let inputs = lines.len() * if pairs { 2 } else { 1 };
    assert!(R > 0 && x.len() >= (R - 1) * stride + inputs, "rows that are too short");
    // One row has two sums a column, so that no sum waits for the one before; more rows need no second.
    let (mut even, mut odd) = ([[0.0f32; PANEL]; R], [[0.0f32; PANEL]; 1]);
    let row: [&[f32]; R] = std::array::from_fn(|r| &x[r * stride..][..inputs]);
    if pairs {
        for (i, Line(words)) in lines.iter().enumerate() {
            for r in 0..R {
                let (low, high) = (row[r][2 * i], row[r][2 * i + 1]);
                for c in 0..PANEL {
                    let (w, v) = (f32::from_bits(words[c] << 16), f32::from_bits(words[c] & 0xffff_0000));
                    even[r][c] = madd::<FMA>(low, w, even[r][c]);
                    if R == 1 {
                        odd[0][c] = madd::<FMA>(high, v, odd[0][c]);
                    } else {
                        even[r][c] = madd::<FMA>(high, v, even[r][c]);
                    }
                }
            }
        }
    } else {
        let mut steps = lines.chunks_exact(2);
        for (i, step) in steps.by_ref().enumerate() {
            for r in 0..R {
                let (low, high) = (row[r][2 * i], row[r][2 * i + 1]);
                for c in 0..PANEL {
                    let (w, v) = (f32::from_bits(step[0].0[c]), f32::from_bits(step[1].0[c]));
                    even[r][c] = madd::<FMA>(low, w, even[r][c]);
                    if R == 1 {
                        odd[0][c] = madd::<FMA>(high, v, odd[0][c]);
                    } else {
                        even[r][c] = madd::<FMA>(high, v, even[r][c]);
                    }
                }
            }
        }
        if let [Line(words)] = steps.remainder() {
            for r in 0..R {
                for c in 0..PANEL {
                    even[r][c] = madd::<FMA>(row[r][inputs - 1], f32::from_bits(words[c]), even[r][c]);
                }
            }
        }
    }
    if R == 1 {
        for c in 0..PANEL {
            even[0][c] += odd[0][c];
        }
    }
    *sums = even;
}
