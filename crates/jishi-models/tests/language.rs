//! The contract that every language family passes, and parity with the `transformers` library.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, Device, Gradients, Int, Tensor, TensorData};
use jishi_kernels::cpu::cross_entropy::Options;
use jishi_models::layers::projection::Projection;
use jishi_models::layers::tokens::log_probabilities;
use jishi_models::lora::Blocks;
use jishi_models::{
    Adapted, Bert, BertConfig, BertHead, BertInput, CausalConfig, CausalModel, Context, EncoderDecoder,
    EncoderDecoderConfig, Gpt2Config, LanguageConfig, LanguageModel, LlamaConfig, ModelError, NamedTensor,
    Pairs, Reference, RopeScaling, add_lora, export_weights, freeze, import_weights, merge_lora,
};
use jishi_recipe::{Lora, LoraBase, Precision, Trainable};
use serde_json::{Value, json};

const BATCH: usize = 3;
const TIME: usize = 7;
const VOCABULARY: usize = 29;
const IGNORED: u32 = 1;

/// A model of any language family.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a test holds one")]
enum Any {
    Causal(CausalModel),
    Bert(Bert),
    Pairs(EncoderDecoder),
}

impl Adapted for Any {
    fn each_projection(&mut self, f: &mut dyn FnMut(&str, &mut Projection)) {
        match self {
            Self::Causal(model) => model.each_projection(f),
            Self::Bert(model) => model.each_projection(f),
            Self::Pairs(model) => model.each_projection(f),
        }
    }
}

type Build = Box<dyn Fn(f64, u64) -> Any>;

fn device() -> Device {
    Device::flex().autodiff()
}

/// Each case builds a model with a dropout and a seed.
fn cases() -> Vec<(&'static str, Build)> {
    let gpt2 = |tied| {
        move |dropout, seed| {
            let config = Gpt2Config {
                tied,
                embedding_dropout: dropout,
                attention_dropout: dropout,
                residual_dropout: dropout,
                ..Gpt2Config::new(2, 8, 2, 20, VOCABULARY)
            };
            Any::Causal(CausalModel::init(&CausalConfig::Gpt2(config), seed, &device()))
        }
    };
    let llama = |tied| {
        move |dropout, seed| {
            let config = LlamaConfig {
                tied,
                kv_heads: 1,
                attention_bias: tied,
                mlp_bias: !tied,
                rope_scaling: if tied { RopeScaling::Linear(2.0) } else { RopeScaling::None },
                attention_dropout: dropout,
                residual_dropout: dropout,
                ..LlamaConfig::new(2, 8, 2, 20, VOCABULARY)
            };
            Any::Causal(CausalModel::init(&CausalConfig::Llama(config), seed, &device()))
        }
    };
    let bert = |head| {
        move |dropout, seed| {
            let usual = BertConfig::new(2, 8, 2, 20, VOCABULARY);
            let config = BertConfig { head, attention_dropout: dropout, dropout, ..usual };
            Any::Bert(Bert::init(&config, seed, &device()))
        }
    };
    let pairs = |dropout, seed| {
        let recipe = json!({ "layers": 2, "heads": 2, "width": 8, "context": 20, "dropout": dropout });
        let recipe = serde_json::from_value(recipe).expect("a recipe's model");
        let config = EncoderDecoderConfig::from_recipe(&recipe, VOCABULARY, [2, 0, IGNORED]).expect("sizes");
        Any::Pairs(EncoderDecoder::init(&config, seed, &device()))
    };
    vec![
        ("gpt2 tied", Box::new(gpt2(true))),
        ("gpt2", Box::new(gpt2(false))),
        ("llama tied", Box::new(llama(true))),
        ("llama", Box::new(llama(false))),
        ("bert masked", Box::new(bert(BertHead::MaskedLm))),
        ("bert classes", Box::new(bert(BertHead::Classification { classes: 4 }))),
        ("bert embedding", Box::new(bert(BertHead::Embedding))),
        ("encoder-decoder", Box::new(pairs)),
    ]
}

fn ints<const D: usize>(values: Vec<i64>, shape: [usize; D]) -> Tensor<D, Int> {
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// Tokens but the special ones.
fn tokens(rows: usize, time: usize, seed: u64) -> Tensor<2, Int> {
    let mut rng = jishi_models::Rng::new(seed, 0);
    let values = (0..rows * time).map(|_| 3 + rng.below(VOCABULARY as u64 - 3) as i64).collect();
    ints(values, [rows, time])
}

fn values<const D: usize>(t: Tensor<D>) -> Vec<f32> {
    t.inner().into_data().try_to_vec::<f32>().expect("f32")
}

/// The last of the sequences is short.
fn mask() -> Tensor<2, Bool> {
    let seen: Vec<bool> = (0..BATCH * TIME).map(|i| i < BATCH * TIME - 2).collect();
    Tensor::from_data(TensorData::new(seen, [BATCH, TIME]), &Device::flex())
}

fn bert_input(rows: usize) -> BertInput {
    let types = ints((0..rows * TIME).map(|i| i64::from(i % TIME > 3)).collect(), [rows, TIME]);
    let mask = (rows == BATCH).then(mask);
    BertInput { tokens: tokens(rows, TIME, 11), types: Some(types), mask }
}

fn pairs_input(rows: usize) -> Pairs {
    let mask = (rows == BATCH).then(mask);
    Pairs { source: tokens(rows, TIME, 11), mask, target: tokens(rows, TIME - 2, 12) }
}

/// What a model says of its batch, flat.
fn output(model: &Any, rows: usize, context: &mut Context) -> Tensor<2> {
    let flat = |t: Tensor<3>| {
        let [batch, time, width] = t.dims();
        t.reshape([batch * time, width])
    };
    match model {
        Any::Causal(model) => flat(model.logits(tokens(rows, TIME, 11), None, context)),
        Any::Bert(model) => match model.config().head {
            BertHead::MaskedLm => flat(model.token_logits(bert_input(rows), context)),
            BertHead::Classification { .. } => model.class_logits(bert_input(rows), context),
            BertHead::Embedding => model.embed(bert_input(rows), context),
        },
        Any::Pairs(model) => flat(model.logits(pairs_input(rows), context)),
    }
}

/// Mean loss of a batch.
fn loss(model: &Any, rows: usize, context: &mut Context) -> Tensor<1> {
    let options = Options { ignore_index: Some(IGNORED), ..Options::default() };
    let targets = |time: usize| {
        let target = |i: usize| if i % 5 == 4 { i64::from(IGNORED) } else { (i * 7 % 23 + 3) as i64 };
        ints((0..rows * time).map(target).collect(), [rows * time])
    };
    match model {
        Any::Causal(model) => {
            model.loss(tokens(rows, TIME, 11), None, targets(TIME), options, context) / (rows * TIME) as f64
        }
        Any::Bert(model) => match model.config().head {
            BertHead::MaskedLm => {
                model.token_loss(bert_input(rows), targets(TIME), options, context) / (rows * TIME) as f64
            }
            _ => {
                let y = output(&Any::Bert(model.clone()), rows, context);
                let [rows, outputs] = y.dims();
                let targets = (0..rows * outputs).map(|i| (i * 3 % 5) as f32 / 8.0 - 0.25).collect();
                let targets =
                    Tensor::<2>::from_data(TensorData::new(targets, [rows, outputs]), &Device::flex());
                (y - targets).square().mean()
            }
        },
        Any::Pairs(model) => {
            let options = Options { label_smoothing: 0.1, ..options };
            let time = TIME - 2;
            model.loss(pairs_input(rows), targets(time), options, context) / (rows * time) as f64
        }
    }
}

fn evaluate(model: &Any) -> Vec<f32> {
    values(output(&model.valid(), BATCH, &mut Context::evaluation()))
}

/// Gradients by the order in which the model visits parameters.
fn gradients<M: Module>(model: &M, loss: Tensor<1>) -> Vec<Option<Vec<f32>>> {
    struct Visitor(Gradients, Vec<Option<Vec<f32>>>);
    impl ModuleVisitor for Visitor {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1.push(param.grad_remove(&mut self.0).map(values));
        }
    }
    let mut visitor = Visitor(loss.backward(), Vec::new());
    model.visit(&mut visitor);
    visitor.1
}

fn close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) -> f32 {
    assert_eq!(found.len(), expected.len(), "{what}");
    let mut largest = 0.0f32;
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let error = (f - e).abs();
        assert!(error <= tolerance * e.abs().max(1.0), "{what}[{i}]: {f}, expected {e}");
        largest = largest.max(error);
    }
    largest
}

/// Weights large enough that every part of the model matters.
fn shaken(model: Any) -> Any {
    let mut weights = export_weights(&model);
    let mut rng = jishi_models::Rng::new(5, 1);
    for tensor in weights.iter_mut().filter(|t| t.trainable) {
        tensor.data.iter_mut().for_each(|v| *v += 0.3 * rng.normal());
    }
    import_weights(model, &weights).expect("the same names")
}

#[test]
fn outputs_have_the_documented_shape() {
    for (name, build) in cases() {
        let model = build(0.0, 1);
        for rows in [1, BATCH] {
            let expected = match name {
                "bert classes" => [rows, 4],
                "bert embedding" => [rows, 8],
                "encoder-decoder" => [rows * (TIME - 2), VOCABULARY],
                _ => [rows * TIME, VOCABULARY],
            };
            let y = output(&model, rows, &mut Context::training(1, 0, 0));
            assert_eq!(y.dims(), expected, "{name}");
            assert!(values(y).iter().all(|v| v.is_finite()), "{name}");
        }
    }
}

#[test]
fn fused_operations_give_what_composed_ones_give() {
    for (name, build) in cases() {
        let model = shaken(build(0.2, 1));
        let run = || {
            let y = output(&model, BATCH, &mut Context::training(1, 0, 0));
            let loss = loss(&model, BATCH, &mut Context::training(1, 0, 0));
            (values(y), gradients(&model, loss))
        };
        let (fused, composed) = (run(), jishi_kernels::ops::composed_only(run));
        close(&fused.0, &composed.0, 1e-4, name);
        for (f, e) in fused.1.iter().zip(&composed.1) {
            assert_eq!(f.is_some(), e.is_some(), "{name}");
            close(f.as_deref().unwrap_or(&[]), e.as_deref().unwrap_or(&[]), 1e-4, name);
        }
    }
}

#[test]
fn bfloat16_factors_change_results_a_little() {
    for (name, build) in cases() {
        let model = build(0.0, 1);
        let run = |precision| {
            let mut context = Context::training(1, 0, 0).with_precision(precision);
            let y = output(&model, BATCH, &mut context);
            let loss = loss(&model, BATCH, &mut context);
            (values(y), gradients(&model, loss))
        };
        let ((y, _), (rounded, slopes)) = (run(Precision::F32), run(Precision::Bf16));
        let size = y.iter().fold(0.0f32, |a, v| a.max(v.abs()));
        assert!(y.iter().zip(&rounded).all(|(a, b)| (a - b).abs() <= 0.05 * size), "{name}");
        assert_ne!(y, rounded, "{name}");
        assert!(slopes.iter().flatten().flatten().all(|g| g.is_finite()), "{name}");
    }
}

/// Central differences for a random direction in every tensor, dropout included.
#[test]
fn gradients_match_finite_differences() {
    for (name, build) in cases() {
        let model = shaken(build(0.1, 1));
        let tensors = export_weights(&model);
        let found = gradients(&model, loss(&model, BATCH, &mut Context::training(5, 2, 0)));
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
                f64::from(loss(&model, BATCH, &mut Context::training(5, 2, 0)).into_scalar::<f32>())
            };
            let gradient =
                found[i].as_ref().unwrap_or_else(|| panic!("{name}: {} has no gradient", tensor.name));
            let expected =
                gradient.iter().zip(&direction).map(|(g, d)| f64::from(g * d / length)).sum::<f64>();
            let measured = [1e-2, 3e-3, 1e-3].map(|step| (at(step) - at(-step)) / f64::from(2.0 * step));
            assert!(
                measured.iter().any(|m| (m - expected).abs() <= 1e-3 + 2e-2 * expected.abs()),
                "{name}: {} {measured:?} {expected}",
                tensor.name
            );
        }
    }
}

#[test]
fn overfits_one_batch() {
    for (name, build) in cases() {
        let mut model = build(0.0, 1);
        let first = loss(&model, 1, &mut Context::training(1, 0, 0)).into_scalar::<f32>();
        let mut adam = Adam::default();
        for step in 0..200 {
            let loss = loss(&model, 1, &mut Context::training(1, step, 0));
            let gradients = gradients(&model, loss);
            model = adam.step(model, gradients);
        }
        let last = loss(&model, 1, &mut Context::training(1, 0, 0)).into_scalar::<f32>();
        // An embedding has length 1 and cannot reach any target; smoothed labels leave a loss.
        let bound = match name {
            "bert embedding" => 0.9 * first,
            "encoder-decoder" => 0.3 * first,
            _ => 0.1 * first,
        };
        assert!(last < bound, "{name}: {first} -> {last}");
    }
}

#[test]
fn exported_weights_give_an_identical_model() {
    for (name, build) in cases() {
        let (model, other) = (shaken(build(0.0, 1)), build(0.0, 2));
        let weights = export_weights(&model);
        let loaded = import_weights(other, &weights).expect("the same structure");
        assert_eq!(export_weights(&loaded), weights, "{name}");
        assert_eq!(evaluate(&loaded), evaluate(&model), "{name}");
        assert_eq!(export_weights(&model.valid()), weights, "{name}: outside training");
    }
}

#[test]
fn the_seed_decides_and_evaluation_ignores_dropout() {
    for (name, build) in cases() {
        let run =
            |seed, dropout| values(output(&build(dropout, seed), BATCH, &mut Context::training(seed, 3, 0)));
        assert_eq!(run(1, 0.3), run(1, 0.3), "{name}");
        assert_ne!(run(1, 0.3), run(2, 0.3), "{name}");
        assert_ne!(run(1, 0.3), run(1, 0.0), "{name}");
        assert_eq!(evaluate(&build(0.5, 1)), evaluate(&build(0.0, 1)), "{name}");
    }
}

#[test]
fn parts_of_a_batch_draw_the_dropout_of_the_whole() {
    for (name, build) in cases().into_iter().take(4) {
        let Any::Causal(model) = shaken(build(0.3, 1)) else { panic!("a causal model") };
        let whole = values(model.logits(tokens(4, TIME, 1), None, &mut Context::training(1, 4, 0)));
        for first in [0, 2] {
            let part = tokens(4, TIME, 1).narrow(0, first, 2);
            let part = values(model.logits(part, None, &mut Context::training(1, 4, first)));
            close(&part, &whole[first * TIME * VOCABULARY..][..part.len()], 1e-5, name);
        }
    }
}

// Packing and padding.

#[test]
fn packed_documents_are_as_if_alone() {
    for (name, build) in cases().into_iter().take(4) {
        let Any::Causal(model) = shaken(build(0.0, 1)) else { panic!("a causal model") };
        let lengths = [5, 1, 8, 3];
        let total = lengths.iter().sum();
        let packed = tokens(1, total, 8);
        let mut starts = Vec::new();
        for length in lengths {
            starts.extend(vec![starts.len() as i64; length]);
        }
        let starts = ints(starts, [1, total]);
        let together = values(model.logits(packed.clone(), Some(starts), &mut Context::evaluation()));
        let mut at = 0;
        for length in lengths {
            let alone = packed.clone().narrow(1, at, length);
            let alone = values(model.logits(alone, None, &mut Context::evaluation()));
            close(&together[at * VOCABULARY..][..length * VOCABULARY], &alone, 1e-5, name);
            at += length;
        }
    }
}

/// Padding in front is a document of its own; padding behind is not seen.
#[test]
fn padding_changes_nothing() {
    for (name, build) in cases().into_iter().take(4) {
        let Any::Causal(model) = shaken(build(0.0, 1)) else { panic!("a causal model") };
        let text = tokens(1, 6, 8);
        let alone = values(model.logits(text.clone(), None, &mut Context::evaluation()));
        let padding = || ints(vec![0; 3], [1, 3]);
        let left = Tensor::cat(vec![padding(), text.clone()], 1);
        let starts = ints(vec![0, 0, 0, 3, 3, 3, 3, 3, 3], [1, 9]);
        let left = values(model.logits(left, Some(starts), &mut Context::evaluation()));
        close(&left[3 * VOCABULARY..], &alone, 1e-5, name);
        let right = Tensor::cat(vec![text, padding()], 1);
        let right = values(model.logits(right, None, &mut Context::evaluation()));
        close(&right[..6 * VOCABULARY], &alone, 1e-5, name);
    }
}

#[test]
fn padding_changes_no_text_that_is_read_from_both_sides() {
    let text = tokens(1, 5, 8);
    let padded = Tensor::cat(vec![text.clone(), ints(vec![7; 2], [1, 2])], 1);
    let mask = Tensor::<2, Bool>::from_data(
        TensorData::new(vec![true, true, true, true, true, false, false], [1, 7]),
        &Device::flex(),
    );
    for (name, build) in cases().into_iter().skip(4) {
        match shaken(build(0.0, 1)) {
            Any::Causal(_) => {}
            Any::Bert(model) => {
                let run = |tokens, mask| {
                    let input = BertInput { tokens, types: None, mask };
                    let mut context = Context::evaluation();
                    match model.config().head {
                        BertHead::MaskedLm => values(model.token_logits(input, &mut context)),
                        BertHead::Classification { .. } => values(model.class_logits(input, &mut context)),
                        BertHead::Embedding => values(model.embed(input, &mut context)),
                    }
                };
                let alone = run(text.clone(), None);
                let padded = run(padded.clone(), Some(mask.clone()));
                close(&padded[..alone.len()], &alone, 1e-5, name);
                if name == "bert embedding" {
                    let length = alone.iter().map(|v| v * v).sum::<f32>();
                    assert!((length - 1.0).abs() < 1e-5, "{length}");
                }
            }
            Any::Pairs(model) => {
                let run = |source, mask| {
                    let pairs = Pairs { source, mask, target: tokens(1, 4, 9) };
                    values(model.logits(pairs, &mut Context::evaluation()))
                };
                close(&run(padded.clone(), Some(mask.clone())), &run(text.clone(), None), 1e-5, name);
            }
        }
    }
}

#[test]
fn a_translation_step_by_step_is_that_of_all_at_once() {
    let (_, build) = cases().pop().expect("the last one");
    let Any::Pairs(model) = shaken(build(0.0, 1)) else { panic!("an encoder-decoder") };
    let (pairs, context) = (pairs_input(BATCH), &mut Context::evaluation());
    let whole = values(model.logits(pairs.clone(), context));
    let memory = model.encode(pairs.source, pairs.mask.as_ref(), context);
    let mut state = model.begin(memory, pairs.mask, context);
    let time = TIME - 2;
    let column = |i: usize| pairs.target.clone().narrow(1, i, 1).reshape([BATCH]);
    let check = |logits: Vec<f32>, rows: &[usize], i: usize| {
        for (found, row) in logits.chunks(VOCABULARY).zip(rows) {
            close(found, &whole[(row * time + i) * VOCABULARY..][..VOCABULARY], 1e-5, "a step");
        }
    };
    for i in 0..2 {
        check(values(model.step(column(i), &mut state, context)), &[0, 1, 2], i);
    }
    // As a beam search goes on with some hypotheses.
    let rows = ints(vec![2, 0], [2]);
    let mut state = state.select(&rows);
    for i in 2..time {
        check(values(model.step(column(i).select(0, rows.clone()), &mut state, context)), &[2, 0], i);
    }
    assert_eq!(state.position(), time);
}

// Fine-tuning.

fn lora(targets: &[&str]) -> Lora {
    let targets = targets.iter().map(|t| (*t).to_owned()).collect();
    Lora { rank: 3, alpha: 6.0, targets, ..Lora::default() }
}

#[test]
fn low_rank_additions_start_at_zero_learn_alone_and_merge() {
    for (name, build) in cases() {
        let base = shaken(build(0.0, 1));
        let mut model = add_lora(base.clone(), &lora(&[]), 3, &device()).expect("additions");
        close(&evaluate(&model), &evaluate(&base), 1e-5, name);
        let before = export_weights(&model);
        let trained: Vec<&str> = before.iter().filter(|t| t.trainable).map(|t| t.name.as_str()).collect();
        assert!(!trained.is_empty() && trained.iter().all(|n| n.contains("lora_")), "{name}: {trained:?}");
        let mut adam = Adam::default();
        for step in 0..5 {
            let loss = loss(&model, BATCH, &mut Context::training(1, step, 0));
            let got = gradients(&model, loss);
            assert!(got.iter().zip(&before).all(|(g, w)| g.is_some() == w.trainable), "{name}");
            model = adam.step(model, got);
        }
        let after = export_weights(&model);
        for (a, b) in after.iter().zip(&before) {
            assert_eq!(a.data != b.data, b.trainable, "{name}: {}", a.name);
        }
        let merged = merge_lora(model.clone());
        assert_eq!(export_weights(&merged).len(), export_weights(&base).len(), "{name}");
        close(&evaluate(&merged), &evaluate(&model), 1e-4, name);
        assert_ne!(evaluate(&merged), evaluate(&base), "{name}");
        // Weights travel with their additions.
        let other = add_lora(build(0.0, 2), &lora(&[]), 4, &device()).expect("additions");
        let loaded = import_weights(other, &after).expect("the same structure");
        assert_eq!(export_weights(&loaded), after, "{name}");
    }
}

/// Bytes are at most half a step of a 127th of a column's largest weight away.
#[test]
fn additions_learn_on_a_base_of_bytes() {
    for (name, build) in cases() {
        let base = shaken(build(0.0, 1));
        let with = Lora { base: LoraBase::Int8, ..lora(&[]) };
        let mut model = add_lora(base.clone(), &with, 3, &device()).expect("additions");
        let (exact, found) = (evaluate(&base), evaluate(&model));
        let size = exact.iter().fold(0.0f32, |a, v| a.max(v.abs()));
        assert!(exact.iter().zip(&found).all(|(a, b)| (a - b).abs() < 0.05 * size), "{name}");
        assert_ne!(exact, found, "{name}: bytes round");
        let names: Vec<String> = export_weights(&model).into_iter().map(|t| t.name).collect();
        assert!(
            !names.iter().any(|n| n.ends_with("q_proj.weight") || n.ends_with("c_fc.weight")),
            "{names:?}"
        );
        // Gradients are those of a base that holds the rounded numbers.
        let rounded = add_lora(merge_lora(model.clone()), &lora(&[]), 3, &device()).expect("additions");
        let pick = |model: &Any| {
            let loss = loss(model, BATCH, &mut Context::training(1, 0, 0));
            gradients(model, loss).into_iter().flatten().flatten().collect::<Vec<f32>>()
        };
        close(&pick(&model), &pick(&rounded), 1e-4, name);
        let composed = jishi_kernels::ops::composed_only(|| pick(&model));
        close(&pick(&model), &composed, 1e-4, name);
        let mut adam = Adam::default();
        let first = loss(&model, BATCH, &mut Context::training(1, 0, 0)).into_scalar::<f32>();
        for step in 0..20 {
            let loss = loss(&model, BATCH, &mut Context::training(1, step, 0));
            let gradients = gradients(&model, loss);
            model = adam.step(model, gradients);
        }
        let last = loss(&model, BATCH, &mut Context::training(1, 0, 0)).into_scalar::<f32>();
        assert!(last < 0.97 * first, "{name}: {first} -> {last}");
        close(&evaluate(&merge_lora(model.clone())), &evaluate(&model), 1e-4, name);
    }
}

#[test]
fn recomputation_changes_no_gradient() {
    for (name, build) in cases() {
        let whole = shaken(build(0.2, 1));
        let adapted = add_lora(whole.clone(), &Lora { dropout: 0.2, ..lora(&[]) }, 3, &device());
        let last = freeze(whole.clone(), Trainable::Last, 1);
        for model in [whole, adapted.expect("additions"), last] {
            let run = |recompute| {
                let mut context = Context::training(1, 2, 0).with_recomputation(recompute);
                // Twice, so that the second pass shows whether as much dropout was drawn.
                let loss = loss(&model, BATCH, &mut context) + loss(&model, BATCH, &mut context);
                (values(loss.clone()), gradients(&model, loss))
            };
            let (plain, again) = (run(false), run(true));
            assert_eq!(plain.0, again.0, "{name}");
            for (a, b) in plain.1.iter().zip(&again.1) {
                assert_eq!(a.is_some(), b.is_some(), "{name}");
                close(b.as_deref().unwrap_or(&[]), a.as_deref().unwrap_or(&[]), 1e-5, name);
            }
        }
    }
}

#[test]
fn additions_have_targets_and_the_names_of_peft() {
    let (_, build) = &cases()[3];
    let model = add_lora(build(0.0, 1), &lora(&["q_proj", "v_proj"]), 3, &device()).expect("additions");
    let Any::Causal(causal) = &model else { panic!("a causal model") };
    let tensors = causal.reference().to_reference(export_weights(&model));
    let added: Vec<_> = tensors.iter().filter(|t| t.trainable).map(|t| (&*t.name, &t.shape[..])).collect();
    assert_eq!(added.len(), 8);
    assert_eq!(added[0], ("model.layers.0.self_attn.q_proj.lora_A.weight", &[3, 8][..]));
    assert_eq!(added[1], ("model.layers.0.self_attn.q_proj.lora_B.weight", &[8, 3][..]));
    let problems = add_lora(build(0.0, 1), &Lora { rank: 0, ..lora(&["c_attn"]) }, 3, &device());
    let text = problems.expect_err("no such layer").to_string();
    assert!(text.contains("c_attn") && text.contains("q_proj") && text.contains("rank"), "{text}");
}

#[test]
fn frozen_weights_get_no_gradient() {
    for (name, build) in cases() {
        for (train, last) in [(Trainable::Head, 1), (Trainable::Last, 1), (Trainable::All, 1)] {
            if train == Trainable::Head && ["bert embedding", "encoder-decoder"].contains(&name) {
                continue; // nothing comes after their blocks
            }
            let model = freeze(build(0.0, 1), train, last);
            let weights = export_weights(&model);
            let got = gradients(&model, loss(&model, BATCH, &mut Context::training(1, 0, 0)));
            assert!(got.iter().zip(&weights).all(|(g, w)| g.is_some() == w.trainable), "{name}");
            let blocks = Blocks::of(weights.iter().map(|w| w.name.as_str()));
            let block = |i: usize| {
                let of = |w: &&NamedTensor| blocks.number(&w.name) == Some(i);
                weights.iter().filter(of).any(|w| w.trainable)
            };
            let expected = match train {
                Trainable::Head => (false, false),
                Trainable::Last => (false, true),
                Trainable::All => (true, true),
            };
            assert_eq!((block(0), block(1)), expected, "{name} {train:?}");
            assert!(weights.iter().any(|w| w.trainable), "{name} {train:?}");
        }
    }
}

// Against `transformers`: tests/fixtures/language.py.

fn fixtures() -> Vec<Value> {
    let path = format!("{}/tests/fixtures/language.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("a fixture");
    serde_json::from_str(&text).expect("a list")
}

fn checkpoint(case: &Value) -> Vec<NamedTensor> {
    let tensor = |(name, value): (&String, &Value)| {
        let hex = value["bytes"].as_str().expect("bytes").as_bytes();
        let digit = |b: u8| (b as char).to_digit(16).expect("a digit") as u8;
        let data = hex.chunks(2).map(|d| f32::from((digit(d[0]) << 4 | digit(d[1])) as i8) / 64.0).collect();
        let shape = value["shape"].as_array().expect("a shape");
        let shape = shape.iter().map(|n| n.as_u64().expect("a size") as usize).collect();
        NamedTensor { name: name.clone(), shape, data, trainable: true }
    };
    case["weights"].as_object().expect("a map").iter().map(tensor).collect()
}

fn floats(value: &Value) -> Vec<f32> {
    let list = value["data"].as_array().expect("numbers");
    list.iter().map(|v| v.as_f64().expect("a number") as f32).collect()
}

fn rows(case: &Value, name: &str) -> Tensor<2, Int> {
    let rows = case["inputs"][name].as_array().expect("rows");
    let of =
        |row: &Value| row.as_array().expect("a row").iter().map(|t| t.as_i64().expect("a token")).collect();
    let rows: Vec<Vec<i64>> = rows.iter().map(of).collect();
    ints(rows.concat(), [rows.len(), rows[0].len()])
}

fn config(case: &Value) -> &Value {
    &case["config"]
}

/// A checkpoint without its prefix loads too, and what is written is what was read.
fn loaded<M: Module>(name: &str, reference: &Reference, build: impl Fn() -> M, case: &Value) -> M {
    let tensors = checkpoint(case);
    let (model, found) = reference.load(build(), tensors.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(found.fresh.is_empty(), "{name}: {found:?}");
    let written = reference.to_reference(export_weights(&model));
    for tensor in &written {
        let expected =
            tensors.iter().find(|t| t.name.ends_with(&tensor.name) || tensor.name.ends_with(&t.name));
        let expected = expected.unwrap_or_else(|| panic!("{name}: {} was not read", tensor.name));
        assert_eq!(
            (&tensor.shape, &tensor.data),
            (&expected.shape, &expected.data),
            "{name}: {}",
            tensor.name
        );
    }
    let mut bare = tensors;
    for tensor in &mut bare {
        if let Some(name) = tensor.name.strip_prefix(reference.prefix) {
            tensor.name = name.to_owned();
        }
    }
    let (again, _) = reference.load(build(), bare).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(export_weights(&again), export_weights(&model), "{name}");
    model
}

#[test]
fn log_probabilities_are_those_of_the_loss() {
    let device = Device::flex();
    for (name, build) in cases() {
        let Any::Causal(model) = build(0.0, 3) else { continue };
        let model = model.valid();
        let context = &mut Context::evaluation();
        let rows = (BATCH * TIME) as i64;
        let token = |seed: i64| (0..rows).map(|i| (i * seed + 2) % VOCABULARY as i64).collect::<Vec<_>>();
        let tokens = ints(token(5), [BATCH, TIME]);
        let targets = Tensor::<1, Int>::from_data(TensorData::new(token(11), [BATCH * TIME]), &device);
        let places = Tensor::<1, Int>::arange(0..rows, &device);
        let each = model.log_probabilities_at(tokens.clone(), places, targets.clone(), context);
        let loss = values(model.loss(tokens.clone(), None, targets.clone(), Options::default(), context));
        close(&values(-each.clone().sum()), &loss, 1e-5, name);
        // Some places alone, and logits of a few places at a time, give the same.
        let some = Tensor::<1, Int>::from_data(TensorData::new(vec![3_i64, 8, 20], [3]), &device);
        let chosen = model.log_probabilities_at(
            tokens.clone(),
            some.clone(),
            targets.clone().select(0, some.clone()),
            context,
        );
        close(&values(chosen), &values(each.clone().select(0, some)), 1e-5, name);
        let x = model.hidden(tokens, None, context).reshape([BATCH * TIME, 8]);
        let parts = log_probabilities(x, model.output(), targets, jishi_kernels::Precision::F32, 4);
        close(&values(parts), &values(each), 1e-5, name);
    }
}

#[test]
fn outputs_equal_those_of_transformers() {
    let fixtures = fixtures();
    assert_eq!(fixtures.len(), 8);
    for case in &fixtures {
        let name = case["name"].as_str().expect("a name");
        let context = &mut Context::evaluation();
        let expected = |key: &str| floats(&case["outputs"][key]);
        let error = match config(case)["model_type"].as_str().expect("a family") {
            "gpt2" | "llama" => {
                let sizes = CausalConfig::from_hf(config(case)).expect("a configuration");
                assert_eq!(CausalConfig::from_hf(&sizes.to_hf()).expect("our own"), sizes, "{name}");
                let build = || CausalModel::init(&sizes, 1, &Device::flex());
                let model = loaded(name, &build().reference(), build, case);
                let tokens = rows(case, "tokens");
                let [batch, time] = tokens.dims();
                let next = tokens.clone().narrow(1, 1, time - 1);
                let x = tokens.clone().narrow(1, 0, time - 1);
                let loss =
                    model.loss(x, None, next.reshape([batch * (time - 1)]), Options::default(), context);
                let loss = values(loss / (batch * (time - 1)) as f64);
                close(&loss, &expected("loss"), 1e-5, name);
                close(&values(model.logits(tokens, None, context)), &expected("logits"), 1e-4, name)
            }
            "bert" => {
                let sizes = BertConfig::from_hf(config(case)).expect("a configuration");
                assert_eq!(BertConfig::from_hf(&sizes.to_hf()).expect("our own"), sizes, "{name}");
                let reference = jishi_models::bert::REFERENCE;
                let model = loaded(name, &reference, || Bert::init(&sizes, 1, &Device::flex()), case);
                let mask = rows(case, "mask").bool();
                let input = BertInput {
                    tokens: rows(case, "tokens"),
                    types: Some(rows(case, "types")),
                    mask: Some(mask),
                };
                match sizes.head {
                    BertHead::MaskedLm => {
                        let found = values(model.token_logits(input, context));
                        close(&found, &expected("logits"), 1e-4, name)
                    }
                    BertHead::Classification { .. } => {
                        let found = values(model.class_logits(input, context));
                        close(&found, &expected("logits"), 1e-4, name)
                    }
                    BertHead::Embedding => {
                        close(&values(model.embed(input, context)), &expected("embedding"), 1e-4, name)
                    }
                }
            }
            _ => {
                let sizes = EncoderDecoderConfig::from_hf(config(case)).expect("a configuration");
                assert_eq!(EncoderDecoderConfig::from_hf(&sizes.to_hf()).expect("our own"), sizes, "{name}");
                let reference = jishi_models::encoder_decoder::REFERENCE;
                let build = || EncoderDecoder::init(&sizes, 1, &Device::flex());
                let model = loaded(name, &reference, build, case);
                let mask = rows(case, "mask").bool();
                let source = rows(case, "source");
                let pairs = Pairs { source, mask: Some(mask), target: rows(case, "target") };
                close(&values(model.logits(pairs, context)), &expected("logits"), 1e-4, name)
            }
        };
        println!("{name}: largest difference {error:e}");
    }
}

#[test]
fn every_problem_of_a_checkpoint_is_named() {
    let case = &fixtures()[2];
    let sizes = CausalConfig::from_hf(config(case)).expect("a configuration");
    let mut tensors = checkpoint(case);
    tensors.retain(|t| t.name != "model.norm.weight" && t.name != "lm_head.weight");
    tensors[0].shape = vec![2, 320];
    tensors.push(NamedTensor { name: "model.layers.9.odd".into(), ..tensors[1].clone() });
    tensors.push(NamedTensor {
        name: "model.layers.0.self_attn.rotary_emb.inv_freq".into(),
        ..tensors[1].clone()
    });
    let model = CausalModel::init(&sizes, 1, &Device::flex());
    let Err(ModelError::Bad(problems)) = model.reference().load(model, tensors) else { panic!("must fail") };
    let text = problems.to_string();
    for part in ["`model.norm.weight` of shape [16] is missing", "embed_tokens", "model.layers.9.odd"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // A head that is missing keeps its initial weights.
    assert!(!text.contains("lm_head") && !text.contains("inv_freq"), "{text}");
}

#[test]
fn keys_that_would_change_results_are_problems() {
    let refuse = |case: usize, changes: Value| {
        let mut value = config(&fixtures()[case]).clone();
        for (key, change) in changes.as_object().expect("changes") {
            value[key] = change.clone();
        }
        let result = match value["model_type"].as_str() {
            Some("bert") => BertConfig::from_hf(&value).map(|_| ()),
            Some("marian") => EncoderDecoderConfig::from_hf(&value).map(|_| ()),
            _ => CausalConfig::from_hf(&value).map(|_| ()),
        };
        result.expect_err("must be refused").to_string()
    };
    let text = refuse(
        0,
        json!({"scale_attn_by_inverse_layer_idx": true, "n_head": 3, "n_layer": null, "activation_function": "odd",
               "quantization_config": {"bits": 4}}),
    );
    for part in ["scale_attn_by_inverse_layer_idx", "n_head", "n_layer", "odd", "quantization_config"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = refuse(
        2,
        json!({"rope_scaling": {"rope_type": "yarn"}, "num_key_value_heads": 3, "vocab_size": "x"}),
    );
    assert!(["yarn", "num_key_value_heads", "vocab_size"].iter().all(|p| text.contains(p)), "{text}");
    assert!(refuse(4, json!({"position_embedding_type": "relative_key"})).contains("relative_key"));
    let text = refuse(7, json!({"normalize_before": true, "pad_token_id": 40, "tie_word_embeddings": false}));
    assert!(["normalize_before", "pad_token_id", "tie_word"].iter().all(|p| text.contains(p)), "{text}");
    assert!(refuse(0, json!({"model_type": "odd"})).contains("odd"));
}

/// Published configurations, shortened to the keys that matter.
#[test]
fn published_llamas_are_understood() {
    let llama3 = json!({
        "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "bos_token_id": 128_000, "eos_token_id": [128_001, 128_008], "head_dim": 64, "hidden_act": "silu",
        "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192,
        "max_position_embeddings": 131_072, "mlp_bias": false, "model_type": "llama",
        "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1,
        "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3"}, "rope_theta": 500_000.0,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 128_256,
    });
    let config = LlamaConfig::from_hf(&llama3).expect("Llama 3.2 1B");
    assert!(config.tied && config.kv_heads == 8 && matches!(config.rope_scaling, RopeScaling::Llama3(_)));
    let smol = json!({
        "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 0,
        "eos_token_id": 0, "hidden_act": "silu", "hidden_size": 576, "initializer_range": 0.041_666_666_666_666_664,
        "intermediate_size": 1536, "is_llama_config": true, "max_position_embeddings": 8192, "model_type": "llama",
        "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3, "pretraining_tp": 1,
        "rms_norm_eps": 1e-05, "rope_interleaved": false, "rope_scaling": null, "rope_theta": 100_000,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 49_152,
    });
    let config = LlamaConfig::from_hf(&smol).expect("SmolLM2 135M");
    assert_eq!((config.head_dim, config.kv_heads, config.rope_theta), (64, 3, 100_000.0));
}

// A training step of our own, so that the tests of this crate need no other.

#[derive(Default)]
struct Adam {
    step: i32,
    moments: Vec<(Vec<f32>, Vec<f32>)>,
}

impl Adam {
    fn step<M: Module>(&mut self, model: M, gradients: Vec<Option<Vec<f32>>>) -> M {
        struct Mapper<'a>(&'a mut Adam, std::vec::IntoIter<Option<Vec<f32>>>, usize);
        impl ModuleMapper for Mapper<'_> {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let (gradient, index) = (self.1.next().flatten(), self.2);
                self.2 += 1;
                let Some(gradient) = gradient else { return param };
                let step = self.0.step;
                let (first, second) = &mut self.0.moments[index];
                first.resize(gradient.len(), 0.0);
                second.resize(gradient.len(), 0.0);
                param.map(|old| {
                    let mut weights = values(old.clone());
                    for (i, g) in gradient.iter().enumerate() {
                        first[i] = 0.9 * first[i] + 0.1 * g;
                        second[i] = 0.99 * second[i] + 0.01 * g * g;
                        let m = first[i] / (1.0 - 0.9f32.powi(step));
                        let v = second[i] / (1.0 - 0.99f32.powi(step));
                        weights[i] -= 0.03 * m / (v.sqrt() + 1e-8);
                    }
                    Tensor::from_data(TensorData::new(weights, old.dims()), &old.device()).require_grad()
                })
            }
        }
        self.step += 1;
        self.moments.resize(gradients.len(), (Vec::new(), Vec::new()));
        model.map(&mut Mapper(self, gradients.into_iter(), 0))
    }
}
