//! New tokenizers from texts. What is trained depends on the texts alone, not on threads or on the order of hash maps.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use foldhash::fast::FixedState;
use jishi_recipe::{Problem, TokenizerKind};
use rayon::prelude::*;
use serde_json::{Value, json};
use tokenizers::models::unigram::{Unigram, UnigramTrainer};
use tokenizers::{Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use super::bpe::{self, Plan};
use super::special::SpecialSet;
use super::{Tokenizer, byte_characters};
use crate::error::DataError;

/// Bytes of text that are counted at a time.
const BATCH: usize = 8 << 20;
/// Characters of a word that a unigram model is trained on: the time for a word grows with its length.
const UNIGRAM_WORD: usize = 64;

type Counts = HashMap<String, u64, FixedState>;

/// What is trained.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// The recipe's tokenizer; `from` and `max_documents` have no meaning here.
    pub recipe: jishi_recipe::Tokenizer,
    /// Which special tokens it gets.
    pub special: SpecialSet,
}

/// Trains a tokenizer on texts: those of the training split alone.
///
/// # Errors
/// No text; a vocabulary that is too small for the special tokens and the characters; what goes wrong with the texts.
pub fn train<I>(texts: I, options: &TrainOptions) -> Result<Tokenizer, DataError>
where
    I: IntoIterator<Item = Result<String, DataError>>,
{
    let recipe = &options.recipe;
    let unk = matches!(recipe.kind, TokenizerKind::Unigram | TokenizerKind::Wordpiece | TokenizerKind::Char);
    let special = options.special.tokens(unk);
    if recipe.kind == TokenizerKind::Byte {
        return build(options, &special, bytes_model(&special));
    }
    let words = count(texts, options, &special)?;
    if words.is_empty() {
        return Err(Problem::new("there is no text to train a tokenizer on")
            .help("check `data.source` and `data.text`")
            .into());
    }
    let model = match recipe.kind {
        TokenizerKind::Bpe => {
            let alphabet = sorted(byte_characters().iter().copied());
            has_room(recipe.vocabulary, special.len() + alphabet.len(), "the 256 bytes")?;
            let plan = Plan {
                special: &special,
                alphabet: &alphabet,
                prefix: "",
                vocabulary: recipe.vocabulary,
                min_frequency: recipe.min_frequency as u64,
            };
            merges_model(bpe::train(&words, &plan), None)
        }
        TokenizerKind::Wordpiece => {
            let room = recipe.vocabulary.saturating_sub(special.len()) / 4;
            let alphabet = frequent_characters(&words, recipe.min_frequency as u64, room);
            has_room(recipe.vocabulary, special.len() + 2 * alphabet.len(), "the characters")?;
            if alphabet.is_empty() {
                return Err(too_small(recipe.vocabulary, special.len() + 4, "the characters").into());
            }
            let plan = Plan {
                special: &special,
                alphabet: &alphabet,
                prefix: "##",
                vocabulary: recipe.vocabulary,
                min_frequency: recipe.min_frequency as u64,
            };
            json!({
                "type": "WordPiece",
                "unk_token": options.special.unk(),
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": vocabulary(&bpe::train(&words, &plan).tokens),
            })
        }
        TokenizerKind::Unigram => unigram(words, options, &special)?,
        TokenizerKind::Char => {
            let mut tokens = special.clone();
            let characters = frequent_characters(&words, 1, usize::MAX);
            tokens.extend(characters.iter().map(char::to_string));
            merges_model(bpe::Merges { tokens, merges: Vec::new() }, Some(options.special.unk()))
        }
        TokenizerKind::Byte => bytes_model(&special),
    };
    build(options, &special, model)
}

fn has_room(vocabulary: usize, needed: usize, what: &str) -> Result<(), Problem> {
    if needed <= vocabulary { Ok(()) } else { Err(too_small(vocabulary, needed, what)) }
}

fn too_small(vocabulary: usize, needed: usize, what: &str) -> Problem {
    Problem::new(format!(
        "a vocabulary of {vocabulary} tokens has no room for {what} and the special tokens: at least {needed}"
    ))
    .help(format!("set `tokenizer.vocabulary` to {needed} or more, or take `kind = \"char\"` or \"byte\""))
}

fn sorted(characters: impl IntoIterator<Item = char>) -> Vec<char> {
    let mut all: Vec<char> = characters.into_iter().collect();
    all.sort_unstable();
    all
}

/// The tokens with their ids, as `tokenizer.json` has them.
fn vocabulary(tokens: &[String]) -> Value {
    tokens.iter().zip(0u32..).map(|(token, id)| (token.clone(), Value::from(id))).collect()
}

fn merges_model(trained: bpe::Merges, unk: Option<&str>) -> Value {
    json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": unk,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": false,
        "byte_fallback": false,
        "ignore_merges": false,
        "vocab": vocabulary(&trained.tokens),
        "merges": trained.merges,
    })
}

fn bytes_model(special: &[String]) -> Value {
    let mut tokens = special.to_vec();
    // By byte, so that the id is the byte and what the special tokens take.
    tokens.extend(byte_characters().iter().map(char::to_string));
    merges_model(bpe::Merges { tokens, merges: Vec::new() }, None)
}

/// Characters seen at least `least` times, at most `most` of them, the most frequent first to be kept; in order.
fn frequent_characters(words: &[(String, u64)], least: u64, most: usize) -> Vec<char> {
    let mut counts: HashMap<char, u64, FixedState> = HashMap::default();
    for (word, count) in words {
        word.chars().for_each(|c| *counts.entry(c).or_default() += count);
    }
    let mut all: Vec<(char, u64)> = counts.into_iter().filter(|(_, n)| *n >= least).collect();
    all.sort_unstable_by_key(|&(c, n)| (std::cmp::Reverse(n), c));
    all.truncate(most);
    sorted(all.into_iter().map(|(c, _)| c))
}

/// How the kinds cut texts before the model sees them, and put them together again.
fn frame(options: &TrainOptions, special: &[String], model: Value) -> Value {
    let lowercase = options.recipe.lowercase;
    let lower = if lowercase { json!({"type": "Lowercase"}) } else { Value::Null };
    let byte_level = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
    let metaspace =
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    let (normalizer, pre_tokenizer, decoder) = match options.recipe.kind {
        TokenizerKind::Bpe => (lower, byte_level(true), byte_level(true)),
        TokenizerKind::Byte => (lower, byte_level(false), byte_level(false)),
        TokenizerKind::Char => (lower, Value::Null, json!({"type": "Fuse"})),
        TokenizerKind::Unigram => (lower, metaspace.clone(), metaspace),
        TokenizerKind::Wordpiece => (
            json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": lowercase}),
            json!({"type": "BertPreTokenizer"}),
            json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
        ),
    };
    let added: Vec<Value> = special
        .iter()
        .zip(0u32..)
        .map(|(token, id)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": template(options.special, special),
        "decoder": decoder,
        "model": model,
    })
}

/// Which special tokens are put around texts.
fn template(set: SpecialSet, special: &[String]) -> Value {
    let text = |id: &str, kind: u32| json!({"Sequence": {"id": id, "type_id": kind}});
    let token = |id: &str, kind: u32| json!({"SpecialToken": {"id": id, "type_id": kind}});
    let (single, pair, used) = match set {
        SpecialSet::Causal | SpecialSet::Chat => return Value::Null,
        SpecialSet::Encoder => (
            vec![token("[CLS]", 0), text("A", 0), token("[SEP]", 0)],
            vec![token("[CLS]", 0), text("A", 0), token("[SEP]", 0), text("B", 1), token("[SEP]", 1)],
            vec!["[CLS]", "[SEP]"],
        ),
        SpecialSet::Translation => (
            vec![text("A", 0), token("</s>", 0)],
            vec![text("A", 0), token("</s>", 0), text("B", 0), token("</s>", 0)],
            vec!["</s>"],
        ),
    };
    let tokens: serde_json::Map<String, Value> = used
        .into_iter()
        .map(|name| {
            let id = special.iter().position(|s| s == name).unwrap_or_default();
            (name.to_owned(), json!({"id": name, "ids": [id], "tokens": [name]}))
        })
        .collect();
    json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens})
}

fn build(options: &TrainOptions, special: &[String], model: Value) -> Result<Tokenizer, DataError> {
    let json = frame(options, special, model).to_string();
    Ok(Tokenizer::from_bytes(json.as_bytes(), None)?)
}

/// The different words of texts and how often each is there, sorted.
fn count<I>(texts: I, options: &TrainOptions, special: &[String]) -> Result<Vec<(String, u64)>, DataError>
where
    I: IntoIterator<Item = Result<String, DataError>>,
{
    // An empty model: only what comes before the model is used.
    let empty = merges_model(bpe::Merges { tokens: special.to_vec(), merges: Vec::new() }, None);
    let cutter = build(options, special, empty)?.inner;
    let mut counts = Counts::default();
    let mut batch: Vec<String> = Vec::new();
    let mut bytes = 0;
    let mut flush = |batch: &mut Vec<String>| -> Result<(), Problem> {
        let parts: Vec<Counts> =
            batch.par_chunks(32).map(|texts| words_of(texts, &cutter)).collect::<Result<_, _>>()?;
        batch.clear();
        for part in parts {
            for (word, n) in part {
                *counts.entry(word).or_default() += n;
            }
        }
        Ok(())
    };
    for text in texts {
        let text = text?;
        bytes += text.len();
        batch.push(text);
        if bytes >= BATCH {
            flush(&mut batch)?;
            bytes = 0;
        }
    }
    flush(&mut batch)?;
    let mut words: Vec<(String, u64)> = counts.into_iter().collect();
    words.sort_unstable();
    Ok(words)
}

fn words_of(texts: &[String], cutter: &tokenizers::Tokenizer) -> Result<Counts, Problem> {
    let mut counts = Counts::default();
    let failed = |e: tokenizers::Error| Problem::new(format!("a text can't be cut into words: {e}"));
    for text in texts {
        let mut cut = PreTokenizedString::from(text.as_str());
        if let Some(normalizer) = cutter.get_normalizer() {
            cut.normalize(|text| normalizer.normalize(text)).map_err(failed)?;
        }
        if let Some(pre_tokenizer) = cutter.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut cut).map_err(failed)?;
        } else {
            // A token a character: the words are the characters.
            for (part, ..) in cut.get_splits(OffsetReferential::Normalized, OffsetType::None) {
                for c in part.chars() {
                    *counts.entry(c.to_string()).or_default() += 1;
                }
            }
            continue;
        }
        for (word, ..) in cut.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            match counts.get_mut(word) {
                Some(count) => *count += 1,
                None => {
                    counts.insert(word.to_owned(), 1);
                }
            }
        }
    }
    Ok(counts)
}

/// Kudo (2018), "Subword regularization": expectation maximisation over a large seed of substrings, then pruning.
fn unigram(words: Vec<(String, u64)>, options: &TrainOptions, special: &[String]) -> Result<Value, Problem> {
    let recipe = &options.recipe;
    let room = recipe.vocabulary.saturating_sub(special.len());
    let known = frequent_characters(&words, recipe.min_frequency as u64, usize::MAX);
    if room <= known.len() {
        return Err(too_small(recipe.vocabulary, special.len() + known.len() + 1, "the characters"));
    }
    let mut parts = Counts::default();
    for (word, count) in words {
        let characters: Vec<char> = word.chars().collect();
        for part in characters.chunks(UNIGRAM_WORD) {
            // Rare characters end a part: they get no token.
            for part in part.split(|c| known.binary_search(c).is_err()).filter(|p| !p.is_empty()) {
                *parts.entry(part.iter().collect()).or_default() += count;
            }
        }
    }
    let mut sentences: Vec<(String, u32)> =
        parts.into_iter().map(|(word, n)| (word, u32::try_from(n).unwrap_or(u32::MAX))).collect();
    sentences.sort_unstable();

    let mut trainer = UnigramTrainer::default();
    trainer.show_progress = false;
    trainer.vocab_size = u32::try_from(room).unwrap_or(u32::MAX);
    let failed = |e: String| {
        Problem::new(format!("the unigram model can't be trained: {e}"))
            .help("use more text, a smaller vocabulary, or `kind = \"bpe\"`")
    };
    // The library cuts its sums where threads are; in a pool of one thread they are always the same.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(|e| failed(e.to_string()))?;
    let train = || {
        let mut model = Unigram::default();
        trainer.do_train(sentences, &mut model).map(|_| model).map_err(|e| e.to_string())
    };
    let model = match catch_unwind(AssertUnwindSafe(|| pool.install(train))) {
        Ok(result) => result.map_err(failed)?,
        Err(_) => return Err(failed("there is too little text".into())),
    };
    let mut pieces: Vec<(String, f64)> = model.iter().cloned().collect();
    steady(&mut pieces);
    let mut vocab: Vec<(String, f64)> = special.iter().map(|s| (s.clone(), 0.0)).collect();
    vocab.extend(pieces);
    let unk = special.iter().position(|s| s == options.special.unk());
    Ok(json!({"type": "Unigram", "unk_id": unk, "vocab": vocab, "byte_fallback": false}))
}

/// Puts pieces in one order. Characters that the model had lost are given back by the library in the order of a hash
/// map, each with a score 0.0001 above the one before, from the lowest on: here they get these scores in their order.
fn steady(pieces: &mut [(String, f64)]) {
    pieces.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let Some(lowest) = pieces.last().map(|p| p.1) else { return };
    let mut penalty = 0.0;
    let mut scores = Vec::new();
    let mut characters = Vec::new();
    loop {
        let score = lowest + penalty;
        let before = scores.len();
        for (piece, _) in pieces.iter().filter(|p| p.1 == score && p.0.chars().nth(1).is_none()) {
            scores.push(score);
            characters.push(piece.clone());
        }
        if scores.len() == before {
            break;
        }
        penalty += 0.0001;
    }
    characters.sort_unstable();
    for (character, score) in characters.into_iter().zip(scores) {
        if let Some(piece) = pieces.iter_mut().find(|p| p.0 == character) {
            piece.1 = score;
        }
    }
    pieces.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
}
