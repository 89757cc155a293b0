//! Names of other libraries' checkpoints.

use crate::weights::NamedTensor;

/// Names of torchvision and timm, where the three matrices of attention are one, as Hugging Face's without its prefix.
pub(super) fn to_hf(tensors: Vec<NamedTensor>) -> Vec<NamedTensor> {
    let theirs = ["conv_proj.weight", "patch_embed.proj.weight"];
    if !tensors.iter().any(|t| theirs.contains(&&*t.name)) {
        return tensors;
    }
    let mut renamed = Vec::with_capacity(tensors.len());
    for mut tensor in tensors {
        let Some((name, whole)) = hf_name(&tensor.name) else {
            renamed.push(tensor);
            continue;
        };
        if !whole {
            tensor.name = name;
            renamed.push(tensor);
            continue;
        }
        let rows = tensor.shape.first().copied().unwrap_or_default();
        let (third, each) = (rows / 3, tensor.data.len() / 3);
        for (i, part) in ["query", "key", "value"].into_iter().enumerate() {
            let mut shape = tensor.shape.clone();
            shape.iter_mut().take(1).for_each(|rows| *rows = third);
            let data = tensor.data[i * each..][..each].to_vec();
            let name = name.replace("qkv", part);
            renamed.push(NamedTensor { name, shape, data, trainable: tensor.trainable });
        }
    }
    renamed
}

/// A name of Hugging Face for one of torchvision or timm, and whether it stands for `qkv`, three tensors in one.
fn hf_name(name: &str) -> Option<(String, bool)> {
    let plain = |name: &str| Some((name.to_owned(), false));
    match name {
        "class_token" | "cls_token" => return plain("embeddings.cls_token"),
        "encoder.pos_embedding" | "pos_embed" => return plain("embeddings.position_embeddings"),
        _ => {}
    }
    // torchvision's matrix of attention is a parameter of its own.
    let name = name.replace("in_proj_weight", "in_proj.weight").replace("in_proj_bias", "in_proj.bias");
    let (place, leaf) = name.rsplit_once('.')?;
    let layer = match place {
        "conv_proj" | "patch_embed.proj" => "embeddings.patch_embeddings.projection".to_owned(),
        "encoder.ln" | "norm" => "layernorm".to_owned(),
        "heads.head" | "head" => "classifier".to_owned(),
        _ => {
            let block = place
                .strip_prefix("encoder.layers.encoder_layer_")
                .or_else(|| place.strip_prefix("blocks."))?;
            let (number, part) = block.split_once('.')?;
            let part = match part {
                "ln_1" | "norm1" => "layernorm_before",
                "ln_2" | "norm2" => "layernorm_after",
                "self_attention.in_proj" | "attn.qkv" => "attention.attention.qkv",
                "self_attention.out_proj" | "attn.proj" => "attention.output.dense",
                "mlp.0" | "mlp.linear_1" | "mlp.fc1" => "intermediate.dense",
                "mlp.3" | "mlp.linear_2" | "mlp.fc2" => "output.dense",
                _ => return None,
            };
            format!("encoder.layer.{number}.{part}")
        }
    };
    let whole = layer.ends_with(".qkv");
    Some((format!("{layer}.{leaf}"), whole))
}
