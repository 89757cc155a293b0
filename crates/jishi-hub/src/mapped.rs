//! A file's bytes, mapped into memory.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::HubError;

/// The bytes of a file, or of memory in tests and fuzzing.
#[derive(Debug)]
pub(crate) struct Mapped {
    /// Named in problems.
    pub(crate) path: PathBuf,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    File(Mmap),
    Memory(Vec<u8>),
}

impl Mapped {
    pub(crate) fn open(path: &Path) -> Result<Self, HubError> {
        let file = File::open(path).map_err(|e| HubError::io(path, e))?;
        if file.metadata().map_err(|e| HubError::io(path, e))?.len() == 0 {
            return Ok(Self::memory(path, Vec::new()));
        }
        // SAFETY: the map is read-only and lives as long as `self`. Weights are far larger than what should be copied;
        // someone who cuts the file while it is used can crash this process, as with every program that maps weights.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| HubError::io(path, e))?;
        Ok(Self { path: path.into(), bytes: Bytes::File(map) })
    }

    pub(crate) fn memory(path: &Path, bytes: Vec<u8>) -> Self {
        Self { path: path.into(), bytes: Bytes::Memory(bytes) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::File(map) => map,
            Bytes::Memory(bytes) => bytes,
        }
    }
}
