//! Models of text from others' formats into packages, and back.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use jishi_data::text::labels::Labels;
use jishi_data::text::tokenizer::Tokenizer;
use jishi_hub::{About, Dtype, Resolved};
use jishi_models::{BertHead, EncoderConfig, LanguageConfig, reference_of};
use jishi_recipe::{Recipe, TaskName};
use jishi_runs::tensors::{Scalars, TensorFile};
use serde_json::{Map, Value, json};

use super::TextPipeline;
use super::package::TextPackage;
use super::predictor::{TextPredictor, Weights};
use super::pretrained::Pretrained;
use crate::error::TrainError;
use crate::job::finish::same_golden;
use crate::job::predict::damaged;
use crate::job::transfer::{ExportFormat, Imported, named, recipe_of, save};
use crate::trainer::tensor_entries;

/// Texts that an imported model is checked with.
const TEXTS: [&str; 3] = [
    "The quick brown fox jumps over the lazy dog.",
    "In 1905 a clerk in Bern wrote four papers.",
    "千里之行，始于足下。",
];

/// Makes a package in `out` of a model that others made.
///
/// # Errors
/// As [`Pretrained::read`]; a family without a task; a folder with other things in it.
pub fn import(resolved: Resolved, source: &str, out: &Path, device: &Device) -> Result<Imported, TrainError> {
    let found = Pretrained::of(resolved, source)?;
    let family = found.config["model_type"].as_str().unwrap_or_default().to_owned();
    let recipe = recipe_for(&found.config, &family, source, out)?;
    let labels = (recipe.task == TaskName::TextClassification)
        .then(|| named(Labels::of_config(&found.config)))
        .transpose()?;
    let length = found.config["max_position_embeddings"].as_u64().or(found.config["n_positions"].as_u64());
    let pipeline = TextPipeline {
        config: found.config.clone(),
        length: length.unwrap_or(0) as usize,
        labels,
        reference: None,
    };
    let tokenizer = Arc::clone(&found.tokenizer);
    let golden = TEXTS.iter().map(|text| Map::from_iter([("text".to_owned(), (*text).into())])).collect();
    let model = TextPredictor::of(recipe, pipeline, tokenizer, &Weights::Pretrained(&found), device)?;
    let imported = save(model.pack(golden)?, model.recipe.task, &family, out)?;
    Ok(Imported { vocabulary: Some(found.tokenizer.vocabulary()), ..imported })
}

/// A recipe that says what a model is for, from its sizes alone.
fn recipe_for(config: &Value, family: &str, source: &str, out: &Path) -> Result<Recipe, TrainError> {
    let task = match family {
        "gpt2" | "llama" => TaskName::CausalLm,
        "marian" => TaskName::Translation,
        _ => match EncoderConfig::from_hf(config)? {
            EncoderConfig::Bert(bert) => match bert.head {
                BertHead::MaskedLm => TaskName::MaskedLm,
                BertHead::Classification { .. } => TaskName::TextClassification,
                BertHead::Embedding => TaskName::TextEmbedding,
            },
        },
    };
    let mut recipe = json!({
        "task": task.name(), "data": { "source": source },
        "text": {}, "tokenizer": {}, "model": { "family": "pretrained", "from": source },
    });
    // Columns that a file to evaluate is asked for.
    match task {
        TaskName::TextClassification => recipe["data"]["target"] = "label".into(),
        TaskName::TextEmbedding | TaskName::Translation => recipe["data"]["target"] = "target".into(),
        _ => {}
    }
    if task.writes_text() {
        recipe["generate"] = json!({ "temperature": 0.0 });
    }
    Ok(recipe_of(recipe, out)?)
}

/// Writes a package in a format of others, reads it back, and checks that it does the same.
///
/// # Errors
/// A damaged package; a family or number type that the format does not know; an export that does not give the golden
/// outputs.
pub fn export(
    package: &Path,
    format: ExportFormat,
    dtype: Dtype,
    out: &Path,
    device: &Device,
) -> Result<(), TrainError> {
    let TextPackage { recipe, pipeline, tokenizer, tensors, golden } = TextPackage::read(package)?;
    let reference = reference_of(&pipeline.config).map_err(|e| damaged(package, "preprocessing", &e))?;
    let tensors = tensor_entries(reference.to_reference(tensors));
    let weights = TensorFile { tensors, scalars: Scalars::default() };
    let about = about(&pipeline.config, &tokenizer);
    match format {
        ExportFormat::Safetensors => jishi_hub::folder::write(out, &about, &weights, dtype)?,
        ExportFormat::Gguf => jishi_hub::gguf::write(out, &about, &weights, dtype)?,
    }
    // GGUF knows decoders alone, and other number types round.
    if dtype == Dtype::F32 {
        let found = Pretrained::of(jishi_hub::read(out)?, &out.to_string_lossy())?;
        let pipeline = TextPipeline { config: found.config.clone(), ..pipeline };
        let tokenizer = Arc::clone(&found.tokenizer);
        let model = TextPredictor::of(recipe, pipeline, tokenizer, &Weights::Pretrained(&found), device)?;
        let outputs = model.golden(&golden.inputs)?;
        same_golden("what was exported", out, &outputs, &golden.outputs)?;
    }
    Ok(())
}

/// What others need to use a model, besides its weights.
pub(crate) fn about(config: &Value, tokenizer: &Tokenizer) -> About {
    let special = tokenizer.special;
    let mut config = config.clone();
    if let Some(config) = config.as_object_mut() {
        // What is not said has the number that it has in the family's first model, even one beyond the vocabulary.
        for (key, id) in
            [("bos_token_id", special.bos), ("eos_token_id", special.eos), ("pad_token_id", special.pad)]
        {
            config.entry(key).or_insert_with(|| id.into());
        }
    }
    // Tokens that end a turn end a text too.
    let generation = json!({
        "bos_token_id": special.bos, "eos_token_id": tokenizer.ends(), "pad_token_id": special.pad,
    });
    let mut names: Value = serde_json::from_slice(&tokenizer.config_json()).unwrap_or_default();
    if config["model_type"] != "bert" {
        // Types of tokens, which the class gives by itself, are taken for tokens by GPT-2 and refused by Llama.
        names["model_input_names"] = json!(["input_ids", "attention_mask"]);
        names["clean_up_tokenization_spaces"] = false.into();
    }
    About {
        generation_config: tokenizer.ends().first().map(|_| generation),
        config,
        tokenizer_json: Some(tokenizer.to_json()),
        tokenizer_config: Some(names),
        chat_template: tokenizer.chat_template.clone(),
        ..About::default()
    }
}
