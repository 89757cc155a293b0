//! Image models of real sizes, as torchvision and `transformers` write them: `python
//! crates/jishi-models/tests/fixtures/image.py real OUT`, then this with `JISHI_IMAGES=OUT`.

#[path = "../../../jishi-models/tests/common/numbers.rs"]
mod numbers;

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use jishi_hub::Resolved;
use jishi_models::{Context, ImageConfig, ImageModel, NamedTensor};
use numbers::numbers;
use serde_json::Value;

fn model(path: &Path) -> ImageModel {
    let Resolved::Checkpoint(found) = jishi_hub::read(path).expect("a model") else {
        panic!("no checkpoint")
    };
    let config = ImageConfig::from_hf(&found.about.config).expect("a model of images");
    let tensors = found.tensors.iter().map(|(name, meta)| NamedTensor {
        name: name.into(),
        shape: meta.shape.clone(),
        data: found.tensors.read(name).expect("its values"),
        trainable: true,
    });
    let model = ImageModel::init(&config, 0, &Device::flex());
    model.reference().load_whole(model, tensors.collect()).expect("all tensors")
}

#[test]
#[ignore = "needs models that the script wrote"]
fn logits_of_real_sizes_are_those_of_the_reference_libraries() {
    let folder = PathBuf::from(std::env::var_os("JISHI_IMAGES").expect("JISHI_IMAGES is not set"));
    let names = ["resnet18", "resnet50", "vgg11_bn", "vgg16", "vit_b_16", "hf-resnet50", "hf-vit-base"];
    for name in names {
        let path = folder.join(name);
        let path = if path.is_dir() { path } else { path.with_extension("pth") };
        let facts = std::fs::read(folder.join(name).with_extension("json")).expect("its logits");
        let facts: Value = serde_json::from_slice(&facts).expect("JSON");
        let size = |i: usize| facts["input"][i].as_u64().expect("a size") as usize;
        let [rows, channels, height, width] = [0, 1, 2, 3].map(size);
        let values = numbers("input", rows * channels * height * width);
        let x = TensorData::new(values, [rows, channels, height, width]);
        let x = Tensor::<4>::from_data(x, &Device::flex()).permute([0, 2, 3, 1]);
        let y = model(&path).valid().forward(x, &mut Context::evaluation());
        let found = y.into_data().try_to_vec::<f32>().expect("f32");
        let expected = facts["logits"].as_array().expect("logits").iter();
        let expected: Vec<f32> = expected.map(|v| v.as_f64().expect("a number") as f32).collect();
        assert_eq!(found.len(), expected.len(), "{name}");
        let largest = expected.iter().fold(0.0f32, |a, v| a.max(v.abs()));
        let worst = found.iter().zip(&expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
        println!("{name}: largest difference {worst:.1e} of logits up to {largest:.2}");
        assert!(worst <= 1e-4 * largest.max(1.0), "{name}: {worst}");
    }
}
