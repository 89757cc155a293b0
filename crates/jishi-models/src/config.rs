//! Reading a Hugging Face `config.json`: every key that would change results is either understood or a problem.

use jishi_kernels::Activation;
use jishi_recipe::{Problem, Problems};
use serde_json::{Map, Value};

/// The keys of a configuration, and what is wrong with them.
#[derive(Debug)]
pub(crate) struct Keys<'a> {
    map: Option<&'a Map<String, Value>>,
    problems: Vec<Problem>,
}

impl<'a> Keys<'a> {
    /// Keys of a configuration of one of these families (`model_type`).
    pub(crate) fn new(value: &'a Value, families: &[&str]) -> Self {
        let mut keys = Self { map: value.as_object(), problems: Vec::new() };
        if keys.map.is_none() {
            keys.problem("the configuration is no JSON object", "give the model's `config.json`");
        }
        match keys.get("model_type") {
            Some(Value::String(found)) if families.contains(&found.as_str()) => {}
            found => {
                let found = found.map_or("missing".into(), Value::to_string);
                let message =
                    format!("`model_type` is {found}: expected one of \"{}\"", families.join("\", \""));
                keys.problem(message, "this file describes another kind of model");
            }
        }
        keys.must("quantization_config", &[]);
        keys
    }

    /// Keys of a part of a configuration; problems go to the part.
    pub(crate) fn part(value: &'a Value) -> Self {
        Self { map: value.as_object(), problems: Vec::new() }
    }

    /// What is wrong.
    pub(crate) fn finish(self) -> Result<(), Problems> {
        Problems(self.problems).into_result()
    }

    /// Takes the problems of a part.
    pub(crate) fn absorb(&mut self, part: Keys<'_>) {
        self.problems.extend(part.problems);
    }

    pub(crate) fn problem(&mut self, message: impl Into<String>, help: &str) {
        self.problems.push(Problem::new(message).help(help));
    }

    /// A value that is there and not null.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.and_then(|map| map.get(key)).filter(|v| !v.is_null())
    }

    fn wrong(&mut self, key: &str, found: &Value, expected: &str) {
        self.problem(format!("`{key}` is {found}: expected {expected}"), "the configuration is damaged");
    }

    fn missing(&mut self, key: &str) {
        self.problem(format!("`{key}` is missing"), "a `config.json` of this family has it");
    }

    /// A size of at least 1 that has to be there.
    pub(crate) fn size(&mut self, key: &str) -> usize {
        self.maybe_size(key).unwrap_or_else(|| {
            if self.get(key).is_none() {
                self.missing(key);
            }
            1
        })
    }

    /// A size of at least 1, where it is there.
    pub(crate) fn maybe_size(&mut self, key: &str) -> Option<usize> {
        let found = self.get(key)?;
        match found.as_u64() {
            Some(size) if size > 0 && size < 1 << 40 => Some(size as usize),
            _ => {
                self.wrong(key, found, "a whole number of at least 1");
                None
            }
        }
    }

    /// A list of sizes of at least 1 that has to be there.
    pub(crate) fn sizes(&mut self, key: &str) -> Vec<usize> {
        let Some(found) = self.get(key) else {
            self.missing(key);
            return Vec::new();
        };
        let size = |v: &Value| v.as_u64().filter(|n| *n > 0 && *n < 1 << 40).map(|n| n as usize);
        let sizes = found.as_array().and_then(|list| list.iter().map(size).collect());
        sizes.unwrap_or_else(|| {
            self.wrong(key, found, "a list of whole numbers of at least 1");
            Vec::new()
        })
    }

    /// Classes: as many as `id2label` has, `num_labels`, or 2 as the library supposes.
    pub(crate) fn classes(&mut self) -> usize {
        let labels = self.get("id2label").and_then(Value::as_object).map(Map::len).filter(|n| *n > 0);
        labels.or_else(|| self.maybe_size("num_labels")).unwrap_or(2)
    }

    /// A token's number, where it is there.
    pub(crate) fn token(&mut self, key: &str) -> Option<u32> {
        let found = self.get(key)?;
        let token = found.as_u64().and_then(|t| u32::try_from(t).ok());
        if token.is_none() {
            self.wrong(key, found, "the number of a token");
        }
        token
    }

    /// A finite number.
    pub(crate) fn number(&mut self, key: &str, default: f64) -> f64 {
        match self.get(key) {
            None => default,
            Some(found) => found.as_f64().filter(|n| n.is_finite()).unwrap_or_else(|| {
                self.wrong(key, found, "a number");
                default
            }),
        }
    }

    /// A number above zero.
    pub(crate) fn positive(&mut self, key: &str, default: f64) -> f64 {
        let number = self.number(key, default);
        if number > 0.0 {
            return number;
        }
        self.problem(
            format!("`{key}` is {number}: expected a number above 0"),
            "the configuration is damaged",
        );
        default
    }

    /// A share from 0 to below 1.
    pub(crate) fn share(&mut self, key: &str, default: f64) -> f64 {
        let number = self.number(key, default);
        if (0.0..1.0).contains(&number) {
            return number;
        }
        let message = format!("`{key}` is {number}: expected a share from 0 to below 1");
        self.problem(message, "the configuration is damaged");
        default
    }

    /// A flag.
    pub(crate) fn flag(&mut self, key: &str, default: bool) -> bool {
        match self.get(key) {
            None => default,
            Some(found) => found.as_bool().unwrap_or_else(|| {
                self.wrong(key, found, "true or false");
                default
            }),
        }
    }

    /// A text.
    pub(crate) fn text(&mut self, key: &str, default: &'a str) -> &'a str {
        match self.get(key) {
            None => default,
            Some(found) => found.as_str().unwrap_or_else(|| {
                self.wrong(key, found, "a text");
                default
            }),
        }
    }

    /// An activation function by its reference name.
    pub(crate) fn activation(&mut self, key: &str, default: &'a str) -> Activation {
        match self.text(key, default) {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
            "silu" | "swish" => Activation::Silu,
            "relu" => Activation::Relu,
            other => {
                let message = format!("`{key}` is \"{other}\", which is not supported");
                self.problem(message, "gelu, gelu_new, silu and relu are");
                Activation::Identity
            }
        }
    }

    /// A key that would change results: it has to be missing, null or one of these values.
    pub(crate) fn must(&mut self, key: &str, allowed: &[Value]) {
        if let Some(found) = self.get(key)
            && !allowed.contains(found)
        {
            let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
            let expected = if allowed.is_empty() { "none".into() } else { allowed.join(" or ") };
            let message = format!("`{key}` is {found}, which is not supported: expected {expected}");
            self.problem(message, "this variant of the model would give other results than its reference");
        }
    }

    /// That a number of heads divides a width.
    pub(crate) fn divides(&mut self, [name, of]: [&str; 2], heads: usize, width: usize) {
        if !width.is_multiple_of(heads) {
            let message = format!("`{name}` is {heads} and does not divide `{of}`, {width}");
            self.problem(message, "the configuration is damaged");
        }
    }
}

/// Names for classes that have none: `id2label` and `label2id`.
pub(crate) fn put_labels(value: &mut Value, classes: usize) {
    let labels = (0..classes).map(|i| (i.to_string(), format!("LABEL_{i}").into()));
    value["id2label"] = Value::Object(labels.collect());
    let numbers = (0..classes).map(|i| (format!("LABEL_{i}"), i.into()));
    value["label2id"] = Value::Object(numbers.collect());
}

/// The reference name of an activation function.
pub(crate) fn activation_name(activation: Activation) -> &'static str {
    match activation {
        Activation::Identity => "linear",
        Activation::Relu => "relu",
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_new",
        Activation::Silu => "silu",
    }
}
