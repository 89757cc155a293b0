//! The lists of model families: those of recipes, and those whose checkpoints are read and written.

use jishi_recipe::Problem;
use serde_json::Value;

use crate::reference::Reference;
use crate::{bert, encoder_decoder, gpt2, llama, resnet, vgg, vit};

/// A model family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Name in a recipe: `model.family`.
    pub name: &'static str,
    /// One line that says what it is.
    pub description: &'static str,
    /// Where it comes from.
    pub source: &'static str,
}

/// All model families.
pub const FAMILIES: [Family; 15] = [
    Family {
        name: "linear",
        description: "One dense layer: linear or logistic regression.",
        source: "classic",
    },
    Family {
        name: "mlp",
        description: "A multi-layer perceptron, with embeddings of numbers and categories, or an ensemble of them.",
        source: "Gorishniy et al. 2021, 2022, 2025",
    },
    Family {
        name: "ft-transformer",
        description: "Feature tokenizer + Transformer: attention between columns.",
        source: "Gorishniy et al. 2021",
    },
    Family {
        name: "gpt2",
        description: "A decoder with learned positions: writes text.",
        source: "Radford et al. 2019",
    },
    Family {
        name: "llama",
        description: "A decoder with rotary positions, RMS norm and SwiGLU: writes text.",
        source: "Touvron et al. 2023",
    },
    Family {
        name: "bert",
        description: "An encoder that sees both sides: classes and vectors of texts.",
        source: "Devlin et al. 2019",
    },
    Family {
        name: "encoder-decoder",
        description: "A Transformer that writes a text for a text: translation.",
        source: "Vaswani et al. 2017",
    },
    Family {
        name: "resnet",
        description: "Residual blocks of convolutions: classes and vectors of images.",
        source: "He et al. 2016",
    },
    Family {
        name: "vgg",
        description: "Plain stacks of convolutions: classes of images.",
        source: "Simonyan & Zisserman 2015",
    },
    Family {
        name: "vit",
        description: "A Transformer over the patches of an image: classes and vectors of images.",
        source: "Dosovitskiy et al. 2021",
    },
    Family {
        name: "mae",
        description: "A ViT that learns without labels to tell the patches that it does not see.",
        source: "He et al. 2022",
    },
    Family {
        name: "yolo",
        description: "A detector without anchors: boxes around the objects of an image.",
        source: "Redmon et al. 2016; Feng et al. 2021",
    },
    Family {
        name: "ssd",
        description: "A detector with anchors at every place: boxes around the objects of an image.",
        source: "Liu et al. 2016",
    },
    Family {
        name: "dcgan",
        description: "A generator and a critic of stacked convolutions: makes images.",
        source: "Radford et al. 2016",
    },
    Family {
        name: "wgan-gp",
        description: "A residual generator and critic, with a penalty on the critic's slope: makes images.",
        source: "Gulrajani et al. 2017",
    },
];

/// Families of checkpoints, by `model_type` of a Hugging Face `config.json`, and how they lay out tensors.
pub const CHECKPOINTS: [(&str, Reference); 8] = [
    ("bert", bert::REFERENCE),
    ("gpt2", gpt2::REFERENCE),
    ("llama", llama::REFERENCE),
    ("marian", encoder_decoder::REFERENCE),
    ("resnet", resnet::REFERENCE),
    ("vgg", vgg::REFERENCE),
    ("vit", vit::REFERENCE),
    ("vit_mae", vit::REFERENCE),
];

/// How checkpoints of a config's family lay out tensors.
///
/// # Errors
/// Names the families that are known.
pub fn reference_of(config: &Value) -> Result<Reference, Problem> {
    let found = config["model_type"].as_str().unwrap_or_default();
    CHECKPOINTS.iter().find(|family| family.0 == found).map(|family| family.1).ok_or_else(|| {
        let known: Vec<&str> = CHECKPOINTS.iter().map(|family| family.0).collect();
        Problem::new(format!("expected a model_type of {}, found {found:?}", known.join(", ")))
            .help("choose a model of one of these families")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_listed_by_its_name_in_a_recipe() {
        for family in FAMILIES {
            let json = format!(r#"{{"family":"{}"}}"#, family.name);
            let model: jishi_recipe::Model = serde_json::from_str(&json).expect("the name is known");
            assert_eq!(model.family(), family.name);
        }
    }
}
