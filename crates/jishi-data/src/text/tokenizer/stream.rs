//! Text from tokens as they come, one by one.

use super::Tokenizer;

/// Tokens that may wait for the rest of a character: it has four bytes at most.
const MOST_WAITING: usize = 8;

/// Decodes tokens one at a time, and holds back what is not yet a whole character.
#[derive(Debug)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    /// Tokens that still matter: those given last, which say whether a space comes next, and those held back.
    ids: Vec<u32>,
    /// How many of `ids` were given.
    given: usize,
}

impl<'a> StreamDecoder<'a> {
    /// Decodes with `tokenizer`; special tokens give no text.
    #[must_use]
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, ids: Vec::new(), given: 0 }
    }

    /// Takes the next token; returns the text that is now whole, which may be empty.
    pub fn push(&mut self, id: u32) -> String {
        self.ids.push(id);
        let waiting = self.ids.len() - self.given;
        self.take(waiting >= MOST_WAITING)
    }

    /// The text that was held back, with `\u{fffd}` for what is no character.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.take(true)
    }

    fn take(&mut self, all: bool) -> String {
        let before = self.tokenizer.decode(&self.ids[..self.given]);
        let now = self.tokenizer.decode(&self.ids);
        if !all && now.ends_with('\u{fffd}') {
            return String::new();
        }
        let new = now.get(before.len()..).unwrap_or_default().to_owned();
        // A token without text can't stand for what comes before.
        if !new.is_empty() {
            self.ids.drain(..self.given);
        }
        self.given = self.ids.len();
        new
    }
}
