//! Rotary positions (Su et al. 2021, "RoFormer"): pairs of a head's values are turned by angles that grow with
//! the position, so that the product of a query and a key depends on their distance.

use crate::memory::buffer;
use crate::multiversion;
use crate::simd::Level;
use crate::threads::parallel_chunks;

pub use super::embedding::Positions;

/// Numbers a task, about.
const TASK: usize = 16_384;

/// Which values of a head are a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// `i` and `i + dim / 2`, as in Hugging Face's checkpoints of Llama.
    #[default]
    Half,
    /// `2i` and `2i + 1`, as in the paper.
    Interleaved,
}

/// Which direction values are turned: backward is the gradient of forward, and its inverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// By the position's angle.
    Forward,
    /// Back.
    Backward,
}

/// Cosines and sines of all positions.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotary {
    /// Values of a head; those from `dim` on are left as they are.
    head: usize,
    dim: usize,
    layout: Layout,
    /// `[positions, dim / 2]`
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// How Llama 3 stretches its context: low frequencies are slowed down by `factor`, high ones are kept (Grattafiori
/// et al. 2024).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Llama3 {
    /// How much slower low frequencies get.
    pub factor: f64,
    /// Frequencies with fewer turns than this within the original context are low.
    pub low: f64,
    /// Frequencies with more turns than this are high.
    pub high: f64,
    /// Positions of the original context.
    pub context: f64,
}

impl Llama3 {
    /// Factors of the frequencies of `dim` values.
    #[must_use]
    pub fn factors(&self, dim: usize, theta: f64) -> Vec<f64> {
        frequencies(dim, theta)
            .map(|frequency| {
                let turns = self.context * frequency / std::f64::consts::TAU;
                let kept = ((turns - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
                kept + (1.0 - kept) / self.factor
            })
            .collect()
    }
}

/// The frequencies of `dim` values: theta^(−2i / dim).
pub fn frequencies(dim: usize, theta: f64) -> impl Iterator<Item = f64> {
    (0..dim / 2).map(move |i| theta.powf(-((2 * i) as f64) / dim as f64))
}

impl Rotary {
    /// Angles of the first `dim` of a head's `head` values, for positions from 0 to `positions`. `factors` multiply
    /// the `dim / 2` frequencies.
    ///
    /// Angles are products in `f32`, as in the reference implementations, so that far positions agree with them.
    ///
    /// # Panics
    /// Where `dim` is odd or above `head`, or there are not `dim / 2` factors.
    #[must_use]
    pub fn new(
        [head, dim]: [usize; 2],
        layout: Layout,
        theta: f64,
        factors: Option<&[f64]>,
        positions: usize,
    ) -> Self {
        assert!(dim % 2 == 0 && dim <= head, "{dim} values of a head of {head} are not pairs");
        if let Some(factors) = factors {
            assert_eq!(factors.len(), dim / 2, "factors of {} frequencies", dim / 2);
        }
        let factor = |i: usize| factors.map_or(1.0, |f| f[i]);
        let frequencies: Vec<f32> =
            frequencies(dim, theta).enumerate().map(|(i, f)| (f * factor(i)) as f32).collect();
        let angles = (0..positions).flat_map(|p| frequencies.iter().map(move |f| f64::from(p as f32 * f)));
        let (sin, cos) = angles.map(|a| (a.sin() as f32, a.cos() as f32)).unzip();
        Self { head, dim, layout, cos, sin }
    }

    /// Values of a head.
    #[must_use]
    pub fn head(&self) -> usize {
        self.head
    }

    /// Values of a head that are turned.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Which values are a pair.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Positions that there are angles of.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.cos.len().checked_div(self.dim / 2).unwrap_or(usize::MAX)
    }

    /// Cosines and sines of `length` positions from `offset` on, `[length, dim / 2]` each.
    ///
    /// # Panics
    /// Where there are no angles of a position.
    #[must_use]
    pub fn angles(&self, offset: usize, length: usize) -> [&[f32]; 2] {
        self.check(offset + length);
        let pairs = self.dim / 2;
        [&self.cos, &self.sin].map(|table| &table[offset * pairs..(offset + length) * pairs])
    }

    fn check(&self, end: usize) {
        let positions = self.positions();
        assert!(end <= positions, "position {} is beyond the rotary context of {positions}", end.max(1) - 1);
    }

    /// Turns `heads` heads, which are `start` values into each row of `width`, in place.
    ///
    /// # Shapes
    /// - `x`: `[rows, width]`, such as packed queries, keys and values
    ///
    /// # Panics
    /// Where the heads are not inside of a row, or there are no angles of a position.
    pub fn apply(
        &self,
        level: Level,
        direction: Direction,
        x: &mut [f32],
        width: usize,
        [start, heads]: [usize; 2],
        positions: Positions,
    ) {
        self.checked(x.len(), width, [start, heads], positions);
        let rows = (TASK / width.max(1)).max(1);
        parallel_chunks(x, rows * width, |task, x| {
            turn(level, self, direction, x, width, [start, heads], positions, task * rows);
        });
    }

    /// As [`Rotary::apply`], of a copy.
    ///
    /// # Panics
    /// As [`Rotary::apply`].
    #[must_use]
    pub fn applied(
        &self,
        level: Level,
        direction: Direction,
        x: &[f32],
        width: usize,
        [start, heads]: [usize; 2],
        positions: Positions,
    ) -> Vec<f32> {
        self.checked(x.len(), width, [start, heads], positions);
        let mut y = buffer(x.len());
        let rows = (TASK / width.max(1)).max(1);
        parallel_chunks(&mut y, rows * width, |task, y| {
            y.copy_from_slice(&x[task * rows * width..][..y.len()]);
            turn(level, self, direction, y, width, [start, heads], positions, task * rows);
        });
        y
    }

    fn checked(&self, len: usize, width: usize, [start, heads]: [usize; 2], positions: Positions) {
        assert!(
            start + heads * self.head <= width,
            "{heads} heads of {} from {start} are not in {width}",
            self.head
        );
        let rows = len / width.max(1);
        assert!(positions.length > 0 || rows == 0, "sequences of length 0 with {rows} rows");
        self.check(positions.offset + positions.length.min(rows));
    }
}

multiversion! {
    fn turn(
        rotary: &Rotary,
        direction: Direction,
        x: &mut [f32],
        width: usize,
        place: [usize; 2],
        positions: Positions,
        from: usize,
    ) {
        let [start, heads] = place;
        let pairs = rotary.dim / 2;
        let sign = if direction == Direction::Forward { 1.0 } else { -1.0 };
        for (i, row) in x.chunks_exact_mut(width).enumerate() {
            let position = positions.offset + (from + i) % positions.length;
            let cos = &rotary.cos[position * pairs..][..pairs];
            let sin = &rotary.sin[position * pairs..][..pairs];
            for head in row[start..][..heads * rotary.head].chunks_exact_mut(rotary.head.max(1)) {
                let head = &mut head[..2 * pairs];
                match rotary.layout {
                    Layout::Half => {
                        let (a, b) = head.split_at_mut(pairs);
                        for (((a, b), c), s) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                            let (x, y, s) = (*a, *b, s * sign);
                            *a = x * c - y * s;
                            *b = y * c + x * s;
                        }
                    }
                    Layout::Interleaved => {
                        for ((pair, c), s) in head.chunks_exact_mut(2).zip(cos).zip(sin) {
                            let (x, y, s) = (pair[0], pair[1], s * sign);
                            pair[0] = x * c - y * s;
                            pair[1] = y * c + x * s;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize) -> Vec<f32> {
        (0..n as u64).map(|i| ((i * 40_503 + 7) % 1009) as f32 / 504.0 - 1.0).collect()
    }

    #[test]
    fn values_are_turned_by_their_positions_angle_and_back() {
        for layout in [Layout::Half, Layout::Interleaved] {
            for (head, dim, heads, start, length, batch) in
                [(8, 8, 3, 0, 5, 2), (6, 4, 2, 7, 3, 4), (64, 64, 6, 0, 70, 2), (34, 34, 1, 2, 1, 1)]
            {
                let (width, offset) = (start + head * heads + 9, 11);
                let rotary = Rotary::new([head, dim], layout, 10_000.0, None, offset + length);
                let x = numbers(batch * length * width);
                let place = Positions { length, offset };
                for level in Level::available() {
                    let y = rotary.applied(level, Direction::Forward, &x, width, [start, heads], place);
                    let mut expected = x.clone();
                    for row in 0..batch * length {
                        let position = (offset + row % length) as f64;
                        for h in 0..heads {
                            let at = row * width + start + h * head;
                            for i in 0..dim / 2 {
                                let angle = position * 10_000f64.powf(-((2 * i) as f64) / dim as f64);
                                let [a, b] = match layout {
                                    Layout::Half => [at + i, at + i + dim / 2],
                                    Layout::Interleaved => [at + 2 * i, at + 2 * i + 1],
                                };
                                let (p, q) = (f64::from(x[a]), f64::from(x[b]));
                                expected[a] = (p * angle.cos() - q * angle.sin()) as f32;
                                expected[b] = (q * angle.cos() + p * angle.sin()) as f32;
                            }
                        }
                    }
                    for (i, (y, e)) in y.iter().zip(&expected).enumerate() {
                        assert!((y - e).abs() < 1e-5, "{layout:?} {head} [{i}]: {y} {e}");
                    }
                    let mut back = y;
                    rotary.apply(level, Direction::Backward, &mut back, width, [start, heads], place);
                    assert!(back.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-6));
                }
            }
        }
    }

    /// Frequencies of Llama 3.1 (head 128, theta 500,000) as `transformers` 4.45 computes them, by its formula.
    #[test]
    fn llama_3_slows_low_frequencies_down() {
        let scaling = Llama3 { factor: 8.0, low: 1.0, high: 4.0, context: 8192.0 };
        let factors = scaling.factors(128, 500_000.0);
        for (i, (factor, frequency)) in factors.iter().zip(frequencies(128, 500_000.0)).enumerate() {
            let wavelength = std::f64::consts::TAU / frequency;
            let expected = if wavelength > 8192.0 {
                1.0 / 8.0
            } else if wavelength < 8192.0 / 4.0 {
                1.0
            } else {
                let smooth = (8192.0 / wavelength - 1.0) / 3.0;
                (1.0 - smooth) / 8.0 + smooth
            };
            assert!((factor - expected).abs() < 1e-12, "{i}");
        }
        assert_eq!((factors[0], factors[63]), (1.0, 0.125));
        let rotary = Rotary::new([128, 128], Layout::Half, 500_000.0, Some(&factors), 2);
        assert!((rotary.angles(1, 1)[1][0] - 1f32.sin()).abs() < 1e-7);
    }

    #[test]
    #[should_panic(expected = "position 4 is beyond the rotary context of 4")]
    fn a_position_beyond_the_context_is_named() {
        let rotary = Rotary::new([2, 2], Layout::Half, 10_000.0, None, 4);
        let place = Positions { length: 2, offset: 3 };
        rotary.apply(Level::best(), Direction::Forward, &mut [0.0; 4], 2, [0, 1], place);
    }
}
