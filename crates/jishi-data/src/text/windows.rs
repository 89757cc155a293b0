//! Windows of tokens that language models learn from.

use std::sync::Arc;

use jishi_recipe::{Overlong, Problem};

use super::cache::Tokens;

/// Stands for a target that is not learned.
pub const IGNORE: u32 = u32::MAX;

/// Examples of `length` tokens and the tokens that follow each of them.
///
/// Packed, the documents in order are cut into windows, each of which may hold several documents or a part of one;
/// else a window is one document.
#[derive(Debug, Clone)]
pub struct Windows {
    tokens: Arc<Tokens>,
    length: usize,
    /// Fills up windows that are too short.
    pad: u32,
    /// One document a window: which ones.
    documents: Option<Vec<u32>>,
    /// Documents with more tokens than fit in a window.
    pub overlong: Vec<u32>,
}

/// Windows side by side, row-major. The vectors' room is used again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WindowBatch {
    /// Tokens, `[windows, length]`.
    pub inputs: Vec<u32>,
    /// The token after each, or [`IGNORE`], `[windows, length]`.
    pub targets: Vec<u32>,
    /// First position of the window that each position may see: where its document starts, `[windows, length]`.
    pub starts: Vec<u32>,
}

impl Windows {
    /// Windows over documents that are laid end to end. The last one may be filled up.
    ///
    /// # Panics
    /// Where `length` is 0.
    #[must_use]
    pub fn packed(tokens: Arc<Tokens>, length: usize, pad: u32) -> Self {
        assert!(length > 0, "a window has at least one token");
        Self { tokens, length, pad, documents: None, overlong: Vec::new() }
    }

    /// One document a window, filled up with `pad`. Documents of fewer than two tokens teach nothing and have none.
    ///
    /// # Errors
    /// Documents that don't fit, where `overlong` says so.
    ///
    /// # Panics
    /// Where `length` is 0.
    pub fn single(tokens: Arc<Tokens>, length: usize, pad: u32, overlong: Overlong) -> Result<Self, Problem> {
        let mut new = Self::packed(tokens, length, pad);
        let mut documents = Vec::new();
        for i in 0..new.tokens.documents() {
            let tokens = new.tokens.document(i).len();
            if tokens > length + 1 {
                new.overlong.push(i as u32);
                if overlong == Overlong::Error {
                    return Err(Problem::new(format!(
                        "document {} has {tokens} tokens, but {} fit in an example",
                        i + 1,
                        length + 1
                    ))
                    .help("raise `max_length`, or set `overlong` to \"truncate\" or \"drop\""));
                }
                if overlong == Overlong::Drop {
                    continue;
                }
            }
            if tokens >= 2 {
                documents.push(i as u32);
            }
        }
        new.documents = Some(documents);
        Ok(new)
    }

    /// Number of windows.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.documents {
            Some(documents) => documents.len(),
            None => self.tokens.len().saturating_sub(1).div_ceil(self.length),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of a window.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// The tokens that windows are cut from.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Number of places where a whole window can begin, for [`Self::at`]; at least 1.
    #[must_use]
    pub fn offsets(&self) -> usize {
        self.tokens.len().saturating_sub(self.length).max(1)
    }

    /// Fills `batch` with the windows of these numbers.
    ///
    /// # Panics
    /// Where a number is not below [`Self::len`].
    pub fn gather(&self, windows: &[usize], batch: &mut WindowBatch) {
        batch.clear();
        for &window in windows {
            assert!(window < self.len(), "window {window} of {}", self.len());
            let (start, end) = match &self.documents {
                Some(documents) => {
                    let range = self.tokens.document(documents[window] as usize);
                    (range.start, range.end)
                }
                None => (window * self.length, self.tokens.len()),
            };
            self.push(start, end, batch);
        }
    }

    /// Fills `batch` with windows that begin at any token, each below [`Self::offsets`], as nanoGPT draws them.
    ///
    /// # Panics
    /// Where a window is one document, and has no other place to begin.
    pub fn at(&self, offsets: &[usize], batch: &mut WindowBatch) {
        assert!(self.documents.is_none(), "windows of one document begin where it does");
        batch.clear();
        offsets.iter().for_each(|&offset| self.push(offset, self.tokens.len(), batch));
    }

    /// Adds the window that begins at `start` and does not go beyond `end`.
    fn push(&self, start: usize, end: usize, batch: &mut WindowBatch) {
        let base = batch.inputs.len();
        let inputs = start..(start + self.length).min(end);
        self.tokens.read(inputs.clone(), &mut batch.inputs);
        self.tokens.read((start + 1).min(end)..(start + 1 + self.length).min(end), &mut batch.targets);
        let mut document = self.tokens.document_of(start);
        let mut at = start;
        while at < inputs.end {
            // Documents without tokens are passed over.
            let range = self.tokens.document(document);
            let until = range.end.min(inputs.end);
            batch.starts.resize(base + until - start, range.start.saturating_sub(start) as u32);
            // The first token of the next document does not follow from this one.
            if until == range.end
                && (at + 1..end).contains(&until)
                && let Some(target) = batch.targets.get_mut(base + until - 1 - start)
            {
                *target = IGNORE;
            }
            at = at.max(until);
            document += 1;
        }
        if self.tokens.is_masked() {
            for (i, target) in batch.targets[base..].iter_mut().enumerate() {
                if !self.tokens.learned(start + 1 + i) {
                    *target = IGNORE;
                }
            }
        }
        batch.inputs.resize(base + self.length, self.pad);
        batch.targets.resize(base + self.length, IGNORE);
        // What fills up sees itself alone, so that no row of attention is empty.
        for position in batch.starts.len() - base..self.length {
            batch.starts.push(position as u32);
        }
    }
}

impl WindowBatch {
    fn clear(&mut self) {
        self.inputs.clear();
        self.targets.clear();
        self.starts.clear();
    }

    /// Number of targets that are learned.
    #[must_use]
    pub fn learned(&self) -> usize {
        self.targets.iter().filter(|&&t| t != IGNORE).count()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::text::cache::{Around, Piece, tests::tokens};

    fn of(documents: &[&[u32]], eos: Option<u32>) -> Arc<Tokens> {
        let pieces = documents.iter().map(|ids| Piece { ids: ids.to_vec(), ..Piece::default() });
        Arc::new(tokens(pieces.collect(), 100, Around { bos: None, eos }))
    }

    #[test]
    fn a_stream_is_cut_in_windows() {
        let windows = Windows::packed(of(&[&[1, 2, 3, 4, 5, 6, 7]], None), 3, 0);
        assert_eq!((windows.len(), windows.offsets()), (2, 4));
        let mut batch = WindowBatch::default();
        windows.gather(&[0, 1], &mut batch);
        assert_eq!(batch.inputs, [1, 2, 3, 4, 5, 6]);
        assert_eq!(batch.targets, [2, 3, 4, 5, 6, 7]);
        assert_eq!(batch.starts, [0; 6]);
        windows.at(&[3], &mut batch);
        assert_eq!((batch.inputs, batch.targets), (vec![4, 5, 6], vec![5, 6, 7]));
    }

    #[test]
    fn packed_documents_do_not_see_each_other() {
        let windows = Windows::packed(of(&[&[1, 2], &[3], &[4, 5, 6]], Some(9)), 5, 0);
        let mut batch = WindowBatch::default();
        windows.gather(&[0, 1], &mut batch);
        //                         1  2  9  3  9 | 4  5  6  9  pad
        assert_eq!(batch.inputs, [1, 2, 9, 3, 9, 4, 5, 6, 9, 0]);
        assert_eq!(batch.targets, [2, 9, IGNORE, 9, IGNORE, 5, 6, 9, IGNORE, IGNORE]);
        assert_eq!(batch.starts, [0, 0, 0, 3, 3, 0, 0, 0, 0, 4]);
        assert_eq!(batch.learned(), 6);
    }

    #[test]
    fn one_document_a_window() {
        let tokens = of(&[&[1, 2], &[], &[3, 4, 5, 6]], Some(9));
        let windows = Windows::single(tokens.clone(), 3, 0, Overlong::Truncate).unwrap();
        let mut batch = WindowBatch::default();
        windows.gather(&[0, 1], &mut batch);
        assert_eq!(batch.inputs, [1, 2, 9, 3, 4, 5]);
        assert_eq!(batch.targets, [2, 9, IGNORE, 4, 5, 6]);
        assert_eq!((windows.len(), windows.overlong.as_slice()), (2, [2].as_slice()));
        assert_eq!(Windows::single(tokens.clone(), 3, 0, Overlong::Drop).unwrap().len(), 1);
        let error = Windows::single(tokens, 3, 0, Overlong::Error).unwrap_err();
        assert!(error.message.contains("document 3 has 5 tokens, but 4 fit"), "{error}");
    }

    #[test]
    fn prompts_are_read_and_not_learned() {
        let piece =
            Piece { ids: vec![1, 2, 3, 4], learned: Some(std::iter::once(2..4).collect()), continues: false };
        let tokens = Arc::new(tokens(vec![piece], 10, Around { bos: None, eos: Some(9) }));
        let windows = Windows::packed(tokens, 4, 0);
        let mut batch = WindowBatch::default();
        windows.gather(&[0], &mut batch);
        assert_eq!(batch.targets, [IGNORE, 3, 4, 9]);
    }

    proptest! {
        #[test]
        fn every_token_is_a_target_once(
            documents in prop::collection::vec(prop::collection::vec(1u32..50, 0..9), 1..9),
            length in 1usize..7,
        ) {
            let slices: Vec<&[u32]> = documents.iter().map(Vec::as_slice).collect();
            let windows = Windows::packed(of(&slices, None), length, 0);
            let mut batch = WindowBatch::default();
            windows.gather(&(0..windows.len()).collect::<Vec<_>>(), &mut batch);
            // All tokens but the first of each document, in order.
            let expected: Vec<u32> = documents.iter().filter(|d| !d.is_empty()).flat_map(|d| d[1..].to_vec()).collect();
            let found: Vec<u32> = batch.targets.iter().copied().filter(|&t| t != IGNORE).collect();
            prop_assert_eq!(found, expected);
            for (i, &start) in batch.starts.iter().enumerate() {
                prop_assert!(start as usize <= i % length);
            }
            prop_assert_eq!(batch.starts.len(), batch.inputs.len());
        }
    }
}
