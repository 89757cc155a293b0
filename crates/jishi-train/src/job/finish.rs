//! The end of a run: evaluation, pictures, model package, model card, manifest.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use burn::tensor::Device;
use jishi_data::Ledger;
use jishi_models::{TableModel, export_weights};
use jishi_recipe::{Domain, Problem, Recipe, TaskName};
use jishi_runs::card::{About, Card};
use jishi_runs::manifest::{Metric, RunManifest, Status};
use jishi_runs::package::{ColumnSchema, Golden, Package, PackageManifest};
use jishi_runs::plots::{self, Curves, FoldMetric, Scene};
use jishi_runs::run::RunDir;
use jishi_runs::tensors::{Scalars, TensorFile};
use jishi_runs::{RealFs, RunError};
use jishi_tasks::registry::primary_metric;
use jishi_tasks::{Measured, Predictions, SplitName, TableTask, Task};

use crate::error::TrainError;
use crate::job::pictures;
use crate::job::predict::{Predictor, class_weight_scalars, outputs};
use crate::job::prepare::Prepared;
use crate::job::report::{TrainReport, measure, of_measured};
use crate::job::subject::{Finished, Subject};
use crate::trainer::tensor_entries;

/// File of a run that holds its report.
pub const REPORT: &str = "evaluation.json";

/// Largest relative difference between the outputs of the trained model and of its package. Both compute the
/// same; batches of other sizes may round in another order.
const GOLDEN_TOLERANCE: f64 = 1e-4;

/// A run that has trained on a table.
struct Ended<'a> {
    run: &'a RunDir,
    recipe: &'a Recipe,
    prepared: &'a Prepared,
    model: &'a TableModel,
    device: &'a Device,
}

impl Subject for Prepared {
    type Task = TableTask;

    fn task(&self) -> &TableTask {
        &self.task
    }

    fn primary_metric(&self) -> &'static str {
        self.task.primary_metric()
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn inputs(&self) -> Vec<(&'static str, u64)> {
        let shape = self.task.model_shape();
        vec![("numbers", shape.numbers as u64), ("categories", shape.cardinalities.len() as u64)]
    }

    fn notes(&self) -> Vec<String> {
        self.pipeline.notes().to_vec()
    }

    fn model(&self, recipe: &Recipe, device: &Device) -> Result<TableModel, TrainError> {
        Ok(TableModel::init(&recipe.model, self.task.model_shape(), recipe.train.seed, device)?)
    }

    fn finish(
        &self,
        finished: &Finished<'_, TableModel>,
        manifest: &mut RunManifest,
        report: &mut TrainReport,
        started: Instant,
    ) -> Result<(), TrainError> {
        let Finished { run, recipe, model, device } = *finished;
        finish(&Ended { run, recipe, prepared: self, model, device }, manifest, report, started)
    }
}

fn finish(
    finished: &Ended<'_>,
    manifest: &mut RunManifest,
    report: &mut TrainReport,
    started: Instant,
) -> Result<(), TrainError> {
    let Ended { run, recipe, prepared, device, .. } = finished;
    let mut shown = None;
    for split in [SplitName::Validation, SplitName::Test] {
        if prepared.task.rows(split) == 0 {
            continue;
        }
        let predictions = evaluate(finished, split, report)?;
        shown = Some((split, predictions));
    }
    manifest.metrics = with_intervals(report);
    let mut drawn = curves(run, recipe, manifest, "curves")?;
    if let Some((split, predictions)) = shown.as_ref().filter(|_| recipe.evaluate.plots) {
        let rows = prepared.task.split(*split);
        draw(run, pictures::evaluation(recipe.data.target(), split.name(), rows, predictions), &mut drawn)?;
    }
    let package = package(finished, manifest)?;
    package.save(&RealFs, &run.model())?;
    let golden = shown.as_ref().map(|(_, p)| outputs(p)).unwrap_or_default();
    replay(run, &golden, prepared, device)?;
    let card = |manifest: &RunManifest| card(finished, manifest, drawn);
    end(run, manifest, report, started, card)
}

/// Measures the splits that `measured` gives something for, and draws the curves and the last split's classes, of so many
/// `things`: titles and files of the pictures.
pub(crate) fn measure_splits<E: Into<TrainError>>(
    run: &RunDir,
    recipe: &Recipe,
    manifest: &mut RunManifest,
    report: &mut TrainReport,
    things: &str,
    measured: impl Fn(SplitName) -> Result<Option<Measured>, E>,
) -> Result<Vec<(String, String)>, TrainError> {
    let mut shown = None;
    for split in [SplitName::Validation, SplitName::Test] {
        let Some(measured) = measured(split).map_err(Into::into)? else { continue };
        let (metrics, intervals, classes) = of_measured(measured);
        report.metrics.insert(split.name().into(), metrics);
        if !intervals.is_empty() {
            report.intervals.insert(split.name().into(), intervals);
        }
        shown = classes.map(|classes| (split, classes));
    }
    manifest.metrics = with_intervals(report);
    let mut drawn = curves(run, recipe, manifest, "curves")?;
    if let Some((split, classes)) = shown.filter(|_| recipe.evaluate.plots) {
        let note = format!("{} split, {} {things}", split.name(), classes.actual.len());
        let pictures = pictures::of_classes(&note, &classes.names, &classes.actual, &classes.probabilities);
        draw(run, pictures, &mut drawn)?;
    }
    Ok(drawn)
}

/// Writes pictures into a run, and adds their titles and files.
pub(crate) fn draw(
    run: &RunDir,
    pictures: Vec<pictures::Picture>,
    drawn: &mut Vec<(String, String)>,
) -> Result<(), TrainError> {
    for picture in pictures {
        let path = format!("plots/{}", picture.name);
        write_scene(run, &path, &picture.scene)?;
        drawn.push((picture.title.to_owned(), format!("{path}.png")));
    }
    Ok(())
}

/// The last files of a run: model card, report, manifest.
pub(crate) fn end(
    run: &RunDir,
    manifest: &mut RunManifest,
    report: &mut TrainReport,
    started: Instant,
    card: impl FnOnce(&RunManifest) -> Card,
) -> Result<(), TrainError> {
    manifest.wall_seconds += started.elapsed().as_secs_f64() - report.seconds;
    manifest.end(Status::Finished);
    report.peak_memory = manifest.peak_memory;
    report.seconds = started.elapsed().as_secs_f64();
    run.write("README.md", card(manifest).to_markdown().as_bytes())?;
    write_report(run, report)?;
    run.write_manifest(manifest)?;
    Ok(())
}

fn evaluate(
    finished: &Ended<'_>,
    split: SplitName,
    report: &mut TrainReport,
) -> Result<Predictions, TrainError> {
    let Ended { recipe, prepared, model, .. } = finished;
    let head = prepared.task.head();
    let rows = prepared.task.split(split);
    let (predictions, loss) = head.predict(model, rows)?;
    let (metrics, intervals) = measure(recipe, head, &predictions, loss, rows);
    report.metrics.insert(split.name().into(), metrics);
    if !intervals.is_empty() {
        report.intervals.insert(split.name().into(), intervals);
    }
    Ok(predictions)
}

pub(crate) fn with_intervals(report: &TrainReport) -> BTreeMap<String, BTreeMap<String, Metric>> {
    let of = |split: &String, name: &String| report.intervals.get(split).and_then(|i| i.get(name)).copied();
    report
        .metrics
        .iter()
        .map(|(split, metrics)| {
            let metrics = metrics
                .iter()
                .map(|(name, value)| (name.clone(), Metric { value: *value, interval: of(split, name) }));
            (split.clone(), metrics.collect())
        })
        .collect()
}

/// Draws `curves.svg` and `curves.png`; gives the entries of the model card.
pub(crate) fn curves(
    run: &RunDir,
    recipe: &Recipe,
    manifest: &RunManifest,
    name: &str,
) -> Result<Vec<(String, String)>, TrainError> {
    let log = jishi_runs::log::read(&run.metrics())?;
    let curve = pictures::curve(&run.name(), &log, manifest.best_step);
    let scene = plots::curves(&Curves {
        title: run.name(),
        x_label: "epoch".into(),
        y_label: loss_label(recipe),
        runs: vec![curve],
    });
    write_scene(run, name, &scene)?;
    Ok(vec![("Training and validation loss".into(), format!("{name}.png"))])
}

/// What the loss is, for an axis.
pub fn loss_label(recipe: &Recipe) -> String {
    let word = serde_json::to_value(recipe.train.loss.name).ok();
    match (word.as_ref().and_then(|w| w.as_str()), recipe.task) {
        (Some("auto") | None, TaskName::Regression) => "loss (mse, scaled target)".into(),
        (Some(name), TaskName::Regression) => format!("loss ({name}, scaled target)"),
        (_, task) if task.contrasts() => "loss (contrastive)".into(),
        (_, TaskName::MaskedImageModeling) => "loss (mse of hidden pixels)".into(),
        (_, TaskName::Detection) => "loss (classes and boxes)".into(),
        (_, TaskName::ImageGeneration) => "loss of the critic".into(),
        (Some("auto") | None, _) => "loss (cross-entropy)".into(),
        (Some(name), _) => format!("loss ({name})"),
    }
}

pub(crate) fn write_scene(run: &RunDir, name: &str, scene: &Scene) -> Result<(), RunError> {
    run.write(&format!("{name}.svg"), scene.to_svg().as_bytes())?;
    run.write(&format!("{name}.png"), &scene.to_png())
}

fn package(finished: &Ended<'_>, manifest: &RunManifest) -> Result<Package, TrainError> {
    let Ended { prepared, model, .. } = finished;
    let pipeline = &prepared.pipeline;
    let preprocessing = serde_json::to_value(pipeline).expect("a pipeline has string keys alone");
    let mut packed = PackageManifest::new(env!("CARGO_PKG_VERSION"), manifest.recipe.clone(), preprocessing);
    packed.inputs = pipeline
        .features()
        .iter()
        .map(|f| ColumnSchema { name: f.column.clone(), kind: type_word(f.kind()), description: None })
        .collect();
    packed.outputs = output_schema(pipeline.target().column(), pipeline.classes());
    packed.metrics = manifest.metrics.clone();
    packed.golden = Golden { inputs: prepared.golden.clone(), outputs: Vec::new() };
    let mut scalars = Scalars::default();
    for (name, weight) in class_weight_scalars(prepared.task.head(), pipeline.classes()) {
        scalars.set(name, weight);
    }
    let tensors = tensor_entries(export_weights(*model));
    let mut package =
        Package { manifest: packed, weights: TensorFile { tensors, scalars }, files: BTreeMap::new() };
    // What the package itself gives for the golden rows, through the path that prediction takes.
    let predictor = Predictor::new(package.clone(), Path::new("model"), finished.device)?;
    package.manifest.golden.outputs = outputs(&predictor.predict_rows(&prepared.golden)?);
    Ok(package)
}

fn type_word(kind: jishi_recipe::ColumnType) -> String {
    serde_json::to_value(kind).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

fn output_schema(target: &str, classes: &[String]) -> Vec<ColumnSchema> {
    let column = |name: String, kind: &str, description: String| ColumnSchema {
        name,
        kind: kind.into(),
        description: Some(description),
    };
    if classes.is_empty() {
        return vec![column("prediction".into(), "number", format!("`{target}`, in its own unit"))];
    }
    let mut columns = vec![column("prediction".into(), "category", format!("the most probable `{target}`"))];
    columns.extend(
        classes.iter().map(|c| column(format!("probability_{c}"), "number", format!("probability of `{c}`"))),
    );
    columns
}

/// Loads the package from disk and compares: with its own golden outputs, and with what the trained model gave.
fn replay(
    run: &RunDir,
    trained: &[Vec<f64>],
    prepared: &Prepared,
    device: &Device,
) -> Result<(), TrainError> {
    let predictor = Predictor::load(&run.model(), device)?;
    let found = outputs(&predictor.predict_rows(&prepared.golden)?);
    let golden = &predictor.package.manifest.golden.outputs;
    let of_test = !prepared.splits.test.is_empty();
    for (row, values) in found.iter().enumerate() {
        let expected = [Some(&golden[row]), trained.get(row).filter(|_| of_test)];
        for expected in expected.into_iter().flatten() {
            if differ(values, expected) {
                let message = format!(
                    "the model package predicts {values:?} for golden row {row}, the trained model {expected:?}"
                );
                return Err(TrainError::Bad(
                    Problem::new(message)
                        .file(run.model())
                        .help("this is an error in Jishi: please report it")
                        .into(),
                ));
            }
        }
    }
    Ok(())
}

/// Refuses outputs for golden inputs that are not the expected ones. `what` gave them, and is in `place`.
///
/// # Errors
/// Names the first one whose outputs differ by more than rounding.
pub fn same_golden(
    what: &str,
    place: &Path,
    found: &[Vec<f64>],
    expected: &[Vec<f64>],
) -> Result<(), TrainError> {
    let differs = |(f, e): (&Vec<f64>, &Vec<f64>)| differ(f, e);
    let Some(row) = found.iter().zip(expected).position(differs) else { return Ok(()) };
    let message =
        format!("{what} gives {:?} for golden input {row} where {:?} is expected", found[row], expected[row]);
    Err(Problem::new(message).file(place).help("this is an error in Jishi: please report it").into())
}

/// Whether outputs differ from those that are expected by more than rounding.
pub(crate) fn differ(found: &[f64], expected: &[f64]) -> bool {
    // Nothing is near what is no number.
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= GOLDEN_TOLERANCE * b.abs().max(1e-3);
    found.len() != expected.len() || !found.iter().zip(expected).all(near)
}

fn card(finished: &Ended<'_>, manifest: &RunManifest, drawn: Vec<(String, String)>) -> Card {
    let Ended { run, recipe, prepared, .. } = finished;
    let pipeline = &prepared.pipeline;
    let about = About::Table {
        target: recipe.data.target().to_owned(),
        classes: pipeline.classes().to_vec(),
        features: pipeline.features().iter().map(|f| f.column.clone()).collect(),
    };
    let mut limits = vec![
        "It knows the range of its training data alone: predictions far outside of it are guesses.".to_owned(),
        "Intervals are of the sampling of test rows; they do not cover a change of the world that the data comes from."
            .to_owned(),
    ];
    limits.extend(pipeline.notes().iter().cloned());
    model_card(&run.name(), recipe, manifest, about, drawn, limits)
}

/// The card of any model, from its manifest and what is special to it.
pub(crate) fn model_card(
    name: &str,
    recipe: &Recipe,
    manifest: &RunManifest,
    about: About,
    plots: Vec<(String, String)>,
    limits: Vec<String>,
) -> Card {
    let setting = |key: &str| {
        let value = manifest.recipe.pointer(&format!("/{}", key.replace('.', "/")))?;
        (!value.is_null()).then(|| (key.to_owned(), words(value)))
    };
    let mut keys = vec!["model", "data.scale", "data.missing", "text", "tokenizer", "data.split"];
    keys.extend([
        "optimizer",
        "schedule",
        "loss",
        "epochs",
        "batch",
        "ema",
        "early_stopping",
        "seed",
        "precision",
    ]);
    let path = |key: &str| {
        if manifest.recipe["train"].get(key).is_some() { format!("train.{key}") } else { key.into() }
    };
    // What only tables have is not told of texts.
    let table = |key: &str| key.starts_with("data.") && key != "data.split";
    let tables = recipe.task.domain() == Domain::Tables;
    let keys = keys.into_iter().filter(|k| tables || !table(k));
    let mut settings: Vec<(String, String)> = keys.filter_map(|k| setting(&path(k))).collect();
    settings.push(("steps".into(), manifest.steps.to_string()));
    let rows = ["read", "dropped", "train", "validation", "test"];
    Card {
        name: name.to_owned(),
        description: recipe.description.clone(),
        task: manifest.task.clone(),
        family: manifest.family.clone(),
        about,
        sources: manifest.data.iter().map(|d| d.file.clone()).collect(),
        rows: rows.iter().filter_map(|k| Some(((*k).to_owned(), *manifest.rows.get(*k)?))).collect(),
        metrics: manifest.metrics.clone(),
        parameters: manifest.parameters,
        settings,
        plots,
        limits,
        jishi_version: manifest.jishi_version.clone(),
        created: manifest.created.clone(),
        environment: manifest.environment.clone(),
        wall_seconds: manifest.wall_seconds,
        data_share: manifest.data_share(),
        peak_memory: manifest.peak_memory,
    }
}

/// A setting as a person would write it: `name adamw, learning_rate 0.001`.
pub(crate) fn words(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let set = map.iter().filter(|(_, v)| !v.is_null() && v.as_object().is_none_or(|o| !o.is_empty()));
            let inner = |v: &Value| if v.is_object() { format!("({})", words(v)) } else { words(v) };
            set.map(|(key, v)| format!("{key} {}", inner(v))).collect::<Vec<_>>().join(", ")
        }
        Value::Array(list) => list.iter().map(words).collect::<Vec<_>>().join(" / "),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Writes what a cross-validation gave: the report, a picture of its first metric, and the manifest.
///
/// # Errors
/// Files that can't be written.
pub fn write_folds(run: &RunDir, manifest: &mut RunManifest, report: &TrainReport) -> Result<(), TrainError> {
    manifest.metrics = with_intervals(report);
    manifest.rows = report.rows.clone();
    manifest.parameters = report.parameters as u64;
    manifest.steps = report.folds.iter().map(|f| f.steps as u64).sum();
    manifest.epochs = report.epochs;
    manifest.wall_seconds = report.seconds;
    let primary = primary_metric(&report.task).unwrap_or("loss");
    let values: Vec<f64> =
        report.folds.iter().filter_map(|f| f.metrics.get("test")?.get(primary).copied()).collect();
    let name = format!("test {primary}");
    write_scene(run, "folds", &plots::fold_metrics(&FoldMetric { name: &name, values: &values }))?;
    write_report(run, report)?;
    manifest.end(Status::Finished);
    run.write_manifest(manifest)?;
    Ok(())
}

fn write_report(run: &RunDir, report: &TrainReport) -> Result<(), TrainError> {
    let text = serde_json::to_vec_pretty(report).expect("a report holds names and numbers alone");
    Ok(run.write(REPORT, &text)?)
}

/// Reads the report of a finished run.
///
/// # Errors
/// A file that is no report.
pub fn read_report(path: &Path) -> Result<TrainReport, TrainError> {
    let text = std::fs::read(path).map_err(|e| RunError::io(path, e))?;
    serde_json::from_slice(&text).map_err(|e| {
        let problem = Problem::new(format!("expected the report of a run: {e}"));
        TrainError::Bad(problem.file(path).help("train this fold again without `--resume`").into())
    })
}

#[cfg(test)]
mod tests {
    use super::{differ, words};

    #[test]
    fn outputs_differ_by_more_than_rounding() {
        assert!(!differ(&[1.0, 0.0], &[1.000_01, 1e-9]));
        assert!(differ(&[1.0], &[1.01]) && differ(&[1.0], &[1.0, 1.0]));
        assert!(differ(&[f64::NAN], &[1.0]) && differ(&[1.0], &[f64::NAN]));
    }

    #[test]
    fn settings_read_like_words() {
        let value = serde_json::json!({
            "family": "mlp", "hidden": [64, 32], "clip": null, "columns": {}, "numbers": { "bins": 8 }, "residual": false,
        });
        assert_eq!(words(&value), "family mlp, hidden 64 / 32, numbers (bins 8), residual false");
    }
}
