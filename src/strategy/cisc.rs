//! Confidence-informed self-consistency: each sample votes with the weight of its own confidence
//! (Taubenfeld et al., arXiv 2502.06233).
//!
//! The weight of a sample is exp(c / temperature), normalized over the samples that vote. The
//! confidence c is P(True), the probability of "Yes" after the sample's own text and a cue, read
//! from the logits on its warm cache; or its probability per token; or the expectation of the
//! number from 0 to 9 that it gives itself. Where all samples are equally confident, and at a large
//! temperature, this is the plain vote.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::verify_answer::{NO, YES, expected_digits};
use super::weights::weigh;
use super::{Prefix, Question, Session};
use crate::error::{Error, Result};
use crate::generation::{Completion, Generation};

/// Asks a sample about itself, in its own turn.
const P_TRUE_CUE: &str = "\n\nIs this answer correct? Reply with Yes or No:";
/// Asks a sample for a number.
const VERBAL_CUE: &str = "\n\nHow sure am I that this answer is correct, from 0 (it is wrong) to 9 \
                          (it is certainly correct)? Number:";

/// How samples are weighed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cisc {
    /// What a sample's confidence is.
    pub confidence: Confidence,
    /// Divides the confidences, above 0: small lets the most confident sample decide.
    pub temperature: f64,
}

/// A sample's confidence in itself, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// The probability of "Yes" when asked whether its answer is right.
    PTrue,
    /// exp(mean ln p) of its tokens.
    Probability,
    /// The expected number when asked for one.
    Verbal,
}

impl Cisc {
    /// P(True), which discriminates best in the paper.
    pub const DEFAULT: Self = Self { confidence: Confidence::PTrue, temperature: 0.1 };

    pub(super) fn validate(self) -> Result<()> {
        if self.temperature > 0.0 {
            return Ok(());
        }
        Err(Error::usage(format!("temperature is {}; it must be above 0", self.temperature)))
    }

    pub(super) async fn run(self, session: &Session, question: &Question) -> Result<Generation> {
        let mut drawn = super::self_consistency::run(session, question).await?;
        let vote = session.vote(question, &mut drawn).await?;
        if vote.clusters.len() < 2 {
            return Ok(drawn);
        }
        let confidences = match self.confidence {
            Confidence::Probability => drawn.completions.iter().map(probability).collect(),
            Confidence::PTrue => ask(session, &mut drawn, P_TRUE_CUE, false).await?,
            Confidence::Verbal => ask(session, &mut drawn, VERBAL_CUE, true).await?,
        };
        // The largest becomes 1, so that a small temperature does not overflow.
        let largest = confidences.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let raw: Vec<f64> =
            confidences.iter().map(|c| ((c - largest) / self.temperature).exp()).collect();
        weigh(&mut drawn, &vote, &raw);
        Ok(drawn)
    }
}

impl Default for Cisc {
    fn default() -> Self {
        Self::DEFAULT
    }
}

fn probability(completion: &Completion) -> f64 {
    let tokens = completion.tokens_after_reasoning();
    let sum: f64 = tokens.iter().map(|token| token.stats.logprob).sum();
    if tokens.is_empty() { 0.0 } else { (sum / tokens.len() as f64).exp() }
}

/// The confidence that each completion states after the cue: the expected digit, or the probability
/// of "Yes"; 0 for a completion that the cue does not fit after.
async fn ask(
    session: &Session,
    drawn: &mut Generation,
    cue: &str,
    digits: bool,
) -> Result<Vec<f64>> {
    let mut confidences = vec![0.0; drawn.completions.len()];
    let (mut owners, mut prefixes) = (Vec::new(), Vec::<Prefix>::new());
    for (at, completion) in drawn.completions.iter().enumerate() {
        if let Some(cued) = session.cued(completion, cue, 2)? {
            owners.push(at);
            prefixes.push(cued);
        }
    }
    let (found, mut cost) = if digits {
        expected_digits(session, &prefixes).await?
    } else {
        let (labels, cost) = session.choose(&prefixes, &[YES, NO]).await?;
        (labels.iter().map(|labels| labels.probabilities[0]).collect(), cost)
    };
    // The prompt and the samples are in the cache; the cue is what is new.
    let distinct: HashSet<&[u32]> =
        prefixes.iter().map(|prefix| prefix.prompt.tokens.as_slice()).collect();
    cost.tokens.prompt_tokens = session.encode(cue)?.len() * distinct.len();
    drawn.cost.add(&cost);
    for (at, confidence) in owners.into_iter().zip(found) {
        confidences[at] = confidence;
    }
    Ok(confidences)
}
