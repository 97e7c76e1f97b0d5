//! Enumeration: the completions themselves, most probable first, instead of samples of them, until
//! they cover a stated share of the model's distribution.
//!
//! The distribution is the one that samples are drawn from, with its temperature and filters. Every
//! path takes the most probable token at each step and leaves the others behind as branches; the
//! most probable branches are followed next, several at a time. No path is found twice (distinct
//! leaf enumeration). A path's vote weighs its probability, so an answer's share is the sum over
//! the paths found that give it: a lower bound of its probability. The upper bound is larger by the
//! mass that was not found. The probe `mass` has both for every answer.
//!
//! A step knows its 20 most probable tokens; what lies beyond them is never found and stays part of
//! the upper bound.

use serde::{Deserialize, Serialize};

use super::waves::check_size;
use super::{Prefix, Question, Session};
use crate::error::{Error, Result};
use crate::generation::{
    Completion, DrawMode, FinishReason, Generation, Probe, SamplingParams, Token,
};

/// Most probable tokens that a step records.
const BRANCHES: usize = 20;
/// Branches that are kept; the least probable beyond them are never followed.
const MOST_BRANCHES: usize = 1 << 16;

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Enumerate {
    /// The probability mass to cover, above 0 to 1.
    pub coverage: f64,
    /// Paths found at most, 1 to 4096.
    pub paths: usize,
    /// Paths followed at a time, at least 1.
    pub wave: usize,
    /// Forward tokens after which no wave begins; 0 is no limit.
    pub budget: usize,
}

/// A token beside a path that no path has taken.
#[derive(Clone, Copy)]
struct Branch {
    /// The path, by its place.
    path: usize,
    /// The place of the token in it.
    depth: usize,
    /// The other token.
    id: u32,
    /// ln of its probability there.
    step_logprob: f64,
    /// ln of the probability of everything up to it.
    logprob: f64,
}

impl Enumerate {
    /// Nine tenths of the mass, for what 64 paths cost.
    pub const DEFAULT: Self = Self { coverage: 0.9, paths: 64, wave: 8, budget: 0 };

    pub(super) fn validate(self) -> Result<()> {
        check_size("wave", self.wave)?;
        check_size("paths", self.paths)?;
        let most = SamplingParams::MAX_SAMPLES;
        if self.paths > most {
            return Err(Error::usage(format!("paths is {}; it must be 1 to {most}", self.paths)));
        }
        if self.coverage > 0.0 && self.coverage <= 1.0 {
            return Ok(());
        }
        Err(Error::usage(format!("coverage is {}; it must be above 0, at most 1", self.coverage)))
    }

    pub(super) async fn run(self, session: &Session, question: &Question) -> Result<Generation> {
        let prefix = session.render(&question.messages)?;
        check_settings(session)?;
        let mut drawn = Generation::default();
        drawn.cost.tokens.prompt_tokens = prefix.prompt.tokens.len();
        let mut branches: Vec<Branch> = Vec::new();
        let mut covered = 0.0;
        while covered < self.coverage
            && drawn.completions.len() < self.paths
            && (drawn.completions.is_empty() || !branches.is_empty())
            && (self.budget == 0 || drawn.cost.tokens.forward_tokens < self.budget)
        {
            branches.sort_by(|a, b| {
                let place = |branch: &Branch| (branch.path, branch.depth, branch.id);
                b.logprob.total_cmp(&a.logprob).then(place(a).cmp(&place(b)))
            });
            branches.truncate(MOST_BRANCHES);
            let wave = self.wave.min(self.paths - drawn.completions.len()).min(branches.len());
            let followed: Vec<Branch> = branches.drain(..wave).collect();
            let mut begun = beginnings(session, &prefix, &followed, &mut drawn).await?;
            if drawn.completions.is_empty() {
                begun.push(Vec::new());
            }
            for (start, path) in follow(session, &prefix, begun, &mut drawn).await? {
                let place = drawn.completions.len();
                let logprob = add_branches(&path.tokens, start, place, &mut branches);
                covered += logprob.exp();
                let tokens = path.tokens.into_iter();
                let tokens = tokens.map(|token| Token { top_logprobs: Vec::new(), ..token });
                drawn.completions.push(Completion {
                    index: place,
                    tokens: tokens.collect(),
                    weight: Some(logprob.exp()),
                    ..path
                });
            }
        }
        let n = drawn.completions.len() as f64;
        for completion in &mut drawn.completions {
            completion.weight = completion.weight.map(|probability| probability * n);
        }
        let vote = session.vote(question, &mut drawn).await?;
        let left = (1.0 - covered).max(0.0);
        for cluster in &vote.clusters {
            let lower = (cluster.weight / n).min(1.0);
            let (name, answer) = ("mass".to_owned(), cluster.answer.clone());
            let parts = vec![lower, (lower + left).min(1.0)];
            drawn.probes.push(Probe { name, answer, value: lower, parts, required: None });
        }
        session.add_note(format!(
            "{n} distinct completions have {covered:.3} of the probability; every answer may have \
             up to {left:.3} more than its share"
        ));
        Ok(drawn)
    }
}

impl Default for Enumerate {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Refuses what depends on more than the tokens so far, or on where a sample began.
fn check_settings(session: &Session) -> Result<()> {
    let params = session.params();
    // The repetition penalty and DRY are the same for prompt and completion.
    if params.presence_penalty.abs() > 0.0 || params.frequency_penalty.abs() > 0.0 {
        return Err(Error::usage(
            "enumerate continues completions from their middle, where presence and frequency \
             penalties would not know what came before; leave these out",
        ));
    }
    if params.xtc_probability > 0.0 || params.mirostat != 0 {
        return Err(Error::usage(
            "enumerate needs one distribution per prefix: XTC excludes tokens at random and \
             Mirostat would start over in the middle; set xtc_probability and mirostat to 0",
        ));
    }
    session.refuse_thinking("enumerate")
}

/// The tokens up to and including each branch. The branch's own statistics are scored: the step
/// recorded only its probability.
async fn beginnings(
    session: &Session,
    prefix: &Prefix,
    branches: &[Branch],
    drawn: &mut Generation,
) -> Result<Vec<Vec<Token>>> {
    let before = |branch: &Branch| &drawn.completions[branch.path].tokens[..branch.depth];
    let after = |branch: &Branch| prefix.followed_by(before(branch).iter().map(|token| token.id));
    let prefixes: Vec<Prefix> = branches.iter().map(after).collect();
    let ids: Vec<[u32; 1]> = branches.iter().map(|branch| [branch.id]).collect();
    let pairs: Vec<(&Prefix, &[u32])> =
        prefixes.iter().zip(&ids).map(|(prefix, id)| (prefix, id.as_slice())).collect();
    let (scored, cost) = session.score_each(&pairs, 0).await?;
    let begun = branches.iter().zip(scored).map(|(branch, scored)| {
        let other = scored.into_iter().map(|mut token| {
            token.stats.sampling_logprob = branch.step_logprob;
            token
        });
        before(branch).iter().cloned().chain(other).collect()
    });
    let begun = begun.collect();
    drawn.cost.add_parallel(&cost);
    Ok(begun)
}

/// The most probable continuation of each beginning, and where it starts. A beginning that ends the
/// text, completes a stop string or fills the limit of tokens is a whole path already.
async fn follow(
    session: &Session,
    prefix: &Prefix,
    begun: Vec<Vec<Token>>,
    drawn: &mut Generation,
) -> Result<Vec<(usize, Completion)>> {
    let params = session.params();
    let (mut paths, mut open, mut requests) = (Vec::new(), Vec::new(), Vec::new());
    for tokens in begun {
        let mut text = session.decode(&tokens);
        let stop = params.stop.iter().filter_map(|stop| text.find(stop)).min();
        let ended = tokens.last().is_some_and(|token| session.is_end_token(token.id));
        let start = tokens.len();
        if ended || stop.is_some() || start >= params.max_tokens {
            text.truncate(stop.unwrap_or(text.len()));
            let finish_reason =
                if ended || stop.is_some() { FinishReason::Stop } else { FinishReason::Length };
            let path = Completion { tokens, text, finish_reason, ..Completion::default() };
            paths.push((start, path));
            continue;
        }
        let further = SamplingParams {
            draw: DrawMode::MostProbable,
            top_logprobs: BRANCHES,
            top_sampled: true,
            stop_at_answer: false,
            max_tokens: params.max_tokens - start,
            ..params.clone()
        };
        requests.push((prefix.followed_by(tokens.iter().map(|token| token.id)), further));
        open.push((tokens, text));
    }
    let (found, cost) = session.sample_each(requests).await?;
    drawn.cost.add_parallel(&cost);
    for ((mut tokens, mut text), found) in open.into_iter().zip(found) {
        let start = tokens.len();
        tokens.extend(found.tokens);
        text.push_str(&found.text);
        let finish_reason = found.finish_reason;
        paths.push((start, Completion { tokens, text, finish_reason, ..Completion::default() }));
    }
    Ok(paths)
}

/// Leaves behind the branches along a path from `start` on, and returns ln of its probability.
fn add_branches(tokens: &[Token], start: usize, path: usize, branches: &mut Vec<Branch>) -> f64 {
    let mut before = 0.0;
    for (depth, token) in tokens.iter().enumerate() {
        if depth >= start {
            let others = token.top_logprobs.iter().filter(|(id, _)| *id != token.id);
            branches.extend(others.map(|&(id, step_logprob)| Branch {
                path,
                depth,
                id,
                step_logprob,
                logprob: before + step_logprob,
            }));
        }
        before += token.stats.sampling_logprob;
    }
    before
}
