//! The data ledger: what became of every input row, with file, line and reason. No row vanishes silently.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What became of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The row is part of a split.
    Used,
    /// The row was left out.
    Dropped,
    /// A value of the row was replaced (a missing value filled in, a rare category merged). Such a row is also used.
    Changed,
}

/// Rows that shared a fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What became of the rows.
    pub action: Action,
    /// Why, in words.
    pub reason: String,
    /// The column that was the reason, or that was changed.
    pub column: Option<String>,
    /// The split that the rows are in: `train`, `validation` or `test`.
    pub split: Option<String>,
    /// The file of the rows.
    pub file: PathBuf,
    /// Number of rows.
    pub rows: u64,
    /// Their lines: runs of lines from 1, first and last, both included.
    pub lines: Vec<(u64, u64)>,
}

/// What became of every input row. A row is dropped at most once; a used row may be changed in several columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Rows that were in the input, kept or not.
    pub rows_read: u64,
    /// The entries, in the order in which they were opened.
    pub entries: Vec<Entry>,
}

/// The figures of a ledger.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LedgerSummary {
    /// Rows in the input.
    pub rows_read: u64,
    /// Rows used in some split.
    pub used: u64,
    /// Rows dropped.
    pub dropped: u64,
    /// Values changed.
    pub changed: u64,
    /// Dropped rows by all rows, 0 to 1.
    pub share_dropped: f64,
    /// Rows used in every split.
    pub splits: BTreeMap<String, u64>,
    /// Rows dropped for every reason.
    pub drop_reasons: BTreeMap<String, u64>,
}

impl Ledger {
    /// Index of the entry with these keys, opened where there is none; add lines to it with [`Ledger::push`].
    pub fn entry(
        &mut self,
        action: Action,
        reason: &str,
        column: Option<&str>,
        split: Option<&str>,
        file: &Path,
    ) -> usize {
        let found = self.entries.iter().position(|e| {
            e.action == action
                && e.reason == reason
                && e.column.as_deref() == column
                && e.split.as_deref() == split
                && e.file == file
        });
        found.unwrap_or_else(|| {
            self.entries.push(Entry {
                action,
                reason: reason.into(),
                column: column.map(Into::into),
                split: split.map(Into::into),
                file: file.into(),
                rows: 0,
                lines: Vec::new(),
            });
            self.entries.len() - 1
        })
    }

    /// Adds the row at `line` to an entry. Rows added in the order of the input make the shortest ledger.
    pub fn push(&mut self, entry: usize, line: u64) {
        let entry = &mut self.entries[entry];
        entry.rows += 1;
        match entry.lines.last_mut() {
            Some((_, last)) if *last + 1 == line => *last = line,
            _ => entry.lines.push((line, line)),
        }
    }

    /// Adds one dropped row.
    pub fn drop_row(&mut self, reason: &str, column: Option<&str>, file: &Path, line: u64) {
        let entry = self.entry(Action::Dropped, reason, column, None, file);
        self.push(entry, line);
    }

    /// Drops a row after all that a split was to use.
    pub fn drop_used(&mut self, reason: &str, column: Option<&str>, split: &str, file: &Path, line: u64) {
        let used = |e: &&mut Entry| {
            e.action == Action::Used
                && e.split.as_deref() == Some(split)
                && e.file == file
                && e.lines.iter().any(|run| (run.0..=run.1).contains(&line))
        };
        if let Some(entry) = self.entries.iter_mut().find(used) {
            entry.rows -= 1;
            let without = |&(first, last): &(u64, u64)| {
                if !(first..=last).contains(&line) {
                    return [Some((first, last)), None];
                }
                [(first < line).then(|| (first, line - 1)), (line < last).then_some((line + 1, last))]
            };
            entry.lines = entry.lines.iter().flat_map(without).flatten().collect();
        }
        self.drop_row(reason, column, file, line);
    }

    /// Rows (for [`Action::Changed`]: values) with this fate.
    #[must_use]
    pub fn count(&self, action: Action) -> u64 {
        self.entries.iter().filter(|e| e.action == action).map(|e| e.rows).sum()
    }

    /// Dropped rows by all rows of the input, 0 to 1; 0 for an empty input.
    #[must_use]
    pub fn share_dropped(&self) -> f64 {
        self.count(Action::Dropped) as f64 / self.rows_read.max(1) as f64
    }

    /// The figures.
    #[must_use]
    pub fn summary(&self) -> LedgerSummary {
        let mut splits = BTreeMap::new();
        let mut drop_reasons = BTreeMap::new();
        for e in &self.entries {
            match (e.action, &e.split) {
                (Action::Used, Some(split)) => *splits.entry(split.clone()).or_insert(0) += e.rows,
                (Action::Dropped, _) => *drop_reasons.entry(e.reason.clone()).or_insert(0) += e.rows,
                _ => {}
            }
        }
        LedgerSummary {
            rows_read: self.rows_read,
            used: self.count(Action::Used),
            dropped: self.count(Action::Dropped),
            changed: self.count(Action::Changed),
            share_dropped: self.share_dropped(),
            splits,
            drop_reasons,
        }
    }

    /// Writes the ledger as JSON lines: the [`LedgerSummary`], then every [`Entry`], its lines sorted and joined.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_jsonl(&self, mut out: impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut out, &self.summary())?;
        out.write_all(b"\n")?;
        for entry in &self.entries {
            let mut entry = entry.clone();
            entry.lines = joined(entry.lines);
            serde_json::to_writer(&mut out, &entry)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }
}

/// Sorts runs and joins those that touch.
fn joined(mut runs: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    runs.sort_unstable();
    let mut out: Vec<(u64, u64)> = Vec::new();
    for (first, last) in runs {
        match out.last_mut() {
            Some((_, end)) if first <= *end + 1 => *end = last.max(*end),
            _ => out.push((first, last)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn runs_counts_and_share() {
        let mut ledger = Ledger { rows_read: 10, ..Ledger::default() };
        let file = Path::new("a.csv");
        let train = ledger.entry(Action::Used, "split", None, Some("train"), file);
        for line in [2, 3, 4, 9, 7, 8] {
            ledger.push(train, line);
        }
        ledger.drop_row("wrong number of fields", None, file, 5);
        ledger.drop_row("wrong number of fields", None, file, 6);
        assert_eq!(ledger.entries[train].lines, [(2, 4), (9, 9), (7, 8)]);
        assert_eq!(ledger.share_dropped(), 0.2);
        assert_eq!(ledger.summary().splits["train"], 6);
        let mut fewer = ledger.clone();
        for line in [3, 9, 7] {
            fewer.drop_used("too long", None, "train", file, line);
        }
        assert_eq!(fewer.entries[train].lines, [(2, 2), (4, 4), (8, 8)]);
        assert_eq!((fewer.summary().used, fewer.summary().dropped), (3, 5));

        let mut out = Vec::new();
        ledger.write_jsonl(&mut out).unwrap();
        let lines: Vec<&str> = std::str::from_utf8(&out).unwrap().lines().collect();
        assert_eq!(lines.len(), 3);
        let summary: LedgerSummary = serde_json::from_str(lines[0]).unwrap();
        assert_eq!(summary, ledger.summary());
        let used: Entry = serde_json::from_str(lines[1]).unwrap();
        assert_eq!(used.lines, [(2, 4), (7, 9)]);
        let dropped: Entry = serde_json::from_str(lines[2]).unwrap();
        assert_eq!((dropped.rows, dropped.lines), (2, vec![(5, 6)]));
    }
}
