//! The fields of a JSON object, taken one by one, each with its bounds.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::body;
use crate::error::ApiError;

/// Fields that have not been taken yet.
#[derive(Debug)]
pub struct Fields(Map<String, Value>);

impl Fields {
    /// Those of a body.
    ///
    /// # Errors
    /// What is no JSON object.
    pub fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        Ok(Self(body::parse(bytes)?))
    }

    /// A field; `null` counts as none.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.0.remove(key).filter(|value| !value.is_null())
    }

    /// A number.
    ///
    /// # Errors
    /// Anything else, and a number out of the range.
    pub fn number(&mut self, key: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let (least, most) = range.into_inner();
                let message = format!("expected a number from {least} to {most}, found {}", shown(&value));
                Err(ApiError::field(key, message))
            }
        }
    }

    /// A whole number.
    ///
    /// # Errors
    /// Anything else, and a number out of the range.
    pub fn whole(&mut self, key: &str, range: RangeInclusive<usize>) -> Result<Option<usize>, ApiError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let (least, most) = range.into_inner();
                let message =
                    format!("expected a whole number from {least} to {most}, found {}", shown(&value));
                Err(ApiError::field(key, message))
            }
        }
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// Anything else.
    pub fn truth(&mut self, key: &str) -> Result<Option<bool>, ApiError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Bool(truth)) => Ok(Some(truth)),
            Some(other) => {
                let message = format!("expected true or false, found {}", shown(&other));
                Err(ApiError::field(key, message))
            }
        }
    }

    /// A string of so many bytes at most.
    ///
    /// # Errors
    /// Anything else.
    pub fn string(&mut self, key: &str, most: usize) -> Result<Option<String>, ApiError> {
        self.take(key).map(|value| string(value, key, most)).transpose()
    }

    /// Fields that would change the answer in a way that is not there: none is an error only where it has no effect.
    ///
    /// # Errors
    /// The first field with an effect.
    pub fn without(&mut self, keys: &[&str]) -> Result<(), ApiError> {
        for key in keys {
            let Some(value) = self.take(key) else { continue };
            let nothing = match &value {
                Value::Number(number) => number.as_f64() == Some(0.0),
                Value::Bool(truth) => !truth,
                Value::Array(list) => list.is_empty(),
                Value::Object(object) => object.is_empty(),
                Value::String(text) => text.is_empty() || text == "none",
                Value::Null => true,
            };
            if !nothing {
                return Err(ApiError::field(*key, "this server does not have it; leave it out"));
            }
        }
        Ok(())
    }

    /// Whether nothing is left but what has no effect here.
    ///
    /// # Errors
    /// The first field that is not known.
    pub fn end(self, ignored: &[&str]) -> Result<(), ApiError> {
        match self.0.keys().find(|key| !ignored.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => {
                let key: String = key.chars().take(100).collect();
                Err(ApiError::field(key, "this field is not known"))
            }
        }
    }
}

/// A string of so many bytes at most.
///
/// # Errors
/// Anything else.
pub fn string(value: Value, place: &str, most: usize) -> Result<String, ApiError> {
    match value {
        Value::String(text) if text.len() <= most => Ok(text),
        Value::String(text) => {
            Err(ApiError::field(place, format!("expected at most {most} bytes, found {}", text.len())))
        }
        other => Err(ApiError::field(place, format!("expected a string, found {}", shown(&other)))),
    }
}

/// A value in a message: short.
#[must_use]
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) | Value::Number(_) => value.to_string().chars().take(40).collect(),
        Value::String(_) => "a string".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_bounds() {
        let mut fields = Fields::parse(
            br#"{"t": 3, "n": 2.5, "s": "abcd", "b": 1, "u": 1, "z": 0, "e": [], "x": null, "m": -1}"#,
        )
        .unwrap();
        assert_eq!(fields.number("none", 0.0..=2.0), Ok(None));
        assert!(fields.number("t", 0.0..=2.0).unwrap_err().message.contains("from 0 to 2, found 3"));
        assert!(fields.whole("n", 0..=9).unwrap_err().message.contains("found 2.5"));
        assert!(fields.whole("m", 0..=9).is_err());
        assert!(fields.string("s", 3).unwrap_err().message.contains("at most 3 bytes, found 4"));
        assert!(fields.truth("b").is_err());
        assert_eq!(fields.without(&["z", "e", "x"]), Ok(()));
        let error = Fields::end(fields, &["v"]).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("u"));
        assert!(Fields::parse(b"[1]").is_err() && Fields::parse(b"{\"a\"").is_err());
        let mut effect = Fields::parse(br#"{"tools": [1]}"#).unwrap();
        assert!(effect.without(&["tools"]).is_err());
    }
}
