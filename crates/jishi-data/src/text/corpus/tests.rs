#![allow(clippy::unwrap_used)]
use jishi_recipe::DocumentUnit;

use super::*;

fn source(name: &str, text: &str) -> Source {
    Source::Memory { name: name.into(), bytes: text.as_bytes().into() }
}

fn options(document: DocumentUnit, validation: f64, test: f64) -> CorpusOptions {
    CorpusOptions {
        read: ReadOptions::default(),
        text: Text { document, ..Text::default() },
        target: None,
        split: Split { validation, test, seed: 42, ..Split::default() },
    }
}

fn texts(corpus: &Corpus, part: Part) -> Vec<String> {
    corpus.documents(part).unwrap().flat_map(|batch| batch.unwrap()).map(|d| d.text).collect()
}

#[test]
fn a_stream_is_cut_in_order_by_characters() {
    let files = [source("a.txt", "日本01234"), source("b.txt", "56789天地玄")];
    let corpus = Corpus::open(&files, options(DocumentUnit::Stream, 0.2, 0.1)).unwrap();
    let all: Vec<String> = Part::ALL.iter().map(|&p| texts(&corpus, p).concat()).collect();
    assert_eq!(all.concat(), "日本0123456789天地玄");
    // Of 15 characters: ⌊0.7 · 15⌋ = 10, then up to ⌊0.9 · 15⌋ = 13.
    assert_eq!(all.iter().map(|t| t.chars().count()).collect::<Vec<_>>(), [10, 3, 2]);
    assert_eq!((corpus.statistics.documents, corpus.statistics.characters), (1, 15));
    let continues: Vec<bool> =
        corpus.documents(Part::Train).unwrap().flat_map(|b| b.unwrap()).map(|d| d.continues).collect();
    assert_eq!(continues, [false, true]);
    let none = Corpus::open(&[source("a.txt", "abc")], options(DocumentUnit::Stream, 0.1, 0.0)).unwrap();
    assert_eq!(none.count(Part::Test), 0);
    let error = Corpus::open(&[source("a.txt", " \n")], options(DocumentUnit::Stream, 0.1, 0.0)).unwrap_err();
    assert!(error.to_string().contains("no text to learn from"), "{error}");
}

#[test]
fn documents_are_dropped_for_a_reason_and_the_rest_is_split() {
    let lines: Vec<String> = (0..20).map(|i| format!("line number {i}")).collect();
    let text = format!("{}\n\n  \nab\nline number 3\n", lines.join("\n"));
    let mut options = options(DocumentUnit::Line, 0.2, 0.1);
    options.text.min_characters = 3;
    options.text.deduplicate = Deduplicate::Exact;
    let corpus = Corpus::open(&[source("a.txt", &text)], options).unwrap();
    let summary = corpus.ledger.summary();
    assert_eq!((summary.rows_read, summary.used, summary.dropped), (24, 20, 4));
    assert_eq!(summary.drop_reasons["empty"], 2);
    assert_eq!(summary.drop_reasons["the same as an earlier document"], 1);
    assert_eq!(summary.drop_reasons["fewer characters than `min_characters`"], 1);
    assert_eq!(summary.splits["train"], 14);
    let mut all: Vec<String> = Part::ALL.iter().flat_map(|&p| texts(&corpus, p)).collect();
    assert_eq!(texts(&corpus, Part::Test).len(), 2);
    all.sort();
    let mut expected = lines.clone();
    expected.sort();
    assert_eq!(all, expected);
    let some: Vec<String> = corpus.texts(Part::Train, 5).unwrap().map(Result::unwrap).collect();
    assert_eq!(some.len(), 5);
    assert_eq!(corpus.texts(Part::Train, 500).unwrap().count(), 14);
}

#[test]
fn tables_split_by_label_group_and_column() {
    let mut text = String::from("text,label,group,part\n");
    for i in 0..40 {
        let part = ["train", "train", "validation", "test"][i % 4];
        text.push_str(&format!("text {i},{},{},{part}\n", ["x", "y"][i % 2], i / 4));
    }
    let open = |by, column: Option<&str>| {
        let mut options = options(DocumentUnit::Stream, 0.2, 0.2);
        options.target = Some("label".into());
        options.split.by = by;
        options.split.column = column.map(String::from);
        Corpus::open(&[source("a.csv", &text)], options)
    };
    let stratified = open(SplitBy::Stratified, None).unwrap();
    for part in Part::ALL {
        let labels: Vec<_> =
            stratified.documents(part).unwrap().flat_map(|b| b.unwrap()).map(|d| d.target.unwrap()).collect();
        let x = labels.iter().filter(|t| **t == Target::Text("x".into())).count();
        assert_eq!(2 * x, labels.len());
    }
    let group = open(SplitBy::Group, Some("group")).unwrap();
    let groups = |part| -> Vec<String> {
        group.documents(part).unwrap().flat_map(|b| b.unwrap()).map(|d| d.split.unwrap()).collect()
    };
    assert!(groups(Part::Train).iter().all(|g| !groups(Part::Test).contains(g)));
    assert_eq!(open(SplitBy::Column, Some("part")).unwrap().count(Part::Validation), 10);
    assert_eq!(open(SplitBy::Time, Some("group")).unwrap().count(Part::Test), 8);
    let error = open(SplitBy::Column, Some("label")).unwrap_err().to_string();
    assert!(error.contains("a.csv:2: the split's column holds `x`"), "{error}");
}

#[test]
fn bad_rows_stop_or_are_dropped() {
    let text = "{\"text\": \"a\"}\nnonsense\n{\"text\": \"b\"}\n";
    let mut options = options(DocumentUnit::Stream, 0.5, 0.0);
    let error = Corpus::open(&[source("a.jsonl", text)], options.clone()).unwrap_err().to_string();
    assert!(error.contains("a.jsonl:2") && error.contains("1 of 3 rows"), "{error}");
    options.read.bad_rows = BadRows::Drop;
    let corpus = Corpus::open(&[source("a.jsonl", text)], options).unwrap();
    assert_eq!(corpus.ledger.summary().dropped, 1);
}
