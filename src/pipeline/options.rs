//! Options scored by their likelihood: each as the continuation of one prompt, which is prefilled
//! once.
//!
//! Contract: what is scored are the tokens of prompt and option together beyond their common prefix
//! with the prompt's own, so that a token across the seam counts as the option's (as in
//! lm-evaluation-harness' `_encode_pair`). In raw mode a space stands between prompt and option
//! unless the prompt ends in one. The first option is scored alone, so that the others find the
//! prompt in the prefix cache. No score depends on that.

use std::time::Instant;

use crate::engine::{Engine, JobId};
use crate::error::{Error, Result};
use crate::generation::{Completion, Cost, FinishReason, Generation, Message, Token};
use crate::prompt::{Mode, PromptFormat};

/// The options of one question, on their way.
pub(super) struct Ballot {
    /// The first option's job, which names the whole.
    pub id: JobId,
    pub notes: Vec<String>,
    options: Vec<Candidate>,
    cost: Cost,
    started: Instant,
}

/// One option.
struct Candidate {
    text: String,
    prefix: Vec<u32>,
    continuation: Vec<u32>,
    job: Option<JobId>,
    scored: Option<Vec<Token>>,
}

impl Ballot {
    /// Renders every option after the messages and begins with the first.
    ///
    /// # Errors
    /// No options, an option without a token of its own, or one that does not fit.
    pub fn submit(
        engine: &mut Engine,
        format: &PromptFormat,
        messages: &[Message],
        texts: &[String],
    ) -> Result<Self> {
        let prompt = format.render(messages)?;
        let raw = format.options().mode == Mode::Raw;
        let delimiter = if raw && !prompt.text.ends_with(char::is_whitespace) { " " } else { "" };
        let mut options = Vec::new();
        for text in texts {
            let mut prefix = format.render_with(messages, &format!("{delimiter}{text}"))?;
            prefix.check_fits(engine.context(), 0)?;
            let common =
                prefix.tokens.iter().zip(&prompt.tokens).take_while(|(a, b)| a == b).count();
            let continuation = prefix.tokens.split_off(common);
            if common == 0 || continuation.is_empty() {
                return Err(Error::usage(format!(
                    "the option {text:?} adds no token to the prompt; give it a text"
                )));
            }
            options.push(Candidate {
                text: text.clone(),
                prefix: prefix.tokens,
                continuation,
                job: None,
                scored: None,
            });
        }
        let Some(first) = options.first_mut() else {
            return Err(Error::usage("there are no options to score; give at least one"));
        };
        let id = first.submit(engine)?;
        let completion_tokens = options.iter().map(|option| option.continuation.len()).sum();
        // A row of logits for each scored token, whatever of the prompt was cached.
        let cost = Cost {
            prompt_tokens: prompt.tokens.len(),
            completion_tokens,
            forward_tokens: completion_tokens,
            ..Cost::default()
        };
        Ok(Self { id, notes: prompt.notes, options, cost, started: Instant::now() })
    }

    /// The jobs that are not done.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.options.iter().filter(|option| option.scored.is_none()).filter_map(|option| option.job)
    }

    /// Takes a finished job's tokens in; whether it was one of these. After the first option the
    /// others begin.
    ///
    /// # Errors
    /// An option that does not fit the budget of keys and values.
    pub fn take(
        &mut self,
        engine: &mut Engine,
        job: JobId,
        tokens: &mut Vec<Token>,
        cached: usize,
    ) -> Result<bool> {
        let Some(option) = self.options.iter_mut().find(|option| option.job == Some(job)) else {
            return Ok(false);
        };
        option.scored = Some(std::mem::take(tokens));
        self.cost.cached_tokens += cached;
        if job == self.id {
            self.cost.prefill_ms = self.started.elapsed().as_secs_f64() * 1e3;
            for option in self.options.iter_mut().filter(|option| option.job.is_none()) {
                option.submit(engine)?;
            }
        }
        Ok(true)
    }

    /// Whether every option is scored.
    pub fn is_done(&self) -> bool {
        self.options.iter().all(|option| option.scored.is_some())
    }

    /// The options as completions, in their order.
    pub fn generation(self) -> Generation {
        let decode_ms = self.started.elapsed().as_secs_f64() * 1e3 - self.cost.prefill_ms;
        let completion = |(index, option): (usize, Candidate)| Completion {
            index,
            tokens: option.scored.unwrap_or_default(),
            text: option.text,
            finish_reason: FinishReason::Stop,
        };
        let completions = self.options.into_iter().enumerate().map(completion).collect();
        Generation { completions, cost: Cost { decode_ms, ..self.cost } }
    }
}

impl Candidate {
    fn submit(&mut self, engine: &mut Engine) -> Result<JobId> {
        // The most probable token beside each: whether the option is what greedy decoding would
        // say.
        let id = engine.submit_score(&self.prefix, &self.continuation, 1)?;
        self.job = Some(id);
        Ok(id)
    }
}
