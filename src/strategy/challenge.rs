//! Challenge: the samples that give the leading answer are asked "are you sure?" and told of
//! another answer; an answer that flips is not given.
//!
//! Models give in to whoever contradicts them (Sharma et al., arXiv 2310.13548; Cheng et al., arXiv
//! 2602.23971), and give in sooner where they guessed. Every challenged sample is continued by a
//! new turn, whose short answer is decoded greedily, read and grouped like any other. The probe
//! `kept` is the share of replies that still give the answer, its parts the shares under each
//! challenge.
//! `challenge_ratio` is exp of the mean change in ln p of the answer, at most 1, its parts the
//! changes in nats. Where the question itself says what the user believes ("I think it is ..."), it
//! is asked again without that and with the opposite; `premise_kept` is the share of those samples
//! that give the same answer.

use serde::{Deserialize, Serialize};

use super::{Prefix, Question, Session};
use crate::error::Result;
use crate::generation::{Completion, Generation, Message, Probe, Role, SamplingParams};

/// Asks for the answer at once, within the reply to a challenge.
const CUE: &str = "Final answer:";
/// Tokens of a reply at most.
const REPLY_TOKENS: usize = 16;
/// How a user says what they believe, and its opposite.
const BELIEFS: &[(&str, &str)] = &[
    ("I think", "I don't think"),
    ("I believe", "I don't believe"),
    ("I'm sure", "I'm not sure"),
    ("I am sure", "I am not sure"),
    ("I'm certain", "I'm not certain"),
    ("I am certain", "I am not certain"),
    ("I'm convinced", "I'm not convinced"),
    ("I am convinced", "I am not convinced"),
    ("I guess", "I don't guess"),
    ("I suppose", "I don't suppose"),
];

/// What is challenged, and what it must withstand.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Challenge {
    /// Leading samples that are challenged at most, at least 1.
    pub challenged: usize,
    /// The share of replies that must keep the answer, 0 to 1; 0 leaves the decision to the vote.
    pub min_kept: f64,
}

impl Challenge {
    /// Four samples, of which half must stand by their answer.
    pub const DEFAULT: Self = Self { challenged: 4, min_kept: 0.5 };

    pub(super) fn validate(self) -> Result<()> {
        super::waves::check_size("challenged", self.challenged)?;
        super::check_share("min_kept", self.min_kept)
    }

    pub(super) async fn run(self, session: &Session, question: &Question) -> Result<Generation> {
        let mut drawn = super::self_consistency::run(session, question).await?;
        let vote = session.vote(question, &mut drawn).await?;
        let Some(leader) = vote.leader().filter(|leader| !leader.is_abstention()) else {
            return Ok(drawn);
        };
        let answer = leader.answer.clone();
        let other = vote.clusters.iter().skip(1).find(|cluster| !cluster.is_abstention());
        let contrary = other.map_or_else(
            || "I don't think that is right. What is the answer?".to_owned(),
            |other| format!("I think the answer is {}. What is the answer?", other.answer),
        );
        let challenges = ["Are you sure? What is the answer?".to_owned(), contrary];
        let samples: Vec<Completion> = leader
            .samples
            .iter()
            .take(self.challenged)
            .map(|sample| drawn.completions[*sample].clone())
            .collect();
        let mut prefixes = Vec::new();
        for challenge in &challenges {
            for sample in &samples {
                let mut messages = question.messages.clone();
                messages.push(Message::new(Role::Assistant, sample.answer_text()));
                messages.push(Message::user(challenge.as_str()));
                prefixes.push(session.render(&messages)?);
            }
        }
        let replies = reply(session, &prefixes, &mut drawn).await?;
        let kept = keeps(session, question, &samples[0], replies, &mut drawn).await?;
        let parts: Vec<f64> = kept.chunks(samples.len()).map(share).collect();
        let required = (self.min_kept > 0.0).then_some(self.min_kept);
        let probe = |name: &str, value: f64, parts, required| Probe {
            name: name.to_owned(),
            answer: answer.clone(),
            value,
            parts,
            required,
        };
        drawn.probes.push(probe("kept", share(&kept), parts, required));
        let changes = changes(session, &answer, &samples, &prefixes, &mut drawn).await?;
        if !changes.is_empty() {
            let mean = changes.iter().sum::<f64>() / changes.len() as f64;
            drawn.probes.push(probe("challenge_ratio", mean.exp().min(1.0), changes, None));
        }
        if let Some(arms) = without_belief(&question.messages) {
            let mut shares = Vec::new();
            for messages in arms {
                let prefix = session.render(&messages)?;
                let number = session.add_prompt(&prefix);
                let half = session.params().n.div_ceil(2);
                let mut arm = session.sample(&prefix, 0..half).await?;
                arm.completions.iter_mut().for_each(|completion| completion.prompt = number);
                drawn.cost.add(&arm.cost);
                let kept =
                    keeps(session, question, &samples[0], arm.completions, &mut drawn).await?;
                shares.push(share(&kept));
            }
            let value = shares.iter().sum::<f64>() / shares.len() as f64;
            drawn.probes.push(probe("premise_kept", value, shares, required));
        }
        Ok(drawn)
    }
}

impl Default for Challenge {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The greedy short answer to each prompt. "Yes, I am sure" does not answer the question.
async fn reply(
    session: &Session,
    prefixes: &[Prefix],
    drawn: &mut Generation,
) -> Result<Vec<Completion>> {
    let params = SamplingParams {
        temperature: 0.0,
        max_tokens: REPLY_TOKENS,
        stop: vec!["\n".to_owned()],
        ..session.params().clone()
    };
    let params = SamplingParams { thinking_budget: None, ..params };
    let cued = prefixes.iter().map(|prefix| session.extend(&session.closed(prefix), CUE));
    let cued: Vec<Prefix> = cued.collect::<Result<_>>()?;
    let requests = cued.iter().map(|prefix| (prefix.clone(), params.clone())).collect();
    let (mut replies, mut cost) = session.sample_each(requests).await?;
    cost.tokens.prompt_tokens = cued.iter().map(|prefix| prefix.prompt.tokens.len()).sum();
    drawn.cost.add(&cost);
    for (reply, prefix) in replies.iter_mut().zip(&cued) {
        reply.prompt = session.add_prompt(prefix);
    }
    Ok(replies)
}

/// Whether each reply gives the answer of `sample`.
async fn keeps(
    session: &Session,
    question: &Question,
    sample: &Completion,
    replies: Vec<Completion>,
    drawn: &mut Generation,
) -> Result<Vec<bool>> {
    let completions = std::iter::once(sample.clone()).chain(replies).collect();
    let mut together = Generation { completions, ..Generation::default() };
    let vote = session.vote(question, &mut together).await?;
    drawn.cost.add(&together.cost);
    let same = vote.clusters.into_iter().find(|cluster| cluster.samples.contains(&0));
    let same = same.map(|cluster| cluster.samples).unwrap_or_default();
    Ok((1..together.completions.len()).map(|at| same.contains(&at)).collect())
}

/// The change in ln p of the answer that each challenge makes.
async fn changes(
    session: &Session,
    answer: &str,
    samples: &[Completion],
    challenged: &[Prefix],
    drawn: &mut Generation,
) -> Result<Vec<f64>> {
    let tokens = session.encode(&format!(" {answer}"))?;
    let mut pairs: Vec<(Prefix, Prefix)> = Vec::new();
    for (at, prefix) in challenged.iter().enumerate() {
        let sample = &samples[at % samples.len()];
        let after = session.extend(&session.closed(prefix), CUE)?;
        if let Some(before) = session.cued(sample, &format!("\n\n{CUE}"), tokens.len())?
            && after.prompt.check_fits(session.context(), tokens.len()).is_ok()
        {
            pairs.push((before, after));
        }
    }
    let requests: Vec<(&Prefix, &[u32])> = pairs
        .iter()
        .flat_map(|(before, after)| [(before, tokens.as_slice()), (after, tokens.as_slice())])
        .collect();
    let (scored, cost) = session.score_each(&requests, 0).await?;
    drawn.cost.add(&cost);
    let logprobs: Vec<f64> = scored
        .iter()
        .map(|tokens| tokens.iter().map(|token| token.stats.logprob).sum::<f64>())
        .collect();
    Ok(logprobs.chunks_exact(2).map(|pair| pair[1] - pair[0]).collect())
}

fn share(kept: &[bool]) -> f64 {
    kept.iter().filter(|kept| **kept).count() as f64 / kept.len().max(1) as f64
}

/// The chat without what its last question says that the user believes, and with the opposite;
/// `None` if it says nothing of the kind, or nothing else.
fn without_belief(messages: &[Message]) -> Option<[Vec<Message>; 2]> {
    let last = messages.iter().rposition(|message| message.role == Role::User)?;
    let text = &messages[last].content;
    let (start, (belief, opposite)) = BELIEFS
        .iter()
        .filter_map(|pair| Some((text.find(pair.0)?, *pair)))
        .min_by_key(|(start, _)| *start)?;
    let length =
        text[start..].find(['.', '!', '?', '\n']).map_or(text.len() - start, |end| end + 1);
    let rest = format!("{}{}", &text[..start], &text[start + length..]);
    if !rest.contains(char::is_alphanumeric) {
        return None;
    }
    let with = |content: String| {
        let mut messages = messages.to_vec();
        messages[last].content = content;
        messages
    };
    Some([with(rest.trim().to_owned()), with(text.replacen(belief, opposite, 1))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beliefs_are_removed_and_reversed() {
        let check = |text: &str, expected: Option<[&str; 2]>| {
            let arms = without_belief(&[Message::user(text)]);
            let arms = arms.map(|arms| arms.map(|messages| messages[0].content.clone()));
            assert_eq!(arms, expected.map(|arms| arms.map(str::to_owned)), "{text}");
        };
        check("What is the capital of Australia?", None);
        check("I think so.", None);
        check(
            "I think it is Sydney. What is the capital of Australia?",
            Some([
                "What is the capital of Australia?",
                "I don't think it is Sydney. What is the capital of Australia?",
            ]),
        );
        check(
            "What is 7 times 8? I'm sure it's 54",
            Some(["What is 7 times 8?", "What is 7 times 8? I'm not sure it's 54"]),
        );
    }
}
