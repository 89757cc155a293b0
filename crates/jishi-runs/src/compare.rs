//! Runs side by side: where their recipes differ, and their metrics.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use crate::manifest::{Metric, RunManifest};
use crate::table::{Align, number, text_table};

/// Runs side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Names of the runs: the columns.
    pub runs: Vec<String>,
    /// Keys of the recipes that differ, as `train.batch`; `None` where a run has no such key.
    pub differences: Vec<Row<Value>>,
    /// Metrics, as `test rmse`; `None` where a run has none.
    pub metrics: Vec<Row<Metric>>,
    /// Facts of the runs: parameters, steps, seconds, …
    pub facts: Vec<Row<f64>>,
}

/// A key and its value in every run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row<T> {
    /// The key.
    pub key: String,
    /// One value a run.
    pub values: Vec<Option<T>>,
}

/// Compares runs by their manifests. Keys keep the order of the first recipe that has them.
#[must_use]
pub fn compare(runs: &[(String, RunManifest)]) -> Comparison {
    let recipes: Vec<Vec<(String, Value)>> = runs.iter().map(|(_, m)| flatten(&m.recipe)).collect();
    let mut keys: Vec<&String> = Vec::new();
    let mut seen = BTreeSet::new();
    for (key, _) in recipes.iter().flatten() {
        if seen.insert(key) {
            keys.push(key);
        }
    }
    let differences = keys
        .into_iter()
        .map(|key| Row {
            key: key.clone(),
            values: recipes
                .iter()
                .map(|r| r.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone()))
                .collect(),
        })
        .filter(|row| row.values.windows(2).any(|pair| pair[0] != pair[1]))
        .collect();

    let all: BTreeSet<(&String, &String)> = runs
        .iter()
        .flat_map(|(_, m)| m.metrics.iter().flat_map(|(s, v)| v.keys().map(move |k| (s, k))))
        .collect();
    let metrics = all
        .into_iter()
        .map(|(split, name)| Row {
            key: format!("{split} {name}"),
            values: runs
                .iter()
                .map(|(_, m)| m.metrics.get(split).and_then(|v| v.get(name)).copied())
                .collect(),
        })
        .collect();

    type Fact = fn(&RunManifest) -> Option<f64>;
    let facts: [(&str, Fact); 5] = [
        ("parameters", |m| Some(m.parameters as f64)),
        ("epochs", |m| Some(m.epochs)),
        ("steps", |m| Some(m.steps as f64)),
        ("seconds", |m| Some(m.wall_seconds)),
        ("peak memory (MB)", |m| m.peak_memory.map(|b| b as f64 / 1e6)),
    ];
    let facts = facts
        .iter()
        .map(|(key, get)| Row { key: (*key).into(), values: runs.iter().map(|(_, m)| get(m)).collect() })
        .collect();
    Comparison { runs: runs.iter().map(|(name, _)| name.clone()).collect(), differences, metrics, facts }
}

/// The leaves of a recipe by dotted key; a list is a leaf, `null` and `name` are left out.
fn flatten(value: &Value) -> Vec<(String, Value)> {
    fn walk(prefix: &str, value: &Value, out: &mut Vec<(String, Value)>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    walk(&key, value, out);
                }
            }
            Value::Null => {}
            leaf => out.push((prefix.into(), leaf.clone())),
        }
    }
    let mut out = Vec::new();
    walk("", value, &mut out);
    // Names and descriptions always differ, and decide nothing.
    out.retain(|(key, _)| key != "name" && key != "description");
    out
}

impl Comparison {
    /// The comparison as a text table.
    #[must_use]
    pub fn to_text(&self) -> String {
        let none = || "–".to_string();
        let mut rows: Vec<Vec<String>> = Vec::new();
        let mut add = |key: &str, values: Vec<String>| {
            rows.push(std::iter::once(key.to_string()).chain(values).collect());
        };
        for row in &self.differences {
            let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_string);
            add(&row.key, row.values.iter().map(|v| v.as_ref().map_or_else(none, text)).collect());
        }
        for row in &self.metrics {
            add(&row.key, row.values.iter().map(|v| v.map_or_else(none, |m| number(m.value, 5))).collect());
        }
        for row in &self.facts {
            add(&row.key, row.values.iter().map(|v| v.map_or_else(none, |x| number(x, 4))).collect());
        }
        let columns: Vec<(&str, Align)> = std::iter::once(("", Align::Left))
            .chain(self.runs.iter().map(|name| (name.as_str(), Align::Right)))
            .collect();
        text_table(&columns, &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_differences_are_shown() {
        let make = |name: &str, batch: u64, dropout: Option<f64>, rmse: f64| {
            let model =
                dropout.map_or(json!({"family": "linear"}), |d| json!({"family": "mlp", "dropout": d}));
            let recipe =
                json!({"name": name, "train": {"batch": batch, "seed": 1, "clip": null}, "model": model});
            let mut manifest = RunManifest::begin(name, "0.1.0", recipe, 1);
            manifest.metrics.entry("test".into()).or_default().insert("rmse".into(), rmse.into());
            (name.to_string(), manifest)
        };
        let comparison = compare(&[make("a", 32, None, 34_524.2), make("b", 64, Some(0.1), 25_600.0)]);
        let keys: Vec<&str> = comparison.differences.iter().map(|r| r.key.as_str()).collect();
        assert_eq!(keys, ["train.batch", "model.family", "model.dropout"]);
        assert_eq!(comparison.differences[2].values, [None, Some(json!(0.1))]);
        assert_eq!(comparison.metrics[0].key, "test rmse");
        let text = comparison.to_text();
        assert!(text.contains("test rmse         34,524  25,600\n"), "{text}");
        assert!(text.contains("model.family      linear     mlp\n"), "{text}");
    }
}
