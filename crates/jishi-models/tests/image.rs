//! The contract that every image family passes, and parity with torchvision, timm and `transformers`.

mod common;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use jishi_kernels::cpu::cross_entropy::Options;
use jishi_kernels::ops;
use jishi_models::lora::Blocks;
use jishi_models::{
    Context, ImageConfig, ImageModel, LayerRates, NamedTensor, ResNetConfig, Stem, VggConfig, VitConfig,
    VitPooling, add_lora, export_weights, freeze, import_weights, merge_lora,
};
use jishi_recipe::{Lora, Origin, Precision, Trainable};
use serde_json::{Value, json};

use common::{Adam, check_gradients, close, formula, gradients, images, list, shaken, values};

const BATCH: usize = 4;
const SIDE: usize = 12;
const CHANNELS: usize = 2;
const CLASSES: usize = 5;

fn device() -> Device {
    Device::flex().autodiff()
}

/// Sizes of each family, with this dropout.
fn cases(dropout: f64) -> Vec<(&'static str, ImageConfig)> {
    let resnet = |blocks: &[usize], bottleneck, stem| {
        let blocks = blocks.to_vec();
        let (width, channels, classes) = (3, CHANNELS, CLASSES);
        ImageConfig::ResNet(ResNetConfig {
            blocks,
            bottleneck,
            stem,
            width,
            channels,
            classes,
            zero_init: false,
        })
    };
    let vgg = |batch_norm, pool, hidden: &[usize]| {
        let (blocks, hidden) = (vec![1, 2], hidden.to_vec());
        let (width, channels, classes) = (3, CHANNELS, CLASSES);
        ImageConfig::Vgg(VggConfig { blocks, batch_norm, width, pool, hidden, dropout, channels, classes })
    };
    let vit = |pooling| {
        let usual = VitConfig::new([3, 8, 2], SIDE, 4, CLASSES);
        let (attention_dropout, drop_path) = (dropout, dropout);
        ImageConfig::Vit(VitConfig {
            channels: CHANNELS,
            pooling,
            attention_dropout,
            dropout,
            drop_path,
            ..usual
        })
    };
    vec![
        ("resnet", resnet(&[2, 1, 1], false, Stem::Small)),
        ("resnet bottleneck", resnet(&[1, 2], true, Stem::Large)),
        ("vgg normed", vgg(true, 2, &[6, 7])),
        ("vgg", vgg(false, 1, &[12])),
        ("vit", vit(VitPooling::Cls)),
        ("vit mean", vit(VitPooling::Mean)),
    ]
}

fn models(dropout: f64, seed: u64) -> impl Iterator<Item = (&'static str, ImageModel)> {
    cases(dropout).into_iter().map(move |(name, sizes)| (name, ImageModel::init(&sizes, seed, &device())))
}

fn batch() -> Tensor<4> {
    images(BATCH, [SIDE; 2], CHANNELS)
}

/// Mean loss of a batch.
fn loss(model: &ImageModel, context: &mut Context) -> Tensor<1> {
    let targets: Vec<i64> = (0..BATCH).map(|i| (i * 2 % CLASSES) as i64).collect();
    let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [BATCH]), &Device::flex());
    ops::cross_entropy(model.forward(batch(), context), targets, Options::default()) / BATCH as f64
}

fn evaluate(model: &ImageModel) -> Vec<f32> {
    values(model.valid().forward(batch(), &mut Context::evaluation()))
}

fn train(mut model: ImageModel, steps: u64) -> ImageModel {
    let mut adam = Adam::default();
    for step in 0..steps {
        let mut context = Context::training(1, step, 0);
        let loss = loss(&model, &mut context);
        let gradients = gradients(&model, loss);
        model = context.apply_updates(adam.step(model, gradients));
    }
    model
}

#[test]
fn outputs_have_the_documented_shape() {
    for (name, model) in models(0.0, 1) {
        for (rows, size) in [(1, [SIDE; 2]), (3, [16, 20])] {
            let x = images(rows, size, CHANNELS);
            let y = model.forward(x.clone(), &mut Context::training(1, 0, 0));
            assert_eq!(y.dims(), [rows, CLASSES], "{name}");
            assert!(values(y).iter().all(|v| v.is_finite()), "{name}");
            let features = model.features(x, &mut Context::evaluation());
            assert_eq!(features.dims(), [rows, model.config().features()], "{name}");
        }
        model.config().check().unwrap_or_else(|problems| panic!("{name}: {problems}"));
    }
}

#[test]
fn fused_operations_give_what_composed_ones_give() {
    for (name, model) in models(0.2, 1) {
        let model = shaken(model);
        let run = || {
            let y = model.forward(batch(), &mut Context::training(1, 0, 0));
            let loss = loss(&model, &mut Context::training(1, 0, 0));
            (values(y), gradients(&model, loss), evaluate(&model))
        };
        let (fused, composed) = (run(), ops::composed_only(run));
        close(&fused.0, &composed.0, 1e-4, name);
        close(&fused.2, &composed.2, 1e-4, name);
        for (f, e) in fused.1.iter().zip(&composed.1) {
            assert_eq!(f.is_some(), e.is_some(), "{name}");
            close(f.as_deref().unwrap_or(&[]), e.as_deref().unwrap_or(&[]), 1e-4, name);
        }
    }
}

#[test]
fn bfloat16_factors_change_results_a_little() {
    for (name, model) in models(0.0, 1) {
        let model = shaken(model);
        let run = |precision| {
            let mut context = Context::training(1, 0, 0).with_precision(precision);
            let y = model.forward(batch(), &mut context);
            let loss = loss(&model, &mut context);
            (values(y), gradients(&model, loss))
        };
        let ((y, _), (rounded, slopes)) = (run(Precision::F32), run(Precision::Bf16));
        let size = y.iter().fold(0.0f32, |a, v| a.max(v.abs()));
        assert!(y.iter().zip(&rounded).all(|(a, b)| (a - b).abs() <= 0.1 * size), "{name}");
        assert_ne!(y, rounded, "{name}");
        assert!(slopes.iter().flatten().flatten().all(|g| g.is_finite()), "{name}");
    }
}

/// Dropout included.
#[test]
fn gradients_match_finite_differences() {
    for (name, model) in models(0.1, 1) {
        check_gradients(name, &shaken(model), |model| loss(model, &mut Context::training(5, 2, 0)));
    }
}

#[test]
fn overfits_one_batch() {
    for (name, model) in models(0.0, 1) {
        let first = loss(&model, &mut Context::training(1, 0, 0)).into_scalar::<f32>();
        let model = train(model, 200);
        let last = loss(&model, &mut Context::training(1, 0, 0)).into_scalar::<f32>();
        assert!(last < 0.1 * first, "{name}: {first} -> {last}");
    }
}

#[test]
fn exported_weights_give_an_identical_model() {
    for ((name, model), (_, other)) in models(0.0, 1).zip(models(0.0, 2)) {
        let model = train(shaken(model), 1);
        let weights = export_weights(&model);
        let loaded = import_weights(other.clone(), &weights).expect("the same structure");
        assert_eq!(export_weights(&loaded), weights, "{name}");
        assert_eq!(evaluate(&loaded), evaluate(&model), "{name}");
        // By way of the reference's names and layouts.
        let (again, found) = other.load(model.reference().to_reference(weights)).expect("the same names");
        assert_eq!(found, jishi_models::Loaded::default(), "{name}");
        assert_eq!(evaluate(&again), evaluate(&model), "{name}");
        let sizes = ImageConfig::from_hf(&model.config().to_hf()).expect("our own");
        assert_eq!(sizes, model.config(), "{name}");
    }
}

#[test]
fn the_seed_decides_and_evaluation_ignores_dropout() {
    for (i, (name, _)) in cases(0.0).into_iter().enumerate() {
        let build = |dropout, seed| models(dropout, seed).nth(i).expect("a case").1;
        let run = |seed, dropout| {
            values(shaken(build(dropout, seed)).forward(batch(), &mut Context::training(seed, 3, 0)))
        };
        assert_eq!(run(1, 0.3), run(1, 0.3), "{name}");
        assert_ne!(run(1, 0.3), run(2, 0.3), "{name}");
        if !name.starts_with("resnet") {
            assert_ne!(run(1, 0.3), run(1, 0.0), "{name}");
        }
        assert_eq!(evaluate(&shaken(build(0.5, 1))), evaluate(&shaken(build(0.0, 1))), "{name}");
    }
}

/// Where there is no batch norm, whose statistics are those of the part.
#[test]
fn parts_of_a_batch_draw_the_dropout_of_the_whole() {
    for (name, model) in models(0.3, 1).skip(3) {
        let model = shaken(model);
        let whole = values(model.forward(batch(), &mut Context::training(1, 4, 0)));
        for first in [0, 2] {
            let part = batch().narrow(0, first, 2);
            let part = values(model.forward(part, &mut Context::training(1, 4, first)));
            close(&part, &whole[first * CLASSES..][..part.len()], 1e-5, name);
        }
    }
}

#[test]
fn stochastic_depth_keeps_the_mean() {
    let x = Tensor::<3>::ones([4000, 2, 3], &Device::flex());
    let y = values(Context::training(1, 2, 0).drop_path(x, 0.25));
    assert!(y.chunks(6).all(|row| row.iter().all(|v| *v == row[0])), "a row as a whole");
    let mean = y.iter().sum::<f32>() / y.len() as f32;
    assert!((mean - 1.0).abs() < 0.03 && y.contains(&0.0), "{mean}");
}

#[test]
fn blocks_that_start_as_the_identity_start_the_same_whatever_is_in_them() {
    let ImageConfig::ResNet(sizes) = cases(0.0).remove(0).1 else { panic!("a ResNet") };
    let sizes = ImageConfig::ResNet(ResNetConfig { zero_init: true, ..sizes });
    let model = ImageModel::init(&sizes, 1, &device());
    let mut weights = export_weights(&model);
    for tensor in weights.iter_mut().filter(|t| t.name.contains(".conv")) {
        tensor.data.iter_mut().for_each(|v| *v *= -0.5);
    }
    let changed = import_weights(model.clone(), &weights).expect("the same model");
    assert_eq!(evaluate(&changed), evaluate(&model));
}

// Fine-tuning.

#[test]
fn frozen_weights_get_no_gradient_and_frozen_norms_do_not_move() {
    // Of each family's blocks, those that are trained with `last = 1`.
    for ((name, model), blocks) in models(0.0, 1).zip([4, 3, 5, 4, 3, 3]) {
        for (train, kept) in [(Trainable::Head, 0), (Trainable::Last, 1), (Trainable::All, blocks)] {
            let model = freeze(model.clone(), train, 1);
            let weights = export_weights(&model);
            let mut context = Context::training(1, 0, 0);
            let got = gradients(&model, loss(&model, &mut context));
            assert!(got.iter().zip(&weights).all(|(g, w)| g.is_some() == w.trainable), "{name}");
            let numbers = Blocks::of(weights.iter().map(|w| w.name.as_str()));
            assert_eq!(numbers.count(), blocks, "{name}");
            for weight in &weights {
                let statistic = weight.name.contains("running");
                let trained = numbers.number(&weight.name).map(|block| block + kept >= blocks);
                if let (Some(trained), false) = (trained, statistic) {
                    assert_eq!(weight.trainable, trained, "{name} {train:?}: {}", weight.name);
                }
            }
            assert!(weights.iter().any(|w| w.trainable), "{name} {train:?}");
            let updated = export_weights(&context.apply_updates(model));
            for (before, after) in weights.iter().zip(&updated).filter(|(w, _)| w.name.contains("running")) {
                let trained = match numbers.number(&before.name) {
                    Some(block) => block + kept >= blocks,
                    None => train == Trainable::All,
                };
                assert_eq!(before.data != after.data, trained, "{name} {train:?}: {}", before.name);
            }
        }
    }
}

#[test]
fn rates_fall_from_block_to_block() {
    let recipe = "name = \"x\"\ntask = \"text-classification\"\n[data]\nsource = \"x.csv\"\ntarget = \"y\"\n[model]\nfrom = \"runs/x\"\nlayer_decay = 0.5\n";
    let recipe = jishi_recipe::parse(recipe, &Origin::File("x".into()), &[]).expect("a recipe").recipe;
    let rates = LayerRates::of(&recipe);
    for (i, (input, first, last, head)) in [
        ("conv1.weight", "layer1.0.conv1.weight", "layer3.0.bn2.bias", "fc.weight"),
        ("conv1.weight", "layer1.0.conv1.weight", "layer2.1.conv3.weight", "fc.bias"),
        ("features.0.weight", "features.1.weight", "classifier.3.weight", "classifier.6.weight"),
        ("features.0.weight", "features.0.bias", "classifier.0.weight", "classifier.3.weight"),
        (
            "embeddings.cls_token",
            "encoder.layer.0.intermediate.dense.weight",
            "encoder.layer.2.output.dense.bias",
            "classifier.weight",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let (name, model) = models(0.0, 1).nth(i).expect("a case");
        let names: Vec<String> = export_weights(&model).into_iter().map(|w| w.name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let scale = |tensor: &str| {
            assert!(names.contains(&tensor), "{name}: {tensor}");
            rates.scale(tensor, &names)
        };
        let blocks = Blocks::of(names.iter().copied()).count() as i32;
        assert_eq!((scale(last), scale(head)), (0.5, 1.0), "{name}");
        assert_eq!(scale(first), 0.5f64.powi(blocks), "{name}");
        let before = if name.starts_with("vgg") { blocks } else { blocks + 1 };
        assert_eq!(scale(input), 0.5f64.powi(before), "{name}");
    }
}

#[test]
fn low_rank_additions_are_for_attention() {
    let lora = Lora { rank: 2, ..Lora::default() };
    for (name, model) in models(0.0, 1) {
        let base = shaken(model);
        let added = add_lora(base.clone(), &lora, 3, &device());
        if !name.starts_with("vit") {
            assert!(added.expect_err("no such layers").to_string().contains("attention"), "{name}");
            continue;
        }
        let model = added.expect("additions");
        close(&evaluate(&model), &evaluate(&base), 1e-5, name);
        let model = train(model, 5);
        assert_ne!(evaluate(&model), evaluate(&base), "{name}");
        close(&evaluate(&merge_lora(model.clone())), &evaluate(&model), 1e-4, name);
    }
}

#[test]
fn a_head_of_other_classes_starts_anew() {
    for (name, model) in models(0.0, 1) {
        let mut sizes = model.config();
        sizes.set_classes(3);
        let tensors = model.reference().to_reference(export_weights(&shaken(model)));
        let fresh = ImageModel::init(&sizes, 2, &device());
        let (loaded, found) = fresh.load(tensors.clone()).expect("the same body");
        assert_eq!((found.fresh.len(), found.unused.len()), (2, 2), "{name}: {found:?}");
        assert_eq!(loaded.forward(batch(), &mut Context::evaluation()).dims(), [BATCH, 3], "{name}");
        let whole = loaded.reference().load_whole(loaded, tensors);
        assert!(whole.expect_err("another head").to_string().contains("should have shape"), "{name}");
    }
}

// Against torchvision, timm and `transformers`: tests/fixtures/image.py.

#[test]
fn logits_are_those_of_the_reference_libraries() {
    let path = format!("{}/tests/fixtures/image.json", env!("CARGO_MANIFEST_DIR"));
    let cases: Value = serde_json::from_slice(&std::fs::read(path).expect("a fixture")).expect("JSON");
    let cases = cases.as_array().expect("a list");
    assert_eq!(cases.len(), 10);
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let sizes = ImageConfig::from_hf(&case["config"]).unwrap_or_else(|e| panic!("{name}: {e}"));
        let shapes = case["shapes"].as_object().expect("shapes");
        let tensors: Vec<NamedTensor> =
            shapes.iter().map(|(name, shape)| formula(name, list(shape))).collect();
        let model = ImageModel::init(&sizes, 1, &device());
        let model = model.reference().load_whole(model, tensors).unwrap_or_else(|e| panic!("{name}: {e}"));
        let [rows, channels, height, width] = list(&case["input"])[..] else { panic!("{name}: an input") };
        let x = images(rows, [height, width], channels);
        let found = values(model.valid().forward(x, &mut Context::evaluation()));
        let expected = case["logits"].as_array().expect("logits").iter();
        let expected: Vec<f32> = expected.map(|v| v.as_f64().expect("a number") as f32).collect();
        assert!(expected.iter().any(|v| v.abs() > 0.1), "{name}: {expected:?}");
        close(&found, &expected, 1e-4, name);
    }
}

#[test]
fn configurations_that_are_not_supported_are_refused_with_all_reasons() {
    let resnet = ImageConfig::ResNet(ResNetConfig::resnet18(Stem::Large, 5)).to_hf();
    let vit = ImageConfig::Vit(VitConfig::new([1, 8, 2], 8, 4, 5)).to_hf();
    let vgg = ImageConfig::Vgg(VggConfig::new(11, true, 5).expect("a known depth")).to_hf();
    for (config, changes, words) in [
        (
            &resnet,
            json!({"hidden_sizes": [1, 2], "downsample_in_bottleneck": true, "hidden_act": "gelu"}),
            &["hidden_sizes", "downsample_in_bottleneck", "hidden_act"][..],
        ),
        (&resnet, json!({"depths": [0, 1], "layer_type": "x"}), &["depths", "layer_type"]),
        (&vgg, json!({"depths": [1, 1, 1, 1, 1, 1], "classifier_sizes": "x"}), &["classifier_sizes"]),
        (&vit, json!({"patch_size": 3}), &["model.patch"]),
        (&vit, json!({"num_attention_heads": 3, "qkv_bias": false}), &["num_attention_heads", "qkv_bias"]),
        (&vit, json!({"image_size": [8, 8, 8]}), &["image_size"]),
        (&vit, json!({"model_type": "swin"}), &["swin", "resnet, vgg and vit"]),
    ] {
        let mut config = config.clone();
        for (key, value) in changes.as_object().expect("changes") {
            config[key] = value.clone();
        }
        let problems = ImageConfig::from_hf(&config).expect_err("it is refused").to_string();
        assert!(words.iter().all(|word| problems.contains(word)), "{words:?}: {problems}");
    }
}

#[test]
fn sizes_follow_from_a_recipe_and_the_shape_of_images() {
    let config = |json: Value, shape| {
        let model = serde_json::from_value(json).expect("a model");
        ImageConfig::from_recipe(&model, shape, 5)
    };
    let stem = |json, shape| match config(json, shape) {
        Ok(ImageConfig::ResNet(sizes)) => (sizes.stem, sizes.bottleneck, sizes.blocks, sizes.channels),
        other => panic!("{other:?}"),
    };
    assert_eq!(stem(json!({"family": "resnet"}), [32, 32, 3]), (Stem::Small, false, vec![2; 4], 3));
    assert_eq!(
        stem(json!({"family": "resnet", "depth": 50}), [224, 224, 1]),
        (Stem::Large, true, vec![3, 4, 6, 3], 1)
    );
    let narrow = json!({"family": "resnet", "depth": 50, "blocks": [1, 2], "stem": "large"});
    assert_eq!(stem(narrow, [28, 28, 1]), (Stem::Large, false, vec![1, 2], 1));
    for (side, pool) in [(28, 1), (224, 7)] {
        let vgg = json!({"family": "vgg", "hidden": [9]});
        let Ok(ImageConfig::Vgg(sizes)) = config(vgg, [side, side, 3]) else { panic!("a VGG") };
        assert_eq!((sizes.pool, &sizes.hidden[..], sizes.classes), (pool, &[9][..], 5));
    }
    let Ok(ImageConfig::Vit(sizes)) = config(json!({"family": "vit", "patch": 4}), [28, 32, 1]) else {
        panic!("a ViT")
    };
    assert_eq!((sizes.grid(), sizes.hidden, sizes.pooling), ([7, 8], 768, VitPooling::Cls));
    for (json, shape, word) in [
        (json!({"family": "vit", "patch": 5}), [28, 28, 1], "28 × 28"),
        (json!({"family": "vgg", "depth": 12}), [28, 28, 1], "found 12"),
        (json!({"family": "resnet", "blocks": []}), [28, 28, 1], "model.blocks"),
        (json!({"family": "mlp"}), [28, 28, 1], "no model of images"),
    ] {
        let problems = config(json, shape).expect_err("it is refused").to_string();
        assert!(problems.contains(word), "{word}: {problems}");
    }
}
