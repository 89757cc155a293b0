//! The one list of model families.

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
pub const FAMILIES: [Family; 3] = [
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
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The compiler asks for a line here when a family is added to the recipe.
    fn name(model: &jishi_recipe::Model) -> &'static str {
        match model {
            jishi_recipe::Model::Linear(_) => "linear",
            jishi_recipe::Model::Mlp(_) => "mlp",
            jishi_recipe::Model::FtTransformer(_) => "ft-transformer",
        }
    }

    #[test]
    fn every_family_is_listed_by_its_name_in_a_recipe() {
        for family in FAMILIES {
            let json = format!(r#"{{"family":"{}"}}"#, family.name);
            let model: jishi_recipe::Model = serde_json::from_str(&json).expect("the name is known");
            assert_eq!(name(&model), family.name);
        }
    }
}
