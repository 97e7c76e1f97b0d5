//! exp of the mean negative log-probability of an answer's tokens, in the mean over the leading
//! answer's samples. 1 / perplexity is the length-normalised sequence probability (the geometric
//! mean of the token probabilities) of one sample.

use super::{Direction, Estimator, Evidence, mean};

/// See the module.
pub(super) struct Perplexity;

impl Estimator for Perplexity {
    fn name(&self) -> &'static str {
        "perplexity"
    }

    fn unit(&self) -> &'static str {
        "choices"
    }

    fn direction(&self) -> Direction {
        Direction::HigherIsLessSure
    }

    fn source(&self) -> &'static str {
        "exp(-mean ln p); Fadeeva et al., arXiv 2311.07383"
    }

    fn summary(&self) -> &'static str {
        "exp of the mean negative log-probability per token, mean over the leading answer's \
         samples, 1 or more"
    }

    fn score(&self, evidence: &Evidence<'_>) -> Option<f64> {
        evidence.mean_of_supporters(|tokens| (-mean(tokens, |token| token.stats.logprob)).exp())
    }
}
