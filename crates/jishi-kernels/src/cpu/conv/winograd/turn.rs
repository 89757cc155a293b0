//! Tiles and filters to their frequencies and back, where they are in memory.

use super::transforms::{
    each, filter_frequencies, filter_gradient, gradient_frequencies, pixel_frequencies, results,
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
                    let tap = |tap: usize| input * 9 + if turned { 8 - tap } else { tap };
                    let found = filter_frequencies(each!(3, Y => each!(3, X => {
                        V::load(taps.as_ptr().add(tap(Y * 3 + X) * GROUP + lane).cast())
                    })));
                    let start = start + input * V::PANEL + lane;
                    each!(6, Y => each!(6, X => {
                        found[Y][X].store(out.slice(start + (Y * 6 + X) * step, V::LANES).as_mut_ptr());
                    }));
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
                let found = pixel_frequencies(each!(6, Y => each!(6, X => {
                    load::<V>(x, pixels[Y * 6 + X], tiles.channels, channel)
                })));
                each!(6, X => each!(6, Y => {
                    found[X][Y].store(out.slice(place(channel, Y * 6 + X), V::LANES).as_mut_ptr());
                }));
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
                let found = gradient_frequencies(each!(4, Y => each!(4, X => {
                    load::<V>(dy, pixels[Y * 4 + X], channels, channel)
                })));
                each!(6, Y => each!(6, X => {
                    found[Y][X].store(out.slice(place(channel, Y * 6 + X), V::LANES).as_mut_ptr());
                }));
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
                let found = results(each!(6, Y => each!(6, X => {
                    V::load(m.as_ptr().add((Y * 6 + X) * step + lane))
                })));
                let bias = match bias {
                    Some(bias) => V::load(bias[channel..][..V::LANES].as_ptr()),
                    None => V::zero(),
                };
                each!(4, Y => each!(4, X => {
                    let pixel = pixels[Y * 4 + X];
                    if pixel != OUTSIDE {
                        let out = y.slice(pixel * channels + channel, V::LANES);
                        found[Y][X].add(bias).store(out.as_mut_ptr());
                    }
                }));
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
                    let found = filter_gradient(each!(6, Y => each!(6, X => {
                        V::load(sums.as_ptr().add((Y * 6 + X) * step + input * V::PANEL + lane))
                    })));
                    each!(3, Y => each!(3, X => {
                        let row = input * 9 + Y * 3 + X;
                        found[Y][X].store(values.as_mut_ptr().add(row * V::PANEL + lane));
                    }));
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

/// Channels from `channel` on of a pixel.
///
/// # Safety
/// The vector's instructions; the pixel is inside `data` or [`OUTSIDE`], and so are its channels.
#[inline(always)]
unsafe fn load<V: Vector>(data: &[f32], pixel: usize, channels: usize, channel: usize) -> V {
    let inside = pixel != OUTSIDE;
    let at = if inside { pixel * channels + channel } else { 0 };
    // SAFETY: by this function's contract; nothing is read for pixels outside.
    unsafe { V::load_if(inside, data.as_ptr().wrapping_add(at)) }
}
