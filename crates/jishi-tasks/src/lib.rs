//! What a task is: example, batch, loss, metrics, prediction.

pub mod labelling;
pub mod language;
pub mod losses;
pub mod measured;
pub mod metrics;
pub mod registry;
pub mod table;
pub mod task;

pub use measured::{ClassOutputs, Measured};
pub use registry::{TASKS, TaskInfo};
pub use table::{Predictions, TableHead, TableTask};
pub use task::{Direction, Evaluation, Sample, SplitName, Task, TaskError};
