//! Beam search: the completion with the highest probability per length that a beam finds, instead
//! of a sample.
//!
//! Every step continues each of `width` beginnings by its most probable tokens and keeps the best
//! of all by sum of ln p. A finished beginning is scored by that sum over length^`length_penalty`
//! (Wu et al., arXiv 1609.08144, without the constant). A beam of width 1 is greedy decoding.

use serde::{Deserialize, Serialize};

use super::{Question, Session};
use crate::error::{Error, Result};
use crate::generation::{Completion, FinishReason, Generation, SamplingParams, Token, TokenStats};

/// Most probable tokens that a step records at most, and so the widest beam.
const WIDEST: usize = 20;

/// How the beam is kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Beam {
    /// Beginnings kept, 1 to 20.
    pub width: usize,
    /// Exponent of the length that divides ln p, 0 or more; 0 prefers short completions.
    pub length_penalty: f64,
}

/// A beginning.
#[derive(Clone, Default)]
struct Beginning {
    tokens: Vec<Token>,
    logprob: f64,
    finish_reason: Option<FinishReason>,
}

impl Beam {
    /// Narrow, and normalized by length.
    pub const DEFAULT: Self = Self { width: 4, length_penalty: 1.0 };

    pub(super) fn validate(self) -> Result<()> {
        if !(1..=WIDEST).contains(&self.width) {
            return Err(Error::usage(format!("width is {}; it must be 1 to {WIDEST}", self.width)));
        }
        if self.length_penalty >= 0.0 && self.length_penalty.is_finite() {
            return Ok(());
        }
        let penalty = self.length_penalty;
        Err(Error::usage(format!("length_penalty is {penalty}; it must be 0 or more")))
    }

    pub(super) async fn run(self, session: &Session, question: &Question) -> Result<Generation> {
        let prefix = session.render(&question.messages)?;
        session.refuse_thinking("beam")?;
        let params = SamplingParams {
            top_logprobs: self.width,
            max_tokens: 1,
            temperature: 0.0,
            stop: Vec::new(),
            thinking_budget: None,
            ..session.params().clone()
        };
        let mut drawn = Generation::default();
        drawn.cost.tokens.prompt_tokens = prefix.prompt.tokens.len();
        let mut beam = vec![Beginning::default()];
        while beam.iter().any(|beginning| beginning.finish_reason.is_none()) {
            let (mut next, open): (Vec<_>, Vec<_>) =
                beam.into_iter().partition(|beginning| beginning.finish_reason.is_some());
            let requests = open.iter().map(|beginning| {
                let ids = beginning.tokens.iter().map(|token| token.id);
                (prefix.followed_by(ids), params.clone())
            });
            let (steps, cost) = session.sample_each(requests.collect()).await?;
            drawn.cost.add_parallel(&cost);
            // Each beginning's last token is a row of its own, except that of the prompt.
            let rows = open.iter().filter(|beginning| !beginning.tokens.is_empty()).count();
            drawn.cost.tokens.forward_tokens += rows;
            for (beginning, step) in open.iter().zip(steps) {
                let Some(taken) = step.tokens.into_iter().next() else { continue };
                for &(id, logprob) in &taken.top_logprobs {
                    next.push(continue_with(session, beginning, &taken, id, logprob));
                }
            }
            next.sort_by(|a, b| self.score(b).total_cmp(&self.score(a)));
            next.truncate(self.width);
            beam = next;
        }
        let best = beam.into_iter().next().unwrap_or_default();
        let text = session.decode(&best.tokens);
        let stop = session.params().stop.iter().filter_map(|stop| text.find(stop)).min();
        drawn.completions.push(Completion {
            text: text[..stop.unwrap_or(text.len())].to_owned(),
            tokens: best.tokens,
            finish_reason: best.finish_reason.unwrap_or_default(),
            ..Completion::default()
        });
        Ok(drawn)
    }

    fn score(self, beginning: &Beginning) -> f64 {
        beginning.logprob / (beginning.tokens.len().max(1) as f64).powf(self.length_penalty)
    }
}

impl Default for Beam {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A beginning with one more token; `taken` has the statistics of the step.
fn continue_with(
    session: &Session,
    beginning: &Beginning,
    taken: &Token,
    id: u32,
    logprob: f64,
) -> Beginning {
    let stats = TokenStats { logprob, sampling_logprob: 0.0, ..taken.stats };
    let mut tokens = beginning.tokens.clone();
    tokens.push(Token { id, stats, top_logprobs: Vec::new() });
    let params = session.params();
    let ends = session.is_end_token(id) || {
        let text = if params.stop.is_empty() { String::new() } else { session.decode(&tokens) };
        params.stop.iter().any(|stop| text.contains(stop))
    };
    let finish_reason = match (ends, tokens.len() >= params.max_tokens) {
        (true, _) => Some(FinishReason::Stop),
        (_, true) => Some(FinishReason::Length),
        _ => None,
    };
    Beginning { tokens, logprob: beginning.logprob + logprob, finish_reason }
}
