//! Checks of recipes that learn from images.

use super::Checker;
use crate::networks::{MaeModel, ResNetModel, SsdModel, VggModel, VitModel, YoloModel};
use crate::types::TaskName;
use crate::vision::Image;

/// Layers of the ResNets of the paper.
const RESNETS: [usize; 5] = [18, 34, 50, 101, 152];
/// Layers of the VGG networks of the paper.
const VGGS: [usize; 4] = [11, 13, 16, 19];

impl Checker<'_> {
    /// What tasks on images need of each other's sections.
    pub(super) fn vision(&mut self) {
        let task = self.recipe.task;
        let unlabelled = matches!(task, TaskName::MaskedImageModeling | TaskName::ImageEmbedding);
        if unlabelled && self.recipe.data.target.is_some() {
            let message =
                format!("`data.target` has no meaning for {}: it learns without labels", task.name());
            self.fault(&["data.target", "task"], message, "leave it out");
        }
        let image = self.recipe.image.as_ref();
        for (key, share) in [
            ("image.mixup", image.map_or(0.0, |i| i.mixup)),
            ("image.cutmix", image.map_or(0.0, |i| i.cutmix)),
        ] {
            if unlabelled && share != 0.0 {
                let message = format!("`{key}` mixes images and their labels, and {} has none", task.name());
                self.fault(&[key, "task"], message, "leave it out");
            }
        }
        if task == TaskName::ImageEmbedding {
            self.views();
        }
    }

    /// Two views of an image have to differ.
    fn views(&mut self) {
        if self.recipe.image.as_ref().is_none_or(|image| image.augment.is_empty()) {
            let message =
                "image-embedding compares views of an image, and without `image.augment` all views are equal";
            let help =
                "for example: augment = [{ name = \"random-resized-crop\" }, { name = \"color-jitter\" }]";
            self.lack("image", &["image.augment", "image", "task"], message, help);
        }
        self.at_least("train.batch", self.recipe.train.batch, 2);
    }

    pub(super) fn image(&mut self, image: &Image) {
        self.boxes(image);
        let Some(share) = image.crop_pct else { return };
        if !(0.1..=1.0).contains(&share) {
            let message = format!("`image.crop_pct`: expected 0.1 to 1, found {share}");
            self.fault(&["image.crop_pct"], message, "0.875 is usual");
        }
        if image.size.is_none() {
            let message = "`image.crop_pct` is a share of `image.size`, which is not set";
            self.fault(&["image.crop_pct"], message, "for example: size = 224");
        }
    }

    /// Keys that have boxes to think of.
    fn boxes(&mut self, image: &Image) {
        self.number("image.mosaic", image.mosaic, (0.0..=1.0).contains(&image.mosaic), "from 0 to 1");
        let task = self.recipe.task;
        if task != TaskName::Detection {
            if image.mosaic != 0.0 {
                let message = format!("`image.mosaic` is for detection, and the task is {}", task.name());
                self.fault(&["image.mosaic", "task"], message, "leave it out");
            }
            return;
        }
        let set = [
            ("image.mixup", image.mixup != 0.0),
            ("image.cutmix", image.cutmix != 0.0),
            ("image.crop_pct", image.crop_pct.is_some()),
            ("image.pixels", image.pixels.is_some()),
        ];
        for (key, _) in set.into_iter().filter(|(_, set)| *set) {
            let message = format!("`{key}` is for image-classification, and the task is detection");
            self.fault(&[key, "task"], message, "leave it out");
        }
    }

    fn overlap(&mut self, nms: f64) {
        self.number("model.nms", nms, nms > 0.0 && nms <= 1.0, "above 0 and up to 1");
    }

    pub(super) fn yolo(&mut self, model: &YoloModel) {
        for (key, value) in [("model.width", model.width), ("model.depth", model.depth)] {
            self.at_least(key, value.unwrap_or(1), 1);
        }
        if model.width.is_some_and(|width| !width.is_multiple_of(4)) {
            let message = format!("`model.width`: expected a multiple of 4, found {}", model.width());
            self.fault(&["model.width"], message, "16 is the width of scale \"n\"");
        }
        self.overlap(model.nms);
    }

    pub(super) fn ssd(&mut self, model: &SsdModel) {
        self.at_least("model.width", model.width.unwrap_or(1), 1);
        self.overlap(model.nms);
    }

    fn depth(&mut self, depth: usize, known: &[usize]) {
        if !known.contains(&depth) {
            let list: Vec<String> = known.iter().map(usize::to_string).collect();
            let message = format!("`model.depth`: expected {}, found {depth}", list.join(", "));
            self.fault(&["model.depth"], message, "");
        }
    }

    pub(super) fn resnet(&mut self, model: &ResNetModel) {
        self.depth(model.depth, &RESNETS);
        self.at_least("model.width", model.width, 1);
        let Some(blocks) = &model.blocks else { return };
        if blocks.is_empty() || blocks.contains(&0) || blocks.len() > 4 {
            let message =
                format!("`model.blocks`: expected 1 to 4 stages of at least one block, found {blocks:?}");
            self.fault(&["model.blocks"], message, "for example: blocks = [2, 2, 2]");
        }
        if self.places.is_set("model.depth") {
            let message = "`model.depth` has no effect beside `model.blocks`";
            self.fault(&["model.depth", "model.blocks"], message, "leave one of them out");
        }
    }

    pub(super) fn vgg(&mut self, model: &VggModel) {
        self.depth(model.depth, &VGGS);
        self.at_least("model.width", model.width, 1);
        if model.hidden.contains(&0) || model.hidden.len() > 3 {
            let found = &model.hidden;
            let message =
                format!("`model.hidden`: expected at most 3 layers of at least 1 value, found {found:?}");
            self.fault(&["model.hidden"], message, "for example: hidden = [512, 512]");
        }
        self.share("model.dropout", model.dropout);
    }

    pub(super) fn vit(&mut self, model: &VitModel) {
        self.blocks(model.layers, model.heads, model.width);
        self.at_least("model.patch", model.patch, 1);
        if let Some(hidden) = model.hidden {
            self.at_least("model.hidden", hidden, 1);
        }
        self.share("model.dropout", model.dropout);
        self.share("model.drop_path", model.drop_path);
    }

    pub(super) fn mae(&mut self, model: &MaeModel) {
        self.blocks(model.layers, model.heads, model.width);
        self.at_least("model.patch", model.patch, 1);
        for (key, size) in [
            ("model.hidden", model.hidden),
            ("model.decoder_layers", model.decoder_layers),
            ("model.decoder_width", model.decoder_width),
        ] {
            if let Some(size) = size {
                self.at_least(key, size, 1);
            }
        }
        for (key, width) in [("model.width", Some(model.width)), ("model.decoder_width", model.decoder_width)]
        {
            let Some(width) = width.filter(|w| !w.is_multiple_of(4)) else { continue };
            let message =
                format!("`{key}`: expected a multiple of 4, for positions on a plane, found {width}");
            self.fault(&[key], message, format!("for example: {}", width.next_multiple_of(4)));
        }
        if let Some(width) = model.decoder_width.filter(|w| model.heads > 0 && !w.is_multiple_of(model.heads))
        {
            let message =
                format!("`model.heads` ({}) must divide `model.decoder_width` ({width})", model.heads);
            self.fault(&["model.decoder_width", "model.heads"], message, "");
        }
        let share = model.mask_ratio;
        self.number("model.mask_ratio", share, share > 0.0 && share < 1.0, "above 0 and below 1");
    }
}
