//! Whatever the logits are, what comes out is allowed.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::*;
use crate::rng::Rng;

/// All bytes, and pieces that cross the borders of what is between quotes.
fn table() -> Arc<TokenTable> {
    let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|b| vec![b]).collect();
    let pieces = [
        "\"}", "\":", "\": \"", "{\"", "\", \"", "name", "\"name\"", "true", "fal", "se", "null", "12", "}",
        "},", "]", "[{", "\\u00", "é", "→", "red", "green", " ", "ab", "abc", "-0", "1e", ".5", "\"]}",
    ];
    tokens.extend(pieces.iter().map(|p| p.as_bytes().to_vec()));
    tokens.push(Vec::new());
    Arc::new(TokenTable::new(tokens))
}

/// A text with random logits; those of the stop token grow, so that texts end.
fn random(
    grammar: &Arc<Grammar>,
    vocabulary: &Arc<Vocabulary>,
    table: &Arc<TokenTable>,
    seed: u64,
) -> Generated {
    let stop = table.len() as u32 - 1;
    let options = GenerateOptions {
        max_tokens: 2000,
        stop_tokens: vec![stop],
        sampling: SamplingOptions { temperature: 1.0, seed, ..SamplingOptions::greedy() },
        ..GenerateOptions::default()
    };
    let constraint = Constraint::new(Arc::clone(grammar), Arc::clone(vocabulary));
    let mut generation =
        Generation::new(options, &[], Some(Arc::clone(table)), Some(constraint)).expect("a generation");
    let mut rng = Rng::new(seed, 5);
    while generation.finish().is_none() {
        let logits: Vec<f32> = (0..table.len())
            .map(|t| {
                let ends = table.bytes(t as u32).iter().any(|b| b"\"}]".contains(b));
                rng.normal() + if t as u32 == stop || ends { 4.0 } else { 0.0 }
            })
            .collect();
        generation.next(&logits).expect("a token");
    }
    generation.into_generated()
}

/// Whether a value is as a schema of these tests says.
fn valid(schema: &Value, value: &Value, root: &Value) -> bool {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return valid(root.pointer(&reference[1..]).expect("it is there"), value, root);
    }
    if let Some(choices) = schema.get("anyOf").or(schema.get("oneOf")).and_then(Value::as_array) {
        return choices.iter().any(|choice| valid(choice, value, root));
    }
    if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
        return choices.contains(value);
    }
    if let Some(only) = schema.get("const") {
        return only == value;
    }
    let names: Vec<&str> = match schema.get("type") {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        Some(name) => name.as_str().into_iter().collect(),
        None => return true,
    };
    let bound = |name: &str| schema.get(name).and_then(Value::as_i64);
    names.iter().any(|name| match (*name, value) {
        ("object", Value::Object(object)) => {
            let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
            let properties = schema.get("properties").and_then(Value::as_object);
            required.iter().all(|name| object.contains_key(name.as_str().expect("a name")))
                && object.iter().all(|(name, value)| match properties.and_then(|p| p.get(name)) {
                    Some(property) => valid(property, value, root),
                    None => properties.is_none(),
                })
        }
        ("array", Value::Array(items)) => {
            items.len() as i64 >= bound("minItems").unwrap_or(0)
                && bound("maxItems").is_none_or(|max| items.len() as i64 <= max)
                && schema.get("items").is_none_or(|item| items.iter().all(|v| valid(item, v, root)))
        }
        ("string", Value::String(text)) => {
            let length = text.chars().count() as i64;
            length >= bound("minLength").unwrap_or(0)
                && bound("maxLength").is_none_or(|max| length <= max)
                && schema.get("pattern").and_then(Value::as_str).is_none_or(|pattern| {
                    regex_automata::dfa::dense::DFA::new(pattern)
                        .expect("an automaton")
                        .try_search_fwd(&regex_automata::Input::new(text))
                        .expect("a search")
                        .is_some()
                })
        }
        ("integer", Value::Number(n)) => {
            let n = n.as_i64().expect("a whole number");
            bound("minimum").is_none_or(|low| n >= low)
                && bound("maximum").is_none_or(|high| n <= high)
                && bound("exclusiveMaximum").is_none_or(|high| n < high)
        }
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) | ("null", Value::Null) => true,
        _ => false,
    })
}

use regex_automata::dfa::Automaton;

fn schemas() -> Vec<Value> {
    vec![
        json!({"type": "object", "properties": {
            "name": {"type": "string", "minLength": 2, "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 130},
            "tags": {"type": "array", "items": {"enum": ["red", "green", "é\"q"]}, "minItems": 1, "maxItems": 3},
            "height": {"type": ["number", "null"]},
        }, "required": ["name", "tags"], "additionalProperties": false}),
        json!({"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"const": {"x": [1, "y"]}}}}),
        json!({"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "number"}, "c": {"type": "string"}},
            "required": ["c"]}),
        json!({"type": "string", "pattern": "^(ab|c+)-[0-9]{2,3}\\n?$"}),
        json!({"type": "string", "pattern": "^q[^a-z]\\\\"}),
        json!({"type": "array", "items": {"type": "integer", "minimum": -37, "exclusiveMaximum": 1205}, "maxItems": 6}),
        json!({"type": "integer", "minimum": 95}),
        json!({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "null"}, "minItems": 2, "maxItems": 2}]}),
        json!({"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {
            "value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
            "required": ["value"]}}}),
        json!({"type": "array"}),
        json!({"type": "object"}),
        json!({"type": "object", "additionalProperties": {"type": "boolean"}}),
        json!({}),
    ]
}

#[test]
fn random_texts_follow_the_schema() {
    let table = table();
    let vocabulary = Arc::new(Vocabulary::new(Arc::clone(&table)));
    for schema in schemas() {
        let grammar = Arc::new(Grammar::json_schema(&schema).unwrap_or_else(|e| panic!("{schema}: {e}")));
        let mut ended = 0;
        for seed in 0..60 {
            let found = random(&grammar, &vocabulary, &table, seed);
            if found.finish != Finish::Stop {
                continue;
            }
            ended += 1;
            let bytes: Vec<u8> = found.tokens.iter().flat_map(|t| table.bytes(*t).to_vec()).collect();
            let text = std::str::from_utf8(&bytes).expect("text");
            let value: Value =
                serde_json::from_str(text).unwrap_or_else(|error| panic!("{schema}: {text}: {error}"));
            assert!(valid(&schema, &value, &schema), "{schema}: {text}");
            assert!(grammar.matches(&bytes));
        }
        assert!(ended > 50, "{schema}: {ended}");
    }
}

#[test]
fn values_that_fit_are_allowed_and_others_are_not() {
    let cases = [
        (
            json!({"type": "integer", "minimum": -5, "maximum": 120}),
            vec!["-5", "0", "7", "99", "100", "120", "-1"],
            vec!["-6", "121", "007", "1.0", "-0", "200", ""],
        ),
        (json!({"type": "number"}), vec!["0", "-1.5", "1e5", "2.25E-7"], vec!["01", ".5", "1.", "+1", "NaN"]),
        (
            json!({"type": "string", "maxLength": 2}),
            vec![r#""""#, r#""aé""#, r#""\n\u00e9""#, "\"😀\""],
            vec![r#""abc""#, "\"a", "\"\n\"", r#""\ud800""#, r#""\x""#],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}}),
            vec!["{}", r#"{"a":null}"#, r#"{"b": null}"#, r#"{"a": null, "b": null}"#],
            vec![r#"{"b":null,"a":null}"#, r#"{"a":null,}"#, r#"{"c":null}"#, r#"{,"b":null}"#],
        ),
        (
            json!({"type": "array", "prefixItems": [{"type": "null"}, {"type": "boolean"}], "items": false}),
            vec!["[null,true]", "[null, false]"],
            vec!["[null]", "[null,true,1]"],
        ),
        (
            json!({"type": "string", "pattern": "^\\d+$|x"}),
            vec![r#""12""#, r#""axb""#],
            vec![r#""a12""#, r#""""#],
        ),
        (json!({"type": ["string", "null"], "maxLength": 1}), vec!["null", r#""a""#], vec![r#""ab""#, "1"]),
        (json!({"type": "string", "enum": ["a", 1]}), vec![r#""a""#], vec!["1"]),
    ];
    for (schema, good, bad) in cases {
        let grammar = Grammar::json_schema(&schema).expect("a grammar");
        good.iter().for_each(|text| assert!(grammar.matches(text.as_bytes()), "{schema}: {text}"));
        bad.iter().for_each(|text| assert!(!grammar.matches(text.as_bytes()), "{schema}: {text}"));
    }
    let grammar = Grammar::regex("(a|ab)(c|bcd)*").expect("a grammar");
    ["a", "ab", "abcd", "abbcd", "acc"].iter().for_each(|t| assert!(grammar.matches(t.as_bytes()), "{t}"));
    ["", "b", "abc d", "abb"].iter().for_each(|t| assert!(!grammar.matches(t.as_bytes()), "{t}"));
}

#[test]
fn bounds_of_whole_numbers_are_exact() {
    for (low, high) in [(0, 0), (-1, 1), (8, 112), (-1203, -98), (99, 1001), (-7, 1_000)] {
        let grammar = Grammar::json_schema(&json!({"type": "integer", "minimum": low, "maximum": high}));
        let grammar = grammar.expect("a grammar");
        for n in -1500..1500 {
            assert_eq!(
                grammar.matches(n.to_string().as_bytes()),
                (low..=high).contains(&n),
                "{low} {high} {n}"
            );
        }
    }
}

#[test]
fn what_cannot_be_is_named_with_its_place() {
    let cases = [
        (
            json!({"type": "object", "properties": {"a": {"type": "string", "format": "date"}}}),
            "#/properties/a",
            "format",
        ),
        (json!({"type": "array", "items": {"not": {}}}), "#/items", "not"),
        (json!({"type": "array", "minItems": 3, "maxItems": 2}), "#", "allows no value"),
        (json!({"type": "integer", "minimum": 3, "maximum": 2}), "#", "allows no value"),
        (json!({"type": "number", "minimum": 3}), "#", "minimum"),
        (json!({"type": "object", "required": ["a"]}), "#", "`a`"),
        (
            json!({"type": "object", "properties": {"a": false}, "required": ["a"]}),
            "#/properties/a",
            "no value",
        ),
        (json!({"type": "string", "enum": [1]}), "#", "no value"),
        (json!({"type": "thing"}), "#/type", "thing"),
        (json!({"$ref": "#/$defs/x"}), "#", "not there"),
        (json!({"$ref": "https://example.org"}), "#", "not inside"),
        (json!({"type": "string", "pattern": "a(^b)"}), "#/pattern", "inside of an expression"),
        (json!({"type": "string", "pattern": "("}), "#/pattern", "cannot be used"),
        (json!({"allOf": [{}, {}]}), "#", "allOf"),
        (json!({"type": "array", "uniqueItems": true}), "#", "uniqueItems"),
        (
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}, "minItems": 1}}}),
            "#",
            "allows no value",
        ),
        (json!(3), "#", "no schema"),
    ];
    for (schema, place, what) in cases {
        let message = Grammar::json_schema(&schema).expect_err("a problem").to_string();
        assert!(message.contains(&format!("`{place}`")) && message.contains(what), "{schema}: {message}");
    }
    assert!(Grammar::regex("(").is_err() && Grammar::regex("[^\\s\\S]").is_err());
    let large = Grammar::regex("(\\w{1000}){1000}").expect_err("a problem").to_string();
    assert!(large.contains("no automaton"), "{large}");
}

#[test]
fn schemas_that_grow_without_end_are_refused() {
    // Items double at each level, and references branch.
    let mut nested = json!({"type": "string"});
    for _ in 0..40 {
        nested = json!({"type": "array", "items": nested});
    }
    let names: Vec<String> = (0..8).map(|i| format!("d{i}")).collect();
    let properties: serde_json::Map<String, Value> =
        names.iter().map(|n| (n.clone(), json!({"$ref": format!("#/$defs/{n}")}))).collect();
    let definitions: serde_json::Map<String, Value> =
        names.iter().map(|n| (n.clone(), json!({"type": "object", "properties": properties}))).collect();
    let branching = json!({"$ref": "#/$defs/d0", "$defs": definitions});
    for schema in [nested, branching] {
        let message = Grammar::json_schema(&schema).expect_err("a problem").to_string();
        assert!(message.contains("too large"), "{message}");
    }
}

#[test]
fn the_stop_token_is_allowed_at_the_end_alone() {
    let table = table();
    let vocabulary = Arc::new(Vocabulary::new(Arc::clone(&table)));
    let grammar = Arc::new(Grammar::regex("ab(c|name)?").expect("a grammar"));
    let mut constraint = Constraint::new(grammar, vocabulary);
    let (stop, tokens) = (table.len() as u32 - 1, table.len());
    let texts = |set: &TokenSet| set.iter().map(|t| table.bytes(t).to_vec()).collect::<Vec<_>>();
    let allowed = constraint.allowed(&[stop], tokens);
    assert_eq!(texts(&allowed), [b"a".to_vec(), b"ab".to_vec(), b"abc".to_vec()]);
    constraint.advance(b'a'.into());
    assert_eq!(texts(&constraint.allowed(&[stop], tokens)), [b"b".to_vec()]);
    assert!(!constraint.complete());
    constraint.advance(b'b'.into());
    assert!(constraint.complete() && constraint.allowed(&[stop], tokens).contains(stop));
    let more = texts(&constraint.allowed(&[stop], tokens));
    assert_eq!(more, [b"c".to_vec(), b"n".to_vec(), b"name".to_vec(), Vec::new()]);
    constraint.advance(b'c'.into());
    assert_eq!(constraint.allowed(&[], tokens).count(), 0);
}
