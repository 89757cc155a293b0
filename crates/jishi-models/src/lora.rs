//! Which weights of a model are trained: freezing, and low-rank additions (LoRA, Hu et al. 2021).

use std::collections::{BTreeMap, BTreeSet};

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
    if names.is_empty() {
        let problem = Problem::new("`model.lora` is for families with attention");
        problems.push(problem.help("leave it out, and choose `model.train`"));
    }
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
    let names = crate::weights::names(&model);
    let blocks = Blocks::of(names.iter().map(String::as_str));
    freeze_where(model, |name| match blocks.number(name) {
        Some(block) => block + kept < blocks.count(),
        None => is_embedding(name),
    })
}

/// The blocks of a model, numbered from the input on: Transformer blocks, residual blocks of all stages, or
/// convolutions with the norm behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocks(BTreeMap<Place, usize>);

/// Where a block is in a model, in the order from input to output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// `layer.3`, or block 3 of stage 2: `layer2.3`.
    Block { stage: usize, block: usize },
    /// `features.3` of a VGG.
    Convolution(usize),
    /// `classifier.3` of a VGG.
    Dense(usize),
}

fn place_of(name: &str) -> Option<Place> {
    let mut parts = name.split('.');
    while let Some(part) = parts.next() {
        let stage = match part {
            "h" | "layers" | "layer" => Some(0),
            _ => part.strip_prefix("layer").and_then(|stage| stage.parse().ok()),
        };
        let number = |text: Option<&str>| text.and_then(|n| n.parse::<usize>().ok());
        match (stage, part) {
            (Some(stage), _) => return Some(Place::Block { stage, block: number(parts.next())? }),
            (_, "features") => return number(parts.next()).map(Place::Convolution),
            (_, "classifier") => return number(parts.next()).map(Place::Dense),
            _ => {}
        }
    }
    None
}

impl Blocks {
    /// Those of a model with tensors of these names.
    pub fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut places: BTreeSet<Place> = names.filter_map(place_of).collect();
        // The last of a VGG's dense layers comes after all blocks.
        if let Some(last @ Place::Dense(_)) = places.last().copied() {
            places.remove(&last);
        }
        let (mut blocks, mut before, mut count) = (BTreeMap::new(), None, 0);
        for place in places {
            let behind = match (before, place) {
                (Some(Place::Convolution(conv)), Place::Convolution(norm)) => norm == conv + 1,
                _ => false,
            };
            count += usize::from(!behind);
            blocks.insert(place, count - 1);
            before = Some(place);
        }
        Self(blocks)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.values().max().map_or(0, |last| last + 1)
    }

    /// The number of the block that a tensor is part of.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<usize> {
        self.0.get(&place_of(name)?).copied()
    }
}

/// Whether a tensor comes before all blocks.
fn is_embedding(name: &str) -> bool {
    let parts = ["wte", "wpe", "embed_tokens", "embed_positions", "embeddings", "shared"];
    let stem = ["conv1.", "bn1."];
    name.split('.').any(|part| parts.contains(&part)) || stem.iter().any(|start| name.starts_with(start))
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
        let blocks = Blocks::of(names.iter().copied());
        let below = match blocks.number(name) {
            Some(block) => blocks.count() - block,
            None if is_embedding(name) => blocks.count() + 1,
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
