//! What the end of every run on images is: the package, saved and loaded again, and the model card.

use std::time::Instant;

use jishi_data::image::Preparation;
use jishi_runs::card::About;
use jishi_runs::manifest::RunManifest;
use jishi_runs::{Package, RealFs};

use super::package::replay;
use crate::error::TrainError;
use crate::job::finish::{end, model_card};
use crate::job::report::TrainReport;
use crate::job::subject::Finished;

/// What the card of a model of images says.
pub(super) struct Said {
    /// What it does, as the end of the sentence "A model of the family … that".
    pub does: String,
    /// What it was trained on, in a sentence.
    pub data: String,
    /// Commands that use it; `NAME` is put in for the run's.
    pub usage: [&'static str; 3],
    /// What it can't do.
    pub limits: Vec<&'static str>,
    /// Titles and files of pictures.
    pub drawn: Vec<(String, String)>,
}

/// Saves the package, compares what it gives when it is loaded again, and writes the last files of the run.
///
/// # Errors
/// Files that can't be written; a package that does not do what the model does.
pub(super) fn close<M>(
    finished: &Finished<'_, M>,
    mut package: Package,
    said: Said,
    manifest: &mut RunManifest,
    report: &mut TrainReport,
    started: Instant,
) -> Result<(), TrainError> {
    let Finished { run, recipe, device, .. } = *finished;
    package.manifest.metrics = manifest.metrics.clone();
    package.save(&RealFs, &run.model())?;
    replay(&run.model(), &package.manifest.golden, device)?;
    let name = run.name();
    let Said { does, data, usage, limits, drawn } = said;
    let usage = usage.iter().map(|command| command.replace("NAME", &name)).collect();
    let about = About::Model { does, data, usage, samples: Vec::new() };
    let limits = limits.into_iter().map(str::to_owned).collect();
    end(run, manifest, report, started, |manifest| model_card(&name, recipe, manifest, about, drawn, limits))
}

/// The sizes of an image, by name.
pub(super) fn sizes(preparation: &Preparation) -> Vec<(&'static str, u64)> {
    let [height, width, channels] = preparation.shape();
    vec![("height", height as u64), ("width", width as u64), ("channels", channels as u64)]
}
