//! Kernels between the matrix products: norms, rotary embedding, activation functions, sums.
//!
//! Each works on a single token's row, in lanes by index, so a row's result depends on nothing else
//! and is bit-identical on every instruction set. The formulas follow the models' reference code
//! (`transformers`). [`StoreColumns`] belongs to the matrix products.

use super::simd::{F32x16, Kernel, LANES, exp, tanh};
use crate::model::spec::Activation;

/// Stores 16 sums per column, plus bias. A kernel, because `copy_from_slice` is a call per column.
pub(super) struct StoreColumns<'a, F> {
    /// `[columns, 16]`.
    pub sums: &'a [[f32; LANES]],
    /// `[16]`.
    pub bias: Option<&'a [f32]>,
    /// Returns the destination of the n-th column's sixteen values; called once per column.
    pub column: F,
}

impl<'y, F: Fn(usize) -> &'y mut [f32]> Kernel for StoreColumns<'_, F> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: F32x16>(self) {
        let Self { sums, bias, column } = self;
        // SAFETY: every slice has 16 values; the caller guarantees the instructions.
        unsafe {
            let bias = bias.map(|bias| V::load(bias[..LANES].as_ptr()));
            for (index, sums) in sums.iter().enumerate() {
                let sum = V::load(sums.as_ptr());
                let sum = bias.map_or(sum, |bias| sum.add(bias));
                sum.store(column(index)[..LANES].as_mut_ptr());
            }
        }
    }
}

/// x / sqrt(mean(x²) + eps) * weight.
pub(super) struct RmsNorm<'a> {
    pub x: &'a [f32],
    pub weight: &'a [f32],
    pub eps: f32,
    pub out: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: F32x16>(self) {
        let Self { x, weight, eps, out } = self;
        let (len, weight) = (x.len(), &weight[..x.len()]);
        let out = &mut out[..len];
        // SAFETY: never beyond the end of the three slices; the caller guarantees the instructions.
        unsafe {
            let factor = V::splat(root_mean_square::<V>(x, eps).recip());
            for at in (0..len).step_by(LANES) {
                let count = len - at;
                let y = V::load_partial(x.as_ptr().add(at), count)
                    .mul(factor)
                    .mul(V::load_partial(weight.as_ptr().add(at), count));
                y.store_partial(out.as_mut_ptr().add(at), count);
            }
        }
    }
}

/// sqrt(mean(x²) + eps).
///
/// # Safety
/// V's instructions must be available.
#[inline(always)]
unsafe fn root_mean_square<V: F32x16>(x: &[f32], eps: f32) -> f32 {
    // SAFETY: never beyond the end of the slice; the caller guarantees the instructions.
    unsafe {
        let mut squares = V::splat(0.0);
        for at in (0..x.len()).step_by(LANES) {
            let x = V::load_partial(x.as_ptr().add(at), x.len() - at);
            squares = x.fma(x, squares);
        }
        (squares.sum() / x.len() as f32 + eps).sqrt()
    }
}

/// Normalizes each head of a row if there is a norm, and rotates its halves by the token's angles
/// (rotary embedding), in place.
pub(super) struct ApplyRope<'a> {
    pub x: &'a mut [f32],
    pub head_dim: usize,
    /// Weight and epsilon.
    pub norm: Option<(&'a [f32], f32)>,
    /// `[head_dim / 2]` each.
    pub cos: &'a [f32],
    pub sin: &'a [f32],
}

impl Kernel for ApplyRope<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: F32x16>(self) {
        let Self { x, head_dim, norm, cos, sin } = self;
        let half = head_dim / 2;
        let (cos, sin) = (&cos[..half], &sin[..half]);
        for head in x.chunks_exact_mut(head_dim) {
            // SAFETY: never beyond the end of the halves; the caller guarantees
            // the instructions.
            unsafe {
                let factor = norm.map(|(weight, eps)| {
                    (&weight[..head_dim], V::splat(root_mean_square::<V>(head, eps).recip()))
                });
                let (low, high) = head.split_at_mut(half);
                for at in (0..half).step_by(LANES) {
                    let count = half - at;
                    let (mut a, mut b) = (
                        V::load_partial(low.as_ptr().add(at), count),
                        V::load_partial(high.as_ptr().add(at), count),
                    );
                    if let Some((weight, factor)) = factor {
                        a = a.mul(factor).mul(V::load_partial(weight.as_ptr().add(at), count));
                        b = b
                            .mul(factor)
                            .mul(V::load_partial(weight.as_ptr().add(half + at), count));
                    }
                    let (cos, sin) = (
                        V::load_partial(cos.as_ptr().add(at), count),
                        V::load_partial(sin.as_ptr().add(at), count),
                    );
                    a.mul(cos).sub(b.mul(sin)).store_partial(low.as_mut_ptr().add(at), count);
                    b.mul(cos).add(a.mul(sin)).store_partial(high.as_mut_ptr().add(at), count);
                }
            }
        }
    }
}

/// x = activation(x) * up.
pub(super) struct GatedActivation<'a> {
    pub activation: Activation,
    pub x: &'a mut [f32],
    pub up: &'a [f32],
}

impl Kernel for GatedActivation<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: F32x16>(self) {
        let Self { activation, x: gate, up } = self;
        let (len, up) = (gate.len(), &up[..gate.len()]);
        for at in (0..len).step_by(LANES) {
            let count = len - at;
            // SAFETY: never beyond the end of the slices; the caller guarantees
            // the instructions.
            unsafe {
                let x = V::load_partial(gate.as_ptr().add(at), count);
                let one = V::splat(1.0);
                // Both are x times a logistic function: GELU's tanh form uses twice its cubic.
                let exponent = match activation {
                    Activation::Silu => x,
                    Activation::GeluTanh => {
                        let cubic = x.mul(x).mul(x).fma(V::splat(0.044_715), x);
                        cubic.mul(V::splat(2.0 * 0.797_884_6))
                    }
                };
                let y = x.div(exp(V::splat(0.0).sub(exponent)).add(one));
                y.mul(V::load_partial(up.as_ptr().add(at), count))
                    .store_partial(gate.as_mut_ptr().add(at), count);
            }
        }
    }
}

/// x += y, with y normalized first if there is a norm.
pub(super) struct ResidualAdd<'a> {
    pub x: &'a mut [f32],
    pub y: &'a [f32],
    /// Weight and epsilon.
    pub norm: Option<(&'a [f32], f32)>,
}

impl Kernel for ResidualAdd<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: F32x16>(self) {
        let Self { x, y, norm } = self;
        let (len, y) = (x.len(), &y[..x.len()]);
        // SAFETY: never beyond the end of the slices; the caller guarantees the instructions.
        unsafe {
            let factor = norm.map(|(weight, eps)| {
                (&weight[..len], V::splat(root_mean_square::<V>(y, eps).recip()))
            });
            for at in (0..len).step_by(LANES) {
                let count = len - at;
                let mut y = V::load_partial(y.as_ptr().add(at), count);
                if let Some((weight, factor)) = factor {
                    y = y.mul(factor).mul(V::load_partial(weight.as_ptr().add(at), count));
                }
                V::load_partial(x.as_ptr().add(at), count)
                    .add(y)
                    .store_partial(x.as_mut_ptr().add(at), count);
            }
        }
    }
}

/// x = cap * tanh(x / cap).
pub(super) struct SoftCap<'a> {
    pub x: &'a mut [f32],
    pub cap: f32,
}

impl Kernel for SoftCap<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: F32x16>(self) {
        let len = self.x.len();
        for at in (0..len).step_by(LANES) {
            // SAFETY: never beyond the end of the slice; the caller guarantees
            // the instructions.
            unsafe {
                let place = self.x.as_mut_ptr().add(at);
                let x = V::load_partial(place, len - at).div(V::splat(self.cap));
                tanh(x).mul(V::splat(self.cap)).store_partial(place, len - at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Isa;
    use super::super::simd::run;
    use super::*;

    /// Values of both signs and many magnitudes.
    fn numbers(len: usize, salt: f32) -> Vec<f32> {
        (0..len)
            .map(|i| ((i as f32 + salt) * 12.9898).sin() * 10f32.powi((i % 5) as i32 - 2))
            .collect()
    }

    /// `kernel` gives the same bits on every instruction set, within a relative 2e-6 of `want` (a
    /// sum of up to 600 squares and a few roundings; absolute below 1).
    fn check(what: &str, kernel: impl Fn(Isa) -> Vec<f32>, want: &[f64]) {
        let scalar = kernel(Isa::Scalar);
        for (i, (got, want)) in scalar.iter().zip(want).enumerate() {
            assert!(
                (f64::from(*got) - want).abs() <= 2e-6 * want.abs().max(1.0),
                "{what}, number {i}: {got}, want {want}"
            );
        }
        for isa in Isa::ALL.iter().filter(|isa| isa.is_available()) {
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&kernel(*isa)), bits(&scalar), "{what} on {isa:?}");
        }
    }

    fn rms(x: &[f32], eps: f64) -> f64 {
        (x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / x.len() as f64 + eps).sqrt()
    }

    #[test]
    fn columns_are_stored_with_and_without_bias() {
        let (sums, bias) = (numbers(5 * LANES, 0.0), numbers(LANES, 0.5));
        let put = |isa, bias: Option<&[f32]>| {
            let mut out = vec![0.0; sums.len()];
            let columns =
                out.chunks_mut(LANES).map(Some).map(std::sync::Mutex::new).collect::<Vec<_>>();
            let column = |n: usize| columns[n].lock().unwrap().take().unwrap();
            run(isa, StoreColumns { sums: sums.as_chunks().0, bias, column });
            out
        };
        let biased = |i: usize| f64::from(sums[i] + bias[i % LANES]);
        check(
            "sums",
            |isa| put(isa, None),
            &sums.iter().map(|&sum| f64::from(sum)).collect::<Vec<_>>(),
        );
        check(
            "sums and bias",
            |isa| put(isa, Some(&bias)),
            &(0..sums.len()).map(biased).collect::<Vec<_>>(),
        );
    }

    #[test]
    fn kernels_give_the_formulas() {
        for len in [2, 8, 16, 34, 64, 576] {
            let (x, y, w) = (numbers(len, 0.0), numbers(len, 0.5), numbers(len, 0.25));
            let d = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
            let (x64, y64, w64) = (d(&x), d(&y), d(&w));
            let normed = |x: &[f32]| -> Vec<f64> {
                x.iter().zip(&w64).map(|(&v, w)| f64::from(v) / rms(x, 1e-5) * w).collect()
            };
            let norm = |isa| {
                let mut out = vec![0.0; len];
                run(isa, RmsNorm { x: &x, weight: &w, eps: 1e-5, out: &mut out });
                out
            };
            check("norm", norm, &normed(&x));
            let add = |isa| {
                let mut out = x.clone();
                run(isa, ResidualAdd { x: &mut out, y: &y, norm: Some((&w, 1e-5)) });
                out
            };
            check("add", add, &x64.iter().zip(normed(&y)).map(|(x, y)| x + y).collect::<Vec<_>>());
            for (activation, of) in [
                (Activation::Silu, (|x| x / (1.0 + (-x).exp())) as fn(f64) -> f64),
                (Activation::GeluTanh, |x| {
                    0.5 * x
                        * (1.0
                            + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3)))
                                .tanh())
                }),
            ] {
                let gate = |isa| {
                    let mut out = x.clone();
                    run(isa, GatedActivation { activation, x: &mut out, up: &y });
                    out
                };
                check(
                    "gate",
                    gate,
                    &x64.iter().zip(&y64).map(|(&x, y)| of(x) * y).collect::<Vec<_>>(),
                );
            }
            let cap = |isa| {
                let mut out = x.clone();
                run(isa, SoftCap { x: &mut out, cap: 3.0 });
                out
            };
            check("soft cap", cap, &x64.iter().map(|x| 3.0 * (x / 3.0).tanh()).collect::<Vec<_>>());
            let half = len / 2;
            let (cos, sin): (Vec<f32>, Vec<f32>) =
                (0..half).map(|i| ((i as f32).cos(), (i as f32).sin())).unzip();
            let rotate = |isa| {
                let mut out = x.clone();
                run(
                    isa,
                    ApplyRope {
                        x: &mut out,
                        head_dim: len,
                        norm: Some((&w, 1e-5)),
                        cos: &cos,
                        sin: &sin,
                    },
                );
                out
            };
            let n = normed(&x);
            let angle = |i: usize| (f64::from(cos[i]), f64::from(sin[i]));
            let low = (0..half).map(|i| n[i] * angle(i).0 - n[half + i] * angle(i).1);
            let high = (0..half).map(|i| n[half + i] * angle(i).0 + n[i] * angle(i).1);
            check("rotate", rotate, &low.chain(high).collect::<Vec<_>>());
        }
    }
}
