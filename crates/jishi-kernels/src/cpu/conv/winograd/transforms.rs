//! The four transformations of minimal filtering and the gradients' two, of as many channels at once as a vector has
//! lanes. Each goes over columns and rows (or rows and columns) of a tile, one line at a time. Tiles are `[y][x]`
//! where nothing else is said.

use super::vector::Vector;

/// An array of an expression's values for each index. (`array::from_fn` would be a call, as it has no vector instructions, and
/// a loop keeps the array in memory.)
macro_rules! each {
    (3, $i:ident => $value:expr) => {
        each!(@ $i => $value; 0 1 2)
    };
    (4, $i:ident => $value:expr) => {
        each!(@ $i => $value; 0 1 2 3)
    };
    (6, $i:ident => $value:expr) => {
        each!(@ $i => $value; 0 1 2 3 4 5)
    };
    (@ $i:ident => $value:expr; $($n:literal)+) => {
        [$({
            const $i: usize = $n;
            $value
        }),+]
    };
}
pub(super) use each;

/// `G · filter · Gᵀ`.
#[inline(always)]
pub fn filter_frequencies<V: Vector>(g: [[V; 3]; 3]) -> [[V; 6]; 6] {
    let columns = each!(3, X => filter_line(each!(3, Y => g[Y][X])));
    each!(6, Y => filter_line(each!(3, X => columns[X][Y])))
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
pub fn filter_gradient<V: Vector>(m: [[V; 6]; 6]) -> [[V; 3]; 3] {
    let columns = each!(6, X => filter_gradient_line(each!(6, Y => m[Y][X])));
    each!(3, Y => filter_gradient_line(each!(6, X => columns[X][Y])))
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

/// `Bᵀ · pixels · B`, columns of it.
#[inline(always)]
pub fn pixel_frequencies<V: Vector>(d: [[V; 6]; 6]) -> [[V; 6]; 6] {
    let rows = each!(6, Y => pixel_line(d[Y]));
    each!(6, X => pixel_line(each!(6, Y => rows[Y][X])))
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
pub fn results<V: Vector>(m: [[V; 6]; 6]) -> [[V; 4]; 4] {
    let columns = each!(6, X => result_line(each!(6, Y => m[Y][X])));
    each!(4, Y => result_line(each!(6, X => columns[X][Y])))
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
pub fn gradient_frequencies<V: Vector>(g: [[V; 4]; 4]) -> [[V; 6]; 6] {
    let columns = each!(4, X => gradient_line(each!(4, Y => g[Y][X])));
    each!(6, Y => gradient_line(each!(4, X => columns[X][Y])))
}

#[inline(always)]
fn gradient_line<V: Vector>(y: [V; 4]) -> [V; 6] {
    let (even, odd) = (y[0].add(y[2]), y[1].add(y[3]));
    let even2 = y[0].add_times(4.0, y[2]);
    let odd2 = y[1].times(2.0).add_times(8.0, y[3]);
    [y[0], even.add(odd), even.sub(odd), even2.add(odd2), even2.sub(odd2), y[3]]
}
