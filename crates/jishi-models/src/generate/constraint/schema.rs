//! JSON schemas as expressions over JSON texts.

use jishi_recipe::Problem;
use regex_syntax::hir::{Hir, HirKind};
use serde_json::{Map, Value};

use super::numbers::{integer, integers, literal, number, optional, repeat};
use super::pattern::{character, holding};

/// How often a schema may be inside of itself by a reference; deeper values are not allowed.
const NESTED: usize = 3;
/// How deep a value is nested whose schema says nothing.
const DEPTH: usize = 2;
/// Schemas that are compiled, and parts of an expression, at most.
const SCHEMAS: usize = 20_000;
const PARTS: usize = 200_000;
/// Keywords that say nothing about values.
const NOTES: [&str; 13] = [
    "title",
    "description",
    "default",
    "examples",
    "example",
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "deprecated",
    "readOnly",
    "writeOnly",
];
const TYPES: [&str; 7] = ["object", "array", "string", "integer", "number", "boolean", "null"];

/// Texts of the values that a schema allows.
///
/// # Errors
/// Names the place of what is not supported, makes no sense or allows no value.
pub fn compile(schema: &Value) -> Result<Hir, Problem> {
    Compiler { root: schema, references: Vec::new(), schemas: 0 }.value(schema, "#")
}

struct Compiler<'a> {
    root: &'a Value,
    /// References that are being followed.
    references: Vec<&'a str>,
    /// Schemas that were compiled, those behind references each time.
    schemas: usize,
}

/// Parts of an expression.
fn parts(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Repetition(repetition) => 1 + parts(&repetition.sub),
        HirKind::Capture(capture) => 1 + parts(&capture.sub),
        HirKind::Concat(all) | HirKind::Alternation(all) => 1 + all.iter().map(parts).sum::<usize>(),
        _ => 1,
    }
}

fn problem<T>(path: &str, message: impl std::fmt::Display) -> Result<T, Problem> {
    Err(Problem::new(format!("the schema at `{path}` {message}")))
}

fn joined(parts: Vec<Hir>) -> Hir {
    Hir::concat(parts)
}

fn comma() -> Hir {
    joined(vec![literal(","), optional(literal(" "))])
}

fn quoted(hir: Hir) -> Hir {
    joined(vec![literal("\""), hir, literal("\"")])
}

/// Any string.
fn string() -> Hir {
    quoted(repeat(character(), 0, None))
}

/// Any value, objects and arrays so many levels deep.
fn anything(depth: usize) -> Hir {
    let mut parts = vec![string(), number(), literal("true"), literal("false"), literal("null")];
    if depth > 0 {
        parts.push(array(anything(depth - 1), 0, None));
        parts.push(map(anything(depth - 1)));
    }
    Hir::alternation(parts)
}

/// `[item, item]`
fn array(item: Hir, min: u32, max: Option<u32>) -> Hir {
    if max == Some(0) {
        return literal("[]");
    }
    let more = repeat(joined(vec![comma(), item.clone()]), min.saturating_sub(1), max.map(|m| m - 1));
    let items = joined(vec![item, more]);
    joined(vec![literal("["), if min == 0 { optional(items) } else { items }, literal("]")])
}

/// An object with any names.
fn map(value: Hir) -> Hir {
    let pair = joined(vec![string(), literal(":"), optional(literal(" ")), value]);
    let pairs = joined(vec![pair.clone(), repeat(joined(vec![comma(), pair]), 0, None)]);
    joined(vec![literal("{"), optional(pairs), literal("}")])
}

/// An object with these names and values in this order, each required or not.
fn object(properties: Vec<(Hir, bool)>) -> Hir {
    // What follows a property: the rest with commas, from the end.
    let mut rest = Hir::empty();
    let mut bodies = Vec::new();
    for (pair, required) in properties.iter().rev() {
        bodies.push((joined(vec![pair.clone(), rest.clone()]), *required));
        let part = joined(vec![comma(), pair.clone()]);
        rest = joined(vec![if *required { part } else { optional(part) }, rest]);
    }
    // The first one there is any up to the first that is required.
    let mut choices = Vec::new();
    let mut all_optional = true;
    for (body, required) in bodies.into_iter().rev() {
        choices.push(body);
        if required {
            all_optional = false;
            break;
        }
    }
    if all_optional {
        choices.push(Hir::empty());
    }
    joined(vec![literal("{"), Hir::alternation(choices), literal("}")])
}

impl<'a> Compiler<'a> {
    fn value(&mut self, schema: &'a Value, path: &str) -> Result<Hir, Problem> {
        self.schemas += 1;
        if self.schemas > SCHEMAS {
            return problem(path, "is too large, with what it refers to");
        }
        let hir = self.compile(schema, path)?;
        // Items are there twice, once for the first and once for the others: nested ones double at each level.
        if parts(&hir) > PARTS { problem(path, "is too large") } else { Ok(hir) }
    }

    fn compile(&mut self, schema: &'a Value, path: &str) -> Result<Hir, Problem> {
        let schema = match schema {
            Value::Bool(true) => return Ok(anything(DEPTH)),
            Value::Bool(false) => return problem(path, "allows no value"),
            Value::Object(schema) => schema,
            other => return problem(path, format!("is {other}, which is no schema")),
        };
        if let Some(reference) = schema.get("$ref") {
            self.known(schema, path, &["$ref"])?;
            return self.reference(reference, path);
        }
        for word in ["anyOf", "oneOf", "allOf"] {
            let Some(choices) = schema.get(word) else { continue };
            self.known(schema, path, &[word])?;
            let Some(choices) = choices.as_array().filter(|c| !c.is_empty()) else {
                return problem(&format!("{path}/{word}"), "is no list of schemas");
            };
            if word == "allOf" && choices.len() > 1 {
                return problem(path, "has `allOf` of several schemas, which is not supported");
            }
            let choices = choices.iter().enumerate();
            let parts = choices.map(|(i, choice)| self.value(choice, &format!("{path}/{word}/{i}")));
            return Ok(Hir::alternation(parts.collect::<Result<_, _>>()?));
        }
        let types = self.types(schema, path)?;
        if schema.contains_key("enum") || schema.contains_key("const") {
            return self.listed(schema, &types, path);
        }
        if types.is_empty() {
            self.known(schema, path, &[])?;
            return Ok(anything(DEPTH));
        }
        let several = types.len() > 1;
        let parts = types.iter().map(|name| self.of_type(name, schema, path, several));
        Ok(Hir::alternation(parts.collect::<Result<_, _>>()?))
    }

    /// The types it names, or those that its keywords are about.
    fn types(&self, schema: &'a Map<String, Value>, path: &str) -> Result<Vec<&'a str>, Problem> {
        let named: Vec<&Value> = match schema.get("type") {
            Some(Value::Array(names)) => names.iter().collect(),
            Some(name) => vec![name],
            None if schema.contains_key("properties") => return Ok(vec!["object"]),
            None if schema.contains_key("items") || schema.contains_key("prefixItems") => {
                return Ok(vec!["array"]);
            }
            None => return Ok(Vec::new()),
        };
        let mut types = Vec::new();
        for name in named {
            match name.as_str().filter(|name| TYPES.contains(name)) {
                Some(name) => types.push(name),
                None => return problem(&format!("{path}/type"), format!("is {name}, which is no type")),
            }
        }
        if types.is_empty() {
            return problem(&format!("{path}/type"), "allows no value");
        }
        Ok(types)
    }

    /// Whether there are no keywords but these and notes.
    fn known(&self, schema: &Map<String, Value>, path: &str, words: &[&str]) -> Result<(), Problem> {
        let other = schema.keys().find(|k| !words.contains(&k.as_str()) && !NOTES.contains(&k.as_str()));
        match other {
            Some(other) if words.is_empty() => problem(path, format!("has `{other}` without a `type`")),
            Some(other) => {
                problem(path, format!("has `{other}` beside `{}`, which is not supported", words[0]))
            }
            None => Ok(()),
        }
    }

    fn reference(&mut self, reference: &'a Value, path: &str) -> Result<Hir, Problem> {
        let Some(name) = reference.as_str().filter(|name| name.starts_with('#')) else {
            return problem(path, format!("refers to {reference}, which is not inside of it"));
        };
        let Some(target) = self.root.pointer(&name[1..]) else {
            return problem(path, format!("refers to `{name}`, which is not there"));
        };
        if self.references.iter().filter(|r| **r == name).count() >= NESTED {
            return Ok(Hir::fail());
        }
        self.references.push(name);
        let found = self.value(target, name);
        self.references.pop();
        found
    }

    fn listed(&self, schema: &'a Map<String, Value>, types: &[&str], path: &str) -> Result<Hir, Problem> {
        self.known(schema, path, &["enum", "const", "type"])?;
        let values: Vec<&Value> = match (schema.get("const"), schema.get("enum")) {
            (Some(value), None) => vec![value],
            (None, Some(Value::Array(values))) => values.iter().collect(),
            (Some(value), Some(Value::Array(values))) => values.iter().filter(|v| *v == value).collect(),
            _ => return problem(&format!("{path}/enum"), "is no list"),
        };
        let fits = |value: &Value| {
            types.is_empty()
                || types.iter().any(|name| match value {
                    Value::Null => *name == "null",
                    Value::Bool(_) => *name == "boolean",
                    Value::Number(n) => *name == "number" || *name == "integer" && !n.is_f64(),
                    Value::String(_) => *name == "string",
                    Value::Array(_) => *name == "array",
                    Value::Object(_) => *name == "object",
                })
        };
        let texts: Vec<Hir> =
            values.into_iter().filter(|v| fits(v)).map(|v| literal(&v.to_string())).collect();
        if texts.is_empty() {
            return problem(path, "allows no value");
        }
        Ok(Hir::alternation(texts))
    }

    fn of_type(
        &mut self,
        name: &str,
        schema: &'a Map<String, Value>,
        path: &str,
        several: bool,
    ) -> Result<Hir, Problem> {
        let words: &[&str] = match name {
            "object" => &["properties", "required", "additionalProperties"],
            "array" => &["items", "prefixItems", "minItems", "maxItems"],
            "string" => &["minLength", "maxLength", "pattern"],
            "integer" => &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"],
            _ => &[],
        };
        // With several types a keyword may be about another one, which then checks it.
        let about = ["properties", "required", "additionalProperties", "items", "prefixItems", "minItems"]
            .into_iter()
            .chain(["maxItems", "minLength", "maxLength", "pattern", "minimum", "maximum"])
            .chain(["exclusiveMinimum", "exclusiveMaximum"]);
        let about: Vec<&str> = about.collect();
        for key in schema.keys().map(String::as_str) {
            let number = name == "number" && key.to_lowercase().contains("imum");
            let fine = key == "type" || words.contains(&key) || NOTES.contains(&key);
            if !fine && (number || !several || !about.contains(&key)) {
                return problem(path, format!("has `{key}`, which is not supported for `{name}`"));
            }
        }
        match name {
            "object" => self.object(schema, path),
            "array" => self.array(schema, path),
            "string" => self.string(schema, path),
            "integer" => self.integer(schema, path),
            "number" => Ok(number()),
            "boolean" => Ok(Hir::alternation(vec![literal("true"), literal("false")])),
            _ => Ok(literal("null")),
        }
    }

    fn object(&mut self, schema: &'a Map<String, Value>, path: &str) -> Result<Hir, Problem> {
        let properties = match schema.get("properties") {
            Some(Value::Object(properties)) => Some(properties),
            Some(_) => return problem(&format!("{path}/properties"), "is no object"),
            None => None,
        };
        let required: Vec<&str> = match schema.get("required") {
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            Some(_) => return problem(&format!("{path}/required"), "is no list of names"),
            None => Vec::new(),
        };
        if let Some(name) = required.iter().find(|n| properties.is_none_or(|p| !p.contains_key(**n))) {
            return problem(path, format!("requires `{name}`, which is not among its properties"));
        }
        let Some(properties) = properties else {
            return match schema.get("additionalProperties") {
                Some(Value::Bool(false)) => Ok(literal("{}")),
                Some(value @ Value::Object(_)) => {
                    Ok(map(self.value(value, &format!("{path}/additionalProperties"))?))
                }
                _ => Ok(map(anything(DEPTH - 1))),
            };
        };
        let mut parts = Vec::new();
        for (name, property) in properties {
            let needed = required.contains(&name.as_str());
            if *property == Value::Bool(false) && !needed {
                continue;
            }
            let value = self.value(property, &format!("{path}/properties/{name}"))?;
            let name = literal(&Value::from(name.as_str()).to_string());
            parts.push((joined(vec![name, literal(":"), optional(literal(" ")), value]), needed));
        }
        Ok(object(parts))
    }

    fn array(&mut self, schema: &'a Map<String, Value>, path: &str) -> Result<Hir, Problem> {
        let (min, max) = (count(schema, "minItems", path)?.unwrap_or(0), count(schema, "maxItems", path)?);
        if max.is_some_and(|max| max < min) {
            return problem(path, format!("allows no value: `minItems` is {min}, above `maxItems`"));
        }
        if let Some(first) = schema.get("prefixItems") {
            let Some(first) = first.as_array().filter(|items| !items.is_empty()) else {
                return problem(&format!("{path}/prefixItems"), "is no list of schemas");
            };
            if schema.keys().any(|k| k == "minItems" || k == "maxItems")
                || schema.get("items").is_some_and(|items| *items != Value::Bool(false))
            {
                return problem(path, "has more than `prefixItems`, which is not supported");
            }
            let mut parts = vec![literal("[")];
            for (i, item) in first.iter().enumerate() {
                if i > 0 {
                    parts.push(comma());
                }
                parts.push(self.value(item, &format!("{path}/prefixItems/{i}"))?);
            }
            parts.push(literal("]"));
            return Ok(joined(parts));
        }
        let item = match schema.get("items") {
            Some(items) => self.value(items, &format!("{path}/items"))?,
            None => anything(DEPTH - 1),
        };
        Ok(array(item, min, max))
    }

    fn string(&self, schema: &Map<String, Value>, path: &str) -> Result<Hir, Problem> {
        let (min, max) = (count(schema, "minLength", path)?, count(schema, "maxLength", path)?);
        if let Some(pattern) = schema.get("pattern") {
            let Some(pattern) = pattern.as_str() else {
                return problem(&format!("{path}/pattern"), "is no text");
            };
            if min.is_some() || max.is_some() {
                return problem(path, "has a `pattern` and lengths, which is not supported");
            }
            return match holding(pattern) {
                Ok(hir) => Ok(quoted(hir)),
                Err(p) => problem(&format!("{path}/pattern"), format!("cannot be used: {}", p.message)),
            };
        }
        let min = min.unwrap_or(0);
        if max.is_some_and(|max| max < min) {
            return problem(path, format!("allows no value: `minLength` is {min}, above `maxLength`"));
        }
        Ok(quoted(repeat(character(), min, max)))
    }

    fn integer(&self, schema: &Map<String, Value>, path: &str) -> Result<Hir, Problem> {
        let bound = |name: &str| match schema.get(name) {
            None => Ok(None),
            Some(value) => match value.as_i64().or_else(|| whole(value.as_f64()?)) {
                Some(value) => Ok(Some(value)),
                None => problem(&format!("{path}/{name}"), format!("is {value}, which is no whole number")),
            },
        };
        let after = bound("exclusiveMinimum")?.map(|b| b.saturating_add(1));
        let before = bound("exclusiveMaximum")?.map(|b| b.saturating_sub(1));
        let low = [bound("minimum")?, after].into_iter().flatten().max();
        let high = [bound("maximum")?, before].into_iter().flatten().min();
        match (low, high) {
            (None, None) => Ok(integer()),
            (Some(low), Some(high)) if low > high => {
                problem(path, format!("allows no value: the least is {low} and the largest {high}"))
            }
            (low, high) => Ok(integers(low, high)),
        }
    }
}

fn whole(value: f64) -> Option<i64> {
    (value.fract() == 0.0 && value.abs() < 9e15).then_some(value as i64)
}

fn count(schema: &Map<String, Value>, name: &str, path: &str) -> Result<Option<u32>, Problem> {
    match schema.get(name) {
        None => Ok(None),
        Some(value) => match value.as_u64().and_then(|n| u32::try_from(n).ok()) {
            Some(count) => Ok(Some(count)),
            None => problem(&format!("{path}/{name}"), format!("is {value}, which is no number of things")),
        },
    }
}
