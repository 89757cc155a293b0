//! Models from the Hugging Face hub, or a mirror of it: `hf:ORG/NAME[/FILE.gguf][@REVISION]`.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use jishi_recipe::Problem;

use crate::error::HubError;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
const CONFIG: &str = "config.json";
/// The only files that are fetched besides weights. No code is among them.
const SMALL_FILES: [&str; 10] = [
    CONFIG,
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
];

/// How the hub is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Address of the hub or of its mirror.
    pub endpoint: String,
    /// Folder of what was fetched, shared with other programs.
    pub cache: PathBuf,
    /// Whether to use nothing but the cache.
    pub offline: bool,
    /// Who asks.
    pub token: Option<String>,
}

impl Settings {
    /// From `HF_ENDPOINT`, `HF_HUB_CACHE` or `HF_HOME`, `HF_HUB_OFFLINE`, and `HF_TOKEN` or the token that
    /// `huggingface-cli login` has stored.
    #[must_use]
    pub fn from_env() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let cache = text("HF_HUB_CACHE").map_or_else(|| Cache::from_env().path().clone(), PathBuf::from);
        Self {
            endpoint: text("HF_ENDPOINT")
                .unwrap_or_else(|| DEFAULT_ENDPOINT.into())
                .trim_end_matches('/')
                .into(),
            token: text("HF_TOKEN").or_else(|| Cache::from_env().token()),
            offline: text("HF_HUB_OFFLINE")
                .is_some_and(|v| ["1", "true", "yes", "on"].contains(&v.to_ascii_lowercase().as_str())),
            // hf-hub links files from absolute paths alone.
            cache: std::path::absolute(&cache).unwrap_or(cache),
        }
    }
}

/// What `hf:` is followed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// `ORG/NAME`, or `NAME` for the hub's oldest models.
    pub id: String,
    /// A GGUF file in it.
    pub file: Option<String>,
    /// Branch, tag or commit.
    pub revision: String,
}

impl Name {
    /// Reads `ORG/NAME[/FILE.gguf][@REVISION]`.
    ///
    /// # Errors
    /// A [`Problem`] where it is something else.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let (path, revision) = text.split_once('@').unwrap_or((text, "main"));
        let parts: Vec<&str> = path.split('/').collect();
        let plain = |part: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !part.is_empty() && part.chars().all(known) && !part.contains("..")
        };
        let revision_is_plain = revision.split('/').all(plain);
        let (id, file) = match parts.as_slice() {
            [name] => ((*name).to_string(), None),
            [org, name] => (format!("{org}/{name}"), None),
            [org, name, file] if file.ends_with(".gguf") => {
                (format!("{org}/{name}"), Some((*file).to_string()))
            }
            _ => (String::new(), None),
        };
        if id.is_empty() || !parts.iter().all(|part| plain(part)) || !revision_is_plain {
            return Err(Problem::new(format!(
                "expected hf:ORG/NAME or hf:ORG/NAME@REVISION, found \"hf:{text}\""
            ))
            .help("for example `hf:HuggingFaceTB/SmolLM2-135M`"));
        }
        Ok(Self { id, file, revision: revision.to_string() })
    }
}

/// Fetches a model into the cache, where it is not there, and gives its folder, or its file where that is GGUF.
/// `progress` is told what happens, a line at a time.
///
/// # Errors
/// A [`Problem`] where the hub can't be reached or has no such model, where the model has no weights that Jishi reads,
/// and where the cache lacks it and nothing else may be used.
pub fn fetch(name: &Name, settings: &Settings, progress: &mut dyn FnMut(&str)) -> Result<PathBuf, HubError> {
    let repo = Repo::with_revision(name.id.clone(), RepoType::Model, name.revision.clone());
    let cached = || cached(&Cache::new(settings.cache.clone()), &repo, name);
    if settings.offline {
        return cached().ok_or_else(|| {
            let message = format!("{:?} is not in the cache, and HF_HUB_OFFLINE is set", name.id);
            HubError::fetch(Problem::new(message).file(&settings.cache).help(HELP_OFFLINE))
        });
    }
    if !settings.endpoint.starts_with("https://") && !settings.endpoint.starts_with("http://") {
        let message = format!(
            "expected HF_ENDPOINT to be an address like {DEFAULT_ENDPOINT}, found {:?}",
            settings.endpoint
        );
        return Err(Problem::new(message).into());
    }
    let fail = |error: ApiError| failure(name, settings, &error.to_string());
    let api = ApiBuilder::from_cache(Cache::new(settings.cache.clone()))
        .with_endpoint(settings.endpoint.clone())
        .with_token(settings.token.clone())
        .with_progress(false)
        .build()
        .map_err(fail)?;
    let api = api.repo(repo.clone());
    let info = match api.info() {
        Ok(info) => info,
        Err(error) => {
            let error = fail(error);
            let Some(path) = cached() else { return Err(error) };
            progress(&format!("using {} from the cache: the hub can't be reached", name.id));
            return Ok(path);
        }
    };
    let there: Vec<&str> = info.siblings.iter().map(|s| s.rfilename.as_str()).collect();
    let mut place = None;
    for file in wanted(name, &there)? {
        progress(&format!("fetching {file} of {}", name.id));
        let path = api.get(&file).map_err(fail)?;
        if file == CONFIG || file.ends_with(".gguf") {
            place = Some(path);
        }
    }
    let path = place.ok_or_else(|| Problem::new(format!("{:?} has no {CONFIG}", name.id)))?;
    Ok(folder_or_gguf(&path))
}

fn folder_or_gguf(path: &Path) -> PathBuf {
    let is_gguf = path.extension().is_some_and(|e| e == "gguf");
    if is_gguf { path.into() } else { path.parent().unwrap_or(path).into() }
}

fn cached(cache: &Cache, repo: &Repo, name: &Name) -> Option<PathBuf> {
    let path = cache.repo(repo.clone()).get(name.file.as_deref().unwrap_or(CONFIG))?;
    Some(folder_or_gguf(&path))
}

/// The files that are needed, of those that are there.
fn wanted(name: &Name, there: &[&str]) -> Result<Vec<String>, Problem> {
    let ggufs: Vec<&str> = there.iter().copied().filter(|f| f.ends_with(".gguf") && plain_file(f)).collect();
    if let Some(file) = &name.file {
        if ggufs.contains(&file.as_str()) {
            return Ok(vec![file.clone()]);
        }
        let message = format!("{:?} has no file {file:?}", name.id);
        return Err(Problem::new(message).help(format!("its GGUF files: {}", ggufs.join(", "))));
    }
    // Files of PyTorch, of which tensors are read and nothing else, where there are no others.
    for (stem, ending) in [("model", "safetensors"), ("pytorch_model", "bin")] {
        let (whole, index) = (format!("{stem}.{ending}"), format!("{stem}.{ending}.index.json"));
        let part = |f: &str| {
            let part = f.starts_with(&format!("{stem}-")) && f.ends_with(&format!(".{ending}"));
            plain_file(f) && (f == index || part)
        };
        let is_whole = there.contains(&&*whole);
        let weights: Vec<&str> =
            there.iter().copied().filter(|f| if is_whole { *f == whole } else { part(f) }).collect();
        if !weights.is_empty() && (ending == "safetensors" || ggufs.is_empty()) {
            let small = SMALL_FILES.iter().filter(|f| there.contains(f));
            return Ok(small.copied().chain(weights).map(String::from).collect());
        }
    }
    match ggufs.as_slice() {
        [one] => Ok(vec![(*one).to_string()]),
        [] => {
            Err(Problem::new(format!("{:?} has no weights: no safetensors, GGUF or PyTorch files", name.id))
                .help("choose another model or revision"))
        }
        several => Err(Problem::new(format!("{:?} has {} GGUF files", name.id, several.len())).help(
            format!("name one, as in `hf:{}/{}`; there are {}", name.id, several[0], several.join(", ")),
        )),
    }
}

/// A name without folders.
fn plain_file(name: &str) -> bool {
    !name.contains(['/', '\\']) && !name.starts_with('.')
}

const HELP_OFFLINE: &str =
    "unset HF_HUB_OFFLINE, or download the model's files into a folder and give its path";

fn failure(name: &Name, settings: &Settings, word: &str) -> HubError {
    let at = &settings.endpoint;
    let status = |code: &str| word.contains(&format!("status code {code}"));
    let problem = if status("404") {
        Problem::new(format!("{at} has no model {:?} with the revision {:?}", name.id, name.revision))
            .help("check the name on the hub's page of the model")
    } else if status("401") || status("403") {
        Problem::new(format!("{at} does not let you have {:?}", name.id)).help(
            "check the name; where the model asks for consent, give it on its page and set HF_TOKEN to your token",
        )
    } else {
        Problem::new(format!("{at} can't be reached: {word}")).help(
            "set HF_ENDPOINT to a mirror, or HF_HUB_OFFLINE=1 where the model is in the cache (HF_HOME), or download \
             the model's files into a folder and give its path",
        )
    };
    HubError::fetch(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_revision_and_a_file() {
        let name = |id: &str, file: Option<&str>, revision: &str| Name {
            id: id.into(),
            file: file.map(String::from),
            revision: revision.into(),
        };
        assert_eq!(Name::parse("a/b").unwrap(), name("a/b", None, "main"));
        assert_eq!(Name::parse("gpt2@v1").unwrap(), name("gpt2", None, "v1"));
        assert_eq!(Name::parse("a/b@refs/pr/1").unwrap(), name("a/b", None, "refs/pr/1"));
        assert_eq!(Name::parse("a/b/c.gguf@x").unwrap(), name("a/b", Some("c.gguf"), "x"));
        for bad in ["", "a/", "a/b/c", "../x", "a/b@", "a b/c", "a/b@../x", "a/b/../c.gguf"] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_is_needed_is_wanted() {
        let plain = Name::parse("a/b").unwrap();
        let there = [
            "config.json",
            "model.safetensors",
            "pytorch_model.bin",
            "modeling.py",
            "tokenizer.json",
            "x.gguf",
        ];
        assert_eq!(wanted(&plain, &there).unwrap(), ["config.json", "tokenizer.json", "model.safetensors"]);
        let there =
            ["model-1.safetensors", "model.safetensors.index.json", "config.json", "model-../x.safetensors"];
        assert_eq!(
            wanted(&plain, &there).unwrap(),
            ["config.json", "model-1.safetensors", "model.safetensors.index.json"]
        );
        assert_eq!(wanted(&plain, &["q.gguf", "README.md"]).unwrap(), ["q.gguf"]);
        assert!(wanted(&plain, &["a.gguf", "b.gguf"]).unwrap_err().to_string().contains("hf:a/b/a.gguf"));
        assert_eq!(wanted(&plain, &["pytorch_model.bin"]).unwrap(), ["pytorch_model.bin"]);
        assert_eq!(wanted(&plain, &["pytorch_model.bin", "q.gguf"]).unwrap(), ["q.gguf"]);
        assert!(wanted(&plain, &["README.md"]).unwrap_err().to_string().contains("no weights"));
        let file = Name::parse("a/b/b.gguf").unwrap();
        assert_eq!(wanted(&file, &["a.gguf", "b.gguf"]).unwrap(), ["b.gguf"]);
        assert!(wanted(&file, &["a.gguf"]).is_err());
    }
}
