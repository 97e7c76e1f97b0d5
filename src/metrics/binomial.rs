//! Exact binomial probabilities: the lower tail, and the Clopper-Pearson interval of a share.
//!
//! Contract: total. Within 1e-12 of scipy. Sums of exact ratios of adjacent terms, so no logarithm
//! of a factorial loses digits; only terms that `f64` distinguishes from 0 are visited, about 80
//! standard deviations of them.

use serde::{Deserialize, Serialize};

/// P(X <= k) for X ~ Binomial(n, p), 0 to 1. 1 for k >= n. NaN if p is not a probability, so that
/// every comparison with it fails.
pub fn lower_tail(k: u64, n: u64, p: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    if k >= n || p == 0.0 {
        return 1.0;
    }
    if p == 1.0 {
        return 0.0;
    }
    let odds = p / (1.0 - p);
    // All terms are relative to the largest one; their sum is the normalizer.
    let mode = (((n as f64 + 1.0) * p) as u64).min(n);
    let below =
        terms(|i| mode.saturating_sub(i) as f64 / ((n - mode) as f64 + 1.0 + i as f64) / odds);
    let above =
        terms(|i| (n - mode).saturating_sub(i) as f64 / (mode as f64 + 1.0 + i as f64) * odds);
    let (mut tail, mut all) = (0.0, 0.0);
    for (i, term) in (0..=mode).rev().zip(below).chain((mode..=n).zip(above).skip(1)) {
        all += term;
        tail += if i <= k { term } else { 0.0 };
    }
    tail / all
}

/// 1, then each term is the previous one times its ratio, until the product is 0.
fn terms(ratio: impl Fn(u64) -> f64) -> impl Iterator<Item = f64> {
    let mut steps = 0..;
    std::iter::successors(Some(1.0), move |term| {
        steps.next().map(|i| term * ratio(i)).filter(|next| *next > 0.0)
    })
}

/// A two-sided interval of a share.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShareInterval {
    /// Lower end, 0 to 1.
    pub low: f64,
    /// Upper end, 0 to 1.
    pub high: f64,
    /// The minimum coverage probability, 0 to 1.
    pub level: f64,
}

/// The exact interval for `k` of `n` (Clopper and Pearson 1934). `None` for n = 0, k > n or a level
/// outside 0 to 1.
pub fn clopper_pearson(k: u64, n: u64, level: f64) -> Option<ShareInterval> {
    if n == 0 || k > n || !(level > 0.0 && level < 1.0) {
        return None;
    }
    let tail = 0.5 * (1.0 - level);
    // The upper end has P(X <= k) = tail; the lower end has P(X >= k) = tail, that is P(X <= k - 1)
    // = 1 - tail.
    let high = if k == n { 1.0 } else { share_with_tail(k, n, tail) };
    let low = if k == 0 { 0.0 } else { share_with_tail(k - 1, n, 1.0 - tail) };
    Some(ShareInterval { low, high, level })
}

/// The 97.5 % quantile of the standard normal distribution: scipy.stats.norm.ppf(0.975).
pub const NORMAL_97_5: f64 = 1.959963984540054;

/// The 80 % quantile of the standard normal distribution: scipy.stats.norm.ppf(0.8).
pub const NORMAL_80: f64 = 0.8416212335729143;

/// The 95 % score interval for `k` of `n` (Wilson 1927): the shares that a normal test does not
/// reject. Narrower than the exact one, which has its level at every share; this one has it on
/// average. `None` for n = 0 or k > n.
pub fn wilson(k: u64, n: u64) -> Option<ShareInterval> {
    if n == 0 || k > n {
        return None;
    }
    let (count, share) = (n as f64, k as f64 / n as f64);
    let z2 = NORMAL_97_5 * NORMAL_97_5;
    let middle = (share + 0.5 * z2 / count) / (1.0 + z2 / count);
    let half =
        (z2 / count * (share * (1.0 - share) + 0.25 * z2 / count)).sqrt() / (1.0 + z2 / count);
    // Exact at the ends, where the sums have rounding errors.
    let low = if k == 0 { 0.0 } else { (middle - half).max(0.0) };
    let high = if k == n { 1.0 } else { (middle + half).min(1.0) };
    Some(ShareInterval { low, high, level: 0.95 })
}

/// The p with P(X <= k) = `tail`, by bisection: the tail decreases in p.
fn share_with_tail(k: u64, n: u64, tail: f64) -> f64 {
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    // 60 bisections reach the resolution of f64 in 0 to 1.
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if lower_tail(k, n, middle) > tail { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}
