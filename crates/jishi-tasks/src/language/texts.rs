//! Tokens of texts of any length, and batches of them as an encoder reads them.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use jishi_data::text::tokenizer::Tokenizer;
use jishi_models::BertInput;
use jishi_recipe::Problem;

/// Tokens of a forward pass in evaluation, about.
const TOKENS: usize = 1 << 13;

/// The special tokens that an encoder needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderTokens {
    /// Comes first.
    pub cls: u32,
    /// Comes last, and between texts.
    pub sep: u32,
    /// Fills a batch up; what it is has no effect.
    pub pad: u32,
}

impl EncoderTokens {
    /// Those of a tokenizer.
    ///
    /// # Errors
    /// A tokenizer without `[CLS]` and `[SEP]`.
    pub fn of(tokenizer: &Tokenizer) -> Result<Self, Problem> {
        let special = tokenizer.special;
        match (special.cls, special.sep) {
            (Some(cls), Some(sep)) => Ok(Self { cls, sep, pad: special.pad.unwrap_or(0) }),
            _ => Err(Problem::new(
                "the tokenizer has no `[CLS]` and `[SEP]`, which an encoder reads around a text",
            )
            .help("leave `tokenizer.from` out to train one, or take one that was made for a BERT")),
        }
    }

    /// `[CLS] text [SEP]` of at most `length` tokens, and whether the text has lost its end.
    ///
    /// # Errors
    /// A text that the tokenizer has no tokens for.
    pub fn around(
        self,
        tokenizer: &Tokenizer,
        text: &str,
        length: usize,
    ) -> Result<(Vec<u32>, bool), Problem> {
        let mut tokens = vec![self.cls];
        tokens.extend(tokenizer.encode(text)?);
        let cut = tokens.len() + 1 > length;
        tokens.truncate(length.saturating_sub(1).max(1));
        tokens.push(self.sep);
        Ok((tokens, cut))
    }
}

/// Tokens of many texts, one after another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    ids: Vec<u32>,
    ends: Vec<usize>,
}

impl Texts {
    /// Adds a text.
    pub fn push(&mut self, tokens: &[u32]) {
        self.ids.extend_from_slice(tokens);
        self.ends.push(self.ids.len());
    }

    /// Number of texts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Tokens of all texts together.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// The tokens of a text.
    ///
    /// # Panics
    /// Where there is no such text.
    #[must_use]
    pub fn get(&self, i: usize) -> &[u32] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.ids[start..self.ends[i]]
    }

    /// All texts, those of like length together, in batches of at most `most` texts: nothing is padded for long.
    #[must_use]
    pub fn batches(&self, most: usize) -> Vec<Vec<u32>> {
        let lengths: Vec<usize> = (0..self.len()).map(|i| self.get(i).len()).collect();
        batches(&lengths, most)
    }

    /// Tokens of the longest of some texts.
    ///
    /// # Panics
    /// Where there is no such text.
    #[must_use]
    pub fn longest(&self, rows: &[u32]) -> usize {
        rows.iter().map(|r| self.get(*r as usize).len()).max().unwrap_or(0)
    }

    /// Texts as a model reads them, each filled up to `wide` tokens, or to the longest.
    ///
    /// # Panics
    /// Where there is no such text.
    #[must_use]
    pub fn input(&self, rows: &[u32], wide: Option<usize>, pad: u32, device: &Device) -> BertInput {
        let texts: Vec<&[u32]> = rows.iter().map(|r| self.get(*r as usize)).collect();
        padded(&texts, wide, pad, device)
    }
}

/// Examples of so many tokens, those of like length together, in batches of at most `most`, the longest first.
#[must_use]
pub fn batches(lengths: &[usize], most: usize) -> Vec<Vec<u32>> {
    let mut order: Vec<u32> = (0..lengths.len() as u32).collect();
    order.sort_by_key(|i| std::cmp::Reverse(lengths[*i as usize]));
    let mut batches = Vec::new();
    let mut rest = order.as_slice();
    while let Some(longest) = rest.first() {
        let longest = lengths[*longest as usize];
        let size = (TOKENS / longest.max(1)).clamp(1, most.max(1)).min(rest.len());
        let (batch, later) = rest.split_at(size);
        batches.push(batch.to_vec());
        rest = later;
    }
    batches
}

/// Texts as a model reads them, each filled up to `wide` tokens, or to the longest: tokens and mask, `[texts, wide]`.
#[must_use]
pub fn padded(texts: &[&[u32]], wide: Option<usize>, pad: u32, device: &Device) -> BertInput {
    let longest = texts.iter().map(|t| t.len()).max().unwrap_or(0).max(wide.unwrap_or(1));
    let shape = [texts.len(), longest];
    let mut tokens = vec![pad as i32; shape[0] * shape[1]];
    let mut mask = vec![false; tokens.len()];
    for (i, text) in texts.iter().enumerate() {
        for (j, token) in text.iter().enumerate() {
            tokens[i * longest + j] = *token as i32;
            mask[i * longest + j] = true;
        }
    }
    let full = mask.iter().all(|there| *there);
    let mask = (!full).then(|| Tensor::<2, Bool>::from_data(TensorData::new(mask, shape), device));
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, shape), device);
    BertInput { tokens, types: None, mask }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_every_text_once_and_the_long_ones_first() {
        let mut texts = Texts::default();
        for n in [3usize, 9, 1, 9, 4] {
            texts.push(&vec![7; n]);
        }
        assert_eq!(texts.batches(2), [vec![1, 3], vec![4, 0], vec![2]]);
        assert_eq!((texts.len(), texts.tokens(), texts.get(2)), (5, 26, [7].as_slice()));
        let input = texts.input(&[0, 2], None, 5, &Device::flex());
        let tokens = input.tokens.into_data().iter::<i32>().collect::<Vec<_>>();
        assert_eq!(tokens, [7, 7, 7, 7, 5, 5]);
        assert!(input.mask.is_some() && texts.input(&[1, 3], None, 5, &Device::flex()).mask.is_none());
    }
}
