//! Resume is exact: for every family, and through real run folders.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use jishi_recipe::{Origin, Parsed, parse};
use jishi_train::job::report::TrainReport;
use jishi_train::job::train::{TrainJob, train};
use jishi_train::job::verify::verify;
use jishi_train::{Event, Observer, Plan, Silent, TrainError};

fn recipe(model: &str, train: &str) -> Parsed {
    let text = format!(
        r#"
        name = "resume"
        task = "regression"
        [data]
        source = "builtin:ames"
        target = "Sale_Price"
        features = ["Gr_Liv_Area", "Lot_Area", "Year_Built", "Neighborhood", "Central_Air"]
        split = {{ validation = 0.1, test = 0.7 }}
        [model]
        {model}
        [train]
        {train}
        [evaluate]
        bootstrap = 20
        plots = false
        "#
    );
    parse(&text, &Origin::File("resume.toml".into()), &[]).unwrap_or_else(|p| panic!("{p}"))
}

fn device() -> Device {
    Device::flex().autodiff()
}

/// A run takes 19 steps an epoch; the check stops in the middle of one, at its end, and around validation.
fn verified(model: &str, train: &str) {
    let parsed = recipe(model, train);
    let report = verify(&parsed.recipe, Path::new(""), 45, &device()).unwrap_or_else(|e| panic!("{e}"));
    assert!(report.interruptions.len() >= 5, "{report:?}");
    assert!(report.ok, "{report:#?}");
}

#[test]
fn linear_with_momentum_and_plateau() {
    verified(
        r#"family = "linear""#,
        r#"optimizer = { name = "sgd", learning_rate = 0.05, momentum = 0.9, nesterov = true }
           schedule = { name = "plateau", patience = 0, gamma = 0.5 }
           epochs = 3"#,
    );
}

#[test]
fn mlp_with_everything_random() {
    verified(
        r#"family = "mlp"
           hidden = [16, 16]
           dropout = 0.3
           norm = "layer"
           residual = true
           numbers = { embedding = "piecewise-linear", bins = 8, width = 4 }
           categories = { encoding = "embedding", width = 4 }"#,
        r#"schedule = { name = "one-cycle" }
           ema = 0.99
           clip = 0.5
           epochs = 3
           early_stopping = { patience = 5, metric = "rmse" }"#,
    );
}

#[test]
fn batch_norm_statistics_travel() {
    verified(
        r#"family = "mlp"
           hidden = [16]
           norm = "batch"
           activation = "gelu""#,
        r#"optimizer = { name = "muon" }
           epochs = 3"#,
    );
}

#[test]
fn ensemble_members_travel() {
    verified(
        r#"family = "mlp"
           hidden = [8]
           members = 3
           numbers = { embedding = "periodic", frequencies = 4, width = 4 }"#,
        r#"optimizer = { name = "rmsprop", momentum = 0.5, centered = true, learning_rate = 1e-3 }
           epochs = 3"#,
    );
}

#[test]
fn bfloat16_factors_are_rounded_alike() {
    verified(
        r#"family = "mlp"
           hidden = [32, 16]
           norm = "layer""#,
        r#"precision = "bf16"
           epochs = 3"#,
    );
}

#[test]
fn ft_transformer_with_dropout() {
    verified(
        r#"family = "ft-transformer"
           layers = 1
           width = 16
           heads = 2"#,
        r#"schedule = { name = "cosine", warmup = 5 }
           epochs = 3"#,
    );
}

/// Asks for a stop at a step.
pub(crate) struct StopAt<'a> {
    pub(crate) step: usize,
    pub(crate) stop: &'a AtomicBool,
}

impl Observer for StopAt<'_> {
    fn begin(&mut self, _: &str, _: Plan, _: &'static str) {}

    fn event(&mut self, event: &Event<'_>) {
        if let Event::Step { step, .. } = event {
            self.stop.store(*step == self.step, Ordering::Relaxed);
        }
    }

    fn end(&mut self) {}

    fn say(&mut self, _: &str) {}
}

fn run(
    parsed: &Parsed,
    root: &Path,
    resume: bool,
    stop_at: Option<usize>,
) -> Result<TrainReport, TrainError> {
    let (stop, device) = (AtomicBool::new(false), device());
    let job = TrainJob { parsed, base: Path::new(""), root, run: None, resume, device: &device, stop: &stop };
    match stop_at {
        Some(step) => train(&job, &mut StopAt { step, stop: &stop }),
        None => train(&job, &mut Silent),
    }
}

fn mlp() -> Parsed {
    recipe(
        "family = \"mlp\"\nhidden = [16]\ndropout = 0.2",
        "epochs = 4\nlog_every = 3\nearly_stopping = { patience = 10 }\nema = 0.9\ncheckpoint = { every_steps = 7 }",
    )
}

#[test]
fn a_stopped_run_ends_as_one_that_was_never_stopped() {
    let parsed = mlp();
    let (straight, stopped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run(&parsed, straight.path(), false, None).unwrap();
    // Stopped twice: in the middle of an epoch, and at its end; between log lines both times.
    let first = run(&parsed, stopped.path(), false, Some(10)).unwrap();
    assert_eq!((first.status.as_str(), first.steps), ("interrupted", 10));
    assert_eq!(run(&parsed, stopped.path(), true, Some(38)).unwrap().steps, 38);
    let last = run(&parsed, stopped.path(), true, None).unwrap();
    assert_eq!(last.status, "finished");
    assert_eq!(last.run, "resume");
    for file in ["metrics.jsonl", "model/model.safetensors", "ledger.jsonl", "recipe.toml", "curves.svg"] {
        let read = |root: &Path| std::fs::read(root.join("resume").join(file)).unwrap();
        assert_eq!(read(straight.path()), read(stopped.path()), "{file} differs");
    }
}

#[test]
fn a_resume_with_another_recipe_names_the_keys() {
    let root = tempfile::tempdir().unwrap();
    run(&mlp(), root.path(), false, Some(5)).unwrap();
    let mut other = mlp();
    other.recipe.train.batch = 16;
    let error = run(&other, root.path(), true, None).unwrap_err().to_string();
    assert!(error.contains("`train.batch` was 32 when the run began and is 16 now"), "{error}");
}

#[test]
fn folds_resume_at_the_fold_that_was_stopped() {
    let mut parsed = mlp();
    parsed.recipe.data.split.folds = Some(2);
    parsed.recipe.train.epochs = Some(1);
    let (straight, stopped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let whole = run(&parsed, straight.path(), false, None).unwrap();
    assert_eq!(whole.folds.len(), 2);
    run(&parsed, stopped.path(), false, Some(4)).unwrap();
    let resumed = run(&parsed, stopped.path(), true, None).unwrap();
    assert_eq!(whole.metrics, resumed.metrics);
    assert_eq!(whole.spread, resumed.spread);
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint() {
    let parsed = recipe(
        "family = \"linear\"",
        "optimizer = { name = \"sgd\", learning_rate = 1e4 }\nepochs = 20\ncheckpoint = { every_steps = 1 }",
    );
    let root = tempfile::tempdir().unwrap();
    let error = run(&parsed, root.path(), false, None).unwrap_err();
    let TrainError::NonFinite { step, loss, last_good } = error else { panic!("{error}") };
    assert!(!loss.is_finite());
    assert_eq!(last_good, Some(step as u64 - 1));
    let run = jishi_runs::RunDir::open(root.path(), "resume").unwrap();
    assert_eq!(run.manifest().unwrap().status.word(), "failed");
    assert!(run.checkpoints(2).latest_good().unwrap().good.is_some());
}
