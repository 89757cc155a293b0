//! What becomes of one input column.

use jishi_recipe::{ColumnType, MissingCategory, MissingNumber};
use serde::{Deserialize, Serialize};

use super::date::DatePart;
use super::scale::Scaler;

/// An input column and what becomes of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// The column's name.
    pub column: String,
    /// What becomes of it.
    pub encoding: Encoding,
}

/// What becomes of an input column, by its type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Encoding {
    /// A number: one scaled number, and a 0/1 number that says whether it was missing where `indicator`.
    Number {
        /// Policy for missing values.
        missing: MissingNumber,
        /// The value that a missing one is replaced by.
        fill: f64,
        /// The scaled number; `None` where it was constant in training.
        value: Option<Slot>,
        /// Whether a 0/1 number follows.
        indicator: bool,
    },
    /// A date: one scaled number for each part that varied in training.
    Date {
        /// Policy for missing values.
        missing: MissingNumber,
        /// The moment that a missing one is replaced by, in microseconds since 1970-01-01 00:00 UTC.
        fill: i64,
        /// The parts.
        parts: Vec<(DatePart, Slot)>,
        /// Whether a 0/1 number follows.
        indicator: bool,
    },
    /// A category: a code. 0 is unknown, `i + 1` is `values[i]`, `values.len() + 1` is missing where
    /// `own_missing`.
    Category {
        /// Whether the column holds true and false.
        boolean: bool,
        /// Policy for missing values.
        missing: MissingCategory,
        /// The vocabulary: the most frequent value in training first.
        values: Vec<String>,
        /// Whether missing values have a code of their own.
        own_missing: bool,
    },
}

/// One scaled number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// Its scaling.
    pub scaler: Scaler,
    /// Ascending quantile edges of the scaled training values, where asked for; else empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bins: Vec<f32>,
}

impl Feature {
    /// The column's type.
    #[must_use]
    pub fn kind(&self) -> ColumnType {
        match self.encoding {
            Encoding::Number { .. } => ColumnType::Number,
            Encoding::Date { .. } => ColumnType::Date,
            Encoding::Category { boolean: true, .. } => ColumnType::Boolean,
            Encoding::Category { boolean: false, .. } => ColumnType::Category,
        }
    }

    /// How many numbers it gives.
    #[must_use]
    pub fn numbers(&self) -> usize {
        match &self.encoding {
            Encoding::Number { value, indicator, .. } => {
                usize::from(value.is_some()) + usize::from(*indicator)
            }
            Encoding::Date { parts, indicator, .. } => parts.len() + usize::from(*indicator),
            Encoding::Category { .. } => 0,
        }
    }

    /// How many codes it has, "unknown" included; `None` where it is no category.
    #[must_use]
    pub fn cardinality(&self) -> Option<usize> {
        match &self.encoding {
            Encoding::Category { values, own_missing, .. } => {
                Some(1 + values.len() + usize::from(*own_missing))
            }
            _ => None,
        }
    }

    /// Names of its numbers.
    #[must_use]
    pub fn number_names(&self) -> Vec<String> {
        let column = &self.column;
        let (mut names, indicator) = match &self.encoding {
            Encoding::Number { value, indicator, .. } => {
                (value.iter().map(|_| column.clone()).collect::<Vec<_>>(), *indicator)
            }
            Encoding::Date { parts, indicator, .. } => {
                (parts.iter().map(|(part, _)| format!("{column} {}", part.name())).collect(), *indicator)
            }
            Encoding::Category { .. } => (Vec::new(), false),
        };
        if indicator {
            names.push(format!("{column} missing"));
        }
        names
    }

    /// Bin edges of its numbers; an indicator's are 0 and 1.
    pub(super) fn bin_edges(&self) -> Vec<Vec<f32>> {
        let (mut edges, indicator) = match &self.encoding {
            Encoding::Number { value, indicator, .. } => {
                (value.iter().map(|slot| slot.bins.clone()).collect::<Vec<_>>(), *indicator)
            }
            Encoding::Date { parts, indicator, .. } => {
                (parts.iter().map(|(_, slot)| slot.bins.clone()).collect(), *indicator)
            }
            Encoding::Category { .. } => (Vec::new(), false),
        };
        if indicator {
            edges.push(vec![0.0, 1.0]);
        }
        edges
    }
}
