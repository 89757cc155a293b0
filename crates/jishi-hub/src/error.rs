//! What can go wrong with a hub, a registry or a checkpoint.

use std::path::Path;

use jishi_recipe::{Problem, Problems};
use jishi_runs::RunError;

/// Any failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Something is wrong with what the user gave: a name, a folder, a file's content.
    #[error(transparent)]
    Bad(#[from] Problems),
    /// A client or a server did not do what it was asked for.
    #[error(transparent)]
    Fetch(Problems),
    /// The file system.
    #[error(transparent)]
    File(#[from] RunError),
}

impl From<Problem> for HubError {
    fn from(problem: Problem) -> Self {
        Self::Bad(problem.into())
    }
}

impl HubError {
    /// A failure to get something from elsewhere.
    #[must_use]
    pub fn fetch(problem: Problem) -> Self {
        Self::Fetch(problem.into())
    }

    /// A system error at `path`.
    #[must_use]
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::File(RunError::io(path, source))
    }

    /// The error as [`Problems`], for one way of showing errors.
    #[must_use]
    pub fn problems(&self) -> Problems {
        match self {
            Self::Bad(problems) | Self::Fetch(problems) => problems.clone(),
            Self::File(error) => error.problems(),
        }
    }

    /// The exit status of a command that ends with this error: 2 for what the user can put right, 1 for the rest.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Bad(_) => 2,
            Self::Fetch(_) => 1,
            Self::File(error) => error.exit_code(),
        }
    }
}
