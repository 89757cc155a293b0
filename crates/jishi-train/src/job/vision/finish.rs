//! The end of a run on images: evaluation, pictures, package, model card.

use std::time::Instant;

use burn::tensor::Device;
use jishi_data::Ledger;
use jishi_models::{ImageModel, export_weights};
use jishi_recipe::Recipe;
use jishi_runs::RealFs;
use jishi_runs::card::About;
use jishi_runs::manifest::RunManifest;
use jishi_tasks::Task;
use jishi_tasks::vision::ImageClassificationTask;

use super::ImagePipeline;
use super::beginning::Start;
use super::package::{pack, replay};
use crate::error::TrainError;
use crate::job::finish::{end, measure_splits, model_card};
use crate::job::report::TrainReport;
use crate::job::subject::{Finished, Subject};

/// What a classifier gives.
pub const OUTPUT: (&str, &str) = ("prediction", "category");

/// Images of a recipe, prepared, with the task on them and the model to begin with.
pub struct Prepared {
    /// The task, with its data.
    pub task: ImageClassificationTask,
    /// What the package keeps besides the weights.
    pub pipeline: ImagePipeline,
    /// Every image: used, dropped or changed.
    pub ledger: Ledger,
    /// PNG files of a few images, to check the package with.
    pub golden: Vec<Vec<u8>>,
    /// What the data is, in a sentence.
    pub about: String,
    /// Makes the model.
    pub start: Start,
}

impl Subject for Prepared {
    type Task = ImageClassificationTask;

    fn task(&self) -> &ImageClassificationTask {
        &self.task
    }

    fn primary_metric(&self) -> &'static str {
        self.task.primary_metric()
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn inputs(&self) -> Vec<(&'static str, u64)> {
        let [height, width, channels] = self.pipeline.preparation.shape();
        vec![("height", height as u64), ("width", width as u64), ("channels", channels as u64)]
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    fn model(&self, _: &Recipe, device: &Device) -> Result<ImageModel, TrainError> {
        (self.start)(device)
    }

    fn finish(
        &self,
        finished: &Finished<'_, ImageModel>,
        manifest: &mut RunManifest,
        report: &mut TrainReport,
        started: Instant,
    ) -> Result<(), TrainError> {
        let Finished { run, recipe, model, device } = *finished;
        let (resamples, seed) = (recipe.evaluate.bootstrap, recipe.train.seed);
        let drawn = measure_splits(run, recipe, manifest, report, "images", |split| {
            let there = self.task.rows(split) > 0;
            there.then(|| self.task.report(model, split, resamples, seed)).transpose()
        })?;
        let mut package =
            pack(recipe, &self.pipeline, export_weights(model), &self.golden, OUTPUT, device)?;
        package.manifest.metrics = manifest.metrics.clone();
        package.save(&RealFs, &run.model())?;
        replay(&run.model(), &package.manifest.golden, device)?;
        let name = run.name();
        let usage = vec![
            format!("jishi predict {name} --input photo.png"),
            format!("jishi predict {name} --input folder --output predictions.csv"),
            format!("jishi evaluate {name} --data folder"),
        ];
        let about =
            About::Model { does: self.task.does(), data: self.about.clone(), usage, samples: Vec::new() };
        let limits = vec![
            "It knows images like those that it was trained on; of any other it still tells one of its labels.".to_owned(),
        ];
        end(run, manifest, report, started, |manifest| {
            model_card(&name, recipe, manifest, about, drawn, limits)
        })
    }
}
