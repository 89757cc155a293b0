//! Llama as a graph: `input_ids` `[batch, time]` to `logits` `[batch, time, vocabulary]`.

use jishi_hub::onnx::{Graph, Kind};
use jishi_models::{LlamaConfig, NamedTensor};
use jishi_recipe::Problem;

use super::layers::{Builder, Heads, TOKENS, of_tokens};

/// The graph of a model with these sizes and tensors, as [`jishi_models::export_weights`] gives them.
///
/// # Errors
/// A tensor that is missing.
pub fn graph<'a>(config: &LlamaConfig, tensors: &'a [NamedTensor]) -> Result<Graph<'a>, Problem> {
    let mut b = Builder::new("llama", tensors);
    let heads = Heads { queries: config.heads, keys: config.kv_heads, dim: config.head_dim };
    let tokens = b.graph.input("input_ids", Kind::I64, &TOKENS);
    b.graph.scope("embeddings");
    let places = b.places(&tokens);
    let mask = b.causal(&places);
    let rotary = Rotary::new(&mut b, config, &places);
    let mut x = b.rows("model.embed_tokens.weight", &tokens)?; // [batch, time, width]
    for layer in 0..config.layers {
        let at = format!("model.layers.{layer}");
        b.graph.scope(&format!("layers.{layer}"));
        let normed = b.rms_norm(&x, &format!("{at}.input_layernorm"), config.epsilon)?;
        let q = b.linear(&normed, &format!("{at}.self_attn.q_proj"))?;
        let k = b.linear(&normed, &format!("{at}.self_attn.k_proj"))?;
        let v = b.linear(&normed, &format!("{at}.self_attn.v_proj"))?;
        let q = rotary.turned(&mut b, &q, heads.queries);
        let k = rotary.turned(&mut b, &k, heads.keys);
        let attended = b.attention([&q, &k, &v], heads, Some(&mask));
        let attended = b.linear(&attended, &format!("{at}.self_attn.o_proj"))?;
        x = b.two("Add", &x, &attended);
        let normed = b.rms_norm(&x, &format!("{at}.post_attention_layernorm"), config.epsilon)?;
        let gate = b.linear(&normed, &format!("{at}.mlp.gate_proj"))?;
        let gate = b.activated(config.activation, &gate);
        let up = b.linear(&normed, &format!("{at}.mlp.up_proj"))?;
        let hidden = b.two("Mul", &gate, &up); // [batch, time, hidden]
        let y = b.linear(&hidden, &format!("{at}.mlp.down_proj"))?;
        x = b.two("Add", &x, &y);
    }
    b.graph.scope("output");
    let x = b.rms_norm(&x, "model.norm", config.epsilon)?;
    let logits = b.against(&x, if config.tied { "model.embed_tokens.weight" } else { "lm_head.weight" })?;
    b.output("logits", &logits, &of_tokens(config.vocabulary));
    Ok(b.graph)
}

/// Cosines and sines of all positions: `[time, 1, dim / 2]`. They are computed in the graph, since a table for a long
/// context would be larger than many a model.
struct Rotary {
    cos: String,
    sin: String,
    dim: i64,
}

impl Rotary {
    fn new(b: &mut Builder<'_>, config: &LlamaConfig, places: &str) -> Self {
        let frequencies = b.graph.numbers(&config.frequencies());
        let axes = b.graph.integers(&[1, 2]);
        let places = b.floats(places);
        let places = b.two("Unsqueeze", &places, &axes); // [time, 1, 1]
        let angles = b.two("Mul", &places, &frequencies); // [time, 1, dim / 2]
        let [cos, sin] = ["Cos", "Sin"].map(|function| b.one(function, &angles));
        Self { cos, sin, dim: config.head_dim as i64 }
    }

    /// `[batch, time, heads · dim]` as `[batch, time, heads, dim]`, with the values `i` and `i + dim / 2` of every head
    /// turned.
    fn turned(&self, b: &mut Builder<'_>, x: &str, heads: usize) -> String {
        let x = b.reshaped(x, &[heads as i64, self.dim]);
        let [first, second] = b.split(&x, [self.dim / 2; 2]);
        let mut turned = |along: &str, sign: &'static str, across: &str| {
            let along = b.two("Mul", along, &self.cos);
            let across = b.two("Mul", across, &self.sin);
            b.two(sign, &along, &across)
        };
        let left = turned(&first, "Sub", &second);
        let right = turned(&second, "Add", &first);
        b.joined(&[&left, &right])
    }
}
