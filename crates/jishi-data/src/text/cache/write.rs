//! Makes the file of tokens, under another name until it is whole.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use jishi_recipe::Problem;
use rayon::prelude::*;

use super::{Around, CacheKey, HEADER, Header, Piece, padded, wide, width};
use crate::error::DataError;

/// Lists of items that are encoded at a time, and items where they are short.
const BATCHES: usize = 32;
const ITEMS: usize = 4096;

pub(super) fn build<T: Send + Sync>(
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
        let mut batches = 0;
        // A reader gives nothing where all that it has read is of another split: that is not the end.
        for more in items.by_ref() {
            let more = more?;
            batches += usize::from(!more.is_empty());
            batch.extend(more);
            if batches == BATCHES || batch.len() >= ITEMS {
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
