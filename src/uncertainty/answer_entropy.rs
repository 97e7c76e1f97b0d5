//! Entropy of the short answer alone.

use super::{Direction, Estimator, Needs, mean};

/// See the module.
pub(super) static ANSWER_ENTROPY: Estimator = Estimator {
    name: "answer_entropy",
    unit: "nats",
    direction: Direction::HigherIsLessConfident,
    needs: Needs::AnswerTokens,
    source: "predictive entropy (Malinin and Gales, arXiv 2002.07650) of the answer's tokens",
    summary: "mean entropy of the steps that drew the short answer, without the text around it, 0 \
              to ln V",
    score: |evidence| {
        evidence.mean_over_leading_answers(|tokens| mean(tokens, |token| token.stats.entropy))
    },
};
