//! `text-classification`: one label a text, or many, from an encoder's first position (Devlin et al. 2019, §4.1).

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use jishi_data::text::labels::Labels;
use jishi_data::text::tokenizer::Tokenizer;
use jishi_models::{BertInput, Context, EncoderModel, LanguageConfig, LanguageModel, LayerRates};
use jishi_recipe::{Precision, Recipe, TaskName};
use serde_json::{Map, Value};

use crate::labelling::{LabelHead, Targets};
use crate::language::texts::{EncoderTokens, Texts};
use crate::language::{ClassOutputs, LanguageTask, Measured, text_of};
use crate::registry::{self, TaskInfo};
use crate::task::{Direction, Evaluation, SplitName, Task, TaskError};

/// Texts with the labels of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelledTexts {
    /// Their tokens.
    pub texts: Texts,
    /// The classes of each, `[texts]`; exactly one where a text has one label.
    pub classes: Vec<Vec<u32>>,
}

/// Classification of texts.
#[derive(Debug)]
pub struct ClassificationTask {
    info: &'static TaskInfo,
    splits: [Option<LabelledTexts>; 3],
    head: LabelHead,
    tokenizer: Arc<Tokenizer>,
    special: EncoderTokens,
    length: usize,
    batch: usize,
    precision: Precision,
    rates: LayerRates,
    device: Device,
}

/// Texts on their way to the model.
#[derive(Debug, Clone)]
pub struct ClassificationBatch {
    input: BertInput,
    /// `[texts, classes]`
    target: Tensor<2>,
    weight: f64,
}

impl ClassificationTask {
    /// The task of a recipe over its splits. `length`: tokens of a text at most.
    ///
    /// # Errors
    /// A tokenizer that is not for encoders; class weights that don't fit the labels.
    pub fn new(
        recipe: &Recipe,
        tokenizer: &Arc<Tokenizer>,
        labels: &Labels,
        length: usize,
        splits: [Option<LabelledTexts>; 3],
        device: &Device,
    ) -> Result<Self, TaskError> {
        let special = EncoderTokens::of(tokenizer).map_err(|p| TaskError::Bad(p.into()))?;
        Ok(Self {
            info: registry::task(TaskName::TextClassification),
            head: LabelHead::new(recipe, labels)?,
            splits,
            tokenizer: Arc::clone(tokenizer),
            special,
            length,
            batch: recipe.evaluate.batch,
            precision: recipe.train.precision,
            rates: LayerRates::of(recipe),
            device: device.clone(),
        })
    }

    /// `wide`: positions; as many as the longest needs where it is none.
    fn gather(&self, split: &LabelledTexts, rows: &[u32], wide: Option<usize>) -> ClassificationBatch {
        // Constants need no tape.
        let device = self.device.clone().inner();
        let input = split.texts.input(rows, wide, self.special.pad, &device);
        let classes = rows.iter().map(|r| split.classes[*r as usize].as_slice());
        let Targets { values, weight } = self.head.targets(classes);
        ClassificationBatch { input, target: self.head.tensor(values, &device), weight }
    }

    /// Probabilities of every text's labels, row-major `[texts, classes]`.
    ///
    /// # Errors
    /// [`TaskError::NonFinite`] where one is NaN or infinite.
    pub fn predict(&self, model: &EncoderModel, texts: &Texts) -> Result<Vec<f64>, TaskError> {
        self.each_batch(model, texts, |_, _| {})
    }

    fn each_batch(
        &self,
        model: &EncoderModel,
        texts: &Texts,
        mut seen: impl FnMut(&[u32], Tensor<2>),
    ) -> Result<Vec<f64>, TaskError> {
        let (n, model, device) = (self.head.classes(), model.valid(), self.device.clone().inner());
        let mut values = vec![0.0; texts.len() * n];
        for rows in texts.batches(self.batch) {
            let input = texts.input(&rows, None, self.special.pad, &device);
            let mut context = Context::evaluation().with_precision(self.precision);
            let logits = model.class_logits(input, &mut context);
            seen(&rows, logits.clone());
            let logits = logits.into_data().try_to_vec::<f32>().expect("models give f32");
            for (row, logits) in rows.iter().zip(logits.chunks_exact(n)) {
                let row = *row as usize;
                self.head.probabilities(logits, row, &mut values[row * n..][..n])?;
            }
        }
        Ok(values)
    }

    /// The labels, and what is made of probabilities.
    #[must_use]
    pub fn head(&self) -> &LabelHead {
        &self.head
    }

    /// Loss and metrics over texts, with intervals from `resamples` draws.
    ///
    /// # Errors
    /// As [`ClassificationTask::predict`].
    pub fn measure_texts(
        &self,
        model: &EncoderModel,
        split: &LabelledTexts,
        resamples: usize,
        seed: u64,
    ) -> Result<Measured, TaskError> {
        let (mut sum, mut weight) = (0.0, 0.0);
        let values = self.each_batch(model, &split.texts, |rows, logits| {
            let batch = self.gather(split, rows, None);
            sum += f64::from(self.head.sum(logits, batch.target).into_scalar::<f32>());
            weight += batch.weight;
        })?;
        let (metrics, intervals) = self.head.measure(&split.classes, &values, resamples, seed);
        let labels = self.head.labels();
        let classes = (!labels.many).then(|| ClassOutputs {
            names: labels.names.clone(),
            actual: split.classes.iter().map(|c| c[0]).collect(),
            probabilities: values,
        });
        Ok(Measured { evaluation: Evaluation { loss: sum / weight, metrics }, intervals, classes })
    }
}

impl Task for ClassificationTask {
    type Model = EncoderModel;
    type Batch = ClassificationBatch;

    fn rows(&self, split: SplitName) -> usize {
        self.splits[split as usize].as_ref().map_or(0, |s| s.texts.len())
    }

    fn batch(&self, rows: &[u32]) -> ClassificationBatch {
        let train = self.splits[SplitName::Train as usize].as_ref();
        self.gather(train.expect("the loop asks for rows that are there"), rows, None)
    }

    fn parts(&self, rows: &[u32], most: usize, _: &dyn Fn(usize) -> Context) -> Vec<ClassificationBatch> {
        let train = self.splits[SplitName::Train as usize].as_ref();
        let train = train.expect("the loop asks for rows that are there");
        let wide = train.texts.longest(rows);
        rows.chunks(most).map(|part| self.gather(train, part, Some(wide))).collect()
    }

    fn weight(&self, batch: &ClassificationBatch) -> f64 {
        batch.weight
    }

    fn loss(&self, model: &EncoderModel, batch: &ClassificationBatch, context: &mut Context) -> Tensor<1> {
        self.head.sum(model.class_logits(batch.input.clone(), context), batch.target.clone())
    }

    fn evaluate(&self, model: &EncoderModel, split: SplitName) -> Result<Evaluation, TaskError> {
        Ok(self.report(model, split, 0, 0)?.evaluation)
    }

    fn learning_rate_scale(&self, name: &str, names: &[&str]) -> f64 {
        self.rates.scale(name, names)
    }

    fn direction(&self, metric: &str) -> Direction {
        self.info.direction(metric)
    }
}

impl LanguageTask for ClassificationTask {
    fn primary_metric(&self) -> &'static str {
        self.info.primary_metric
    }

    fn does(&self) -> String {
        let many = self.head.labels().many;
        let what = if many { "the labels of a text, any number" } else { "the label of a text, one" };
        format!("tells {what} of {}", self.head.listed())
    }

    fn config(&self, model: &EncoderModel) -> Value {
        let mut config = model.config().to_hf();
        let labels = self.head.labels();
        let names = || labels.names.iter().enumerate();
        config["id2label"] = names().map(|(i, name)| (i.to_string(), Value::from(name.as_str()))).collect();
        config["label2id"] = names().map(|(i, name)| (name.clone(), Value::from(i))).collect();
        if labels.many {
            config["problem_type"] = "multi_label_classification".into();
        }
        config
    }

    /// The probabilities of each text.
    fn golden(
        &self,
        model: &EncoderModel,
        inputs: &[Map<String, Value>],
    ) -> Result<Vec<Vec<f64>>, TaskError> {
        let mut texts = Texts::default();
        for row in inputs {
            let around = self.special.around(&self.tokenizer, text_of(row, "text"), self.length);
            texts.push(&around.map_err(|p| TaskError::Bad(p.into()))?.0);
        }
        let values = self.predict(model, &texts)?;
        Ok(values.chunks_exact(self.head.classes()).map(<[f64]>::to_vec).collect())
    }

    fn report(
        &self,
        model: &EncoderModel,
        split: SplitName,
        resamples: usize,
        seed: u64,
    ) -> Result<Measured, TaskError> {
        match &self.splits[split as usize] {
            Some(texts) => self.measure_texts(model, texts, resamples, seed),
            None => Ok(Measured::from(Evaluation { loss: f64::NAN, metrics: BTreeMap::new() })),
        }
    }
}
