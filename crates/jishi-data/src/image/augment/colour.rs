//! Changes of colours, where white is 1: `[height · width, channels]`. Of grey pictures hue and saturation do nothing.

use jishi_recipe::ColorJitter;

use super::draws::Draws;

/// Luma of a colour, with torchvision's weights; grey is what it is.
#[inline]
pub(super) fn gray<const C: usize>(pixel: &[f32; C]) -> f32 {
    match pixel.as_slice() {
        [r, g, b] => 0.2989 * r + 0.587 * g + 0.114 * b,
        values => values[0],
    }
}

/// `share` of the picture and the rest of `other`, between black and white.
#[inline]
fn blend<const C: usize>(pixel: &mut [f32; C], other: f32, share: f32) {
    for value in pixel {
        *value = (share * *value + (1.0 - share) * other).clamp(0.0, 1.0);
    }
}

/// All four changes, in random order.
pub(super) fn jitter<const C: usize>(colours: &mut [[f32; C]], jitter: &ColorJitter, draws: &mut Draws) {
    let mut order = [0, 1, 2, 3];
    for i in (1..4).rev() {
        order.swap(i, draws.below(i + 1));
    }
    let mut factor = |range: f64| draws.between((1.0 - range).max(0.0), 1.0 + range) as f32;
    let factors = [factor(jitter.brightness), factor(jitter.contrast), factor(jitter.saturation)];
    let turn = draws.between(-jitter.hue, jitter.hue) as f32;
    for change in order {
        match change {
            0 if jitter.brightness > 0.0 => brightness(colours, factors[0]),
            1 if jitter.contrast > 0.0 => contrast(colours, factors[1]),
            2 if jitter.saturation > 0.0 => saturation(colours, factors[2]),
            3 if jitter.hue > 0.0 => hue(colours, turn),
            _ => {}
        }
    }
}

pub(super) fn brightness<const C: usize>(colours: &mut [[f32; C]], factor: f32) {
    colours.iter_mut().for_each(|pixel| blend(pixel, 0.0, factor));
}

pub(super) fn contrast<const C: usize>(colours: &mut [[f32; C]], factor: f32) {
    let sum: f64 = colours.iter().map(|pixel| f64::from(gray(pixel))).sum();
    let mean = (sum / colours.len().max(1) as f64) as f32;
    colours.iter_mut().for_each(|pixel| blend(pixel, mean, factor));
}

pub(super) fn saturation<const C: usize>(colours: &mut [[f32; C]], factor: f32) {
    for pixel in colours {
        let gray = gray(pixel);
        blend(pixel, gray, factor);
    }
}

pub(super) fn grayscale<const C: usize>(colours: &mut [[f32; C]]) {
    colours.iter_mut().for_each(|pixel| *pixel = [gray(pixel); C]);
}

/// Turns the hue by a share of the colour circle (Smith 1978: HSV).
pub(super) fn hue<const C: usize>(colours: &mut [[f32; C]], turn: f32) {
    for pixel in colours {
        let Ok([r, g, b]) = <&mut [f32; 3]>::try_from(pixel.as_mut_slice()) else { return };
        let (most, least) = (r.max(*g).max(*b), r.min(*g).min(*b));
        let range = most - least;
        if range == 0.0 {
            continue;
        }
        let sixth = match most {
            _ if most == *r => (*g - *b) / range,
            _ if most == *g => 2.0 + (*b - *r) / range,
            _ => 4.0 + (*r - *g) / range,
        };
        let hue = (sixth / 6.0 + turn).rem_euclid(1.0) * 6.0;
        // Each colour is highest in a third of the circle and lowest in the third across.
        let value = |third: f32| {
            let away = (hue - third).rem_euclid(6.0);
            let away = away.min(6.0 - away);
            least + range * (2.0 - away).clamp(0.0, 1.0)
        };
        [*r, *g, *b] = [value(0.0), value(2.0), value(4.0)];
    }
}

/// Blurs by a normal curve of the standard deviation `sigma` (pixels), which is cut at three of them; the picture is
/// mirrored at its edge.
pub(super) fn blur<const C: usize>(colours: &mut [[f32; C]], [height, width]: [usize; 2], sigma: f64) {
    if sigma <= 0.0 {
        return;
    }
    let radius = (3.0 * sigma).ceil() as usize;
    let kernel = |side: usize| {
        let radius = radius.min(side.saturating_sub(1)) as isize;
        let weights: Vec<f64> =
            (-radius..=radius).map(|x| (-0.5 * (x as f64 / sigma).powi(2)).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let weights: Vec<f32> = weights.into_iter().map(|w| (w / sum) as f32).collect();
        (radius, weights)
    };
    let mirrored = |at: isize, side: usize| {
        let last = side as isize - 1;
        (last - (last - at.abs()).abs()) as usize
    };
    let mut line: Vec<[f32; C]> = Vec::with_capacity(height.max(width));
    let mut along = |start: usize, step: usize, side: usize, (radius, weights): &(isize, Vec<f32>)| {
        line.clear();
        line.extend((0..side).map(|i| colours[start + i * step]));
        for i in 0..side {
            let mut sum = [0.0; C];
            for (weight, offset) in weights.iter().zip(-radius..=*radius) {
                let pixel = line[mirrored(i as isize + offset, side)];
                (0..C).for_each(|c| sum[c] += weight * pixel[c]);
            }
            colours[start + i * step] = sum;
        }
    };
    let (rows, columns) = (kernel(width), kernel(height));
    (0..height).for_each(|y| along(y * width, 1, width, &rows));
    (0..width).for_each(|x| along(x, width, height, &columns));
}

/// Sharpened or, below 1, softened: a blend with the picture smoothed over 3 × 3 pixels, its edge left as it is.
pub(super) fn sharpness<const C: usize>(colours: &mut [[f32; C]], [height, width]: [usize; 2], factor: f32) {
    if height <= 2 || width <= 2 {
        return;
    }
    let before = colours.to_vec();
    for y in 1..height - 1 {
        for x in 1..width - 1 {
            let at = y * width + x;
            let mut sum = [0.0; C];
            for row in [at - width, at, at + width] {
                for pixel in &before[row - 1..=row + 1] {
                    (0..C).for_each(|c| sum[c] += pixel[c]);
                }
            }
            for c in 0..C {
                // The middle counts five times.
                let smooth = (sum[c] + 4.0 * before[at][c]) / 13.0;
                colours[at][c] = (factor * before[at][c] + (1.0 - factor) * smooth).clamp(0.0, 1.0);
            }
        }
    }
}

/// Keeps the highest `bits` bits of 8.
pub(super) fn posterize<const C: usize>(colours: &mut [[f32; C]], bits: u32) {
    let mask = !(0xffu32 >> bits) & 0xff;
    for value in colours.as_flattened_mut() {
        *value = (byte(*value) as u32 & mask) as f32 / 255.0;
    }
}

/// Inverts what is at least `threshold`.
pub(super) fn solarize<const C: usize>(colours: &mut [[f32; C]], threshold: f32) {
    for value in colours.as_flattened_mut() {
        if *value >= threshold {
            *value = 1.0 - *value;
        }
    }
}

/// Stretches every channel to black and white.
pub(super) fn autocontrast<const C: usize>(colours: &mut [[f32; C]]) {
    for c in 0..C {
        let values = colours.iter().map(|pixel| pixel[c]);
        let (least, most) = values.fold((f32::MAX, f32::MIN), |(a, b), v| (a.min(v), b.max(v)));
        if most > least {
            let scale = 1.0 / (most - least);
            colours.iter_mut().for_each(|pixel| pixel[c] = ((pixel[c] - least) * scale).clamp(0.0, 1.0));
        }
    }
}

/// Spreads the values of every channel evenly over 0 to 255.
pub(super) fn equalize<const C: usize>(colours: &mut [[f32; C]]) {
    for c in 0..C {
        let mut counts = [0usize; 256];
        colours.iter().for_each(|pixel| counts[byte(pixel[c])] += 1);
        let last = counts.iter().rev().find(|n| **n > 0).copied().unwrap_or(0);
        let step = (colours.len() - last) / 255;
        if step == 0 {
            continue;
        }
        let mut before = step / 2;
        let table = counts.map(|n| {
            let value = (before / step).min(255) as f32 / 255.0;
            before += n;
            value
        });
        colours.iter_mut().for_each(|pixel| pixel[c] = table[byte(pixel[c])]);
    }
}

fn byte(value: f32) -> usize {
    (value * 255.0).round().clamp(0.0, 255.0) as usize
}
