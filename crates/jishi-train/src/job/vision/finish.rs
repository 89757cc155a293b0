//! The end of a run on images: evaluation, pictures, package, model card.

use std::cell::RefCell;
use std::time::Instant;

use burn::tensor::Device;
use jishi_data::Ledger;
use jishi_models::{ImageModel, export_weights};
use jishi_recipe::Recipe;
use jishi_runs::manifest::RunManifest;
use jishi_runs::run::RunDir;
use jishi_tasks::vision::ImageClassificationTask;
use jishi_tasks::{ClassOutputs, SplitName, Task};

use super::beginning::Start;
use super::ending::{Said, close, sizes};
use super::package::{column, pack};
use super::{ImagePipeline, galleries};
use crate::error::TrainError;
use crate::job::finish::{measure_splits, write_scene};
use crate::job::report::TrainReport;
use crate::job::subject::{Finished, Subject};

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
        sizes(&self.pipeline.preparation)
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
        let shown = RefCell::new(None);
        let mut drawn = measure_splits(run, recipe, manifest, report, "images", |split| {
            let there = self.task.rows(split) > 0;
            let measured = there.then(|| self.task.report(model, split, resamples, seed)).transpose()?;
            if let Some(classes) = measured.as_ref().and_then(|m| m.classes.clone()) {
                *shown.borrow_mut() = Some((split, classes));
            }
            Ok::<_, TrainError>(measured)
        })?;
        if recipe.evaluate.plots {
            self.draw(run, seed, shown.into_inner(), &mut drawn)?;
        }
        let outputs = vec![column("prediction", "category", None)];
        let package = pack(recipe, &self.pipeline, export_weights(model), &self.golden, outputs, device)?;
        let said = Said {
            does: self.task.does(),
            data: self.about.clone(),
            usage: [
                "jishi predict NAME --input photo.png",
                "jishi predict NAME --input folder --output predictions.csv",
                "jishi evaluate NAME --data folder",
            ],
            limits: vec![
                "It knows images like those that it was trained on; of any other it still tells one of its labels.",
            ],
            drawn,
        };
        close(finished, package, said, manifest, report, started)
    }
}

impl Prepared {
    /// Galleries of training images and of the worst misses, with their titles and files.
    fn draw(
        &self,
        run: &RunDir,
        seed: u64,
        shown: Option<(SplitName, ClassOutputs)>,
        drawn: &mut Vec<(String, String)>,
    ) -> Result<(), TrainError> {
        let Some(data) = self.task.data() else { return Ok(()) };
        let names = &self.task.head().labels().names;
        let caption = |row: u32| {
            let labels = data.classes[row as usize].iter();
            vec![labels.map(|class| names[*class as usize].as_str()).collect::<Vec<_>>().join(", ")]
        };
        let training = galleries::in_training(&data.images, &data.rows[0], seed, caption);
        write_scene(run, "plots/training-images", &training)?;
        drawn.push(("Images as training sees them".into(), "plots/training-images.png".into()));
        let misses = shown.and_then(|(split, classes)| {
            galleries::misses(&data.images, &data.rows[split as usize], split, &classes)
        });
        if let Some(scene) = misses {
            write_scene(run, "plots/worst-misses", &scene)?;
            drawn.push(("Worst misses".into(), "plots/worst-misses.png".into()));
        }
        Ok(())
    }
}
