//! Models of text: which graph is theirs, and their own outputs for the golden texts of a package.

use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};
use jishi_data::text::tokenizer::Tokenizer;
use jishi_hub::folder;
use jishi_hub::onnx::{Input, Numbers};
use jishi_models::{
    BertHead, CausalConfig, CausalModel, Context, EncoderConfig, EncoderModel, LanguageModel,
};
use jishi_recipe::TaskName;
use jishi_runs::package::Golden;
use jishi_tasks::language::texts::{EncoderTokens, padded};
use jishi_tasks::language::writer::prompt_tokens;
use serde_json::Value;

use super::{Proof, bert, beside, describe, gpt2, llama, no_graph, numbers, publish};
use crate::error::TrainError;
use crate::job::finish::same_golden;
use crate::job::language::package::TextPackage;
use crate::job::language::predictor::{TextPredictor, Weights};
use crate::job::language::transfer::about;

/// Writes the model of a text package, with tokenizer and sizes beside it.
///
/// # Errors
/// As [`super::export`].
pub(super) fn export(package: &Path, out: &Path, device: &Device) -> Result<(), TrainError> {
    let TextPackage { recipe, pipeline, tokenizer, tensors, golden } = TextPackage::read(package)?;
    if recipe.task == TaskName::Translation {
        let help = "its loop from one token to the next is no graph; `--format safetensors` writes it";
        return Err(no_graph(package, "translation", help).into());
    }
    let about = about(&pipeline.config, &tokenizer);
    let folder = beside(out, &about)?;
    let length = pipeline.length;
    let weights = Weights::Package(package, tensors);
    let model = TextPredictor::of(recipe, pipeline, tokenizer, &weights, device)?;
    same_golden("the model package", package, &model.golden(&golden.inputs)?, &golden.outputs)?;
    let Weights::Package(_, tensors) = weights else { unreachable!("these are a package's") };
    let (mut graph, proof) = if let Some(causal) = model.causal() {
        let graph = match causal.config() {
            CausalConfig::Gpt2(config) => gpt2::graph(&config, &tensors)?,
            CausalConfig::Llama(config) => llama::graph(&config, &tensors)?,
        };
        (graph, of_causal(causal, &model.tokenizer, &golden, device)?)
    } else if let Some(encoder) = model.encoder() {
        let EncoderConfig::Bert(config) = encoder.config();
        let proof = of_encoder(encoder, &model.tokenizer, length, &golden, device)?;
        (bert::graph(&config, &tensors)?, proof)
    } else {
        return Err(no_graph(package, model.recipe.task.name(), "try `--format safetensors`").into());
    };
    describe(&mut graph, model.recipe.task, model.pipeline.labels.as_ref());
    publish(out, &graph, &proof)?;
    Ok(folder::write_about(folder, &about)?)
}

fn texts(golden: &Golden) -> impl Iterator<Item = &str> {
    golden.inputs.iter().map(|row| row.get("text").and_then(Value::as_str).unwrap_or_default())
}

/// Logits of all positions: a later token has no part in an earlier one's, so that any number fills short texts up.
fn of_causal(
    model: &CausalModel,
    tokenizer: &Tokenizer,
    golden: &Golden,
    device: &Device,
) -> Result<Proof, TrainError> {
    let mut rows = Vec::new();
    for text in texts(golden) {
        let mut tokens = prompt_tokens(tokenizer, text)?;
        tokens.truncate(model.context());
        rows.push(tokens);
    }
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let tokens = padded(&rows, None, 0, &device.clone().inner()).tokens; // [texts, time]
    let inputs = vec![integers("input_ids", tokens.clone())];
    let logits = model.logits(tokens, None, &mut Context::evaluation());
    Ok(Proof { inputs, outputs: vec![numbers("logits", logits)] })
}

fn of_encoder(
    model: &EncoderModel,
    tokenizer: &Tokenizer,
    length: usize,
    golden: &Golden,
    device: &Device,
) -> Result<Proof, TrainError> {
    let device = &device.clone().inner();
    let special = EncoderTokens::of(tokenizer)?;
    let mut rows = Vec::new();
    for text in texts(golden) {
        rows.push(special.around(tokenizer, text, length)?.0);
    }
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let input = padded(&rows, None, special.pad, device);
    let mask = match &input.mask {
        Some(mask) => mask.clone().int(),
        None => input.tokens.ones_like(),
    };
    let inputs = vec![
        integers("input_ids", input.tokens.clone()),
        integers("attention_mask", mask),
        integers("token_type_ids", input.tokens.zeros_like()),
    ];
    let [batch, time] = input.tokens.dims();
    let EncoderConfig::Bert(config) = model.config();
    let mut context = Context::evaluation();
    let output = match config.head {
        BertHead::MaskedLm => {
            let places = Tensor::<1, Int>::arange(0..(batch * time) as i64, device);
            let logits = model.logits_at(input, places, &mut context); // [texts · time, vocabulary]
            numbers("logits", logits.reshape([batch, time, config.vocabulary]))
        }
        BertHead::Classification { .. } => numbers("logits", model.class_logits(input, &mut context)),
        BertHead::Embedding => numbers("sentence_embedding", model.embed(input, &mut context)),
    };
    Ok(Proof { inputs, outputs: vec![output] })
}

fn integers<const D: usize>(name: &str, values: Tensor<D, Int>) -> Input {
    let shape = values.dims().to_vec();
    let data: TensorData = values.into_data();
    Input { name: name.into(), shape, values: Numbers::I64(data.iter::<i64>().collect()) }
}
