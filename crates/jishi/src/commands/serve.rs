//! `jishi serve`.

use std::time::Instant;

use jishi_serve::settings::{Settings, Weights};
use jishi_serve::{Options, ServeError, Server, studio};
use serde_json::json;

use crate::cli::{BenchPrecision, DeviceName, ServeArgs};
use crate::commands::train;
use crate::error::CliError;

/// Runs the command.
pub fn run(args: &ServeArgs, json: bool) -> Result<(), CliError> {
    let started = Instant::now();
    let device = train::device(DeviceName::Auto)?;
    let options = options(args)?;
    let (open, scheme) = (options.keys.is_none(), if options.tls.is_some() { "https" } else { "http" });
    let server = Server::bind(options)?;
    let address = server.address().map_err(|e| CliError::Failed(e.to_string()))?;
    eprintln!("listening at {scheme}://{address}");
    if !address.ip().is_loopback() && open {
        eprintln!("warning: others can reach this address, and nobody is asked for a key");
    }
    let progress = |line: &str| eprintln!("{line}");
    let ready = move |models: &[std::sync::Arc<jishi_serve::Model>]| {
        for model in models {
            eprintln!("serving {} ({}, {}, version {})", model.name, model.task, model.family, model.version);
        }
        let milliseconds = started.elapsed().as_millis() as u64;
        eprintln!("ready after {milliseconds} ms; Ctrl-C ends");
        if json {
            let names: Vec<&str> = models.iter().map(|m| m.name.as_str()).collect();
            let address = format!("{scheme}://{address}");
            println!("{}", json!({ "address": address, "models": names, "milliseconds": milliseconds }));
        }
    };
    // Nobody asks but the system.
    let (_end, ended) = tokio::sync::watch::channel(false);
    server.run(&device, ended, progress, ready)?;
    eprintln!("ended");
    Ok(())
}

/// Flags go before the environment, and that before the file.
fn options(args: &ServeArgs) -> Result<Options, CliError> {
    let environment =
        Settings::of_environment(std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        }))?;
    let file = args.config.as_deref().map(Settings::of_file).transpose()?.unwrap_or_default();
    let options = flags(args).or(environment).or(file).options()?;
    let pages = studio::Options::here(&options.root);
    Ok(Options { studio: Some(pages), ..options })
}

fn flags(args: &ServeArgs) -> Settings {
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|p| p.to_string_lossy().into_owned());
    let flag = |given: bool| given.then_some(true);
    Settings {
        runs: (!args.runs.is_empty()).then(|| args.runs.clone()),
        listen: args.listen.map(|address| address.to_string()),
        root: path(&args.root),
        weights: args.weights.map(|weights| match weights {
            BenchPrecision::F32 => Weights::F32,
            BenchPrecision::Bf16 => Weights::Bf16,
            BenchPrecision::Int8 => Weights::Int8,
        }),
        keys: path(&args.keys),
        no_keys: flag(args.no_keys),
        tls_cert: path(&args.tls_cert),
        tls_key: path(&args.tls_key),
        audit: path(&args.audit),
        audit_inputs: flag(args.audit_inputs),
        access_log: flag(args.access_log),
        watch: args.watch,
        max_body: args.max_body,
        max_rows: args.max_rows,
        max_texts: args.max_texts,
        max_waiting: args.max_waiting,
        timeout: args.timeout,
        arrival_timeout: args.arrival_timeout,
        drain: args.drain,
    }
}

impl From<ServeError> for CliError {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Bad(problems) => Self::Bad(problems),
            ServeError::Model(error) => error.into(),
            ServeError::System(error) => Self::Failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_setting_is_a_flag_and_every_flag_a_setting() {
        let settings = serde_json::to_value(Settings::default()).unwrap();
        let settings: BTreeSet<String> = settings.as_object().unwrap().keys().cloned().collect();
        let command = crate::cli::Cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        let flags = serve.get_arguments().map(|a| a.get_id().to_string());
        let flags: BTreeSet<String> = flags.filter(|id| id != "config").collect();
        assert_eq!(flags, settings);
    }
}
