//! The few file operations that must survive a crash, behind a trait so that tests can make each fail.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Changes of the file system that checkpoints, packages and the atomic writer make. Reading goes straight to `std::fs`.
pub trait Fs: Debug + Send + Sync {
    /// Creates a new file; fails where the name is taken.
    ///
    /// # Errors
    /// The system's.
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;
    /// Creates one folder.
    ///
    /// # Errors
    /// The system's.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Renames a file or folder; a file that is at `to` is replaced.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// The system's.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    ///
    /// # Errors
    /// The system's.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder last through a power cut.
    ///
    /// # Errors
    /// The system's.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Bytes free for this user at `path`, where the system tells.
    fn available(&self, path: &Path) -> Option<u64>;
}

/// A file being written.
pub trait FsFile: Write + Send {
    /// Makes what was written last through a power cut.
    ///
    /// # Errors
    /// The system's.
    fn sync(&mut self) -> io::Result<()>;
}

/// The real file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFs;

impl FsFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Fs for RealFs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        Ok(Box::new(OpenOptions::new().write(true).create_new(true).open(path)?))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    #[cfg(unix)]
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    // Other systems have no way to sync a folder; a rename there is made to last by the system itself.
    #[cfg(not(unix))]
    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn available(&self, path: &Path) -> Option<u64> {
        free_space(path)
    }
}

/// Bytes free for this user at `path` or its nearest folder that exists.
#[must_use]
pub fn free_space(path: &Path) -> Option<u64> {
    path.ancestors()
        .map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p })
        .find(|p| p.exists())
        .and_then(|p| fs4::available_space(p).ok())
}

/// The folder that holds `path`; `.` for a bare name.
#[must_use]
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

/// A sibling of `path` with an unpredictable name: `NAME.KIND-0123456789abcdef`.
#[must_use]
pub fn sibling(path: &Path, kind: &str) -> PathBuf {
    use std::hash::{BuildHasher, Hasher};
    // Every `RandomState` has fresh keys from the system's random source.
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{kind}-{random:016x}"));
    parent(path).join(name)
}

/// Splits a name made by [`sibling`] into base and kind.
#[must_use]
pub fn sibling_parts(name: &str) -> Option<(&str, &str)> {
    let (head, random) = name.rsplit_once('-')?;
    if random.len() != 16 || !random.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return None;
    }
    head.rsplit_once('.')
}

/// Removes a file, or a folder with all that is in it. A symbolic link is removed, never followed.
///
/// # Errors
/// The system's, at the first operation that fails.
pub fn remove_tree(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(path)?;
    if !kind.is_dir() {
        return fs.remove_file(path);
    }
    let mut entries = fs::read_dir(path)?.map(|e| e.map(|e| e.path())).collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    for entry in entries {
        remove_tree(fs, &entry)?;
    }
    fs.remove_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_can_be_told_apart() {
        let a = sibling(Path::new("x/step-1"), "tmp");
        let b = sibling(Path::new("x/step-1"), "tmp");
        assert_ne!(a, b);
        assert_eq!(a.parent(), Some(Path::new("x")));
        let name = a.file_name().and_then(|n| n.to_str()).unwrap();
        assert_eq!(sibling_parts(name), Some(("step-1", "tmp")));
        assert_eq!(sibling_parts("step-000000000001"), None);
        assert_eq!(sibling_parts("best"), None);
    }

    #[cfg(unix)]
    #[test]
    fn removing_a_tree_leaves_what_links_point_to() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::File::create(outside.join("kept")).unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("a/link")).unwrap();
        remove_tree(&RealFs, &tree).unwrap();
        assert!(!tree.exists());
        assert!(outside.join("kept").exists());
    }
}
