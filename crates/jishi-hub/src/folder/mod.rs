//! Hugging Face folders: `config.json`, files of weights, the files of a tokenizer.

mod read;
mod sentence;
mod write;

pub use read::read;
pub(crate) use read::{read_weights, read_with};
pub(crate) use write::{check_length, to_bytes};
pub use write::{names, write, write_about, write_safetensors};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const PICKLE: &str = "pytorch_model.bin";
const PICKLE_INDEX: &str = "pytorch_model.bin.index.json";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS: &str = "special_tokens_map.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const PREPROCESSOR_CONFIG: &str = "preprocessor_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";
