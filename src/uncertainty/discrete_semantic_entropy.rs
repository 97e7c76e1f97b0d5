//! The Shannon entropy of the distribution of answers over all samples drawn: -Σ p ln p with p =
//! weight / total weight. A sample without an answer (unparsed, truncated, in a loop, failed) is a
//! cluster of its own with weight 1, so that n such samples give the maximum, ln n.

use super::{Direction, Estimator, Evidence, Needs};

/// See the module.
pub(super) static DISCRETE_SEMANTIC_ENTROPY: Estimator = Estimator {
    name: "discrete_semantic_entropy",
    unit: "nats",
    direction: Direction::HigherIsLessConfident,
    needs: Needs::Vote,
    source: "Farquhar et al., Nature 630 (2024), discrete variant; answers equal by canonical \
             form instead of entailment",
    summary: "entropy of the answers over all samples, 0 to ln n; each sample without an answer \
              counts as an answer of its own",
    score: entropy,
};

fn entropy(evidence: &Evidence<'_>) -> Option<f64> {
    let vote = evidence.vote;
    let weights = vote.clusters.iter().map(|cluster| cluster.weight).filter(|weight| *weight > 0.0);
    let without_answer = vote.unparsed + vote.truncated + vote.loops + vote.failed;
    let mut weights: Vec<f64> = weights.chain(std::iter::repeat_n(1.0, without_answer)).collect();
    weights.sort_by(f64::total_cmp);
    let total: f64 = weights.iter().sum();
    // Minus zero of a unanimous vote becomes zero.
    let entropy = weights
        .iter()
        .map(|weight| -(weight / total) * (weight / total).ln())
        .sum::<f64>()
        .max(0.0);
    (total > 0.0).then_some(entropy)
}
