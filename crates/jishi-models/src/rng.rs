//! Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel Random Numbers: As Easy as
//! 1, 2, 3", SC'11).
//!
//! A number is a pure function of the seed, a stream and its position, so nothing has to be stored to
//! resume a run exactly, and two uses of randomness never disturb each other.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// One block: four random words from a counter and a key.
#[inline]
#[must_use]
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let a = u64::from(counter[0]) * u64::from(MULTIPLIERS[0]);
        let b = u64::from(counter[2]) * u64::from(MULTIPLIERS[1]);
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// The stream of a named use of randomness: `("shuffle", epoch)`, `("init layers.0.weight", 0)`.
///
/// FNV-1a over the name, mixed with the index by the finaliser of SplitMix64 (Steele et al. 2014).
#[must_use]
pub fn stream(name: &str, index: u64) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(hash ^ mix(index))
}

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A sequence of random numbers.
#[derive(Debug, Clone)]
pub struct Rng {
    key: [u32; 2],
    stream: [u32; 2],
    block: u64,
    words: [u32; 4],
    used: usize,
}

impl Rng {
    /// The sequence of a seed and a stream, from its start.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        Self { key: split(seed), stream: split(stream), block: 0, words: [0; 4], used: 4 }
    }

    /// Goes to the start of block `block`; a block is four words.
    pub fn seek(&mut self, block: u64) {
        self.block = block;
        self.used = 4;
    }

    /// A uniform word.
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            let [low, high] = split(self.block);
            self.words = philox([low, high, self.stream[0], self.stream[1]], self.key);
            self.block = self.block.wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    /// A uniform double word.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) << 32 | u64::from(self.next_u32())
    }

    /// Uniform in 0 ≤ x < 1, with 24 bits.
    #[inline]
    pub fn uniform(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Standard normal, by Box & Muller (1958).
    pub fn normal(&mut self) -> f32 {
        // Half a step away from zero, so that the logarithm is finite.
        let radius = -2.0 * ((f64::from(self.next_u32()) + 0.5) / 4_294_967_296.0).ln();
        let angle = std::f64::consts::TAU * f64::from(self.next_u32()) / 4_294_967_296.0;
        (radius.sqrt() * angle.cos()) as f32
    }

    /// A uniform whole number in `0..n`, without bias (Lemire 2019).
    ///
    /// # Panics
    /// Where `n` is 0.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "there is no number below 0");
        if n <= u64::from(u32::MAX) {
            // The common case in 32 bits.
            let n = n as u32;
            let mut product = u64::from(self.next_u32()) * u64::from(n);
            if (product as u32) < n {
                let threshold = n.wrapping_neg() % n;
                while (product as u32) < threshold {
                    product = u64::from(self.next_u32()) * u64::from(n);
                }
            }
            return product >> 32;
        }
        let threshold = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }
}

fn split(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the authors' Random123 library, `philox4x32 10`.
    #[test]
    fn philox_gives_the_published_answers() {
        let ones = u32::MAX;
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([ones; 4], [ones; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn moments_are_those_of_the_distribution() {
        let mut rng = Rng::new(7, stream("test", 0));
        let n = 200_000;
        let moments = |values: &[f64]| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64)
        };
        let (mean, variance) = moments(&(0..n).map(|_| f64::from(rng.uniform())).collect::<Vec<_>>());
        assert!((mean - 0.5).abs() < 0.003 && (variance - 1.0 / 12.0).abs() < 0.001);
        let (mean, variance) = moments(&(0..n).map(|_| f64::from(rng.normal())).collect::<Vec<_>>());
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02);
        let mut counts = [0; 7];
        (0..70_000).for_each(|_| counts[rng.below(7) as usize] += 1);
        assert!(counts.iter().all(|c| (9_500..10_500).contains(c)), "{counts:?}");
    }

    #[test]
    fn big_ranges_are_covered() {
        let mut rng = Rng::new(1, 2);
        let n = 3 << 40;
        let mean = (0..10_000).map(|_| rng.below(n) as f64).sum::<f64>() / 10_000.0;
        assert!((mean / n as f64 - 0.5).abs() < 0.02);
    }

    #[test]
    fn streams_and_seeds_differ_and_positions_repeat() {
        let first = |seed, stream| Rng::new(seed, stream).next_u64();
        assert_ne!(first(1, stream("a", 0)), first(1, stream("a", 1)));
        assert_ne!(first(1, stream("a", 0)), first(1, stream("b", 0)));
        assert_ne!(first(1, stream("a", 0)), first(2, stream("a", 0)));
        let mut rng = Rng::new(3, 4);
        let words: Vec<u32> = (0..12).map(|_| rng.next_u32()).collect();
        rng.seek(2);
        assert_eq!(rng.next_u32(), words[8]);
    }
}
