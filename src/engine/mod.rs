//! The engine: many jobs, one ragged batch per step.
//!
//! [`Engine::step`] gathers the rows of all jobs, runs one forward pass and lets every job record
//! its logits; [`Engine::generate`] and [`Engine::score`] are folds over it. Sample i of a job
//! depends only on (model, prompt, parameters, seed, i): not on the number of samples, other jobs,
//! threads, cache hits or forking. It knows token ids; text only to find stop strings.

mod job;
mod prefix;
mod random;
pub mod sampler;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::error::{Error, Result};
use crate::generation::{FinishReason, Generation, SamplingParams, Token};
use crate::model::{Logits, Model, Row};
use crate::prompt::Prompt;
use crate::reuse::emptied;
use crate::tokenizer::Tokenizer;
use job::{Job, Prepared, Sampling, Scoring, Statistics, Surroundings, Task};
use prefix::PrefixCache;
use sampler::{Candidates, Scratch};

/// Names a submitted job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(u64);

/// A token that a sample has just drawn.
#[derive(Debug)]
pub struct Drawn<'a> {
    /// The job.
    pub job: JobId,
    /// The sample's index.
    pub sample: usize,
    /// The token's index in the sample, from 0.
    pub step: usize,
    /// The token and its statistics.
    pub token: &'a Token,
    /// Set where this token ended the sample.
    pub finished: Option<FinishReason>,
}

/// What a callback wants to happen next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    #[default]
    Continue,
    /// Stop this sample: it ends as cancelled and does not vote.
    StopSample,
    /// End this sample here as if it had drawn its end token: it votes.
    EndSample,
    /// Stop all samples of the job that have not ended yet.
    StopAll,
}

/// What a job came to.
#[derive(Debug)]
pub enum Output {
    /// Of [`Engine::submit`].
    Generation(Generation),
    /// Of [`Engine::submit_score`]: one token per scored token, and how many tokens of the prefix
    /// came from the cache.
    Score(Vec<Token>, usize),
}

/// How the engine runs. None of it changes a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineOptions {
    /// Largest number of tokens of prompt and output together; the model's own limit where it is
    /// smaller or this is `None`.
    pub context: Option<usize>,
    /// Prompt tokens that one job puts into a step.
    pub prefill_chunk: usize,
    /// Every sample on a row of its own: for measuring what lazy forking saves.
    pub eager_forking: bool,
    /// Bytes of keys and values kept for later prompts; 0 switches the prefix cache off.
    pub prefix_cache_bytes: usize,
    /// Bytes of keys and values that all running jobs may come to need; further jobs wait.
    pub kv_budget_bytes: usize,
    /// Token ids that end a sample besides the tokenizer's.
    pub end_tokens: Vec<u32>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            context: None,
            prefill_chunk: 256,
            eager_forking: false,
            prefix_cache_bytes: 128 << 20,
            kv_budget_bytes: 4 << 30,
            end_tokens: Vec::new(),
        }
    }
}

/// Runs jobs on a model.
pub struct Engine {
    model: Arc<Model>,
    tokenizer: Arc<Tokenizer>,
    options: EngineOptions,
    vocab_size: usize,
    waiting: VecDeque<Pending>,
    running: Vec<(Job, usize)>,
    /// Finished while somebody waited for another job; the next step returns them.
    finished: Vec<(JobId, Output)>,
    prefixes: PrefixCache,
    /// A step's rows, and of each job how many rows of logits it wants.
    rows: Vec<Row<'static>>,
    wanted: Vec<usize>,
    /// A step's rows of logits while they are made ready.
    slots: Vec<Slot>,
    /// A step's rows of logits, ready for their jobs.
    prepared: Vec<Prepared>,
    /// One for each thread that prepares rows.
    scratch: Vec<Mutex<Scratch>>,
    /// Candidates whose memory is used again.
    spare: Vec<Candidates>,
    /// The most rows of logits that a step had.
    most_rows: usize,
    next_id: u64,
}

/// A row of logits: whose it is, which of its owner's, and what became of it, in two halves that
/// two threads may work on.
struct Slot {
    job: usize,
    index: usize,
    statistics: OnceLock<Result<Statistics>>,
    candidates: OnceLock<Result<Option<Candidates>>>,
}

struct Pending {
    id: JobId,
    prompt: Prompt,
    task: Task,
    /// Bytes of keys and values that it may come to need.
    bytes: usize,
    /// Cached tokens may cover the prompt up to here.
    cacheable: usize,
}

impl Engine {
    /// An engine without jobs.
    ///
    /// # Errors
    /// A tokenizer with more tokens than the model has rows.
    pub fn new(
        model: Arc<Model>,
        tokenizer: Arc<Tokenizer>,
        mut options: EngineOptions,
    ) -> Result<Self> {
        let (vocab_size, rows) = (tokenizer.vocab_size(), model.spec().vocab_size);
        if vocab_size > rows {
            return Err(Error::usage(format!(
                "the tokenizer has {vocab_size} tokens and the model {rows} rows; they do not belong together"
            )));
        }
        options.end_tokens.extend_from_slice(tokenizer.end_tokens());
        let threads = model.pool().map_or(1, |pool| pool.threads());
        let scratch = (0..threads).map(|_| Mutex::default()).collect();
        let prefixes = PrefixCache::new(options.prefix_cache_bytes, model.kv_bytes_per_token());
        Ok(Self {
            model,
            tokenizer,
            options,
            vocab_size,
            waiting: VecDeque::new(),
            running: Vec::new(),
            finished: Vec::new(),
            prefixes,
            rows: Vec::new(),
            wanted: Vec::new(),
            slots: Vec::new(),
            prepared: Vec::new(),
            scratch,
            spare: Vec::new(),
            most_rows: 0,
            next_id: 0,
        })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Largest number of tokens of prompt and output together.
    pub fn context(&self) -> usize {
        let own = self.model.spec().max_position_embeddings;
        self.options.context.map_or(own, |context| context.min(own))
    }

    /// Bytes held by the prefix cache.
    pub fn prefix_cache_bytes(&self) -> usize {
        self.prefixes.bytes()
    }

    /// Queues a generation.
    ///
    /// # Errors
    /// Parameters out of range; an empty prompt; a prompt that does not fit the context or the
    /// cache budget, with the numbers.
    pub fn submit(&mut self, prompt: Prompt, params: SamplingParams) -> Result<JobId> {
        params.validate()?;
        if let Some((id, _)) =
            params.logit_bias.iter().find(|(id, _)| *id as usize >= self.vocab_size)
        {
            let last = self.vocab_size.saturating_sub(1);
            return Err(Error::usage(format!(
                "logit_bias names token {id}; the vocabulary ends at {last}"
            )));
        }
        if prompt.tokens.is_empty() {
            return Err(Error::usage("the prompt is empty; give it at least one token"));
        }
        prompt.check_fits(self.context(), params.max_tokens)?;
        let tokens = prompt.tokens.len() + params.n * params.max_tokens;
        let cacheable = prompt.tokens.len() - 1;
        let sampling = Sampling::new(params, &prompt.tokens);
        self.enqueue(prompt, Task::Generate(sampling), tokens, cacheable)
    }

    /// Queues the scoring of `continuation` after `prefix`: the statistics that generating exactly
    /// these tokens would record.
    ///
    /// # Errors
    /// An empty prefix or continuation; tokens that do not fit.
    pub fn submit_score(
        &mut self,
        prefix: &[u32],
        continuation: &[u32],
        top_logprobs: usize,
    ) -> Result<JobId> {
        if prefix.is_empty() || continuation.is_empty() {
            return Err(Error::usage(
                "scoring needs at least one token of prefix and one of continuation",
            ));
        }
        let prompt = Prompt::from_tokens([prefix, continuation].concat());
        prompt.check_fits(self.context(), 0)?;
        let tokens = prompt.tokens.len();
        let scoring = Scoring { from: prefix.len(), top_logprobs, scored: Vec::new() };
        self.enqueue(prompt, Task::Score(scoring), tokens, prefix.len() - 1)
    }

    fn enqueue(
        &mut self,
        prompt: Prompt,
        task: Task,
        tokens: usize,
        cacheable: usize,
    ) -> Result<JobId> {
        let bytes = tokens * self.model.kv_bytes_per_token();
        let budget = self.options.kv_budget_bytes;
        if bytes > budget {
            return Err(Error::Resources(format!(
                "{tokens} tokens over all samples may need {} MB of keys and values and the \
                 budget is {} MB; draw fewer samples or fewer tokens",
                bytes >> 20,
                budget >> 20
            )));
        }
        let id = JobId(self.next_id);
        self.next_id += 1;
        self.waiting.push_back(Pending { id, prompt, task, bytes, cacheable });
        Ok(id)
    }

    /// Whether every job has been returned.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty() && self.finished.is_empty()
    }

    /// Drops a job, queued or running.
    pub fn cancel(&mut self, id: JobId) {
        self.waiting.retain(|pending| pending.id != id);
        self.running.retain(|(job, _)| job.id != id);
    }

    /// One forward pass for all running jobs. Returns those that are finished, in order of
    /// submission.
    ///
    /// # Errors
    /// The tensor backend's; all running jobs are lost then.
    pub fn step(
        &mut self,
        on_token: &mut dyn FnMut(Drawn<'_>) -> Control,
    ) -> Result<Vec<(JobId, Output)>> {
        self.admit();
        let mut finished = std::mem::take(&mut self.finished);
        match self.advance(on_token) {
            Ok(new) => finished.extend(new),
            Err(error) => {
                self.running.clear();
                self.finished = finished;
                return Err(error);
            }
        }
        Ok(finished)
    }

    fn advance(
        &mut self,
        on_token: &mut dyn FnMut(Drawn<'_>) -> Control,
    ) -> Result<Vec<(JobId, Output)>> {
        let mut rows: Vec<Row<'_>> = std::mem::take(&mut self.rows);
        self.wanted.clear();
        for (job, _) in &mut self.running {
            let first = rows.len();
            job.rows(self.options.prefill_chunk, &mut rows);
            self.wanted.push(rows[first..].iter().map(|row| row.logits).sum());
        }
        let logits = self.model.forward(&mut rows);
        self.rows = emptied(rows);
        let logits = logits?;
        self.prepare(&logits)?;
        let mut around = Surroundings {
            tokenizer: &self.tokenizer,
            end_tokens: &self.options.end_tokens,
            eager_forking: self.options.eager_forking,
            prefixes: &mut self.prefixes,
            spare: &mut self.spare,
            on_token,
        };
        let mut each = logits.rows().map(|z| &z[..self.vocab_size]).zip(self.prepared.drain(..));
        for ((job, _), &wanted) in self.running.iter_mut().zip(&self.wanted) {
            job.record(&mut each.by_ref().take(wanted), &mut around)?;
        }
        let finished = self.running.extract_if(.., |(job, _)| job.is_finished());
        Ok(finished.map(|(job, _)| (job.id, job.output(&around))).collect())
    }

    /// Makes every row of logits ready for its job, on all threads: what a row becomes depends on
    /// that row alone.
    fn prepare(&mut self, logits: &Logits) -> Result<()> {
        self.slots.clear();
        for (job, &wanted) in self.wanted.iter().enumerate() {
            let slot = |index| Slot {
                job,
                index,
                statistics: OnceLock::new(),
                candidates: OnceLock::new(),
            };
            self.slots.extend((0..wanted).map(slot));
        }
        // A row takes one, whichever thread it meets. As many are kept as there were rows at most:
        // jobs come and go, and memory that is let go and taken again has to be cleared every time.
        self.most_rows = self.most_rows.max(self.slots.len());
        self.spare.truncate(self.most_rows);
        let spare = Mutex::new(std::mem::take(&mut self.spare));
        let halves = 2 * self.slots.len();
        let work = |thread: usize, threads: usize| {
            let mut scratch = self.scratch[thread].lock().unwrap_or_else(PoisonError::into_inner);
            let first = thread * halves / threads;
            for half in first..(thread + 1) * halves / threads {
                let slot = &self.slots[half / 2];
                let Some(z) = logits.rows().nth(half / 2) else { return };
                // The real vocabulary: logits of padded rows beyond it do not exist.
                let (job, z) = (&self.running[slot.job].0, &z[..self.vocab_size]);
                if half % 2 == 0 {
                    slot.statistics.get_or_init(|| job.statistics(slot.index, z, &mut scratch));
                } else {
                    scratch.take_from_pool(|| {
                        spare.lock().unwrap_or_else(PoisonError::into_inner).pop()
                    });
                    let said = slot
                        .statistics
                        .get()
                        .filter(|_| half > first)
                        .and_then(|said| said.as_ref().ok());
                    slot.candidates
                        .get_or_init(|| job.candidates(slot.index, z, &mut scratch, said));
                }
            }
        };
        match self.model.pool() {
            Some(pool) => pool.run(work),
            None => work(0, 1),
        }
        self.spare = spare.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.prepared.clear();
        for slot in self.slots.drain(..) {
            if let (Some(statistics), Some(candidates)) =
                (slot.statistics.into_inner(), slot.candidates.into_inner())
            {
                self.prepared.push(Prepared::join(statistics, candidates)?);
            }
        }
        Ok(())
    }

    /// Starts waiting jobs, in order, while the budget holds what all running ones may come to
    /// need.
    fn admit(&mut self) {
        while let Some(pending) = self.waiting.front() {
            let used: usize = self.running.iter().map(|(_, bytes)| bytes).sum();
            if used + pending.bytes > self.options.kv_budget_bytes {
                return;
            }
            let Some(Pending { id, prompt, task, bytes, cacheable }) = self.waiting.pop_front()
            else {
                return;
            };
            let (_, views) = self.prefixes.lookup(&prompt.tokens[..cacheable]);
            let kv = crate::model::kv::KvSeq::from_views(self.model.spec().layers.len(), views);
            self.running
                .push((Job::new(id, prompt.tokens, prompt.drop_after_prefill, kv, task), bytes));
        }
    }

    /// Draws all samples of a prompt.
    ///
    /// # Errors
    /// As [`Self::submit`] and [`Self::step`].
    pub fn generate(&mut self, prompt: Prompt, params: SamplingParams) -> Result<Generation> {
        self.generate_with(prompt, params, &mut |_| Control::Continue)
    }

    /// Draws all samples of a prompt, calling `on_token` for every token.
    ///
    /// # Errors
    /// As [`Self::submit`] and [`Self::step`].
    pub fn generate_with(
        &mut self,
        prompt: Prompt,
        params: SamplingParams,
        on_token: &mut dyn FnMut(Drawn<'_>) -> Control,
    ) -> Result<Generation> {
        let id = self.submit(prompt, params)?;
        match self.run_until(id, on_token)? {
            Output::Generation(generation) => Ok(generation),
            Output::Score(..) => Err(Error::Backend("a generation came back as a score".into())),
        }
    }

    /// The statistics of `continuation`'s tokens after `prefix`.
    ///
    /// # Errors
    /// As [`Self::submit_score`] and [`Self::step`].
    pub fn score(&mut self, prefix: &[u32], continuation: &[u32]) -> Result<Vec<Token>> {
        let id = self.submit_score(prefix, continuation, 0)?;
        match self.run_until(id, &mut |_| Control::Continue)? {
            Output::Score(tokens, _) => Ok(tokens),
            Output::Generation(_) => {
                Err(Error::Backend("a score came back as a generation".into()))
            }
        }
    }

    fn run_until(
        &mut self,
        id: JobId,
        on_token: &mut dyn FnMut(Drawn<'_>) -> Control,
    ) -> Result<Output> {
        while !self.is_idle() {
            let mut finished = self.step(on_token)?;
            let mine =
                finished.iter().position(|(job, _)| *job == id).map(|i| finished.remove(i).1);
            self.finished.append(&mut finished);
            if let Some(output) = mine {
                return Ok(output);
            }
        }
        Err(Error::Backend(format!("job {} was lost", id.0)))
    }
}
