//! The contract that every model family passes, for a few configurations each: builds, forward has the
//! documented shape, gradients match finite differences, overfits one batch, export → import is identical,
//! same seed same answer, evaluation ignores dropout, and logits equal PyTorch's.

mod common;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use common::{Adam, close, gradients, values};
use jishi_models::{
    Context, ModelError, NamedTensor, TableInput, TableModel, TableShape, export_weights, import_weights,
    registry::FAMILIES, uses_one_hot,
};
use jishi_recipe::{Activation, Model, Precision};
use serde_json::Value;

const BATCH: usize = 12;

struct Case {
    name: String,
    config: Model,
    shape: TableShape,
}

fn case(json: &str, shape: &TableShape) -> Case {
    let config: Model = serde_json::from_str(json).expect("a model");
    let mut shape = shape.clone();
    if json.contains("piecewise") {
        shape.bin_edges = vec![vec![-1.5, -0.5, 0.5, 1.5], vec![-1.0, 1.0], vec![-2.0, 0.0, 2.0]];
    }
    Case { name: format!("{json} {:?}", shape.cardinalities), config, shape }
}

fn cases() -> Vec<Case> {
    let table = TableShape { numbers: 3, cardinalities: vec![4, 3], outputs: 2, bin_edges: vec![] };
    let numbers = TableShape { cardinalities: vec![], outputs: 1, ..table.clone() };
    let codes = TableShape { numbers: 0, outputs: 3, ..table.clone() };
    vec![
        case(r#"{"family":"linear"}"#, &table),
        case(r#"{"family":"linear","init":"zeros"}"#, &numbers),
        case(r#"{"family":"mlp","hidden":[8,8],"activation":"gelu"}"#, &table),
        case(
            r#"{"family":"mlp","hidden":[8,8],"activation":"tanh","norm":"layer","residual":true}"#,
            &numbers,
        ),
        case(r#"{"family":"mlp","hidden":[8,8],"activation":"silu","norm":"batch"}"#, &table),
        case(
            r#"{"family":"mlp","hidden":[8],"activation":"mish","numbers":{"embedding":"piecewise-linear","width":3}}"#,
            &table,
        ),
        case(
            r#"{"family":"mlp","hidden":[8],"activation":"gelu","numbers":{"embedding":"piecewise-linear","width":0},"categories":{"encoding":"embedding","width":3}}"#,
            &table,
        ),
        case(
            r#"{"family":"mlp","hidden":[8],"activation":"gelu","numbers":{"embedding":"periodic","width":3,"frequencies":4}}"#,
            &table,
        ),
        case(
            r#"{"family":"mlp","hidden":[8],"activation":"gelu","categories":{"encoding":"embedding","width":3}}"#,
            &codes,
        ),
        case(r#"{"family":"mlp","hidden":[8,8],"activation":"gelu","members":3}"#, &table),
        case(r#"{"family":"mlp","hidden":[],"members":2}"#, &numbers),
        case(
            r#"{"family":"ft-transformer","init":"torch","layers":2,"width":8,"heads":2,"activation":"gelu"}"#,
            &table,
        ),
        case(
            r#"{"family":"ft-transformer","init":"torch","layers":1,"width":8,"heads":2,"activation":"silu"}"#,
            &numbers,
        ),
        case(
            r#"{"family":"ft-transformer","init":"torch","layers":2,"width":8,"heads":4,"activation":"gelu"}"#,
            &codes,
        ),
    ]
}

/// Dropout off (`rate` 0) or on, whatever the family.
fn with_dropout(config: &Model, rate: f64) -> Model {
    let mut config = config.clone();
    match &mut config {
        Model::Mlp(c) => c.dropout = rate,
        Model::FtTransformer(c) => {
            (c.dropout, c.attention_dropout, c.residual_dropout) = (rate, rate, rate);
        }
        _ => {}
    }
    config
}

fn device() -> Device {
    Device::flex().autodiff()
}

fn build(case: &Case, dropout: f64, seed: u64) -> TableModel {
    TableModel::init(&with_dropout(&case.config, dropout), &case.shape, seed, &device())
        .expect("a valid model")
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

fn codes_tensor(values: Vec<i64>, shape: [usize; 2]) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

fn input(case: &Case, rows: usize) -> TableInput {
    let mut rng = jishi_models::Rng::new(11, 0);
    let shape = &case.shape;
    let codes: Vec<i64> =
        (0..rows).flat_map(|_| shape.cardinalities.clone()).map(|c| rng.below(c as u64) as i64).collect();
    let one_hot = uses_one_hot(&case.config);
    let width = if one_hot { shape.dense_width() } else { shape.numbers };
    let mut dense = Vec::new();
    for row in 0..rows {
        dense.extend((0..shape.numbers).map(|_| rng.normal()));
        for (column, &cardinality) in shape.cardinalities.iter().enumerate().filter(|_| one_hot) {
            let code = codes[row * shape.cardinalities.len() + column];
            dense.extend((1..cardinality as i64).map(|slot| f32::from(u8::from(slot == code))));
        }
    }
    TableInput {
        dense: tensor(dense, [rows, width]),
        codes: (!one_hot && !shape.cardinalities.is_empty())
            .then(|| codes_tensor(codes, [rows, shape.cardinalities.len()])),
    }
}

/// Mean squared distance to fixed targets, `[members · batch, outputs]`.
fn loss(model: &TableModel, input: TableInput, context: &mut Context) -> Tensor<1> {
    let y = model.forward(input, context);
    let [rows, outputs] = y.dims();
    let batch = rows / model.members();
    let targets: Vec<f32> = (0..rows)
        .flat_map(|r| (0..outputs).map(move |o| ((r % batch * 7 + o * 3) % 5) as f32 / 2.0 - 1.0))
        .collect();
    (y - tensor(targets, [rows, outputs])).square().mean()
}

fn evaluate(model: &TableModel, input: TableInput) -> Vec<f32> {
    values(model.valid().forward(input, &mut Context::evaluation()))
}

#[test]
fn every_family_has_cases() {
    for family in FAMILIES {
        let json = format!(r#"{{"family":"{}"}}"#, family.name);
        let model: Model = serde_json::from_str(&json).expect("a model");
        if !model.tasks().contains(&jishi_recipe::TaskName::Regression) {
            continue;
        }
        assert!(cases().iter().any(|c| c.name.contains(family.name)), "{}", family.name);
    }
}

#[test]
fn forward_has_the_documented_shape() {
    for case in cases() {
        let model = build(&case, 0.0, 1);
        for rows in [1, BATCH] {
            let y = model.forward(input(&case, rows), &mut Context::training(1, 0, 0));
            assert_eq!(y.dims(), [model.members() * rows, case.shape.outputs], "{}", case.name);
            assert!(values(y).iter().all(|v| v.is_finite()), "{}", case.name);
        }
    }
}

#[test]
fn fused_operations_give_what_composed_ones_give() {
    for case in cases() {
        let model = build(&case, 0.1, 1);
        let run = || {
            let y = model.forward(input(&case, BATCH), &mut Context::training(1, 0, 0));
            let loss = loss(&model, input(&case, BATCH), &mut Context::training(1, 0, 0));
            (values(y), gradients(&model, loss))
        };
        let (fused, composed) = (run(), jishi_kernels::ops::composed_only(run));
        let close = |found: &[f32], expected: &[f32], what: &str| {
            let size = expected.iter().fold(1e-3f32, |a, v| a.max(v.abs()));
            for (f, e) in found.iter().zip(expected) {
                assert!((f - e).abs() <= 1e-4 * size, "{}: {what}: {f} {e}", case.name);
            }
        };
        close(&fused.0, &composed.0, "output");
        assert_eq!(fused.1.len(), composed.1.len());
        for (f, e) in fused.1.iter().zip(&composed.1) {
            assert_eq!(f.is_some(), e.is_some(), "{}", case.name);
            close(f.as_deref().unwrap_or(&[]), e.as_deref().unwrap_or(&[]), "gradient");
        }
    }
}

#[test]
fn bfloat16_factors_change_results_and_gradients_a_little() {
    for case in cases() {
        let model = build(&case, 0.0, 1);
        let run = |precision| {
            let mut context = Context::training(1, 0, 0).with_precision(precision);
            let y = model.forward(input(&case, BATCH), &mut context);
            let loss = loss(&model, input(&case, BATCH), &mut context);
            (values(y), gradients(&model, loss))
        };
        let (y, dy) = run(Precision::F32);
        let (rounded, drounded) = run(Precision::Bf16);
        let size = y.iter().fold(0.0f32, |a, v| a.max(v.abs()));
        let near = y.iter().zip(&rounded).all(|(a, b)| (a - b).abs() <= 0.1 * size);
        // Zeros are zeros in any precision.
        assert!(near && (y != rounded || size == 0.0), "{}: {y:?} {rounded:?}", case.name);
        let given = |g: &[Option<Vec<f32>>]| g.iter().map(Option::is_some).collect::<Vec<_>>();
        assert_eq!(given(&dy), given(&drounded), "{}", case.name);
        assert!(drounded.iter().flatten().flatten().all(|g| g.is_finite()), "{}", case.name);
    }
}

/// Central differences in f32, for a random direction in every tensor: within 1 %, or 5e-4, at one of three
/// steps. A large step meets curvature and kinks, a small one the rounding of the loss.
#[test]
fn gradients_match_finite_differences() {
    for case in cases() {
        let model = build(&case, 0.1, 1);
        let tensors = export_weights(&model);
        let mut context = Context::training(5, 2, 0);
        let gradients = gradients(&model, loss(&model, input(&case, BATCH), &mut context));
        let mut rng = jishi_models::Rng::new(3, 0);
        for (i, tensor) in tensors.iter().enumerate().filter(|(_, t)| t.trainable) {
            let direction: Vec<f32> = tensor.data.iter().map(|_| rng.normal()).collect();
            let length = direction.iter().map(|d| d * d).sum::<f32>().sqrt();
            let at = |step: f32| {
                let mut moved = tensors.clone();
                for (w, d) in moved[i].data.iter_mut().zip(&direction) {
                    *w += step * d / length;
                }
                let model = import_weights(model.clone(), &moved).expect("the same model");
                // The same context: dropout draws the same masks.
                let loss = loss(&model, input(&case, BATCH), &mut Context::training(5, 2, 0));
                f64::from(loss.into_scalar::<f32>())
            };
            let gradient = gradients[i]
                .as_ref()
                .unwrap_or_else(|| panic!("{}: {} has no gradient", case.name, tensor.name));
            let expected =
                gradient.iter().zip(&direction).map(|(g, d)| f64::from(g * d / length)).sum::<f64>();
            let measured = [1e-2, 1e-3, 3e-4].map(|step| (at(step) - at(-step)) / f64::from(2.0 * step));
            assert!(
                measured.iter().any(|m| (m - expected).abs() <= 5e-4 + 1e-2 * expected.abs()),
                "{}: {} {measured:?} {expected}",
                case.name,
                tensor.name
            );
        }
    }
}

#[test]
fn overfits_one_batch() {
    for case in cases()
        .into_iter()
        .filter(|c| c.config != Model::Linear(Default::default()) && !c.name.contains(r#""hidden":[]"#))
    {
        let mut model = build(&case, 0.0, 1);
        let rows = if case.shape.numbers > 0 { 6 } else { 2 };
        let first = loss(&model, input(&case, rows), &mut Context::training(1, 0, 0)).into_scalar::<f32>();
        let mut last = first;
        let mut adam = Adam::with_decay(0.99);
        for step in 0..600 {
            let mut context = Context::training(1, step, 0);
            let loss = loss(&model, input(&case, rows), &mut context);
            last = loss.clone().into_scalar::<f32>();
            let gradients = gradients(&model, loss);
            model = adam.step(context.apply_updates(model), gradients);
        }
        if case.name.contains("zeros") {
            continue; // a linear model has no room for it; it only has to learn
        }
        assert!(last < 0.02 && last < first, "{}: {first} -> {last}", case.name);
    }
}

#[test]
fn a_linear_model_learns() {
    for case in
        cases().into_iter().filter(|c| c.name.contains("linear\"") || c.name.contains(r#""hidden":[]"#))
    {
        let mut model = build(&case, 0.0, 1);
        let before = loss(&model, input(&case, BATCH), &mut Context::evaluation()).into_scalar::<f32>();
        let mut adam = Adam::with_decay(0.99);
        for _ in 0..200 {
            let loss = loss(&model, input(&case, BATCH), &mut Context::training(1, 0, 0));
            let gradients = gradients(&model, loss);
            model = adam.step(model, gradients);
        }
        let loss = loss(&model, input(&case, BATCH), &mut Context::training(1, 0, 0));
        let after = loss.clone().into_scalar::<f32>();
        let norm = gradients(&model, loss).iter().flatten().flatten().map(|g| g * g).sum::<f32>().sqrt();
        assert!(after < 0.8 * before && norm < 0.05, "{}: {before} -> {after}, gradient {norm}", case.name);
    }
}

#[test]
fn exported_weights_give_an_identical_model() {
    for case in cases() {
        let model = build(&case, 0.0, 1);
        let other = build(&case, 0.0, 2);
        let weights = export_weights(&model);
        let loaded = import_weights(other, &weights).expect("the same structure");
        assert_eq!(export_weights(&loaded), weights, "{}", case.name);
        assert_eq!(
            evaluate(&loaded, input(&case, BATCH)),
            evaluate(&model, input(&case, BATCH)),
            "{}",
            case.name
        );
        assert_eq!(export_weights(&model.valid()), weights, "{}: outside training", case.name);
        // A loaded model still trains.
        let got = gradients(&loaded, loss(&loaded, input(&case, BATCH), &mut Context::training(1, 0, 0)));
        assert!(got.iter().zip(&weights).all(|(g, w)| g.is_some() == w.trainable), "{}", case.name);
    }
}

#[test]
fn weights_that_do_not_fit_are_all_named() {
    let case = &cases()[2];
    let model = build(case, 0.0, 1);
    let mut weights = export_weights(&model);
    let names: Vec<&str> = weights.iter().map(|w| w.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "layers.0.weight",
            "layers.0.bias",
            "layers.1.weight",
            "layers.1.bias",
            "output.weight",
            "output.bias"
        ]
    );
    weights[0].name = "layers.9.weight".into();
    weights[1].shape = vec![4, 2];
    weights[2].data.pop();
    weights.push(weights[5].clone());
    let Err(ModelError::Bad(problems)) = import_weights(model, &weights) else { panic!("must be refused") };
    let text = problems.to_string();
    for part in [
        "`layers.0.weight` of shape [8, 8] is missing",
        "`layers.9.weight` is not part",
        "`layers.0.bias` should have shape [8] and has [4, 2]",
        "`layers.1.weight` of shape [8, 8] holds 63 values",
        "`output.bias` is there twice",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_seed_decides() {
    for case in cases() {
        let run = |seed, dropout| {
            let y =
                build(&case, dropout, seed).forward(input(&case, BATCH), &mut Context::training(seed, 3, 0));
            values(y)
        };
        assert_eq!(run(1, 0.3), run(1, 0.3), "{}", case.name);
        if !case.name.contains("zeros") {
            assert_ne!(run(1, 0.3), run(2, 0.3), "{}", case.name);
        }
        if !case.name.contains("linear\"") && !case.name.contains(r#""hidden":[]"#) {
            assert_ne!(run(1, 0.3), run(1, 0.0), "{}: dropout does something", case.name);
        }
    }
}

#[test]
fn evaluation_ignores_dropout() {
    for case in cases() {
        let y = evaluate(&build(&case, 0.5, 1), input(&case, BATCH));
        assert_eq!(y, evaluate(&build(&case, 0.0, 1), input(&case, BATCH)), "{}", case.name);
    }
}

/// Dropout included; batch normalisation sees the rows of its part alone and is left out.
#[test]
fn parts_of_a_batch_give_the_outputs_of_the_whole() {
    for case in cases().into_iter().filter(|c| !c.name.contains("batch")) {
        let model = build(&case, 0.3, 1);
        let whole = values(model.forward(input(&case, 8), &mut Context::training(1, 4, 0)));
        let outputs = case.shape.outputs;
        for first in [0, 4] {
            let TableInput { dense, codes } = input(&case, 8);
            let part =
                TableInput { dense: dense.narrow(0, first, 4), codes: codes.map(|c| c.narrow(0, first, 4)) };
            let part = values(model.forward(part, &mut Context::training(1, 4, first)));
            for member in 0..model.members() {
                let expected = &whole[(member * 8 + first) * outputs..][..4 * outputs];
                let found = &part[member * 4 * outputs..][..4 * outputs];
                assert!(
                    expected.iter().zip(found).all(|(a, b)| (a - b).abs() < 1e-5),
                    "{}: {expected:?} {found:?}",
                    case.name
                );
            }
        }
    }
}

#[test]
fn members_of_an_ensemble_start_apart() {
    let table = TableShape { numbers: 3, cardinalities: vec![4, 3], outputs: 2, bin_edges: vec![] };
    let case = case(r#"{"family":"mlp","hidden":[8],"members":4}"#, &table);
    let weights = export_weights(&build(&case, 0.0, 1));
    let of = |name: &str| &weights.iter().find(|w| w.name == name).expect("there").data;
    assert!(of("layers.0.input_scale").iter().all(|r| r.abs() == 1.0));
    assert!(of("layers.0.input_scale").iter().any(|r| *r < 0.0));
    assert!(of("layers.0.output_scale").iter().all(|s| *s == 1.0));
    let bias = of("layers.0.bias");
    assert!(bias.chunks(8).all(|member| member == &bias[..8]));
    let head = of("output.weight");
    assert_ne!(head[..16], head[16..32]);
}

#[test]
fn a_layer_more_does_not_change_the_others() {
    let table = TableShape { numbers: 3, cardinalities: vec![], outputs: 2, bin_edges: vec![] };
    let weights = |json| export_weights(&build(&case(json, &table), 0.0, 1));
    let plain = weights(r#"{"family":"mlp","hidden":[8,8]}"#);
    let normed = weights(r#"{"family":"mlp","hidden":[8,8,8],"norm":"layer"}"#);
    for tensor in &plain[..4] {
        assert_eq!(Some(tensor), normed.iter().find(|t| t.name == tensor.name));
    }
}

#[test]
fn configurations_that_make_no_model_are_refused_with_all_reasons() {
    let table = TableShape { numbers: 3, cardinalities: vec![], outputs: 2, bin_edges: vec![] };
    let refuse = |json: &str, shape: &TableShape| {
        let config: Model = serde_json::from_str(json).expect("a model");
        let Err(ModelError::Bad(problems)) = TableModel::init(&config, shape, 1, &device()) else {
            panic!("{json} must be refused")
        };
        problems.to_string()
    };
    let text = refuse(r#"{"family":"mlp","hidden":[8,0],"members":0,"dropout":1.0,"init":"zeros"}"#, &table);
    for part in ["hidden", "members", "dropout", "zeros"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(
        refuse(r#"{"family":"mlp","numbers":{"embedding":"piecewise-linear"}}"#, &table).contains("edges")
    );
    assert!(
        refuse(r#"{"family":"mlp","numbers":{"embedding":"periodic","width":0}}"#, &table)
            .contains("periodic")
    );
    assert!(refuse(r#"{"family":"ft-transformer","width":10,"heads":4}"#, &table).contains("heads"));
    assert!(refuse(r#"{"family":"linear"}"#, &TableShape::default()).contains("no feature"));
}

// Against PyTorch: tests/fixtures/make.py.

fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).expect("a fixture")).expect("JSON")
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number") as f32).collect()
}

fn named(name: &str, value: &Value) -> NamedTensor {
    let shape =
        value["shape"].as_array().expect("a list").iter().map(|n| n.as_u64().expect("a size") as usize);
    NamedTensor { name: name.into(), shape: shape.collect(), data: floats(&value["data"]), trainable: true }
}

#[test]
fn logits_equal_pytorch() {
    let cases = fixture("logits.json");
    let cases = cases.as_array().expect("a list");
    assert!(cases.len() > 25);
    for case in cases {
        let name = &case["name"];
        let config: Model = serde_json::from_value(case["config"].clone()).expect("a model");
        let config = with_dropout(&config, 0.0);
        let shape: TableShape = serde_json::from_value(case["shape"].clone()).expect("a shape");
        let model = TableModel::init(&config, &shape, 1, &device()).expect("a valid model");
        let weights: Vec<NamedTensor> =
            case["weights"].as_object().expect("a map").iter().map(|(name, v)| named(name, v)).collect();
        let model = import_weights(model, &weights).unwrap_or_else(|e| panic!("{name}: {e}"));
        let dense = named("", &case["dense"]);
        let codes = case["codes"].as_array().expect("a list");
        let flat =
            codes.iter().flat_map(|r| r.as_array().expect("a list")).map(|c| c.as_i64().expect("a code"));
        let columns = shape.cardinalities.len();
        let input = TableInput {
            dense: tensor(dense.data, [dense.shape[0], dense.shape[1]]),
            codes: (columns > 0).then(|| codes_tensor(flat.collect(), [codes.len(), columns])),
        };
        let train = case["train"] == Value::Bool(true);
        let mut context = if train { Context::training(1, 0, 0) } else { Context::evaluation() };
        let found = values(model.forward(input.clone(), &mut context));
        close(&found, &floats(&case["logits"]["data"]), 1e-4, &format!("{name}"));
        if !train {
            // Without autodiff other kernels run.
            close(&evaluate(&model, input), &found, 1e-5, &format!("{name} evaluated"));
        }
        let model = context.apply_updates(model);
        for (buffer, expected) in case["buffers"].as_object().into_iter().flatten() {
            let weights = export_weights(&model);
            let found = weights.iter().find(|w| w.name == *buffer).expect("a buffer");
            assert!(!found.trainable);
            close(&found.data, &floats(&expected["data"]), 1e-5, buffer);
        }
    }
}

#[test]
fn activations_and_their_gradients_equal_pytorch() {
    let fixture = fixture("activations.json");
    let x = floats(&fixture["x"]);
    let activations = fixture["activations"].as_object().expect("a map");
    assert_eq!(activations.len(), 14);
    for (name, expected) in activations {
        let activation: Activation = serde_json::from_value(Value::String(name.clone())).expect("a name");
        let v = tensor(x.clone(), [x.len()]).autodiff().require_grad();
        let y = jishi_models::layers::activation::activate(activation, v.clone());
        close(&values(y.clone()), &floats(&expected["y"]), 1e-5, name);
        let gradient = values(v.grad(&y.sum().backward()).expect("a gradient"));
        let kinks = |v: f32| v == 0.0 || v.abs() == 3.0;
        let pick = |g: Vec<f32>| -> Vec<f32> {
            g.into_iter().zip(&x).filter(|(_, x)| !kinks(**x)).map(|(g, _)| g).collect()
        };
        close(&pick(gradient), &pick(floats(&expected["gradient"])), 1e-5, &format!("gradient of {name}"));
    }
}
