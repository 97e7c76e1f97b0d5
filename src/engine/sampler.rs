//! The sampler chain: from a row of raw logits to the distribution really sampled from, and from a
//! point in [0, 1) to a token.
//!
//! Contract: the steps run in the order of [`ORDER`], temperature before the filters as in Hugging
//! Face. Every filter sees the distribution of the survivors of the filter before it, renormalized,
//! and keeps at least the most probable token. "More probable" has one meaning throughout: the
//! larger logit, and among equal logits the lower id; so ties at a threshold are resolved for the
//! lower id. Same logits, parameters and history give the same bits.
//!
//! Every filter but the last keeps a prefix of that order, so what survives is held as one cut, not
//! as a list; no step sorts the vocabulary. An unfiltered row costs one vectorised pass, and a
//! block of it again for every token drawn.
//!
//! It does not know models, rows or samples; nothing here touches the raw statistics of
//! [`crate::logits`].

use std::cmp::Ordering;

use super::random::BELOW_ONE;
pub use super::random::SampleRng;
use crate::error::{Error, Result};
use crate::generation::SamplingParams;
use crate::logits::{self, BlockMaxima};

/// The steps in the order in which they apply. Bias and penalties change logits, temperature
/// divides them, the rest filter.
pub const ORDER: [&str; 11] = [
    "logit_bias",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "top_n_sigma",
    "typical_p",
    "draw",
];

/// Tokens less probable than e^-87 (1e-38) times the most probable one are dropped: their weight
/// could not be held.
const EXP_UNDERFLOW: f64 = logits::EXP_UNDERFLOW as f64;
/// Weights per block of the cumulative sums.
const BLOCK: usize = 128;

/// The tokens before the one to be drawn, for the penalties. Ids outside the vocabulary are
/// ignored.
#[derive(Clone, Copy, Debug, Default)]
pub struct History<'a> {
    /// The rendered prompt.
    pub prompt: &'a [u32],
    /// What this sample has drawn so far.
    pub output: &'a [u32],
}

/// Buffers that outlive a step, so that a step allocates nothing once they have grown. One per
/// thread; holds no state that shows.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Knows the row that was scanned last.
    pub(super) maxima: BlockMaxima,
    /// What a sample has drawn so far.
    pub(super) output: Vec<u32>,
    adjusted: Vec<f32>,
    counts: Vec<u32>,
    pool: Vec<RankedToken>,
    free_list: Vec<Candidates>,
}

impl Scratch {
    /// Takes the buffers of candidates that were drawn from, if it has none for the next row.
    pub(super) fn take_from_pool(&mut self, pop: impl FnOnce() -> Option<Candidates>) {
        if self.free_list.is_empty() {
            self.free_list.extend(pop());
        }
    }

    /// Takes back the buffers of candidates that are drawn from, for the next row.
    pub fn recycle(&mut self, candidates: Candidates) {
        self.free_list.push(candidates);
    }
}

/// The distribution really sampled from: after bias, penalties, temperature and filters. Depends on
/// the prefix only, so it is built once per row and every sample on the row draws from it; it is of
/// use beside that row's logits only.
#[derive(Clone, Debug)]
pub struct Candidates {
    /// Kept ids, rising; empty if nothing was filtered, when a position is an id.
    ids: Vec<u32>,
    /// The weight of every position; 0 for a token that cannot be drawn. Empty where there is
    /// `plain`.
    weights: Vec<f32>,
    /// How the row's own logits give the weights, if nothing was changed or filtered: to make a
    /// block of them again for every token drawn costs less than to write a vocabulary of them and
    /// to read it again.
    unfiltered: Option<SoftmaxParams>,
    /// The sum of all weights up to the end of each block.
    ends: Vec<f64>,
    kept: usize,
}

/// What makes a weight of a logit z: e^((z - max) * scale).
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
    /// q(token), above 0, at most 1: the token answers to points in [low, low + width).
    pub width: f64,
}

impl Candidates {
    /// Runs the chain on one row of raw logits, one per token of the real vocabulary. Minus
    /// infinity marks an impossible token. `params` are taken to have passed
    /// [`SamplingParams::validate`]. At temperature 0 only the best token after bias and penalties
    /// is kept, the lowest id winning a tie.
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

    /// [`new`](Self::new), where the scratch's maxima know the row already if its largest logit is
    /// `given`.
    pub(super) fn after_scan(
        params: &SamplingParams,
        logits: &[f32],
        history: History<'_>,
        scratch: &mut Scratch,
        given: Option<f32>,
    ) -> Result<Self> {
        let Scratch { maxima, adjusted, counts, pool, free_list, .. } = scratch;
        let as_given = !changes_logits(params);
        let logits = if as_given {
            logits
        } else {
            adjust(params, logits, history, adjusted, counts)?;
            adjusted.as_slice()
        };
        let scanned = given.filter(|_| as_given).or_else(|| maxima.scan(logits));
        let max = scanned.ok_or_else(|| no_distribution(logits))?;
        let mut candidates = free_list.pop().unwrap_or_else(Self::empty);
        candidates.clear();
        if params.temperature > 0.0 {
            let mut chain = Chain::new(params, logits, max, maxima, pool);
            chain.filter(params);
            chain.collect(&mut candidates, as_given);
        } else {
            maxima.for_each_at_least(logits, f64::from(max), |id, _| candidates.ids.push(id));
            candidates.ids.truncate(1);
            candidates.weights.push(1.0);
        }
        candidates.accumulate(logits);
        Ok(candidates)
    }

    /// How many tokens can be drawn, at least 1.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// The token at `u` of the cumulative distribution in id order. Points outside [0, 1) are
    /// moved to its ends, and rounding never picks a token without mass. `logits` are the row that
    /// this was made of.
    pub fn sample(&self, u: f64, logits: &[f32]) -> SampledToken {
        let total = self.ends.last().copied().unwrap_or(1.0);
        // Not `clamp`: a NaN too goes to 0.
        let target = total * if u >= 0.0 { u.min(BELOW_ONE) } else { 0.0 };
        let block = self.ends.partition_point(|&end| end <= target);
        // A target rounded up to the total has no block: take the one in which the sum reaches the
        // total, the last one with mass.
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

    fn empty() -> Self {
        Self { ids: Vec::new(), weights: Vec::new(), unfiltered: None, ends: Vec::new(), kept: 0 }
    }

    fn clear(&mut self) {
        self.ids.clear();
        self.weights.clear();
        self.unfiltered = None;
        self.ends.clear();
    }

    /// Sums the weights block by block and counts those that can be drawn.
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
    /// The weights of at most a block of logits.
    #[inline]
    fn weights<'m>(self, logits: &[f32], made: &'m mut [f32; BLOCK]) -> &'m [f32] {
        let made = &mut made[..logits.len()];
        logits::weights(logits, self.max, self.scale, made);
        made
    }
}

/// Some block of numbers, or what there is of it.
fn nth_block(numbers: &[f32], block: usize) -> &[f32] {
    numbers.chunks(BLOCK).nth(block).unwrap_or_default()
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

/// In a block of weights: the position whose cumulative interval holds `target`, the mass before it
/// and its own; the last position with mass if rounding leaves `target` beyond all.
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

/// What survives a prefix filter: the tokens from the most probable one up to one logit and, at
/// that logit, one id.
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
    fn and(self, other: Self) -> Self {
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
        // Not `total_cmp`: 0 and -0 are the same rank. No rank is NaN.
        self.rank.partial_cmp(&other.rank).unwrap_or(Ordering::Equal).then(self.id.cmp(&other.id))
    }
}

/// The filters at work on one row.
struct Chain<'a> {
    logits: &'a [f32],
    max: f32,
    /// 1 / temperature.
    scale: f64,
    threshold: Threshold,
    /// Whether a filter has cut anything yet.
    filtered: bool,
    /// Whether `pool` holds the survivors, because they are no prefix any more.
    explicit: bool,
    maxima: &'a mut BlockMaxima,
    pool: &'a mut Vec<RankedToken>,
}

impl<'a> Chain<'a> {
    fn new(
        params: &SamplingParams,
        logits: &'a [f32],
        max: f32,
        maxima: &'a mut BlockMaxima,
        pool: &'a mut Vec<RankedToken>,
    ) -> Self {
        let scale = f64::from(params.temperature).recip();
        let threshold = Threshold::at(f64::from(max) + EXP_UNDERFLOW / scale);
        Self { logits, max, scale, threshold, filtered: false, explicit: false, maxima, pool }
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
        self.threshold = self.threshold.and(threshold);
        self.filtered = true;
    }

    /// Fills the pool with the survivors of logit at least `bound`, by rising id, the most probable
    /// first in rank.
    fn gather(&mut self, bound: f64) {
        self.pool.clear();
        let (max, scale, threshold) = (self.max, self.scale as f32, self.threshold);
        self.maxima.for_each_at_least(self.logits, bound.max(threshold.logit), |id, logit| {
            if threshold.keeps(id, logit) {
                let weight = f64::from(logits::weight(logit, max, scale));
                self.pool.push(RankedToken { rank: -f64::from(logit), weight, id });
            }
        });
    }

    /// The `k` most probable.
    fn top_k(&mut self, k: usize) {
        let bound = self.maxima.bound(k);
        self.gather(f64::from(bound));
        if self.pool.len() >= k {
            let last = *self.pool.select_nth_unstable_by(k - 1, RankedToken::cmp).1;
            self.intersect(Threshold { logit: -last.rank, last: last.id });
        }
    }

    /// The most probable up to mass `p`, the token that reaches it included (nucleus; Holtzman et
    /// al., arXiv 1904.09751).
    fn top_p(&mut self, p: f64) {
        let total = if self.filtered {
            self.gather(f64::NEG_INFINITY);
            pool_mass(self.pool)
        } else {
            logits::mass(self.logits, self.max, self.scale as f32)
        };
        // Tokens below this weight sum to less than (1 - p) / 2 of the mass, so the token that
        // reaches p is above it.
        let faint = 0.5 * (1.0 - p) * total / self.logits.len() as f64;
        self.gather(f64::from(self.max) + faint.ln().min(0.0) / self.scale);
        let last = weighted_select(self.pool, p * total);
        self.intersect(Threshold { logit: -last.rank, last: last.id });
    }

    /// Those with at least `p` times the largest probability (arXiv 2407.01082).
    fn min_p(&mut self, p: f64) {
        self.intersect(Threshold::at(f64::from(self.max) + p.ln().min(0.0) / self.scale));
    }

    /// Those whose logit lies within `n` standard deviations of the largest; the deviation runs
    /// over the finite logits of the whole vocabulary, before temperature, so that the set does not
    /// depend on it (top-n-sigma, arXiv 2411.07641).
    fn top_n_sigma(&mut self, n: f64) {
        self.intersect(Threshold::at(
            f64::from(self.max) - n * logits::standard_deviation(self.logits, self.max),
        ));
    }

    /// Those whose surprisal is nearest to the entropy, up to mass `p`, the one that reaches it
    /// included (arXiv 2202.00666).
    fn typical_p(&mut self, p: f64) {
        self.gather(f64::NEG_INFINITY);
        let total = pool_mass(self.pool);
        // With x = (z - max) / temperature: -ln q = ln total - x and H = ln total - E[x], so |-ln q
        // - H| = |E[x] - x|.
        let (max, scale) = (f64::from(self.max), self.scale);
        let exponent = |entry: &RankedToken| (-entry.rank - max) * scale;
        let mean =
            self.pool.iter().map(|entry| exponent(entry) * entry.weight).sum::<f64>() / total;
        for entry in self.pool.iter_mut() {
            entry.rank = (mean - exponent(entry)).abs();
        }
        let last = weighted_select(self.pool, p * total);
        self.pool.retain(|entry| entry.cmp(&last).is_le());
        self.pool.sort_unstable_by_key(|entry| entry.id);
        self.explicit = true;
    }

    /// Writes the survivors and their weights, by rising id. `as_given`: the logits are the row's
    /// own.
    fn collect(&mut self, out: &mut Candidates, as_given: bool) {
        if !self.filtered && !self.explicit {
            let softmax = SoftmaxParams { max: self.max, scale: self.scale as f32 };
            if as_given {
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
        out.ids.extend(self.pool.iter().map(|entry| entry.id));
        out.weights.extend(self.pool.iter().map(|entry| entry.weight as f32));
    }
}

fn pool_mass(pool: &[RankedToken]) -> f64 {
    pool.iter().map(|entry| entry.weight).sum()
}

/// The first entry, in order, at which the summed weight reaches `need`; the last one if it never
/// does. Halves the pool each time, so it costs O(pool), not a sort. The pool must not be empty.
fn weighted_select(mut pool: &mut [RankedToken], mut need: f64) -> RankedToken {
    while pool.len() > 1 {
        let middle = pool.len() / 2;
        pool.select_nth_unstable_by(middle, RankedToken::cmp);
        let (before, after) = pool.split_at_mut(middle);
        let mass = pool_mass(before);
        if mass >= need {
            pool = before;
        } else {
            need -= mass;
            pool = after;
        }
    }
    pool[0]
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
    Ok(())
}

fn count_tokens<'a>(tokens: impl Iterator<Item = &'a u32>, counts: &mut [u32]) {
    for &id in tokens {
        if let Some(count) = counts.get_mut(id as usize) {
            *count += 1;
        }
    }
}

/// Calls `visit(id, count)` once per distinct token and sets its count back to 0, so that the
/// buffer is clean for the next row.
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

/// Says what is wrong with logits that are no distribution.
fn no_distribution(logits: &[f32]) -> Error {
    let bad =
        logits.iter().enumerate().find(|(_, logit)| logit.is_nan() || **logit == f32::INFINITY);
    Error::Numerical(match bad {
        Some((id, logit)) => format!(
            "the logit of token {id} is {logit}; no token can be drawn; verify the model file, \
             and the logit bias and penalties if set"
        ),
        None => format!(
            "none of {} logits is finite; no token can be drawn; verify the model file",
            logits.len()
        ),
    })
}
