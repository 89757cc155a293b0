//! Weights of a model that was trained before, by us or by others.

use burn::module::Module;
use burn::tensor::Device;
use jishi_hub::Checkpoint;
use jishi_models::lora::Adapted;
use jishi_models::{NamedTensor, Reference, add_lora, freeze};
use jishi_recipe::{PretrainedModel, Problems};

use crate::error::TrainError;

/// Weights by who made them.
pub enum Weights {
    /// With names and layout of the reference checkpoints.
    Reference(Vec<NamedTensor>),
    /// With our own.
    Own(Vec<NamedTensor>),
}

impl Weights {
    /// Those of a checkpoint, in memory and in `f32`.
    ///
    /// # Errors
    /// Names every tensor that can't be read.
    pub fn of_checkpoint(found: &Checkpoint) -> Result<Self, TrainError> {
        let mut tensors = Vec::new();
        let mut problems = Vec::new();
        for (name, meta) in found.tensors.iter() {
            match found.tensors.read(name) {
                Ok(data) => {
                    let (name, shape) = (name.to_owned(), meta.shape.clone());
                    tensors.push(NamedTensor { name, shape, data, trainable: true });
                }
                Err(problem) => problems.push(problem),
            }
        }
        Problems(problems).into_result()?;
        Ok(Self::Reference(tensors))
    }

    /// Puts them into a model of the same sizes. A head that they lack or that has another size keeps its initial ones,
    /// and one that the model lacks is left out.
    ///
    /// # Errors
    /// Names every tensor that is missing, unknown or of another shape.
    pub fn put<M: Module>(&self, model: M, reference: &Reference) -> Result<M, TrainError> {
        Ok(reference.load(model, self.tensors(reference))?.0)
    }

    /// [`Self::put`] into a model that is used as it is: a head has to be there.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn put_whole<M: Module>(&self, model: M, reference: &Reference) -> Result<M, TrainError> {
        Ok(reference.load_whole(model, self.tensors(reference))?)
    }

    fn tensors(&self, reference: &Reference) -> Vec<NamedTensor> {
        match self {
            Self::Reference(tensors) => tensors.clone(),
            Self::Own(tensors) => reference.to_reference(tensors.clone()),
        }
    }
}

/// Freezes what is not trained and adds low-rank additions, as a recipe says.
///
/// # Errors
/// Targets that no layer's name ends with.
pub fn adapt<M: Adapted>(
    model: M,
    recipe: &PretrainedModel,
    seed: u64,
    device: &Device,
) -> Result<M, TrainError> {
    match &recipe.lora {
        Some(lora) => Ok(add_lora(model, lora, seed, device)?),
        None => Ok(freeze(model, recipe.train, recipe.last_layers)),
    }
}
