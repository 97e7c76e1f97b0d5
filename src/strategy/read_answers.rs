//! From samples to a vote: what the samples' texts leave open, the model is asked.
//!
//! 1. A completion that does not state its answer in a common form, or was cut, is asked for it:
//!    its own text is continued by a cue and a few greedy tokens, from its warm cache. The reply is
//!    a function of the completion alone.
//! 2. Distinct answers that no rule compares are compared by an encoder or by the model itself, if
//!    the reader says so; by the model as the probability of "Yes" among "Yes" and "No", averaged
//!    over both orders and two wordings.
//! 3. For a soft vote every distinct answer is scored after every completion and the cue.
//!
//! Everything is recorded in the generation, so that the vote is pure and can be taken again.

use std::collections::BTreeMap;

use super::{Prefix, Question, Session};
use crate::consensus::{self, Equivalence, Vote, VoteMode};
use crate::error::{Error, Result};
use crate::generation::{
    AnswerScore, AskedAnswer, Comparison, Completion, FinishReason, Generation, Message,
    SamplingParams, Token,
};

/// Asks for the short answer of a completion, within the same turn.
const CUE: &str = "\n\nFinal answer:";

/// Tokens of a reply at most.
const REPLY_TOKENS: usize = 16;

/// Pairs of answers that are judged at most.
const MAX_JUDGED: usize = 64;

/// Most probable tokens in which the end of an answer is looked for.
const END_CANDIDATES: usize = 20;

impl Session {
    /// The vote of samples; asks the model for what their texts leave open, and records it.
    ///
    /// # Errors
    /// The engine's.
    pub async fn vote(&self, question: &Question, generation: &mut Generation) -> Result<Vote> {
        let asked = question.asked();
        if generation.completions.iter().any(|c| c.finish_reason == FinishReason::Scored) {
            return Ok(consensus::vote(&asked, generation, self.reader()));
        }
        self.ask_for_answers(&asked, generation).await?;
        match self.reader().equivalence {
            Equivalence::Rules => {}
            Equivalence::SelfJudged => self.judge(&asked, generation).await?,
            Equivalence::Encoder { .. } => self.encode_pairs(&asked, generation)?,
        }
        let vote = consensus::vote(&asked, generation, self.reader());
        self.locate_answers(&vote, generation);
        if self.reader().vote != VoteMode::Soft {
            return Ok(vote);
        }
        self.score_answers(&vote, generation).await?;
        Ok(consensus::vote(&asked, generation, self.reader()))
    }

    /// The prefix that ends in a cue after a completion, in the same turn; `None` if it and
    /// `further` tokens do not fit the context.
    pub(super) fn cued(
        &self,
        completion: &Completion,
        cue: &str,
        further: usize,
    ) -> Result<Option<Prefix>> {
        let Some(prefix) = self.prompt(completion.prompt) else { return Ok(None) };
        let cued = self.extend(&self.after(&prefix, completion), cue)?;
        Ok(cued.prompt.check_fits(self.context(), further).is_ok().then_some(cued))
    }

    async fn ask_for_answers(
        &self,
        question: &consensus::AskedQuestion,
        generation: &mut Generation,
    ) -> Result<()> {
        let mut prefixes: BTreeMap<Vec<u32>, (Prefix, Vec<usize>)> = BTreeMap::new();
        for at in consensus::unstated(question, generation, self.reader()) {
            if let Some(cued) = self.cued(&generation.completions[at], CUE, REPLY_TOKENS)? {
                let key = cued.prompt.tokens.clone();
                prefixes.entry(key).or_insert((cued, Vec::new())).1.push(at);
            }
        }
        let (prefixes, owners): (Vec<Prefix>, Vec<Vec<usize>>) = prefixes.into_values().unzip();
        let params = SamplingParams {
            temperature: 0.0,
            max_tokens: REPLY_TOKENS,
            stop: vec!["\n".to_owned()],
            ..SamplingParams::default()
        };
        let cue_tokens = self.encode(CUE)?.len() * prefixes.len();
        let requests = prefixes.into_iter().map(|prefix| (prefix, params.clone())).collect();
        let (replies, mut cost) = self.sample_each(requests).await?;
        cost.tokens.prompt_tokens = cue_tokens;
        generation.cost.add(&cost);
        for (reply, owners) in replies.into_iter().zip(owners) {
            let complete = reply.finish_reason == FinishReason::Stop;
            let Completion { text, mut tokens, .. } = reply;
            while tokens.last().is_some_and(|token| self.token_text(token.id).trim().is_empty()) {
                tokens.pop();
            }
            let asked = AskedAnswer { cue: CUE.to_owned(), text, complete, tokens };
            for at in owners {
                generation.completions[at].asked = Some(asked.clone());
            }
        }
        Ok(())
    }

    /// Records which tokens hold the answer that a text states: its last occurrence.
    fn locate_answers(&self, vote: &Vote, generation: &mut Generation) {
        for (completion, answer) in generation.completions.iter_mut().zip(&vote.answers) {
            let Some(answer) = answer.as_ref().filter(|_| completion.asked.is_none()) else {
                continue;
            };
            let (mut bytes, mut ends) = (Vec::new(), Vec::new());
            for token in &completion.tokens {
                bytes.extend(self.token_text(token.id).into_bytes());
                ends.push(bytes.len());
            }
            let wanted = answer.as_bytes();
            let found = bytes.windows(wanted.len().max(1)).rposition(|window| window == wanted);
            completion.answer_span = found.map(|start| {
                let token_at = |byte: usize| ends.partition_point(|end| *end <= byte);
                token_at(start)..token_at(start + wanted.len() - 1) + 1
            });
        }
    }

    fn encode_pairs(
        &self,
        question: &consensus::AskedQuestion,
        generation: &mut Generation,
    ) -> Result<()> {
        let Some(encoder) = self.encoder() else {
            return Err(Error::usage("equivalence names an encoder, and none is loaded"));
        };
        let mut pairs = consensus::undecided(question, generation, self.reader());
        pairs.truncate(MAX_JUDGED);
        let texts: Vec<(String, String)> =
            pairs.iter().map(|(a, b)| (a.display.clone(), b.display.clone())).collect();
        let scores = encoder.same(&question.text, &texts)?;
        for ((a, b), same) in pairs.into_iter().zip(scores) {
            let (a, b) = (a.canonical, b.canonical);
            generation.comparisons.push(Comparison { a, b, same, parts: vec![same] });
        }
        Ok(())
    }

    async fn judge(
        &self,
        question: &consensus::AskedQuestion,
        generation: &mut Generation,
    ) -> Result<()> {
        let mut pairs = consensus::undecided(question, generation, self.reader());
        pairs.truncate(MAX_JUDGED);
        let mut prefixes = Vec::new();
        for (a, b) in &pairs {
            for (first, second) in [(a, b), (b, a)] {
                for prompt in comparison_prompts(&question.text, &first.display, &second.display) {
                    prefixes.push(self.closed(&self.render(&[Message::user(prompt)])?));
                }
            }
        }
        let (yes, no) = (self.encode("Yes")?, self.encode("No")?);
        let scored: Vec<(&Prefix, &[u32])> = prefixes
            .iter()
            .flat_map(|prefix| [(prefix, yes.as_slice()), (prefix, no.as_slice())])
            .collect();
        let (scored, mut cost) = self.score_each(&scored, 0).await?;
        cost.tokens.prompt_tokens = prefixes.iter().map(|prefix| prefix.prompt.tokens.len()).sum();
        generation.cost.add(&cost);
        let logprob =
            |tokens: &[Token]| tokens.iter().map(|token| token.stats.logprob).sum::<f64>();
        let parts: Vec<f64> = scored
            .chunks(2)
            .map(|labels| {
                let (yes, no) = (logprob(&labels[0]), logprob(&labels[1]));
                1.0 / (1.0 + (no - yes).exp())
            })
            .collect();
        for ((a, b), parts) in pairs.into_iter().zip(parts.chunks(4)) {
            generation.comparisons.push(Comparison {
                a: a.canonical,
                b: b.canonical,
                same: parts.iter().sum::<f64>() / parts.len() as f64,
                parts: parts.to_vec(),
            });
        }
        Ok(())
    }

    /// Scores the answer of every group after every completion. A reply may go on after an answer
    /// ("4" as the beginning of "401"), so the probability that it ends there is part of the score.
    async fn score_answers(&self, vote: &Vote, generation: &mut Generation) -> Result<()> {
        let answers: Vec<&str> = vote
            .clusters
            .iter()
            .filter(|cluster| !cluster.is_abstention())
            .map(|cluster| cluster.answer.as_str())
            .collect();
        let mut continuations = Vec::new();
        for answer in &answers {
            // The last token stands for the end: its own probability is not used.
            let mut tokens = self.encode(&format!(" {answer}"))?;
            tokens.extend(self.encode("\n")?.into_iter().take(1));
            continuations.push(tokens);
        }
        let longest = continuations.iter().map(Vec::len).max().unwrap_or(0);
        let mut owners = Vec::new();
        for (at, completion) in generation.completions.iter().enumerate() {
            let votes = vote.answers.get(at).is_some_and(Option::is_some);
            if votes && let Some(cued) = self.cued(completion, CUE, longest)? {
                owners.push((at, cued));
            }
        }
        let pairs: Vec<(&Prefix, &[u32])> = owners
            .iter()
            .flat_map(|(_, cued)| continuations.iter().map(move |c| (cued, c.as_slice())))
            .collect();
        let (scored, cost) = self.score_each(&pairs, END_CANDIDATES).await?;
        generation.cost.add(&cost);
        for ((at, _), scored) in owners.iter().zip(scored.chunks(answers.len().max(1))) {
            let scores = answers.iter().zip(scored).filter_map(|(answer, tokens)| {
                let (end, tokens) = tokens.split_last()?;
                let ends = |id: u32| {
                    let text = self.token_text(id);
                    self.is_end_token(id) || text.contains('\n') || text.starts_with(['.', ','])
                };
                let end = end.top_logprobs.iter().filter(|(id, _)| ends(*id));
                let end: f64 = end.map(|(_, logprob)| logprob.exp()).sum();
                let logprob = tokens.iter().map(|t| t.stats.logprob).sum::<f64>() + end.ln();
                logprob.is_finite().then(|| AnswerScore { answer: (*answer).to_owned(), logprob })
            });
            generation.completions[*at].answer_scores = scores.collect();
        }
        Ok(())
    }
}

/// Two wordings of the question whether two answers mean the same.
fn comparison_prompts(question: &str, a: &str, b: &str) -> [String; 2] {
    [
        format!(
            "Question: {question}\nAnswer 1: {a}\nAnswer 2: {b}\n\nDo both answers mean the same? \
             Reply with Yes or No."
        ),
        format!(
            "Two people answered this question: {question}\nThe first said: {a}\nThe second said: \
             {b}\n\nDid they give the same answer? Reply with No or Yes."
        ),
    ]
}
