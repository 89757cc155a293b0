//! Tokens of documents in a memory-mapped file: made once, verified before they are used again.
//!
//! The file: a header of [`HEADER`] bytes, the tokens (16 bits each where the vocabulary fits, else 32), padding to
//! eight bytes, the end of every document (64 bits), and, where not all tokens are learned, a bit for each that is.
//! All numbers are little-endian.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use jishi_recipe::Problem;
use memmap2::Mmap;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::error::DataError;
use crate::source::{Source, cannot_open};

const MAGIC: &[u8; 8] = b"jishitok";
const VERSION: u32 = 1;
/// Bytes of the header: magic, version, bits of a token, key, documents, tokens, whether there are bits of what is
/// learned, and zeros.
const HEADER: usize = 80;
/// Lists of items that are encoded at a time, and items where they are short.
const BATCHES: usize = 32;
const ITEMS: usize = 4096;

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
        build(path, key, vocabulary, around, items, encode)?;
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

fn build<T: Send + Sync>(
    path: &Path,
    key: &CacheKey,
    vocabulary: usize,
    around: Around,
    mut items: impl Iterator<Item = Result<Vec<T>, DataError>> + Send,
    encode: impl Fn(&T) -> Result<Piece, Problem> + Sync,
) -> Result<(), DataError> {
    let failed = |e| DataError::io(path, e);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let temporary = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let mut writer = Writer::new(temporary.as_file(), *key, vocabulary, around).map_err(failed)?;
    let mut take = || {
        let mut batch: Vec<T> = Vec::new();
        for more in items.by_ref().take(BATCHES) {
            batch.extend(more?);
            if batch.len() >= ITEMS {
                break;
            }
        }
        Ok::<_, DataError>(batch)
    };
    let mut batch = take()?;
    let mut pieces: Vec<Piece> = Vec::new();
    while !batch.is_empty() || !pieces.is_empty() {
        // Disk and reader work while the next items are encoded.
        let (encoded, next) = rayon::join(
            || batch.par_iter().map(&encode).collect::<Result<Vec<Piece>, Problem>>(),
            || {
                pieces.iter().try_for_each(|piece| writer.push(piece)).map_err(failed)?;
                take()
            },
        );
        pieces = encoded?;
        batch = next?;
    }
    writer.finish().map_err(failed)?;
    temporary.as_file().sync_all().map_err(failed)?;
    temporary.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}

/// Writes tokens as they come.
struct Writer<'a> {
    out: BufWriter<&'a File>,
    header: Header,
    vocabulary: usize,
    around: Around,
    ends: Vec<u64>,
    /// Bits of what is learned, as soon as something is not.
    bits: Vec<u8>,
    /// The last token is learned; a document is open.
    last_learned: bool,
    open: bool,
}

impl<'a> Writer<'a> {
    fn new(file: &'a File, key: CacheKey, vocabulary: usize, around: Around) -> io::Result<Self> {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&[0; HEADER])?;
        let header = Header { wide: wide(vocabulary), key, documents: 0, tokens: 0, masked: false };
        Ok(Self {
            out,
            header,
            vocabulary,
            around,
            ends: Vec::new(),
            bits: Vec::new(),
            last_learned: true,
            open: false,
        })
    }

    fn push(&mut self, piece: &Piece) -> io::Result<()> {
        if !(piece.continues && self.open) {
            self.close()?;
            self.open = true;
            if let Some(bos) = self.around.bos {
                // A first token that is predicted from nothing is in no window; marking it would cost a bit a token.
                self.token(bos, true)?;
            }
        }
        let mut ranges = piece.learned.as_deref().map(|ranges| ranges.iter().peekable());
        for (i, &id) in piece.ids.iter().enumerate() {
            let learned = ranges.as_mut().is_none_or(|ranges| {
                while ranges.next_if(|r| r.end <= i).is_some() {}
                ranges.peek().is_some_and(|r| r.contains(&i))
            });
            self.token(id, learned)?;
        }
        Ok(())
    }

    fn token(&mut self, id: u32, learned: bool) -> io::Result<()> {
        if id as usize >= self.vocabulary {
            return Err(io::Error::other(format!(
                "token {id} is not in the vocabulary of {}",
                self.vocabulary
            )));
        }
        match self.header.wide {
            true => self.out.write_all(&id.to_le_bytes())?,
            false => self.out.write_all(&(id as u16).to_le_bytes())?,
        }
        let at = self.header.tokens;
        if !learned && !self.header.masked {
            self.header.masked = true;
            self.bits = vec![0xff; at / 8];
            if !at.is_multiple_of(8) {
                self.bits.push((1 << (at % 8)) - 1);
            }
        }
        if self.header.masked {
            if at.is_multiple_of(8) {
                self.bits.push(0);
            }
            self.bits[at / 8] |= u8::from(learned) << (at % 8);
        }
        self.last_learned = learned;
        self.header.tokens += 1;
        Ok(())
    }

    /// Ends the open document.
    fn close(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.open) {
            return Ok(());
        }
        if let Some(eos) = self.around.eos {
            self.token(eos, self.last_learned)?;
        }
        self.ends.push(self.header.tokens as u64);
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.close()?;
        let tokens = self.header.tokens;
        let padding = padded(tokens, self.header.wide) - tokens * width(self.header.wide);
        self.out.write_all(&[0; 8][..padding])?;
        for end in &self.ends {
            self.out.write_all(&end.to_le_bytes())?;
        }
        self.out.write_all(&self.bits)?;
        self.header.documents = self.ends.len();
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&self.header.bytes())?;
        self.out.flush()
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn tokens(pieces: Vec<Piece>, vocabulary: usize, around: Around) -> Tokens {
        let folder = tempfile::tempdir().unwrap();
        let items = pieces.chunks(3).map(|pieces| Ok(pieces.to_vec())).collect::<Vec<_>>().into_iter();
        let path = folder.path().join("sub/tokens");
        Tokens::open_or_build(&path, &CacheKey([7; 32]), vocabulary, around, items, |p: &Piece| Ok(p.clone()))
            .unwrap()
    }

    fn piece(ids: &[u32]) -> Piece {
        Piece { ids: ids.to_vec(), ..Piece::default() }
    }

    #[test]
    fn documents_come_back_with_what_is_around_them() {
        let around = Around { bos: Some(8), eos: Some(9) };
        let pieces = vec![
            piece(&[1, 2]),
            Piece { continues: true, ..piece(&[3]) },
            piece(&[]),
            Piece { learned: Some(vec![1..2, 3..4]), ..piece(&[1, 2, 3, 4, 5]) },
        ];
        for vocabulary in [10, 70_000] {
            let tokens = tokens(pieces.clone(), vocabulary, around);
            let mut all = Vec::new();
            tokens.read(0..tokens.len(), &mut all);
            assert_eq!(all, [8, 1, 2, 3, 9, 8, 9, 8, 1, 2, 3, 4, 5, 9]);
            assert_eq!((0..3).map(|i| tokens.document(i)).collect::<Vec<_>>(), [0..5, 5..7, 7..14]);
            assert_eq!((tokens.document_of(4), tokens.document_of(5), tokens.document_of(13)), (0, 1, 2));
            let learned: Vec<usize> = (8..14).filter(|&t| tokens.learned(t)).collect();
            assert_eq!(learned, [9, 11]);
            assert!((0..8).all(|t| tokens.learned(t)));
        }
        assert_eq!(tokens(Vec::new(), 10, around).documents(), 0);
    }

    #[test]
    fn used_again_with_the_same_key_alone_and_never_when_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let key = CacheKey([1; 32]);
        let make = |key, ids: &[u32]| {
            let items = [Ok(vec![piece(ids)])];
            let made =
                Tokens::open_or_build(&path, &key, 10, Around::default(), items.into_iter(), |p: &Piece| {
                    Ok(p.clone())
                })
                .unwrap();
            let mut out = Vec::new();
            made.read(0..made.len(), &mut out);
            out
        };
        assert_eq!(make(key, &[1, 2, 3]), [1, 2, 3]);
        assert_eq!(make(key, &[4]), [1, 2, 3]);
        assert_eq!(make(CacheKey([2; 32]), &[4]), [4]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        make(key, &[1, 2, 3]);
        let good = std::fs::read(&path).unwrap();
        // A lower vocabulary: a token that is beyond it.
        assert!(Tokens::open(&path, &key, 3).unwrap().is_none());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x80;
            std::fs::write(&path, &bad).unwrap();
            let free = (68..HEADER).contains(&at) || at == HEADER + 6 || at == HEADER + 7;
            assert_eq!(Tokens::open(&path, &key, 10).unwrap().is_some(), free, "byte {at}");
        }
        for length in 0..good.len() {
            std::fs::write(&path, &good[..length]).unwrap();
            assert!(Tokens::open(&path, &key, 10).unwrap().is_none(), "{length} bytes");
        }
        assert_eq!(make(key, &[5]), [5]);
    }

    #[test]
    fn keys_depend_on_everything() {
        let source = |text: &str| Source::Memory { name: "a.txt".into(), bytes: text.as_bytes().into() };
        let key = |text: &str, parts: &[&[u8]]| CacheKey::of(&[source(text)], parts).unwrap();
        assert_eq!(key("a", &[b"x"]), key("a", &[b"x"]));
        assert_ne!(key("a", &[b"x"]), key("b", &[b"x"]));
        assert_ne!(key("a", &[b"xy", b"z"]), key("a", &[b"x", b"yz"]));
        assert!(CacheKey::of(&[Source::File("none".into())], &[]).is_err());
    }

    #[test]
    fn order_is_kept_over_batches() {
        let pieces: Vec<Piece> = (0..10_000).map(|i| piece(&[i, i + 1])).collect();
        let tokens = tokens(pieces, 20_000, Around::default());
        let mut out = Vec::new();
        tokens.read(0..tokens.len(), &mut out);
        assert!(out.chunks(2).zip(0..).all(|(pair, i)| pair == [i, i + 1]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = bytes;
            let _ = header_fits(&bytes);
            if bytes.len() >= 12 {
                bytes[..8].copy_from_slice(MAGIC);
                bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
                let _ = header_fits(&bytes);
            }
        }
    }
}
