//! Checks of `[train]` and `[evaluate]`.

use super::{Checker, metrics};
use crate::suggest::nearest;
use crate::types::{
    ClassWeights, Domain, EarlyStopping, Loss, LossName, NamedClassWeights, Optimizer, ScheduleName, SplitBy,
    TaskName,
};

impl Checker<'_> {
    pub(super) fn train(&mut self) {
        let train = &self.recipe.train;
        if train.epochs.is_some() && train.steps.is_some() {
            let message = "`epochs` and `steps` contradict each other: each says how long to train";
            let help = "leave one of them out; `--set train.epochs=` takes one out for a single run";
            self.fault(&["train.steps", "train.epochs"], message, help);
        }
        for (key, count) in [
            ("train.epochs", train.epochs),
            ("train.steps", train.steps),
            ("train.batch", Some(train.batch)),
            ("train.accumulate", Some(train.accumulate)),
            ("train.validate_every", train.validate_every),
            ("train.log_every", Some(train.log_every)),
            ("train.checkpoint.every_steps", train.checkpoint.every_steps),
            ("train.checkpoint.keep", Some(train.checkpoint.keep)),
            ("evaluate.batch", Some(self.recipe.evaluate.batch)),
        ] {
            if let Some(count) = count {
                self.at_least(key, count, 1);
            }
        }
        if train.accumulate > 0 && train.batch > 0 && !train.batch.is_multiple_of(train.accumulate) {
            let message = format!(
                "`train.accumulate` ({}) must divide `train.batch` ({}): every batch is split into equal parts",
                train.accumulate, train.batch
            );
            let near = train.batch.div_ceil(train.accumulate).saturating_mul(train.accumulate);
            self.fault(&["train.accumulate", "train.batch"], message, format!("for example: batch = {near}"));
        }
        let task = self.recipe.task;
        if train.accumulate > 1 && task.contrasts() {
            let message = format!(
                "`train.accumulate` is {}: the loss of {} compares all of a batch, and is no sum over parts",
                train.accumulate,
                task.name()
            );
            let help = "leave it out; make `train.batch` smaller where memory is short";
            self.fault(&["train.accumulate", "task"], message, help);
        }
        if train.validate_every.is_some() {
            self.needs_validation("train.validate_every", "`train.validate_every`");
        }
        if let Some(clip) = train.clip {
            self.positive("train.clip", clip);
        }
        if let Some(ema) = train.ema {
            self.number("train.ema", ema, ema > 0.0 && ema < 1.0, "above 0 and below 1");
        }
        self.positive("train.checkpoint.every_seconds", train.checkpoint.every_seconds);
        self.optimizer();
        self.schedule();
        self.loss();
        if let Some(stopping) = &train.early_stopping {
            self.early_stopping(stopping);
        }
    }

    fn optimizer(&mut self) {
        let o = |key: &str| format!("train.optimizer.{key}");
        let optimizer = &self.recipe.train.optimizer;
        let (rate, decay, betas, eps, momentum) = match optimizer {
            Optimizer::Sgd(s) => (s.learning_rate, s.weight_decay, None, None, Some(s.momentum)),
            Optimizer::Rmsprop(r) => (r.learning_rate, r.weight_decay, None, Some(r.eps), Some(r.momentum)),
            Optimizer::Adam(a) => (a.learning_rate, a.weight_decay, Some(a.betas), Some(a.eps), None),
            Optimizer::Adamw(a) => (a.learning_rate, a.weight_decay, Some(a.betas), Some(a.eps), None),
            Optimizer::Muon(m) => (m.learning_rate, m.weight_decay, None, None, Some(m.momentum)),
        };
        self.positive(&o("learning_rate"), rate);
        self.not_negative(&o("weight_decay"), decay);
        self.betas(&o("betas"), betas);
        if let Some(eps) = eps {
            self.not_negative(&o("eps"), eps);
        }
        if let Some(momentum) = momentum {
            self.share(&o("momentum"), momentum);
        }
        match optimizer {
            Optimizer::Sgd(s) => {
                self.number(&o("dampening"), s.dampening, (0.0..=1.0).contains(&s.dampening), "from 0 to 1");
                if s.nesterov && s.momentum == 0.0 {
                    let about = ["train.optimizer.nesterov", "train.optimizer.momentum"];
                    self.lack(
                        "train.optimizer",
                        &about,
                        "`nesterov` needs `momentum`",
                        "for example: momentum = 0.9",
                    );
                }
                if s.nesterov && s.dampening != 0.0 {
                    let about = ["train.optimizer.dampening", "train.optimizer.nesterov"];
                    self.fault(
                        &about,
                        "`nesterov` and `dampening` contradict each other",
                        "leave one of them out",
                    );
                }
            }
            Optimizer::Rmsprop(r) => {
                self.number(&o("alpha"), r.alpha, (0.0..=1.0).contains(&r.alpha), "from 0 to 1");
            }
            Optimizer::Muon(m) => {
                self.positive(&o("adamw_learning_rate"), m.adamw_learning_rate);
                self.betas(&o("adamw_betas"), Some(m.adamw_betas));
                self.at_least(&o("ns_steps"), m.ns_steps, 1);
            }
            Optimizer::Adam(_) | Optimizer::Adamw(_) => {}
        }
    }

    fn betas(&mut self, key: &str, betas: Option<[f64; 2]>) {
        for beta in betas.into_iter().flatten() {
            self.share(key, beta);
        }
    }

    fn schedule(&mut self) {
        let s = &self.recipe.train.schedule;
        match s.name {
            ScheduleName::Constant => {}
            ScheduleName::Linear | ScheduleName::Cosine => {
                let key = "train.schedule.final_share";
                self.number(key, s.final_share, (0.0..=1.0).contains(&s.final_share), "from 0 to 1");
            }
            ScheduleName::Step | ScheduleName::Plateau => {
                self.number(
                    "train.schedule.gamma",
                    s.gamma,
                    s.gamma > 0.0 && s.gamma < 1.0,
                    "above 0 and below 1",
                );
                if s.name == ScheduleName::Step {
                    self.at_least("train.schedule.step_epochs", s.step_epochs, 1);
                } else {
                    self.needs_validation("train.schedule.name", "schedule \"plateau\"");
                }
            }
            ScheduleName::OneCycle => {
                self.number(
                    "train.schedule.rise",
                    s.rise,
                    s.rise > 0.0 && s.rise < 1.0,
                    "above 0 and below 1",
                );
            }
        }
        if let Some(steps) = self.recipe.train.steps.filter(|steps| *steps > 0 && s.warmup >= *steps) {
            let message = format!(
                "`train.schedule.warmup` ({}) takes up all {steps} `steps` of the training",
                s.warmup
            );
            self.fault(&["train.schedule.warmup", "train.steps"], message, "make it smaller");
        }
    }

    fn needs_validation(&mut self, key: &str, what: &str) {
        let split = &self.recipe.data.split;
        if split.validation == 0.0 && split.by != SplitBy::Column {
            let message = format!("{what} goes by the validation split, and `data.split.validation` is 0");
            let about = &[key, "data.split.validation", "data.split.by"];
            self.fault(about, message, "for example: validation = 0.2 in [data.split]");
        }
    }

    fn early_stopping(&mut self, stopping: &EarlyStopping) {
        self.needs_validation("train.early_stopping", "early stopping");
        self.at_least("train.early_stopping.patience", stopping.patience, 1);
        self.not_negative("train.early_stopping.min_delta", stopping.min_delta);
        let known = metrics(self.recipe.task);
        let metric = stopping.metric.as_str();
        if metric != "loss" && !known.contains(&metric) {
            let task = self.recipe.task.name();
            let message = format!("`train.early_stopping.metric`: \"{metric}\" is no metric of a {task}");
            let help = match nearest(metric, known.iter().copied().chain(["loss"])) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("expected loss, {}", known.join(", ")),
            };
            self.fault(&["train.early_stopping.metric", "task"], message, help);
        }
    }

    fn loss(&mut self) {
        let loss = &self.recipe.train.loss;
        let name = &["train.loss.name", "task"];
        let (of_classes, written) = match loss.name {
            LossName::Auto => (None, ""),
            LossName::Mse => (Some(false), "mse"),
            LossName::Mae => (Some(false), "mae"),
            LossName::Huber => (Some(false), "huber"),
            LossName::CrossEntropy => (Some(true), "cross-entropy"),
            LossName::BinaryCrossEntropy => (Some(true), "binary-cross-entropy"),
            LossName::Focal => (Some(true), "focal"),
        };
        let task = self.recipe.task.name();
        let table = self.recipe.task.domain() == Domain::Tables;
        let classify = self.recipe.task != TaskName::Regression;
        match of_classes {
            Some(_)
                if matches!(self.recipe.task, TaskName::MaskedImageModeling | TaskName::ImageEmbedding) =>
            {
                let message = format!("`train.loss.name` is \"{written}\", and {task} has a loss of its own");
                self.fault(name, message, "leave it out");
            }
            Some(true) if !classify => {
                let message = format!("the loss \"{written}\" compares classes, and the task is regression");
                self.fault(name, message, "losses of a regression: \"mse\", \"mae\", \"huber\"");
            }
            Some(false) if classify => {
                let message = format!("the loss \"{written}\" compares numbers, and the task is {task}");
                let help =
                    "losses of a classification: \"cross-entropy\", \"binary-cross-entropy\", \"focal\"";
                self.fault(name, message, help);
            }
            Some(true) if self.recipe.task == TaskName::Dpo => {
                let message = format!("the loss \"{written}\" compares classes, and the task is dpo");
                self.fault(name, message, "leave it out: the task has a loss of its own");
            }
            Some(true) if !table && loss.name != LossName::CrossEntropy => {
                let message = format!("the loss \"{written}\" is for tables, and the task is {task}");
                self.fault(name, message, "leave it out: the task has a loss of its own");
            }
            _ => {}
        }
        self.positive("train.loss.delta", loss.delta);
        self.share("train.loss.label_smoothing", loss.label_smoothing);
        self.not_negative("train.loss.gamma", loss.gamma);
        self.positive("train.loss.beta", loss.beta);
        if self.recipe.task == TaskName::Dpo {
            let smoothing = loss.label_smoothing;
            if (0.5..1.0).contains(&smoothing) {
                // At a half a pair says nothing; above, the opposite.
                self.number("train.loss.label_smoothing", smoothing, false, "from 0 to below 0.5 for dpo");
            }
        } else if loss.beta != Loss::default().beta {
            let message = format!("`train.loss.beta` is for dpo, and the task is {task}");
            self.fault(&["train.loss.beta", "task"], message, "leave it out");
        }
        if let Some(temperature) = loss.temperature {
            self.positive("train.loss.temperature", temperature);
            if !self.recipe.task.contrasts() {
                let message = format!(
                    "`train.loss.temperature` is for text-embedding and image-embedding, and the task is {task}"
                );
                self.fault(&["train.loss.temperature", "task"], message, "leave it out");
            }
        }
        let unlabelled = matches!(
            self.recipe.task,
            TaskName::Regression | TaskName::MaskedImageModeling | TaskName::ImageEmbedding
        );
        if unlabelled && loss.label_smoothing != 0.0 {
            let about = &["train.loss.label_smoothing", "task"];
            let message = format!("`label_smoothing` is for classes, and the task is {task}");
            self.fault(about, message, "leave it out");
        }
        let weights = &["train.loss.class_weights", "task"];
        let weighs = matches!(
            self.recipe.task,
            TaskName::Classification | TaskName::TextClassification | TaskName::ImageClassification
        );
        if !weighs && loss.class_weights != ClassWeights::Named(NamedClassWeights::None) {
            let message = format!("`class_weights` is for classes, and the task is {task}");
            self.fault(weights, message, "leave it out");
        }
        if let ClassWeights::ByClass(by_class) = &loss.class_weights {
            if by_class.values().any(|w| !w.is_finite() || *w < 0.0) {
                let message = "`train.loss.class_weights`: expected weights of 0 or more";
                self.fault(weights, message, "for example: class_weights = { no = 1.0, yes = 5.0 }");
            } else if by_class.values().all(|w| *w == 0.0) {
                let message = "`train.loss.class_weights`: expected at least one weight above 0";
                self.fault(weights, message, "for example: class_weights = { no = 1.0, yes = 5.0 }");
            }
        }
    }
}
