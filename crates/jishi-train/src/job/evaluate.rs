//! `jishi evaluate`: a package against held-out rows of its run, or against a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use jishi_data::LedgerSummary;
use jishi_data::image::ImageCorpus;
use jishi_data::text::corpus::Part;
use jishi_recipe::{Domain, Problem, Recipe, TaskName};
use jishi_runs::manifest::RunManifest;
use jishi_runs::run::RunDir;
use jishi_tasks::{Measured, SplitName};
use serde::Serialize;

use crate::error::TrainError;
use crate::job::language::{self, TextPredictor, TextSource};
use crate::job::predict::Predictor;
use crate::job::prepare::Source;
use crate::job::report::{Intervals, Metrics, measure, of_measured};
use crate::job::train::fingerprints;
use crate::job::vision::{self, AtWork, ImageGenerator};

/// What an evaluation gives.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvaluationReport {
    /// Folder of the package.
    pub model: PathBuf,
    /// What was evaluated: `validation`, `test` or the file's path.
    pub data: String,
    /// Rows evaluated.
    pub rows: usize,
    /// Rows dropped, and why.
    pub ledger: LedgerSummary,
    /// Metrics by split; a file counts as `test`.
    pub metrics: BTreeMap<String, Metrics>,
    /// 95 % bootstrap intervals by split.
    pub intervals: BTreeMap<String, Intervals>,
}

/// Evaluates a package on a file with a target column.
///
/// # Errors
/// A damaged package; a file that does not fit it.
pub fn on_file(
    model: &Path,
    file: &Path,
    ignore_extra: bool,
    device: &Device,
) -> Result<EvaluationReport, TrainError> {
    let domain = domain_of(model)?;
    if domain == Some(Domain::Texts) {
        let predictor = TextPredictor::load(model, device)?;
        let mut recipe = predictor.recipe.clone();
        recipe.data.split = recipe.data.split.whole();
        let mut source = TextSource::from_sources(&recipe, &[jishi_data::Source::File(file.to_owned())])?;
        return text(&predictor, model, &mut source, Part::Train, "test", file.display().to_string());
    }
    if domain == Some(Domain::Images) {
        let predictor = vision::load(model, device)?;
        let corpus = predictor.package().read(file)?;
        let rows: Vec<u32> = (0..corpus.pictures.len() as u32).collect();
        return images(&*predictor, model, &corpus, &rows, "test", file.display().to_string());
    }
    let predictor = Predictor::load(model, device)?;
    let table = predictor.read(jishi_data::Source::File(file.to_owned()), true, ignore_extra)?;
    let (rows, ledger) = predictor.usable(&table, true)?;
    evaluate(&predictor, model, &table, &rows, ledger.summary(), "test", file.display().to_string())
}

/// Evaluates the package of a run on one of the run's own splits.
///
/// # Errors
/// Data that has changed since the run; a split without rows.
pub fn on_split(run: &RunDir, split: SplitName, device: &Device) -> Result<EvaluationReport, TrainError> {
    let model = jishi_runs::package::of_run(run)?;
    let manifest = run.manifest()?;
    let changed = || changed(run);
    let domain = domain_of(&model)?;
    if domain == Some(Domain::Texts) {
        let predictor = TextPredictor::load(&model, device)?;
        let mut source = TextSource::from_sources(&predictor.recipe, &sources(&manifest)?)?;
        if language::finish::fingerprints(&source)? != manifest.data {
            return Err(changed());
        }
        return text(
            &predictor,
            &model,
            &mut source,
            Part::ALL[split as usize],
            split.name(),
            split.name().into(),
        );
    }
    if domain == Some(Domain::Images) {
        let predictor = vision::load(&model, device)?;
        let (corpus, rows) = images_of(run, &predictor.package().recipe, split)?;
        return images(&*predictor, &model, &corpus, &rows, split.name(), split.name().to_owned());
    }
    let predictor = Predictor::load(&model, device)?;
    let source = Source::from_files(&predictor.recipe, &sources(&manifest)?)?;
    if fingerprints(&source)? != manifest.data {
        return Err(changed());
    }
    let splits = source.splits(&predictor.recipe)?;
    let splits = &splits[fold(run).min(splits.len() - 1)];
    let rows = match split {
        SplitName::Train => &splits.train,
        SplitName::Validation => &splits.validation,
        SplitName::Test => &splits.test,
    };
    let summary = source.ledger.summary();
    evaluate(&predictor, &model, &source.table, rows, summary, split.name(), split.name().to_owned())
}

fn changed(run: &RunDir) -> TrainError {
    let problem = Problem::new("the data has changed since the run was trained");
    TrainError::Bad(problem.file(run.path()).help("evaluate the new data with `--data PATH`").into())
}

/// Which fold a run is, from 0: its folder is called fold-K.
fn fold(run: &RunDir) -> usize {
    run.name().rsplit_once("fold-").and_then(|(_, k)| k.parse::<usize>().ok()).unwrap_or(1).max(1) - 1
}

/// The images that a run was trained on, and those of a split.
fn images_of(run: &RunDir, recipe: &Recipe, split: SplitName) -> Result<(ImageCorpus, Vec<u32>), TrainError> {
    let manifest = run.manifest()?;
    let corpus = vision::source::again(recipe, &manifest.data)?;
    if vision::source::fingerprints(&corpus) != manifest.data {
        return Err(changed(run));
    }
    let mut splits = corpus.splits(&recipe.data.split)?;
    let place = fold(run).min(splits.len() - 1);
    let rows = std::mem::take(&mut splits[place][split as usize]);
    Ok((corpus, rows))
}

/// What a generator is compared with.
#[derive(Debug, Clone, Copy)]
pub enum Real<'a> {
    /// Held-out images of its run.
    Split(&'a RunDir, SplitName),
    /// Images of a folder.
    Folder(&'a Path),
}

/// Measures how near images of a generator, or those of the folder `others`, are to real ones.
///
/// # Errors
/// A damaged package; no classifier to judge by; data that has changed; too few images.
pub fn on_images(
    model: &Path,
    real: Real<'_>,
    others: Option<&Path>,
    device: &Device,
) -> Result<EvaluationReport, TrainError> {
    let generator = ImageGenerator::load(model, device)?;
    let (corpus, rows, split, data) = match real {
        Real::Split(run, split) => {
            let (corpus, rows) = images_of(run, &generator.recipe, split)?;
            (corpus, rows, split.name(), split.name().to_owned())
        }
        Real::Folder(folder) => {
            let corpus = generator.read(folder)?;
            let rows = (0..corpus.pictures.len() as u32).collect();
            (corpus, rows, "test", folder.display().to_string())
        }
    };
    if rows.is_empty() {
        return Err(nothing(&data));
    }
    let metrics = generator.evaluate(&corpus, &rows, others)?;
    Ok(EvaluationReport {
        model: model.to_owned(),
        data,
        rows: rows.len(),
        ledger: LedgerSummary { used: rows.len() as u64, ..corpus.ledger.summary() },
        metrics: BTreeMap::from([(split.to_owned(), metrics)]),
        intervals: BTreeMap::new(),
    })
}

/// The task of a package, where this version knows it.
///
/// # Errors
/// A damaged package.
pub fn task_of(model: &Path) -> Result<Option<TaskName>, TrainError> {
    let task = jishi_runs::package::task(model)?;
    Ok(serde_json::from_value(task.into()).ok())
}

/// What the task of a package learned from, where this version knows it.
///
/// # Errors
/// A damaged package.
pub fn domain_of(model: &Path) -> Result<Option<Domain>, TrainError> {
    Ok(task_of(model)?.map(TaskName::domain))
}

fn text(
    predictor: &TextPredictor,
    model: &Path,
    source: &mut TextSource,
    part: Part,
    split: &str,
    data: String,
) -> Result<EvaluationReport, TrainError> {
    let (measured, rows) = predictor.evaluate(source, part)?;
    Ok(report(measured, model, rows, source.corpus.ledger.summary(), split, data))
}

fn images(
    predictor: &dyn AtWork,
    model: &Path,
    corpus: &ImageCorpus,
    rows: &[u32],
    split: &str,
    data: String,
) -> Result<EvaluationReport, TrainError> {
    if rows.is_empty() {
        return Err(nothing(&data));
    }
    let measured = predictor.evaluate(corpus, rows)?;
    let ledger = LedgerSummary { used: rows.len() as u64, ..corpus.ledger.summary() };
    Ok(report(measured, model, rows.len(), ledger, split, data))
}

/// The report of an evaluation.
fn report(
    measured: Measured,
    model: &Path,
    rows: usize,
    ledger: LedgerSummary,
    split: &str,
    data: String,
) -> EvaluationReport {
    let (metrics, intervals, _) = of_measured(measured);
    let intervals = Some(intervals).filter(|i| !i.is_empty());
    EvaluationReport {
        model: model.to_owned(),
        data,
        rows,
        ledger,
        metrics: BTreeMap::from([(split.to_owned(), metrics)]),
        intervals: intervals.map(|i| (split.to_owned(), i)).into_iter().collect(),
    }
}

fn nothing(data: &str) -> TrainError {
    let problem = Problem::new(format!("there is no row to evaluate in {data}"));
    problem.help("evaluate another split, or a file with `--data PATH`").into()
}

fn sources(manifest: &RunManifest) -> Result<Vec<jishi_data::Source>, TrainError> {
    let names: Vec<&str> = manifest.data.iter().map(|d| d.file.as_str()).collect();
    Ok(jishi_data::resolve_names(&names, Path::new(""))?)
}

fn evaluate(
    predictor: &Predictor,
    model: &Path,
    table: &jishi_data::Table,
    rows: &[u32],
    ledger: LedgerSummary,
    split: &str,
    data: String,
) -> Result<EvaluationReport, TrainError> {
    if rows.is_empty() {
        return Err(nothing(&data));
    }
    let encoded = predictor.encode(table, rows, true)?;
    let (predictions, loss) = predictor.predict(&encoded)?;
    let (metrics, intervals) = measure(&predictor.recipe, predictor.head(), &predictions, loss, &encoded);
    let ledger = LedgerSummary { used: rows.len() as u64, ..ledger };
    Ok(EvaluationReport {
        model: model.to_owned(),
        data,
        rows: rows.len(),
        ledger,
        metrics: BTreeMap::from([(split.to_owned(), metrics)]),
        intervals: BTreeMap::from([(split.to_owned(), intervals)]),
    })
}
