//! The one training loop: steps, optimisers, schedules, checkpoints, exact resume.

pub mod error;
pub mod job;
pub mod optimizer;
pub mod output;
pub mod schedule;
pub mod trainer;
pub mod update;

pub use error::TrainError;
pub use output::{Event, Observer, Outputs, Record, Silent};
pub use trainer::{Ended, Plan, Trainer};
