//! What a model is asked and what it tells, as JSON schemas (draft 2020-12), from its package.

use jishi_data::pipeline::{Encoding, Feature};
use jishi_recipe::{MissingCategory, MissingNumber};
use jishi_runs::package::PackageManifest;
use jishi_train::job::language::generate::TextGenerator;
use serde_json::{Map, Value, json};

use crate::input::Form;
use crate::limits::Limits;

/// Of a model that predicts: `inputs`, a schema of the body of `predict`; `outputs`, the columns of a prediction; the
/// metrics of its training.
#[must_use]
pub fn of_predictions(form: &Form, manifest: &PackageManifest, limits: &Limits) -> Value {
    let item = match form {
        Form::Rows(pipeline) => {
            let mut properties = Map::new();
            for feature in pipeline.features() {
                properties.insert(feature.column.clone(), column(feature));
            }
            let required: Vec<&str> = pipeline.features().iter().map(|f| f.column.as_str()).collect();
            json!({ "type": "object", "properties": properties, "required": required })
        }
        Form::Texts { blank } => {
            let least = usize::from(!blank);
            let text = json!({ "type": "string", "minLength": least, "maxLength": limits.text });
            one_or_object("text", &text)
        }
        Form::Seeds => return of_images(manifest, limits),
        Form::Images(preparation) => {
            let [height, width, channels] = preparation.shape();
            let what = format!(
                "the file of an image, in base64, of at most {} pixels; the model sees {height} × {width} × {channels}",
                limits.pixels
            );
            let image = json!({ "type": "string", "contentEncoding": "base64", "description": what });
            one_or_object("image", &image)
        }
    };
    let inputs = json!({
        "type": "object",
        "properties": { "inputs": {
            "type": "array", "items": item, "minItems": 1, "maxItems": limits.rows,
        } },
        "required": ["inputs"],
        "additionalProperties": false,
    });
    json!({ "inputs": inputs, "outputs": manifest.outputs, "metrics": manifest.metrics })
}

/// Of a model that makes images: a schema of the body of `generate`.
fn of_images(manifest: &PackageManifest, limits: &Limits) -> Value {
    let inputs = json!({
        "type": "object",
        "properties": {
            "count": { "type": "integer", "minimum": 1, "maximum": limits.images, "default": 1 },
            "seed": {
                "type": "integer", "minimum": 0, "maximum": u64::MAX,
                "description": "the same seed makes the same images; a new one if left out",
            },
        },
        "additionalProperties": false,
    });
    json!({ "inputs": inputs, "outputs": manifest.outputs, "metrics": manifest.metrics })
}

/// A string, or an object that holds it.
fn one_or_object(key: &str, schema: &Value) -> Value {
    let object = json!({
        "type": "object", "properties": { key: schema }, "required": [key], "additionalProperties": false,
    });
    json!({ "anyOf": [schema, object] })
}

/// Values of an input column.
fn column(feature: &Feature) -> Value {
    let (kind, may_miss, mut schema) = match &feature.encoding {
        Encoding::Number { missing, .. } => ("number", number_may_miss(*missing), json!({})),
        Encoding::Date { missing, .. } => {
            ("string", number_may_miss(*missing), json!({ "description": "a date, as 2024-12-31" }))
        }
        Encoding::Category { boolean: true, missing, .. } => {
            ("boolean", category_may_miss(*missing), json!({}))
        }
        Encoding::Category { missing, values, .. } => {
            let known: Vec<&String> = values.iter().take(50).collect();
            ("string", category_may_miss(*missing), json!({ "examples": known }))
        }
    };
    schema["type"] = if may_miss { json!([kind, "null"]) } else { json!(kind) };
    schema
}

fn number_may_miss(missing: MissingNumber) -> bool {
    !matches!(missing, MissingNumber::Drop | MissingNumber::Error)
}

fn category_may_miss(missing: MissingCategory) -> bool {
    !matches!(missing, MissingCategory::Drop | MissingCategory::Error)
}

/// Of a model that writes text: what it can take.
#[must_use]
pub fn of_text(generator: &TextGenerator) -> Value {
    json!({
        "context": generator.context(),
        "vocabulary": generator.tokenizer().vocabulary(),
        "chat": generator.converses(),
        "defaults": generator.defaults,
    })
}
