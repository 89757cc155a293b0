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
            json!({
                "type": "object", "properties": properties, "required": required,
                "additionalProperties": false,
            })
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

/// Values of an input column: of its own type, or as the text that a table would hold.
fn column(feature: &Feature) -> Value {
    let (own, text, may_miss) = match &feature.encoding {
        Encoding::Number { missing, .. } => {
            let text = json!({ "type": "string", "pattern": "^-?[0-9]{1,15}([.][0-9]{1,15})?$" });
            ("number", text, number_may_miss(*missing))
        }
        Encoding::Date { missing, .. } => {
            let text = json!({ "type": "string", "format": "date", "description": "a date, as 2024-12-31" });
            return or_missing(vec![text], number_may_miss(*missing));
        }
        Encoding::Category { boolean: true, missing, .. } => {
            let words = json!({ "enum": ["true", "false", "yes", "no", 1, 0] });
            ("boolean", words, category_may_miss(*missing))
        }
        Encoding::Category { missing, values, .. } => {
            let known: Vec<&String> = values.iter().take(50).collect();
            let text = json!({ "type": "string", "minLength": 1, "examples": known });
            let other = json!({ "type": ["number", "boolean"] });
            return or_missing(vec![text, other], category_may_miss(*missing));
        }
    };
    or_missing(vec![json!({ "type": own }), text], may_miss)
}

/// An empty text is a value that is missing, as `null` is.
fn or_missing(mut kinds: Vec<Value>, may_miss: bool) -> Value {
    if may_miss {
        kinds.push(json!({ "enum": [null, ""] }));
    }
    json!({ "anyOf": kinds })
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
