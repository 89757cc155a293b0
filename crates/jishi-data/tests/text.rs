//! Tokenizers and chat templates against Hugging Face's libraries in Python; see `fixtures/make_text.py`.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use jishi_data::text::chat::ChatTemplate;
use jishi_data::text::documents::Message;
use jishi_data::text::tokenizer::{SpecialSet, Tokenizer, TrainOptions, load_marian, train};
use jishi_recipe::TokenizerKind;
use serde_json::Value;

fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn loaded_tokenizers_encode_as_in_python() {
    for name in ["bpe.json", "wordpiece.json", "unigram.json"] {
        let fixture = fixture(name);
        let tokenizer = Tokenizer::from_bytes(fixture["tokenizer"].to_string().as_bytes(), None).unwrap();
        for case in fixture["texts"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            assert_eq!(tokenizer.encode(text).unwrap(), ids(&case["ids"]), "{name}: {text:?}");
            assert_eq!(tokenizer.encode_single(text).unwrap().ids, ids(&case["whole"]), "{name}: {text:?}");
            assert_eq!(
                tokenizer.decode(&ids(&case["ids"])),
                case["decoded"].as_str().unwrap(),
                "{name}: {text:?}"
            );
        }
        let texts: Vec<&str> =
            fixture["texts"].as_array().unwrap().iter().map(|c| c["text"].as_str().unwrap()).collect();
        let pair = tokenizer.encode_pair(texts[0], texts[1]).unwrap();
        assert_eq!(
            (pair.ids, pair.types),
            (ids(&fixture["pair"]["ids"]), ids(&fixture["pair"]["types"])),
            "{name}"
        );
    }
}

#[test]
fn byte_pairs_are_trained_as_in_python() {
    let corpus: Vec<String> = serde_json::from_value(fixture("corpus.json")).unwrap();
    let recipe = jishi_recipe::Tokenizer { kind: TokenizerKind::Bpe, vocabulary: 320, ..Default::default() };
    let options = TrainOptions { recipe, special: SpecialSet::Causal };
    let trained = train(corpus.into_iter().map(Ok), &options).unwrap();
    let ours: Value = serde_json::from_slice(&trained.to_json()).unwrap();
    let theirs = &fixture("bpe.json")["tokenizer"];
    assert_eq!(ours["model"]["merges"], theirs["model"]["merges"]);
    assert_eq!(ours["model"]["vocab"], theirs["model"]["vocab"]);
}

#[test]
fn chat_templates_render_as_in_python() {
    let fixture = fixture("chat.json");
    let messages: Vec<Message> = serde_json::from_value(fixture["conversation"].clone()).unwrap();
    let tokens =
        vec![("bos_token".to_owned(), "<s>".to_owned()), ("eos_token".to_owned(), "</s>".to_owned())];
    for (name, case) in fixture["templates"].as_object().unwrap() {
        let template = ChatTemplate::new(case["template"].as_str().unwrap(), tokens.clone(), None).unwrap();
        assert_eq!(template.render(&messages, false).unwrap(), case["whole"].as_str().unwrap(), "{name}");
        assert_eq!(
            template.render(&messages[..4], true).unwrap(),
            case["prompt"].as_str().unwrap(),
            "{name}"
        );
        if name != "json" {
            let found = template.render_with_answers(&messages).unwrap();
            let answers: Vec<&str> = found.answers.iter().map(|r| &found.text[r.clone()]).collect();
            assert_eq!(answers.len(), 2, "{name}");
            assert!(answers[0].contains("Two: “2”.") && !answers[0].contains("user"), "{name}: {answers:?}");
            assert!(answers[1].contains("二です。"), "{name}: {answers:?}");
        }
    }
}

#[test]
fn marian_folders_encode_as_in_python() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text/marian");
    let (source, target) = load_marian(&folder).unwrap();
    let fixture = fixture("marian.json");
    assert_eq!(source.vocabulary(), target.vocabulary());
    for (tokenizer, key) in [(&source, "source"), (&target, "target")] {
        for case in fixture[key].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            assert_eq!(tokenizer.encode_single(text).unwrap().ids, ids(&case["ids"]), "{key}: {text:?}");
        }
    }
    for case in fixture["target"].as_array().unwrap() {
        assert_eq!(target.decode(&ids(&case["ids"])), case["decoded"].as_str().unwrap());
    }
}
