//! A first recipe for a user's own data.

use crate::check::slug;
use crate::types::TaskName;
use crate::write::string;

/// What is known of a user's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecipe {
    /// Name of the run; made a valid one where it is not.
    pub name: String,
    /// Path or glob of the data, as the recipe is to give it.
    pub source: String,
    /// Column to predict.
    pub target: String,
    /// What is learned.
    pub task: TaskName,
    /// Rows of the data.
    pub rows: usize,
    /// Columns to leave out, each with the reason why.
    pub ignore: Vec<(String, String)>,
    /// Regression: the target has a long tail, so that its logarithm is learned.
    pub skewed_target: bool,
    /// Classification: some classes are much rarer than others, so that every split keeps their shares.
    pub imbalanced: bool,
}

/// A short, commented recipe: a multi-layer perceptron with early stopping. It parses without a problem.
#[must_use]
pub fn new_recipe(new: &NewRecipe) -> String {
    // Large data needs fewer passes and larger batches.
    let (batch, epochs, patience) = match new.rows {
        0..5_000 => (32, 200, 20),
        5_000..50_000 => (128, 100, 10),
        50_000..500_000 => (256, 50, 5),
        _ => (1024, 20, 3),
    };
    let regression = new.task == TaskName::Regression;
    let task = if regression {
        "task = \"regression\"                # predict a number"
    } else {
        "task = \"classification\"            # predict a class"
    };
    let mut text = format!(
        "# Train with: jishi train THIS-FILE. Every key: docs/reference/recipe.md\n\
         name = {}\n{task}\n\n\
         [data]\nsource = {}\ntarget = {}\n",
        string(&slug(&new.name)),
        string(&new.source),
        string(&new.target),
    );
    text += &ignored(new);
    if regression && new.skewed_target {
        text += "scale = { target = \"log\" }          # the target has a long tail; metrics stay in its own unit\n";
    }
    let by = if !regression && new.imbalanced {
        text += "# Some classes are rare: every split keeps the share of each.\n";
        "by = \"stratified\", "
    } else {
        ""
    };
    text += &format!("split = {{ {by}validation = 0.2, test = 0.2, seed = 42 }}\n\n");
    text += "[model]\nfamily = \"mlp\"                     # or \"linear\", \"ft-transformer\"\n\
             hidden = [64, 64]                  # width of every hidden layer\n\
             activation = \"relu\"\ndropout = 0.1\n\n";
    text += &format!(
        "[train]\noptimizer = {{ name = \"adamw\", learning_rate = 1e-3 }}\n\
         epochs = {epochs}                       # at most: early stopping keeps the best weights\n\
         early_stopping = {{ patience = {patience} }}\n\
         batch = {batch}\nseed = 42\n"
    );
    text
}

fn ignored(new: &NewRecipe) -> String {
    let mut text = String::new();
    let mut names: Vec<&str> = Vec::new();
    for (column, why) in new.ignore.iter().filter(|(column, _)| *column != new.target) {
        if names.is_empty() {
            text += "ignore = [\n";
        }
        if !names.contains(&column.as_str()) {
            // A comment ends with its line, and TOML allows no control characters in it.
            let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            text += &format!("  {},  # {}\n", string(column), why.trim());
            names.push(column);
        }
    }
    if !names.is_empty() {
        text += "]\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Origin, Scaling, SplitBy, parse};

    fn houses() -> NewRecipe {
        NewRecipe {
            name: "My houses".into(),
            source: "houses.csv".into(),
            target: "price".into(),
            task: TaskName::Regression,
            rows: 1000,
            ignore: vec![("Id".into(), "looks like an identifier".into())],
            skewed_target: true,
            imbalanced: true,
        }
    }

    #[test]
    fn regression_learns_the_logarithm_of_a_skewed_target() {
        let text = new_recipe(&houses());
        let recipe = parse(&text, &Origin::File("new.toml".into()), &[]).unwrap().recipe;
        assert_eq!(recipe.name, "my-houses");
        assert_eq!(recipe.data.scale.target, Scaling::Log);
        assert_eq!(recipe.data.split.by, SplitBy::Random);
        assert_eq!(recipe.data.ignore, ["Id"]);
        assert!(text.contains("\"Id\",  # looks like an identifier"), "{text}");
        assert!(recipe.train.early_stopping.is_some());
    }

    #[test]
    fn classification_of_rare_classes_is_stratified() {
        let text = new_recipe(&NewRecipe { task: TaskName::Classification, ..houses() });
        let recipe = parse(&text, &Origin::File("new.toml".into()), &[]).unwrap().recipe;
        assert_eq!(recipe.data.scale.target, Scaling::Standard);
        assert_eq!(recipe.data.split.by, SplitBy::Stratified);
    }

    proptest! {
        #[test]
        fn any_file_gets_a_recipe_that_parses(
            name in any::<String>(),
            source in "\\PC+",
            target in any::<String>().prop_filter("a column has a name", |t| !t.is_empty()),
            rows in any::<usize>(),
            ignore in prop::collection::vec((any::<String>(), any::<String>()), 0..4),
            regression in any::<bool>(),
            skewed_target in any::<bool>(),
            imbalanced in any::<bool>(),
        ) {
            let task = if regression { TaskName::Regression } else { TaskName::Classification };
            let new = NewRecipe { name, source, target, task, rows, ignore, skewed_target, imbalanced };
            let text = new_recipe(&new);
            let parsed = parse(&text, &Origin::File("new.toml".into()), &[]).map_err(|p| TestCaseError::fail(p.to_string()))?;
            prop_assert_eq!(parsed.recipe.data.target(), new.target);
            prop_assert_eq!(parsed.recipe.data.source.as_slice(), [new.source]);
        }
    }
}
