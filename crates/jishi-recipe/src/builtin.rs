//! The recipes that come with the program.

use crate::suggest::nearest;

/// A recipe that comes with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Builtin {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
    /// What it does, in a line.
    pub description: &'static str,
}

const BUILTINS: &[Builtin] = &[
    Builtin {
        name: "house-prices",
        text: include_str!("../recipes/house-prices.toml"),
        description: "Predict what a house in Ames, Iowa, sold for, with a small neural network.",
    },
    Builtin {
        name: "house-prices-linear",
        text: include_str!("../recipes/house-prices-linear.toml"),
        description: "Predict what a house in Ames, Iowa, sold for, with one dense unit: a linear regression.",
    },
    Builtin {
        name: "breast-cancer",
        text: include_str!("../recipes/breast-cancer.toml"),
        description: "Tell malignant from benign tumours by 30 measurements of cell nuclei.",
    },
    Builtin {
        name: "digits",
        text: include_str!("../recipes/digits.toml"),
        description: "Tell handwritten digits of 8 x 8 pixels, with a small ResNet in five folds.",
    },
    Builtin {
        name: "mnist",
        text: include_str!("../recipes/mnist.toml"),
        description: "Tell the handwritten digits of MNIST, with a small ResNet.",
    },
    Builtin {
        name: "mnist-vit",
        text: include_str!("../recipes/mnist-vit.toml"),
        description: "Tell the handwritten digits of MNIST, with a small Vision Transformer.",
    },
    Builtin {
        name: "mae-mnist",
        text: include_str!("../recipes/mae-mnist.toml"),
        description: "Pre-train a small Vision Transformer on MNIST without labels, as a masked autoencoder.",
    },
    Builtin {
        name: "mae-mnist-finetune",
        text: include_str!("../recipes/mae-mnist-finetune.toml"),
        description: "Tell handwritten digits after 1,200 labels, with the model of mae-mnist.",
    },
    Builtin {
        name: "mae-mnist-probe",
        text: include_str!("../recipes/mae-mnist-probe.toml"),
        description: "A linear probe of the model of mae-mnist: its output layer alone learns to tell digits.",
    },
    Builtin {
        name: "simclr-mnist",
        text: include_str!("../recipes/simclr-mnist.toml"),
        description: "Pre-train a small ResNet on MNIST without labels, by comparing views (SimCLR).",
    },
    Builtin {
        name: "simclr-mnist-probe",
        text: include_str!("../recipes/simclr-mnist-probe.toml"),
        description: "A linear probe of the model of simclr-mnist: its output layer alone learns to tell digits.",
    },
    Builtin {
        name: "stamps",
        text: include_str!("../recipes/stamps.toml"),
        description: "Tell what a picture shows, from animals to vehicles: pictures in category folders, in five folds.",
    },
    Builtin {
        name: "cifar10",
        text: include_str!("../recipes/cifar10.toml"),
        description: "Tell what a small photograph shows, with a narrow ResNet in the manner of the CIFAR-10 speed runs.",
    },
    Builtin {
        name: "detect-stamps",
        text: include_str!("../recipes/detect-stamps.toml"),
        description: "Find the stamps of composed scenes, a box and a class for each, with a small YOLO.",
    },
    Builtin {
        name: "gan-mnist",
        text: include_str!("../recipes/gan-mnist.toml"),
        description: "Make handwritten digits as in MNIST, with a small DCGAN.",
    },
    Builtin {
        name: "gan-emoji",
        text: include_str!("../recipes/gan-emoji.toml"),
        description: "Make emoji of 32 x 32 pixels, with a small WGAN-GP.",
    },
    Builtin {
        name: "shakespeare-char",
        text: include_str!("../recipes/shakespeare-char.toml"),
        description: "Write Shakespeare letter by letter, with a small GPT trained in a minute.",
    },
    Builtin {
        name: "movie-reviews",
        text: include_str!("../recipes/movie-reviews.toml"),
        description: "Tell whether a sentence of a film review is positive or negative, with a small BERT.",
    },
    Builtin {
        name: "movie-reviews-pretrain",
        text: include_str!("../recipes/movie-reviews-pretrain.toml"),
        description: "Pre-train a small BERT on film reviews by hiding words, to be fine-tuned later.",
    },
    Builtin {
        name: "sentiment-zh",
        text: include_str!("../recipes/sentiment-zh.toml"),
        description: "Tell whether a Chinese review is positive or negative, with a small BERT.",
    },
    Builtin {
        name: "shakespeare",
        text: include_str!("../recipes/shakespeare.toml"),
        description: "Write Shakespeare in pieces of words, with a small Llama trained on his plays.",
    },
    Builtin {
        name: "poetry-zh",
        text: include_str!("../recipes/poetry-zh.toml"),
        description: "Write Chinese poems in the manner of the classics, with a small GPT.",
    },
    Builtin {
        name: "sentiment",
        text: include_str!("../recipes/sentiment.toml"),
        description: "Fine-tune the small BERT of movie-reviews-pretrain to tell good reviews from bad ones.",
    },
    Builtin {
        name: "sentiment-minilm",
        text: include_str!("../recipes/sentiment-minilm.toml"),
        description: "Fine-tune MiniLM to tell whether a sentence of a film review is positive or negative.",
    },
    Builtin {
        name: "translate-en-zh",
        text: include_str!("../recipes/translate-en-zh.toml"),
        description: "Translate sentences of LibreOffice's help from English to Chinese, with a small Transformer.",
    },
    Builtin {
        name: "embed-minilm",
        text: include_str!("../recipes/embed-minilm.toml"),
        description: "Train MiniLM further, so that the headline of a news article finds its text.",
    },
    Builtin {
        name: "chat-smollm2-lora",
        text: include_str!("../recipes/chat-smollm2-lora.toml"),
        description: "Teach SmolLM2 to write headlines: low-rank additions alone are trained, on the answers alone.",
    },
];

/// Every built-in recipe.
#[must_use]
pub fn builtins() -> &'static [Builtin] {
    BUILTINS
}

/// A built-in recipe by its name.
#[must_use]
pub fn get(name: &str) -> Option<&'static Builtin> {
    BUILTINS.iter().find(|b| b.name == name)
}

/// The name of a built-in recipe that may have been meant.
#[must_use]
pub fn nearest_name(name: &str) -> Option<&'static str> {
    nearest(name, BUILTINS.iter().map(|b| b.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Origin, parse};

    #[test]
    fn every_builtin_parses_and_describes_itself() {
        for builtin in builtins() {
            let parsed = parse(builtin.text, &Origin::Builtin(builtin.name.into()), &[]).unwrap();
            assert_eq!(parsed.recipe.name, builtin.name);
            assert_eq!(parsed.recipe.description.as_deref(), Some(builtin.description));
            assert!(parsed.provenance.iter().any(|p| p.from == "built-in recipe"));
            assert!(!parsed.provenance.iter().any(|p| p.from.starts_with("recipe line")));
        }
    }

    #[test]
    fn names_are_found_and_suggested() {
        assert_eq!(get("breast-cancer").unwrap().name, "breast-cancer");
        assert_eq!(get("breast"), None);
        assert_eq!(nearest_name("house-price"), Some("house-prices"));
        assert_eq!(nearest_name("house_prices_linear"), Some("house-prices-linear"));
        assert_eq!(nearest_name("penguins"), None);
    }
}
