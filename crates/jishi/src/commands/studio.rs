//! `jishi studio`.

use jishi_serve::{Options, Server, studio};
use serde_json::json;

use crate::cli::{DeviceName, StudioArgs};
use crate::commands::train;
use crate::error::CliError;

/// Runs the command.
pub fn run(args: &StudioArgs, json: bool) -> Result<(), CliError> {
    let device = train::device(DeviceName::Auto)?;
    let options = Options {
        root: args.root.clone(),
        // Who may act is asked at every request: others may look, where the address lets them.
        no_keys: true,
        studio: Some(studio::Options { everyone: true, ..studio::Options::here(&args.root) }),
        ..Options::new(args.listen)
    };
    let server = Server::bind(options)?;
    let address = server.address().map_err(|e| CliError::Failed(e.to_string()))?;
    eprintln!("the studio of {} is at http://{address}", args.root.display());
    if !address.ip().is_loopback() {
        eprintln!("warning: others can look at the runs; only this machine can start and stop them");
    }
    eprintln!("Ctrl-C closes it; runs that were started from it go on");
    let ready = move |_: &[std::sync::Arc<jishi_serve::Model>]| {
        if json {
            println!("{}", json!({ "address": format!("http://{address}") }));
        }
    };
    // Nobody asks but the system.
    let (_end, ended) = tokio::sync::watch::channel(false);
    server.run(&device, ended, |_| {}, ready)?;
    Ok(())
}
