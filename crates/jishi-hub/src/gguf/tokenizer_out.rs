//! A `tokenizer.json` as metadata of a GGUF file.

use std::collections::HashMap;

use jishi_recipe::Problem;
use serde_json::Value;

use super::tokenizer::{
    CONTROL, LLAMA3_WORDS, PRE_GPT2, PRE_LLAMA3, PRE_QWEN2, PRE_SMOLLM, QWEN2_WORDS, USER_DEFINED,
};
use super::value::{MetaValue, Metadata};
use crate::checkpoint::About;

const NORMAL: usize = 1;
const UNKNOWN: usize = 2;
const UNUSED: usize = 5;
const BYTE: usize = 6;

/// Adds the tokenizer, the special tokens and the chat template, where there is a tokenizer.
pub(super) fn add(about: &About, meta: &mut Metadata) -> Result<(), Problem> {
    let Some(bytes) = &about.tokenizer_json else {
        meta.set("tokenizer.ggml.model", MetaValue::Text("none".into()));
        return Ok(());
    };
    let json: Value = serde_json::from_slice(bytes)
        .map_err(|e| Problem::new(format!("the model's tokenizer.json is damaged: {e}")))?;
    let model = &json["model"];
    let kind = model["type"].as_str().unwrap_or("none");
    // Files of old versions of the tokenizers library have no type there.
    if kind != "BPE" && !(kind == "none" && model["merges"].is_array()) {
        let message =
            format!("a GGUF file holds byte-pair encodings (BPE), this model's tokenizer is {kind}");
        return Err(Problem::new(message).help("export it as safetensors"));
    }
    let merges = merges(model)?;
    let size = about.number("vocab_size").unwrap_or_default();
    let (tokens, mut kinds) = tokens(&json, size)?;
    if model["byte_fallback"].as_bool() == Some(true) {
        for (token, kind) in tokens.iter().zip(&mut kinds) {
            if token.len() == 6 && token.starts_with("<0x") && token.ends_with('>') {
                *kind = BYTE;
            }
            if model["unk_token"].as_str() == Some(token) {
                *kind = UNKNOWN;
            }
        }
        meta.set("tokenizer.ggml.model", MetaValue::Text("llama".into()));
        meta.set("tokenizer.ggml.scores", MetaValue::Array(scores(&tokens, &merges)));
        let metaspace =
            json["pre_tokenizer"]["prepend_scheme"].as_str().is_some_and(|scheme| scheme != "never");
        let prefix = metaspace || json["normalizer"].to_string().contains("\"Prepend\"");
        meta.set("tokenizer.ggml.add_space_prefix", MetaValue::Bool(prefix));
    } else {
        meta.set("tokenizer.ggml.model", MetaValue::Text("gpt2".into()));
        meta.set("tokenizer.ggml.pre", MetaValue::Text(pre(&json)?.into()));
        let texts = merges.into_iter().map(|(a, b)| MetaValue::Text(format!("{a} {b}")));
        meta.set("tokenizer.ggml.merges", MetaValue::Array(texts.collect()));
    }
    let kinds = kinds.into_iter().map(|k| MetaValue::I32(k as i32)).collect();
    meta.set("tokenizer.ggml.token_type", MetaValue::Array(kinds));
    specials(about, &json, &tokens, meta);
    meta.set("tokenizer.ggml.tokens", MetaValue::Array(tokens.into_iter().map(MetaValue::Text).collect()));
    if let Some(template) = &about.chat_template {
        meta.set("tokenizer.chat_template", MetaValue::Text(template.clone()));
    }
    Ok(())
}

/// Pairs that are joined, in order: lists in new files, texts in old ones.
fn merges(model: &Value) -> Result<Vec<(&str, &str)>, Problem> {
    fn merge(value: &Value) -> Option<(&str, &str)> {
        match value.as_array().map(Vec::as_slice) {
            Some([a, b]) => Some((a.as_str()?, b.as_str()?)),
            Some(_) => None,
            None => value.as_str()?.split_once(' '),
        }
    }
    let merges = model["merges"].as_array().and_then(|list| list.iter().map(merge).collect());
    merges.ok_or_else(|| Problem::new("the tokenizer's merges are not a list of pairs"))
}

/// Tokens by number and the kind of each; numbers that the tokenizer does not use have a token of their own.
fn tokens(json: &Value, size: usize) -> Result<(Vec<String>, Vec<usize>), Problem> {
    let mut tokens: Vec<String> = (0..size).map(|id| format!("[PAD{id}]")).collect();
    let mut kinds = vec![UNUSED; size];
    let mut put = |token: &str, id: Option<u64>, kind: usize| {
        let id = id.and_then(|id| usize::try_from(id).ok()).filter(|id| *id < size).ok_or_else(|| {
            Problem::new(format!(
                "token {token:?} has a number that is not below the model's vocab_size, {size}"
            ))
        })?;
        tokens[id] = token.into();
        kinds[id] = kind;
        Ok(())
    };
    for (token, id) in json["model"]["vocab"].as_object().into_iter().flatten() {
        put(token, id.as_u64(), NORMAL)?;
    }
    for added in json["added_tokens"].as_array().into_iter().flatten() {
        let kind = if added["special"].as_bool() == Some(true) { CONTROL } else { USER_DEFINED };
        put(added["content"].as_str().unwrap_or_default(), added["id"].as_u64(), kind)?;
    }
    Ok((tokens, kinds))
}

/// A token that is joined earlier has a better score, which is how llama.cpp chooses what to join.
fn scores(tokens: &[String], merges: &[(&str, &str)]) -> Vec<MetaValue> {
    let mut rank = HashMap::new();
    for (at, (a, b)) in merges.iter().enumerate() {
        rank.entry(format!("{a}{b}")).or_insert(at);
    }
    let score = |token| -(*rank.get(token).unwrap_or(&merges.len()) as f32);
    tokens.iter().map(|token| MetaValue::F32(score(token))).collect()
}

/// llama.cpp's name of the way in which text is cut into words.
fn pre(json: &Value) -> Result<&'static str, Problem> {
    let step = &json["pre_tokenizer"];
    let steps = step["pretokenizers"].as_array().cloned().unwrap_or_else(|| vec![step.clone()]);
    let shape: Vec<(&str, &str, bool)> = steps
        .iter()
        .map(|s| {
            let words = s["use_regex"].as_bool().unwrap_or(true) && s["type"] == "ByteLevel";
            let single = s["individual_digits"].as_bool() == Some(true);
            (
                s["type"].as_str().unwrap_or_default(),
                s["pattern"]["Regex"].as_str().unwrap_or_default(),
                words || single,
            )
        })
        .collect();
    let spaced = steps.iter().any(|s| s["add_prefix_space"].as_bool() == Some(true));
    let found = match shape.as_slice() {
        _ if spaced => None,
        [("ByteLevel", _, true)] => Some(PRE_GPT2[0]),
        [("Digits", _, true), ("ByteLevel", _, true)] => Some(PRE_SMOLLM[0]),
        [("Split", LLAMA3_WORDS, _), ("ByteLevel", _, false)] => Some(PRE_LLAMA3[0]),
        [("Split", QWEN2_WORDS, _), ("ByteLevel", _, false)] => Some(PRE_QWEN2[0]),
        _ => None,
    };
    found.ok_or_else(|| {
        Problem::new("the tokenizer cuts text into words in a way that llama.cpp has no name for")
            .help("export it as safetensors")
    })
}

fn specials(about: &About, json: &Value, tokens: &[String], meta: &mut Metadata) {
    let config = about.tokenizer_config.as_ref();
    for (name, key) in [("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")] {
        let token = config
            .and_then(|c| c.get(format!("{name}_token")))
            .or(about.special_tokens_map.as_ref().and_then(|m| m.get(format!("{name}_token"))));
        // A token is a text, or an object with the text in it.
        let text = token.and_then(|t| t.as_str().or_else(|| t.get("content")?.as_str()));
        let id = text
            .and_then(|text| tokens.iter().position(|t| t == text))
            .or_else(|| about.number(&format!("{name}_token_id")).filter(|id| *id < tokens.len()));
        if let Some(id) = id.and_then(|id| u32::try_from(id).ok()) {
            meta.set(format!("tokenizer.ggml.{key}_token_id"), MetaValue::U32(id));
        }
    }
    let first = &json["post_processor"]["single"][0]["SpecialToken"];
    meta.set("tokenizer.ggml.add_bos_token", MetaValue::Bool(first.is_object()));
}
