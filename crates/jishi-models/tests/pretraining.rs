//! Pre-training without labels: masked autoencoders, contrasts of views, and generators with their critics.

mod common;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use jishi_models::{
    Context, Gan, GanConfig, GanKind, ImageConfig, ImageModel, MaeConfig, MaskedAutoencoder, NamedTensor,
    ResNetConfig, SimClr, Stem, VitConfig, VitPooling, export_weights, gradient_penalty, import_weights, mae,
};
use serde_json::Value;

use common::{Adam, check_gradients, close, formula, gradients, images, list, numbers, shaken, values};

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

// Generators and critics.

fn gans() -> Vec<(&'static str, Gan)> {
    let sizes = |kind, spectral_norm| {
        let config = GanConfig { kind, latent: 5, width: 4, side: 8, channels: 2, spectral_norm };
        config.check().expect("sizes of a model");
        Gan::init(&config, 1, &device())
    };
    vec![
        ("dcgan", sizes(GanKind::Dcgan, false)),
        ("dcgan spectral", sizes(GanKind::Dcgan, true)),
        ("resnet", sizes(GanKind::ResNet, false)),
        ("resnet spectral", sizes(GanKind::ResNet, true)),
    ]
}

/// Large weights, and singular vectors that belong to them.
fn settled(gan: Gan) -> Gan {
    let mut gan = shaken(gan);
    for step in 0..100 {
        let mut context = Context::training(1, step, 0);
        let _ = gan.critic().forward(images(1, [8; 2], 2), &mut context);
        gan = context.apply_updates(gan);
    }
    gan
}

#[test]
fn generators_make_images_and_critics_tell_them() {
    for (name, gan) in gans() {
        let mut context = Context::training(1, 0, 0);
        let noise = gan.noise("noise", 3, &context, &Device::flex());
        let parts = [0, 1].map(|first| {
            let rows = 1 + first;
            values(gan.noise("noise", rows, &Context::training(1, 0, first), &Device::flex()))
        });
        assert_eq!(values(noise.clone()), parts.concat(), "{name}");
        let made = gan.generator().forward(noise, &mut context);
        assert_eq!(made.dims(), [3, 8, 8, 2], "{name}");
        assert!(values(made.clone()).iter().all(|v| v.abs() <= 1.0), "{name}");
        let told = gan.critic().forward(made, &mut context);
        assert_eq!(told.dims(), [3], "{name}");
        let weights = export_weights(&gan);
        let of = |part: &str| weights.iter().filter(|w| w.name.starts_with(part)).count();
        assert!(of("generator.") > 3 && of("generator.") + of("critic.") == weights.len(), "{name}");
        // A trained copy comes back from its weights alone, singular vectors included.
        let gan = context.apply_updates(gan);
        let evaluate = |gan: &Gan| {
            let mut context = Context::evaluation();
            values(gan.valid().critic().forward(images(2, [8; 2], 2), &mut context))
        };
        let again =
            import_weights(Gan::init(gan.config(), 2, &device()), &export_weights(&gan)).expect("the same");
        assert_eq!(evaluate(&again), evaluate(&gan), "{name}");
    }
    for (side, fits) in [(28, true), (32, true), (48, true), (64, true), (30, false), (7, false), (0, false)]
    {
        let config = GanConfig { side, ..gans()[0].1.config().clone() };
        assert_eq!(config.check().is_ok(), fits, "{side}");
    }
}

#[test]
fn gradients_of_generators_and_critics_match_finite_differences() {
    for (name, gan) in gans() {
        let gan = settled(gan);
        check_gradients(name, &gan, |gan| {
            let mut context = Context::training(5, 2, 0);
            let noise = gan.noise("noise", 3, &context, &Device::flex());
            let made = gan.generator().forward(noise, &mut context);
            let told = gan.critic().forward(made, &mut context);
            let real = gan.critic().forward(images(3, [8; 2], 2), &mut context);
            (told.tanh() - real.tanh()).mean()
        });
    }
}

#[test]
fn weights_are_divided_by_their_largest_singular_value() {
    let gan = settled(gans().remove(3).1);
    let told =
        |gan: &Gan| values(gan.valid().critic().forward(images(2, [8; 2], 2), &mut Context::evaluation()));
    let before = told(&gan);
    // Their size does not matter.
    let mut weights = export_weights(&gan);
    for tensor in
        weights.iter_mut().filter(|t| t.name.starts_with("critic.") && t.name.ends_with("conv.weight"))
    {
        tensor.data.iter_mut().for_each(|v| *v *= 3.0);
    }
    let gan = import_weights(gan, &weights).expect("the same names");
    close(&told(&gan), &before, 1e-5, "scaled");
    assert!(before.iter().any(|v| v.abs() > 1e-4), "{before:?}");
}

/// The penalty from slopes of the tape, at the places of [`gradient_penalty`] where both images are the same.
fn exact_penalty(gan: &Gan, context: &Context) -> Tensor<1> {
    let x = images(2, [8; 2], 2).autodiff().require_grad();
    let slopes = gan.critic().forward(x.clone(), &mut context.clone()).sum().backward();
    let slope = x.grad(&slopes).expect("a slope").reshape([2, 8 * 8 * 2]);
    (slope.square().sum_dim(1).sqrt() - 1.0).square().reshape([2])
}

#[test]
fn the_penalty_and_its_gradient_are_those_of_the_slope() {
    for (name, gan) in gans().into_iter().skip(2) {
        let gan = settled(gan);
        let context = Context::training(5, 2, 0);
        let penalty = |gan: &Gan| {
            let x = images(2, [8; 2], 2);
            gradient_penalty(gan.critic(), x.clone(), x, &context)
        };
        let exact = values(exact_penalty(&gan, &context));
        let largest = exact.iter().fold(1.0f32, |a, v| a.max(*v));
        close(&values(penalty(&gan)), &exact, 1e-3 * largest, name);
        // Its gradient, against differences of the exact one.
        let found = gradients(&gan, penalty(&gan).sum());
        let tensors = export_weights(&gan);
        let mut checked = 0;
        for (i, tensor) in tensors.iter().enumerate() {
            let Some(gradient) = &found[i] else { continue };
            if !tensor.name.ends_with("conv.weight") {
                continue;
            }
            let direction = numbers(&tensor.name, gradient.len());
            let length = direction.iter().map(|d| d * d).sum::<f32>().sqrt();
            let at = |step: f32| {
                let mut moved = tensors.clone();
                for (w, d) in moved[i].data.iter_mut().zip(&direction) {
                    *w += step * d / length;
                }
                let gan = import_weights(gan.clone(), &moved).expect("the same model");
                values(exact_penalty(&gan, &context)).iter().map(|v| f64::from(*v)).sum::<f64>()
            };
            let expected: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(g * d / length)).sum();
            let measured = [1e-2, 3e-3, 1e-3].map(|step| (at(step) - at(-step)) / f64::from(2.0 * step));
            let size = f64::from(gradient.iter().map(|g| g * g).sum::<f32>().sqrt());
            assert!(
                measured.iter().any(|m| (m - expected).abs() <= 1e-4 + 2e-3 * size + 1e-2 * expected.abs()),
                "{name}: {} {measured:?} {expected} of {size}",
                tensor.name
            );
            checked += 1;
        }
        assert_eq!(checked, 10, "{name}");
    }
}
