//! Matrix products (Goto & van de Geijn 2008, "Anatomy of High-Performance Matrix Multiplication"; Van Zee &
//! van de Geijn 2015, "BLIS").
//!
//! `C[m, n] = A[m, k] · B[k, n]`: k is cut into slices, a slice of B is packed into panels by all threads, then
//! each task packs a block of A and multiplies it with all panels, tile by tile. A tile's sum over a slice
//! stays in registers. What reads A and B is a [`Source`] (a strided matrix, its bfloat16 copy, the patches of
//! an image), what takes tiles is a [`Sink`] (stores, adds, bias, activation): packing and epilogue are where
//! transposes, conversions and fusions are free.
//!
//! A sum over k is taken in an order that depends on k alone, so results do not depend on threads.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
mod pack;
mod tile;
#[cfg(target_arch = "x86_64")]
pub(super) mod wide;

use half::bf16;

pub(super) use pack::pack_then_pair;
pub(crate) use pack::round_bits;
pub use pack::{Left, Shifted, Source, Strided, Value};
use tile::Tile;

use crate::memory::with_scratch;
use crate::multiversion;
use crate::simd::Level;
use crate::threads::{SharedMut, parallel};

/// How a product is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Precision {
    /// Products and sums in `f32`.
    #[default]
    F32,
    /// Factors rounded to bfloat16, sums in `f32`.
    Bf16,
}

/// Takes the rows of finished tiles.
pub trait Sink: Sync {
    /// Takes a part of row `row`, columns from `column` on. `first` says that this is the first slice of k, so that
    /// there is nothing to add to; `last` that the sum is complete.
    ///
    /// # Safety
    /// Called once for each place and slice, slices in order, places of different calls disjoint.
    unsafe fn take<const FMA: bool, const W: usize>(
        &self,
        row: usize,
        column: usize,
        part: Part<'_, W>,
        first: bool,
        last: bool,
    );

    /// Asks for what [`take`](Self::take) will read at this place: a tile's rows are too far from each other for the processor to
    /// foresee.
    #[inline(always)]
    fn expect(&self, _row: usize, _column: usize) {}
}

/// A tile's part of a row of a product. Sinks change the values where they are, in a core's nearest cache: the compiler makes
/// vectors of loops over memory, but cuts an array of this length that is moved about into single numbers.
#[derive(Debug)]
pub struct Part<'a, const W: usize> {
    /// The product's values; those beyond `count` mean nothing.
    pub values: &'a mut [f32; W],
    /// How many there are.
    pub count: usize,
}

impl<const W: usize> Part<'_, W> {
    /// Changes each value by that at the same place of another matrix.
    #[inline(always)]
    pub fn with<T: Value>(&mut self, others: &[T], change: impl Change<f32, T>) {
        change_each::<W, _, _>(self.count, self.values, others, change);
    }

    /// Adds the values at the same places of another matrix.
    #[inline(always)]
    pub fn add(&mut self, others: &[f32]) {
        self.with(others, Add);
    }

    /// Writes the values to these places of a matrix.
    #[inline(always)]
    pub fn write(&self, to: &mut [f32]) {
        change_each::<W, _, _>(self.count, to, self.values, Set);
    }

    /// Writes the rounded values to these places of a matrix.
    #[inline(always)]
    pub fn round(&self, to: &mut [bf16]) {
        change_each::<W, _, _>(self.count, to, self.values, Set);
    }
}

/// How a number changes by another. (Not a closure: only of a function can be said that it is always inlined, and where it
/// is not, it has none of the vector instructions of its caller.)
pub trait Change<A, B> {
    /// Changes `value` by `other`.
    fn change(&self, value: &mut A, other: B);
}

struct Add;

impl Change<f32, f32> for Add {
    #[inline(always)]
    fn change(&self, value: &mut f32, other: f32) {
        *value += other;
    }
}

struct Set;

impl Change<f32, f32> for Set {
    #[inline(always)]
    fn change(&self, value: &mut f32, other: f32) {
        *value = other;
    }
}

impl Change<bf16, f32> for Set {
    #[inline(always)]
    fn change(&self, value: &mut bf16, other: f32) {
        *value = bf16::from_bits(round_bits(other) as u16);
    }
}

/// Changes the first `count` numbers, at most `W` and fewer than 64. What is not `W` is cut into pieces whose lengths are powers of
/// two: each is a few instructions, where a rest of any length is a call or a loop.
#[inline(always)]
fn change_each<const W: usize, A, B: Copy>(
    count: usize,
    values: &mut [A],
    others: &[B],
    change: impl Change<A, B>,
) {
    if count == W {
        for (value, other) in values[..W].iter_mut().zip(&others[..W]) {
            change.change(value, *other);
        }
        return;
    }
    let mut at = 0;
    for len in [32, 16, 8, 4, 2, 1] {
        if count & len != 0 {
            for (value, other) in values[at..at + len].iter_mut().zip(&others[at..at + len]) {
                change.change(value, *other);
            }
            at += len;
        }
    }
}

/// Stores a product: `out = product`, or `out += product`.
#[derive(Debug)]
pub struct Store<'a> {
    out: SharedMut<'a, f32>,
    stride: usize,
    add: bool,
}

impl<'a> Store<'a> {
    /// `out[row · stride + column] = product`.
    pub fn new(out: &'a mut [f32], stride: usize) -> Self {
        Self { out: SharedMut::new(out), stride, add: false }
    }

    /// `out[row · stride + column] += product`.
    pub fn adding(out: &'a mut [f32], stride: usize) -> Self {
        Self { add: true, ..Self::new(out, stride) }
    }
}

impl Sink for Store<'_> {
    #[inline(always)]
    unsafe fn take<const FMA: bool, const W: usize>(
        &self,
        row: usize,
        column: usize,
        mut part: Part<'_, W>,
        first: bool,
        _: bool,
    ) {
        // SAFETY: places are disjoint by this function's contract.
        let out = unsafe { self.out.slice(row * self.stride + column, part.count) };
        if !first || self.add {
            part.add(out);
        }
        part.write(out);
    }
}

/// Multiplications that one thread does alone.
const ALONE: usize = 1 << 19;

/// `A · B` into `sink`.
///
/// # Shapes
/// - `a`: lanes are the `m` rows of A
/// - `b`: lanes are the `n` columns of B
pub fn gemm(
    level: Level,
    precision: Precision,
    [m, n, k]: [usize; 3],
    a: &impl Source,
    b: &impl Source,
    sink: &impl Sink,
) {
    if m == 0 || n == 0 {
        return;
    }
    // The same tasks, on one thread where the work is less than what sharing it costs.
    let spread = |tasks: usize, task: &(dyn Fn(usize) + Sync)| match m * n * k > ALONE {
        true => parallel(tasks, task),
        false => (0..tasks).for_each(task),
    };
    let tile = Tile::of(level, precision);
    if k == 0 {
        for (row, column) in (0..m).flat_map(|row| (0..n).step_by(16).map(move |column| (row, column))) {
            let part = Part { values: &mut [0.0; 16], count: 16.min(n - column) };
            // SAFETY: each place is given once.
            unsafe { sink.take::<false, 16>(row, column, part, true, true) };
        }
        return;
    }
    let slices = tile.words(k).div_ceil(tile.slice);
    let slice = k.div_ceil(slices).next_multiple_of(2);
    let panels = n.div_ceil(tile.columns);
    // Blocks of whole tiles, at least a few for every thread.
    let rows = tile.block.min(m.div_ceil(8).max(tile.rows)).div_ceil(tile.rows) * tile.rows;
    let blocks = m.div_ceil(rows);
    // Where there are few rows, columns are cut too.
    let cuts = (8usize.div_ceil(blocks)).min(panels.div_ceil(4)).max(1);
    let panels_a_cut = panels.div_ceil(cuts);
    let panel_words = tile.words(slice) * tile.columns;
    with_scratch(panels * panel_words, |packed_b| {
        for from in (0..k).step_by(slice) {
            let height = slice.min(k - from);
            let (first, last) = (from == 0, from + height == k);
            let words = tile.words(height) * tile.columns;
            // Packing a small B costs less than waking anybody for it.
            let group = (16_384 / (height * tile.columns)).max(1);
            let shared = SharedMut::new(&mut packed_b[..panels * words]);
            spread(panels.div_ceil(group), &|task| {
                for panel in task * group..((task + 1) * group).min(panels) {
                    // SAFETY: one panel, one task.
                    let out = unsafe { shared.slice(panel * words, words) };
                    let column = panel * tile.columns;
                    tile.pack(
                        level,
                        b,
                        column,
                        tile.columns.min(n - column),
                        tile.columns,
                        from,
                        height,
                        out,
                    );
                }
            });
            let packed_b = &packed_b[..panels * words];
            spread(blocks * cuts, &|task| {
                let (block, cut) = (task / cuts, task % cuts);
                let row = block * rows;
                let height_a = rows.min(m - row);
                let tiles = height_a.div_ceil(tile.rows);
                let tile_words = tile.words(height) * tile.rows;
                let in_place = tile.reads(a, row, from, panels);
                with_scratch(if in_place.is_some() { 0 } else { tiles * tile_words }, |packed_a| {
                    for (i, out) in packed_a.chunks_exact_mut(tile_words).enumerate() {
                        let at = row + i * tile.rows;
                        tile.pack(level, a, at, tile.rows.min(m - at), tile.rows, from, height, out);
                    }
                    let lanes = |i: usize| match in_place {
                        Some(lanes) => lanes.skip(i * tile.rows),
                        None => Left::packed(&packed_a[i * tile_words..][..tile_words], tile.rows),
                    };
                    for panel in cut * panels_a_cut..((cut + 1) * panels_a_cut).min(panels) {
                        let b = &packed_b[panel * words..][..words];
                        let column = panel * tile.columns;
                        let width = tile.columns.min(n - column);
                        for i in 0..tiles {
                            let at = row + i * tile.rows;
                            let place =
                                Place { row: at, rows: tile.rows.min(m - at), column, width, first, last };
                            multiply(level, &tile, lanes(i), b, &place, sink);
                        }
                    }
                });
            });
        }
    });
}

/// Where a tile belongs.
struct Place {
    row: usize,
    rows: usize,
    column: usize,
    width: usize,
    first: bool,
    last: bool,
}

/// Multiplies two panels and gives the tile to the sink.
fn multiply<S: Sink>(level: Level, tile: &Tile, a: Left<'_>, b: &[u32], place: &Place, sink: &S) {
    let mut sums = tile::Sums::new();
    for r in 0..place.rows {
        sink.expect(place.row + r, place.column);
    }
    deliver(level, tile.columns, tile.multiply(place.rows, a, b, &mut sums), place, sink);
}

multiversion! {
    fn deliver<S: Sink>(columns: usize, sums: &mut [f32], place: &Place, sink: &S) {
        match columns {
            16 => rows::<16, FMA, S>(sums, place, sink),
            32 => rows::<32, FMA, S>(sums, place, sink),
            _ => unreachable!("no tile has {columns} columns"),
        }
    }
}

#[inline(always)]
fn rows<const W: usize, const FMA: bool, S: Sink>(sums: &mut [f32], place: &Place, sink: &S) {
    let rows = sums.as_chunks_mut::<W>().0.iter_mut().take(place.rows).enumerate();
    // The same loop twice, so that one of them has whole rows.
    if place.width == W {
        for (r, values) in rows {
            let part = Part { values, count: W };
            // SAFETY: `gemm` calls this once a tile and slice, and tiles are disjoint.
            unsafe { sink.take::<FMA, W>(place.row + r, place.column, part, place.first, place.last) };
        }
    } else {
        for (r, values) in rows {
            let part = Part { values, count: place.width };
            // SAFETY: as above.
            unsafe { sink.take::<FMA, W>(place.row + r, place.column, part, place.first, place.last) };
        }
    }
}

/// What [`pack_columns`] wrote.
#[derive(Debug, Clone, Copy)]
pub struct Packed<'a> {
    /// Panel after panel.
    pub words: &'a [u32],
    /// Values a lane.
    pub height: usize,
    /// Values at the start of each lane that a product leaves out; even.
    pub skipped: usize,
}

impl<'a> Packed<'a> {
    /// All lanes of `height` values.
    #[must_use]
    pub fn new(words: &'a [u32], height: usize) -> Self {
        Self { words, height, skipped: 0 }
    }

    /// Without the first `skipped` values of each lane, an even number.
    #[must_use]
    pub fn skip(self, skipped: usize) -> Self {
        Self { skipped, ..self }
    }

    /// Without the first `panels` panels.
    #[must_use]
    pub fn skip_panels(self, level: Level, precision: Precision, panels: usize) -> Self {
        let tile = Tile::of(level, precision);
        Self { words: &self.words[panels * tile.words(self.height) * tile.columns..], ..self }
    }
}

/// `A · B` on the calling thread, for products inside of a task. `b` is packed by [`pack_columns`] with at least `k`
/// values a lane, of which the first are used.
///
/// # Panics
/// Where fewer values were packed: a bug of the caller.
pub fn gemm_packed(
    level: Level,
    precision: Precision,
    [m, n, k]: [usize; 3],
    a: &impl Source,
    b: Packed<'_>,
    sink: &impl Sink,
) {
    let tile = Tile::of(level, precision);
    assert!(k + b.skipped <= b.height, "fewer values were packed than are multiplied");
    let panel_words = tile.words(b.height) * tile.columns;
    let slices = tile.words(k).div_ceil(PACKED_SLICE).max(1);
    let slice = k.div_ceil(slices).next_multiple_of(2);
    let (tiles, panels) = (m.div_ceil(tile.rows), n.div_ceil(tile.columns));
    let packs = tile.reads(a, 0, 0, panels).is_none();
    with_scratch(if packs { tiles * tile.words(slice) * tile.rows } else { 0 }, |packed| {
        let mut from = 0;
        loop {
            let height = slice.min(k - from);
            let (first, last) = (from == 0, from + height == k);
            let (words, tile_words) = (tile.words(height) * tile.columns, tile.words(height) * tile.rows);
            let in_place = tile.reads(a, 0, from, panels);
            for (i, out) in packed.chunks_exact_mut(tile_words.max(1)).enumerate().take(tiles) {
                let row = i * tile.rows;
                tile.pack(level, a, row, tile.rows.min(m - row), tile.rows, from, height, out);
            }
            let lanes = |i: usize| match in_place {
                Some(lanes) => lanes.skip(i * tile.rows),
                None => Left::packed(&packed[i * tile_words..][..tile_words], tile.rows),
            };
            for panel in 0..panels {
                let column = panel * tile.columns;
                let width = tile.columns.min(n - column);
                let b =
                    &b.words[panel * panel_words + tile.words(b.skipped + from) * tile.columns..][..words];
                for i in 0..tiles {
                    let row = i * tile.rows;
                    let place = Place { row, rows: tile.rows.min(m - row), column, width, first, last };
                    multiply(level, &tile, lanes(i), b, &place, sink);
                }
            }
            from += height;
            if from == k {
                break;
            }
        }
    });
}

/// Words of k in a slice of a product inside of a task, whose rows are few: a panel of B passes through the cache once.
const PACKED_SLICE: usize = 768;

/// Words that [`pack_columns`] writes.
#[must_use]
pub fn packed_words(level: Level, precision: Precision, n: usize, k: usize) -> usize {
    let tile = Tile::of(level, precision);
    n.next_multiple_of(tile.columns) * tile.words(k)
}

/// Columns that a panel of [`pack_columns`] holds: panels can be used on their own.
#[must_use]
pub fn panel_columns(level: Level, precision: Precision) -> usize {
    Tile::of(level, precision).columns
}

/// Rows of A that are multiplied together: tasks take a multiple of them.
#[must_use]
pub fn tile_rows(level: Level, precision: Precision) -> usize {
    Tile::of(level, precision).rows
}

/// Packs all of B `[k, n]` for [`gemm_packed`].
pub fn pack_columns(
    level: Level,
    precision: Precision,
    n: usize,
    k: usize,
    b: &impl Source,
    out: &mut [u32],
) {
    let tile = Tile::of(level, precision);
    let words = tile.words(k) * tile.columns;
    for (panel, out) in out.chunks_exact_mut(words.max(1)).enumerate().take(n.div_ceil(tile.columns)) {
        let column = panel * tile.columns;
        tile.pack(level, b, column, tile.columns.min(n - column), tile.columns, 0, k, out);
    }
}

/// Rounds to bfloat16, to nearest even.
pub fn round_to_bf16(level: Level, x: &[f32]) -> Vec<bf16> {
    let mut out = crate::memory::buffer::<bf16>(x.len());
    let chunk = 1 << 15;
    crate::threads::parallel_chunks(&mut out, chunk, |task, out| {
        let x = &x[task * chunk..][..out.len()];
        round_slice(level, x, out);
    });
    out
}

multiversion! {
    fn round_slice(x: &[f32], out: &mut [bf16]) {
        for (x, o) in x.iter().zip(out) {
            Set.change(o, *x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in ±1 that bfloat16 holds exactly.
    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 255) as f32 / 128.0 - 1.0).collect()
    }

    fn naive(
        [m, n, k]: [usize; 3],
        a: impl Fn(usize, usize) -> f32,
        b: impl Fn(usize, usize) -> f32,
    ) -> Vec<f64> {
        let mut c = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                c[i * n + j] = (0..k).map(|l| f64::from(a(i, l)) * f64::from(b(l, j))).sum();
            }
        }
        c
    }

    fn close(found: &[f32], expected: &[f64], k: usize, what: &str) {
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            assert!((f64::from(*f) - e).abs() < 1e-6 * (k as f64 + 4.0), "{what}: {i} is {f}, not {e}");
        }
    }

    const SHAPES: [[usize; 3]; 10] = [
        [1, 1, 1],
        [1, 40, 33],
        [13, 31, 7],
        [14, 32, 384],
        [15, 33, 385],
        [100, 5, 16],
        [3, 200, 17],
        [300, 70, 50],
        [29, 65, 900],
        [64, 64, 769],
    ];

    #[test]
    fn products_are_right_in_every_layout_level_and_precision() {
        for shape @ [m, n, k] in SHAPES {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let (a_turned, b_turned) = (numbers(m * k, 1), numbers(k * n, 2));
            let half = |x: &[f32]| x.iter().map(|v| bf16::from_f32(*v)).collect::<Vec<_>>();
            let (a_half, b_half) = (half(&a), half(&b));
            for level in Level::available() {
                for precision in [Precision::F32, Precision::Bf16] {
                    let what = format!("{shape:?} {level:?} {precision:?}");
                    let mut c = vec![9.0; m * n];
                    let expected = naive(shape, |i, l| a[i * k + l], |l, j| b[l * n + j]);
                    let (rows, columns) = (Strided::rows(&a, k), Strided::columns(&b, n));
                    gemm(level, precision, shape, &rows, &columns, &Store::new(&mut c, n));
                    close(&c, &expected, k, &what);
                    gemm(level, precision, shape, &rows, &columns, &Store::adding(&mut c, n));
                    close(&c, &expected.iter().map(|v| 2.0 * v).collect::<Vec<_>>(), 2 * k, &what);
                    let (rows, columns) = (Strided::rows(&a_half, k), Strided::columns(&b_half, n));
                    gemm(level, precision, shape, &rows, &columns, &Store::new(&mut c, n));
                    close(&c, &expected, k, &what);
                    // Both factors turned.
                    let expected = naive(shape, |i, l| a_turned[l * m + i], |l, j| b_turned[j * k + l]);
                    let (rows, columns) = (Strided::columns(&a_turned, m), Strided::rows(&b_turned, k));
                    gemm(level, precision, shape, &rows, &columns, &Store::new(&mut c, n));
                    close(&c, &expected, k, &what);
                }
            }
        }
    }

    #[test]
    fn packed_products_are_right() {
        for shape @ [m, n, k] in SHAPES {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let expected = naive(shape, |i, l| a[i * k + l], |l, j| b[l * n + j]);
            for level in Level::available() {
                for precision in [Precision::F32, Precision::Bf16] {
                    let mut packed = vec![0; packed_words(level, precision, n, k)];
                    pack_columns(level, precision, n, k, &Strided::columns(&b, n), &mut packed);
                    let packed = Packed::new(&packed, k);
                    let stride = n + 3;
                    let mut c = vec![1.0; m * stride];
                    let sink = Store::adding(&mut c, stride);
                    gemm_packed(level, precision, shape, &Strided::rows(&a, k), packed, &sink);
                    for (row, expected) in c.chunks_exact(stride).zip(expected.chunks_exact(n)) {
                        let expected: Vec<f64> = expected.iter().map(|v| v + 1.0).collect();
                        close(&row[..n], &expected, k, &format!("{shape:?} {level:?} {precision:?}"));
                        assert!(row[n..].iter().all(|v| *v == 1.0));
                    }
                }
            }
        }
    }

    #[test]
    fn empty_products_are_zero_and_nan_spreads() {
        let level = Level::best();
        let mut c = vec![5.0; 6];
        let none: [f32; 0] = [];
        let (rows, columns) = (Strided::rows(&none, 0), Strided::columns(&none, 3));
        gemm(level, Precision::F32, [2, 3, 0], &rows, &columns, &Store::new(&mut c, 3));
        assert_eq!(c, [0.0; 6]);
        let a = [1.0, f32::NAN, 2.0, 3.0];
        let b = [1.0, 0.0, 0.0, 1.0];
        for precision in [Precision::F32, Precision::Bf16] {
            for level in Level::available() {
                let (rows, columns) = (Strided::rows(&a, 2), Strided::columns(&b, 2));
                gemm(level, precision, [2, 2, 2], &rows, &columns, &Store::new(&mut c, 2));
                assert!(c[0].is_nan() && c[1].is_nan() && c[2] == 2.0 && c[3] == 3.0, "{level:?} {c:?}");
            }
        }
    }

    #[test]
    fn rounding_to_bfloat16_is_to_nearest_even() {
        let x: Vec<f32> = (0..70_000).map(|i| f32::from_bits(i * 61_357)).collect();
        for level in Level::available() {
            let rounded = round_to_bf16(level, &x);
            for (x, r) in x.iter().zip(&rounded) {
                assert!(*r == bf16::from_f32(*x) || (x.is_nan() && r.is_nan()), "{x}");
            }
        }
    }
}
