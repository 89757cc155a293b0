//! From a recipe to a task: read, drop, split, fit, encode.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use jishi_data::json::row_object;
use jishi_data::pipeline::{Pipeline, usable_rows};
use jishi_data::split::{self, Splits};
use jishi_data::{DataError, Ledger, ReadOptions, Table};
use jishi_recipe::{Model, NumberEmbedding, Recipe};
use jishi_tasks::TableTask;
use serde_json::{Map, Value};

use crate::error::TrainError;

/// The data of a recipe, read once; every fold is cut from it.
pub struct Source {
    /// The rows.
    pub table: Table,
    /// Rows that the policies for missing values and targets keep.
    pub usable: Vec<u32>,
    /// What was dropped so far.
    pub ledger: Ledger,
    scratch: PathBuf,
}

/// A split of the data, prepared: what a run trains on.
pub struct Prepared {
    /// The task, with its data.
    pub task: TableTask,
    /// The fitted preprocessing.
    pub pipeline: Pipeline,
    /// Every row: used, dropped or changed.
    pub ledger: Ledger,
    /// Rows of the table by split.
    pub splits: Splits,
    /// A few input rows as a user would send them, of the test split where there is one.
    pub golden: Vec<Map<String, Value>>,
}

/// Rows that a package keeps to show that it still predicts the same.
const GOLDEN_ROWS: usize = 3;

impl Source {
    /// Reads the data of a recipe, whose relative paths start at `base`. Caches of data larger than
    /// `data.memory_limit` go to the system's temporary folder.
    ///
    /// # Errors
    /// Everything that is wrong with the data.
    pub fn read(recipe: &Recipe, base: &Path) -> Result<Self, TrainError> {
        Self::from_files(recipe, &jishi_data::resolve(&recipe.data, base)?)
    }

    /// As [`Source::read`], from these files.
    ///
    /// # Errors
    /// Everything that is wrong with the data.
    pub fn from_files(recipe: &Recipe, sources: &[jishi_data::Source]) -> Result<Self, TrainError> {
        let data = &recipe.data;
        let scratch = std::env::temp_dir();
        let mut options = ReadOptions::from_recipe(data)?;
        options.cache_dir = Some(scratch.clone());
        let table = jishi_data::read(sources, &options)?;
        let mut ledger = table.ledger.clone();
        let usable = located(&table, usable_rows(&table, data, recipe.task, &mut ledger))?;
        Ok(Self { table, usable, ledger, scratch })
    }

    /// The split of the recipe, or its folds.
    ///
    /// # Errors
    /// Too few rows for the split, or a split column that does not fit.
    pub fn splits(&self, recipe: &Recipe) -> Result<Vec<Splits>, TrainError> {
        let (split, target) = (&recipe.data.split, recipe.data.target());
        Ok(match split.folds {
            Some(_) => located(&self.table, split::folds(&self.table, split, target, &self.usable))?,
            None => vec![located(&self.table, split::split(&self.table, split, target, &self.usable))?],
        })
    }

    /// Fits the preprocessing on the training rows alone and encodes all splits.
    ///
    /// # Errors
    /// Data that the recipe's task can't be trained on.
    pub fn prepare(&self, recipe: &Recipe, splits: Splits, device: &Device) -> Result<Prepared, TrainError> {
        let bins = bins(&recipe.model);
        let pipeline = Pipeline::fit(&self.table, &splits.train, &recipe.data, recipe.task, bins);
        let pipeline = located(&self.table, pipeline)?;
        let mut ledger = self.ledger.clone();
        splits.record(&self.table, &mut ledger);
        let [train, validation, test] = splits.named().map(|(name, rows)| {
            let storage = pipeline.storage(rows.len(), recipe.data.memory_limit, &self.scratch);
            pipeline.encode(&self.table, rows, true, storage, Some((&mut ledger, Some(name))))
        });
        let task = TableTask::new(recipe, &pipeline, [train?, validation?, test?], device)?;
        let golden = self.golden(&pipeline, &splits);
        Ok(Prepared { task, pipeline, ledger, splits, golden })
    }
}

impl Source {
    fn golden(&self, pipeline: &Pipeline, splits: &Splits) -> Vec<Map<String, Value>> {
        let columns: Vec<&str> = pipeline.features().iter().map(|f| f.column.as_str()).collect();
        let rows = if splits.test.is_empty() { &splits.train } else { &splits.test };
        rows.iter().take(GOLDEN_ROWS).map(|row| row_object(&self.table, *row as usize, &columns)).collect()
    }
}

/// Problems of the data as a whole name its file, where there is one alone.
fn located<T>(table: &Table, result: Result<T, DataError>) -> Result<T, DataError> {
    result.map_err(|mut error| {
        if let (DataError::Bad(problems), [file]) = (&mut error, table.files.as_slice()) {
            for problem in problems.0.iter_mut().filter(|p| p.file.is_none()) {
                problem.file = Some(file.clone());
            }
        }
        error
    })
}

/// Bins of the piecewise-linear encoding, where the model wants one.
fn bins(model: &Model) -> Option<usize> {
    match model {
        Model::Mlp(m) if m.numbers.embedding == NumberEmbedding::PiecewiseLinear => Some(m.numbers.bins),
        _ => None,
    }
}
