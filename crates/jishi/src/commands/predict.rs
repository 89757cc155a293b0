//! `jishi predict`.

use jishi_data::Source;
use jishi_data::write::{OutputFormat, to_bytes};
use jishi_recipe::Domain;
use jishi_runs::package;
use jishi_train::job::evaluate::domain_of;
use jishi_train::job::language::TextPredictor;
use jishi_train::job::predict::{Predictor, columns};
use jishi_train::job::vision::ImagePredictor;

use crate::cli::{DeviceName, PredictArgs};
use crate::commands::train;
use crate::error::CliError;

/// Runs the command.
pub fn run(args: &PredictArgs, json: bool) -> Result<(), CliError> {
    let format = match &args.output {
        Some(path) => OutputFormat::of(path).map_err(CliError::bad)?,
        None if json => OutputFormat::Jsonl,
        None => OutputFormat::Csv,
    };
    let device = train::device(DeviceName::Auto)?;
    let model = package::find(&args.root, &args.run)?;
    let predicted = match domain_of(&model)? {
        Some(Domain::Texts) => Some(TextPredictor::load(&model, &device)?.predict(&args.input)?),
        Some(Domain::Images) => Some(ImagePredictor::load(&model, &device)?.predict(&args.input)?),
        Some(Domain::Tables) | None => None,
    };
    if let Some((columns, rows)) = predicted {
        return write(args, json, rows, &to_bytes(&columns, format)?);
    }
    let predictor = Predictor::load(&model, &device)?;
    let table = predictor.read(Source::File(args.input.clone()), false, args.ignore_extra)?;
    // Every row gets its prediction: one that the policies of training drop is an error here.
    let predictions = predictor.predict_table(&table, &args.input)?;
    write(args, json, table.rows, &to_bytes(&columns(&predictions), format)?)
}

/// Writes predictions where they are wanted.
fn write(args: &PredictArgs, json: bool, rows: usize, bytes: &[u8]) -> Result<(), CliError> {
    match &args.output {
        Some(path) => {
            jishi_runs::atomic::write_real(path, bytes)?;
            eprintln!("wrote {rows} predictions to {}", path.display());
            if json {
                println!("{}", serde_json::json!({ "rows": rows, "output": path }));
            }
        }
        None if json => {
            let rows: Vec<serde_json::Value> = bytes
                .split(|b| *b == b'\n')
                .filter(|line| !line.is_empty())
                .filter_map(|line| serde_json::from_slice(line).ok())
                .collect();
            println!("{}", serde_json::json!({ "predictions": rows }));
        }
        None => super::to_stdout(bytes)?,
    }
    Ok(())
}
