//! The engine: requests in, one ragged batch per step, replies out.
//!
//! [`Engine`] is what a strategy needs of whatever computes; [`LocalEngine`] runs a [`Model`] here.
//! A step is three calls: schedule, forward, record. Sample i of a request depends only on (model,
//! prompt, parameters, seed, i): not on the other samples, other requests, threads, cache hits,
//! forking or preemption. The engine knows token ids; it looks at text only to find stop strings,
//! announced answers, and markers of several tokens around reasoning.

mod loops;
#[cfg(feature = "internals")]
pub mod mock;
mod prefix_cache;
mod random;
mod reasoning;
mod request;
pub mod sampler;
mod scheduler;

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::error::{Error, Result};
use crate::generation::{Cost, FinishReason, Generation, SamplingParams, Token};
use crate::model::{Logits, Model};
use crate::prompt::Prompt;
use crate::tokenizer::Tokenizer;
pub use loops::{LoopDetector, Repeat};
pub use prefix_cache::CacheHold;
use prefix_cache::PrefixCache;
use request::{RequestState, RowResult, SampleGroup, ScoreState, StepContext, Work};
use sampler::{Candidates, Scratch};
use scheduler::Scheduler;

/// Identifies a submitted request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(crate) u64);

/// What an engine can be asked for.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one per question or continuation, moved a few times"
)]
pub enum Request {
    /// Draw samples of a prompt. Indices name random streams, so 4..8 continues what 0..4 began.
    Sample {
        /// The prompt.
        prompt: Prompt,
        /// How tokens are drawn; `n` is not read.
        params: SamplingParams,
        /// Indices of the samples, below [`SamplingParams::MAX_SAMPLES`].
        samples: Range<usize>,
        /// Keeps prompt and completions in the prefix cache while the hold lives.
        hold: Option<CacheHold>,
    },
    /// The statistics that generating exactly these tokens would record.
    Score {
        /// The tokens before.
        prefix: Vec<u32>,
        /// The tokens to score.
        continuation: Vec<u32>,
        /// Which other tokens of each step are recorded.
        alternatives: Alternatives,
        /// Keeps the prefix in the prefix cache while the hold lives.
        hold: Option<CacheHold>,
    },
}

/// Which tokens a scored step records in [`Token::top_logprobs`].
#[derive(Clone, Debug)]
pub enum Alternatives {
    /// This many most probable ones.
    MostProbable(usize),
    /// These, in this order: what could come there instead.
    Tokens(Vec<u32>),
}

/// The result of a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Of [`Request::Sample`].
    Samples(Generation),
    /// Of [`Request::Score`].
    Score(ScoredTokens),
}

/// Scored tokens.
#[derive(Clone, Debug)]
pub struct ScoredTokens {
    /// One per token of the continuation.
    pub tokens: Vec<Token>,
    /// What it cost: prefix and continuation count as prompt tokens.
    pub cost: Cost,
}

/// A token that a sample has just drawn.
#[derive(Debug)]
pub struct TokenEvent<'a> {
    /// The request.
    pub request: RequestId,
    /// The sample's index.
    pub sample: usize,
    /// The token's index in the sample, from 0.
    pub step: usize,
    /// The token and its statistics.
    pub token: &'a Token,
    /// Set if this token ended the sample.
    pub finished: Option<FinishReason>,
}

/// A callback's decision about the sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StepControl {
    /// Continue.
    #[default]
    Continue,
    /// Stop this sample: it ends as cancelled and does not vote.
    StopSample,
    /// End this sample here as if it had drawn its end token: it votes.
    EndSample,
    /// Stop all samples of the request that have not ended.
    StopAll,
}

/// A callback that receives every token as it is drawn.
pub type OnToken<'a> = dyn FnMut(&TokenEvent<'_>) -> StepControl + 'a;

/// An engine: a model on this machine, or a mock.
pub trait Engine {
    /// Queues a request.
    ///
    /// # Errors
    /// An invalid request; the engine is unchanged.
    fn submit(&mut self, request: Request) -> Result<RequestId>;

    /// Computes one step for all running requests and returns the finished ones, in order of
    /// submission. A failed request returns its own error; the others continue.
    ///
    /// # Errors
    /// A failed forward pass, which ends all running requests.
    fn step(&mut self, on_token: &mut OnToken<'_>) -> Result<Vec<(RequestId, Result<Reply>)>>;

    /// Drops a request, queued or running. An unknown id is ignored.
    fn cancel(&mut self, id: RequestId);

    /// Largest number of tokens of prompt and output together.
    fn context(&self) -> usize;
}

/// Runs one request on an idle engine.
///
/// # Errors
/// Those of [`Engine::submit`] and [`Engine::step`], and the request's own.
pub fn run(engine: &mut dyn Engine, request: Request, on_token: &mut OnToken<'_>) -> Result<Reply> {
    let id = engine.submit(request)?;
    loop {
        if let Some((_, reply)) = engine.step(on_token)?.into_iter().find(|(done, _)| *done == id) {
            return reply;
        }
    }
}

/// How the engine runs. None of it changes a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineOptions {
    /// Largest number of tokens of prompt and output together; the model's own limit if that is
    /// smaller or this is `None`.
    pub context: Option<usize>,
    /// Tokens of one forward pass, shared by decoding rows and prompts. Decoding rows always run;
    /// prompts get what is left, at least a quarter.
    pub max_batch_tokens: usize,
    /// Every sample on its own row: for measuring what lazy forking saves.
    pub eager_forking: bool,
    /// Prefix-cache budget in bytes; 0 switches the cache off, except for entries under a
    /// [`CacheHold`].
    pub prefix_cache_bytes: usize,
    /// KV-cache budget in bytes over all running requests; others wait, and the youngest one is
    /// recomputed later if the running ones outgrow it.
    pub kv_budget_bytes: usize,
    /// Token ids that end a sample besides the tokenizer's.
    pub end_tokens: Vec<u32>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            context: None,
            max_batch_tokens: 256,
            eager_forking: false,
            prefix_cache_bytes: 128 << 20,
            kv_budget_bytes: 4 << 30,
            end_tokens: Vec::new(),
        }
    }
}

/// Runs requests on a model.
pub struct LocalEngine {
    model: Arc<Model>,
    tokenizer: Arc<Tokenizer>,
    options: EngineOptions,
    vocab_size: usize,
    scheduler: Scheduler,
    prefix_cache: PrefixCache,
    /// One for each thread that looks at rows of logits.
    scratch: Vec<Mutex<Scratch>>,
    /// Candidate lists whose allocations are reused.
    free_candidates: Mutex<Vec<Candidates>>,
    /// The tokens that no repetition spans, found when DRY is first used.
    breakers: OnceLock<Arc<[u32]>>,
    next_id: u64,
}

impl LocalEngine {
    /// An engine without requests.
    ///
    /// # Errors
    /// A tokenizer with more tokens than the model has rows.
    pub fn new(
        model: Arc<Model>,
        tokenizer: Arc<Tokenizer>,
        mut options: EngineOptions,
    ) -> Result<Self> {
        let (vocab_size, rows) = (tokenizer.vocab_size(), model.config().vocab_size);
        if vocab_size > rows {
            return Err(Error::usage(format!(
                "the tokenizer has {vocab_size} tokens and the model {rows} rows; they do not \
                 belong together"
            )));
        }
        options.end_tokens.extend_from_slice(tokenizer.end_tokens());
        let threads = model.pool().map_or(1, |pool| pool.threads());
        let scratch = (0..threads).map(|_| Mutex::default()).collect();
        let bytes_per_token = model.kv_bytes_per_token();
        Ok(Self {
            scheduler: Scheduler::new(
                model.config().layers.len(),
                options.kv_budget_bytes / bytes_per_token.max(1),
                options.max_batch_tokens,
            ),
            prefix_cache: PrefixCache::new(options.prefix_cache_bytes, bytes_per_token),
            model,
            tokenizer,
            options,
            vocab_size,
            scratch,
            free_candidates: Mutex::default(),
            breakers: OnceLock::new(),
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

    /// Bytes held by the prefix cache.
    pub fn prefix_cache_bytes(&self) -> usize {
        self.prefix_cache.bytes()
    }

    /// Draws `params.n` samples of a prompt on an idle engine.
    ///
    /// # Errors
    /// As [`run`].
    pub fn generate(&mut self, prompt: Prompt, params: SamplingParams) -> Result<Generation> {
        let samples = 0..params.n;
        let request = Request::Sample { prompt, params, samples, hold: None };
        match run(self, request, &mut |_| StepControl::Continue)? {
            Reply::Samples(generation) => Ok(generation),
            Reply::Score(_) => Err(Error::Backend("a generation came back as a score".into())),
        }
    }

    /// Checks that the model can compute the request.
    fn check(&self, prompt: &Prompt, max_tokens: usize, kv_tokens: usize) -> Result<()> {
        prompt.check_fits(self.context(), max_tokens)?;
        let rows = self.model.config().vocab_size;
        if let Some(id) = prompt.tokens.iter().find(|id| **id as usize >= rows) {
            return Err(Error::usage(format!(
                "token id {id} is outside the model's vocabulary of {rows}"
            )));
        }
        let bytes = kv_tokens.saturating_mul(self.model.kv_bytes_per_token());
        let budget = self.options.kv_budget_bytes;
        if bytes > budget {
            return Err(Error::Resources(format!(
                "{kv_tokens} tokens over all samples may need {} MB of keys and values and the \
                 budget is {} MB; draw fewer samples or fewer tokens",
                bytes >> 20,
                budget >> 20
            )));
        }
        Ok(())
    }

    fn sample_request(
        &self,
        prompt: Prompt,
        params: SamplingParams,
        samples: Range<usize>,
    ) -> Result<(Prompt, Work)> {
        params.validate()?;
        if samples.is_empty() || samples.end > SamplingParams::MAX_SAMPLES {
            return Err(Error::usage(format!(
                "samples are {samples:?}; give at least one, with indices below {}",
                SamplingParams::MAX_SAMPLES
            )));
        }
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
        let kv_tokens = prompt.tokens.len() + samples.len() * params.max_tokens;
        self.check(&prompt, params.max_tokens, kv_tokens)?;
        let breakers = if params.dry_multiplier > 0.0 { self.breakers() } else { Arc::default() };
        let group = SampleGroup::new(params, &prompt, samples, breakers);
        Ok((prompt, Work::Sample(Box::new(group))))
    }

    fn breakers(&self) -> Arc<[u32]> {
        let tokenizer = &self.tokenizer;
        let find = || {
            sampler::sequence_breakers(self.vocab_size as u32, |id, text| {
                tokenizer.append_bytes(id, text);
            })
        };
        self.breakers.get_or_init(|| find().into()).clone()
    }

    fn score_request(
        &self,
        prefix: &[u32],
        continuation: &[u32],
        alternatives: Alternatives,
    ) -> Result<(Prompt, Work)> {
        if prefix.is_empty() || continuation.is_empty() {
            return Err(Error::usage(
                "scoring needs at least one token of prefix and one of continuation",
            ));
        }
        let prompt = Prompt::from_tokens([prefix, continuation].concat());
        self.check(&prompt, 0, prompt.tokens.len())?;
        let others = match &alternatives {
            Alternatives::MostProbable(_) => &[][..],
            Alternatives::Tokens(ids) => ids,
        };
        let mut ids = continuation.iter().chain(others);
        if let Some(id) = ids.find(|id| **id as usize >= self.vocab_size) {
            return Err(Error::usage(format!(
                "token id {id} is outside the tokenizer's vocabulary of {}",
                self.vocab_size
            )));
        }
        Ok((prompt, Work::Score(ScoreState::new(prefix.len(), alternatives))))
    }

    /// Processes every row of logits, on all threads: a row's result depends on that row alone.
    fn row_results(&self, logits: &Logits) -> Vec<RowResult> {
        let owners: Vec<(&RequestState, usize)> = self
            .scheduler
            .running()
            .iter()
            .flat_map(|request| (0..request.logit_rows).map(move |index| (request, index)))
            .collect();
        let rows: Vec<&[f32]> = logits.rows().map(|z| &z[..self.vocab_size]).collect();
        let results: Vec<Mutex<Option<RowResult>>> =
            owners.iter().map(|_| Mutex::default()).collect();
        let work = |thread: usize, threads: usize| {
            let mut scratch = self.scratch[thread].lock().unwrap_or_else(PoisonError::into_inner);
            let range = thread * owners.len() / threads..(thread + 1) * owners.len() / threads;
            for row in range {
                let (request, index) = owners[row];
                scratch.take_from_pool(|| lock(&self.free_candidates).pop());
                let result = request.row_result(index, rows[row], &mut scratch);
                *lock(&results[row]) = Some(result);
            }
        };
        match self.model.pool() {
            Some(pool) => pool.run(work),
            None => work(0, 1),
        }
        results
            .into_iter()
            .filter_map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner))
            .collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine for LocalEngine {
    fn submit(&mut self, request: Request) -> Result<RequestId> {
        let (prompt, work, hold) = match request {
            Request::Sample { prompt, params, samples, hold } => {
                let (prompt, work) = self.sample_request(prompt, params, samples)?;
                (prompt, work, hold)
            }
            Request::Score { prefix, continuation, alternatives, hold } => {
                let (prompt, work) = self.score_request(&prefix, &continuation, alternatives)?;
                (prompt, work, hold)
            }
        };
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.scheduler.submit(RequestState::new(id, prompt, hold, work));
        Ok(id)
    }

    fn step(&mut self, on_token: &mut OnToken<'_>) -> Result<Vec<(RequestId, Result<Reply>)>> {
        self.prefix_cache.evict();
        let mut rows = self.scheduler.schedule(&mut self.prefix_cache);
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let logits = match self.model.forward(&mut rows) {
            Ok(logits) => logits,
            Err(error) => {
                drop(rows);
                self.scheduler.clear_running();
                return Err(error);
            }
        };
        let mut results = self.row_results(&logits).into_iter();
        let mut z = logits.rows().map(|z| &z[..self.vocab_size]);
        let mut ctx = StepContext {
            tokenizer: &self.tokenizer,
            end_tokens: &self.options.end_tokens,
            eager_forking: self.options.eager_forking,
            prefix_cache: &mut self.prefix_cache,
            free_candidates: self.free_candidates.get_mut().unwrap_or_else(PoisonError::into_inner),
            on_token,
        };
        for request in self.scheduler.running_mut() {
            let count = request.logit_rows;
            request.record(&mut z.by_ref().zip(results.by_ref()).take(count), &mut ctx);
        }
        let finished = self.scheduler.take_finished();
        Ok(finished.into_iter().map(|request| (request.id, request.reply(&ctx))).collect())
    }

    fn cancel(&mut self, id: RequestId) {
        self.scheduler.cancel(id);
    }

    fn context(&self) -> usize {
        let own = self.model.config().max_position_embeddings;
        self.options.context.map_or(own, |context| context.min(own))
    }
}
