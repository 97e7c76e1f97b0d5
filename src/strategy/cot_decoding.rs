//! Chain-of-thought decoding: the n most probable first tokens, each continued greedily (Wang and
//! Zhou, arXiv 2402.10200).
//!
//! A path's weight is the mean lead p1 - p2 over the tokens of its answer. Paths differ without a
//! temperature, and the same prompt always has the same ones. The share of an answer is its part of
//! all leads.

use super::weights::weigh;
use super::{Question, Session};
use crate::error::Result;
use crate::generation::{Completion, Generation, SamplingParams, Token};

/// Most probable tokens that a step records at most.
const MOST_PATHS: usize = 20;

pub(super) async fn run(session: &Session, question: &Question) -> Result<Generation> {
    let prefix = session.render(&question.messages)?;
    session.refuse_thinking("cot-decoding")?;
    let n = session.params().n.min(MOST_PATHS);
    let greedy = SamplingParams { temperature: 0.0, ..session.params().clone() };
    let first = SamplingParams { top_logprobs: n, max_tokens: 1, ..greedy.clone() };
    let mut drawn = session.sample_with(&prefix, 0..1, first, None).await?;
    let firsts: Vec<u32> = drawn
        .completions
        .pop()
        .and_then(|completion| completion.tokens.into_iter().next())
        .map(|token| token.top_logprobs.into_iter().map(|(id, _)| id).collect())
        .unwrap_or_default();
    let firsts: Vec<u32> = firsts.into_iter().filter(|id| !session.is_end_token(*id)).collect();
    let requests = firsts.iter().map(|id| (prefix.followed_by([*id]), greedy.clone())).collect();
    let continuations: Vec<Vec<u32>> = firsts.iter().map(|id| vec![*id]).collect();
    let (scored, cost) = session.score(&prefix, &continuations, 0).await?;
    drawn.cost.add_parallel(&cost);
    let (rest, mut cost) = session.sample_each(requests).await?;
    // The first tokens are rows of their own.
    cost.tokens.forward_tokens += rest.len();
    drawn.cost.add_parallel(&cost);
    let paths = scored.into_iter().zip(rest).enumerate();
    drawn.completions =
        paths.map(|(index, (first, rest))| join(session, index, first, rest)).collect();
    let vote = session.vote(question, &mut drawn).await?;
    let leads: Vec<f64> = drawn.completions.iter().map(lead).collect();
    weigh(&mut drawn, &vote, &leads);
    Ok(drawn)
}

/// A path from its first token and its continuation.
fn join(session: &Session, index: usize, first: Vec<Token>, rest: Completion) -> Completion {
    let mut begun = session.decode(&first);
    let tokens: Vec<Token> = first.into_iter().chain(rest.tokens).collect();
    // A stop string may have cut the text, so it is not decoded again.
    begun.push_str(&rest.text);
    Completion {
        index,
        tokens,
        text: begun,
        finish_reason: rest.finish_reason,
        ..Completion::default()
    }
}

/// The mean lead of the most probable token over an answer's tokens, 0 to 1.
fn lead(completion: &Completion) -> f64 {
    let tokens = completion.answer_tokens().unwrap_or(&completion.tokens);
    tokens.iter().map(|token| token.stats.margin).sum::<f64>() / tokens.len().max(1) as f64
}
