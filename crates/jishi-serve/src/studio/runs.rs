//! Runs as the studio sees them: from their manifests, locks, and what it noted itself.

use std::path::{Path, PathBuf};

use jishi_runs::manifest::{Metric, RunManifest, Status};
use jishi_runs::{RunDir, run};
use jishi_tasks::registry::primary_metric;

use super::launch::{self, Note};

/// How a run stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// A process reads the data, or builds the model.
    Preparing,
    /// A process trains it.
    Running,
    /// A process was asked to save and end.
    Pausing,
    /// All done.
    Finished,
    /// It can go on.
    Paused,
    /// It can go on, but was not meant to.
    Stopped,
    /// Its process is gone, and did not say why.
    Killed,
    /// It ended by an error.
    Failed(String),
    /// It never began.
    Refused,
    /// Its manifest can't be read.
    Unreadable(String),
}

impl State {
    /// A word for styles and for the script.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Pausing => "pausing",
            Self::Finished => "finished",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Killed => "killed",
            Self::Failed(_) => "failed",
            Self::Refused => "refused",
            Self::Unreadable(_) => "unreadable",
        }
    }

    /// Whether a process is at work.
    #[must_use]
    pub fn lives(&self) -> bool {
        matches!(self, Self::Preparing | Self::Running | Self::Pausing)
    }

    /// Whether it can be asked to end.
    #[must_use]
    pub fn can_pause(&self) -> bool {
        matches!(self, Self::Preparing | Self::Running)
    }

    /// Whether it can go on.
    #[must_use]
    pub fn can_resume(&self) -> bool {
        matches!(self, Self::Paused | Self::Stopped | Self::Killed | Self::Failed(_))
    }
}

/// A run.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its name: that of its folder.
    pub name: String,
    /// Its folder.
    pub dir: PathBuf,
    /// How it stands.
    pub state: State,
    /// Its manifest.
    pub manifest: Option<RunManifest>,
    /// What the studio noted.
    pub note: Note,
}

impl Seen {
    /// A run of this name, or the folder that is kept for one.
    #[must_use]
    pub fn find(root: &Path, name: &str) -> Option<Self> {
        if let Some(run) = RunDir::named(root, name) {
            return Some(Self::of(name.to_owned(), &run));
        }
        let kept = run::check_name(name).is_ok() && root.join(name).join(launch::NOTE).is_file();
        kept.then(|| Self::kept(name.to_owned(), root.join(name)))
    }

    fn of(name: String, run: &RunDir) -> Self {
        let note = Note::read(run.path());
        let (in_use, at_work) = (run.in_use(), note.at_work());
        let asked = note.asked.as_ref();
        let told = || {
            let same = |a: &launch::Ended| run.holder().is_none_or(|pid| pid == a.pid);
            if asked.is_some_and(same) { State::Pausing } else { State::Preparing }
        };
        let manifest = run.manifest();
        let state = match &manifest {
            // Whoever takes a run's name writes its manifest soon.
            Err(_) if !run.file("manifest.json").exists() => {
                if in_use || at_work {
                    told()
                } else {
                    State::Refused
                }
            }
            Err(error) => State::Unreadable(error.to_string()),
            Ok(manifest) => match &manifest.status {
                Status::Finished => State::Finished,
                Status::Running if in_use => match told() {
                    State::Preparing => State::Running,
                    pausing => pausing,
                },
                _ if at_work => told(),
                Status::Running => State::Killed,
                Status::Interrupted { .. } if asked.is_some_and(|a| a.for_good) => State::Stopped,
                Status::Interrupted { .. } => State::Paused,
                Status::Failed { reason } => State::Failed(reason.clone()),
            },
        };
        Self { name, dir: run.path().to_owned(), state, manifest: manifest.ok(), note }
    }

    fn kept(name: String, dir: PathBuf) -> Self {
        let note = Note::read(&dir);
        let state = if note.at_work() { State::Preparing } else { State::Refused };
        Self { name, dir, state, manifest: None, note }
    }

    /// All runs of a folder, the newest first.
    #[must_use]
    pub fn all(root: &Path) -> Vec<Self> {
        let listed = run::list(root).unwrap_or_default();
        let mut all: Vec<Self> = listed
            .into_iter()
            .filter_map(|listed| RunDir::named(root, &listed.name).map(|run| Self::of(listed.name, &run)))
            .collect();
        all.extend(launch::kept(root).into_iter().map(|(name, dir)| Self::kept(name, dir)));
        all.sort_by(|a, b| {
            (b.began().is_none(), b.began(), &b.name).cmp(&(a.began().is_none(), a.began(), &a.name))
        });
        all
    }

    /// When it began: RFC 3339, UTC.
    #[must_use]
    pub fn began(&self) -> Option<&str> {
        self.manifest.as_ref().map(|m| m.created.as_str())
    }

    /// The task.
    #[must_use]
    pub fn task(&self) -> &str {
        self.manifest.as_ref().map_or("", |m| &m.task)
    }

    /// The family of the model.
    #[must_use]
    pub fn family(&self) -> &str {
        self.manifest.as_ref().map_or("", |m| &m.family)
    }

    /// The metric that is shown first, of the test rows or else of those that validate.
    #[must_use]
    pub fn headline(&self) -> Option<(&'static str, Metric)> {
        let manifest = self.manifest.as_ref()?;
        let first = primary_metric(&manifest.task)?;
        let of = |split: &str| manifest.metrics.get(split)?.get(first).copied();
        of("test").or_else(|| of("validation")).map(|metric| (first, metric))
    }

    /// The folders with metric logs: its own, or one for each fold.
    #[must_use]
    pub fn logs(&self) -> Vec<(Option<usize>, PathBuf)> {
        let folds = self.dir.join("folds");
        if !folds.is_dir() {
            return vec![(None, self.dir.clone())];
        }
        (1..=MOST_FOLDS)
            .map(|i| (Some(i), folds.join(format!("fold-{i}"))))
            .take_while(|(_, dir)| dir.is_dir())
            .collect()
    }

    /// The package to try: its own, or that of its first fold.
    #[must_use]
    pub fn package(&self) -> Option<PathBuf> {
        let has = |dir: PathBuf| dir.join("model.json").is_file().then_some(dir);
        has(self.dir.join("model")).or_else(|| has(self.dir.join("folds/fold-1/model")))
    }
}

/// Folds that are looked for.
const MOST_FOLDS: usize = 100;
