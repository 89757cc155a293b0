//! Regression and classification of table rows.

use std::cell::RefCell;
use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::{Device, Int, Tensor, TensorData};
use jishi_data::encoded::Encoded;
use jishi_data::pipeline::{Pipeline, Target};
use jishi_models::{Context, TableInput, TableModel, TableShape, uses_one_hot};
use jishi_recipe::{ClassWeights, LossName, NamedClassWeights, Precision, Problem, Problems, Recipe};

use crate::losses::{Loss, binary_target, class_target};
use crate::metrics;
use crate::metrics::curves::Ranking;
use crate::registry::{self, TaskInfo};
use crate::task::{Direction, Evaluation, SplitName, Task, TaskError};

/// Predictions for rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Predictions {
    /// Numbers in the target's own unit, `[rows]`.
    Numbers(Vec<f64>),
    /// Probabilities, row-major `[rows, classes]`.
    Probabilities {
        /// The classes in order.
        classes: Vec<String>,
        /// One probability a row and class.
        values: Vec<f64>,
    },
}

/// A trained table model with what it needs to predict rows: one path for evaluation, prediction and serving.
#[derive(Debug, Clone)]
pub struct TableHead {
    info: &'static TaskInfo,
    target: Target,
    one_hot: bool,
    loss: Loss,
    label_smoothing: f64,
    /// Weight of every class; empty for a regression.
    class_weights: Vec<f32>,
    shape: TableShape,
    batch: usize,
    /// The precision that the model was trained in, so that what was trained is what is evaluated and served.
    precision: Precision,
    device: Device,
}

/// Regression or classification over the rows of a table.
#[derive(Debug)]
pub struct TableTask {
    head: TableHead,
    splits: [Encoded; 3],
    scratch: RefCell<Scratch>,
}

#[derive(Debug, Default)]
struct Scratch {
    numbers: Vec<f32>,
    codes: Vec<u32>,
}

/// A batch of table rows.
#[derive(Debug, Clone)]
pub struct TableBatch {
    input: TableInput,
    /// `[rows, 1]`, or `[rows, classes]` for a cross-entropy.
    target: Tensor<2>,
    /// `[rows, 1]`, for a binary cross-entropy with class weights.
    row_weight: Option<Tensor<2>>,
    weight: f64,
}

impl TableHead {
    /// The head of a recipe over a fitted pipeline. `class_weights`: see [`class_weights`]; none for a regression.
    ///
    /// # Errors
    /// A loss that does not fit the classes.
    pub fn new(
        recipe: &Recipe,
        pipeline: &Pipeline,
        class_weights: Vec<f32>,
        device: &Device,
    ) -> Result<Self, TaskError> {
        let info = registry::task(recipe.task);
        let config = &recipe.train.loss;
        let name = if config.name == LossName::Auto { info.default_loss } else { config.name };
        let loss = match name {
            LossName::Auto | LossName::Mse => Loss::Mse,
            LossName::Mae => Loss::Mae,
            LossName::Huber => Loss::Huber { delta: config.delta },
            LossName::CrossEntropy => Loss::CrossEntropy,
            LossName::BinaryCrossEntropy => Loss::BinaryCrossEntropy,
            LossName::Focal => Loss::Focal { gamma: config.gamma },
        };
        let classes = pipeline.classes();
        if loss == Loss::BinaryCrossEntropy && classes.len() != 2 {
            return Err(Problems::from(
                Problem::new(format!(
                    "`binary-cross-entropy` needs two classes; `{}` has {}",
                    pipeline.target().column(),
                    classes.len()
                ))
                .help("use `cross-entropy`"),
            )
            .into());
        }
        let outputs = if classes.is_empty() || loss == Loss::BinaryCrossEntropy { 1 } else { classes.len() };
        Ok(Self {
            info,
            target: pipeline.target().clone(),
            one_hot: uses_one_hot(&recipe.model),
            loss,
            label_smoothing: config.label_smoothing,
            class_weights,
            shape: TableShape {
                numbers: pipeline.numbers(),
                cardinalities: pipeline.cardinalities(),
                outputs,
                bin_edges: pipeline.bin_edges(),
            },
            batch: recipe.evaluate.batch,
            precision: recipe.train.precision,
            device: device.clone(),
        })
    }

    /// What a model has to know of the data.
    #[must_use]
    pub fn model_shape(&self) -> &TableShape {
        &self.shape
    }

    /// The weight of every class; none for a regression.
    #[must_use]
    pub fn class_weights(&self) -> &[f32] {
        &self.class_weights
    }

    /// The task's entry in the registry.
    #[must_use]
    pub fn info(&self) -> &'static TaskInfo {
        self.info
    }

    fn input(&self, rows: &Encoded, numbers: &[u32], scratch: &mut Scratch, device: &Device) -> TableInput {
        let n = numbers.len();
        if self.one_hot {
            rows.gather_dense(numbers, &mut scratch.numbers);
            let shape = [n, rows.dense_width()];
            let dense = Tensor::from_data(TensorData::new(scratch.numbers.clone(), shape), device);
            return TableInput { dense, codes: None };
        }
        rows.gather(numbers, &mut scratch.numbers, &mut scratch.codes);
        let dense = TensorData::new(scratch.numbers.clone(), [n, rows.numbers]);
        let codes: Vec<i32> = scratch.codes.iter().map(|c| *c as i32).collect();
        let codes = Tensor::<2, Int>::from_data(TensorData::new(codes, [n, rows.categories]), device);
        TableInput { dense: Tensor::from_data(dense, device), codes: Some(codes) }
    }

    /// Target, weight by row and weight of the batch.
    fn target(
        &self,
        rows: &Encoded,
        numbers: &[u32],
        device: &Device,
    ) -> (Tensor<2>, Option<Tensor<2>>, f64) {
        if let Target::Number { .. } = self.target {
            let scaled = rows.target_scaled();
            let values: Vec<f32> = numbers.iter().map(|r| scaled[*r as usize]).collect();
            let target = Tensor::from_data(TensorData::new(values, [numbers.len(), 1]), device);
            return (target, None, numbers.len() as f64);
        }
        let all = rows.target_class();
        let classes: Vec<u32> = numbers.iter().map(|r| all[*r as usize]).collect();
        let weight = classes.iter().map(|c| f64::from(self.class_weights[*c as usize])).sum();
        if self.loss == Loss::BinaryCrossEntropy {
            let (target, row) = binary_target(&classes, &self.class_weights, self.label_smoothing);
            return (Tensor::from_data(target, device), Some(Tensor::from_data(row, device)), weight);
        }
        let target = class_target(&classes, &self.class_weights, self.label_smoothing);
        (Tensor::from_data(target, device), None, weight)
    }

    fn loss(
        &self,
        output: Tensor<2>,
        members: usize,
        target: Tensor<2>,
        row: Option<Tensor<2>>,
    ) -> Tensor<1> {
        if members == 1 {
            return self.loss.sum(output, target, row);
        }
        // Every member sees every row: [members · batch, outputs].
        let row = row.map(|w| w.repeat_dim(0, members));
        self.loss.sum(output, target.repeat_dim(0, members), row) / members as f64
    }

    /// Predicts all rows, and gives the mean loss where the rows have targets.
    ///
    /// # Errors
    /// [`TaskError::NonFinite`] where a prediction is NaN or infinite.
    pub fn predict(
        &self,
        model: &TableModel,
        rows: &Encoded,
    ) -> Result<(Predictions, Option<f64>), TaskError> {
        let device = self.device.clone().inner();
        let model = model.valid();
        let members = model.members();
        let has_target = !rows.target_scaled().is_empty() || !rows.target_class().is_empty();
        let mut scratch = Scratch::default();
        let mut values = Vec::new();
        let (mut sum, mut total) = (0.0, 0.0);
        let numbers: Vec<u32> = (0..rows.rows as u32).collect();
        for part in numbers.chunks(self.batch) {
            let input = self.input(rows, part, &mut scratch, &device);
            let output = model.forward(input, &mut Context::evaluation().with_precision(self.precision));
            if has_target {
                let (target, row, weight) = self.target(rows, part, &device);
                sum += f64::from(self.loss(output.clone(), members, target, row).into_scalar::<f32>());
                total += weight;
            }
            self.collect(output, members, part.len(), &mut values)?;
        }
        let loss = (has_target && total > 0.0).then(|| sum / total);
        let predictions = match &self.target {
            Target::Number { .. } => Predictions::Numbers(values),
            Target::Class { classes, .. } => Predictions::Probabilities { classes: classes.clone(), values },
        };
        Ok((predictions, loss))
    }

    /// Adds the predictions of a part: the mean over members, unscaled, or both classes' probabilities.
    fn collect(
        &self,
        output: Tensor<2>,
        members: usize,
        rows: usize,
        values: &mut Vec<f64>,
    ) -> Result<(), TaskError> {
        let binary = self.loss == Loss::BinaryCrossEntropy;
        let output = match &self.target {
            Target::Number { .. } => output,
            Target::Class { .. } if binary => sigmoid(output),
            Target::Class { .. } => softmax(output, 1),
        };
        let outputs = self.shape.outputs;
        let data = output.into_data().try_to_vec::<f32>().expect("models give f32");
        let start = values.len();
        for row in 0..rows {
            for i in 0..outputs {
                let of = |member: usize| f64::from(data[(member * rows + row) * outputs + i]);
                let mean = (0..members).map(of).sum::<f64>() / members as f64;
                let value = self.target.unscale(mean);
                if !value.is_finite() {
                    return Err(TaskError::NonFinite { found: value, row: start / outputs + row });
                }
                if binary {
                    values.push(1.0 - value);
                }
                values.push(value);
            }
        }
        Ok(())
    }

    /// Metrics of predictions against the rows' targets.
    #[must_use]
    pub fn metrics(&self, predictions: &Predictions, rows: &Encoded) -> BTreeMap<String, f64> {
        match predictions {
            Predictions::Numbers(values) => metrics::regression(rows.target_raw(), values),
            Predictions::Probabilities { classes, values } => {
                metrics::classification(rows.target_class(), values, classes.len())
            }
        }
    }
}

impl TableHead {
    /// 95 % bootstrap intervals of the metrics over the rows; none for `resamples` 0.
    #[must_use]
    pub fn intervals(
        &self,
        predictions: &Predictions,
        rows: &Encoded,
        resamples: usize,
        seed: u64,
    ) -> BTreeMap<String, [f64; 2]> {
        match predictions {
            Predictions::Numbers(values) => metrics::intervals(rows.rows, resamples, seed, |weights| {
                metrics::weighted_regression(rows.target_raw(), values, weights)
            }),
            Predictions::Probabilities { classes, values } => {
                let (actual, n) = (rows.target_class(), classes.len());
                let rankings = Ranking::of_classes(actual, values, n);
                metrics::intervals(rows.rows, resamples, seed, |weights| {
                    metrics::weighted_classification(actual, values, n, &rankings, weights)
                })
            }
        }
    }
}

impl TableTask {
    /// The task of a recipe over its encoded training, validation and test rows.
    ///
    /// # Errors
    /// As [`TableHead::new`] and [`class_weights`].
    pub fn new(
        recipe: &Recipe,
        pipeline: &Pipeline,
        splits: [Encoded; 3],
        device: &Device,
    ) -> Result<Self, TaskError> {
        let mut counts = vec![0; pipeline.classes().len()];
        for class in splits[0].target_class() {
            counts[*class as usize] += 1;
        }
        let weights = class_weights(&recipe.train.loss.class_weights, pipeline.classes(), &counts)?;
        let head = TableHead::new(recipe, pipeline, weights, device)?;
        Ok(Self { head, splits, scratch: RefCell::default() })
    }

    /// What predicts rows.
    #[must_use]
    pub fn head(&self) -> &TableHead {
        &self.head
    }

    /// What a model has to know of the data.
    #[must_use]
    pub fn model_shape(&self) -> &TableShape {
        self.head.model_shape()
    }

    /// The metric that is shown first.
    #[must_use]
    pub fn primary_metric(&self) -> &'static str {
        self.head.info.primary_metric
    }

    /// The encoded rows of a split.
    #[must_use]
    pub fn split(&self, split: SplitName) -> &Encoded {
        &self.splits[split as usize]
    }
}

impl Task for TableTask {
    type Model = TableModel;
    type Batch = TableBatch;

    fn rows(&self, split: SplitName) -> usize {
        self.split(split).rows
    }

    fn batch(&self, rows: &[u32]) -> TableBatch {
        let train = self.split(SplitName::Train);
        // Constants need no tape.
        let device = self.head.device.clone().inner();
        let input = self.head.input(train, rows, &mut self.scratch.borrow_mut(), &device);
        let (target, row_weight, weight) = self.head.target(train, rows, &device);
        TableBatch { input, target, row_weight, weight }
    }

    fn weight(&self, batch: &TableBatch) -> f64 {
        batch.weight
    }

    fn loss(&self, model: &TableModel, batch: &TableBatch, context: &mut Context) -> Tensor<1> {
        let output = model.forward(batch.input.clone(), context);
        self.head.loss(output, model.members(), batch.target.clone(), batch.row_weight.clone())
    }

    fn evaluate(&self, model: &TableModel, split: SplitName) -> Result<Evaluation, TaskError> {
        let rows = self.split(split);
        let (predictions, loss) = self.head.predict(model, rows)?;
        Ok(Evaluation { loss: loss.unwrap_or(f64::NAN), metrics: self.head.metrics(&predictions, rows) })
    }

    fn direction(&self, metric: &str) -> Direction {
        self.head.info.direction(metric)
    }
}

/// The weight of every class, from a recipe and the training rows of every class.
///
/// # Errors
/// Weights for classes that are not there, and classes without a weight.
pub fn class_weights(
    config: &ClassWeights,
    classes: &[String],
    counts: &[u64],
) -> Result<Vec<f32>, Problems> {
    match config {
        ClassWeights::Named(NamedClassWeights::None) => Ok(vec![1.0; classes.len()]),
        ClassWeights::Named(NamedClassWeights::Balanced) => {
            let rows: u64 = counts.iter().sum();
            let weight = |count: &u64| rows as f64 / (classes.len() as f64 * (*count).max(1) as f64);
            Ok(counts.iter().map(|c| weight(c) as f32).collect())
        }
        ClassWeights::ByClass(by_class) => {
            let listed = classes.join(", ");
            let mut problems: Vec<Problem> = by_class
                .keys()
                .filter(|name| !classes.contains(name))
                .map(|name| {
                    Problem::new(format!("`train.loss.class_weights` names `{name}`, which is no class"))
                        .help(format!("the classes are {listed}"))
                })
                .collect();
            problems.extend(classes.iter().filter(|c| !by_class.contains_key(*c)).map(|class| {
                Problem::new(format!("`train.loss.class_weights` has no weight for class `{class}`"))
                    .help("give every class a weight")
            }));
            Problems(problems).into_result()?;
            Ok(classes.iter().map(|c| by_class[c] as f32).collect())
        }
    }
}
