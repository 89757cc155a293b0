//! The penalty that keeps the slope of a critic at 1 (Gulrajani et al. 2017, §4).

use burn::tensor::{Tensor, TensorData};
use jishi_recipe::Precision;

use super::Critic;
use crate::context::Context;

/// How far the two points of a difference are from the image, of which pixels are from −1 to 1.
const STEP: f64 = 1e-3;

/// `(‖∇ₓ critic(x̂)‖ − 1)²` of each image, where x̂ is a random place between a real one and one that was made.
///
/// The gradient of the penalty needs second derivatives, which the tape does not have. With v the unit vector along
/// `∇ₓ critic(x̂)`, the slope `v · ∇ₓ critic(x̂)` is that length, and as long as v has length 1, v's own change does not
/// change it (`v · ∂v = 0`). So v may count as a constant, and the slope along it is
/// `(critic(x̂ + εv) − critic(x̂ − εv)) / 2ε` up to ε²: two more passes through the critic, whose gradients are first
/// derivatives. Computed in `f32`, as a small difference.
///
/// # Shapes
/// - real, made: `[batch, height, width, channels]`
/// - output: `[batch]`
#[must_use]
pub fn gradient_penalty(critic: &Critic, real: Tensor<4>, made: Tensor<4>, context: &Context) -> Tensor<1> {
    let plain = |x: Tensor<4>| if x.is_autodiff() { x.inner() } else { x };
    let (real, made) = (plain(real), plain(made));
    let [batch, height, width, channels] = real.dims();
    let shares: Vec<f32> = (0..batch).map(|row| context.stream("between images", row).uniform()).collect();
    let share = Tensor::<4>::from_data(TensorData::new(shares, [batch, 1, 1, 1]), &real.device());
    let between: Tensor<4> = real * share.clone() + made * (share * -1.0 + 1.0);
    // Running statistics are those of the passes that count.
    let mut context = context.clone().with_precision(Precision::F32);
    let place = between.clone().autodiff().require_grad();
    let slopes = critic.forward(place.clone(), &mut context).sum().backward();
    let Some(slope) = place.grad(&slopes) else {
        // A critic that does not look at its input is flat.
        return Tensor::ones([batch], &between.device());
    };
    let flat = slope.reshape([batch, height * width * channels]);
    let length = flat.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
    let along = (flat / length).reshape([batch, height, width, channels]) * STEP;
    let points = Tensor::cat(vec![between.clone() + along.clone(), between - along], 0);
    let values = critic.forward(points, &mut context); // [2 · batch]
    let slope = (values.clone().narrow(0, 0, batch) - values.narrow(0, batch, batch)) / (2.0 * STEP);
    (slope - 1.0).square()
}
