//! The four transformations of minimal filtering and the gradients' two, of as many channels at once as a vector has
//! lanes. Each goes over columns and rows (or rows and columns) of a tile, one line at a time.

use super::F;
use super::vector::Vector;

/// Six values of an array. (`array::from_fn` would be a call: it has no vector instructions.)
macro_rules! six {
    ($values:ident, $at:expr, $step:literal) => {
        [
            $values[$at],
            $values[$at + $step],
            $values[$at + 2 * $step],
            $values[$at + 3 * $step],
            $values[$at + 4 * $step],
            $values[$at + 5 * $step],
        ]
    };
}

/// `G · filter · Gᵀ`.
#[inline(always)]
pub fn filter_frequencies<V: Vector>(g: &[V; 9]) -> [V; F] {
    let mut rows = [g[0]; 18]; // [6][3]
    for x in 0..3 {
        let column = filter_line([g[x], g[3 + x], g[6 + x]]);
        for (y, value) in column.iter().enumerate() {
            rows[y * 3 + x] = *value;
        }
    }
    let mut out = [g[0]; F];
    for y in 0..6 {
        out[y * 6..][..6].copy_from_slice(&filter_line([rows[y * 3], rows[y * 3 + 1], rows[y * 3 + 2]]));
    }
    out
}

#[inline(always)]
fn filter_line<V: Vector>([a, b, c]: [V; 3]) -> [V; 6] {
    let outer = a.add(c).times(-1.0 / 6.0);
    let inner = b.times(-1.0 / 6.0);
    let wide = c.times(1.0 / 6.0).add_times(1.0 / 24.0, a);
    let middle = b.times(1.0 / 12.0);
    [a.times(0.25), outer.add(inner), outer.sub(inner), wide.add(middle), wide.sub(middle), c]
}

/// `Gᵀ · frequencies · G`.
#[inline(always)]
pub fn filter_gradient<V: Vector>(m: &[V; F]) -> [V; 9] {
    let mut rows = [m[0]; 18]; // [3][6]
    for x in 0..6 {
        let column = filter_gradient_line(six!(m, x, 6));
        for (y, value) in column.iter().enumerate() {
            rows[y * 6 + x] = *value;
        }
    }
    let mut out = [m[0]; 9];
    for y in 0..3 {
        out[y * 3..][..3].copy_from_slice(&filter_gradient_line(six!(rows, y * 6, 1)));
    }
    out
}

#[inline(always)]
fn filter_gradient_line<V: Vector>(m: [V; 6]) -> [V; 3] {
    let (sum1, sum2) = (m[1].add(m[2]), m[3].add(m[4]));
    let (gap1, gap2) = (m[1].sub(m[2]), m[3].sub(m[4]));
    let sixth = sum1.times(-1.0 / 6.0);
    [
        sixth.add_times(1.0 / 24.0, sum2).add_times(0.25, m[0]),
        gap1.times(-1.0 / 6.0).add_times(1.0 / 12.0, gap2),
        m[5].add(sixth.add_times(1.0 / 6.0, sum2)),
    ]
}

/// `Bᵀ · pixels · B`.
#[inline(always)]
pub fn pixel_frequencies<V: Vector>(d: &mut [V; F]) {
    for y in 0..6 {
        let line = pixel_line(six!(d, y * 6, 1));
        d[y * 6..][..6].copy_from_slice(&line);
    }
    for x in 0..6 {
        let line = pixel_line(six!(d, x, 6));
        for (y, value) in line.iter().enumerate() {
            d[y * 6 + x] = *value;
        }
    }
}

#[inline(always)]
fn pixel_line<V: Vector>(d: [V; 6]) -> [V; 6] {
    let even = d[4].sub_times(4.0, d[2]);
    let odd = d[3].sub_times(4.0, d[1]);
    let near = d[4].sub(d[2]);
    let gap = d[3].sub(d[1]);
    [
        d[4].sub_times(5.0, d[2]).add_times(4.0, d[0]),
        even.add(odd),
        even.sub(odd),
        near.add_times(2.0, gap),
        near.sub_times(2.0, gap),
        d[5].sub_times(5.0, d[3]).add_times(4.0, d[1]),
    ]
}

/// `Aᵀ · frequencies · A`.
#[inline(always)]
pub fn results<V: Vector>(m: &[V; F]) -> [V; 16] {
    let mut rows = [m[0]; 24]; // [4][6]
    for x in 0..6 {
        let line = result_line(six!(m, x, 6));
        for (y, value) in line.iter().enumerate() {
            rows[y * 6 + x] = *value;
        }
    }
    let mut out = [m[0]; 16];
    for y in 0..4 {
        out[y * 4..][..4].copy_from_slice(&result_line(six!(rows, y * 6, 1)));
    }
    out
}

#[inline(always)]
fn result_line<V: Vector>(m: [V; 6]) -> [V; 4] {
    let (sum1, sum2) = (m[1].add(m[2]), m[3].add(m[4]));
    let (gap1, gap2) = (m[1].sub(m[2]), m[3].sub(m[4]));
    [
        m[0].add(sum1.add(sum2)),
        gap1.add_times(2.0, gap2),
        sum1.add_times(4.0, sum2),
        m[5].add(gap1.add_times(8.0, gap2)),
    ]
}

/// `A · gradients · Aᵀ`.
#[inline(always)]
pub fn gradient_frequencies<V: Vector>(g: &[V; 16]) -> [V; F] {
    let mut rows = [g[0]; 24]; // [6][4]
    for x in 0..4 {
        let line = gradient_line([g[x], g[4 + x], g[8 + x], g[12 + x]]);
        for (y, value) in line.iter().enumerate() {
            rows[y * 4 + x] = *value;
        }
    }
    let mut out = [g[0]; F];
    for y in 0..6 {
        out[y * 6..][..6].copy_from_slice(&gradient_line([
            rows[y * 4],
            rows[y * 4 + 1],
            rows[y * 4 + 2],
            rows[y * 4 + 3],
        ]));
    }
    out
}

#[inline(always)]
fn gradient_line<V: Vector>(y: [V; 4]) -> [V; 6] {
    let (even, odd) = (y[0].add(y[2]), y[1].add(y[3]));
    let even2 = y[0].add_times(4.0, y[2]);
    let odd2 = y[1].times(2.0).add_times(8.0, y[3]);
    [y[0], even.add(odd), even.sub(odd), even2.add(odd2), even2.sub(odd2), y[3]]
}
