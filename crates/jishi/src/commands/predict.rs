//! `jishi predict`.

use jishi_data::Source;
use jishi_data::write::{OutputFormat, to_bytes};
use jishi_recipe::Domain;
use jishi_runs::package;
use jishi_train::job::evaluate::domain_of;
use jishi_train::job::language::TextPredictor;
use jishi_train::job::predict::{Predictor, columns};
use jishi_train::job::vision;

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
        Some(Domain::Images) => Some(vision::load(&model, &device)?.predict(&args.input)?),
        Some(Domain::Tables) | None => None,
    };
    if let Some((columns, rows)) = predicted {
        return write(args, json, rows, &to_bytes(&columns, format)?);
    }
    let predictor = Predictor::load(&model, &device)?;
    let table = predictor.read(Source::File(args.input.clone()), false, args.ignore_extra)?;
    // Every row gets its prediction: one that the policies of training drop is an error here.
    let (rows, ledger) = predictor.usable(&table, false)?;
    if let Some(entry) = ledger.entries.first() {
        let first = entry.lines.first().map_or(0, |l| l.0);
        let problem = jishi_recipe::Problem::new(format!(
            "{} rows can't be predicted: {}",
            table.rows - rows.len(),
            entry.reason
        ));
        return Err(CliError::bad(
            problem.file(&args.input).line(first).help("fill in the values, or leave the rows out"),
        ));
    }
    let (predictions, _) = predictor.predict(&predictor.encode(&table, &rows, false)?)?;
    write(args, json, rows.len(), &to_bytes(&columns(&predictions), format)?)
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
