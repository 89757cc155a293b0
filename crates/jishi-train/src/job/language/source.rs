//! From a recipe to documents, a tokenizer and tokens on disk.

use std::path::Path;
use std::sync::Arc;

use jishi_data::text::cache::{Around, Tokens};
use jishi_data::text::chat::ChatTemplate;
use jishi_data::text::corpus::{Corpus, CorpusOptions, Part};
use jishi_data::text::documents::Document;
use jishi_data::text::pieces::piece_of;
use jishi_data::text::resolve_text;
use jishi_data::text::tokenizer::{SpecialSet, Tokenizer, TrainOptions, train};
use jishi_data::{ReadOptions, Source};
use jishi_recipe::{Problem, Recipe, Text};
use jishi_runs::folder::hex;

use crate::error::TrainError;

/// The documents of a recipe, checked and split.
pub struct TextSource {
    /// The documents.
    pub corpus: Corpus,
    /// How text is read.
    pub text: Text,
}

impl TextSource {
    /// Reads the documents of a recipe once; relative paths start at `base`.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn read(recipe: &Recipe, base: &Path) -> Result<Self, TrainError> {
        Self::from_sources(recipe, &resolve(recipe.data.source.as_slice(), base)?)
    }

    /// As [`TextSource::read`], from these sources.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn from_sources(recipe: &Recipe, sources: &[Source]) -> Result<Self, TrainError> {
        let text = recipe.text.clone().unwrap_or_default();
        let options = CorpusOptions {
            read: ReadOptions::from_recipe(&recipe.data)?,
            text: text.clone(),
            target: recipe.data.target.clone(),
            split: recipe.data.split.clone(),
        };
        let corpus = Corpus::open(sources, options)?;
        let dropped = corpus.ledger.summary().share_dropped;
        if dropped > recipe.data.max_dropped {
            let problem = Problem::new(format!(
                "{:.1} % of the documents would be dropped, and `data.max_dropped` allows {:.1} %",
                100.0 * dropped,
                100.0 * recipe.data.max_dropped
            ));
            return Err(TrainError::Bad(problem.help("mend them, or raise `data.max_dropped`").into()));
        }
        Ok(Self { corpus, text })
    }

    /// The tokenizer of a recipe that trains a model from nothing: one that is there, or a new one that is trained on
    /// the training split alone.
    ///
    /// # Errors
    /// A file that is no tokenizer; a vocabulary that is too small.
    pub fn tokenizer(
        &self,
        recipe: &Recipe,
        special: SpecialSet,
        base: &Path,
    ) -> Result<Tokenizer, TrainError> {
        let config = recipe.tokenizer.clone().unwrap_or_default();
        if let Some(from) = &config.from {
            return Ok(Tokenizer::load(&base.join(from)).map_err(jishi_recipe::Problems::from)?);
        }
        let texts = self.corpus.texts(Part::Train, config.max_documents)?;
        Ok(train(texts, &TrainOptions { recipe: config, special })?)
    }

    /// Whether the texts are conversations.
    #[must_use]
    pub fn talks(&self) -> bool {
        self.text.messages.is_some() || self.text.chat
    }

    /// The template of the conversations, where the texts are some: the tokenizer's own, or else ChatML.
    ///
    /// # Errors
    /// A template that can't be parsed.
    pub fn template(&self, tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>, TrainError> {
        Ok(match (self.talks(), &tokenizer.chat_template) {
            (false, _) => None,
            (true, Some(_)) => Some(ChatTemplate::of(tokenizer)?),
            (true, None) => Some(ChatTemplate::chatml()?),
        })
    }

    /// The tokens of a part, made once and kept for the next run; none where the part has no documents.
    ///
    /// # Errors
    /// A text that the tokenizer has no tokens for; a disk that is full.
    pub fn tokens(
        &self,
        part: Part,
        tokenizer: &Tokenizer,
        around: Around,
        template: Option<&ChatTemplate>,
    ) -> Result<Option<Arc<Tokens>>, TrainError> {
        if self.corpus.count(part) == 0 {
            return Ok(None);
        }
        // A template travels beside the tokenizer, not in it.
        let chat = self.text.chat;
        let more = format!("{around:?} {:?} {chat}", template.map(ChatTemplate::source));
        let key = self.corpus.cache_key(part, tokenizer, more.as_bytes())?;
        let folder = jishi_hub::data::root()?.join(".tokens");
        std::fs::create_dir_all(&folder).map_err(|e| jishi_data::DataError::io(&folder, e))?;
        let path = folder.join(hex(&key.0[..16]));
        let documents = self.corpus.documents(part)?;
        let encode = |document: &Document| match chat {
            true => piece_of(&document.clone().into_conversation(), tokenizer, template),
            false => piece_of(document, tokenizer, template),
        };
        let tokens = Tokens::open_or_build(&path, &key, tokenizer.vocabulary(), around, documents, encode)?;
        Ok(Some(Arc::new(tokens)))
    }
}

/// Sources by the names of a recipe: files, folders, and what `jishi data get` has fetched.
///
/// # Errors
/// Names without a file.
pub fn resolve(names: &[String], base: &Path) -> Result<Vec<Source>, TrainError> {
    let mut sources = Vec::new();
    for name in names {
        match name.strip_prefix("package:") {
            Some(package) => {
                let folder = jishi_hub::data::resolve(package, &jishi_hub::data::root()?)?;
                sources.extend(jishi_hub::data::files(&folder)?.into_iter().map(Source::File));
            }
            None => sources.extend(resolve_text(&[name], base)?),
        }
    }
    Ok(sources)
}
