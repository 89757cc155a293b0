//! What can go wrong with data: the user's input is bad, or the machine failed.

use std::path::PathBuf;

use jishi_recipe::{Problem, Problems};

/// Why data could not be read or prepared.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The input is wrong; every problem that was found (commands exit with 2).
    #[error(transparent)]
    Bad(#[from] Problems),
    /// The machine failed: no space left, a disk error (commands exit with 1).
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl DataError {
    /// An [`DataError::Io`] at `path`.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }
}

impl From<Problem> for DataError {
    fn from(problem: Problem) -> Self {
        Self::Bad(problem.into())
    }
}
