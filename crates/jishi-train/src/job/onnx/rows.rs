//! Models of table rows as graphs: `numbers` `[batch, numbers]` and `categories` `[batch, columns]` to outputs
//! `[members, batch, outputs]` in the model's own unit. A kind of input that a table does not have is left out.

use jishi_hub::onnx::{Attribute, Kind};
use jishi_models::layers::norm::EPS;
use jishi_models::layers::numbers::encoding_columns;
use jishi_models::{NamedTensor, TableShape, uses_one_hot};
use jishi_recipe::{FtTransformerModel, MlpModel, Model, Norm, NumberEmbedding, Problem};

use super::layers::{Builder, Heads, of_rows};

/// The inputs of a graph.
struct Inputs {
    /// `[batch, numbers]`
    numbers: Option<String>,
    /// `[batch, columns]`
    categories: Option<String>,
}

/// A graph under construction with the outputs of a model, and the name of these. There are no members where the model
/// is no ensemble: `[batch, outputs]`.
///
/// # Errors
/// A tensor that is missing; a model that does not read tables.
pub(super) fn outputs<'a>(
    model: &Model,
    shape: &TableShape,
    tensors: &'a [NamedTensor],
) -> Result<(Builder<'a>, String), Problem> {
    let mut b = Builder::new(model.family(), tensors);
    let mut input = |name: &str, kind, width| (width > 0).then(|| b.graph.input(name, kind, &of_rows(width)));
    let inputs = Inputs {
        numbers: input("numbers", Kind::F32, shape.numbers),
        categories: input("categories", Kind::I64, shape.cardinalities.len()),
    };
    b.graph.scope("features");
    let output = match model {
        Model::Linear(_) => {
            let x = features(&mut b, &inputs, None, shape, true)?;
            b.linear(&x, "output")
        }
        Model::Mlp(config) => {
            let x = features(&mut b, &inputs, Some(config), shape, uses_one_hot(model))?;
            mlp(&mut b, x, config)
        }
        Model::FtTransformer(config) => ft_transformer(&mut b, &inputs, config, shape),
        other => Err(Problem::new(format!("a model of family `{}` does not read tables", other.family()))),
    }?;
    Ok((b, output))
}

/// What enters the first layer, `[batch, features]`: numbers or their embeddings, then categories.
fn features(
    b: &mut Builder<'_>,
    inputs: &Inputs,
    config: Option<&MlpModel>,
    shape: &TableShape,
    one_hot: bool,
) -> Result<String, Problem> {
    let mut parts = Vec::new();
    if let Some(numbers) = &inputs.numbers {
        parts.push(match config.map_or(NumberEmbedding::None, |c| c.numbers.embedding) {
            NumberEmbedding::None => numbers.clone(),
            NumberEmbedding::PiecewiseLinear => piecewise_linear(b, numbers, shape)?,
            NumberEmbedding::Periodic => periodic(b, numbers)?,
        });
    }
    if let Some(codes) = &inputs.categories {
        if one_hot {
            parts.push(hot(b, codes, shape));
        } else {
            let vectors = vectors(b, codes, "category_embedding", shape)?; // [batch, columns, width]
            parts.push(b.flat(&vectors));
        }
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    Ok(b.joined(&parts))
}

/// Codes as columns of 0 and 1, none for the code 0: `[batch, one-hot]`.
fn hot(b: &mut Builder<'_>, codes: &str, shape: &TableShape) -> String {
    let slots =
        || shape.cardinalities.iter().enumerate().flat_map(|(c, n)| (1..*n).map(move |slot| (c, slot)));
    let columns = b.graph.integers(&slots().map(|(column, _)| column as i64).collect::<Vec<_>>());
    let slots = b.graph.integers(&slots().map(|(_, slot)| slot as i64).collect::<Vec<_>>());
    let codes = b.picked(codes, &columns);
    let hot = b.two("Equal", &codes, &slots);
    b.floats(&hot)
}

/// The trained vectors of categories: `[batch, columns, width]`.
fn vectors(b: &mut Builder<'_>, codes: &str, name: &str, shape: &TableShape) -> Result<String, Problem> {
    let first = shape.cardinalities.iter().scan(0, |next, n| {
        let first = *next;
        *next += *n as i64;
        Some(first)
    });
    let offsets = b.graph.integers(&first.collect::<Vec<_>>());
    let rows = b.two("Add", codes, &offsets);
    b.rows(&format!("{name}.weight"), &rows)
}

/// `[batch, outputs]` of `[batch, numbers]` (Gorishniy et al. 2022, §3.2).
fn piecewise_linear(b: &mut Builder<'_>, numbers: &str, shape: &TableShape) -> Result<String, Problem> {
    let name = "number_embedding";
    let trained = b.has(&format!("{name}.weight"));
    let largest = shape.bin_edges.iter().map(|edges| edges.len() - 1).max().unwrap_or(0);
    let (source, columns) = encoding_columns(&shape.bin_edges, trained.then_some(largest));
    let source = b.graph.integers(&source);
    let [slope, shift, lower, upper] = columns.map(|column| b.graph.numbers(&column));
    let x = b.picked(numbers, &source); // [batch, columns]
    let x = b.two("Mul", &x, &slope);
    let x = b.two("Add", &x, &shift);
    let x = b.two("Max", &x, &lower);
    let x = b.two("Min", &x, &upper);
    if !trained {
        return Ok(x);
    }
    let shape = b.graph.integers(&[0, shape.numbers as i64, largest as i64]);
    let x = b.two("Reshape", &x, &shape);
    let y = per_number(b, &x, name)?;
    Ok(b.flat(&y))
}

/// `[batch, outputs]` of `[batch, numbers]` (Gorishniy et al. 2022, §3.3).
fn periodic(b: &mut Builder<'_>, numbers: &str) -> Result<String, Problem> {
    let name = "number_embedding";
    let frequencies = b.weight(&format!("{name}.frequencies"))?; // [numbers, frequencies]
    let last = b.graph.integers(&[2]);
    let x = b.two("Unsqueeze", numbers, &last);
    let x = b.with("Mul", &x, std::f32::consts::TAU);
    let x = b.two("Mul", &x, &frequencies); // [batch, numbers, frequencies]
    let [sin, cos] = ["Sin", "Cos"].map(|function| b.one(function, &x));
    let x = b.joined(&[&sin, &cos]);
    let y = per_number(b, &x, name)?;
    let y = b.one("Relu", &y);
    Ok(b.flat(&y))
}

/// A linear layer for each number: `[batch, numbers, width]` of `[batch, numbers, in]`.
fn per_number(b: &mut Builder<'_>, x: &str, name: &str) -> Result<String, Problem> {
    let weight = b.weight(&format!("{name}.weight"))?; // [numbers, in, width]
    let bias = b.weight(&format!("{name}.bias"))?; // [numbers, width]
    let x = b.transposed(x, &[1, 0, 2]);
    let y = b.two("MatMul", &x, &weight); // [numbers, batch, width]
    let y = b.transposed(&y, &[1, 0, 2]);
    Ok(b.two("Add", &y, &bias))
}

fn mlp(b: &mut Builder<'_>, mut x: String, config: &MlpModel) -> Result<String, Problem> {
    let ensemble = config.members > 1;
    if ensemble {
        let first = b.graph.integers(&[0]);
        x = b.two("Unsqueeze", &x, &first); // [1, batch, features]
    }
    let mut width = None;
    for (i, hidden) in config.hidden.iter().enumerate() {
        let at = format!("layers.{i}");
        b.graph.scope(&at);
        let mut y = if ensemble {
            let weight = b.weight(&format!("{at}.weight"))?;
            let mut of_members = |part: &str| by_member(b, &format!("{at}.{part}"));
            let [input, output, bias] =
                [of_members("input_scale")?, of_members("output_scale")?, of_members("bias")?];
            let y = b.two("Mul", &x, &input);
            let y = b.two("MatMul", &y, &weight);
            let y = b.two("Mul", &y, &output);
            b.two("Add", &y, &bias) // [members, batch, hidden]
        } else {
            b.linear(&x, &at)? // [batch, hidden]
        };
        let norm = format!("norms.{i}");
        y = match config.norm {
            Norm::None => y,
            Norm::Layer => b.layer_norm(&y, &norm, EPS)?,
            Norm::Batch => b.batch_norm(&y, &norm, EPS)?,
        };
        y = b.named(config.activation, &y);
        let inputs =
            width.replace(*hidden).or_else(|| b.shape(&format!("{at}.weight")).map(|shape| shape[0]));
        // Members have no rows of their own before the first layer.
        if config.residual && inputs == Some(*hidden) && !(ensemble && i == 0) {
            y = b.two("Add", &y, &x);
        }
        x = y;
    }
    b.graph.scope("output");
    if !ensemble {
        return b.linear(&x, "output");
    }
    let weight = b.weight("output.weight")?; // [members, in, out]
    let bias = by_member(b, "output.bias")?;
    let y = b.two("MatMul", &x, &weight);
    Ok(b.two("Add", &y, &bias))
}

/// Values of every member, to go with its rows: `[members, 1, width]`.
fn by_member(b: &mut Builder<'_>, name: &str) -> Result<String, Problem> {
    let values = b.weight(name)?;
    let axis = b.graph.integers(&[1]);
    Ok(b.two("Unsqueeze", &values, &axis))
}

/// Gorishniy et al. 2021, §3.3: columns as tokens, pre-norm blocks, the head on the CLS token.
fn ft_transformer(
    b: &mut Builder<'_>,
    inputs: &Inputs,
    config: &FtTransformerModel,
    shape: &TableShape,
) -> Result<String, Problem> {
    let heads = Heads { queries: config.heads, keys: config.heads, dim: config.width / config.heads };
    let mut x = columns(b, inputs, config.width, shape)?; // [batch, tokens, width]
    let first = b.graph.integers(&[0]);
    for layer in 0..config.layers {
        let at = format!("layers.{layer}");
        b.graph.scope(&at);
        let normed =
            if layer == 0 { x.clone() } else { b.layer_norm(&x, &format!("{at}.attention_norm"), EPS)? };
        let mut asking = normed.clone();
        if layer + 1 == config.layers {
            (x, asking) = (b.picked(&x, &first), b.picked(&normed, &first)); // [batch, 1, width]
        }
        let q = b.linear(&asking, &format!("{at}.query"))?;
        let k = b.linear(&normed, &format!("{at}.key"))?;
        let v = b.linear(&normed, &format!("{at}.value"))?;
        let attended = b.attention([&q, &k, &v], heads, None);
        let attended = b.linear(&attended, &format!("{at}.attention_output"))?;
        x = b.two("Add", &x, &attended);
        let y = b.layer_norm(&x, &format!("{at}.feed_forward_norm"), EPS)?;
        let y = b.linear(&y, &format!("{at}.expand"))?;
        let hidden = b.shape(&format!("{at}.contract.weight")).map_or(0, |shape| shape[0]) as i64;
        let [values, gates] = b.split(&y, [hidden; 2]);
        let gates = b.named(config.activation, &gates);
        let y = b.two("Mul", &values, &gates);
        let y = b.linear(&y, &format!("{at}.contract"))?;
        x = b.two("Add", &x, &y);
    }
    b.graph.scope("output");
    let x = b.flat(&x);
    let x = b.layer_norm(&x, "norm", EPS)?;
    let x = b.one("Relu", &x);
    b.linear(&x, "output")
}

/// Columns as tokens, the CLS token first: `[batch, 1 + columns, width]`.
fn columns(
    b: &mut Builder<'_>,
    inputs: &Inputs,
    width: usize,
    shape: &TableShape,
) -> Result<String, Problem> {
    let any = inputs.numbers.as_ref().or(inputs.categories.as_ref());
    let any = any.ok_or_else(|| Problem::new("the table has no feature to learn from"))?;
    let [first, one_and_width, last] =
        [vec![0], vec![1, width as i64], vec![2]].map(|values| b.graph.integers(&values));
    let batch = b.one("Shape", any);
    let batch = b.two("Gather", &batch, &first);
    let whole = b.joined(&[&batch, &one_and_width]);
    let cls = b.weight("embedding.cls")?;
    let mut parts = vec![b.two("Expand", &cls, &whole)];
    if let Some(numbers) = &inputs.numbers {
        let [weight, bias] = [b.weight("embedding.number_weight")?, b.weight("embedding.number_bias")?]; // [numbers, width]
        let x = b.two("Unsqueeze", numbers, &last);
        let x = b.two("Mul", &x, &weight);
        parts.push(b.two("Add", &x, &bias)); // [batch, numbers, width]
    }
    if let Some(codes) = &inputs.categories {
        let bias = b.weight("embedding.category_bias")?;
        let x = vectors(b, codes, "embedding.categories", shape)?;
        parts.push(b.two("Add", &x, &bias)); // [batch, columns, width]
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    Ok(b.graph.node("Concat", &parts, &[("axis", Attribute::Int(1))]))
}
