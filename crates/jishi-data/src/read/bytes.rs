//! From a source to blocks of bytes that end where a record ends.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;

use jishi_recipe::{Format, Problem};

use super::Stop;
use crate::source::{ReadOptions, Source, cannot_open, is_folder};

/// Bytes of a block; small enough that a block and its index stay in a core's cache.
pub(crate) const BLOCK: usize = 512 << 10;
/// Bytes of a file's first block, which says what the columns look like.
const FIRST_BLOCK: usize = 64 << 10;
/// Longest header line and longest field.
pub(crate) const MAX_FIELD: usize = 16 << 20;
/// Longest record.
pub(crate) const MAX_RECORD: usize = 1 << 30;

/// The format of a file, and whether its name says that it is compressed.
pub(crate) fn format_of(source: &Source, options: &ReadOptions) -> Result<(Format, Compression), Problem> {
    let path = source.path();
    if matches!(source, Source::Builtin(_)) {
        return Ok((Format::Csv, Compression::None));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let (stem, compression) = match name.rsplit_once('.') {
        Some((stem, "gz")) => (stem, Compression::Gzip),
        Some((stem, "zst" | "zstd")) => (stem, Compression::Zstd),
        _ => (name.as_str(), Compression::None),
    };
    let ending = stem.rsplit_once('.').map_or("", |(_, ending)| ending);
    let format = match (options.format, ending) {
        (Format::Auto, "csv") => Format::Csv,
        (Format::Auto, "tsv" | "tab") => Format::Tsv,
        (Format::Auto, "jsonl" | "ndjson") => Format::Jsonl,
        (Format::Auto, "parquet" | "parq") => Format::Parquet,
        (Format::Auto, _) => {
            return Err(Problem::new("the file's name does not say its format: expected .csv, .tsv, .jsonl or .parquet (each text format also with .gz or .zst)")
                .file(path)
                .help("rename it, or say `format = \"csv\"` in `[data]`"));
        }
        (format, _) => format,
    };
    Ok((format, compression))
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Opens a source's bytes as they are stored.
pub(crate) fn open_file(path: &Path) -> Result<File, Problem> {
    let file = File::open(path).map_err(|e| cannot_open(path, &e))?;
    match file.metadata() {
        Ok(meta) if meta.is_dir() => Err(is_folder(path)),
        _ => Ok(file),
    }
}

/// A source's content, decompressed.
pub(crate) struct Content {
    reader: Box<dyn Read + Send>,
    compression: Compression,
}

impl Content {
    /// Opens a source. A file that begins like gzip or zstd is decompressed whatever its name.
    pub(crate) fn open(source: &Source, named: Compression) -> Result<Self, Stop> {
        let mut raw: Box<dyn Read + Send> = match source {
            Source::File(path) => Box::new(open_file(path)?),
            Source::Builtin(builtin) => Box::new(builtin.bytes),
            Source::Memory { bytes, .. } => Box::new(Cursor::new(bytes.clone())),
        };
        let mut magic = Vec::new();
        raw.by_ref().take(4).read_to_end(&mut magic)?;
        let compression = match magic[..] {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Compression::Zstd,
            // An empty file is an empty file.
            [] => Compression::None,
            _ => named,
        };
        let raw = Cursor::new(magic).chain(raw);
        let reader: Box<dyn Read + Send> = match compression {
            Compression::None => Box::new(raw),
            Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(raw)),
            Compression::Zstd => Box::new(zstd::Decoder::new(raw)?),
        };
        Ok(Self { reader, compression })
    }

    /// Appends up to `n` bytes. Returns whether the end was reached.
    pub(crate) fn fill(&mut self, buffer: &mut Vec<u8>, n: usize) -> Result<bool, Stop> {
        let read = self.reader.by_ref().take(n as u64).read_to_end(buffer).map_err(|e| self.error(e))?;
        Ok(read < n)
    }

    fn error(&self, error: io::Error) -> Stop {
        let name = match self.compression {
            _ if error.raw_os_error().is_some() => return Stop::Failed(error),
            Compression::None => return Stop::Failed(error),
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        };
        let problem = Problem::new(format!("the {name} data is damaged or cut short: {error}"));
        Stop::Bad(problem.help(format!("check the file (`{name} -t`), or get it again")))
    }
}

/// Whole records of a file.
#[derive(Debug)]
pub(crate) struct RawBlock {
    pub bytes: Vec<u8>,
    /// Line of the first byte, from 1.
    pub first_line: u64,
}

/// Cuts content into blocks that end after a record.
pub(crate) struct Blocks {
    content: Content,
    /// Field separator of CSV, in which quotes may hold line breaks.
    delimiter: Option<u8>,
    carry: Vec<u8>,
    line: u64,
    first: bool,
    end: bool,
}

impl Blocks {
    pub(crate) fn new(content: Content, delimiter: Option<u8>) -> Self {
        Self { content, delimiter, carry: Vec::new(), line: 1, first: true, end: false }
    }

    /// The next block; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<RawBlock>, Stop> {
        let mut bytes = std::mem::take(&mut self.carry);
        let mut scan = RecordScan { delimiter: self.delimiter, at: 0, open: None, end: None };
        let size = if self.first { FIRST_BLOCK } else { BLOCK };
        loop {
            if !self.end {
                bytes.reserve(size);
                self.end = self.content.fill(&mut bytes, size)?;
            }
            if self.first && scan.at == 0 {
                strip_mark(&mut bytes)?;
            }
            scan.run(&bytes);
            if let (true, Some(open)) = (self.end, scan.open)
                // A quote that is the very last byte closes its field.
                && scan.at == bytes.len()
            {
                return Err(self.unclosed(&bytes, open, "is not closed"));
            }
            if scan.end.is_some() || self.end {
                break;
            }
            match scan.open {
                Some(open) if bytes.len() - open > MAX_FIELD => {
                    return Err(self.unclosed(&bytes, open, "is not closed within 16 MiB"));
                }
                None if self.first && bytes.len() > MAX_FIELD => {
                    return Err(Problem::new("the header line is longer than 16 MiB")
                        .line(1)
                        .help("is this a text table with one row a line?")
                        .into());
                }
                _ if bytes.len() > MAX_RECORD => {
                    return Err(Problem::new("a row is longer than 1 GiB")
                        .line(self.line)
                        .help("is this a text table with one row a line?")
                        .into());
                }
                _ => {}
            }
        }
        self.first = false;
        // At the end of the file the last record may lack its line break.
        if let (false, Some(end)) = (self.end, scan.end) {
            self.carry = bytes[end..].to_vec();
            bytes.truncate(end);
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let first_line = self.line;
        self.line += memchr::memchr_iter(b'\n', &bytes).count() as u64;
        Ok(Some(RawBlock { bytes, first_line }))
    }

    fn unclosed(&self, bytes: &[u8], open: usize, what: &str) -> Stop {
        let line = self.line + memchr::memchr_iter(b'\n', &bytes[..open]).count() as u64;
        let column = open - memchr::memrchr(b'\n', &bytes[..open]).map_or(0, |n| n + 1) + 1;
        Problem::new(format!("the quote that opens a field here {what}"))
            .line(line)
            .column(column as u64)
            .help("close it with `\"`; a quote inside a quoted field is written twice")
            .into()
    }
}

/// Takes away a UTF-8 byte order mark. Refuses UTF-16, and files that hold no text at all.
pub(crate) fn strip_mark(bytes: &mut Vec<u8>) -> Result<(), Stop> {
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = bytes[..] {
        return Err(Problem::new("expected UTF-8, found UTF-16")
            .line(1)
            .help("convert it: `iconv -f UTF-16 -t UTF-8 FILE > NEW`")
            .into());
    }
    // A picture, a spreadsheet, a program: text has no zero byte.
    if bytes.iter().take(1024).any(|b| *b == 0) {
        return Err(Problem::new("expected a text file, found binary data")
            .line(1)
            .help("save the table as CSV (UTF-8) or Parquet, with the ending that says which")
            .into());
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    Ok(())
}

/// Finds where records end, in a buffer that grows.
struct RecordScan {
    delimiter: Option<u8>,
    /// Everything before is done.
    at: usize,
    /// Where a quoted field began that has not ended.
    open: Option<usize>,
    /// After the last line break that ends a record.
    end: Option<usize>,
}

impl RecordScan {
    fn run(&mut self, bytes: &[u8]) {
        let Some(delimiter) = self.delimiter else {
            self.end = memchr::memrchr(b'\n', &bytes[self.at..]).map(|n| self.at + n + 1).or(self.end);
            self.at = bytes.len();
            return;
        };
        loop {
            if self.open.is_some() {
                // Pairs of quotes inside are quotes; a quote at the very end may yet be one of a pair.
                let Some(close) = memchr::memchr(b'"', &bytes[self.at..]).map(|n| self.at + n) else {
                    self.at = bytes.len();
                    return;
                };
                match bytes.get(close + 1) {
                    Some(b'"') => self.at = close + 2,
                    Some(_) => {
                        self.open = None;
                        self.at = close + 1;
                    }
                    None => {
                        self.at = close;
                        return;
                    }
                }
                continue;
            }
            let quote = memchr::memchr(b'"', &bytes[self.at..]).map(|n| self.at + n);
            let plain = &bytes[self.at..quote.unwrap_or(bytes.len())];
            self.end = memchr::memrchr(b'\n', plain).map(|n| self.at + n + 1).or(self.end);
            let Some(quote) = quote else {
                self.at = bytes.len();
                return;
            };
            let opens = quote == 0 || bytes[quote - 1] == delimiter || bytes[quote - 1] == b'\n';
            self.open = opens.then_some(quote);
            self.at = quote + 1;
        }
    }
}
