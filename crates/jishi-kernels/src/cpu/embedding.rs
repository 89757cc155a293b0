//! Rows of a table by number (word embeddings: Bengio et al. 2003), and their gradient.

use std::ops::Range;

use crate::cpu::optimizer::add;
use crate::memory::buffer;
use crate::multiversion;
use crate::simd::Level;
use crate::threads::{SharedMut, parallel, parallel_chunks};

/// Numbers a task, about.
const TASK: usize = 16_384;

/// Positions of the rows: they come in sequences of `length`, each of which starts at position `offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Positions {
    /// Rows of a sequence.
    pub length: usize,
    /// Position of a sequence's first row.
    pub offset: usize,
}

/// Row `tokens[i]` of `table` for each `i`; with a second table, the row of its position is added.
///
/// # Shapes
/// - `table`: `[rows, width]`, the table of positions: `[positions, width]`
/// - output: `[tokens, width]`
///
/// # Panics
/// Where a token or a position is not in its table.
#[must_use]
pub fn forward(
    level: Level,
    table: &[f32],
    width: usize,
    tokens: &[u32],
    positions: Option<(&[f32], Positions)>,
) -> Vec<f32> {
    check(tokens, table.len() / width.max(1));
    if let Some((table, positions)) = positions {
        check_positions(positions, tokens.len(), table.len() / width.max(1));
    }
    let mut out = buffer(tokens.len() * width);
    let rows = (TASK / width.max(1)).max(1);
    parallel_chunks(&mut out, rows * width, |task, out| {
        let tokens = &tokens[task * rows..];
        match positions {
            Some((positions, place)) => {
                gather_sum(level, table, width, tokens, positions, place, task * rows, out);
            }
            None => {
                for (out, token) in out.chunks_exact_mut(width).zip(tokens) {
                    out.copy_from_slice(&table[*token as usize * width..][..width]);
                }
            }
        }
    });
    out
}

/// The gradient of the table: row `tokens[i]` gets `dy[i]`, rows that come several times the sum in order, rows
/// that do not come zeros.
///
/// # Panics
/// Where a token is not in the table.
#[must_use]
pub fn backward(level: Level, rows: usize, width: usize, tokens: &[u32], dy: &[f32]) -> Vec<f32> {
    check(tokens, rows);
    let mut dtable = zeros(rows * width);
    // Each task adds all rows, but only some of their columns: whole cache lines.
    let strips = (tokens.len() * width).div_ceil(TASK).clamp(1, 16);
    let columns = width.div_ceil(strips).next_multiple_of(16).max(16);
    let shared = SharedMut::new(&mut dtable);
    parallel(width.div_ceil(columns), |task| {
        let strip = task * columns..width.min((task + 1) * columns);
        scatter(level, &shared, width, strip, tokens, dy);
    });
    dtable
}

/// The gradient of the table of positions: each row gets the sum of `dy` over all sequences, in order.
///
/// # Panics
/// Where a position is not in the table.
#[must_use]
pub fn positions_backward(
    level: Level,
    rows: usize,
    width: usize,
    positions: Positions,
    dy: &[f32],
) -> Vec<f32> {
    let tokens = dy.len() / width.max(1);
    check_positions(positions, tokens, rows);
    let mut dtable = zeros(rows * width);
    let Positions { length, offset } = positions;
    let used = &mut dtable[offset * width..][..length.min(tokens) * width];
    let rows = (TASK * length.max(1) / dy.len().max(1)).max(1);
    parallel_chunks(used, rows * width, |task, out| {
        for sequence in dy.chunks(length * width) {
            let start = (task * rows * width).min(sequence.len());
            let dy = &sequence[start..sequence.len().min(start + out.len())];
            add(level, &mut out[..dy.len()], dy);
        }
    });
    dtable
}

/// Zeros, written by all threads: fresh memory is handed out page by page as it is first written.
fn zeros(len: usize) -> Vec<f32> {
    let mut data = buffer(len);
    parallel_chunks(&mut data, 8 * TASK, |_, part| part.fill(0.0));
    data
}

fn check(tokens: &[u32], rows: usize) {
    if let Some(i) = tokens.iter().position(|t| *t as usize >= rows) {
        panic!("index {} at place {i} is not in a table of {rows} rows", tokens[i]);
    }
}

fn check_positions(positions: Positions, tokens: usize, rows: usize) {
    let Positions { length, offset } = positions;
    assert!(length > 0 || tokens == 0, "sequences of length 0 with {tokens} rows");
    let last = offset + length.min(tokens);
    assert!(last <= rows, "positions {offset} to {last} are not in a table of {rows} positions");
}

multiversion! {
    fn gather_sum(
        table: &[f32],
        width: usize,
        tokens: &[u32],
        positions: &[f32],
        place: Positions,
        from: usize,
        out: &mut [f32],
    ) {
        for (i, (out, token)) in out.chunks_exact_mut(width).zip(tokens).enumerate() {
            let row = &table[*token as usize * width..][..width];
            let position = place.offset + (from + i) % place.length;
            let position = &positions[position * width..][..width];
            for ((o, a), b) in out.iter_mut().zip(row).zip(position) {
                *o = a + b;
            }
        }
    }

    fn scatter(
        dtable: &SharedMut<'_, f32>,
        width: usize,
        columns: Range<usize>,
        tokens: &[u32],
        dy: &[f32],
    ) {
        for (token, dy) in tokens.iter().zip(dy.chunks_exact(width)) {
            // SAFETY: `backward` gives each call columns of its own.
            let row = unsafe { dtable.slice(*token as usize * width + columns.start, columns.len()) };
            for (r, d) in row.iter_mut().zip(&dy[columns.clone()]) {
                *r += d;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(n: usize, rows: usize) -> Vec<u32> {
        (0..n as u64).map(|i| (((i * 2_654_435_761) >> 7) % rows as u64) as u32).collect()
    }

    fn numbers(n: usize) -> Vec<f32> {
        (0..n as u64).map(|i| ((i * 40_503 + 7) % 1009) as f32 / 504.0 - 1.0).collect()
    }

    #[test]
    fn rows_and_gradients_are_those_of_plain_loops() {
        for (rows, width, batch, length) in [(7, 5, 2, 3), (300, 64, 3, 50), (40, 130, 4, 128), (3, 1, 1, 1)]
        {
            let (table, wpe) = (numbers(rows * width), numbers((length + 4) * width));
            let tokens = tokens(batch * length, rows);
            let dy = numbers(tokens.len() * width);
            let place = Positions { length, offset: 3 };
            let mut dtable = vec![0.0; table.len()];
            let mut dwpe = vec![0.0; wpe.len()];
            for level in Level::available() {
                let plain = forward(level, &table, width, &tokens, None);
                let sum = forward(level, &table, width, &tokens, Some((&wpe, place)));
                dtable.fill(0.0);
                dwpe.fill(0.0);
                for (i, token) in tokens.iter().enumerate() {
                    for c in 0..width {
                        let (at, t, p) =
                            (i * width + c, *token as usize * width + c, (3 + i % length) * width + c);
                        assert_eq!(plain[at], table[t]);
                        assert_eq!(sum[at], table[t] + wpe[p]);
                        dtable[t] += dy[at];
                        dwpe[p] += dy[at];
                    }
                }
                assert_eq!(backward(level, rows, width, &tokens, &dy), dtable);
                assert_eq!(positions_backward(level, length + 4, width, place, &dy), dwpe);
            }
        }
        assert!(forward(Level::best(), &[1.0], 1, &[], None).is_empty());
        assert_eq!(backward(Level::best(), 2, 1, &[], &[]), [0.0; 2]);
    }

    #[test]
    #[should_panic(expected = "index 4 at place 1 is not in a table of 4 rows")]
    fn an_index_beyond_the_table_is_named() {
        let _ = forward(Level::best(), &numbers(8), 2, &[3, 4], None);
    }

    #[test]
    #[should_panic(expected = "positions 2 to 5 are not in a table of 4 positions")]
    fn a_position_beyond_the_table_is_named() {
        let place = Positions { length: 3, offset: 2 };
        let _ = forward(Level::best(), &numbers(8), 2, &[0, 1, 2], Some((&numbers(8), place)));
    }
}
