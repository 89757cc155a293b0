//! The table task, from rows to predictions.

use burn::module::Module;
use burn::tensor::Device;
use jishi_data::{Pipeline, ReadOptions, Source, Storage};
use jishi_models::{Context, NamedTensor, TableModel, export_weights, import_weights};
use jishi_recipe::Recipe;
use jishi_tasks::{Direction, Predictions, SplitName, TASKS, TableTask, Task, TaskError};
use serde_json::{Value, json};

use crate::close;

const SPLITS: [SplitName; 3] = [SplitName::Train, SplitName::Validation, SplitName::Test];

/// 120 rows: two numbers, a category, a boolean, a price, a class of three and one of two.
fn csv() -> String {
    let mut text = String::from("size,age,town,garden,price,grade,sold\n");
    for i in 0..120_usize {
        let (size, age) = ((i * 37 % 101) as f64 / 10.0, i * 53 % 89);
        let town = ["north", "south", "west", "east"][i * 7 % 11 % 4];
        let price = 50_000.0 + 9_000.0 * size - 100.0 * age as f64 + (i * 29 % 17) as f64 * 500.0;
        let grade = ["low", "middle", "high"][((size / 4.0) as usize + i % 5 / 4).min(2)];
        let sold = if (i * 31) % 10 < 3 { "yes" } else { "no" };
        text += &format!("{size},{age},{town},{},{price},{grade},{sold}\n", i % 3 == 0);
    }
    text
}

fn recipe(task: &str, target: &str, model: Value, loss: Value) -> Recipe {
    let ignore: Vec<&str> = ["price", "grade", "sold"].into_iter().filter(|c| *c != target).collect();
    serde_json::from_value(json!({
        "name": "test", "task": task, "model": model, "train": {"loss": loss}, "evaluate": {"batch": 7},
        "data": {"source": "rows.csv", "target": target, "ignore": ignore},
    }))
    .expect("a recipe")
}

fn prepare(recipe: &Recipe) -> Result<TableTask, TaskError> {
    let source = Source::Memory { name: "rows.csv".into(), bytes: csv().into_bytes().into() };
    let table = jishi_data::read(&[source], &ReadOptions::from_recipe(&recipe.data)?).expect("a table");
    let rows: Vec<u32> = (0..120).collect();
    let (train, rest) = rows.split_at(72);
    let (validation, test) = rest.split_at(24);
    let bins = Some(5);
    let pipeline = Pipeline::fit(&table, train, &recipe.data, recipe.task, bins).expect("a pipeline");
    let splits = [train, validation, test]
        .map(|r| pipeline.encode(&table, r, true, Storage::Memory, None).expect("rows"));
    TableTask::new(recipe, &pipeline, splits, &Device::flex().autodiff())
}

fn model(recipe: &Recipe, task: &TableTask) -> TableModel {
    TableModel::init(&recipe.model, task.model_shape(), 1, &Device::flex().autodiff()).expect("a model")
}

fn models() -> Vec<Value> {
    vec![
        json!({"family": "linear"}),
        json!({"family": "mlp", "hidden": [8, 8]}),
        json!({"family": "mlp", "hidden": [8], "members": 3, "numbers": {"embedding": "piecewise-linear", "width": 4}}),
        json!({"family": "mlp", "hidden": [8], "numbers": {"embedding": "periodic"}, "categories": {"encoding": "embedding"}}),
        json!({"family": "ft-transformer", "layers": 2, "width": 8, "heads": 2}),
    ]
}

fn problems() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("regression", "price", json!({})),
        ("regression", "price", json!({"name": "huber", "delta": 0.5})),
        ("classification", "grade", json!({})),
        ("classification", "grade", json!({"name": "focal", "class_weights": "balanced"})),
        (
            "classification",
            "grade",
            json!({"label_smoothing": 0.1, "class_weights": {"low": 1.0, "middle": 2.0, "high": 0.5}}),
        ),
        ("classification", "sold", json!({})),
        (
            "classification",
            "sold",
            json!({"name": "binary-cross-entropy", "class_weights": "balanced", "label_smoothing": 0.1}),
        ),
    ]
}

fn each(mut test: impl FnMut(&str, &Recipe, &TableTask, &TableModel)) {
    for config in models() {
        for (task, target, loss) in problems() {
            let recipe = recipe(task, target, config.clone(), loss.clone());
            let task = prepare(&recipe).expect("a task");
            test(&format!("{config} {target} {loss}"), &recipe, &task, &model(&recipe, &task));
        }
    }
}

fn training_loss(task: &TableTask, model: &TableModel, rows: &[u32], first: usize) -> (f64, f64) {
    let batch = task.batch(rows);
    let loss = task.loss(model, &batch, &mut Context::training(3, 5, first));
    (f64::from(loss.into_scalar::<f32>()), task.weight(&batch))
}

#[test]
fn batches_in_parts_have_the_loss_of_the_whole() {
    let dropout = |mut config: Value| {
        if config["family"] != "linear" {
            config["dropout"] = json!(0.3);
        }
        config
    };
    for config in models() {
        for (name, target, loss) in problems() {
            let recipe = recipe(name, target, dropout(config.clone()), loss.clone());
            let task = prepare(&recipe).expect("a task");
            let model = model(&recipe, &task);
            let rows: Vec<u32> = (0..32).map(|i| i * 29 % 72).collect();
            let mean = |size: usize| {
                let parts = rows.chunks(size).enumerate();
                let parts = parts.map(|(i, part)| training_loss(&task, &model, part, i * size));
                let (sum, weight) = parts.fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
                sum / weight
            };
            let whole = mean(32);
            close(&[mean(16), mean(8)], &[whole, whole], 2e-6, &format!("{config} {target} {loss}"));
        }
    }
}

#[test]
fn evaluation_is_prediction_and_metrics_and_has_the_training_loss() {
    each(|name, recipe, task, model| {
        for split in SPLITS {
            let rows = task.split(split);
            let evaluation = task.evaluate(model, split).expect("finite");
            let (predictions, loss) = task.head().predict(model, rows).expect("finite");
            assert_eq!(evaluation.metrics, task.head().metrics(&predictions, rows), "{name}");
            assert_eq!(Some(evaluation.loss), loss, "{name}");
            if let Predictions::Probabilities { classes, values } = &predictions {
                assert_eq!(values.len(), rows.rows * classes.len(), "{name}");
                assert!(
                    values.chunks(classes.len()).all(|r| (r.iter().sum::<f64>() - 1.0).abs() < 1e-6),
                    "{name}"
                );
            }
        }
        let no_dropout = match &recipe.model {
            jishi_recipe::Model::FtTransformer(c) => c.attention_dropout == 0.0 && c.dropout == 0.0,
            _ => true,
        };
        if no_dropout {
            let rows: Vec<u32> = (0..72).collect();
            let (sum, weight) = training_loss(task, model, &rows, 0);
            let evaluation = task.evaluate(model, SplitName::Train).expect("finite");
            close(&[evaluation.loss], &[sum / weight], 2e-6, name);
        }
    });
}

#[test]
fn the_evaluation_batch_does_not_matter() {
    each(|name, recipe, task, model| {
        let mut other = recipe.clone();
        other.evaluate.batch = 1000;
        let whole = prepare(&other).expect("a task").evaluate(model, SplitName::Test).expect("finite");
        let parts = task.evaluate(model, SplitName::Test).expect("finite");
        close(&[parts.loss], &[whole.loss], 1e-5, name);
        for (metric, value) in &whole.metrics {
            close(&[parts.metrics[metric]], &[*value], 1e-4, &format!("{name} {metric}"));
        }
    });
}

#[test]
fn predictions_are_in_the_targets_own_unit() {
    // All-zero weights predict the mean of the training target: the metrics are known by hand.
    let recipe = recipe("regression", "price", json!({"family": "linear", "init": "zeros"}), json!({}));
    let task = prepare(&recipe).expect("a task");
    let model = model(&recipe, &task);
    let prices = |split| task.split(split).target_raw().to_vec();
    let train = prices(SplitName::Train);
    let mean = train.iter().sum::<f64>() / train.len() as f64;
    let (predictions, _) = task.head().predict(&model, task.split(SplitName::Test)).expect("finite");
    let Predictions::Numbers(values) = &predictions else { panic!("numbers") };
    close(values, &[mean; 24], 1e-6, "the mean");
    let test = prices(SplitName::Test);
    let rmse = (test.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / 24.0).sqrt();
    let evaluation = task.evaluate(&model, SplitName::Test).expect("finite");
    close(&[evaluation.metrics["rmse"]], &[rmse], 1e-6, "rmse");
    // The scaled training target has variance 1.
    let evaluation = task.evaluate(&model, SplitName::Train).expect("finite");
    close(&[evaluation.loss, evaluation.metrics["r2"]], &[1.0, 0.0], 1e-5, "loss and r2");
}

#[test]
fn no_knowledge_is_equal_probabilities() {
    for (target, loss, classes) in [
        ("grade", json!({}), 3.0),
        ("sold", json!({"name": "binary-cross-entropy"}), 2.0),
        ("sold", json!({"name": "cross-entropy", "class_weights": "balanced"}), 2.0_f64),
    ] {
        let recipe = recipe("classification", target, json!({"family": "linear", "init": "zeros"}), loss);
        let task = prepare(&recipe).expect("a task");
        let evaluation = task.evaluate(&model(&recipe, &task), SplitName::Test).expect("finite");
        let expected = classes.ln();
        close(&[evaluation.loss, evaluation.metrics["log_loss"]], &[expected, expected], 1e-6, target);
    }
}

#[test]
fn a_member_ensemble_predicts_the_mean_of_its_members() {
    let config = json!({"family": "mlp", "hidden": [], "members": 2});
    let recipe = recipe("classification", "sold", config, json!({}));
    let task = prepare(&recipe).expect("a task");
    let model = model(&recipe, &task);
    // Weights zero; biases that give 1/2 and 3/4 for the second class.
    let zero = |t: &NamedTensor| NamedTensor { data: vec![0.0; t.data.len()], ..t.clone() };
    let mut weights: Vec<NamedTensor> = export_weights(&model).iter().map(zero).collect();
    let bias = weights.iter_mut().find(|t| t.name == "output.bias").expect("a bias");
    bias.data = vec![0.0, 0.0, 0.0, 3.0_f32.ln()];
    let model = import_weights(model, &weights).expect("the same model");
    let (predictions, loss) = task.head().predict(&model, task.split(SplitName::Test)).expect("finite");
    let Predictions::Probabilities { values, .. } = predictions else { panic!("probabilities") };
    close(&values[..2], &[0.375, 0.625], 1e-6, "mean of probabilities");
    let classes = task.split(SplitName::Test).target_class();
    let positive = classes.iter().filter(|c| **c == 1).count() as f64 / classes.len() as f64;
    let second = positive * -(0.75_f64.ln()) + (1.0 - positive) * -(0.25_f64.ln());
    close(&[loss.expect("targets")], &[(2.0_f64.ln() + second) / 2.0], 1e-6, "mean of losses");
}

#[test]
fn balanced_weights_are_those_of_scikit_learn() {
    let loss = json!({"class_weights": "balanced"});
    let recipe = recipe("classification", "grade", json!({"family": "linear"}), loss);
    let task = prepare(&recipe).expect("a task");
    let classes = task.split(SplitName::Train).target_class();
    let counts: Vec<f64> =
        (0..3).map(|class| classes.iter().filter(|c| **c == class).count() as f64).collect();
    assert!(counts.iter().all(|c| *c > 0.0) && counts[0] != counts[1]);
    for row in 0..5 {
        let expected = 72.0 / (3.0 * counts[classes[row] as usize]);
        close(&[task.weight(&task.batch(&[row as u32]))], &[expected], 1e-6, "n / (classes · count)");
    }
    let all: Vec<u32> = (0..72).collect();
    close(&[task.weight(&task.batch(&all))], &[72.0], 1e-5, "they add up to the rows");
}

#[test]
fn a_prediction_that_is_not_finite_is_an_error() {
    each(|name, _, task, model| {
        let mut weights = export_weights(model);
        let last = weights.iter_mut().find(|w| w.name == "output.bias").expect("a bias");
        last.data.fill(f32::NAN);
        let broken = import_weights(model.clone(), &weights).expect("the same model");
        let found = task.evaluate(&broken, SplitName::Test);
        assert!(matches!(found, Err(TaskError::NonFinite { row: 0, .. })), "{name}: {found:?}");
    });
}

#[test]
fn evaluation_leaves_the_model_as_it_is() {
    each(|name, _, task, model| {
        let before = export_weights(model);
        task.evaluate(model, SplitName::Validation).expect("finite");
        assert_eq!(export_weights(model), before, "{name}");
        let plain = task.evaluate(&model.valid(), SplitName::Validation).expect("finite");
        assert_eq!(plain, task.evaluate(model, SplitName::Validation).expect("finite"), "{name}");
    });
}

#[test]
fn losses_that_do_not_fit_the_classes_are_refused() {
    let refuse = |target: &str, loss: Value| {
        let recipe = recipe("classification", target, json!({"family": "linear"}), loss);
        let Err(TaskError::Bad(problems)) = prepare(&recipe) else { panic!("must be refused") };
        problems.to_string()
    };
    assert!(refuse("grade", json!({"name": "binary-cross-entropy"})).contains("two classes"));
    let text = refuse("grade", json!({"class_weights": {"low": 1.0, "hgih": 2.0, "high": 1.0}}));
    assert!(text.contains("`hgih`") && text.contains("`middle`"), "{text}");
}

#[test]
fn intervals_hold_the_metrics_themselves() {
    let recipe = recipe("regression", "price", json!({"family": "linear"}), json!({}));
    let task = prepare(&recipe).expect("a task");
    let rows = task.split(SplitName::Test);
    let (predictions, _) = task.head().predict(&model(&recipe, &task), rows).expect("finite");
    let metrics = task.head().metrics(&predictions, rows);
    let intervals = task.head().intervals(&predictions, rows, 500, 1);
    assert_eq!(intervals.len(), metrics.len());
    for (name, [low, high]) in intervals {
        assert!(low <= metrics[&name] && metrics[&name] <= high, "{name}");
    }
}

#[test]
fn every_task_is_listed_with_its_directions() {
    for info in TASKS {
        assert_eq!(jishi_tasks::registry::task(info.name).name, info.name);
        assert!(info.metrics.iter().any(|m| m.name == info.primary_metric));
        assert_eq!(info.direction("loss"), Direction::Lower);
    }
    let recipe = recipe("classification", "sold", json!({"family": "linear"}), json!({}));
    let task = prepare(&recipe).expect("a task");
    assert_eq!(task.direction("auroc"), Direction::Higher);
    assert_eq!(task.direction("log_loss"), Direction::Lower);
}
