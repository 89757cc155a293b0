//! The end of a run on text: evaluation, samples, package, model card.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;
use jishi_data::Ledger;
use jishi_data::text::corpus::Part;
use jishi_data::text::statistics::Statistics;
use jishi_data::text::tokenizer::Tokenizer;
use jishi_models::export_weights;
use jishi_recipe::Recipe;
use jishi_runs::RealFs;
use jishi_runs::card::About;
use jishi_runs::manifest::{Fingerprint, RunManifest};
use jishi_runs::package::{ColumnSchema, Golden, Package, PackageManifest};
use jishi_runs::tensors::{Scalars, TensorFile};
use jishi_tasks::language::LanguageTask;
use jishi_tasks::{Sample, SplitName, Task};
use serde_json::{Map, Value};

use super::source::TextSource;
use super::{TOKENIZER, TOKENIZER_CONFIG, TextPipeline, TextPredictor};
use crate::error::TrainError;
use crate::job::finish::{curves, end, model_card, same_golden, with_intervals, write_scene};
use crate::job::pictures;
use crate::job::report::TrainReport;
use crate::job::subject::{Finished, Subject};
use crate::job::train::recipe_json;
use crate::trainer::tensor_entries;

/// Texts that a package keeps to show that it still gives the same.
const GOLDEN: usize = 3;
/// Characters of such a text.
const GOLDEN_LENGTH: usize = 200;

/// Makes the model that training begins with.
pub type Start<M> = Box<dyn Fn(&Device) -> Result<M, TrainError>>;

/// The text of a recipe, prepared, with the task on it and the model to begin with.
pub struct Prepared<T: LanguageTask> {
    /// The task, with its data.
    pub task: T,
    tokenizer: Arc<Tokenizer>,
    pipeline: TextPipeline,
    ledger: Ledger,
    statistics: Statistics,
    files: Vec<Fingerprint>,
    tokens: u64,
    golden: Vec<Map<String, Value>>,
    start: Start<T::Model>,
}

impl<T: LanguageTask> Prepared<T> {
    /// What was prepared from a source. `tokens`: of all splits together; `golden`: inputs to check the package with.
    ///
    /// # Errors
    /// Files that can't be read again.
    pub fn new(
        task: T,
        tokenizer: Arc<Tokenizer>,
        pipeline: TextPipeline,
        source: TextSource,
        tokens: u64,
        golden: Vec<Map<String, Value>>,
        start: Start<T::Model>,
    ) -> Result<Self, TrainError> {
        let files = fingerprints(&source)?;
        let TextSource { corpus, .. } = source;
        let (ledger, statistics) = (corpus.ledger, corpus.statistics);
        Ok(Self { task, tokenizer, pipeline, ledger, statistics, files, tokens, golden, start })
    }

    /// What every file was when it was read.
    #[must_use]
    pub fn files(&self) -> &[Fingerprint] {
        &self.files
    }

    fn about(&self, recipe: &Recipe, name: &str, samples: &[Sample]) -> About {
        let statistics = &self.statistics;
        let scripts: Vec<String> = statistics
            .scripts
            .iter()
            .map(|(script, share)| format!("{script} {:.1} %", 100.0 * share))
            .collect();
        let data = format!(
            "{} documents of {} characters, {} tokens with a vocabulary of {}; letters: {}.",
            statistics.documents,
            statistics.characters,
            self.tokens,
            self.tokenizer.vocabulary(),
            scripts.join(", ")
        );
        let mut usage = vec![format!("jishi evaluate {name} --data other.txt")];
        if recipe.task.writes_text() {
            usage.insert(0, format!("jishi generate {name} --prompt \"…\""));
        } else {
            usage.insert(0, format!("jishi predict {name} --input new.csv --output predictions.csv"));
        }
        let samples = samples.iter().map(|s| (s.prompt.clone(), s.text.clone())).collect();
        About::Model { does: self.task.does(), data, usage, samples }
    }
}

impl<T: LanguageTask> Subject for Prepared<T> {
    type Task = T;

    fn task(&self) -> &T {
        &self.task
    }

    fn primary_metric(&self) -> &'static str {
        self.task.primary_metric()
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn inputs(&self) -> Vec<(&'static str, u64)> {
        vec![("tokens", self.tokens), ("vocabulary", self.tokenizer.vocabulary() as u64)]
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    fn model(&self, _: &Recipe, device: &Device) -> Result<<Self::Task as Task>::Model, TrainError> {
        (self.start)(device)
    }

    fn finish(
        &self,
        finished: &Finished<'_, T::Model>,
        manifest: &mut RunManifest,
        report: &mut TrainReport,
        started: Instant,
    ) -> Result<(), TrainError> {
        let Finished { run, recipe, model, device } = *finished;
        // What is told of the model is what the package does, to the last bit.
        let model = &self.task.plain(model);
        let mut shown = None;
        for split in [SplitName::Validation, SplitName::Test] {
            if self.task.rows(split) > 0 {
                let (resamples, seed) = (recipe.evaluate.bootstrap, recipe.train.seed);
                let measured = self.task.report(model, split, resamples, seed)?;
                let mut metrics = measured.evaluation.metrics;
                metrics.insert("loss".into(), measured.evaluation.loss);
                report.metrics.insert(split.name().into(), metrics);
                if !measured.intervals.is_empty() {
                    report.intervals.insert(split.name().into(), measured.intervals);
                }
                shown = measured.classes.map(|classes| (split, classes));
            }
        }
        manifest.metrics = with_intervals(report);
        let mut drawn = curves(run, recipe, manifest, "curves")?;
        if let Some((split, classes)) = shown.filter(|_| recipe.evaluate.plots) {
            let note = format!("{} split, {} texts", split.name(), classes.actual.len());
            for picture in
                pictures::of_classes(&note, &classes.names, &classes.actual, &classes.probabilities)
            {
                let path = format!("plots/{}", picture.name);
                write_scene(run, &path, &picture.scene)?;
                drawn.push((picture.title.to_owned(), format!("{path}.png")));
            }
        }
        let mut package =
            pack(&self.task, recipe, &self.tokenizer, &self.pipeline, model, self.golden.clone())?;
        package.manifest.metrics = manifest.metrics.clone();
        package.save(&RealFs, &run.model())?;
        replay(&run.model(), &package.manifest.golden, device)?;
        let samples = self.task.samples(model)?;
        let about = self.about(recipe, &run.name(), &samples);
        let limits =
            vec!["What it writes or predicts follows its training text: it may be wrong, and repeat what is in it.".to_owned()];
        end(run, manifest, report, started, |manifest| {
            model_card(&run.name(), recipe, manifest, about, drawn, limits)
        })
    }
}

/// A package of a model: low-rank additions are put into its weights, and its golden outputs are those of the result.
///
/// # Errors
/// Golden inputs that the model can't read.
pub fn pack<T: LanguageTask>(
    task: &T,
    recipe: &Recipe,
    tokenizer: &Tokenizer,
    pipeline: &TextPipeline,
    model: &T::Model,
    golden: Vec<Map<String, Value>>,
) -> Result<Package, TrainError> {
    let plain = task.plain(model);
    let pipeline = TextPipeline { config: task.config(&plain), ..pipeline.clone() };
    let preprocessing = serde_json::to_value(&pipeline).expect("a pipeline has string keys alone");
    let mut packed = PackageManifest::new(env!("CARGO_PKG_VERSION"), recipe_json(recipe), preprocessing);
    let column = |name: &str| ColumnSchema { name: name.into(), kind: "text".into(), description: None };
    packed.inputs = vec![column(recipe.text.as_ref().map_or("text", |t| t.column.as_str()))];
    packed.outputs = vec![column(if recipe.task.writes_text() { "text" } else { "prediction" })];
    packed.golden = Golden { outputs: task.golden(&plain, &golden)?, inputs: golden };
    let tensors = tensor_entries(export_weights(&plain));
    let files = BTreeMap::from([
        (TOKENIZER.to_owned(), tokenizer.to_json()),
        (TOKENIZER_CONFIG.to_owned(), tokenizer.config_json()),
    ]);
    Ok(Package { manifest: packed, weights: TensorFile { tensors, scalars: Scalars::default() }, files })
}

/// Loads the package from disk and compares with what the trained model gave.
fn replay(dir: &Path, golden: &Golden, device: &Device) -> Result<(), TrainError> {
    let found = TextPredictor::load(dir, device)?.golden(&golden.inputs)?;
    same_golden("the model package", dir, &found, &golden.outputs)
}

/// The beginnings of a few documents, of the test split where there is one.
///
/// # Errors
/// Files that can't be read again.
pub fn golden(source: &TextSource) -> Result<Vec<Map<String, Value>>, TrainError> {
    let part = if source.corpus.count(Part::Test) > 0 { Part::Test } else { Part::Train };
    let mut rows = Vec::new();
    for batch in source.corpus.documents(part)? {
        for document in batch? {
            // An answer alone may be a single token, of which nothing is predicted.
            let prompt = document.prompt.iter().flat_map(|prompt| prompt.chars());
            let text: String = prompt.chain(document.text.chars()).take(GOLDEN_LENGTH).collect();
            rows.push(Map::from_iter([("text".to_owned(), text.into())]));
            if rows.len() == GOLDEN {
                return Ok(rows);
            }
        }
    }
    Ok(rows)
}

/// What every data file was when it was read.
///
/// # Errors
/// Files that can't be read again.
pub fn fingerprints(source: &TextSource) -> Result<Vec<Fingerprint>, TrainError> {
    let of = |source: &jishi_data::Source| match source {
        jishi_data::Source::File(path) => Ok(Fingerprint::of_file(path)?),
        jishi_data::Source::Builtin(builtin) => {
            Ok(Fingerprint::of_bytes(&format!("builtin:{}", builtin.name), builtin.bytes()))
        }
        jishi_data::Source::Memory { name, bytes } => Ok(Fingerprint::of_bytes(name, bytes)),
    };
    source.corpus.sources().iter().map(of).collect()
}
