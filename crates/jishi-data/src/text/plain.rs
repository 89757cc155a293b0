//! Plain text files: read in pieces, checked for UTF-8, cut into documents.

use jishi_recipe::{DocumentUnit, Problem};

use super::documents::{Batch, Document};
use crate::read::Stop;
use crate::read::bytes::{Content, MAX_RECORD, strip_mark};

/// Bytes of a piece of a running text.
const PIECE: usize = 256 << 10;

/// Reads a text file.
pub(super) struct Plain {
    content: Content,
    unit: DocumentUnit,
    /// Bytes that were read and not given away.
    carry: Vec<u8>,
    /// Line of the first byte of `carry`.
    line: u64,
    /// How many bytes of `carry` are known to be UTF-8.
    valid: usize,
    first: bool,
    end: bool,
}

impl Plain {
    pub(super) fn new(content: Content, unit: DocumentUnit) -> Self {
        Self { content, unit, carry: Vec::new(), line: 1, valid: 0, first: true, end: false }
    }

    /// The next documents; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Batch>, Stop> {
        loop {
            if self.end && self.carry.is_empty() {
                return Ok(None);
            }
            if !self.end {
                self.end = self.content.fill(&mut self.carry, PIECE)?;
                if std::mem::take(&mut self.first) {
                    strip_mark(&mut self.carry)?;
                }
                self.check()?;
            }
            let documents = self.cut();
            if !documents.is_empty() {
                return Ok(Some(Batch { documents, bad: Vec::new() }));
            }
            if self.carry.len() > MAX_RECORD {
                return Err(self.too_long().into());
            }
        }
    }

    fn too_long(&self) -> Problem {
        Problem::new("a document is longer than 1 GiB")
            .line(self.line)
            .help("read it as one running text: `document = \"stream\"`")
    }

    /// Finds how much is UTF-8; at most the start of one character may be missing its end.
    fn check(&mut self) -> Result<(), Problem> {
        let Err(error) = std::str::from_utf8(&self.carry[self.valid..]) else {
            self.valid = self.carry.len();
            return Ok(());
        };
        self.valid += error.valid_up_to();
        if error.error_len().is_none() && !self.end {
            return Ok(());
        }
        let good = &self.carry[..self.valid];
        let line = self.line + newlines(good);
        let byte = good.len() - memchr::memrchr(b'\n', good).map_or(0, |n| n + 1) + 1;
        let found = self.carry.get(self.valid).copied().unwrap_or_default();
        Err(Problem::new(format!("expected UTF-8, found the byte 0x{found:02x} at byte {byte} of the line"))
            .line(line)
            .help("convert the file, for example from Latin-1: `iconv -f LATIN1 -t UTF-8 FILE > NEW`, or from GBK: `iconv -f GBK -t UTF-8 FILE > NEW`"))
    }

    /// Takes whole documents from the front.
    fn cut(&mut self) -> Vec<Document> {
        // What was checked before stays valid, so this is the whole of it.
        let text = std::str::from_utf8(&self.carry[..self.valid]).unwrap_or_default();
        let mut documents = Vec::new();
        let mut push = |text: &str, line| {
            documents.push(Document { text: text.into(), line, ..Document::default() });
        };
        let (taken, line) = match self.unit {
            DocumentUnit::Stream => {
                let end = if self.end { text.len() } else { piece_end(text) };
                if end > 0 {
                    push(&text[..end], self.line);
                }
                (end, self.line + newlines(&text.as_bytes()[..end]))
            }
            DocumentUnit::File => {
                if self.end {
                    push(text, self.line);
                }
                (if self.end { text.len() } else { 0 }, self.line)
            }
            DocumentUnit::Line => {
                let end = whole_lines(text, self.end);
                let lines = text[..end].split_inclusive('\n').zip(self.line..);
                lines.for_each(|(line, number)| push(line.trim_end_matches(['\n', '\r']), number));
                (end, self.line + newlines(&text.as_bytes()[..end]))
            }
            DocumentUnit::Paragraph => paragraphs(text, self.line, self.end, push),
        };
        self.carry.drain(..taken);
        self.valid -= taken;
        self.line = line;
        documents
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// Where the last whole line ends.
fn whole_lines(text: &str, end: bool) -> usize {
    if end { text.len() } else { memchr::memrchr(b'\n', text.as_bytes()).map_or(0, |n| n + 1) }
}

/// Gives every paragraph and the line where it starts; returns how many bytes are done, and the line after them.
fn paragraphs(text: &str, first: u64, end: bool, mut push: impl FnMut(&str, u64)) -> (usize, u64) {
    let until = whole_lines(text, end);
    let (mut done, mut done_line) = (0, first);
    let mut open: Option<(usize, u64)> = None;
    let (mut at, mut number) = (0, first);
    for line in text[..until].split_inclusive('\n') {
        let blank = line.trim().is_empty();
        if let (true, Some((start, number))) = (blank, open) {
            push(text[start..at].trim_end_matches(['\n', '\r']), number);
            open = None;
        } else if !blank && open.is_none() {
            open = Some((at, number));
        }
        at += line.len();
        number += 1;
        if open.is_none() {
            (done, done_line) = (at, number);
        }
    }
    if let (true, Some((start, number))) = (end, open) {
        push(text[start..].trim_end_matches(['\n', '\r']), number);
        return (text.len(), number);
    }
    (done, done_line)
}

/// Where to end a piece of a running text so that tokenizers find the same words in the pieces as in the whole: before
/// a space that follows a letter, else before a line break that does, else anywhere.
fn piece_end(text: &str) -> usize {
    if text.len() < PIECE / 2 {
        return 0;
    }
    let bytes = text.as_bytes();
    let least = text.len() / 2;
    let after_letter = |i: &usize| text[..*i].chars().next_back().is_some_and(char::is_alphanumeric);
    let last = |byte| memchr::memrchr_iter(byte, &bytes[least..]).map(|i| i + least).find(after_letter);
    last(b' ').or_else(|| last(b'\n')).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::read::bytes::Compression;
    use crate::source::Source;
    use proptest::prelude::*;

    fn read(text: &[u8], unit: DocumentUnit) -> Result<Vec<(String, u64)>, Problem> {
        let source = Source::Memory { name: "a.txt".into(), bytes: text.into() };
        let Ok(content) = Content::open(&source, Compression::None) else { panic!("opens") };
        let mut plain = Plain::new(content, unit);
        let mut out = Vec::new();
        loop {
            match plain.next() {
                Ok(Some(batch)) => out.extend(batch.documents.into_iter().map(|d| (d.text, d.line))),
                Ok(None) => return Ok(out),
                Err(Stop::Bad(problem)) => return Err(problem),
                Err(_) => panic!("another failure"),
            }
        }
    }

    #[test]
    fn units() {
        let text = "one\r\ntwo\n\n \nthree";
        let found = |unit| read(text.as_bytes(), unit).unwrap();
        assert_eq!(found(DocumentUnit::Stream), [(text.to_string(), 1)]);
        assert_eq!(found(DocumentUnit::File), [(text.to_string(), 1)]);
        let lines: Vec<u64> = found(DocumentUnit::Line).iter().map(|(_, line)| *line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5]);
        assert_eq!(found(DocumentUnit::Line)[0].0, "one");
        assert_eq!(found(DocumentUnit::Paragraph), [("one\r\ntwo".into(), 1), ("three".into(), 5)]);
    }

    #[test]
    fn what_is_not_utf8_has_its_place() {
        let problem = read(b"good\nb\xe9d\n", DocumentUnit::Line).unwrap_err();
        assert_eq!(problem.line, Some(2));
        assert!(problem.message.contains("0xe9 at byte 2"), "{}", problem.message);
        let cut = read("日".as_bytes().split_last().unwrap().1, DocumentUnit::Stream).unwrap_err();
        assert!(cut.message.contains("0xe6 at byte 1"), "{}", cut.message);
        assert!(read(b"a\0b", DocumentUnit::Stream).unwrap_err().message.contains("binary"));
    }

    #[test]
    fn long_texts_come_in_pieces_that_end_after_a_word() {
        let text = "words that go on, 字 ".repeat(60_000);
        let pieces = read(text.as_bytes(), DocumentUnit::Stream).unwrap();
        assert!(pieces.len() > 3);
        assert_eq!(pieces.iter().map(|(t, _)| t.as_str()).collect::<String>(), text);
        for (piece, _) in &pieces[1..] {
            assert!(piece.starts_with(' '));
        }
        let chinese = "字".repeat(400_000);
        let pieces = read(chinese.as_bytes(), DocumentUnit::Stream).unwrap();
        assert_eq!(pieces.iter().map(|(t, _)| t.as_str()).collect::<String>(), chinese);
    }

    proptest! {
        #[test]
        fn lines_and_paragraphs_are_those_of_the_whole(text in "[a\n\r é]{0,60}") {
            let lines: Vec<String> = read(text.as_bytes(), DocumentUnit::Line).unwrap().into_iter().map(|(t, _)| t).collect();
            let expected: Vec<String> = text.split_inclusive('\n').map(|l| l.trim_end_matches(['\n', '\r']).to_string()).collect();
            prop_assert_eq!(lines, expected);
            for (paragraph, line) in read(text.as_bytes(), DocumentUnit::Paragraph).unwrap() {
                let start = text.split('\n').nth(line as usize - 1).unwrap();
                prop_assert!(paragraph.starts_with(start.trim_end_matches('\r')), "{paragraph:?} {start:?}");
            }
        }
    }
}
