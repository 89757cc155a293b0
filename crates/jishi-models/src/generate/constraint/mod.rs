//! Output that a regular expression or a JSON schema allows, and no other.
//!
//! What is allowed is an automaton over bytes. A token is allowed where its bytes lead from the automaton's state to
//! one from which the end can be reached; which tokens these are is found once for each state (Willard & Louf
//! 2023, "Efficient Guided Generation for Large Language Models").

mod automaton;
mod numbers;
mod pattern;
mod schema;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

pub use automaton::Grammar;

use super::tokens::{TokenSet, TokenTable};

/// Tokens in the order of their bytes, so that tokens with the same beginning are followed together.
#[derive(Debug)]
pub struct Vocabulary {
    table: Arc<TokenTable>,
    /// Tokens that stand for bytes, with the number of bytes that they share with the one before.
    sorted: Vec<(u32, usize)>,
}

impl Vocabulary {
    /// Sorts tokens.
    #[must_use]
    pub fn new(table: Arc<TokenTable>) -> Self {
        let mut tokens: Vec<u32> =
            (0..table.len() as u32).filter(|token| !table.bytes(*token).is_empty()).collect();
        tokens.sort_by_key(|token| table.bytes(*token));
        let mut before: &[u8] = &[];
        let mut sorted = Vec::with_capacity(tokens.len());
        for token in tokens {
            let bytes = table.bytes(token);
            sorted.push((token, bytes.iter().zip(before).take_while(|(a, b)| a == b).count()));
            before = bytes;
        }
        Self { sorted, table }
    }

    /// Tokens whose bytes the automaton can take.
    fn allowed(&self, grammar: &Grammar, state: u32, tokens: usize) -> TokenSet {
        let mut set = TokenSet::empty(tokens);
        // States after each byte of the token before, as far as there are any.
        let mut states = vec![state];
        for (token, shared) in &self.sorted {
            if *shared >= states.len() {
                // It begins as one that failed.
                continue;
            }
            states.truncate(shared + 1);
            let bytes = self.table.bytes(*token);
            for byte in &bytes[*shared..] {
                match grammar.next(states[states.len() - 1], *byte) {
                    Some(next) => states.push(next),
                    None => break,
                }
            }
            if states.len() == bytes.len() + 1 {
                set.insert(*token);
            }
        }
        set
    }
}

/// A text that has to follow a grammar. Clones share what is known of each state.
#[derive(Debug, Clone)]
pub struct Constraint {
    grammar: Arc<Grammar>,
    vocabulary: Arc<Vocabulary>,
    known: Arc<Mutex<HashMap<u32, Arc<TokenSet>>>>,
    state: u32,
}

impl Constraint {
    /// At the beginning of a text.
    #[must_use]
    pub fn new(grammar: Arc<Grammar>, vocabulary: Arc<Vocabulary>) -> Self {
        let state = grammar.start();
        Self { grammar, vocabulary, known: Arc::default(), state }
    }

    /// Tokens that may come next, of so many; the stop tokens where the text may end.
    pub fn allowed(&mut self, stop_tokens: &[u32], tokens: usize) -> Arc<TokenSet> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let set = known.entry(self.state).or_insert_with(|| {
            let mut set = self.vocabulary.allowed(&self.grammar, self.state, tokens);
            if self.grammar.accepts(self.state) {
                stop_tokens.iter().for_each(|token| set.insert(*token));
            }
            Arc::new(set)
        });
        Arc::clone(set)
    }

    /// Takes a token, which was allowed.
    pub fn advance(&mut self, token: u32) {
        for byte in self.vocabulary.table.bytes(token) {
            if let Some(next) = self.grammar.next(self.state, *byte) {
                self.state = next;
            }
        }
    }

    /// Whether the text may end here.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.grammar.accepts(self.state)
    }
}
