//! Files of a folder with boxes.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use jishi_recipe::Problem;

use super::super::folder::{DEPTH, folders_and_files, part_of};
use crate::text::corpus::Part;

/// All files in a folder and below, sorted; hidden ones are left out.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub files: Vec<PathBuf>,
    known: HashSet<PathBuf>,
}

impl Tree {
    pub(super) fn read(folder: &Path) -> Result<Self, Problem> {
        let mut files = Vec::new();
        below(folder, &mut files, 0)?;
        files.sort();
        let known = files.iter().cloned().collect();
        Ok(Self { files, known })
    }

    /// Whether there is this file.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.known.contains(path)
    }
}

fn below(folder: &Path, files: &mut Vec<PathBuf>, depth: usize) -> Result<(), Problem> {
    let (folders, own) = folders_and_files(folder)?;
    files.extend(own.into_iter().map(|(_, path)| path));
    if depth == DEPTH && !folders.is_empty() {
        let message = format!("there are more than {DEPTH} folders inside of each other");
        return Err(Problem::new(message).file(folder));
    }
    folders.iter().try_for_each(|(_, path)| below(path, files, depth + 1))
}

/// A file's name without its ending.
pub(super) fn stem(path: &Path) -> String {
    path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The split that a name stands for: `train`, `val2017`, `instances_test`.
pub(super) fn part_in(name: &str) -> Option<Part> {
    let word = name.trim_end_matches(|c: char| c.is_ascii_digit());
    part_of(word).or_else(|| part_of(word.rsplit(['_', '-']).next()?))
}

/// The split that a folder on the way to a file stands for.
pub(super) fn part_on_the_way(file: &Path, root: &Path) -> Option<Part> {
    let way = file.strip_prefix(root).unwrap_or(file).parent()?;
    way.components().find_map(|folder| part_in(&folder.as_os_str().to_string_lossy()))
}

/// What bytes look like, in words.
pub(super) fn looks_like(bytes: &[u8]) -> &'static str {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).into_owned();
    let start = head.trim_start_matches('\u{feff}').trim_start();
    if start.is_empty() {
        return "an empty file";
    }
    if start.starts_with('<') {
        return if head.contains("<annotation") { "Pascal VOC XML" } else { "XML or HTML" };
    }
    if start.starts_with(['{', '[']) {
        return match () {
            () if head.contains("\"shapes\"") => "JSON of labelme",
            () if head.contains("\"annotations\"") || head.contains("\"images\"") => "COCO JSON",
            () => "JSON of another kind",
        };
    }
    let mut words = start.lines().next().unwrap_or_default().split_whitespace();
    if words.clone().count() >= 5 && words.all(|word| word.parse::<f64>().is_ok()) {
        return "YOLO text";
    }
    if std::str::from_utf8(bytes).is_ok() { "other text" } else { "a binary file" }
}
