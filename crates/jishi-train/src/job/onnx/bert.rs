//! BERT as a graph: `input_ids`, `attention_mask` and `token_type_ids` `[batch, time]` to what its head gives: `logits`
//! `[batch, time, vocabulary]`, `logits` `[batch, classes]`, or `sentence_embedding` `[batch, width]`.

use jishi_hub::onnx::{Attribute, Graph, Kind};
use jishi_models::{BertConfig, BertHead, NamedTensor};
use jishi_recipe::Problem;

use super::layers::{Builder, Heads, TOKENS, of_rows, of_tokens};

/// The graph of a model with these sizes and tensors, as [`jishi_models::export_weights`] gives them.
///
/// # Errors
/// A tensor that is missing.
pub fn graph<'a>(config: &BertConfig, tensors: &'a [NamedTensor]) -> Result<Graph<'a>, Problem> {
    let mut b = Builder::new("bert", tensors);
    let heads = Heads { queries: config.heads, keys: config.heads, dim: config.width / config.heads };
    let [tokens, there, types] =
        ["input_ids", "attention_mask", "token_type_ids"].map(|name| b.graph.input(name, Kind::I64, &TOKENS));
    b.graph.scope("embeddings");
    let mask = padding(&mut b, &there);
    let places = b.places(&tokens);
    let words = b.rows("embeddings.word_embeddings.weight", &tokens)?;
    let places = b.rows("embeddings.position_embeddings.weight", &places)?;
    let types = b.rows("embeddings.token_type_embeddings.weight", &types)?;
    let x = b.two("Add", &words, &places);
    let x = b.two("Add", &x, &types);
    let mut x = b.layer_norm(&x, "embeddings.layer_norm", config.epsilon)?; // [batch, time, width]
    for layer in 0..config.layers {
        let at = format!("encoder.layer.{layer}");
        b.graph.scope(&at);
        let parts = ["query", "key", "value"].map(|part| format!("{at}.attention.self_attention.{part}"));
        let [q, k, v] = [b.linear(&x, &parts[0])?, b.linear(&x, &parts[1])?, b.linear(&x, &parts[2])?];
        let attended = b.attention([&q, &k, &v], heads, Some(&mask));
        x = added(&mut b, &attended, &x, &format!("{at}.attention.output"), config)?;
        let hidden = b.linear(&x, &format!("{at}.intermediate.dense"))?;
        let hidden = b.activated(config.activation, &hidden); // [batch, time, hidden]
        x = added(&mut b, &hidden, &x, &format!("{at}.output"), config)?;
    }
    b.graph.scope("output");
    match config.head {
        BertHead::MaskedLm => {
            let x = b.linear(&x, "cls.predictions.transform.dense")?;
            let x = b.activated(config.activation, &x);
            let x = b.layer_norm(&x, "cls.predictions.transform.layer_norm", config.epsilon)?;
            let logits = b.against(&x, "embeddings.word_embeddings.weight")?;
            let bias = b.weight("cls.predictions.bias")?;
            let logits = b.two("Add", &logits, &bias);
            b.output("logits", &logits, &of_tokens(config.vocabulary));
        }
        BertHead::Classification { classes } => {
            let first = b.graph.integer(0);
            let first = b.picked(&x, &first); // [batch, width]
            let pooled = b.linear(&first, "pooler.dense")?;
            let pooled = b.one("Tanh", &pooled);
            let logits = b.linear(&pooled, "classifier")?;
            b.output("logits", &logits, &of_rows(classes));
        }
        BertHead::Embedding => {
            let vector = mean(&mut b, &x, &there);
            b.output("sentence_embedding", &vector, &of_rows(config.width));
        }
    }
    Ok(b.graph)
}

/// What is added to the scores of attention so that nothing sees padding: `[batch, 1, 1, time]`.
fn padding(b: &mut Builder<'_>, there: &str) -> String {
    let zero = b.graph.integer(0);
    let hidden = b.two("Equal", there, &zero);
    let axes = b.graph.integers(&[1, 2]);
    let hidden = b.two("Unsqueeze", &hidden, &axes);
    b.hidden_where(&hidden)
}

/// The norm of a layer's output plus the residual.
fn added(
    b: &mut Builder<'_>,
    x: &str,
    residual: &str,
    name: &str,
    config: &BertConfig,
) -> Result<String, Problem> {
    let y = b.linear(x, &format!("{name}.dense"))?;
    let y = b.two("Add", &y, residual);
    b.layer_norm(&y, &format!("{name}.layer_norm"), config.epsilon)
}

/// The mean of the positions that are no padding, divided by its length: `[batch, width]`.
fn mean(b: &mut Builder<'_>, x: &str, there: &str) -> String {
    let (time, last) = (b.graph.integers(&[1]), b.graph.integers(&[2]));
    let counted = b.floats(there);
    let column = b.two("Unsqueeze", &counted, &last); // [batch, time, 1]
    let kept = b.two("Mul", x, &column);
    let sum = b.graph.node("ReduceSum", &[&kept, &time], &[("keepdims", Attribute::Int(0))]); // [batch, width]
    let count = b.two("ReduceSum", &counted, &time); // [batch, 1]
    let count = b.with("Max", &count, 1e-9);
    let mean = b.two("Div", &sum, &count);
    let square = b.two("Mul", &mean, &mean);
    let length = b.two("ReduceSum", &square, &time);
    let length = b.with("Max", &length, 1e-24);
    let length = b.one("Sqrt", &length); // [batch, 1]
    b.two("Div", &mean, &length)
}
