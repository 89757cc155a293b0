//! `jishi check`.

use jishi_runs::error::bytes_words;
use jishi_runs::table::{Align, text_table, thousands};
use jishi_train::job::check::{CheckReport, check};

use crate::cli::{CheckArgs, DeviceName};
use crate::commands::{load, train};
use crate::error::CliError;
use crate::progress::duration;

/// Runs the command.
pub fn run(args: &CheckArgs, json: bool) -> Result<(), CliError> {
    let loaded = load(&args.recipe)?;
    let device = train::device(DeviceName::Auto)?;
    let report = check(&loaded.parsed.recipe, &loaded.base, &args.out, &device)?;
    if json {
        super::print_json(&report)?;
    } else {
        print!("{}", text(&report));
    }
    Ok(())
}

fn text(report: &CheckReport) -> String {
    let splits: Vec<String> = report.rows.iter().map(|(name, rows)| format!("{rows} {name}")).collect();
    let runs = if report.runs > 1 { format!(", in each of {} folds", report.runs) } else { String::new() };
    let free = report.free_disk.map_or(String::new(), |free| format!(" ({} free)", bytes_words(free)));
    let inputs: Vec<String> =
        report.inputs.iter().rev().map(|(name, n)| format!("{} {name}", thousands(&n.to_string()))).collect();
    let rows = [
        ("rows", format!("{}; {} dropped", splits.join(", "), report.ledger.dropped)),
        ("inputs", inputs.join(", ")),
        ("parameters", thousands(&report.parameters.to_string())),
        ("steps", format!("{}{runs}", thousands(&report.steps.to_string()))),
        ("memory", format!("about {}", bytes_words(report.memory))),
        ("disk", format!("about {}{free}", bytes_words(report.disk))),
        ("time", format!("about {}", duration(report.seconds.ceil()))),
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(k, v)| vec![k.to_owned(), v]).collect();
    let mut out = text_table(&[("", Align::Left), ("", Align::Left)], &rows);
    for note in &report.notes {
        out += &format!("note: {note}\n");
    }
    out += "no problem found; nothing was written\n";
    out
}
