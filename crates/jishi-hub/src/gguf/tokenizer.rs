//! The tokenizer of a GGUF file as a `tokenizer.json`.
//!
//! Two kinds are known: `gpt2`, byte-level pair encoding with a pattern that cuts text into words first, and `llama`,
//! SentencePiece's pair encoding with `▁` for spaces and bytes for what is in no token.

use std::collections::HashMap;

use jishi_recipe::Problem;
use serde_json::{Map, Value, json};

use super::value::{MetaValue, Metadata};
use crate::checkpoint::About;

/// Kinds of tokens in GGUF files, from 1.
pub(super) const CONTROL: usize = 3;
pub(super) const USER_DEFINED: usize = 4;

/// The pattern of GPT-2, with the end that its tokenizer has.
const GPT2_WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
pub(super) const LLAMA3_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(super) const QWEN2_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Names of `tokenizer.ggml.pre` that mean the same way of cutting text into words.
pub(super) const PRE_GPT2: [&str; 6] = ["gpt-2", "gpt2", "mpt", "olmo", "jais", "phi-2"];
pub(super) const PRE_SMOLLM: [&str; 6] =
    ["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"];
pub(super) const PRE_LLAMA3: [&str; 4] = ["llama-bpe", "llama3", "llama-v3", "falcon3"];
pub(super) const PRE_QWEN2: [&str; 4] = ["qwen2", "stablelm2", "deepseek-r1-qwen", "megrez"];

/// Adds tokenizer, its config and the chat template of a file. A file without a tokenizer has none of them.
pub(super) fn read(meta: &Metadata, about: &mut About) -> Result<(), Problem> {
    let Some(model) = meta.optional("tokenizer.ggml.model", MetaValue::as_str)? else { return Ok(()) };
    if model == "none" || model == "no_vocab" {
        return Ok(());
    }
    let vocabulary = Vocabulary::read(meta)?;
    let tokenizer = match model {
        "gpt2" => byte_level(meta, &vocabulary)?,
        "llama" => sentence_piece(meta, &vocabulary)?,
        other => {
            return Err(Problem::new(format!(
                "expected a tokenizer of the kind gpt2 or llama, found {other:?}"
            ))
            .help("use the model's Hugging Face folder, which has a tokenizer.json"));
        }
    };
    about.tokenizer_json = Some(tokenizer.to_string().into_bytes());
    about.chat_template = meta.optional("tokenizer.chat_template", MetaValue::as_str)?.map(String::from);
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": false,
        "model_input_names": ["input_ids", "attention_mask"],
    });
    if let Some(context) = about.number("max_position_embeddings").or_else(|| about.number("n_positions")) {
        config["model_max_length"] = context.into();
    }
    let mut special = Map::new();
    for (name, key) in [("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")] {
        if let Some(token) = vocabulary.special(meta, key)? {
            special.insert(format!("{name}_token"), token.into());
        }
    }
    if let Some(config) = config.as_object_mut() {
        config.extend(special.clone());
    }
    if let Some(template) = &about.chat_template {
        config["chat_template"] = template.as_str().into();
    }
    about.tokenizer_config = Some(config);
    about.special_tokens_map = Some(special.into());
    Ok(())
}

/// Tokens by number, and what kind each is.
struct Vocabulary<'a> {
    tokens: Vec<&'a str>,
    kinds: Vec<usize>,
}

impl<'a> Vocabulary<'a> {
    fn read(meta: &'a Metadata) -> Result<Self, Problem> {
        let tokens = meta.texts("tokenizer.ggml.tokens")?;
        let kinds = meta.optional("tokenizer.ggml.token_type", |v| {
            v.as_array()?.iter().map(MetaValue::as_usize).collect::<Option<Vec<_>>>()
        })?;
        let kinds = kinds.unwrap_or_else(|| vec![1; tokens.len()]);
        if kinds.len() != tokens.len() {
            let message =
                format!("expected a type for each of {} tokens, found {}", tokens.len(), kinds.len());
            return Err(Problem::new(message));
        }
        Ok(Self { tokens, kinds })
    }

    fn special(&self, meta: &Metadata, key: &str) -> Result<Option<&'a str>, Problem> {
        let key = format!("tokenizer.ggml.{key}_token_id");
        let Some(id) = meta.optional(&key, MetaValue::as_usize)? else { return Ok(None) };
        let token = self.tokens.get(id).copied();
        token.map(Some).ok_or_else(|| {
            Problem::new(format!("{key:?} is {id}, but there are {} tokens", self.tokens.len()))
        })
    }

    /// Token to number. A token that is there twice has its first number.
    fn numbers(&self) -> HashMap<&'a str, usize> {
        let mut numbers = HashMap::new();
        for (id, token) in self.tokens.iter().enumerate() {
            numbers.entry(*token).or_insert(id);
        }
        numbers
    }

    fn json(&self) -> Value {
        self.tokens
            .iter()
            .enumerate()
            .map(|(id, token)| ((*token).to_string(), id.into()))
            .collect::<Map<_, _>>()
            .into()
    }

    /// Tokens that are cut out of text before anything else.
    fn added(&self) -> Value {
        let added = self.tokens.iter().zip(&self.kinds).enumerate();
        added
            .filter(|(_, (_, kind))| matches!(**kind, CONTROL | USER_DEFINED))
            .map(|(id, (token, kind))| {
                json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": *kind == CONTROL})
            })
            .collect()
    }
}

fn byte_level(meta: &Metadata, vocabulary: &Vocabulary<'_>) -> Result<Value, Problem> {
    let pre = meta.optional("tokenizer.ggml.pre", MetaValue::as_str)?.unwrap_or("default");
    let merges = meta.texts("tokenizer.ggml.merges")?;
    let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let bytes = |words: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": words});
    let sequence = |steps: Vec<Value>| json!({"type": "Sequence", "pretokenizers": steps});
    let is = |names: &[&str]| names.contains(&pre);
    let words = if is(&PRE_GPT2) {
        bytes(true)
    } else if is(&PRE_SMOLLM) {
        sequence(vec![json!({"type": "Digits", "individual_digits": true}), bytes(true)])
    } else if is(&PRE_LLAMA3) {
        sequence(vec![split(LLAMA3_WORDS), bytes(false)])
    } else if is(&PRE_QWEN2) {
        sequence(vec![split(QWEN2_WORDS), bytes(false)])
    } else if pre == "default" {
        let steps = [r"[\p{P}\$\+<=>\^~\|]+", GPT2_WORDS, r"\p{N}+", "[0-9][0-9][0-9]"];
        sequence(steps.into_iter().map(split).chain([bytes(false)]).collect())
    } else {
        return Err(Problem::new(format!(
            "the tokenizer cuts text into words in the way {pre:?}, which is unknown"
        ))
        .help("use the model's Hugging Face folder, which has a tokenizer.json"));
    };
    // Qwen's vocabulary is of composed characters; Llama 3's tokens need not be reached by merges.
    let normalizer = if is(&PRE_QWEN2) { json!({"type": "NFC"}) } else { Value::Null };
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added(),
        "normalizer": normalizer,
        "pre_tokenizer": words,
        "post_processor": first_token(meta, vocabulary, false)?,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": is(&PRE_LLAMA3), "vocab": vocabulary.json(), "merges": merges,
        },
    }))
}

fn sentence_piece(meta: &Metadata, vocabulary: &Vocabulary<'_>) -> Result<Value, Problem> {
    let scores: Vec<f64> =
        meta.required("tokenizer.ggml.scores", |v| v.as_array()?.iter().map(MetaValue::as_f64).collect())?;
    if scores.len() != vocabulary.tokens.len() {
        let message = format!(
            "expected a score for each of {} tokens, found {}",
            vocabulary.tokens.len(),
            scores.len()
        );
        return Err(Problem::new(message));
    }
    let prefix = meta.optional("tokenizer.ggml.add_space_prefix", MetaValue::as_bool)?.unwrap_or(true);
    let replace =
        |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let mut normalizers = vec![replace(" ", "▁")];
    let mut decoders = vec![replace("▁", " "), json!({"type": "ByteFallback"}), json!({"type": "Fuse"})];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added(),
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "post_processor": first_token(meta, vocabulary, true)?,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": vocabulary.special(meta, "unknown")?,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
            "byte_fallback": true, "ignore_merges": false,
            "vocab": vocabulary.json(), "merges": merges_of(vocabulary, &scores),
        },
    }))
}

/// SentencePiece joins the two neighbours whose token has the best score: the merges are all ways to make a token of
/// two others, best score first.
fn merges_of(vocabulary: &Vocabulary<'_>, scores: &[f64]) -> Vec<String> {
    /// Longer tokens are user-defined ones, which are no merges, and would take time in the square of their length.
    const LONGEST: usize = 256;
    let numbers = vocabulary.numbers();
    let mut merges = Vec::new();
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        if token.len() > LONGEST || matches!(vocabulary.kinds[id], CONTROL | USER_DEFINED) {
            continue;
        }
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if let (Some(a), Some(b)) = (numbers.get(left), numbers.get(right)) {
                merges.push((id, *a, *b, left, right));
            }
        }
    }
    merges.sort_by(|x, y| scores[y.0].total_cmp(&scores[x.0]).then((x.0, x.1, x.2).cmp(&(y.0, y.1, y.2))));
    merges.into_iter().map(|(_, _, _, left, right)| format!("{left} {right}")).collect()
}

/// Puts the first token before every text, where the file says so.
fn first_token(meta: &Metadata, vocabulary: &Vocabulary<'_>, default: bool) -> Result<Value, Problem> {
    let add = meta.optional("tokenizer.ggml.add_bos_token", MetaValue::as_bool)?.unwrap_or(default);
    let id = meta.optional("tokenizer.ggml.bos_token_id", MetaValue::as_usize)?;
    let (true, Some(id), Some(token)) = (add, id, vocabulary.special(meta, "bos")?) else {
        return Ok(Value::Null);
    };
    let first = |kind: u8| json!({"SpecialToken": {"id": token, "type_id": kind}});
    let text = |name: &str, kind: u8| json!({"Sequence": {"id": name, "type_id": kind}});
    Ok(json!({
        "type": "TemplateProcessing",
        "single": [first(0), text("A", 0)],
        "pair": [first(0), text("A", 0), first(1), text("B", 1)],
        "special_tokens": {token: {"id": token, "ids": [id], "tokens": [token]}},
    }))
}
