//! Keys of the model families of recipes that make images.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// DCGAN (Radford et al. 2016): a generator and a critic of stacked convolutions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DcganModel {
    /// Numbers that an image is made from.
    pub latent: usize,
    /// Channels of the stage with the largest images; each smaller stage has twice as many.
    pub width: usize,
    /// Divide the critic's weights by their largest singular value (Miyato et al. 2018), in place of batch norm.
    pub spectral_norm: bool,
    /// The critic's learning rate, as a multiple of the generator's (Heusel et al. 2017).
    pub critic_rate: f64,
}

/// WGAN-GP (Gulrajani et al. 2017): a residual generator and critic, with a penalty on the critic's slope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WganGpModel {
    /// Numbers that an image is made from.
    pub latent: usize,
    /// Channels of every block.
    pub width: usize,
    /// Divide the critic's weights by their largest singular value too (Miyato et al. 2018).
    pub spectral_norm: bool,
    /// The critic's learning rate, as a multiple of the generator's (Heusel et al. 2017).
    pub critic_rate: f64,
    /// The generator learns at every so many steps; the critic at each.
    pub critic_steps: usize,
    /// Weight of the penalty: λ of the paper.
    pub penalty: f64,
}

impl Default for DcganModel {
    fn default() -> Self {
        Self { latent: 100, width: 64, spectral_norm: false, critic_rate: 1.0 }
    }
}

impl Default for WganGpModel {
    fn default() -> Self {
        Self {
            latent: 128,
            width: 128,
            spectral_norm: false,
            critic_rate: 1.0,
            critic_steps: 5,
            penalty: 10.0,
        }
    }
}
