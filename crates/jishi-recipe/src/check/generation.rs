//! Checks of recipes that make images.

use super::Checker;
use crate::generation::{DcganModel, WganGpModel};
use crate::types::{Evaluate, LossName, TaskName};
use crate::vision::Normalize;

impl Checker<'_> {
    pub(super) fn dcgan(&mut self, model: &DcganModel) {
        self.at_least("model.latent", model.latent, 1);
        self.at_least("model.width", model.width, 1);
        self.positive("model.critic_rate", model.critic_rate);
    }

    pub(super) fn wgan_gp(&mut self, model: &WganGpModel) {
        self.at_least("model.latent", model.latent, 1);
        self.at_least("model.width", model.width, 1);
        self.positive("model.critic_rate", model.critic_rate);
        self.at_least("model.critic_steps", model.critic_steps, 1);
        self.not_negative("model.penalty", model.penalty);
    }

    /// What is for images that are made, and what they can't have.
    pub(super) fn generation(&mut self) {
        let recipe = self.recipe;
        if recipe.task != TaskName::ImageGeneration {
            // A recipe that was resolved names every default.
            let of = [
                ("evaluate.features", recipe.evaluate.features.is_some()),
                ("evaluate.samples", recipe.evaluate.samples != Evaluate::default().samples),
            ];
            for (key, set) in of {
                if set {
                    let message =
                        format!("`{key}` is for image-generation, and the task is {}", recipe.task.name());
                    self.fault(&[key, "task"], message, "leave it out");
                }
            }
            return;
        }
        self.at_least("evaluate.samples", recipe.evaluate.samples, 2);
        if self.places.is_set("data.split.folds") {
            let message = "`folds` are for tasks that predict something, and the task is image-generation";
            self.fault(&["data.split.folds", "task"], message, "leave it out");
        }
        if recipe.train.batch == 1 {
            let message = "batch norm can't normalise a batch of one image";
            self.fault(&["train.batch", "task"], message, "for example: batch = 64");
        }
        if recipe.train.loss.name != LossName::Auto {
            let message =
                "`train.loss.name` is for tasks that predict something, and the task is image-generation";
            self.fault(
                &["train.loss.name", "task"],
                message,
                "leave it out: each family has a loss of its own",
            );
        }
        if let Some(stopping) = &recipe.train.early_stopping {
            let about = ["train.early_stopping.metric", "train.early_stopping", "task"];
            if stopping.metric == "loss" {
                let message =
                    "the loss of a critic does not tell how good images are: early stopping can't go by it";
                self.fault(&about, message, "for example: metric = \"fid\", with `evaluate.features`");
            } else if recipe.evaluate.features.is_none() {
                let message = format!(
                    "`train.early_stopping.metric` (\"{}\") is measured on `evaluate.features`, which is not set",
                    stopping.metric
                );
                self.fault(&about, message, "for example: features = \"runs/mnist\" in [evaluate]");
            }
        }
        let Some(image) = &recipe.image else { return };
        if image.normalize.is_some_and(|how| how != Normalize::Half) {
            let message = "`image.normalize`: images are made with values from −1 to 1";
            self.fault(&["image.normalize", "task"], message, "leave it out, or write normalize = \"half\"");
        }
        for (key, share) in [("image.mixup", image.mixup), ("image.cutmix", image.cutmix)] {
            if share != 0.0 {
                let message = format!("`{key}` mixes labels, and the task is image-generation");
                self.fault(&[key, "task"], message, "leave it out");
            }
        }
    }
}
