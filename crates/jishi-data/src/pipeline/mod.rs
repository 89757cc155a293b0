//! The fitted preprocessing: what turns rows of a table into the numbers and codes of a model, and a
//! model's output back into the target's own unit. It is fitted on the training rows alone and travels
//! in the model package; prediction needs nothing else.

mod check;
mod columns;
pub mod date;
mod encode;
pub mod feature;
mod fit;
mod normal;
pub mod scale;
mod stats;
pub mod target;
mod usable;

use std::collections::BTreeMap;
use std::path::PathBuf;

use jishi_recipe::{BadRows, ColumnType, Data, MissingTarget, Problem, Problems, TaskName};
use rayon::prelude::*;
use serde::{Deserialize, Deserializer, Serialize};

pub(crate) use self::columns::find_column;
pub use self::feature::{Encoding, Feature, Slot};
pub use self::scale::Scaler;
pub(crate) use self::target::MAX_CLASSES;
pub use self::target::Target;
pub use self::usable::usable_rows;

use self::encode::Encoder;
use self::usable::{OnMissing, Rule};
use crate::encoded::{Encoded, Storage};
use crate::ledger::Ledger;
use crate::source::nearest;
use crate::{DataError, ReadOptions, Table};

/// Version of the stored form.
const FORMAT: u32 = 1;

/// The fitted preprocessing of a table. Reading one from JSON checks it, so that a [`Pipeline`] is always
/// sound.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Pipeline {
    spec: Spec,
}

/// The stored form of a [`Pipeline`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    format: u32,
    task: TaskName,
    /// In the order of the training table.
    features: Vec<Feature>,
    target: Target,
    /// Columns of the training table that are neither target nor learned from: prediction input may hold
    /// them.
    unused: Vec<String>,
    /// How the training data was read.
    missing_values: Vec<String>,
    delimiter: Option<String>,
    /// Number of bins that bin edges were fitted for.
    bins: Option<usize>,
    /// What the fit has to tell: columns that were left out, categories that were merged.
    notes: Vec<String>,
}

impl<'de> Deserialize<'de> for Pipeline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spec = Spec::deserialize(deserializer)?;
        check::check(&spec).map_err(serde::de::Error::custom)?;
        Ok(Self { spec })
    }
}

impl Pipeline {
    /// Fits the preprocessing to the `train` rows of a table, in any order. Other rows don't influence it.
    /// `bins`: also fit the edges of so many bins for every number ([`Self::bin_edges`]).
    ///
    /// # Errors
    /// [`DataError::Bad`]: columns that the recipe names and the data lacks; a target that does not suit
    /// the task, has a single value or more than 1000 classes; numbers too large to scale; no column
    /// left to learn from.
    pub fn fit(
        table: &Table,
        train: &[u32],
        data: &Data,
        task: TaskName,
        bins: Option<usize>,
    ) -> Result<Self, DataError> {
        let roles = columns::Roles::new(table, data)?;
        let mut rows = train.to_vec();
        rows.sort_unstable();
        if rows.is_empty() {
            return Err(Problem::new("there is no training row")
                .help("change the shares of the split")
                .into());
        }
        let (target, fitted) = rayon::join(
            || Target::fit(table, roles.target, &rows, data, task),
            || -> Vec<Result<fit::Fitted, Problem>> {
                roles
                    .features
                    .par_iter()
                    .map(|&column| fit::feature(table, column, &rows, data, bins))
                    .collect()
            },
        );
        let (mut features, mut notes, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        for result in fitted {
            match result {
                Ok((feature, told)) => {
                    features.extend(feature);
                    notes.extend(told);
                }
                Err(problem) => problems.push(problem),
            }
        }
        let target = match target {
            Ok(target) => Some(target),
            Err(DataError::Bad(bad)) => {
                problems.extend(bad.0);
                None
            }
            Err(other) => return Err(other),
        };
        if features.is_empty() && problems.is_empty() {
            problems.push(columns::no_feature());
        }
        let Some(target) = target.filter(|_| problems.is_empty()) else {
            return Err(Problems(problems).into());
        };
        let used = |name: &String| name == target.column() || features.iter().any(|f| f.column == *name);
        let unused = table.header.iter().filter(|name| !used(name)).cloned().collect();
        let spec = Spec {
            format: FORMAT,
            task,
            features,
            target,
            unused,
            missing_values: data.missing_values.clone(),
            delimiter: data.delimiter.clone(),
            bins,
            notes,
        };
        Ok(Self { spec })
    }

    /// Turns rows of a table, in any order, into what the model takes; row `i` of the result is `rows[i]`.
    /// `with_target`: read the target too, which prediction input need not have. Values that were filled in
    /// or count as unknown are listed in the ledger, under the split's name.
    ///
    /// # Errors
    /// [`DataError::Bad`]: columns that the table lacks or holds with another type than in training; values
    /// missing where training had none (policies `drop` and `error`: see [`Self::usable_rows`]); targets
    /// that are missing or of a class that training did not have. [`DataError::Io`]: the store
    /// cannot be written.
    ///
    /// # Panics
    /// Where a row is not in the table.
    pub fn encode(
        &self,
        table: &Table,
        rows: &[u32],
        with_target: bool,
        storage: Storage,
        ledger: Option<(&mut Ledger, Option<&str>)>,
    ) -> Result<Encoded, DataError> {
        let last = rows.iter().max();
        assert!(last.is_none_or(|&row| (row as usize) < table.rows), "row {last:?} of {}", table.rows);
        let target = with_target.then_some(&self.spec.target);
        Encoder::new(table, &self.spec.features, target, ledger.is_some())?.run(rows, storage, ledger)
    }

    /// The rows of new data that can be encoded: what the policies of training drop goes to the ledger.
    ///
    /// # Errors
    /// [`DataError::Bad`]: values missing where the policy is `error`, or in the target.
    pub fn usable_rows(
        &self,
        table: &Table,
        with_target: bool,
        ledger: &mut Ledger,
    ) -> Result<Vec<u32>, DataError> {
        let mut rules = Vec::new();
        if let Some(column) = table.column_index(self.spec.target.column()).filter(|_| with_target) {
            rules.push(Rule::target(column, MissingTarget::Error));
        }
        for feature in &self.spec.features {
            let missing = match &feature.encoding {
                Encoding::Number { missing, .. } | Encoding::Date { missing, .. } => {
                    OnMissing::of_number(*missing)
                }
                Encoding::Category { missing, .. } => OnMissing::of_category(*missing),
            };
            if let Some(column) = table.column_index(&feature.column) {
                rules.push(Rule { column, missing, target: false });
            }
        }
        Ok(usable::scan(table, &rules)?.record(table, &rules, ledger))
    }

    /// Where `rows` encoded rows go: to memory, or to a file in `folder` where they take more bytes than
    /// `memory_limit`.
    #[must_use]
    pub fn storage(&self, rows: usize, memory_limit: u64, folder: impl Into<PathBuf>) -> Storage {
        let bytes = 4 * (self.numbers() + self.cardinalities().len()) as u64 * rows as u64;
        if bytes > memory_limit { Storage::File(folder.into()) } else { Storage::Memory }
    }

    /// The task.
    #[must_use]
    pub fn task(&self) -> TaskName {
        self.spec.task
    }

    /// The input columns and what becomes of each, in the order of the training table.
    #[must_use]
    pub fn features(&self) -> &[Feature] {
        &self.spec.features
    }

    /// Numbers in every encoded row.
    #[must_use]
    pub fn numbers(&self) -> usize {
        self.spec.features.iter().map(Feature::numbers).sum()
    }

    /// Their names, `[numbers]`.
    #[must_use]
    pub fn number_names(&self) -> Vec<String> {
        self.spec.features.iter().flat_map(Feature::number_names).collect()
    }

    /// Ascending bin edges of every number, `[numbers]`, at least two each, for piecewise-linear encodings;
    /// none where the fit was not asked for bins.
    #[must_use]
    pub fn bin_edges(&self) -> Vec<Vec<f32>> {
        match self.spec.bins {
            Some(_) => self.spec.features.iter().flat_map(Feature::bin_edges).collect(),
            None => Vec::new(),
        }
    }

    /// Codes of every category column, `[categories]`; code 0 is "unknown".
    #[must_use]
    pub fn cardinalities(&self) -> Vec<usize> {
        self.spec.features.iter().filter_map(Feature::cardinality).collect()
    }

    /// Names of the category columns, `[categories]`.
    #[must_use]
    pub fn category_names(&self) -> Vec<String> {
        let categories = self.spec.features.iter().filter(|f| f.cardinality().is_some());
        categories.map(|f| f.column.clone()).collect()
    }

    /// What is predicted, with its scaling.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.spec.target
    }

    /// The classes, sorted; none for a regression.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        self.spec.target.classes()
    }

    /// What the fit has to tell: columns that were left out, categories that were merged.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.spec.notes
    }

    /// How to read new data: the columns that are needed (`with_target`: the target too), with the types of
    /// training, so that a value of another type is an error with its line.
    #[must_use]
    pub fn read_options(&self, with_target: bool) -> ReadOptions {
        let mut types: BTreeMap<String, ColumnType> =
            self.spec.features.iter().map(|f| (f.column.clone(), f.kind())).collect();
        if with_target {
            types.insert(self.spec.target.column().to_string(), self.spec.target.kind());
        }
        ReadOptions {
            delimiter: self.spec.delimiter.as_deref().and_then(|d| d.bytes().next()),
            missing_values: self.spec.missing_values.clone(),
            only: Some(types.keys().cloned().collect()),
            types,
            bad_rows: BadRows::Error,
            ..ReadOptions::default()
        }
    }

    /// Whether new data has the columns of training. `names`: all of its columns ([`Table::header`]). The
    /// target and columns that training did not learn from may be there or not.
    ///
    /// # Errors
    /// Every column that is missing, with the nearest name that is there; unless `ignore_extra`, every column
    /// that training did not have.
    pub fn check_columns(&self, names: &[String], ignore_extra: bool) -> Result<(), Problems> {
        let is_feature = |name: &String| self.spec.features.iter().any(|f| f.column == *name);
        let known = |name: &String| {
            is_feature(name) || name == self.spec.target.column() || self.spec.unused.contains(name)
        };
        let extra: Vec<&String> = names.iter().filter(|name| !known(name)).collect();
        let mut problems: Vec<Problem> = Vec::new();
        for feature in self.spec.features.iter().filter(|f| !names.contains(&f.column)) {
            let problem = Problem::new(format!(
                "column `{}` is missing: the model was trained with it",
                feature.column
            ));
            problems.push(match nearest(&feature.column, extra.iter().map(ToString::to_string)) {
                Some(near) => problem.help(format!("there is `{near}`: rename it if it is meant")),
                None => problem.help("add it; leave its fields empty where a value is not known"),
            });
        }
        if !extra.is_empty() && !ignore_extra {
            let listed: Vec<String> = extra.iter().map(|name| format!("`{name}`")).collect();
            let (noun, verb, them) =
                if extra.len() == 1 { ("column", "was", "it") } else { ("columns", "were", "them") };
            let problem = Problem::new(format!(
                "{noun} {} {verb} not in the training data",
                crate::rows::listed(&listed, 20)
            ));
            problems.push(problem.help(format!("remove {them}, or pass `--ignore-extra`")));
        }
        Problems(problems).into_result()
    }
}
