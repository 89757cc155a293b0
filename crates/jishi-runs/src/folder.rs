//! Whole folders that appear, and are replaced, in one step: checkpoints and model packages.
//!
//! A folder is written under a temporary name, every file fsynced, the file that lists the others
//! last, and renamed. A folder that is already there steps aside under an `.old-…` name first, and
//! is taken back by [`candidates`] where a crash fell between the two renames.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use jishi_recipe::{Problem, Problems};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::RunError;
use crate::fs::{Fs, parent, remove_tree, sibling, sibling_parts};

/// Bytes that names, folders and the list of files may take beyond the files themselves.
const OVERHEAD: u64 = 1 << 20;

/// Size and hash of a file, as listed in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256, in lower-case hexadecimal digits.
    pub sha256: String,
}

impl FileEntry {
    /// Size and hash of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, sha256: hex(&Sha256::digest(bytes)) }
    }
}

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Whether `name` is a plain file name: no separator, no `..`, nothing that leaves the folder.
#[must_use]
pub fn plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0', ':'])
}

/// Writes `files` as the folder `dest`, in the order given, and puts it in the place of what is there.
///
/// # Errors
/// [`RunError::NoSpace`] before anything is written where the disk is too small, else the system's errors. `dest`
/// then is what it was.
pub fn publish(fs: &dyn Fs, dest: &Path, files: &[(&str, &[u8])]) -> Result<(), RunError> {
    if let Some((name, _)) = files.iter().find(|(name, _)| !plain_name(name)) {
        return Err(Problem::new(format!("expected a plain file name, found {name:?}")).file(dest).into());
    }
    let needed = OVERHEAD + files.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
    if let Some(available) = fs.available(parent(dest))
        && available < needed
    {
        return Err(RunError::NoSpace {
            path: dest.to_path_buf(),
            needed: Some(needed),
            available: Some(available),
        });
    }
    let temp = sibling(dest, "tmp");
    let result = write_and_rename(fs, &temp, dest, files);
    if result.is_err() && temp.exists() {
        // The first error is the one to report; a temp folder that stays is removed by the next `sweep`.
        let _ = remove_tree(fs, &temp);
    }
    let old = result.map_err(|e| RunError::io(dest, e))?;
    match old {
        Some(old) => remove_tree(fs, &old).map_err(|e| RunError::io(old, e)),
        None => Ok(()),
    }
}

/// Gives back the path of the folder that stepped aside.
fn write_and_rename(
    fs: &dyn Fs,
    temp: &Path,
    dest: &Path,
    files: &[(&str, &[u8])],
) -> io::Result<Option<PathBuf>> {
    fs.create_dir(temp)?;
    for (name, bytes) in files {
        let mut file = fs.create(&temp.join(name))?;
        file.write_all(bytes)?;
        file.sync()?;
    }
    fs.sync_dir(temp)?;
    if fs::symlink_metadata(dest).is_err() {
        fs.rename(temp, dest)?;
        fs.sync_dir(parent(dest))?;
        return Ok(None);
    }
    let old = sibling(dest, "old");
    fs.rename(dest, &old)?;
    if let Err(error) = fs.rename(temp, dest) {
        // Where this fails too, `candidates` still finds the old one.
        let _ = fs.rename(&old, dest);
        return Err(error);
    }
    fs.sync_dir(parent(dest))?;
    Ok(Some(old))
}

/// Removes the folder `path` so that a crash on the way never leaves a part of it under its name.
///
/// # Errors
/// The system's.
pub fn retire(fs: &dyn Fs, path: &Path) -> Result<(), RunError> {
    let old = sibling(path, "old");
    fs.rename(path, &old).map_err(|e| RunError::io(path, e))?;
    remove_tree(fs, &old).map_err(|e| RunError::io(old, e))
}

/// Where the folder `dest` may be: itself, then what stepped aside for it and was left by a crash.
///
/// # Errors
/// The system's, where the folder that holds it can't be read.
pub fn candidates(dest: &Path) -> Result<Vec<PathBuf>, RunError> {
    let mut found = Vec::new();
    if fs::symlink_metadata(dest).is_ok() {
        found.push(dest.to_path_buf());
    }
    let base = dest.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    for name in names(parent(dest))? {
        if sibling_parts(&name) == Some((base, "old")) {
            found.push(parent(dest).join(name));
        }
    }
    Ok(found)
}

/// Names in a folder, sorted; none where it does not exist. Names that are not UTF-8 are not ours and are left out.
///
/// # Errors
/// The system's.
pub fn names(dir: &Path) -> Result<Vec<String>, RunError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(RunError::io(dir, e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| RunError::io(dir, e))?;
        found.extend(entry.file_name().into_string());
    }
    found.sort();
    Ok(found)
}

/// Removes what crashes left in `dir`: temporary siblings, and old ones whose place is taken.
///
/// Only for a folder that no other process writes to.
///
/// # Errors
/// The system's.
pub fn sweep(fs: &dyn Fs, dir: &Path) -> Result<(), RunError> {
    for name in names(dir)? {
        let stale = match sibling_parts(&name) {
            Some((_, "tmp")) => true,
            Some((base, "old")) => dir.join(base).exists(),
            _ => false,
        };
        if stale {
            let path = dir.join(&name);
            remove_tree(fs, &path).map_err(|e| RunError::io(path, e))?;
        }
    }
    Ok(())
}

/// Reads a file of at most `limit` bytes. The size is checked before memory is taken.
///
/// # Errors
/// A [`Problem`] where it is missing, no file or longer; the system's errors else.
pub fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, RunError> {
    let missing = |e: io::Error| {
        if e.kind() == io::ErrorKind::NotFound {
            RunError::from(Problem::new("the file is missing").file(path))
        } else {
            RunError::io(path, e)
        }
    };
    let file = File::open(path).map_err(missing)?;
    let meta = file.metadata().map_err(|e| RunError::io(path, e))?;
    if !meta.is_file() {
        return Err(Problem::new("expected a file, found a folder or a device").file(path).into());
    }
    let length = meta.len();
    if length > limit {
        let message = format!("expected at most {limit} bytes, found {length}");
        return Err(Problem::new(message).file(path).into());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    // A file that grows while it is read is caught too.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| RunError::io(path, e))?;
    if bytes.len() as u64 > limit {
        return Err(Problem::new(format!("expected at most {limit} bytes, found more")).file(path).into());
    }
    Ok(bytes)
}

/// Reads the listed files of `dir` and checks sizes and hashes. Every file that is wrong is named.
///
/// # Errors
/// [`Problems`] about missing, short, long or changed files; the system's errors else.
pub fn read_verified(
    dir: &Path,
    entries: &BTreeMap<String, FileEntry>,
) -> Result<BTreeMap<String, Vec<u8>>, RunError> {
    let mut problems = Vec::new();
    let mut files = BTreeMap::new();
    for (name, entry) in entries {
        if !plain_name(name) {
            problems.push(
                Problem::new(format!("expected plain file names in the list of files, found {name:?}"))
                    .file(dir),
            );
            continue;
        }
        let path = dir.join(name);
        match fs::metadata(&path) {
            Ok(meta) if meta.is_file() && meta.len() != entry.bytes => {
                problems.push(
                    Problem::new(format!("expected {} bytes, found {}", entry.bytes, meta.len()))
                        .file(&path)
                        .help(RESTORE),
                );
                continue;
            }
            _ => {}
        }
        match read_limited(&path, entry.bytes) {
            Ok(bytes) => {
                let found = FileEntry::of(&bytes);
                if found == *entry {
                    files.insert(name.clone(), bytes);
                } else {
                    let message = format!(
                        "expected the SHA-256 {}, found {}: the file was changed",
                        entry.sha256, found.sha256
                    );
                    problems.push(Problem::new(message).file(&path).help(RESTORE));
                }
            }
            Err(RunError::Bad(bad)) => problems.extend(bad.0.into_iter().map(|p| p.help(RESTORE))),
            Err(error) => return Err(error),
        }
    }
    Problems(problems).into_result()?;
    Ok(files)
}

const RESTORE: &str = "restore the folder from a copy, or train again";

/// Reads `bytes` as JSON; a mistake is named with line and column.
///
/// # Errors
/// A [`Problem`].
pub fn parse_json<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, RunError> {
    serde_json::from_slice(bytes).map_err(|e| {
        Problem::new(format!("the JSON is damaged: {e}"))
            .help(RESTORE)
            .file(path)
            .line(e.line() as u64)
            .column(e.column() as u64)
            .into()
    })
}
