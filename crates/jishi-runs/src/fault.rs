//! A file system that fails on purpose, for tests of everything that must survive a crash.
//!
//! The k-th operation (write, fsync, rename, …) fails; after a power cut every later one fails too.
//! [`Fault::PowerCutLosing`] also takes away whatever was not yet made to last: bytes that were not
//! fsynced, and names whose folder was not; [`Fault::PowerCutLosingBytes`] takes the bytes alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fs::{Fs, FsFile, RealFs, parent};

/// What happens at the chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails with an input/output error; later ones work.
    Error,
    /// It fails since the disk is full; later ones work.
    NoSpace,
    /// The power goes; all that was done so far is on the disk.
    PowerCut,
    /// The power goes; bytes that were not fsynced are lost, names are as they were last, as on a disk that
    /// writes names before data.
    PowerCutLosingBytes,
    /// The power goes; bytes and names that were not fsynced are lost.
    PowerCutLosing,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Error, Self::NoSpace, Self::PowerCut, Self::PowerCutLosingBytes, Self::PowerCutLosing];

    /// Whether nothing works after it.
    #[must_use]
    pub fn is_power_cut(self) -> bool {
        !matches!(self, Self::Error | Self::NoSpace)
    }
}

/// A change of names that a power cut may take back.
#[derive(Debug)]
enum Change {
    Created(PathBuf),
    Renamed { from: PathBuf, to: PathBuf, replaced: Option<PathBuf> },
    Removed { path: PathBuf, kept: PathBuf },
}

#[derive(Debug)]
struct State {
    left: usize,
    struck: bool,
    /// Changes whose folder was not synced since, oldest first.
    changes: Vec<Change>,
    /// Files with bytes that were not synced: handle and length at the last sync.
    unsynced: Vec<(u64, File, u64)>,
    files: u64,
    /// What was removed waits here, since a power cut may bring it back.
    kept: PathBuf,
}

/// The failing file system. Works on real folders, on the disk that holds the system's folder for temporary files.
/// Its fsyncs are only counted, not carried out.
#[derive(Debug, Clone)]
pub struct FaultFs {
    fault: Fault,
    state: Arc<Mutex<State>>,
    /// Bytes that [`Fs::available`] reports.
    pub available: Option<u64>,
}

impl FaultFs {
    /// A file system whose operation number `at` (from 0) meets `fault`.
    #[must_use]
    pub fn new(fault: Fault, at: usize) -> Self {
        let kept = crate::fs::sibling(&std::env::temp_dir().join("jishi-fault"), "kept");
        Self {
            fault,
            state: Arc::new(Mutex::new(State {
                left: at,
                struck: false,
                changes: Vec::new(),
                unsynced: Vec::new(),
                files: 0,
                kept,
            })),
            available: None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the fault has happened.
    #[must_use]
    pub fn struck(&self) -> bool {
        self.state().struck
    }

    /// Lets the fault strike now, after the last operation.
    pub fn strike(&self) {
        self.state().struck = true;
    }

    /// Ends the test's run: where the power was cut and unsynced changes are lost, takes them back.
    /// Folders now hold what the next start would find.
    ///
    /// # Panics
    /// Where a change cannot be taken back, since the test would then prove nothing.
    pub fn settle(&self) {
        let mut state = self.state();
        if state.struck && matches!(self.fault, Fault::PowerCutLosing | Fault::PowerCutLosingBytes) {
            for (_, file, synced) in state.unsynced.drain(..) {
                // Half of what was not synced: neither nothing nor all, as a real disk may leave it.
                let length = file.metadata().expect("length").len();
                file.set_len(synced + length.saturating_sub(synced) / 2).expect("truncate");
            }
        }
        if state.struck && self.fault == Fault::PowerCutLosing {
            while let Some(change) = state.changes.pop() {
                match change {
                    Change::Created(path) => {
                        let _ = crate::fs::remove_tree(&RealFs, &path);
                    }
                    Change::Renamed { from, to, replaced } => {
                        fs::rename(&to, &from).expect("rename back");
                        if let Some(kept) = replaced {
                            fs::rename(kept, &to).expect("bring back");
                        }
                    }
                    Change::Removed { path, kept } => fs::rename(kept, path).expect("bring back"),
                }
            }
        }
    }

    /// Counts one operation; an error where it is the one that fails or comes after a power cut.
    fn step(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.struck {
            return if self.fault.is_power_cut() { Err(io::Error::other("power is off")) } else { Ok(()) };
        }
        if state.left > 0 {
            state.left -= 1;
            return Ok(());
        }
        state.struck = true;
        Err(match self.fault {
            Fault::NoSpace => io::Error::from(io::ErrorKind::StorageFull),
            Fault::Error => io::Error::other("input/output error (injected)"),
            _ => io::Error::other("power cut (injected)"),
        })
    }

    fn keep(&self, path: &Path) -> io::Result<PathBuf> {
        let folder = self.state().kept.clone();
        fs::create_dir_all(&folder)?;
        let kept = crate::fs::sibling(&folder.join("x"), "kept");
        fs::rename(path, &kept)?;
        Ok(kept)
    }
}

impl Change {
    /// Follows a rename of the file or folder, or of one above it.
    fn moved(&mut self, from: &Path, to: &Path) {
        let follow = |path: &mut PathBuf| {
            if let Ok(rest) = path.strip_prefix(from) {
                *path = if rest.as_os_str().is_empty() { to.to_path_buf() } else { to.join(rest) };
            }
        };
        match self {
            Self::Created(path) | Self::Removed { path, .. } => follow(path),
            Self::Renamed { from, to, .. } => {
                follow(from);
                follow(to);
            }
        }
    }

    fn in_folder(&self, folder: &Path) -> bool {
        match self {
            Self::Created(path) | Self::Removed { path, .. } => parent(path) == folder,
            Self::Renamed { from, to, .. } => parent(from) == folder || parent(to) == folder,
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.kept);
    }
}

struct FaultFile {
    fs: FaultFs,
    file: File,
    id: u64,
}

impl Write for FaultFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.fs.step() {
            // A failing write may leave a part of its bytes.
            let _ = self.file.write_all(&bytes[..bytes.len() / 2]);
            return Err(error);
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FsFile for FaultFile {
    fn sync(&mut self) -> io::Result<()> {
        self.fs.step()?;
        let id = self.id;
        self.fs.state().unsynced.retain(|(other, ..)| *other != id);
        Ok(())
    }
}

impl Fs for FaultFs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        self.step()?;
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        let mut state = self.state();
        state.files += 1;
        let id = state.files;
        state.unsynced.push((id, file.try_clone()?, 0));
        state.changes.push(Change::Created(path.to_path_buf()));
        drop(state);
        Ok(Box::new(FaultFile { fs: self.clone(), file, id }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        fs::create_dir(path)?;
        self.state().changes.push(Change::Created(path.to_path_buf()));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        // `rename(2)` replaces a file, and an empty folder, but no folder that holds something.
        let replaced = if to.is_file() { Some(self.keep(to)?) } else { None };
        fs::rename(from, to)?;
        let change = Change::Renamed { from: from.to_path_buf(), to: to.to_path_buf(), replaced };
        self.state().changes.push(change);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        let kept = self.keep(path)?;
        self.state().changes.push(Change::Removed { path: path.to_path_buf(), kept });
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        if fs::read_dir(path)?.next().is_some() {
            return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty));
        }
        let kept = self.keep(path)?;
        self.state().changes.push(Change::Removed { path: path.to_path_buf(), kept });
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        let mut state = self.state();
        let mut at = 0;
        while at < state.changes.len() {
            if !state.changes[at].in_folder(path) {
                at += 1;
                continue;
            }
            // A rename that lasts moves what may still be taken back inside it. All other changes are taken
            // back newest first, so that their paths are right when their turn comes.
            if let Change::Renamed { from, to, .. } = state.changes.remove(at) {
                for earlier in &mut state.changes[..at] {
                    earlier.moved(&from, &to);
                }
            }
        }
        Ok(())
    }

    fn available(&self, path: &Path) -> Option<u64> {
        self.available.or_else(|| RealFs.available(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_cut_takes_back_what_was_not_synced() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("d")).unwrap();
        File::create(at("d/gone")).unwrap();
        let fs = FaultFs::new(Fault::PowerCutLosing, 7);
        let mut file = fs.create(&at("a")).unwrap();
        file.write_all(&[1; 100]).unwrap();
        fs.sync_dir(dir.path()).unwrap();
        fs.create(&at("b")).unwrap();
        fs.rename(&at("b"), &at("c")).unwrap();
        fs.remove_file(&at("d/gone")).unwrap();
        fs.rename(&at("d"), &at("e")).unwrap();
        assert!(fs.sync_dir(dir.path()).is_err());
        assert!(fs.create(&at("later")).is_err());
        fs.settle();
        assert_eq!(fs::metadata(at("a")).unwrap().len(), 50);
        assert!(!at("b").exists() && !at("c").exists() && !at("e").exists());
        assert!(at("d/gone").exists());
    }

    #[test]
    fn an_error_strikes_once() {
        let dir = tempfile::tempdir().unwrap();
        let fs = FaultFs::new(Fault::Error, 1);
        fs.create_dir(&dir.path().join("a")).unwrap();
        assert!(fs.create_dir(&dir.path().join("b")).is_err());
        fs.create_dir(&dir.path().join("b")).unwrap();
        assert!(fs.struck());
    }
}
