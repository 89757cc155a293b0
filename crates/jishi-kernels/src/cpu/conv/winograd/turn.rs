//! Tiles and filters to their frequencies and back, where they are in memory.

use super::transforms::{
    filter_frequencies, filter_gradient, gradient_frequencies, pixel_frequencies, results,
};
use super::vector::{Vector, kernels};
use super::{F, GROUP, OUTSIDE, Tiles, apart};
use crate::threads::SharedMut;

/// Filters as PyTorch has them, read as `[tap][input][output]`.
pub struct Filters<'a> {
    pub weight: &'a [f32],
    pub inputs: usize,
    pub outputs: usize,
    /// Whether inputs and outputs are swapped in memory and taps reversed.
    pub turned: bool,
}

impl Filters<'_> {
    /// Frequencies of a panel's filters from `output` on: `out[frequency][input][PANEL]`, 16 inputs of them.
    ///
    /// # Safety
    /// The vector's instructions; the places in `out` are this call's own.
    pub unsafe fn transform<V: Vector>(
        &self,
        output: usize,
        input: usize,
        out: &SharedMut<'_, f32>,
        start: usize,
    ) {
        // Taps of 16 inputs, 16 outputs beside each other: `[input][tap][output]`.
        let mut taps = [0u32; GROUP * 9 * GROUP];
        for part in (0..V::PANEL).step_by(GROUP) {
            let first = output + part;
            // SAFETY: by this function's contract.
            unsafe {
                if self.turned {
                    for (i, taps) in taps.chunks_exact_mut(9 * GROUP).enumerate() {
                        let at = ((input + i) * self.outputs + first) * 9;
                        V::gather(self.weight, &std::array::from_fn(|lane| at + lane * 9), 9, taps);
                    }
                } else {
                    let place = |lane| ((first + lane) * self.inputs + input) * 9;
                    V::gather(self.weight, &std::array::from_fn(place), GROUP * 9, &mut taps);
                }
                let (start, step) = (start + input * V::PANEL + part, apart(self.inputs * V::PANEL));
                turn_filters::<V>(&taps, self.turned, out, start, step);
            }
        }
    }
}

kernels! {
    /// Frequencies of 16 × 16 filters `taps[input][tap][output]`: frequency `f` of an input goes to
    /// `out[start + input · PANEL + f · step..]`.
    ///
    /// # Safety
    /// The vector's instructions; the places in `out` are this call's own.
    unsafe fn turn_filters<V>(
        taps: &[u32; GROUP * 9 * GROUP],
        turned: bool,
        out: &SharedMut<'_, f32>,
        start: usize,
        step: usize,
    ) {
        for input in 0..GROUP {
            for lane in (0..GROUP).step_by(V::LANES) {
                // SAFETY: inside of `taps`; places by this function's contract.
                unsafe {
                    let mut values = [V::zero(); 9];
                    for (tap, value) in values.iter_mut().enumerate() {
                        let tap = input * 9 + if turned { 8 - tap } else { tap };
                        *value = V::load(taps.as_ptr().add(tap * GROUP + lane).cast());
                    }
                    let start = start + input * V::PANEL + lane;
                    for (f, value) in filter_frequencies(&values).iter().enumerate() {
                        value.store(out.slice(start + f * step, V::LANES).as_mut_ptr());
                    }
                }
            }
        }
    }

    /// Frequencies of one tile's pixels: those from channel `c` on and of frequency `f` go to `out[place(c, f)..]`.
    ///
    /// # Safety
    /// The vector's instructions; the places are this call's own.
    pub unsafe fn turn_pixels<V>(
        tiles: &Tiles,
        tile: usize,
        x: &[f32],
        out: &SharedMut<'_, f32>,
        place: impl Fn(usize, usize) -> usize,
    ) {
        let pixels = tiles.read(tile);
        for channel in (0..tiles.channels).step_by(V::LANES) {
            // SAFETY: pixels are inside the images; places by this function's contract.
            unsafe {
                let mut d = load::<V, F>(x, &pixels, tiles.channels, channel);
                pixel_frequencies(&mut d);
                for (f, value) in d.iter().enumerate() {
                    value.store(out.slice(place(channel, f), V::LANES).as_mut_ptr());
                }
            }
        }
    }

    /// Frequencies of one tile's gradients.
    ///
    /// # Safety
    /// As [`turn_pixels`].
    pub unsafe fn turn_gradients<V>(
        tiles: &Tiles,
        tile: usize,
        dy: &[f32],
        channels: usize,
        out: &SharedMut<'_, f32>,
        place: impl Fn(usize, usize) -> usize,
    ) {
        let pixels = tiles.written(tile);
        for channel in (0..channels).step_by(V::LANES) {
            // SAFETY: pixels are inside the result; places by this function's contract.
            unsafe {
                let found = gradient_frequencies(&load::<V, 16>(dy, &pixels, channels, channel));
                for (f, value) in found.iter().enumerate() {
                    value.store(out.slice(place(channel, f), V::LANES).as_mut_ptr());
                }
            }
        }
    }

    /// Results of one tile and panel from their frequencies, `step` values apart in `m`.
    ///
    /// # Safety
    /// The vector's instructions; the pixels' channels from `channel` on are this call's own.
    pub unsafe fn finish_tile<V>(
        m: &[f32],
        step: usize,
        bias: Option<&[f32]>,
        channel: usize,
        pixels: &[usize; 16],
        channels: usize,
        y: &SharedMut<'_, f32>,
    ) {
        assert!(m.len() >= (F - 1) * step + V::PANEL, "frequencies of a tile");
        for lane in (0..V::PANEL).step_by(V::LANES) {
            let channel = channel + lane;
            // SAFETY: inside of `m`; places by this function's contract.
            unsafe {
                let mut values = [V::zero(); F];
                for (f, value) in values.iter_mut().enumerate() {
                    *value = V::load(m.as_ptr().add(f * step + lane));
                }
                let bias = match bias {
                    Some(bias) => V::load(bias[channel..][..V::LANES].as_ptr()),
                    None => V::zero(),
                };
                for (value, pixel) in results(&values).iter().zip(pixels) {
                    if *pixel != OUTSIDE {
                        let out = y.slice(pixel * channels + channel, V::LANES);
                        value.add(bias).store(out.as_mut_ptr());
                    }
                }
            }
        }
    }

    /// Filters of 16 inputs and a panel of outputs from their frequencies `sums[36][16 · PANEL, padded]`.
    ///
    /// # Safety
    /// The vector's instructions; this group and panel are this call's own.
    pub unsafe fn finish_filters<V>(
        sums: &[f32],
        group: usize,
        panel: usize,
        inputs: usize,
        out: &SharedMut<'_, f32>,
    ) {
        let step = apart(GROUP * V::PANEL);
        assert_eq!(sums.len(), F * step, "frequencies of filters");
        let mut values = [0.0f32; GROUP * 9 * 32]; // [input][tap][output]
        assert!(V::PANEL <= 32, "a wider panel");
        for input in 0..GROUP {
            for lane in (0..V::PANEL).step_by(V::LANES) {
                // SAFETY: inside of `sums` and `values`.
                unsafe {
                    let mut m = [V::zero(); F];
                    for (f, value) in m.iter_mut().enumerate() {
                        *value = V::load(sums.as_ptr().add(f * step + input * V::PANEL + lane));
                    }
                    for (tap, value) in filter_gradient(&m).iter().enumerate() {
                        value.store(values.as_mut_ptr().add((input * 9 + tap) * V::PANEL + lane));
                    }
                }
            }
        }
        for output in 0..V::PANEL {
            // SAFETY: by this function's contract.
            let out =
                unsafe { out.slice(((panel * V::PANEL + output) * inputs + group * GROUP) * 9, GROUP * 9) };
            for (i, value) in out.iter_mut().enumerate() {
                *value = values[i * V::PANEL + output];
            }
        }
    }
}

/// Channels from `channel` on of some pixels.
///
/// # Safety
/// The vector's instructions; pixels are inside `data` or [`OUTSIDE`], and so are their channels.
#[inline(always)]
unsafe fn load<V: Vector, const N: usize>(
    data: &[f32],
    pixels: &[usize; N],
    channels: usize,
    channel: usize,
) -> [V; N] {
    // SAFETY: by this function's contract; nothing is read for pixels outside.
    unsafe {
        let mut out = [V::zero(); N];
        for (value, pixel) in out.iter_mut().zip(pixels) {
            let inside = *pixel != OUTSIDE;
            let at = if inside { pixel * channels + channel } else { 0 };
            *value = V::load_if(inside, data.as_ptr().wrapping_add(at));
        }
        out
    }
}
