//! Sources of pictures with boxes.

use std::path::Path;

use jishi_recipe::{BadRows, Problem};
use sha2::{Digest, Sha256};

use super::super::boxes::{self, Boxes, CUT, Marks, NO_FILE, Object};
use super::{Reading, SHOWN, Several};
use crate::error::DataError;
use crate::ledger::Action;

/// What the ledger calls boxes.
const BOXES: &str = "boxes";

impl Reading<'_> {
    /// Pictures with boxes.
    pub(super) fn boxes(&mut self, path: &Path) -> Result<(), DataError> {
        self.no_column("pictures with boxes")?;
        let mut read = match boxes::read(path, self.known.groups.len()) {
            Ok(read) => read,
            Err(problem) => {
                self.problems.push(problem);
                return Ok(());
            }
        };
        self.split.1 += 1;
        self.split.0 += usize::from(read.split());
        // The same class may have another number in another source.
        let names = std::mem::take(&mut read.names).into_iter();
        let number = |name: String| match self.known.names.iter().position(|known| *known == name) {
            Some(number) => number as u32,
            None => {
                self.known.names.push(name);
                self.known.names.len() as u32 - 1
            }
        };
        let numbers: Vec<u32> = names.map(number).collect();
        let Boxes { found, groups, files, faults, problems, .. } = read;
        self.problems.extend(problems);
        self.known.groups.extend(groups);
        let drop = self.data.bad_rows == BadRows::Drop;
        let count = faults.len();
        for (i, fault) in faults.into_iter().enumerate() {
            if drop {
                let entry =
                    self.known.ledger.entry(Action::Changed, fault.reason, Some(BOXES), None, &fault.file);
                self.known.ledger.push(entry, fault.line);
            } else if i < SHOWN {
                self.problems.push(Problem::new(fault.message).file(fault.file));
            } else if i == SHOWN {
                let message = format!("and {} more faults of boxes", count - SHOWN);
                let help =
                    "correct them, or set `bad_rows = \"drop\"` in `[data]` to leave out what is wrong";
                self.problems.push(Problem::new(message).help(help));
            }
        }
        let mut hash = Several::default();
        for file in files {
            let bytes = std::fs::read(&file).map_err(|e| DataError::io(&file, e))?;
            hash.add(&file.to_string_lossy(), bytes.len() as u64, &Sha256::digest(&bytes).into());
        }
        let renumbered = found.into_iter().map(|mut row| {
            let marks = row.marks.iter_mut().flat_map(|marks| &mut marks.objects);
            marks.for_each(|mark| mark.class = numbers[mark.class as usize]);
            row
        });
        self.take(renumbered.collect(), &mut hash)?;
        self.several(path, hash);
        Ok(())
    }

    /// The boxes of a picture of `[height, width]`; what was done to them goes to the ledger.
    pub(super) fn settle(&mut self, marks: &Marks, size: [usize; 2], group: usize, line: u64) -> Vec<Object> {
        let file = self.known.groups[group].clone();
        let mut note = |reason: &'static str| {
            let entry = self.known.ledger.entry(Action::Changed, reason, Some(BOXES), None, &file);
            self.known.ledger.push(entry, line);
        };
        if marks.missing {
            note(NO_FILE);
        }
        let mut objects = Vec::with_capacity(marks.objects.len());
        for mark in &marks.objects {
            match mark.settle(size) {
                Ok((object, cut)) => {
                    if cut {
                        note(CUT);
                    }
                    objects.push(object);
                }
                Err(reason) => note(reason),
            }
        }
        objects
    }
}
