//! Rivals: a critic that sees an answer but not its reasoning may veto it (Vijayaraghavan et al.,
//! arXiv 2601.14351).
//!
//! What a right answer must meet is written down before an answer is seen. The samples vote; the
//! critic reads the question, those criteria and the leading answer, and P(accept) is read from its
//! logits, averaged over both orders of the labels. A vetoed answer's samples lose their vote and
//! the next answer is judged, a bounded number of times; if none is accepted, the first stays
//! vetoed and no answer is given. The probe `p_accept` is about each judged answer.

use serde::{Deserialize, Serialize};

use super::verify_answer::{NO, YES};
use super::{Question, Session};
use crate::error::Result;
use crate::generation::{Generation, Message, Probe, SamplingParams};

/// Tokens of the criteria at most.
const CRITERIA_TOKENS: usize = 96;

/// When an answer is vetoed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rivals {
    /// P(accept) below which an answer is vetoed, 0 to 1; at 0 none is.
    pub min_accept: f64,
    /// Answers that are judged after a veto at most.
    pub retries: usize,
}

impl Rivals {
    /// More likely accepted than not, and one other answer.
    pub const DEFAULT: Self = Self { min_accept: 0.5, retries: 1 };

    pub(super) fn validate(self) -> Result<()> {
        super::check_share("min_accept", self.min_accept)
    }

    pub(super) async fn run(self, session: &Session, question: &Question) -> Result<Generation> {
        let asked = question.asked().text;
        // The question's own prompt is the first one, also though the criteria come before.
        session.render(&question.messages)?;
        let before = session.render(&[Message::user(criteria_prompt(&asked))])?;
        let params = SamplingParams {
            temperature: 0.0,
            max_tokens: CRITERIA_TOKENS,
            ..SamplingParams::default()
        };
        let criteria = session.sample_with(&session.closed(&before), 0..1, params, None).await?;
        let text = criteria.completions.first().map(|c| c.text.trim().to_owned());
        let text = text.unwrap_or_default();
        let mut drawn = super::self_consistency::run(session, question).await?;
        drawn.cost.add(&criteria.cost);
        let vote = session.vote(question, &mut drawn).await?;
        let required = (self.min_accept > 0.0).then_some(self.min_accept);
        let mut vetoed: Vec<usize> = Vec::new();
        let answers = vote.clusters.iter().filter(|cluster| !cluster.is_abstention());
        for cluster in answers.take(self.retries + 1) {
            let mut prefixes = Vec::new();
            for order in ["Yes or No", "No or Yes"] {
                let prompt = critic_prompt(&asked, &text, &cluster.answer, order);
                prefixes.push(session.closed(&session.render(&[Message::user(prompt)])?));
            }
            let (labels, cost) = session.choose(&prefixes, &[YES, NO]).await?;
            drawn.cost.add(&cost);
            let parts: Vec<f64> = labels.iter().map(|labels| labels.probabilities[0]).collect();
            let value = parts.iter().sum::<f64>() / parts.len() as f64;
            let (name, answer) = ("p_accept".to_owned(), cluster.answer.clone());
            drawn.probes.push(Probe { name, answer, value, parts, required });
            if value >= self.min_accept {
                for sample in vetoed {
                    drawn.completions[sample].weight = Some(0.0);
                }
                return Ok(drawn);
            }
            vetoed.extend(cluster.samples.iter().copied());
        }
        Ok(drawn)
    }
}

impl Default for Rivals {
    fn default() -> Self {
        Self::DEFAULT
    }
}

fn criteria_prompt(question: &str) -> String {
    format!(
        "Question: {question}\n\nDo not answer the question. List at most three criteria that a \
         correct answer to it must meet, one per line."
    )
}

fn critic_prompt(question: &str, criteria: &str, answer: &str, order: &str) -> String {
    format!(
        "You review answers and reject those that are wrong.\n\nQuestion: {question}\n\nCriteria \
         written before the answer was seen:\n{criteria}\n\nAnswer: {answer}\n\nIs the answer \
         correct, and does it meet the criteria? Reply with {order}."
    )
}
