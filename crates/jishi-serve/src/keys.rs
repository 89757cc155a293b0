//! Who may ask for what: keys, of which the server knows nothing but their hashes.
//!
//! A key is 256 random bits, so that its SHA-256 tells nothing of it, and no slower hash is needed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jishi_recipe::{Problem, Problems, document};
use jishi_runs::RunError;
use jishi_runs::folder::{FileEntry, read_limited};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml_edit::{DocumentMut, Item, Table, value};

use crate::rate::Bucket;

/// What all keys begin with, so that one is known where it leaked.
const PREFIX: &str = "jishi_";
/// What a hash begins with.
const HASH: &str = "sha256:";
/// Bytes of a file of keys at most.
const FILE: u64 = 4 << 20;
/// Characters of a key's name at most.
const NAME: usize = 64;

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Predictions of tables, texts and images.
    Predict,
    /// Texts, conversations and made images.
    Generate,
    /// Vectors of texts.
    Embed,
    /// The server's counters.
    Metrics,
    /// New versions of models; the studio.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Predict, Self::Generate, Self::Embed, Self::Metrics, Self::Admin];

    /// As in a file of keys.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::Generate => "generate",
            Self::Embed => "embed",
            Self::Metrics => "metrics",
            Self::Admin => "admin",
        }
    }
}

/// A file of keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// Keys by name.
    #[serde(default)]
    pub keys: BTreeMap<String, KeyEntry>,
}

/// A key in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// `sha256:` and the key's SHA-256 in hexadecimal digits.
    pub hash: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// Models that it is for; all if left out.
    #[serde(default)]
    pub models: Option<Vec<String>>,
    /// Requests a minute.
    #[serde(default)]
    pub requests_per_minute: Option<u64>,
    /// Tokens a minute, read and written.
    #[serde(default)]
    pub tokens_per_minute: Option<u64>,
}

/// A key that the server knows.
#[derive(Debug)]
pub struct Key {
    /// Whose it is.
    pub name: String,
    hash: [u8; 32],
    scopes: Vec<Scope>,
    models: Option<Vec<String>>,
    /// Requests a minute.
    pub requests: Option<Arc<Bucket>>,
    /// Tokens a minute.
    pub tokens: Option<Arc<Bucket>>,
}

impl Key {
    /// Whether it allows something.
    #[must_use]
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// Whether its owner has the studio, which shows all runs and models: it allows all of them to be looked after.
    #[must_use]
    pub fn has_studio(&self) -> bool {
        self.allows(Scope::Admin) && self.models.is_none()
    }

    /// Whether it is for a model.
    #[must_use]
    pub fn is_for(&self, model: &str) -> bool {
        self.models.as_ref().is_none_or(|models| models.iter().any(|m| m == model))
    }
}

/// All keys of a server.
#[derive(Debug)]
pub struct Keys {
    path: PathBuf,
    keys: Vec<Arc<Key>>,
}

impl Keys {
    /// Reads a file of keys.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        let (_, file) = load(path)?;
        let mut problems = Vec::new();
        let mut keys = Vec::new();
        let now = Instant::now();
        for (name, entry) in file.keys {
            let Some(hash) = digest(&entry.hash) else {
                let message = format!("`keys.{name}.hash`: expected \"{HASH}\" and 64 hexadecimal digits");
                problems.push(Problem::new(message).file(path).help("make keys with `jishi keys add NAME`"));
                continue;
            };
            let bucket = |limit: Option<u64>| limit.map(|n| Arc::new(Bucket::new(n, now)));
            keys.push(Arc::new(Key {
                name,
                hash,
                scopes: entry.scopes,
                models: entry.models,
                requests: bucket(entry.requests_per_minute),
                tokens: bucket(entry.tokens_per_minute),
            }));
        }
        Problems(problems).into_result()?;
        Ok(Self { path: path.to_owned(), keys })
    }

    /// Reads the file again. What was used of this minute stays used.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn again(&self) -> Result<Self, Problems> {
        let mut new = Self::read(&self.path)?;
        for key in new.keys.iter_mut().filter_map(Arc::get_mut) {
            let Some(old) = self.keys.iter().find(|old| old.name == key.name) else { continue };
            for (new, old) in [(&mut key.requests, &old.requests), (&mut key.tokens, &old.tokens)] {
                if let (Some(a), Some(b)) = (&*new, old)
                    && a.per_minute() == b.per_minute()
                {
                    new.clone_from(old);
                }
            }
        }
        Ok(new)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key with this text. Takes the same time for every text of a length.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<Arc<Key>> {
        let hash = sha256(text);
        let mut found = None;
        for key in &self.keys {
            if same(&key.hash, &hash) {
                found = Some(Arc::clone(key));
            }
        }
        found
    }
}

/// Compares in a time that does not depend on where the first difference is.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = a.iter().zip(b).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    difference == 0
}

fn sha256(text: &str) -> [u8; 32] {
    let hex = FileEntry::of(text.as_bytes()).sha256;
    digest(&format!("{HASH}{hex}")).unwrap_or_default()
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let hex = text.strip_prefix(HASH).filter(|hex| hex.len() == 64 && hex.is_ascii())?;
    let mut bytes = [0; 32];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(bytes)
}

/// The key in a header: `Bearer KEY`, or `Basic` with the key as the password, which browsers ask for.
#[must_use]
pub fn presented(header: &str) -> Option<String> {
    let (scheme, rest) = header.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let text = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
        return text.split_once(':').map(|(_, password)| password.to_owned());
    }
    None
}

fn load(path: &Path) -> Result<(String, KeyFile), Problems> {
    let bytes = read_limited(path, FILE).map_err(|error| error.problems())?;
    let text =
        String::from_utf8(bytes).map_err(|_| Problem::new("expected a file of keys in UTF-8").file(path))?;
    let file = document::<KeyFile>(&text, path, "the file of keys")?.values;
    Ok((text, file))
}

/// The entries of a file of keys.
///
/// # Errors
/// Everything that is wrong with it.
pub fn list(path: &Path) -> Result<KeyFile, Problems> {
    Ok(load(path)?.1)
}

/// 256 bits that nobody can guess.
///
/// # Errors
/// A system without random numbers.
pub fn secret() -> Result<[u8; 32], getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map(|()| bytes)
}

/// Adds a key to a file, which is made where there is none. Gives the key, which is written nowhere.
///
/// # Errors
/// A name that is taken or not plain; a file that is wrong or can't be written; a system without random numbers.
pub fn add(path: &Path, name: &str, entry: &KeyEntry) -> Result<String, RunError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > NAME || !name.chars().all(plain) {
        let message = format!("expected a name of at most {NAME} letters, digits, `.`, `_` and `-`");
        return Err(Problem::new(message).help("for example: `jishi keys add alice`").into());
    }
    let (text, file) = if path.exists() { load(path)? } else { Default::default() };
    if file.keys.contains_key(name) {
        let problem = Problem::new(format!("there already is a key with the name `{name}`")).file(path);
        return Err(problem.help("choose another name, or remove that key first").into());
    }
    let secret = secret().map_err(|e| Problem::new(format!("the system gives no random numbers: {e}")))?;
    let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
    let mut document = edited(&text, path)?;
    let keys = document.entry("keys").or_insert_with(|| {
        let mut keys = Table::new();
        keys.set_implicit(true);
        Item::Table(keys)
    });
    let mut table = Table::new();
    table.insert("hash", value(format!("{HASH}{}", FileEntry::of(key.as_bytes()).sha256)));
    table.insert("scopes", value(entry.scopes.iter().map(|s| s.name()).collect::<toml_edit::Array>()));
    if let Some(models) = &entry.models {
        table.insert("models", value(models.iter().collect::<toml_edit::Array>()));
    }
    let limits =
        [("requests_per_minute", entry.requests_per_minute), ("tokens_per_minute", entry.tokens_per_minute)];
    for (name, limit) in limits {
        if let Some(limit) = limit {
            table.insert(name, value(limit.min(i64::MAX as u64) as i64));
        }
    }
    keys[name] = Item::Table(table);
    jishi_runs::atomic::write_real(path, document.to_string().as_bytes())?;
    Ok(key)
}

/// Takes a key out of a file. The rest of the file stays as it is.
///
/// # Errors
/// A name that is not there; a file that is wrong or can't be written.
pub fn remove(path: &Path, name: &str) -> Result<(), RunError> {
    let (text, file) = load(path)?;
    if !file.keys.contains_key(name) {
        let names: Vec<&str> = file.keys.keys().map(String::as_str).collect();
        let problem = Problem::new(format!("there is no key with the name `{name}`")).file(path);
        return Err(problem.help(format!("there are: {}", names.join(", "))).into());
    }
    let mut document = edited(&text, path)?;
    if let Some(keys) = document.get_mut("keys").and_then(Item::as_table_like_mut) {
        keys.remove(name);
    }
    jishi_runs::atomic::write_real(path, document.to_string().as_bytes())
}

fn edited(text: &str, path: &Path) -> Result<DocumentMut, Problem> {
    text.parse().map_err(|e| Problem::new(format!("this is not TOML: {e}")).file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(scopes: &[Scope]) -> KeyEntry {
        KeyEntry {
            hash: String::new(),
            scopes: scopes.to_vec(),
            models: None,
            requests_per_minute: None,
            tokens_per_minute: None,
        }
    }

    #[test]
    fn keys_are_made_found_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.toml");
        let alice = add(&path, "alice", &entry(&[Scope::Predict])).unwrap();
        let more = KeyEntry {
            models: Some(vec!["houses".into()]),
            requests_per_minute: Some(5),
            tokens_per_minute: Some(100),
            ..entry(&Scope::ALL)
        };
        let bob = add(&path, "bob", &more).unwrap();
        assert!(alice.starts_with("jishi_") && alice.len() == 49 && alice != bob, "{alice} {bob}");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&alice) && !text.contains(&bob), "{text}");
        let keys = Keys::read(&path).unwrap();
        let found = keys.find(&bob).unwrap();
        assert_eq!((found.name.as_str(), keys.len()), ("bob", 2));
        assert!(found.allows(Scope::Admin) && found.is_for("houses") && !found.is_for("others"));
        let other = keys.find(&alice).unwrap();
        assert!(!other.allows(Scope::Generate) && other.is_for("others"));
        for wrong in ["", "jishi_", &alice[1..], &format!("{alice} ")] {
            assert!(keys.find(wrong).is_none(), "{wrong}");
        }
        // What was used of a minute is not given again by a file that is read again.
        let now = Instant::now();
        assert!((0..5).all(|_| found.requests.as_ref().unwrap().admit(now).is_ok()));
        let again = keys.again().unwrap().find(&bob).unwrap();
        assert!(again.requests.as_ref().unwrap().admit(now).is_err());

        assert!(add(&path, "bob", &more).unwrap_err().to_string().contains("already"));
        assert!(add(&path, "a b", &more).unwrap_err().to_string().contains("expected a name"));
        remove(&path, "alice").unwrap();
        assert!(remove(&path, "alice").unwrap_err().to_string().contains("there are: bob"));
        assert!(Keys::read(&path).unwrap().find(&alice).is_none());
    }

    #[test]
    fn everything_that_is_wrong_with_a_file_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.toml");
        let read = |text: &str| {
            jishi_runs::atomic::write_real(&path, text.as_bytes()).unwrap();
            Keys::read(&path).unwrap_err().to_string()
        };
        let said = read("[keys.a]\nhash = 3\nscope = []\n[keys.b]\nhash = \"sha256:00\"\nscopes = [\"all\"]");
        for words in ["`keys.a.hash`: expected a string", "did you mean `scopes`?", "\"all\""] {
            assert!(said.contains(words), "{said}");
        }
        let said = read("[keys.b]\nhash = \"sha256:00\"\nscopes = [\"admin\"]");
        assert!(said.contains("64 hexadecimal digits"), "{said}");
        assert!(Keys::read(&dir.path().join("none.toml")).is_err());
    }

    #[test]
    fn keys_come_in_two_headers() {
        assert_eq!(presented("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(presented("bearer  abc ").as_deref(), Some("abc"));
        assert_eq!(presented("Basic dXNlcjphYmM=").as_deref(), Some("abc"));
        for wrong in ["", "Bearer", "Basic !", "Basic YWJj", "Digest abc"] {
            assert_eq!(presented(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_scope_has_the_name_that_files_have() {
        for scope in Scope::ALL {
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.name());
        }
    }
}
