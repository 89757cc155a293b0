//! Tasks that learn from images, one file each.

pub mod classification;
pub mod detection;
pub mod embedding;
pub mod generation;
pub mod images;
pub mod judge;
pub mod making;
pub mod masked;
pub mod pretraining;

pub use classification::ImageClassificationTask;
pub use detection::DetectionTask;
pub use embedding::ImageEmbeddingTask;
pub use generation::ImageGenerationTask;
pub use images::Images;
pub use judge::Judge;
pub use making::Maker;
pub use masked::MaskedImageTask;
pub use pretraining::{ImagePretraining, UnlabelledImages};
