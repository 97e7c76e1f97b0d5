//! A scripted engine, so that strategies, [`drive`](crate::pipeline::Pipeline::drive) and whatever
//! is built on them are tested without a model.
//!
//! Every step adds one token to every sample of every request. Token statistics are those of a
//! token drawn with probability 0.9, unless a script says otherwise.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::reasoning::ReasoningTracker;
use super::{
    Alternatives, Engine, OnToken, Reply, Request, RequestId, ScoredTokens, StepControl, TokenEvent,
};
use crate::error::{Error, Result};
use crate::generation::{
    Completion, Cost, FinishReason, Generation, Timing, Token, TokenCounts, TokenStats,
};
use crate::prompt::Reasoning;
use crate::tokenizer::Tokenizer;

/// The text of a sample, by the prompt's text and the sample's index.
pub type Script = Box<dyn FnMut(&str, usize) -> Result<String>>;
/// The log-probability of a continuation's first token, by the prefix's text and its own.
pub type ScoreScript = Box<dyn FnMut(&str, &str) -> f64>;

/// The statistics of every token of a sample, by its index.
pub type StatsScript = Box<dyn Fn(usize) -> TokenStats>;

/// Replies from scripts.
pub struct MockEngine {
    /// What samples say.
    pub script: Script,
    /// How probable continuations are.
    pub score_script: ScoreScript,
    /// How sure samples are.
    pub stats_script: StatsScript,
    /// The next forward pass fails.
    pub fails: bool,
    /// What it was asked.
    pub log: Rc<RefCell<MockLog>>,
    tokenizer: Arc<Tokenizer>,
    running: BTreeMap<RequestId, Running>,
    next_id: u64,
}

/// What a mock engine was asked.
#[derive(Debug, Default)]
pub struct MockLog {
    /// The text of every prompt and scored prefix, in order of submission.
    pub prompts: Vec<String>,
    /// Tokens of all prompts that samples were drawn of.
    pub prompt_tokens: usize,
    /// Requests that were cancelled before they finished.
    pub cancelled: usize,
}

/// A request with what its samples will say.
struct Running {
    reply: Result<Reply>,
    /// Tokens given so far.
    step: usize,
}

impl MockEngine {
    /// An engine that says `script`, and finds every continuation equally likely.
    pub fn new(
        tokenizer: Arc<Tokenizer>,
        script: impl FnMut(&str, usize) -> Result<String> + 'static,
    ) -> Self {
        Self {
            script: Box::new(script),
            score_script: Box::new(|_, _| -1.0),
            stats_script: Box::new(|_| Self::stats(0.9_f64.ln())),
            fails: false,
            log: Rc::default(),
            tokenizer,
            running: BTreeMap::new(),
            next_id: 0,
        }
    }

    fn stats(logprob: f64) -> TokenStats {
        let p = logprob.exp();
        TokenStats {
            logprob,
            sampling_logprob: logprob,
            max_prob: p,
            entropy: -p * logprob,
            ..TokenStats::default()
        }
    }

    fn token(id: u32, stats: TokenStats) -> Token {
        Token { id, stats, top_logprobs: Vec::new() }
    }

    fn completion(
        &mut self,
        prompt: &str,
        index: usize,
        reasoning: Option<&Reasoning>,
    ) -> Result<Completion> {
        let text = (self.script)(prompt, index)?;
        let end = self.tokenizer.end_tokens().first().copied();
        let ids = self.tokenizer.encode_with_specials(&text)?;
        let text = self.tokenizer.decode(&ids);
        let ids = ids.into_iter().chain(end);
        let stats = (self.stats_script)(index);
        let tokens: Vec<Token> = ids.map(|id| Self::token(id, stats)).collect();
        let spans = reasoning.and_then(|reasoning| {
            let tracker = ReasoningTracker::after(reasoning, &tokens, &self.tokenizer);
            tracker.spans(&tokens, self.tokenizer.end_tokens(), &self.tokenizer, &text)
        });
        Ok(Completion { index, tokens, text, spans, ..Completion::default() })
    }

    fn reply(&mut self, request: Request) -> Result<Reply> {
        let timing = Timing { prefill_ms: Some(1.0), decode_ms: Some(1.0), cached_tokens: 0 };
        match request {
            Request::Sample { prompt, samples, .. } => {
                let text = self.tokenizer.decode(&prompt.tokens);
                let completions: Vec<Completion> = samples
                    .map(|index| self.completion(&text, index, prompt.reasoning.as_ref()))
                    .collect::<Result<_>>()?;
                let mut log = self.log.borrow_mut();
                log.prompts.push(text);
                log.prompt_tokens += prompt.tokens.len();
                let drawn = completions.iter().map(|c| c.tokens.len()).sum();
                let cost = Cost {
                    tokens: TokenCounts {
                        prompt_tokens: prompt.tokens.len(),
                        completion_tokens: drawn,
                        forward_tokens: drawn,
                    },
                    timing,
                };
                Ok(Reply::Samples(Generation { completions, cost, ..Generation::default() }))
            }
            Request::Score { prefix, continuation, alternatives, .. } => {
                let text = self.tokenizer.decode(&prefix);
                let mut score =
                    |ids: &[u32]| (self.score_script)(&text, &self.tokenizer.decode(ids));
                let logprob = score(&continuation);
                let others: Vec<(u32, f64)> = match alternatives {
                    Alternatives::MostProbable(_) => Vec::new(),
                    Alternatives::Tokens(ids) => {
                        ids.into_iter().map(|id| (id, score(&[id]))).collect()
                    }
                };
                self.log.borrow_mut().prompts.push(text);
                let logprobs = std::iter::once(logprob).chain(std::iter::repeat(0.0));
                let mut tokens: Vec<Token> = continuation
                    .iter()
                    .zip(logprobs)
                    .map(|(&id, logprob)| Self::token(id, Self::stats(logprob)))
                    .collect();
                if let Some(first) = tokens.first_mut() {
                    first.top_logprobs = others;
                }
                let cost = Cost {
                    tokens: TokenCounts {
                        prompt_tokens: prefix.len() + tokens.len(),
                        completion_tokens: tokens.len(),
                        forward_tokens: tokens.len(),
                    },
                    timing,
                };
                Ok(Reply::Score(ScoredTokens { tokens, cost }))
            }
        }
    }
}

impl Engine for MockEngine {
    fn submit(&mut self, request: Request) -> Result<RequestId> {
        let id = RequestId(self.next_id);
        self.next_id += 1;
        let reply = self.reply(request);
        self.running.insert(id, Running { reply, step: 0 });
        Ok(id)
    }

    fn step(&mut self, on_token: &mut OnToken<'_>) -> Result<Vec<(RequestId, Result<Reply>)>> {
        if std::mem::take(&mut self.fails) {
            self.running.clear();
            return Err(Error::Backend("the forward pass failed".into()));
        }
        let mut finished = Vec::new();
        for (&request, running) in &mut self.running {
            let step = running.step;
            running.step += 1;
            let Ok(Reply::Samples(generation)) = &mut running.reply else {
                finished.push(request);
                continue;
            };
            for completion in &mut generation.completions {
                let last = completion.tokens.len() == step + 1;
                let Some(token) = completion.tokens.get(step) else { continue };
                let control = on_token(&TokenEvent {
                    request,
                    sample: completion.index,
                    step,
                    token,
                    finished: last.then_some(completion.finish_reason),
                });
                if matches!(control, StepControl::StopSample | StepControl::StopAll) {
                    completion.tokens.truncate(step + 1);
                    completion.finish_reason = FinishReason::Cancelled;
                }
            }
            if generation.completions.iter().all(|completion| completion.tokens.len() <= step + 1) {
                finished.push(request);
            }
        }
        let take = |id| Some((id, self.running.remove(&id)?.reply));
        Ok(finished.into_iter().filter_map(take).collect())
    }

    fn cancel(&mut self, id: RequestId) {
        if self.running.remove(&id).is_some() {
            self.log.borrow_mut().cancelled += 1;
        }
    }

    fn context(&self) -> usize {
        4096
    }
}
