//! Files that hold many pictures each, in the formats of well-known collections.

use std::path::{Path, PathBuf};

use jishi_recipe::Problem;

use super::cifar::CifarFile;
use super::found::Found;
use super::idx::IdxFile;
use crate::error::DataError;
use crate::read::bytes::{Compression, Content};
use crate::read::record;
use crate::source::Source;
use crate::text::corpus::Part;

/// Most bytes of a file.
const MAX_FILE: u64 = 8 << 30;

/// A file of many pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packed {
    Idx(IdxFile),
    Cifar(CifarFile),
}

impl Packed {
    /// The file at `path`, where its name says that it is one of pictures.
    pub(super) fn of(path: &Path) -> Option<Self> {
        IdxFile::of(path).map(Self::Idx).or_else(|| CifarFile::of(path).map(Self::Cifar))
    }

    /// The files of pictures in a folder, sorted, training first.
    pub(super) fn in_folder(folder: &Path) -> Vec<Self> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        let mut files: Vec<Self> = entries.filter_map(|entry| Self::of(&entry.path())).collect();
        files.sort_by_key(|file| (file.part().map(|part| part as usize), file.path().to_path_buf()));
        files
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Idx(file) => &file.images,
            Self::Cifar(file) => &file.images,
        }
    }

    /// The split that its name says.
    pub(super) fn part(&self) -> Option<Part> {
        match self {
            Self::Idx(file) => file.part,
            Self::Cifar(file) => Some(file.part),
        }
    }

    /// The file that belongs to it: of labels, or of their names.
    pub(super) fn beside(&self) -> PathBuf {
        match self {
            Self::Idx(file) => file.labels(),
            Self::Cifar(file) => file.names(),
        }
    }

    /// Its pictures, with their labels where there are some or `labelled` says that there must be.
    ///
    /// # Errors
    /// A file that is not what its name says, or is cut short.
    pub(super) fn read(&self, group: usize, labelled: bool) -> Result<Vec<Found>, DataError> {
        match self {
            Self::Idx(file) => file.read(group, labelled),
            Self::Cifar(file) => file.read(group),
        }
    }
}

/// A file's bytes, decompressed.
pub(super) fn content(path: &Path) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    let mut problems = Vec::new();
    let mut read = || {
        let mut content = Content::open(&Source::File(path.to_path_buf()), Compression::None)?;
        while !content.fill(&mut bytes, 1 << 24)? {
            if bytes.len() as u64 > MAX_FILE {
                return Err(Problem::new("the file is larger than 8 GiB").into());
            }
        }
        Ok(())
    };
    record(read(), path, &mut problems)?;
    jishi_recipe::Problems(problems).into_result()?;
    Ok(bytes)
}
