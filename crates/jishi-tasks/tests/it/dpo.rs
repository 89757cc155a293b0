//! tests/fixtures/dpo.py, and what pairs of answers are by themselves.

use std::sync::Arc;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Gradients, Tensor};
use jishi_data::text::tokenizer::{SpecialSet, Tokenizer, TrainOptions, train};
use jishi_models::{CausalConfig, CausalModel, Context, LanguageConfig, LanguageModel, NamedTensor};
use jishi_recipe::{Recipe, TokenizerKind};
use jishi_tasks::language::DpoTask;
use jishi_tasks::language::dpo::AnswerPairs;
use jishi_tasks::{SplitName, Task, TaskError};
use serde_json::{Value, json};

use crate::{close, fixture, integers, numbers};

fn device() -> Device {
    Device::flex().autodiff()
}

fn task(beta: f64, smoothing: f64) -> DpoTask {
    let recipe: Recipe = serde_json::from_value(json!({
        "name": "test", "task": "dpo", "data": {"source": "pairs.csv"}, "text": {"rejected": "rejected"},
        "model": {"family": "pretrained", "from": "before"},
        "train": {"loss": {"beta": beta, "label_smoothing": smoothing}},
    }))
    .expect("a recipe");
    let options = jishi_recipe::Tokenizer { kind: TokenizerKind::Byte, ..Default::default() };
    let tokenizer: Tokenizer =
        train([], &TrainOptions { recipe: options, special: SpecialSet::Causal }).expect("a tokenizer");
    DpoTask::new(&recipe, &Arc::new(tokenizer), None, &device())
}

fn model(fixture: &Value, which: &str) -> CausalModel {
    let sizes = CausalConfig::from_hf(&fixture["config"]).expect("sizes");
    let tensors = fixture[which].as_array().expect("tensors").iter().map(|tensor| NamedTensor {
        name: tensor["name"].as_str().expect("a name").to_owned(),
        shape: integers(&tensor["shape"]).into_iter().map(|n| n as usize).collect(),
        data: numbers(&tensor["data"]).into_iter().map(|x| x as f32).collect(),
        trainable: true,
    });
    let fresh = CausalModel::init(&sizes, 1, &device());
    let reference = fresh.reference();
    reference.load_whole(fresh, tensors.collect()).expect("weights")
}

fn pairs(fixture: &Value) -> AnswerPairs {
    let mut pairs = AnswerPairs::default();
    for pair in fixture["pairs"].as_array().expect("pairs") {
        let prompt = integers(&pair["prompt"]);
        let after = |answer: &str| [prompt.clone(), integers(&pair[answer])].concat();
        pairs.push(prompt.len(), &after("chosen"), &after("rejected"));
    }
    pairs
}

/// A step of plain gradient descent.
struct Step(Gradients);

impl ModuleMapper for Step {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = param.val().grad(&self.0) else { return param };
        param.map(|old| (old.inner() - gradient * 0.01).autodiff().require_grad())
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn losses_gradients_and_metrics_equal_pytorch() {
    let fixture = fixture("dpo.json");
    let (policy, reference, pairs) =
        (model(&fixture, "policy"), model(&fixture, "reference"), pairs(&fixture));
    for (model, which) in [(&policy, "policy"), (&reference, "reference")] {
        let found = task(0.1, 0.0).log_probabilities(model, &pairs).expect("finite");
        let found: Vec<f64> = found.as_flattened().iter().map(|x| f64::from(*x)).collect();
        close(&found, &numbers(&fixture[format!("{which}_log_probabilities")]), 1e-5, which);
    }
    let cases = fixture["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 3);
    for case in cases {
        let (beta, smoothing) = (numbers(&case["beta"])[0], numbers(&case["smoothing"])[0]);
        let (what, expected) = (format!("β {beta}, smoothing {smoothing}"), numbers(&case["loss"]));
        let empty = task(beta, smoothing);
        let preferences = empty.against(&reference, pairs.clone()).expect("finite");
        let task = empty.with_splits([Some(preferences.clone()), Some(preferences), None]);
        assert_eq!(task.rows(SplitName::Train), 3);
        let batch = task.batch(&[0, 1, 2]);
        let loss = task.loss(&policy, &batch, &mut Context::training(1, 1, 0)) / task.weight(&batch);
        close(&[f64::from(loss.clone().into_scalar::<f32>())], &expected, 1e-5, &what);
        let gradient = policy.output().grad(&loss.backward()).expect("a gradient").into_data();
        let gradient: Vec<f64> = gradient.iter::<f32>().map(f64::from).collect();
        close(&gradient, &numbers(&case["gradient"]), 1e-5, &format!("gradient, {what}"));

        let measured = task.evaluate(&policy, SplitName::Validation).expect("finite");
        let margins = numbers(&case["margins"]);
        let right: Vec<f64> = margins.iter().map(|m| f64::from(u8::from(*m > 0.0))).collect();
        assert!(right.contains(&0.0) && right.contains(&1.0), "the fixture has both: {margins:?}");
        close(&[measured.loss], &expected, 1e-5, &what);
        let log_probabilities = |which: &str| numbers(&fixture[format!("{which}_log_probabilities")]);
        let ratios = log_probabilities("policy").into_iter().zip(log_probabilities("reference"));
        let chosen: Vec<f64> = ratios.step_by(2).map(|(p, r)| beta * (p - r)).collect();
        let found = ["margin", "accuracy", "chosen_reward"].map(|name| measured.metrics[name]);
        close(&found, &[mean(&margins), mean(&right), mean(&chosen)], 1e-5, &what);
    }
}

#[test]
fn a_step_along_the_gradient_raises_what_was_chosen() {
    let fixture = fixture("dpo.json");
    let (reference, pairs) = (model(&fixture, "reference"), pairs(&fixture));
    let task = task(0.3, 0.0);
    let preferences = task.against(&reference, pairs).expect("finite");
    let task = task.with_splits([Some(preferences.clone()), Some(preferences), None]);
    // The model that is its own reference: ln 2 whatever β, and no opinion.
    let before = task.evaluate(&reference, SplitName::Validation).expect("finite");
    close(
        &[before.loss, before.metrics["accuracy"], before.metrics["margin"]],
        &[2f64.ln(), 0.5, 0.0],
        1e-9,
        "before",
    );
    let batch = task.batch(&[0, 1, 2]);
    let loss = task.loss(&reference, &batch, &mut Context::training(1, 1, 0));
    let moved = reference.clone().map(&mut Step(loss.backward()));
    let after = task.evaluate(&moved, SplitName::Validation).expect("finite");
    assert!(after.loss < before.loss && after.metrics["margin"] > 0.0, "{after:?}");
}

#[test]
fn parts_of_a_batch_drop_what_the_whole_drops() {
    let fixture = fixture("dpo.json");
    let reference = model(&fixture, "reference");
    let mut sizes = CausalConfig::from_hf(&fixture["config"]).expect("sizes");
    sizes.set_dropout(0.3);
    let dropping = CausalModel::init(&sizes, 5, &device());
    let empty = task(0.5, 0.0);
    let preferences = empty.against(&reference, pairs(&fixture)).expect("finite");
    let task = empty.with_splits([Some(preferences), None, None]);
    let pass = |first: usize| Context::training(1, 2, first);
    let rows = [2, 0, 1];
    let sum = |most: usize| {
        let parts = task.parts(&rows, most, &pass).into_iter().enumerate();
        let losses = parts.map(|(part, batch)| task.loss(&dropping, &batch, &mut pass(part * most)));
        losses.map(|loss| f64::from(loss.into_scalar::<f32>())).sum::<f64>()
    };
    close(&[sum(1), sum(2)], &[sum(3), sum(3)], 1e-5, "parts");
    let plain: f64 =
        task.loss(&dropping, &task.batch(&rows), &mut Context::evaluation()).into_scalar::<f32>().into();
    assert!((plain - sum(3)).abs() > 1e-3, "nothing was dropped");
}

#[test]
fn a_model_that_gives_no_numbers_is_refused_with_the_pair() {
    let fixture = fixture("dpo.json");
    let mut broken = fixture.clone();
    // The embedding of token 7, which the second pair alone begins with.
    broken["policy"][0]["data"][7 * 4] = json!(1e300);
    let found = task(0.1, 0.0).log_probabilities(&model(&broken, "policy"), &pairs(&fixture));
    assert!(matches!(found, Err(TaskError::NonFinite { .. })), "{found:?}");
}

#[test]
#[should_panic(expected = "a prompt and two answers")]
fn an_answer_without_tokens_is_no_pair() {
    AnswerPairs::default().push(2, &[1, 2, 3], &[1, 2]);
}
