//! Prompts: texts, tokens, conversations.

use jishi_data::text::documents::Message;
use jishi_train::job::language::generate::TextGenerator;
use serde_json::Value;

use crate::error::ApiError;
use crate::fields::{Fields, shown, string};
use crate::limits::Limits;

/// Bytes of the name of a role.
const ROLE: usize = 32;

/// The prompts of a completion: a text, tokens, or a list of either.
///
/// # Errors
/// Anything else; too many or too long ones.
pub fn texts(
    fields: &mut Fields,
    generator: &TextGenerator,
    limits: &Limits,
) -> Result<Vec<Vec<u32>>, ApiError> {
    let text = |text: Value, place: &str| {
        let text = string(text, place, limits.text)?;
        generator.text(&text).map_err(ApiError::from)
    };
    let missing = || ApiError::field("prompt", "expected a text to continue, or a list of them");
    match fields.take("prompt").ok_or_else(missing)? {
        one @ Value::String(_) => Ok(vec![text(one, "prompt")?]),
        Value::Array(list) if list.is_empty() => Err(missing()),
        Value::Array(list) if list[0].is_number() => Ok(vec![tokens(&list, "prompt", generator)?]),
        Value::Array(list) => {
            if list.len() > limits.prompts {
                let message = format!("expected at most {} prompts, found {}", limits.prompts, list.len());
                return Err(ApiError::field("prompt", message));
            }
            let one = |(i, value): (usize, Value)| {
                let place = format!("prompt[{i}]");
                match value {
                    Value::Array(list) => tokens(&list, &place, generator),
                    other => text(other, &place),
                }
            };
            list.into_iter().enumerate().map(one).collect()
        }
        _ => Err(missing()),
    }
}

fn tokens(list: &[Value], place: &str, generator: &TextGenerator) -> Result<Vec<u32>, ApiError> {
    let vocabulary = generator.decoder().config().vocabulary as u64;
    if list.is_empty() {
        return Err(ApiError::field(place, "there is no token"));
    }
    let token = |value: &Value| match value.as_u64() {
        Some(token) if token < vocabulary => Ok(token as u32),
        _ => {
            let message = format!("expected tokens from 0 to {}, found {}", vocabulary - 1, shown(value));
            Err(ApiError::field(place, message))
        }
    };
    list.iter().map(token).collect()
}

/// The prompt of a conversation.
///
/// # Errors
/// No messages, or too many; roles and parts that are not known; a model without a template.
pub fn conversation(
    fields: &mut Fields,
    generator: &TextGenerator,
    limits: &Limits,
) -> Result<Vec<u32>, ApiError> {
    if !generator.converses() {
        let message = "this model has no template of conversations: ask `/v1/completions`";
        return Err(ApiError::field("model", message));
    }
    let list = match fields.take("messages") {
        Some(Value::Array(list)) if !list.is_empty() => list,
        _ => return Err(ApiError::field("messages", "expected a list of messages")),
    };
    if list.len() > limits.messages {
        let message = format!("expected at most {} messages, found {}", limits.messages, list.len());
        return Err(ApiError::field("messages", message));
    }
    let messages = list.into_iter().enumerate().map(|(i, value)| message(i, value, limits));
    let messages: Vec<Message> = messages.collect::<Result<_, _>>()?;
    if messages.iter().map(|m| m.content.len()).sum::<usize>() > limits.text {
        let message = format!("expected at most {} bytes in all messages", limits.text);
        return Err(ApiError::field("messages", message));
    }
    generator.conversation(&messages).map_err(ApiError::from)
}

fn message(i: usize, value: Value, limits: &Limits) -> Result<Message, ApiError> {
    let place = format!("messages[{i}]");
    let Value::Object(mut message) = value else {
        return Err(ApiError::field(place, "expected an object with `role` and `content`"));
    };
    let role = string(message.remove("role").unwrap_or_default(), &format!("{place}.role"), ROLE)?;
    let role = match role.as_str() {
        "system" | "developer" => "system",
        "user" => "user",
        "assistant" => "assistant",
        _ => {
            let message = "expected \"system\", \"user\" or \"assistant\"";
            return Err(ApiError::field(format!("{place}.role"), message));
        }
    };
    let place = format!("{place}.content");
    let content = match message.remove("content").unwrap_or_default() {
        Value::Array(parts) => {
            let mut all = String::new();
            for part in parts {
                let Value::Object(mut part) = part else {
                    return Err(ApiError::field(place, "expected parts of the type \"text\""));
                };
                if part.get("type").and_then(Value::as_str) != Some("text") {
                    return Err(ApiError::field(place, "expected parts of the type \"text\""));
                }
                all += &string(part.remove("text").unwrap_or_default(), &place, limits.text)?;
                if all.len() > limits.text {
                    return Err(ApiError::field(place, format!("expected at most {} bytes", limits.text)));
                }
            }
            all
        }
        other => string(other, &place, limits.text)?,
    };
    for key in ["tool_calls", "function_call", "tool_call_id", "audio"] {
        if message.get(key).is_some_and(|v| !v.is_null()) {
            return Err(ApiError::field(format!("messages[{i}].{key}"), "this server does not have it"));
        }
    }
    Ok(Message { role: role.into(), content })
}
