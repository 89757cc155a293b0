//! The documents of one split, read again.

use super::super::documents::{Document, Documents};
use super::{Assignment, Corpus, Part};
use crate::error::DataError;

/// Documents of a part, in batches; see [`Corpus::documents`].
#[derive(Debug)]
pub struct PartDocuments<'a> {
    corpus: &'a Corpus,
    part: Part,
    documents: Documents,
    /// Documents, or characters of a running text, that were read.
    at: u64,
    begun: bool,
}

impl<'a> PartDocuments<'a> {
    pub(super) fn new(corpus: &'a Corpus, part: Part, documents: Documents) -> Self {
        Self { corpus, part, documents, at: 0, begun: false }
    }

    /// The files that [`Document::file`] counts.
    #[must_use]
    pub fn files(&self) -> &[std::path::PathBuf] {
        &self.documents.files
    }

    fn select(&mut self, batch: Vec<Document>) -> Vec<Document> {
        match &self.corpus.assignment {
            Assignment::Documents(parts) => {
                let first = self.at as usize;
                self.at += batch.len() as u64;
                let part = |i: usize| parts.get(i).copied().flatten();
                batch
                    .into_iter()
                    .zip(first..)
                    .filter(|(_, i)| part(*i) == Some(self.part))
                    .map(|(d, _)| d)
                    .collect()
            }
            Assignment::Stream(ends) => {
                let end = ends[self.part as usize];
                let start = if self.part == Part::Train { 0 } else { ends[self.part as usize - 1] };
                let mut out = Vec::new();
                for mut piece in batch {
                    let characters = piece.text.chars().count() as u64;
                    let (from, to) = (start.max(self.at), end.min(self.at + characters));
                    if from < to {
                        let byte = |n: u64| {
                            let mut places = piece.text.char_indices().map(|(at, _)| at);
                            places.nth((n - self.at) as usize).unwrap_or(piece.text.len())
                        };
                        let (first, last) = (byte(from), byte(to));
                        piece.line +=
                            memchr::memchr_iter(b'\n', &piece.text.as_bytes()[..first]).count() as u64;
                        piece.text = piece.text[first..last].to_owned();
                        piece.continues = std::mem::replace(&mut self.begun, true);
                        out.push(piece);
                    }
                    self.at += characters;
                }
                out
            }
        }
    }
}

impl Iterator for PartDocuments<'_> {
    type Item = Result<Vec<Document>, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.documents.next_batch().transpose()?;
        Some(batch.map(|batch| self.select(batch)))
    }
}
