//! The sampler chain: turns a row of raw logits into the distribution to sample from, and a uniform
//! random number into a token.
//!
//! Contract: the steps run in the order of [`ORDER`], temperature before the filters as in Hugging
//! Face. Every filter sees the renormalized distribution of the tokens that the previous filter
//! kept, and keeps at least the most probable token. "More probable" always means the larger logit,
//! and among equal logits the lower id, so ties at a threshold go to the lower id. The same logits,
//! parameters and history give the same bits.
//!
//! Every filter but the last keeps a prefix of that order, so the kept tokens are represented by
//! one threshold, not by a list; no step sorts the vocabulary. An unfiltered row costs one
//! vectorized pass, plus one block per sampled token.
//!
//! XTC alone differs between samples on one row: its candidates are built once, with and without
//! the top choices, and each draw decides which of both it uses.
//!
//! It does not know models, rows or samples, and does not touch the raw statistics of
//! [`crate::logits`].

use std::cmp::Ordering;
use std::f64::consts::LN_2;

use super::random::BELOW_ONE;
pub use super::random::SampleRng;
use crate::error::{Error, Result};
use crate::generation::SamplingParams;
use crate::logits::{self, BlockMaxima};

#[cfg(feature = "internals")]
/// The steps in order, by the parameter that turns each on. Bias and penalties change logits,
/// temperature divides them, the others filter.
pub const ORDER: [&str; 15] = [
    "logit_bias",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "dry_multiplier",
    "dynatemp_range",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "top_n_sigma",
    "typical_p",
    "xtc_probability",
    "mirostat",
    "draw",
];

/// Tokens less probable than e^-87 (1e-38) times the most probable one are dropped: their weight is
/// not representable.
const EXP_UNDERFLOW: f64 = logits::EXP_UNDERFLOW as f64;
/// Weights per block of the cumulative sums.
const BLOCK: usize = 128;

/// What came before the token to sample. Ids outside the vocabulary are ignored.
#[derive(Clone, Copy, Debug, Default)]
pub struct History<'a> {
    /// The rendered prompt.
    pub prompt: &'a [u32],
    /// What this sample has generated so far.
    pub output: &'a [u32],
    /// The tokens that no repetition spans, for DRY, rising: see [`sequence_breakers`].
    pub breakers: &'a [u32],
    /// Mirostat's bound on the surprisal, in bits: see [`next_mu`].
    pub mu: f64,
}

/// A repetition that DRY counts has none of these bytes (llama.cpp's default).
const SEQUENCE_BREAKERS: &[u8] = b"\n:\"*";

/// The tokens whose text has a sequence breaker, rising. `bytes` appends a token's text.
pub(super) fn sequence_breakers(tokens: u32, bytes: impl Fn(u32, &mut Vec<u8>)) -> Vec<u32> {
    let mut text = Vec::new();
    let breaks = |id: &u32| {
        text.clear();
        bytes(*id, &mut text);
        text.iter().any(|byte| SEQUENCE_BREAKERS.contains(byte))
    };
    (0..tokens).filter(breaks).collect()
}

/// Mirostat's bound on the surprisal before the first token, in bits.
pub fn first_mu(params: &SamplingParams) -> f64 {
    2.0 * f64::from(params.mirostat_tau)
}

/// Mirostat's bound, in bits, after a token of this ln q in the distribution sampled from.
pub fn next_mu(params: &SamplingParams, mu: f64, logprob: f64) -> f64 {
    let surprisal = -logprob / LN_2;
    mu - f64::from(params.mirostat_eta) * (surprisal - f64::from(params.mirostat_tau))
}

/// One thread's buffers, reused between steps. They do not affect any result.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Of the row that was scanned last.
    pub(super) maxima: BlockMaxima,
    /// What a sample has generated so far.
    pub(super) output: Vec<u32>,
    adjusted: Vec<f32>,
    counts: Vec<u32>,
    ranked: Vec<RankedToken>,
    free_list: Vec<Candidates>,
}

impl Scratch {
    /// Gets the buffers of used candidates from `pop`, unless it already has some for the next row.
    pub(super) fn take_from_pool(&mut self, pop: impl FnOnce() -> Option<Candidates>) {
        if self.free_list.is_empty() {
            self.free_list.extend(pop());
        }
    }

    #[cfg(feature = "internals")]
    /// Takes the buffers of used candidates for the next row.
    pub fn recycle(&mut self, candidates: Candidates) {
        self.free_list.push(candidates);
    }
}

/// The distribution to sample from: after bias, penalties, temperature and filters. It depends on
/// the prefix only, so it is built once per row and shared by all samples on the row. It is only
/// meaningful together with that row's logits.
#[derive(Clone, Debug)]
pub struct Candidates {
    /// Kept ids, rising. Empty if nothing was filtered; then a position is an id.
    ids: Vec<u32>,
    /// The weight of every position; 0 for a token that cannot be sampled. Empty if `unfiltered`.
    weights: Vec<f32>,
    /// If the row's logits were neither changed nor filtered: how to compute weights from them.
    /// Recomputing a block per sampled token costs less than writing and reading a vocabulary of
    /// weights.
    unfiltered: Option<SoftmaxParams>,
    /// The sum of all weights up to the end of each block.
    ends: Vec<f64>,
    kept: usize,
    /// What XTC may exclude.
    exclusion: Option<Box<Exclusion>>,
}

/// The other candidates of a row under XTC.
#[derive(Clone, Debug)]
pub(super) struct Exclusion {
    /// The probability, per draw, that the top choices are excluded, above 0, at most 1.
    pub probability: f64,
    /// The candidates without the top choices.
    pub rest: Candidates,
}

/// The weight of a logit z is e^((z - max) * scale).
#[derive(Clone, Copy, Debug)]
struct SoftmaxParams {
    max: f32,
    /// 1 / temperature.
    scale: f32,
}

/// A token with its interval of the cumulative distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampledToken {
    /// The token id.
    pub token: u32,
    /// ln q(token) in the distribution sampled from, at most 0, finite.
    pub logprob: f64,
    /// The mass of all kept tokens with lower ids, 0 to below 1.
    pub low: f64,
    /// q(token), above 0, at most 1. The token is selected by u in [low, low + width).
    pub width: f64,
}

impl Candidates {
    #[cfg(feature = "internals")]
    /// Runs the chain on one row of raw logits, one per token of the real vocabulary. Minus
    /// infinity marks an impossible token. `params` must have passed [`SamplingParams::validate`].
    /// At temperature 0 only the best token after bias and penalties is kept; the lowest id wins a
    /// tie.
    ///
    /// # Errors
    /// [`Error::Usage`] if `logit_bias` names a token outside the vocabulary; [`Error::Numerical`]
    /// if a logit is NaN or plus infinity (also after bias and penalties), or none is finite.
    pub fn new(
        params: &SamplingParams,
        logits: &[f32],
        history: History<'_>,
        scratch: &mut Scratch,
    ) -> Result<Self> {
        Self::after_scan(params, logits, history, scratch, None)
    }

    /// Like [`new`](Self::new). If `known_max`, the row's largest logit, is given, the scratch has
    /// scanned the row already.
    pub(super) fn after_scan(
        params: &SamplingParams,
        logits: &[f32],
        history: History<'_>,
        scratch: &mut Scratch,
        known_max: Option<f32>,
    ) -> Result<Self> {
        let Scratch { maxima, adjusted, counts, ranked, free_list, .. } = scratch;
        let unchanged = !changes_logits(params);
        let logits = if unchanged {
            logits
        } else {
            adjust(params, logits, history, adjusted, counts)?;
            adjusted.as_slice()
        };
        let scanned = known_max.filter(|_| unchanged).or_else(|| maxima.scan(logits));
        let max = scanned.ok_or_else(|| no_distribution(logits))?;
        let mut candidates = free_list.pop().unwrap_or_else(Self::empty);
        candidates.clear();
        let temperature = temperature(params, logits, maxima);
        if temperature > 0.0 {
            let mut chain = Chain::new(temperature, logits, max, maxima, ranked);
            chain.filter(params);
            if params.mirostat == 2 {
                chain.mirostat(history.mu);
            }
            chain.collect(&mut candidates, unchanged);
        } else {
            maxima.for_each_at_least(logits, f64::from(max), |id, _| candidates.ids.push(id));
            candidates.ids.truncate(1);
            candidates.weights.push(1.0);
        }
        candidates.accumulate(logits);
        if params.xtc_probability > 0.0 {
            let (probability, threshold) = (params.xtc_probability, params.xtc_threshold);
            candidates.exclude_top_choices(probability.into(), threshold.into(), logits);
        }
        Ok(candidates)
    }

    #[cfg(feature = "internals")]
    /// How many tokens can be sampled, at least 1.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// The token at `u` of the cumulative distribution in id order. Values outside [0, 1) are
    /// clamped, and rounding never selects a token without mass. `logits` is the row that the
    /// candidates were built from.
    pub fn sample(&self, u: f64, logits: &[f32]) -> SampledToken {
        let total = self.total();
        // Not `clamp`: NaN becomes 0.
        let target = total * if u >= 0.0 { u.min(BELOW_ONE) } else { 0.0 };
        let block = self.ends.partition_point(|&end| end <= target);
        // If rounding made the target equal to the total, no block exceeds it: use the last block
        // with mass.
        let block = if block < self.ends.len() {
            block
        } else {
            self.ends.partition_point(|&end| end < total)
        };
        let start = if block == 0 { 0.0 } else { self.ends[block - 1] };
        let mut made = [0.0; BLOCK];
        let weights = match self.unfiltered {
            Some(softmax) => softmax.weights(nth_block(logits, block), &mut made),
            None => nth_block(&self.weights, block),
        };
        let (position, before, weight) = find(weights, target - start);
        let position = block * BLOCK + position;
        let width = (weight / total).min(1.0);
        let low = ((start + before) / total).min(BELOW_ONE);
        SampledToken {
            token: self.ids.get(position).copied().unwrap_or(position as u32),
            logprob: width.ln(),
            low,
            width,
        }
    }

    /// The `k` most probable tokens with ln q, best first, the lower id of equals first; XTC
    /// excludes none of them. `logits` is the row that the candidates were built from.
    pub fn top(&self, k: usize, logits: &[f32]) -> Vec<(u32, f64)> {
        let total = self.total();
        let mut best: Vec<(u32, f32)> = Vec::with_capacity(k + 1);
        self.for_each(logits, |id, weight| {
            if best.len() < k || best.last().is_some_and(|last| last.1 < weight) {
                let place = best.partition_point(|(_, other)| *other >= weight);
                best.insert(place, (id, weight));
                best.truncate(k);
            }
        });
        best.into_iter().map(|(id, w)| (id, (f64::from(w) / total).min(1.0).ln())).collect()
    }

    /// Calls `visit` with every token that can be sampled, by rising id, and its weight.
    fn for_each(&self, logits: &[f32], mut visit: impl FnMut(u32, f32)) {
        let mut made = [0.0; BLOCK];
        for block in 0..self.ends.len() {
            let weights = match self.unfiltered {
                Some(softmax) => softmax.weights(nth_block(logits, block), &mut made),
                None => nth_block(&self.weights, block),
            };
            for (at, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
                let position = block * BLOCK + at;
                visit(self.ids.get(position).copied().unwrap_or(position as u32), weight);
            }
        }
    }

    /// The sum of all weights.
    fn total(&self) -> f64 {
        self.ends.last().copied().unwrap_or(1.0)
    }

    /// XTC: also makes the candidates without the tokens of at least the threshold's probability,
    /// the least probable of these excepted.
    fn exclude_top_choices(&mut self, probability: f64, threshold: f64, logits: &[f32]) {
        let mut rest = Vec::with_capacity(self.kept);
        self.for_each(logits, |id, weight| rest.push((id, weight)));
        let best_first = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        let least = threshold * self.total();
        let top = rest.iter().copied().filter(|(_, weight)| f64::from(*weight) >= least);
        let Some(last) = top.max_by(best_first) else { return };
        rest.retain(|token| best_first(token, &last).is_ge());
        if rest.len() < self.kept {
            let (ids, weights) = rest.into_iter().unzip();
            let mut rest = Self { ids, weights, ..Self::empty() };
            rest.accumulate(&[]);
            self.exclusion = Some(Box::new(Exclusion { probability, rest }));
        }
    }

    /// What a draw may exclude.
    pub(super) fn exclusion(&self) -> Option<&Exclusion> {
        self.exclusion.as_deref()
    }

    /// ln of the probability that a draw gives this token, over both outcomes of `exclusion`.
    /// `excluded`: the one that gave it.
    pub(super) fn mixed_logprob(
        &self,
        exclusion: &Exclusion,
        excluded: bool,
        picked: SampledToken,
    ) -> f64 {
        let (all, rest) = (self.total(), exclusion.rest.total());
        let weight = picked.width * if excluded { rest } else { all };
        let remains = exclusion.rest.ids.binary_search(&picked.token).is_ok();
        let without = if remains { exclusion.probability * weight / rest } else { 0.0 };
        ((1.0 - exclusion.probability) * weight / all + without).min(1.0).ln()
    }

    /// The most probable token. Its interval is not known: `low` is 0.
    pub(super) fn most_probable(&self, logits: &[f32]) -> SampledToken {
        let best = self.top(1, logits).first().copied();
        let (token, logprob) = best.unwrap_or((0, 0.0));
        SampledToken { token, logprob, low: 0.0, width: logprob.exp() }
    }

    fn empty() -> Self {
        Self {
            ids: Vec::new(),
            weights: Vec::new(),
            unfiltered: None,
            ends: Vec::new(),
            kept: 0,
            exclusion: None,
        }
    }

    fn clear(&mut self) {
        self.ids.clear();
        self.weights.clear();
        self.unfiltered = None;
        self.ends.clear();
        self.exclusion = None;
    }

    /// Sums the weights block by block and counts the tokens that can be sampled.
    fn accumulate(&mut self, logits: &[f32]) {
        self.kept = 0;
        let mut end = 0.0;
        let mut add = |block: &[f32]| {
            let (mass, kept) = total(block);
            end += mass;
            self.kept += kept;
            self.ends.push(end);
        };
        match self.unfiltered {
            Some(softmax) => {
                let mut made = [0.0; BLOCK];
                logits.chunks(BLOCK).for_each(|block| add(softmax.weights(block, &mut made)));
            }
            None => self.weights.chunks(BLOCK).for_each(add),
        }
    }
}

impl SoftmaxParams {
    /// The weights of at most one block of logits.
    #[inline]
    fn weights<'m>(self, logits: &[f32], made: &'m mut [f32; BLOCK]) -> &'m [f32] {
        let made = &mut made[..logits.len()];
        logits::weights(logits, self.max, self.scale, made);
        made
    }
}

/// A block of values; empty beyond the end.
fn nth_block(values: &[f32], block: usize) -> &[f32] {
    values.chunks(BLOCK).nth(block).unwrap_or_default()
}

/// The sum of some weights, in eight lanes by position, and how many are above zero.
fn total(weights: &[f32]) -> (f64, usize) {
    let (mut sums, mut counts) = ([0.0_f64; 8], [0_u32; 8]);
    let (chunks, rest) = weights.as_chunks::<8>();
    let mut last = [0.0; 8];
    last[..rest.len()].copy_from_slice(rest);
    for chunk in chunks.iter().chain([&last]) {
        for lane in 0..8 {
            sums[lane] += f64::from(chunk[lane]);
            counts[lane] += u32::from(chunk[lane] > 0.0);
        }
    }
    (sums.iter().sum(), counts.iter().sum::<u32>() as usize)
}

/// Finds the position in a block of weights whose cumulative interval contains `target`. Returns
/// the position, the mass before it and its own mass. If rounding leaves `target` beyond all, it is
/// the last position with mass.
fn find(weights: &[f32], target: f64) -> (usize, f64, f64) {
    let (mut found, mut sum) = ((0, 0.0, 1.0), 0.0);
    for (position, &weight) in weights.iter().enumerate() {
        if weight > 0.0 {
            let weight = f64::from(weight);
            found = (position, sum, weight);
            sum += weight;
            if sum > target {
                break;
            }
        }
    }
    found
}

/// The tokens that a prefix filter keeps: every token with a larger logit, and those with this
/// logit and an id up to `last`.
#[derive(Clone, Copy, Debug)]
struct Threshold {
    logit: f64,
    last: u32,
}

impl Threshold {
    /// Every logit of at least `logit`.
    fn at(logit: f64) -> Self {
        Self { logit, last: u32::MAX }
    }

    fn keeps(self, id: u32, logit: f32) -> bool {
        match f64::from(logit).partial_cmp(&self.logit) {
            Some(Ordering::Greater) => true,
            Some(Ordering::Equal) => id <= self.last,
            _ => false,
        }
    }

    /// The smaller of two prefixes.
    fn intersect(self, other: Self) -> Self {
        let smaller = match other.logit.total_cmp(&self.logit) {
            Ordering::Greater => true,
            Ordering::Equal => other.last < self.last,
            Ordering::Less => false,
        };
        if smaller { other } else { self }
    }
}

/// A token in a filter's order: lower rank first, then lower id.
#[derive(Clone, Copy, Debug)]
struct RankedToken {
    rank: f64,
    weight: f64,
    id: u32,
}

impl RankedToken {
    fn cmp(&self, other: &Self) -> Ordering {
        // Not `total_cmp`: 0 and -0 are equal ranks. No rank is NaN.
        self.rank.partial_cmp(&other.rank).unwrap_or(Ordering::Equal).then(self.id.cmp(&other.id))
    }
}

/// The filters applied to one row.
struct Chain<'a> {
    logits: &'a [f32],
    max: f32,
    /// 1 / temperature.
    scale: f64,
    threshold: Threshold,
    /// Whether any filter was applied.
    filtered: bool,
    /// Whether `ranked` holds the kept tokens, because they are no longer a prefix.
    explicit: bool,
    maxima: &'a mut BlockMaxima,
    ranked: &'a mut Vec<RankedToken>,
}

impl<'a> Chain<'a> {
    fn new(
        temperature: f64,
        logits: &'a [f32],
        max: f32,
        maxima: &'a mut BlockMaxima,
        ranked: &'a mut Vec<RankedToken>,
    ) -> Self {
        let scale = temperature.recip();
        let threshold = Threshold::at(f64::from(max) + EXP_UNDERFLOW / scale);
        Self { logits, max, scale, threshold, filtered: false, explicit: false, maxima, ranked }
    }

    /// The filters in the order of [`ORDER`].
    fn filter(&mut self, params: &SamplingParams) {
        if (1..self.logits.len()).contains(&params.top_k) {
            self.top_k(params.top_k);
        }
        if params.top_p < 1.0 {
            self.top_p(f64::from(params.top_p));
        }
        if params.min_p > 0.0 {
            self.min_p(f64::from(params.min_p));
        }
        if params.top_n_sigma > 0.0 {
            self.top_n_sigma(f64::from(params.top_n_sigma));
        }
        if params.typical_p < 1.0 {
            self.typical_p(f64::from(params.typical_p));
        }
    }

    fn intersect(&mut self, threshold: Threshold) {
        self.threshold = self.threshold.intersect(threshold);
        self.filtered = true;
    }

    /// Fills `ranked` with the kept tokens of logit at least `bound`, by rising id; the most
    /// probable token has the lowest rank.
    fn gather(&mut self, bound: f64) {
        self.ranked.clear();
        let (max, scale, threshold) = (self.max, self.scale as f32, self.threshold);
        self.maxima.for_each_at_least(self.logits, bound.max(threshold.logit), |id, logit| {
            if threshold.keeps(id, logit) {
                let weight = f64::from(logits::weight(logit, max, scale));
                self.ranked.push(RankedToken { rank: -f64::from(logit), weight, id });
            }
        });
    }

    /// Keeps the `k` most probable tokens.
    fn top_k(&mut self, k: usize) {
        let bound = self.maxima.bound(k);
        self.gather(f64::from(bound));
        if self.ranked.len() >= k {
            let last = *self.ranked.select_nth_unstable_by(k - 1, RankedToken::cmp).1;
            self.intersect(Threshold { logit: -last.rank, last: last.id });
        }
    }

    /// Keeps the most probable tokens up to mass `p`, including the one that reaches it (nucleus
    /// sampling; Holtzman et al., arXiv 1904.09751).
    fn top_p(&mut self, p: f64) {
        let total = if self.filtered {
            self.gather(f64::NEG_INFINITY);
            total_weight(self.ranked)
        } else {
            logits::mass(self.logits, self.max, self.scale as f32)
        };
        // Tokens below this weight sum to less than (1 - p) / 2 of the mass, so the token that
        // reaches p is above it.
        let negligible = 0.5 * (1.0 - p) * total / self.logits.len() as f64;
        self.gather(f64::from(self.max) + negligible.ln().min(0.0) / self.scale);
        let last = weighted_select(self.ranked, p * total);
        self.intersect(Threshold { logit: -last.rank, last: last.id });
    }

    /// Keeps tokens with at least `p` times the largest probability (arXiv 2407.01082).
    fn min_p(&mut self, p: f64) {
        self.intersect(Threshold::at(f64::from(self.max) + p.ln().min(0.0) / self.scale));
    }

    /// Keeps tokens whose logit lies within `n` standard deviations of the largest (top-n-sigma,
    /// arXiv 2411.07641). The deviation is that of the finite logits of the whole vocabulary,
    /// before temperature, so that the kept set does not depend on the temperature.
    fn top_n_sigma(&mut self, n: f64) {
        self.intersect(Threshold::at(
            f64::from(self.max) - n * logits::standard_deviation(self.logits, self.max),
        ));
    }

    /// Keeps the tokens whose surprisal is nearest to the entropy, up to mass `p`, including the
    /// one that reaches it (arXiv 2202.00666).
    fn typical_p(&mut self, p: f64) {
        self.gather(f64::NEG_INFINITY);
        let total = total_weight(self.ranked);
        // With x = (z - max) / temperature: -ln q = ln total - x and H = ln total - E[x], so |-ln q
        // - H| = |E[x] - x|.
        let (max, scale) = (f64::from(self.max), self.scale);
        let exponent = |entry: &RankedToken| (-entry.rank - max) * scale;
        let mean =
            self.ranked.iter().map(|entry| exponent(entry) * entry.weight).sum::<f64>() / total;
        for entry in self.ranked.iter_mut() {
            entry.rank = (mean - exponent(entry)).abs();
        }
        let last = weighted_select(self.ranked, p * total);
        self.ranked.retain(|entry| entry.cmp(&last).is_le());
        self.ranked.sort_unstable_by_key(|entry| entry.id);
        self.explicit = true;
    }

    /// Keeps the tokens of surprisal up to `mu` bits (Mirostat 2.0, arXiv 2007.14966).
    fn mirostat(&mut self, mu: f64) {
        let log_mass = logits::mass(self.logits, self.max, self.scale as f32).ln();
        let above = log_mass - mu * LN_2;
        if above > 0.0 {
            self.top_k(1);
        } else {
            self.intersect(Threshold::at(f64::from(self.max) + above / self.scale));
        }
    }

    /// Writes the kept tokens and their weights, by rising id. `unchanged`: the logits are the
    /// row's own.
    fn collect(&mut self, out: &mut Candidates, unchanged: bool) {
        if !self.filtered && !self.explicit {
            let softmax = SoftmaxParams { max: self.max, scale: self.scale as f32 };
            if unchanged {
                out.unfiltered = Some(softmax);
            } else {
                out.weights.resize(self.logits.len(), 0.0);
                logits::weights(self.logits, softmax.max, softmax.scale, &mut out.weights);
            }
            return;
        }
        if !self.explicit {
            self.gather(f64::NEG_INFINITY);
        }
        out.ids.extend(self.ranked.iter().map(|entry| entry.id));
        out.weights.extend(self.ranked.iter().map(|entry| entry.weight as f32));
    }
}

fn total_weight(ranked: &[RankedToken]) -> f64 {
    ranked.iter().map(|entry| entry.weight).sum()
}

/// The first token, in order, at which the summed weight reaches `need`; the last one if it never
/// does. Halves the list each time, so it takes linear time. The list must not be empty.
fn weighted_select(mut ranked: &mut [RankedToken], mut need: f64) -> RankedToken {
    while ranked.len() > 1 {
        let middle = ranked.len() / 2;
        ranked.select_nth_unstable_by(middle, RankedToken::cmp);
        let (before, after) = ranked.split_at_mut(middle);
        let mass = total_weight(before);
        if mass >= need {
            ranked = before;
        } else {
            need -= mass;
            ranked = after;
        }
    }
    ranked[0]
}

/// The row's temperature, 0 for argmax: the given one or, with a range, one that follows the row's
/// entropy.
fn temperature(params: &SamplingParams, logits: &[f32], maxima: &mut BlockMaxima) -> f64 {
    let (middle, range) = (f64::from(params.temperature), f64::from(params.dynatemp_range));
    if middle <= 0.0 || range <= 0.0 {
        return middle;
    }
    let entropy = logits::distribution_with(logits, maxima).map_or(0.0, |row| row.entropy);
    let possible = logits.iter().filter(|logit| logit.is_finite()).count() as f64;
    let share = if possible > 1.0 { (entropy / possible.ln()).min(1.0) } else { 0.0 };
    let low = (middle - range).max(0.0);
    let found = low + (middle + range - low) * share.powf(f64::from(params.dynatemp_exponent));
    // The reciprocal of a smaller one is no f32.
    if found < f64::from(f32::MIN_POSITIVE) { 0.0 } else { found }
}

fn changes_logits(params: &SamplingParams) -> bool {
    !params.logit_bias.is_empty() || params.has_penalties()
}

fn repeats(params: &SamplingParams) -> bool {
    (params.repetition_penalty - 1.0).abs() > 0.0
}

/// Copies the logits and applies bias, then the repetition, presence and frequency penalties.
fn adjust(
    params: &SamplingParams,
    logits: &[f32],
    history: History<'_>,
    adjusted: &mut Vec<f32>,
    counts: &mut Vec<u32>,
) -> Result<()> {
    adjusted.clear();
    adjusted.extend_from_slice(logits);
    for &(id, bias) in &params.logit_bias {
        let vocabulary = adjusted.len();
        let logit = adjusted.get_mut(id as usize).ok_or_else(|| {
            Error::usage(format!(
                "logit_bias names token {id}, but the vocabulary has \
                                  {vocabulary} tokens; name an id below {vocabulary}"
            ))
        })?;
        *logit += bias;
    }
    if counts.len() < logits.len() {
        counts.resize(logits.len(), 0);
    }
    let counts = &mut counts[..logits.len()];
    if repeats(params) {
        let seen = || history.prompt.iter().chain(history.output);
        count_tokens(seen(), counts);
        visit_counts(seen(), counts, |id, _| {
            let logit = &mut adjusted[id];
            *logit = if *logit > 0.0 {
                *logit / params.repetition_penalty
            } else {
                *logit * params.repetition_penalty
            };
        });
    }
    count_tokens(history.output.iter(), counts);
    visit_counts(history.output.iter(), counts, |id, count| {
        adjusted[id] -= params.presence_penalty;
        adjusted[id] -= params.frequency_penalty * count as f32;
    });
    if params.dry_multiplier > 0.0 {
        penalize_repetition(params, history, adjusted, counts);
    }
    Ok(())
}

/// DRY: lowers the logits of the tokens that would continue a repetition of the last tokens, as
/// llama.cpp does. Linear in the history.
fn penalize_repetition(
    params: &SamplingParams,
    history: History<'_>,
    adjusted: &mut [f32],
    counts: &mut [u32],
) {
    // -1 is no limit.
    let window = usize::try_from(params.dry_penalty_last_n).unwrap_or(usize::MAX);
    let backward = history.output.iter().rev().chain(history.prompt.iter().rev());
    let tokens: Vec<u32> = backward.take(window).copied().collect();
    let breaks = |id: &u32| history.breakers.binary_search(id).is_ok();
    let longest = tokens.iter().position(breaks).unwrap_or(tokens.len());
    let allowed = params.dry_allowed_length as usize;
    for (at, length) in common_prefixes(&tokens).into_iter().enumerate().skip(1) {
        let length = length.min(longest);
        // The token after the earlier occurrence would continue the repetition. 0 is unseen.
        if length >= allowed
            && let Some(seen) = counts.get_mut(tokens[at - 1] as usize)
        {
            *seen = (*seen).max(length as u32 + 1);
        }
    }
    visit_counts(tokens.iter(), counts, |id, seen| {
        if !breaks(&(id as u32)) {
            let beyond = (seen as usize - 1 - allowed) as i32;
            let penalty =
                f64::from(params.dry_multiplier) * f64::from(params.dry_base).powi(beyond);
            // A finite logit stays one.
            adjusted[id] -= penalty.min(f64::from(f32::MAX)) as f32;
        }
    });
}

/// How many tokens from each position on equal those from the first on (the Z-function; Gusfield,
/// Algorithms on Strings, 1997), in linear time.
fn common_prefixes(tokens: &[u32]) -> Vec<usize> {
    let mut lengths = vec![0; tokens.len()];
    // The stretch reaching farthest that equals the beginning.
    let (mut start, mut end) = (0, 0);
    for at in 1..tokens.len() {
        let mut length = if at < end { lengths[at - start].min(end - at) } else { 0 };
        while at + length < tokens.len() && tokens[length] == tokens[at + length] {
            length += 1;
        }
        if at + length > end {
            (start, end) = (at, at + length);
        }
        lengths[at] = length;
    }
    lengths
}

fn count_tokens<'a>(tokens: impl Iterator<Item = &'a u32>, counts: &mut [u32]) {
    for &id in tokens {
        if let Some(count) = counts.get_mut(id as usize) {
            *count += 1;
        }
    }
}

/// Calls `visit(id, count)` once per distinct token and resets its count to 0 for the next row.
fn visit_counts<'a>(
    tokens: impl Iterator<Item = &'a u32>,
    counts: &mut [u32],
    mut visit: impl FnMut(usize, u32),
) {
    for &id in tokens {
        if let Some(count) = counts.get_mut(id as usize).filter(|count| **count > 0) {
            visit(id as usize, std::mem::take(count));
        }
    }
}

/// The error for logits that are not a distribution.
fn no_distribution(logits: &[f32]) -> Error {
    let bad =
        logits.iter().enumerate().find(|(_, logit)| logit.is_nan() || **logit == f32::INFINITY);
    Error::Numerical(match bad {
        Some((id, logit)) => format!(
            "the logit of token {id} is {logit}; no token can be sampled; verify the model file, \
             and logit_bias, repetition_penalty and the other penalties if set"
        ),
        None => format!(
            "none of {} logits is finite; no token can be sampled; verify the model file",
            logits.len()
        ),
    })
}
