//! Tasks that learn from images, one file each.

pub mod classification;
pub mod detection;
pub mod images;

pub use classification::ImageClassificationTask;
pub use detection::DetectionTask;
pub use images::Images;
