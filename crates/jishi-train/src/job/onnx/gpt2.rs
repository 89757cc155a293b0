//! GPT-2 as a graph: `input_ids` `[batch, time]` to `logits` `[batch, time, vocabulary]`.

use jishi_hub::onnx::{Graph, Kind};
use jishi_models::{Gpt2Config, NamedTensor};
use jishi_recipe::Problem;

use super::layers::{Builder, Heads, TOKENS, of_tokens};

/// The graph of a model with these sizes and tensors, as [`jishi_models::export_weights`] gives them.
///
/// # Errors
/// A tensor that is missing.
pub fn graph<'a>(config: &Gpt2Config, tensors: &'a [NamedTensor]) -> Result<Graph<'a>, Problem> {
    let mut b = Builder::new("gpt2", tensors);
    let heads = Heads { queries: config.heads, keys: config.heads, dim: config.width / config.heads };
    let tokens = b.graph.input("input_ids", Kind::I64, &TOKENS);
    b.graph.scope("embeddings");
    let places = b.places(&tokens);
    let mask = b.causal(&places);
    let words = b.rows("wte.weight", &tokens)?;
    let places = b.rows("wpe.weight", &places)?;
    let mut x = b.two("Add", &words, &places); // [batch, time, width]
    let width = config.width as i64;
    for layer in 0..config.layers {
        let at = format!("h.{layer}");
        b.graph.scope(&at);
        let normed = b.layer_norm(&x, &format!("{at}.ln_1"), config.epsilon)?;
        let qkv = b.linear(&normed, &format!("{at}.attn.c_attn"))?;
        let [q, k, v] = b.split(&qkv, [width; 3]);
        let attended = b.attention([&q, &k, &v], heads, Some(&mask));
        let attended = b.linear(&attended, &format!("{at}.attn.c_proj"))?;
        x = b.two("Add", &x, &attended);
        let normed = b.layer_norm(&x, &format!("{at}.ln_2"), config.epsilon)?;
        let hidden = b.linear(&normed, &format!("{at}.mlp.c_fc"))?;
        let hidden = b.activated(config.activation, &hidden);
        let y = b.linear(&hidden, &format!("{at}.mlp.c_proj"))?;
        x = b.two("Add", &x, &y);
    }
    b.graph.scope("output");
    let x = b.layer_norm(&x, "ln_f", config.epsilon)?;
    let logits = b.against(&x, if config.tied { "wte.weight" } else { "lm_head.weight" })?;
    b.output("logits", &logits, &of_tokens(config.vocabulary));
    Ok(b.graph)
}
