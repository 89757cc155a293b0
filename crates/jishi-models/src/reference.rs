//! Between the names and layouts of this crate and those of reference checkpoints.
//!
//! Matrices of this crate are `[in, out]`, those of PyTorch's linear layers `[out, in]`. [`Reference`] says for a
//! family which tensors are turned, which prefix names have, and which tensors of a checkpoint are no weights.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::Module;
use jishi_recipe::{Problem, Problems};

use crate::error::ModelError;
use crate::weights::{NamedTensor, export_weights, import_weights};

/// How a family's reference checkpoints name and lay out tensors.
#[derive(Debug, Clone, Copy)]
pub struct Reference {
    /// Prefix of all names but those of `heads`: optional in a checkpoint.
    pub prefix: &'static str,
    /// Whether names of this crate have it too.
    pub own_prefix: bool,
    /// Starts of the names of what comes after the body, which have no prefix. A checkpoint may lack them.
    pub heads: &'static [&'static str],
    /// Starts of other names that a checkpoint may lack.
    pub optional: &'static [&'static str],
    /// Parts of names: here, and in a checkpoint.
    pub renamed: &'static [(&'static str, &'static str)],
    /// Ends of the names of matrices that are `[out, in]` in a checkpoint, without `.weight`.
    pub turned: &'static [&'static str],
    /// Ends of the names of tensors of a checkpoint that follow from others: position numbers, tied copies.
    pub ignored: &'static [&'static str],
    /// Brings the names of other libraries to those of the reference.
    pub aliases: Option<fn(Vec<NamedTensor>) -> Vec<NamedTensor>>,
}

/// What a checkpoint did not hold, and what it held for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Tensors of a head that the checkpoint lacks: they keep their initial weights.
    pub fresh: Vec<String>,
    /// Tensors of heads of the checkpoint that the model does not have.
    pub unused: Vec<String>,
}

impl Reference {
    fn is_head(&self, name: &str) -> bool {
        self.heads.iter().any(|head| name.starts_with(head))
    }

    fn is_optional(&self, name: &str) -> bool {
        let is = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
        is(self.heads) || is(self.optional)
    }

    fn is_turned(&self, name: &str) -> bool {
        let Some(layer) = name.strip_suffix(".weight") else { return false };
        layer.ends_with(".lora_A") || layer.ends_with(".lora_B") || {
            self.turned.iter().any(|end| layer == *end || layer.ends_with(&format!(".{end}")))
        }
    }

    /// Tensors of a model by their reference names, in their reference layouts.
    #[must_use]
    pub fn to_reference(&self, tensors: Vec<NamedTensor>) -> Vec<NamedTensor> {
        tensors
            .into_iter()
            .map(|tensor| {
                let mut tensor = if self.is_turned(&tensor.name) { turned(tensor) } else { tensor };
                for (own, reference) in self.renamed {
                    tensor.name = tensor.name.replace(own, reference);
                }
                if !self.own_prefix && !self.is_head(&tensor.name) {
                    tensor.name.insert_str(0, self.prefix);
                }
                tensor
            })
            .collect()
    }

    /// Tensors of a checkpoint by the names of this crate, in its layouts. Those that are no weights are left out.
    #[must_use]
    pub fn from_reference(&self, tensors: Vec<NamedTensor>) -> Vec<NamedTensor> {
        let tensors = match self.aliases {
            Some(aliases) => aliases(tensors),
            None => tensors,
        };
        let mut own = Vec::with_capacity(tensors.len());
        for mut tensor in tensors {
            let name = tensor.name.strip_prefix("base_model.model.").unwrap_or(&tensor.name);
            let bare = name.strip_prefix(self.prefix).unwrap_or(name);
            let name = if self.own_prefix && !self.is_head(bare) {
                format!("{}{bare}", self.prefix)
            } else {
                bare.to_owned()
            };
            let name = match name.rsplit_once('.') {
                Some((layer, "gamma")) => format!("{layer}.weight"),
                Some((layer, "beta")) => format!("{layer}.bias"),
                _ => name,
            };
            let name = self.renamed.iter().fold(name, |name, (own, reference)| name.replace(reference, own));
            if self.ignored.iter().any(|end| name == *end || name.ends_with(&format!(".{end}"))) {
                continue;
            }
            tensor.name = name;
            own.push(if self.is_turned(&tensor.name) { turned(tensor) } else { tensor });
        }
        own
    }

    /// Puts a checkpoint's tensors into a model. A head that the checkpoint lacks keeps its initial weights, and so does
    /// one of other classes; one that the model lacks is not used.
    ///
    /// # Errors
    /// Names every other tensor that is missing, unknown, double or of another shape.
    pub fn load<M: Module>(&self, model: M, tensors: Vec<NamedTensor>) -> Result<(M, Loaded), ModelError> {
        self.put(model, tensors, false)
    }

    /// [`Self::load`] of a model that is used as it is: a head that the checkpoint lacks is missing as any other tensor.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_whole<M: Module>(&self, model: M, tensors: Vec<NamedTensor>) -> Result<M, ModelError> {
        Ok(self.put(model, tensors, true)?.0)
    }

    fn put<M: Module>(
        &self,
        model: M,
        tensors: Vec<NamedTensor>,
        whole: bool,
    ) -> Result<(M, Loaded), ModelError> {
        let mut tensors = self.from_reference(tensors);
        let own = export_weights(&model);
        let known: BTreeMap<&str, &[usize]> = own.iter().map(|t| (t.name.as_str(), &t.shape[..])).collect();
        let mut loaded = Loaded::default();
        tensors.retain(|t| {
            let shape = known.get(t.name.as_str());
            let other = !whole && self.is_head(&t.name) && shape.is_some_and(|shape| *shape != t.shape);
            let unused = other || (self.is_optional(&t.name) && shape.is_none());
            if unused {
                loaded.unused.push(t.name.clone());
            }
            !unused
        });
        let given: BTreeSet<String> = tensors.iter().map(|t| t.name.clone()).collect();
        for tensor in &own {
            let lora = tensor.name.contains(".lora_");
            let optional = self.is_optional(&tensor.name) && !whole;
            if (lora || optional) && !given.contains(&tensor.name) {
                loaded.fresh.push(tensor.name.clone());
                tensors.push(tensor.clone());
            }
        }
        Ok((import_weights(model, &tensors)?, loaded))
    }
}

/// `[a, b]` as `[b, a]`; another shape stays as it is.
fn turned(mut tensor: NamedTensor) -> NamedTensor {
    let [rows, columns] = tensor.shape[..] else { return tensor };
    if tensor.data.len() != rows * columns {
        return tensor;
    }
    const BLOCK: usize = 32;
    let mut data = vec![0.0; tensor.data.len()];
    for first in (0..rows).step_by(BLOCK) {
        for column in 0..columns {
            for row in first..(first + BLOCK).min(rows) {
                data[column * rows + row] = tensor.data[row * columns + column];
            }
        }
    }
    tensor.data = data;
    tensor.shape = vec![columns, rows];
    tensor
}

/// A problem of a recipe's sizes.
pub(crate) fn sizes(problems: &[(bool, String, &str)]) -> Result<(), Problems> {
    let problem = |(_, message, help): &(bool, String, &str)| Problem::new(message.clone()).help(*help);
    Problems(problems.iter().filter(|(fits, ..)| !fits).map(problem).collect()).into_result()
}
