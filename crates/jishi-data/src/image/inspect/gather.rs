//! All pictures of a source, read whole.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use jishi_recipe::{Channels, Problem};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::super::boxes::{self, Boxes, Marks, Object};
use super::super::decode::{Bad, decode, described, named_like_a_picture};
use super::super::folder::{self, OTHER_FILE};
use super::super::found::{Content, Found, file_bytes};
use super::super::packed::Packed;
use super::{LISTED, Wrong};
use crate::error::DataError;
use crate::text::corpus::Part;
use crate::text::documents::Target;

/// Pictures that are decoded at a time.
const BATCH: usize = 256;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub layout: &'static str,
    /// Names of the classes.
    pub names: Vec<String>,
    /// Pictures that can be used.
    pub seen: Vec<Seen>,
    pub wrong: Vec<Wrong>,
    /// Problems that are not in `wrong`.
    pub many: u64,
    pub broken: u64,
    pub other_files: u64,
}

/// A picture.
#[derive(Debug)]
pub(super) struct Seen {
    /// Its name in reports.
    pub name: String,
    pub file: PathBuf,
    /// `[height, width]`
    pub size: [usize; 2],
    pub format: &'static str,
    pub mode: String,
    /// Of the file's bytes, or of the pixels.
    pub hash: [u8; 32],
    pub part: Option<Part>,
    class: Option<u32>,
    pub boxed: Option<Boxed>,
}

/// The boxes of a picture.
#[derive(Debug, Default)]
pub(super) struct Boxed {
    pub objects: Vec<Object>,
    /// What became of those that are not as they should be.
    pub notes: Vec<&'static str>,
}

impl Seen {
    /// The classes of a picture, each once.
    pub(super) fn own_classes(&self) -> Vec<u32> {
        let of_boxes = self.boxed.iter().flat_map(|boxed| &boxed.objects).map(|object| object.class);
        let mut classes: Vec<u32> = self.class.into_iter().chain(of_boxes).collect();
        classes.sort_unstable();
        classes.dedup();
        classes
    }
}

/// Whether a folder has a picture in it or below.
pub(super) fn any_picture(folder: &Path) -> bool {
    fn below(folder: &Path, depth: usize) -> bool {
        let Ok((folders, files)) = folder::folders_and_files(folder) else { return false };
        files.iter().any(|(name, path)| named_like_a_picture(name) || Packed::of(path).is_some())
            || (depth < folder::DEPTH && folders.iter().any(|(_, path)| below(path, depth + 1)))
    }
    below(folder, 0)
}

/// Reads a source.
///
/// # Errors
/// Nothing there; a file of many pictures that is damaged.
pub(super) fn gather(source: &Path) -> Result<Gathered, DataError> {
    let mut all = Gathered::default();
    let root = if source.is_dir() { source } else { source.parent().unwrap_or(source) };
    if let Some(kind) = boxes::kind_at(source) {
        all.layout = kind;
        let Boxes { found, names, faults, problems, .. } = boxes::read(source, 0)?;
        all.names = names;
        problems.into_iter().for_each(|problem| all.problem(problem, source));
        faults.into_iter().for_each(|fault| all.note(fault.file, fault.message));
        all.take(found, root);
        return Ok(all);
    }
    let packed =
        if source.is_dir() { Packed::in_folder(source) } else { Packed::of(source).into_iter().collect() };
    if !packed.is_empty() {
        all.layout = "files of many pictures";
        for (group, file) in packed.iter().enumerate() {
            let part = file.part();
            let found = file.read(group, false)?.into_iter().map(|row| Found { part, ..row });
            all.take(found.collect(), file.path());
        }
        return Ok(all);
    }
    if source.is_dir() {
        all.layout = "class folders";
        let read = folder::read(source, 0)?;
        read.problems.into_iter().for_each(|problem| all.problem(problem, source));
        all.take(read.found, root);
    } else {
        all.layout = "a picture";
        let path = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
        all.take(
            vec![Found { content: Content::File(source.to_path_buf()), path, ..Found::default() }],
            root,
        );
    }
    Ok(all)
}

impl Gathered {
    fn note(&mut self, file: PathBuf, message: String) {
        if self.wrong.len() < LISTED {
            self.wrong.push(Wrong { file, message });
        } else {
            self.many += 1;
        }
    }

    fn problem(&mut self, problem: Problem, source: &Path) {
        let file = problem.file.clone().unwrap_or_else(|| source.to_path_buf());
        self.note(file, problem.message);
    }

    fn take(&mut self, found: Vec<Found>, root: &Path) {
        let mut numbers: HashMap<String, u32> = self.names.iter().cloned().zip(0..).collect();
        let mut found = found.into_iter().peekable();
        while found.peek().is_some() {
            let batch: Vec<Found> = found.by_ref().take(BATCH).collect();
            let read: Vec<_> = batch.into_par_iter().map(|row| look(row, root)).collect();
            for (target, outcome) in read {
                match outcome {
                    Ok(mut seen) => {
                        seen.class = target.map(|name| {
                            let next = numbers.len() as u32;
                            *numbers.entry(name.clone()).or_insert_with(|| {
                                self.names.push(name);
                                next
                            })
                        });
                        self.seen.push(seen);
                    }
                    Err((_, bad)) if bad.reason == OTHER_FILE => self.other_files += 1,
                    Err((file, bad)) => {
                        self.broken += 1;
                        self.note(file, bad.message);
                    }
                }
            }
        }
    }
}

type Outcome = Result<Seen, (PathBuf, Bad)>;

/// Reads one picture, and gives it with its class.
fn look(row: Found, root: &Path) -> (Option<String>, Outcome) {
    let Found { content, target, path, part, marks, .. } = row;
    let target = target.map(|target| match target {
        Target::Text(text) => text,
        Target::List(list) => list.join("|"),
    });
    let file = match &content {
        Content::File(file) => file.clone(),
        Content::Pixels(_) => root.to_path_buf(),
        _ => root.join(&path),
    };
    let seen = |size, format, mode, hash: Sha256| Seen {
        name: path.clone(),
        file: file.clone(),
        size,
        format,
        mode,
        hash: hash.finalize().into(),
        part,
        class: None,
        boxed: None,
    };
    let read = match content {
        Content::Bad(bad) => Err(bad),
        Content::Pixels(picture) => {
            let mode = if picture.channels == 1 { "grey" } else { "colour" };
            let size = [picture.height, picture.width];
            let hash = Sha256::new().chain_update(format!("{size:?}")).chain_update(&picture.pixels);
            Ok(seen(size, "pixels", mode.to_owned(), hash))
        }
        Content::Bytes(bytes) => of_bytes(&bytes, seen),
        Content::File(path) => file_bytes(&path).and_then(|bytes| of_bytes(&bytes, seen)),
    };
    let read = read.and_then(|seen| match &marks {
        Some(marks) => boxed(marks, seen.size).map(|boxed| Seen { boxed: Some(boxed), ..seen }),
        None => Ok(seen),
    });
    (target, read.map_err(|bad| (file.clone(), bad)))
}

fn of_bytes(
    bytes: &[u8],
    seen: impl Fn([usize; 2], &'static str, String, Sha256) -> Seen,
) -> Result<Seen, Bad> {
    // Whether it can be used is known when it is decoded.
    let picture = decode(bytes, Channels::Rgb)?;
    let (format, mode) = described(bytes);
    Ok(seen([picture.height, picture.width], format, mode, Sha256::new().chain_update(bytes)))
}

/// The boxes of a picture of `[height, width]`.
fn boxed(marks: &Marks, size: [usize; 2]) -> Result<Boxed, Bad> {
    marks.fit(size)?;
    let mut boxed = Boxed::default();
    if marks.missing {
        boxed.notes.push(boxes::NO_FILE);
    }
    for mark in &marks.objects {
        match mark.settle(size) {
            Ok((object, cut)) => {
                boxed.notes.extend(cut.then_some(boxes::CUT));
                boxed.objects.push(object);
            }
            Err(reason) => boxed.notes.push(reason),
        }
    }
    Ok(boxed)
}
