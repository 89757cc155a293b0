//! numpy's legacy random generator, bit for bit: a split with seed 42 here is the split that
//! scikit-learn makes with `random_state=42`.
//!
//! Matsumoto & Nishimura (1998), "Mersenne Twister: a 623-dimensionally equidistributed uniform
//! pseudo-random number generator"; integers in a range by masked rejection, as
//! `numpy.random.RandomState` draws them.

const WORDS: usize = 624;
const SHIFT: usize = 397;
const UPPER: u32 = 0x8000_0000;
const LOWER: u32 = 0x7fff_ffff;
const TWIST: u32 = 0x9908_b0df;

/// The generator behind `numpy.random.RandomState(seed)`.
#[derive(Debug, Clone)]
pub struct RandomState {
    state: [u32; WORDS],
    next: usize,
}

impl RandomState {
    /// The generator that `numpy.random.RandomState(seed)` holds.
    #[must_use]
    pub fn new(seed: u32) -> Self {
        let mut state = [0u32; WORDS];
        state[0] = seed;
        for i in 1..WORDS {
            let previous = state[i - 1];
            state[i] = 1_812_433_253_u32.wrapping_mul(previous ^ (previous >> 30)).wrapping_add(i as u32);
        }
        Self { state, next: WORDS }
    }

    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.next == WORDS {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn twist(&mut self) {
        for i in 0..WORDS {
            let joined = (self.state[i] & UPPER) | (self.state[(i + 1) % WORDS] & LOWER);
            let odd = if joined & 1 == 1 { TWIST } else { 0 };
            self.state[i] = self.state[(i + SHIFT) % WORDS] ^ (joined >> 1) ^ odd;
        }
        self.next = 0;
    }

    /// A whole number in `0..=max`: bits under the smallest mask that covers `max`, drawn again
    /// while they are above it.
    pub fn interval(&mut self, max: u32) -> u32 {
        if max == 0 {
            return 0;
        }
        let mask = u32::MAX >> max.leading_zeros();
        loop {
            let value = self.next_u32() & mask;
            if value <= max {
                return value;
            }
        }
    }

    /// Shuffles from the end, as `RandomState.shuffle`. Slices longer than 2³² are not supported.
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for i in (1..values.len()).rev() {
            let j = self.interval(i as u32) as usize;
            values.swap(i, j);
        }
    }

    /// The numbers `0..n`, shuffled, as `RandomState.permutation(n)`.
    pub fn permutation(&mut self, n: u32) -> Vec<u32> {
        let mut values: Vec<u32> = (0..n).collect();
        self.shuffle(&mut values);
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Values of numpy 2.4's `RandomState`; longer ones are in tests/fixtures.
    #[test]
    fn draws_what_numpy_draws() {
        let mut random = RandomState::new(42);
        let words: Vec<u32> = (0..4).map(|_| random.next_u32()).collect();
        assert_eq!(words, [1_608_637_542, 3_421_126_067, 4_083_286_876, 787_846_414]);
        assert_eq!(RandomState::new(42).permutation(10), [8, 1, 5, 0, 7, 2, 9, 4, 3, 6]);
        assert_eq!(RandomState::new(0).permutation(6), [5, 2, 1, 3, 0, 4]);
    }

    #[test]
    fn short_slices_need_no_draw() {
        let mut random = RandomState::new(7);
        assert!(random.permutation(0).is_empty());
        assert_eq!(random.permutation(1), [0]);
        assert_eq!(random.next_u32(), RandomState::new(7).next_u32());
    }
}
