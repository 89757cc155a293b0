//! Whether a package still gives what it gave when it was packed: asked before a new version takes the place of an old one.

use std::path::Path;

use jishi_runs::package;
use jishi_train::TrainError;
use jishi_train::job::finish::same_golden;
use jishi_train::job::language::TextPredictor;
use jishi_train::job::predict::outputs;
use jishi_train::job::vision::AtWork;

use crate::batching::Loaded;

const WHAT: &str = "the new version";

/// Refuses a model that does not give the golden outputs of the package that it was loaded from.
///
/// # Errors
/// The first golden input whose outputs differ by more than rounding.
pub fn replay(model: &Loaded, dir: &Path) -> Result<(), TrainError> {
    match model {
        Loaded::Rows(model) => {
            let golden = &model.package.manifest.golden;
            same_golden(WHAT, dir, &outputs(&model.predict_rows(&golden.inputs)?), &golden.outputs)
        }
        Loaded::Texts(model) => texts(model, dir),
        Loaded::Images(model) => same_golden(WHAT, dir, &model.golden()?, model.package().golden_outputs()),
        Loaded::Detects(model) => same_golden(WHAT, dir, &model.golden()?, model.package().golden_outputs()),
        Loaded::Makes(model) => {
            same_golden(WHAT, dir, &model.golden()?, &package::manifest(dir)?.golden.outputs)
        }
    }
}

/// As [`replay`], of a model of texts.
///
/// # Errors
/// As [`replay`].
pub fn texts(model: &TextPredictor, dir: &Path) -> Result<(), TrainError> {
    let golden = package::manifest(dir)?.golden;
    same_golden(WHAT, dir, &model.golden(&golden.inputs)?, &golden.outputs)
}
