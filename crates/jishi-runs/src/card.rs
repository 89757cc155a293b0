//! The model card: `README.md` of a run (after Mitchell et al. 2019, "Model Cards for Model Reporting").

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::error::bytes_words;
use crate::manifest::{Environment, Metric};
use crate::table::{number, thousands};

/// What a model does, from what.
#[derive(Debug, Clone, PartialEq)]
pub enum About {
    /// Predicts a column of a table from other columns.
    Table {
        /// The column that is predicted.
        target: String,
        /// The classes, of a classification.
        classes: Vec<String>,
        /// The columns it is predicted from.
        features: Vec<String>,
    },
    /// Reads or writes something else: text, images.
    Model {
        /// What it does, as the end of the sentence "A model of the family … that".
        does: String,
        /// What the data is, in a sentence or two.
        data: String,
        /// Commands that use it.
        usage: Vec<String>,
        /// What it wrote for a few prompts.
        samples: Vec<(String, String)>,
    },
}

/// What a model card says.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    /// The run's name.
    pub name: String,
    /// What the recipe does, in a line.
    pub description: Option<String>,
    /// The task, as in the recipe.
    pub task: String,
    /// The model family, as in the recipe.
    pub family: String,
    /// What it learned to do.
    pub about: About,
    /// Where the data comes from.
    pub sources: Vec<String>,
    /// Row counts by name (`read`, `dropped`, `train`, `validation`, `test`), in the order to show.
    pub rows: Vec<(String, u64)>,
    /// Metrics by split and name.
    pub metrics: BTreeMap<String, BTreeMap<String, Metric>>,
    /// Trainable numbers of the model.
    pub parameters: u64,
    /// Settings worth a line, as `optimizer` and `adamw, learning rate 0.001`.
    pub settings: Vec<(String, String)>,
    /// Pictures: title and path from the card.
    pub plots: Vec<(String, String)>,
    /// What to beware of.
    pub limits: Vec<String>,
    /// Version of jishi.
    pub jishi_version: String,
    /// When the run began: RFC 3339, UTC.
    pub created: String,
    /// Where it ran.
    pub environment: Environment,
    /// Seconds of training.
    pub wall_seconds: f64,
    /// Share of the steps' time in which batches were made.
    pub data_share: Option<f64>,
    /// Peak memory in bytes.
    pub peak_memory: Option<u64>,
}

impl Card {
    /// The card as Markdown.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut out = String::new();
        self.intro(&mut out);
        self.metrics(&mut out);
        self.data(&mut out);
        self.training(&mut out);
        self.usage(&mut out);
        self.limits(&mut out);
        out
    }

    fn intro(&self, out: &mut String) {
        let _ = writeln!(out, "# {}\n", escape(&self.name));
        if let Some(text) = &self.description {
            let _ = writeln!(out, "{}\n", escape(text));
        }
        let family = code(&self.family);
        let (target, classes, features) = match &self.about {
            About::Table { target, classes, features } => (target, classes, features),
            About::Model { does, samples, .. } => {
                let _ = writeln!(out, "A model of the family `{family}` that {}.\n", escape(does));
                for (prompt, text) in samples {
                    let _ = writeln!(out, "> **{}**{}\n", quoted(prompt), quoted(text));
                }
                return;
            }
        };
        let what = match classes.len() {
            0 => format!("`{}`, a number,", code(target)),
            n => format!("`{}`, one of {n} classes,", code(target)),
        };
        let _ = writeln!(
            out,
            "A model of the family `{family}` that predicts {what} from {} column{} of a table.\n",
            features.len(),
            if features.len() == 1 { "" } else { "s" }
        );
        if !classes.is_empty() {
            let _ = writeln!(out, "Classes: {}.\n", list(classes));
        }
    }

    fn metrics(&self, out: &mut String) {
        if self.metrics.is_empty() {
            return;
        }
        let _ = writeln!(
            out,
            "## How well it does\n\n| split | metric | value | 95 % interval |\n|---|---|---:|---:|"
        );
        // Test first: it is the number to go by.
        let order =
            |split: &str| ["test", "validation", "train"].iter().position(|s| *s == split).unwrap_or(3);
        let mut splits: Vec<_> = self.metrics.iter().collect();
        splits.sort_by_key(|(split, _)| order(split));
        for (split, metrics) in splits {
            for (name, metric) in metrics {
                let interval = metric
                    .interval
                    .map_or(String::new(), |[a, b]| format!("{} – {}", number(a, 4), number(b, 4)));
                let (split, name) = (escape(split), escape(name));
                let _ = writeln!(out, "| {split} | {name} | {} | {interval} |", number(metric.value, 5));
            }
        }
        out.push('\n');
        for (title, path) in &self.plots {
            let path = path.replace(' ', "%20").replace('(', "%28").replace(')', "%29");
            let _ = writeln!(out, "![{}]({path})\n", escape(title));
        }
    }

    fn data(&self, out: &mut String) {
        let _ = writeln!(out, "## Data\n\nFrom {}.\n\n| rows | |\n|---|---:|", list(&self.sources));
        for (name, count) in &self.rows {
            let _ = writeln!(out, "| {} | {} |", escape(name), thousands(&count.to_string()));
        }
        let _ = writeln!(
            out,
            "\nEvery row that was dropped or changed is in `ledger.jsonl`, with file, line and reason. All preprocessing \
             was fitted on the training rows alone.\n",
        );
        let _ = match &self.about {
            About::Table { features, .. } => writeln!(out, "Columns: {}.\n", list(features)),
            About::Model { data, .. } => writeln!(out, "{}\n", escape(data)),
        };
    }

    fn training(&self, out: &mut String) {
        let _ = writeln!(out, "## Training\n\n| setting | value |\n|---|---|");
        let _ = writeln!(out, "| task | {} |\n| family | {} |", escape(&self.task), escape(&self.family));
        let _ = writeln!(out, "| parameters | {} |", thousands(&self.parameters.to_string()));
        for (name, value) in &self.settings {
            let _ = writeln!(out, "| {} | {} |", escape(name), escape(value));
        }
        let _ = writeln!(out, "| time | {} s |", number(self.wall_seconds, 3));
        if let Some(share) = self.data_share {
            let _ = writeln!(out, "| making batches | {} % of a step |", number(100.0 * share, 2));
        }
        if let Some(bytes) = self.peak_memory {
            let _ = writeln!(out, "| peak memory | {} |", bytes_words(bytes));
        }
        let environment = &self.environment;
        let _ = writeln!(
            out,
            "| machine | {}, {}, {} thread{} |\n| jishi | {}, {} |\n",
            escape(&environment.os),
            escape(&environment.arch),
            environment.threads,
            if environment.threads == 1 { "" } else { "s" },
            escape(&self.jishi_version),
            escape(&self.created)
        );
        let _ =
            writeln!(out, "`recipe.toml` is the recipe with every default; it gives the same model again.\n");
    }

    fn usage(&self, out: &mut String) {
        let name = code(&self.name);
        if let About::Model { usage, .. } = &self.about {
            let usage = usage.join("\n");
            let _ = writeln!(
                out,
                "## How to use it\n\n```sh\n{usage}\n```\n\nThe folder `model/` is all that this reads.\n"
            );
            return;
        }
        let _ = writeln!(
            out,
            "## How to use it\n\n```sh\njishi predict {name} --input new.csv --output predictions.csv\n\
             jishi evaluate {name} --data labelled.csv\n```\n\nThe input needs the columns above, by name, in any \
             order; the folder `model/` is all that prediction reads.\n"
        );
    }

    fn limits(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "## Limits\n\n- It has learned from the rows above and knows nothing else; on data of another time or place, \
             evaluate it first.\n- It shows what goes together, not what causes what."
        );
        for limit in &self.limits {
            let _ = writeln!(out, "- {}", escape(limit));
        }
    }
}

/// Text from outside, safe in a line or table cell of Markdown.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// Text from outside as a quotation of several lines.
fn quoted(text: &str) -> String {
    text.lines().map(escape).collect::<Vec<_>>().join("  \n> ")
}

/// Text from outside, safe between backticks.
fn code(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || c == '`' { ' ' } else { c }).collect()
}

/// `a`, `b` and `c`; of a long list, the first fifty.
fn list(items: &[String]) -> String {
    const MOST: usize = 50;
    let shown: Vec<String> = items.iter().take(MOST).map(|i| format!("`{}`", code(i))).collect();
    let rest = items.len().saturating_sub(MOST);
    if rest > 0 { format!("{} and {rest} more", shown.join(", ")) } else { shown.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> Card {
        let test = BTreeMap::from([
            ("rmse".to_string(), Metric { value: 25_123.4, interval: Some([23_000.0, 27_500.0]) }),
            ("r2".to_string(), 0.9123.into()),
        ]);
        Card {
            name: "house-prices".into(),
            description: Some("Prices of homes in Ames, Iowa".into()),
            task: "regression".into(),
            family: "mlp".into(),
            about: About::Table {
                target: "Sale_Price".into(),
                classes: Vec::new(),
                features: vec!["Lot_Area".into(), "a|b".into()],
            },
            sources: vec!["builtin:ames".into()],
            rows: vec![("read".into(), 2930), ("train".into(), 1758)],
            metrics: BTreeMap::from([
                ("train".into(), BTreeMap::from([("rmse".into(), 2.0.into())])),
                ("test".into(), test),
            ]),
            parameters: 12_345,
            settings: vec![("optimizer".into(), "adamw, learning rate 0.001".into())],
            plots: vec![("Training curves".into(), "curves.png".into())],
            limits: vec!["Few homes above <500k> are in the data.".into()],
            jishi_version: "0.1.0".into(),
            created: "2026-01-01T00:00:00Z".into(),
            environment: Environment {
                os: "linux".into(),
                arch: "x86_64".into(),
                cpu_features: vec![],
                threads: 2,
            },
            wall_seconds: 12.34,
            data_share: Some(0.0123),
            peak_memory: Some(73_000_000),
        }
    }

    #[test]
    fn says_what_matters() {
        let text = card().to_markdown();
        for part in [
            "# house-prices\n",
            "predicts `Sale_Price`, a number, from 2 columns",
            "| test | rmse | 25,123 | 23,000 – 27,500 |",
            "| test | r2 | 0.9123 |  |",
            "![Training curves](curves.png)",
            "| read | 2,930 |",
            "| parameters | 12,345 |",
            "| optimizer | adamw, learning rate 0.001 |",
            "jishi predict house-prices --input new.csv",
            "| peak memory | 73.0 MB |",
            "\\<500k\\>",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(text.find("| test |").unwrap() < text.find("| train |").unwrap());
    }

    #[test]
    fn names_from_the_data_can_not_break_the_page() {
        let mut card = card();
        card.about = About::Table {
            target: "a`b\n# c".into(),
            classes: (0..60).map(|i| format!("c{i}")).collect(),
            features: vec!["x".into()],
        };
        card.description = Some("x\n\n<script>|".into());
        let text = card.to_markdown();
        assert!(text.contains("`a b # c`, one of 60 classes,") && text.contains("and 10 more"));
        assert!(text.contains("x  \\<script\\>\\|"));
    }
}
