//! Errors as the user sees them, and exit codes: 1 for a failure, 2 for bad usage, recipe or data.

use std::io::Write;

use jishi_data::DataError;
use jishi_hub::HubError;
use jishi_models::ModelError;
use jishi_recipe::{Problem, Problems};
use jishi_runs::RunError;
use jishi_train::TrainError;

/// Any error of a command.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Bad usage, recipe or data.
    #[error(transparent)]
    Bad(#[from] Problems),
    /// Something failed.
    #[error("{0}")]
    Failed(String),
    /// Something failed, and stdout has the whole report of it.
    #[error("{0}")]
    Reported(String),
}

impl CliError {
    /// A single problem.
    pub fn bad(problem: Problem) -> Self {
        Self::Bad(problem.into())
    }

    /// Exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Bad(_) => 2,
            Self::Failed(_) | Self::Reported(_) => 1,
        }
    }

    /// As a JSON document.
    pub fn json(&self) -> serde_json::Value {
        match self {
            Self::Bad(problems) => serde_json::json!({ "error": "bad input", "problems": problems.0 }),
            Self::Failed(message) | Self::Reported(message) => serde_json::json!({ "error": message }),
        }
    }

    /// Prints the error to stderr, with the line of the file that it is about.
    pub fn render(&self) {
        let mut err = std::io::stderr().lock();
        let problems: &[Problem] = match self {
            Self::Bad(problems) => &problems.0,
            Self::Failed(message) | Self::Reported(message) => {
                let _ = writeln!(err, "error: {message}");
                return;
            }
        };
        for (i, problem) in problems.iter().enumerate() {
            let _ = writeln!(err, "error: {}", problem.message);
            // Of problems with a file as a whole and the same way out, that is said once.
            let next = problems.get(i + 1);
            if next.is_some_and(|n| {
                problem.line.is_none() && n.line.is_none() && n.file == problem.file && n.help == problem.help
            }) {
                continue;
            }
            if let Some(file) = &problem.file {
                let mut place = file.display().to_string();
                if let Some(line) = problem.line {
                    place += &format!(":{line}");
                    if let Some(column) = problem.column {
                        place += &format!(":{column}");
                    }
                }
                let _ = writeln!(err, "  --> {place}");
                if let Some((number, text)) = problem.line.and_then(|n| Some((n, line_of(file, n)?))) {
                    let _ = writeln!(err, "   {number} | {text}");
                }
            }
            if let Some(help) = &problem.help {
                let _ = writeln!(err, "  help: {help}");
            }
        }
        if problems.len() > 1 {
            let _ = writeln!(err, "{} problems; nothing was written", problems.len());
        }
    }
}

/// A line of a recipe, to show beside its problem. Data files may be huge, and their lines say little.
fn line_of(file: &std::path::Path, number: u64) -> Option<String> {
    if file.extension()? != "toml" {
        return None;
    }
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().nth(usize::try_from(number).ok()?.checked_sub(1)?)?;
    Some(line.chars().take(160).collect())
}

impl From<TrainError> for CliError {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Bad(problems) => Self::Bad(problems),
            TrainError::Data(error) => error.into(),
            TrainError::Run(error) => error.into(),
            TrainError::Hub(error) => error.into(),
            TrainError::Model(ModelError::Bad(problems)) => Self::Bad(problems),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<HubError> for CliError {
    fn from(error: HubError) -> Self {
        match error.exit_code() {
            2 => Self::Bad(error.problems()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<DataError> for CliError {
    fn from(error: DataError) -> Self {
        match error {
            DataError::Bad(problems) => Self::Bad(problems),
            DataError::Io { path, source } => RunError::io(path, source).into(),
        }
    }
}

impl From<RunError> for CliError {
    fn from(error: RunError) -> Self {
        match error.exit_code() {
            // Space, permission and a run in use are for the user to put right; nothing is half-written.
            2 => Self::Bad(error.problems()),
            _ => Self::Failed(error.to_string()),
        }
    }
}
