//! `manifest.json` of a run: what was run, on what, from what, and how it ended.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use jishi_recipe::Problem;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::atomic;
use crate::error::RunError;
use crate::folder::{hex, parse_json, read_limited};
use crate::fs::Fs;

const FORMAT: &str = "jishi-run";
const VERSION: u32 = 1;
const MAX_BYTES: u64 = 256 << 20;
/// Files below this are hashed; larger ones are known by size and time of change.
const HASH_BELOW: u64 = 1 << 30;

/// The manifest of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunManifest {
    /// `jishi-run`.
    pub format: String,
    /// Version of this format.
    pub version: u32,
    /// Version of jishi that ran.
    pub jishi_version: String,
    /// The run's name.
    pub name: String,
    /// The command line.
    pub command: Vec<String>,
    /// When it began: RFC 3339, UTC.
    pub created: String,
    /// When it ended: RFC 3339, UTC.
    pub finished: Option<String>,
    /// How it stands.
    pub status: Status,
    /// The task, as in the recipe.
    pub task: String,
    /// The model family, as in the recipe.
    pub family: String,
    /// Trainable numbers of the model.
    pub parameters: u64,
    /// Seed of initial weights, shuffling and dropout.
    pub seed: u64,
    /// Where it ran.
    pub environment: Environment,
    /// The recipe as resolved, with every default.
    pub recipe: Value,
    /// SHA-256 of the recipe as resolved.
    pub recipe_sha256: String,
    /// The folder that relative paths of the recipe start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<PathBuf>,
    /// What the process that works on the run, or was the last to, was to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Planned>,
    /// The data files.
    pub data: Vec<Fingerprint>,
    /// Every default that was used.
    pub defaults: Vec<DefaultUsed>,
    /// Row counts: `read`, `dropped`, `train`, `validation`, `test`, …
    pub rows: BTreeMap<String, u64>,
    /// Epochs done; the last may be begun only.
    pub epochs: f64,
    /// Optimiser steps done.
    pub steps: u64,
    /// Step of the best weights, where validation decides.
    pub best_step: Option<u64>,
    /// Metrics by split (`train`, `validation`, `test`) and name.
    pub metrics: BTreeMap<String, BTreeMap<String, Metric>>,
    /// Seconds spent, over all resumes.
    pub wall_seconds: f64,
    /// Seconds of that in training steps.
    #[serde(default)]
    pub step_seconds: f64,
    /// Seconds of the steps in which a batch was made.
    #[serde(default)]
    pub data_seconds: f64,
    /// Peak resident memory in bytes, where the system tells.
    pub peak_memory: Option<u64>,
}

/// What a process that trains is to do, for whoever watches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Optimiser steps of the whole run.
    pub steps: u64,
    /// Rows of a step.
    pub batch: u64,
    /// Steps that were done when the process began.
    pub from: u64,
    /// When its first step began: RFC 3339, UTC.
    pub began: String,
}

/// How a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Status {
    /// At work; or killed, where no process holds the run's lock.
    Running,
    /// All done.
    Finished,
    /// Stopped on request; can be resumed.
    Interrupted {
        /// Why.
        reason: String,
    },
    /// Stopped by an error.
    Failed {
        /// Why.
        reason: String,
    },
}

impl Status {
    /// One word: `running`, `finished`, `interrupted`, `failed`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Interrupted { .. } => "interrupted",
            Self::Failed { .. } => "failed",
        }
    }
}

/// A metric and its interval. JSON has no NaN: it is written as `null`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The value.
    #[serde(with = "null_is_nan")]
    pub value: f64,
    /// Lower and upper end of the 95 % interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
}

impl From<f64> for Metric {
    fn from(value: f64) -> Self {
        Self { value, interval: None }
    }
}

mod null_is_nan {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(*value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}

/// A default that a recipe left to us.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DefaultUsed {
    /// The key, as `train.batch`.
    pub key: String,
    /// The value taken.
    pub value: Value,
    /// Where it comes from.
    pub from: String,
}

/// The machine and program that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Operating system.
    pub os: String,
    /// Processor architecture.
    pub arch: String,
    /// Vector extensions that the processor has.
    pub cpu_features: Vec<String>,
    /// Threads of the computation.
    pub threads: usize,
}

impl Environment {
    /// This machine, with the number of threads that the computation uses.
    #[must_use]
    pub fn here(threads: usize) -> Self {
        Self {
            os: std::env::consts::OS.into(),
            arch: std::env::consts::ARCH.into(),
            cpu_features: cpu_features(),
            threads,
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<String> {
    let seen = [
        ("sse4.2", std::arch::is_x86_feature_detected!("sse4.2")),
        ("avx", std::arch::is_x86_feature_detected!("avx")),
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512bw", std::arch::is_x86_feature_detected!("avx512bw")),
        ("avx512vnni", std::arch::is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", std::arch::is_x86_feature_detected!("avx512bf16")),
    ];
    seen.iter().filter(|(_, has)| *has).map(|(name, _)| (*name).to_string()).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_features() -> Vec<String> {
    if cfg!(target_arch = "aarch64") { vec!["neon".into()] } else { Vec::new() }
}

/// What a data file was when it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The file, as named by the recipe, or `builtin:NAME`.
    pub file: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256, of files below 1 GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Time of the last change (RFC 3339, UTC), of larger files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
}

impl Fingerprint {
    /// Of a file on disk.
    ///
    /// # Errors
    /// The system's.
    pub fn of_file(path: &Path) -> Result<Self, RunError> {
        let io = |e| RunError::io(path, e);
        let meta = fs::metadata(path).map_err(io)?;
        let mut fingerprint =
            Self { file: path.display().to_string(), bytes: meta.len(), sha256: None, modified: None };
        if meta.len() < HASH_BELOW {
            let mut hash = Sha256::new();
            let mut file = File::open(path).map_err(io)?;
            let mut buffer = vec![0; 1 << 18];
            loop {
                let n = file.read(&mut buffer).map_err(io)?;
                if n == 0 {
                    break;
                }
                hash.update(&buffer[..n]);
            }
            fingerprint.sha256 = Some(hex(&hash.finalize()));
        } else {
            let modified = meta.modified().map_err(io)?;
            fingerprint.modified = jiff::Timestamp::try_from(modified).ok().map(|t| t.to_string());
        }
        Ok(fingerprint)
    }

    /// Of data that is built into the program.
    #[must_use]
    pub fn of_bytes(name: &str, bytes: &[u8]) -> Self {
        Self {
            file: name.into(),
            bytes: bytes.len() as u64,
            sha256: Some(hex(&Sha256::digest(bytes))),
            modified: None,
        }
    }
}

impl RunManifest {
    /// A manifest of a run that begins now, with everything else empty.
    ///
    /// # Arguments
    /// - `recipe`: the recipe as resolved, with every default.
    /// - `threads`: threads of the computation.
    #[must_use]
    pub fn begin(name: &str, jishi_version: &str, recipe: Value, threads: usize) -> Self {
        let text =
            |pointer: &str| recipe.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_string();
        Self {
            format: FORMAT.into(),
            version: VERSION,
            jishi_version: jishi_version.into(),
            name: name.into(),
            command: std::env::args().collect(),
            created: now(),
            finished: None,
            status: Status::Running,
            task: text("/task"),
            family: text("/model/family"),
            parameters: 0,
            seed: recipe.pointer("/train/seed").and_then(Value::as_u64).unwrap_or_default(),
            environment: Environment::here(threads),
            recipe_sha256: hex(&Sha256::digest(recipe.to_string())),
            recipe,
            base: None,
            plan: None,
            data: Vec::new(),
            defaults: Vec::new(),
            rows: BTreeMap::new(),
            epochs: 0.0,
            steps: 0,
            best_step: None,
            metrics: BTreeMap::new(),
            wall_seconds: 0.0,
            step_seconds: 0.0,
            data_seconds: 0.0,
            peak_memory: None,
        }
    }

    /// Marks the end: status, time and peak memory.
    pub fn end(&mut self, status: Status) {
        self.status = status;
        self.finished = Some(now());
        self.peak_memory = peak_memory().max(self.peak_memory);
    }

    /// Share of the time of training steps in which a batch was made, in 0–1; none before the first step.
    #[must_use]
    pub fn data_share(&self) -> Option<f64> {
        (self.step_seconds > 0.0).then(|| self.data_seconds / self.step_seconds)
    }

    /// Writes it atomically.
    ///
    /// # Errors
    /// As [`atomic::write`].
    pub fn write(&self, fs: &dyn Fs, path: &Path) -> Result<(), RunError> {
        atomic::write_json(fs, path, self)
    }

    /// Reads it.
    ///
    /// # Errors
    /// A [`Problem`] where it is missing, not JSON or of another format or version; the system's errors else.
    pub fn read(path: &Path) -> Result<Self, RunError> {
        let value: Value = parse_json(path, &read_limited(path, MAX_BYTES)?)?;
        let format = value.get("format").and_then(Value::as_str).unwrap_or("none");
        let version = value.get("version").and_then(Value::as_u64);
        if format != FORMAT || version != Some(VERSION.into()) {
            let found = version.map_or_else(|| "no version".into(), |v| format!("version {v}"));
            let message =
                format!("expected a manifest {FORMAT:?} of version {VERSION}, found {format:?}, {found}");
            return Err(Problem::new(message).file(path).into());
        }
        serde_json::from_value(value)
            .map_err(|e| Problem::new(format!("the run's manifest is damaged: {e}")).file(path).into())
    }
}

/// The time now: RFC 3339, UTC, whole seconds.
#[must_use]
pub fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

/// Peak resident memory of this process in bytes, where the system tells without unsafe code (Linux).
#[must_use]
pub fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::RealFs;
    use serde_json::json;

    fn recipe() -> Value {
        json!({"name": "a", "task": "regression", "model": {"family": "mlp"}, "train": {"seed": 7}})
    }

    #[test]
    fn comes_back_as_it_went() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("manifest.json");
        let mut manifest = RunManifest::begin("a", "0.1.0", recipe(), 2);
        assert_eq!(
            (manifest.task.as_str(), manifest.family.as_str(), manifest.seed),
            ("regression", "mlp", 7)
        );
        assert!(manifest.created.ends_with('Z') && manifest.created.len() == 20, "{}", manifest.created);
        let test = BTreeMap::from([("rmse".into(), Metric { value: 0.1 + 0.2, interval: Some([0.2, 0.4]) })]);
        manifest.metrics.insert("test".into(), test);
        manifest.data.push(Fingerprint::of_bytes("builtin:x", b"abc"));
        manifest.end(Status::Failed { reason: "the loss is NaN at step 3".into() });
        manifest.write(&RealFs, &path).unwrap();
        assert_eq!(RunManifest::read(&path).unwrap(), manifest);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(r#""state": "failed""#));
    }

    #[test]
    fn nan_is_null_and_back() {
        let text = serde_json::to_string(&Metric::from(f64::NAN)).unwrap();
        assert_eq!(text, r#"{"value":null}"#);
        assert!(serde_json::from_str::<Metric>(&text).unwrap().value.is_nan());
    }

    #[test]
    fn wrong_manifests_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("manifest.json");
        let read = |text: &str| {
            atomic::write_real(&path, text.as_bytes()).unwrap();
            RunManifest::read(&path).unwrap_err().to_string()
        };
        assert!(read("{\n\"format\": }").contains(":2:"));
        assert!(read(r#"{"format":"jishi-run","version":9}"#).contains("version 9"));
        assert!(read(r#"{"format":"jishi-run","version":1}"#).contains("damaged"));
        assert!(RunManifest::read(&dir.path().join("none")).unwrap_err().to_string().contains("missing"));
    }

    #[test]
    fn fingerprints_are_of_the_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        atomic::write_real(&path, b"abc").unwrap();
        let found = Fingerprint::of_file(&path).unwrap();
        assert_eq!(found.bytes, 3);
        assert_eq!(
            found.sha256.as_deref(),
            Some("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        );
        assert_eq!(found.sha256, Fingerprint::of_bytes("x", b"abc").sha256);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn peak_memory_is_known_here() {
        assert!(peak_memory().unwrap() > 1 << 20);
    }
}
