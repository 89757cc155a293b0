//! Affine maps of pictures, with bilinear interpolation and black beyond the edge.

/// A map from places of a result to places of a picture: `[x, y]` → `[a·x + b·y + c, d·x + e·y + f]`, in pixels from the
/// middle of the picture to the middles of pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Map(pub [f64; 6]);

impl Map {
    pub(super) const NONE: Self = Self([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);

    /// Mirrors along an axis: 0 up and down, 1 left and right.
    pub(super) fn flip(axis: usize) -> Self {
        let sign = |other: usize| if axis == other { -1.0 } else { 1.0 };
        Self([sign(1), 0.0, 0.0, 0.0, sign(0), 0.0])
    }

    /// torchvision's `affine`: turned by `angle` degrees (clockwise as seen), sheared by degrees along x and y, scaled,
    /// moved by `[x, y]` pixels. The map goes the other way, from the result to the picture.
    pub(super) fn affine(angle: f64, shift: [f64; 2], scale: f64, shear: [f64; 2]) -> Self {
        Self::affine_around([0.0; 2], angle, shift, scale, shear)
    }

    /// [`Self::affine`] around `[x, y]`, in pixels from the middle of the picture.
    pub(super) fn affine_around(
        [cx, cy]: [f64; 2],
        angle: f64,
        [tx, ty]: [f64; 2],
        scale: f64,
        shear: [f64; 2],
    ) -> Self {
        let turn = angle.to_radians();
        let [sx, sy] = shear.map(f64::to_radians);
        // Turn · shear along y · shear along x; its inverse has the determinant 1 / scale².
        let a = (turn - sy).cos() / sy.cos();
        let b = -(turn - sy).cos() * sx.tan() / sy.cos() - turn.sin();
        let c = (turn - sy).sin() / sy.cos();
        let d = -(turn - sy).sin() * sx.tan() / sy.cos() + turn.cos();
        let [a, b, c, d] = [d, -b, -c, a].map(|x| x / scale.max(1e-3));
        let (x, y) = (-cx - tx, -cy - ty);
        Self([a, b, a * x + b * y + cx, c, d, c * x + d * y + cy])
    }

    /// First this map, then another.
    pub(super) fn then(self, next: Self) -> Self {
        let ([a, b, c, d, e, f], [p, q, r, s, t, u]) = (self.0, next.0);
        Self([
            p * a + q * d,
            p * b + q * e,
            p * c + q * f + r,
            s * a + t * d,
            s * b + t * e,
            s * c + t * f + u,
        ])
    }
}

/// Writes `out`, `[height, width, C]`, from a picture of the same size whose rows are `stride` values apart; each channel
/// times a factor and plus a summand.
pub(super) fn sample<const C: usize, T: Copy + Into<f32>>(
    pixels: &[T],
    stride: usize,
    [height, width]: [usize; 2],
    map: Map,
    lines: [[f32; 2]; C],
    out: &mut [f32],
) {
    const FAR: f32 = 30_000.0;
    // A cut goes towards zero, and what is below it by less than a whole needs one less.
    let below = |x: f32| x as i32 - i32::from(x < (x as i32) as f32);
    let [a, b, c, d, e, f] = map.0;
    let (half_h, half_w) = (height as f64 / 2.0 - 0.5, width as f64 / 2.0 - 0.5);
    let (step_x, step_y) = (a as f32, d as f32);
    for (y, row) in out.chunks_exact_mut(width * C).enumerate() {
        let y = y as f64 - half_h;
        let from_x = (b * y + c - a * half_w + half_w) as f32;
        let from_y = (e * y + f - d * half_w + half_h) as f32;
        for (x, out) in row.as_chunks_mut::<C>().0.iter_mut().enumerate() {
            let sx = (from_x + x as f32 * step_x).clamp(-FAR, FAR);
            let sy = (from_y + x as f32 * step_y).clamp(-FAR, FAR);
            let (left, top) = (below(sx), below(sy));
            let (right_share, low_share) = (sx - left as f32, sy - top as f32);
            let shares = [
                (1.0 - low_share) * (1.0 - right_share),
                (1.0 - low_share) * right_share,
                low_share * (1.0 - right_share),
                low_share * right_share,
            ];
            let inside_x = (left as u32) < (width as u32 - 1);
            let inside_y = (top as u32) < (height as u32 - 1);
            if inside_x && inside_y {
                let at = top as usize * stride + left as usize * C;
                let (upper, lower) = (&pixels[at..at + 2 * C], &pixels[at + stride..at + stride + 2 * C]);
                for c in 0..C {
                    let value = shares[0] * upper[c].into()
                        + shares[1] * upper[C + c].into()
                        + shares[2] * lower[c].into()
                        + shares[3] * lower[C + c].into();
                    out[c] = value * lines[c][0] + lines[c][1];
                }
                continue;
            }
            let mut sum = [0.0; C];
            for (i, share) in shares.into_iter().enumerate() {
                let (x, y) = (left.saturating_add(i as i32 % 2), top.saturating_add(i as i32 / 2));
                if (0..width as i32).contains(&x) && (0..height as i32).contains(&y) {
                    let at = y as usize * stride + x as usize * C;
                    for c in 0..C {
                        sum[c] += share * pixels[at + c].into();
                    }
                }
            }
            for c in 0..C {
                out[c] = sum[c] * lines[c][0] + lines[c][1];
            }
        }
    }
}
