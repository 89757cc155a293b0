//! Where a run writes to while it trains: metric log, TensorBoard, checkpoints, and whoever watches.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jishi_data::image::Picture;
use jishi_runs::plots::Raster;
use jishi_runs::{Checkpoints, EventWriter, MetricLog, RealFs, RunError};
use jishi_tasks::{Evaluation, Sample, SplitName};

use crate::trainer::{CheckpointFile, Plan, Step};

/// One line of the metric log.
#[derive(Debug)]
pub struct Record<'a> {
    /// Optimiser steps done.
    pub step: usize,
    /// Epochs done, as a fraction.
    pub epoch: f64,
    /// Split that was measured.
    pub split: SplitName,
    /// Mean loss; for training since the last line.
    pub loss: f64,
    /// Learning rate of the last update.
    pub learning_rate: Option<f64>,
    /// Global norm of the last gradient.
    pub gradient_norm: Option<f64>,
    /// Metrics of the task.
    pub metrics: &'a BTreeMap<String, f64>,
}

/// What happens while a run trains, for whoever watches.
#[derive(Debug)]
pub enum Event<'a> {
    /// An optimiser step is done.
    Step {
        /// Optimiser steps done.
        step: usize,
        /// Epochs done, as a fraction.
        epoch: f64,
        /// What the step measured.
        measured: Step,
    },
    /// The validation split was evaluated, or would have been if there were one.
    Validation {
        /// Optimiser steps done.
        step: usize,
        /// Epochs done, as a fraction.
        epoch: f64,
        /// Mean training loss since the last validation.
        train_loss: f64,
        /// The evaluation; `None` without a validation split.
        evaluation: Option<&'a Evaluation>,
        /// Whether it is the best so far.
        best: bool,
    },
    /// The model has written texts for the recipe's prompts.
    Samples {
        /// Optimiser steps done.
        step: usize,
        /// What it wrote.
        samples: &'a [Sample],
    },
    /// A checkpoint was written.
    Checkpoint {
        /// Optimiser steps done.
        step: u64,
    },
}

/// Who watches a run: a progress bar, live curves, or nobody.
pub trait Observer {
    /// A run begins, or a fold of it.
    fn begin(&mut self, title: &str, plan: Plan, metric: &'static str);
    /// Something happened.
    fn event(&mut self, event: &Event<'_>);
    /// Training is over; what follows is evaluation.
    fn end(&mut self);
    /// A line for the user.
    fn say(&mut self, line: &str);
}

/// Nobody watches.
pub struct Silent;

impl Observer for Silent {
    fn begin(&mut self, _: &str, _: Plan, _: &'static str) {}
    fn event(&mut self, _: &Event<'_>) {}
    fn end(&mut self) {}
    fn say(&mut self, _: &str) {}
}

/// Outputs of a run. Each part is optional: a fold or a check writes nothing.
pub struct Outputs<'a> {
    /// The metric log.
    pub log: Option<MetricLog>,
    /// TensorBoard's event file.
    pub tensorboard: Option<EventWriter>,
    /// The folder of checkpoints.
    pub checkpoints: Option<Checkpoints>,
    /// The folder of samples.
    pub samples: Option<PathBuf>,
    /// Step of the last checkpoint that was written or restored.
    pub last_checkpoint: Option<u64>,
    /// Who watches.
    pub observer: &'a mut dyn Observer,
}

impl<'a> Outputs<'a> {
    /// Outputs that write nothing.
    pub fn none(observer: &'a mut dyn Observer) -> Self {
        Self {
            log: None,
            tensorboard: None,
            checkpoints: None,
            samples: None,
            last_checkpoint: None,
            observer,
        }
    }

    pub(crate) fn observe(&mut self, event: &Event<'_>) {
        self.observer.event(event);
    }

    pub(crate) fn record(&mut self, record: &Record<'_>) -> Result<(), RunError> {
        let split = record.split.name();
        let mut values = vec![("loss", record.loss)];
        values.extend(record.learning_rate.map(|v| ("learning_rate", v)));
        values.extend(record.gradient_norm.map(|v| ("gradient_norm", v)));
        values.extend(record.metrics.iter().map(|(name, value)| (name.as_str(), *value)));
        let step = record.step as u64;
        if let Some(log) = &mut self.log {
            log.record(step, record.epoch, split, &values)?;
        }
        if let Some(events) = &mut self.tensorboard {
            let tags: Vec<String> = values.iter().map(|(name, _)| format!("{name}/{split}")).collect();
            let scalars: Vec<(&str, f64)> =
                tags.iter().zip(&values).map(|(tag, (_, value))| (tag.as_str(), *value)).collect();
            events.scalars(step, &scalars)?;
        }
        Ok(())
    }

    /// Keeps what the model wrote at a step as a file of its own, which a resumed run writes again just so.
    pub(crate) fn samples(&mut self, step: usize, samples: &[Sample]) -> Result<(), RunError> {
        if samples.is_empty() {
            return Ok(());
        }
        if let Some(folder) = &self.samples {
            std::fs::create_dir_all(folder).map_err(|e| RunError::io(folder, e))?;
            let path = folder.join(format!("step-{step:08}.json"));
            jishi_runs::atomic::write_json(&RealFs, &path, &samples)?;
        }
        self.observer.event(&Event::Samples { step, samples });
        Ok(())
    }

    /// Keeps pictures that the model made at a step, as [`Self::samples`] keeps texts.
    pub(crate) fn picture(&mut self, step: usize, picture: Picture<'_>) -> Result<(), RunError> {
        let Some(folder) = &self.samples else { return Ok(()) };
        std::fs::create_dir_all(folder).map_err(|e| RunError::io(folder, e))?;
        let Picture { height, width, channels, pixels } = picture;
        let png = Raster::new(height, width, channels, pixels).to_png();
        jishi_runs::atomic::write_real(&folder.join(format!("step-{step:08}.png")), &png)
    }

    /// Flushes the logs to disk and returns the length of the metric log in bytes.
    pub(crate) fn sync(&mut self) -> Result<u64, RunError> {
        if let Some(events) = &mut self.tensorboard {
            events.flush()?;
        }
        match &mut self.log {
            Some(log) => {
                log.sync()?;
                Ok(log.byte_offset())
            }
            None => Ok(0),
        }
    }

    pub(crate) fn checkpoint(&mut self, step: u64, files: &[CheckpointFile]) -> Result<(), RunError> {
        if let Some(checkpoints) = &mut self.checkpoints {
            let files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (*n, b.as_slice())).collect();
            checkpoints.save(step, &files)?;
            self.last_checkpoint = Some(step);
            self.observer.event(&Event::Checkpoint { step });
        }
        Ok(())
    }
}
