//! What can go wrong with a run folder.

use std::io;
use std::path::{Path, PathBuf};

use jishi_recipe::{Problem, Problems};

/// Any failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Something is wrong with what the user gave: a name, a folder, a file's content.
    #[error(transparent)]
    Bad(#[from] Problems),
    /// The disk is full. Nothing that was whole before has been touched.
    #[error("{}: no space left on the disk{}", path.display(), space_words(*needed, *available))]
    NoSpace {
        /// What was being written.
        path: PathBuf,
        /// Bytes that the write needs, where known.
        needed: Option<u64>,
        /// Bytes that are free, where known.
        available: Option<u64>,
    },
    /// The folder or file may not be written (or read) by this user.
    #[error("{}: no permission: {source}", path.display())]
    NoPermission {
        /// What was being opened.
        path: PathBuf,
        /// The system's own word.
        source: io::Error,
    },
    /// Another process trains in this folder.
    #[error("{}: another process is using this run", path.display())]
    Locked {
        /// The run's folder.
        path: PathBuf,
    },
    /// Any other failure of the file system.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's own word.
        source: io::Error,
    },
}

fn space_words(needed: Option<u64>, available: Option<u64>) -> String {
    match (needed, available) {
        (Some(n), Some(a)) => format!(" ({} needed, {} free)", bytes_words(n), bytes_words(a)),
        (Some(n), None) => format!(" ({} needed)", bytes_words(n)),
        (None, Some(a)) => format!(" ({} free)", bytes_words(a)),
        (None, None) => String::new(),
    }
}

/// A byte count for people: `512 B`, `3.2 MB`, `1.5 GB` (powers of 1000).
#[must_use]
pub fn bytes_words(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

impl From<Problem> for RunError {
    fn from(problem: Problem) -> Self {
        Self::Bad(problem.into())
    }
}

impl RunError {
    /// Sorts a system error at `path` into the variant that tells the user most.
    #[must_use]
    pub fn io(path: impl AsRef<Path>, source: io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                let available = crate::fs::free_space(&path);
                Self::NoSpace { path, needed: None, available }
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::NoPermission { path, source }
            }
            _ => Self::Io { path, source },
        }
    }

    /// What to do about it, where there is something to do.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::NoSpace { .. } => {
                Some("free some space and try again; a run that had begun goes on with `--resume`")
            }
            Self::NoPermission { .. } => Some("ask its owner for access, or choose another file or folder"),
            Self::Locked { .. } => Some("wait until it ends, or train under another name"),
            Self::Bad(_) | Self::Io { .. } => None,
        }
    }

    /// The error as [`Problems`], for one way of showing errors.
    #[must_use]
    pub fn problems(&self) -> Problems {
        if let Self::Bad(problems) = self {
            return problems.clone();
        }
        let mut problem = Problem::new(self.to_string());
        if let Some(help) = self.help() {
            problem = problem.help(help);
        }
        problem.into()
    }

    /// The exit status of a command that ends with this error: 2 for what the user can put right, 1 for the rest.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Bad(_) | Self::NoSpace { .. } | Self::NoPermission { .. } | Self::Locked { .. } => 2,
            Self::Io { .. } => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_become_words_that_help() {
        let full = RunError::io("/x/step", io::Error::from(io::ErrorKind::StorageFull));
        assert!(matches!(full, RunError::NoSpace { .. }));
        assert!(full.help().is_some_and(|h| h.contains("--resume")));
        assert_eq!(full.exit_code(), 2);
        let denied = RunError::io("/x", io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(denied.problems().to_string().contains("no permission"));
        let other = RunError::io("/x", io::Error::from(io::ErrorKind::TimedOut));
        assert_eq!(other.exit_code(), 1);
    }

    #[test]
    fn byte_counts_read_well() {
        assert_eq!(bytes_words(0), "0 B");
        assert_eq!(bytes_words(999), "999 B");
        assert_eq!(bytes_words(1000), "1.0 kB");
        assert_eq!(bytes_words(999_960), "1.0 MB");
        assert_eq!(bytes_words(3_200_000_000), "3.2 GB");
    }
}
