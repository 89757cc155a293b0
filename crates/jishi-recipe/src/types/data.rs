//! `[data]`: where the data comes from, how it is prepared and split.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the data comes from and how it is prepared. Everything is fitted on the training split alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// A path, a glob, `builtin:NAME` or `package:NAME` (what `jishi data get NAME` fetched); or a list of them. Relative paths start at the recipe's folder.
    pub source: OneOrMany,
    /// File format. `auto` goes by the name's ending (`.csv`, `.tsv`, `.jsonl`, `.parquet`, each also with `.gz` or `.zst`).
    #[serde(default)]
    pub format: Format,
    /// Field separator of CSV files: one character. Default: `,` (a tab for TSV).
    #[serde(default)]
    pub delimiter: Option<String>,
    /// Column to predict: a number, a class, labels, or a text. `causal-lm`, `dpo` and `masked-lm` have none; for
    /// `text-embedding` it is the second of a pair.
    #[serde(default)]
    pub target: Option<String>,
    /// Columns to learn from. Default: all but the target, `ignore`, and the columns that the split uses.
    #[serde(default)]
    pub features: Option<Vec<String>>,
    /// Columns to leave out.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// Column types that override what is inferred: `{ zip = "category", sold = "date" }`.
    #[serde(default)]
    pub types: BTreeMap<String, ColumnType>,
    /// Field values that mean "missing", besides the empty field.
    #[serde(default = "default_missing_values")]
    pub missing_values: Vec<String>,
    /// What to do with missing values.
    #[serde(default)]
    pub missing: Missing,
    /// How numbers are scaled.
    #[serde(default)]
    pub scale: Scale,
    /// Categories seen in fewer training rows than this share the slot of unknown categories.
    #[serde(default = "one")]
    pub min_category_count: usize,
    /// At most this many categories a column, the most frequent first; the rest share the slot of unknown categories.
    #[serde(default = "default_max_categories")]
    pub max_categories: usize,
    /// Rows held out for validation and test.
    #[serde(default)]
    pub split: Split,
    /// What to do with rows that can't be read (a wrong number of fields, a value that is not of the column's type).
    #[serde(default)]
    pub bad_rows: BadRows,
    /// Training refuses when a larger share of the input rows than this had to be dropped (0 to 1).
    #[serde(default = "default_max_dropped")]
    pub max_dropped: f64,
    /// Data whose typed columns take more bytes than this is trained from a memory-mapped cache on disk instead of memory.
    #[serde(default = "default_memory_limit")]
    pub memory_limit: u64,
}

/// One value or a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One value.
    One(String),
    /// A list.
    Many(Vec<String>),
}

/// File format of the data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// By the name's ending.
    #[default]
    Auto,
    /// Comma-separated values with a header line (RFC 4180).
    Csv,
    /// Tab-separated values with a header line.
    Tsv,
    /// One JSON object a line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
}

/// Type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ColumnType {
    /// A real number.
    Number,
    /// One of a set of values.
    Category,
    /// True or false.
    Boolean,
    /// A day or a moment (ISO 8601); becomes year, month, day, weekday and days since 1970.
    Date,
}

/// What to do with missing values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Missing {
    /// Missing numbers and dates.
    pub number: MissingNumber,
    /// Missing categories and booleans.
    pub category: MissingCategory,
    /// Rows without a target.
    pub target: MissingTarget,
    /// Add a 0/1 feature for every numeric column that misses values in training.
    pub indicator: bool,
}

/// Policy for missing numbers. Statistics come from the training split.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MissingNumber {
    /// Take the median.
    #[default]
    Median,
    /// Take the mean.
    Mean,
    /// Take zero.
    Zero,
    /// Drop the row and say so in the ledger.
    Drop,
    /// Stop with an error.
    Error,
}

/// Policy for missing categories.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MissingCategory {
    /// Missing is a category of its own.
    #[default]
    Own,
    /// Take the most frequent category.
    MostFrequent,
    /// Drop the row and say so in the ledger.
    Drop,
    /// Stop with an error.
    Error,
}

/// Policy for rows without a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MissingTarget {
    /// Stop with an error.
    #[default]
    Error,
    /// Drop the row and say so in the ledger.
    Drop,
}

/// Policy for rows that can't be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BadRows {
    /// Stop with an error that lists them.
    #[default]
    Error,
    /// Drop them and say so in the ledger.
    Drop,
}

/// How numbers are scaled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Scale {
    /// Numeric features.
    pub number: Scaling,
    /// The target of a regression. Metrics and predictions are always in the target's own unit.
    pub target: Scaling,
    /// Single columns that differ: `{ Lot_Area = "log" }`.
    pub columns: BTreeMap<String, Scaling>,
}

/// A scaling of numbers, fitted on the training split.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scaling {
    /// As they are.
    None,
    /// Subtract the mean, divide by the standard deviation.
    #[default]
    Standard,
    /// Map the range to 0…1.
    MinMax,
    /// Subtract the median, divide by the interquartile range.
    Robust,
    /// Map the empirical distribution to a standard normal one.
    Quantile,
    /// sign(x)·ln(1+|x|), then standard.
    Log,
}

/// Rows held out for validation and test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Split {
    /// Share of all rows held out for validation; 0 trains without one.
    pub validation: f64,
    /// Share of all rows held out for the test; 0 tests nothing. Has no place beside `folds`.
    pub test: f64,
    /// Number of folds of a cross-validation, in place of `test`: each fold is the test set once. With by = "time", a fold trains on the rows before it.
    pub folds: Option<usize>,
    /// Seed of the shuffle. `random` splits are those of scikit-learn's `train_test_split` and `KFold` for the same seed.
    pub seed: u32,
    /// How rows are assigned.
    pub by: SplitBy,
    /// The column that `group`, `time` and `column` splits go by.
    pub column: Option<String>,
}

impl Split {
    /// As it is for data that is not split: all of it is one part.
    #[must_use]
    pub fn whole(&self) -> Self {
        Self { validation: 0.0, test: 0.0, folds: None, by: SplitBy::Random, ..self.clone() }
    }
}

/// How rows are assigned to splits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SplitBy {
    /// Shuffled.
    #[default]
    Random,
    /// Shuffled, with the same share of every class in every split (`classification`).
    Stratified,
    /// Rows with the same value of `column` stay together.
    Group,
    /// Ordered by `column`: the earliest rows train, the latest test.
    Time,
    /// `column` holds `train`, `validation` or `test`.
    Column,
}

fn one() -> usize {
    1
}

fn default_missing_values() -> Vec<String> {
    ["NA", "N/A", "NaN", "nan", "null", "NULL", "?"].map(String::from).to_vec()
}

fn default_max_categories() -> usize {
    1000
}

fn default_max_dropped() -> f64 {
    0.05
}

fn default_memory_limit() -> u64 {
    256 << 20
}

impl OneOrMany {
    /// The values as a slice.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(v) => std::slice::from_ref(v),
            Self::Many(v) => v,
        }
    }
}

impl Data {
    /// The column to predict. Recipes of tables have one; without, this is empty.
    #[must_use]
    pub fn target(&self) -> &str {
        self.target.as_deref().unwrap_or_default()
    }
}

impl Default for Missing {
    fn default() -> Self {
        Self {
            number: MissingNumber::Median,
            category: MissingCategory::Own,
            target: MissingTarget::Error,
            indicator: false,
        }
    }
}

impl Default for Scale {
    fn default() -> Self {
        Self { number: Scaling::Standard, target: Scaling::Standard, columns: BTreeMap::new() }
    }
}

impl Default for Split {
    fn default() -> Self {
        Self { validation: 0.2, test: 0.2, folds: None, seed: 42, by: SplitBy::Random, column: None }
    }
}
