//! Statistics of one row of logits: log-sum-exp, entropy, varentropy, margin, confidence, top-k.
//!
//! Contract: logits are `f32`, one per token of the real vocabulary (no padding), id = position.
//! Everything is in nats, at temperature 1, before any bias, penalty or filter. Minus infinity
//! marks an impossible token. A row with a NaN, plus infinity or no finite logit gives `None`,
//! never a token.
//!
//! Accuracy: every quantity is within 1e-6 of a plain `f64` computation, relative if it is above 1
//! and absolute below. Terms are f32 in 16 lanes; sums of eight of them continue in `f64`. Their
//! order depends on the length of the row alone, and they use plain multiplications and additions,
//! so the same row gives the same bits on every machine, thread and batch.
//!
//! It does not know models, tokenizers or samplers.

use std::cmp::Ordering;

use crate::generation::LOGPROB_FLOOR;

/// Number of independent sums, so that the compiler can use vector registers.
const LANES: usize = 16;
/// Logits per block of [`BlockMaxima`]: small enough that few logits are read twice, large enough
/// that there are few maxima.
const BLOCK: usize = 128;
/// How many tokens [`Distribution::top_confidence`] averages (arXiv 2508.15260, code).
const CONFIDENCE_TOKENS: usize = 20;

/// Statistics of one row of logits, in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distribution {
    /// ln sum exp z, the logarithm of the normalizer: `ln p(i) = z(i) - log_sum_exp`.
    pub log_sum_exp: f64,
    /// The largest logit.
    pub max_logit: f32,
    /// Its token id; the lowest id among equals.
    pub argmax: u32,
    /// Shannon entropy H = -sum p ln p in nats, 0 to ln V; higher = less confident.
    pub entropy: f64,
    /// Variance of ln p under p in nats squared, 0 or more.
    pub varentropy: f64,
    /// p1 - p2, the lead of the most probable token, 0 to 1; 1 if no other token is possible.
    pub margin: f64,
    /// p1, the probability of the most probable token, above 0 to 1.
    pub max_prob: f64,
    /// KL(uniform || p) = LSE(z) - mean(z) - ln V in nats, 0 or more, higher = more confident
    /// (arXiv 2502.18581). V and the mean cover the tokens with a finite logit, so that impossible
    /// tokens leave it finite.
    pub self_certainty: f64,
    /// `DeepConf`'s token confidence: -mean ln p of the 20 most probable possible tokens, or of all
    /// if there are fewer (arXiv 2508.15260), whichever token is sampled. ln V for a uniform row;
    /// higher = more confident.
    pub top_confidence: f64,
}

impl Distribution {
    /// ln p of a token with this logit, at most 0. Floored at [`LOGPROB_FLOOR`], so that it is
    /// finite for impossible tokens too.
    pub fn logprob(&self, logit: f32) -> f64 {
        let logprob = f64::from(logit) - self.log_sum_exp;
        // Not `clamp`: NaN becomes the floor.
        if logprob >= LOGPROB_FLOOR { logprob.min(0.0) } else { LOGPROB_FLOOR }
    }
}

#[cfg(feature = "internals")]
/// All statistics of a row: H = LSE - E\[z\], varentropy = Var(z), both under p.
///
/// `None` if the row has a NaN or plus infinity, or no finite logit.
pub fn distribution(logits: &[f32]) -> Option<Distribution> {
    distribution_with(logits, &mut BlockMaxima::default())
}

/// Like [`distribution`]; `maxima` then holds the scan of the row.
pub(crate) fn distribution_with(logits: &[f32], maxima: &mut BlockMaxima) -> Option<Distribution> {
    let max_logit = maxima.scan(logits)?;
    let Moments { finite, linear, mass, first, second } = Moments::new(logits, max_logit);
    let log_mass = mass.ln();
    let mean = first / mass;
    let best = maxima.top_k(logits, CONFIDENCE_TOKENS);
    let drop = |logit: f32| f64::from(logit) - f64::from(max_logit);
    let top_mean = best.iter().map(|&(_, logit)| drop(logit)).sum::<f64>() / best.len() as f64;
    Some(Distribution {
        log_sum_exp: f64::from(max_logit) + log_mass,
        max_logit,
        argmax: best.first()?.0,
        entropy: (log_mass - mean).max(0.0),
        varentropy: (second / mass - mean * mean).max(0.0),
        margin: best.get(1).map_or(1.0, |&(_, logit)| -drop(logit).exp_m1() / mass),
        max_prob: mass.recip(),
        self_certainty: (log_mass - linear / finite - finite.ln()).max(0.0),
        top_confidence: log_mass - top_mean,
    })
}

#[cfg(feature = "internals")]
/// The `k` largest logits with their token ids, largest first, lower id first among equals.
/// Impossible tokens (minus infinity) and NaN are skipped, so there may be fewer than `k`. Uses a
/// threshold instead of sorting the vocabulary.
pub fn top_k(logits: &[f32], k: usize) -> Vec<(u32, f32)> {
    let mut maxima = BlockMaxima::default();
    maxima.scan(logits);
    maxima.top_k(logits, k).to_vec()
}

#[cfg(feature = "internals")]
/// The id of the largest logit; the lowest id wins a tie. `None` as for [`distribution`].
pub fn argmax(logits: &[f32]) -> Option<u32> {
    let mut maxima = BlockMaxima::default();
    let max = maxima.scan(logits)?;
    let mut first = None;
    maxima.for_each_at_least(logits, f64::from(max), |id, _| first = first.or(Some(id)));
    first
}

/// Larger logit first, lower id first among equals (0 and -0 are equal): the only order of tokens
/// in this crate. Values must not be NaN.
fn best_first(a: (u32, f32), b: (u32, f32)) -> Ordering {
    b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0))
}

/// e^x for sixteen values of at most 0, with relative error below 2e-7; exactly 0 at -87 and below
/// (including minus infinity), and 1 at 0.
///
/// e^x = 2^k e^r with k = round(x / ln 2) and |r| <= ln 2 / 2; ln 2 in two parts; e^r by Cephes'
/// polynomial. Branch-free, without calls, from plain multiplications and additions: the compiler
/// vectorizes it, and it gives the same bits with and without fused operations.
#[inline]
pub(crate) fn exp_nonpositive(x: [f32; LANES]) -> [f32; LANES] {
    /// Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    const C: [f32; 6] =
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    let mut out = [0.0; LANES];
    for (out, x) in out.iter_mut().zip(x) {
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let k = shifted - ROUND;
        let r = x - k * 0.693_359_4 + k * 2.121_944_4e-4;
        let series = C[0];
        let series = series * r + C[1];
        let series = series * r + C[2];
        let series = series * r + C[3];
        let series = series * r + C[4];
        let series = (series * r + C[5]) * (r * r) + r + 1.0;
        let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
        *out = if x > EXP_UNDERFLOW { series * power } else { 0.0 };
    }
    out
}

/// At this value and below, e^x counts as 0: just above the subnormal numbers of f32.
pub(crate) const EXP_UNDERFLOW: f32 = -87.0;

/// Chunks of a row whose terms are added in f32, eight per lane, before the lanes are added to f64
/// sums.
const CHUNKS: usize = 8;

/// Sums `N` terms over a row. Lane l takes positions l, l + 16, ...; a last partial chunk is padded
/// with impossible tokens. Terms are added in f32 within [`CHUNKS`] chunks and in f64 beyond, and
/// the lanes are added pairwise, so the order depends on the length alone. `terms` gets x = z -
/// max, at most 0.
#[inline]
fn sum_lanes<const N: usize>(
    logits: &[f32],
    max: f32,
    terms: impl Fn([f32; LANES]) -> [[f32; LANES]; N],
) -> [f64; N] {
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut last = [f32::NEG_INFINITY; LANES];
    last[..rest.len()].copy_from_slice(rest);
    let mut sums = [[0.0f64; LANES]; N];
    let mut add = |chunks: &[[f32; LANES]]| {
        let mut partial = [[0.0f32; LANES]; N];
        for chunk in chunks {
            let terms = terms(chunk.map(|z| z - max));
            for n in 0..N {
                for lane in 0..LANES {
                    partial[n][lane] += terms[n][lane];
                }
            }
        }
        for n in 0..N {
            for lane in 0..LANES {
                sums[n][lane] += f64::from(partial[n][lane]);
            }
        }
    };
    chunks.chunks(CHUNKS).for_each(&mut add);
    add(std::slice::from_ref(&last));
    sums.map(add_pairwise)
}

/// Adds lane i + 8 to lane i, then i + 4, i + 2, i + 1: a fixed order.
fn add_pairwise(mut lanes: [f64; LANES]) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Sums over a row, with x = z - max and weights e^x.
struct Moments {
    /// Number of finite logits.
    finite: f64,
    /// sum x over them.
    linear: f64,
    /// sum e^x.
    mass: f64,
    /// sum x e^x.
    first: f64,
    /// sum x^2 e^x.
    second: f64,
}

impl Moments {
    #[inline(never)]
    fn new(logits: &[f32], max: f32) -> Self {
        let [finite, linear, mass, first, second] = sum_lanes(logits, max, |x| {
            let (one, x) = if_finite(x);
            let weight = exp_nonpositive(x);
            // An impossible token has x = 0 here, and no weight.
            let weight: [f32; LANES] = std::array::from_fn(|lane| weight[lane] * one[lane]);
            let first: [f32; LANES] = std::array::from_fn(|lane| x[lane] * weight[lane]);
            [one, x, weight, first, std::array::from_fn(|lane| x[lane] * first[lane])]
        });
        Self { finite, linear, mass, first, second }
    }
}

/// (1, x) for a possible token, (0, 0) for an impossible one.
#[inline]
fn if_finite(x: [f32; LANES]) -> ([f32; LANES], [f32; LANES]) {
    (
        x.map(|x| if x > f32::NEG_INFINITY { 1.0 } else { 0.0 }),
        x.map(|x| if x > f32::NEG_INFINITY { x } else { 0.0 }),
    )
}

/// sum e^((z - max) * scale) over a row; `scale` is 1 / temperature.
#[inline(never)]
pub(crate) fn mass(logits: &[f32], max: f32, scale: f32) -> f64 {
    let [mass] = sum_lanes(logits, max, |x| [exp_nonpositive(x.map(|x| x * scale))]);
    mass
}

/// Writes e^((z - max) * scale) of every logit to `out`, which has the same length.
#[inline]
pub(crate) fn weights(logits: &[f32], max: f32, scale: f32, out: &mut [f32]) {
    let weigh = |z: [f32; LANES]| exp_nonpositive(z.map(|z| (z - max) * scale));
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let (outs, out_rest) = out.as_chunks_mut::<LANES>();
    for (out, chunk) in outs.iter_mut().zip(chunks) {
        *out = weigh(*chunk);
    }
    if !rest.is_empty() {
        let mut last = [f32::NEG_INFINITY; LANES];
        last[..rest.len()].copy_from_slice(rest);
        out_rest.copy_from_slice(&weigh(last)[..rest.len()]);
    }
}

/// e^((z - max) * scale) of one logit: the same value as in [`weights`].
pub(crate) fn weight(logit: f32, max: f32, scale: f32) -> f32 {
    exp_nonpositive([(logit - max) * scale; LANES])[0]
}

/// Population standard deviation of the finite logits, 0 or more.
#[inline(never)]
pub(crate) fn standard_deviation(logits: &[f32], max: f32) -> f64 {
    let [finite, linear, square] = sum_lanes(logits, max, |x| {
        let (one, x) = if_finite(x);
        [one, x, x.map(|x| x * x)]
    });
    let mean = linear / finite;
    (square / finite - mean * mean).max(0.0).sqrt()
}

/// The largest logit of every block of [`BLOCK`]: finds all large logits of a row while reading few
/// of them again.
#[derive(Debug, Default)]
pub(crate) struct BlockMaxima {
    blocks: Vec<f32>,
    sorted: Vec<f32>,
    best: Vec<(u32, f32)>,
}

impl BlockMaxima {
    /// Scans a row. Returns its largest logit, or `None` if it has a NaN or plus infinity, or no
    /// finite logit.
    pub(crate) fn scan(&mut self, logits: &[f32]) -> Option<f32> {
        self.blocks.clear();
        let mut valid = true;
        for block in logits.chunks(BLOCK) {
            let (max, below_infinity) = block_max(block);
            self.blocks.push(max);
            valid &= below_infinity;
        }
        let max = self.blocks.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        (valid && max.is_finite()).then_some(max)
    }

    /// Calls `visit(id, logit)` for every possible token of the scanned row with a logit of at
    /// least `bound`, by rising id.
    #[inline]
    pub(crate) fn for_each_at_least(
        &self,
        logits: &[f32],
        bound: f64,
        mut visit: impl FnMut(u32, f32),
    ) {
        for (index, (block, &max)) in logits.chunks(BLOCK).zip(&self.blocks).enumerate() {
            if f64::from(max) < bound {
                continue;
            }
            for (id, &logit) in (index * BLOCK..).zip(block) {
                if f64::from(logit) >= bound && logit > f32::NEG_INFINITY {
                    visit(id as u32, logit);
                }
            }
        }
    }

    /// A lower bound of the `k` largest logits of the scanned row: the k-th largest block maximum,
    /// or minus infinity if there are fewer blocks.
    pub(crate) fn bound(&mut self, k: usize) -> f32 {
        if k == 0 || k > self.blocks.len() {
            return f32::NEG_INFINITY;
        }
        self.sorted.clone_from(&self.blocks);
        *self.sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1
    }

    /// The `k` largest logits of the scanned row, largest first.
    pub(crate) fn top_k(&mut self, logits: &[f32], k: usize) -> &[(u32, f32)] {
        if k == 0 {
            return &[];
        }
        let bound = self.bound(k);
        let mut best = std::mem::take(&mut self.best);
        best.clear();
        self.for_each_at_least(logits, f64::from(bound), |id, logit| best.push((id, logit)));
        if best.len() > k {
            best.select_nth_unstable_by(k - 1, |a, b| best_first(*a, *b));
            best.truncate(k);
        }
        best.sort_unstable_by(|a, b| best_first(*a, *b));
        self.best = best;
        &self.best
    }
}

/// The largest logit of a block (ignoring NaN), and whether all logits are below plus infinity
/// (false for NaN).
fn block_max(block: &[f32]) -> (f32, bool) {
    let mut max = [f32::NEG_INFINITY; LANES];
    let mut bad = [0_u32; LANES];
    let mut add = |chunk: &[f32; LANES]| {
        for lane in 0..LANES {
            max[lane] = if chunk[lane] > max[lane] { chunk[lane] } else { max[lane] };
            bad[lane] |= u32::from(chunk[lane].partial_cmp(&f32::INFINITY) != Some(Ordering::Less));
        }
    };
    let (chunks, rest) = block.as_chunks::<LANES>();
    for chunk in chunks {
        add(chunk);
    }
    if !rest.is_empty() {
        let mut last = [f32::NEG_INFINITY; LANES];
        last[..rest.len()].copy_from_slice(rest);
        add(&last);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            max[lane] = if max[lane] > max[lane + half] { max[lane] } else { max[lane + half] };
            bad[lane] |= bad[lane + half];
        }
        half /= 2;
    }
    (max[0], bad[0] == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_2e_7_of_the_library() {
        let mut worst = 0.0_f64;
        for i in 0..8_700_000 {
            let x = -(i as f32) * 1e-5;
            worst = worst
                .max((f64::from(exp_nonpositive([x; LANES])[3]) / f64::from(x).exp() - 1.0).abs());
        }
        assert!(worst < 2e-7, "relative error {worst:e}");
    }

    #[test]
    fn exp_is_exact_at_its_ends() {
        let exp = |x: f32| exp_nonpositive([x; LANES])[0];
        assert_eq!(
            (exp(0.0).to_bits(), exp(-0.0).to_bits()),
            (1.0_f32.to_bits(), 1.0_f32.to_bits())
        );
        for x in [-87.0, -745.2, -1e9, -1e30, f32::MIN, f32::NEG_INFINITY] {
            assert_eq!(exp(x).to_bits(), 0, "e^{x}");
        }
        assert!(exp(-86.9999) > 0.0);
    }

    #[test]
    fn sums_do_not_depend_on_alignment() {
        let row: Vec<f32> = (0..1000_u16).map(|i| f32::from(i % 97) * 0.1).collect();
        for len in [1, 7, 8, 9, 127, 128, 129, 1000] {
            let expected = distribution(&row[..len]);
            for offset in 1..LANES {
                let moved: Vec<f32> =
                    std::iter::repeat_n(9.0, offset).chain(row[..len].iter().copied()).collect();
                assert_eq!(
                    distribution(&moved[offset..]),
                    expected,
                    "length {len}, offset {offset}"
                );
            }
        }
    }
}
