//! Weights of a decoder as its tasks use them, packed from tensors by name.
//!
//! A task of a block takes a share of the block from its input to its share of the output, which is a sum of
//! shares: the columns of the first matrix and the rows of the second that belong together are packed beside
//! each other.

use std::collections::BTreeMap;

use jishi_kernels::cpu::matvec::{Format, Joined, PANEL, PackedWeight};
use jishi_recipe::Problem;

use super::DecoderConfig;
use crate::weights::NamedTensor;

/// Tensors by their reference names, with or without the prefix `transformer.`, and what is wrong with them.
pub struct Tensors<'a> {
    given: BTreeMap<&'a str, &'a NamedTensor>,
    pub problems: Vec<Problem>,
}

impl<'a> Tensors<'a> {
    pub fn new(tensors: &'a [NamedTensor]) -> Self {
        let name = |t: &'a NamedTensor| t.name.strip_prefix("transformer.").unwrap_or(&t.name);
        Self { given: tensors.iter().map(|t| (name(t), t)).collect(), problems: Vec::new() }
    }

    pub fn has(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The values of a tensor. One that is missing or has another shape becomes a problem and counts as zeros.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Vec<f32> {
        let size = shape.iter().product();
        let message = match self.given.get(name) {
            Some(t) if t.shape == shape && t.data.len() == size => return t.data.clone(),
            Some(t) if t.shape == shape => {
                format!("tensor `{name}` of shape {shape:?} holds {} values", t.data.len())
            }
            Some(t) => format!("tensor `{name}` should have shape {shape:?} and has {:?}", t.shape),
            None => format!("tensor `{name}` of shape {shape:?} is missing"),
        };
        self.problems.push(Problem::new(message));
        vec![0.0; size]
    }
}

/// Weight and bias of a layer norm.
#[derive(Debug)]
pub struct Norm {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

impl Norm {
    pub fn take(tensors: &mut Tensors<'_>, name: &str, width: usize) -> Self {
        Self {
            weight: tensors.take(&format!("{name}.weight"), &[width]),
            bias: tensors.take(&format!("{name}.bias"), &[width]),
        }
    }
}

/// A part of a block: `act(x · first + bias) · second`.
#[derive(Debug)]
pub struct Share {
    /// `[width, inner]`; of attention, the queries, then the key and the value of one key head.
    pub first: PackedWeight,
    pub bias: Vec<f32>,
    /// `[inner, width]`
    pub second: PackedWeight,
}

/// Two linear layers with something between them, in shares.
#[derive(Debug)]
pub struct Pair {
    pub shares: Vec<Share>,
    /// Of the second layer.
    pub bias: Vec<f32>,
}

impl Pair {
    pub fn firsts(&self) -> Joined<'_> {
        Joined::beside(self.shares.iter().map(|s| &s.first).collect())
    }

    pub fn seconds(&self) -> Joined<'_> {
        Joined::over(self.shares.iter().map(|s| &s.second).collect())
    }

    /// Biases of the first layers, in order.
    pub fn first_bias(&self) -> Vec<f32> {
        self.shares.iter().flat_map(|s| s.bias.iter().copied()).collect()
    }

    fn packed(&self) -> impl Iterator<Item = &PackedWeight> {
        self.shares.iter().flat_map(|s| [&s.first, &s.second])
    }
}

/// A block of a GPT-2.
#[derive(Debug)]
pub struct Block {
    pub norm: Norm,
    /// A share for each key head.
    pub attention: Pair,
    pub middle_norm: Norm,
    pub feed_forward: Pair,
}

impl Block {
    pub fn take(tensors: &mut Tensors<'_>, config: &DecoderConfig, format: Format, index: usize) -> Self {
        let name = |part: &str| format!("h.{index}.{part}");
        let width = config.width;
        Self {
            norm: Norm::take(tensors, &name("ln_1"), width),
            attention: attention(tensors, &name("attn"), config, format),
            middle_norm: Norm::take(tensors, &name("ln_2"), width),
            feed_forward: feed_forward(tensors, &name("mlp"), config, format),
        }
    }

    pub fn packed(&self) -> impl Iterator<Item = &PackedWeight> {
        self.attention.packed().chain(self.feed_forward.packed())
    }
}

fn attention(tensors: &mut Tensors<'_>, name: &str, config: &DecoderConfig, format: Format) -> Pair {
    let (width, heads, dim) = (config.width, config.heads, config.head_dim());
    let first = tensors.take(&format!("{name}.c_attn.weight"), &[width, 3 * width]);
    let first_bias = tensors.take(&format!("{name}.c_attn.bias"), &[3 * width]);
    let second = tensors.take(&format!("{name}.c_proj.weight"), &[width, width]);
    let share = |head: usize| {
        // Column of the head's query, key or value in the reference matrix.
        let column = |c: usize| c / dim * width + head * dim + c % dim;
        Share {
            first: PackedWeight::new(format, width, 3 * dim, |i, c| first[i * 3 * width + column(c)]),
            bias: (0..3 * dim).map(|c| first_bias[column(c)]).collect(),
            second: PackedWeight::new(format, dim, width, |i, c| second[(head * dim + i) * width + c]),
        }
    };
    let bias = tensors.take(&format!("{name}.c_proj.bias"), &[width]);
    Pair { shares: (0..heads).map(share).collect(), bias }
}

fn feed_forward(tensors: &mut Tensors<'_>, name: &str, config: &DecoderConfig, format: Format) -> Pair {
    let (width, hidden) = (config.width, config.hidden);
    let first = tensors.take(&format!("{name}.c_fc.weight"), &[width, hidden]);
    let first_bias = tensors.take(&format!("{name}.c_fc.bias"), &[hidden]);
    let second = tensors.take(&format!("{name}.c_proj.weight"), &[hidden, width]);
    let size = hidden.div_ceil(SHARES).next_multiple_of(PANEL);
    let share = |from: usize| {
        let inner = size.min(hidden - from);
        Share {
            first: PackedWeight::new(format, width, inner, |i, c| first[i * hidden + from + c]),
            bias: first_bias[from..from + inner].to_vec(),
            second: PackedWeight::new(format, inner, width, |i, c| second[(from + i) * width + c]),
        }
    };
    let bias = tensors.take(&format!("{name}.c_proj.bias"), &[width]);
    Pair { shares: (0..hidden).step_by(size.max(1)).map(share).collect(), bias }
}

/// Shares of a feed-forward part, at most: enough for the threads of a desktop, few enough that adding them up costs
/// nothing.
const SHARES: usize = 12;
