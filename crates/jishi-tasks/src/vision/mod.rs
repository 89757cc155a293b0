//! Tasks that learn from images, one file each.

pub mod classification;
pub mod generation;
pub mod images;
pub mod judge;
pub mod making;

pub use classification::ImageClassificationTask;
pub use generation::ImageGenerationTask;
pub use images::Images;
pub use judge::Judge;
pub use making::Maker;
