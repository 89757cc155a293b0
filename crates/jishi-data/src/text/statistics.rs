//! What texts look like: how many, how long, in which scripts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Figures of the documents that are used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Documents; a running text is one.
    pub documents: u64,
    /// Characters (Unicode scalar values) of all of them.
    pub characters: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Characters of a document: least, 5 %, 25 %, half, 75 %, 95 %, most.
    pub length: [u64; 7],
    /// Share of the letters by script, the largest first in a report; 0 to 1.
    pub scripts: BTreeMap<String, f64>,
    /// Documents of every split.
    pub splits: BTreeMap<String, u64>,
}

/// A script, as far as they are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Script {
    Latin,
    Han,
    Kana,
    Hangul,
    Cyrillic,
    Greek,
    Arabic,
    Hebrew,
    Devanagari,
    Thai,
    Other,
}

impl Script {
    /// The script of a letter; `None` for what is none.
    pub(super) fn of(c: char) -> Option<Self> {
        if !c.is_alphabetic() {
            return None;
        }
        Some(match u32::from(c) {
            0x41..=0x24f | 0x1e00..=0x1eff | 0x2c60..=0x2c7f | 0xa720..=0xa7ff | 0xff21..=0xff5a => {
                Self::Latin
            }
            0x2e80..=0x2fdf
            | 0x3005..=0x3007
            | 0x3400..=0x4dbf
            | 0x4e00..=0x9fff
            | 0xf900..=0xfaff
            | 0x20000..=0x3ffff => Self::Han,
            0x3040..=0x30ff | 0x31f0..=0x31ff | 0xff66..=0xff9f => Self::Kana,
            0x1100..=0x11ff | 0x3130..=0x318f | 0xac00..=0xd7ff => Self::Hangul,
            0x400..=0x52f | 0x1c80..=0x1c8f | 0x2de0..=0x2dff | 0xa640..=0xa69f => Self::Cyrillic,
            0x370..=0x3ff | 0x1f00..=0x1fff => Self::Greek,
            0x600..=0x6ff | 0x750..=0x77f | 0x8a0..=0x8ff | 0xfb50..=0xfdff | 0xfe70..=0xfeff => Self::Arabic,
            0x590..=0x5ff => Self::Hebrew,
            0x900..=0x97f => Self::Devanagari,
            0xe00..=0xe7f => Self::Thai,
            _ => Self::Other,
        })
    }

    /// Whether it sets no spaces between words.
    pub(super) fn no_spaces(self) -> bool {
        matches!(self, Self::Han | Self::Kana | Self::Thai)
    }
}

/// Gathers the figures.
#[derive(Debug, Default)]
pub(super) struct Counter {
    lengths: Vec<u64>,
    bytes: u64,
    letters: BTreeMap<Script, u64>,
}

impl Counter {
    /// Adds a document, or goes on with the last one. Returns its characters.
    pub(super) fn push<'a>(&mut self, texts: impl Iterator<Item = &'a str>, continues: bool) -> u64 {
        let mut characters = 0;
        for text in texts {
            self.bytes += text.len() as u64;
            for c in text.chars() {
                characters += 1;
                if let Some(script) = Script::of(c) {
                    *self.letters.entry(script).or_default() += 1;
                }
            }
        }
        match self.lengths.last_mut() {
            Some(last) if continues => *last += characters,
            _ => self.lengths.push(characters),
        }
        characters
    }

    pub(super) fn finish(mut self) -> Statistics {
        self.lengths.sort_unstable();
        let n = self.lengths.len();
        let at = |share: f64| match n {
            0 => 0,
            n => self.lengths[(share * (n - 1) as f64).round() as usize],
        };
        let letters: u64 = self.letters.values().sum();
        let scripts = self.letters.iter();
        Statistics {
            documents: n as u64,
            characters: self.lengths.iter().sum(),
            bytes: self.bytes,
            length: [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0].map(at),
            scripts: scripts.map(|(s, n)| (format!("{s:?}"), *n as f64 / letters as f64)).collect(),
            splits: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_scripts() {
        let mut counter = Counter::default();
        counter.push(["ab 12"].into_iter(), false);
        counter.push(["天地"].into_iter(), false);
        counter.push(["!"].into_iter(), true);
        let found = counter.finish();
        assert_eq!((found.documents, found.characters, found.bytes), (2, 8, 12));
        assert_eq!(found.length, [3, 3, 3, 5, 5, 5, 5]);
        assert_eq!(found.scripts, BTreeMap::from([("Han".into(), 0.5), ("Latin".into(), 0.5)]));
        assert_eq!(Counter::default().finish(), Statistics::default());
    }
}
