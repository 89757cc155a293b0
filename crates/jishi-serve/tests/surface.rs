//! Anything at all, sent to the server: the property that the fuzz target `http` holds as well.

#![allow(clippy::unwrap_used)]

use std::sync::OnceLock;

use jishi_serve::surface::Surface;
use proptest::prelude::*;
use serde_json::{Value, json};

fn surface() -> &'static Surface {
    static SURFACE: OnceLock<Surface> = OnceLock::new();
    SURFACE.get_or_init(|| Surface::new().unwrap())
}

fn holds(bytes: &[u8]) -> Option<u16> {
    surface().read(bytes);
    let (status, body) = surface().ask(bytes)?;
    assert!(status < 500, "{status}");
    if status >= 400 && !bytes.starts_with(b"HEAD") {
        let said: Value = serde_json::from_slice(&body).unwrap();
        assert!(said["error"]["message"].is_string() && said["error"]["code"].is_string(), "{said}");
    }
    Some(status)
}

/// A value as a client may send one.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(field(), inner, 0..6).prop_map(Value::from_iter),
        ]
    })
}

/// A name that means something, or not.
fn field() -> impl Strategy<Value = String> {
    let known =
        ["model", "prompt", "messages", "input", "inputs", "stream", "stop", "n", "seed", "text", "image"];
    prop_oneof![prop::sample::select(known.to_vec()).prop_map(str::to_owned), ".{0,6}"]
}

fn path() -> impl Strategy<Value = String> {
    let known = [
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/models/a/predict",
        "/v1/models/a/generate",
        "/v1/models/a/reload",
        "/v1/models/%ff/predict",
        "/openapi.json",
        "/docs",
        "/metrics",
        "/readyz",
    ];
    prop_oneof![prop::sample::select(known.to_vec()).prop_map(str::to_owned), "/[ -~]{0,20}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        holds(&bytes);
    }

    #[test]
    fn any_request_is_answered(
        method in prop::sample::select(vec!["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "X"]),
        path in path(),
        header in "[ -~]{0,30}",
        body in value(),
    ) {
        let head = format!("{method} {path}\nContent-Type: application/json\nX-Any: {header}\n\n");
        holds(&[head.into_bytes(), body.to_string().into_bytes()].concat());
    }

    #[test]
    fn any_inputs_are_read_or_refused(inputs in prop::collection::vec(value(), 0..10)) {
        surface().read(json!({ "inputs": inputs }).to_string().as_bytes());
    }
}

#[test]
fn what_is_there_is_found() {
    assert_eq!(holds(b"GET /healthz\n\n"), Some(200));
    assert_eq!(holds(b"GET /docs\n\n"), Some(200));
    assert_eq!(holds(b"DELETE /healthz\n\n"), Some(405));
    assert_eq!(holds(b"POST /v1/embeddings\nContent-Type: application/json\n\n{\"model\":\"a\"}"), Some(404));
    assert_eq!(holds(b"POST /v1/embeddings\n\n{}"), Some(415));
    assert_eq!(holds(b"POST /v1/completions\nContent-Type: application/json\n\n\xff"), Some(400));
    assert_eq!(holds(b"no-request"), None);
}
