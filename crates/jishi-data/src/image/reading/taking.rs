//! Pictures on their way from what was found to what is kept, and those that are not.

use std::path::{Path, PathBuf};

use jishi_recipe::{BadRows, Channels, Problem, Problems};
use rayon::prelude::*;

use super::super::corpus::drops_missing;
use super::super::decode::Bad;
use super::super::folder::OTHER_FILE;
use super::super::found::Found;
use super::{Finished, Known, Reading, SHOWN, Several};
use crate::error::DataError;

/// Pictures that are decoded at a time.
const BATCH: usize = 512;

/// Why a picture can't be learned from.
const NO_LABEL: &str = "no label";

impl Reading<'_> {
    /// Reads pictures, and keeps those that can be read.
    pub(super) fn take(&mut self, found: Vec<Found>, hash: &mut Several) -> Result<(), DataError> {
        let (channels, scaling): (Channels, _) = (self.image.channels, self.scaling);
        let mut found = found.into_iter().peekable();
        while found.peek().is_some() {
            let batch: Vec<Found> = found.by_ref().take(BATCH).collect();
            let read: Vec<_> = batch
                .into_par_iter()
                .map(|mut found| {
                    let outcome = std::mem::take(&mut found.content).read(channels, scaling);
                    (found, outcome)
                })
                .collect();
            for (row, mut outcome) in read {
                self.known.ledger.rows_read += 1;
                if let (Ok(_), Some(Err(bad))) =
                    (&outcome.picture, row.marks.as_ref().map(|marks| marks.fit(outcome.size)))
                {
                    outcome.picture = Err(bad);
                }
                if let Some((bytes, sha256)) = &outcome.digest {
                    hash.add(&row.path, *bytes, sha256);
                }
                match outcome.picture {
                    Err(bad) => self.bad.push((row.group, row.line, row.path, bad)),
                    Ok(_) if self.labelled && row.target.is_none() => {
                        let bad = Bad::new(NO_LABEL, "it has no label");
                        self.bad.push((row.group, row.line, row.path, bad));
                    }
                    Ok(picture) => {
                        self.pictures.push(picture.view())?;
                        self.known.sizes.push(outcome.size);
                        if let Some(marks) = &row.marks {
                            let objects = self.settle(marks, outcome.size, row.group, row.line);
                            self.known.objects.push(objects);
                        }
                        self.known.targets.push(row.target);
                        self.known.keys.push(row.key);
                        self.known.parts.push(row.part);
                        self.known.paths.push(row.path);
                        self.known.places.push((row.group as u32, row.line));
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends the reading.
    pub(in super::super) fn finish(mut self) -> Result<Finished, DataError> {
        self.bad_pictures();
        Problems(self.problems).into_result()?;
        let Known { targets, mut keys, parts, paths, places, groups, digests, ledger, sizes, objects, names } =
            self.known;
        if self.pictures.len() == 0 {
            let reasons = ledger.summary().drop_reasons;
            let most = reasons.into_iter().max_by_key(|(_, n)| *n).map(|(reason, _)| reason);
            let most = most.map_or("there are none".into(), |reason| format!("most because: {reason}"));
            return Err(Problem::new(format!("there is no picture that can be used: {most}"))
                .help("check `data.source`")
                .into());
        }
        if keys.iter().all(Option::is_none) {
            keys = Vec::new();
        }
        let pictures = self.pictures.finish()?;
        let objects = self.boxed.then_some((names, objects));
        Ok(Finished {
            pictures,
            targets,
            keys,
            parts,
            paths,
            places,
            groups,
            digests,
            ledger,
            sizes,
            objects,
        })
    }

    /// Pictures that can't be used: errors, or dropped.
    fn bad_pictures(&mut self) {
        let mut errors = 0;
        for (group, line, path, bad) in std::mem::take(&mut self.bad) {
            let group = &self.known.groups[group];
            // A file of a folder is named itself.
            let (file, line) = match group.is_dir() || self.boxed {
                true => (folder_of(group, &path), 1),
                false => (group.clone(), line),
            };
            let drop = match bad.reason {
                OTHER_FILE => true,
                NO_LABEL => drops_missing(self.data),
                _ => self.data.bad_rows == BadRows::Drop,
            };
            if drop {
                self.known.ledger.drop_row(bad.reason, None, &file, line);
                continue;
            }
            errors += 1;
            if errors <= SHOWN {
                let problem = Problem::new(bad.message).file(&file);
                let whole = group.is_dir() || self.boxed;
                self.problems.push(if whole { problem } else { problem.line(line) });
            }
        }
        if errors > 0 {
            let read = self.known.ledger.rows_read;
            self.problems.push(
                Problem::new(format!("{errors} of {read} pictures can't be used")).help(
                    "correct or remove them, or set `bad_rows = \"drop\"` in `[data]` (`missing = { target = \"drop\" }` for those without a label) to leave them out and have them listed in the ledger",
                ),
            );
        }
    }
}

/// The file of a picture of a group: its path starts at a folder above the group.
fn folder_of(group: &Path, path: &str) -> PathBuf {
    group
        .ancestors()
        .map(|folder| folder.join(path))
        .find(|file| file.exists())
        .unwrap_or_else(|| group.join(path))
}
