//! `image-generation`: a generator against a critic (Goodfellow et al. 2014).

use std::sync::OnceLock;

use burn::module::Module;
use burn::tensor::activation::log_sigmoid;
use burn::tensor::{Device, Tensor};
use jishi_data::image::{OwnedPicture, Pictures, Preparation};
use jishi_models::{Context, Critic, Gan, gradient_penalty};
use jishi_recipe::{Model, Precision, Problem, Recipe, TaskName};

use super::judge::{Judge, Seen};
use super::making::{Maker, grid};
use crate::measured::Measured;
use crate::metrics::generation::{Features, Moments, fid, kid};
use crate::registry::{self, TaskInfo};
use crate::task::{Direction, Evaluation, SplitName, Task, TaskError};
use crate::vision::{Images, UnlabelledImages};

/// Turn of the critic, and of the generator.
const CRITIC: usize = 0;
const GENERATOR: usize = 1;
/// Labels whose shares are told one by one.
const MOST_SHARES: usize = 50;
/// Passes that a generator's running statistics are made of, and images of each.
const SETTLING: (u64, usize) = (40, 64);
/// Pictures of a sample grid, in rows of so many.
const GRID: (usize, usize) = (64, 8);

/// What generator and critic are told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum GanLoss {
    /// The critic tells real images from made ones by a logit; the generator wants made ones called real, which does not
    /// saturate (Goodfellow et al. 2014, §3).
    NonSaturating,
    /// The critic's mean of made images below that of real ones, with the penalty of its slope (Gulrajani et al. 2017,
    /// equation 3).
    Wasserstein {
        /// Weight of the penalty.
        penalty: f64,
    },
}

/// Real images on their way to the critic.
#[derive(Debug, Clone)]
pub struct RealBatch {
    /// `[images, height, width, channels]`
    real: Tensor<4>,
}

/// A classifier, and what it saw in real images.
#[derive(Debug)]
pub struct Judging {
    judge: Judge,
    real: [OnceLock<(Features, Moments)>; 3],
}

/// Making images like those that were shown.
#[derive(Debug)]
pub struct ImageGenerationTask {
    info: &'static TaskInfo,
    data: UnlabelledImages,
    judging: Option<Judging>,
    loss: GanLoss,
    critic_rate: f64,
    critic_steps: usize,
    batch: usize,
    samples: usize,
    seed: u64,
    precision: Precision,
    device: Device,
}

impl ImageGenerationTask {
    /// The task of a recipe; `judge` is its `evaluate.features`.
    ///
    /// # Errors
    /// A judge of other images, or one that sees more in an image than there are images to compare.
    pub fn new(
        recipe: &Recipe,
        data: UnlabelledImages,
        judge: Option<Judge>,
        device: &Device,
    ) -> Result<Self, TaskError> {
        let (loss, critic_rate, critic_steps) = match &recipe.model {
            Model::WganGp(m) => {
                (GanLoss::Wasserstein { penalty: m.penalty }, m.critic_rate, m.critic_steps.max(1))
            }
            Model::Dcgan(m) => (GanLoss::NonSaturating, m.critic_rate, 1),
            _ => (GanLoss::NonSaturating, 1.0, 1),
        };
        if let Some(judge) = &judge {
            fits(judge, &data.images.preparation)?;
            for split in [SplitName::Validation, SplitName::Test] {
                let rows = data.rows[split as usize].len();
                if rows > 0 {
                    enough(judge, rows, &format!("the {} split has", split.name()))?;
                }
            }
            enough(judge, recipe.evaluate.samples, "`evaluate.samples` asks for")?;
        }
        Ok(Self {
            info: registry::task(TaskName::ImageGeneration),
            data,
            judging: judge.map(|judge| Judging { judge, real: Default::default() }),
            loss,
            critic_rate,
            critic_steps,
            batch: recipe.evaluate.batch,
            samples: recipe.evaluate.samples,
            seed: recipe.train.seed,
            precision: recipe.train.precision,
            device: device.clone(),
        })
    }

    /// The metric that is shown first.
    #[must_use]
    pub fn primary_metric(&self) -> &'static str {
        self.info.primary_metric
    }

    /// The generator of a model at work.
    #[must_use]
    pub fn maker(&self, model: &Gan) -> Maker {
        let preparation = &self.data.images.preparation;
        Maker::new(model.generator(), model.config().latent, preparation, self.precision, &self.device)
    }

    /// Loss and metrics over a split, with the share of every label.
    ///
    /// # Errors
    /// [`TaskError::NonFinite`] where a model gives no numbers.
    pub fn report(&self, model: &Gan, split: SplitName) -> Result<Measured, TaskError> {
        let samples = if self.judging.is_some() { self.samples } else { 0 };
        let (loss, made) = self.critic_loss(model, split, samples)?;
        let mut evaluation = Evaluation { loss, metrics: Default::default() };
        if let Some(judging) = &self.judging {
            let seen = judging.judge.see(&pictures(&self.data.images.preparation, &made))?;
            let (real, moments) = self.real(judging, split)?;
            evaluation.metrics = judged(&judging.judge, &seen, (real, moments), true);
        }
        Ok(evaluation.into())
    }

    /// What the judge saw in the real images of a split.
    fn real<'a>(
        &self,
        judging: &'a Judging,
        split: SplitName,
    ) -> Result<(&'a Features, &'a Moments), TaskError> {
        let cell = &judging.real[split as usize];
        if cell.get().is_none() {
            let seen = real(&judging.judge, &self.data.images, &self.data.rows[split as usize])?;
            let moments = Moments::of(&seen.features);
            // Whoever came first saw the same.
            let _ = cell.set((seen.features, moments));
        }
        let (features, moments) = cell.get().expect("it was set");
        Ok((features, moments))
    }

    /// The critic's mean loss over the real images of a split and as many made ones, without the penalty; and the first
    /// `samples` made ones. The critic sees batches as in training.
    fn critic_loss(
        &self,
        model: &Gan,
        split: SplitName,
        samples: usize,
    ) -> Result<(f64, Vec<OwnedPicture>), TaskError> {
        let (rows, device) = (&self.data.rows[split as usize], self.device.clone().inner());
        let (model, maker, images) = (model.valid(), self.maker(model), &self.data.images);
        let (mut sum, mut kept) = (0.0, Vec::with_capacity(samples));
        let all = rows.len().max(samples);
        for first in (0..all).step_by(self.batch) {
            let last = (first + self.batch).min(all);
            let mut values = maker.values(&maker.latents(self.seed, first..last))?;
            let shown = values.chunks_exact(images.size()).take(samples.saturating_sub(first));
            kept.extend(shown.map(|values| images.preparation.picture(values)));
            let part = &rows[first.min(rows.len())..last.min(rows.len())];
            if part.is_empty() {
                continue;
            }
            values.truncate(part.len() * images.size());
            let (real, made) = (images.plain(part, &device), images.tensor(values, &device));
            let mut context = Context::training(self.seed, 0, first).with_precision(self.precision);
            let of_part = self.tell(model.critic(), real, made, &mut context);
            sum += f64::from(of_part.into_scalar::<f32>());
        }
        let loss = sum / rows.len().max(1) as f64;
        if loss.is_finite() { Ok((loss, kept)) } else { Err(TaskError::NonFinite { found: loss, row: 0 }) }
    }

    /// Sum of the critic's losses, `[1]`.
    fn tell(&self, critic: &Critic, real: Tensor<4>, made: Tensor<4>, context: &mut Context) -> Tensor<1> {
        // Each goes by itself: batch norm must not see both.
        let (real, made) = (critic.forward(real, context), critic.forward(made, context));
        match self.loss {
            GanLoss::NonSaturating => -(log_sigmoid(real) + log_sigmoid(-made)).sum(),
            GanLoss::Wasserstein { .. } => (made - real).sum(),
        }
    }

    fn critic_turn(&self, model: &Gan, real: &Tensor<4>, context: &mut Context) -> Tensor<1> {
        let rows = real.dims()[0];
        let noise = model.noise("noise", rows, context, &real.device());
        let made = model.generator().valid().forward(noise, context);
        let loss = self.tell(model.critic(), real.clone(), made.clone(), context);
        match self.loss {
            GanLoss::Wasserstein { penalty } if penalty > 0.0 => {
                loss + gradient_penalty(model.critic(), real.clone(), made, context).sum() * penalty
            }
            _ => loss,
        }
    }

    fn generator_turn(&self, model: &Gan, real: &Tensor<4>, context: &mut Context) -> Tensor<1> {
        let name = match self.loss {
            // The critic has just learned from these very images.
            GanLoss::NonSaturating => "noise",
            GanLoss::Wasserstein { .. } => "noise of the generator",
        };
        let noise = model.noise(name, real.dims()[0], context, &real.device());
        let made = model.generator().forward(noise, context);
        let told = model.critic().forward(made, context);
        match self.loss {
            GanLoss::NonSaturating => -log_sigmoid(told).sum(),
            GanLoss::Wasserstein { .. } => -told.sum(),
        }
    }
}

impl Task for ImageGenerationTask {
    type Model = Gan;
    type Batch = RealBatch;

    fn rows(&self, split: SplitName) -> usize {
        self.data.rows[split as usize].len()
    }

    fn batch(&self, rows: &[u32]) -> RealBatch {
        self.parts(rows, rows.len().max(1), &|_| Context::evaluation()).swap_remove(0)
    }

    fn parts(&self, rows: &[u32], most: usize, pass: &dyn Fn(usize) -> Context) -> Vec<RealBatch> {
        let parts = self.data.parts(rows, most, &pass(0), &self.device);
        parts.into_iter().map(|real| RealBatch { real }).collect()
    }

    fn turns(&self) -> usize {
        2
    }

    fn turn_of(&self, name: &str) -> usize {
        if name.starts_with("critic.") { CRITIC } else { GENERATOR }
    }

    fn every(&self, turn: usize) -> usize {
        if turn == GENERATOR { self.critic_steps } else { 1 }
    }

    fn loss_of_turn(&self, turn: usize, model: &Gan, batch: &RealBatch, context: &mut Context) -> Tensor<1> {
        if turn == CRITIC {
            self.critic_turn(model, &batch.real, context)
        } else {
            self.generator_turn(model, &batch.real, context)
        }
    }

    fn weight(&self, batch: &RealBatch) -> f64 {
        batch.real.dims()[0] as f64
    }

    fn loss(&self, model: &Gan, batch: &RealBatch, context: &mut Context) -> Tensor<1> {
        self.critic_turn(model, &batch.real, context)
    }

    fn evaluate(&self, model: &Gan, split: SplitName) -> Result<Evaluation, TaskError> {
        let samples = if self.judging.is_some() { self.samples.min(self.rows(split)) } else { 0 };
        let (loss, made) = self.critic_loss(model, split, samples)?;
        let mut evaluation = Evaluation { loss, metrics: Default::default() };
        if let Some(judging) = &self.judging {
            let seen = judging.judge.see(&pictures(&self.data.images.preparation, &made))?;
            evaluation.metrics = judged(&judging.judge, &seen, self.real(judging, split)?, false);
        }
        Ok(evaluation)
    }

    fn picture(&self, model: &Gan) -> Result<Option<OwnedPicture>, TaskError> {
        let (count, columns) = GRID;
        Ok(Some(grid(&self.maker(model).of_seed(self.seed, count)?, columns)))
    }

    /// Statistics of the averaged generator's own images (Brock et al. 2019, "Large Scale GAN Training", §4.1).
    fn settled(&self, averaged: Gan) -> Gan {
        let device = self.device.clone().inner();
        (0..SETTLING.0).fold(averaged, |model, pass| {
            let mut context = Context::training(self.seed, pass, 0).with_precision(self.precision);
            let noise = model.noise("settling", SETTLING.1, &context, &device);
            let _ = model.generator().valid().forward(noise, &mut context);
            context.apply_updates(model)
        })
    }

    fn learning_rate_scale(&self, name: &str, _: &[&str]) -> f64 {
        if self.turn_of(name) == CRITIC { self.critic_rate } else { 1.0 }
    }

    fn direction(&self, metric: &str) -> Direction {
        self.info.direction(metric)
    }
}

/// That a judge looks at images such as those that are made.
///
/// # Errors
/// One that was trained on others.
pub fn fits(judge: &Judge, preparation: &Preparation) -> Result<(), TaskError> {
    let (theirs, ours) = (judge.shape(), preparation.shape());
    if theirs == ours {
        return Ok(());
    }
    let words = |[height, width, channels]: [usize; 3]| {
        format!("{height} × {width} pixels {}", if channels == 1 { "in grey" } else { "in colour" })
    };
    let message = format!(
        "`evaluate.features`: the classifier looks at images of {}, and those that are made have {}",
        words(theirs),
        words(ours)
    );
    let help =
        "name a classifier of images of the same size, or set `image.size` and `image.channels` to its own";
    Err(TaskError::Bad(Problem::new(message).help(help).into()))
}

/// That there are enough images to measure how the judge's features vary together.
///
/// # Errors
/// No more images than features.
pub fn enough(judge: &Judge, images: usize, whose: &str) -> Result<(), TaskError> {
    if images > judge.width() {
        return Ok(());
    }
    let message = format!(
        "{whose} {images} images, and FID compares how {} features vary: that needs more images than features",
        judge.width()
    );
    let help = "give more images, name a classifier with fewer features, or leave out `evaluate.features`";
    Err(TaskError::Bad(Problem::new(message).help(help).into()))
}

/// What a judge sees in real images, at the size and in the colours of those that are made.
///
/// # Errors
/// As [`Judge::see`].
pub fn real(judge: &Judge, images: &Images, rows: &[u32]) -> Result<Seen, TaskError> {
    let preparation = &images.preparation;
    let mut values = vec![0.0; preparation.shape().iter().product()];
    let plain: Vec<OwnedPicture> = rows
        .iter()
        .map(|row| {
            preparation.apply(images.pictures.get(*row as usize), &mut values);
            preparation.picture(&values)
        })
        .collect();
    judge.see(&pictures(preparation, &plain))
}

fn pictures(preparation: &Preparation, of: &[OwnedPicture]) -> Pictures {
    Pictures::of(preparation.channels(), of)
}

/// Metrics of images that a judge has seen, against real ones; with the share of `every` label.
#[must_use]
pub fn judged(
    judge: &Judge,
    seen: &Seen,
    (real, moments): (&Features, &Moments),
    every: bool,
) -> std::collections::BTreeMap<String, f64> {
    let mut counts = vec![0_usize; judge.labels().len()];
    seen.classes.iter().for_each(|class| counts[*class as usize] += 1);
    let share = |count: &usize| *count as f64 / seen.classes.len().max(1) as f64;
    let mut metrics = std::collections::BTreeMap::from([
        ("fid".to_owned(), fid(&Moments::of(&seen.features), moments)),
        ("kid".to_owned(), kid(&seen.features, real)),
        ("class_share_min".to_owned(), counts.iter().map(share).fold(f64::INFINITY, f64::min)),
        ("class_share_max".to_owned(), counts.iter().map(share).fold(0.0, f64::max)),
    ]);
    if every && counts.len() <= MOST_SHARES {
        let named = judge.labels().iter().zip(&counts);
        metrics.extend(named.map(|(name, count)| (format!("class_share.{name}"), share(count))));
    }
    metrics
}
