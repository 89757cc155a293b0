//! Where every value of a resolved recipe came from: the record that a run's manifest keeps.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::check::table_keys;
use crate::places::Places;
use crate::shape::join;
use crate::types::{Recipe, SplitBy};

/// A value of the resolved recipe and where it came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Dotted key, such as `train.optimizer.learning_rate`.
    pub key: String,
    /// The value; null where there is none.
    pub value: Value,
    /// `recipe line 12`, `--set`, `default` or `built-in recipe`.
    pub from: String,
}

/// Every value of a recipe, in the order of the recipe's types.
pub(crate) fn provenance(recipe: &Recipe, places: &Places) -> Vec<Provenance> {
    let mut all = Vec::new();
    collect(&values(recipe), "", places, &mut all);
    all
}

/// The recipe's values as JSON, without those that have no effect beside others (and may not be written beside them).
pub(crate) fn values(recipe: &Recipe) -> Value {
    // Maps have string keys, so the recipe's types always have a JSON form.
    let mut value = serde_json::to_value(recipe).unwrap_or_default();
    if let Some(data) = value.pointer_mut("/data").and_then(Value::as_object_mut) {
        table_keys(recipe.task.domain()).iter().for_each(|key| drop(data.shift_remove(*key)));
    }
    if let Some(split) = value.pointer_mut("/data/split").and_then(Value::as_object_mut) {
        if recipe.data.split.folds.is_some() {
            split.shift_remove("test");
        }
        if recipe.data.split.by == SplitBy::Column {
            split.shift_remove("validation");
            split.shift_remove("test");
        }
    }
    value
}

fn collect(value: &Value, path: &str, places: &Places, all: &mut Vec<Provenance>) {
    match value {
        Value::Object(table) if path.is_empty() || !table.is_empty() => {
            for (key, inner) in table {
                collect(inner, &join(path, key), places, all);
            }
        }
        _ => all.push(Provenance { key: path.to_owned(), value: value.clone(), from: places.from(path) }),
    }
}
