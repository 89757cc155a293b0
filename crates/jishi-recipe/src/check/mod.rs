//! Contradictions and ranges: what no type can say.

mod data;
mod generation;
mod language;
mod model;
mod train;
mod vision;

pub(crate) use data::table_keys;

use crate::places::Places;
use crate::problem::Problem;
use crate::types::{Domain, Recipe, TaskName};

/// Every contradiction in a recipe and every value out of its range, each with its place.
///
/// `places` says what was written where; with `Places::default()` every value counts as a default, and the
/// problems have no lines.
#[must_use]
pub fn check(recipe: &Recipe, places: &Places) -> Vec<Problem> {
    findings(recipe, places).into_iter().map(|f| f.problem).collect()
}

/// A problem with the keys that it hangs on, so that one that only follows from another can be left out.
pub(crate) struct Finding {
    pub problem: Problem,
    /// Dotted paths.
    pub about: Vec<String>,
    /// The table in which a key is missing.
    pub lacks: Option<&'static str>,
}

impl Finding {
    /// Whether it may only follow from keys that were left out of the recipe because they are wrong.
    pub fn follows_from(&self, pruned: &[String]) -> bool {
        let within = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        pruned.iter().any(|p| {
            self.about.iter().any(|a| within(a, p)) || self.lacks.is_some_and(|table| within(p, table))
        })
    }
}

pub(crate) fn findings(recipe: &Recipe, places: &Places) -> Vec<Finding> {
    let mut checker = Checker { recipe, places, found: Vec::new() };
    checker.name();
    checker.source();
    checker.sections();
    match recipe.task.domain() {
        Domain::Tables => checker.table(),
        Domain::Texts => checker.language(),
        Domain::Images => checker.vision(),
    }
    checker.model();
    checker.train();
    checker.generation();
    checker.found
}

/// The metrics that a task is evaluated by, besides `loss`.
#[must_use]
pub fn metrics(task: TaskName) -> &'static [&'static str] {
    match task {
        TaskName::Regression => &["rmse", "mae", "r2", "mape"],
        TaskName::Classification => &[
            "accuracy",
            "precision_macro",
            "recall_macro",
            "f1_macro",
            "precision_weighted",
            "recall_weighted",
            "f1_weighted",
            "precision",
            "recall",
            "f1",
            "auroc",
            "auprc",
            "log_loss",
            "ece",
        ],
        TaskName::CausalLm => &["perplexity", "bits_per_byte"],
        TaskName::Dpo => &["accuracy", "margin", "chosen_reward"],
        TaskName::MaskedLm => &["perplexity", "accuracy"],
        TaskName::TextClassification => {
            &["accuracy", "precision_macro", "recall_macro", "f1_macro", "f1_micro"]
        }
        TaskName::Translation => &["perplexity", "accuracy", "bleu", "chrf"],
        TaskName::TextEmbedding | TaskName::ImageEmbedding => &["recall_at_1", "recall_at_10", "mrr"],
        TaskName::MaskedImageModeling => &["r2"],
        TaskName::Detection => &[
            "map",
            "map_50",
            "map_75",
            "map_small",
            "map_medium",
            "map_large",
            "ar_1",
            "ar_10",
            "ar_100",
            "ar_small",
            "ar_medium",
            "ar_large",
        ],
        TaskName::ImageClassification => {
            &["accuracy", "top5_accuracy", "precision_macro", "recall_macro", "f1_macro", "f1_micro", "ece"]
        }
        TaskName::ImageGeneration => &["fid", "kid", "class_share_min", "class_share_max"],
    }
}

struct Checker<'a> {
    recipe: &'a Recipe,
    places: &'a Places,
    found: Vec<Finding>,
}

impl Checker<'_> {
    /// Reports a problem at the first of the keys that the user wrote.
    fn fault(&mut self, about: &[&str], message: impl Into<String>, help: impl Into<String>) {
        let mut problem = self.places.problem(self.places.of(about), message);
        let help = help.into();
        problem.help = Some(help).filter(|h| !h.is_empty());
        let about = about.iter().map(ToString::to_string).collect();
        self.found.push(Finding { problem, about, lacks: None });
    }

    /// Reports that a key is missing in a table.
    fn lack(
        &mut self,
        table: &'static str,
        about: &[&str],
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.fault(about, message, help);
        if let Some(last) = self.found.last_mut() {
            last.lacks = Some(table);
        }
    }

    /// A number that must lie in a range, put in words.
    fn number(&mut self, key: &str, value: f64, fits: bool, range: &str) {
        if !fits || !value.is_finite() {
            self.fault(&[key], format!("`{key}`: expected a number {range}, found {value}"), "");
        }
    }

    fn positive(&mut self, key: &str, value: f64) {
        self.number(key, value, value > 0.0, "above 0");
    }

    fn not_negative(&mut self, key: &str, value: f64) {
        self.number(key, value, value >= 0.0, "of 0 or more");
    }

    /// A share that may be 0 but not 1.
    fn share(&mut self, key: &str, value: f64) {
        self.number(key, value, (0.0..1.0).contains(&value), "from 0 to below 1");
    }

    /// A count that must not be too small.
    fn at_least(&mut self, key: &str, value: usize, least: usize) {
        if value < least {
            self.fault(&[key], format!("`{key}`: expected at least {least}, found {value}"), "");
        }
    }

    /// Sections and keys that are for tasks on something else.
    fn sections(&mut self) {
        let task = self.recipe.task;
        let sections = [
            ("text", Domain::Texts, "text"),
            ("tokenizer", Domain::Texts, "text"),
            ("image", Domain::Images, "images"),
        ];
        for (key, domain, what) in sections {
            if task.domain() != domain && self.places.is_set(key) {
                let message =
                    format!("[{key}] is for tasks that learn from {what}, and the task is {}", task.name());
                self.fault(&[key, "task"], message, "leave it out");
            }
        }
        if !task.writes_text() && self.places.is_set("generate") {
            let message = format!("[generate] is for tasks that write text, and the task is {}", task.name());
            self.fault(&["generate", "task"], message, "leave it out");
        }
        if let Some(image) = &self.recipe.image {
            self.image(image);
        }
        for key in table_keys(task.domain()) {
            let path = format!("data.{key}");
            if self.places.is_set(&path) {
                let message = format!("`{path}` is for tables, and the task is {}", task.name());
                let help = match task.domain() {
                    Domain::Images => "leave it out; [image] says how images are read",
                    _ => "leave it out; [text] says how text is read",
                };
                self.fault(&[&path, "task"], message, help);
            }
        }
    }

    fn name(&mut self) {
        const LONGEST: usize = 100;
        let name = &self.recipe.name;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if let Some(c) = name.chars().find(|c| !allowed(*c)) {
            let help = format!("for example: name = \"{}\"", slug(name));
            let message = format!(
                "`name` is the name of a folder: expected letters, digits, `-`, `_` and `.`, found {c:?}"
            );
            self.fault(&["name"], message, help);
        } else if name.is_empty() || name.starts_with(['.', '-']) {
            let message =
                format!("`name` is the name of a folder: expected a letter or digit first, found \"{name}\"");
            self.fault(&["name"], message, "for example: name = \"my-run\"");
        } else if name.len() > LONGEST {
            let message = format!("`name`: expected at most {LONGEST} characters, found {}", name.len());
            self.fault(&["name"], message, "");
        }
        if self.recipe.description.as_ref().is_some_and(|d| d.contains(['\n', '\r'])) {
            self.fault(
                &["description"],
                "`description`: expected one line, found several",
                "comments (`# …`) may be longer",
            );
        }
    }
}

/// A run's name made of any text.
pub(crate) fn slug(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() || c == '_' || c == '.' {
            name.push(c);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = name.trim_start_matches(['.', '-', '_']).trim_end_matches(['.', '-']);
    let short: String = name.chars().take(60).collect();
    if short.is_empty() { "my-run".into() } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_names() {
        assert_eq!(slug("My Houses (2024)"), "my-houses-2024");
        assert_eq!(slug("..//"), "my-run");
        assert_eq!(slug("房价"), "my-run");
        assert_eq!(slug("a.b_c-d"), "a.b_c-d");
    }

    #[test]
    fn what_follows_from_a_wrong_key_is_known() {
        let finding = |about: &[&str], lacks| Finding {
            problem: Problem::new(""),
            about: about.iter().map(ToString::to_string).collect(),
            lacks,
        };
        let pruned = ["data.split.by".to_owned(), "model".to_owned()];
        assert!(finding(&["data.split.by"], None).follows_from(&pruned));
        assert!(finding(&["model.heads"], None).follows_from(&pruned));
        assert!(finding(&["data.split.column"], Some("data.split")).follows_from(&pruned));
        assert!(!finding(&["data.split.test"], None).follows_from(&pruned));
        assert!(!finding(&["train.steps"], Some("train")).follows_from(&pruned));
    }
}
