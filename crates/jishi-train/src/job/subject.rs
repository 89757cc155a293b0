//! What a job asks of what it trains: a prepared table, or prepared text.

use std::time::Instant;

use burn::tensor::Device;
use jishi_data::Ledger;
use jishi_recipe::Recipe;
use jishi_runs::manifest::RunManifest;
use jishi_runs::run::RunDir;
use jishi_tasks::Task;

use crate::error::TrainError;
use crate::job::report::TrainReport;

/// A recipe's data, prepared, with the task on it.
pub trait Subject: Sized {
    /// The task.
    type Task: Task;

    /// The task, with its data.
    fn task(&self) -> &Self::Task;

    /// The metric that is shown first.
    fn primary_metric(&self) -> &'static str;

    /// What became of every row.
    fn ledger(&self) -> &Ledger;

    /// Sizes of what a model reads, by name: features, or tokens.
    fn inputs(&self) -> Vec<(&'static str, u64)>;

    /// What preparation has to tell; default: nothing.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// The model as training begins.
    ///
    /// # Errors
    /// A configuration that makes no model; a pretrained one that does not fit.
    fn model(&self, recipe: &Recipe, device: &Device) -> Result<<Self::Task as Task>::Model, TrainError>;

    /// Evaluates, draws, packs and checks; fills in the manifest and the report.
    ///
    /// # Errors
    /// A prediction that is not finite; files that can't be written; a package that does not do what the model does.
    fn finish(
        &self,
        finished: &Finished<'_, <Self::Task as Task>::Model>,
        manifest: &mut RunManifest,
        report: &mut TrainReport,
        started: Instant,
    ) -> Result<(), TrainError>;
}

/// A run that has trained.
pub struct Finished<'a, M> {
    /// Its folder.
    pub run: &'a RunDir,
    /// Its recipe.
    pub recipe: &'a Recipe,
    /// The trained model.
    pub model: &'a M,
    /// Where to compute.
    pub device: &'a Device,
}
