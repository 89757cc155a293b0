//! The one list of tasks.

use jishi_recipe::{LossName, TaskName};

use crate::task::Direction;

/// A metric of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricInfo {
    /// Name in logs, reports and recipes.
    pub name: &'static str,
    /// Which values are better.
    pub direction: Direction,
    /// What it is.
    pub description: &'static str,
}

/// A task that recipes can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskInfo {
    /// The recipe's name for it.
    pub name: TaskName,
    /// What is learned.
    pub description: &'static str,
    /// The loss where the recipe says `auto`.
    pub default_loss: LossName,
    /// The metric that is shown first.
    pub primary_metric: &'static str,
    /// All metrics.
    pub metrics: &'static [MetricInfo],
}

const fn metric(name: &'static str, direction: Direction, description: &'static str) -> MetricInfo {
    MetricInfo { name, direction, description }
}

/// Every task.
pub const TASKS: [TaskInfo; 13] = [
    TaskInfo {
        name: TaskName::Regression,
        description: "predict a number from a row of a table",
        default_loss: LossName::Mse,
        primary_metric: "rmse",
        metrics: &[
            metric("rmse", Direction::Lower, "root mean squared error, in the target's unit"),
            metric("mae", Direction::Lower, "mean absolute error, in the target's unit"),
            metric("r2", Direction::Higher, "coefficient of determination"),
            metric("mape", Direction::Lower, "mean absolute percentage error, as a share"),
        ],
    },
    TaskInfo {
        name: TaskName::Classification,
        description: "predict one of two or more classes from a row of a table",
        default_loss: LossName::CrossEntropy,
        primary_metric: "accuracy",
        metrics: &[
            metric("accuracy", Direction::Higher, "share of right classes"),
            metric(
                "precision",
                Direction::Higher,
                "of the rows called positive, the share that is; two classes",
            ),
            metric("recall", Direction::Higher, "of the positive rows, the share that is found; two classes"),
            metric("f1", Direction::Higher, "harmonic mean of precision and recall; two classes"),
            metric("precision_macro", Direction::Higher, "precision, mean over classes"),
            metric("recall_macro", Direction::Higher, "recall, mean over classes"),
            metric("f1_macro", Direction::Higher, "F1, mean over classes"),
            metric("precision_weighted", Direction::Higher, "precision, mean over rows' classes"),
            metric("recall_weighted", Direction::Higher, "recall, mean over rows' classes"),
            metric("f1_weighted", Direction::Higher, "F1, mean over rows' classes"),
            metric(
                "auroc",
                Direction::Higher,
                "area under the ROC curve; one against the rest, mean over classes",
            ),
            metric("auprc", Direction::Higher, "average precision; mean over classes"),
            metric("log_loss", Direction::Lower, "mean negative log-likelihood of the true class"),
            metric("ece", Direction::Lower, "expected calibration error, 15 bins of equal width"),
        ],
    },
    TaskInfo {
        name: TaskName::CausalLm,
        description: "predict the next token of a text, and so write texts",
        default_loss: LossName::CrossEntropy,
        primary_metric: "perplexity",
        metrics: &[
            metric("perplexity", Direction::Lower, "exp of the mean loss a token"),
            metric(
                "bits_per_byte",
                Direction::Lower,
                "loss in bits a byte of the text: the same whatever the tokenizer",
            ),
        ],
    },
    TaskInfo {
        name: TaskName::Dpo,
        description: "prefer chosen answers to rejected ones, and write texts",
        // Of the margin, as the logit that the chosen answer is the better one.
        default_loss: LossName::BinaryCrossEntropy,
        primary_metric: "accuracy",
        metrics: &[
            metric(
                "accuracy",
                Direction::Higher,
                "share of pairs whose chosen answer has the higher reward; equal ones count half",
            ),
            metric("margin", Direction::Higher, "mean reward of chosen answers above rejected ones"),
            metric(
                "chosen_reward",
                Direction::Higher,
                "mean reward of chosen answers; below 0 they became less likely, and rejected ones still less",
            ),
        ],
    },
    TaskInfo {
        name: TaskName::MaskedLm,
        description: "predict tokens that were hidden from a text: pre-training of encoders",
        default_loss: LossName::CrossEntropy,
        primary_metric: "perplexity",
        metrics: &[
            metric("perplexity", Direction::Lower, "exp of the mean loss a hidden token"),
            metric("accuracy", Direction::Higher, "share of hidden tokens that were the most likely one"),
        ],
    },
    TaskInfo {
        name: TaskName::TextClassification,
        description: "predict one or several labels of a text",
        default_loss: LossName::CrossEntropy,
        primary_metric: "accuracy",
        metrics: &[
            metric("accuracy", Direction::Higher, "share of texts with exactly the right labels"),
            metric("precision_macro", Direction::Higher, "precision, mean over labels"),
            metric("recall_macro", Direction::Higher, "recall, mean over labels"),
            metric("f1_macro", Direction::Higher, "F1, mean over labels"),
            metric("f1_micro", Direction::Higher, "F1 over all labels of all texts together"),
        ],
    },
    TaskInfo {
        name: TaskName::Translation,
        description: "write a text for a text: a translation, or any other answer",
        default_loss: LossName::CrossEntropy,
        primary_metric: "perplexity",
        metrics: &[
            metric("perplexity", Direction::Lower, "exp of the mean loss a token of the target"),
            metric("accuracy", Direction::Higher, "share of target tokens that were the most likely one"),
            metric("bleu", Direction::Higher, "BLEU of greedy output, as sacreBLEU"),
            metric("chrf", Direction::Higher, "chrF2 of greedy output, as sacreBLEU"),
        ],
    },
    TaskInfo {
        name: TaskName::TextEmbedding,
        description: "give texts of like meaning vectors that are close to each other",
        default_loss: LossName::CrossEntropy,
        primary_metric: "mrr",
        metrics: &[
            metric("recall_at_1", Direction::Higher, "share of texts whose pair is the nearest of all"),
            metric("recall_at_10", Direction::Higher, "share of texts whose pair is among the 10 nearest"),
            metric("mrr", Direction::Higher, "mean of 1 / rank of the pair"),
        ],
    },
    TaskInfo {
        name: TaskName::ImageClassification,
        description: "predict one or several labels of an image",
        default_loss: LossName::CrossEntropy,
        primary_metric: "accuracy",
        metrics: &[
            metric("accuracy", Direction::Higher, "share of images with exactly the right labels"),
            metric(
                "top5_accuracy",
                Direction::Higher,
                "share of images whose label is among the five most probable",
            ),
            metric("precision_macro", Direction::Higher, "precision, mean over labels"),
            metric("recall_macro", Direction::Higher, "recall, mean over labels"),
            metric("f1_macro", Direction::Higher, "F1, mean over labels"),
            metric("f1_micro", Direction::Higher, "F1 over all labels of all images together"),
            metric("ece", Direction::Lower, "expected calibration error, 15 bins of equal width"),
        ],
    },
    TaskInfo {
        name: TaskName::MaskedImageModeling,
        description: "tell the patches that were hidden from an image: pre-training without labels",
        default_loss: LossName::Mse,
        primary_metric: "r2",
        metrics: &[metric("r2", Direction::Higher, "coefficient of determination of hidden pixels")],
    },
    TaskInfo {
        name: TaskName::ImageEmbedding,
        description: "give views of one image vectors that are close to each other: pre-training without labels",
        default_loss: LossName::CrossEntropy,
        primary_metric: "mrr",
        metrics: &[
            metric("recall_at_1", Direction::Higher, "share of views whose other view is the nearest of all"),
            metric(
                "recall_at_10",
                Direction::Higher,
                "share of views whose other view is among the 10 nearest",
            ),
            metric("mrr", Direction::Higher, "mean of 1 / rank of the other view"),
        ],
    },
    TaskInfo {
        name: TaskName::Detection,
        description: "find the objects of an image: a box and a class for each",
        // The family's own loss; the part of it that all have.
        default_loss: LossName::CrossEntropy,
        primary_metric: "map_50",
        metrics: &[
            metric(
                "map",
                Direction::Higher,
                "average precision, mean over classes and overlaps of 0.5 to 0.95, as COCO",
            ),
            metric("map_50", Direction::Higher, "average precision at an overlap of 0.5, mean over classes"),
            metric("map_75", Direction::Higher, "average precision at an overlap of 0.75, mean over classes"),
            metric("map_small", Direction::Higher, "`map` of objects of less than 32² pixels"),
            metric("map_medium", Direction::Higher, "`map` of objects of 32² to 96² pixels"),
            metric("map_large", Direction::Higher, "`map` of objects of more than 96² pixels"),
            metric(
                "ar_1",
                Direction::Higher,
                "recall with one box an image and class, mean over overlaps and classes",
            ),
            metric("ar_10", Direction::Higher, "recall with 10 boxes an image and class"),
            metric("ar_100", Direction::Higher, "recall with 100 boxes an image and class"),
            metric("ar_small", Direction::Higher, "`ar_100` of objects of less than 32² pixels"),
            metric("ar_medium", Direction::Higher, "`ar_100` of objects of 32² to 96² pixels"),
            metric("ar_large", Direction::Higher, "`ar_100` of objects of more than 96² pixels"),
        ],
    },
    TaskInfo {
        name: TaskName::ImageGeneration,
        description: "make images like those that it was shown",
        // Each family has a loss of its own.
        default_loss: LossName::Auto,
        primary_metric: "fid",
        metrics: &[
            metric("fid", Direction::Lower, "Fréchet distance of features of made and of real images"),
            metric("kid", Direction::Lower, "kernel distance of features of made and of real images"),
            metric("class_share_min", Direction::Higher, "share of the rarest label among made images"),
            metric("class_share_max", Direction::Lower, "share of the commonest label among made images"),
        ],
    },
];

/// The task of a recipe.
#[must_use]
pub fn task(name: TaskName) -> &'static TaskInfo {
    let place = match name {
        TaskName::Regression => 0,
        TaskName::Classification => 1,
        TaskName::CausalLm => 2,
        TaskName::Dpo => 3,
        TaskName::MaskedLm => 4,
        TaskName::TextClassification => 5,
        TaskName::Translation => 6,
        TaskName::TextEmbedding => 7,
        TaskName::ImageClassification => 8,
        TaskName::MaskedImageModeling => 9,
        TaskName::ImageEmbedding => 10,
        TaskName::Detection => 11,
        TaskName::ImageGeneration => 12,
    };
    &TASKS[place]
}

/// The metric that is shown first of the task that a manifest names; none of a task that is not known.
#[must_use]
pub fn primary_metric(task: &str) -> Option<&'static str> {
    let name: TaskName = serde_json::from_value(task.into()).ok()?;
    Some(self::task(name).primary_metric)
}

impl TaskInfo {
    /// Which values of a metric are better; losses are lower.
    #[must_use]
    pub fn direction(&self, metric: &str) -> Direction {
        self.metrics.iter().find(|m| m.name == metric).map_or(Direction::Lower, |m| m.direction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_know_the_same_metrics() {
        for info in TASKS {
            assert_eq!(task(info.name), &info);
            let mut here: Vec<&str> = info.metrics.iter().map(|m| m.name).collect();
            let mut recipe = jishi_recipe::metrics(info.name).to_vec();
            here.sort_unstable();
            recipe.sort_unstable();
            assert_eq!(here, recipe);
            assert!(here.contains(&info.primary_metric));
        }
        assert_eq!(primary_metric("regression"), Some("rmse"));
        assert_eq!(primary_metric("astrology"), None);
    }
}
