//! Weights of a decoder as its tasks use them, packed from tensors by name.
//!
//! A task of a block takes a share of the block from its input to its share of the output, which is a sum of
//! shares: the columns of the first matrix and the rows of the second that belong together are packed beside
//! each other.

use std::borrow::Cow;
use std::ops::Range;

use jishi_kernels::cpu::matvec::{BlockKind, Format, Joined, PANEL, PackedWeight, unpack_blocks};
use jishi_recipe::Problem;

use super::config::{DecoderConfig, DecoderFamily};
use super::source::{MatrixOrder, StoredTensor, StoredValues, TensorSource};

/// Inputs of a block of a GGUF file that can be told apart.
const QUANT: usize = 32;

/// Tensors by their reference names, and what is wrong with them.
pub struct Tensors<'a, S: ?Sized> {
    source: &'a S,
    format: Format,
    /// What names may have before them.
    prefix: &'static str,
    pub problems: Vec<Problem>,
}

impl<'a, S: TensorSource + ?Sized> Tensors<'a, S> {
    pub fn new(source: &'a S, format: Format, family: &DecoderFamily) -> Self {
        let prefix = match family {
            DecoderFamily::Gpt2 => "transformer.",
            DecoderFamily::Llama(_) => "model.",
        };
        Self { source, format, prefix, problems: Vec::new() }
    }

    /// The name as the source has it.
    fn name<'n>(&self, name: &'n str) -> Option<Cow<'n, str>> {
        if self.source.has(name) {
            return Some(Cow::Borrowed(name));
        }
        let longer = format!("{}{name}", self.prefix);
        self.source.has(&longer).then_some(Cow::Owned(longer))
    }

    pub fn has(&self, name: &str) -> bool {
        self.name(name).is_some()
    }

    /// A tensor of this shape; what is wrong with it becomes a problem.
    fn get(&mut self, name: &str, shape: &[usize]) -> Option<StoredTensor<'a>> {
        let problem = match self.name(name).map(|name| self.source.tensor(&name)) {
            None => Problem::new(format!("tensor `{name}` of shape {shape:?} is missing")),
            Some(Err(problem)) => problem,
            Some(Ok(tensor)) if tensor.shape != shape => Problem::new(format!(
                "tensor `{name}` should have shape {shape:?} and has {:?}",
                tensor.shape
            )),
            Some(Ok(tensor)) => {
                let size: usize = shape.iter().product();
                let held = match &tensor.values {
                    StoredValues::F32(values) => values.len(),
                    // Rows are whole blocks.
                    StoredValues::Blocks(kind, bytes) => {
                        let whole = shape.last().is_some_and(|n| n.is_multiple_of(kind.values()));
                        if whole && bytes.len().is_multiple_of(kind.bytes()) {
                            bytes.len() / kind.bytes() * kind.values()
                        } else {
                            0
                        }
                    }
                };
                if held == size {
                    return Some(tensor);
                }
                Problem::new(format!("tensor `{name}` of shape {shape:?} does not hold {size} values"))
            }
        };
        self.problems.push(problem);
        None
    }

    /// The values of a tensor. One that is missing or has another shape becomes a problem and counts as zeros.
    pub fn values(&mut self, name: &str, shape: &[usize]) -> Vec<f32> {
        match self.get(name, shape).map(|t| t.values) {
            Some(StoredValues::F32(values)) => values.into_owned(),
            Some(StoredValues::Blocks(kind, bytes)) => unpacked(kind, &bytes),
            None => vec![0.0; shape.iter().product()],
        }
    }

    /// [`values`](Self::values) where there is such a tensor.
    fn optional(&mut self, name: &str, size: usize) -> Option<Vec<f32>> {
        self.has(name).then(|| self.values(name, &[size]))
    }

    /// A linear layer's matrix.
    fn matrix(&mut self, name: &str, inputs: usize, outputs: usize) -> Matrix<'a> {
        if self.source.order() == MatrixOrder::OutIn {
            return self.table(name, inputs, outputs);
        }
        let values = match self.get(name, &[inputs, outputs]).map(|t| t.values) {
            // Columns of blocks have no rows to pack.
            Some(StoredValues::Blocks(kind, bytes)) => Some(StoredValues::F32(unpacked(kind, &bytes).into())),
            values => values,
        };
        Matrix { inputs, outputs, turned: false, values }
    }

    /// A table of embeddings, `[outputs, inputs]`.
    fn table(&mut self, name: &str, inputs: usize, outputs: usize) -> Matrix<'a> {
        let values = match self.get(name, &[outputs, inputs]).map(|t| t.values) {
            Some(StoredValues::Blocks(kind, bytes)) if !self.format.is_blocks() => {
                Some(StoredValues::F32(unpacked(kind, &bytes).into()))
            }
            values => values,
        };
        Matrix { inputs, outputs, turned: true, values }
    }

    /// A table of embeddings, packed as an output layer is.
    pub fn packed_table(&mut self, name: &str, width: usize, entries: usize, format: Format) -> PackedWeight {
        let table = self.table(name, width, entries);
        let all: Vec<usize> = (0..entries).collect();
        table.pack(format, 0..width, &all)
    }
}

fn unpacked(kind: BlockKind, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len() / kind.bytes() * kind.values()];
    unpack_blocks(kind, bytes, &mut values);
    values
}

/// A matrix as it is stored; one that is missing counts as zeros.
struct Matrix<'a> {
    inputs: usize,
    outputs: usize,
    /// Whether it is `[out, in]`.
    turned: bool,
    values: Option<StoredValues<'a>>,
}

impl Matrix<'_> {
    /// Packs some inputs of some outputs, in this order. Blocks stay blocks where the format is one of blocks and they
    /// are not cut.
    fn pack(&self, format: Format, inputs: Range<usize>, outputs: &[usize]) -> PackedWeight {
        let (from, height, width) = (inputs.start, inputs.len(), outputs.len());
        match &self.values {
            None => PackedWeight::new(format, height, width, |_, _| 0.0),
            Some(StoredValues::Blocks(kind, bytes)) => {
                let row = self.inputs / kind.values() * kind.bytes();
                let columns: Vec<&[u8]> = outputs.iter().map(|o| &bytes[o * row..][..row]).collect();
                if from.is_multiple_of(QUANT) && height.is_multiple_of(QUANT) {
                    return PackedWeight::from_blocks(*kind, inputs, &columns);
                }
                let values: Vec<f32> =
                    columns.iter().flat_map(|c| unpacked(*kind, c)[inputs.clone()].to_vec()).collect();
                PackedWeight::new(format, height, width, |i, o| values[o * height + i])
            }
            Some(StoredValues::F32(values)) if self.turned => {
                PackedWeight::new(format, height, width, |i, o| values[outputs[o] * self.inputs + from + i])
            }
            Some(StoredValues::F32(values)) => PackedWeight::new(format, height, width, |i, o| {
                values[(from + i) * self.outputs + outputs[o]]
            }),
        }
    }
}

/// Weight and bias of a norm: a layer norm has a bias, an RMS norm has none.
#[derive(Debug)]
pub struct Norm {
    pub weight: Vec<f32>,
    pub bias: Option<Vec<f32>>,
}

impl Norm {
    pub fn take<S: TensorSource + ?Sized>(
        tensors: &mut Tensors<'_, S>,
        name: &str,
        config: &DecoderConfig,
    ) -> Self {
        let weight = tensors.values(&format!("{name}.weight"), &[config.width]);
        let bias = (config.family == DecoderFamily::Gpt2)
            .then(|| tensors.values(&format!("{name}.bias"), &[config.width]));
        Self { weight, bias }
    }
}

/// Parts of a share's first layer, and its bias.
type First = (Vec<PackedWeight>, Option<Vec<f32>>);

/// A part of a block: `f(x · first + bias) · second`.
#[derive(Debug)]
pub struct Share {
    /// `[width, inner]`, in parts beside each other; of attention, the queries, the key and the value of one key head;
    /// of a feed-forward part with a gate, the gate and what it lets through.
    pub first: Vec<PackedWeight>,
    pub bias: Option<Vec<f32>>,
    /// `[inner, width]`
    pub second: PackedWeight,
}

impl Share {
    /// Values between the layers.
    pub fn outputs(&self) -> usize {
        self.first.iter().map(PackedWeight::outputs).sum()
    }
}

/// Two linear layers with something between them, in shares.
#[derive(Debug)]
pub struct Pair {
    pub shares: Vec<Share>,
    /// Of the second layer.
    pub bias: Option<Vec<f32>>,
}

impl Pair {
    pub fn firsts(&self) -> Joined<'_> {
        Joined::beside(self.shares.iter().flat_map(|s| &s.first).collect())
    }

    pub fn seconds(&self) -> Joined<'_> {
        Joined::over(self.shares.iter().map(|s| &s.second).collect())
    }

    /// Biases of the first layers, in order.
    pub fn first_bias(&self) -> Option<Vec<f32>> {
        let biases = self.shares.iter().map(|s| s.bias.as_deref());
        Some(biases.collect::<Option<Vec<_>>>()?.concat())
    }

    fn packed(&self) -> impl Iterator<Item = &PackedWeight> {
        self.shares.iter().flat_map(|s| s.first.iter().chain([&s.second]))
    }
}

/// A block of a decoder.
#[derive(Debug)]
pub struct Block {
    pub norm: Norm,
    /// A share for each key head.
    pub attention: Pair,
    pub middle_norm: Norm,
    pub feed_forward: Pair,
}

impl Block {
    pub fn take<S: TensorSource + ?Sized>(
        tensors: &mut Tensors<'_, S>,
        config: &DecoderConfig,
        index: usize,
    ) -> Self {
        match config.family {
            DecoderFamily::Gpt2 => {
                let name = |part: &str| format!("h.{index}.{part}");
                Self {
                    norm: Norm::take(tensors, &name("ln_1"), config),
                    attention: gpt2_attention(tensors, &name("attn"), config),
                    middle_norm: Norm::take(tensors, &name("ln_2"), config),
                    feed_forward: gpt2_feed_forward(tensors, &name("mlp"), config),
                }
            }
            DecoderFamily::Llama(_) => {
                let name = |part: &str| format!("layers.{index}.{part}");
                Self {
                    norm: Norm::take(tensors, &name("input_layernorm"), config),
                    attention: llama_attention(tensors, &name("self_attn"), config),
                    middle_norm: Norm::take(tensors, &name("post_attention_layernorm"), config),
                    feed_forward: llama_feed_forward(tensors, &name("mlp"), config),
                }
            }
        }
    }

    pub fn packed(&self) -> impl Iterator<Item = &PackedWeight> {
        self.attention.packed().chain(self.feed_forward.packed())
    }
}

fn gpt2_attention<S: TensorSource + ?Sized>(
    tensors: &mut Tensors<'_, S>,
    name: &str,
    config: &DecoderConfig,
) -> Pair {
    let (width, heads, dim, format) = (config.width, config.heads, config.head_dim, tensors.format);
    let first = tensors.matrix(&format!("{name}.c_attn.weight"), width, 3 * width);
    let first_bias = tensors.values(&format!("{name}.c_attn.bias"), &[3 * width]);
    let firsts: Vec<First> = (0..heads)
        .map(|head| {
            // Columns of the head's query, key and value in the reference matrix.
            let columns: Vec<usize> = (0..3 * dim).map(|c| c / dim * width + head * dim + c % dim).collect();
            let bias = columns.iter().map(|c| first_bias[*c]).collect();
            (vec![first.pack(format, 0..width, &columns)], Some(bias))
        })
        .collect();
    drop(first);
    let second = tensors.matrix(&format!("{name}.c_proj.weight"), width, width);
    let bias = Some(tensors.values(&format!("{name}.c_proj.bias"), &[width]));
    joined(format, firsts, &second, dim, bias)
}

fn gpt2_feed_forward<S: TensorSource + ?Sized>(
    tensors: &mut Tensors<'_, S>,
    name: &str,
    config: &DecoderConfig,
) -> Pair {
    let (width, hidden, format) = (config.width, config.hidden, tensors.format);
    let first = tensors.matrix(&format!("{name}.c_fc.weight"), width, hidden);
    let first_bias = tensors.values(&format!("{name}.c_fc.bias"), &[hidden]);
    let firsts = parts(hidden)
        .map(|range| {
            let columns: Vec<usize> = range.clone().collect();
            (vec![first.pack(format, 0..width, &columns)], Some(first_bias[range].to_vec()))
        })
        .collect();
    drop(first);
    let second = tensors.matrix(&format!("{name}.c_proj.weight"), hidden, width);
    let bias = Some(tensors.values(&format!("{name}.c_proj.bias"), &[width]));
    joined(format, firsts, &second, part(hidden), bias)
}

fn llama_attention<S: TensorSource + ?Sized>(
    tensors: &mut Tensors<'_, S>,
    name: &str,
    config: &DecoderConfig,
) -> Pair {
    let (width, dim, group, format) = (config.width, config.head_dim, config.group(), tensors.format);
    let (queries, keys) = (config.heads * dim, config.kv_heads * dim);
    let mut firsts: Vec<First> = (0..config.kv_heads).map(|_| (Vec::new(), Some(Vec::new()))).collect();
    for (layer, all) in [("q_proj", queries), ("k_proj", keys), ("v_proj", keys)] {
        let matrix = tensors.matrix(&format!("{name}.{layer}.weight"), width, all);
        let bias = tensors.optional(&format!("{name}.{layer}.bias"), all);
        for (head, (parts, biases)) in firsts.iter_mut().enumerate() {
            let size = if layer == "q_proj" { group * dim } else { dim };
            let columns: Vec<usize> = (head * size..(head + 1) * size).collect();
            parts.push(matrix.pack(format, 0..width, &columns));
            extend(biases, bias.as_deref().map(|bias| &bias[head * size..][..size]));
        }
    }
    let second = tensors.matrix(&format!("{name}.o_proj.weight"), queries, width);
    let bias = tensors.optional(&format!("{name}.o_proj.bias"), width);
    joined(format, firsts, &second, group * dim, bias)
}

/// Biases of layers beside each other: all have one, or none has.
fn extend(biases: &mut Option<Vec<f32>>, more: Option<&[f32]>) {
    match (biases.as_mut(), more) {
        (Some(biases), Some(more)) => biases.extend_from_slice(more),
        _ => *biases = None,
    }
}

fn llama_feed_forward<S: TensorSource + ?Sized>(
    tensors: &mut Tensors<'_, S>,
    name: &str,
    config: &DecoderConfig,
) -> Pair {
    let (width, hidden, format) = (config.width, config.hidden, tensors.format);
    let mut firsts: Vec<First> = parts(hidden).map(|_| (Vec::new(), Some(Vec::new()))).collect();
    for layer in ["gate_proj", "up_proj"] {
        let matrix = tensors.matrix(&format!("{name}.{layer}.weight"), width, hidden);
        let bias = tensors.optional(&format!("{name}.{layer}.bias"), hidden);
        for (range, (parts, biases)) in parts(hidden).zip(&mut firsts) {
            extend(biases, bias.as_deref().map(|bias| &bias[range.clone()]));
            parts.push(matrix.pack(format, 0..width, &range.collect::<Vec<_>>()));
        }
    }
    let second = tensors.matrix(&format!("{name}.down_proj.weight"), hidden, width);
    let bias = tensors.optional(&format!("{name}.down_proj.bias"), width);
    joined(format, firsts, &second, part(hidden), bias)
}

/// First layers with the rows of the second that read them, `size` a share.
fn joined(
    format: Format,
    firsts: Vec<First>,
    second: &Matrix<'_>,
    size: usize,
    bias: Option<Vec<f32>>,
) -> Pair {
    let all: Vec<usize> = (0..second.outputs).collect();
    let share = |(index, (first, bias)): (usize, First)| {
        let range = index * size..((index + 1) * size).min(second.inputs);
        Share { first, bias, second: second.pack(format, range, &all) }
    };
    Pair { shares: firsts.into_iter().enumerate().map(share).collect(), bias }
}

/// Shares of a feed-forward part, at most: enough for the threads of a desktop, few enough that adding them up costs
/// nothing.
const SHARES: usize = 12;

/// Hidden values of a share of a feed-forward part.
fn part(hidden: usize) -> usize {
    hidden.div_ceil(SHARES).next_multiple_of(PANEL)
}

fn parts(hidden: usize) -> impl Iterator<Item = Range<usize>> {
    (0..hidden).step_by(part(hidden)).map(move |from| from..(from + part(hidden)).min(hidden))
}
