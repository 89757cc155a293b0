//! How fast a text file is tokenised, into memory by the library and into a file by ours:
//! `cargo run --release -p jishi-data --example tokenize -- FILE [FOLDER]`; keeps the tokenizers in FOLDER.

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use jishi_data::text::cache::{Around, CacheKey, Piece, Tokens};
use jishi_data::text::corpus::{Corpus, CorpusOptions, Part};
use jishi_data::text::tokenizer::{SpecialSet, TrainOptions, train};
use jishi_data::{ReadOptions, Source};
use jishi_recipe::{DocumentUnit, Split, Text, TokenizerKind};

fn main() -> Result<(), Box<dyn Error>> {
    let file = PathBuf::from(std::env::args().nth(1).ok_or("expected the path of a text file")?);
    let megabytes = std::fs::metadata(&file)?.len() as f64 / 1e6;
    let options = CorpusOptions {
        read: ReadOptions::default(),
        text: Text { document: DocumentUnit::Paragraph, ..Text::default() },
        target: None,
        split: Split { validation: 0.0, test: 0.0, ..Split::default() },
    };
    let start = Instant::now();
    let corpus = Corpus::open(&[Source::File(file)], options)?;
    println!("corpus      {:8.1} MB/s", megabytes / start.elapsed().as_secs_f64());
    let texts: Vec<String> = corpus.texts(Part::Train, usize::MAX)?.collect::<Result<_, _>>()?;
    let folder = tempfile::tempdir()?;
    for kind in [
        TokenizerKind::Bpe,
        TokenizerKind::Unigram,
        TokenizerKind::Wordpiece,
        TokenizerKind::Char,
        TokenizerKind::Byte,
    ] {
        let recipe = jishi_recipe::Tokenizer { kind, vocabulary: 4096, ..Default::default() };
        let start = Instant::now();
        let tokenizer =
            train(texts.iter().cloned().map(Ok), &TrainOptions { recipe, special: SpecialSet::Translation })?;
        println!(
            "{kind:?}: trained {} tokens in {:.2} s",
            tokenizer.vocabulary(),
            start.elapsed().as_secs_f64()
        );
        if let Some(keep) = std::env::args().nth(2) {
            let path = PathBuf::from(keep).join(format!("{kind:?}.json"));
            std::io::Write::write_all(&mut std::fs::File::create(path)?, &tokenizer.to_json())?;
        }
        let library = tokenizers::Tokenizer::from_bytes(tokenizer.to_json()).map_err(|e| e.to_string())?;
        for round in 0..3 {
            let inputs: Vec<&str> = texts.iter().map(String::as_str).collect();
            let start = Instant::now();
            let encoded = library.encode_batch_fast(inputs, false).map_err(|e| e.to_string())?;
            let theirs = start.elapsed().as_secs_f64();
            let count: usize = encoded.iter().map(|e| e.get_ids().len()).sum();
            drop(encoded);
            let start = Instant::now();
            let tokens = Tokens::open_or_build(
                &folder.path().join(format!("{kind:?}{round}")),
                &CacheKey([0; 32]),
                tokenizer.vocabulary(),
                Around::default(),
                corpus.documents(Part::Train)?,
                |d| Ok(Piece { ids: tokenizer.encode(&d.text)?, learned: None, continues: d.continues }),
            )?;
            let ours = start.elapsed().as_secs_f64();
            assert_eq!(tokens.len(), count);
            println!(
                "  library {:6.2} MB/s, through the file {:6.2} MB/s",
                megabytes / theirs,
                megabytes / ours
            );
        }
    }
    Ok(())
}
