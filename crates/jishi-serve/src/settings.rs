//! What a server is told: by flags, by the environment, by a file. Flags go before the environment, and that before the file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jishi_kernels::cpu::matvec::Format;
use jishi_recipe::{Problem, Problems, document};
use jishi_runs::folder::read_limited;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::input::MOST;
use crate::limits::Limits;
use crate::model::ModelSource;
use crate::server::Options;

/// What variables of the environment begin with.
pub const PREFIX: &str = "JISHI_SERVE_";
/// Bytes of a file at most.
const FILE: u64 = 1 << 20;

/// A number type of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// 32-bit floating point.
    F32,
    /// bfloat16 factors, 32-bit sums.
    Bf16,
    /// 8-bit integer weights.
    Int8,
}

/// All settings. Those that are left out have defaults. Paths start from the folder that the server is started in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Runs or packages, each as RUN or NAME=RUN.
    pub runs: Option<Vec<String>>,
    /// Address and port.
    pub listen: Option<String>,
    /// Folder that holds the runs.
    pub root: Option<String>,
    /// Number type of the weights of models that write text.
    pub weights: Option<Weights>,
    /// File of keys.
    pub keys: Option<String>,
    /// Let others than this machine ask without a key.
    pub no_keys: Option<bool>,
    /// File of the server's certificate, and of those that vouch for it, as PEM.
    pub tls_cert: Option<String>,
    /// File of the certificate's private key, as PEM.
    pub tls_key: Option<String>,
    /// File that gets a line for each request.
    pub audit: Option<String>,
    /// Write what was sent to the audit log, and not its hash.
    pub audit_inputs: Option<bool>,
    /// Tell each request on stderr.
    pub access_log: Option<bool>,
    /// Seconds between looks at packages and keys; 0 for none.
    pub watch: Option<u64>,
    /// Bytes of a request's body at most.
    pub max_body: Option<usize>,
    /// Rows, texts or images of a request at most.
    pub max_rows: Option<usize>,
    /// Texts that a model writes at the same time at most.
    pub max_texts: Option<usize>,
    /// Requests that wait for a model at most.
    pub max_waiting: Option<usize>,
    /// Seconds for a whole request.
    pub timeout: Option<u64>,
    /// Seconds for a request to arrive.
    pub arrival_timeout: Option<u64>,
    /// Seconds that running requests get when the server ends.
    pub drain: Option<u64>,
}

impl Settings {
    /// Those of a file of TOML.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn of_file(path: &Path) -> Result<Self, Problems> {
        let bytes = read_limited(path, FILE).map_err(|error| error.problems())?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Problem::new("expected the server's settings in UTF-8").file(path))?;
        Ok(document::<Self>(&text, path, "the server's settings")?.values)
    }

    /// Those of the environment: `JISHI_SERVE_MAX_BODY` is `max_body`; several runs have commas between them.
    ///
    /// # Errors
    /// Variables that are not known, or whose values don't fit, all of them.
    pub fn of_environment(variables: impl Iterator<Item = (String, String)>) -> Result<Self, Problems> {
        let schema = schemars::schema_for!(Self).to_value();
        let (mut values, mut problems) = (Map::new(), Vec::new());
        for (variable, text) in variables {
            let Some(key) = variable.strip_prefix(PREFIX).map(str::to_ascii_lowercase) else { continue };
            let Some(property) = schema["properties"].get(&key) else {
                let known = schema["properties"].as_object().into_iter().flat_map(Map::keys);
                let known: Vec<String> = known.map(|k| k.to_ascii_uppercase()).collect();
                let help = format!("after {PREFIX} comes one of {}", known.join(", "));
                problems.push(Problem::new(format!("unknown variable `{variable}`")).help(help));
                continue;
            };
            // Of `["string", "null"]` the first; one that has none is of a type of its own, which is a name.
            match value(property["type"][0].as_str().unwrap_or("string"), &text) {
                Ok(value) => drop(values.insert(key, value)),
                Err(expected) => {
                    let message = format!("`{variable}`: expected {expected}, found \"{text}\"");
                    problems.push(Problem::new(message));
                }
            }
        }
        Problems(problems).into_result()?;
        let wrong = |e: serde_json::Error| Problem::new(format!("in the environment: {e}"));
        Ok(serde_json::from_value(Value::Object(values)).map_err(wrong)?)
    }

    /// These, and where they say nothing, `others`.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        let mut all = others.given();
        all.extend(self.given());
        serde_json::from_value(Value::Object(all)).unwrap_or_default()
    }

    /// What was said, as JSON.
    fn given(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(mut all)) => {
                all.retain(|_, value| !value.is_null());
                all
            }
            _ => Map::new(),
        }
    }

    /// What they come to, with defaults.
    ///
    /// # Errors
    /// Everything that is missing, contradicts itself, or is out of range.
    pub fn options(self) -> Result<Options, Problems> {
        let mut problems = Vec::new();
        let mut wrong = |message: String, help: &str| problems.push(Problem::new(message).help(help));
        let runs = self.runs.unwrap_or_default();
        if runs.is_empty() {
            wrong("there is no model to serve".into(), "name a run, as in `jishi serve houses`");
        }
        let listen = self.listen.unwrap_or_else(|| "127.0.0.1:8000".into());
        let address = listen.parse::<SocketAddr>();
        if address.is_err() {
            let help = "for example `127.0.0.1:8000`, which is for this machine alone, or `0.0.0.0:8000`";
            wrong(format!("`listen`: expected an address and a port, found \"{listen}\""), help);
        }
        let no_keys = self.no_keys.unwrap_or_default();
        if no_keys && self.keys.is_some() {
            wrong("`keys` and `no_keys` contradict each other".into(), "leave one of them out");
        }
        let audit_inputs = self.audit_inputs.unwrap_or_default();
        if audit_inputs && self.audit.is_none() {
            wrong("`audit_inputs` needs an audit log".into(), "name its file with `audit`");
        }
        let path = |text: Option<String>| text.map(PathBuf::from);
        let tls = match (path(self.tls_cert), path(self.tls_key)) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => {
                wrong("`tls_cert` and `tls_key` go together".into(), "give both, or none");
                None
            }
        };
        let usual = Limits::default();
        let mut whole = |name: &str, given: Option<usize>, usual: usize, most: usize| match given {
            Some(n) if n == 0 || n > most => {
                wrong(format!("`{name}`: expected 1 to {most}, found {n}"), "leave it out for its default");
                usual
            }
            given => given.unwrap_or(usual),
        };
        let body = whole("max_body", self.max_body, usual.body, 1 << 40);
        let rows = whole("max_rows", self.max_rows, usual.rows, MOST);
        let sequences = whole("max_texts", self.max_texts, usual.sequences, 1 << 16);
        let waiting = whole("max_waiting", self.max_waiting, usual.waiting, 1 << 20);
        let seconds = |given: Option<u64>, usual| given.map_or(usual, Duration::from_secs);
        let limits = Limits {
            request: seconds(self.timeout, usual.request),
            arrival: seconds(self.arrival_timeout, usual.arrival),
            drain: seconds(self.drain, usual.drain),
            body,
            rows,
            sequences,
            waiting,
            ..usual
        };
        Problems(problems).into_result()?;
        let listen = address.map_err(|e| Problem::new(e.to_string()))?;
        Ok(Options {
            models: runs.iter().map(|run| ModelSource::parse(run)).collect(),
            root: self.root.unwrap_or_else(|| "runs".into()).into(),
            format: self.weights.map(Weights::format),
            limits,
            keys: path(self.keys),
            no_keys,
            tls,
            audit: path(self.audit),
            audit_inputs,
            access_log: self.access_log.unwrap_or_default(),
            watch: seconds(self.watch, Duration::from_secs(1)),
            ..Options::new(listen)
        })
    }
}

impl Weights {
    fn format(self) -> Format {
        match self {
            Self::F32 => Format::F32,
            Self::Bf16 => Format::Bf16,
            Self::Int8 => Format::Int8,
        }
    }
}

/// A text as a value of a type, or what was expected.
fn value(kind: &str, text: &str) -> Result<Value, &'static str> {
    match kind {
        "integer" => text.trim().parse::<u64>().map(Value::from).map_err(|_| "a whole number"),
        "boolean" => text.trim().parse::<bool>().map(Value::from).map_err(|_| "true or false"),
        "array" => Ok(text.split(',').map(str::trim).filter(|t| !t.is_empty()).collect()),
        _ => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Result<Settings, Problems> {
        let pairs: Vec<(String, String)> =
            pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        Settings::of_environment(pairs.into_iter())
    }

    #[test]
    fn flags_go_before_the_environment_and_that_before_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("serve.toml");
        let text = "runs = [\"a\", \"b\"]\ntimeout = 1\ndrain = 1\nmax_rows = 1\nweights = \"bf16\"\n";
        jishi_runs::atomic::write_real(&path, text.as_bytes()).unwrap();
        let file = Settings::of_file(&path).unwrap();
        let environment = environment(&[
            ("JISHI_SERVE_RUNS", "c, d=e"),
            ("JISHI_SERVE_TIMEOUT", "2"),
            ("JISHI_SERVE_DRAIN", "2"),
            ("JISHI_SERVE_NO_KEYS", "true"),
            ("OTHER", "x"),
        ])
        .unwrap();
        let flags = Settings { timeout: Some(3), no_keys: Some(false), ..Settings::default() };
        let options = flags.or(environment).or(file).options().unwrap();
        let seconds = [options.limits.request, options.limits.drain, options.limits.arrival];
        assert_eq!(seconds.map(|d| d.as_secs()), [3, 2, 20]);
        assert_eq!((options.limits.rows, options.no_keys), (1, false));
        assert_eq!(options.format, Some(Format::Bf16));
        assert_eq!(options.models.iter().map(|m| m.source.as_str()).collect::<Vec<_>>(), ["c", "e"]);
        assert_eq!(options.listen.to_string(), "127.0.0.1:8000");
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("serve.toml");
        let text = "run = \"a\"\nlisten = 80\n[tls]\ncert = \"x\"\n";
        jishi_runs::atomic::write_real(&path, text.as_bytes()).unwrap();
        let said = Settings::of_file(&path).unwrap_err();
        assert_eq!(said.0.len(), 3, "{said}");
        assert!(said.to_string().contains("did you mean `runs`?"), "{said}");
        let said = environment(&[("JISHI_SERVE_TIMEOUT", "soon"), ("JISHI_SERVE_POTR", "1")]).unwrap_err();
        assert_eq!(said.0.len(), 2, "{said}");
        assert!(environment(&[("JISHI_SERVE_WEIGHTS", "f8")]).is_err());
        let wrong = Settings {
            listen: Some("here".into()),
            keys: Some("k".into()),
            no_keys: Some(true),
            audit_inputs: Some(true),
            tls_key: Some("k".into()),
            max_rows: Some(0),
            ..Settings::default()
        };
        let said = wrong.options().unwrap_err();
        assert_eq!(said.0.len(), 6, "{said}");
    }
}
