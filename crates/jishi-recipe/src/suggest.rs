//! Did you mean: the nearest known key or name.

use crate::shape::{Field, Shape};

/// Other tools' words for our keys.
const KEYS: &[(&str, &str)] = &[
    ("lr", "learning_rate"),
    ("batch_size", "batch"),
    ("num_epochs", "epochs"),
    ("n_epochs", "epochs"),
    ("max_epochs", "epochs"),
    ("max_steps", "steps"),
    ("val", "validation"),
    ("valid", "validation"),
    ("val_size", "validation"),
    ("validation_size", "validation"),
    ("validation_split", "validation"),
    ("test_size", "test"),
    ("test_split", "test"),
    ("random_state", "seed"),
    ("random_seed", "seed"),
    ("label", "target"),
    ("y", "target"),
    ("target_column", "target"),
    ("path", "source"),
    ("file", "source"),
    ("csv", "source"),
    ("hidden_layers", "hidden"),
    ("hidden_sizes", "hidden"),
    ("hidden_dims", "hidden"),
    ("layer_sizes", "hidden"),
    ("units", "hidden"),
    ("scheduler", "schedule"),
    ("lr_scheduler", "schedule"),
    ("lr_schedule", "schedule"),
    ("warmup_steps", "warmup"),
    ("clip_norm", "clip"),
    ("grad_clip", "clip"),
    ("gradient_clip", "clip"),
    ("max_grad_norm", "clip"),
    ("wd", "weight_decay"),
    ("n_heads", "heads"),
    ("num_heads", "heads"),
    ("n_layers", "layers"),
    ("num_layers", "layers"),
    ("d_model", "width"),
    ("dim", "width"),
    ("kfold", "folds"),
    ("k_folds", "folds"),
    ("n_splits", "folds"),
    ("cv", "folds"),
    ("normalization", "norm"),
    ("drop_columns", "ignore"),
    ("exclude", "ignore"),
    ("criterion", "loss"),
    ("loss_function", "loss"),
    ("gradient_accumulation_steps", "accumulate"),
    ("accumulate_grad_batches", "accumulate"),
    ("type", "family"),
    ("sep", "delimiter"),
    ("separator", "delimiter"),
    ("na_values", "missing_values"),
    ("dtypes", "types"),
];

/// Other tools' words for our names.
const NAMES: &[(&str, &str)] = &[
    ("glorot", "xavier-uniform"),
    ("glorot-uniform", "xavier-uniform"),
    ("xavier", "xavier-uniform"),
    ("glorot-normal", "xavier-normal"),
    ("he", "kaiming-uniform"),
    ("he-uniform", "kaiming-uniform"),
    ("kaiming", "kaiming-uniform"),
    ("he-normal", "kaiming-normal"),
    ("swish", "silu"),
    ("bce", "binary-cross-entropy"),
    ("ce", "cross-entropy"),
    ("log-loss", "cross-entropy"),
    ("l1", "mae"),
    ("l2", "mse"),
    ("rmse", "mse"),
    ("z-score", "standard"),
    ("zscore", "standard"),
    ("int", "number"),
    ("integer", "number"),
    ("float", "number"),
    ("numeric", "number"),
    ("string", "category"),
    ("text", "category"),
    ("categorical", "category"),
    ("bool", "boolean"),
    ("datetime", "date"),
    ("timestamp", "date"),
    ("binary", "classification"),
    ("binary-classification", "classification"),
    ("multiclass", "classification"),
    ("logistic", "linear"),
    ("logistic-regression", "linear"),
    ("linear-regression", "linear"),
    ("dense", "mlp"),
    ("nn", "mlp"),
    ("neural-network", "mlp"),
    ("tabm", "mlp"),
    ("transformer", "ft-transformer"),
    ("reduce-on-plateau", "plateau"),
    ("shuffle", "random"),
    ("shuffled", "random"),
    ("weighted", "balanced"),
    ("batch-norm", "batch"),
    ("layer-norm", "layer"),
    ("onehot", "one-hot"),
    ("float32", "f32"),
];

/// Longer words than this are no slips of the hand, and comparing them would take long.
const LONGEST: usize = 64;

/// The nearest of some words, where one is near enough to have been meant.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if word.chars().count() > LONGEST {
        return None;
    }
    let word = plain(word);
    let distance = |k: &'a str| (strsim::damerau_levenshtein(&word, &plain(k)), k);
    let limit = (word.chars().count() / 3).max(1);
    known
        .map(distance)
        .filter(|(d, k)| *d <= limit && *d < k.chars().count())
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

/// The nearest of some names, other tools' names included.
pub(crate) fn nearest_name<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let same = plain(word);
    known
        .clone()
        .find(|k| plain(k) == same)
        .or_else(|| {
            let ours = NAMES
                .iter()
                .find(|(theirs, ours)| plain(theirs) == same && known.clone().any(|k| k == *ours))?
                .1;
            known.clone().find(|k| *k == ours)
        })
        .or_else(|| nearest(word, known))
}

/// What is said where one key was meant.
pub(crate) fn did_you_mean(key: &str) -> String {
    format!("did you mean `{key}`?")
}

/// What to do about a key that is not known in a table of a document that is called `what`.
pub(crate) fn key_help(
    root: &Shape,
    what: &str,
    table: &str,
    fields: &[&Field],
    tag: Option<&str>,
    key: &str,
) -> String {
    let here = || fields.iter().map(|f| f.key.as_str()).chain(tag);
    let same = plain(key);
    let synonyms = || KEYS.iter().filter(|(theirs, _)| *theirs == same).map(|(_, ours)| *ours);
    if let Some(k) =
        here().find(|k| plain(k) == same).or_else(|| synonyms().find_map(|o| here().find(|k| *k == o)))
    {
        return did_you_mean(k);
    }
    let all = root.keys();
    let elsewhere = |wanted: &str| -> Option<String> {
        let inside = format!("{table}.");
        let mut paths: Vec<_> = all.iter().filter(|(_, k)| k == wanted).map(|(p, _)| p.as_str()).collect();
        // The nearest tables first: those inside this one, then those with the fewest steps.
        paths.sort_by_key(|p| (!p.starts_with(&inside), p.matches('.').count()));
        paths.truncate(3);
        (!paths.is_empty()).then(|| format!("did you mean `{}`?", paths.join("` or `")))
    };
    elsewhere(&same)
        .or_else(|| nearest(key, here()).map(did_you_mean))
        .or_else(|| synonyms().find_map(elsewhere))
        .or_else(|| elsewhere(nearest(key, all.iter().map(|(_, k)| k.as_str()))?))
        .unwrap_or_else(|| {
            let place = if table.is_empty() { what.to_owned() } else { format!("[{table}]") };
            format!("keys of {place}: {}", here().collect::<Vec<_>>().join(", "))
        })
}

/// Lower case, with `-` and spaces as `_`: differences that nobody means.
fn plain(word: &str) -> String {
    word.to_lowercase().replace(['-', ' '], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_takes_slips_and_nothing_else() {
        let known = ["epochs", "steps", "batch"];
        assert_eq!(nearest("epocs", known.into_iter()), Some("epochs"));
        assert_eq!(nearest("Batch", known.into_iter()), Some("batch"));
        assert_eq!(nearest("tsteps", known.into_iter()), Some("steps"));
        assert_eq!(nearest("colour", known.into_iter()), None);
        assert_eq!(nearest("", known.into_iter()), None);
        assert_eq!(nearest(&"epochs".repeat(1000), known.into_iter()), None);
    }

    #[test]
    fn every_synonym_leads_to_a_known_word() {
        let recipe = Shape::recipe();
        let keys = recipe.keys();
        for (theirs, ours) in KEYS {
            assert!(keys.iter().any(|(_, k)| k == ours), "{ours}");
            assert!(!keys.iter().any(|(_, k)| k == theirs), "{theirs} is a key");
            assert_eq!(*theirs, plain(theirs));
        }
        let schema = crate::schema::schema().to_string();
        for (_, ours) in NAMES {
            assert!(schema.contains(&format!("\"const\":\"{ours}\"")), "{ours}");
        }
    }
}
