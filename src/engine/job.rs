//! One prompt on its way through the engine: prefill, then rows of samples that fork only when they
//! must, or scores.
//!
//! A row is a distinct token prefix, not a sample. All samples on a row share its forward pass, its
//! statistics and its filtered distribution; each draws its own token, and the row splits into one
//! row per distinct token. Because sample i's draws depend on (seed, prompt, i, step) alone and a
//! row's logits on its tokens alone, the samples are those of separate runs.

use std::ops::Range;
use std::time::Instant;

use super::prefix::PrefixCache;
use super::sampler::{Candidates, History, SampleRng, Scratch};
use super::{Control, Drawn, JobId, Output};
use crate::error::{Error, Result};
use crate::generation::{
    Completion, Cost, FinishReason, Generation, SamplingParams, Token, TokenStats,
};
use crate::logits::{self, BlockMaxima, Distribution};
use crate::model::Row;
use crate::model::kv::KvSeq;
use crate::tokenizer::Tokenizer;

/// Tokens scored in one step: every one of them has a row of logits in memory.
const SCORED_CHUNK: usize = 32;

/// What the engine does with a prompt once it is prefilled.
pub(super) enum Task {
    /// Draw samples.
    Generate(Sampling),
    /// Record the statistics of the prompt's own tokens.
    Score(Scoring),
}

/// Statistics of given tokens.
pub(super) struct Scoring {
    /// Index of the first scored token, at least 1.
    pub from: usize,
    /// Record this many most probable tokens each.
    pub top_logprobs: usize,
    /// The scored tokens so far.
    pub scored: Vec<Token>,
}

/// The samples of a generation.
pub(super) struct Sampling {
    params: SamplingParams,
    rows: Vec<SampleRow>,
    /// The last step's rows: memory for the next one's.
    stepped: Vec<SampleRow>,
    samples: Vec<Sample>,
    /// Rows computed after the prompt.
    forward_tokens: usize,
    first_token: Option<Instant>,
}

struct SampleRow {
    kv: KvSeq,
    /// The token drawn last, which goes into the next forward pass.
    next: u32,
    /// The samples whose tokens are this row's prefix, in order of index.
    samples: Vec<usize>,
}

struct Sample {
    stream: SampleRng,
    tokens: Vec<Token>,
    /// The text's bytes, kept only where stop strings have to be looked for.
    bytes: Vec<u8>,
    finished: Option<FinishReason>,
}

/// A prompt in flight.
pub(super) struct Job {
    pub id: JobId,
    tokens: Vec<u32>,
    /// Cache range to forget after prefill.
    drop: Option<Range<usize>>,
    /// The prompt's cache, until the first row takes it over.
    kv: KvSeq,
    cached: usize,
    task: Task,
    started: Instant,
}

/// What a row of logits says by itself.
pub(super) enum Statistics {
    /// Of a row that is drawn from, with its most probable tokens.
    Row(Distribution, Vec<(u32, f64)>),
    /// The logits are no distribution.
    NoNumbers,
    /// Of a scored token.
    Scored(Token),
}

/// A row of logits made ready: everything about it that does not depend on who draws.
pub(super) enum Prepared {
    /// What its samples draw from.
    Row { distribution: Distribution, candidates: Candidates, top_logprobs: Vec<(u32, f64)> },
    /// The logits are no distribution.
    NoNumbers,
    /// The statistics of a scored token.
    Scored(Token),
}

impl Prepared {
    /// Both halves of the work on a row. Where the logits are no distribution, that says more than
    /// why nothing can be drawn.
    ///
    /// # Errors
    /// That of either half.
    pub fn join(
        statistics: Result<Statistics>,
        candidates: Result<Option<Candidates>>,
    ) -> Result<Self> {
        Ok(match statistics? {
            Statistics::Scored(token) => Self::Scored(token),
            Statistics::NoNumbers => Self::NoNumbers,
            Statistics::Row(distribution, top_logprobs) => match candidates? {
                Some(candidates) => Self::Row { distribution, candidates, top_logprobs },
                None => Self::NoNumbers,
            },
        })
    }
}

/// What a job needs from the engine to take its logits in.
pub(super) struct Surroundings<'a> {
    pub tokenizer: &'a Tokenizer,
    pub end_tokens: &'a [u32],
    /// Every sample on a row of its own, for comparison.
    pub eager_forking: bool,
    pub prefixes: &'a mut PrefixCache,
    /// Takes back candidates that were drawn from.
    pub spare: &'a mut Vec<Candidates>,
    pub on_token: &'a mut dyn FnMut(Drawn<'_>) -> Control,
}

impl Sampling {
    pub fn new(params: SamplingParams, prompt: &[u32]) -> Self {
        let key = super::random::key(params.seed, prompt);
        let sample = |i| Sample {
            stream: SampleRng::new(params.draw, key, i),
            tokens: Vec::new(),
            bytes: Vec::new(),
            finished: None,
        };
        let samples = (0..params.n).map(sample).collect();
        Self {
            samples,
            rows: Vec::new(),
            stepped: Vec::new(),
            forward_tokens: 0,
            first_token: None,
            params,
        }
    }

    /// One row per distinct prefix, each with the token it goes on with.
    fn rows(&mut self) -> impl Iterator<Item = Row<'_>> {
        self.forward_tokens += self.rows.len();
        self.rows.iter_mut().map(|row| Row {
            tokens: std::slice::from_ref(&row.next),
            kv: &mut row.kv,
            logits: 1,
        })
    }

    /// What a row says.
    fn statistics(&self, z: &[f32], maxima: &mut BlockMaxima) -> Statistics {
        let Some(distribution) = logits::distribution_with(z, maxima) else {
            return Statistics::NoNumbers;
        };
        let top_logprobs = top_logprobs(&distribution, z, self.params.top_logprobs, maxima);
        Statistics::Row(distribution, top_logprobs)
    }

    /// What the samples on a row (the row's first sample is `first`) draw from.
    fn candidates(
        &self,
        prompt: &[u32],
        first: usize,
        z: &[f32],
        scratch: &mut Scratch,
        scanned: Option<f32>,
    ) -> Result<Candidates> {
        let mut output = std::mem::take(&mut scratch.output);
        output.clear();
        if self.params.has_penalties() {
            output.extend(self.samples[first].tokens.iter().map(|t| t.id));
        }
        let candidates = Candidates::after_scan(
            &self.params,
            z,
            History { prompt, output: &output },
            scratch,
            scanned,
        );
        scratch.output = output;
        candidates
    }

    /// Every sample on `row` draws from its logits; those still going on take the row's cache
    /// along, forked where they part.
    fn draw(
        &mut self,
        id: JobId,
        mut row: SampleRow,
        z: &[f32],
        prepared: Prepared,
        around: &mut Surroundings<'_>,
    ) {
        let Prepared::Row { distribution, candidates, top_logprobs } = prepared else {
            for &i in &row.samples {
                self.samples[i].finished = Some(FinishReason::NumericalError);
            }
            return;
        };
        let step = self.samples[row.samples[0]].tokens.len();
        for &i in &row.samples {
            let picked = self.samples[i].stream.draw(step, &candidates, z);
            let stats = TokenStats {
                sampling_logprob: picked.logprob,
                ..stats(&distribution, z[picked.token as usize])
            };
            self.take(
                i,
                Token { id: picked.token, stats, top_logprobs: top_logprobs.clone() },
                around,
            );
            let sample = &self.samples[i];
            if let Some(token) = sample.tokens.last() {
                match (around.on_token)(Drawn {
                    job: id,
                    sample: i,
                    step,
                    token,
                    finished: sample.finished,
                }) {
                    Control::Continue => {}
                    Control::StopSample => self.finish(i, FinishReason::Cancelled),
                    Control::EndSample => self.finish(i, FinishReason::Stop),
                    Control::StopAll => (0..self.samples.len())
                        .for_each(|i| self.finish(i, FinishReason::Cancelled)),
                }
            }
        }
        around.spare.push(candidates);
        // A callback may have stopped samples that had drawn before it.
        row.samples.retain(|&i| self.samples[i].finished.is_none());
        let drawn = |i: usize| self.samples[i].tokens.last().map_or(0, |token| token.id);
        while let Some(&first) = row.samples.first() {
            row.next = drawn(first);
            let parts = |i: usize| i != first && (around.eager_forking || drawn(i) != row.next);
            let others: Vec<usize> = row.samples.iter().copied().filter(|&i| parts(i)).collect();
            if others.is_empty() {
                self.rows.push(row);
                return;
            }
            row.samples.retain(|&i| !parts(i));
            self.rows.push(SampleRow {
                kv: row.kv.fork(),
                next: row.next,
                samples: std::mem::replace(&mut row.samples, others),
            });
        }
    }

    /// Appends a drawn token to sample `i` and ends it where it has to end.
    fn take(&mut self, i: usize, token: Token, around: &Surroundings<'_>) {
        let (id, sample) = (token.id, &mut self.samples[i]);
        sample.tokens.push(token);
        if around.end_tokens.contains(&id) && !self.params.ignore_eos {
            sample.finished = Some(FinishReason::Stop);
            return;
        }
        if !self.params.stop.is_empty() {
            let old = sample.bytes.len();
            around.tokenizer.append_bytes(id, &mut sample.bytes);
            let hit = |stop: &String| {
                find(&sample.bytes[old.saturating_sub(stop.len() - 1)..], stop.as_bytes())
            };
            if self.params.stop.iter().any(hit) {
                sample.finished = Some(FinishReason::Stop);
                return;
            }
        }
        if sample.tokens.len() == self.params.max_tokens {
            sample.finished = Some(FinishReason::Length);
        }
    }

    /// Ends a sample that has not ended by itself.
    fn finish(&mut self, i: usize, reason: FinishReason) {
        self.samples[i].finished.get_or_insert(reason);
    }

    fn completion(&self, index: usize, sample: Sample, around: &Surroundings<'_>) -> Completion {
        let ids: Vec<u32> = sample
            .tokens
            .iter()
            .map(|t| t.id)
            .filter(|id| !around.end_tokens.contains(id))
            .collect();
        let mut text = around.tokenizer.decode(&ids);
        if let Some(cut) = self.params.stop.iter().filter_map(|stop| text.find(stop)).min() {
            text.truncate(cut);
        }
        Completion {
            index,
            tokens: sample.tokens,
            text,
            finish_reason: sample.finished.unwrap_or(FinishReason::Cancelled),
        }
    }
}

impl Job {
    /// A job whose first tokens are in `kv` already.
    pub fn new(
        id: JobId,
        tokens: Vec<u32>,
        drop: Option<Range<usize>>,
        kv: KvSeq,
        task: Task,
    ) -> Self {
        Self { id, tokens, drop, cached: kv.len(), kv, task, started: Instant::now() }
    }

    /// Tokens that go through the model before the task is under way: the last scored token
    /// predicts nothing.
    fn prefill_len(&self) -> usize {
        self.tokens.len() - usize::from(matches!(self.task, Task::Score(_)))
    }

    /// Nothing is left to compute.
    pub fn is_finished(&self) -> bool {
        match &self.task {
            Task::Generate(sampling) => sampling.samples.iter().all(|s| s.finished.is_some()),
            Task::Score(scoring) => scoring.scored.len() == self.tokens.len() - scoring.from,
        }
    }

    /// Appends the rows of the next step.
    pub fn rows<'a>(&'a mut self, prefill_chunk: usize, out: &mut Vec<Row<'a>>) {
        let (start, len) = (self.kv.len(), self.prefill_len());
        let (end, logits) = match &mut self.task {
            Task::Generate(sampling) if sampling.first_token.is_some() => {
                return out.extend(sampling.rows());
            }
            Task::Generate(_) => {
                let end = len.min(start + prefill_chunk);
                (end, usize::from(end == len))
            }
            // Up to the token whose logits score the first continuation token, none are wanted;
            // from there on all.
            Task::Score(scoring) if start + 1 < scoring.from => {
                ((scoring.from - 1).min(start + prefill_chunk), 0)
            }
            Task::Score(_) => {
                let end = len.min(start + prefill_chunk.min(SCORED_CHUNK));
                (end, end - start)
            }
        };
        out.push(Row { tokens: &self.tokens[start..end], kv: &mut self.kv, logits });
    }

    /// What the `index`-th row of the step's logits says. Changes nothing: rows, and
    /// [`candidates`](Self::candidates), may be made at once.
    ///
    /// # Errors
    /// Scored logits that are no numbers.
    pub fn statistics(&self, index: usize, z: &[f32], scratch: &mut Scratch) -> Result<Statistics> {
        match &self.task {
            Task::Score(scoring) => {
                let token = self.tokens[scoring.from + scoring.scored.len() + index];
                score_token(z, token, scoring.top_logprobs, &mut scratch.maxima)
                    .map(Statistics::Scored)
            }
            Task::Generate(sampling) => Ok(sampling.statistics(z, &mut scratch.maxima)),
        }
    }

    /// What is drawn from at the `index`-th row of the step's logits, if anything is. `said` is
    /// what the row says, if the scratch has just made that.
    ///
    /// # Errors
    /// Logits that are no numbers, or a parameter that does not fit the vocabulary.
    pub fn candidates(
        &self,
        index: usize,
        z: &[f32],
        scratch: &mut Scratch,
        said: Option<&Statistics>,
    ) -> Result<Option<Candidates>> {
        let scanned = match said {
            Some(Statistics::Row(distribution, _)) => Some(distribution.max_logit),
            _ => None,
        };
        let Task::Generate(sampling) = &self.task else { return Ok(None) };
        let first = sampling.rows.get(index).map_or(0, |row| row.samples[0]);
        sampling.candidates(&self.tokens, first, z, scratch, scanned).map(Some)
    }

    /// Takes in the step's rows: each one's logits, and what was made of them.
    ///
    /// # Errors
    /// The tensor backend's.
    pub fn record(
        &mut self,
        rows: &mut dyn Iterator<Item = (&[f32], Prepared)>,
        around: &mut Surroundings<'_>,
    ) -> Result<()> {
        match &mut self.task {
            Task::Score(scoring) => {
                scoring.scored.extend(rows.filter_map(|(_, prepared)| match prepared {
                    Prepared::Scored(token) => Some(token),
                    Prepared::Row { .. } | Prepared::NoNumbers => None,
                }));
                if self.kv.len() >= scoring.from {
                    around
                        .prefixes
                        .insert(&self.tokens[..scoring.from], &self.kv.prefix(scoring.from));
                }
            }
            Task::Generate(sampling) if sampling.first_token.is_some() => {
                let free = std::mem::take(&mut sampling.stepped);
                let mut stepped = std::mem::replace(&mut sampling.rows, free);
                for (row, (z, prepared)) in stepped.drain(..).zip(rows) {
                    sampling.draw(self.id, row, z, prepared, around);
                }
                sampling.stepped = stepped;
            }
            Task::Generate(sampling) => {
                let Some((z, prepared)) = rows.next() else { return Ok(()) };
                sampling.first_token = Some(Instant::now());
                around.prefixes.insert(&self.tokens, &self.kv.prefix(self.tokens.len()));
                if let Some(range) = self.drop.take() {
                    self.kv.drop_range(range)?;
                }
                let row = SampleRow {
                    kv: self.kv.fork(),
                    next: 0,
                    samples: (0..sampling.samples.len()).collect(),
                };
                sampling.draw(self.id, row, z, prepared, around);
            }
        }
        Ok(())
    }

    /// The finished job's result.
    pub fn output(self, around: &Surroundings<'_>) -> Output {
        match self.task {
            Task::Score(scoring) => Output::Score(scoring.scored, self.cached),
            Task::Generate(mut sampling) => {
                let millis =
                    |from: Instant, to: Instant| to.duration_since(from).as_secs_f64() * 1e3;
                let first_token = sampling.first_token.unwrap_or(self.started);
                let cost = Cost {
                    prompt_tokens: self.tokens.len(),
                    cached_tokens: self.cached,
                    completion_tokens: sampling.samples.iter().map(|s| s.tokens.len()).sum(),
                    forward_tokens: sampling.forward_tokens,
                    prefill_ms: millis(self.started, first_token),
                    decode_ms: millis(first_token, Instant::now()),
                };
                let samples = std::mem::take(&mut sampling.samples);
                let completions = samples
                    .into_iter()
                    .enumerate()
                    .map(|(i, sample)| sampling.completion(i, sample, around))
                    .collect();
                Output::Generation(Generation { completions, cost })
            }
        }
    }
}

/// The statistics of a given token under raw logits.
fn score_token(z: &[f32], id: u32, top: usize, maxima: &mut BlockMaxima) -> Result<Token> {
    let distribution = logits::distribution_with(z, maxima).ok_or_else(|| {
        Error::Numerical(
            "the model's logits are no numbers; check the file with `candor verify`".into(),
        )
    })?;
    let logit = *z.get(id as usize).ok_or_else(|| {
        Error::usage(format!("token id {id} is outside the vocabulary of {}", z.len()))
    })?;
    let stats = stats(&distribution, logit);
    Ok(Token {
        id,
        stats: TokenStats { sampling_logprob: stats.logprob, ..stats },
        top_logprobs: top_logprobs(&distribution, z, top, maxima),
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

/// Of the `k` most probable tokens of the row that `maxima` has just scanned.
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
