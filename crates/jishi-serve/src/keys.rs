//! Keys of clients: who may ask what, and how often. A file holds their hashes, so that it tells nobody a key.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jishi_recipe::Problem;
use jishi_runs::folder::hex;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// What all keys begin with, so that they are found where they should not be.
const PREFIX: &str = "jishi-";
/// Random bytes of a key. Nobody guesses them, so a plain hash is enough.
const RANDOM: usize = 24;
/// Bytes of a file of keys at most.
const MOST: u64 = 4 << 20;

/// What a key is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Predictions.
    Predict,
    /// Text.
    Generate,
    /// Vectors.
    Embed,
    /// Counts.
    Metrics,
    /// Models are loaded again.
    Admin,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    sha256: String,
    scopes: Vec<Scope>,
    per_minute: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    keys: Vec<Entry>,
}

/// A client's key.
#[derive(Debug)]
pub struct Key {
    /// Whose it is.
    pub name: String,
    scopes: Vec<Scope>,
    bucket: Option<Mutex<Bucket>>,
}

/// Requests that a client may still make: it fills over a minute.
#[derive(Debug)]
struct Bucket {
    size: f64,
    left: f64,
    at: Instant,
}

impl Key {
    /// Whether it is good for this.
    #[must_use]
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// Takes one request; where there is none left, the seconds until there is.
    ///
    /// # Errors
    /// The seconds.
    pub fn take(&self, now: Instant) -> Result<(), u32> {
        let Some(bucket) = &self.bucket else { return Ok(()) };
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = bucket.size / 60.0;
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + passed * rate).min(bucket.size);
        bucket.at = now;
        if bucket.left < 1.0 {
            return Err(((1.0 - bucket.left) / rate).ceil().clamp(1.0, 60.0) as u32);
        }
        bucket.left -= 1.0;
        Ok(())
    }
}

/// All keys.
#[derive(Debug, Default)]
pub struct Keys(HashMap<String, Arc<Key>>);

impl Keys {
    /// Those of a file:
    ///
    /// ```toml
    /// [[keys]]
    /// name = "shop"
    /// sha256 = "…"
    /// scopes = ["predict", "generate", "embed", "metrics", "admin"]
    /// per_minute = 600
    /// ```
    ///
    /// # Errors
    /// A file that can't be read or makes no sense; no keys.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let bad = |message: String| Problem::new(message).file(path);
        let size = std::fs::metadata(path).map_err(|e| bad(format!("can't read this file: {e}")))?.len();
        if size > MOST {
            return Err(bad(format!("expected a file of keys of at most {MOST} bytes, found {size}")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| bad(format!("can't read this file: {e}")))?;
        Self::parse(&text).map_err(|problem| problem.file(path))
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        let file: File = toml_edit::de::from_str(text)
            .map_err(|e| Problem::new(format!("expected keys in TOML: {}", e.to_string().trim())))?;
        let mut keys = HashMap::new();
        for Entry { name, sha256, scopes, per_minute } in file.keys {
            let digits = sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
            if !digits || per_minute == Some(0) || name.is_empty() || name.len() > 100 {
                let message = format!(
                    "the key `{name}`: expected a name, 64 hexadecimal digits in `sha256` and a `per_minute` above 0"
                );
                return Err(Problem::new(message).help("make one with `jishi serve --new-key NAME`"));
            }
            let size = per_minute.map(f64::from);
            let bucket = size.map(|size| Mutex::new(Bucket { size, left: size, at: Instant::now() }));
            keys.insert(sha256.to_ascii_lowercase(), Arc::new(Key { name, scopes, bucket }));
        }
        if keys.is_empty() {
            let problem = Problem::new("there is no key in this file, so nobody could ask anything");
            return Err(problem.help("make one with `jishi serve --new-key NAME`"));
        }
        Ok(Self(keys))
    }

    /// The key that a client sent.
    #[must_use]
    pub fn find(&self, sent: &str) -> Option<&Arc<Key>> {
        // Keys are found by their hash: how long that takes tells nothing of a key.
        self.0.get(&hex(&Sha256::digest(sent.as_bytes())))
    }
}

/// A new key, and the entry of a file that knows it.
///
/// # Errors
/// A system without random numbers.
pub fn new_key(name: &str) -> Result<(String, String), Problem> {
    let mut random = [0; RANDOM];
    getrandom::fill(&mut random).map_err(|e| Problem::new(format!("the system has no random numbers: {e}")))?;
    let key = format!("{PREFIX}{}", hex(&random));
    let entry = format!(
        "[[keys]]\nname = {}\nsha256 = \"{}\"\nscopes = [\"predict\", \"generate\", \"embed\"]\n",
        toml_edit::Value::from(name),
        hex(&Sha256::digest(key.as_bytes()))
    );
    Ok((key, entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_new_key_is_found_and_no_other() {
        let (key, entry) = new_key("sh\"op").unwrap();
        assert!(!entry.contains(&key) && key.len() == 54);
        let keys = Keys::parse(&entry).unwrap();
        let found = keys.find(&key).unwrap();
        assert_eq!(found.name, "sh\"op");
        assert!(found.allows(Scope::Predict) && !found.allows(Scope::Admin));
        assert!(keys.find(&key[..53]).is_none() && keys.find("").is_none());
        assert_ne!(new_key("a").unwrap().0, new_key("a").unwrap().0);
    }

    #[test]
    fn requests_run_out_and_come_back() {
        let (key, entry) = new_key("a").unwrap();
        let keys = Keys::parse(&format!("{entry}per_minute = 2\n")).unwrap();
        let (key, now) = (keys.find(&key).unwrap(), Instant::now());
        assert_eq!([key.take(now), key.take(now), key.take(now)], [Ok(()), Ok(()), Err(30)]);
        assert_eq!(key.take(now + Duration::from_secs(20)), Err(10));
        assert_eq!(key.take(now + Duration::from_secs(31)), Ok(()));
    }

    #[test]
    fn files_that_make_no_sense_are_refused() {
        let (_, entry) = new_key("a").unwrap();
        for (text, word) in [
            ("", "no key"),
            ("[[keys]]\nname = 3\n", "TOML"),
            (&entry.replace("predict", "everything"), "TOML"),
            (&entry.replace("sha256 = \"", "sha256 = \"x"), "64 hexadecimal"),
            (&format!("{entry}per_minute = 0\n"), "above 0"),
            (&format!("{entry}more = 0\n"), "TOML"),
        ] {
            let error = Keys::parse(text).unwrap_err().to_string();
            assert!(error.contains(word), "{word}: {error}");
        }
    }
}
