//! `jishi train`: a recipe becomes a run folder with a checked model package.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use burn::tensor::Device;
use jishi_recipe::{Parsed, Problem, Problems, Recipe};
use jishi_runs::manifest::{DefaultUsed, Fingerprint, Planned, RunManifest, Status, now};
use jishi_runs::run::{OnExisting, RunDir};
use jishi_runs::{EventWriter, MetricLog};

use crate::error::TrainError;
use crate::job::check;
use crate::job::finish;
use crate::job::prepare::Source;
use crate::job::report::{TrainReport, over_folds};
use crate::job::subject::{Finished, Subject};
use crate::job::work::{Folds, Work, with_prepared};
use crate::output::{Observer, Outputs};
use crate::trainer::{Ended, Trainer};

/// A training job.
pub struct TrainJob<'a> {
    /// The recipe and where its values came from.
    pub parsed: &'a Parsed,
    /// Folder that the recipe's relative paths start from.
    pub base: &'a Path,
    /// Folder that holds the runs.
    pub root: &'a Path,
    /// Name of the run in place of the recipe's: the one to go on with, or of a folder without a run.
    pub run: Option<&'a str>,
    /// Go on with the last run of this recipe, or with `run`.
    pub resume: bool,
    /// Where to compute: a device with autodiff.
    pub device: &'a Device,
    /// Set to ask for a checkpoint and an end.
    pub stop: &'a AtomicBool,
}

/// Trains a recipe, or each of its folds.
///
/// # Errors
/// Everything that is wrong with the data, before anything is written; a loss that is not finite; a full disk.
pub fn train(job: &TrainJob<'_>, observer: &mut dyn Observer) -> Result<TrainReport, TrainError> {
    let started = Instant::now();
    with_prepared(&job.parsed.recipe, job.base, job.device, Train { job, started, observer })
}

/// Training a recipe, or each of its folds.
struct Train<'a, 'o> {
    job: &'a TrainJob<'a>,
    started: Instant,
    observer: &'o mut dyn Observer,
}

impl Work for Train<'_, '_> {
    type Output = TrainReport;

    fn run<S: Subject>(self, mut folds: Folds<'_, S>) -> Result<TrainReport, TrainError> {
        let Self { job, started, observer } = self;
        if job.parsed.recipe.data.split.folds.is_some() {
            return cross_validate(job, folds, started, observer);
        }
        let subject = folds.prepare(0)?;
        let place = (job.root, job.run.unwrap_or(&job.parsed.recipe.name));
        train_one(job, &subject, &folds.files, place, started, observer)
    }
}

fn cross_validate<S: Subject>(
    job: &TrainJob<'_>,
    mut data: Folds<'_, S>,
    started: Instant,
    observer: &mut dyn Observer,
) -> Result<TrainReport, TrainError> {
    let recipe = &job.parsed.recipe;
    data.try_all()?;
    let files = data.files.clone();
    let run = open_run(job, &files, job.root, job.run.unwrap_or(&recipe.name))?;
    let mut manifest = begin(job, &run, &files);
    run.write_manifest(&manifest)?;
    run.write("recipe.toml", jishi_recipe::to_toml(recipe).as_bytes())?;
    let count = data.count;
    let mut folds = Vec::new();
    for i in 0..count {
        let name = format!("fold-{}", i + 1);
        let folder = run.file("folds");
        if let Some(done) = finished_fold(job, &folder.join(&name))? {
            folds.push(done);
            continue;
        }
        observer.say(&format!("fold {} of {count}", i + 1));
        let prepared = data.prepare(i)?;
        let report = train_one(job, &prepared, &files, (&folder, &name), Instant::now(), observer)?;
        let interrupted = report.status == "interrupted";
        folds.push(report);
        if interrupted {
            manifest.end(Status::Interrupted { reason: "asked to stop".into() });
            run.write_manifest(&manifest)?;
            break;
        }
    }
    let mut report = folds[folds.len() - 1].clone();
    report.run = run.name();
    report.path = run.path().to_owned();
    report.intervals.clear();
    report.metrics.clear();
    for split in ["validation", "test"] {
        let metrics: Vec<_> = folds.iter().filter_map(|f| f.metrics.get(split).cloned()).collect();
        if metrics.is_empty() {
            continue;
        }
        let (mean, spread) = over_folds(&metrics);
        report.metrics.insert(split.into(), mean);
        report.spread.insert(split.into(), spread);
    }
    report.seconds = started.elapsed().as_secs_f64();
    report.peak_memory = jishi_runs::manifest::peak_memory();
    report.data_share = None;
    report.folds = folds;
    if report.status != "interrupted" {
        finish::write_folds(&run, &mut manifest, &report)?;
    }
    Ok(report)
}

/// The report of a fold that an earlier call has finished.
fn finished_fold(job: &TrainJob<'_>, path: &Path) -> Result<Option<TrainReport>, TrainError> {
    let report = path.join(finish::REPORT);
    if !job.resume || !report.is_file() {
        return Ok(None);
    }
    finish::read_report(&report).map(Some)
}

pub(crate) fn train_one<S: Subject>(
    job: &TrainJob<'_>,
    subject: &S,
    data: &[Fingerprint],
    (root, name): (&Path, &str),
    started: Instant,
    observer: &mut dyn Observer,
) -> Result<TrainReport, TrainError> {
    let recipe = &job.parsed.recipe;
    let model = subject.model(recipe, job.device)?;
    let mut trainer = Trainer::new(subject.task(), &recipe.train, model);
    if !job.resume {
        check::enough_disk(root, check::disk(recipe, &mut trainer)?)?;
    }
    let run = open_run(job, data, root, name)?;

    let mut manifest = begin(job, &run, data);
    manifest.parameters = trainer.parameters() as u64;
    let summary = subject.ledger().summary();
    manifest.rows = summary.splits;
    manifest.rows.insert("read".into(), summary.rows_read);
    manifest.rows.insert("dropped".into(), summary.dropped);
    run.write_manifest(&manifest)?;
    run.write("recipe.toml", jishi_recipe::to_toml(recipe).as_bytes())?;
    let mut ledger = Vec::new();
    // Writing to memory does not fail.
    let _ = subject.ledger().write_jsonl(&mut ledger);
    run.write("ledger.jsonl", &ledger)?;

    let checkpoints = run.checkpoints(recipe.train.checkpoint.keep);
    let mut log = MetricLog::open(&run.metrics())?;
    let mut resumed = None;
    if job.resume {
        let scan = checkpoints.latest_good()?;
        for torn in &scan.torn {
            observer.say(&format!("skipped a damaged checkpoint: {torn}"));
        }
        if let Some(good) = scan.good {
            trainer.restore(good.step, |name| good.files.get(name).cloned())?;
            resumed = Some(good.step);
        }
        log.truncate_to(trainer.progress().log_bytes)?;
        let from = resumed.map_or("the start".to_owned(), |step| format!("step {step}"));
        observer.say(&format!("resuming {} from {from}", run.path().display()));
    }
    let events = EventWriter::create(&run.tensorboard(), resumed.map(|step| step + 1))?;
    manifest.plan = Some(Planned {
        steps: trainer.plan().total_steps as u64,
        batch: recipe.train.batch as u64,
        from: trainer.progress().step as u64,
        began: now(),
    });
    run.write_manifest(&manifest)?;

    observer.begin(&run.name(), trainer.plan(), subject.primary_metric());
    let mut outputs = Outputs {
        log: Some(log),
        tensorboard: Some(events),
        checkpoints: Some(checkpoints),
        samples: Some(run.file("samples")),
        last_checkpoint: resumed,
        observer,
    };
    let ended = trainer.run(&mut outputs, job.stop);
    let synced = outputs.sync();
    outputs.observer.end();

    manifest.steps = trainer.progress().step as u64;
    manifest.epochs = trainer.epoch();
    manifest.best_step = trainer.best_step().map(|s| s as u64);
    let trained = started.elapsed().as_secs_f64();
    manifest.wall_seconds += trained;
    manifest.step_seconds += trainer.time().steps.as_secs_f64();
    manifest.data_seconds += trainer.time().data.as_secs_f64();
    let ended = match ended.and_then(|ended| synced.map(|_| ended).map_err(Into::into)) {
        Ok(ended) => ended,
        Err(error) => {
            manifest.end(Status::Failed { reason: error.to_string() });
            // A full disk is why the run failed: that the manifest can't be written either is no news.
            let _ = run.write_manifest(&manifest);
            return Err(error);
        }
    };
    let mut report = TrainReport {
        run: run.name(),
        path: run.path().to_owned(),
        status: String::new(),
        task: manifest.task.clone(),
        family: manifest.family.clone(),
        parameters: trainer.parameters(),
        steps: trainer.progress().step,
        epochs: trainer.epoch(),
        best_step: trainer.best_step(),
        rows: manifest.rows.clone(),
        metrics: Default::default(),
        intervals: Default::default(),
        spread: Default::default(),
        folds: Vec::new(),
        seconds: trained,
        data_share: manifest.data_share(),
        peak_memory: None,
    };
    if ended == Ended::Interrupted {
        report.status = "interrupted".into();
        manifest.end(Status::Interrupted { reason: "asked to stop".into() });
        run.write_manifest(&manifest)?;
    } else {
        report.status = if ended == Ended::StoppedEarly { "stopped-early" } else { "finished" }.into();
        let model = trainer.result()?;
        let finished = Finished { run: &run, recipe, model: &model, device: job.device };
        subject.finish(&finished, &mut manifest, &mut report, started)?;
    }
    report.seconds = started.elapsed().as_secs_f64();
    report.peak_memory = manifest.peak_memory;
    Ok(report)
}

/// Creates the run's folder, or finds the one to go on with.
fn open_run(job: &TrainJob<'_>, data: &[Fingerprint], root: &Path, name: &str) -> Result<RunDir, TrainError> {
    // Folds have names of their own.
    let exact = job.run.is_some() && root == job.root;
    let found = match (job.resume, exact) {
        (false, true) => return Ok(RunDir::create(root, name, OnExisting::Fill)?),
        (false, false) => None,
        (true, true) => Some(RunDir::open(root, name)?.path().to_owned()),
        (true, false) => last_run(root, name)?,
    };
    let Some(path) = found else {
        return Ok(RunDir::create(root, name, OnExisting::Number)?);
    };
    let mut run = RunDir::open(root, &path.to_string_lossy())?;
    run.lock()?;
    run.sweep()?;
    let manifest = run.manifest()?;
    let mut problems = differences(&manifest.recipe, &recipe_json(&job.parsed.recipe), run.path());
    // The same files may be named from another folder.
    let content = |all: &[Fingerprint]| -> Vec<_> {
        let one = |f: &Fingerprint| (f.bytes, f.sha256.clone(), f.modified.clone());
        all.iter().map(one).collect()
    };
    if content(&manifest.data) != content(data) {
        problems.push(
            Problem::new("the data has changed since the run began")
                .file(run.path())
                .help("a resumed run must see the same rows; train a new run without `--resume`"),
        );
    }
    Problems(problems).into_result()?;
    Ok(run)
}

/// The newest run called `name`, `name-2`, ….
fn last_run(root: &Path, name: &str) -> Result<Option<PathBuf>, TrainError> {
    let numbered = |n: &str| n == name || n.strip_prefix(name).is_some_and(is_number);
    let runs = jishi_runs::run::list(root)?;
    Ok(runs.into_iter().rfind(|r| r.manifest.is_ok() && numbered(&r.name)).map(|r| r.path))
}

fn is_number(suffix: &str) -> bool {
    suffix.strip_prefix('-').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Keys of two resolved recipes that differ, as problems of a resume.
fn differences(old: &serde_json::Value, new: &serde_json::Value, path: &Path) -> Vec<Problem> {
    let mut keys = Vec::new();
    walk("", old, new, &mut keys);
    keys.into_iter()
        .map(|(key, old, new)| {
            Problem::new(format!("`{key}` was {old} when the run began and is {new} now"))
                .file(path)
                .help("resume with the same recipe, or train a new run without `--resume`")
        })
        .collect()
}

fn walk(
    prefix: &str,
    old: &serde_json::Value,
    new: &serde_json::Value,
    out: &mut Vec<(String, String, String)>,
) {
    use serde_json::Value;
    if let (Value::Object(a), Value::Object(b)) = (old, new) {
        let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for key in keys {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            walk(&path, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), out);
        }
    } else if old != new {
        out.push((prefix.to_owned(), old.to_string(), new.to_string()));
    }
}

pub(crate) fn recipe_json(recipe: &Recipe) -> serde_json::Value {
    serde_json::to_value(recipe).expect("a recipe has string keys alone")
}

fn begin(job: &TrainJob<'_>, run: &RunDir, data: &[Fingerprint]) -> RunManifest {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let recipe = recipe_json(&job.parsed.recipe);
    let mut manifest = RunManifest::begin(&run.name(), env!("CARGO_PKG_VERSION"), recipe, threads);
    if let Ok(old) = run.manifest() {
        manifest.created = old.created;
        manifest.wall_seconds = old.wall_seconds;
        manifest.step_seconds = old.step_seconds;
        manifest.data_seconds = old.data_seconds;
    }
    manifest.data = data.to_vec();
    manifest.base =
        std::path::absolute(if job.base.as_os_str().is_empty() { Path::new(".") } else { job.base }).ok();
    manifest.defaults = job
        .parsed
        .provenance
        .iter()
        .map(|p| DefaultUsed { key: p.key.clone(), value: p.value.clone(), from: p.from.clone() })
        .collect();
    manifest
}

/// What every data file was when it was read.
pub(crate) fn fingerprints(source: &Source) -> Result<Vec<Fingerprint>, TrainError> {
    source
        .table
        .files
        .iter()
        .map(|file| {
            let name = file.to_string_lossy();
            match name.strip_prefix("builtin:").and_then(jishi_data::builtin::get) {
                Some(builtin) => Ok(Fingerprint::of_bytes(&name, builtin.bytes())),
                None => Ok(Fingerprint::of_file(file)?),
            }
        })
        .collect()
}
