//! What a file of weights alone is: models of torchvision and timm, told by the names and shapes of their tensors.

use std::collections::BTreeMap;

use jishi_recipe::Problem;
use serde_json::{Value, json};

use crate::tensors::Tensors;

const HELP: &str = "put the model's config.json in the same folder, in the terms of Hugging Face";

/// The `config.json` of the model that these weights are of: a ResNet or a VGG of torchvision, or a ViT of torchvision
/// or timm.
///
/// # Errors
/// A [`Problem`] for weights of another model, and of a variant that Jishi does not have.
pub fn config(tensors: &Tensors) -> Result<Value, Problem> {
    let has = |name: &str| tensors.meta(name).is_some();
    if has("conv1.weight") && has("layer1.0.conv1.weight") {
        return resnet(tensors);
    }
    if has("conv_proj.weight") || has("patch_embed.proj.weight") {
        return vit(tensors);
    }
    if has("features.0.weight") && tensors.iter().any(|(name, _)| name.starts_with("classifier.")) {
        return vgg(tensors);
    }
    let some: Vec<&str> = tensors.iter().map(|(name, _)| name).take(3).collect();
    let message = format!(
        "expected the tensors of a ResNet, a VGG or a ViT with the names of torchvision or timm, found {} others, as in {}",
        tensors.len(),
        some.join(", ")
    );
    Err(Problem::new(message).help(HELP))
}

/// The shape of a tensor that has to be there, with this many axes.
fn shape<'a, const D: usize>(tensors: &'a Tensors, name: &str) -> Result<&'a [usize; D], Problem> {
    let found = tensors.meta(name).map(|meta| &meta.shape[..]);
    found.and_then(|shape| shape.try_into().ok()).ok_or_else(|| {
        let found = found.map_or("none".to_owned(), |shape| format!("one of shape {shape:?}"));
        Problem::new(format!("expected a tensor {name:?} with {D} axes, found {found}")).help(HELP)
    })
}

/// What weights don't tell of a model with this config, in sentences.
pub(crate) fn supposed(config: &Value) -> Vec<String> {
    if config["model_type"] != "vit" {
        return Vec::new();
    }
    let (heads, width) = (&config["num_attention_heads"], &config["hidden_size"]);
    vec![format!(
        "the weights do not tell how many attention heads there are: {heads} are supposed, as in the paper for a width of \
         {width}; with another number all predictions are wrong"
    )]
}

fn variant(what: &str) -> Problem {
    Problem::new(format!("{what}, which Jishi does not have")).help("choose another model")
}

/// How many different numbers follow `start` in names.
fn count(tensors: &Tensors, start: &str) -> usize {
    let number = |name: &str| name.strip_prefix(start)?.split('.').next()?.parse::<usize>().ok();
    let mut numbers: Vec<usize> = tensors.iter().filter_map(|(name, _)| number(name)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.len()
}

fn labelled(mut config: Value, classes: usize) -> Value {
    let labels = (0..classes).map(|i| (i.to_string(), json!(format!("LABEL_{i}"))));
    config["id2label"] = Value::Object(labels.collect());
    let numbers = (0..classes).map(|i| (format!("LABEL_{i}"), json!(i)));
    config["label2id"] = Value::Object(numbers.collect());
    config
}

fn resnet(tensors: &Tensors) -> Result<Value, Problem> {
    let &[width, channels, kernel, _] = shape(tensors, "conv1.weight")?;
    let stem = match kernel {
        3 => "small",
        7 => "large",
        _ => return Err(variant(&format!("a ResNet whose first convolution is {kernel} × {kernel}"))),
    };
    let blocks: Vec<usize> =
        (1..=4).map(|stage| count(tensors, &format!("layer{stage}."))).take_while(|n| *n > 0).collect();
    let bottleneck = tensors.meta("layer1.0.conv3.weight").is_some();
    let &[narrow, _, _, _] = shape(tensors, "layer1.0.conv1.weight")?;
    let &[_, grouped, _, _] = shape(tensors, "layer1.0.conv2.weight")?;
    if narrow != width || grouped != narrow {
        return Err(variant("a ResNet with wider or grouped convolutions (Wide ResNet, ResNeXt)"));
    }
    let &[classes, _] = shape(tensors, "fc.weight")?;
    let expansion = if bottleneck { 4 } else { 1 };
    let sizes = (0..blocks.len()).map(|stage| json!((width << stage) * expansion));
    let config = json!({
        "architectures": ["ResNetForImageClassification"],
        "model_type": "resnet",
        "hidden_sizes": sizes.collect::<Vec<Value>>(),
        "depths": blocks,
        "embedding_size": width,
        "layer_type": if bottleneck { "bottleneck" } else { "basic" },
        "stem": stem,
        "num_channels": channels,
        "hidden_act": "relu",
    });
    Ok(labelled(config, classes))
}

fn vgg(tensors: &Tensors) -> Result<Value, Problem> {
    // Weights of convolutions and of dense layers by their number; those of norms have one axis.
    let numbered = |start: &str, axes: usize| -> BTreeMap<usize, &[usize]> {
        let number = |name: &str| name.strip_prefix(start)?.strip_suffix(".weight")?.parse().ok();
        let found = tensors.iter().filter(|(_, meta)| meta.shape.len() == axes);
        found.filter_map(|(name, meta)| Some((number(name)?, &meta.shape[..]))).collect()
    };
    let (convolutions, dense) = (numbered("features.", 4), numbered("classifier.", 2));
    let batch_norm = tensors.meta("features.1.running_mean").is_some();
    // Behind a convolution come its norm and ReLU; a number more is max pooling.
    let step = if batch_norm { 3 } else { 2 };
    let &[width, channels, _, _] = shape(tensors, "features.0.weight")?;
    let (mut blocks, mut next, mut last) = (vec![0usize], 0, channels);
    for (number, shape) in &convolutions {
        if *number == next + 1 && *number > 1 {
            blocks.push(0);
        } else if *number != next {
            return Err(variant("a network with other layers than a VGG"));
        }
        let stage = blocks.len() - 1;
        let expected = [width << stage.min(3), last, 3, 3];
        if *shape != expected {
            let name = format!("features.{number}.weight");
            return Err(variant(&format!(
                "a network whose {name} is {shape:?} where a VGG has {expected:?}"
            )));
        }
        blocks[stage] += 1;
        (next, last) = (number + step, expected[0]);
    }
    let mut layers = dense.values();
    let grid = layers.next().map(|first| first[1] / last.max(1)).unwrap_or_default();
    let pool = grid.isqrt();
    if pool == 0 || pool * pool != grid {
        return Err(variant(&format!("a VGG whose dense layers see {grid} values of each channel")));
    }
    let mut sizes: Vec<usize> = dense.values().map(|shape| shape[0]).collect();
    let classes = sizes.pop().unwrap_or_default();
    let config = json!({
        "architectures": ["VGG"],
        "model_type": "vgg",
        "depths": blocks,
        "batch_norm": batch_norm,
        "embedding_size": width,
        "pool_size": pool,
        "classifier_sizes": sizes,
        "classifier_dropout": 0.5,
        "num_channels": channels,
        "hidden_act": "relu",
    });
    Ok(labelled(config, classes))
}

fn vit(tensors: &Tensors) -> Result<Value, Problem> {
    let timm = tensors.meta("patch_embed.proj.weight").is_some();
    let [patches, positions, block, hidden, head] = if timm {
        ["patch_embed.proj", "pos_embed", "blocks.", "blocks.0.mlp.fc1", "head"]
    } else {
        // The newer name and the older one.
        let names = ["encoder.layers.encoder_layer_0.mlp.0", "encoder.layers.encoder_layer_0.mlp.linear_1"];
        let there = |name: &&str| tensors.meta(&format!("{name}.weight")).is_some();
        let hidden = names.into_iter().find(there).unwrap_or(names[0]);
        ["conv_proj", "encoder.pos_embedding", "encoder.layers.encoder_layer_", hidden, "heads.head"]
    };
    let &[width, channels, patch, _] = shape(tensors, &format!("{patches}.weight"))?;
    let &[_, places, _] = shape(tensors, positions)?;
    let &[hidden, _] = shape(tensors, &format!("{hidden}.weight"))?;
    let &[classes, _] = shape(tensors, &format!("{head}.weight"))?;
    let cls = ["class_token", "cls_token"].iter().any(|name| tensors.meta(name).is_some());
    let grid = places.saturating_sub(usize::from(cls));
    let side = grid.isqrt();
    if side == 0 || side * side != grid {
        return Err(variant(&format!("a ViT with positions for {grid} patches, which are no square")));
    }
    // Heads are in no shape: those of all models of the paper have 64 values, but for the largest with 80.
    let heads = match width {
        1280 => 16,
        _ if width.is_multiple_of(64) => width / 64,
        _ => {
            let message =
                format!("the attention heads of a ViT of width {width} are not told by its weights");
            return Err(Problem::new(message).help(HELP));
        }
    };
    let config = json!({
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "num_hidden_layers": count(tensors, block),
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": hidden,
        "image_size": side * patch,
        "patch_size": patch,
        "num_channels": channels,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "attention_probs_dropout_prob": 0.0,
        "hidden_dropout_prob": 0.0,
        "qkv_bias": true,
        "pooling": if cls { "cls" } else { "mean" },
    });
    Ok(labelled(config, classes))
}
