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
    // One sum a column, whatever the number of rows: what a row gives does not depend on those beside it.
    let mut all = [[0.0f32; PANEL]; R];
    let row: [&[f32]; R] = std::array::from_fn(|r| &x[r * stride..][..inputs]);
    if pairs {
        for (i, Line(words)) in lines.iter().enumerate() {
            for r in 0..R {
                let (low, high) = (row[r][2 * i], row[r][2 * i + 1]);
                for c in 0..PANEL {
                    let (w, v) = (f32::from_bits(words[c] << 16), f32::from_bits(words[c] & 0xffff_0000));
                    all[r][c] = madd::<FMA>(low, w, all[r][c]);
                    all[r][c] = madd::<FMA>(high, v, all[r][c]);
                }
            }
        }
    } else {
        for (i, Line(words)) in lines.iter().enumerate() {
            for r in 0..R {
                let value = row[r][i];
                for c in 0..PANEL {
                    all[r][c] = madd::<FMA>(value, f32::from_bits(words[c]), all[r][c]);
                }
            }
        }
    }
    *sums = all;
}
