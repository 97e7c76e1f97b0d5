//! One request in the engine: prefill, then rows of samples that fork only when
//! they must, or scores.
//!
//! A row is a distinct token prefix, not a sample. All samples on a row share its forward pass, its
//! statistics and its filtered distribution; each draws its own token, and the row splits into one
//! row per distinct token. Sample i's draws depend on (seed, prompt, i, step) alone and a row's
//! logits on its tokens alone, so the samples are those of separate runs, also when a request loses
//! its cache and starts over.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::loops::LoopDetector;
use super::prefix_cache::{CacheHold, PrefixCache};
use super::reasoning::ReasoningTracker;
use super::sampler::{self, Candidates, History, SampleRng, Scratch};
use super::{Alternatives, OnToken, Reply, RequestId, ScoredTokens, StepControl, TokenEvent};
use crate::consensus;
use crate::error::{Error, Result};
use crate::generation::{
    Completion, Cost, FinishReason, Generation, SamplingParams, Timing, Token, TokenCounts,
    TokenStats,
};
use crate::logits::{self, BlockMaxima, Distribution};
use crate::model::Row;
use crate::model::kv::KvSeq;
use crate::prompt::{Prompt, Reasoning};
use crate::tokenizer::Tokenizer;

/// Tokens scored in one step: each has a row of logits in memory.
const SCORED_CHUNK: usize = 32;

/// What a request computes once its prompt is prefilled.
pub(super) enum Work {
    /// Draw samples.
    Sample(Box<SampleGroup>),
    /// Record the statistics of the prompt's own tokens.
    Score(ScoreState),
}

/// Statistics of given tokens.
pub(super) struct ScoreState {
    /// Index of the first scored token, at least 1.
    from: usize,
    /// Which other tokens are recorded with each.
    alternatives: Alternatives,
    /// The scored tokens so far.
    scored: Vec<Token>,
    /// When the first one was scored.
    first_token: Option<Instant>,
}

/// The samples of a prompt.
pub(super) struct SampleGroup {
    params: SamplingParams,
    /// Selects the random streams, together with the sample's index.
    key: u64,
    /// The tokens that no repetition spans, for DRY.
    breakers: Arc<[u32]>,
    /// How reasoning shows in the samples.
    reasoning: Option<Reasoning>,
    rows: Vec<SampleRow>,
    samples: Vec<Sample>,
    /// Rows computed after the prompt.
    forward_tokens: usize,
    /// Steps drawn before the request lost its cache: drawn again, without being counted or
    /// reported again.
    replay_until: usize,
    first_token: Option<Instant>,
}

struct SampleRow {
    kv: KvSeq,
    /// The token drawn last, which goes into the next forward pass.
    next: u32,
    /// Positions of the samples whose tokens are this row's prefix, ascending.
    samples: Vec<usize>,
}

struct Sample {
    index: usize,
    rng: SampleRng,
    /// Mirostat's bound on the surprisal, in bits. It follows from the tokens drawn so far.
    mu: f64,
    tokens: Vec<Token>,
    /// The text's bytes, kept only to search for stop strings and announced answers.
    bytes: Vec<u8>,
    /// The byte at which the answer begins.
    answer_start: usize,
    reasoning: Option<ReasoningTracker>,
    loops: LoopDetector,
    finished: Option<FinishReason>,
}

/// A request in the engine.
pub(super) struct RequestState {
    pub id: RequestId,
    /// Rows of logits in the step under way.
    pub logit_rows: usize,
    tokens: Vec<u32>,
    /// Cache range to forget after prefill.
    drop_after_prefill: Option<Range<usize>>,
    hold: Option<CacheHold>,
    /// The prompt's cache, until the first row takes it over.
    kv: KvSeq,
    /// Tokens that came from the prefix cache; set when the request first starts.
    cached: Option<usize>,
    /// Lost its cache once: starts again only when its worst case fits.
    preempted: bool,
    work: Work,
    /// The error that ends the request.
    error: Option<Error>,
    submitted: Instant,
}

/// The result of a row of logits: everything that does not depend on the sample.
pub(super) enum RowResult {
    /// The candidates that its samples draw from.
    Distribution {
        distribution: Distribution,
        candidates: Candidates,
        top_logprobs: Vec<(u32, f64)>,
    },
    /// The statistics of a scored token.
    Scored(Token),
    /// The logits hold NaN or no finite number.
    NonFinite,
    /// Parameters of the request that cannot be applied to this row.
    Failed(Error),
}

/// Engine state that a request borrows while it consumes its logits.
pub(super) struct StepContext<'a> {
    pub tokenizer: &'a Tokenizer,
    pub end_tokens: &'a [u32],
    /// Every sample on its own row, for comparison.
    pub eager_forking: bool,
    pub prefix_cache: &'a mut PrefixCache,
    /// Takes back candidates that were drawn from.
    pub free_candidates: &'a mut Vec<Candidates>,
    pub on_token: &'a mut OnToken<'a>,
}

impl ScoreState {
    pub fn new(from: usize, alternatives: Alternatives) -> Self {
        Self { from, alternatives, scored: Vec::new(), first_token: None }
    }
}

impl SampleGroup {
    pub fn new(
        params: SamplingParams,
        prompt: &Prompt,
        samples: Range<usize>,
        breakers: Arc<[u32]>,
    ) -> Self {
        let key = super::random::key(params.seed, &prompt.tokens);
        let reasoning = prompt.reasoning.clone();
        let new = |index| Sample::new(index, key, &params, reasoning.as_ref());
        Self {
            samples: samples.map(new).collect(),
            key,
            breakers,
            reasoning,
            rows: Vec::new(),
            forward_tokens: 0,
            replay_until: 0,
            first_token: None,
            params,
        }
    }

    /// Samples that have not ended.
    fn unfinished(&self) -> impl Iterator<Item = usize> {
        (0..self.samples.len()).filter(|&i| self.samples[i].finished.is_none())
    }

    /// Forgets what unfinished samples drew; they draw the same again.
    fn restart(&mut self) {
        let drawn = self.unfinished().map(|i| self.samples[i].tokens.len()).max();
        self.replay_until = self.replay_until.max(drawn.unwrap_or(0));
        self.rows.clear();
        for i in 0..self.samples.len() {
            if self.samples[i].finished.is_none() {
                let index = self.samples[i].index;
                self.samples[i] =
                    Sample::new(index, self.key, &self.params, self.reasoning.as_ref());
            }
        }
    }

    /// A row's candidates and statistics. The row's first sample is `first`.
    fn row_result(
        &self,
        prompt: &[u32],
        first: usize,
        z: &[f32],
        scratch: &mut Scratch,
    ) -> RowResult {
        let Some(distribution) = logits::distribution_with(z, &mut scratch.maxima) else {
            return RowResult::NonFinite;
        };
        let k = self.params.top_logprobs;
        let top_logprobs = top_logprobs(&distribution, z, k, &mut scratch.maxima);
        let mut output = std::mem::take(&mut scratch.output);
        output.clear();
        if self.params.has_penalties() {
            output.extend(self.samples[first].tokens.iter().map(|t| t.id));
        }
        let (breakers, mu) = (&*self.breakers, self.samples[first].mu);
        let history = History { prompt, output: &output, breakers, mu };
        let scanned = Some(distribution.max_logit);
        let candidates = Candidates::after_scan(&self.params, z, history, scratch, scanned);
        scratch.output = output;
        match candidates {
            Ok(candidates) if self.params.top_sampled => {
                let top_logprobs = candidates.top(k, z);
                RowResult::Distribution { distribution, candidates, top_logprobs }
            }
            Ok(candidates) => RowResult::Distribution { distribution, candidates, top_logprobs },
            Err(error) => RowResult::Failed(error),
        }
    }

    /// Every sample on `row` draws from its logits; the unfinished ones keep the row's cache,
    /// forked where they diverge. `prompt` is the request's tokens if completions are to be cached.
    fn sample_row(
        &mut self,
        (request, cached_prompt): (RequestId, Option<(&[u32], &CacheHold)>),
        mut row: SampleRow,
        z: &[f32],
        result: RowResult,
        ctx: &mut StepContext<'_>,
    ) -> Result<()> {
        let (distribution, candidates, top_logprobs) = match result {
            RowResult::Distribution { distribution, candidates, top_logprobs } => {
                (distribution, candidates, top_logprobs)
            }
            RowResult::Failed(error) => return Err(error),
            RowResult::NonFinite | RowResult::Scored(_) => {
                for &i in &row.samples {
                    self.samples[i].finished = Some(FinishReason::NumericalError);
                }
                return Ok(());
            }
        };
        let step = self.samples[row.samples[0]].tokens.len();
        for &i in &row.samples {
            let (id, sampling_logprob) = self.next_token(i, step, &candidates, z);
            let stats = TokenStats { sampling_logprob, ..stats(&distribution, z[id as usize]) };
            let token = Token { id, stats, top_logprobs: top_logprobs.clone() };
            self.push_token(i, token, ctx);
            let sample = &self.samples[i];
            if step < self.replay_until {
                continue;
            }
            if let Some(token) = sample.tokens.last() {
                match (ctx.on_token)(&TokenEvent {
                    request,
                    sample: sample.index,
                    step,
                    token,
                    finished: sample.finished,
                }) {
                    StepControl::Continue => {}
                    StepControl::StopSample => self.finish(i, FinishReason::Cancelled),
                    StepControl::EndSample => self.finish(i, FinishReason::Stop),
                    StepControl::StopAll => (0..self.samples.len())
                        .for_each(|i| self.finish(i, FinishReason::Cancelled)),
                }
            }
        }
        ctx.free_candidates.push(candidates);
        if let Some((prompt, hold)) = cached_prompt {
            let ended = row.samples.iter().find(|&&i| self.samples[i].finished.is_some());
            if let Some(&ended) = ended {
                let drawn = self.samples[ended].tokens.iter().map(|token| token.id).take(step);
                let tokens: Vec<u32> = prompt.iter().copied().chain(drawn).collect();
                let views = row.kv.prefix(tokens.len());
                ctx.prefix_cache.insert(&tokens, &views, Some(hold));
            }
        }
        // A callback may have stopped samples that had drawn before it.
        row.samples.retain(|&i| self.samples[i].finished.is_none());
        let drawn = |i: usize| self.samples[i].tokens.last().map_or(0, |token| token.id);
        while let Some(&first) = row.samples.first() {
            row.next = drawn(first);
            let parts = |i: usize| i != first && (ctx.eager_forking || drawn(i) != row.next);
            let others: Vec<usize> = row.samples.iter().copied().filter(|&i| parts(i)).collect();
            if others.is_empty() {
                self.rows.push(row);
                break;
            }
            row.samples.retain(|&i| !parts(i));
            self.rows.push(SampleRow {
                kv: row.kv.fork(),
                next: row.next,
                samples: std::mem::replace(&mut row.samples, others),
            });
        }
        Ok(())
    }

    /// The token that sample `i` takes from the candidates, and ln of its probability among them. A
    /// token that is forced has the probability 1.
    fn next_token(
        &mut self,
        i: usize,
        step: usize,
        candidates: &Candidates,
        z: &[f32],
    ) -> (u32, f64) {
        let (sample, budget) = (&mut self.samples[i], self.params.thinking_budget);
        let forced =
            sample.reasoning.as_mut().and_then(|tracker| tracker.next_forced(step, budget));
        if let Some(id) = forced {
            return (id, 0.0);
        }
        let picked = sample.rng.draw(step, candidates, z);
        sample.mu = sampler::next_mu(&self.params, sample.mu, picked.logprob);
        (picked.token, picked.logprob)
    }

    /// Appends a drawn token to sample `i` and ends the sample if it is finished.
    fn push_token(&mut self, i: usize, token: Token, ctx: &StepContext<'_>) {
        let (id, sample) = (token.id, &mut self.samples[i]);
        sample.tokens.push(token);
        let goes_on = sample.reasoning.as_ref().is_some_and(|tracker| tracker.continues_after(id));
        if ctx.end_tokens.contains(&id) && !self.params.ignore_eos && !goes_on {
            sample.finished = Some(FinishReason::Stop);
            return;
        }
        let tracker = sample.reasoning.as_mut();
        let closed = tracker.and_then(|tracker| tracker.push(&sample.tokens, ctx.tokenizer));
        if !self.params.stop.is_empty() || self.params.stop_at_answer {
            let old = sample.bytes.len();
            ctx.tokenizer.append_bytes(id, &mut sample.bytes);
            if let Some(rest) = closed {
                sample.answer_start = sample.bytes.len().saturating_sub(rest);
            }
            if self.params.stop_at_answer && sample.has_announced_answer(old) {
                sample.finished = Some(FinishReason::Stop);
                return;
            }
            let hit = |stop: &String| {
                find(&sample.bytes[old.saturating_sub(stop.len() - 1)..], stop.as_bytes())
            };
            if self.params.stop.iter().any(hit) {
                sample.finished = Some(FinishReason::Stop);
                return;
            }
        }
        let tokens = &sample.tokens;
        let repeats = sample.loops.push(tokens.len(), |at| tokens[at].id).is_some();
        if repeats && !self.params.ignore_eos {
            sample.finished = Some(FinishReason::Loop);
        } else if sample.tokens.len() == self.params.max_tokens {
            sample.finished = Some(FinishReason::Length);
        }
    }

    /// Ends a sample that has not ended by itself.
    fn finish(&mut self, i: usize, reason: FinishReason) {
        self.samples[i].finished.get_or_insert(reason);
    }

    fn completion(&self, sample: Sample, ctx: &StepContext<'_>) -> Completion {
        let ids: Vec<u32> =
            sample.tokens.iter().map(|t| t.id).filter(|id| !ctx.end_tokens.contains(id)).collect();
        let mut text = ctx.tokenizer.decode(&ids);
        let tracker = sample.reasoning.as_ref();
        let spans =
            tracker.and_then(|t| t.spans(&sample.tokens, ctx.end_tokens, ctx.tokenizer, &text));
        if let Some(cut) = self.params.stop.iter().filter_map(|stop| text.find(stop)).min() {
            text.truncate(cut);
        }
        Completion {
            index: sample.index,
            tokens: sample.tokens,
            text,
            spans,
            finish_reason: sample.finished.unwrap_or(FinishReason::Cancelled),
            ..Completion::default()
        }
    }
}

impl Sample {
    fn new(index: usize, key: u64, params: &SamplingParams, reasoning: Option<&Reasoning>) -> Self {
        Self {
            index,
            rng: SampleRng::new(params.draw, key, index),
            mu: sampler::first_mu(params),
            tokens: Vec::new(),
            bytes: Vec::new(),
            answer_start: 0,
            reasoning: reasoning.map(ReasoningTracker::new),
            loops: LoopDetector::default(),
            finished: None,
        }
    }

    /// Whether the bytes from `new` on end the line or sentence that announces the answer.
    fn has_announced_answer(&self, new: usize) -> bool {
        let start = self.answer_start;
        let open = self.reasoning.as_ref().is_some_and(ReasoningTracker::is_open);
        let ends = self.bytes.iter().skip(new).any(u8::is_ascii_whitespace);
        let answer = self.bytes.get(start..).filter(|_| ends && !open);
        let answer = answer.map(String::from_utf8_lossy);
        answer.is_some_and(|text| consensus::announces_answer(&text, new.saturating_sub(start)))
    }
}

impl RequestState {
    pub fn new(id: RequestId, prompt: Prompt, hold: Option<CacheHold>, work: Work) -> Self {
        Self {
            id,
            logit_rows: 0,
            tokens: prompt.tokens,
            drop_after_prefill: prompt.drop_after_prefill,
            hold,
            kv: KvSeq::new(0),
            cached: None,
            preempted: false,
            work,
            error: None,
            submitted: Instant::now(),
        }
    }

    /// Starts from the cached prefix.
    pub fn start(&mut self, kv: KvSeq) {
        self.cached.get_or_insert(kv.len());
        self.kv = kv;
    }

    /// Drops the cache; unfinished work is computed again.
    pub fn restart(&mut self, layers: usize) {
        self.kv = KvSeq::new(layers);
        self.preempted = true;
        match &mut self.work {
            Work::Sample(group) => group.restart(),
            Work::Score(state) => state.scored.clear(),
        }
    }

    /// The tokens that cached keys and values may cover: the last one is computed for its logits.
    pub fn cacheable(&self) -> &[u32] {
        match &self.work {
            Work::Sample(_) => &self.tokens[..self.tokens.len() - 1],
            Work::Score(state) => &self.tokens[..state.from - 1],
        }
    }

    /// The tokens that it will add to the prefix cache, while they are being computed.
    pub fn prefilling(&self) -> Option<&[u32]> {
        match &self.work {
            Work::Sample(_) if !self.decodes() => Some(&self.tokens),
            Work::Score(state) if self.kv.len() < state.from => Some(&self.tokens[..state.from]),
            _ => None,
        }
    }

    /// Whether its entries in the prefix cache are held.
    pub fn is_held(&self) -> bool {
        self.hold.is_some()
    }

    /// Whether the prompt is prefilled and samples are drawn.
    fn decodes(&self) -> bool {
        matches!(&self.work, Work::Sample(group) if !group.rows.is_empty())
    }

    /// Rows of the next step that continue samples.
    pub fn decode_rows(&self) -> usize {
        match &self.work {
            Work::Sample(group) => group.rows.len(),
            Work::Score(_) => 0,
        }
    }

    /// Tokens of keys and values in memory: the prompt's and one per row computed. An upper bound,
    /// since rows of ended samples are gone.
    pub fn kv_tokens(&self) -> usize {
        match &self.work {
            Work::Sample(group) => self.tokens.len() + group.forward_tokens,
            Work::Score(_) => self.tokens.len(),
        }
    }

    /// Tokens of keys and values that must be free for it to start.
    pub fn admission_tokens(&self) -> usize {
        match &self.work {
            Work::Sample(group) if self.preempted => {
                self.tokens.len() + group.samples.len() * group.params.max_tokens
            }
            Work::Sample(group) => self.tokens.len() + group.samples.len(),
            Work::Score(_) => self.tokens.len(),
        }
    }

    /// Nothing is left to compute.
    pub fn is_finished(&self) -> bool {
        self.error.is_some()
            || match &self.work {
                Work::Sample(group) => group.unfinished().next().is_none(),
                Work::Score(state) => state.scored.len() == self.tokens.len() - state.from,
            }
    }

    /// Appends the rows of the next step, at most `limit` tokens of the prompt among them; returns
    /// how many of these it took.
    pub fn push_rows<'a>(&'a mut self, limit: usize, out: &mut Vec<Row<'a>>) -> usize {
        let (start, len) = (self.kv.len(), self.tokens.len());
        let (end, logits) = match &mut self.work {
            Work::Sample(group) if !group.rows.is_empty() => {
                let first = group.rows[0].samples[0];
                if group.samples[first].tokens.len() >= group.replay_until {
                    group.forward_tokens += group.rows.len();
                }
                self.logit_rows = group.rows.len();
                out.extend(group.rows.iter_mut().map(|row| Row {
                    tokens: std::slice::from_ref(&row.next),
                    kv: &mut row.kv,
                    logits: 1,
                }));
                return 0;
            }
            Work::Sample(_) => {
                let end = len.min(start + limit);
                (end, usize::from(end == len))
            }
            // Up to the token whose logits score the first continuation token, none are wanted;
            // from there on all. The last token predicts nothing.
            Work::Score(state) if start + 1 < state.from => {
                ((state.from - 1).min(start + limit), 0)
            }
            Work::Score(_) => {
                let end = (len - 1).min(start + limit.min(SCORED_CHUNK));
                (end, end - start)
            }
        };
        self.logit_rows = logits;
        if start < end {
            out.push(Row { tokens: &self.tokens[start..end], kv: &mut self.kv, logits });
        }
        end - start
    }

    /// The result of its `index`-th row of logits. Read-only, so rows may be processed in
    /// parallel.
    pub fn row_result(&self, index: usize, z: &[f32], scratch: &mut Scratch) -> RowResult {
        match &self.work {
            Work::Score(state) => {
                let token = self.tokens[state.from + state.scored.len() + index];
                score_token(z, token, &state.alternatives, &mut scratch.maxima)
            }
            Work::Sample(group) => {
                let first = group.rows.get(index).map(|row| row.samples[0]);
                let first = first.or_else(|| group.unfinished().next()).unwrap_or(0);
                group.row_result(&self.tokens, first, z, scratch)
            }
        }
    }

    /// Consumes the step's rows: their logits and results.
    pub fn record(
        &mut self,
        rows: &mut dyn Iterator<Item = (&[f32], RowResult)>,
        ctx: &mut StepContext<'_>,
    ) {
        // The iterator is shared by all requests: take every row of this one, also after an error.
        let recorded = self.try_record(rows, ctx);
        rows.for_each(drop);
        self.error = recorded.err();
    }

    fn try_record(
        &mut self,
        rows: &mut dyn Iterator<Item = (&[f32], RowResult)>,
        ctx: &mut StepContext<'_>,
    ) -> Result<()> {
        match &mut self.work {
            Work::Score(state) => {
                for (_, result) in rows {
                    match result {
                        RowResult::Scored(token) => state.scored.push(token),
                        RowResult::Failed(error) => return Err(error),
                        RowResult::NonFinite | RowResult::Distribution { .. } => {
                            return Err(Error::Numerical(
                                "the model produced NaN logits; check the file with `candor \
                                 verify`"
                                    .into(),
                            ));
                        }
                    }
                }
                if self.kv.len() >= state.from && state.first_token.is_none() {
                    state.first_token = Some(Instant::now());
                    let views = self.kv.prefix(state.from);
                    let prefix = &self.tokens[..state.from];
                    ctx.prefix_cache.insert(prefix, &views, self.hold.as_ref());
                }
            }
            Work::Sample(group) => {
                // Dropped rows leave a gap, so what comes after them is not the cache of a prefix.
                let whole = self.drop_after_prefill.is_none();
                let hold = self.hold.as_ref().filter(|_| whole);
                let cached_prompt = hold.map(|hold| (&*self.tokens, hold));
                let owner = (self.id, cached_prompt);
                if group.rows.is_empty() {
                    let Some((z, result)) = rows.next() else { return Ok(()) };
                    group.first_token.get_or_insert_with(Instant::now);
                    let views = self.kv.prefix(self.tokens.len());
                    ctx.prefix_cache.insert(&self.tokens, &views, self.hold.as_ref());
                    let mut kv = self.kv.fork();
                    if let Some(range) = self.drop_after_prefill.clone() {
                        kv.drop_range(range)?;
                    }
                    let row = SampleRow { kv, next: 0, samples: group.unfinished().collect() };
                    return group.sample_row(owner, row, z, result, ctx);
                }
                let next = Vec::with_capacity(group.rows.len());
                let stepped = std::mem::replace(&mut group.rows, next);
                for (row, (z, result)) in stepped.into_iter().zip(rows) {
                    group.sample_row(owner, row, z, result, ctx)?;
                }
            }
        }
        Ok(())
    }

    /// The finished request's result.
    pub fn reply(self, ctx: &StepContext<'_>) -> Result<Reply> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let timing = |first_token: Option<Instant>| {
            let first_token = first_token.unwrap_or(self.submitted);
            Timing {
                cached_tokens: self.cached.unwrap_or(0),
                prefill_ms: Some((first_token - self.submitted).as_secs_f64() * 1e3),
                decode_ms: Some(first_token.elapsed().as_secs_f64() * 1e3),
            }
        };
        Ok(match self.work {
            Work::Score(state) => Reply::Score(ScoredTokens {
                cost: Cost {
                    tokens: TokenCounts {
                        prompt_tokens: self.tokens.len(),
                        completion_tokens: state.scored.len(),
                        forward_tokens: state.scored.len(),
                    },
                    timing: timing(state.first_token),
                },
                tokens: state.scored,
            }),
            Work::Sample(mut group) => {
                let samples = std::mem::take(&mut group.samples);
                let cost = Cost {
                    tokens: TokenCounts {
                        prompt_tokens: self.tokens.len(),
                        completion_tokens: samples.iter().map(|s| s.tokens.len()).sum(),
                        forward_tokens: group.forward_tokens,
                    },
                    timing: timing(group.first_token),
                };
                let completions = samples.into_iter().map(|s| group.completion(s, ctx)).collect();
                Reply::Samples(Generation { completions, cost, ..Generation::default() })
            }
        })
    }
}

/// The statistics of a given token under raw logits.
fn score_token(
    z: &[f32],
    id: u32,
    alternatives: &Alternatives,
    maxima: &mut BlockMaxima,
) -> RowResult {
    let Some(distribution) = logits::distribution_with(z, maxima) else {
        return RowResult::NonFinite;
    };
    // Checked when the request was submitted: all tokens are in the vocabulary.
    let stats = stats(&distribution, z[id as usize]);
    RowResult::Scored(Token {
        id,
        stats: TokenStats { sampling_logprob: stats.logprob, ..stats },
        top_logprobs: match alternatives {
            Alternatives::MostProbable(k) => top_logprobs(&distribution, z, *k, maxima),
            Alternatives::Tokens(ids) => {
                ids.iter().map(|&id| (id, distribution.logprob(z[id as usize]))).collect()
            }
        },
    })
}

fn stats(distribution: &Distribution, logit: f32) -> TokenStats {
    TokenStats {
        logprob: distribution.logprob(logit),
        entropy: distribution.entropy,
        varentropy: distribution.varentropy,
        margin: distribution.margin,
        max_prob: distribution.max_prob,
        self_certainty: distribution.self_certainty,
        top_confidence: distribution.top_confidence,
        sampling_logprob: 0.0,
    }
}

/// The `k` most probable tokens of the row that `maxima` has just scanned, with ln p.
fn top_logprobs(
    distribution: &Distribution,
    z: &[f32],
    k: usize,
    maxima: &mut BlockMaxima,
) -> Vec<(u32, f64)> {
    maxima.top_k(z, k).iter().map(|&(id, logit)| (id, distribution.logprob(logit))).collect()
}

fn find(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
