//! Metrics, equal to scikit-learn's on stored fixtures (`tests/fixtures/metrics.py`).
//!
//! Every metric takes weights by row, which are counts of a bootstrap resample; plain metrics have weights of one.

pub mod bootstrap;
mod classification;
pub mod curves;
pub mod detection;
mod eigen;
pub mod generation;
mod regression;
pub mod retrieval;
pub mod translation;

pub use bootstrap::intervals;
pub use classification::{
    Confusion, calibration_error, classification, most_probable, weighted_classification,
};
pub use regression::{regression, weighted_regression};
