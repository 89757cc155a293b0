//! Which weights of a model are trained: freezing, and low-rank additions (LoRA, Hu et al. 2021).

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor};
use jishi_recipe::{Init, Lora, LoraBase, Model, Problem, Problems, Recipe, Trainable};

use crate::init::Scope;
use crate::layers::projection::Projection;
use crate::weights::Path;

/// A model whose linear layers can get low-rank additions.
pub trait Adapted: Module {
    /// Calls `f` with the name and layer of each linear layer of attention and feed-forward parts.
    fn each_projection(&mut self, f: &mut dyn FnMut(&str, &mut Projection));
}

/// Adds low-rank additions to the layers whose names end with one of the targets, all layers where there are none,
/// and freezes everything else. What the model computes does not change, but for the rounding of weights that are kept
/// as bytes: those are no parameters any more, so load all weights first.
///
/// # Errors
/// Targets that no layer's name ends with, and a rank of zero.
pub fn add_lora<M: Adapted>(mut model: M, lora: &Lora, seed: u64, device: &Device) -> Result<M, Problems> {
    let mut problems = Vec::new();
    if lora.rank == 0 {
        problems.push(Problem::new("`model.lora.rank` is 0: expected at least 1").help("8 is usual"));
    }
    let mut names = Vec::new();
    model.each_projection(&mut |name, _| names.push(name.to_owned()));
    let is = |name: &str, target: &str| name == target || name.ends_with(&format!(".{target}"));
    for target in &lora.targets {
        if !names.iter().any(|name| is(name, target)) {
            let mut ends: Vec<&str> = names.iter().filter_map(|n| n.rsplit('.').next()).collect();
            ends.sort_unstable();
            ends.dedup();
            let message = format!("`model.lora.targets` has \"{target}\", and no layer's name ends with it");
            problems.push(Problem::new(message).help(format!("layers are {}", ends.join(", "))));
        }
    }
    Problems(problems).into_result()?;
    let mut model = freeze_where(model, |_| true);
    let scope = Scope::new(seed, Init::Zeros, device);
    model.each_projection(&mut |name, layer| {
        if lora.targets.is_empty() || lora.targets.iter().any(|target| is(name, target)) {
            if lora.base == LoraBase::Int8 {
                layer.quantise();
            }
            layer.add_lora(&scope.child(name), lora.rank, lora.alpha, lora.dropout);
        }
    });
    Ok(model)
}

/// Puts all low-rank additions into the weights, which are numbers again. What the model computes does not change.
#[must_use]
pub fn merge_lora<M: Adapted>(mut model: M) -> M {
    model.each_projection(&mut |_, layer| layer.merge_lora());
    model
}

/// Freezes what a recipe does not train: nothing, or the embeddings and all but the last `last` blocks, or all blocks.
#[must_use]
pub fn freeze<M: Module>(model: M, train: Trainable, last: usize) -> M {
    let kept = match train {
        Trainable::All => return model,
        Trainable::Last => last,
        Trainable::Head => 0,
    };
    let blocks = crate::weights::names(&model).iter().filter_map(|n| block_of(n)).max().map_or(0, |b| b + 1);
    freeze_where(model, |name| match block_of(name) {
        Some(block) => block + kept < blocks,
        None => is_embedding(name),
    })
}

/// The number of the block that a tensor is part of.
#[must_use]
pub fn block_of(name: &str) -> Option<usize> {
    let mut parts = name.split('.');
    parts.find(|part| matches!(*part, "h" | "layers" | "layer"))?;
    parts.next()?.parse().ok()
}

fn is_embedding(name: &str) -> bool {
    let parts = ["wte", "wpe", "embed_tokens", "embed_positions", "embeddings", "shared"];
    name.split('.').any(|part| parts.contains(&part))
}

/// Learning rates that fall from block to block towards the input (Howard & Ruder 2018, "discriminative fine-tuning").
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerRates {
    decay: f64,
}

impl LayerRates {
    /// As a recipe says; all the same where it says nothing.
    #[must_use]
    pub fn of(recipe: &Recipe) -> Self {
        match &recipe.model {
            Model::Pretrained(model) => Self { decay: model.layer_decay },
            _ => Self { decay: 1.0 },
        }
    }

    /// What the learning rate of a parameter is multiplied with: of the last block `decay`, of the one below it its
    /// square, and so on; of embeddings as of a block below all; of what comes after the blocks 1.
    #[must_use]
    pub fn scale(&self, name: &str, names: &[&str]) -> f64 {
        if self.decay == 1.0 {
            return 1.0;
        }
        let blocks = names.iter().filter_map(|n| block_of(n)).max().map_or(0, |b| b + 1);
        let below = match block_of(name) {
            Some(block) => blocks - block,
            None if is_embedding(name) => blocks + 1,
            None => 0,
        };
        self.decay.powi(below as i32)
    }
}

/// Freezes the parameters with such names: they ask for no gradient, and none is computed.
pub fn freeze_where<M: Module>(model: M, frozen: impl Fn(&str) -> bool) -> M {
    model.map(&mut Freezer { path: Path::default(), frozen })
}

struct Freezer<F> {
    path: Path,
    frozen: F,
}

impl<F: Fn(&str) -> bool> ModuleMapper for Freezer<F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if (self.frozen)(&self.path.name()) { param.set_require_grad(false) } else { param }
    }
}
