#![allow(clippy::unwrap_used)]
use jishi_recipe::TokenizerKind;
use proptest::prelude::*;

use super::*;

const TEXTS: [&str; 5] = [
    "the quick brown fox jumps over the lazy dog",
    "the lazy dog sleeps; the fox doesn't.\n\nA new paragraph, 1234 words!",
    "天地玄黃，宇宙洪荒。日月盈昃，辰宿列張。",
    "Größe, naïve café — “quotes” and emoji 🦊🦊",
    "the the the dog dog dog fox fox fox quick quick brown brown lazy lazy",
];

pub(crate) fn trained(kind: TokenizerKind, vocabulary: usize, special: SpecialSet) -> Tokenizer {
    let recipe = jishi_recipe::Tokenizer { kind, vocabulary, min_frequency: 1, ..Default::default() };
    let texts = TEXTS.iter().map(|t| Ok(t.to_string()));
    train(texts, &TrainOptions { recipe, special }).unwrap()
}

fn kinds() -> [Tokenizer; 5] {
    [
        trained(TokenizerKind::Bpe, 300, SpecialSet::Causal),
        trained(TokenizerKind::Unigram, 150, SpecialSet::Translation),
        trained(TokenizerKind::Wordpiece, 400, SpecialSet::Encoder),
        trained(TokenizerKind::Char, 0, SpecialSet::Chat),
        trained(TokenizerKind::Byte, 0, SpecialSet::Causal),
    ]
}

#[test]
fn training_twice_gives_the_same_bytes() {
    let (first, second) = (kinds(), kinds());
    for (a, b) in first.iter().zip(&second) {
        assert_eq!(a.to_json(), b.to_json(), "{a:?}");
        let again = Tokenizer::from_bytes(&a.to_json(), Some(&a.config_json())).unwrap();
        assert_eq!((again.to_json(), again.special), (a.to_json(), a.special));
    }
}

#[test]
fn sizes_and_special_tokens() {
    let [bpe, unigram, wordpiece, char, byte] = kinds();
    assert_eq!(bpe.vocabulary(), 300);
    assert_eq!((bpe.special.bos, bpe.special.eos, bpe.special.unk), (Some(0), Some(0), None));
    assert_eq!(byte.vocabulary(), 257);
    assert_eq!(byte.encode("aé").unwrap(), [98, 0xc3 + 1, 0xa9 + 1]);
    assert_eq!((unigram.special.pad, unigram.special.eos, unigram.special.unk), (Some(0), Some(2), Some(3)));
    assert!(unigram.vocabulary() <= 150);
    assert_eq!((wordpiece.special.cls, wordpiece.special.mask), (Some(2), Some(4)));
    assert_eq!(char.ends(), [0, 2]);
    let pair = wordpiece.encode_pair("the dog", "the fox").unwrap();
    assert_eq!(
        pair.types.iter().filter(|t| **t == 1).count(),
        pair.ids.len() - pair.types.iter().filter(|t| **t == 0).count()
    );
    assert_eq!(wordpiece.decode_all(&pair.ids), "[CLS] the dog [SEP] the fox [SEP]");
    assert_eq!((pair.special[0], pair.special[1]), (true, false));
    assert_eq!(unigram.encode_single("the").unwrap().ids.last(), Some(&2));
    assert_eq!(bpe.encode("fox<|endoftext|>").unwrap().last(), Some(&0));
}

#[test]
fn what_is_not_known_becomes_unk_or_bytes() {
    let [bpe, unigram, wordpiece, char, _] = kinds();
    assert_eq!(char.encode("the Ж").unwrap().last(), Some(&char.special.unk.unwrap()));
    assert_eq!(unigram.encode("Ж").unwrap().last(), Some(&3));
    assert_eq!(wordpiece.encode("Ж").unwrap(), [1]);
    assert_eq!(bpe.decode(&bpe.encode("Ж").unwrap()), "Ж");
}

#[test]
fn small_vocabularies_are_refused() {
    for (kind, vocabulary) in
        [(TokenizerKind::Bpe, 100), (TokenizerKind::Wordpiece, 7), (TokenizerKind::Unigram, 20)]
    {
        let recipe = jishi_recipe::Tokenizer { kind, vocabulary, min_frequency: 1, ..Default::default() };
        let options = TrainOptions { recipe, special: SpecialSet::Encoder };
        let error = train(TEXTS.iter().map(|t| Ok(t.to_string())), &options).unwrap_err().to_string();
        assert!(error.contains("has no room for"), "{error}");
    }
    let options = TrainOptions { recipe: Default::default(), special: SpecialSet::Causal };
    assert!(train([], &options).unwrap_err().to_string().contains("no text"));
}

#[test]
fn streams_hold_back_what_is_not_whole() {
    for tokenizer in &kinds() {
        let ids = tokenizer.encode(TEXTS[3]).unwrap();
        let mut stream = StreamDecoder::new(tokenizer);
        let mut text = String::new();
        for &id in &ids {
            let part = stream.push(id);
            assert!(!part.contains('\u{fffd}'), "{part:?}");
            text.push_str(&part);
        }
        text.push_str(&stream.finish());
        assert_eq!(text, tokenizer.decode(&ids));
    }
    let byte = &kinds()[4];
    let mut stream = StreamDecoder::new(byte);
    assert_eq!((stream.push(0xf0 + 1), stream.push(0x9f + 1)), (String::new(), String::new()));
    assert_eq!(stream.finish(), "\u{fffd}");
}

#[test]
fn bytes_of_tokens_are_the_text() {
    for tokenizer in [&kinds()[0], &kinds()[3], &kinds()[4]] {
        let ids = tokenizer.encode(TEXTS[3]).unwrap();
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.token_bytes(id).unwrap()).collect();
        assert_eq!(bytes, TEXTS[3].as_bytes());
    }
    assert_eq!(kinds()[0].token_bytes(0), Some(Vec::new()));
    assert_eq!(kinds()[0].token_bytes(9999), None);
}

#[test]
fn bad_files_are_named() {
    for bad in ["", "{}", "[]", "{\"model\": {\"type\": \"BPE\", \"vocab\": {}, \"merges\": [\"a b\"]}}"] {
        let error = Tokenizer::from_bytes(bad.as_bytes(), None).unwrap_err();
        assert!(error.message.contains("not a `tokenizer.json`"), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let error = Tokenizer::load(folder.path()).unwrap_err();
    assert!(error.message.contains("holds no `tokenizer.json`"), "{error}");
    assert!(Tokenizer::load(&folder.path().join("none.json")).unwrap_err().message.contains("no such file"));
}

proptest! {
    #[test]
    fn bpe_char_and_byte_are_exact(text in "[a-zA-Z0-9 .,\\n\\t天é🦊]{0,40}") {
        static KINDS: std::sync::LazyLock<[Tokenizer; 5]> = std::sync::LazyLock::new(kinds);
        for tokenizer in [&KINDS[0], &KINDS[4]] {
            prop_assert_eq!(tokenizer.decode(&tokenizer.encode(&text).unwrap()), text.as_str());
        }
        let known: String = text.chars().filter(|c| TEXTS.iter().any(|t| t.contains(*c))).collect();
        prop_assert_eq!(KINDS[3].decode(&KINDS[3].encode(&known).unwrap()), known);
    }
}
