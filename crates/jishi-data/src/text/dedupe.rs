//! Documents that are there more than once, exactly or nearly.
//!
//! Nearly: MinHash (Broder 1997, "On the resemblance and containment of documents") over 5-grams of words, or of
//! characters where words are not set apart by spaces; candidates share one of [`BANDS`] bands of their signatures, and
//! are the same where at least [`ALIKE`] of the signatures agrees. A pair of Jaccard similarity 0.8 becomes a
//! candidate with a probability above 0.99.

use std::collections::{HashMap, HashSet};

use foldhash::fast::FixedState;
use jishi_recipe::Deduplicate;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::documents::Document;

const BANDS: usize = 21;
const ROWS: usize = 6;
const SIGNATURE: usize = BANDS * ROWS;
/// Share of the signature that nearly equal documents have in common.
const ALIKE: f64 = 0.8;
/// Words or characters that are compared together.
const GRAM: usize = 5;

/// Finds documents that were seen before.
#[derive(Debug)]
pub(super) enum Seen {
    None,
    Exact(HashSet<[u8; 16]>),
    Near(Box<Near>),
}

#[derive(Debug, Default)]
pub(super) struct Near {
    signatures: Vec<[u32; SIGNATURE]>,
    /// Documents by band and what it holds.
    bands: HashMap<(u8, u64), Vec<u32>, FixedState>,
}

impl Seen {
    pub(super) fn new(how: Deduplicate) -> Self {
        match how {
            Deduplicate::None => Self::None,
            Deduplicate::Exact => Self::Exact(HashSet::new()),
            Deduplicate::Near => Self::Near(Box::default()),
        }
    }

    /// For each document whether it, or one like it, came before; the others are remembered.
    pub(super) fn check(&mut self, documents: &[Document]) -> Vec<bool> {
        match self {
            Self::None => vec![false; documents.len()],
            Self::Exact(seen) => {
                let hashes: Vec<[u8; 16]> = documents.par_iter().map(exact).collect();
                hashes.into_iter().map(|hash| !seen.insert(hash)).collect()
            }
            Self::Near(near) => {
                let signatures: Vec<_> = documents.par_iter().map(|d| signature(&whole(d))).collect();
                signatures.into_iter().map(|signature| near.check(signature)).collect()
            }
        }
    }

    /// The reason for the ledger.
    pub(super) fn reason(&self) -> &'static str {
        if matches!(self, Self::Near(_)) {
            "nearly the same as an earlier document"
        } else {
            "the same as an earlier document"
        }
    }
}

impl Near {
    fn check(&mut self, signature: [u32; SIGNATURE]) -> bool {
        let keys: Vec<(u8, u64)> = signature
            .chunks(ROWS)
            .zip(0u8..)
            .map(|(rows, band)| (band, rows.iter().fold(0, |hash, &row| mix(hash ^ u64::from(row)))))
            .collect();
        let alike = |other: &u32| {
            let other = &self.signatures[*other as usize];
            let same = signature.iter().zip(other).filter(|(a, b)| a == b).count();
            same as f64 >= ALIKE * SIGNATURE as f64
        };
        if keys.iter().any(|key| self.bands.get(key).is_some_and(|others| others.iter().any(alike))) {
            return true;
        }
        let new = self.signatures.len() as u32;
        self.signatures.push(signature);
        for key in keys {
            self.bands.entry(key).or_default().push(new);
        }
        false
    }
}

/// All that is learned of a document, its label left out: the same text must not be in two splits.
fn whole(document: &Document) -> String {
    let mut text = document.prompt.clone().unwrap_or_default();
    for part in document.messages.iter().map(|m| &m.content).chain([&document.text]) {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(part);
    }
    text
}

fn exact(document: &Document) -> [u8; 16] {
    let mut hash = Sha256::new();
    for message in &document.messages {
        for part in [&message.role, &message.content] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    let prompt = document.prompt.as_deref().unwrap_or_default();
    hash.update((prompt.len() as u64).to_le_bytes());
    hash.update(prompt);
    hash.update(&document.text);
    let hash: [u8; 32] = hash.finalize().into();
    std::array::from_fn(|i| hash[i])
}

/// Scrambles 64 bits (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators").
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn hash_of(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn signature(text: &str) -> [u32; SIGNATURE] {
    let mut least = [u32::MAX; SIGNATURE];
    let mut add = |gram: &[u64]| {
        let gram = gram.iter().fold(0, |hash, &part| mix(hash ^ part));
        for (i, least) in least.iter_mut().enumerate() {
            *least =
                (*least).min(mix(gram.wrapping_add((i as u64).wrapping_mul(0xd6e8_feb8_6659_fd93))) as u32);
        }
    };
    let text = text.to_lowercase();
    let parts: Vec<u64> = if has_no_spaces(&text) {
        text.chars().filter(|c| c.is_alphanumeric()).map(|c| u64::from(u32::from(c))).collect()
    } else {
        text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(hash_of).collect()
    };
    if parts.len() < GRAM {
        add(&parts);
    }
    parts.windows(GRAM).for_each(&mut add);
    least
}

/// Whether most letters are of a script that does not set words apart.
fn has_no_spaces(text: &str) -> bool {
    let (mut without, mut letters) = (0usize, 0usize);
    for c in text.chars().filter(|c| c.is_alphabetic()) {
        letters += 1;
        without +=
            usize::from(super::statistics::Script::of(c).is_some_and(super::statistics::Script::no_spaces));
    }
    2 * without > letters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(how: Deduplicate, texts: &[&str]) -> Vec<bool> {
        let documents: Vec<Document> =
            texts.iter().map(|t| Document { text: t.to_string(), ..Document::default() }).collect();
        Seen::new(how).check(&documents)
    }

    #[test]
    fn exact_and_near() {
        let words: Vec<String> = (0..100).map(|i| format!("word{}", i * 7 % 101)).collect();
        let one = words.join(" ");
        // One word in a hundred: 5 of 96 grams differ, a similarity of 0.9.
        let near = one.replacen("word7 ", "another ", 1);
        let far = words.iter().rev().cloned().collect::<Vec<_>>().join(" ");
        let texts = [one.as_str(), &near, &one, &far, "short", "Short!", "other"];
        assert_eq!(check(Deduplicate::None, &texts), [false; 7]);
        assert_eq!(check(Deduplicate::Exact, &texts), [false, false, true, false, false, false, false]);
        assert_eq!(check(Deduplicate::Near, &texts), [false, true, true, false, false, true, false]);
    }

    #[test]
    fn chinese_is_compared_by_characters() {
        let one: String = (0..200u32).filter_map(|i| char::from_u32(0x4e00 + i * 37 % 5000)).collect();
        let near = one.replacen(one.chars().nth(50).unwrap(), "新", 1);
        let far: String = one.chars().rev().collect();
        assert_eq!(check(Deduplicate::Near, &[&one, &near, &far]), [false, true, false]);
    }

    #[test]
    fn similarity_of_half_is_kept() {
        let words: Vec<String> = (0..200).map(|i| format!("w{i}")).collect();
        let other: Vec<String> =
            (0..200).map(|i| if i < 130 { format!("w{i}") } else { format!("v{i}") }).collect();
        assert_eq!(check(Deduplicate::Near, &[&words.join(" "), &other.join(" ")]), [false, false]);
    }
}
