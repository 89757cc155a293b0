//! `jishi predict`.

use jishi_data::Source;
use jishi_data::write::{OutputFormat, to_bytes};
use jishi_recipe::{Domain, Problem, TaskName};
use jishi_runs::package;
use jishi_train::job::evaluate::task_of;
use jishi_train::job::language::TextPredictor;
use jishi_train::job::predict::{Predictor, columns};
use jishi_train::job::vision;
use jishi_train::job::vision::detection::{DetectionPredictor, SHOWN};

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
    let task = task_of(&model)?;
    if task == Some(TaskName::Detection) {
        return boxes(args, json, &DetectionPredictor::load(&model, &device)?, format);
    }
    if args.draw.is_some() || args.score.is_some() {
        let problem = Problem::new("`--draw` and `--score` are for models that find boxes").file(&model);
        return Err(CliError::bad(problem.help("leave them out")));
    }
    let predicted = match task.map(TaskName::domain) {
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
    let predictions = predictor.predict_table(&table, &args.input)?;
    write(args, json, table.rows, &to_bytes(&columns(&predictions), format)?)
}

/// Finds objects, and draws them where that is wanted.
fn boxes(
    args: &PredictArgs,
    json: bool,
    predictor: &DetectionPredictor,
    format: OutputFormat,
) -> Result<(), CliError> {
    let least = args.score.unwrap_or(SHOWN);
    if !(0.0..=1.0).contains(&least) {
        return Err(CliError::bad(Problem::new(format!("`--score`: expected 0 to 1, found {least}"))));
    }
    let predicted = predictor.predict(&args.input, least)?;
    if let Some(folder) = &args.draw {
        predictor.draw(&args.input, &predicted, folder)?;
        eprintln!("drew the boxes of {} images into {}", predicted.paths.len(), folder.display());
    }
    let (columns, rows) = predicted.columns();
    write(args, json, rows, &to_bytes(&columns, format)?)
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
