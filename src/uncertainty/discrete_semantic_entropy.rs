//! The Shannon entropy of the distribution of answers over all samples drawn: -Σ p ln p with p =
//! weight / total weight. A sample without an answer (unparsed, truncated, failed) is a cluster of
//! its own with weight 1, so that n such samples give ln n, the most there is.

use super::{Direction, Estimator, Evidence, finite};

/// See the module.
pub(super) struct DiscreteSemanticEntropy;

impl Estimator for DiscreteSemanticEntropy {
    fn name(&self) -> &'static str {
        "discrete_semantic_entropy"
    }

    fn unit(&self) -> &'static str {
        "nats"
    }

    fn direction(&self) -> Direction {
        Direction::HigherIsLessSure
    }

    fn source(&self) -> &'static str {
        "Farquhar et al., Nature 630 (2024), discrete variant; answers equal by canonical form \
         instead of entailment"
    }

    fn summary(&self) -> &'static str {
        "entropy of the answers over all samples, 0 to ln n; each sample without an answer counts \
         as an answer of its own"
    }

    fn score(&self, evidence: &Evidence<'_>) -> Option<f64> {
        let vote = evidence.vote;
        let weights =
            vote.clusters.iter().map(|cluster| cluster.weight).filter(|weight| *weight > 0.0);
        let silent = vote.unparsed + vote.truncated + vote.failed;
        let mut weights: Vec<f64> = weights.chain(std::iter::repeat_n(1.0, silent)).collect();
        weights.sort_by(f64::total_cmp);
        let total: f64 = weights.iter().sum();
        // Minus zero of a unanimous vote becomes zero.
        let entropy = weights
            .iter()
            .map(|weight| -(weight / total) * (weight / total).ln())
            .sum::<f64>()
            .max(0.0);
        (total > 0.0).then_some(entropy).and_then(finite)
    }
}
