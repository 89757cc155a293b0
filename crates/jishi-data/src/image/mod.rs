//! Pictures: found in folders, IDX files and tables, decoded, scaled, labelled, split; and prepared for a model.

mod augment;
mod boxes;
mod cifar;
mod corpus;
mod decode;
mod folder;
mod found;
mod idx;
mod inspect;
mod packed;
mod pictures;
mod preparation;
mod reading;
mod scaling;
mod tables;

pub use augment::{Augmentation, Mix, Moved};
pub use boxes::{LabelFormat, Object, Scene, Scenes, boxes_of, for_boxes};
pub use corpus::{ImageCorpus, SourceDigest};
pub use decode::claimed_size;
pub use inspect::{BoxReport, ClassReport, Duplicates, ImageInspection, Spread, Wrong, inspect, is_pictures};
pub use pictures::{OwnedPicture, Picture, Pictures};
pub use preparation::{IMAGENET, Preparation};
pub use scaling::Way;

#[cfg(test)]
mod tests;
