//! Tasks that learn from images, one file each.

pub mod classification;
pub mod images;

pub use classification::ImageClassificationTask;
pub use images::Images;
