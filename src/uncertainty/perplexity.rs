//! exp of the mean negative log-probability of a sample's tokens; mean over the leading answer's
//! samples. 1 / perplexity is the length-normalized sequence probability (the geometric mean of the
//! token probabilities) of one sample.

use super::{Direction, Estimator, Needs, mean};

/// See the module.
pub(super) static PERPLEXITY: Estimator = Estimator {
    name: "perplexity",
    unit: "choices",
    direction: Direction::HigherIsLessConfident,
    needs: Needs::TokenStats,
    source: "exp(-mean ln p); Fadeeva et al., arXiv 2311.07383",
    summary: "exp of the mean negative log-probability per token, mean over the leading answer's \
              samples, 1 or more",
    score: |evidence| {
        evidence
            .mean_over_leading_samples(|tokens| (-mean(tokens, |token| token.stats.logprob)).exp())
    },
};
