//! A package of a detector at work: what `jishi evaluate` and `predict` use, and nothing else of the run.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use jishi_data::image::{Augmentation, ImageCorpus, Object, Pictures, Scenes};
use jishi_data::write::Values;
use jishi_models::{Detector, DetectorConfig, import_weights};
use jishi_recipe::{Channels, Image, Problem, TaskName};
use jishi_runs::RunError;
use jishi_tasks::Measured;
use jishi_tasks::metrics::detection::Detection;
use jishi_tasks::vision::DetectionTask;

use super::super::package::{AtWork, ImagePackage, plain};
use super::super::source::raster;
use super::{SHOWN, drawn};
use crate::error::TrainError;
use crate::job::predict::damaged;

/// A loaded detector.
pub struct DetectionPredictor {
    package: ImagePackage,
    task: DetectionTask,
    config: DetectorConfig,
    model: Detector,
}

/// The images of a folder or file, and what was found on each.
pub struct Predicted {
    /// Names of the images.
    pub paths: Vec<String>,
    /// Boxes of each, the surest first, in pixels.
    pub found: Vec<Vec<Detection>>,
    /// Names of the classes.
    pub names: Vec<String>,
}

impl DetectionPredictor {
    /// Loads a package and verifies it.
    ///
    /// # Errors
    /// Everything that is wrong with the package: hashes, sizes, weights that do not fit, damaged preprocessing.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, TrainError> {
        Self::new(ImagePackage::load(dir)?, dir, device)
    }

    /// As [`DetectionPredictor::load`], of a package that was read. `dir` is named in problems.
    ///
    /// # Errors
    /// As [`DetectionPredictor::load`].
    pub fn new(package: ImagePackage, dir: &Path, device: &Device) -> Result<Self, TrainError> {
        let ImagePackage { recipe, pipeline, .. } = &package;
        if recipe.task != TaskName::Detection {
            let message = format!("this is a model of {}, and no detector", recipe.task.name());
            return Err(Problem::new(message).file(dir).into());
        }
        let wrong = |why: &dyn std::fmt::Display| damaged(dir, "preprocessing", why);
        let config: DetectorConfig =
            serde_json::from_value(pipeline.config.clone()).map_err(|e| wrong(&e))?;
        config.check().map_err(|e| wrong(&e))?;
        let names = pipeline.labels.as_ref().map(|labels| labels.names.clone()).unwrap_or_default();
        if config.classes() != names.len() || config.shape() != pipeline.preparation.shape() {
            let (classes, shape) = (config.classes(), config.shape());
            return Err(wrong(&format!(
                "the model tells {classes} classes of images of {shape:?}, and there are {} labels and images of {:?}",
                names.len(),
                pipeline.preparation.shape()
            )));
        }
        let task = DetectionTask::new(recipe, &names, None, device);
        let model = import_weights(Detector::init(&config, 0, device), &package.weights())
            .map_err(|e| damaged(dir, "weights", &e))?;
        Ok(Self { package, task, config, model })
    }

    /// The model itself.
    #[must_use]
    pub fn model(&self) -> &Detector {
        &self.model
    }

    fn scenes(&self, pictures: &Arc<Pictures>, sizes: &[[usize; 2]], objects: Vec<Vec<Object>>) -> Scenes {
        let preparation = &self.package.pipeline.preparation;
        Scenes {
            pictures: Arc::clone(pictures),
            sizes: sizes.to_vec(),
            objects,
            preparation: preparation.clone(),
            augmentation: Augmentation::new(&Image::default(), preparation),
            mosaic: 0.0,
        }
    }

    /// The objects with a score of at least `least` of an image, or of the images of a folder.
    ///
    /// # Errors
    /// Files that are no images, all of them at once; a prediction that is not finite.
    pub fn predict(&self, input: &Path, least: f64) -> Result<Predicted, TrainError> {
        self.find(&self.package.read_plain(input)?, least)
    }

    /// As [`Self::predict`], of images that were read.
    ///
    /// # Errors
    /// A prediction that is not finite.
    pub fn find(&self, corpus: &ImageCorpus, least: f64) -> Result<Predicted, TrainError> {
        let rows: Vec<u32> = (0..corpus.pictures.len() as u32).collect();
        let scenes = self.scenes(&corpus.pictures, &corpus.sizes, Vec::new());
        let found = self.task.find(&self.model, &scenes, &rows, least as f32)?;
        Ok(Predicted { paths: corpus.paths.clone(), found, names: self.task.names().to_vec() })
    }

    /// Writes the images of a file or folder with what was found on them, as PNG files of the same names.
    ///
    /// # Errors
    /// Files that are no images, or that can't be written.
    pub fn draw(&self, input: &Path, predicted: &Predicted, folder: &Path) -> Result<(), TrainError> {
        let recipe = &self.package.recipe;
        // As they are.
        let column = recipe.image.clone().unwrap_or_default().column;
        let image = Image { channels: Channels::Rgb, column, ..Image::default() };
        let corpus = plain(recipe, &image, input)?;
        let mut taken = HashSet::new();
        for (row, (path, found)) in corpus.paths.iter().zip(&predicted.found).enumerate() {
            let inside: PathBuf =
                Path::new(path).components().filter(|c| matches!(c, Component::Normal(_))).collect();
            let inside = if input.is_dir() {
                inside
            } else {
                inside.file_name().map(PathBuf::from).unwrap_or_default()
            };
            // `a.jpg` and `a.png` would be one file.
            let mut out = folder.join(inside.with_extension("png"));
            if !taken.insert(out.clone()) {
                out = folder.join(format!("{}.png", inside.display()));
                taken.insert(out.clone());
            }
            let parent = jishi_runs::fs::parent(&out);
            std::fs::create_dir_all(parent).map_err(|e| RunError::io(parent, e))?;
            let png = drawn(&raster(corpus.pictures.get(row)), found, &predicted.names);
            jishi_runs::atomic::write_real(&out, &png)?;
        }
        Ok(())
    }
}

impl AtWork for DetectionPredictor {
    fn package(&self) -> &ImagePackage {
        &self.package
    }

    fn told(&self, images: &ImageCorpus) -> Result<(Vec<(String, Values)>, usize), TrainError> {
        Ok(self.find(images, SHOWN)?.columns())
    }

    /// The best score of each class, and the mean sides of the boxes of all places, as shares of the image.
    fn golden(&self) -> Result<Vec<Vec<f64>>, TrainError> {
        let pictures = self.package.golden_pictures()?;
        let rows: Vec<u32> = (0..pictures.len() as u32).collect();
        let size = |row: &u32| {
            let picture = pictures.get(*row as usize);
            [picture.height, picture.width]
        };
        let sizes: Vec<[usize; 2]> = rows.iter().map(size).collect();
        let scenes = self.scenes(&pictures, &sizes, Vec::new());
        let [height, width, _] = self.config.shape();
        let n = self.config.classes();
        let numbers = |(classes, boxes): (Vec<f32>, Vec<f32>)| {
            let (scores, places) = self.config.scored(&classes, &boxes);
            let best = |class: usize| scores.iter().skip(class).step_by(n).copied().fold(0.0, f32::max);
            let mean = |i: usize| {
                let side = [width, height][i % 2];
                places.iter().map(|p| f64::from(p[i])).sum::<f64>() / (places.len() * side) as f64
            };
            (0..n).map(|class| f64::from(best(class))).chain((0..4).map(mean)).collect()
        };
        Ok(self.task.raw(&self.model, &scenes, &rows)?.into_iter().map(numbers).collect())
    }

    fn evaluate(&self, source: &ImageCorpus, rows: &[u32]) -> Result<Measured, TrainError> {
        let (labels, mut objects) = super::boxed(source, rows)?;
        let known = self.task.names();
        let own: Vec<Option<usize>> =
            labels.names.iter().map(|name| known.iter().position(|k| k == name)).collect();
        let named = labels.names.iter().zip(&own).zip(&labels.counts);
        // A list may name classes that no box has.
        let unknown: Vec<&str> = named
            .filter(|((_, own), n)| own.is_none() && **n > 0)
            .map(|((name, _), _)| name.as_str())
            .collect();
        if !unknown.is_empty() {
            let message = format!("the model does not know these classes: {}", unknown.join(", "));
            return Err(Problem::new(message).help(format!("it finds {}", known.join(", "))).into());
        }
        for object in objects.iter_mut().flatten() {
            object.class = own[object.class as usize].unwrap_or(known.len()) as u32;
        }
        let scenes = self.scenes(&source.pictures, &source.sizes, objects);
        Ok(self.task.measure(&self.model, &scenes, rows)?.measured)
    }
}

impl Predicted {
    /// A row for each box of one image.
    #[must_use]
    pub fn of_image(&self, image: usize) -> Vec<(String, Values)> {
        let one = |list: &[String]| list.get(image).cloned().into_iter().collect();
        let found = self.found.get(image).cloned().into_iter().collect();
        let only = Self { paths: one(&self.paths), found, names: self.names.clone() };
        only.columns().0.into_iter().filter(|(name, _)| name != "image").collect()
    }

    /// A row for each box.
    #[must_use]
    pub fn columns(&self) -> (Vec<(String, Values)>, usize) {
        let rows: Vec<(&String, &Detection)> = self
            .paths
            .iter()
            .zip(&self.found)
            .flat_map(|(path, found)| found.iter().map(move |d| (path, d)))
            .collect();
        let words =
            |of: &dyn Fn(&(&String, &Detection)) -> String| Values::Words(rows.iter().map(of).collect());
        // Hundredths of a pixel are more than a box is sure of.
        let rounded = |x: f64| (x * 100.0).round() / 100.0;
        let side = |i: usize| Values::Numbers(rows.iter().map(|(_, d)| rounded(d.place[i])).collect());
        let score = Values::Numbers(rows.iter().map(|(_, d)| (d.score * 1e4).round() / 1e4).collect());
        let columns = vec![
            ("image".to_owned(), words(&|(path, _)| (*path).clone())),
            ("class".to_owned(), words(&|(_, d)| self.names[d.class as usize].clone())),
            ("score".to_owned(), score),
            ("left".to_owned(), side(0)),
            ("top".to_owned(), side(1)),
            ("right".to_owned(), side(2)),
            ("bottom".to_owned(), side(3)),
        ];
        (columns, rows.len())
    }
}
