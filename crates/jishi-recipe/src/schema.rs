//! The JSON schema of a recipe, for editors and for everything here that needs to know the keys.

use serde_json::Value;

/// The JSON Schema (draft 2020-12) of a recipe.
///
/// TOML has no null, so neither has the schema: a key without a value is one that is left out.
#[must_use]
pub fn schema() -> Value {
    let mut schema = of::<crate::Recipe>();
    // `from` chooses a pretrained model by itself.
    if let Some(Value::Array(models)) = schema.pointer_mut("/$defs/Model/oneOf") {
        for required in models.iter_mut().filter_map(|m| m["required"].as_array_mut()).filter(|r| r.len() > 1)
        {
            required.retain(|key| key != "family");
        }
    }
    schema["title"] = "Jishi recipe".into();
    schema
}

/// The schema of a document of TOML.
pub(crate) fn of<T: schemars::JsonSchema>() -> Value {
    let mut schema = schemars::schema_for!(T).to_value();
    without_null(&mut schema);
    schema
}

fn without_null(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|t| t != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    object.insert("type".into(), one);
                }
            }
            if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
                choices.retain(|c| c["type"] != "null");
                if let [Value::Object(one)] = choices.as_slice() {
                    let one = one.clone();
                    object.shift_remove("anyOf");
                    // What the key says of itself goes before what its type says.
                    for (key, value) in one {
                        object.entry(key).or_insert(value);
                    }
                }
            }
            object.retain(|_, v| !v.is_null());
            object.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schema_is_titled_strict_and_without_null() {
        let schema = schema();
        assert_eq!(schema["title"], "Jishi recipe");
        assert_eq!(schema["$defs"]["Data"]["additionalProperties"], false);
        assert_eq!(schema["$defs"]["Train"]["properties"]["early_stopping"]["$ref"], "#/$defs/EarlyStopping");
        assert_eq!(
            schema["$defs"]["Train"]["properties"]["early_stopping"]["description"],
            "Stop when validation no longer improves and keep the best weights."
        );
        assert_eq!(schema["properties"]["description"]["type"], "string");
        assert!(!schema.to_string().contains("null,"), "a null is left");
        for variant in schema["$defs"]["Model"]["oneOf"].as_array().unwrap() {
            assert_eq!(variant["additionalProperties"], false);
            let from = variant["properties"].get("from").is_some();
            assert_eq!(variant["required"], serde_json::json!([if from { "from" } else { "family" }]));
        }
    }
}
