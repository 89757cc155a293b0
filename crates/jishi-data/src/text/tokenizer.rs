//! Tokenizers: trained on texts, or loaded from a `tokenizer.json`, the file of Hugging Face's `tokenizers`.

mod bpe;
mod special;
mod spm;
mod stream;
mod train;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use jishi_recipe::Problem;
use rayon::prelude::*;
use serde_json::Value;

pub use self::special::{SpecialIds, SpecialSet};
#[doc(hidden)]
pub use self::spm::is_spm;
pub use self::spm::{from_spm, load_marian};
pub use self::stream::StreamDecoder;
pub use self::train::{TrainOptions, train};
use crate::source::cannot_open;

/// Largest `tokenizer.json` that is read.
const MAX_FILE: u64 = 256 << 20;

/// Turns text into tokens and back.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Tokens with a special meaning.
    pub special: SpecialIds,
    /// The template of conversations that came with it, in Jinja.
    pub chat_template: Option<String>,
    /// Tokens are bytes in disguise (GPT-2).
    byte_level: bool,
    vocabulary: usize,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocabulary", &self.vocabulary)
            .field("special", &self.special)
            .finish()
    }
}

/// Tokens of a text or of a pair of texts, with the special tokens that the tokenizer puts around them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Tokens, `[length]`.
    pub ids: Vec<u32>,
    /// 0 for the first text and 1 for the second, `[length]`.
    pub types: Vec<u32>,
    /// Whether it is one of the special tokens put around texts, `[length]`.
    pub special: Vec<bool>,
}

impl Tokenizer {
    /// Loads `tokenizer.json`, or a folder that holds it; with what lies beside it: `tokenizer_config.json` and
    /// `chat_template.jinja`.
    ///
    /// # Errors
    /// A file that is missing, too large, or no tokenizer.
    pub fn load(path: &Path) -> Result<Self, Problem> {
        let (folder, file) = match path.is_dir() {
            true => (path, path.join("tokenizer.json")),
            false => (path.parent().unwrap_or(Path::new("")), path.to_path_buf()),
        };
        if path.is_dir() && !file.exists() {
            return Err(Problem::new("this folder holds no `tokenizer.json`").file(path).help(
                "with Python: `transformers.AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)` writes one",
            ));
        }
        let json = read_limited(&file)?;
        let config = folder.join("tokenizer_config.json");
        let config = if config.exists() { Some(read_limited(&config)?) } else { None };
        let mut new = Self::from_bytes(&json, config.as_deref()).map_err(|p| match p.file {
            Some(_) => p,
            None => p.file(&file),
        })?;
        let template = folder.join("chat_template.jinja");
        if template.exists() {
            let text = String::from_utf8(read_limited(&template)?);
            new.chat_template =
                Some(text.map_err(|_| Problem::new("expected UTF-8, found other bytes").file(&template))?);
        }
        Ok(new)
    }

    /// A tokenizer from the content of a `tokenizer.json` and, where there is one, of a `tokenizer_config.json`.
    ///
    /// Truncation and padding that the file asks for are left out: what fits is for the caller to say.
    ///
    /// # Errors
    /// Content that is no tokenizer.
    pub fn from_bytes(json: &[u8], config: Option<&[u8]>) -> Result<Self, Problem> {
        let bad = |what: String| {
            Problem::new(format!("this is not a `tokenizer.json` that can be read: {what}"))
                .help("expected the file that Hugging Face's `tokenizers` writes")
        };
        // The library takes much for granted in a file that is JSON.
        let parsed = catch_unwind(AssertUnwindSafe(|| tokenizers::Tokenizer::from_bytes(json)));
        let mut inner = match parsed {
            Ok(result) => result.map_err(|e| bad(e.to_string()))?,
            Err(_) => return Err(bad("its parts don't fit each other".into())),
        };
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| bad(e.to_string()))?;
        let config: Value = match config {
            None => Value::Null,
            Some(bytes) => serde_json::from_slice(bytes).map_err(|e| {
                Problem::new(format!("this is not a `tokenizer_config.json` that can be read: {e}"))
                    .help("expected a JSON object")
            })?,
        };
        let special = SpecialIds::find(&config, |name| inner.token_to_id(name));
        let vocabulary = inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        let decoder = serde_json::to_value(inner.get_decoder()).unwrap_or_default();
        let byte_level = decoder.to_string().contains("\"ByteLevel\"");
        Ok(Self { special, chat_template: chat_template(&config), byte_level, vocabulary, inner })
    }

    /// The content of its `tokenizer.json`: the same bytes for the same tokenizer.
    ///
    /// # Panics
    /// Never: what was read can be written.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        self.inner.to_string(false).expect("a tokenizer can be written as JSON").into_bytes()
    }

    /// The content of a `tokenizer_config.json`: the names of special tokens and the template of conversations.
    #[must_use]
    pub fn config_json(&self) -> Vec<u8> {
        let mut config = serde_json::Map::new();
        config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
        for (key, id) in self.special.named() {
            if let Some(token) = id.and_then(|id| self.inner.id_to_token(id)) {
                config.insert(key.into(), token.into());
            }
        }
        if let Some(template) = &self.chat_template {
            config.insert("chat_template".into(), template.clone().into());
        }
        Value::from(config).to_string().into_bytes()
    }

    /// Number of ids: all are below it.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Id of a token.
    #[must_use]
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of an id, as it is written in the vocabulary.
    #[must_use]
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The bytes of text that a token stands for; none for special tokens, `None` where there is no such token.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let token = self.inner.id_to_token(id)?;
        if self.is_special(id) {
            return Some(Vec::new());
        }
        if self.byte_level {
            let byte = |c: char| byte_characters().iter().position(|&b| b == c).map(|b| b as u8);
            return Some(
                token.chars().map(byte).collect::<Option<_>>().unwrap_or_else(|| token.into_bytes()),
            );
        }
        // A byte that a model without a token for the character falls back to.
        let byte = token.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
        if let Some(byte) = byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            return Some(vec![byte]);
        }
        Some(token.replace('▁', " ").into_bytes())
    }

    /// Whether a token is special: it gives no text.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        let added = self.inner.get_added_vocabulary();
        added.get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
    }

    /// Tokens that end an answer: the one that ends a text, and those that end a turn of a conversation.
    #[must_use]
    pub fn ends(&self) -> Vec<u32> {
        let mut ends: Vec<u32> = self.special.eos.into_iter().collect();
        for id in special::ENDS.iter().filter_map(|name| self.id(name)) {
            if !ends.contains(&id) {
                ends.push(id);
            }
        }
        ends
    }

    /// Tokens of a text alone. Special tokens that are written in the text are found.
    ///
    /// # Errors
    /// A text that the tokenizer has no tokens for, and no token for that case.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Problem> {
        Ok(self.inner.encode_fast(text, false).map_err(cannot_encode)?.get_ids().to_vec())
    }

    /// Special tokens as they are written, with their ids.
    pub(in crate::text) fn specials(&self) -> Vec<(String, u32)> {
        let added = self.inner.get_added_vocabulary().get_added_tokens_decoder();
        let special = added.iter().filter(|(_, token)| token.special && !token.content.is_empty());
        special.map(|(id, token)| (token.content.clone(), *id)).collect()
    }

    /// The same tokenizer, to which special tokens that are written in a text are text.
    pub(in crate::text) fn without_specials(&self) -> Self {
        let mut new = self.clone();
        new.inner.set_encode_special_tokens(true);
        new
    }

    /// Tokens of many texts, on all cores, in their order.
    ///
    /// # Errors
    /// As [`Self::encode`], for the first text that fails.
    pub fn encode_batch<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vec<Vec<u32>>, Problem> {
        texts.par_iter().map(|text| self.encode(text.as_ref())).collect()
    }

    /// Tokens of a text with the special tokens around it, such as `[CLS] A [SEP]`.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_single(&self, text: &str) -> Result<Encoded, Problem> {
        Ok(with_types(&self.inner.encode_fast(text, true).map_err(cannot_encode)?))
    }

    /// Tokens of two texts with the special tokens around them, such as `[CLS] A [SEP] B [SEP]`.
    ///
    /// # Errors
    /// As [`Self::encode`].
    // Not `encode_fast`: without a post-processor that leaves all types 0.
    pub fn encode_pair(&self, first: &str, second: &str) -> Result<Encoded, Problem> {
        Ok(with_types(&self.inner.encode((first, second), true).map_err(cannot_encode)?))
    }

    /// Tokens of a text, and the byte of the text where each begins.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_with_places(&self, text: &str) -> Result<(Vec<u32>, Vec<usize>), Problem> {
        let encoding = self.inner.encode(text, false).map_err(cannot_encode)?;
        Ok((encoding.get_ids().to_vec(), encoding.get_offsets().iter().map(|place| place.0).collect()))
    }

    /// The text of tokens; special tokens and ids that there are not give none. Bytes that are no character become
    /// `\u{fffd}`.
    #[must_use]
    pub fn decode(&self, ids: &[u32]) -> String {
        self.inner.decode(ids, true).unwrap_or_default()
    }

    /// The text of tokens, with special tokens as they are written.
    #[must_use]
    pub fn decode_all(&self, ids: &[u32]) -> String {
        self.inner.decode(ids, false).unwrap_or_default()
    }
}

fn cannot_encode(error: tokenizers::Error) -> Problem {
    Problem::new(format!("the tokenizer has no tokens for a text: {error}"))
        .help("take a tokenizer of bytes (`bpe` or `byte`), or one with an `<unk>` token")
}

fn with_types(encoding: &tokenizers::Encoding) -> Encoded {
    Encoded {
        ids: encoding.get_ids().to_vec(),
        types: encoding.get_type_ids().to_vec(),
        special: encoding.get_special_tokens_mask().iter().map(|&m| m == 1).collect(),
    }
}

/// The template of conversations in a `tokenizer_config.json`; of several, the one called `default`.
fn chat_template(config: &Value) -> Option<String> {
    match &config["chat_template"] {
        Value::String(text) => Some(text.clone()),
        Value::Array(several) => {
            let default = several.iter().find(|t| t["name"] == "default").or(several.first())?;
            default["template"].as_str().map(String::from)
        }
        _ => None,
    }
}

fn read_limited(path: &Path) -> Result<Vec<u8>, Problem> {
    let size = std::fs::metadata(path).map_err(|e| cannot_open(path, &e))?.len();
    if size > MAX_FILE {
        return Err(Problem::new(format!("this file of {size} bytes is too large to belong to a tokenizer"))
            .file(path));
    }
    std::fs::read(path).map_err(|e| cannot_open(path, &e))
}

/// The character that stands for every byte in byte-level vocabularies (Radford et al. 2019): itself where it can be
/// seen, else one from 256 on.
fn byte_characters() -> &'static [char; 256] {
    static CHARACTERS: std::sync::LazyLock<[char; 256]> = std::sync::LazyLock::new(|| {
        let mut next = 256u32;
        std::array::from_fn(|byte| {
            let visible = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
            let code = if visible { byte as u32 } else { next };
            next += u32::from(!visible);
            char::from_u32(code).unwrap_or('\u{fffd}')
        })
    });
    &CHARACTERS
}

#[cfg(test)]
mod tests;
