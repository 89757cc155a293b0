//! Tokens as text, and sets of tokens.

/// The bytes that each token stands for. Special tokens stand for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenTable {
    /// Ends of the tokens' bytes.
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

impl TokenTable {
    /// From each token's bytes, in order.
    pub fn new<B: AsRef<[u8]>>(tokens: impl IntoIterator<Item = B>) -> Self {
        let (mut ends, mut bytes) = (Vec::new(), Vec::new());
        for token in tokens {
            bytes.extend_from_slice(token.as_ref());
            ends.push(bytes.len());
        }
        Self { ends, bytes }
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no tokens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// What a token stands for: nothing if there is no such token.
    #[must_use]
    pub fn bytes(&self, token: u32) -> &[u8] {
        let token = token as usize;
        let Some(end) = self.ends.get(token) else { return &[] };
        let start = token.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..*end]
    }
}

/// A set of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenSet {
    words: Vec<u64>,
}

impl TokenSet {
    /// No token, of so many.
    #[must_use]
    pub fn empty(tokens: usize) -> Self {
        Self { words: vec![0; tokens.div_ceil(64)] }
    }

    /// Puts a token in, which is one of those it was made for.
    pub fn insert(&mut self, token: u32) {
        if let Some(word) = self.words.get_mut(token as usize / 64) {
            *word |= 1 << (token % 64);
        }
    }

    /// Whether a token is in it.
    #[must_use]
    pub fn contains(&self, token: u32) -> bool {
        self.words.get(token as usize / 64).is_some_and(|word| word >> (token % 64) & 1 == 1)
    }

    /// Number of tokens in it.
    #[must_use]
    pub fn count(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// The tokens in it, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.words.iter().enumerate().flat_map(|(i, word)| {
            (0..64u32).filter(move |bit| word >> bit & 1 == 1).map(move |bit| i as u32 * 64 + bit)
        })
    }
}
