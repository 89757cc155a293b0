//! What can go wrong while training.

use jishi_data::DataError;
use jishi_models::ModelError;
use jishi_recipe::Problems;
use jishi_runs::RunError;
use jishi_tasks::TaskError;

/// An error of a training job.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Bad input: the recipe, the data or a package.
    #[error(transparent)]
    Bad(#[from] Problems),
    /// Reading or preparing data failed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Building or loading a model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Fetching or reading what others made failed.
    #[error(transparent)]
    Hub(#[from] jishi_hub::HubError),
    /// Writing or reading a run failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The loss is NaN or infinite.
    #[error("the loss became {loss} at step {step}; {}", kept(.last_good))]
    NonFinite {
        /// The step whose loss it was, from 1.
        step: usize,
        /// The loss.
        loss: f64,
        /// Step of the last good checkpoint, if there is one.
        last_good: Option<u64>,
    },
    /// The task can't go on: a prediction is not finite, or bad input.
    #[error("{0}")]
    Task(TaskError),
    /// A checkpoint does not fit the run.
    #[error("checkpoint of step {step} does not fit this recipe: {reason}")]
    Checkpoint {
        /// Step of the checkpoint.
        step: u64,
        /// What does not fit.
        reason: String,
    },
}

fn kept(last_good: &Option<u64>) -> String {
    match last_good {
        Some(step) => format!("the last good checkpoint, of step {step}, is kept"),
        None => "no checkpoint had been written yet".to_owned(),
    }
}

impl From<jishi_recipe::Problem> for TrainError {
    fn from(problem: jishi_recipe::Problem) -> Self {
        Self::Bad(problem.into())
    }
}

impl From<TaskError> for TrainError {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Bad(problems) => Self::Bad(problems),
            TaskError::Model(error) => Self::Model(error),
            other => Self::Task(other),
        }
    }
}
