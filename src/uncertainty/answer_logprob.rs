//! Log-probability of the short answer alone.

use super::{Direction, Estimator, Needs};

/// See the module.
pub(super) static ANSWER_LOGPROB: Estimator = Estimator {
    name: "answer_logprob",
    unit: "nats",
    direction: Direction::HigherIsMoreConfident,
    needs: Needs::AnswerTokens,
    source: "sequence log-probability (Malinin and Gales, arXiv 2002.07650) of the answer's tokens",
    summary: "ln p of the short answer's tokens, without the text around it, <= 0",
    score: |evidence| {
        evidence.mean_over_leading_answers(|tokens| tokens.iter().map(|t| t.stats.logprob).sum())
    },
};
