//! Tokens of documents in a memory-mapped file: made once, verified before they are used again.
//!
//! The file: a header of [`HEADER`] bytes, the tokens (16 bits each where the vocabulary fits, else 32), padding to
//! eight bytes, the end of every document (64 bits), and, where not all tokens are learned, a bit for each that is.
//! All numbers are little-endian.

mod write;

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use jishi_recipe::Problem;
use memmap2::Mmap;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::error::DataError;
use crate::source::{Source, cannot_open};

const MAGIC: &[u8; 8] = b"jishitok";
const VERSION: u32 = 2;
/// Bytes of the header: magic, version, bits of a token, key, documents, tokens, whether there are bits of what is
/// learned, and zeros.
const HEADER: usize = 80;

/// What tokens were made of: equal keys, equal tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheKey(pub [u8; 32]);

impl CacheKey {
    /// The key of sources' content and of all else that tokens depend on: the tokenizer's JSON, the options, the split.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn of(sources: &[Source], parts: &[&[u8]]) -> Result<Self, DataError> {
        let mut hash = Sha256::new();
        // Lengths go in too, so that parts can't run into each other.
        let add = |hash: &mut Sha256, bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        add(&mut hash, &VERSION.to_le_bytes());
        for source in sources {
            match source {
                Source::Builtin(builtin) => add(&mut hash, builtin.bytes),
                Source::Memory { name, bytes } => {
                    add(&mut hash, name.as_bytes());
                    add(&mut hash, bytes);
                }
                Source::File(path) => {
                    // The name says the format.
                    add(&mut hash, path.as_os_str().as_encoded_bytes());
                    add(&mut hash, &digest_of(path)?);
                }
            }
        }
        for part in parts {
            add(&mut hash, part);
        }
        Ok(Self(hash.finalize().into()))
    }
}

fn digest_of(path: &Path) -> Result<[u8; 32], DataError> {
    let mut file = File::open(path).map_err(|e| cannot_open(path, &e))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(|e| DataError::io(path, e))? {
            0 => return Ok(hash.finalize().into()),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Tokens of a document, or of a part of a running text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Piece {
    /// Tokens.
    pub ids: Vec<u32>,
    /// Which of them are learned, as ranges in order; `None`: all.
    pub learned: Option<Vec<Range<usize>>>,
    /// It goes on where the piece before ended.
    pub continues: bool,
}

/// Tokens around documents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Around {
    /// Begins every document; it is read and not learned.
    pub bos: Option<u32>,
    /// Ends every document; learned where the token before it is.
    pub eos: Option<u32>,
}

/// Tokens of documents, mapped from a file.
#[derive(Debug)]
pub struct Tokens {
    map: Mmap,
    wide: bool,
    documents: usize,
    tokens: usize,
    masked: bool,
}

impl Tokens {
    /// Opens the tokens at `path`, or makes them where there are none, or others than `key` says.
    ///
    /// `items` come in lists, of which some are in memory at a time; `encode` makes tokens of them on all cores; the
    /// order is kept.
    ///
    /// # Errors
    /// What goes wrong with items and their encoding; a token that is not below `vocabulary`; a failing disk.
    pub fn open_or_build<T: Send + Sync>(
        path: &Path,
        key: &CacheKey,
        vocabulary: usize,
        around: Around,
        items: impl Iterator<Item = Result<Vec<T>, DataError>> + Send,
        encode: impl Fn(&T) -> Result<Piece, Problem> + Sync,
    ) -> Result<Self, DataError> {
        if let Some(found) = Self::open(path, key, vocabulary).map_err(|e| DataError::io(path, e))? {
            return Ok(found);
        }
        write::build(path, key, vocabulary, around, items, encode)?;
        Self::open(path, key, vocabulary).map_err(|e| DataError::io(path, e))?.ok_or_else(|| {
            DataError::io(path, io::Error::other("the tokens that were just written can't be read back"))
        })
    }

    /// Opens the tokens at `path`; `None` where there are none, others than `key` says, or damaged ones.
    ///
    /// # Errors
    /// A disk that fails.
    pub fn open(path: &Path, key: &CacheKey, vocabulary: usize) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() < HEADER as u64 {
            return Ok(None);
        }
        // SAFETY: the file is written under another name and renamed when it is whole; nobody writes to it after that,
        // and making it anew replaces the name and leaves this file as it is.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self::of_map(map, key, vocabulary))
    }

    fn of_map(map: Mmap, key: &CacheKey, vocabulary: usize) -> Option<Self> {
        let header = Header::parse(&map, map.len())?;
        if header.key != *key || header.wide != wide(vocabulary) {
            return None;
        }
        let new = Self {
            wide: header.wide,
            documents: header.documents,
            tokens: header.tokens,
            masked: header.masked,
            map,
        };
        new.is_sound(vocabulary).then_some(new)
    }

    /// Whether documents are in order and cover all tokens, and all tokens are in the vocabulary.
    fn is_sound(&self, vocabulary: usize) -> bool {
        let mut before = 0;
        for i in 0..self.documents {
            let end = self.end(i);
            if end < before {
                return false;
            }
            before = end;
        }
        let below = |id: u32| (id as usize) < vocabulary;
        before == self.tokens as u64
            && match self.wide {
                true => self.bytes().as_chunks::<4>().0.par_iter().all(|b| below(u32::from_le_bytes(*b))),
                false => {
                    self.bytes().as_chunks::<2>().0.par_iter().all(|b| below(u16::from_le_bytes(*b).into()))
                }
            }
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens == 0
    }

    /// Number of documents.
    #[must_use]
    pub fn documents(&self) -> usize {
        self.documents
    }

    /// The tokens of document `i`.
    ///
    /// # Panics
    /// Where there is no document `i`.
    #[must_use]
    pub fn document(&self, i: usize) -> Range<usize> {
        let start = if i == 0 { 0 } else { self.end(i - 1) };
        start as usize..self.end(i) as usize
    }

    /// The document that holds `token`.
    #[must_use]
    pub fn document_of(&self, token: usize) -> usize {
        let (mut low, mut high) = (0, self.documents);
        while low < high {
            let middle = (low + high) / 2;
            if self.end(middle) <= token as u64 { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Appends the tokens of a range.
    ///
    /// # Panics
    /// Where the range goes beyond the tokens.
    pub fn read(&self, range: Range<usize>, out: &mut Vec<u32>) {
        if self.wide {
            out.extend(self.bytes().as_chunks::<4>().0[range].iter().map(|b| u32::from_le_bytes(*b)));
        } else {
            out.extend(
                self.bytes().as_chunks::<2>().0[range].iter().map(|b| u32::from(u16::from_le_bytes(*b))),
            );
        }
    }

    /// Whether a token is to be learned.
    #[must_use]
    pub fn learned(&self, token: usize) -> bool {
        !self.masked || {
            let bits = HEADER + padded(self.tokens, self.wide) + 8 * self.documents;
            self.map[bits + token / 8] >> (token % 8) & 1 == 1
        }
    }

    /// Whether there are tokens that are not to be learned.
    #[must_use]
    pub fn is_masked(&self) -> bool {
        self.masked
    }

    fn bytes(&self) -> &[u8] {
        &self.map[HEADER..HEADER + self.tokens * width(self.wide)]
    }

    fn end(&self, i: usize) -> u64 {
        let ends = &self.map[HEADER + padded(self.tokens, self.wide)..];
        u64::from_le_bytes(ends[..8 * self.documents].as_chunks::<8>().0[i])
    }
}

fn wide(vocabulary: usize) -> bool {
    vocabulary > 1 << 16
}

fn width(wide: bool) -> usize {
    if wide { 4 } else { 2 }
}

/// Bytes of tokens and what follows them up to a multiple of eight.
fn padded(tokens: usize, wide: bool) -> usize {
    (tokens * width(wide)).next_multiple_of(8)
}

struct Header {
    wide: bool,
    key: CacheKey,
    documents: usize,
    tokens: usize,
    masked: bool,
}

impl Header {
    /// Reads a header; `None` where it is none, or does not fit a file of `length` bytes.
    fn parse(bytes: &[u8], length: usize) -> Option<Self> {
        let bytes = bytes.get(..HEADER)?;
        let u32_at = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let count_at = |at: usize| usize::try_from(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?)).ok();
        let new = Self {
            wide: match u32_at(12)? {
                16 => false,
                32 => true,
                _ => return None,
            },
            key: CacheKey(*bytes.get(16..)?.first_chunk()?),
            documents: count_at(48)?,
            tokens: count_at(56)?,
            masked: match u32_at(64)? {
                0 => false,
                1 => true,
                _ => return None,
            },
        };
        // No more can be there than the file has bytes, so that the sums can't overflow.
        if bytes[..8] != *MAGIC || u32_at(8)? != VERSION || new.documents > length || new.tokens > length {
            return None;
        }
        let bits = if new.masked { new.tokens.div_ceil(8) } else { 0 };
        (HEADER + padded(new.tokens, new.wide) + 8 * new.documents + bits == length).then_some(new)
    }

    fn bytes(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&(8 * width(self.wide) as u32).to_le_bytes());
        out[16..48].copy_from_slice(&self.key.0);
        out[48..56].copy_from_slice(&(self.documents as u64).to_le_bytes());
        out[56..64].copy_from_slice(&(self.tokens as u64).to_le_bytes());
        out[64..68].copy_from_slice(&u32::from(self.masked).to_le_bytes());
        out
    }
}

/// Checks a file's bytes as [`Tokens::open`] does; for fuzzing.
#[doc(hidden)]
#[must_use]
pub fn header_fits(bytes: &[u8]) -> bool {
    Header::parse(bytes, bytes.len()).is_some()
}

#[cfg(test)]
pub(super) mod tests;
