//! `jishi serve`.

use std::time::{Duration, Instant};

use jishi_serve::input::MOST;
use jishi_serve::{Limits, ModelSource, Options, ServeError, Server};
use serde_json::json;

use crate::cli::{BenchPrecision, DeviceName, ServeArgs};
use crate::commands::train;
use crate::error::CliError;

/// Runs the command.
pub fn run(args: &ServeArgs, json: bool) -> Result<(), CliError> {
    let started = Instant::now();
    let device = train::device(DeviceName::Auto)?;
    let server = Server::bind(options(args))?;
    let address = server.address().map_err(|e| CliError::Failed(e.to_string()))?;
    eprintln!("listening at http://{address}");
    if !address.ip().is_loopback() {
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
            let address = format!("http://{address}");
            println!("{}", json!({ "address": address, "models": names, "milliseconds": milliseconds }));
        }
    };
    // Nobody asks but the system.
    let (_end, ended) = tokio::sync::watch::channel(false);
    server.run(&device, ended, progress, ready)?;
    eprintln!("ended");
    Ok(())
}

fn options(args: &ServeArgs) -> Options {
    let limits = Limits {
        body: args.max_body,
        rows: args.max_rows.clamp(1, MOST),
        sequences: args.max_texts.max(1),
        waiting: args.max_waiting.max(1),
        request: Duration::from_secs(args.timeout),
        arrival: Duration::from_secs(args.arrival_timeout),
        drain: Duration::from_secs(args.drain),
        ..Limits::default()
    };
    Options {
        listen: args.listen,
        models: args.runs.iter().map(|run| ModelSource::parse(run)).collect(),
        root: args.root.clone(),
        format: args.weights.map(BenchPrecision::format),
        limits,
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
