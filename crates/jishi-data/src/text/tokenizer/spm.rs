//! Models of SentencePiece (Kudo & Richardson 2018), and the pair of them in a Marian folder: `source.spm`,
//! `target.spm`, and `vocab.json`, which gives both the same ids.
//!
//! The file is a protocol buffer; only what a tokenizer needs of it is read.

use std::collections::HashMap;
use std::path::Path;

use jishi_recipe::Problem;
use serde_json::{Value, json};

use super::{Tokenizer, read_limited};

/// Score a character of a piece that a model does not have but its partner does: below all others, so that it stands
/// for characters that the model does not know and for no others, as in Python.
const FOREIGN: f64 = -1e9;

/// What a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    Other,
}

/// A model as it is in the file.
#[derive(Debug, Default, PartialEq)]
struct Model {
    pieces: Vec<(String, f64, u64)>,
    /// 1: unigram, 2: byte pairs.
    kind: u64,
    /// The table of the normaliser.
    characters: Vec<u8>,
    keep_spaces: bool,
}

/// Loads the tokenizers of a Marian folder: of the source language and of the target language, with the same ids.
///
/// # Errors
/// Files that are missing, damaged, or don't fit each other.
pub fn load_marian(folder: &Path) -> Result<(Tokenizer, Tokenizer), Problem> {
    let named = |name: &str| folder.join(name);
    let vocab = read_limited(&named("vocab.json"))?;
    let load = |name: &str| {
        let bytes = read_limited(&named(name))?;
        from_spm(&bytes, Some(&vocab)).map_err(|p| if p.file.is_none() { p.file(named(name)) } else { p })
    };
    Ok((load("source.spm")?, load("target.spm")?))
}

/// A tokenizer from the content of a SentencePiece model, with the ids of a Marian `vocab.json` where there is one.
///
/// # Errors
/// Content that is no unigram model; a vocabulary with holes.
pub fn from_spm(bytes: &[u8], vocab: Option<&[u8]>) -> Result<Tokenizer, Problem> {
    let model = parse(bytes).ok_or_else(|| {
        Problem::new("this is not a SentencePiece model, or it is damaged").help("get the file again")
    })?;
    if model.kind != 1 {
        return Err(Problem::new("expected a unigram model of SentencePiece, found one of another kind")
            .help("convert it with Python's `transformers`, which writes a `tokenizer.json`"));
    }
    let mut scores: HashMap<&str, f64> = HashMap::new();
    let mut special: Vec<&str> = Vec::new();
    for (piece, score, kind) in &model.pieces {
        match kind_of(*kind) {
            Kind::Normal => {
                scores.insert(piece, *score);
            }
            Kind::Unknown | Kind::Control => special.push(piece),
            Kind::Other => {}
        }
    }
    let names: Vec<String> = match vocab {
        None => model.pieces.iter().map(|(piece, ..)| piece.clone()).collect(),
        Some(vocab) => names_by_id(vocab)?,
    };
    let unk = names.iter().position(|n| n == "<unk>");
    let unk =
        unk.ok_or_else(|| Problem::new("the vocabulary has no `<unk>`").help("is it of the same model?"))?;
    special.extend(["</s>", "<pad>", "<unk>"]);
    // Marian's marks of the target language are tokens of their own: `>>fra<<`.
    let is_special = |name: &str| special.contains(&name) || (name.starts_with(">>") && name.ends_with("<<"));
    let added: Vec<Value> = names
        .iter()
        .enumerate()
        .filter(|(_, name)| is_special(name))
        .map(|(id, name)| json!({"id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}))
        .collect();
    let score = |name: &String| match scores.get(name.as_str()) {
        _ if is_special(name) => 0.0,
        Some(&score) => score,
        None => FOREIGN * name.chars().count() as f64 - 1.0,
    };
    let pieces: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), score(name))).collect();
    let mut steps = Vec::new();
    if !model.characters.is_empty() {
        steps.push(json!({"type": "Precompiled", "precompiled_charsmap": base64(&model.characters)}));
    }
    if !model.keep_spaces {
        steps.push(json!({"type": "Strip", "strip_left": true, "strip_right": true}));
        steps.push(json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}));
    }
    let metaspace =
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    let end = names.iter().position(|n| n == "</s>");
    let template = end.map(|id| {
        let text = |name: &str| json!({"Sequence": {"id": name, "type_id": 0}});
        let token = json!({"SpecialToken": {"id": "</s>", "type_id": 0}});
        json!({
            "type": "TemplateProcessing",
            "single": [text("A"), token],
            "pair": [text("A"), token, text("B"), token],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [id], "tokens": ["</s>"]}},
        })
    });
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": if steps.is_empty() { Value::Null } else { json!({"type": "Sequence", "normalizers": steps}) },
        "pre_tokenizer": metaspace,
        "post_processor": template,
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": unk, "vocab": pieces, "byte_fallback": false},
    });
    Tokenizer::from_bytes(json.to_string().as_bytes(), None)
}

fn kind_of(kind: u64) -> Kind {
    match kind {
        1 | 4 => Kind::Normal,
        2 => Kind::Unknown,
        3 => Kind::Control,
        _ => Kind::Other,
    }
}

/// The tokens of a `vocab.json` in the order of their ids, which have no holes.
fn names_by_id(vocab: &[u8]) -> Result<Vec<String>, Problem> {
    let bad = |what: String| {
        Problem::new(format!("`vocab.json` can't be read: {what}")).help("expected {\"token\": id, …}")
    };
    let ids: HashMap<String, usize> = serde_json::from_slice(vocab).map_err(|e| bad(e.to_string()))?;
    let mut names = vec![None; ids.len()];
    for (name, id) in ids {
        match names.get_mut(id) {
            Some(place @ None) => *place = Some(name),
            _ => return Err(bad(format!("the ids have holes or come twice at {id}"))),
        }
    }
    Ok(names.into_iter().flatten().collect())
}

/// Reads a protocol buffer's fields one by one.
struct Fields<'a>(&'a [u8]);

/// A field's value.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed(u32),
}

impl<'a> Fields<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next field's number and value; `Some(None)` at the end, `None` where the bytes are no protocol buffer.
    fn next(&mut self) -> Option<Option<(u64, Field<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Field::Number(self.number()?),
            1 => Field::Bytes(self.take(8)?),
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Fixed(u32::from_le_bytes(*self.take(4)?.first_chunk()?)),
            _ => return None,
        };
        Some(Some((tag >> 3, value)))
    }
}

fn parse(bytes: &[u8]) -> Option<Model> {
    let mut model = Model { kind: 1, ..Model::default() };
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Field::Bytes(bytes)) => {
                let (mut piece, mut score, mut kind) = (String::new(), 0.0f32, 1);
                let mut fields = Fields(bytes);
                while let Some(field) = fields.next()? {
                    match field {
                        (1, Field::Bytes(text)) => piece = String::from_utf8(text.to_vec()).ok()?,
                        (2, Field::Fixed(bits)) => score = f32::from_bits(bits),
                        (3, Field::Number(n)) => kind = n,
                        _ => {}
                    }
                }
                if !score.is_finite() {
                    return None;
                }
                model.pieces.push((piece, f64::from(score), kind));
            }
            (2, Field::Bytes(bytes)) => {
                let mut fields = Fields(bytes);
                while let Some(field) = fields.next()? {
                    if let (3, Field::Number(kind)) = field {
                        model.kind = kind;
                    }
                }
            }
            (3, Field::Bytes(bytes)) => {
                let mut fields = Fields(bytes);
                while let Some(field) = fields.next()? {
                    match field {
                        (2, Field::Bytes(table)) => model.characters = table.to_vec(),
                        (4, Field::Number(remove)) => model.keep_spaces = remove == 0,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    (!model.pieces.is_empty()).then_some(model)
}

/// Bytes as `tokenizer.json` has them (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0u32, |word, (i, &b)| word | u32::from(b) << (16 - 8 * i));
        for i in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= chunk.len() { letter as char } else { '=' });
        }
    }
    out
}

/// Checks bytes as a model is checked; for fuzzing.
#[doc(hidden)]
#[must_use]
pub fn is_spm(bytes: &[u8]) -> bool {
    parse(bytes).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn damaged_models_are_refused() {
        // A piece "ab" of score 1.5, kind 1; then the kind of model.
        let good = b"\x0a\x0b\x0a\x02ab\x15\x00\x00\xc0\x3f\x18\x01\x12\x02\x18\x01";
        let model = parse(good).unwrap();
        assert_eq!((model.pieces, model.kind), (vec![("ab".to_owned(), 1.5, 1)], 1));
        for length in 1..good.len() - 4 {
            assert!(parse(&good[..length]).is_none(), "{length} bytes");
        }
        assert!(parse(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f").is_none());
        assert!(from_spm(good, Some(b"{\"a\": 0, \"b\": 5}")).unwrap_err().message.contains("holes"));
        assert!(from_spm(good, None).unwrap_err().message.contains("no `<unk>`"));
        assert!(from_spm(b"text", None).unwrap_err().message.contains("not a SentencePiece model"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_model_or_not(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = is_spm(&bytes);
        }
    }
}
