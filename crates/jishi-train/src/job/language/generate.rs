//! `jishi generate`: any model that predicts the next token, at work.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use jishi_data::text::chat::ChatTemplate;
use jishi_data::text::documents::Message;
use jishi_data::text::tokenizer::Tokenizer;
use jishi_hub::{Checkpoint, Resolved};
use jishi_kernels::cpu::matvec::Format;
use jishi_models::generate::beam::DecoderTexts;
use jishi_models::generate::constraint::{Constraint, Grammar, Vocabulary};
use jishi_models::generate::{
    BeamOptions, DecoderText, Finish, GenerateOptions, Generated, Generation, TokenTable, beam_search,
    generate,
};
use jishi_models::{CausalConfig, LanguageConfig};
use jishi_models::{Decoder, DecoderConfig, ModelError};
use jishi_recipe::{Generate, Problem};
use jishi_tasks::language::writer::{prompt_tokens, token_table};

use super::checkpoint::Stored;
use super::package::TextPackage;
use crate::error::TrainError;

/// A decoder with its tokenizer.
pub struct TextGenerator {
    decoder: Decoder,
    tokenizer: Arc<Tokenizer>,
    table: Arc<TokenTable>,
    /// Made when a constraint first needs it.
    vocabulary: OnceLock<Arc<Vocabulary>>,
    /// What the recipe, or the model's makers, say about choosing tokens.
    pub defaults: Generate,
    template: Option<ChatTemplate>,
}

/// What a text is asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// How tokens are chosen, and how many.
    pub options: Generate,
    /// Of the random numbers.
    pub seed: u64,
    /// Strings that end the text.
    pub stop: Vec<String>,
    /// What the text has to match.
    pub constraint: Option<Arc<Grammar>>,
    /// Gives log-probabilities of each token and of so many most likely ones.
    pub log_probabilities: Option<usize>,
}

impl TextGenerator {
    /// Loads what `source` means: a run or a package (a run's name under `root`, or a folder), a Hugging Face folder, a
    /// GGUF file, `package:NAME` or `hf:ORG/NAME`. `format` is that of the weights in memory; without one, weights are `f32`,
    /// and those of a GGUF file in blocks stay as they are.
    ///
    /// # Errors
    /// Everything that is wrong with the model; a model that does not write text.
    pub fn load(
        source: &str,
        root: &Path,
        format: Option<Format>,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Self, TrainError> {
        let elsewhere =
            source.starts_with("hf:") || source.starts_with("package:") || Path::new(source).exists();
        if elsewhere {
            return match jishi_hub::resolve(source, Path::new(""), progress)? {
                Resolved::Checkpoint(checkpoint) => Self::from_checkpoint(&checkpoint, format),
                Resolved::Jishi(path) => {
                    Self::from_package(&jishi_runs::package::find(root, &path.to_string_lossy())?, format)
                }
            };
        }
        Self::from_package(&jishi_runs::package::find(root, source)?, format)
    }

    /// Loads a package.
    ///
    /// # Errors
    /// A damaged package; one of a model that does not write text.
    pub fn from_package(dir: &Path, format: Option<Format>) -> Result<Self, TrainError> {
        let TextPackage { recipe, pipeline, tokenizer, tensors, .. } = TextPackage::read(dir)?;
        if !recipe.task.continues_text() {
            let problem = Problem::new(format!(
                "this model was trained for {}, and writes no text",
                recipe.task.name()
            ));
            return Err(problem.file(dir).help("use `jishi predict`").into());
        }
        let config = DecoderConfig::from(&CausalConfig::from_hf(&pipeline.config)?);
        let decoder = Decoder::new(config, format.unwrap_or_default(), &tensors)?;
        Self::new(decoder, tokenizer, recipe.generate.unwrap_or_default())
    }

    /// Takes a model that others made.
    ///
    /// # Errors
    /// A model of another kind; tensors that are missing or misshapen; no tokenizer.
    pub fn from_checkpoint(checkpoint: &Checkpoint, format: Option<Format>) -> Result<Self, TrainError> {
        let sizes = CausalConfig::from_hf(&checkpoint.about.config)?;
        let config = DecoderConfig::from(&sizes);
        let tokenizer = Arc::new(super::checkpoint::tokenizer(checkpoint)?);
        if tokenizer.vocabulary() > config.vocabulary {
            let problem = Problem::new(format!(
                "the tokenizer has {} tokens, and the model knows {}",
                tokenizer.vocabulary(),
                config.vocabulary
            ));
            return Err(problem.help("the files of two models were mixed").into());
        }
        let stored = Stored::new(checkpoint, sizes.tied());
        let decoder = Decoder::load(config, format.unwrap_or_else(|| stored.format()), &stored)?;
        let mut defaults = Generate { temperature: 0.0, max_tokens: 256, ..Generate::default() };
        if let Some(generation) = &checkpoint.about.generation_config {
            let number = |key: &str| generation[key].as_f64();
            if generation["do_sample"].as_bool() == Some(true) {
                defaults.temperature = number("temperature").unwrap_or(1.0);
                defaults.top_p = number("top_p").unwrap_or(1.0);
                defaults.top_k = generation["top_k"].as_u64().map_or(50, |k| k as usize);
            }
            defaults.repetition_penalty = number("repetition_penalty").unwrap_or(1.0);
        }
        Self::new(decoder, tokenizer, defaults)
    }

    fn new(decoder: Decoder, tokenizer: Arc<Tokenizer>, defaults: Generate) -> Result<Self, TrainError> {
        let template = match tokenizer.chat_template {
            Some(_) => Some(ChatTemplate::of(&tokenizer)?),
            None => None,
        };
        let table = token_table(&tokenizer);
        let vocabulary = OnceLock::new();
        Ok(Self { decoder, tokenizer, table, vocabulary, defaults, template })
    }

    /// Positions that a prompt and its answer have together.
    #[must_use]
    pub fn context(&self) -> usize {
        self.decoder.config().context
    }

    /// Bytes of the weights in memory.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.decoder.weight_bytes()
    }

    /// The tokens of a text to continue. Special tokens that are written in it are found.
    ///
    /// # Errors
    /// A text that has no tokens.
    pub fn text(&self, prompt: &str) -> Result<Vec<u32>, TrainError> {
        Ok(prompt_tokens(&self.tokenizer, prompt)?)
    }

    /// The tokens that ask for the next answer of a conversation. Special tokens in messages are text.
    ///
    /// # Errors
    /// A model that has no template of conversations, or one that refuses these messages.
    pub fn conversation(&self, messages: &[Message]) -> Result<Vec<u32>, TrainError> {
        let Some(template) = &self.template else {
            let problem = Problem::new("this model has no template of conversations");
            return Err(problem
                .help("leave out `--chat` and `--system`, and give the text to continue")
                .into());
        };
        Ok(template.prompt(messages, &self.tokenizer)?)
    }

    /// The weights.
    #[must_use]
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Its tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Whether it has a template of conversations.
    #[must_use]
    pub fn converses(&self) -> bool {
        self.template.is_some()
    }

    fn options(&self, tokens: &[u32], request: &Request) -> Result<GenerateOptions, TrainError> {
        if tokens.len() >= self.context() {
            let problem = Problem::new(format!(
                "the prompt has {} tokens, and the model's context is {}",
                tokens.len(),
                self.context()
            ));
            return Err(problem.help("shorten the prompt").into());
        }
        let mut options = GenerateOptions::from(&request.options);
        options.sampling.seed = request.seed;
        options.stop_tokens = self.tokenizer.ends();
        options.stop.clone_from(&request.stop);
        options.log_probabilities = request.log_probabilities;
        Ok(options)
    }

    /// What chooses the tokens that follow `tokens`, for a caller that steps the decoder itself. Beams are not for it.
    ///
    /// # Errors
    /// As [`TextGenerator::generate`].
    pub fn begin(&self, tokens: &[u32], request: &Request) -> Result<Generation, TrainError> {
        self.generation(tokens, request, self.options(tokens, request)?)
    }

    fn generation(
        &self,
        tokens: &[u32],
        request: &Request,
        options: GenerateOptions,
    ) -> Result<Generation, TrainError> {
        let constraint = request.constraint.as_ref().map(|grammar| {
            let vocabulary =
                self.vocabulary.get_or_init(|| Arc::new(Vocabulary::new(Arc::clone(&self.table))));
            Constraint::new(Arc::clone(grammar), Arc::clone(vocabulary))
        });
        Ok(Generation::new(options, tokens, Some(Arc::clone(&self.table)), constraint)?)
    }

    /// Continues tokens. `listen` hears what is written as it is written, and says whether to go on.
    ///
    /// # Errors
    /// A prompt longer than the context; options that contradict each other; a constraint that can't be met.
    pub fn generate(
        &self,
        tokens: &[u32],
        request: &Request,
        listen: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generated, TrainError> {
        let options = self.options(tokens, request)?;
        if request.options.beams > 1 {
            return self.beams(tokens, request, &options, listen);
        }
        let generation = self.generation(tokens, request, options)?;
        let mut sequence = self.decoder.sequence();
        let mut text = DecoderText { decoder: &self.decoder, sequence: &mut sequence };
        Ok(generate(&mut text, tokens, generation, &mut |piece| listen(&piece.text))?)
    }

    fn beams(
        &self,
        tokens: &[u32],
        request: &Request,
        options: &GenerateOptions,
        listen: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generated, TrainError> {
        if request.constraint.is_some() || !request.stop.is_empty() || request.options.temperature > 0.0 {
            let problem = Problem::new("a beam search looks for the most likely text")
                .help("leave out stop strings and constraints, and set the temperature to 0; or leave out `--beams`");
            return Err(ModelError::Bad(problem.into()).into());
        }
        let beam = BeamOptions {
            beams: request.options.beams,
            max_tokens: options.max_tokens.min(self.context() - tokens.len()),
            stop_tokens: options.stop_tokens.clone(),
            ..BeamOptions::default()
        };
        let mut sequence = self.decoder.sequence();
        let first = self.decoder.prefill(&mut sequence, tokens)?.to_vec();
        let mut texts = DecoderTexts::new(&self.decoder, sequence);
        let found = beam_search(&mut texts, &first, &beam)?;
        let tokens = found.into_iter().next().map(|b| b.tokens).unwrap_or_default();
        let ended = tokens.len() < beam.max_tokens;
        let text = self.tokenizer.decode(&tokens);
        // All of it is known at once; there is nobody to stop.
        let _ = listen(&text);
        let finish = if ended { Finish::Stop } else { Finish::Length };
        Ok(Generated { tokens, text, finish, log_probabilities: Vec::new() })
    }
}

impl AsRef<Decoder> for TextGenerator {
    fn as_ref(&self) -> &Decoder {
        &self.decoder
    }
}
