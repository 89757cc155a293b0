//! `jishi plot`.

use jishi_recipe::Problem;
use jishi_runs::plots::{Curves, curves};
use jishi_runs::run::RunDir;
use jishi_train::job::pictures::curve;

use crate::cli::PlotArgs;
use crate::error::CliError;

/// Runs the command.
pub fn run(args: &PlotArgs, json: bool) -> Result<(), CliError> {
    let ending = args.output.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
    if ending != "svg" && ending != "png" {
        return Err(CliError::bad(
            Problem::new("expected a picture that ends in .svg or .png").file(&args.output),
        ));
    }
    let mut drawn = Vec::new();
    for spec in &args.runs {
        let run = RunDir::open(&args.root, spec)?;
        let log = jishi_runs::log::read(&run.metrics())?;
        drawn.push(curve(&run.name(), &log, run.manifest()?.best_step));
    }
    let title = if drawn.len() == 1 { drawn[0].name.clone() } else { "Runs".to_owned() };
    let scene = curves(&Curves { title, x_label: "epoch".into(), y_label: "loss".into(), runs: drawn });
    let bytes = if ending == "svg" { scene.to_svg().into_bytes() } else { scene.to_png() };
    jishi_runs::atomic::write_real(&args.output, &bytes)?;
    if json {
        println!("{}", serde_json::json!({ "output": args.output }));
    } else {
        println!("wrote {}", args.output.display());
    }
    Ok(())
}
