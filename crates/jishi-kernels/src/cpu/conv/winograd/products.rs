//! Products of the frequencies, in register tiles.

use super::vector::{Vector, kernels};
use super::{F, GROUP, apart};

/// `m[f][tile] = turned[f][tile] · u[f]` for each frequency.
///
/// # Shapes
/// - `turned`: `[36, inputs / 16, count, 16]`, `u`: `[36, inputs, PANEL]`, `m`: `[36, count, PANEL]`
///
/// # Safety
/// The vector's instructions.
pub unsafe fn multiply<V: Vector>(turned: &[f32], u: &[f32], inputs: usize, count: usize, m: &mut [f32]) {
    let [step_a, step_b, step_c] = [inputs * count, inputs * V::PANEL, count * V::PANEL].map(apart);
    assert!(turned.len() == F * step_a && u.len() == F * step_b && m.len() == F * step_c);
    let rows = count.div_ceil(count.div_ceil(V::ROWS));
    for f in 0..F {
        let (a, b) = (&turned[f * step_a..], &u[f * step_b..]);
        for row in (0..count).step_by(rows) {
            let c = &mut m[f * step_c + row * V::PANEL..];
            let (a, b, c) = (a[row * GROUP..].as_ptr(), b.as_ptr(), c.as_mut_ptr());
            let rows = rows.min(count - row);
            assert!(rows <= V::ROWS, "rows of a tile");
            macro_rules! of {
                ($($n:literal)+) => {
                    match rows {
                        // SAFETY: lengths were checked, instructions are the caller's promise.
                        $($n => unsafe { tile::<V, $n>(inputs / GROUP, count, a, b, c) },)+
                        _ => unreachable!("at most 14 rows"),
                    }
                };
            }
            of!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
        }
    }
}

kernels! {
    /// `R` × `PANEL` sums.
    ///
    /// # Safety
    /// The vector's instructions; `a` points to `groups` blocks `[count, 16]` of which the first `R` rows are read, `b` to
    /// `[16 · groups, PANEL]`, `c` to `[R, PANEL]`.
    unsafe fn tile<V, const R>(groups: usize, count: usize, a: *const f32, b: *const f32, c: *mut f32) {
        // SAFETY: inside of what the caller promises; pointers beyond the last block are not read.
        unsafe {
            let mut sums = [[V::zero(); 2]; R];
            let (mut a, mut b) = (a, b);
            for _ in 0..groups {
                // The next block is too far away for the processor to foresee.
                let next = a.wrapping_add(count * GROUP);
                for r in 0..R {
                    V::prefetch(next.wrapping_add(r * GROUP));
                }
                for i in 0..GROUP {
                    let (b0, b1) = (V::load(b), V::load(b.add(V::LANES)));
                    for (r, sum) in sums.iter_mut().enumerate() {
                        let a = *a.add(r * GROUP + i);
                        sum[0] = sum[0].add_times(a, b0);
                        sum[1] = sum[1].add_times(a, b1);
                    }
                    b = b.add(V::PANEL);
                }
                a = next;
            }
            for (r, sum) in sums.iter().enumerate() {
                sum[0].store(c.add(r * V::PANEL));
                sum[1].store(c.add(r * V::PANEL + V::LANES));
            }
        }
    }
}

/// Sums over tiles for 16 inputs: `c[input] (+)= Σ a[tile][input] · b[tile]`.
///
/// # Shapes
/// - `a`: `[count, 16]`, `b`: `[count, PANEL]`, `c`: `[16, PANEL]`
///
/// # Safety
/// The vector's instructions.
pub unsafe fn sum_tiles<V: Vector>(count: usize, a: &[f32], b: &[f32], c: &mut [f32], add: bool) {
    assert!(a.len() == count * GROUP && b.len() == count * V::PANEL && c.len() == GROUP * V::PANEL);
    for (c, row) in c.chunks_mut(V::OUTER * V::PANEL).zip((0..GROUP).step_by(V::OUTER)) {
        let (a, b, rows) = (a.as_ptr().wrapping_add(row), b.as_ptr(), c.len() / V::PANEL);
        assert!(rows <= V::OUTER, "rows of a tile");
        // SAFETY: lengths were checked, instructions are the caller's promise.
        unsafe {
            match rows {
                4 => outer::<V, 4>(count, a, b, c.as_mut_ptr(), add),
                6 => outer::<V, 6>(count, a, b, c.as_mut_ptr(), add),
                8 => outer::<V, 8>(count, a, b, c.as_mut_ptr(), add),
                _ => unreachable!("no vector has such tiles"),
            }
        }
    }
}

kernels! {
    /// `R` × `PANEL` sums over tiles: `c[lane] (+)= Σ a[tile][lane] · b[tile]`.
    ///
    /// # Safety
    /// The vector's instructions; `a` points to `count` rows of 16 of which `R` values are read, `b` to `[count, PANEL]`, `c`
    /// to `[R, PANEL]`.
    unsafe fn outer<V, const R>(count: usize, a: *const f32, b: *const f32, c: *mut f32, add: bool) {
        // SAFETY: inside of what the caller promises.
        unsafe {
            let mut sums = [[V::zero(); 2]; R];
            if add {
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum = [V::load(c.add(r * V::PANEL)), V::load(c.add(r * V::PANEL + V::LANES))];
                }
            }
            for i in 0..count {
                let (b0, b1) = (V::load(b.add(i * V::PANEL)), V::load(b.add(i * V::PANEL + V::LANES)));
                for (r, sum) in sums.iter_mut().enumerate() {
                    let a = *a.add(i * GROUP + r);
                    sum[0] = sum[0].add_times(a, b0);
                    sum[1] = sum[1].add_times(a, b1);
                }
            }
            for (r, sum) in sums.iter().enumerate() {
                sum[0].store(c.add(r * V::PANEL));
                sum[1].store(c.add(r * V::PANEL + V::LANES));
            }
        }
    }
}
