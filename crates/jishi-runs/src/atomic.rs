//! The one way in which a file of a run is replaced: temp sibling → write → fsync → rename → fsync of the folder.
//!
//! After a crash at any moment the path holds the old content or the new one, whole.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use jishi_recipe::Problem;

use crate::error::RunError;
use crate::fs::{Fs, FsFile, RealFs, parent, sibling};

/// Writes `bytes` to `path`.
///
/// # Errors
/// [`RunError::NoSpace`], [`RunError::NoPermission`] or [`RunError::Io`]; the path then holds what it held.
pub fn write(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let mut file = AtomicFile::create(fs, path)?;
    file.write_all(bytes).map_err(|e| RunError::io(path, e))?;
    file.commit()
}

/// Writes `value` to `path` as indented JSON with a final line end.
///
/// # Errors
/// As [`write`].
pub fn write_json<T: serde::Serialize>(fs: &dyn Fs, path: &Path, value: &T) -> Result<(), RunError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| RunError::io(path, e.into()))?;
    text.push(b'\n');
    write(fs, path, &text)
}

/// Writes `bytes` to `path` on the real file system.
///
/// # Errors
/// As [`write`].
pub fn write_real(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    write(&RealFs, path, bytes)
}

/// A file that appears under its name, whole, at [`AtomicFile::commit`]. Dropped before, it leaves nothing.
pub struct AtomicFile<'a> {
    fs: &'a dyn Fs,
    path: PathBuf,
    temp: PathBuf,
    file: Option<BufWriter<Box<dyn FsFile>>>,
}

impl std::fmt::Debug for AtomicFile<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AtomicFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<'a> AtomicFile<'a> {
    /// Starts to write what will be at `path`.
    ///
    /// # Errors
    /// As [`write`].
    pub fn create(fs: &'a dyn Fs, path: &Path) -> Result<Self, RunError> {
        let temp = sibling(path, "tmp");
        let file = fs.create(&temp).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Problem::new("the folder of this file does not exist")
                .file(path)
                .help("make the folder first, or choose another place")
                .into(),
            _ => RunError::io(path, e),
        })?;
        Ok(Self { fs, path: path.to_path_buf(), temp, file: Some(BufWriter::with_capacity(1 << 16, file)) })
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// As [`write`].
    pub fn commit(mut self) -> Result<(), RunError> {
        self.finish().map_err(|e| RunError::io(&self.path, e))
    }

    fn finish(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.flush()?;
            file.get_mut().sync()?;
        }
        // `file` stays set until the rename, so that a failure before it removes the temp file.
        self.fs.rename(&self.temp, &self.path)?;
        self.file = None;
        self.fs.sync_dir(parent(&self.path))
    }
}

impl Write for AtomicFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.file {
            Some(file) => file.write(bytes),
            None => Err(io::Error::other("the file is already in its place")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for AtomicFile<'_> {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // The buffer is thrown away, not flushed: the file is about to go.
            drop(file.into_parts());
            // A failure leaves a temp file that says so in its name; there is no one left to tell.
            let _ = self.fs.remove_file(&self.temp);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Fault, FaultFs};

    fn names(dir: &Path) -> Vec<String> {
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn replaces_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_real(&path, b"one").unwrap();
        write_json(&RealFs, &path, &[1, 2]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "[\n  1,\n  2\n]\n");
        drop(AtomicFile::create(&RealFs, &path).unwrap());
        assert_eq!(names(dir.path()), ["a.json"]);
    }

    #[test]
    fn a_failure_at_any_operation_leaves_the_old_or_the_new_content() {
        for fault in Fault::ALL {
            for at in 0.. {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("a");
                write_real(&path, b"old").unwrap();
                let fs = FaultFs::new(fault, at);
                let result = write(&fs, &path, &[7; 200_000]);
                let done = !fs.struck();
                // What was written must also outlive a fault that comes right after.
                fs.strike();
                fs.settle();
                let now = std::fs::read(&path).unwrap();
                assert!(result.is_err() || now == [7; 200_000], "{fault:?} at {at}");
                assert!(now == b"old" || now == [7; 200_000], "{fault:?} at {at}");
                if done {
                    result.unwrap();
                    assert!(at >= 5, "only {at} operations seen");
                    break;
                }
                assert!(result.is_err(), "{fault:?} at {at}");
                if !fault.is_power_cut() {
                    assert_eq!(names(dir.path()), ["a"], "{fault:?} at {at}");
                }
                if fault == Fault::NoSpace {
                    assert!(matches!(result, Err(RunError::NoSpace { .. })));
                }
            }
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = write_real(Path::new("/no/such/folder/x"), b"").unwrap_err();
        assert!(error.to_string().contains("/no/such/folder/x"), "{error}");
    }
}
