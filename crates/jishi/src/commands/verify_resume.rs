//! `jishi verify-resume`.

use jishi_train::job::verify::verify;

use crate::cli::{DeviceName, VerifyArgs};
use crate::commands::{load, train};
use crate::error::CliError;

/// Runs the command.
pub fn run(args: &VerifyArgs, json: bool) -> Result<(), CliError> {
    let loaded = load(&args.recipe)?;
    let device = train::device(DeviceName::Auto)?;
    let report = verify(&loaded.parsed.recipe, &loaded.base, args.steps, &device)?;
    if json {
        super::print_json(&report)?;
    } else {
        for stop in &report.interruptions {
            match &stop.first_difference {
                None => println!(
                    "stopped after step {:>5}, resumed to {}: every bit equal",
                    stop.at, report.steps
                ),
                Some(what) => println!("stopped after step {:>5}: {what} differs", stop.at),
            }
        }
        for part in &report.accumulation {
            println!(
                "batches in {} parts: losses differ by at most {:.1e} of their size",
                part.parts, part.largest_difference
            );
        }
        if let Some(note) = &report.note {
            println!("note: {note}");
        }
    }
    if report.ok {
        Ok(())
    } else {
        Err(CliError::Reported("a resumed or accumulated run is not the same".into()))
    }
}
