//! Models by name and version.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use burn::tensor::Device;
use jishi_data::image::Preparation;
use jishi_data::text::tokenizer::Tokenizer;
use jishi_kernels::cpu::matvec::Format;
use jishi_models::decoder::DecoderFamily;
use jishi_recipe::{Domain, Problem, TaskName};
use jishi_runs::folder::FileEntry;
use jishi_runs::package::{self, PackageManifest};
use jishi_train::TrainError;
use jishi_train::job::evaluate::task_of;
use jishi_train::job::language::TextPredictor;
use jishi_train::job::language::generate::TextGenerator;
use jishi_train::job::predict::Predictor;
use jishi_train::job::vision::detection::DetectionPredictor;
use jishi_train::job::vision::package::ImagePackage;
use jishi_train::job::vision::{self, AtWork, ImageGenerator};
use serde_json::{Map, Value, json};

use crate::batching::{Batcher, Loaded};
use crate::golden;
use crate::input::Form;
use crate::limits::Limits;
use crate::metrics::ModelStats;
use crate::scheduler::Scheduler;
use crate::schema;
use crate::ticket::Books;

/// Characters of a model's name at most.
const LONGEST: usize = 100;

/// Which model to load, and what to call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSource {
    /// What clients call it; the last part of the source if left out.
    pub name: Option<String>,
    /// A run, a package; of models that write text also what `jishi generate` takes.
    pub source: String,
}

impl ModelSource {
    /// `RUN` or `NAME=RUN`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.split_once('=') {
            Some((name, source)) if plain(name) && !source.is_empty() && !Path::new(text).exists() => {
                Self { name: Some(name.to_owned()), source: source.to_owned() }
            }
            _ => Self { name: None, source: text.to_owned() },
        }
    }

    fn name(&self, dir: Option<&Path>) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        // The package of a run is its folder `model`; the run is what people know.
        let path = dir.unwrap_or(Path::new(&self.source));
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let path = match path.file_name() {
            Some(last) if last == "model" => path.parent().unwrap_or(&path).to_owned(),
            _ => path,
        };
        let last = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let last = last.strip_suffix(".gguf").unwrap_or(&last);
        let name: String = last.chars().map(|c| if plain(&c.to_string()) { c } else { '-' }).collect();
        if name.is_empty() { "model".into() } else { name.chars().take(LONGEST).collect() }
    }
}

/// Whether a text can be a model's name.
fn plain(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !name.is_empty() && name.len() <= LONGEST && name.chars().all(fine)
}

/// A model that is served.
#[derive(Debug)]
pub struct Model {
    /// What clients call it.
    pub name: String,
    /// The first digits of its manifest's hash.
    pub version: String,
    /// When it was loaded, in seconds since 1970.
    pub created: u64,
    /// Its task, as in a recipe.
    pub task: String,
    /// Its family, as in a recipe.
    pub family: String,
    /// What it is asked and tells: see [`schema`].
    pub schema: Value,
    /// What it does.
    pub kind: Kind,
    /// Its counters.
    pub stats: Arc<ModelStats>,
    /// Whether it is of a package, and no model of elsewhere.
    pub packaged: bool,
}

/// How models are loaded.
#[derive(Clone)]
pub struct Loading {
    /// Folder that holds the runs.
    pub root: PathBuf,
    /// Number type of the weights of models that write text.
    pub format: Option<Format>,
    /// Where models compute.
    pub device: Device,
    /// Bounds on requests.
    pub limits: Arc<Limits>,
    /// Where requests are told of.
    pub books: Arc<Books>,
}

/// What a model does.
pub enum Kind {
    /// Predicts rows, texts or images.
    Predicts {
        /// Its thread.
        batcher: Batcher,
        /// What it predicts.
        form: Form,
        /// Of a model of texts.
        tokenizer: Option<Arc<Tokenizer>>,
    },
    /// Writes text.
    Writes {
        /// Weights and tokenizer.
        generator: Arc<TextGenerator>,
        /// Its thread.
        scheduler: Scheduler,
    },
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Predicts { .. } => "Predicts",
            Self::Writes { .. } => "Writes",
        })
    }
}

impl Model {
    /// Loads a model and starts its thread. `replay`: a package has to give its golden outputs.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(
        source: &ModelSource,
        loading: &Loading,
        replay: bool,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Self, TrainError> {
        let dir = package::find(&loading.root, &source.source);
        let task = dir.as_ref().ok().map(|dir| task_of(dir)).transpose()?.flatten();
        match (dir, task) {
            (Ok(dir), Some(task)) if !task.continues_text() => {
                Self::predicting(source.name(Some(&dir)), task, dir, loading, replay)
            }
            (Ok(dir), None) => {
                let task = package::task(&dir)?;
                let problem = Problem::new(format!("this version does not know the task `{task}`"));
                Err(problem.file(dir).help("use the version of jishi that trained it, or a later one").into())
            }
            (dir, _) => {
                let dir = dir.ok();
                if let Some(dir) = dir.as_ref().filter(|_| replay) {
                    golden::texts(&TextPredictor::load(dir, &loading.device)?, dir)?;
                }
                let Loading { root, format, .. } = loading;
                let generator = TextGenerator::load(&source.source, root, *format, progress)?;
                let version = match &dir {
                    Some(dir) => package::version(dir)?,
                    None => version_of(&source.source, &generator),
                };
                let task = task.unwrap_or(TaskName::CausalLm).name().to_owned();
                let names = [source.name(dir.as_deref()), version, task];
                Self::writing(names, generator, loading, dir.is_some())
            }
        }
    }

    fn predicting(
        name: String,
        task: TaskName,
        dir: PathBuf,
        loading: &Loading,
        replay: bool,
    ) -> Result<Self, TrainError> {
        let version = package::version(&dir)?;
        let manifest = package::manifest(&dir)?;
        let load = move |device: &Device| {
            let loaded = match task.domain() {
                Domain::Tables => Loaded::Rows(Box::new(Predictor::load(&dir, device)?)),
                Domain::Texts => Loaded::Texts(Box::new(TextPredictor::load(&dir, device)?)),
                Domain::Images => match task {
                    TaskName::ImageGeneration => Loaded::Makes(Box::new(ImageGenerator::load(&dir, device)?)),
                    TaskName::Detection => Loaded::Detects(Box::new(DetectionPredictor::load(&dir, device)?)),
                    _ => Loaded::Images(vision::load(&dir, device)?),
                },
            };
            if replay {
                golden::replay(&loaded, &dir)?;
            }
            Ok(loaded)
        };
        let about = |model: &Loaded| match model {
            Loaded::Rows(model) => (Form::Rows(Box::new(model.pipeline.clone())), None),
            Loaded::Texts(model) => {
                let blank = model.recipe.task.writes_text();
                (Form::Texts { blank }, Some(Arc::clone(&model.tokenizer)))
            }
            Loaded::Images(model) => (Form::Images(preparation(model.package())), None),
            Loaded::Detects(model) => (Form::Images(preparation(model.package())), None),
            Loaded::Makes(_) => (Form::Seeds, None),
        };
        let Loading { device, limits, books, .. } = loading;
        let stats = books.metrics.model(&name);
        let (batcher, (form, tokenizer)) =
            Batcher::start(Arc::clone(limits), Arc::clone(&stats), load, about, device)?;
        let PackageManifest { task, family, .. } = &manifest;
        let (task, family) = (task.clone(), family.clone());
        let schema = schema::of_predictions(&form, &manifest, limits);
        let kind = Kind::Predicts { batcher, form, tokenizer };
        let created = seconds();
        Ok(Self { name, version, created, task, family, schema, kind, stats, packaged: true })
    }

    fn writing(
        [name, version, task]: [String; 3],
        generator: TextGenerator,
        loading: &Loading,
        packaged: bool,
    ) -> Result<Self, TrainError> {
        let generator = Arc::new(generator);
        let stats = loading.books.metrics.model(&name);
        let scheduler = Scheduler::start(Arc::clone(&generator), &loading.limits, Arc::clone(&stats))
            .map_err(|e| Problem::new(format!("a thread for the model can't be started: {e}")))?;
        let schema = schema::of_text(&generator);
        let family = match generator.decoder().config().family {
            DecoderFamily::Gpt2 => "gpt2".to_owned(),
            DecoderFamily::Llama(_) => "llama".to_owned(),
        };
        let kind = Kind::Writes { generator, scheduler };
        let created = seconds();
        Ok(Self { name, version, created, task, family, schema, kind, stats, packaged })
    }

    /// As in the list of models.
    #[must_use]
    pub fn listed(&self) -> Map<String, Value> {
        let Self { name, version, created, task, family, .. } = self;
        let entry = json!({
            "id": name, "object": "model", "created": created, "owned_by": "jishi",
            "version": version, "task": task, "family": family,
        });
        match entry {
            Value::Object(entry) => entry,
            _ => Map::new(),
        }
    }

    /// As it describes itself, with its schema.
    #[must_use]
    pub fn described(&self) -> Value {
        let mut all = self.listed();
        if let Value::Object(schema) = &self.schema {
            all.extend(schema.clone());
        }
        Value::Object(all)
    }
}

fn preparation(package: &ImagePackage) -> Box<Preparation> {
    Box::new(package.pipeline.preparation.clone())
}

/// Seconds since 1970.
fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// A version for a model without a manifest: of where it is from and what it weighs.
fn version_of(source: &str, generator: &TextGenerator) -> String {
    let bytes = std::fs::metadata(source).map_or(0, |m| m.len());
    let what = format!("{source} {bytes} {} {:?}", generator.weight_bytes(), generator.decoder().config());
    let mut digest = FileEntry::of(what.as_bytes()).sha256;
    digest.truncate(12);
    digest
}

/// All models. Of one name the last is meant, unless a version is named.
#[derive(Debug, Default, Clone)]
pub struct Models(pub Vec<Arc<Model>>);

impl Models {
    /// `NAME` or `NAME@VERSION`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<Model>> {
        let (name, version) = match name.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (name, None),
        };
        let same = |m: &&Arc<Model>| m.name == name && version.is_none_or(|v| m.version == v);
        self.0.iter().rev().find(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_people_know() {
        let name = |text: &str| ModelSource::parse(text).name(None);
        assert_eq!(name("runs/houses/model"), "houses");
        assert_eq!(name("houses"), "houses");
        assert_eq!(name("prices=runs/houses"), "prices");
        assert_eq!(name("hf:org/Smol LM.gguf"), "Smol-LM");
        assert_eq!(name("/a/b=c/d"), "d");
    }
}
