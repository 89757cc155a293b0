//! A model package at work: what `jishi predict` and `jishi evaluate` use, and nothing else of the run.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use jishi_data::encoded::Encoded;
use jishi_data::pipeline::Pipeline;
use jishi_data::write::Values;
use jishi_data::{DataError, Ledger, Source, Table};
use jishi_models::{NamedTensor, TableModel, import_weights};
use jishi_recipe::{Problem, Recipe};
use jishi_runs::Package;
use jishi_tasks::{Predictions, TableHead};
use serde_json::{Map, Value};

use crate::error::TrainError;

/// Scalars of a package that hold the class weights of its loss.
const CLASS_WEIGHT: &str = "class_weight.";

/// What rows that are in no file are called in problems.
const ROWS: &str = "rows.jsonl";

/// A loaded model.
pub struct Predictor {
    /// The package's manifest and weights.
    pub package: Package,
    /// The recipe that it was trained with.
    pub recipe: Recipe,
    /// The fitted preprocessing.
    pub pipeline: Pipeline,
    head: TableHead,
    model: TableModel,
}

impl Predictor {
    /// Loads a package and verifies it.
    ///
    /// # Errors
    /// Everything that is wrong with the package: hashes, sizes, weights that do not fit, damaged preprocessing.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, TrainError> {
        Self::new(Package::load(dir)?, dir, device)
    }

    pub(crate) fn new(package: Package, dir: &Path, device: &Device) -> Result<Self, TrainError> {
        let damaged = |what: &str, why: &dyn std::fmt::Display| damaged(dir, what, why);
        let recipe: Recipe =
            serde_json::from_value(package.manifest.recipe.clone()).map_err(|e| damaged("recipe", &e))?;
        let pipeline: Pipeline = serde_json::from_value(package.manifest.preprocessing.clone())
            .map_err(|e| damaged("preprocessing", &e))?;
        let mut weights = Vec::new();
        for class in pipeline.classes() {
            let weight = package.weights.scalars.get(&format!("{CLASS_WEIGHT}{class}"));
            weights.push(weight.map_err(|e| damaged("list of class weights", &e))?);
        }
        let head = TableHead::new(&recipe, &pipeline, weights, device)?;
        let model = TableModel::init(&recipe.model, head.model_shape(), 0, device)?;
        let tensors: Vec<NamedTensor> = package
            .weights
            .tensors
            .iter()
            .map(|t| NamedTensor {
                name: t.name.clone(),
                shape: t.shape.clone(),
                data: t.data.clone(),
                trainable: true,
            })
            .collect();
        let model = import_weights(model, &tensors).map_err(|e| damaged("weights", &e))?;
        Ok(Self { package, recipe, pipeline, head, model })
    }

    /// Reads a file for this model: its columns with the types of training.
    ///
    /// # Errors
    /// Columns that are missing, extra (unless `ignore_extra`) or mistyped, each named, with lines.
    pub fn read(&self, source: Source, with_target: bool, ignore_extra: bool) -> Result<Table, TrainError> {
        let mut options = self.pipeline.read_options(with_target);
        options.memory_limit = self.recipe.data.memory_limit;
        let path = source.path();
        let table = jishi_data::read(&[source], &options).map_err(|e| own_words(e.into()))?;
        self.pipeline.check_columns(&table.header, ignore_extra).map_err(|mut problems| {
            problems.0.iter_mut().for_each(|p| p.file = Some(path.clone()));
            problems
        })?;
        if with_target && table.column_index(self.pipeline.target().column()).is_none() {
            let problem =
                Problem::new(format!("the target `{}` is missing", self.pipeline.target().column()));
            return Err(TrainError::Bad(
                problem
                    .file(path)
                    .help("`jishi predict` needs no target; `jishi evaluate` compares with it")
                    .into(),
            ));
        }
        Ok(table)
    }

    /// Encodes rows of a table.
    ///
    /// # Errors
    /// Values that the policies of training refuse.
    pub fn encode(&self, table: &Table, rows: &[u32], with_target: bool) -> Result<Encoded, TrainError> {
        let storage = self.pipeline.storage(rows.len(), self.recipe.data.memory_limit, std::env::temp_dir());
        Ok(self.pipeline.encode(table, rows, with_target, storage, None)?)
    }

    /// The rows of a table that can be predicted; the rest is in the ledger.
    ///
    /// # Errors
    /// Values that the policies of training refuse.
    pub fn usable(&self, table: &Table, with_target: bool) -> Result<(Vec<u32>, Ledger), TrainError> {
        let mut ledger = table.ledger.clone();
        let rows = self.pipeline.usable_rows(table, with_target, &mut ledger)?;
        Ok((rows, ledger))
    }

    /// Predicts encoded rows; the mean loss comes too where they have targets.
    ///
    /// # Errors
    /// A prediction that is not finite.
    pub fn predict(&self, rows: &Encoded) -> Result<(Predictions, Option<f64>), TrainError> {
        Ok(self.head.predict(&self.model, rows)?)
    }

    /// Predicts every row of a table that was [`read`](Self::read): one that the policies of training drop is an error.
    ///
    /// # Errors
    /// Rows that can't be predicted, the first with its line; a prediction that is not finite.
    pub fn predict_table(&self, table: &Table, path: &Path) -> Result<Predictions, TrainError> {
        let (rows, ledger) = self.usable(table, false)?;
        if let Some(entry) = ledger.entries.first() {
            let first = entry.lines.first().map_or(0, |l| l.0);
            let problem = Problem::new(format!(
                "{} rows can't be predicted: {}",
                table.rows - rows.len(),
                entry.reason
            ));
            let problem = problem.file(path).line(first);
            return Err(problem.help("fill in the values, or leave the rows out").into());
        }
        Ok(self.predict(&self.encode(table, &rows, false)?)?.0)
    }

    /// Predicts rows given as JSON lines, in memory.
    ///
    /// # Errors
    /// As [`Predictor::read`] and [`Predictor::predict_table`].
    pub fn predict_lines(&self, lines: Vec<u8>) -> Result<Predictions, TrainError> {
        let source = Source::Memory { name: ROWS.into(), bytes: Arc::from(lines) };
        let table = self.read(source, false, false)?;
        self.predict_table(&table, Path::new(ROWS))
    }

    /// The head: metrics and intervals of predictions.
    #[must_use]
    pub fn head(&self) -> &TableHead {
        &self.head
    }

    /// Predicts rows given as JSON objects.
    ///
    /// # Errors
    /// As [`Predictor::read`] and [`Predictor::predict`].
    pub fn predict_rows(&self, rows: &[Map<String, Value>]) -> Result<Predictions, TrainError> {
        Ok(self.predict(&self.encode_rows(rows)?)?.0)
    }

    /// Encodes rows given as JSON objects.
    ///
    /// # Errors
    /// As [`Predictor::read`].
    pub fn encode_rows(&self, rows: &[Map<String, Value>]) -> Result<Encoded, TrainError> {
        let mut text = String::new();
        for row in rows {
            text += &Value::Object(row.clone()).to_string();
            text.push('\n');
        }
        let source = Source::Memory { name: ROWS.into(), bytes: Arc::from(text.into_bytes()) };
        let table = self.read(source, false, false)?;
        let all: Vec<u32> = (0..table.rows as u32).collect();
        self.encode(&table, &all, false)
    }
}

/// A part of a package that is not as it was written.
pub fn damaged(dir: &Path, what: &str, why: &dyn std::fmt::Display) -> TrainError {
    let why = why.to_string().replace('\n', "; ");
    let problem = Problem::new(format!("the package is damaged in its {what}: {why}"));
    problem.file(dir.join("model.json")).help("train or fetch the model again").into()
}

/// A recipe's settings are no way out here: there is a package, and no recipe to edit.
fn own_words(mut error: TrainError) -> TrainError {
    if let TrainError::Data(DataError::Bad(problems)) = &mut error {
        for problem in &mut problems.0 {
            if problem.help.as_ref().is_some_and(|h| h.contains("`bad_rows")) {
                problem.help = Some("correct them, or take them out of the file".into());
            }
        }
    }
    error
}

/// Class weights of a head as scalars of its package.
#[must_use]
pub fn class_weight_scalars(head: &TableHead, classes: &[String]) -> Vec<(String, f32)> {
    let named = classes.iter().zip(head.class_weights());
    named.map(|(class, weight)| (format!("{CLASS_WEIGHT}{class}"), *weight)).collect()
}

/// One row's outputs: the number, or all probabilities.
#[must_use]
pub fn outputs(predictions: &Predictions) -> Vec<Vec<f64>> {
    match predictions {
        Predictions::Numbers(values) => values.iter().map(|v| vec![*v]).collect(),
        Predictions::Probabilities { classes, values } => {
            values.chunks_exact(classes.len()).map(<[f64]>::to_vec).collect()
        }
    }
}

/// Predictions as columns of a file: `prediction`, and `probability_CLASS` of every class.
#[must_use]
pub fn columns(predictions: &Predictions) -> Vec<(String, Values)> {
    match predictions {
        Predictions::Numbers(values) => vec![("prediction".into(), Values::Numbers(values.clone()))],
        Predictions::Probabilities { classes, values } => {
            let n = classes.len();
            let labels =
                values.chunks_exact(n).map(|row| classes[jishi_tasks::metrics::most_probable(row)].clone());
            let mut columns = vec![("prediction".to_owned(), Values::Words(labels.collect()))];
            for (i, class) in classes.iter().enumerate() {
                let column = values.iter().skip(i).step_by(n).copied().collect();
                columns.push((format!("probability_{class}"), Values::Numbers(column)));
            }
            columns
        }
    }
}
