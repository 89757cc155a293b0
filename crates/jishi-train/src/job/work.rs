//! What jobs do with a prepared recipe, whatever it learns from.

use std::path::Path;

use burn::tensor::Device;
use jishi_recipe::{Domain, Recipe};
use jishi_runs::manifest::Fingerprint;

use crate::error::TrainError;
use crate::job::prepare::Source;
use crate::job::subject::Subject;
use crate::job::{language, train, vision};

/// Something to do with a prepared recipe.
pub trait Work {
    /// What comes out.
    type Output;

    /// Does it.
    ///
    /// # Errors
    /// Those of the work.
    fn run<S: Subject>(self, folds: Folds<'_, S>) -> Result<Self::Output, TrainError>;
}

/// Data that was read, and the folds that can be prepared of it: one, where the recipe asks for no cross-validation.
pub struct Folds<'a, S> {
    /// How many there are.
    pub count: usize,
    /// What every data file was when it was read.
    pub files: Vec<Fingerprint>,
    prepare: Box<dyn FnMut(usize) -> Result<S, TrainError> + 'a>,
}

impl<'a, S> Folds<'a, S> {
    /// Folds that `prepare` makes.
    pub fn new(
        count: usize,
        files: Vec<Fingerprint>,
        prepare: impl FnMut(usize) -> Result<S, TrainError> + 'a,
    ) -> Self {
        Self { count, files, prepare: Box::new(prepare) }
    }

    /// Data that is trained on as it is split. It is prepared once.
    ///
    /// # Panics
    /// Where it is taken twice.
    pub fn one(files: Vec<Fingerprint>, subject: S) -> Self
    where
        S: 'a,
    {
        let mut subject = Some(subject);
        Self::new(1, files, move |_| Ok(subject.take().expect("a single fold is prepared once")))
    }

    /// Prepares a fold, from 0.
    ///
    /// # Errors
    /// Data that the recipe's task can't be trained on.
    pub fn prepare(&mut self, fold: usize) -> Result<S, TrainError> {
        (self.prepare)(fold)
    }

    /// Prepares every fold and throws it away, so that a problem of the last shows before the first trains. One alone
    /// is prepared next anyway.
    ///
    /// # Errors
    /// As [`Folds::prepare`].
    pub fn try_all(&mut self) -> Result<(), TrainError> {
        if self.count > 1 {
            for fold in 0..self.count {
                self.prepare(fold)?;
            }
        }
        Ok(())
    }
}

/// Reads the data of a recipe, and does some work with it.
///
/// # Errors
/// Everything that is wrong with the data and the model; those of the work.
pub fn with_prepared<W: Work>(
    recipe: &Recipe,
    base: &Path,
    device: &Device,
    work: W,
) -> Result<W::Output, TrainError> {
    match recipe.task.domain() {
        Domain::Texts => language::with_prepared(recipe, base, device, work),
        Domain::Images => vision::with_prepared(recipe, base, device, work),
        Domain::Tables => {
            let source = Source::read(recipe, base)?;
            let files = train::fingerprints(&source)?;
            let splits = source.splits(recipe)?;
            let count = splits.len();
            let mut source = Some(source);
            work.run(Folds::new(count, files, move |fold| {
                let splits = splits[fold].clone();
                // The table is as large as the prepared data, and no longer needed after the only fold.
                let prepared = source.as_ref().map(|source| source.prepare(recipe, splits, device));
                if count == 1 {
                    source = None;
                }
                prepared.expect("a single fold is prepared once")
            }))
        }
    }
}
