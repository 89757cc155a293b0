//! Labels of documents: one each, or many.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use jishi_recipe::{Problem, Problems};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::corpus::{Corpus, Part};
use super::documents::Target;
use crate::error::DataError;
use crate::pipeline::MAX_CLASSES;
use crate::rows::listed;

/// The `problem_type` of many labels an example.
const MANY: &str = "multi_label_classification";

/// The labels that there are, learned from the training split alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Names; the index is the class. In order of the numbers where all are numbers, else of the letters.
    pub names: Vec<String>,
    /// A document may have many labels: a list, or names with `|` between them.
    pub many: bool,
    /// Training documents with each label, `[names]`.
    pub counts: Vec<u64>,
}

/// The names that a target holds.
fn names(target: &Target, many: bool) -> Vec<&str> {
    let mut names: Vec<&str> = match target {
        Target::List(list) => list.iter().map(|name| name.trim()).collect(),
        Target::Text(text) if many => text.split('|').map(str::trim).collect(),
        Target::Text(text) => vec![text.trim()],
    };
    names.retain(|name| !name.is_empty());
    names
}

impl Labels {
    /// Those that a Hugging Face `config.json` names, where it names every class; nothing is known of their counts.
    #[must_use]
    pub fn of_config(config: &Value) -> Option<Self> {
        let table = config["id2label"].as_object()?;
        let name = |i: usize| table.get(&i.to_string()).and_then(Value::as_str).map(str::to_owned);
        let names: Vec<String> = (0..table.len()).map(name).collect::<Option<_>>()?;
        let counts = vec![0; names.len()];
        let many = config["problem_type"] == MANY;
        (!names.is_empty()).then_some(Self { names, many, counts })
    }

    /// Names the classes in a Hugging Face `config.json`.
    pub fn put_into(&self, config: &mut Value) {
        let names = || self.names.iter().enumerate();
        config["id2label"] = names().map(|(i, name)| (i.to_string(), Value::from(name.as_str()))).collect();
        config["label2id"] = names().map(|(i, name)| (name.clone(), Value::from(i))).collect();
        if self.many {
            config["problem_type"] = MANY.into();
        }
    }

    /// Finds the labels of the training documents. There are many a document where any has a list or a `|`.
    ///
    /// # Errors
    /// Fewer than two labels; labels with fewer than `least` training documents; labels that are in another split
    /// alone, with their place.
    pub fn fit(corpus: &Corpus, least: u64) -> Result<Self, DataError> {
        let mut texts: HashMap<Target, u64> = HashMap::new();
        for batch in corpus.documents(Part::Train)? {
            for document in batch? {
                let Some(target) = document.target else { continue };
                *texts.entry(target).or_default() += 1;
                if texts.len() > 64 * MAX_CLASSES {
                    return Err(too_many(texts.len()).into());
                }
            }
        }
        let new = Self::of(&texts, least, "training documents")?;
        new.check_others(corpus)?;
        Ok(new)
    }

    /// The labels of targets, with the number of examples of each target. `examples` names them in problems.
    ///
    /// # Errors
    /// Fewer than two labels, too many, and labels with fewer than `least` examples.
    pub(crate) fn of(targets: &HashMap<Target, u64>, least: u64, examples: &str) -> Result<Self, Problem> {
        let many = targets.keys().any(|target| match target {
            Target::List(_) => true,
            Target::Text(text) => text.contains('|'),
        });
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for (target, n) in targets {
            for name in names(target, many) {
                *counts.entry(name.to_owned()).or_default() += n;
            }
        }
        if counts.len() > MAX_CLASSES {
            return Err(too_many(counts.len()));
        }
        if counts.len() < 2 {
            let found: Vec<String> = counts.keys().map(|n| format!("`{n}`")).collect();
            let found = if found.is_empty() { "none".into() } else { found.join(", ") };
            return Err(Problem::new(format!("a classification needs at least two labels, found {found}"))
                .help("check `data.target`"));
        }
        let few: Vec<String> =
            counts.iter().filter(|(_, n)| **n < least).map(|(name, n)| format!("`{name}` ({n})")).collect();
        if !few.is_empty() {
            return Err(Problem::new(format!(
                "these labels have fewer than {least} {examples}: {}",
                listed(&few, 20)
            ))
            .help("add examples, merge rare labels, or leave them out"));
        }
        let mut sorted: Vec<(String, u64)> = counts.into_iter().collect();
        let number = |(name, _): &(String, u64)| name.parse::<f64>().ok().filter(|x| !x.is_nan());
        if sorted.iter().all(|label| number(label).is_some()) {
            sorted.sort_by(|a, b| number(a).partial_cmp(&number(b)).unwrap_or(std::cmp::Ordering::Equal));
        }
        let (names, counts) = sorted.into_iter().unzip();
        Ok(Self { names, many, counts })
    }

    /// Every label of the other splits must be one of the training split's.
    fn check_others(&self, corpus: &Corpus) -> Result<(), DataError> {
        let mut unknown: BTreeMap<String, (Part, PathBuf, u64, u64)> = BTreeMap::new();
        for part in [Part::Validation, Part::Test] {
            let mut documents = corpus.documents(part)?;
            while let Some(batch) = documents.next() {
                for document in batch? {
                    let Some(target) = &document.target else { continue };
                    for name in names(target, self.many).into_iter().filter(|n| self.class(n).is_none()) {
                        let place = || (part, documents.files()[document.file].clone(), document.line, 0);
                        unknown.entry(name.to_owned()).or_insert_with(place).3 += 1;
                    }
                }
            }
        }
        let problems = unknown.into_iter().take(20).map(|(name, (part, file, line, n))| {
            Problem::new(format!(
                "label `{name}` ({n} documents) is in the {} split and not in the training split",
                part.name()
            ))
            .file(file)
            .line(line)
            .help("split with `by = \"stratified\"`, add documents with this label, or leave it out")
        });
        Ok(Problems(problems.collect()).into_result()?)
    }

    /// The class of a name.
    #[must_use]
    pub fn class(&self, name: &str) -> Option<u32> {
        self.names.iter().position(|n| n == name).map(|i| i as u32)
    }

    /// The classes of a target, in order and each once.
    ///
    /// # Errors
    /// A label that is not known; none or several where there is one a document.
    pub fn classes(&self, target: &Target) -> Result<Vec<u32>, Problem> {
        let mut classes = Vec::new();
        for name in names(target, self.many) {
            let class = self.class(name).ok_or_else(|| {
                let known: Vec<String> = self.names.iter().map(|n| format!("`{n}`")).collect();
                Problem::new(format!("label `{name}` is not known; the labels are {}", listed(&known, 20)))
                    .help("correct it, or train again with documents that have it")
            })?;
            classes.push(class);
        }
        classes.sort_unstable();
        classes.dedup();
        if !self.many && classes.len() != 1 {
            return Err(Problem::new("expected one label, found none").help("fill the label in"));
        }
        Ok(classes)
    }
}

fn too_many(found: usize) -> Problem {
    Problem::new(format!("there are more than {MAX_CLASSES} labels (at least {found} different targets)"))
        .help("is `data.target` the column of labels?")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jishi_recipe::{Split, SplitBy, Text};

    use super::*;
    use crate::text::corpus::CorpusOptions;
    use crate::{ReadOptions, Source};

    fn corpus(name: &str, text: &str) -> Corpus {
        let options = CorpusOptions {
            read: ReadOptions::default(),
            text: Text::default(),
            target: Some("label".into()),
            split: Split { by: SplitBy::Column, column: Some("part".into()), ..Split::default() },
        };
        let source = Source::Memory { name: name.into(), bytes: text.as_bytes().into() };
        Corpus::open(&[source], options).unwrap()
    }

    #[test]
    fn one_label_each() {
        let text = "text,label,part\na,10,train\nb,2,train\nc,2,train\nd,10,test\n";
        let labels = Labels::fit(&corpus("a.csv", text), 1).unwrap();
        assert_eq!(
            (labels.names.as_slice(), labels.many),
            (["2".to_string(), "10".into()].as_slice(), false)
        );
        assert_eq!(labels.counts, [2, 1]);
        assert_eq!(labels.classes(&Target::Text("10".into())).unwrap(), [1]);
        assert!(labels.classes(&Target::Text("7".into())).unwrap_err().message.contains("`2`, `10`"));
        assert!(labels.classes(&Target::Text(" ".into())).is_err());
        let error = Labels::fit(&corpus("a.csv", text), 2).unwrap_err().to_string();
        assert!(error.contains("fewer than 2 training documents: `10` (1)"), "{error}");
    }

    #[test]
    fn many_labels_each() {
        let text = r#"{"text": "a", "label": ["y", "x"], "part": "train"}
{"text": "b", "label": [], "part": "train"}
{"text": "c", "label": "x|z", "part": "train"}"#;
        let labels = Labels::fit(&corpus("a.jsonl", text), 1).unwrap();
        assert_eq!((labels.names.join(""), labels.many), ("xyz".into(), true));
        assert_eq!(labels.classes(&Target::Text("z|x|x".into())).unwrap(), [0, 2]);
        assert_eq!(labels.classes(&Target::List(Vec::new())).unwrap(), [0u32; 0]);
    }

    #[test]
    fn labels_of_other_splits_alone_are_named() {
        let text = "text,label,part\na,x,train\nb,y,train\nc,z,validation\nd,z,test\n";
        let error = Labels::fit(&corpus("a.csv", text), 1).unwrap_err().to_string();
        assert!(error.contains("a.csv:4: label `z` (2 documents) is in the validation split"), "{error}");
        let one = "text,label,part\na,x,train\n";
        assert!(
            Labels::fit(&corpus("a.csv", one), 1).unwrap_err().to_string().contains("at least two labels")
        );
    }
}
