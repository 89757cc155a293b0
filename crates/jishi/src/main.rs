//! `jishi`: the command line, thin. Every command is a file in [`commands`].

mod cli;
mod commands;
mod error;
mod progress;
#[cfg(test)]
mod reference;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::error::CliError;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.render();
            if json {
                println!("{}", error.json());
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<(), CliError> {
    let json = cli.json;
    match cli.command {
        Command::Train(args) => commands::train::run(&args, json),
        Command::Check(args) => commands::check::run(&args, json),
        Command::Evaluate(args) => commands::evaluate::run(&args, json),
        Command::Predict(args) => commands::predict::run(&args, json),
        Command::Runs { command, root } => commands::runs::run(command, &root, json),
        Command::Plot(args) => commands::plot::run(&args, json),
        Command::Data(command) => commands::data::run(command, json),
        Command::Recipe(command) => commands::recipe::run(command, json),
        Command::VerifyResume(args) => commands::verify_resume::run(&args, json),
        Command::Bench(args) => commands::bench::run(&args, json),
    }
}
