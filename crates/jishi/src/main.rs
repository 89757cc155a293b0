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
use clap::error::{ContextKind, ContextValue, ErrorKind};

use jishi_kernels::memory::Recycler;

use crate::cli::{Cli, Command};
use crate::error::CliError;

/// Training asks for the same large blocks of memory at every step: they are kept.
#[global_allocator]
static MEMORY: Recycler = Recycler::new();

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| usage(error));
    let json = cli.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.render();
            if json && !matches!(error, CliError::Reported(_)) {
                println!("{}", error.json());
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// Shows help, or what is wrong with the arguments, and ends the process.
fn usage(mut error: clap::Error) -> ! {
    let mut arguments = std::env::args();
    let takes_recipe = arguments
        .nth(1)
        .is_some_and(|command| ["train", "check", "verify-resume"].contains(&command.as_str()));
    let unknown =
        error.kind() == ErrorKind::UnknownArgument && error.get(ContextKind::SuggestedArg).is_none();
    if takes_recipe && unknown {
        // `--epochs 3` is a natural guess.
        let tip = "keys of the recipe are set with '--set KEY=VALUE', as in '--set train.epochs=3'";
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    if error.use_stderr() && std::env::args().any(|a| a == "--json") {
        println!("{}", serde_json::json!({ "error": "bad usage", "message": error.to_string() }));
    }
    error.exit()
}

fn run(cli: Cli) -> Result<(), CliError> {
    let json = cli.json;
    match cli.command {
        Command::Train(args) => commands::train::run(&args, json),
        Command::Resume(args) => commands::train::resume(&args, json),
        Command::Check(args) => commands::check::run(&args, json),
        Command::Evaluate(args) => commands::evaluate::run(&args, json),
        Command::Predict(args) => commands::predict::run(&args, json),
        Command::Import(args) => commands::transfer::import(&args, json),
        Command::Export(args) => commands::transfer::export(&args, json),
        Command::Generate(args) => commands::generate::run(&args, json),
        Command::Serve(args) => commands::serve::run(&args, json),
        Command::Keys { command, file } => commands::keys::run(command, &file, json),
        Command::Studio(args) => commands::studio::run(&args, json),
        Command::Runs { command, root } => commands::runs::run(command, &root, json),
        Command::Plot(args) => commands::plot::run(&args, json),
        Command::Data(command) => commands::data::run(command, json),
        Command::Recipe(command) => commands::recipe::run(command, json),
        Command::VerifyResume(args) => commands::verify_resume::run(&args, json),
        Command::Bench(args) => commands::bench::run(&args, json),
    }
}
