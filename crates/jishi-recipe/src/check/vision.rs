//! Checks of recipes that learn from images.

use super::Checker;
use crate::networks::{ResNetModel, VggModel, VitModel};
use crate::vision::Image;

/// Layers of the ResNets of the paper.
const RESNETS: [usize; 5] = [18, 34, 50, 101, 152];
/// Layers of the VGG networks of the paper.
const VGGS: [usize; 4] = [11, 13, 16, 19];

impl Checker<'_> {
    pub(super) fn image(&mut self, image: &Image) {
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
}
