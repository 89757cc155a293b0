//! RandAugment (Cubuk et al. 2020), with torchvision's operations and strengths.

use jishi_recipe::RandAugment;

use super::Work;
use super::affine::Map;
use super::colour;
use super::draws::Draws;

/// The greatest magnitude.
const GREATEST: f64 = 30.0;

/// Does operations that are drawn from 14.
pub(super) fn apply<const C: usize>(work: &mut Work<'_, C>, rand: &RandAugment, draws: &mut Draws) {
    let strength = (rand.magnitude / GREATEST).clamp(0.0, 1.0);
    let [height, width] = work.size;
    // Shears go around the corner at the top left.
    let corner = [-(width as f64) / 2.0, -(height as f64) / 2.0];
    for _ in 0..rand.operations {
        let operation = draws.below(14);
        let sign = if draws.below(2) == 0 { 1.0 } else { -1.0 };
        let signed = |most: f64| sign * most * strength;
        let factor = (1.0 + signed(0.9)) as f32;
        let shear = signed(0.3).atan().to_degrees();
        match operation {
            0 => {}
            1 => work.map(Map::affine_around(corner, 0.0, [0.0; 2], 1.0, [shear, 0.0])),
            2 => work.map(Map::affine_around(corner, 0.0, [0.0; 2], 1.0, [0.0, shear])),
            3 => {
                let shift = signed(150.0 / 331.0 * width as f64).trunc();
                work.map(Map::affine(0.0, [shift, 0.0], 1.0, [0.0; 2]));
            }
            4 => {
                let shift = signed(150.0 / 331.0 * height as f64).trunc();
                work.map(Map::affine(0.0, [0.0, shift], 1.0, [0.0; 2]));
            }
            5 => work.map(Map::affine(signed(30.0), [0.0; 2], 1.0, [0.0; 2])),
            6 => colour::brightness(work.colours(), factor),
            7 => colour::saturation(work.colours(), factor),
            8 => colour::contrast(work.colours(), factor),
            9 => {
                let size = work.size;
                colour::sharpness(work.colours(), size, factor);
            }
            10 => colour::posterize(work.colours(), 8 - (4.0 * strength).round() as u32),
            11 => colour::solarize(work.colours(), (1.0 - strength) as f32),
            12 => colour::autocontrast(work.colours()),
            _ => colour::equalize(work.colours()),
        }
    }
}
