//! The reference page of the command line, made from the same types that parse it. And the page of
//! dependencies, held against the manifests.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, CommandFactory};

use crate::cli::Cli;

/// The page, as Markdown.
fn markdown() -> String {
    let mut root = Cli::command().bin_name("jishi");
    root.build();
    let mut page = "# Commands\n\n\
        <!-- Made from crates/jishi/src/cli.rs: JISHI_UPDATE_DOCS=1 cargo test -p jishi -->\n\n\
        `RECIPE` is the path of a recipe or the name of a built-in one (`jishi recipe list`).\n\
        `RUN` is the name of a run under `runs`, the start of one that no other run has, or a folder.\n\n\
        Every command takes `--json`: one JSON document on stdout, everything else on stderr.\n\
        Exit codes: 0 done, 1 failed, 2 bad usage, recipe or data.\n\n"
        .to_owned();
    page += "| Command | What it does |\n|---|---|\n";
    for command in leaves(&root) {
        let name = name(command);
        page += &format!("| [`{name}`](#{}) | {} |\n", name.replace(' ', "-"), about(command));
    }
    for command in leaves(&root) {
        page += &section(command);
    }
    page
}

/// Commands that do something, in the order of the help.
fn leaves(command: &Command) -> Vec<&Command> {
    let inner = command.get_subcommands().filter(|c| c.get_name() != "help");
    let found: Vec<&Command> = inner.flat_map(leaves).collect();
    if found.is_empty() { vec![command] } else { found }
}

fn name(command: &Command) -> &str {
    command.get_bin_name().unwrap()
}

fn about(command: &Command) -> String {
    command.get_about().unwrap().to_string()
}

fn section(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let mut text = format!("\n## `{}`\n\n{}.\n\n```text\n{usage}\n```\n", name(command), about(command));
    // `--json` and `--help` are everywhere.
    let shown = |a: &&Arg| !["json", "help", "version"].contains(&a.get_id().as_str());
    let args: Vec<&Arg> = command.get_arguments().filter(shown).collect();
    if !args.is_empty() {
        text += "\n| Argument | Meaning | Default |\n|---|---|---|\n";
    }
    for arg in args {
        text += &format!("| `{}` | {} | {} |\n", word(arg), meaning(arg).replace('|', "\\|"), default(arg));
    }
    text
}

/// An argument as one types it.
fn word(arg: &Arg) -> String {
    let value = || {
        let names = arg.get_value_names().unwrap_or_default();
        names.iter().map(|n| n.to_uppercase()).collect::<Vec<_>>().join(" ")
    };
    let Some(long) = arg.get_long() else {
        let many = if arg.get_num_args().unwrap().max_values() > 1 { "..." } else { "" };
        return value() + many;
    };
    let short = arg.get_short().map_or(String::new(), |s| format!("-{s}, "));
    match arg.get_action() {
        ArgAction::SetTrue => format!("{short}--{long}"),
        _ => format!("{short}--{long} {}", value()),
    }
}

fn meaning(arg: &Arg) -> String {
    let mut text = format!("{}.", arg.get_help().unwrap().to_string().trim_end_matches('.'));
    let values: Vec<_> = arg.get_possible_values().into_iter().filter(|_| !flag(arg)).collect();
    for value in values {
        let help = value.get_help().unwrap().to_string();
        text += &format!(" `{}`: {}.", value.get_name(), help.trim_end_matches('.'));
    }
    text
}

fn flag(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

fn default(arg: &Arg) -> String {
    match arg.get_default_values() {
        _ if flag(arg) => String::new(),
        [] if arg.is_required_set() => "**required**".into(),
        [] => String::new(),
        [value, ..] => format!("`{}`", value.to_string_lossy()),
    }
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn the_reference_page_is_that_of_the_types() {
    let (page, path) = (markdown(), repository().join("docs/reference/commands.md"));
    if std::env::var_os("JISHI_UPDATE_DOCS").is_some() {
        jishi_runs::atomic::write_real(&path, page.as_bytes()).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, page, "write it anew: JISHI_UPDATE_DOCS=1 cargo test -p jishi");
}

/// Names at the start of the lines of a section of a manifest, also of those for one system.
fn section_names(manifest: &str, sections: &[&str]) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            let ours = |section: &&str| line == *section || line.ends_with(&section.replacen('[', ".", 1));
            inside = sections.iter().any(ours);
        } else if inside && line.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            names.extend(line.split(['.', ' ', '=']).next().map(str::to_owned));
        }
    }
    names
}

#[test]
fn every_dependency_is_used_and_has_its_reason() {
    let read = |path: &str| std::fs::read_to_string(repository().join(path)).unwrap();
    let mut used = Vec::new();
    for entry in std::fs::read_dir(repository().join("crates")).unwrap() {
        let manifest = entry.unwrap().path().join("Cargo.toml");
        if let Ok(text) = std::fs::read_to_string(manifest) {
            used.extend(section_names(&text, &["[dependencies]", "[dev-dependencies]"]));
        }
    }
    used.retain(|name| !name.starts_with("jishi-"));
    used.sort();
    used.dedup();

    let mut known = section_names(&read("Cargo.toml"), &["[workspace.dependencies]"]);
    known.retain(|name| !name.starts_with("jishi-"));
    known.sort();
    assert_eq!(known, used, "a dependency of the workspace that no crate uses");

    let page = read("docs/dependencies.md");
    let first_cells = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let mut explained: Vec<String> =
        first_cells.flat_map(|cell| cell.split(", ")).map(|n| n.trim_matches('`').to_owned()).collect();
    explained.sort();
    assert_eq!(explained, used, "docs/dependencies.md has one line for every dependency");
}
