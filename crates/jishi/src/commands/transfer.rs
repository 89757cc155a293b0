//! `jishi import` and `jishi export`.

use jishi_hub::Dtype;
use jishi_recipe::Problem;
use jishi_runs::package;
use jishi_runs::table::thousands;
use jishi_train::job::onnx;
use jishi_train::job::transfer::{self, ExportFormat};

use crate::cli::{DeviceName, ExportArgs, ExportName, ExportWeights, ImportArgs};
use crate::commands::train;
use crate::error::CliError;

/// Runs `jishi import`.
pub fn import(args: &ImportArgs, json: bool) -> Result<(), CliError> {
    let device = train::device(DeviceName::Auto)?;
    let imported = transfer::import(&args.source, &args.out, &device, &mut |line| eprintln!("{line}"))?;
    if json {
        return super::print_json(&imported);
    }
    let path = imported.path.display();
    let count = |count: usize| thousands(&count.to_string());
    let of = match (imported.vocabulary, imported.labels) {
        (Some(tokens), _) => format!(", {} tokens", count(tokens)),
        (None, Some(labels)) => format!(", {} labels", count(labels)),
        (None, None) => String::new(),
    };
    let (task, family, parameters) = (&imported.task, &imported.family, count(imported.parameters));
    println!("{path}: {task}, family {family}, {parameters} parameters{of}");
    let writes = ["causal-lm", "translation"].contains(&task.as_str());
    let (verb, with) = if writes { ("generate", "--prompt TEXT") } else { ("predict", "--input FILE") };
    println!("{verb:9} jishi {verb} {path} {with}");
    println!("fine-tune [model] with from = \"{path}\" in a recipe");
    Ok(())
}

/// Runs `jishi export`.
pub fn export(args: &ExportArgs, json: bool) -> Result<(), CliError> {
    let dtype = match (args.format, args.weights) {
        (_, ExportWeights::F32) => Dtype::F32,
        (ExportName::Onnx, _) => {
            let problem = Problem::new("ONNX files get f32 weights");
            return Err(CliError::bad(problem.help("leave `--weights` out, or choose another `--format`")));
        }
        (_, ExportWeights::F16) => Dtype::F16,
        (_, ExportWeights::Bf16) => Dtype::BF16,
        (ExportName::Gguf, ExportWeights::Q8_0) => Dtype::Q8_0,
        (ExportName::Safetensors, ExportWeights::Q8_0) => {
            let problem = Problem::new("safetensors files get f32, f16 or bf16 weights");
            return Err(CliError::bad(problem.help("add `--format gguf` for blocks")));
        }
    };
    let device = train::device(DeviceName::Auto)?;
    let package = package::find(&args.root, &args.run)?;
    let export = |format| {
        transfer::export(&package, format, dtype, &args.out, &device, &mut |line| eprintln!("{line}"))
    };
    match args.format {
        ExportName::Safetensors => export(ExportFormat::Safetensors)?,
        ExportName::Gguf => export(ExportFormat::Gguf)?,
        ExportName::Onnx => onnx::export(&package, &args.out, &device)?,
    }
    if json {
        println!("{}", serde_json::json!({ "path": args.out }));
    } else {
        eprintln!("wrote {}", args.out.display());
    }
    Ok(())
}
