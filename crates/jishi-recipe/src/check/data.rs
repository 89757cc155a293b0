//! Checks of `[data]`.

use super::Checker;
use crate::shape::join;
use crate::types::{Domain, Format, Scaling, SplitBy, TaskName};

/// Keys of [data] that a task on something else than tables does not have.
pub(crate) fn table_keys(domain: Domain) -> &'static [&'static str] {
    match domain {
        Domain::Tables => &[],
        // Decoded images may take more memory than there is.
        Domain::Images => &TABLE_KEYS[..TABLE_KEYS.len() - 1],
        Domain::Texts => &TABLE_KEYS,
    }
}

const TABLE_KEYS: [&str; 9] = [
    "features",
    "ignore",
    "types",
    "missing_values",
    "missing",
    "scale",
    "min_category_count",
    "max_categories",
    "memory_limit",
];

impl Checker<'_> {
    /// What every task asks of its data.
    pub(super) fn source(&mut self) {
        let data = &self.recipe.data;
        let sources = data.source.as_slice();
        if sources.is_empty() || sources.iter().any(String::is_empty) {
            let message = "`data.source`: expected a path, a glob or `builtin:NAME`, found nothing";
            self.fault(&["data.source"], message, "for example: source = \"houses.csv\"");
        }
        if data.target.as_ref().is_some_and(String::is_empty) {
            self.fault(
                &["data.target"],
                "`data.target`: expected the name of a column, found an empty string",
                "",
            );
        }
        let dropped = data.max_dropped;
        self.number("data.max_dropped", dropped, (0.0..=1.0).contains(&dropped), "from 0 to 1");
        self.split();
    }

    /// What tasks on tables ask of it.
    pub(super) fn table(&mut self) {
        let data = &self.recipe.data;
        if data.target.is_none() {
            let help = "Column to predict. For example: target = \"price\"";
            self.lack("data", &["data.target"], "[data] needs the key `target`", help);
        }
        if let Some(delimiter) = &data.delimiter {
            self.delimiter(delimiter);
        }
        self.columns();
        self.at_least("data.max_categories", data.max_categories, 1);
        if self.recipe.task == TaskName::Classification
            && !matches!(data.scale.target, Scaling::Standard | Scaling::None)
        {
            let message = "`data.scale.target` scales the target of a regression; the task is classification";
            self.fault(&["data.scale.target", "task"], message, "leave it out");
        }
    }

    fn delimiter(&mut self, delimiter: &str) {
        let key = &["data.delimiter"];
        let format = self.recipe.data.format;
        if delimiter.len() != 1 || !delimiter.is_ascii() {
            let message = format!("`data.delimiter`: expected one ASCII character, found {delimiter:?}");
            self.fault(key, message, "for example: delimiter = \";\", or \"\\t\" for a tab");
        } else if matches!(delimiter, "\"" | "\n" | "\r") {
            let message = format!("`data.delimiter`: {delimiter:?} has a meaning of its own in CSV");
            self.fault(key, message, "for example: delimiter = \";\"");
        } else if matches!(format, Format::Jsonl | Format::Parquet) {
            let about = &["data.delimiter", "data.format"];
            self.fault(
                about,
                "`data.delimiter` is for CSV files, and `data.format` is another",
                "leave one of them out",
            );
        } else if format == Format::Tsv && delimiter != "\t" {
            let about = &["data.delimiter", "data.format"];
            self.fault(
                about,
                "`data.format` \"tsv\" is separated by tabs",
                "write format = \"csv\" for another delimiter",
            );
        }
    }

    /// A column has one role: target, feature, or left out.
    fn columns(&mut self) {
        let data = &self.recipe.data;
        let Some(target) = &data.target else { return };
        if data.ignore.contains(target) {
            let message = format!("the target \"{target}\" is also in `data.ignore`");
            self.fault(&["data.ignore", "data.target"], message, "take it out of `ignore`");
        }
        if data.scale.columns.contains_key(target) {
            let key = join("data.scale.columns", target);
            let message = format!("`data.scale.columns` is for features, and \"{target}\" is the target");
            self.fault(&[&key, "data.target"], message, "write it as `target` of [data.scale]");
        }
        let Some(features) = &data.features else { return };
        let about = &["data.features"];
        if features.is_empty() {
            let help = "leave `features` out to learn from every column but the target";
            self.fault(about, "`data.features` is an empty list: there is nothing to learn from", help);
        }
        if features.contains(target) {
            let message = format!(
                "the target \"{target}\" is also in `data.features`: the model would be given the answer"
            );
            self.fault(&["data.features", "data.target"], message, "take it out of `features`");
        }
        let mut seen = Vec::new();
        for feature in features {
            if seen.contains(&feature) {
                self.fault(about, format!("`data.features` lists \"{feature}\" twice"), "");
            } else if data.ignore.contains(feature) {
                let message = format!("\"{feature}\" is in `data.features` and in `data.ignore`");
                self.fault(&["data.ignore", "data.features"], message, "take it out of one of them");
            }
            seen.push(feature);
        }
    }

    fn split(&mut self) {
        let split = &self.recipe.data.split;
        self.share("data.split.validation", split.validation);
        if split.folds.is_none() {
            self.share("data.split.test", split.test);
        }
        let by_column = split.by == SplitBy::Column;
        let sum = split.validation + split.test;
        if let Some(folds) = split.folds {
            self.folds(folds);
        } else if !by_column && sum >= 1.0 && split.validation < 1.0 && split.test < 1.0 {
            let message = format!(
                "nothing is left to train on: validation ({}) and test ({}) are {sum} of the rows together",
                split.validation, split.test
            );
            let about = &["data.split.test", "data.split.validation"];
            self.fault(about, message, "both are shares of all rows: make them smaller, as in 0.2 and 0.2");
        }
        if by_column {
            for key in ["data.split.validation", "data.split.test"] {
                if self.places.is_set(key) {
                    let message = format!(
                        "`{key}` has no effect with by = \"column\": the column says which rows are which"
                    );
                    self.fault(&[key, "data.split.by"], message, "leave it out");
                }
            }
        }
        self.split_column();
        let classes = matches!(self.recipe.task, TaskName::Classification | TaskName::TextClassification);
        if split.by == SplitBy::Stratified && !classes {
            let task = self.recipe.task.name();
            let message = format!("by = \"stratified\" keeps the shares of classes, and a {task} has none");
            self.fault(&["data.split.by", "task"], message, "write by = \"random\", or leave it out");
        }
    }

    fn folds(&mut self, folds: usize) {
        let split = &self.recipe.data.split;
        self.at_least("data.split.folds", folds, 2);
        if self.places.is_set("data.split.test") {
            let about = &["data.split.folds", "data.split.test"];
            let message = "`folds` and `test` contradict each other: each fold is the test set once";
            self.fault(about, message, "leave one of them out");
        }
        let left = 1.0 - 1.0 / folds.max(1) as f64;
        // Folds by time chain forward, each with a training set of its own size: the data decides.
        let even = folds >= 2 && split.by != SplitBy::Time;
        if even && split.validation < 1.0 && split.validation >= left {
            let message = format!(
                "nothing is left to train on: with {folds} folds each training set has {left:.2} of the rows, and validation takes {}",
                split.validation
            );
            self.fault(&["data.split.validation", "data.split.folds"], message, "make `validation` smaller");
        }
        if split.by == SplitBy::Column {
            let message = "`folds` can't be drawn with by = \"column\": the column gives only one split";
            let about = &["data.split.folds", "data.split.by"];
            self.fault(about, message, "folds go with \"random\", \"stratified\", \"group\" and \"time\"");
        }
    }

    fn split_column(&mut self) {
        let split = &self.recipe.data.split;
        let name = match split.by {
            SplitBy::Group => "group",
            SplitBy::Time => "time",
            SplitBy::Column => "column",
            SplitBy::Random | SplitBy::Stratified => {
                if let Some(column) = &split.column {
                    let message = format!("`data.split.column` (\"{column}\") has no effect without `by`");
                    let help = "add by = \"group\", \"time\" or \"column\", or leave `column` out";
                    self.lack("data.split", &["data.split.column", "data.split.by"], message, help);
                }
                return;
            }
        };
        let Some(column) = &split.column else {
            let help = match split.by {
                SplitBy::Time => "name the column with the time: column = \"sold_on\"",
                SplitBy::Group => "name the column whose values stay together: column = \"customer\"",
                _ => "name the column that holds `train`, `validation` or `test`: column = \"split\"",
            };
            let message = format!("by = \"{name}\" needs `column`");
            self.lack("data.split", &["data.split.by", "data.split.column"], message, help);
            return;
        };
        if Some(column) == self.recipe.data.target.as_ref() {
            let message = format!("`data.split.column` is the target \"{column}\"");
            let help = if split.by == SplitBy::Group {
                "rows with the same target would stay together; by = \"stratified\" spreads the classes evenly"
            } else {
                "name another column"
            };
            self.fault(&["data.split.column", "data.target"], message, help);
        }
        if split.by == SplitBy::Column
            && self.recipe.data.features.as_ref().is_some_and(|f| f.contains(column))
        {
            let message = format!("\"{column}\" says which rows are which, and is also in `data.features`");
            self.fault(&["data.features", "data.split.column"], message, "take it out of `features`");
        }
    }
}
