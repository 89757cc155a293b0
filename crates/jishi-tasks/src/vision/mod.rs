//! Tasks that learn from images, one file each.

pub mod classification;
pub mod detection;
pub mod embedding;
pub mod images;
pub mod masked;
pub mod pretraining;

pub use classification::ImageClassificationTask;
pub use detection::DetectionTask;
pub use embedding::ImageEmbeddingTask;
pub use images::Images;
pub use masked::MaskedImageTask;
pub use pretraining::{ImagePretraining, UnlabelledImages};
