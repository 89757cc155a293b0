//! From a recipe back to TOML.

use serde_json::{Map, Value};

use crate::provenance::values;
use crate::shape::join;
use crate::types::Recipe;

/// The recipe as TOML with every value written out, defaults too. It parses back to the same recipe.
///
/// Left out are keys without a value, and those that may not stand beside others: `data.split.test` beside `folds`,
/// both shares beside by = "column".
#[must_use]
pub fn to_toml(recipe: &Recipe) -> String {
    let mut text = String::new();
    if let Value::Object(root) = values(recipe) {
        write_table(&root, "", &mut text);
    }
    text
}

fn write_table(table: &Map<String, Value>, path: &str, text: &mut String) {
    let is_table = |value: &Value| value.as_object().is_some_and(|t| !t.is_empty());
    for (key, value) in table.iter().filter(|(_, v)| !is_table(v) && !v.is_null()) {
        *text += &format!("{} = {}\n", join("", key), inline(value));
    }
    for (key, value) in table {
        if let Some(inner) = value.as_object().filter(|t| !t.is_empty()) {
            let path = join(path, key);
            *text += &format!("\n[{path}]\n");
            write_table(inner, &path, text);
        }
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => string(text),
        Value::Number(n) => match n.as_f64().filter(|_| n.is_f64()) {
            // Small and large ones with an exponent: 1e-8.
            Some(float) => format!("{float:?}"),
            None => n.to_string(),
        },
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(table) if table.is_empty() => "{}".into(),
        Value::Object(table) => {
            let set = table.iter().filter(|(_, value)| !value.is_null());
            let pairs: Vec<String> = set.map(|(k, v)| format!("{} = {}", join("", k), inline(v))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Value::Bool(_) | Value::Null => value.to_string(),
    }
}

/// A string as TOML writes it, always on one line.
pub(crate) fn string(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            '\t' => quoted += "\\t",
            c if c.is_control() => quoted += &format!("\\u{:04X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
