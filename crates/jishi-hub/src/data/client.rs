//! The clients of package registries, as the user has set them up.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jishi_recipe::Problem;
use jishi_runs::atomic::write_real;

use super::catalogue::Source;
use crate::error::HubError;

/// A client of a package registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// A wheel from PyPI: `pip download`.
    PipWheel,
    /// A source package from PyPI: `pip download`, which holds its hash against ours before it runs its setup script.
    PipSource,
    /// A package from npm: `npm pack`.
    Npm,
    /// A package of Debian or Ubuntu: `apt-get download`.
    Apt,
}

const REQUIREMENTS: &str = "requirements.txt";

impl Client {
    /// Programs that do the same, the first that is there is used.
    fn programs(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::PipWheel | Self::PipSource => {
                &[&["pip"], &["pip3"], &["python3", "-m", "pip"], &["python", "-m", "pip"]]
            }
            // On Windows npm is a script, which is found by its whole name alone.
            Self::Npm if cfg!(windows) => &[&["npm.cmd"]],
            Self::Npm => &[&["npm"]],
            Self::Apt => &[&["apt-get"]],
        }
    }

    fn arguments(self, source: &Source) -> Vec<String> {
        let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        let pip = |kind| {
            words(&format!(
                "download --no-deps --disable-pip-version-check --quiet {kind} :all: --require-hashes -r {REQUIREMENTS}"
            ))
        };
        match self {
            Self::PipWheel => pip("--only-binary"),
            Self::PipSource => pip("--no-binary"),
            Self::Npm => words(&format!("pack --silent {}@{}", source.package, source.version)),
            Self::Apt => words(&format!("download {}", source.package)),
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::PipWheel | Self::PipSource => {
                "install Python with pip, and set a mirror where PyPI is out of reach (`pip config set global.index-url URL`)"
            }
            Self::Npm => {
                "install Node.js with npm, and set a mirror where its registry is out of reach (`npm config set registry URL`)"
            }
            Self::Apt => "this data is in packages of Debian and Ubuntu: run `apt-get update` there first",
        }
    }
}

/// Downloads a package into the empty folder `dir` and gives the path of its archive.
pub(super) fn download(source: &Source, dir: &Path) -> Result<PathBuf, HubError> {
    download_with(source.client.programs(), source, dir)
}

fn download_with(programs: &[&[&str]], source: &Source, dir: &Path) -> Result<PathBuf, HubError> {
    let arguments = source.client.arguments(source);
    if matches!(source.client, Client::PipWheel | Client::PipSource) {
        let line = format!("{}=={} --hash=sha256:{}\n", source.package, source.version, source.sha256);
        write_real(&dir.join(REQUIREMENTS), line.as_bytes())?;
    }
    for program in programs {
        let line = [&program.join(" "), &arguments.join(" ")].map(String::as_str).join(" ");
        let run = Command::new(program[0]).args(&program[1..]).args(&arguments).current_dir(dir).output();
        match run {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(source, &line, &e.to_string())),
            Ok(output) if output.status.success() => return archive_in(source, dir, &line),
            // A Python without pip: another one may have it.
            Ok(output) if last_line(&output).contains("No module named pip") => {}
            Ok(output) => return Err(failed(source, &line, &last_line(&output))),
        }
    }
    let names: Vec<String> = programs.iter().map(|p| format!("`{}`", p.join(" "))).collect();
    let message = format!("expected {} to get {:?}, found none", names.join(" or "), source.package);
    Err(HubError::fetch(Problem::new(message).help(source.client.help())))
}

fn failed(source: &Source, line: &str, word: &str) -> HubError {
    HubError::fetch(Problem::new(format!("`{line}` failed: {word}")).help(source.client.help()))
}

/// The line that says most: the last error, or the last line.
fn last_line(output: &Output) -> String {
    let text =
        [&output.stdout[..], &output.stderr[..]].map(|b| String::from_utf8_lossy(b).into_owned()).join("\n");
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines()
        .rfind(|line| line.starts_with("ERROR") || line.starts_with("E:") || line.starts_with("npm ERR"));
    error.or_else(|| lines().next_back()).unwrap_or("it said nothing").to_string()
}

fn archive_in(source: &Source, dir: &Path, line: &str) -> Result<PathBuf, HubError> {
    let entries = std::fs::read_dir(dir).map_err(|e| HubError::io(dir, e))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| HubError::io(dir, e))?;
        if entry.file_name() != REQUIREMENTS {
            found.push(entry.path());
        }
    }
    match found.as_slice() {
        [path] => Ok(path.clone()),
        _ => Err(failed(source, line, &format!("it left {} files, expected one archive", found.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(client: Client) -> Source {
        Source { client, package: "x-y", version: "1.0", sha256: "00", bytes: 1 }
    }

    #[test]
    fn commands_name_package_and_version() {
        let line = |client: Client| client.arguments(&source(client)).join(" ");
        assert_eq!(line(Client::Npm), "pack --silent x-y@1.0");
        assert_eq!(line(Client::Apt), "download x-y");
        assert!(line(Client::PipSource).contains("--no-binary :all: --require-hashes"));
        assert!(line(Client::PipWheel).contains("--only-binary :all:"));
    }

    #[cfg(unix)]
    #[test]
    fn clients_that_are_missing_or_fail_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let run = |programs: &[&[&str]], client| download_with(programs, &source(client), dir.path());
        let error = run(&[&["no-such-client"], &["nor-this", "-m"]], Client::Npm).unwrap_err().to_string();
        assert!(
            error.contains("`no-such-client` or `nor-this -m`") && error.contains("install Node.js"),
            "{error}"
        );
        let fails: &[&str] = &["sh", "-c", "echo 'ERROR: no route' >&2; echo bye; exit 3"];
        let error = run(&[&["no-such-client"], fails], Client::PipWheel).unwrap_err().to_string();
        for word in ["`sh -c", "download --no-deps", "failed: ERROR: no route", "index-url"] {
            assert!(error.contains(word), "{word}: {error}");
        }
        let pip_is_missing: &[&str] = &["sh", "-c", "echo 'python: No module named pip' >&2; exit 1"];
        let works: &[&str] = &["sh", "-c", "touch x.tgz"];
        assert_eq!(run(&[pip_is_missing, works], Client::Npm).unwrap(), dir.path().join("x.tgz"));
        let error = run(&[&["sh", "-c", "touch y.tgz"]], Client::Npm).unwrap_err().to_string();
        assert!(error.contains("it left 2 files"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn the_last_error_is_shown() {
        use std::os::unix::process::ExitStatusExt;
        let output = |stderr: &str| Output {
            status: std::process::ExitStatus::from_raw(256),
            stdout: b"begin\n".to_vec(),
            stderr: stderr.as_bytes().to_vec(),
        };
        assert_eq!(
            last_line(&output("ERROR: no such package\n\nnotice: a new pip is there\n")),
            "ERROR: no such package"
        );
        assert_eq!(last_line(&output("")), "begin");
    }
}
