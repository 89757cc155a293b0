//! What a run's report says of a split.

use std::collections::BTreeMap;

use crate::task::Evaluation;

/// An evaluation, with what a run's report says besides.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Loss and metrics.
    pub evaluation: Evaluation,
    /// 95 % bootstrap intervals of metrics, where the task has them.
    pub intervals: BTreeMap<String, [f64; 2]>,
    /// Of a task that tells one class, what it told.
    pub classes: Option<ClassOutputs>,
}

/// Probabilities of classes, and the actual ones.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassOutputs {
    /// The classes in order.
    pub names: Vec<String>,
    /// The actual class of each example, `[examples]`.
    pub actual: Vec<u32>,
    /// Row-major `[examples, classes]`.
    pub probabilities: Vec<f64>,
}

impl From<Evaluation> for Measured {
    fn from(evaluation: Evaluation) -> Self {
        Self { evaluation, intervals: BTreeMap::new(), classes: None }
    }
}
