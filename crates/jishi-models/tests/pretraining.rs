//! Pre-training without labels: masked autoencoders, contrasts of views, and generators with their critics.

mod common;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use jishi_models::{
    Context, ImageConfig, ImageModel, MaeConfig, MaskedAutoencoder, NamedTensor, ResNetConfig, SimClr, Stem,
    VitConfig, VitPooling, export_weights, import_weights, mae,
};
use serde_json::Value;

use common::{Adam, check_gradients, close, formula, gradients, images, list, shaken, values};

fn device() -> Device {
    Device::flex().autodiff()
}

// Masked autoencoders.

fn autoencoder(pooling: VitPooling) -> MaskedAutoencoder {
    let encoder = VitConfig { channels: 2, pooling, ..VitConfig::new([2, 8, 2], 12, 4, 5) };
    let sizes = MaeConfig { mask_ratio: 0.6, ..MaeConfig::new(encoder) };
    sizes.check().expect("sizes of a model");
    MaskedAutoencoder::init(&sizes, 1, &device())
}

fn mean_loss(model: &MaskedAutoencoder, context: &mut Context) -> Tensor<1> {
    model.loss(images(3, [12; 2], 2), context).mean()
}

#[test]
fn an_autoencoder_is_the_references() {
    let path = format!("{}/tests/fixtures/mae.json", env!("CARGO_MANIFEST_DIR"));
    let facts: Value = serde_json::from_slice(&std::fs::read(path).expect("a fixture")).expect("JSON");
    let sizes = MaeConfig::from_hf(&facts["config"]).expect("sizes");
    assert_eq!(MaeConfig::from_hf(&sizes.to_hf()).expect("our own"), sizes);
    let shapes = facts["shapes"].as_object().expect("shapes");
    let tensors: Vec<NamedTensor> = shapes.iter().map(|(name, shape)| formula(name, list(shape))).collect();
    let model = MaskedAutoencoder::init(&sizes, 1, &device());
    let (model, found) = mae::REFERENCE.load(model, tensors.clone()).expect("all tensors");
    assert_eq!(found.fresh, ["vit.classifier.weight", "vit.classifier.bias"]);
    let numbers = |value: &Value| -> Vec<f32> {
        value.as_array().expect("numbers").iter().map(|v| v.as_f64().expect("a number") as f32).collect()
    };
    let (x, orders) = (images(2, [12; 2], 3), list(&facts["orders"]));
    let told = model.reconstruct(x.clone(), &orders, &mut Context::evaluation());
    close(&values(told.hidden), &numbers(&facts["mask"]), 0.0, "mask");
    close(&values(told.patches)[..48], &numbers(&facts["logits"]), 1e-4, "pixels");
    let loss = values(model.loss_of(x, &orders, &mut Context::evaluation()).mean())[0];
    close(&[loss], &[facts["loss"].as_f64().expect("a loss") as f32], 1e-4, "loss");
    // Its encoder is a ViT to go on with.
    let ImageConfig::Vit(vit) = ImageConfig::from_hf(&facts["config"]).expect("a ViT") else {
        panic!("a ViT")
    };
    let vit = ImageModel::init(&ImageConfig::Vit(vit), 1, &device());
    let (vit, found) = vit.load(tensors).expect("the encoder");
    assert_eq!(found.fresh.len(), 2);
    assert!(export_weights(&vit).iter().all(|tensor| tensor.trainable));
}

#[test]
fn gradients_of_an_autoencoder_match_finite_differences() {
    for pooling in [VitPooling::Cls, VitPooling::Mean] {
        let model = shaken(autoencoder(pooling));
        let fixed = |t: &NamedTensor| t.name.contains("pos") || t.name.contains("classifier");
        for tensor in export_weights(&model) {
            assert_eq!(tensor.trainable, !fixed(&tensor), "{}", tensor.name);
        }
        check_gradients("mae", &model, |model| mean_loss(model, &mut Context::training(5, 2, 0)));
    }
}

#[test]
fn an_autoencoder_learns_and_parts_of_a_batch_are_masked_as_the_whole() {
    let mut model = autoencoder(VitPooling::Cls);
    let mut adam = Adam::default();
    let first = values(mean_loss(&model, &mut Context::training(1, 0, 0)))[0];
    for _ in 0..60 {
        let gradients = gradients(&model, mean_loss(&model, &mut Context::training(1, 0, 0)));
        model = adam.step(model, gradients);
    }
    let last = values(mean_loss(&model, &mut Context::training(1, 0, 0)))[0];
    assert!(last < 0.5 * first, "{first} -> {last}");
    let whole = values(model.loss(images(3, [12; 2], 2), &mut Context::training(1, 3, 0)));
    let part = images(3, [12; 2], 2).narrow(0, 1, 2);
    close(&values(model.loss(part, &mut Context::training(1, 3, 1))), &whole[1..], 1e-5, "part");
    let weights = export_weights(&model);
    let again = import_weights(autoencoder(VitPooling::Cls), &weights).expect("the same names");
    assert_eq!(values(again.loss(images(3, [12; 2], 2), &mut Context::training(1, 3, 0))), whole);
}

// Contrasts.

#[test]
fn views_of_a_picture_come_together() {
    let sizes = ImageConfig::ResNet(ResNetConfig {
        blocks: vec![1, 1],
        width: 4,
        channels: 2,
        ..ResNetConfig::resnet18(Stem::Small, 5)
    });
    let model = shaken(SimClr::init(&sizes, 6, 1, &device()));
    let views = || {
        let all = images(8, [8; 2], 2);
        (all.clone().narrow(0, 0, 4), all.narrow(0, 0, 4) * 0.9 + 0.05)
    };
    let loss = |model: &SimClr| {
        let (first, second) = views();
        model.loss(first, second, 0.5, &mut Context::training(1, 0, 0)) / 8.0
    };
    for tensor in export_weights(&model) {
        let fixed = tensor.name.contains("running") || tensor.name.starts_with("model.fc.");
        assert_eq!(tensor.trainable, !fixed, "{}", tensor.name);
    }
    check_gradients("simclr", &model, loss);
    let (mut trained, mut adam) = (model.clone(), Adam::default());
    for _ in 0..60 {
        let gradients = gradients(&trained, loss(&trained));
        trained = adam.step(trained, gradients);
    }
    let (before, after) = (values(loss(&model))[0], values(loss(&trained))[0]);
    // Seven other views at a temperature of 1/2 leave at least ln(1 + 6 e⁻²·(1 + 1/3)).
    assert!(after < before && after < 1.2, "{before} -> {after}");
    let x = views().0;
    let features = trained.model().valid().features(x, &mut Context::evaluation());
    assert_eq!(features.dims(), [4, 8]);
}
