//! Plots, as SVG and PNG from the same description.
//!
//! A plot function takes plain data and gives a [`Scene`]; [`Scene::to_svg`] and [`Scene::to_png`]
//! write it. The style is one for all: white ground, light grid, the colour-blind safe palette of
//! Okabe & Ito (2008), the legend above the data. Nothing depends on the system: the font is Noto
//! Sans (SIL Open Font License 1.1), from the crate `notosans`.

mod axis;
mod classes;
mod curves;
mod frame;
mod gallery;
mod png;
mod regression;
mod scene;
mod svg;

pub use classes::{
    Calibration, CalibrationBin, Confusion, ScoreCurve, calibration, confusion_matrix, pr, roc,
};
pub use curves::{Curves, RunCurve, curves};
pub use gallery::{Boxed, Gallery, Tile, annotated, gallery};
pub use regression::{FoldMetric, Predictions, fold_metrics, predicted_vs_actual, residuals};
pub use scene::{Anchor, Color, Raster, Scene, Shape, palette};

/// Scatter plots show at most this many points, evenly taken.
pub const MAX_POINTS: usize = 5_000;

#[cfg(test)]
mod tests;
