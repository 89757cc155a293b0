//! Generative adversarial networks (Goodfellow et al. 2014): a generator makes images from noise, and a critic tells them
//! from real ones. [`GanKind::Dcgan`] are plain stacks of convolutions (Radford et al. 2016), [`GanKind::ResNet`] residual
//! blocks (Gulrajani et al. 2017, appendix F). Parameters of a [`Gan`] are `generator.…` and `critic.…`.

mod dcgan;
pub(crate) mod layers;
mod penalty;
mod residual;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use jishi_recipe::{Model, Problem, Problems};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::reference::sizes;
use dcgan::{DcganCritic, DcganGenerator};
pub use penalty::gradient_penalty;
use residual::{ResidualCritic, ResidualGenerator};

/// What a generator and its critic are made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GanKind {
    /// Convolutions with stride 2, batch norm on both sides.
    #[default]
    Dcgan,
    /// Residual blocks; the critic has no norm, as the penalty of its gradient needs.
    ResNet,
}

/// Sizes of a generator and its critic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GanConfig {
    /// What they are made of.
    pub kind: GanKind,
    /// Numbers that an image is made from.
    pub latent: usize,
    /// Channels of the stage with the largest images.
    pub width: usize,
    /// Height and width of an image, in pixels: 4 to 8 times a power of 2.
    pub side: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Whether the critic's weights are divided by their largest singular value (Miyato et al. 2018). Then a `Dcgan`
    /// critic has no batch norm.
    pub spectral_norm: bool,
}

/// Sides of the smallest grid.
const SMALLEST: std::ops::Range<usize> = 4..8;

impl GanConfig {
    /// That these are the sizes of a model.
    ///
    /// # Errors
    /// Names all sizes that make no model.
    pub fn check(&self) -> Result<(), Problems> {
        let (start, stages) = self.stages();
        sizes(&[
            (self.latent > 0, "`model.latent` is 0".into(), "100 or 128 is usual"),
            (self.width > 0, "`model.width` is 0".into(), "64 is usual"),
            (self.channels > 0, "images have no channels".into(), "1 for grey, 3 for colours"),
            (
                SMALLEST.contains(&start) && stages > 0,
                format!("images of {} pixels a side", self.side),
                "choose 4, 5, 6 or 7 times a power of 2: 28, 32, 48, 64",
            ),
        ])
    }

    /// The sizes of a recipe's model of images of a shape, `[height, width, channels]`.
    ///
    /// # Errors
    /// Names all sizes that make no model; images that are not square; a family that makes no images.
    pub fn from_recipe(model: &Model, shape: [usize; 3]) -> Result<Self, Problems> {
        let [height, width, channels] = shape;
        if height != width {
            let message = format!("images of {height} × {width} pixels: those that are made are square");
            let help = format!("for example: size = {} in [image]", height.max(width));
            return Err(Problem::new(message).help(help).into());
        }
        let (kind, latent, width, spectral_norm) = match model {
            Model::Dcgan(m) => (GanKind::Dcgan, m.latent, m.width, m.spectral_norm),
            Model::WganGp(m) => (GanKind::ResNet, m.latent, m.width, m.spectral_norm),
            other => {
                let message = format!("`model.family` is \"{}\", which makes no images", other.family());
                return Err(Problem::new(message).help("dcgan and wgan-gp do").into());
            }
        };
        let config = Self { kind, latent, width, side: height, channels, spectral_norm };
        config.check().map(|()| config)
    }

    /// The side of the smallest grid, and how often it is doubled.
    #[must_use]
    pub fn stages(&self) -> (usize, usize) {
        let (mut side, mut stages) = (self.side, 0);
        while side >= SMALLEST.end && side.is_multiple_of(2) {
            (side, stages) = (side / 2, stages + 1);
        }
        (side, stages)
    }
}

/// A generator and its critic.
#[derive(Module, Debug)]
pub struct Gan {
    generator: Generator,
    critic: Critic,
    #[module(skip)]
    config: GanConfig,
}

/// Makes images from noise.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Generator {
    /// A stack of transposed convolutions.
    Dcgan(DcganGenerator),
    /// Residual blocks.
    ResNet(ResidualGenerator),
}

/// Tells how real images are.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Critic {
    /// A stack of convolutions.
    Dcgan(DcganCritic),
    /// Residual blocks.
    ResNet(ResidualCritic),
}

impl Gan {
    /// A pair with initial weights from `seed`.
    #[must_use]
    pub fn init(config: &GanConfig, seed: u64, device: &Device) -> Self {
        let (start, stages) = config.stages();
        let generator = Generator::init(config, seed, device);
        let critic = match config.kind {
            GanKind::Dcgan => Critic::Dcgan(DcganCritic::init(config, start, stages, seed, device)),
            GanKind::ResNet => Critic::ResNet(ResidualCritic::init(config, seed, device)),
        };
        Self { generator, critic, config: config.clone() }
    }

    /// Its sizes.
    #[must_use]
    pub fn config(&self) -> &GanConfig {
        &self.config
    }

    /// The part that makes images.
    #[must_use]
    pub fn generator(&self) -> &Generator {
        &self.generator
    }

    /// The part that tells them from real ones.
    #[must_use]
    pub fn critic(&self) -> &Critic {
        &self.critic
    }

    /// Standard normal noise of this pass, `[rows, latent]`: the same whether a batch comes whole or in parts. `name` tells
    /// several uses in one step apart.
    #[must_use]
    pub fn noise(&self, name: &str, rows: usize, context: &Context, device: &Device) -> Tensor<2> {
        let latent = self.config.latent;
        let mut values = Vec::with_capacity(rows * latent);
        for row in 0..rows {
            let mut rng = context.stream(name, row);
            values.extend((0..latent).map(|_| rng.normal()));
        }
        Tensor::from_data(TensorData::new(values, [rows, latent]), device)
    }
}

impl Generator {
    /// A generator with initial weights from `seed`: that of [`Gan::init`].
    #[must_use]
    pub fn init(config: &GanConfig, seed: u64, device: &Device) -> Self {
        let (start, stages) = config.stages();
        match config.kind {
            GanKind::Dcgan => Self::Dcgan(DcganGenerator::init(config, start, stages, seed, device)),
            GanKind::ResNet => Self::ResNet(ResidualGenerator::init(config, start, stages, seed, device)),
        }
    }

    /// Images of noise, with values from −1 to 1.
    ///
    /// # Shapes
    /// - input: `[batch, latent]`
    /// - output: `[batch, side, side, channels]`
    pub fn forward(&self, noise: Tensor<2>, context: &mut Context) -> Tensor<4> {
        match self {
            Self::Dcgan(model) => model.forward(noise, context),
            Self::ResNet(model) => model.forward(noise, context),
        }
    }
}

impl Critic {
    /// How real images are: a logit, or a number that has no bounds.
    ///
    /// # Shapes
    /// - input: `[batch, side, side, channels]`
    /// - output: `[batch]`
    pub fn forward(&self, x: Tensor<4>, context: &mut Context) -> Tensor<1> {
        match self {
            Self::Dcgan(model) => model.forward(x, context),
            Self::ResNet(model) => model.forward(x, context),
        }
    }
}
